"""The bound: below every plan, and proved."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ems.config.site import Site
from ems.physics import fuel_l
from ems.plan import Grid
from optimizer.answer import plan_of
from optimizer.assets.battery import BatteryBlock
from optimizer.by_day import Prices, alone, by_day
from optimizer.foresight import foresight, long_solve
from optimizer.frame import Purpose, Question
from optimizer.planner import solve_question
from optimizer.problem import PlanProblem
from optimizer.solver import Effort, solve
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, NOON, PV1, forecast, hybrid, question, site, start
from tests.optimizer.test_plans import faults
from tests.optimizer.test_problem import DESAL, RIVER


def test_one_diesel_and_nothing_to_choose_is_its_own_bound() -> None:
    alone = site(LOAD, DG1)
    grid = Grid(NOON, (900.0,) * 8)
    outcome = foresight(alone, forecast(alone, grid, 100.0), start(alone, on=["dg1"]))
    assert outcome.plan is not None
    assert outcome.plan.bound_l == pytest.approx(2 * (4.0 + 25.0), rel=1e-3)


def test_the_bound_is_soc_corrected_litres_and_the_gap_is_proved() -> None:
    grid = Grid(NOON, (900.0,) * 48)
    load = [100.0 + 60.0 * (k % 12) / 12 for k in range(48)]
    sun = [150.0 if 8 <= k < 20 else 0.0 for k in range(48)]
    outcome = foresight(hybrid(), forecast(hybrid(), grid, load, sun), start(hybrid(), on=["dg1"]))
    plan = outcome.plan
    assert plan is not None
    assert plan.bound_l is not None
    burnt = 0.0
    for diesel in ("dg1", "dg2"):
        before = diesel == "dg1"
        for power, on in zip(plan.power_kw[diesel], plan.on[diesel], strict=True):
            burnt += fuel_l(hybrid().asset(diesel), power, 0.25) if on else 0.0  # type: ignore[arg-type]
            burnt += 1.0 if on and not before else 0.0
            before = on
    corrected = burnt + (plan.soc["bess1"][0] - plan.soc["bess1"][-1]) * 400.0 * 0.96 * 0.975 * 0.25
    assert plan.bound_l <= corrected
    assert corrected - plan.bound_l <= 0.002 * corrected + 0.01
    assert plan.gap is not None
    assert plan.gap <= 0.002
    assert not outcome.limit_hit


def test_an_impossible_question_is_a_failed_outcome() -> None:
    grid = Grid(NOON, (900.0,) * 4)
    outcome = foresight(hybrid(), forecast(hybrid(), grid, float("inf")), start(hybrid()))
    assert outcome.status == "failed"
    assert "load" in outcome.cause


def test_a_sketch_of_the_whole_comes_close_to_it() -> None:
    """Three days at an hour where only diesels are on or off; the bound is below the optimum, the plan above, both near."""
    load = [90.0 + 70.0 * (18 <= h % 24 < 22) + (h % 5) for h in range(72)]
    sun = [150.0 * max(0.0, 1.0 - abs(h % 24 - 12) / 6.0) for h in range(72)]
    asked = question(hybrid(), [HOUR] * 72, load, start(hybrid(), on=["dg1"]), sun=sun, at=NOON.replace(hour=0))
    problem = PlanProblem(hybrid(), (HOUR,) * 72, "bound")
    found = long_solve(hybrid(), problem, asked, 0.02)
    whole = solve_question(PlanProblem(hybrid(), (HOUR,) * 72, "bound"), asked, Effort(0.002, 5000), once=True)
    assert found is not None
    assert found.bound_l <= whole.objective_l + 1e-6
    assert whole.bound_l <= found.objective_l + 1e-6
    assert found.objective_l <= 1.01 * whole.objective_l
    assert faults(hybrid(), plan_of(problem, asked, found, "long", asked.grid.end), asked.start) == []


def test_windows_along_the_relaxation_come_close_to_the_whole() -> None:
    """Three days at an hour, of everything there is; the bound is below the optimum, the plan above, both near."""
    tank = {"id": "tank1", "kind": "tank", "feeds": ["dg1", "dg2"], "capacity_l": 5000.0}
    isle = site(LOAD, PV1, RIVER, DG1, DG2, INV1, BESS1, DESAL, tank)
    hours = range(72)
    load = [90.0 + 70.0 * (18 <= h % 24 < 22) + (h % 5) for h in hours]
    sun = [150.0 * max(0.0, 1.0 - abs(h % 24 - 12) / 6.0) for h in hours]
    asked = question(isle, [HOUR] * 72, load, start(isle, on=["dg1"]), sun=sun, water=0.12, at=NOON.replace(hour=0))
    problem = PlanProblem(isle, (HOUR,) * 72, "bound")
    near = long_solve(isle, problem, asked, 0.005)
    assert near is not None
    plan = plan_of(problem, asked, near, "long", asked.grid.end)
    whole = solve_question(PlanProblem(isle, (HOUR,) * 72, "bound"), asked, Effort(0.002, 5000), once=True)
    assert near.bound_l <= whole.objective_l + 1e-6
    assert whole.bound_l <= near.objective_l + 1e-6
    assert near.objective_l <= 1.02 * whole.objective_l
    assert near.gap == pytest.approx((near.objective_l - near.bound_l) / near.objective_l)
    assert {u.limit for u in plan.unmet} <= {"reserve_energy"}  # a bound asks for it where a step begins, as control does
    given = [f for f in faults(isle, plan, asked.start) if not f.startswith("balance")]
    assert given == []
    for k in range(72):
        supply = sum(plan.power_kw[a][k] for a in ("pv1", "hydro1", "dg1", "dg2", "inv1"))
        assert supply == pytest.approx(plan.load_kw[k], abs=0.1)
    for day in range(3):
        assert sum(plan.power_kw["desal1"][24 * day : 24 * day + 24]) == pytest.approx(80.0, abs=1.0)


def evenings(hours: int, start_l: float = 6.0) -> tuple[Site, Question]:
    """Days at an hour whose sun fills the battery, and nights that it nearly carries: a relaxation runs a part of an engine there."""
    isle = site(LOAD, PV1, DG1 | {"start_l": start_l}, INV1, BESS1)
    load = [60.0 + 30.0 * (18 <= h % 24 < 22) + (h % 5) for h in range(hours)]
    sun = [(400.0 if h < hours / 2 else 240.0) * max(0.0, 1.0 - abs(h % 24 - 12) / 6.0) for h in range(hours)]
    return isle, question(isle, [HOUR] * hours, load, start(isle, on=["dg1"]), sun=sun, at=NOON.replace(hour=0))


def relaxed(isle: Site, asked: Question) -> tuple[PlanProblem, float]:
    problem = PlanProblem(isle, asked.grid.step_s, "bound", relaxed=True)
    problem.fill(asked)
    return problem, solve(problem.cp, Effort(), once=True, relaxed=True).bound_l


def test_days_that_meet_at_a_price_bring_bound_and_plan_together() -> None:
    isle, asked = evenings(96)
    _, loose_l = relaxed(isle, asked)
    problem = PlanProblem(isle, asked.grid.step_s, "bound")
    found = long_solve(isle, problem, asked, 0.002)
    whole = solve_question(PlanProblem(isle, asked.grid.step_s, "bound"), asked, Effort(0.002, 20000), once=True)
    assert loose_l < 0.97 * whole.objective_l
    assert found is not None
    assert found.bound_l <= whole.objective_l + 1e-6
    assert whole.bound_l <= found.objective_l + 1e-6
    assert found.gap is not None
    assert found.gap <= 0.002
    assert faults(isle, plan_of(problem, asked, found, "long", asked.grid.end), asked.start) == []


@cache
def best_l() -> float:
    """Return the litres of the best plan of sixty hours."""
    isle, asked = evenings(60)
    return solve_question(PlanProblem(isle, asked.grid.step_s, "bound"), asked, Effort(0.0005, 20000), once=True).objective_l


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 2.0], ids="prices x {}".format)
def test_the_days_are_a_bound_whatever_their_prices(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    isle, asked = evenings(60)
    true_prices = BatteryBlock.price_l
    monkeypatch.setattr(BatteryBlock, "price_l", lambda block: factor * true_prices(block))
    first = next(by_day(relaxed(isle, asked)[0], asked, Effort(0.0005, 20000)))
    assert first.bound_l <= best_l() + 1e-6


def test_the_first_prices_are_the_duals_of_the_relaxation() -> None:
    """Half a kWh more at the beginning saves what the dual says."""
    isle, asked = evenings(48)
    problem, before_l = relaxed(isle, asked)
    store = problem.inverters[0].store
    assert store is not None
    price_l = float(store.price_l()[0])
    more_mwh = 0.0005
    begin = replace(asked.start, soc={"bess1": asked.start.soc["bess1"] + more_mwh / store.capacity})
    _, after_l = relaxed(isle, replace(asked, start=begin))
    credit_l = float(store.end_l_per_mwh[0]) * more_mwh  # the objective counts what was stored at the beginning
    assert before_l - after_l + credit_l == pytest.approx(price_l * more_mwh, rel=0.02)


def test_prices_move_to_where_the_days_meet() -> None:
    prices = Prices(np.array([[9.0, 100.0, 100.0, 9.0]]), np.array([100.0]), np.array([0.01]))
    assert prices.moved(np.array([[-1.0, 0.005]]))
    assert prices.now.tolist() == [[0.0, 110.0, 100.0, 100.0]]  # too little was left over the first night; the second meets
    assert prices.moved(np.array([[3.0, 0.0]]))
    assert prices.now[0, 1] == pytest.approx(100.0 + 10.0 * 1.0 / 4.0)
    assert not prices.moved(np.array([[0.0, 0.0]]))


def test_days_that_do_not_meet_are_left_free_while_they_are_few() -> None:
    assert alone(np.array([False, True, False])).tolist() == [False, True, True, False]
    assert not alone(np.array([True] * 5)).any()
    assert not alone(np.array([False, False])).any()


def test_the_bound_asks_for_no_more_reserve_than_control_does() -> None:
    """Two hours of 82 kW, reserve for one: 128 kWh stored at the beginning of each, 40 of them under the floor. A plan keeps them to the end of the last."""
    isle = site(LOAD, DG1, INV1, {**BESS1, "soc_error": 0.0}, reserve={"hold_s": 3600.0})
    asked = question(isle, [HOUR] * 2, 80.0, start(isle, 0.4, on=["dg1"]))
    left = {}
    purposes: tuple[Purpose, ...] = ("bound", "plan")
    for purpose in purposes:
        problem = PlanProblem(isle, (HOUR,) * 2, purpose)
        solve_question(problem, asked, Effort(1e-6, 5000), once=True)
        assert problem.inverters[0].store is not None
        left[purpose] = 1e3 * problem.inverters[0].store.stored.value
    need = 40.0 + 82.0 / (0.975 * 0.96)
    assert left["bound"] == pytest.approx([160.0, 160.0, 160.0 - 82.0 / (0.975 * 0.96)], abs=0.1)
    assert left["plan"].min() >= need - 0.1
