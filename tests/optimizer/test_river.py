"""What moves a turbine without our choice: a river that rises, an operator's floor, and a pond that is not ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ems.config.site import Site
from ems.model import Limits
from ems.physics import hydro_flow_m3s
from ems.plan import DieselStart, Grid, Plan, PlantStart
from ems.plan_check import PlanCheck
from ems.rules import Rules
from tests.optimizer.cases import BESS1, DG1, INV1, LOAD, NOON, PV1, forecast, planned, site

STEPS = (300.0,) * 12
BEGIN = PlantStart({}, {"dg1": DieselStart(True, 1e6)})
REST = PlantStart({}, {"dg1": DieselStart(False, 1e6)})
FULL = replace(REST, soc={"bess1": 0.95})
AT_LEAST = {"hydro1": Limits(min_kw=60.0)}


def isle(*more: dict[str, Any], **fields: Any) -> Site:
    """A turbine of 250 kW, minimum 25 kW, beside a diesel of 200 kW."""
    return site({**LOAD, "peak_kw": 300.0}, DG1, {"id": "hydro1", "kind": "hydro", "rated_kw": 250.0, **fields}, *more)


def sunny() -> Site:
    """With sun, and a turbine that holds the bus; no reserve is asked, so that nothing but sun and river run."""
    reserve = {"largest_unit": False, "load_fraction": 0.0, "solar_fraction": 0.0}
    turbine = {"id": "hydro1", "kind": "hydro", "rated_kw": 250.0, "forming": "droop"}
    return site({**LOAD, "peak_kw": 300.0}, DG1, PV1, turbine, reserve=reserve)


def water(of: Site, kw: float | Sequence[float]) -> list[float]:
    """Return the inflow that gives these powers [m3/s]."""
    hydro: Any = of.asset("hydro1")
    return [hydro_flow_m3s(hydro, p) for p in ([kw] * len(STEPS) if isinstance(kw, float) else kw)]


def faults(of: Site, plan: Plan, river: float | Sequence[float], load: float, begin: PlantStart = BEGIN, sun: float = 0.0, **limits: Limits) -> list[str]:
    return PlanCheck(of).broken(plan, begin, forecast(of, Grid(NOON, STEPS), load, sun, water(of, river)), limits)


RISING = (*(100.0,) * 6, *(200.0,) * 6)
FALLING = RISING[::-1]


@pytest.mark.parametrize("river", [RISING, FALLING])
def test_a_set_that_must_take_the_river_is_not_held_back_by_its_ramp(river: Sequence[float]) -> None:
    """0.2 kW/s are 60 kW from one step of 5 min to the next; the river moves it by 100 kW."""
    of = isle(mode="fixed", ramp_kw_per_s=0.2)
    plan = planned(of, STEPS, 270.0, BEGIN, water=water(of, river))
    assert plan.power_kw["hydro1"] == pytest.approx(river, abs=0.1)
    assert plan.power_kw["dg1"] == pytest.approx([270.0 - p for p in river], abs=0.1)
    assert max(plan.unserved_kw) == 0.0
    assert PlanCheck(of).faults(plan, BEGIN, forecast(of, Grid(NOON, STEPS), 270.0, water=water(of, river))) == []


def test_a_set_that_takes_setpoints_rises_by_its_ramp_alone() -> None:
    of = isle(ramp_kw_per_s=0.2)
    plan = planned(of, STEPS, 270.0, BEGIN, water=water(of, RISING))
    assert max(b - a for a, b in zip(plan.power_kw["hydro1"], plan.power_kw["hydro1"][1:], strict=False)) == pytest.approx(60.0, abs=0.1)
    assert faults(of, plan, RISING, 270.0) == []
    jump = replace(plan, power_kw={"hydro1": RISING, "dg1": tuple(270.0 - p for p in RISING)})
    assert faults(of, jump, RISING, 270.0) == ["hydro1 changes by 100 kW into step 6, its ramp allows 60 kW"]


def test_a_river_that_falls_takes_a_set_with_it() -> None:
    of = isle(ramp_kw_per_s=0.2)
    plan = planned(of, STEPS, 270.0, BEGIN, water=water(of, FALLING))
    assert plan.power_kw["hydro1"] == pytest.approx(FALLING, abs=0.1)
    assert faults(of, plan, FALLING, 270.0) == []
    early = (*FALLING[:4], 90.0, *FALLING[5:])
    broken = replace(plan, power_kw={"hydro1": early, "dg1": tuple(270.0 - p for p in early)})
    assert faults(of, broken, FALLING, 270.0) == ["hydro1 changes by -110 kW into step 4, its ramp allows 60 kW"]


def test_an_operators_floor_rises_with_the_river() -> None:
    """At least 180 kW: all of a river of 100 kW, and 180 of 200, which is 20 kW more than the ramp from 100 would allow."""
    of, limits = isle(ramp_kw_per_s=0.2), {"hydro1": Limits(min_kw=180.0)}
    plan = planned(of, STEPS, 270.0, BEGIN, water=water(of, RISING), limits=limits)
    assert plan.power_kw["hydro1"][:6] == pytest.approx((100.0,) * 6, abs=0.1)
    assert all(180.0 - 0.1 <= p <= 200.1 for p in plan.power_kw["hydro1"][6:])
    assert max(plan.unserved_kw) == 0.0
    assert faults(of, plan, RISING, 270.0, **limits) == []


@pytest.mark.parametrize(("river_kw", "least_kw"), [(80.0, 60.0), (40.0, 40.0), (20.0, 0.0)])
def test_an_operators_floor_is_taken_from_the_river_before_the_sun(river_kw: float, least_kw: float) -> None:
    """100 kW of load and 120 of sun, which is rather used than the river but for the floor; under 25 kW it stands, and a diesel holds the bus at 60."""
    of = sunny()
    plan = planned(of, STEPS, 100.0, REST, sun=120.0, water=water(of, river_kw), limits=AT_LEAST)
    assert plan.power_kw["hydro1"] == pytest.approx((least_kw,) * 12, abs=0.1)
    assert plan.power_kw["pv1"][0] == pytest.approx(100.0 - (least_kw or 60.0), abs=0.1)
    assert faults(of, plan, river_kw, 100.0, REST, 120.0, **AT_LEAST) == []


def test_less_than_an_operator_wants_of_the_river_is_refused() -> None:
    of = sunny()
    plan = planned(of, STEPS, 100.0, REST, sun=120.0, water=water(of, 80.0))
    assert plan.power_kw["hydro1"] == pytest.approx((25.0,) * 12, abs=0.1)
    assert faults(of, plan, 80.0, 100.0, REST, 120.0) == []
    assert faults(of, plan, 80.0, 100.0, REST, 120.0, **AT_LEAST) == ["hydro1 turns at 25 kW in step 0, minimum 60 kW"]
    still = replace(plan, power_kw={**plan.power_kw, "hydro1": (0.0,) * 12, "pv1": (100.0,) * 12})
    away = {"hydro1": Limits(min_kw=60.0, out_of_service=True)}
    for limits, refused in (({}, False), (AT_LEAST, True), (away, False)):  # it may stand, but not where it is asked for
        assert ("hydro1 turns at 0 kW in step 0, minimum 60 kW" in faults(of, still, 80.0, 100.0, REST, 120.0, **limits)) is refused


@pytest.mark.parametrize(("limits", "river_kw", "expected"), [({}, 80.0, 52.0), (AT_LEAST, 80.0, 60.0), (AT_LEAST, 56.0, 56.0)])
def test_the_rules_lower_a_turbine_no_further_than_an_operator_wants(limits: dict[str, Limits], river_kw: float, expected: float) -> None:
    """Load 50 and 2 kW of the inverter with a full battery."""
    of = isle(INV1, BESS1, forming="droop")
    seen = forecast(of, Grid(NOON, STEPS), 50.0, 0.0, water(of, river_kw))
    plan = Rules(of).rollout(FULL, seen, "load-following", "p", NOON, limits)
    assert plan.power_kw["hydro1"] == pytest.approx((expected,) * 12, abs=0.1)


@pytest.mark.parametrize("mode", ["level", "flow", "fixed"])
def test_a_pond_is_drawn_on_only_by_a_set_that_takes_setpoints(mode: str) -> None:
    """150 kW from a river of 50 kW for an hour: 100 kWh out of a pond, which in mode `power` is a plan."""
    begin = replace(BEGIN, pond_m3={"hydro1": 5000.0})
    drawn: dict[str, Any] = {"hydro1": (150.0,) * 12, "dg1": (120.0,) * 12}
    of, theirs = isle(pond_m3=5000.0), isle(pond_m3=5000.0, mode=mode)
    hydro: Any = of.asset("hydro1")
    lost = (hydro_flow_m3s(hydro, 150.0) - hydro_flow_m3s(hydro, 50.0)) * 300.0
    pond = tuple(5000.0 - k * lost for k in range(13))
    plan = Plan("p", NOON, Grid(NOON, STEPS).end, "mpc", Grid(NOON, STEPS), drawn, {"dg1": (True,) * 12}, {}, (270.0,) * 12, (0.0,) * 12, {"hydro1": pond})
    assert faults(of, plan, 50.0, 270.0, begin) == []
    assert faults(theirs, plan, 50.0, 270.0, begin) == ["it gives pond of hydro1, which has none that a plan may draw on"]
    assert faults(theirs, replace(plan, pond_m3={}), 50.0, 270.0, begin) == ["hydro1 draws 150 kW in step 0, more than the river gives"]
    own = planned(theirs, STEPS, 240.0, begin, water=water(theirs, 50.0))
    assert own.pond_m3 == {} and own.power_kw["hydro1"] == pytest.approx((50.0,) * 12, abs=0.1)
    assert faults(theirs, own, 50.0, 240.0, begin) == []
