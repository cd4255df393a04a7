"""Diesels on line share a load evenly wherever that costs nothing: worked by hand, and against the litres of any other split."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ems.model import Limits
from ems.physics import fuel_l_per_h
from ems.plan import DieselStart
from optimizer.problem import PlanProblem
from optimizer.sharing import lost_at_once, split
from tests.optimizer.cases import DG1, DG2, HOUR, LOAD, planned, site, start

STRAIGHT = {"no_load_l_per_h": 4.0, "slope_l_per_kwh": 0.25}
BENT = {"points": [[0.0, 4.0], [100.0, 24.0], [200.0, 54.0]]}  # 0.20, then 0.30 L/kWh


def two(large: dict[str, Any], small: dict[str, Any], **more: Any) -> Any:
    return site({**LOAD, "peak_kw": 300.0}, {**DG1, "fuel": large}, {**DG2, "fuel": small}, **more)


@pytest.mark.parametrize(
    ("large", "small", "load_kw", "expected"),
    [
        (STRAIGHT, STRAIGHT, 240.0, (160.0, 80.0)),  # both at 0.8
        (STRAIGHT, {**STRAIGHT, "slope_l_per_kwh": 0.26}, 240.0, (200.0, 40.0)),  # the flatter first
        (STRAIGHT, {**STRAIGHT, "slope_l_per_kwh": 0.24}, 240.0, (140.0, 100.0)),
        (BENT, {"points": [[0.0, 2.0], [50.0, 12.0], [100.0, 27.0]]}, 210.0, (140.0, 70.0)),  # 150 on the flat parts, 60 as 2 : 1 on the steep ones
        (
            BENT,
            {**STRAIGHT, "slope_l_per_kwh": 0.3},
            210.0,
            (140.0, 70.0),
        ),  # 100 kW on the flat part; of what is equally steep the small one takes up to the same loading first
    ],
)
def test_a_split_by_hand(large: dict[str, Any], small: dict[str, Any], load_kw: float, expected: tuple[float, float]) -> None:
    isle = two(large, small)
    plan = planned(isle, [HOUR] * 2, load_kw, start(isle, on=["dg1", "dg2"]))
    assert plan.on == {"dg1": (True, True), "dg2": (True, True)}
    for diesel, kw in zip(("dg1", "dg2"), expected, strict=True):
        assert plan.power_kw[diesel] == pytest.approx((kw, kw), abs=0.1)


def test_a_limit_is_a_bound_of_the_split() -> None:
    isle = two(STRAIGHT, STRAIGHT)
    held = {"dg1": Limits(max_kw=100.0)}
    plan = planned(isle, [HOUR] * 2, 180.0, start(isle, on=["dg1", "dg2"]), limits=held)
    assert plan.power_kw["dg1"] == pytest.approx((100.0,) * 2, abs=0.1)  # evenly it were 120 and 60


def test_an_engine_that_burns_itself_clean_keeps_its_loading() -> None:
    isle = two(STRAIGHT, STRAIGHT)
    dirty = DieselStart(True, 1e6, burn_s=HOUR)
    plan = planned(isle, [HOUR] * 2, 150.0, start(isle, on=["dg1", "dg2"], dg2=dirty))
    assert plan.power_kw["dg2"][0] >= 70.0 - 0.1
    assert sum(p[0] for p in plan.power_kw.values()) == pytest.approx(150.0)


def test_a_burn_that_comes_with_a_start_keeps_its_loading() -> None:
    """210 kW take both sets: evenly 140 and 70 kW, but the small one is to burn itself clean at three quarters of its rating."""
    isle = two(STRAIGHT, STRAIGHT)
    plan = planned(isle, [HOUR] * 2, 210.0, start(isle, on=["dg1"], dg2=DieselStart(False, 1e6, burn_s=1800.0)))
    assert plan.power_kw["dg2"] == pytest.approx((75.0, 70.0), abs=0.1)


@given(
    total=st.floats(90.0, 300.0),
    slopes=st.tuples(st.sampled_from([0.24, 0.25, 0.26]), st.sampled_from([0.24, 0.25, 0.26])),
    bent=st.tuples(st.booleans(), st.booleans()),
    other=st.floats(0.0, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_no_other_split_burns_less(total: float, slopes: tuple[float, float], bent: tuple[bool, bool], other: float) -> None:
    fuels = [
        {"points": [[0.0, 4.0], [rated / 2, 4.0 + slope * rated / 2], [rated, 4.0 + slope * 1.2 * rated]]} if bends else {**STRAIGHT, "slope_l_per_kwh": slope}
        for slope, bends, rated in zip(slopes, bent, (200.0, 100.0), strict=True)
    ]
    running = PlanProblem(two(*fuels), (HOUR,)).diesels
    bounds = [(60.0, 200.0), (30.0, 100.0)]
    even = split(total, bounds, running)
    assert even is not None
    assert sum(even) == pytest.approx(total)
    assert all(lo - 1e-6 <= p <= hi + 1e-6 for p, (lo, hi) in zip(even, bounds, strict=True))
    low, high = max(60.0, total - 100.0), min(200.0, total - 30.0)
    first = low + other * (high - low)
    litres = [sum(fuel_l_per_h(d.diesel.fuel, p) for d, p in zip(running, powers, strict=True)) for powers in (even, (first, total - first))]
    assert litres[0] <= litres[1] + 1e-6


@pytest.mark.parametrize("total", [80.0, 310.0])
def test_a_total_outside_the_bounds_is_not_split(total: float) -> None:
    running = PlanProblem(two(STRAIGHT, STRAIGHT), (HOUR,)).diesels
    assert split(total, [(60.0, 200.0), (30.0, 100.0)], running) is None


def test_what_a_trip_leaves_within_seconds() -> None:
    """200 and 100 kW, block loads 100 and 50: at 150 and 60 kW the trip of the large one leaves 150 - 40, that of the small one 60 - 50."""
    quick = site({**LOAD, "peak_kw": 300.0}, {**DG1, "block_load_kw": 100.0}, {**DG2, "block_load_kw": 50.0})
    running = PlanProblem(quick, (HOUR,)).diesels
    assert lost_at_once([150.0, 60.0], running) == pytest.approx(110.0)
    assert lost_at_once([60.0, 100.0], running) == pytest.approx(60.0)  # the small one is full: it takes up nothing, its own 100 kW are taken up
