"""Forecasts begin with what is measured, and come back to their own."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.plan import Observation
from optimizer.forecasting import Forecasting
from optimizer.forecasting.history import SLOT_S, Values
from optimizer.forecasting.nowcast import BRIGHTER, LASTS_H, LEAST, OLD, begun
from tests.optimizer.test_learning import BEGIN, NOTHING, TOWN, days, hourly, sine, slot_of

NOW = BEGIN + timedelta(hours=9)
SLOTS = slot_of(NOW) + np.arange(0, 49)
RATED = {"pv1": 150.0}
FLAT: dict[str, Values] = {"load": np.full(49, 100.0), "pv1": np.full(49, 60.0), "hydro1": np.full(49, 0.2)}


def measured(load_kw: float = 100.0, *, before: timedelta = timedelta(minutes=5), **more: float) -> Observation:
    sun = {k: v for k, v in more.items() if k.startswith("pv")}
    water = {k: v for k, v in more.items() if k.startswith("hydro")}
    return Observation(NOW - before, 300.0, load_kw, sun, water)


@pytest.mark.parametrize(("name", "is_now"), [("load", 120.0), ("load", 85.0), ("pv1", 90.0), ("pv1", 30.0), ("hydro1", 0.3)])
def test_a_deviation_is_whole_now_and_fades(name: str, is_now: float) -> None:
    seen = measured(is_now) if name == "load" else measured(**{name: is_now})
    found = begun(FLAT, SLOTS, seen, NOW, RATED)
    lasts_h = LASTS_H[{"load": "load", "pv1": "sun", "hydro1": "river"}[name]]
    off = is_now - FLAT[name][0]
    for lead_h in (0.0, 1.0, 3.0, 12.0):
        assert found[name][round(4 * lead_h)] == pytest.approx(FLAT[name][0] + off * math.exp(-lead_h / lasts_h))
    for other in FLAT.keys() - {name}:
        assert found[other] == pytest.approx(FLAT[other])


def test_slots_of_the_step_that_has_begun_have_the_whole_deviation() -> None:
    """A plan of hours asked for at a quarter past: what was before now in its first hour is moved as now is."""
    at = NOW + timedelta(minutes=17)
    found = begun(FLAT, SLOTS, replace(measured(120.0), start=at - timedelta(minutes=5)), at, RATED)
    assert found["load"][:2] == pytest.approx(120.0)
    assert found["load"][2] == pytest.approx(100.0 + 20.0 * math.exp(-0.25 / 6.0))


def test_the_sun_s_deviation_goes_with_the_sun() -> None:
    """Half of a falling sun: it is half of it in an hour as well, but for what has faded; from a low sun nothing above twice is taken."""
    falling = np.linspace(120.0, 0.0, 49)
    found = begun({"load": FLAT["load"], "pv1": falling}, SLOTS, measured(pv1=60.0), NOW, RATED)["pv1"]
    hours = np.arange(49) / 4.0
    assert found == pytest.approx(falling - 0.5 * falling * np.exp(-hours / 3.0))
    rising = np.linspace(10.0, 130.0, 49)
    found = begun({"load": FLAT["load"], "pv1": rising}, SLOTS, measured(pv1=15.0), NOW, RATED)["pv1"]
    assert found - rising == pytest.approx(5.0 * np.minimum(rising / 10.0, BRIGHTER) * np.exp(-hours / 3.0))


@pytest.mark.parametrize("is_now", [0.0, 1.0, 2.9])
def test_at_night_the_sun_says_nothing_about_the_day(is_now: float) -> None:
    """Under 3 kW of 150, as forecast for now, only now is moved."""
    dawn = np.concatenate([np.full(8, 2.0), np.linspace(2.0, 120.0, 41)])
    found = begun({"load": FLAT["load"], "pv1": dawn}, SLOTS, measured(pv1=is_now), NOW, RATED)["pv1"]
    assert found[1:] == pytest.approx(dawn[1:])
    assert found[0] == pytest.approx(max(is_now, LEAST * 2.0))
    dark = begun({"load": FLAT["load"], "pv1": np.zeros(49)}, SLOTS, measured(pv1=0.0), NOW, RATED)["pv1"]
    assert dark.tolist() == [0.0] * 49


@pytest.mark.parametrize(
    ("before", "counts"), [(timedelta(minutes=5), True), (OLD + timedelta(minutes=5), True), (OLD + timedelta(minutes=5, seconds=1), False)]
)
def test_what_was_measured_long_ago_is_not_now(before: timedelta, counts: bool) -> None:
    """The age is that of the interval's end."""
    found = begun(FLAT, SLOTS, measured(150.0, before=before), NOW, RATED)
    assert found["load"][0] == pytest.approx(150.0 if counts else 100.0)
    assert counts or found["load"].tolist() == FLAT["load"].tolist()


@pytest.mark.parametrize("seen", [None, measured(math.nan), measured(-5.0), measured(math.inf), measured(pv1=math.nan), measured(hydro1=-1.0)])
def test_without_a_measurement_forecasts_stay_as_they_are(seen: Observation | None) -> None:
    found = begun(FLAT, SLOTS, seen, NOW, RATED)
    assert {name: v.tolist() for name, v in found.items()} == {name: v.tolist() for name, v in FLAT.items()}


@given(
    st.lists(st.floats(0.0, 150.0), min_size=49, max_size=49),
    st.lists(st.floats(1.0, 400.0), min_size=49, max_size=49),
    st.floats(0.0, 1e4),
    st.floats(0.0, 1e4),
    st.integers(0, 40000),
)
def test_whatever_is_measured_a_forecast_stays_within_its_bounds(sun: list[float], load: list[float], sun_now: float, load_now: float, late_s: int) -> None:
    values = {"load": np.array(load), "pv1": np.array(sun)}
    at = NOW + timedelta(seconds=late_s)
    found = begun(values, SLOTS, Observation(at, 1.0, load_now, {"pv1": sun_now}, {}), at, RATED)
    assert (found["pv1"] <= 150.0).all() and (found["pv1"] >= LEAST * values["pv1"]).all()
    assert (found["load"] >= LEAST * values["load"]).all()
    assert (np.abs(found["load"] - values["load"]) <= abs(load_now - values["load"][int((at - NOW).total_seconds() // SLOT_S)]) + 1e-9).all()
    assert [len(v) for v in found.values()] == [49, 49]


def test_the_forecast_of_a_site_begins_with_what_it_measures() -> None:
    """A town at 150 kW instead of its usual 100 to 140: the first hour has nearly all of that, the next day none of it, and what is learned stays."""
    made = Forecasting(TOWN, "blend")
    made.learn(days(BEGIN, 5.0, sine))
    at = BEGIN + timedelta(days=5)
    plain = made.forecast(hourly(at), at, NOTHING)
    moved = made.forecast(hourly(at), at, NOTHING, Observation(at - timedelta(minutes=5), 300.0, 150.0, {}, {}))
    gained = [b - a for a, b in zip(plain.load_kw, moved.load_kw, strict=True)]
    assert 40.0 < gained[0] < 50.0
    assert gained == sorted(gained, reverse=True)
    assert gained[24] < 0.02 * gained[0]
    assert moved.load_peak_kw[0] >= moved.load_kw[0]
    assert made.forecast(hourly(at), at, NOTHING).load_kw == plain.load_kw
