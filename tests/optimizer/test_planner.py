"""From a request to an outcome that never raises."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from datetime import timedelta

import pytest

from ems.config.site import Site
from ems.errors import BadInput
from ems.model import Limits
from ems.plan import DieselStart, Forecast, Grid, PlantStart
from ems.plan_check import PlanCheck
from optimizer.forecasting import Forecasting
from optimizer.planner import BELIEVED, InlinePlanner, PlanMaker, grid_at, step_lengths
from tests.optimizer.cases import NOON, forecast, hybrid, request, start


def short() -> Site:
    planner = hybrid().planner.model_copy(update={"grid": ((5.0, 3), (15.0, 2), (60.0, 3))})
    return hybrid().model_copy(update={"planner": planner})


def truth(grid: Grid) -> Forecast:
    return forecast(hybrid(), grid, 120.0, 60.0)


@pytest.fixture(scope="module")
def maker() -> PlanMaker:
    return PlanMaker(short(), Forecasting(short(), "perfect", truth))


def test_a_request_gets_a_plan_from_now_on(maker: PlanMaker) -> None:
    at = NOON + timedelta(minutes=7, seconds=31)
    outcome = maker.make(request(short(), start(short(), on=["dg1"]), at=at))
    assert (outcome.status, outcome.cause, outcome.request_id) == ("ok", "", "r1")
    plan = outcome.plan
    assert plan is not None
    assert outcome.forecast is not None
    assert plan.grid == outcome.forecast.grid
    assert plan.grid.start == at
    assert plan.grid.step_s == (149.0,) + (300.0,) * 2 + (900.0,) * 2 + (3600.0,) * 3
    assert plan.made_at == at
    assert plan.valid_until == at + timedelta(hours=2)
    assert plan.objective_l is not None
    assert plan.gap is not None
    assert plan.gap <= BELIEVED  # a sketch is believed so far from the relaxation in a replay
    assert all(type(v) is float for row in plan.power_kw.values() for v in row)
    assert outcome.total_s >= outcome.solve_s > 0.0


def test_equal_requests_get_equal_plans(maker: PlanMaker) -> None:
    asked = request(short(), start(short(), soc=0.7))
    other = PlanMaker(short(), Forecasting(short(), "perfect", truth))
    assert maker.make(asked).plan == maker.make(asked).plan == other.make(asked).plan


BAD = [
    ({"soc": {"bess1": float("nan")}}, "charge of bess1"),
    ({"pond_m3": {"h1": float("nan")}}, "the pond of h1"),
    ({"tank_l": {"tank1": float("inf")}}, "the level of tank1"),
    ({"done_kwh": {"ice": float("nan")}}, "the energy of the day of ice"),
    ({"diesels": {"dg1": DieselStart(True, float("nan"))}}, "dg1 is on since nan s"),
]


def test_a_battery_of_unknown_charge_ends_no_planning(maker: PlanMaker) -> None:
    known = maker.make(request(short(), start(short(), on=["dg1"]))).plan
    begin = dataclasses.replace(start(short(), on=["dg1"]), soc={})
    for previous in (None, known):
        outcome = maker.make(request(short(), begin, previous=previous))
        assert outcome.status == "ok" and outcome.plan is not None and outcome.forecast is not None
        assert outcome.plan.soc == {} and all(a or b for a, b in zip(outcome.plan.on["dg1"], outcome.plan.on["dg2"], strict=True))
        assert PlanCheck(short()).faults(outcome.plan, begin, outcome.forecast) == []


@pytest.mark.parametrize(("change", "cause"), BAD)
def test_a_state_that_cannot_be_used_is_a_failed_outcome(maker: PlanMaker, change: dict[str, object], cause: str) -> None:
    begin: PlantStart = dataclasses.replace(start(short()), **change)  # type: ignore[arg-type]
    outcome = maker.make(request(short(), begin))
    assert outcome.status == "failed"
    assert outcome.plan is None
    assert cause in outcome.cause


def test_a_limit_that_is_no_number_is_a_failed_outcome(maker: PlanMaker) -> None:
    outcome = maker.make(request(short(), start(short()), limits={"dg1": Limits(max_kw=float("nan"))}))
    assert (outcome.status, outcome.plan) == ("failed", None)
    assert "the limit max_kw of dg1 is nan" in outcome.cause


def test_a_plan_that_changes_what_was_promised_comes_with_one_that_does_not() -> None:
    """Less load than foretold: without the promise dg1 would stop at once, and it does no more than that in the other plan."""
    before = PlanMaker(short(), Forecasting(short(), "perfect", lambda grid: forecast(hybrid(), grid, 180.0))).make(
        request(short(), start(short(), 0.1, ["dg1"]))
    )
    assert before.plan is not None and before.kept is None and before.plan.on["dg1"][0]
    less = PlanMaker(short(), Forecasting(short(), "perfect", lambda grid: forecast(hybrid(), grid, 20.0)))
    begin = start(short(), 0.9, ["dg1"])
    free, bound = less.make(request(short(), begin)), less.make(request(short(), begin, previous=before.plan))
    assert free.plan is not None and free.kept is None and not free.plan.on["dg1"][0]
    assert bound.plan is not None and bound.plan.on == free.plan.on
    assert bound.kept is not None and bound.kept.on["dg1"][:6] == before.plan.on["dg1"][:6]


def test_a_forecast_that_fails_is_a_failed_outcome() -> None:
    def broken(grid: Grid) -> Forecast:
        raise RuntimeError("no truth today")

    for method, fails, cause in (("perfect", broken, "no truth today"), ("perfect", None, "only a replay has")):
        outcome = PlanMaker(short(), Forecasting(short(), method, fails)).make(request(short(), start(short())))
        assert outcome.status == "failed"
        assert cause in outcome.cause


def test_a_forecast_with_nan_is_refused() -> None:
    def holey(grid: Grid) -> Forecast:
        return dataclasses.replace(truth(grid), load_kw=(float("nan"),) * grid.n_steps)

    outcome = PlanMaker(short(), Forecasting(short(), "perfect", holey)).make(request(short(), start(short())))
    assert outcome.status == "failed"
    assert "forecast: load" in outcome.cause


def test_a_diesel_nobody_speaks_of_is_not_used(maker: PlanMaker) -> None:
    outcome = maker.make(request(short(), PlantStart({"bess1": 0.5}, {})))
    assert outcome.plan is not None
    assert not any(outcome.plan.on["dg1"] + outcome.plan.on["dg2"])


def test_compiling_first_changes_no_answer(maker: PlanMaker) -> None:
    ready = PlanMaker(short(), Forecasting(short(), "perfect", truth))
    ready.compile()
    asked = request(short(), start(short(), soc=0.3))
    assert ready.make(asked).plan == maker.make(asked).plan


def test_inline_planner_answers_once(maker: PlanMaker) -> None:
    planner = InlinePlanner(maker)
    assert planner.take() is None
    planner.submit(request(short(), start(short())))
    outcome = planner.take()
    assert outcome is not None
    assert outcome.status == "ok"
    assert planner.take() is None
    planner.close()


STEPS = [
    ([(5, 12), (15, 12), (60, 32)], 0.0, (300.0,) * 12 + (900.0,) * 12 + (3600.0,) * 32),
    ([(5, 12), (15, 4)], 900.0, (900.0,) * 8),
    ([(5, 4), (60, 2)], 900.0, (900.0,) * 2 + (3600.0,) * 2),
]


@pytest.mark.parametrize(("grid", "shortest", "expected"), STEPS)
def test_steps_finer_than_can_be_acted_on_are_merged(grid: list[tuple[float, int]], shortest: float, expected: tuple[float, ...]) -> None:
    assert step_lengths(grid, shortest) == expected


@pytest.mark.parametrize(("minutes", "first_s"), [(0.0, 900.0), (0.5, 870.0), (12.0, 180.0), (12.1, 174.0 + 900.0), (14.99, 0.6 + 900.0)])
def test_the_first_step_is_what_is_left_of_it(minutes: float, first_s: float) -> None:
    at = NOON + timedelta(minutes=minutes)
    found = grid_at(at, (900.0, 900.0, 3600.0))
    assert (found.start, found.step_s) == (at, (pytest.approx(first_s), 900.0, 3600.0))
    assert found.starts()[1].timestamp() % 900.0 == pytest.approx(0.0, abs=1e-5)


def test_an_unknown_method_is_bad_input() -> None:
    with pytest.raises(BadInput, match="tea-leaves"):
        Forecasting(short(), "tea-leaves")


QUIET = """
import cvxpy as cp
from optimizer.solver import Effort, solve
x = cp.Variable(integer=True)
print("before")
print(solve(cp.Problem(cp.Minimize(x), [x >= 1.5]), Effort()).objective_l)
"""


def test_the_solver_writes_nothing_to_stdout() -> None:
    """HiGHS has a banner; stdout may belong to one JSON document."""
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=True)
    assert done.stdout == "before\n2.0\n"
