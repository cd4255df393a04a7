"""Made weather: repeated by its seed, possible, and the mean of what it is made of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ems.config.site import Site
from ems.series import SeriesTable
from simulator.plant import Plant
from simulator.scenario import clear_sky, from_series, noise, synthetic

NOON = datetime(2026, 3, 1, 3, tzinfo=UTC)  # noon in Palau
SITE = Site.model_validate(
    {
        "site": {"id": "test", "timezone": "Pacific/Palau", "latitude": 7.34, "longitude": 134.48},
        "assets": [
            {"id": "town", "kind": "load", "peak_kw": 300},
            {"id": "pv1", "kind": "solar", "rated_kw": 200},
            {"id": "h1", "kind": "hydro", "rated_kw": 100, "head_m": 50, "design_flow_m3s": 0.3},
            {"id": "dg1", "kind": "diesel", "rated_kw": 400},
        ],
    }
)


def test_the_same_seed_gives_the_same_day_in_any_order_and_another_one_another() -> None:
    hours = [NOON + timedelta(hours=h) for h in range(24)]
    forward = [synthetic(SITE, 7)(at, 900) for at in hours]
    scenario = synthetic(SITE, 7)
    assert [scenario(at, 900) for at in reversed(hours)] == forward[::-1]
    assert [synthetic(SITE, 8)(at, 900) for at in hours] != forward


def test_a_year_of_it_is_possible() -> None:
    scenario = synthetic(SITE, 1)
    seen = [scenario(NOON + timedelta(hours=7 * k), 1) for k in range(1200)]
    load = [c.load_kw["town"] for c in seen]
    sun = [c.available_kw["pv1"] for c in seen]
    river = [c.inflow_m3s["h1"] for c in seen]
    assert 0.3 * 300 < min(load) < 0.55 * 300
    assert 0.75 * 300 < max(load) <= 300
    assert min(sun) == 0
    assert 0.7 * 200 < max(sun) <= 200
    assert sum(s == 0 for s in sun) > 0.4 * len(sun)  # nights
    assert 0.2 * 0.3 <= min(river) < 0.3 < max(river)


def test_an_interval_is_the_mean_of_its_parts() -> None:
    scenario = synthetic(SITE, 3)
    parts = [scenario(NOON + timedelta(minutes=5 * k), 300) for k in range(12)]
    whole = scenario(NOON, 3600)
    assert whole.load_kw["town"] == pytest.approx(sum(p.load_kw["town"] for p in parts) / 12)
    assert whole.available_kw["pv1"] == pytest.approx(sum(p.available_kw["pv1"] for p in parts) / 12)


def test_the_sun_stands_where_it_should() -> None:
    assert clear_sky(7.34, 134.48, NOON) == pytest.approx(1.01, abs=0.03)  # 15 degrees from the zenith
    assert clear_sky(7.34, 134.48, NOON + timedelta(hours=12)) == 0
    assert clear_sky(60.0, 0.0, datetime(2026, 12, 21, 12, tzinfo=UTC)) == pytest.approx(0.066, abs=0.02)  # 6.6 degrees high


def test_noise_is_smooth_and_covers_its_range() -> None:
    values = [noise(0, 0, 10.0 * k, 600.0) for k in range(6000)]
    assert 0 <= min(values) < 0.1
    assert 0.9 < max(values) <= 1
    assert max(abs(a - b) for a, b in zip(values, values[1:], strict=False)) < 0.03


def test_a_series_is_a_scenario_and_the_plant_takes_it() -> None:
    columns = {"load_kw": np.array([100.0, 200.0]), "pv1.available_kw": np.array([0.0, 50.0]), "river.inflow_m3s": np.array([0.1, 0.1])}
    scenario = from_series(SeriesTable(SITE, NOON, 3600.0, columns))
    conditions = scenario(NOON + timedelta(minutes=30), 3600)
    assert conditions.load_kw == {"town": 150}
    assert conditions.available_kw == {"pv1": 25}
    assert Plant(SITE).step(3600, conditions).served_kw == 150
