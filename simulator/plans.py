"""Where a replay's plans come from: the site's own planner, asked inline, or one optimisation over the whole period."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ems.config.site import Hydro, Load, Site, Solar
from ems.memory import Memory
from ems.model import Image
from ems.observing import load_kw
from ems.plan import Given, Grid, Observation, Plan, PlanOutcome, PlanRequest
from ems.plan_check import PlanCheck
from ems.plan_start import plant_start
from ems.plan_verdict import judged
from ems.ports import Planner
from ems.rules import whole
from ems.series import SeriesTable
from simulator.closed_loop import Case, controlled

FORECASTS = ("perfect", "persistence", "seasonal", "clearsky", "blend", "file")
LEARN_DAYS = 70
"""Of what lies before a replay's start so many days are learned from: more than anything remembers."""


@dataclass(slots=True)
class Solves:
    """How planning went: time of each plan [s], worst gap, how often a limit of the solver ended the search, and how often a promise was kept."""

    total_s: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    limit_hits: int = 0
    kept: int = 0
    refused: list[str] = field(default_factory=list)
    bound_l: float | None = None

    def add(self, outcome: PlanOutcome) -> None:
        """Count one answer."""
        self.total_s.append(outcome.total_s)
        self.limit_hits += outcome.limit_hit
        if outcome.plan is not None and outcome.plan.gap is not None:
            self.gaps.append(outcome.plan.gap)


class RollingPlans:
    """Asks a planner every `replan_s` and believes what passes the check, as the site's plan keeper does.

    In a replay the answer is there within the interval in which it was asked for, and is valid at least
    until the next question, however rarely that is asked.
    """

    def __init__(self, site: Site, planner: Planner, replan_s: float, given: Given | None = None) -> None:
        self._site = site
        self._given = given
        self._planner = planner
        self._replan_s = replan_s
        self._check = PlanCheck(site)
        self._asked_s: float | None = None
        self._plan: Plan | None = None
        self._held: object = None
        self._observed: list[Observation] = []
        self.solves = Solves()

    def observe(self, observation: Observation) -> None:
        """Keep an interval for the forecasts to learn from with the next question."""
        self._observed.append(observation)

    def plan(self, image: Image, memory: Memory) -> Plan | None:
        """Return the plan to follow now, a new one if it is time."""
        if self._asked_s is None or image.now_s - self._asked_s >= self._replan_s - 1e-6:
            self._asked_s = image.now_s
            self._ask(image, memory)
        return self._plan if image.time < self._until(image.time) else None

    def _until(self, at: datetime) -> datetime:
        """Return until when the last plan may be followed; where there is none, now."""
        plan = self._plan
        return at if plan is None else min(max(plan.valid_until, plan.made_at + timedelta(seconds=self._replan_s)), plan.grid.end)

    def _now(self, image: Image) -> Observation | None:
        """Return what is measured at the begin of this interval: the controller decides for it by the same values."""
        load = load_kw(self._site.of(Load), image)
        sun = {s.id: v for s in self._site.of(Solar) if (v := image.assets[s.id].get("available_kw")) is not None}
        water = {h.id: v for h in self._site.of(Hydro) if (v := image.assets[h.id].get("flow_m3s")) is not None}
        return Observation(image.time, image.dt_s, load, sun, water) if load is not None else None

    def _ask(self, image: Image, memory: Memory) -> None:
        start = plant_start(self._site, image, memory)
        # What a site is told by events of trips, lock-outs, limits and modes is seen here in the state itself: then nothing is promised.
        held = (frozenset(d for d, s in start.diesels.items() if s.usable), start.usable, dict(memory.limits), memory.mode)
        previous = self._plan if held == self._held and image.time <= self._until(image.time) else None  # followed until now
        request = PlanRequest(
            f"{image.time:%Y%m%dT%H%M%SZ}", image.time, start, dict(memory.limits), tuple(self._observed), self._given, previous, self._now(image)
        )
        self._observed = []
        self._planner.submit(request)
        outcome = self._planner.take()
        if outcome is None:
            return
        self.solves.add(outcome)
        if outcome.plan is None or outcome.forecast is None:
            self.solves.refused.append(f"{image.time:%Y-%m-%dT%H:%M:%SZ}: {outcome.cause}")
            return
        verdict = whole(judged(self._check, request, outcome, image.time))
        if verdict.plan is None:
            self.solves.refused.append(f"{image.time:%Y-%m-%dT%H:%M:%SZ}: {'; '.join(verdict.faults[:3])}")
            return
        self._plan, self._held = verdict.plan, held
        self.solves.kept += verdict.choice is not None and verdict.choice.kept


class WholePlan:
    """One plan over the whole period with the future known, made from the plant's true state at the start."""

    def __init__(self, site: Site, case: Case) -> None:
        self._site, self._case = site, case
        self._plan: Plan | None = None
        self.solves = Solves()

    def observe(self, observation: Observation) -> None:
        """Nothing is left to learn."""

    def plan(self, image: Image, memory: Memory) -> Plan | None:
        """Return the plan, solved at the first call."""
        if not self.solves.total_s:
            from optimizer.foresight import foresight

            case = self._case
            forecast = case.table.forecast(Grid(case.start, (case.step_s,) * case.steps))
            outcome = foresight(self._site, forecast, plant_start(self._site, image, memory))
            self.solves.add(outcome)
            self._plan = outcome.plan
            if self._plan is None:
                self.solves.refused.append(outcome.cause)
            else:
                self.solves.bound_l = self._plan.bound_l
        return self._plan


def plans_for(case: Case, policy: str, forecast: str, given: SeriesTable | None = None) -> RollingPlans | WholePlan | None:
    """Return where a policy's plans come from; None for the rules. Forecasts begin with what the series holds before the start.

    Parameters
    ----------
    forecast : str
        One of `FORECASTS`, for `mpc`.
    given : SeriesTable | None
        The forecast of `file`.
    """
    if policy not in ("mpc", "perfect-foresight"):
        return None
    site = controlled(case.site, policy, case.replan_s)
    if policy == "perfect-foresight":
        return WholePlan(site, case)
    from optimizer.forecasting import Forecasting
    from optimizer.planner import InlinePlanner, PlanMaker

    truth = case.table.forecast if forecast == "perfect" else None
    forecasting = Forecasting(site, forecast, truth)
    forecasting.learn(past(case, case.begin))
    planner = InlinePlanner(PlanMaker(site, forecasting, step_s=case.step_s))
    return RollingPlans(site, planner, max(case.step_s, case.replan_s), None if given is None else given_by(given))


def given_by(table: SeriesTable) -> Given:
    """Return a series as a forecast from outside; it says nothing beyond its span and is never stale."""
    intervals = table.intervals(table.start, table.step_s, table.n_rows)
    first = intervals[0]
    return Given(
        table.start,
        table.step_s,
        tuple(sum(i.load_kw.values()) for i in intervals),
        {a: tuple(i.available_kw[a] for i in intervals) for a in first.available_kw},
        {a: tuple(i.inflow_m3s[a] for i in intervals) for a in first.inflow_m3s},
    )


def past(case: Case, until: datetime) -> tuple[Observation, ...]:
    """Return what the series holds of the weeks before the replay's start, for forecasts that learn."""
    table = case.table
    count = int((until - table.start).total_seconds() // table.step_s)
    skipped = max(0, count - int(LEARN_DAYS * 86400.0 // table.step_s))
    begin = table.start + timedelta(seconds=skipped * table.step_s)
    intervals = table.intervals(begin, table.step_s, count - skipped) if count > 0 else []
    return tuple(
        Observation(begin + timedelta(seconds=k * table.step_s), table.step_s, sum(i.load_kw.values()), i.available_kw, i.inflow_m3s)
        for k, i in enumerate(intervals)
    )
