"""What the plan before has promised: its price by hand, and the plan that keeps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ems.config.site import Site
from ems.model import Limits
from ems.plan import DieselStart, Plan, PlantStart
from ems.plan_check import PlanCheck
from ems.plan_choice import changes, choose
from optimizer.answer import plan_of
from optimizer.frame import Question
from optimizer.keeping import Kept, keeping, with_promise
from optimizer.planner import solve_question
from optimizer.problem import PlanProblem
from optimizer.solver import Effort
from tests.optimizer.cases import DG1, DG2, LOAD, NOON, planned, question, site

STEPS = (900.0,) * 8 + (3600.0,) * 3
"""Five hours, two of them promised."""
EFFORT = Effort(1e-6, 10000)
N = len(STEPS)
RUNNING = PlantStart({}, {"dg1": DieselStart(True, 1e6), "dg2": DieselStart(False, 1e6)})


def isle(slope: float) -> Site:
    """Two sets and 80 kW: dg1 burns 24 L/h for it, dg2 2 L/h and its slope."""
    return site(LOAD, DG1, {**DG2, "fuel": {"no_load_l_per_h": 2.0, "slope_l_per_kwh": slope}})


def before(of: Site, dg1: bool = True) -> Plan:
    """Return a plan in which the same set runs all the time."""
    alone = {"dg2" if dg1 else "dg1": Limits(out_of_service=True)}
    return planned(of, STEPS, 80.0, RUNNING, limits=alone)


def solved(of: Site, asked: Question) -> tuple[Plan, Plan | None]:
    problem, asked = PlanProblem(of, STEPS), with_promise(asked)
    best = plan_of(problem, asked, solve_question(problem, asked, EFFORT), "new", NOON + timedelta(hours=2))
    return best, keeping(problem, asked, best, EFFORT, solve_question).plan


def test_a_change_that_saves_less_than_its_price_waits_until_nothing_is_promised() -> None:
    """dg2 saves 1.2 L/h: 6 L in five hours less its start; two promised hours of two sets are 4 L."""
    of = isle(0.26)
    free = planned(of, STEPS, 80.0, RUNNING)
    assert free.on["dg2"] == (True,) * N
    assert free.objective_l == pytest.approx(5 * 22.8 + 1.0, abs=0.1)
    best, kept = solved(of, replace(question(of, STEPS, 80.0, RUNNING), previous=before(of)))
    assert best.on["dg2"] == (False,) * 8 + (True,) * 3
    assert best.objective_l == pytest.approx(2 * 24.0 + 3 * 22.8 + 1.0, abs=0.1)
    assert kept is None


def test_a_change_worth_its_price_comes_with_the_plan_that_does_without_it() -> None:
    """dg2 saves 2.8 L/h: at once that is 14 L less a start and the 4 L of the promise, after two hours 8.4 L less a start."""
    of = isle(0.24)
    best, kept = solved(of, replace(question(of, STEPS, 80.0, RUNNING), previous=before(of)))
    assert best.on["dg2"] == (True,) * N
    assert kept is not None
    assert kept.on["dg1"] == (True,) * 8 + (False,) * 3
    assert kept.on["dg2"] == (False,) * 8 + (True,) * 3
    assert best.objective_l == pytest.approx(5 * 21.2 + 1.0 + 4.0, abs=0.1)
    assert kept.objective_l == pytest.approx(2 * 24.0 + 3 * 21.2 + 1.0, abs=0.1)
    asked = with_promise(replace(question(of, STEPS, 80.0, RUNNING), previous=before(of)))
    assert changes(asked.promise, kept) == ()
    choice = choose(best, kept, asked.promise, RUNNING.diesels, 95.0)
    assert (choice.kept, choice.needed_l) == (True, 2.0)
    assert choice.gain_l == pytest.approx(1.6, abs=0.1)
    assert PlanCheck(of).faults(best, RUNNING, asked.forecast) == []
    assert PlanCheck(of).broken(kept, RUNNING, asked.forecast) == []


def test_what_is_too_dear_to_be_followed_is_not_searched_for() -> None:
    """dg2 saves 6 L/h: to keep the promise costs 8 L more, four times what a change must save."""
    of = isle(0.20)
    best, kept = solved(of, asked := replace(question(of, STEPS, 80.0, RUNNING), previous=before(of)))
    assert best.on["dg2"] == (True,) * N
    assert kept is None
    assert choose(best, kept, with_promise(asked).promise, RUNNING.diesels, 95.0).plan is best


def test_what_cannot_be_kept_is_not_offered() -> None:
    of = isle(0.26)
    away = replace(question(of, STEPS, 80.0, RUNNING, limits={"dg1": Limits(out_of_service=True)}), previous=before(of))
    best, kept = solved(of, away)
    assert (best.on["dg2"], kept) == ((True,) * N, None)


def test_an_island_does_not_go_dark_for_a_promise() -> None:
    """dg1 has tripped; that dg2 stays off was promised too, and nobody holds to that."""
    of = isle(0.26)
    tripped = PlantStart({}, {"dg1": DieselStart(False, 10.0, usable=False), "dg2": DieselStart(False, 1e6)})
    asked = with_promise(replace(question(of, STEPS, 80.0, tripped), previous=before(of)))
    best, kept = solved(of, asked)
    assert best.on["dg2"] == (True,) * N
    assert kept is None
    assert choose(best, kept, asked.promise, tripped.diesels, 500.0).plan is best


def test_no_time_is_left_for_a_second_search() -> None:
    of = isle(0.20)
    problem, asked = PlanProblem(of, STEPS), with_promise(replace(question(of, STEPS, 80.0, RUNNING), previous=before(of)))
    best = plan_of(problem, asked, solve_question(problem, asked, EFFORT), "new", NOON + timedelta(hours=2))
    assert keeping(problem, asked, best, Effort(0.01, None, 0.1), solve_question) == Kept(hurried=True)
