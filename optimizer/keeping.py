"""Commitments that were promised: a small price on every hour that is other, and the plan that changes none of them.

What counts as promised, and which of the two plans is followed, is for `ems.plan_choice`; formulation.md, "Commitments of the plan before".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ems.errors import Failed
from ems.plan import Plan
from ems.plan_choice import changes, promised, restless
from optimizer.answer import plan_of
from optimizer.frame import Question
from optimizer.problem import PlanProblem
from optimizer.solver import Effort, Solved

Search = Callable[[PlanProblem, Question, Effort], Solved]
LEAST_S = 0.5
"""Less time than this is not worth another search [s]."""


def with_promise(question: Question) -> Question:
    """Return a question with what the plan before has promised in its steps."""
    if question.previous is None:
        return question
    return replace(question, promise=promised(question.previous, question.grid, question.at, question.start.diesels))


def keeping(problem: PlanProblem, question: Question, best: Plan, effort: Effort, search: Search) -> tuple[Plan | None, float]:
    """Return the best plan that keeps what was promised where `best` is more restless, and the solver's time for it [s].

    None where `best` is not, where no plan can, and where no time is left.
    """
    if not restless(question.promise, best, question.start.diesels) or (effort.time_limit_s is not None and effort.time_limit_s < LEAST_S):
        return None, 0.0
    kept = replace(question, keep=True)
    try:
        solved = search(problem, kept, effort)
    except Failed:
        return None, 0.0
    plan = plan_of(problem, kept, solved, best.id, best.valid_until)
    return (None if changes(question.promise, plan) else plan), solved.solve_s
