"""The sun that a plan counts on: on the bright side where a bright day fills the batteries, and never for security."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ems.plan import Forecast, Grid, Storm
from optimizer.leaning import LEAN, leaning
from optimizer.security import without_sun
from tests.optimizer.cases import BESS1, DG1, INV1, LOAD, NOON, PV1, site

HOUR = 3600.0
SITE = site(LOAD, PV1, DG1, INV1, BESS1)
BAND_KWH = sum((b.soc_max - b.soc_min) * b.capacity_kwh for b in SITE.assets if b.kind == "battery")


def forecast(load_kw: float, sun_kw: float, more_kw: float) -> Forecast:
    """Four hours of sun, then night; a bright day has more of it, and errors are as large both ways."""
    sun, bright = (sun_kw,) * 4 + (0.0,) * 20, (sun_kw + more_kw,) * 4 + (0.0,) * 20
    errors = (more_kw,) * 24
    return Forecast(Grid(NOON, (HOUR,) * 24), (load_kw,) * 24, {"pv1": sun}, {}, floor_up_kw=errors, floor_down_kw=errors, bright_kw=bright)


def test_this_hour_is_as_measured_and_a_bright_day_that_fills_the_batteries_counts_in_part() -> None:
    sunny, kw = forecast(10.0, 10.0 + BAND_KWH, 40.0), 10.0 + BAND_KWH
    found = leaning(SITE, sunny)
    assert found.available_kw["pv1"][:5] == pytest.approx((kw, *(kw + 40.0 * LEAN,) * 3, 0.0))
    assert found.load_kw == sunny.load_kw


@pytest.mark.parametrize("case", [forecast(500.0, 100.0, 40.0), replace(forecast(10.0, 900.0, 40.0), bright_kw=(0.0,) * 24)])
def test_where_it_fills_nothing_or_no_day_is_brighter_the_sun_is_what_is_expected(case: Forecast) -> None:
    assert leaning(SITE, case).available_kw["pv1"] == pytest.approx(case.available_kw["pv1"])


def test_where_no_bright_day_was_seen_it_leans_nowhere() -> None:
    case = replace(forecast(10.0, 900.0, 40.0), bright_kw=())
    assert leaning(SITE, case) is case


def test_half_a_filled_battery_counts_half() -> None:
    half = forecast(100.0, 60.0 + BAND_KWH / 8.0, 40.0)  # a bright day leaves an eighth of the band in each of four hours
    more = leaning(SITE, half).available_kw["pv1"][2] - half.available_kw["pv1"][2]
    assert more == pytest.approx(0.5 * LEAN * 40.0)


def test_a_river_fills_the_battery_too() -> None:
    """50 kW of river are half of the load: the same sun fills a half of the band more, in four hours."""
    river = {"id": "river", "kind": "hydro", "rated_kw": 50.0, "head_m": 20.0, "design_flow_m3s": 0.4}
    of = site(LOAD, PV1, DG1, INV1, BESS1, river)
    half = replace(forecast(100.0 + BAND_KWH / 8.0, 60.0 + BAND_KWH / 8.0, 40.0), inflow_m3s={"river": (0.4,) * 24})
    dry = replace(half, inflow_m3s={"river": (0.0,) * 24})
    more = [leaning(of, f).available_kw["pv1"][2] - f.available_kw["pv1"][2] for f in (half, dry)]
    assert more == pytest.approx([min(1.0, 200.0 / BAND_KWH) * LEAN * 40.0, 0.0])


def test_a_bad_day_stays_where_it_was() -> None:
    """Net load of a bad and of a bright day, as `optimizer.security` adds them up, do not move."""
    before = forecast(10.0, 10.0 + BAND_KWH, 40.0)
    after = leaning(SITE, before)
    for sign, errors in ((-1.0, "floor_up_kw"), (1.0, "floor_down_kw")):
        bad = [[sun + sign * error for sun, error in zip(f.available_kw["pv1"], getattr(f, errors), strict=True)] for f in (before, after)]
        assert bad[1] == pytest.approx(bad[0])


def test_without_a_battery_there_is_no_bright_side() -> None:
    bare = site(LOAD, PV1, DG1)
    assert leaning(bare, forecast(10.0, 900.0, 40.0)).available_kw["pv1"][2] == 900.0


def test_what_a_storm_takes_is_no_sun_to_lean_on() -> None:
    """The planner takes the storm's sun away first, the bright day's as well, so a bad day in a storm is what it was: no sun, and the error beside it."""
    storm = Storm(NOON + timedelta(hours=1), NOON + timedelta(hours=3))
    dark = without_sun(forecast(500.0, 100.0, 80.0), storm)
    assert dark.bright_kw[:4] == (180.0, 0.0, 0.0, 180.0)
    found = leaning(SITE, dark)
    assert found.available_kw["pv1"][1:3] == (0.0, 0.0)
    assert found.floor_up_kw[1:3] == (80.0, 80.0)
