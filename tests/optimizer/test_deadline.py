"""When time or nodes run out: the best answer found so far is the plan, and without one the cause is told."""

from __future__ import annotations

import pytest

from ems.errors import Failed
from ems.model import Limits
from ems.plan_check import PlanCheck
from optimizer.answer import plan_of
from optimizer.forecasting import Forecasting
from optimizer.frame import Question
from optimizer.planner import GAP, PlanMaker, plan_question, solve_question
from optimizer.problem import PlanProblem
from optimizer.search import search
from optimizer.solver import Effort, solve
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, PV1, question, request, site, start
from tests.optimizer.test_planner import short, truth
from tests.optimizer.test_problem import DESAL
from tests.optimizer.test_search import asked, followed, isle, problem, state

LOOK_S = 100.0
"""Far more than HiGHS takes for these problems: only the clock of a test cuts."""
HARDLY_S = 1e-6
"""Time in which HiGHS finds nothing."""


class Clock:
    """A clock that goes on by so much with each look at it, and stands still in between."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += LOOK_S
        return self.now_s


def an_hour_later() -> Question:
    return asked(1, previous=followed(), **state(followed(), 4))


def ending(limit_s: float) -> str:
    """Return how a search with this much time ends; what it finds is sound wherever it was cut."""
    of = an_hour_later()
    try:
        plan, solved = plan_question(problem(), of, Effort(0.01, None, limit_s, Clock()), "cut")
    except Failed as error:
        return str(error)
    assert PlanCheck(isle()).faults(plan, of.start, of.forecast) == []
    near, _ = plan_question(problem(), of, Effort(0.01, 2000), "cut")
    assert plan.objective_l is not None and near.objective_l is not None
    assert plan.objective_l <= near.objective_l + 1e-6
    assert (plan.gap is None) == solved.limit_hit
    return "near" if solved.limit_hit else "whole"


@pytest.mark.usefixtures("no_sketch")
def test_the_answer_near_the_old_plan_is_used_when_the_whole_is_cut() -> None:
    """With a little more time each: nothing, then the neighbourhood's answer, whole or in part the search of the whole cut, then all of it."""
    found = [ending(LOOK_S * looks) for looks in range(1, 13)]
    stages = [end for end, before in zip(found, ["", *found], strict=False) if end != before]
    assert stages == ["solver: no time left", "near", "whole"]
    assert found.count("near") > 1


@pytest.mark.usefixtures("no_sketch")
@pytest.mark.parametrize("looks", range(1, 9))
def test_a_solve_that_is_cut_before_it_finds_anything_takes_no_answers_place(looks: int) -> None:
    """HiGHS hands out zeros then, which would be the cheapest plan of all."""
    assert ending(LOOK_S * looks + HARDLY_S) in ("near", "whole", "solver: no time left")


def test_what_was_found_is_kept_where_time_is_out_before_the_next_way() -> None:
    """There is time for the first sketch, and none for what comes after it."""
    of = site(LOAD, PV1, DG1, DG2, INV1, BESS1, DESAL)
    two = PlanProblem(of, (HOUR,) * 8)
    two.fill(question(of, [HOUR] * 8, [60.0, 120.0, 170.0, 190.0, 60.0, 40.0, 130.0, 90.0], start(of, soc=0.4), sun=20.0))
    found = search(two, Effort(1e-9, None, 1.5 * LOOK_S, Clock()))
    assert found.limit_hit
    assert found.objective_l >= search(two, Effort(1e-3, 2000)).objective_l - 1e-3


@pytest.mark.parametrize("effort", [Effort(0.01, 0), Effort(0.01, None, HARDLY_S)])
def test_no_answer_before_the_limit_is_said(effort: Effort) -> None:
    problem().fill(asked())
    with pytest.raises(Failed, match="no answer before its limit"):
        solve(problem().cp, effort)


def test_an_answer_that_the_nodes_cut_is_handed_on_and_says_so() -> None:
    of = asked(12)
    problem().fill(of)
    cut = solve(problem().cp, Effort(1e-9, 1))
    assert cut.limit_hit
    assert cut.gap is not None and cut.gap > 0.0
    plan = plan_of(problem(), of, cut, "cut", of.grid.end)
    assert PlanCheck(isle()).faults(plan, of.start, of.forecast) == []


@pytest.mark.parametrize("more_s", [0.0, HARDLY_S])
def test_an_answer_that_burns_energy_in_two_directions_is_none(more_s: float) -> None:
    """150 kW that must run, 30 kW of load and a nearly full battery: cut before the directions are parted there is no answer, after it a sound one."""
    of, steps, limits = site(LOAD, DG1, INV1, BESS1), (HOUR,) * 4, {"dg1": Limits(min_kw=150.0)}
    burning, full = PlanProblem(of, steps), question(of, steps, 30.0, start(of, soc=0.94, on=["dg1"], since_s=60.0), limits=limits)
    burning.fill(full)
    search(burning, Effort(1e-6, 1000))
    assert burning.separate()
    ends = []
    for looks in range(1, 7):
        try:
            solved = solve_question(burning, full, Effort(1e-6, None, LOOK_S * looks + more_s, Clock()))
        except Failed:
            ends.append("none")
            continue
        plan = plan_of(burning, full, solved, "cut", full.grid.end)
        ends.append("; ".join(PlanCheck(of).faults(plan, full.start, full.forecast, limits)) or "sound")
    assert ends == sorted(ends)
    assert set(ends) == {"none", "sound"}


@pytest.mark.parametrize(("time_limit_s", "cause"), [(LOOK_S, "solver: no time left"), (HARDLY_S, "solver: no")])
def test_without_any_answer_the_outcome_is_failed_with_its_cause(time_limit_s: float, cause: str) -> None:
    maker = PlanMaker(short(), Forecasting(short(), "perfect", truth), time_limit_s=time_limit_s, now_s=Clock())
    outcome = maker.make(request(short(), start(short(), on=["dg1"])))
    assert (outcome.status, outcome.plan, outcome.kept) == ("failed", None, None)
    assert outcome.cause.startswith(cause)
    assert outcome.forecast is not None


def test_the_planner_hands_on_what_was_found_before_the_deadline() -> None:
    """The worker's own way: `PlanMaker` with a time limit, a sketch that is not near enough to the relaxation, and too little time for the whole."""
    maker = PlanMaker(short(), Forecasting(short(), "perfect", truth), time_limit_s=3 * LOOK_S, now_s=Clock())
    outcome = maker.make(request(short(), start(short(), on=["dg1"])))
    assert (outcome.status, outcome.cause, outcome.limit_hit) == ("ok", "", True)
    assert outcome.plan is not None and outcome.forecast is not None
    assert outcome.plan.gap is not None
    assert outcome.plan.gap > GAP
    assert PlanCheck(short()).faults(outcome.plan, start(short(), on=["dg1"]), outcome.forecast) == []
