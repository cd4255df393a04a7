"""Perfect foresight: one optimisation over a whole known period, and what no policy can be below."""

from __future__ import annotations

import math

from ems.clock import cpu_s
from ems.config.site import Inverter, Site
from ems.errors import EmsError
from ems.plan import Forecast, PlanOutcome, PlanRequest, PlantStart
from optimizer.answer import plan_of
from optimizer.frame import Question
from optimizer.planner import check_inputs, solve_question
from optimizer.problem import TINY_WEAR, PlanProblem
from optimizer.solver import Effort

WEEK_S = 7 * 86400.0
GAP_WEEK, GAP_LONG = 0.002, 0.005
NODE_LIMIT = 20000


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
        Relative gap to prove; by default 0.2 % up to a week, 0.5 % beyond.

    Returns
    -------
    PlanOutcome
        Its plan carries `bound_l`, the dual bound of those litres, and the gap that was proved.
    """
    began = cpu_s()
    period_s = sum(forecast.grid.step_s)
    wanted = gap if gap is not None else GAP_WEEK if period_s <= WEEK_S else GAP_LONG
    request = PlanRequest("foresight", forecast.grid.start, start)
    try:
        check_inputs(site, request, forecast)
        problem = PlanProblem(site, forecast.grid.step_s, bound=True)
        question = Question(forecast.grid.start, forecast.grid, start, forecast, {})
        solved = solve_question(problem, question, Effort(wanted, NODE_LIMIT), once=True)
        # The tiny price that keeps charge and discharge apart is no fuel: a policy could save at most this much of it.
        wear_l = TINY_WEAR * sum(i.rated_kw for i in site.of(Inverter)) * period_s / 3600.0
        bound_l = solved.bound_l - wear_l if math.isfinite(solved.bound_l) else None
        plan = plan_of(problem, question, solved, request.id, forecast.grid.end, bound_l)
    except EmsError as error:
        return PlanOutcome(request.id, "failed", str(error), None, forecast, 0.0, cpu_s() - began)
    return PlanOutcome(request.id, "ok", "", plan, forecast, solved.solve_s, cpu_s() - began, solved.limit_hit)
