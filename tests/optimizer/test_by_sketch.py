"""Plans of a sketch alone, between two searches of the whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache

import numpy as np
import pytest

from ems.errors import Failed
from ems.plan import DieselStart, Plan
from optimizer.frame import Question
from optimizer.planner import near_enough, plan_question, solve_question
from optimizer.problem import PlanProblem
from optimizer.search import drawable
from optimizer.solver import Effort
from tests.optimizer.cases import BESS1, DG1, DG2, INV1, LOAD, PV1, question, site, start
from tests.optimizer.test_search import EFFORT, MIDNIGHT, STEPS, problem

REPLAYED = Effort(0.01, 2000, believed=0.04)


@cache
def dry() -> tuple[PlanProblem, Question, Plan]:
    """Diesels, sun and battery alone: a plan that is followed, and the question an hour later."""
    of = site(LOAD, PV1, DG1, DG2, INV1, BESS1)
    built, begins = PlanProblem(of, STEPS), np.concatenate([[0.0], np.cumsum(STEPS)[:-1]]) / 3600.0
    sun = [150.0 * max(0.0, 1.0 - abs((h + 6) % 24 - 12) / 6.0) for h in begins]
    load = [90.0 + 70.0 * (12 <= h < 16) + (int(h) % 5) for h in begins]
    first = question(of, STEPS, load, start(of, on=["dg1"]), sun=sun, at=MIDNIGHT + timedelta(hours=6))
    plan, _ = plan_question(built, first, REPLAYED, "first")
    begin = replace(start(of, soc=plan.soc["bess1"][4]), diesels={d: DieselStart(plan.on[d][3], 1e5) for d in ("dg1", "dg2")})
    later = replace(question(of, STEPS, load, begin, sun=sun, at=MIDNIGHT + timedelta(hours=7)), previous=plan)
    return built, later, plan


def test_between_two_searches_of_the_whole_a_replay_takes_the_sketch_alone() -> None:
    built, later, first = dry()
    assert first.gap is not None
    plan, solved = plan_question(built, later, REPLAYED, "later")
    whole = solve_question(built, later, Effort(1e-6, 20_000))
    assert (solved.gap, plan.gap) == (None, None)  # it proves nothing
    assert whole.objective_l - 1e-3 <= solved.objective_l <= whole.objective_l + 0.01 * max(abs(whole.objective_l), 50.0)
    assert near_enough(built, later, REPLAYED)
    assert not near_enough(built, replace(later, previous=None), REPLAYED)
    assert not near_enough(built, later, EFFORT)  # at the site the whole is searched each time


def test_a_sketch_alone_leaves_nobody_in_the_dark() -> None:
    """With both diesels away load goes unserved whatever is planned: that is for the search of the whole to say."""
    built, later, _ = dry()
    away = {d: DieselStart(False, 1e6, usable=False) for d in ("dg1", "dg2")}
    alone = replace(later, start=replace(later.start, diesels=away))
    with pytest.raises(Failed, match="unmet"):
        solve_question(built, alone, REPLAYED, drawn_only=True)
    plan, solved = plan_question(built, alone, REPLAYED, "alone")
    assert any(u.limit == "unserved" for u in plan.unmet)
    assert solved.gap is not None


def test_where_a_river_turns_a_sketch_alone_is_no_plan() -> None:
    assert not drawable(problem())
    assert drawable(dry()[0])
