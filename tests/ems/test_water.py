"""What a river gives: inflow first, the pond only by plan and with its level known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.config.site import Hydro
from ems.guards import Bound
from ems.model import AssetImage, Quality
from ems.plan import Target
from ems.water import asked_kw, available_kw, unplanned

# 9.81 x 1 m3/s x 30 m x 0.8 = 235.44 kW at the design point; the ecological flow is 0.2 m3/s.
FULL = 235.44


def hydro(**changes: object) -> Hydro:
    given = {"id": "h1", "kind": "hydro", "rated_kw": FULL, "design_flow_m3s": 1.0, "head_m": 30.0, "min_kw": 30.0, "ecological_flow_m3s": 0.2}
    return Hydro.model_validate({**given, **changes})


POND = hydro(pond_m3=5000.0)
CURVED = hydro(efficiency_curve=[[0.4, 0.8], [0.8, 1.04], [1.0, 1.0]])  # 57.6 % of power at 60 % of flow, no-load flow 0.15 m3/s
WISH = Target(frozenset(), {"h1": 180.0}, "mpc")


@pytest.mark.parametrize(
    ("unit", "points", "target", "expected"),
    [
        (hydro(), {"power_kw": 100.0, "flow_m3s": 0.7}, None, 0.5 * FULL),
        (hydro(), {"power_kw": 100.0, "flow_m3s": 3.0}, None, FULL),
        (hydro(), {"power_kw": 0.0, "flow_m3s": 0.1}, None, 0.0),  # the river keeps its own
        (hydro(), {"power_kw": 0.0, "flow_m3s": 0.3}, None, 0.0),  # 23.5 kW: too little to turn
        (hydro(), {"power_kw": 90.0, "flow_m3s": None}, None, 90.0),  # a gauge that is silent: what it gives
        (hydro(), {"power_kw": 90.0}, None, 90.0),  # no gauge: more is asked for, but not counted on
        (hydro(), {"power_kw": 0.0}, None, 0.0),
        (hydro(), {}, None, 0.0),
        (CURVED, {"power_kw": 100.0, "flow_m3s": 0.8}, None, 0.576 * FULL),
        (CURVED, {"power_kw": 0.0, "flow_m3s": 0.44}, None, 0.0),  # 0.24 m3/s are 27.1 kW: too little to turn, where one efficiency would say 56.5
        (hydro(), {"power_kw": 100.0, "flow_m3s": 0.7}, WISH, 0.5 * FULL),  # no pond to draw on
        (POND, {"power_kw": 100.0, "flow_m3s": 0.7, "level_m": 1.0}, WISH, 180.0),
        (POND, {"power_kw": 100.0, "flow_m3s": 0.7}, WISH, 0.5 * FULL),  # level unknown: no draw below inflow
        (POND, {"power_kw": 100.0, "flow_m3s": 0.7, "level_m": 1.0}, None, 0.5 * FULL),
        (POND, {"power_kw": 100.0, "flow_m3s": 1.2, "level_m": 1.0}, WISH, FULL),  # filling the pond is dispatch's choice
        (hydro(mode="level"), {"power_kw": 150.0, "flow_m3s": 0.7}, None, 150.0),  # its own controller draws
        (hydro(mode="level"), {"power_kw": 60.0, "flow_m3s": 0.7}, None, 0.5 * FULL),  # it was lowered by us, and may come back
        (hydro(mode="flow"), {"power_kw": 0.0, "flow_m3s": 0.7}, None, 0.5 * FULL),  # it stands, and can be started
        (hydro(mode="flow"), {"power_kw": 70.0}, None, 70.0),
        (hydro(), {"power_kw": 0.0, "flow_m3s": 0.7, "fault": 3.0}, None, 0.0),  # a faulted unit gives nothing, whatever flows
        (hydro(), {"power_kw": 0.0, "flow_m3s": 0.7, "ready": 0.0}, None, 0.0),
    ],
)
def test_what_it_can_give(unit: Hydro, points: dict[str, float | None], target: Target | None, expected: float) -> None:
    image = AssetImage("h1", "hydro", points, Quality.GOOD, 0.0)
    assert available_kw(unit, image, Bound(0.0, FULL), target) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("unit", "points", "asked"),
    [
        (hydro(), {"power_kw": 90.0}, 90.0 + 0.05 * FULL),
        (hydro(), {"power_kw": 0.0}, 30.0),  # it stands: what it turns at
        (hydro(mode="level"), {"power_kw": 0.0}, 30.0),
        (hydro(mode="fixed"), {"power_kw": 70.0}, None),
        (hydro(), {"power_kw": 0.0, "fault": 3.0}, None),
        (hydro(), {"power_kw": 90.0, "flow_m3s": None}, None),  # a gauge that is silent
        (POND, {"power_kw": 90.0}, None),  # more could be the pond's
        (hydro(), {}, None),
    ],
)
def test_a_turbine_without_a_gauge_is_asked_for_a_little_more_than_it_gives(unit: Hydro, points: dict[str, float | None], asked: float | None) -> None:
    found = asked_kw(unit, AssetImage("h1", "hydro", points, Quality.GOOD, 0.0))
    assert found == (None if asked is None else pytest.approx(asked))


@pytest.mark.parametrize(("unit", "points", "kept"), [(hydro(), {}, False), (hydro(), {"flow_m3s": None}, True), (POND, {}, True)])
def test_a_plan_is_no_cap_where_nobody_measures_the_river(unit: Hydro, points: dict[str, float | None], kept: bool) -> None:
    assets = {"h1": AssetImage("h1", "hydro", {"power_kw": 40.0, **points}, Quality.GOOD, 0.0)}
    found = unplanned([unit], assets, replace(WISH, power_kw={"h1": 180.0, "dg1": 50.0}))
    assert found is not None and found.power_kw == ({"h1": 180.0, "dg1": 50.0} if kept else {"dg1": 50.0})
    assert unplanned([unit], assets, None) is None


def test_an_operators_limit_holds_for_water_too() -> None:
    image = AssetImage("h1", "hydro", {"power_kw": 100.0, "flow_m3s": 1.2}, Quality.GOOD, 0.0)
    assert available_kw(hydro(), image, Bound(0.0, 80.0), None) == 80.0
