"""Perfect foresight: one optimisation over a whole known period, and what no policy can be below.

A short period is solved as it is. A long one has a linear relaxation that is nearly its optimum (see
formulation.md) but a search that finds no good plan by itself for a long time: so the relaxation gives
the bound, a sketch gives on and off, and the whole problem with these fixed gives the plan. Only if the two are too far
apart do windows of a day and a half along the relaxation's path of stored energy give on and off instead, and at last it is searched whole.
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
from ems.plan import DieselStart, Forecast, Grid, Plan, PlanOutcome, PlanRequest, PlantStart
from optimizer.answer import plan_of
from optimizer.assets.hydro import POND_SCALE
from optimizer.frame import Bounds, Question
from optimizer.planner import check_inputs, solve_question
from optimizer.problem import TINY_WEAR, PlanProblem
from optimizer.search import Answer, sketched
from optimizer.sketch import sketch
from optimizer.solver import Effort, Solved, distance, solve

GAP_SHORT, GAP_LONG = 0.002, 0.005
NODE_LIMIT = 20000
WHOLE_STEPS = 300
"""Up to this many steps the search is quick."""
WINDOW_S, KEPT_S = 1.5 * 86400.0, 86400.0
WINDOW_GAP = 0.4
"""Share of the wanted gap that a window may leave; the joints take the rest."""


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
        Relative gap to prove; by default 0.2 % up to `WHOLE_STEPS`, 0.5 % beyond.

    Returns
    -------
    PlanOutcome
        Its plan carries `bound_l`, the dual bound of those litres, and the gap that was proved.
    """
    began = cpu_s()
    period_s = sum(forecast.grid.step_s)
    short = forecast.grid.n_steps <= WHOLE_STEPS
    wanted = gap if gap is not None else GAP_SHORT if short else GAP_LONG
    request = PlanRequest("foresight", forecast.grid.start, start)
    try:
        check_inputs(site, request, forecast)
        question = Question(forecast.grid.start, forecast.grid, start, forecast, {})
        problem = PlanProblem(site, forecast.grid.step_s, "bound")
        solved = None if short else long_solve(site, problem, question, wanted)
        if solved is None or solved.gap is None or solved.gap > wanted:
            spent = 0.0 if solved is None else solved.solve_s
            solved = solve_question(problem, question, Effort(wanted, NODE_LIMIT), once=True)
            solved = replace(solved, solve_s=solved.solve_s + spent)
        # The tiny price that keeps charge and discharge apart is no fuel: a policy could save at most this much of it.
        wear_l = TINY_WEAR * sum(i.rated_kw for i in site.of(Inverter)) * period_s / 3600.0
        bound_l = solved.bound_l - wear_l if math.isfinite(solved.bound_l) else None
        plan = plan_of(problem, question, solved, request.id, forecast.grid.end, bound_l)
    except EmsError as error:
        return PlanOutcome(request.id, "failed", str(error), None, forecast, 0.0, cpu_s() - began)
    return PlanOutcome(request.id, "ok", "", plan, forecast, solved.solve_s, cpu_s() - began, solved.limit_hit)


def long_solve(site: Site, problem: PlanProblem, question: Question, gap: float) -> Solved | None:
    """Bound by the relaxation, on and off by a sketch or else by windows, the rest by the whole problem with these fixed; None where that fails."""
    below = relaxation(problem, question, gap)
    drawn, first = sketch(problem) if sketched(problem) else None, None
    if drawn is not None:
        with suppress(EmsError):  # what a sketch leaves out may forbid it; then there are the windows
            first = Answer.of(problem, fixed(problem, drawn, gap, below, below.solve_s))
            if first.solved.gap is not None and first.solved.gap <= gap:
                return first.solved
        below = relaxation(problem, question, gap)  # `fixed` has narrowed it
    try:
        on, spent = windows(site, problem, question, Effort(WINDOW_GAP * gap, NODE_LIMIT // 10))
        loads = {x.load.id for x in problem.deferrables}  # a run may be left out where the whole sees it better
        flags = {a: np.array(v, dtype=float) for a, v in on.items()}
        found = fixed(problem, {a: (np.zeros(len(v)) if a in loads else v, v) for a, v in flags.items()}, gap, below, below.solve_s + spent)
    except EmsError:
        return None if first is None else first.restored()
    return found if first is None or found.objective_l <= first.solved.objective_l else first.restored()


def relaxation(problem: PlanProblem, question: Question, gap: float) -> Solved:
    """Fill the problem and solve its relaxation, which is left in its variables."""
    problem.fill(question)
    return solve(problem.cp, Effort(gap), once=True, relaxed=True)


def fixed(problem: PlanProblem, bounds: Bounds, gap: float, below: Solved, spent_s: float) -> Solved:
    """Solve the whole with on and off narrowed to `bounds`; the gap is that to its relaxation `below`.

    Raises
    ------
    Failed
        Where there is no answer with these.
    """
    problem.frame.narrow(bounds)
    above = solve(problem.cp, Effort(gap / 10.0, NODE_LIMIT), once=True)
    spent_s += above.solve_s
    if problem.separate():
        above = solve(problem.cp, Effort(gap / 10.0, NODE_LIMIT), once=True)
        spent_s += above.solve_s
    return Solved(above.objective_l, below.objective_l, distance(above.objective_l, below.objective_l), spent_s, limit_hit=False)


def windows(site: Site, relaxed: PlanProblem, question: Question, effort: Effort) -> tuple[dict[str, list[bool]], float]:
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
            problem = PlanProblem(site, (step_s,) * count, "window")
        part = cut(question, first, count, state)
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
        state = after(site, problem, plan, part, state, use)
        first += use
    return on, spent


def cut(question: Question, first: int, count: int, state: PlantStart) -> Question:
    """Return the question of one window."""
    grid = Grid(question.grid.start + timedelta(seconds=question.grid.step_s[0] * first), (question.grid.step_s[0],) * count)
    f, span = question.forecast, slice(first, first + count)
    forecast = Forecast(
        grid,
        f.load_kw[span],
        {a: v[span] for a, v in f.available_kw.items()},
        {a: v[span] for a, v in f.inflow_m3s.items()},
        f.source,
        f.load_peak_kw[span],
    )
    return Question(grid.start, grid, state, forecast, question.limits)


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
    return PlantStart({b: v[steps] for b, v in plan.soc.items()}, diesels, pond, tank, done, state.usable)
