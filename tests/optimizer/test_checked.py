"""Plans that were sound and were refused, and plans that were not and passed: each goes through the problem and the independent check."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from ems.config.site import Site
from ems.model import Limits
from ems.plan import DieselStart, Plan, PlantStart, Storm
from ems.plan_case import case_of
from ems.plan_check import PlanCheck
from ems.rules import Rules
from ems.tiers import dark_l_per_h, tier_shares
from optimizer.answer import plan_of
from optimizer.frame import Question
from optimizer.planner import solve_question
from optimizer.problem import PlanProblem
from optimizer.solver import Effort
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, NOON, PV1, hybrid, planned, question, site, start

RUNS = DieselStart(True, 1e6)
QUARTER = 900.0


def both(of: Site, steps: list[float], load: float, begin: PlantStart, **more: Any) -> tuple[Plan, list[str]]:
    """Return a plan and what the check says of it."""
    asked = question(of, steps, load, begin, **more)
    return (plan := planned(of, steps, load, begin, **more)), checked(of, plan, asked)


def checked(of: Site, plan: Plan, asked: Question) -> list[str]:
    return PlanCheck(of).faults(plan, asked.start, asked.forecast, asked.limits)


# ------------------------------------------------------------------ kVA
def test_a_set_in_company_gives_more_than_alone_where_the_power_factor_binds() -> None:
    """880 kW at a power factor of 0.75 from two sets of 600 kW and 750 kVA: alone 562.5 kW, together 600 and 280 (660 kW + 582 kvar of 1500 kVA)."""
    engine = {**DG1, "rated_kw": 600.0, "rated_kva": 750.0, "block_load_kw": 600.0}
    sets = [{**engine, "fuel": {"no_load_l_per_h": 10.0, "slope_l_per_kwh": 0.22}}, {**engine, "id": "dg2", "forming": "droop"}]
    sets[1]["fuel"] = {"no_load_l_per_h": 10.0, "slope_l_per_kwh": 0.26}
    of = site({**LOAD, "peak_kw": 1000.0, "power_factor": 0.75}, *sets, reserve={"largest_unit": False, "load_fraction": 0.0})
    plan, faults = both(of, [QUARTER] * 4, 880.0, start(of, dg1=RUNS, dg2=RUNS))
    assert faults == []
    assert plan.power_kw["dg1"] == pytest.approx((600.0,) * 4, abs=0.1)
    assert plan.unserved_kw == (0.0,) * 4


# ------------------------------------------------------------------ fuel
TANK = {"id": "tank1", "kind": "tank", "feeds": ["dg1"], "capacity_l": 1000.0, "deliveries": [{"date": date(2026, 3, 9), "litres": 500.0}]}
FEEDERS = [{"id": "a", "priority": 1, "share": 0.4}, {"id": "b", "priority": 2, "share": 0.3}, {"id": "c", "priority": 3, "share": 0.3}]


def test_what_may_wait_is_dark_before_the_tank_is_dry() -> None:
    """15 h of 29 L/h with 400 L: 35 L are missing, 140 kWh of 0.25 L. The last tier (30 of 100 kW) goes without them in the last five hours."""
    of = site({**LOAD, "feeders": FEEDERS}, DG1, TANK)
    plan, faults = both(of, [HOUR] * 15, 100.0, replace(start(of, dg1=RUNS), tank_l={"tank1": 400.0}))
    assert faults == []
    assert plan.unserved_kw == pytest.approx((0.0,) * 10 + (20.0,) + (30.0,) * 4, abs=0.01)
    assert "fuel" not in {u.limit for u in plan.unmet} and "unserved" in {u.limit for u in plan.unmet}


def test_rationed_fuel_is_cheaper_than_a_dark_hospital_though_more_kwh_are_dark() -> None:
    """The rules know no tank: with 400 L they have 23 of 29 L in the fourteenth hour and none in the last, for nobody."""
    of = site({**LOAD, "feeders": FEEDERS}, DG1, TANK)
    begin = replace(start(of, dg1=RUNS), tank_l={"tank1": 400.0})
    asked, check = question(of, [HOUR] * 15, 100.0, begin), PlanCheck(of)
    rationed = planned(of, [HOUR] * 15, 100.0, begin)
    rules = Rules(of).rollout(begin, asked.forecast, "load-following", "r", asked.at)
    ours, theirs = (check.price(case_of(of, p, begin, asked.forecast, {})) for p in (rationed, rules))
    assert (ours.unserved_kwh, theirs.unserved_kwh) == (pytest.approx(140.0, abs=0.1), pytest.approx(120.7, abs=0.1))
    assert (ours.dark_l, theirs.dark_l) == (
        pytest.approx(140.0 * 20.0, rel=1e-3),
        pytest.approx(20.7 * 20.0 + 30.0 * 20.0 + 30.0 * 50.0 + 40.0 * 200.0, rel=1e-3),
    )
    # The other way round the same two are as one would think: who sheds the hospital is refused, whatever the kWh.
    dark = replace(rationed, unserved_kw=tuple(p + u for p, u in zip(rationed.power_kw["dg1"], rationed.unserved_kw, strict=True)), on={"dg1": (False,) * 15})
    assert any("unserved" in f for f in checked(of, replace(dark, power_kw={"dg1": (0.0,) * 15}), asked))


def test_what_a_dark_kwh_is_worth_by_tier() -> None:
    """Of 100 kW the last 30 are 20 L a kWh, the 30 before them 50, the first 40 200."""
    shares = tier_shares(site({**LOAD, "feeders": FEEDERS}, DG1))
    assert shares == pytest.approx((0.4, 0.3, 0.3))
    for dark_kw, litres in ((0.0, 0.0), (30.0, 600.0), (50.0, 600.0 + 1000.0), (100.0, 600.0 + 1500.0 + 8000.0)):
        assert dark_l_per_h(dark_kw, 100.0, shares) == pytest.approx(litres)


# ------------------------------------------------------------------ learned error
def test_a_plan_may_not_forget_how_wrong_its_forecast_may_be() -> None:
    """Control reads the learned error from the plan: without it a battery alone seems to hold reserve that it does not hold."""
    of = hybrid()
    asked = question(of, [QUARTER] * 8, 100.0, start(of, 0.9, ["dg1"]), sun=40.0)
    asked = replace(asked, forecast=replace(asked.forecast, error_up_kw=(60.0,) * 8))
    plan = replace(planned(of, [QUARTER] * 8, 100.0, asked.start, sun=40.0), error_up_kw=(60.0,) * 8)
    assert not [f for f in checked(of, plan, asked) if "error" in f]
    for said in ((), (0.0,) * 8, (60.0,) * 7 + (20.0,), (90.0,) * 8):
        assert any("it reckons with an error of up to" in f for f in checked(of, replace(plan, error_up_kw=said), asked))


# ------------------------------------------------------------------ persons
def test_a_set_that_a_person_runs_stays_on_in_the_plan() -> None:
    """40 kW of load and a full battery: nobody would run dg1, but it does run, at its minimum or more; the plan reckons with what it gives."""
    of = site(LOAD, DG1, INV1, BESS1)
    free, _ = both(of, [QUARTER] * 8, 40.0, start(of, 0.9, dg1=RUNS))
    assert not any(free.on["dg1"][2:])
    held = replace(start(of, 0.9), diesels={"dg1": replace(RUNS, held=True)})
    plan, faults = both(of, [QUARTER] * 8, 40.0, held)
    assert faults == []
    assert all(plan.on["dg1"])
    asked = question(of, [QUARTER] * 8, 40.0, held)
    assert any("kept running by a person or its own panel and is planned off" in f for f in checked(of, free, asked))
    ordered = replace(held, diesels={"dg1": DieselStart(False, 1e6, held=True)})
    assert any(planned(of, [QUARTER] * 8, 40.0, ordered).on["dg1"])


def test_a_least_power_that_an_operator_asks_of_a_set_is_asked_of_the_rules_too() -> None:
    """500 kW, 200 of them sun; dg1 is to give 450: a plan that obeys burns more than rules that need not, and was refused for it."""
    of = site({**LOAD, "peak_kw": 600.0}, {**PV1, "rated_kw": 300.0}, {**DG1, "rated_kw": 600.0, "block_load_kw": 600.0})
    limits = {"dg1": Limits(min_kw=450.0)}
    plan, faults = both(of, [QUARTER] * 8, 500.0, start(of, dg1=RUNS), sun=200.0, limits=limits)
    assert faults == []
    assert min(plan.power_kw["dg1"]) >= 450.0 - 1.0


def test_a_held_set_comes_before_its_twin() -> None:
    """dg1 has run 5000 h and its own panel keeps it on, dg2 could stop: 70 kW are one set's, and that one is dg1."""
    twin = {**DG1, "rated_kw": 100.0, "block_load_kw": 100.0}
    of = site(LOAD, twin, {**twin, "id": "dg2", "forming": "droop"}, reserve={"largest_unit": False, "load_fraction": 0.0})
    begin = PlantStart({}, {"dg1": DieselStart(True, 1e6, run_h=5000.0, held=True), "dg2": DieselStart(True, 1e6, run_h=100.0)})
    plan, faults = both(of, [QUARTER] * 8, 70.0, begin)
    assert faults == []
    assert all(plan.on["dg1"]) and not any(plan.on["dg2"][1:])


def test_a_held_set_that_is_out_of_service_for_a_while_binds_nobody() -> None:
    """A mechanic's run in local while the set is out of service for five minutes: then it may not start again at once, and need not."""
    of = site(LOAD, DG1, {**DG2, "rated_kw": 150.0})
    limits = {"dg1": Limits(out_of_service=True, expires_at=NOON + timedelta(minutes=5))}
    begin = PlantStart({}, {"dg1": DieselStart(True, 1e6, held=True), "dg2": DieselStart(True, 1e6)})
    plan, faults = both(of, [300.0] * 6, 80.0, begin, limits=limits)
    assert faults == []
    assert not plan.on["dg1"][0] and plan.unserved_kw == (0.0,) * 6


@pytest.mark.parametrize("limit", [Limits(max_kw=0.3, min_kw=0.3), Limits(max_kw=5.0)])
def test_a_limit_under_what_turns_a_turbine_stops_it_and_nothing_else(limit: Limits) -> None:
    """Its meter's noise in local, or an operator's 5 kW where 10 turn it: dg1 serves the island."""
    turbine = {"id": "hydro1", "kind": "hydro", "rated_kw": 100.0, "min_kw": 10.0, "head_m": 40.0, "design_flow_m3s": 0.3, "pond_m3": 20000.0}
    of = site(LOAD, DG1, turbine)
    begin = PlantStart({}, {"dg1": RUNS}, pond_m3={"hydro1": 10000.0})
    plan, faults = both(of, [QUARTER] * 4, 100.0, begin, water=0.15, limits={"hydro1": limit})
    assert faults == []
    assert plan.unserved_kw == (0.0,) * 4 and plan.power_kw["hydro1"] == pytest.approx((0.0,) * 4, abs=0.01)


def test_an_island_in_the_dark_is_no_plan_beside_rules_that_charge_from_an_empty_tank() -> None:
    """Rules charge with fuel that is not there: that is 100 kW in the dark, not 300, so nothing is saved by leaving the battery full and all dark."""
    of = site({**LOAD, "feeders": FEEDERS}, DG1, INV1, BESS1, TANK, rules={"cycle_stop_soc": 0.9})
    begin = replace(start(of, 0.5, dg1=RUNS), tank_l={"tank1": 0.0})
    asked = question(of, [HOUR] * 6, 100.0, begin)
    charging = Rules(of).rollout(begin, asked.forecast, "cycle-charging", "r", asked.at)
    price = PlanCheck(of).price(case_of(of, charging, begin, asked.forecast, {}))
    assert price.unserved_kwh <= 600.0 + 1e-6
    assert price.dark_l <= 6.0 * dark_l_per_h(100.0, 100.0, tier_shares(of)) + 1e-6


def test_rationing_in_a_storm_is_what_the_check_asks_for_too() -> None:
    """330 L for 15 h of 29 L/h, and the boat that is due in the sixth hour does not come in a storm: 105 L, 420 kWh are missing."""
    boat = {"date": date(2026, 3, 1), "litres": 1000.0, "delay_days": 0}
    of = site({**LOAD, "feeders": FEEDERS}, DG1, {**TANK, "deliveries": [boat]}, site={"id": "isle", "timezone": "Etc/GMT+6"})
    storm = Storm(NOON, NOON + timedelta(days=2))
    begin = replace(start(of, dg1=RUNS), tank_l={"tank1": 330.0})
    asked = question(of, [HOUR] * 15, 100.0, begin)
    warned = replace(asked, forecast=replace(asked.forecast, storm=storm))
    problem = PlanProblem(of, tuple([HOUR] * 15))
    plan = plan_of(problem, warned, solve_question(problem, warned, Effort(1e-6, 10000)), "p", warned.grid.end)
    assert sum(plan.unserved_kw) > 100.0
    assert checked(of, plan, warned) == []


# ------------------------------------------------------------------ sun in local
def test_a_sun_that_nobody_can_curtail_is_taken_and_sets_go_below_their_minimum_for_it() -> None:
    """A full battery, a set that a person runs (60 kW at least) and 40 kW of sun on a load of 70: curtailed to 12 if it may be, else the set has 32 left."""
    of, held = hybrid(), DieselStart(True, 1e6, held=True)
    begin = start(of, 0.95, dg1=held)
    plan, faults = both(of, [HOUR] * 3, 70.0, begin, sun=40.0)
    assert faults == []
    assert min(plan.power_kw["dg1"]) >= 60.0 - 1e-6 and max(plan.power_kw["pv1"]) < 40.0
    local = {"pv1": Limits(min_kw=150.0)}
    asked = question(of, [HOUR] * 3, 70.0, begin, sun=40.0, limits=local)
    taken, faults = both(of, [HOUR] * 3, 70.0, begin, sun=40.0, limits=local)
    assert faults == []
    assert taken.power_kw["pv1"] == pytest.approx((40.0,) * 3)
    assert any("pv1 at 7 kW in step 0, where 40 kW come whether they are wanted or not" in f for f in checked(of, plan, asked))


def test_a_sun_that_nobody_can_curtail_may_go_where_nobody_can_take_it() -> None:
    """120 kW on a load of 70 with a full battery and no set on: 72 kW are taken, and no plan is refused for the rest."""
    of = hybrid()
    plan, faults = both(of, [HOUR] * 2, 70.0, start(of, 0.95), sun=120.0, limits={"pv1": Limits(min_kw=150.0)})
    assert faults == []
    assert plan.power_kw["pv1"] == pytest.approx((72.0,) * 2, abs=0.5)


# ------------------------------------------------------------------ dark
def test_what_must_go_dark_does_so_as_late_as_can_be() -> None:
    """A set of 100 kW for 140 kW, 42 with the inverter's own: a battery at 0.5 has 150 kWh, three hours and a half. Until then a boat, or the sun, may come."""
    of = site({**LOAD, "feeders": FEEDERS}, DG2, INV1, BESS1, reserve={"largest_unit": False, "load_fraction": 0.0})
    plan, faults = both(of, [HOUR] * 12, 140.0, start(of, 0.5, on=["dg2"]))
    assert faults == []
    assert plan.unserved_kw == pytest.approx((0.0,) * 3 + (4 * 42.0 - 0.4 * 400.0 * 0.96 * 0.975,) + (42.0,) * 8, abs=0.5)


# ------------------------------------------------------------------ who holds the busbar
def test_what_a_dead_busbar_needs_is_not_asked_of_one_that_is_alive() -> None:
    """A battery that could bring up the island above a charge of 0.3 holds it below that, too, as one that could do so at 0.05: the plan is the same."""
    islands = [site(LOAD, DG1, INV1, {**BESS1, "black_start_soc": soc}) for soc in (0.05, 0.3)]
    (plan, faults), (other, others) = (both(of, [HOUR] * 16, 60.0, start(of, soc=0.5)) for of in islands)
    assert (faults, others) == ([], [])
    assert (plan.on, plan.power_kw) == (other.on, other.power_kw)
    assert any(soc < 0.3 and not on for soc, on in zip(plan.soc["bess1"][1:], plan.on["dg1"], strict=True))
