"""Replay: the real controller against the plant, interval by interval, as fast as Python can call it.

The controller sees the conditions of the interval it decides for, as a one-second loop does. Everything
is an argument, so the same case gives the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from ems import sequencer
from ems.clock import SimClock, real_s
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar, Tank
from ems.controller import Controller
from ems.decision import Decision, Reserve
from ems.image import ImageBuilder
from ems.memory import Memory
from ems.model import Image, Quality, Reading, Telemetry
from ems.physics import hydro_kw
from ems.plan import Observation, Plan
from ems.series import Interval, SeriesTable
from ems.terms import Mode, Stage
from simulator.plant import Flows, Plant, first_running
from simulator.scenario import as_conditions
from simulator.tallies import Deferred, River, Ships, mean_soc
from simulator.violations import Violations

PLAN_POLICIES = ("mpc", "perfect-foresight")
POLICIES = ("mpc", "load-following", "cycle-charging", "diesel-only", "perfect-foresight")
FIRST_MARGIN = 1.1
"""The diesels that run at first carry this many times the first load."""
MISSING = Reading(None, Quality.BAD)


@dataclass(frozen=True, slots=True)
class Case:
    """What is replayed.

    Attributes
    ----------
    site : Site
        As in the file.
    table : SeriesTable
    start : datetime
        Start of the first interval [UTC].
    step_s, replan_s : float
        Length of an interval, and how often a plan is made [s].
    steps : int
    soc : float
        Of every battery at the start, whatever the policy.
    """

    site: Site
    table: SeriesTable
    start: datetime
    step_s: float
    replan_s: float
    steps: int
    soc: float = 0.5

    @property
    def end(self) -> datetime:
        """End of the last interval [UTC]."""
        return self.start + timedelta(seconds=self.step_s * self.steps)


class Plans(Protocol):
    """Where plans come from in a replay."""

    def plan(self, image: Image, memory: Memory) -> Plan | None:
        """Return the plan to follow now, None where there is none."""

    def observe(self, observation: Observation) -> None:
        """Learn from an interval that has passed."""


@dataclass(slots=True)
class Run:
    """What came of one policy: sums over the period [kWh, L, h], counts, and a row for every interval."""

    site: Site
    policy: str
    soc_start: dict[str, float]
    soc_end: dict[str, float]
    soc_lowest: float | None
    sums: dict[str, float]
    run_h: dict[str, float]
    starts: dict[str, int]
    commitment_changes: int
    fallback_steps: int
    blackouts: int
    deferrable_unmet_kwh: float
    violations: Violations
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    wall_s: float


def controlled(site: Site, policy: str, replan_s: float, fleet: tuple[str, ...] | None = None) -> Site:
    """Return the site as it is run: in stage control, and for `diesel-only` loads, diesels and tanks alone.

    Parameters
    ----------
    fleet : tuple[str, ...] | None
        Diesels of a diesel-only site; None takes all.
    """
    changed: dict[str, object] = {
        "control": site.control.model_copy(update={"stage": "control"}),
        "planner": site.planner.model_copy(update={"replan_s": replan_s}),
    }
    if policy == "diesel-only":
        kept = [a for a in site.assets if isinstance(a, Load | Diesel | Deferrable | Tank) and (fleet is None or not isinstance(a, Diesel) or a.id in fleet)]
        changed["assets"] = tuple(kept)
    return site.model_copy(update=changed)


def run(case: Case, policy: str, plans: Plans | None = None, fleet: tuple[str, ...] | None = None, progress: Callable[[int], None] | None = None) -> Run:
    """Run one policy through the plant.

    Parameters
    ----------
    case : Case
    policy : str
        One of `POLICIES`; those of `PLAN_POLICIES` need `plans`.
    plans : Plans | None
    fleet : tuple[str, ...] | None
        Which diesels a diesel-only run has; None takes all.
    progress : Callable[[int], None] | None
        Called with the number of intervals done, now and then.
    """
    began = real_s()
    site = controlled(case.site, policy, case.replan_s, fleet)
    intervals = case.table.intervals(case.start, case.step_s, case.steps)
    plant = Plant(site, case.soc, starting(site, intervals[0]))
    loop = _Loop(case, site, policy, plant, plans)
    for k, interval in enumerate(intervals):
        loop.step(k, interval)
        if progress is not None and k % 16 == 15:
            progress(k + 1)
    return loop.finished(real_s() - began)


def starting(site: Site, first: Interval) -> tuple[str, ...]:
    """Return the diesels that run at first: in the order of the file, until they carry what the river leaves over."""
    river = sum(hydro_kw(h, first.inflow_m3s[h.id] - h.ecological_flow_m3s) for h in site.of(Hydro))
    return first_running(site, FIRST_MARGIN * sum(first.load_kw.values()) - river)


class _Loop:
    """One run: plant, controller and memory, and what is being added up."""

    def __init__(self, case: Case, site: Site, policy: str, plant: Plant, plans: Plans | None) -> None:
        self._case, self._site, self._policy, self._plant, self._plans = case, site, policy, plant, plans
        self._clock = SimClock(case.start)
        self._controller = Controller(site, policy=policy)
        self._image = ImageBuilder(site)
        self._memory = Memory(mode=Mode.AUTO, stage=Stage.CONTROL)
        self._hours = case.step_s / 3600.0
        self._soc = {b.id: case.soc for b in site.of(Battery)}
        self._capacity = {b.id: b.capacity_kwh for b in site.of(Battery)}
        self._violations = Violations(site, self._soc)
        self._sums = dict.fromkeys(SUMS, 0.0)
        self._run_h = dict.fromkeys((d.id for d in site.of(Diesel)), 0.0)
        self._starts = dict.fromkeys(self._run_h, 0)
        self._on = {d: d in {x.id for x in plant.diesels if x.on} for d in self._run_h}
        self._lowest = case.soc if self._soc else None
        self._changes = self._fallback = self._blackouts = 0
        self._deferred = Deferred(site)
        self._rivers = {h.id: River(h, plant.hydros[k].pond_m3) for k, h in enumerate(site.of(Hydro))}
        self._ships = Ships(site, case.start, case.end)
        self._solars, self._inverters = [s.id for s in site.of(Solar)], [i.id for i in site.of(Inverter)]
        self._columns = columns(site)
        self._rows: list[tuple[Any, ...]] = []

    def step(self, k: int, interval: Interval) -> None:
        """Observe, decide, command, and let the interval pass."""
        plant, dt_s = self._plant, self._case.step_s
        conditions = as_conditions(interval)
        at = self._clock.now()
        for tank, litres in self._ships.arriving(at, {t: unit.level_l for t, unit in plant.tanks.items()}):
            plant.deliver(tank, litres)
        shown = plant.observe(conditions)
        readings = {a: {n: MISSING if v is None else Reading(v) for n, v in points.items()} for a, points in shown.items()}
        telemetry = Telemetry(k, at, self._clock.now_s(), dt_s, readings)
        decision = self._decide(telemetry)
        for write in decision.writes:
            plant.command(write.asset, write.command, write.value)
        flows = plant.step(dt_s, conditions)
        reserve = self._violations.add(flows, self._soc, self._hours)
        self._add(at, interval, flows)
        self._rows.append(self._row(at, flows, reserve, decision))
        self._memory, self._soc = decision.memory, flows.soc
        self._clock.advance(dt_s)
        if self._plans is not None:
            load_kw = sum(interval.load_kw.values())
            self._plans.observe(Observation(at, dt_s, load_kw, interval.available_kw, interval.inflow_m3s))

    def _decide(self, telemetry: Telemetry) -> Decision:
        plan = None
        if self._plans is not None:
            image = self._image.build(telemetry, self._memory)
            if not self._memory.units:
                units = {d.id: sequencer.adopt(d, image.assets[d.id], image.now_s) for d in self._site.of(Diesel)}
                self._memory = replace(self._memory, units=units)
            plan = self._plans.plan(image, self._memory)
        _, decision = self._controller.step(telemetry, (), plan, self._memory)
        if self._policy in PLAN_POLICIES and decision.plan_id is None:
            self._fallback += 1
        return decision

    def _add(self, at: datetime, interval: Interval, flows: Flows) -> None:
        sums, hours, power = self._sums, self._hours, flows.power_kw
        sums["load_kwh"] += flows.load_kw * hours
        sums["served_kwh"] += flows.served_kw * hours
        sums["unserved_kwh"] += flows.unserved_kw * hours
        sums["station_kwh"] += flows.station_kw * hours
        sums["curtailed_kwh"] += flows.curtailed_kw * hours
        sums["spilled_kwh"] += flows.spilled_kw * hours
        sums["pushed_kwh"] += flows.pushed_kw * hours
        sums["losses_kwh"] += flows.losses_kw * hours
        sums["solar_available_kwh"] += sum(flows.available_kw.values()) * hours
        sums["solar_kwh"] += sum(power[s] for s in self._solars) * hours
        for river in self._rivers.values():
            sums["hydro_available_kwh"] += river.reach_kwh(interval.inflow_m3s[river.id], self._case.step_s)
            sums["hydro_kwh"] += power[river.id] * hours
        for inverter in self._inverters:
            kwh = power[inverter] * hours
            sums["battery_discharge_kwh" if kwh > 0.0 else "battery_charge_kwh"] += abs(kwh)
        for d, litres in flows.fuel_l.items():
            on = flows.running[d]
            sums["diesel_l"] += litres
            sums["diesel_kwh"] += power[d] * hours
            self._run_h[d] += hours if on else 0.0
            self._starts[d] += flows.starts[d]
            self._changes += on is not self._on[d]
            self._on[d] = on
        sums["diesel_off_h"] += 0.0 if any(flows.running.values()) else hours
        if self._lowest is not None:
            self._lowest = min(self._lowest, mean_soc(flows.soc, self._capacity))
        self._blackouts += flows.blackout
        self._deferred.add(at, self._case.step_s, power)

    def _row(self, at: datetime, flows: Flows, reserve: Reserve, decision: Decision) -> tuple[Any, ...]:
        power = flows.power_kw
        return (
            f"{at:%Y-%m-%dT%H:%M:%SZ}",
            *(round(x, 4) for x in (flows.load_kw, flows.served_kw, flows.unserved_kw)),
            *(round(power[a], 4) for a in power),
            *(round(s, 6) for s in flows.soc.values()),
            *(round(p, 2) for p in flows.pond_m3.values()),
            *(int(on) for on in flows.running.values()),
            *(round(x, 4) for x in (sum(flows.fuel_l.values()), flows.curtailed_kw, flows.spilled_kw, reserve.required_kw, reserve.available_kw)),
            decision.mode.value,
            decision.plan_source,
        )

    def finished(self, wall_s: float) -> Run:
        """Return the run."""
        return Run(
            site=self._site,
            policy=self._policy,
            soc_start=dict.fromkeys(self._soc, self._case.soc),
            soc_end=dict(self._soc),
            soc_lowest=self._lowest,
            sums=self._sums,
            run_h=self._run_h,
            starts=self._starts,
            commitment_changes=self._changes,
            fallback_steps=self._fallback,
            blackouts=self._blackouts,
            deferrable_unmet_kwh=self._deferred.unmet_kwh(self._case.start, self._case.end),
            violations=self._violations,
            columns=self._columns,
            rows=self._rows,
            wall_s=wall_s,
        )


SUMS = (
    "load_kwh", "served_kwh", "unserved_kwh", "station_kwh", "curtailed_kwh", "spilled_kwh", "pushed_kwh", "losses_kwh", "solar_available_kwh", "solar_kwh",
    "hydro_available_kwh", "hydro_kwh", "battery_charge_kwh", "battery_discharge_kwh", "diesel_l", "diesel_kwh", "diesel_off_h",
)  # fmt: skip


def columns(site: Site) -> tuple[str, ...]:
    """Return the header of a run's rows; the order of assets is that of the plant's flows."""
    order = (Solar, Hydro, Diesel, Inverter, Battery, Load, Deferrable)
    powers = [a.id for kind in order for a in site.of(kind)]
    return (
        "time", "load_kw", "served_kw", "unserved_kw",
        *(f"{a}.power_kw" for a in powers),
        *(f"{b.id}.soc" for b in site.of(Battery)),
        *(f"{h.id}.pond_m3" for h in site.of(Hydro)),
        *(f"{d.id}.on" for d in site.of(Diesel)),
        "fuel_l", "curtailed_kw", "spilled_kw", "reserve_required_kw", "reserve_available_kw", "mode", "source",
    )  # fmt: skip
