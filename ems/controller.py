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
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar
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
from ems.water import available_kw

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
    """

    def __init__(self, site: Site, stage: Stage = Stage.CONTROL, policy: str = "mpc") -> None:
        self._site = site
        self._stage = min(stage, Stage(site.control.stage), key=lambda s: s.rank)
        self._policy = policy
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._batteries = site.of(Battery)
        self._inverters = site.of(Inverter)
        self._rated = {a.id: a.rated_kw for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter)}
        self._station_kw = sum(load.station_kw for load in site.of(Load))
        self._image = ImageBuilder(site)
        self._orders = Orders(site)
        self._guards = Guards(site)
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
        planned = planned_target is not None or self._policy in RULE_POLICIES
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
        drawn = self._deferrables.powers(image, memory, planned, any(self._held_back(s, image, memory, bounds[s.id]) for s in self._site.of(Solar)))
        situation = self._situation(image, memory, bounds, planned, drawn)
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
        writes = (*unit_writes, *self._feeder_writes(image, memory), *self._setpoints.writes(image, situation, decided, leader, shares))
        held = [f for f in self._rules.reserve.formers(supply) if image.assets[f].seen and (f not in self._diesels or sequencer.on_bus(image.assets[f]))]
        writes = keep_a_former(writes, held)
        setpoints = {u: d.setpoint_kw for u, d in decided.items() if d.setpoint_kw is not None}
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
            events=tuple(events),
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

    def _situation(self, image: Image, memory: Memory, bounds: Mapping[str, Bound], planned: Target | None, drawn: Mapping[str, float]) -> Situation:
        base = image.load_kw - sum(image.assets[d.id].power_kw or 0.0 for d in self._site.of(Deferrable))
        taken = {a for a, i in image.assets.items() if i.kind in ("solar", "hydro", "diesel", "inverter") and i.seen and i.remote}
        fixed = {a: i.power_kw or 0.0 for a, i in image.assets.items() if i.kind in ("solar", "hydro", "inverter") and a not in taken}
        fixed.update({d: image.assets[d].power_kw or 0.0 for d in self._diesels if d not in taken and d in sequencer.online(memory.units)})
        fixed.update({d: image.assets[d].power_kw or 0.0 for d, u in memory.units.items() if u.phase is Phase.LOCKED and sequencer.on_bus(image.assets[d])})
        fixed.update({h.id: image.assets[h.id].power_kw or 0.0 for h in self._site.of(Hydro) if h.mode == "fixed"})
        fixed.update(self._unmeasured(image, [u for u in fixed if image.assets[u].power_kw is None]))
        running = tuple(i.id for i in self._inverters if i.id in taken and image.assets[i.id].flag("running") is not False and not image.assets[i.id].fault)
        return Situation(
            demand_kw=base + self._station_kw + sum(drawn.values()),
            solar_kw={s.id: self._sun_kw(s, image, memory, bounds[s.id]) for s in self._site.of(Solar) if s.id in taken},
            hydro_kw={h.id: self._water_kw(h, image, memory, bounds[h.id], planned) for h in self._site.of(Hydro) if h.id in taken and h.id not in fixed},
            fixed_kw=fixed,
            bounds=bounds,
            inverters=running,
            unloading=NOTHING,
        )

    def _water_kw(self, hydro: Hydro, image: Image, memory: Memory, bound: Bound, planned: Target | None) -> float:
        """Return what a river can give [kW]: nothing where an operator has stopped the unit."""
        manual = memory.manual.get(hydro.id)
        return 0.0 if manual is not None and manual.run is False else available_kw(hydro, image.assets[hydro.id], bound, planned)

    def _unmeasured(self, image: Image, blind: Sequence[str]) -> dict[str, float]:
        """Return the power of units that nobody sees: together what the balance leaves over, shared by rating [kW]."""
        gap = image.load_kw + self._station_kw - sum(image.assets[u].power_kw or 0.0 for u in self._rated)
        total = sum(self._rated[u] for u in blind)
        lows = {u: -self._rated[u] if image.assets[u].kind == "inverter" else 0.0 for u in blind}
        return {u: min(max(gap * self._rated[u] / total, lows[u]), self._rated[u]) for u in blind}

    def _sun_kw(self, solar: Solar, image: Image, memory: Memory, bound: Bound) -> float:
        """Return what PV can give [kW]: measured where the device tells, else its power, or a ramp above its limit."""
        unit = image.assets[solar.id]
        free, power = unit.get("available_kw"), unit.power_kw or 0.0
        if not unit.ready:
            free = power
        elif free is None:
            free = power + solar.ramp_up_kw_per_s * image.dt_s if self._held_back(solar, image, memory, bound) else power
        return bound.clip(free)

    def _held_back(self, solar: Solar, image: Image, memory: Memory, bound: Bound) -> bool:
        """Whether a solar unit could give more than it may: measured where the device tells, else where it stands at its limit."""
        unit, limit = image.assets[solar.id], memory.setpoints.get(solar.id)
        free, power, slack = unit.get("available_kw"), unit.power_kw or 0.0, 0.02 * solar.rated_kw
        if limit is None or limit > bound.hi_kw - slack:
            return False
        return free > limit + slack if free is not None else power > max(slack, limit - slack)

    def _wants(self, image: Image, memory: Memory, situation: Situation, supply: Supply, planned: Target | None, online: Collection[str]) -> Wants:
        if memory.mode is Mode.MANUAL:
            held = Target(frozenset(online), dict(memory.setpoints), "operator")
            return Wants(held, False, memory.diesel_wanted)
        if planned is not None and self._policy not in RULE_POLICIES:
            return Wants(planned, True, bool(planned.on))
        policy = self._policy if self._policy in RULE_POLICIES else self._site.rules.policy
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
