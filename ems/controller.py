"""The decision: one image in, one decision out. Synchronous and pure: no clock, no I/O, no chance.

Order: image -> requests -> mode -> bounds -> what plan or rules want -> which diesels -> their
sequences -> dispatch inside the bounds -> the last look -> writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ems import sequencer
from ems.alarms import Alarms
from ems.bus import Bus
from ems.choice import Choice, Choices
from ems.commitment import Commitment, Committer, relieved
from ems.config.site import Diesel, Site
from ems.decision import AssetDecision, Decision, Event, Explanation, Memory, Mode, Phase, Reason, RuleChoice, Stage, UnitMemory, Write, lower
from ems.deferrables import Deferrables
from ems.doubt import Doubter
from ems.guards import Bound, Guards, keep_a_former
from ems.handover import HandOver
from ems.image import ImageBuilder
from ems.model import NOTHING, Image, Request, Telemetry
from ems.modes import next_mode
from ems.orders import Orders
from ems.outlook import Outlook
from ems.plan import Plan, Target, target_at
from ems.reserve import Supply
from ems.rotation import wear
from ems.rules import Rules
from ems.setpoints import Setpoints
from ems.situation import Situations
from ems.supply import Supplies

RULE_POLICIES = ("load-following", "cycle-charging", "diesel-only")
RECONSIDER_S = 10.0
"""The rules' choice of a set stands for this long [s], unless what they could choose from has changed; reserve is looked at every cycle."""

NOT_NEEDED = Explanation(Reason.NOT_NEEDED)


@dataclass(frozen=True, slots=True)
class Wants:
    """What shall be done in this cycle, and who said so."""

    target: Target
    diesel_wanted: bool
    rule: RuleChoice | None = None


class Controller:
    """The pure controller of one site.

    Parameters
    ----------
    site : Site
    stage : Stage
        The command line's stage; the lowest of this, the site file and the last request is in force.
    policy : str
        `mpc` follows a plan and falls back to the site's rules; a rule policy needs no plan.
    guards : Guards | None
        Other guards than the site's own, to see what each of them holds back (`ems.binding`).

    Site, stage and policy can be read as attributes.
    """

    def __init__(self, site: Site, stage: Stage = Stage.CONTROL, policy: str = "mpc", guards: Guards | None = None) -> None:
        self.site = self._site = site
        self.stage = self._stage = lower(stage, Stage(site.control.stage))
        self.policy = policy
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._image = ImageBuilder(site)
        self._doubter = Doubter(site)
        self._orders = Orders(site)
        self._guards = guards or Guards(site)
        self._situations = Situations(site)
        self._rules = Rules(site)
        self._outlooks = self._rules.outlooks
        self._supplies = Supplies(site)
        self._choices = Choices(site)
        self._committer = Committer(self._rules)
        self._hand_over = HandOver(site)
        self._bus = Bus(site)
        self._deferrables = Deferrables(site)
        self._setpoints = Setpoints(site)
        self._alarms = Alarms(site)

    def step(self, telemetry: Telemetry, requests: Sequence[Request], plan: Plan | None, memory: Memory) -> tuple[Image, Decision]:
        """Return the image and what follows from it."""
        image, doubt = self._doubter.judge(self._image.build(telemetry, memory), memory.doubt)
        memory = replace(memory, doubt=doubt)
        taken = self._orders.take(image, memory, requests)
        effects = self._orders.effects(image, self._adopted(image, taken.memory))
        memory = effects.memory
        events = [*taken.events]

        bounds = self._guards.bounds(image, memory)
        supply = self._supplies.of(image, memory)
        formers = self._outlooks.reserve.formers(supply)
        planned_target = target_at(plan, image.time, image.dt_s) if plan is not None else None
        planned = planned_target is not None or self.policy in RULE_POLICIES
        mode, cause = next_mode(memory, image, formers, planned, self._site.control.start_timeout_s)
        mode_since_s = memory.mode_since_s
        if mode is not memory.mode:
            events.append(Event("mode", None, f"{memory.mode.value} -> {mode.value}: {cause}"))
            mode_since_s = image.now_s
        done, day = self._deferrables.counted(image, memory)
        in_band_s, volts_off_s = self._bus.since(image, memory)
        memory = replace(
            memory, mode=mode, mode_since_s=mode_since_s, done_kwh=done, day=day, load_kw=image.load_kw, in_band_s=in_band_s, volts_off_s=volts_off_s
        )

        if mode in (Mode.START, Mode.SAFE):
            decision = self._holding(image, memory, supply, formers, mode)
        else:
            decision = self._deciding(image, memory, bounds, supply, planned_target, taken.accepted)
            if memory.stages:
                decision = self._with_advice(image, memory, decision, planned_target, taken.accepted)
        return image, replace(
            decision,
            plan_id=plan.id if plan is not None and planned_target is not None else None,
            outcomes=(*taken.outcomes, *effects.outcomes),
            events=(*events, *decision.events),
            alarms=self._alarms.active(image, decision),
        )

    def _deciding(
        self, image: Image, memory: Memory, bounds: Mapping[str, Bound], supply: Supply, planned: Target | None, accepted: Collection[str]
    ) -> Decision:
        seen_units = memory.units
        online = self._choices.reached(image, memory, sequencer.online(seen_units))
        drawn = self._deferrables.powers(image, memory, planned, self._situations.curtailed(image, memory, bounds))
        situation = self._situations.build(image, memory, bounds, planned, drawn)
        outlook = self._outlooks.of(situation, supply)
        choice = self._choices.of(image, memory, online)
        wants = self._wants(image, memory, outlook, planned, choice)
        commitment = self._handed_over(image, memory, outlook, self._committer.decide(outlook, wants.target, choice), online)
        ordered = {d: Explanation(Reason.OPERATOR) for d, m in memory.manual.items() if m.run is not None and d in self._diesels}
        why = {**commitment.why, **ordered}
        units, unit_writes, events = self._sequences(image, memory, commitment.wanted, why, online)
        memory = replace(memory, units=units, diesel_wanted=wants.diesel_wanted, rule=wants.rule)

        on = self._choices.reached(image, memory, sequencer.online(units))
        unloading = self._unloading(image, units)
        if unloading:
            situation = replace(situation, unloading=unloading)
            outlook = self._outlooks.of(situation, supply)
        target = relieved(outlook, on, commitment.target)
        final = outlook.prospect(on, target)
        leader = self._outlooks.dispatch.leader(final.formers, on)
        decided = self._setpoints.decide(image, memory, situation, final, target, leader, on, why, drawn)
        stage = self._stage_of(memory)
        levels, refused = self._setpoints.writes(image, memory, situation, decided, leader, final.shares)
        writes = (*unit_writes, *self._feeder_writes(image, memory), *levels)
        held = [f for f in self._outlooks.reserve.formers(supply) if image.assets[f].seen and (f not in self._diesels or sequencer.on_bus(image.assets[f]))]
        writes = keep_a_former(writes, held)
        dropped = {e.asset for e in refused}
        setpoints = {u: d.setpoint_kw for u, d in decided.items() if d.setpoint_kw is not None and u not in dropped}
        astray = self._image.astray(image, memory, setpoints)
        if stage is not Stage.CONTROL:
            # Nothing was commanded: no sequence has begun, and nobody can be off a setpoint.
            units, astray, events = dict(seen_units), {}, []
        memory = replace(memory, setpoints=setpoints, astray=astray, units=units)
        return Decision(
            mode=memory.mode,
            stage=stage,
            formers=final.formers,
            leader=leader,
            assets=decided,
            writes=tuple([w for w in writes if stage is Stage.CONTROL or (stage is Stage.ADVISE and w.asset in accepted)]),
            heartbeat=stage is Stage.CONTROL,
            reserve=final.reserve,
            plan_id=None,
            plan_source=wants.target.source,
            alarms=(),
            events=(*events, *refused),
            outcomes=(),
            memory=memory,
        )

    def _with_advice(self, image: Image, memory: Memory, decision: Decision, planned: Target | None, accepted: Collection[str]) -> Decision:
        """Return the decision with what would be done with the assets that stand below stage `control`.

        They are must-run in the decision itself, since they do what they want; what they would be told is
        looked at as if all were ours, and is written for those whose advice a person has just accepted.
        """
        below = {a: s for a, s in memory.stages.items() if s is not Stage.CONTROL and a in image.assets}
        ours = replace(image, assets={a: replace(i, ours=True) if a in below else i for a, i in image.assets.items()})
        would = self._deciding(ours, memory, self._guards.bounds(ours, memory), self._supplies.of(ours, memory), planned, below)
        advised = {a: d for a, d in would.assets.items() if a in below}
        writes = [w for w in would.writes if w.asset in accepted and below.get(w.asset) is Stage.ADVISE]
        return replace(decision, assets={**decision.assets, **advised}, writes=(*decision.writes, *writes))

    def _holding(self, image: Image, memory: Memory, supply: Supply, formers: tuple[str, ...], mode: Mode) -> Decision:
        """START and SAFE: nothing is written; SAFE also stops the heartbeats, so that devices do what they declare."""
        why = Explanation(Reason.SAFE if mode is Mode.SAFE else Reason.SEQUENCE, (mode.value,))
        assets = {a: AssetDecision(None, image.assets[a].flag("running"), why) for a in image.assets}
        stage = self._stage_of(memory)
        return Decision(
            mode=mode,
            stage=stage,
            formers=formers,
            leader=self._outlooks.dispatch.leader(formers, sequencer.online(memory.units)),
            assets=assets,
            writes=self._setpoints.safe_values(image) if mode is Mode.SAFE and memory.setpoints and stage is Stage.CONTROL else (),
            heartbeat=mode is Mode.START and stage is Stage.CONTROL,
            reserve=self._outlooks.reserve.assess(supply, image.load_kw),
            plan_id=None,
            plan_source="none",
            alarms=(),
            events=(),
            outcomes=(),
            memory=replace(memory, setpoints=NOTHING, astray=NOTHING),
        )

    def _adopted(self, image: Image, memory: Memory) -> Memory:
        """Return the memory with a sequence for every diesel; one met for the first time is taken as it is."""
        watch = memory.mode in (Mode.START, Mode.SAFE) or self._stage_of(memory) is not Stage.CONTROL
        if len(memory.units) == len(self._diesels) and not watch:
            return memory
        return replace(memory, units=sequencer.rebuilt(self._diesels, memory.units, image.assets, image.now_s, watch))

    def _stage_of(self, memory: Memory) -> Stage:
        return lower(self._stage, memory.stage)

    def _wants(self, image: Image, memory: Memory, outlook: Outlook, planned: Target | None, choice: Choice) -> Wants:
        """Return what is to be done: as an operator left it, as planned, or by the rules."""
        if memory.mode is Mode.MANUAL:
            return Wants(Target(choice.online, dict(memory.setpoints), "operator"), memory.diesel_wanted)
        if planned is not None and self.policy not in RULE_POLICIES:
            return Wants(planned, bool(planned.on))
        policy = self.policy if self.policy in RULE_POLICIES else self._site.rules.policy
        usable = choice.economic | choice.online
        # A diesel on its way off is no reason to call for one: else the charge that its unloading takes would call it back.
        on = frozenset([d for d in choice.online if memory.units[d].phase is not Phase.UNLOADING])
        last, must = memory.rule, choice.must & on
        if last is not None and image.now_s - last.at_s < RECONSIDER_S and (last.policy, last.usable, last.on, last.must) == (policy, usable, on, must):
            return Wants(last.target, last.wanted, last)
        worn = wear(self._diesels.values(), image.assets)
        target, wanted = self._rules.target(policy, outlook, usable, on, memory.diesel_wanted, worn, must)
        return Wants(target, wanted, RuleChoice(target, policy, usable, on, must, wanted, image.now_s))

    def _handed_over(self, image: Image, memory: Memory, outlook: Outlook, commitment: Commitment, online: Collection[str]) -> Commitment:
        """Return the commitment with the last diesels kept where the bus may not be handed to anybody else now."""
        leaving = [d for d in online if d not in commitment.wanted and memory.units[d].phase is not Phase.COOLDOWN]
        if not leaving or not self._hand_over.last(online, commitment.wanted):
            return commitment
        staying = commitment.wanted.intersection(online)
        refusal = self._hand_over.refusal(image, memory, outlook.prospect(staying, commitment.target))
        if refusal is None:
            return commitment
        kept = dict.fromkeys(leaving, Explanation(Reason.SEQUENCE, (refusal,)))
        return Commitment(commitment.wanted | frozenset(leaving), {**commitment.why, **kept}, commitment.target)

    def _sequences(
        self, image: Image, memory: Memory, wanted: Collection[str], why: Mapping[str, Explanation], online: Collection[str]
    ) -> tuple[dict[str, UnitMemory], list[Write], list[Event]]:
        units, writes, events = dict(memory.units), list[Write](), list[Event]()
        measured = image.frequency_hz is not None or image.voltage_v is not None
        steady_s = float("inf") if not measured else None if memory.in_band_s is None else image.now_s - memory.in_band_s
        moment = sequencer.Moment(image.now_s, image.dt_s, steady_s, self._hand_over.last(online, wanted))
        for d, unit in memory.units.items():
            cause = why.get(d, NOT_NEEDED)
            moved = sequencer.advance(self._diesels[d], unit, image.assets[d], d in wanted, cause, moment)
            units[d] = moved.memory
            writes.extend(w for w in moved.writes if image.assets[d].remote)
            events.extend(moved.events)
        return units, writes, events

    def _unloading(self, image: Image, units: Mapping[str, UnitMemory]) -> dict[str, float]:
        return {d: sequencer.unloading_kw(self._diesels[d], u, image.assets[d], image.dt_s) for d, u in units.items() if u.phase is Phase.UNLOADING}

    def _feeder_writes(self, image: Image, memory: Memory) -> tuple[Write, ...]:
        """Return the breaker commands that operators ordered and that are not in effect yet."""
        found = []
        for feeder, manual in memory.manual.items():
            unit = image.assets.get(feeder)
            if unit is None or unit.kind != "feeder" or manual.run is None or unit.flag("breaker_closed") is manual.run or not (unit.seen and unit.remote):
                continue
            found.append(Write(feeder, "breaker", float(manual.run)))
        return tuple(found)
