"""From a question to an answer: forecast, problem, solver, plan. Raises nothing but `MemoryError`."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ems.clock import cpu_s, real_s
from ems.config.site import Battery, Diesel, Site
from ems.errors import EmsError, Failed
from ems.plan import DieselStart, Forecast, Grid, Plan, PlanOutcome, PlanRequest, PlantStart, Storm
from ems.plan_form import start_faults
from ems.pushed import warning
from optimizer.answer import plan_of
from optimizer.forecasting import Forecasting
from optimizer.frame import Question
from optimizer.keeping import keeping, with_promise
from optimizer.leaning import leaning
from optimizer.neighbourhood import GRAVE, due_because, near, whole_because
from optimizer.problem import PlanProblem
from optimizer.search import drawable, drawn, left, remaining, search, sketchable
from optimizer.security import without_sun
from optimizer.solver import Effort, Solved, distance

GAP = 0.01
BELIEVED = 0.08
"""A sketch is the plan up to this distance from its relaxation, which may be loose (2 to 3 % with one diesel, up to 7 % with a price on hours and starts)
and knows one sky alone (docs/decisions/0025, 0031, 0032)."""
VALID = timedelta(hours=2)
"""A plan is believed this long: by then many newer ones should have come, and forecasts have moved on."""
NODE_LIMIT = 2000
"""In replay: far more than the search needs, so that only a pathological case is cut, and cut the same everywhere."""
LEAST_LEFT = 0.2
"""A first step is no shorter than this share of itself."""
Look = Callable[..., Solved]
"""`search`, or `drawn`."""
log = logging.getLogger(__name__)


def step_lengths(grid: Sequence[tuple[float, int]], shortest_s: float = 0.0) -> tuple[float, ...]:
    """Return the length of every step [s] of `[[minutes, steps], ...]`.

    Steps finer than `shortest_s` (a replay's step) are merged: what cannot be acted on need not be planned.
    """
    steps: list[float] = []
    for minutes, count in grid:
        length = minutes * 60.0
        if length >= shortest_s:
            steps += [length] * count
        else:
            steps += [shortest_s] * max(1, math.ceil(length * count / shortest_s - 1e-9))
    return tuple(steps)


def grid_at(at: datetime, step_s: tuple[float, ...]) -> Grid:
    """Return the grid of a plan that is asked for now: its steps end at multiples of the first one's length, and the first is what is left of it.

    What is measured is measured now, so what is over of a step is over. Less than `LEAST_LEFT` of it is added to the next.
    """
    first = step_s[0]
    left = first - at.timestamp() % first
    return Grid(at, (left if left >= LEAST_LEFT * first else left + first, *step_s[1:]))


class PlanMaker:
    """Makes plans for one site; the problem is compiled once.

    Parameters
    ----------
    site : Site
    forecasting : Forecasting
    node_limit : int | None
        Deterministic limit, for replay and tests.
    time_limit_s : float | None
        Wall-clock limit, only for the site's worker [s].
    step_s : float
        Shortest step that can be acted on [s]: a replay's step.
    now_s : Callable[[], float]
        The clock that the time limit is counted on [s].
    """

    def __init__(
        self,
        site: Site,
        forecasting: Forecasting,
        node_limit: int | None = None,
        time_limit_s: float | None = None,
        step_s: float = 0.0,
        now_s: Callable[[], float] = real_s,
    ) -> None:
        self._site = site
        self._forecasting = forecasting
        nodes = NODE_LIMIT if node_limit is None and time_limit_s is None else node_limit
        self._effort = Effort(GAP, nodes, time_limit_s, now_s, BELIEVED)
        self._steps = step_lengths(site.planner.grid, step_s)
        self._problem: PlanProblem | None = None

    def compile(self) -> None:
        """Build the problem now and solve it once, so that the first question is answered as fast as the others."""
        self._forecasting.warm()
        at = datetime(2026, 1, 1, tzinfo=UTC)
        grid = Grid(at, self._steps)
        blank = {s.id: (0.0,) * grid.n_steps for s in self._site.assets}
        load = (0.5 * self._site.peak_kw,) * grid.n_steps
        start = PlantStart({b.id: 0.5 for b in self._site.of(Battery)}, {d.id: DieselStart(False, 1e6) for d in self._site.of(Diesel)})
        question = Question(at, grid, start, Forecast(grid, load, blank, blank), {})
        with suppress(Failed):  # compiled it is, even if the answer to this made-up question did not come in time
            solve_question(self._built(), question, self._effort)

    def make(self, request: PlanRequest) -> PlanOutcome:
        """Return a plan, or the reason why there is none; only a lack of memory is raised."""
        began = cpu_s()
        forecast: Forecast | None = None
        try:
            grid = grid_at(request.at, self._steps)
            self._forecasting.learn(request.observations)
            self._forecasting.give(request.given)
            forecast = self._forecasting.forecast(grid, request.at, request.start, request.now)
            forecast = leaning(self._site, without_sun(forecast, storm_of(request)))  # in this order: what a storm takes is no sun to lean on
            check_inputs(self._site, request, forecast)
            question = with_promise(Question(request.at, grid, request.start, forecast, dict(request.limits), request.previous))
            problem, searched_s = self._built(), self._effort.now_s()
            plan, solved = plan_question(problem, question, self._effort, request.id)
            kept = keeping(problem, question, plan, remaining(self._effort, searched_s), kept_question)
        except EmsError as error:
            return PlanOutcome(request.id, "failed", str(error), None, forecast, 0.0, cpu_s() - began)
        except MemoryError:
            raise  # the process is not fit for another question: its owner ends it
        except Exception as error:  # noqa: BLE001 - a planner that dies takes the fallback with it; the cause is kept and logged
            log.exception("planner: unexpected error, request %s", request.id)
            return PlanOutcome(request.id, "failed", f"planner: {type(error).__name__}: {error}", None, forecast, 0.0, cpu_s() - began)
        solve_s = solved.solve_s + kept.solve_s
        return PlanOutcome(request.id, "ok", "", plan, forecast, solve_s, cpu_s() - began, solved.limit_hit, kept.plan, kept.hurried)

    def _built(self) -> PlanProblem:
        if self._problem is None:
            self._problem = PlanProblem(self._site, self._steps)
        return self._problem


def plan_question(problem: PlanProblem, question: Question, effort: Effort, plan_id: str) -> tuple[Plan, Solved]:
    """Search the whole, which begins with a sketch; where a sketch alone is enough, or none can be drawn, make a quicker plan first.

    Quicker: in a replay without ponds and deferrables as a sketch alone has it; where there are too many sets for a sketch near the plan that is
    followed, with its commitments free near their switchings. In a replay (no time limit) the whole is then searched only where that is due
    (`near_enough`), or where the quicker plan leaves one of the `GRAVE` wishes unmet. With a time limit it is searched every time, and the cheaper
    of both is taken.
    """
    began, valid_until = effort.now_s(), min(question.at + VALID, question.grid.end)
    problem.fill(question)
    first: tuple[Plan, Solved] | None = None
    if tried := near_enough(problem, question, effort):
        with suppress(Failed):  # the old commitments may not fit at all; then only the whole is left
            solved = near_filled(problem, question, effort)
            first = plan_of(problem, question, solved, plan_id, valid_until), solved
            if effort.time_limit_s is None and not any(u.limit in GRAVE for u in first[0].unmet):
                return first
    try:
        solved = solve_question(problem, question, left(effort, began)) if tried else solve_filled(problem, left(effort, began))
    except Failed:
        if first is None:
            raise
        return first[0], replace(first[1], limit_hit=True)
    spent = solved.solve_s + (first[1].solve_s if first is not None else 0.0)
    if first is not None and first[1].objective_l <= solved.objective_l:
        gap = distance(first[1].objective_l, solved.bound_l)
        return replace(first[0], gap=gap), replace(solved, objective_l=first[1].objective_l, gap=gap, solve_s=spent)
    return plan_of(problem, question, solved, plan_id, valid_until), replace(solved, solve_s=spent)


def by_sketch(problem: PlanProblem, effort: Effort) -> bool:
    """Return whether a sketch alone is taken for a plan between two searches of the whole: in a replay, which has no time to prove how good each is."""
    return effort.time_limit_s is None and effort.believed > 0.0 and drawable(problem)


def near_enough(problem: PlanProblem, question: Question, effort: Effort) -> bool:
    """Return whether to begin near; a sketch is of the whole, and is only now and then to be held against the relaxation."""
    if sketchable(problem):
        return by_sketch(problem, effort) and not due_because(question)
    return not whole_because(problem.site, problem.frame, question)


def near_filled(problem: PlanProblem, question: Question, effort: Effort) -> Solved:
    """Solve a filled problem as a sketch has it where that is enough, else near the plan that is followed; bounds nothing."""
    if by_sketch(problem, effort):
        return solve_filled(problem, effort, look=drawn)
    problem.narrow(question, near(problem.frame, question))
    return replace(solve_filled(problem, effort), bound_l=-math.inf, gap=None)  # what bounds the neighbourhood bounds nothing else


def kept_question(problem: PlanProblem, question: Question, effort: Effort) -> Solved:
    """Solve a question whose promises must be kept: by a sketch where that is enough for a plan, and by a search where it finds no way."""
    if by_sketch(problem, effort):
        with suppress(Failed):
            return solve_question(problem, question, effort, look=drawn)
    return solve_question(problem, question, effort)


def solve_question(problem: PlanProblem, question: Question, effort: Effort, *, once: bool = False, look: Look = search) -> Solved:
    """Fill and solve."""
    began = effort.now_s()
    problem.fill(question)
    return solve_filled(problem, left(effort, began), once=once, look=look)


def solve_filled(problem: PlanProblem, effort: Effort, *, once: bool = False, look: Look = search) -> Solved:
    """Solve what is filled, and perhaps narrowed; where a battery charges and discharges at once, solve again with the weaker direction shut.

    The bound is that of the first solve, which nothing has touched; none where only a sketch was drawn.
    """
    began = effort.now_s()
    first = solved = look(problem, effort, once=once)
    spent = first.solve_s
    for _ in range(2):
        if not problem.separate():
            break
        # Cut here there is no answer: energy burnt in two directions is no plan, and would be cheaper than one that was found before.
        solved = look(problem, left(effort, began), once=once)
        spent += solved.solve_s
    if solved is first:
        return first
    return Solved(solved.objective_l, first.bound_l, distance(solved.objective_l, first.bound_l), spent, first.limit_hit or solved.limit_hit)


def storm_of(request: PlanRequest) -> Storm | None:
    """Return the storm that a warning still speaks of; one that has passed, or whose warning has run out, is none."""
    return None if request.given is None else warning(request.given, request.at)


def check_inputs(site: Site, request: PlanRequest, forecast: Forecast) -> None:
    """Refuse what the problem cannot take: numbers that are not finite."""
    for fault in start_faults(site, request.start, request.limits):
        raise Failed(f"state: {fault}")
    columns = {"load": forecast.load_kw, **forecast.available_kw, **forecast.inflow_m3s}
    more = {"load peaks": forecast.load_peak_kw, "floor up": forecast.floor_up_kw, "floor down": forecast.floor_down_kw}
    columns |= {n: v for n, v in (more | {"errors up": forecast.error_up_kw, "errors down": forecast.error_down_kw}).items() if v}
    for name, values in columns.items():
        if len(values) != forecast.grid.n_steps or not all(math.isfinite(v) for v in values):
            raise Failed(f"forecast: {name} is incomplete or not finite")


class InlinePlanner:
    """Answers at once, in the caller's process: for replay and tests."""

    def __init__(self, maker: PlanMaker) -> None:
        self._maker = maker
        self._outcome: PlanOutcome | None = None

    def submit(self, request: PlanRequest) -> None:
        """Make the plan now."""
        self._outcome = self._maker.make(request)

    def take(self) -> PlanOutcome | None:
        """Return the answer once."""
        outcome, self._outcome = self._outcome, None
        return outcome

    def close(self) -> None:
        """Nothing works in the background."""
