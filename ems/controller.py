"""The decision: one image in, one decision out. Synchronous and pure: no clock, no I/O, no chance.

Order: image -> requests -> mode -> bounds -> what plan or rules want -> which diesels -> their
sequences -> dispatch inside the bounds -> the last look -> writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ems import sequencer
from ems.alarms import Alarms
from ems.black_start import EARLY, FAILED, FEEDER_BAND_S, BlackStarts
from ems.bus import Bus, BusState
from ems.choice import Choices
from ems.commitment import Committer, relieved
from ems.config.site import Diesel, Site
from ems.decision import Decision, Event, Write
from ems.deferrables import Deferrables
from ems.dispatch import Situation
from ems.doubt import Doubter
from ems.engines import Engines
from ems.estop import noticed
from ems.feeders import IN_BAND_S, Feeders
from ems.guards import Bound, Guards, keep_a_former
from ems.image import ImageBuilder
from ems.memory import Expected, Memory
from ems.model import NOTHING, Image, Request, Telemetry
from ems.modes import next_mode
from ems.orders import Orders
from ems.outlook import Outlook, Prospect
from ems.plan import Plan, Target, target_at
from ems.reserve import Supply
from ems.residual import Residual
from ems.rules import Rules
from ems.sequences import Sequences
from ems.setpoints import Setpoints
from ems.situation import Situations
from ems.standing import Standing
from ems.strain import Strains
from ems.supply import Supplies
from ems.terms import Explanation, Mode, Reason, Stage, lower
from ems.wishes import RULE_POLICIES, Wishes, learned_kw


@dataclass(frozen=True, slots=True)
class Look:
    """What one cycle is decided from; `planned` is what the plan in force wants, `plan` the newest one whether it is followed or not."""

    image: Image
    memory: Memory
    bounds: Mapping[str, Bound]
    supply: Supply
    planned: Target | None
    plan: Plan | None

    @property
    def rising(self) -> bool:
        """Whether the island is just coming up from a black start."""
        return self.memory.mode is Mode.BLACKSTART


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which diesels run, why, and what is to be shared among them."""

    memory: Memory
    target: Target
    why: Mapping[str, Explanation]
    writes: Sequence[Write]
    events: Sequence[Event]
    situation: Situation
    outlook: Outlook
    drawn: Mapping[str, float]
    expected: Expected | None
    source: str


@dataclass(frozen=True, slots=True)
class Shared:
    """Who gives how much, and who carries the residual."""

    on: frozenset[str]
    target: Target
    final: Prospect
    situation: Situation
    drawn: Mapping[str, float]
    leader: str | None


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
        self._feeders = Feeders(site)
        self._black_starts = BlackStarts(site, self._stage, self._feeders)
        self._orders = Orders(site, self._black_starts)
        self._guards = guards or Guards(site)
        self._situations = Situations(site)
        self._rules = Rules(site)
        self._outlooks = self._rules.outlooks
        self._supplies = Supplies(site)
        self._choices = Choices(site)
        self._committer = Committer(self._rules)
        self._sequences = Sequences(site)
        self._wishes = Wishes(site, policy, self._rules)
        self._bus = Bus(site)
        self._engines = Engines(site)
        self._deferrables = Deferrables(site)
        self._residual = Residual(site)
        self._strains = Strains(site, self._outlooks.reserve)
        self._setpoints = Setpoints(site)
        self._standing = Standing(self._outlooks, self._setpoints, self._sequences, self._feeders, self._black_starts)
        self._alarms = Alarms(site)

    def step(self, telemetry: Telemetry, requests: Sequence[Request], plan: Plan | None, memory: Memory) -> tuple[Image, Decision]:
        """Return the image and what follows from it."""
        image, doubt = self._doubter.judge(self._image.build(telemetry, memory), memory.doubt)
        taken = self._orders.take(image, memory, requests)
        effects = self._orders.effects(image, self._sequences.adopted(image, taken.memory, self._stage_of(image, taken.memory) is Stage.CONTROL))
        if not image.alone and lower(self._stage, effects.memory.stage) is not Stage.CONTROL:
            image = replace(image, rivals=NOTHING, watched=True)  # who only watches may well watch another controller
        bus = self._bus.found(image)
        feeders = self._feeders.seen(image, bus, effects.memory)
        memory, stops = noticed(image, feeders.memory)
        events = [*taken.events, *feeders.events, *stops]
        start = memory.black_start
        if start is not None and start.step == FAILED and bus.state is BusState.LIVE and memory.mode is not Mode.BLACKSTART:
            memory = replace(memory, black_start=None)

        bounds = self._guards.bounds(image, memory)
        planned_target = target_at(plan, image.time, image.dt_s) if plan is not None else None
        supply = self._supplies.of(image, memory, learned_kw(plan, planned_target))
        formers = self._outlooks.reserve.formers(supply)
        planned = planned_target is not None or self.policy in RULE_POLICIES
        mode, cause = next_mode(memory, image, formers, planned, self._site.control.start_timeout_s, bus.state is BusState.DEAD)
        mode_since_s = memory.mode_since_s
        if mode is not memory.mode:
            events.append(Event("mode", None, f"{memory.mode.value} -> {mode.value}: {cause}"))
            mode_since_s = image.now_s
        done, day = self._deferrables.counted(image, memory)
        in_band_s, volts_off_s = self._bus.since(image, memory)
        memory = replace(
            memory,
            mode=mode,
            mode_since_s=mode_since_s,
            done_kwh=done,
            day=day,
            load_kw=image.load_kw,
            in_band_s=in_band_s,
            volts_off_s=volts_off_s,
            engines=self._engines.counted(image, memory),
            doubt=doubt,
        )

        start = memory.black_start if mode is Mode.BLACKSTART else None
        if mode in (Mode.START, Mode.SAFE):
            decision = self._standing.holding(image, memory, supply, formers, self._stage_of(image, memory))
            if bus.state is BusState.DEAD and memory.mode_since_s == image.now_s:
                decision = self._standing.called_off(image, memory, decision)
        elif start is not None and start.step in EARLY:
            decision = self._standing.black_starting(image, bus, memory, supply, formers, self._stage_of(image, memory))
        elif start is not None:
            down_kw = self._outlooks.reserve.assess(supply, image.load_kw).down_kw
            bounds = self._black_starts.bounds(bounds, memory, down_kw)
            decision = self._deciding(Look(image, memory, bounds, supply, None, plan), taken.accepted)
            moved = self._black_starts.late(image, bus, decision.memory, memory)
            decision = replace(decision, memory=moved.memory, writes=(*decision.writes, *moved.writes), events=(*decision.events, *moved.events))
        else:
            look = Look(image, memory, bounds, supply, planned_target, plan)
            decision = self._deciding(look, taken.accepted)
            if memory.stages:
                decision = self._with_advice(look, decision, taken.accepted)
        alarms, last_seen = self._alarms.held(self._alarms.active(image, decision), memory.alarms, image)
        return image, replace(
            decision,
            memory=decision.memory if last_seen is decision.memory.alarms else replace(decision.memory, alarms=last_seen),
            plan_id=plan.id if plan is not None and planned_target is not None else None,
            outcomes=(*taken.outcomes, *effects.outcomes),
            events=(*events, *decision.events),
            alarms=alarms,
        )

    def _deciding(self, look: Look, accepted: Collection[str]) -> Decision:
        """Return the decision of a cycle in which power is dispatched: choose diesels, share power, tell."""
        chosen = self._chosen(look)
        return self._told(look, chosen, self._shared(look, chosen), accepted)

    def _chosen(self, look: Look) -> Chosen:
        """Choose the diesels, and take each one step along its sequence."""
        image, memory = look.image, look.memory
        online = self._choices.reached(image, memory, sequencer.online(memory.units))
        relief = look.rising or self._feeders.relief(image, memory)
        drawn = self._deferrables.powers(image, memory, look.planned, self._situations.curtailed(image, memory, look.bounds), relief)
        expected = self._residual.learned(image, memory)
        situation = self._situation(look, drawn, expected)
        # Whoever waits in the dark counts as demand where diesels are chosen, not where power is shared.
        waiting_kw = self._feeders.waiting_kw(image, memory)
        outlook = self._outlooks.of(replace(situation, demand_kw=situation.demand_kw + waiting_kw) if waiting_kw else situation, look.supply)
        choice = self._choices.of(image, memory, online)
        wants = self._wishes.of(image, memory, outlook, look.planned, choice)
        commitment = self._sequences.kept(image, memory, outlook, self._committer.decide(outlook, wants.target, choice), online)
        ordered = {d: Explanation(Reason.OPERATOR) for d, m in memory.manual.items() if m.run is not None and d in self._diesels}
        why = {**commitment.why, **ordered}
        units, writes, events = self._sequences.advanced(image, memory, commitment.wanted, why, online)
        after = replace(memory, units=units, diesel_wanted=wants.diesel_wanted, rule=wants.rule)
        unloading = self._sequences.unloading(image, units)
        if unloading or waiting_kw:
            situation = replace(situation, unloading=unloading)
            outlook = self._outlooks.of(situation, look.supply)
        return Chosen(after, commitment.target, why, writes, events, situation, outlook, drawn, expected, wants.target.source)

    def _situation(self, look: Look, drawn: Mapping[str, float], expected: Expected | None) -> Situation:
        """Return what dispatch has to work with, with what the leader has taught about the demand."""
        situation = self._situations.build(look.image, look.memory, look.bounds, look.planned, drawn)
        bias_kw = 0.0 if expected is None else expected.bias_kw
        return replace(situation, demand_kw=max(0.0, situation.demand_kw + bias_kw)) if bias_kw else situation

    def _shared(self, look: Look, chosen: Chosen) -> Shared:
        """Share the demand; where it is beyond what can be carried, deferrable loads go in the same cycle."""
        on = self._choices.reached(look.image, chosen.memory, sequencer.online(chosen.memory.units))
        target = relieved(chosen.outlook, on, chosen.target)
        final, situation, drawn = chosen.outlook.prospect(on, target), chosen.situation, chosen.drawn
        if final.shares.short_kw > 0.0 and any(drawn.values()):
            drawn = self._deferrables.powers(look.image, chosen.memory, look.planned, False, relief=True)
            situation = replace(self._situation(look, drawn, chosen.expected), unloading=situation.unloading)
            final = self._outlooks.of(situation, look.supply).prospect(on, target)
        return Shared(on, target, final, situation, drawn, self._outlooks.dispatch.leader(final.formers, on, situation.fixed_kw))

    def _told(self, look: Look, chosen: Chosen, shared: Shared, accepted: Collection[str]) -> Decision:
        """Make setpoints, breaker commands and writes of it, take the last look, and hand on the memory."""
        image, final, leader = look.image, shared.final, shared.leader
        decided = self._setpoints.decide(image, chosen.memory, shared.situation, final, shared.target, leader, shared.on, chosen.why, shared.drawn)
        strain = self._strains.of(image, chosen.memory, shared.situation, final.shares, final.supply, leader, shared.on, look.plan)
        moved = self._feeders.decide(image, chosen.memory, strain, FEEDER_BAND_S if look.rising else IN_BAND_S)
        decided |= self._feeders.decisions(image, moved.memory, strain)
        stage = self._stage_of(image, look.memory)
        levels, refused = self._setpoints.writes(image, moved.memory, shared.situation, decided, leader, final.shares)
        writes = keep_a_former((*chosen.writes, *moved.writes, *levels), self._holding_now(look))
        dropped = {e.asset for e in refused}
        memory = replace(
            moved.memory,
            setpoints={u: d.setpoint_kw for u, d in decided.items() if d.setpoint_kw is not None and u not in dropped},
            references={w.asset: w.value for w in levels if w.command == "power_kw"},
            expected=self._residual.expecting(leader, final.shares.power_kw.get(leader or ""), image, chosen.expected),
            unled=self._residual.unled(image, moved.memory, chosen.expected),
        )
        if stage is Stage.CONTROL:
            events = (*chosen.events, *moved.events, *refused)
            memory = replace(memory, astray=self._image.astray(image, look.memory, memory.setpoints))
        else:
            # Nothing was commanded: no sequence has begun, nobody can be off a setpoint, and nothing is learned from it.
            events = refused
            memory = replace(memory, units=dict(look.memory.units), feeders=look.memory.feeders, astray=NOTHING, expected=None)
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
            plan_source=chosen.source,
            alarms=(),
            events=events,
            outcomes=(),
            memory=memory,
        )

    def _holding_now(self, look: Look) -> list[str]:
        """Return who is seen to hold the bus and is not on its way off."""
        assets = look.image.assets
        formers = self._outlooks.reserve.formers(look.supply)
        return [f for f in formers if assets[f].seen and (f not in self._diesels or sequencer.on_bus(assets[f]))]

    def _with_advice(self, look: Look, decision: Decision, accepted: Collection[str]) -> Decision:
        """Return the decision with what would be done with the assets that stand below stage `control`.

        They are must-run in the decision itself, since they do what they want; what they would be told is
        looked at as if all were ours, and is written for those whose advice a person has just accepted.
        """
        image, memory = look.image, look.memory
        below = {a: s for a, s in memory.stages.items() if s is not Stage.CONTROL and a in image.assets}
        ours = replace(image, assets={a: replace(i, ours=True) if a in below else i for a, i in image.assets.items()})
        supply = self._supplies.of(ours, memory, learned_kw(look.plan, look.planned))
        would = self._deciding(Look(ours, memory, self._guards.bounds(ours, memory), supply, look.planned, look.plan), below)
        advised = {a: d for a, d in would.assets.items() if a in below}
        writes = [w for w in would.writes if w.asset in accepted and below.get(w.asset) is Stage.ADVISE]
        return replace(decision, assets={**decision.assets, **advised}, writes=(*decision.writes, *writes))

    def _stage_of(self, image: Image, memory: Memory) -> Stage:
        """Return the stage in force: the lowest that was asked for, and not control while somebody else may be writing."""
        return lower(lower(self._stage, memory.stage), Stage.CONTROL if image.alone else Stage.ADVISE)
