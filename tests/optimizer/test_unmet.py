"""What a plan cannot meet is listed in words: each kind from a real solve, with its time and its amount by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from ems.config.site import Site
from ems.model import Limits
from ems.plan import DieselStart, Plan, PlantStart, Unmet
from optimizer.answer import plan_of
from optimizer.planner import solve_question
from optimizer.problem import PlanProblem
from optimizer.solver import Effort
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, NOON, PV1, hybrid, planned, question, site, start

FOUR = (HOUR,) * 4
AWAY = DieselStart(False, 1e6, usable=False)


def told(of: Site, load: float | Sequence[float], begin: PlantStart, **more: Any) -> dict[str, Unmet]:
    plan: Plan = planned(of, more.pop("steps", FOUR), load, begin, **more)
    assert len({u.limit for u in plan.unmet}) == len(plan.unmet)
    return {u.limit: u for u in plan.unmet}


def test_a_plan_that_meets_all_lists_nothing() -> None:
    assert told(hybrid(), 100.0, start(hybrid(), 0.6, ["dg1"]), sun=40.0) == {}


def test_load_that_cannot_be_served() -> None:
    """One set of 200 kW for 150, 250, 250 and 150 kW: 100 kWh in the second and third hour."""
    of = site({**LOAD, "peak_kw": 250.0}, DG1)
    found = told(of, [150.0, 250.0, 250.0, 150.0], start(of, on=["dg1"]))["unserved"]
    assert (found.at, found.unit) == (NOON + timedelta(hours=1), "kWh")
    assert found.amount == pytest.approx(100.0, abs=1.0)
    assert found.en == "100 kWh of load cannot be served, from 01 Mar 13:00 for 2 h"
    assert found.ja == "負荷 100 kWh に供給できません（03/01 13:00 から 2時間）"


def test_reserve_that_is_short_in_power() -> None:
    """One set of 200 kW at 195 kW: a tenth of the load are 19.5 kW, and 5 are left."""
    of = site(LOAD, DG1)
    found = told(of, 195.0, start(of, on=["dg1"]))["reserve"]
    assert found.amount == pytest.approx(14.5, abs=0.2)
    assert found.en.startswith("spinning reserve is short by up to 14 kW") or found.en.startswith("spinning reserve is short by up to 15 kW")
    assert "for 4 h" in found.en and "4時間" in found.ja


def test_reserve_whose_energy_is_missing() -> None:
    """The sets are away; the battery carries 80 kW until it is empty, and behind what it could add there is ever less energy."""
    of = site(LOAD, DG1, INV1, BESS1)
    found = told(of, [40.0, 40.0, 40.0, 40.0], start(of, 0.55, dg1=AWAY))
    assert found["reserve_energy"].unit == "kWh"
    assert found["reserve_energy"].at > NOON  # at first there is enough
    assert "behind the reserve" in found["reserve_energy"].en and "電力量" in found["reserve_energy"].ja


def test_no_room_to_take_power_back() -> None:
    """A full battery, no diesel, an inverter held to 20 kW, cells that take 10: a feeder with 50 of 100 kW trips, some 30 can be taken back."""
    feeders = [{"id": "f1", "priority": 1, "share": 0.5}, {"id": "f2", "priority": 2, "share": 0.5}]
    of = site({**LOAD, "feeders": feeders}, PV1, DG1, INV1, {**BESS1, "charge_kw": 10.0})
    found = told(of, 100.0, start(of, 0.95, dg1=AWAY), sun=120.0, steps=(900.0,) * 4, limits={"inv1": Limits(max_kw=20.0)})["reserve_down"]
    assert found.at == NOON
    assert found.amount == pytest.approx(50.0 - (20.0 + 10.0 / 0.975 + 2.0), abs=0.1)  # what is charged, with losses and own use
    assert "下げ方向" in found.ja


def test_a_battery_that_stays_under_the_floor_that_an_operator_wants() -> None:
    """50 % of 400 kWh are wanted and 30 % are there, the sets are away: 80 kWh are missing and more as it carries the load."""
    limits = {"bess1": Limits(soc_min=0.5), "dg2": Limits(out_of_service=True)}
    found = told(hybrid(), 20.0, start(hybrid(), 0.3, dg1=AWAY), limits=limits)["soc"]
    assert found.amount >= 80.0
    assert "bess1 is up to" in found.en and "under its floor" in found.en
    assert "limits in force: bess1 at least 50 %, dg2 out of service" in found.en
    assert "制限中: bess1 下限 50 %、dg2 停止指定" in found.ja


def test_a_battery_that_cannot_come_down_to_the_ceiling_that_an_operator_wants() -> None:
    """Nobody draws: 80 % of 400 kWh stay, where 60 % are wanted."""
    found = told(hybrid(), 0.0, start(hybrid(), 0.8), limits={"bess1": Limits(soc_max=0.6)}, steps=(300.0,) * 3)["soc_max"]
    assert found.amount == pytest.approx(80.0, abs=2.0)
    assert "above its ceiling" in found.en and "上限" in found.ja


def test_fuel_that_the_tank_does_not_hold() -> None:
    """A person runs the set at 100 kW: 4 h of 29 L/h with 60 L in the tank: 56 L are missing, from the third hour on."""
    tank = {"id": "tank1", "kind": "tank", "feeds": ["dg1"], "capacity_l": 1000.0, "deliveries": [{"date": date(2026, 3, 9), "litres": 500.0}]}
    of = site(LOAD, DG1, tank)
    begin = replace(start(of, dg1=DieselStart(True, 1e6, held=True)), tank_l={"tank1": 60.0})
    found = told(of, 100.0, begin, limits={"dg1": Limits(min_kw=100.0)})
    assert found["fuel"].at == NOON + timedelta(hours=2)
    assert found["fuel"].amount == pytest.approx(4 * 29.0 - 60.0, abs=1.0)
    assert "tank1 lacks 56 L" in found["fuel"].en and "燃料" in found["fuel"].ja


def test_daily_energy_that_does_not_fit() -> None:
    """20 kW for the two hours that are left of the day's window: 40 of 100 kWh, 30 have come before."""
    ice = {"id": "ice", "kind": "deferrable", "rated_kw": 20.0, "daily_kwh": 100.0, "window": ["08:00", "14:00"]}
    of = site(LOAD, DG1, DG2, ice)
    found = told(of, 80.0, replace(start(of, on=["dg1"]), done_kwh={"ice": 30.0}))["deferrable"]
    assert found.amount == pytest.approx(30.0, abs=0.5)
    assert found.en == "ice misses 30 kWh of its daily energy on 2026-03-01"
    assert found.ja == "ice の 2026-03-01 の必要量が 30 kWh 不足します"


def test_a_set_under_its_minimum_because_nothing_takes_more() -> None:
    """The set must stay on for its minimum up time, 60 kW at least, and 20 kW are drawn: 40 kW too few."""
    of = site(LOAD, DG1)
    found = told(of, 20.0, start(of, on=["dg1"], since_s=0.0), steps=(900.0,) * 2)["min_loading"]
    assert found.amount == pytest.approx(0.3 * 200.0 - 20.0, abs=1.0)
    assert "dg1 runs up to 40 kW under its minimum" in found.en and "低負荷" in found.ja


def test_limits_that_contradict_each_other() -> None:
    limits = {"dg2": Limits(out_of_service=True, min_kw=50.0)}
    found = told(hybrid(), 100.0, start(hybrid(), 0.6, ["dg1"]), limits=limits)["limits"]
    assert (found.amount, found.unit, found.at) == (50.0, "kW", NOON)
    assert found.en == "dg2 is out of service and asked to give at least 50 kW"
    assert "停止指定" in found.ja


def test_what_an_operator_asks_of_a_set_and_nothing_takes() -> None:
    """150 kW at least of a set that must run, where 100 kW are drawn and nobody can store the rest."""
    of = site(LOAD, DG1)
    found = told(of, 100.0, start(of, on=["dg1"]), limits={"dg1": Limits(min_kw=150.0)}, steps=(900.0,) * 2)["min_loading"]
    assert found.amount == pytest.approx(50.0, abs=1.0)


def test_what_the_forecast_has_been_wrong_by_is_a_wish_too() -> None:
    """One set of 200 kW at 150 kW has 50 left; the net load has come out 90 kW higher within the time that new capacity takes."""
    of = site(LOAD, DG1)
    asked = question(of, FOUR, 150.0, start(of, on=["dg1"]))
    asked = replace(asked, forecast=replace(asked.forecast, error_up_kw=(90.0,) * len(FOUR)))
    problem = PlanProblem(of, FOUR)
    plan = plan_of(problem, asked, solve_question(problem, asked, Effort(1e-6, 100)), "p", asked.grid.end)
    assert plan.error_up_kw == (90.0,) * len(FOUR)
    assert {u.limit: u.amount for u in plan.unmet}["reserve"] == pytest.approx(40.0, abs=0.2)
