"""The decision: one image in, one decision out. Synchronous and pure: no clock, no I/O, no chance.

Order: image -> requests -> mode -> bounds -> what plan or rules want -> which diesels -> their
sequences -> dispatch inside the bounds -> the last look -> writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ems import sequencer
from ems.alarms import Alarms
from ems.commitment import Choice, Committer
from ems.config.site import Battery, Diesel, Inverter, Site
from ems.decision import AssetDecision, Decision, Event, Explanation, Memory, Mode, Phase, Reason, Stage, UnitMemory, Write
from ems.deferrables import Deferrables
from ems.dispatch import Situation
from ems.guards import Bound, Guards, keep_a_former
from ems.image import ImageBuilder
from ems.model import NOTHING, Image, Request, Telemetry
from ems.modes import next_mode
from ems.orders import Orders
from ems.plan import Plan, Target, target_at
from ems.reserve import Supply
from ems.rules import Rules
from ems.setpoints import LONG_STEP_S, Setpoints
from ems.situation import Situations

RULE_POLICIES = ("load-following", "cycle-charging", "diesel-only")


@dataclass(frozen=True, slots=True)
class Wants:
    """What shall be done in this cycle, and who said so."""

    target: Target
    planned: bool
    diesel_wanted: bool


class Controller:
    """The pure controller of one site.

    Parameters
    ----------
    site : Site
    stage : Stage
        The command line's stage; the lowest of this, the site file and the last request is in force.
    policy : str
        `mpc` follows a plan and falls back to the site's rules; a rule policy needs no plan.
        It can be read as an attribute.
    """

    def __init__(self, site: Site, stage: Stage = Stage.CONTROL, policy: str = "mpc") -> None:
        self._site = site
        self._stage = min(stage, Stage(site.control.stage), key=lambda s: s.rank)
        self.policy = policy
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._batteries = site.of(Battery)
        self._inverters = site.of(Inverter)
        self._image = ImageBuilder(site)
        self._orders = Orders(site)
        self._guards = Guards(site)
        self._situations = Situations(site)
        self._rules = Rules(site)
        self._committer = Committer(self._rules)
        self._deferrables = Deferrables(site)
        self._setpoints = Setpoints(site)
        self._alarms = Alarms(site)

    def step(self, telemetry: Telemetry, requests: Sequence[Request], plan: Plan | None, memory: Memory) -> tuple[Image, Decision]:
        """Return the image and what follows from it."""
        image = self._image.build(telemetry, memory)
        taken = self._orders.take(image, memory, requests)
        memory = self._adopted(image, taken.memory)
        effects = self._orders.effects(image, memory)
        memory = effects.memory
        events = [*taken.events]

        bounds = self._bounds(image, memory)
        supply = self._supply(image, memory)
        formers = self._rules.reserve.formers(supply)
        planned_target = target_at(plan, image.time, image.dt_s) if plan is not None else None
        planned = planned_target is not None or self.policy in RULE_POLICIES
        mode, cause = next_mode(memory, image, formers, planned, self._site.control.start_timeout_s)
        if mode is not memory.mode:
            events.append(Event("mode", None, f"{memory.mode.value} -> {mode.value}: {cause}"))
            memory = replace(memory, mode=mode, mode_since_s=image.now_s)
        done, day = self._deferrables.counted(image, memory)
        memory = replace(memory, done_kwh=done, day=day, load_kw=image.load_kw)

        if mode in (Mode.START, Mode.SAFE):
            decision = self._holding(image, memory, supply, formers, mode)
        else:
            decision = self._deciding(image, memory, bounds, supply, planned_target, taken.accepted)
        outcomes = (*taken.outcomes, *effects.outcomes)
        return image, replace(
            decision,
            plan_id=plan.id if plan is not None and planned_target is not None else None,
            outcomes=outcomes,
            events=(*events, *decision.events),
            alarms=self._alarms.active(image, decision),
        )

    def _deciding(
        self, image: Image, memory: Memory, bounds: Mapping[str, Bound], supply: Supply, planned: Target | None, accepted: Collection[str]
    ) -> Decision:
        seen_units = memory.units
        online = self._reached(image, memory, sequencer.online(seen_units))
        drawn = self._deferrables.powers(image, memory, planned, self._situations.curtailed(image, memory, bounds))
        situation = self._situations.build(image, memory, bounds, planned, drawn)
        wants = self._wants(image, memory, situation, supply, planned, online)
        choice = self._choice(image, memory, online)
        commitment = self._committer.decide(situation, supply, wants.target, choice)
        ordered = {d: Explanation(Reason.OPERATOR) for d, m in memory.manual.items() if m.run is not None and d in self._diesels}
        why = {**commitment.why, **ordered}
        units, unit_writes, events = self._sequences(image, memory, commitment.wanted, why)
        memory = replace(memory, units=units, diesel_wanted=wants.diesel_wanted)

        on = self._reached(image, memory, sequencer.online(units))
        situation = replace(situation, unloading=self._unloading(image, units))
        target = self._committer.relieved(situation, supply, on, commitment.target)
        shares = self._rules.dispatch.share(situation, on, target)
        final = self._rules.supply_of(shares, on, supply)
        formers = self._rules.reserve.formers(final)
        leader = self._rules.dispatch.leader(formers, on)
        decided = self._setpoints.decide(image, memory, situation, shares, target, leader, on, why, drawn)
        stage = self._stage_of(memory)
        levels, refused = self._setpoints.writes(image, memory, situation, decided, leader, shares)
        writes = (*unit_writes, *self._feeder_writes(image, memory), *levels)
        held = [f for f in self._rules.reserve.formers(supply) if image.assets[f].seen and (f not in self._diesels or sequencer.on_bus(image.assets[f]))]
        writes = keep_a_former(writes, held)
        dropped = {e.asset for e in refused}
        setpoints = {u: d.setpoint_kw for u, d in decided.items() if d.setpoint_kw is not None and u not in dropped}
        memory = replace(memory, setpoints=setpoints, astray=self._image.astray(image, memory, setpoints))
        if stage is not Stage.CONTROL:
            # Nothing was commanded: no sequence has begun, and nobody can be off a setpoint.
            memory, events = replace(memory, units=seen_units, astray=NOTHING), []
        return Decision(
            mode=memory.mode,
            stage=stage,
            formers=formers,
            leader=leader,
            assets=decided,
            writes=tuple(w for w in writes if stage is Stage.CONTROL or (stage is Stage.ADVISE and w.asset in accepted)),
            heartbeat=stage is Stage.CONTROL,
            reserve=self._rules.reserve.assess(final, situation.demand_kw),
            plan_id=None,
            plan_source=wants.target.source,
            alarms=(),
            events=(*events, *refused),
            outcomes=(),
            memory=memory,
        )

    def _holding(self, image: Image, memory: Memory, supply: Supply, formers: tuple[str, ...], mode: Mode) -> Decision:
        """START and SAFE: nothing is written; SAFE also stops the heartbeats, so that devices do what they declare."""
        why = Explanation(Reason.SAFE if mode is Mode.SAFE else Reason.SEQUENCE, (mode.value,))
        assets = {a: AssetDecision(None, image.assets[a].flag("running"), why) for a in image.assets}
        stage = self._stage_of(memory)
        return Decision(
            mode=mode,
            stage=stage,
            formers=formers,
            leader=self._rules.dispatch.leader(formers, sequencer.online(memory.units)),
            assets=assets,
            writes=self._setpoints.safe_values(image) if mode is Mode.SAFE and memory.setpoints and stage is Stage.CONTROL else (),
            heartbeat=mode is Mode.START and stage is Stage.CONTROL,
            reserve=self._rules.reserve.assess(supply, image.load_kw),
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
        return min(self._stage, memory.stage, key=lambda s: s.rank)

    def _bounds(self, image: Image, memory: Memory) -> dict[str, Bound]:
        bounds = dict(self._guards.bounds(image, memory))
        for unit, manual in memory.manual.items():
            if manual.power_kw is None or unit not in bounds:
                continue
            low = 0.0 if image.assets[unit].kind == "solar" else manual.power_kw
            bounds[unit] = bounds[unit].narrowed(low, manual.power_kw, "operator")
        return bounds

    def _supply(self, image: Image, memory: Memory) -> Supply:
        """Return who feeds the busbar now, from what is seen; what is not seen counts for nothing."""
        powers = {a: p for a, i in image.assets.items() if i.kind in ("solar", "hydro", "diesel", "inverter") and (p := i.power_kw) is not None}
        running = [a for a, i in image.assets.items() if i.kind in ("hydro", "inverter") and i.seen and i.flag("running") is not False and not i.fault]
        batteries = {b.id: image.assets[b.id] for b in self._batteries}
        instant = image.dt_s >= LONG_STEP_S
        return Supply(
            power_kw=powers,
            online=frozenset((*running, *sequencer.online(memory.units))),
            soc={b: i.get("soc") if i.seen else None for b, i in batteries.items()},
            discharge_limit_kw={b: v for b, i in batteries.items() if (v := i.get("discharge_limit_kw")) is not None},
            charge_limit_kw={b: v for b, i in batteries.items() if (v := i.get("charge_limit_kw")) is not None},
            limits=memory.limits,
            not_forming=frozenset(i.id for i in self._inverters if not instant and image.assets[i.id].flag("forming") is False),
        )

    def _reached(self, image: Image, memory: Memory, online: frozenset[str]) -> frozenset[str]:
        """Return the diesels on the bus, with those whose start fits into this step."""
        starting = (d for d, u in memory.units.items() if u.phase is Phase.STARTING and image.assets[d].seen)
        fits = (d for d in starting if image.dt_s >= sequencer.total_start_s(self._diesels[d]))
        return online.union(fits)

    def _wants(self, image: Image, memory: Memory, situation: Situation, supply: Supply, planned: Target | None, online: Collection[str]) -> Wants:
        if memory.mode is Mode.MANUAL:
            held = Target(frozenset(online), dict(memory.setpoints), "operator")
            return Wants(held, False, memory.diesel_wanted)
        if planned is not None and self.policy not in RULE_POLICIES:
            return Wants(planned, True, bool(planned.on))
        policy = self.policy if self.policy in RULE_POLICIES else self._site.rules.policy
        choice = self._choice(image, memory, frozenset(online))
        # A diesel on its way off is no reason to call for one: else the charge that its unloading takes would call it back.
        staying = [d for d in online if memory.units[d].phase is not Phase.UNLOADING]
        target, wanted = self._rules.target(policy, situation, supply, choice.economic | choice.online, staying, memory.diesel_wanted)
        return Wants(target, False, wanted)

    def _choice(self, image: Image, memory: Memory, online: frozenset[str]) -> Choice:
        must, economic, forced, banned = set(), set(), set(), set()
        blind = any(not image.assets[d].seen for d in online)  # nobody is taken off on the word of a unit that is not seen
        for d, diesel in self._diesels.items():
            unit, seen = memory.units.get(d), image.assets[d]
            if unit is None:
                continue
            if d in online and not (seen.seen and seen.remote):
                must.add(d)
                continue
            manual, limits = memory.manual.get(d), memory.limits.get(d)
            if manual is not None and manual.run is False or limits is not None and limits.out_of_service:
                banned.add(d)
                continue
            ordered = manual is not None and manual.run is True
            if sequencer.startable(diesel, unit, seen, image.now_s, economic=True):
                economic.add(d)
            if sequencer.startable(diesel, unit, seen, image.now_s, economic=False):
                forced.add(d)
            if sequencer.must_stay(diesel, unit, seen, image.now_s) or blind and d in online or (ordered and d in forced):
                must.add(d)
        prompt = frozenset(d for d in forced if image.dt_s >= sequencer.total_start_s(self._diesels[d]))
        return Choice(online, frozenset(must), frozenset(economic), frozenset(forced), frozenset(banned), prompt)

    def _sequences(
        self, image: Image, memory: Memory, wanted: Collection[str], why: Mapping[str, Explanation]
    ) -> tuple[dict[str, UnitMemory], list[Write], list[Event]]:
        units, writes, events = dict(memory.units), list[Write](), list[Event]()
        for d, unit in memory.units.items():
            cause = why.get(d, Explanation(Reason.NOT_NEEDED))
            moved = sequencer.advance(self._diesels[d], unit, image.assets[d], d in wanted, cause, image.now_s, image.dt_s)
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
