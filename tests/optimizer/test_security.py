"""Bad days, storms, ponds, tanks, kVA, ramps, services and burns in the plan: small cases known by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from ems.plan import DieselStart, Given, Grid, Plan, PlantStart, Storm
from ems.plan_check import PlanCheck
from optimizer.answer import plan_of
from optimizer.forecasting import Forecasting
from optimizer.frame import Question
from optimizer.planner import PlanMaker, solve_question
from optimizer.problem import TINY_WEAR, PlanProblem
from optimizer.security import backwards, before_storm, without_sun
from optimizer.solver import Effort
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, NOON, PV1, forecast, hybrid, planned, question, request, site, start
from tests.optimizer.test_problem import RIVER, unmet


def solved(of: Any, asked: Question) -> tuple[PlanProblem, Plan]:
    problem = PlanProblem(of, asked.grid.step_s)
    return problem, plan_of(problem, asked, solve_question(problem, asked, Effort(1e-6, 5000)), "p", asked.grid.end)


def test_what_will_lack_is_there_before_and_comes_back_where_there_is_room() -> None:
    assert backwards(np.array([-5.0, 10.0, -20.0, 4.0])).tolist() == [5.0, 10.0, 0.0, 4.0, 0.0]


@pytest.mark.parametrize(("up_kw", "kept_kwh"), [(0.0, 0.0), (50.0, 40.0)])
def test_a_bad_day_beyond_the_diesels_is_held_in_the_battery(up_kw: float, kept_kwh: float) -> None:
    """The last hour asks 190 of 200 kW, and with a tenth of chance 50 more: 40 kWh have to be there at its beginning, above the floor."""
    isle = site(LOAD, DG1, INV1, BESS1)
    asked = question(isle, [HOUR] * 4, [100.0, 100.0, 100.0, 190.0], start(isle, soc=0.15, on=["dg1"], since_s=0.0))
    worse = replace(asked.forecast, floor_up_kw=(0.0, 0.0, 0.0, up_kw))
    problem, plan = solved(isle, replace(asked, forecast=worse))
    store = problem.inverters[0].store
    assert store is not None
    assert store.path.value[3] * 1e3 == pytest.approx(40.0 + kept_kwh / 0.96 / 0.975)
    if kept_kwh:
        assert plan.soc["bess1"][3] * 400.0 >= 40.0 + kept_kwh / 0.96 / 0.975 - 0.1


def test_diesels_that_can_carry_a_bad_day_need_no_path() -> None:
    """300 kW of diesels for 100 kW and 90 more: nothing is held for it, and the plan is the same."""
    begin = start(hybrid(), soc=0.6)
    asked = question(hybrid(), [HOUR] * 4, 100.0, begin)
    _, plain = solved(hybrid(), asked)
    _, wide = solved(hybrid(), replace(asked, forecast=replace(asked.forecast, floor_up_kw=(90.0,) * 4, floor_down_kw=(90.0,) * 4)))
    assert wide.objective_l == pytest.approx(plain.objective_l, abs=1e-6)


STORM = Storm(NOON + timedelta(hours=3), NOON + timedelta(hours=6))


def warned_of(asked: Question, storm: Storm | None) -> Question:
    """Return a question with a warning, the sun left as it is."""
    return replace(asked, forecast=replace(asked.forecast, storm=storm))


def test_before_a_storm_the_stores_are_filled_and_no_sun_is_counted_on() -> None:
    begin = start(hybrid(), soc=0.4, on=["dg1"])
    asked = question(hybrid(), [HOUR] * 8, 60.0, begin, sun=100.0)
    dark = without_sun(asked.forecast, STORM)
    assert dark.available_kw["pv1"] == (100.0,) * 3 + (0.0,) * 3 + (100.0,) * 2
    assert dark.source["pv1"] == "storm"
    assert before_storm(warned_of(asked, STORM)).tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    _, calm = solved(hybrid(), replace(asked, forecast=replace(dark, storm=None)))
    _, warned = solved(hybrid(), replace(asked, forecast=dark))
    assert calm.soc["bess1"][3] < 0.9
    kept = 60.0 * 0.96 * 0.975 * 300.0 / 3600.0 / 400.0  # room for the lost feeder
    assert warned.soc["bess1"][3] == pytest.approx(0.95 - kept, abs=0.01)
    assert PlanCheck(hybrid()).faults(warned, begin, dark) == []


def test_a_pond_is_filled_before_a_storm() -> None:
    river = site(LOAD, DG1, RIVER)
    begin = PlantStart({}, {"dg1": DieselStart(True, 1e6)}, pond_m3={"hydro1": 1000.0})
    asked = question(river, [HOUR] * 6, 120.0, begin, water=0.25)
    _, calm = solved(river, asked)
    _, warned = solved(river, warned_of(asked, STORM))
    assert warned.pond_m3["hydro1"][3] > calm.pond_m3["hydro1"][3] + 100.0


@pytest.mark.parametrize(("until", "source"), [(timedelta(hours=6), "storm"), (timedelta(0), "perfect")])
def test_a_warning_comes_with_a_pushed_forecast_and_ends(until: timedelta, source: str) -> None:
    short = hybrid().model_copy(update={"planner": hybrid().planner.model_copy(update={"grid": ((60.0, 4),)})})

    def truth(grid: Grid) -> Any:
        return replace(forecast(short, grid, 60.0, 100.0), source={"pv1": "perfect"})

    given = Given(NOON, HOUR, storm=Storm(NOON - timedelta(hours=1), NOON + until))
    outcome = PlanMaker(short, Forecasting(short, "perfect", truth)).make(request(short, start(short), given=given))
    assert outcome.plan is not None
    assert outcome.forecast is not None
    assert outcome.forecast.source["pv1"] == source
    assert max(outcome.plan.power_kw["pv1"]) == pytest.approx(0.0 if source == "storm" else 100.0, abs=60.0)


def test_a_pond_of_unknown_level_gives_no_more_than_the_river() -> None:
    """0.25 less 0.05 m3/s are 31 kW of the turbine's 50."""
    river = site(LOAD, DG1, RIVER)
    plan = planned(river, [HOUR] * 4, 120.0, PlantStart({}, {"dg1": DieselStart(True, 1e6)}), water=0.25)
    assert max(plan.power_kw["hydro1"]) <= 31.25 + 1e-3
    assert min(plan.power_kw["hydro1"]) >= 10.0 - 1e-3


def tank(**more: Any) -> dict[str, Any]:
    return {"id": "tank1", "kind": "tank", "feeds": ["dg1"], "capacity_l": 5000.0, "unusable_l": 50.0, **more}


DELIVERIES = [
    ({"delay_days": 0}, None, 0.0),
    ({"delay_days": 2}, None, 20.0),
    ({"delay_days": 2, "confirmed": True}, None, 0.0),
    ({"delay_days": 0}, Storm(NOON, NOON + timedelta(days=2)), 20.0),
    ({"delay_days": 0, "confirmed": True}, Storm(NOON, NOON + timedelta(days=2)), 0.0),
]


@pytest.mark.parametrize(("words", "storm", "dry"), DELIVERIES)
def test_a_delivery_counts_after_its_delay_unless_it_is_confirmed_and_not_in_a_storm(words: dict[str, Any], storm: Storm | None, dry: float) -> None:
    """400 L for 15 h of 29 L/h, 2000 L due at midnight: where they are not counted on, 35 L are missing: a dark hour saves 29, 24 kWh 6."""
    isle = site(LOAD, DG1, tank(deliveries=[{"date": date(2026, 3, 2), "litres": 2000.0, **words}]))
    begin = PlantStart({}, {"dg1": DieselStart(True, 1e6)}, tank_l={"tank1": 450.0})
    plan = solved(isle, warned_of(question(isle, [HOUR] * 15, 100.0, begin), storm))[1]
    dark = [u.amount for u in plan.unmet if u.limit == "unserved"]
    assert sum(dark) == pytest.approx(124.0 if dry else 0.0, abs=1.0)


def test_days_in_hand_are_told_on_diesels_alone_and_without_the_boat() -> None:
    """1200 L usable, 27 L/h of the set's best average: 24 x 100 x 0.27 = 648 L a day; after 4 h of 29 L 1084 L are left, 1.7 days."""
    isle = site(LOAD, DG1, tank(days_in_hand=3, deliveries=[{"date": date(2026, 3, 1), "litres": 2000.0, "confirmed": True}]))
    begin = PlantStart({}, {"dg1": DieselStart(True, 1e6)}, tank_l={"tank1": 1250.0})
    plan = planned(isle, [HOUR] * 4, 100.0, begin)
    (told,) = [u for u in plan.unmet if u.limit == "days_in_hand"]
    assert told.amount == pytest.approx(3.0 - 1084.0 / 648.0, abs=0.01)
    assert "1.7" in told.en
    assert "1.7" in told.ja
    assert "days_in_hand" not in unmet(planned(isle, [HOUR] * 4, 100.0, replace(begin, tank_l={"tank1": 4000.0})))


def test_an_inverter_alone_gives_what_its_kva_leaves_beside_the_loads_reactive_power() -> None:
    """150 kW at 0.8 are 112.5 kvar: of 180 kVA 140.5 kW are left, so a diesel has to help; at a power factor of 1 nobody has to."""
    inverter = {**INV1, "rated_kva": 200.0, "rated_kw": 180.0}
    for factor, alone in ((1.0, True), (0.6, False)):
        isle = site({**LOAD, "power_factor": factor}, {**DG1, "min_loading": 0.1}, inverter, BESS1)
        plan = planned(isle, [900.0] * 2, 150.0, start(isle, soc=0.9))
        assert (not any(plan.on["dg1"])) is alone
        assert PlanCheck(isle).broken(plan, start(isle, soc=0.9), forecast(isle, plan.grid, 150.0)) == []


def test_a_slow_diesel_is_followed_by_the_battery() -> None:
    """0.1 kW/s are 30 kW from one step of five minutes to the next."""
    isle = site(LOAD, {**DG1, "ramp_kw_per_s": 0.1}, INV1, BESS1)
    begin = start(isle, soc=0.3, on=["dg1"], since_s=0.0)
    plan = planned(isle, [300.0] * 6, [60.0, 60.0, 180.0, 180.0, 180.0, 60.0], begin)
    powers = plan.power_kw["dg1"]
    assert all(abs(b - a) <= 30.0 + 1e-3 for a, b in zip(powers, powers[1:], strict=False))
    assert max(plan.unserved_kw) < 1e-3


SPARED = [
    # run hours of both, hours to the service of both: who runs
    ((100.0, 400.0), (400.0, 400.0), "a"),
    ((400.0, 100.0), (400.0, 400.0), "b"),
    ((100.0, 100.0), (1.0, 400.0), "b"),
    ((None, None), (None, None), "a"),
]


@pytest.mark.parametrize(("hours", "left", "runs"), SPARED)
def test_twins_are_told_apart_by_hours_and_by_their_service(hours: tuple[float | None, ...], left: tuple[float | None, ...], runs: str) -> None:
    twins = site(LOAD, {**DG1, "id": "a"}, {**DG1, "id": "b", "forming": "droop"})
    states = {d: DieselStart(False, 1e6, run_h=h, service_in_h=s) for d, h, s in zip("ab", hours, left, strict=True)}
    plan = planned(twins, [HOUR] * 6, 90.0, PlantStart({}, states))
    assert plan.on[runs] == (True,) * 6
    assert not any(plan.on["a" if runs == "b" else "b"])


def test_a_burn_under_way_is_ended_and_one_that_is_due_comes_with_the_start() -> None:
    """75 % of 200 kW until it is clean: 15 min are left of it, or with the next start 30."""
    isle = site(LOAD, DG1, INV1, BESS1)
    running = start(isle, soc=0.5, dg1=DieselStart(True, 1e6, burn_s=900.0))
    burning = planned(isle, [900.0] * 4, 80.0, running)
    assert burning.power_kw["dg1"][0] >= 150.0 - 1e-3
    assert burning.power_kw["dg1"][1] < 150.0
    due = start(isle, soc=0.16, dg1=DieselStart(False, 1e6, burn_s=1800.0))
    plan = planned(isle, [900.0] * 6, 80.0, due)
    first = plan.on["dg1"].index(True)
    assert min(plan.power_kw["dg1"][first : first + 2]) >= 150.0 - 1e-3


def test_a_set_with_a_cost_is_planned_by_it() -> None:
    """80 kW: dg2 burns 22.8 L/h and dg1 24.0; an hour of dg2 costs 8 more in money, which at 2 a litre are 4 L."""
    costs = {"costs": {"currency": "USD", "diesel_per_l": 2.0}}
    for objective, runs in (("diesel", "dg2"), ("cost", "dg1")):
        two = site(LOAD, {**DG1, "om_per_h": 0.0}, {**DG2, "om_per_h": 8.0}, planner={"objective": objective}, **costs)
        plan = planned(two, [HOUR] * 4, 80.0, start(two, on=["dg1", "dg2"]))
        assert all(plan.on[runs])
        assert not any(plan.on["dg1" if runs == "dg2" else "dg2"])


def test_bound_and_plan_differ_only_in_wishes() -> None:
    """What is not fuel is no part of the bound: it is never above the plan's litres, but for the tiny wear that keeps charge and discharge apart."""
    begin = start(hybrid(), soc=0.5, on=["dg1"])
    asked = question(hybrid(), [HOUR] * 6, 120.0, begin)
    bound = PlanProblem(hybrid(), asked.grid.step_s, "bound")
    below = solve_question(bound, asked, Effort(1e-6, 5000)).bound_l
    _, plan = solved(hybrid(), asked)
    corrected = PlanCheck(hybrid()).fuel_l(plan, begin) + (plan.soc["bess1"][0] - plan.soc["bess1"][-1]) * 400.0 * 0.96 * 0.975 * 0.25
    assert below <= corrected + TINY_WEAR * sum(abs(kw + 2.0) for kw in plan.power_kw["inv1"]) + 1e-4


def test_a_full_battery_at_a_bright_noon_stays_full_and_the_sun_carries_the_load() -> None:
    """A brighter sun is cut, so nothing is to be made room for; and with sun enough until evening nothing is won by using the battery early."""
    isle = site(LOAD, PV1, DG1, INV1, BESS1)
    asked = question(isle, [HOUR] * 6, 100.0, start(isle, soc=0.95), sun=150.0)
    bright = replace(asked.forecast, floor_up_kw=(20.0,) * 6, floor_down_kw=(300.0,) * 6, error_up_kw=(20.0,) * 6, error_down_kw=(300.0,) * 6)
    problem, plan = solved(isle, replace(asked, forecast=bright))
    assert plan.power_kw["pv1"] == pytest.approx((100.0 + isle.station_kw,) * 6, abs=10.0)  # the first step makes room for a lost feeder
    assert plan.soc["bess1"][-1] == pytest.approx(0.95, abs=0.02)
    assert plan.unmet == ()
    assert problem.inverters[0].store is not None
    assert problem.inverters[0].store.clear.value.max() == pytest.approx(0.05 * 0.4)  # no more than the band leaves


def test_room_for_a_bright_day_is_what_it_brings_above_the_load_and_no_more_than_waiting_can_make() -> None:
    """200 kWh above the load fill 200 * 0.975 * 0.96 of 400 kWh; where no diesel runs the battery falls by the load itself, and what it then holds is free."""
    isle = site(LOAD, PV1, DG1, INV1, BESS1)
    asked = question(isle, [HOUR] * 4, 100.0, start(isle, soc=0.9), sun=[0.0, 0.0, 50.0, 50.0])
    lacks = (100.0 + isle.station_kw) / 0.975 / 0.96
    for bright, roof_kwh in (((0.0, 0.0, 60.0, 90.0), 380.0), ((0.0, 0.0, 200.0 + isle.station_kw, 200.0 + isle.station_kw), 380.0 - 200.0 * 0.975 * 0.96)):
        problem = PlanProblem(isle, (HOUR,) * 4)
        problem.fill(replace(asked, forecast=replace(asked.forecast, bright_kw=bright)))
        store = problem.inverters[0].store
        assert store is not None
        assert store.bright.value[2] * 1e3 == pytest.approx(max(roof_kwh, 360.0 - 2.0 * lacks))
        assert (store.lost_l.value > 0.0).tolist() == [False, False, True, True]


def test_what_a_night_takes_makes_room_for_the_bright_day_after_it() -> None:
    """300 kWh above the load fill 281 of 400 kWh in the last hour; the hour before takes as much as it lacks, and the one before that."""
    isle = site(LOAD, PV1, DG1, INV1, BESS1)
    asked = question(isle, [HOUR] * 4, 100.0, start(isle, soc=0.95, on=["dg1"]))
    problem = PlanProblem(isle, (HOUR,) * 4)
    lacks = 100.0 + isle.station_kw
    problem.fill(replace(asked, forecast=replace(asked.forecast, bright_kw=(0.0, 0.0, 0.0, 300.0 + lacks))))
    store = problem.inverters[0].store
    assert store is not None
    unburnt = [max(40.0, 380.0 - k * lacks / 0.975 / 0.96) for k in range(4)]
    roofs = [380.0 - max(0.0, 300.0 - (3 - k) * lacks) * 0.975 * 0.96 for k in range(4)]
    assert store.bright.value[:4] * 1e3 == pytest.approx(np.maximum(unburnt, roofs))
    assert roofs[1] > unburnt[1]


@pytest.mark.parametrize(("bright_kw", "stored"), [(0.0, True), (150.0, False)])
def test_a_diesel_waits_where_a_bright_day_would_fill_the_place_of_what_it_stores(bright_kw: float, stored: bool) -> None:
    """The set has to run for some of the day: in the morning, full and into the battery, or where a bright day may leave it out, as late as it can."""
    isle = site(LOAD, PV1, {**DG1, "hour_wear_l": 0.0}, INV1, BESS1)
    asked = question(isle, [HOUR] * 8, 100.0, start(isle, soc=0.5, on=["dg1"]), sun=[10.0] * 8)
    _, plan = solved(isle, replace(asked, forecast=replace(asked.forecast, bright_kw=(bright_kw,) * 8)))
    assert (max(plan.soc["bess1"][1:4]) > 0.5) is stored


def test_an_hour_less_of_an_engine_is_worth_what_it_wears() -> None:
    """Ten hours of 80 kW: a set without no-load fuel follows them, or it runs for some of them at full load and through the battery, which burns more."""
    hours = []
    for wear_l in (0.0, 20.0):
        isle = site(LOAD, {**DG1, "hour_wear_l": wear_l, "fuel": {"no_load_l_per_h": 0.0, "slope_l_per_kwh": 0.25}}, INV1, BESS1)
        asked = question(isle, [HOUR] * 10, 80.0, start(isle, soc=0.15, on=["dg1"]))
        _, plan = solved(isle, asked)
        hours.append(sum(plan.on["dg1"]))
        assert PlanCheck(isle).faults(plan, asked.start, asked.forecast) == []
    assert hours[0] == 10
    assert hours[1] <= 6
