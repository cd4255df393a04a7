"""Replay: the real controller against the plant, interval by interval, as fast as Python can call it.

The controller sees the conditions of the interval it decides for, as a one-second loop does. Everything
is an argument, so the same case gives the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from ems import sequencer
from ems.clock import SimClock, real_s
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Load, Site, Tank
from ems.controller import Controller
from ems.decision import Decision
from ems.deferrables import Deferrables
from ems.image import ImageBuilder
from ems.memory import Memory
from ems.model import Image, Quality, Reading, Telemetry
from ems.physics import hydro_kw
from ems.plan import Observation, Plan
from ems.series import Interval, SeriesTable
from ems.terms import Mode, Stage
from simulator.account import Account, Month, columns
from simulator.plant import Plant, first_running
from simulator.scenario import as_conditions
from simulator.tallies import Deferred, Ships
from simulator.violations import Broken

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
        Of every battery when it begins, whatever the policy.
    lead_steps : int
        Intervals that are lived through before the first one that counts: so long the state at the begin is forgotten.
    """

    site: Site
    table: SeriesTable
    start: datetime
    step_s: float
    replan_s: float
    steps: int
    soc: float = 0.5
    lead_steps: int = 0

    @property
    def begin(self) -> datetime:
        """Start of the first interval that is lived through [UTC]."""
        return self.start - timedelta(seconds=self.step_s * self.lead_steps)

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
    start: datetime
    end: datetime
    soc_start: dict[str, float]
    soc_end: dict[str, float]
    soc_lowest: float | None
    sums: dict[str, float]
    run_h: dict[str, float]
    starts: dict[str, int]
    commitment_changes: int
    fallback_steps: int
    blackouts: int
    violations: Broken
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    wall_s: float
    months: tuple[Month, ...]
    deferred: Deferred

    @property
    def deferrable_unmet_kwh(self) -> float:
        """What deferrable loads should have had and did not have [kWh]."""
        return self.deferred.unmet_kwh(self.start, self.end)


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
        Called with the number of intervals done, those of the lead among them, now and then.
    """
    began = real_s()
    site = controlled(case.site, policy, case.replan_s, fleet)
    intervals = case.table.intervals(case.begin, case.step_s, case.lead_steps + case.steps)
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
        self._clock = SimClock(case.begin)
        self._controller = Controller(site, policy=policy)
        self._image = ImageBuilder(site)
        self._deferrables = Deferrables(site)
        self._memory = Memory(mode=Mode.AUTO, stage=Stage.CONTROL)
        self._soc: Mapping[str, float] = {b.id: case.soc for b in site.of(Battery)}
        self._account = Account(site, plant, self._soc, case.step_s)
        self._ships = Ships(site, case.begin, case.end)

    def step(self, k: int, interval: Interval) -> None:
        """Observe, decide, command, and let the interval pass."""
        plant, dt_s = self._plant, self._case.step_s
        if k == self._case.lead_steps > 0:
            self._account = Account(self._site, plant, self._soc, dt_s)
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
        self._account.add(at, interval, flows, decision, fallback=self._policy in PLAN_POLICIES and decision.plan_id is None)
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
            # A site asks after its cycle: what has been drawn and begun in the interval that is over is counted by then.
            plan = self._plans.plan(image, self._deferrables.counted(image, self._memory))
        _, decision = self._controller.step(telemetry, (), plan, self._memory)
        return decision

    def finished(self, wall_s: float) -> Run:
        """Return the run."""
        account = self._account
        return Run(
            site=self._site,
            policy=self._policy,
            start=self._case.start,
            end=self._case.end,
            soc_start=account.soc_start,
            soc_end=account.soc,
            soc_lowest=account.lowest,
            sums=account.sums,
            run_h=account.run_h,
            starts=account.starts,
            commitment_changes=account.changes,
            fallback_steps=account.fallback,
            blackouts=account.blackouts,
            violations=account.violations.broken,
            columns=columns(self._site),
            rows=account.rows,
            wall_s=wall_s,
            months=account.months(),
            deferred=account.deferred,
        )
