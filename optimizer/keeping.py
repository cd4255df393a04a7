"""Commitments that were promised: a small price on every hour that is other, and the plan that changes none of them.

What counts as promised, and which of the two plans is followed, is for `ems.plan_choice`; formulation.md, "Commitments of the plan before".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from ems.config.site import Diesel
from ems.errors import Failed
from ems.plan import Plan
from ems.plan_choice import NEAR_S, changes, needed_l, promised, restless
from ems.plan_stores import planned_l
from optimizer.answer import plan_of
from optimizer.frame import Question
from optimizer.problem import PlanProblem
from optimizer.search import remaining
from optimizer.solver import Effort, Solved

Search = Callable[[PlanProblem, Question, Effort], Solved]
LEAST_S = 0.5
"""Less time than this is not worth another search [s]."""


def with_promise(question: Question) -> Question:
    """Return a question with what the plan before has promised in its steps."""
    if question.previous is None:
        return question
    return replace(question, promise=promised(question.previous, question.grid, question.at, question.start.diesels))


@dataclass(frozen=True, slots=True)
class Kept:
    """The best plan that keeps what was promised, where there is one to look for.

    Attributes
    ----------
    plan : Plan | None
        None where the best plan of all is not restless, where no plan can keep it or only one too dear to be followed, and where time was too short
        to know.
    solve_s : float
        The solver's time for it [s].
    hurried : bool
        Whether time was too short: then nothing is known of it.
    """

    plan: Plan | None = None
    solve_s: float = 0.0
    hurried: bool = False


def keeping(problem: PlanProblem, question: Question, best: Plan, effort: Effort, search: Search) -> Kept:
    """Look for the best plan that keeps what was promised where `best` is more restless."""
    if not restless(question.promise, best, question.start.diesels):
        return Kept()
    if effort.time_limit_s is not None and effort.time_limit_s < LEAST_S:
        return Kept(hurried=True)
    asked, began = replace(question, keep=True), effort.now_s()
    dearest_l = math.inf
    if best.objective_l is not None:  # a plan that is dearer is not followed, so it need not be found
        dearest_l = best.objective_l + needed_l(planned_l(best, question.start, problem.site.of(Diesel), NEAR_S))
    try:
        solved = search(problem, asked, replace(effort, dearest_l=dearest_l))
    except Failed:
        rest_s = remaining(effort, began).time_limit_s
        return Kept(hurried=rest_s is not None and rest_s < LEAST_S)
    plan = plan_of(problem, asked, solved, best.id, best.valid_until)
    return Kept(None if changes(question.promise, plan) else plan, solved.solve_s)
