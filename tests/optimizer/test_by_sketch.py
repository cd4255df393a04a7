"""Plans of a sketch alone, between two searches of the whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest

from ems.config.site import Battery, Diesel, Site
from ems.errors import Failed
from ems.plan import DieselStart, Plan
from optimizer.assets.battery import UNSURE
from optimizer.coarse import coarse
from optimizer.frame import MW, Question
from optimizer.moves import moves, reserve_l
from optimizer.neighbourhood import near_answer
from optimizer.planner import near_enough, plan_question, solve_question
from optimizer.problem import PlanProblem
from optimizer.search import drawable, drawn, trust
from optimizer.solver import Effort, solve
from tests.optimizer.cases import BESS1, DG1, DG2, INV1, LOAD, PV1, question, site, start
from tests.optimizer.test_search import EFFORT, MIDNIGHT, STEPS, asked, problem

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


@pytest.mark.parametrize(("error_kw", "time_limit_s", "believed"), [(0.0, None, 0.04), (40.0, None, 0.04), (0.0, 60.0, 0.0), (40.0, 60.0, 0.04)])
def test_at_the_site_a_sketch_is_believed_where_it_knows_more_than_the_problem(error_kw: float, time_limit_s: float | None, believed: float) -> None:
    """Under several skies; with one there is time to look for better, and with none to look, as in a replay, it is believed all the same."""
    built, later, _ = dry()
    errors = (error_kw,) * later.grid.n_steps
    built.fill(replace(later, forecast=replace(later.forecast, floor_up_kw=errors, floor_down_kw=errors)))
    assert trust(built, replace(REPLAYED, time_limit_s=time_limit_s)).gap == believed


def test_a_sketch_alone_leaves_nobody_in_the_dark() -> None:
    """With both diesels away load goes unserved whatever is planned: that is for the search of the whole to say."""
    built, later, _ = dry()
    away = {d: DieselStart(False, 1e6, usable=False) for d in ("dg1", "dg2")}
    alone = replace(later, start=replace(later.start, diesels=away))
    with pytest.raises(Failed, match="unmet"):
        solve_question(built, alone, REPLAYED, look=drawn)
    plan, solved = plan_question(built, alone, REPLAYED, "alone")
    assert any(u.limit == "unserved" for u in plan.unmet)
    assert solved.gap is not None


@pytest.mark.parametrize("hour", [0, 7, 13])
def test_beside_a_pond_a_sketch_and_what_lies_near_it_are_as_good_as_the_whole(hour: int) -> None:
    of = asked(hour)
    assert not near_enough(problem(), of, REPLAYED)
    _, solved = plan_question(problem(), of, REPLAYED, "replayed")
    whole = solve_question(problem(), of, Effort(1e-4, 5000))
    assert solved.bound_l <= whole.objective_l + 1e-3
    assert whole.bound_l - 1e-3 <= solved.objective_l <= whole.objective_l + 0.003 * abs(whole.objective_l)


def test_near_an_answer_what_lies_away_from_its_switchings_is_fixed_as_it_has_it() -> None:
    solve_question(problem(), asked(), EFFORT)
    frame = problem().frame
    fixed = 0
    for switch in frame.switches:
        on = switch.on.value > 0.5
        low, high = near_answer(frame)[switch.asset]
        assert (low <= on).all() and (on <= high).all()
        assert (high - low)[:2].all()
        switching = np.flatnonzero(on[1:] != on[:-1])
        assert (high - low)[switching].all() and (high - low)[switching + 1].all()
        fixed += int((low == high).sum())
    assert 0 < fixed < frame.n * len(frame.switches)


def test_where_a_pond_is_or_a_load_that_may_wait_a_sketch_alone_is_no_plan() -> None:
    assert not drawable(problem())
    assert drawable(dry()[0])
    river: dict[str, Any] = {"id": "river", "kind": "hydro", "rated_kw": 50.0, "head_m": 20.0, "design_flow_m3s": 0.4}
    for more, enough in (({}, True), ({"mode": "fixed"}, True), ({"pond_m3": 4000.0}, False)):
        built = PlanProblem(of := site(LOAD, PV1, DG1, INV1, BESS1, {**river, **more}), STEPS)
        built.fill(question(of, STEPS, 90.0, start(of), water=0.2))
        assert drawable(built) is enough


def test_what_a_river_need_not_give_is_spilled_and_not_dumped() -> None:
    """A full battery, 26 kW of load, 2 of the inverter, 50 of the river: 22 are spilled for nothing; dumped they would cost, and take nothing back."""
    of = site(LOAD, DG1, INV1, BESS1, {"id": "river", "kind": "hydro", "rated_kw": 50.0, "head_m": 20.0, "design_flow_m3s": 0.4})
    built = PlanProblem(of, STEPS)
    built.fill(question(of, STEPS, 26.0, start(of, soc=0.95), water=0.4))
    found, prices, hours = coarse(built), built.frame.prices, built.frame.dt_h[0]
    assert found.store is not None
    cost_l = [moves(f, 0, np.array([found.store.top[1]]))[0][0, 0, 0] for f in (found, replace(found, spilled=0.0 * found.spilled))]
    fed_l = prices.low_l_per_kwh * found.fed[0] / MW * hours  # a full battery takes no lost feeder's load
    assert cost_l == pytest.approx([fed_l, fed_l + 22.0 * (prices.surplus_l_per_kwh + prices.low_l_per_kwh) * hours], abs=0.01)


def test_a_river_that_must_give_spills_nothing() -> None:
    of = site(LOAD, DG1, INV1, BESS1, {"id": "river", "kind": "hydro", "rated_kw": 50.0, "head_m": 20.0, "design_flow_m3s": 0.4, "mode": "fixed"})
    built = PlanProblem(of, STEPS)
    built.fill(question(of, STEPS, 26.0, start(of, soc=0.95), water=0.4))
    assert not coarse(built).spilled.any()


def priced(problem: PlanProblem, row_of: tuple[bool, ...]) -> tuple[float, float]:
    """Return what missing reserve costs along the problem's own answer: as the problem has it, and as the sketch counts it [L]."""
    hours, prices, inverter = problem.frame.dt_h, problem.frame.prices, problem.inverters[0]
    spent = next(v for v in problem.cp.variables() if v.name() == "inv1.spent")
    assert inverter.lack is not None and inverter.store is not None
    missing = inverter.lack.value * prices.lack_l_per_kwh_h + spent.value * prices.spent_l_per_kwh_h
    missing = missing + problem.reserve.shortfall.value.sum(axis=0) * prices.shortfall_l_per_kwh
    of, stored = coarse(problem), inverter.store.stored.value
    row = [tuple(m.tolist()) for m in of.fleet.members].index(row_of)
    flow = (inverter.discharge.value - inverter.charge.value).sum(axis=0)
    power = sum(d.power.value.sum(axis=0) for d in problem.diesels)
    ours = 0.0
    for t in range(problem.frame.n):
        at = [np.full((len(of.rows), 1, 1), x) for x in (power[t], flow[t], 0.0, min(stored[t], stored[t + 1]))]
        ours += hours[t] * reserve_l(of, t, *at)[row, 0, 0]
    return float(missing @ hours) * 1e3, ours


def held(of: Site, load_kw: float, on: tuple[bool, ...], above: float) -> tuple[float, float]:
    """The same with these diesels on and the battery at rest so much above its floor, its error and a forecast that errs by far."""
    b, steps = of.of(Battery)[0], (900.0,) * 4
    ids = [d.id for d in of.of(Diesel)]
    asked = question(of, steps, load_kw, start(of, soc=b.soc_min + b.soc_error + above, on=[d for d, runs in zip(ids, on, strict=True) if runs], since_s=0.0))
    asked = replace(asked, forecast=replace(asked.forecast, floor_up_kw=(1000.0,) * 4, floor_down_kw=(0.0,) * 4))
    built = PlanProblem(of, steps)
    built.fill(asked)
    built.frame.narrow({d: (np.full(4, float(runs)),) * 2 for d, runs in zip(ids, on, strict=True)})
    built.inverters[0].charge_max.value = 0.0 * built.inverters[0].charge_max.value
    solve(built.cp, Effort(), relaxed=True)
    return priced(built, on)


@pytest.mark.parametrize("warmup_s", [30.0, 600.0, 1800.0])
def test_energy_that_must_last_long_is_priced_as_the_problem_prices_it(warmup_s: float) -> None:
    """For a reserve of hours the shortfall in power is cheaper than the energy that lacks."""
    sets = [{**d, "warmup_s": warmup_s} for d in (DG1, DG2)]
    problem_l, sketch_l = held(site(LOAD, *sets, INV1, {**BESS1, "capacity_kwh": 1000.0}), 150.0, (True, False), 0.03)
    assert sketch_l == pytest.approx(problem_l, rel=1e-3)
    assert problem_l > 100.0


@pytest.mark.parametrize(("above", "some"), [(0.0, True), (UNSURE / 6, True), (5 * UNSURE / 6, False)])
def test_what_the_forecast_may_be_off_is_asked_only_of_what_the_inverter_holds(above: float, some: bool) -> None:
    sets = [DG1, {**DG1, "id": "dg2", "forming": "droop"}, {**DG1, "id": "dg3", "forming": "droop"}]
    problem_l, sketch_l = held(site(LOAD, *sets, INV1, {**BESS1, "capacity_kwh": 4000.0}), 190.0, (True, True, True), above)
    assert sketch_l == pytest.approx(problem_l, abs=1e-3)
    assert (problem_l > 0.1) is some
