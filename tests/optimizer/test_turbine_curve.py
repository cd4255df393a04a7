"""A turbine with an efficiency curve: what is planned, what the plan check accepts and what the plant then does."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ems.config.site import Hydro, Site
from ems.physics import hydro_flow_m3s, hydro_kw
from ems.plan import DieselStart, Grid, Plan, PlantStart
from ems.plan_check import PlanCheck
from optimizer.forecasting.bands import curve
from simulator.plant import Conditions, Plant
from simulator.tallies import River
from tests.optimizer.cases import DG1, HOUR, LOAD, NOON, forecast, planned, site

TURBINE: dict[str, Any] = {
    "id": "hydro1",
    "kind": "hydro",
    "rated_kw": 100.0,
    "min_kw": 10.0,
    "head_m": 25.0,
    "design_flow_m3s": 0.5,
    "pond_m3": 6000.0,
    "efficiency_curve": [[0.4, 0.8], [0.8, 1.04], [1.0, 1.0]],
}
"""Its best point is 83.2 kW at 0.4 m3/s; 57.6 kW take 0.3 m3/s."""
TWO_JETS = [[0.45, 1.0], [0.55, 0.95], [0.9, 1.0], [1.0, 1.0]]


def isle(**fields: Any) -> Site:
    return site(LOAD, DG1, {**TURBINE, **fields})


def begin(pond_m3: float) -> PlantStart:
    return PlantStart({}, {"dg1": DieselStart(True, 1e6)}, pond_m3={"hydro1": pond_m3})


def plan_of(of: Site, pond_m3: float, water: float = 0.0, load: float = 180.0, steps: int = 2) -> Plan:
    return planned(of, [HOUR] * steps, load, begin(pond_m3), water=water)


def faults(of: Site, plan: Plan, pond_m3: float, water: float = 0.0, load: float = 180.0) -> list[str]:
    return PlanCheck(of).faults(plan, begin(pond_m3), forecast(of, Grid(NOON, plan.grid.step_s), load, water=water))


def test_scarce_water_goes_through_at_the_best_flow() -> None:
    # 2880 m3 for two hours: 0.4 m3/s in both make 166.4 kWh, full power in one and 0.3 m3/s in the other only 157.6 kWh.
    of = isle()
    plan = plan_of(of, 2880.0)
    assert plan.power_kw["hydro1"] == pytest.approx((83.2, 83.2), rel=1e-3)
    assert plan.pond_m3["hydro1"] == pytest.approx((2880.0, 1440.0, 0.0), abs=2.0)
    assert faults(of, plan, 2880.0) == []


def test_water_to_spare_is_kept_for_later_rather_than_driven_past_the_best_flow() -> None:
    assert plan_of(isle(), 5000.0).power_kw["hydro1"] == pytest.approx((83.2, 83.2), rel=1e-3)
    assert plan_of(isle(efficiency_curve=[]), 5000.0).power_kw["hydro1"] == pytest.approx((100.0, 100.0), rel=1e-3)


def test_what_would_be_spilt_is_taken_even_at_a_worse_flow() -> None:
    assert plan_of(isle(), 6000.0, water=0.5).power_kw["hydro1"] == pytest.approx((100.0, 100.0), rel=1e-3)


@pytest.mark.parametrize(("pond", "water", "load"), [(2880.0, 0.0, 180.0), (5000.0, 0.1, 150.0), (500.0, 0.25, 120.0), (5900.0, 0.45, 180.0)])
def test_plan_and_plant_agree_on_the_pond(pond: float, water: float, load: float) -> None:
    of = isle()
    plan = plan_of(of, pond, water, load, steps=4)
    assert faults(of, plan, pond, water, load) == []
    plant = Plant(of, running=["dg1"])
    plant.hydros[0].pond_m3 = pond
    for k, power in enumerate(plan.power_kw["hydro1"]):
        plant.command("hydro1", "running", float(power > 0.0))
        plant.command("hydro1", "power_kw", power)
        flows = plant.step(HOUR, Conditions({"town": load}, {}, {"hydro1": water}))
        assert flows.power_kw["hydro1"] == pytest.approx(power, abs=0.2)
        assert flows.pond_m3["hydro1"] == pytest.approx(plan.pond_m3["hydro1"][k + 1], abs=6.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(60.0, 7200.0), st.floats(0.0, 0.8), st.sampled_from([0.0, 15.0, 60.0, 90.0, 100.0])), min_size=1, max_size=8))
def test_no_water_is_made_or_lost_in_the_plant(steps: list[tuple[float, float, float]]) -> None:
    plant = Plant(isle(), running=["dg1"])
    unit = plant.hydros[0]
    for dt_s, river, power in steps:
        pond = unit.pond_m3
        plant.command("hydro1", "power_kw", power)
        flows = plant.step(dt_s, Conditions({"town": 180.0}, {}, {"hydro1": river}))
        assert (river - hydro_flow_m3s(unit.asset, flows.power_kw["hydro1"]) - unit.spill_m3s) * dt_s == pytest.approx(unit.pond_m3 - pond, abs=1e-6)
        assert -1e-9 <= flows.spilled_kw <= 100.0 - flows.power_kw["hydro1"] + 1e-9


def test_a_plan_that_counts_on_the_efficiency_of_the_design_point_is_refused() -> None:
    of = isle()
    plan = plan_of(of, 2880.0)
    at_design = (2880.0, 2880.0 - 0.32 * HOUR, 2880.0 - 0.64 * HOUR)
    low = replace(plan, power_kw={"dg1": (116.0, 116.0), "hydro1": (64.0, 64.0)}, pond_m3={"hydro1": at_design})
    assert hydro_flow_m3s(of.of(Hydro)[0], 64.0) == pytest.approx(0.325)
    assert any("the pond of hydro1 goes to 1728 m3 in step 0 where its flows lead to 1710" in f for f in faults(of, low, 2880.0))
    right = replace(low, pond_m3={"hydro1": (2880.0, 1710.0, 540.0)})
    assert faults(of, right, 2880.0) == []


def test_a_curve_with_a_dent_is_planned_with_and_its_plans_are_taken() -> None:
    of = isle(efficiency_curve=TWO_JETS)
    plan = plan_of(of, 3000.0, water=0.1, steps=4)
    assert faults(of, plan, 3000.0, water=0.1) == []
    drops = [a - b for a, b in pairwise(plan.pond_m3["hydro1"])]
    truth = [(hydro_flow_m3s(of.of(Hydro)[0], p) - 0.1) * HOUR for p in plan.power_kw["hydro1"]]
    assert all(drop <= true + 1.0 and true <= drop + 0.055 * (true + 0.1 * HOUR) + 1.0 for drop, true in zip(drops, truth, strict=True))


def test_a_river_below_the_no_load_flow_turns_nothing() -> None:
    # 0.08 m3/s would be 16 kW at the efficiency of the design point; by the curve they are 1.3 kW.
    of = isle(pond_m3=0.0)
    assert plan_of(of, 0.0, water=0.08).power_kw["hydro1"] == pytest.approx((0.0, 0.0))
    assert Plant(of).step(HOUR, Conditions({"town": 180.0}, {}, {"hydro1": 0.08})).power_kw["hydro1"] == 0.0


def test_what_a_river_could_give_is_counted_at_the_best_flow() -> None:
    river = River(isle().of(Hydro)[0], 0.0)
    assert river.reach_kwh(0.4, HOUR) == pytest.approx(83.2)
    assert river.reach_kwh(0.2, HOUR) == pytest.approx(41.6)  # from a pond it might have gone through in half the time


def test_the_forecast_of_power_from_a_river_follows_the_curve() -> None:
    turbine = isle().of(Hydro)[0]
    flows, powers = curve(turbine)
    for flow in (0.05, 0.1, 0.3, 0.4, 0.45, 0.7):
        assert np.interp(flow, flows, powers) == pytest.approx(hydro_kw(turbine, flow), abs=0.5)
