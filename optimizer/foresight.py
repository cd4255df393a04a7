"""Perfect foresight: one optimisation over a whole known period, and what no policy can be below.

A short period is solved as it is. A long one has a linear relaxation that is nearly its optimum (see
formulation.md) but a search that finds no good plan by itself for a long time: so the relaxation gives
the bound, a sketch gives on and off, and the whole problem with these fixed gives the plan. Only if the two are too far
apart is it taken apart: into days that meet at a price, which bring both nearer; or, where more than what is stored goes from day to day, into
windows of a day and a half along the relaxation's path of stored energy and water, which bring another plan, and at last it is searched whole.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import numpy as np

from ems.clock import cpu_s
from ems.config.site import Inverter, Site
from ems.errors import EmsError
from ems.plan import DeferrableStart, DieselStart, Forecast, Plan, PlanOutcome, PlanRequest, PlantStart
from optimizer.answer import plan_of
from optimizer.assets.hydro import POND_SCALE
from optimizer.by_day import apart, by_day, cut
from optimizer.frame import Bounds, Question
from optimizer.planner import check_inputs, solve_question
from optimizer.problem import TINY_WEAR, PlanProblem
from optimizer.search import Answer, sketched
from optimizer.sketch import sketch
from optimizer.solver import Effort, Solved, distance, solve

GAP_SHORT, GAP_APART, GAP_LONG = 0.002, 0.003, 0.005
"""Of a short period; of a long one that comes apart into days; of one that does not."""
NODE_LIMIT = 20000
WHOLE_STEPS = 300
"""Up to this many steps the search is quick."""
WINDOW_S, KEPT_S = 1.5 * 86400.0, 86400.0
WINDOW_GAP = DAY_GAP = 0.4
"""Share of the wanted gap that a window, or a day, may leave; the joints take the rest."""
IN_VAIN = 2
"""After so many rounds over the days without a better bound there is no other."""


def foresight(site: Site, forecast: Forecast, start: PlantStart, gap: float | None = None) -> PlanOutcome:
    """Solve a whole period at once for SoC-corrected litres.

    `litres = fuel + starts + (E_start - E_end) * discharge efficiency * inverter efficiency * slope of the best set`

    Parameters
    ----------
    site : Site
    forecast : Forecast
        What will happen, on a uniform grid over the period.
    start : PlantStart
    gap : float | None
        Relative gap to prove; by default 0.2 % up to `WHOLE_STEPS`; beyond 0.3 % where days come apart (`by_day.py`), else 0.5 %.

    Returns
    -------
    PlanOutcome
        Its plan carries `bound_l`, the dual bound of those litres, and the gap that was proved.
    """
    began = cpu_s()
    period_s = sum(forecast.grid.step_s)
    short = forecast.grid.n_steps <= WHOLE_STEPS
    request = PlanRequest("foresight", forecast.grid.start, start)
    try:
        check_inputs(site, request, forecast)
        question = Question(forecast.grid.start, forecast.grid, start, forecast, {})
        problem = PlanProblem(site, forecast.grid.step_s, "bound")
        wanted = gap if gap is not None else GAP_SHORT if short else GAP_APART if apart(problem) else GAP_LONG
        solved = None if short else long_solve(site, problem, question, wanted)
        if solved is None or (not apart(problem) and (solved.gap is None or solved.gap > wanted)):
            spent = 0.0 if solved is None else solved.solve_s
            solved = solve_question(problem, question, Effort(wanted, NODE_LIMIT), once=True)
            solved = replace(solved, solve_s=solved.solve_s + spent)
        # The tiny price that keeps charge and discharge apart is no fuel: a policy could save at most this much of it.
        wear_l = TINY_WEAR * sum(i.rated_kw for i in site.of(Inverter)) * period_s / 3600.0
        bound_l = solved.bound_l - wear_l if math.isfinite(solved.bound_l) else None
        plan = plan_of(problem, question, solved, request.id, forecast.grid.end, bound_l)
    except EmsError as error:
        return PlanOutcome(request.id, "failed", str(error), None, forecast, 0.0, cpu_s() - began)
    limit_hit = solved.limit_hit or solved.gap is None or solved.gap > wanted
    return PlanOutcome(request.id, "ok", "", plan, forecast, solved.solve_s, cpu_s() - began, limit_hit)


def long_solve(site: Site, problem: PlanProblem, question: Question, gap: float) -> Solved | None:
    """Bound by the relaxation, on and off by a sketch, or else by days or windows, the rest by the whole problem with these fixed; None where that fails."""
    relaxed = PlanProblem(site, question.grid.step_s, "bound", relaxed=True)
    relaxed.fill(question)
    below, best = solve(relaxed.cp, Effort(gap), once=True, relaxed=True), None
    problem.fill(question)
    for variable, other in zip(problem.cp.variables(), relaxed.cp.variables(), strict=True):  # what the sketch looks at
        variable.save_value(other.value)
    drawn = sketch(problem) if sketched(problem) else None
    if drawn is not None:
        with suppress(EmsError):  # what a sketch leaves out may forbid it
            best = Answer.of(problem, fixed(problem, question, drawn, gap, below))
            if near(best, gap):
                return best.solved
    way = in_days if apart(problem) else in_windows
    found = way(relaxed, problem, question, gap, below, best)
    return None if found is None else found.restored()


def in_days(relaxed: PlanProblem, problem: PlanProblem, question: Question, gap: float, below: Solved, best: Answer | None) -> Answer | None:
    """Return the best answer, and the best bound, of rounds over the days (`by_day.py`): until they are near, or two rounds brought nothing."""
    in_vain = 0
    with suppress(EmsError):
        for found in by_day(relaxed, question, Effort(DAY_GAP * gap, NODE_LIMIT // 10)):
            in_vain = 0 if found.bound_l > below.bound_l else in_vain + 1
            below = replace(below, bound_l=max(below.bound_l, found.bound_l), solve_s=below.solve_s + found.solve_s)
            with suppress(EmsError):  # days that do not meet yet may have a night without enough
                other = Answer.of(problem, fixed(problem, question, found.on, gap, below))
                best, below = better(best, other), replace(below, solve_s=other.solved.solve_s)
            best = None if best is None else over(best, below)
            if in_vain == IN_VAIN or (best is not None and near(best, gap)):
                break
    return best


def in_windows(relaxed: PlanProblem, problem: PlanProblem, question: Question, gap: float, below: Solved, best: Answer | None) -> Answer | None:
    """Return the better of an answer and that with on and off of windows."""
    with suppress(EmsError):
        on, spent_s = windows(relaxed, question, Effort(WINDOW_GAP * gap, NODE_LIMIT // 10))
        loads = {x.load.id for x in problem.deferrables}  # a run may be left out where the whole sees it better
        flags = {a: np.array(v, dtype=float) for a, v in on.items()}
        bounds = {a: (np.zeros(len(v)) if a in loads else v, v) for a, v in flags.items()}
        best = better(best, Answer.of(problem, fixed(problem, question, bounds, gap, replace(below, solve_s=below.solve_s + spent_s))))
    return best


def near(answer: Answer, gap: float) -> bool:
    """Return whether what is proved of an answer is enough."""
    return answer.solved.gap is not None and answer.solved.gap <= gap


def over(answer: Answer, below: Solved) -> Answer:
    """Return an answer with what is known by now to be below it."""
    return replace(answer, solved=replace(answer.solved, bound_l=below.bound_l, gap=distance(answer.solved.objective_l, below.bound_l), solve_s=below.solve_s))


def better(one: Answer | None, other: Answer) -> Answer:
    """Return the cheaper of two."""
    return other if one is None or other.solved.objective_l < one.solved.objective_l else one


def fixed(problem: PlanProblem, question: Question, bounds: Bounds, gap: float, below: Solved) -> Solved:
    """Solve the whole with on and off narrowed to `bounds`; its bound is that of what is known to be `below` it, and its time counts that too.

    Raises
    ------
    Failed
        Where there is no answer with these.
    """
    problem.fill(question)
    problem.frame.narrow(bounds)
    above = solve(problem.cp, Effort(gap / 10.0, NODE_LIMIT), once=True)
    spent_s = below.solve_s + above.solve_s
    if problem.separate():
        above = solve(problem.cp, Effort(gap / 10.0, NODE_LIMIT), once=True)
        spent_s += above.solve_s
    return Solved(above.objective_l, below.bound_l, distance(above.objective_l, below.bound_l), spent_s, limit_hit=False)


def windows(relaxed: PlanProblem, question: Question, effort: Effort) -> tuple[dict[str, list[bool]], float]:
    """Return on and off of the whole period, window by window, and the time it took [s].

    Each window looks a day and a half ahead, ends with the relaxation's charge, and only its first day is kept.
    """
    step_s, total = question.grid.step_s[0], question.grid.n_steps
    length, kept = min(total, round(WINDOW_S / step_s)), max(1, round(KEPT_S / step_s))
    problem: PlanProblem | None = None
    on: dict[str, list[bool]] = {}
    spent, first, state = 0.0, 0, question.start
    while first < total:
        count = min(length, total - first)
        if problem is None or problem.frame.n != count:
            problem = PlanProblem(relaxed.site, (step_s,) * count, "window")
        part = cut(question, first, first + count, state)
        for inverter, whole in zip(problem.inverters, relaxed.inverters, strict=True):
            if inverter.store is not None and whole.store is not None and inverter.store.target is not None:
                inverter.store.target.value = max(0.0, float(whole.store.stored.value[first + count]))
        for hydro, river in zip(problem.hydros, relaxed.hydros, strict=True):
            if hydro.target is not None and river.pond is not None:
                hydro.target.value = max(0.0, float(river.pond.value[first + count]))
        solved = solve_question(problem, part, effort)
        spent += solved.solve_s
        plan = plan_of(problem, part, solved, "window", part.grid.end)
        use = count if first + count == total else kept
        for asset, flags in plan.on.items():
            on.setdefault(asset, []).extend(flags[:use])
        for hydro in problem.hydros:
            if hydro.pond is not None:
                on.setdefault(hydro.hydro.id, []).extend(bool(v) for v in hydro.on.value[:use] > 0.5)
        state = after(relaxed.site, problem, plan, part, state, use)
        first += use
    return on, spent


def after(site: Site, problem: PlanProblem, plan: Plan, part: Question, state: PlantStart, steps: int) -> PlantStart:
    """Return the plant's state after the first steps of a window."""
    step_s, at = part.grid.step_s[0], part.grid.start + timedelta(seconds=part.grid.step_s[0] * steps)
    diesels = {}
    for block in problem.diesels:
        name, before = block.diesel.id, state.diesels.get(block.diesel.id, DieselStart(False, 0.0, usable=False))
        flags = plan.on[name][:steps]
        same = next((k for k, flag in enumerate(reversed(flags)) if flag is not flags[-1]), None)
        since = before.since_s + step_s * steps if same is None and flags[-1] is before.on else step_s * (steps if same is None else same)
        diesels[name] = DieselStart(flags[-1], since, before.usable)
    today, midnight = at.astimezone(site.tz).date(), part.grid.starts()[:steps]
    done = {}
    for x in problem.deferrables:
        carried = state.done_kwh.get(x.load.id, 0.0) if part.grid.start.astimezone(site.tz).date() == today else 0.0
        drawn = [plan.power_kw[x.load.id][k] * step_s / 3600.0 for k, begin in enumerate(midnight) if begin.astimezone(site.tz).date() == today]
        done[x.load.id] = carried + sum(drawn)
    pond = {h.hydro.id: float(h.pond.value[steps]) / POND_SCALE for h in problem.hydros if h.pond is not None}
    tank = {t.tank.id: float(t.usable.value[steps]) * 1e3 + t.tank.unusable_l for t in problem.tanks}
    duties = {x.load.id: _duty(site, x.load.id, plan, part, state, steps) for x in problem.deferrables}
    return PlantStart({b: v[steps] for b, v in plan.soc.items()}, diesels, pond, tank, done, state.usable, duties)


def _duty(site: Site, load: str, plan: Plan, part: Question, state: PlantStart, steps: int) -> DeferrableStart:
    """Return whether a deferrable runs after the first steps of a window, since when, and how often it was begun on the local day that it is then."""
    duty, stamps = state.deferrables.get(load, DeferrableStart()), part.grid.starts()
    today = (stamps[0] + timedelta(seconds=part.grid.step_s[0] * steps)).astimezone(site.tz).date()
    if stamps[0].astimezone(site.tz).date() != today:
        duty = replace(duty, starts_today=0)
    for k in range(steps):
        if plan.on[load][k] is not duty.on:
            begun = plan.on[load][k] and stamps[k].astimezone(site.tz).date() == today
            duty = DeferrableStart(plan.on[load][k], 0.0, duty.starts_today + begun)
        duty = replace(duty, since_s=duty.since_s + part.grid.step_s[k])
    return duty
