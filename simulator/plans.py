"""Where a replay's plans come from: the site's own planner, asked inline, or one optimisation over the whole period."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ems.config.site import Site
from ems.memory import Memory
from ems.model import Image
from ems.plan import Grid, Observation, Plan, PlanOutcome, PlanRequest
from ems.plan_check import PlanCheck
from ems.plan_keeper import plant_start
from ems.ports import Planner
from simulator.closed_loop import Case, controlled

FORECASTS = ("perfect", "persistence", "seasonal")


@dataclass(slots=True)
class Solves:
    """How planning went: time of each plan [s], worst gap, and how often a limit of the solver ended the search."""

    total_s: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    limit_hits: int = 0
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

    def __init__(self, site: Site, planner: Planner, replan_s: float) -> None:
        self._site = site
        self._planner = planner
        self._replan_s = replan_s
        self._check = PlanCheck(site)
        self._asked_s: float | None = None
        self._plan: Plan | None = None
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
        plan = self._plan
        if plan is None:
            return None
        valid = max(plan.valid_until, plan.made_at + timedelta(seconds=self._replan_s))
        return plan if image.time < min(valid, plan.grid.end) else None

    def _ask(self, image: Image, memory: Memory) -> None:
        start = plant_start(self._site, image, memory)
        request = PlanRequest(f"{image.time:%Y%m%dT%H%M%SZ}", image.time, start, dict(memory.limits), tuple(self._observed))
        self._observed = []
        self._planner.submit(request)
        outcome = self._planner.take()
        if outcome is None:
            return
        self.solves.add(outcome)
        if outcome.plan is None or outcome.forecast is None:
            self.solves.refused.append(f"{image.time:%Y-%m-%dT%H:%M:%SZ}: {outcome.cause}")
            return
        faults = self._check.faults(outcome.plan, start, outcome.forecast, request.limits)
        if faults:
            self.solves.refused.append(f"{image.time:%Y-%m-%dT%H:%M:%SZ}: {'; '.join(faults[:3])}")
        else:
            self._plan = outcome.plan


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


def plans_for(case: Case, policy: str, forecast: str) -> RollingPlans | WholePlan | None:
    """Return where a policy's plans come from; None for the rules.

    Parameters
    ----------
    forecast : str
        One of `FORECASTS`, for `mpc`.
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
    forecasting.learn(past(case, case.start))
    return RollingPlans(site, InlinePlanner(PlanMaker(site, forecasting, step_s=case.step_s)), max(case.step_s, case.replan_s))


def past(case: Case, until: datetime) -> tuple[Observation, ...]:
    """Return what the series holds from before the replay's start, for forecasts that learn."""
    table = case.table
    count = int((until - table.start).total_seconds() // table.step_s)
    intervals = table.intervals(table.start, table.step_s, count) if count > 0 else []
    return tuple(
        Observation(table.start + k * (table.end - table.start) / table.n_rows, table.step_s, sum(i.load_kw.values()), i.available_kw, i.inflow_m3s)
        for k, i in enumerate(intervals)
    )
