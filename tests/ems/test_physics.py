"""Physics against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.config.site import Battery, Diesel, Fuel, Hydro, Inverter
from ems.physics import (
    ac_kw,
    best_kwh_per_m3,
    charge_limit_kw,
    charge_room_kw,
    dc_kw,
    discharge_room_kw,
    flow_lines,
    fuel_l,
    fuel_l_per_h,
    hull_flow_m3s,
    hydro_flow_m3s,
    hydro_kw,
    kwh_per_m3,
    river_kw,
    storage_step,
)

INVERTER = Inverter.model_validate({"id": "i", "kind": "inverter", "rated_kw": 800.0, "efficiency": 0.975, "no_load_kw": 6.0})
BATTERY = Battery.model_validate(
    {
        "id": "b",
        "kind": "battery",
        "behind": "i",
        "capacity_kwh": 2400.0,
        "charge_kw": 800.0,
        "discharge_kw": 800.0,
        "charge_limit_curve": [[0.9, 1.0], [1.0, 0.2]],
    }
)
HYDRO = Hydro.model_validate({"id": "h", "kind": "hydro", "rated_kw": 250.0, "head_m": 62.0, "design_flow_m3s": 0.52})


def test_fuel_line_and_curve() -> None:
    diesel = Diesel.model_validate({"id": "d", "kind": "diesel", "rated_kw": 600.0, "fuel": {"no_load_l_per_h": 12.6, "slope_l_per_kwh": 0.249}})
    assert fuel_l(diesel, 400.0, 0.25) == pytest.approx((12.6 + 0.249 * 400) / 4)
    curve = Fuel.model_validate({"no_load_l_per_h": 10.0, "points": [[0.0, 10.0], [100.0, 30.0], [200.0, 60.0]]})
    assert [fuel_l_per_h(curve, p) for p in (0.0, 50.0, 150.0, 250.0)] == pytest.approx([10.0, 20.0, 45.0, 75.0])


@pytest.mark.parametrize(("busbar", "dc"), [(-6.0, 0.0), (384.0, 400.0), (-206.0, -195.0), (0.0, 6.0 / 0.975)])
def test_inverter_draws_its_no_load_power_at_the_busbar(busbar: float, dc: float) -> None:
    assert dc_kw(INVERTER, busbar) == pytest.approx(dc)
    assert ac_kw(INVERTER, dc) == pytest.approx(busbar)


@given(st.floats(-800, 800))
def test_inverter_always_loses(power_kw: float) -> None:
    assert dc_kw(INVERTER, power_kw) >= power_kw
    assert ac_kw(INVERTER, dc_kw(INVERTER, power_kw)) == pytest.approx(power_kw, abs=1e-9)


def test_storage_step_both_ways() -> None:
    assert storage_step(BATTERY, 0.5, 240.0, 1.0) == pytest.approx(0.5 - 240 / 0.96 / 2400)
    assert storage_step(BATTERY, 0.5, -240.0, 1.0) == pytest.approx(0.5 + 240 * 0.96 / 2400)


@pytest.mark.parametrize(("soc", "limit"), [(0.5, 800.0), (0.95, 480.0), (1.0, 160.0)])
def test_charge_limit_follows_its_curve(soc: float, limit: float) -> None:
    assert charge_limit_kw(BATTERY, soc) == pytest.approx(limit)


def test_room_ends_exactly_at_the_band() -> None:
    charge = charge_room_kw(BATTERY, 0.9, 0.95, 1.0)
    assert storage_step(BATTERY, 0.9, -charge, 1.0) == pytest.approx(0.95)
    discharge = discharge_room_kw(BATTERY, 0.2, 0.1, 1.0)
    assert storage_step(BATTERY, 0.2, discharge, 1.0) == pytest.approx(0.1)
    assert charge_room_kw(BATTERY, 0.97, 0.95, 1.0) == 0.0


def test_hydro_power_and_its_inverse() -> None:
    assert hydro_kw(HYDRO, 0.52) == pytest.approx(250.0)
    assert hydro_kw(HYDRO, 0.26) == pytest.approx(125.0)
    assert hydro_kw(HYDRO, -0.1) == 0.0
    assert hydro_kw(HYDRO, 9.9) == 250.0
    assert hydro_flow_m3s(HYDRO, 125.0) == pytest.approx(0.26)


@pytest.mark.parametrize(("inflow_m3s", "power_kw"), [(0.05, 0.0), (0.12, 0.0), (0.152, 25.0), (0.36, 125.0), (0.62, 250.0), (5.0, 250.0)])
def test_a_river_gives_what_the_ecological_flow_leaves_and_nothing_under_the_turbines_least_power(inflow_m3s: float, power_kw: float) -> None:
    """0.1 m3/s stay in the river, 0.52 give 250 kW; under 12 kW the turbine stands: 0.02 m3/s are 9.6."""
    turbine = HYDRO.model_copy(update={"ecological_flow_m3s": 0.1, "min_kw": 12.0})
    assert river_kw(turbine, inflow_m3s) == pytest.approx(power_kw)


FULL: dict[str, Any] = {"id": "h", "kind": "hydro", "rated_kw": 100.0, "min_kw": 10.0, "head_m": 25.0, "design_flow_m3s": 0.5}
CURVE = [[0.4, 0.8], [0.8, 1.04], [1.0, 1.0]]
"""Power 0.32, 0.832 and 1 of rated: 1.28 kW per 1 % of flow, then 0.84; the first line meets no power at 0.15 of the design flow."""
FRANCIS = Hydro.model_validate({**FULL, "efficiency_curve": CURVE})
TWO_JETS = Hydro.model_validate({**FULL, "efficiency_curve": [[0.45, 1.0], [0.55, 0.95], [0.9, 1.0], [1.0, 1.0]]})


@pytest.mark.parametrize(
    ("flow_m3s", "power_kw"),
    [(0.0, 0.0), (0.075, 0.0), (0.1, 6.4), (0.2, 32.0), (0.3, 57.6), (0.4, 83.2), (0.45, 91.6), (0.5, 100.0)],
)
def test_a_turbine_by_its_curve_both_ways(flow_m3s: float, power_kw: float) -> None:
    assert hydro_kw(FRANCIS, flow_m3s) == pytest.approx(power_kw)
    assert hydro_flow_m3s(FRANCIS, power_kw) == pytest.approx(flow_m3s if power_kw else 0.0)


def test_a_turbine_gives_no_more_than_rated_and_nothing_from_a_trickle() -> None:
    assert hydro_kw(FRANCIS, 0.7) == pytest.approx(100.0)
    assert hydro_kw(FRANCIS, -0.1) == hydro_kw(FRANCIS, 0.05) == 0.0
    assert hydro_flow_m3s(FRANCIS, -1.0) == 0.0


@given(st.floats(0.01, 100), st.sampled_from([FRANCIS, TWO_JETS]))
def test_flow_and_power_are_inverse_and_the_planner_never_draws_more(power_kw: float, turbine: Hydro) -> None:
    flow = hydro_flow_m3s(turbine, power_kw)
    assert hydro_kw(turbine, flow) == pytest.approx(power_kw)
    if power_kw >= turbine.min_kw:
        assert hull_flow_m3s(turbine, power_kw) <= flow + 1e-9
        assert power_kw <= flow * 3600 * best_kwh_per_m3(turbine) + 1e-9
    if turbine is FRANCIS:
        assert hull_flow_m3s(turbine, power_kw) == pytest.approx(flow)


def test_the_hull_of_two_jets_leaves_out_the_change_from_one_to_the_other() -> None:
    # From 0.45 of flow and power to 0.9 of both it is a straight line: 52.25 kW would be 0.5225 of the flow where it takes 0.55.
    assert hydro_flow_m3s(TWO_JETS, 52.25) == pytest.approx(0.275)
    assert hull_flow_m3s(TWO_JETS, 52.25) == pytest.approx(0.26125)


def test_without_a_curve_water_is_one_line() -> None:
    plain = Hydro.model_validate(FULL)
    assert flow_lines(plain) == [(0.0, pytest.approx(0.005))]
    assert kwh_per_m3(plain) == best_kwh_per_m3(plain) == pytest.approx(100 / 1800)
    assert best_kwh_per_m3(FRANCIS) == pytest.approx(104 / 1800)
    flat = Hydro.model_validate({**FULL, "efficiency_curve": [[0.2, 1.0], [1.0, 1.0]]})
    for power in (10.0, 35.0, 100.0):
        assert [hydro_flow_m3s(flat, power), hull_flow_m3s(flat, power)] == pytest.approx([hydro_flow_m3s(plain, power)] * 2)
