"""A planner in virtual time: it answers a roll-out of the rules after a fixed delay, with faults in its answers.

A solver at its time limit depends on the machine; a roll-out does not, so that a seed gives the same run everywhere. What
the real planner process does when it hangs or dies is tried with the real process; here it is what reaches the keeper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ems.config.site import Deferrable, Diesel, Site
from ems.plan import Forecast, Grid, Plan, PlanOutcome, PlanRequest
from ems.plan_case import case_of
from ems.plan_unmet import deferred
from ems.rules import Rules
from simulator.faults.live import Live
from simulator.scenario import Scenario

ANSWER_S = 4.0
"""An undisturbed answer takes this long [s of the site]."""
SLOW = 30.0
"""A slow planner takes so many times as long at severity 1."""
STEP_S, STEPS = 1800.0, 4
"""Shortest step and number of steps of the roll-out. A roll-out knows no minimum up and down times: its steps are as long as these."""


class RollOutPlanner:
    """Answers every question with what the site's rules would do, under the forecast that a scenario gives."""

    def __init__(self, site: Site, scenario: Scenario) -> None:
        self._site = site
        self._rules = Rules(site)
        self._scenario = scenario
        self._step_s = max([STEP_S, *(max(d.min_up_s, d.min_down_s) for d in site.of(Diesel))])
        self._asked: PlanRequest | None = None
        self._asked_s = 0.0
        self._now_s = 0.0
        self._true_time: datetime | None = None
        self._lives: Sequence[Live] = ()

    def at(self, now_s: float, time: datetime, lives: Sequence[Live]) -> None:
        """Set the time that has come, the true time of day behind it, and the solver faults in force."""
        self._now_s, self._true_time, self._lives = now_s, time, lives

    def submit(self, request: PlanRequest) -> None:
        """Take a question; it replaces one that is not answered."""
        self._asked, self._asked_s = request, self._now_s

    def take(self) -> PlanOutcome | None:
        """Return the answer when its time has come."""
        request = self._asked
        if request is None:
            return None
        delay_s = ANSWER_S
        for live in self._lives:
            if live.kind == "hang":
                live.touched += 1
                return None
            if live.kind == "slow":
                live.touched += 1
                delay_s *= 1.0 + SLOW * live.severity
        if self._now_s - self._asked_s < delay_s:
            return None
        self._asked = None
        outcome = self._answer(request)
        for live in self._lives:
            if live.kind in SPOILED:
                spoiled = SPOILED[live.kind](self._site, outcome)
                live.touched += spoiled != outcome
                outcome = spoiled
        return outcome

    def close(self) -> None:
        """Nothing works in the background."""

    def _answer(self, request: PlanRequest) -> PlanOutcome:
        """Return the roll-out; a battery whose charge is unknown has no part in it, as in a solver's plan."""
        grid = Grid(request.at, (self._step_s,) * STEPS)
        shift = (self._true_time or request.at) - request.at  # the forecast is of the weather, not of a wrong clock
        parts = [self._scenario(at + shift, self._step_s) for at in grid.starts()]
        forecast = Forecast(
            grid,
            tuple(sum(p.load_kw.values()) for p in parts),
            {a: tuple(p.available_kw[a] for p in parts) for a in parts[0].available_kw},
            {a: tuple(p.inflow_m3s[a] for p in parts) for a in parts[0].inflow_m3s},
        )
        plan = self._rules.rollout(request.start, forecast, self._site.rules.policy, request.id, request.at, request.limits)
        idle = {d.id: (0.0,) * STEPS for d in self._site.of(Deferrable)}
        plan = replace(plan, power_kw={**plan.power_kw, **idle}, on={**plan.on, **dict.fromkeys(idle, (False,) * STEPS)}, deferrables=tuple(idle))
        case = case_of(self._site, plan, request.start, forecast, request.limits)
        return PlanOutcome(request.id, "ok", "", replace(plan, unmet=tuple(deferred(case))), forecast)


Spoil = Callable[[Site, PlanOutcome], PlanOutcome]


def _plan(change: Callable[[Site, Plan], Plan]) -> Spoil:
    """Return what spoils the plan alone; an answer without one stays as it is."""
    return lambda site, outcome: outcome if outcome.plan is None else replace(outcome, plan=change(site, outcome.plan))


def _failed(cause: str) -> Spoil:
    return lambda site, outcome: PlanOutcome(outcome.request_id, "failed", cause, None, None)


def _zeros(site: Site, plan: Plan) -> Plan:
    off = {a: (False,) * plan.grid.n_steps for a in plan.on}
    return replace(plan, power_kw={a: (0.0,) * plan.grid.n_steps for a in plan.power_kw}, on=off, soc={b: (0.0,) * (plan.grid.n_steps + 1) for b in plan.soc})


def _not_finite(site: Site, plan: Plan) -> Plan:
    return replace(plan, power_kw={a: (math.nan, *values[1:]) for a, values in plan.power_kw.items()})


def _cost_blind(site: Site, plan: Plan) -> Plan:
    """Run every diesel all the time, sharing what the plan's diesels gave: feasible or not, it burns more than it needs to."""
    sets, n = site.of(Diesel), plan.grid.n_steps
    total = [sum(plan.power_kw[d.id][k] for d in sets) for k in range(n)]
    rated = sum(d.rated_kw for d in sets)
    power = {d.id: tuple(t * d.rated_kw / rated for t in total) for d in sets}
    return replace(plan, power_kw={**plan.power_kw, **power}, on={**plan.on, **{d.id: (True,) * n for d in sets}})


def _beyond(site: Site, plan: Plan) -> Plan:
    return replace(plan, power_kw={a: tuple(3.0 * v + 2000.0 for v in values) for a, values in plan.power_kw.items()})


def _yesterday(site: Site, outcome: PlanOutcome) -> PlanOutcome:
    plan, forecast = outcome.plan, outcome.forecast
    if plan is None or forecast is None:
        return replace(outcome, request_id="another")
    old = Grid(plan.grid.start - timedelta(days=1), plan.grid.step_s)
    return replace(outcome, request_id="another", plan=replace(plan, grid=old), forecast=replace(forecast, grid=old))


SPOILED: Mapping[str, Spoil] = {
    "crash": _failed("the planner ended with signal 11"),
    "infeasible": _failed("infeasible"),
    "zeros": _plan(_zeros),
    "not_finite": _plan(_not_finite),
    "cost_blind": _plan(_cost_blind),
    "beyond_limits": _plan(_beyond),
    "wrong_question": _yesterday,
}
