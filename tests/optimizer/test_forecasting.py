"""Forecasts: what they say with much, with little and with no history."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ems.config.site import Site, Solar
from ems.plan import Forecast, Grid, Observation, PlantStart
from optimizer.forecasting import Forecasting
from optimizer.forecasting.history import SLOT_S, History
from optimizer.forecasting.persistence import LastWeek, Latest
from optimizer.forecasting.sky import sines
from tests.optimizer.cases import DG1, LOAD, NOON, PV1, forecast, site
from tests.optimizer.test_problem import RIVER

ISLE = site(LOAD, PV1, DG1, RIVER)
NOTHING = PlantStart({}, {})
QUARTERS = 96
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def observe(begin: datetime, days: float, load: Callable[[datetime], float], sun: Callable[[datetime], float], every_s: float = 900.0) -> list[Observation]:
    times = [begin + timedelta(seconds=every_s * k) for k in range(int(days * 86400 / every_s))]
    return [Observation(t, every_s, load(t), {"pv1": sun(t)}, {"hydro1": 0.2}) for t in times]


def daily_load(at: datetime) -> float:
    return 100.0 + 5.0 * at.hour


def daily_sun(at: datetime) -> float:
    return 100.0 * max(0.0, math.sin(math.pi * (at.hour + at.minute / 60.0 - 6.0) / 12.0)) if 6 <= at.hour < 18 else 0.0


def learned(method: str, observations: list[Observation], of: Site = ISLE) -> Forecasting:
    made = Forecasting(of, method)
    made.learn(observations)
    return made


def grid(at: datetime, steps: int = 24, step_s: float = 3600.0) -> Grid:
    return Grid(at, (step_s,) * steps)


def test_perfect_is_the_truth() -> None:
    def truth(on: Grid) -> Forecast:
        return forecast(ISLE, on, 77.0, 5.0, 0.3)

    found = Forecasting(ISLE, "perfect", truth).forecast(grid(NOON), NOON, NOTHING)
    assert found == truth(grid(NOON))


def test_persistence_repeats_yesterday_and_holds_the_river() -> None:
    made = learned("persistence", observe(MONDAY, 1.0, daily_load, daily_sun))
    at = MONDAY + timedelta(days=1)
    found = made.forecast(grid(at), at, NOTHING)
    assert found.load_kw == pytest.approx([100.0 + 5.0 * h for h in range(24)])
    assert found.available_kw["pv1"][12] == pytest.approx(sum(daily_sun(MONDAY + timedelta(hours=12, minutes=m)) for m in (0, 15, 30, 45)) / 4)
    assert found.inflow_m3s["hydro1"] == (0.2,) * 24
    assert found.load_peak_kw == found.load_kw
    assert dict(found.source) == {"load": "persistence", "pv1": "persistence", "hydro1": "persistence"}


def test_persistence_goes_further_back_where_yesterday_is_missing() -> None:
    made = learned("persistence", observe(MONDAY, 1.0, daily_load, daily_sun))
    at = MONDAY + timedelta(days=1)
    two_days = made.forecast(grid(at, steps=48), at, NOTHING)
    assert two_days.load_kw[:24] == pytest.approx(two_days.load_kw[24:])


def test_without_history_the_load_is_held_and_never_zero() -> None:
    never = Forecasting(ISLE, "persistence").forecast(grid(NOON), NOON, NOTHING)
    assert never.load_kw == (100.0,) * 24  # half of the peak
    sun, rated = never.available_kw["pv1"], ISLE.of(Solar)[0].rated_kw
    assert sun[12] == 0.0  # midnight
    assert 0.15 * rated < max(sun) <= 0.3 * rated  # a dull day, not a dark one
    assert never.inflow_m3s["hydro1"] == (0.05,) * 24  # what must stay in the river turns nothing
    assert all(s.startswith("fallback") for s in never.source.values())
    once = learned("persistence", observe(NOON, 1 / 96, lambda _: 130.0, lambda _: 75.0))
    after = once.forecast(grid(NOON + timedelta(minutes=15)), NOON + timedelta(minutes=15), NOTHING)
    assert after.load_kw[:23] == (130.0,) * 23
    assert after.source["load"] == "fallback:last value"


def test_without_history_the_sun_follows_a_clear_day_as_far_as_seen() -> None:
    made = learned("persistence", observe(NOON, 1 / 96, lambda _: 130.0, lambda _: 75.0))
    begin = NOON + timedelta(minutes=15)
    found = made.forecast(grid(begin), begin, NOTHING)
    sun = found.available_kw["pv1"]
    assert sun[0] == pytest.approx(75.0, rel=0.05)
    assert sun[12] == 0.0  # midnight
    assert max(sun) <= 80.0
    assert found.source["pv1"].startswith("fallback")


def test_missing_observations_are_gaps_not_zeros() -> None:
    seen = observe(MONDAY, 2.0, daily_load, daily_sun)
    holes = [o for o in seen if not (o.start.day == 3 and o.start.hour in (5, 6))]
    holes = [Observation(o.start, o.seconds, o.load_kw, {} if o.start.hour == 12 else o.available_kw, {}) for o in holes]
    at = MONDAY + timedelta(days=2)
    found = learned("persistence", holes).forecast(grid(at), at, NOTHING)
    assert found.load_kw == pytest.approx([100.0 + 5.0 * h for h in range(24)])
    assert found.available_kw["pv1"][12] > 50.0
    assert found.source["hydro1"].startswith("fallback")


def test_the_same_interval_twice_counts_once() -> None:
    history = History()
    one = Observation(NOON, 900.0, 100.0, {}, {})
    assert history.learn([one]) == [one]
    assert history.learn([one]) == []
    assert history.mean("load", NOON, 900.0) == 100.0


def test_hours_and_minutes_of_observation_give_the_same_means() -> None:
    for every_s in (60.0, 900.0, 3600.0):
        history = History()
        history.learn(observe(MONDAY, 0.5, daily_load, daily_sun, every_s))
        assert history.mean("load", MONDAY + timedelta(hours=3), 3600.0) == pytest.approx(115.0)


def test_history_does_not_grow_for_years() -> None:
    history = History()
    history.learn(observe(MONDAY, 60.0, daily_load, daily_sun))
    assert history.days("load") == 35.0
    assert history.mean("load", MONDAY, 900.0) is None


def test_seasonal_falls_back_until_it_has_seen_enough_and_says_so() -> None:
    at = MONDAY + timedelta(days=2)
    young = learned("seasonal", observe(MONDAY, 2.0, daily_load, daily_sun)).forecast(grid(at), at, NOTHING)
    assert young.source["load"] == young.source["pv1"] == "fallback:persistence"
    at = MONDAY + timedelta(days=4)
    grown = learned("seasonal", observe(MONDAY, 4.0, daily_load, daily_sun)).forecast(grid(at), at, NOTHING)
    assert grown.source["load"] == grown.source["pv1"] == "seasonal"


def test_seasonal_learns_the_hour_of_the_day() -> None:
    at = MONDAY + timedelta(days=4)
    found = learned("seasonal", observe(MONDAY, 4.0, daily_load, daily_sun)).forecast(grid(at), at, NOTHING)
    assert found.load_kw[6:22] == pytest.approx([100.0 + 5.0 * h for h in range(6, 22)], rel=0.03)
    assert found.available_kw["pv1"][12] == pytest.approx(100.0, rel=0.05)
    assert found.available_kw["pv1"][0] == pytest.approx(0.0, abs=0.5)


def test_seasonal_knows_the_weekend() -> None:
    def load(at: datetime) -> float:
        return 60.0 if at.weekday() >= 5 else 120.0

    seen = observe(MONDAY, 14.0, load, daily_sun)
    friday = MONDAY + timedelta(days=18)
    found = learned("seasonal", seen).forecast(grid(friday + timedelta(hours=12)), friday + timedelta(hours=12), NOTHING)
    assert found.load_kw[3] == pytest.approx(120.0, rel=0.02)
    assert found.load_kw[20] == pytest.approx(60.0, rel=0.02)


def test_last_week_is_shifted_by_what_the_last_day_had_more() -> None:
    history = History()
    now = int(MONDAY.timestamp()) // SLOT_S + 9 * QUARTERS  # a Wednesday

    def load(at: datetime) -> float:
        return 50.0 + 10.0 * at.weekday() + (20.0 if (at - MONDAY).days == 8 else 0.0)

    history.learn(observe(MONDAY, 9.0, load, daily_sun))
    week, latest = LastWeek(history, "load"), Latest(history, "load")
    assert week.predict(now + np.array([0, QUARTERS]), now).tolist() == [70.0 + 20.0, 80.0 + 20.0]
    assert np.isnan(LastWeek(history, "pv9").predict(now + np.arange(3), now)).all()
    assert latest.predict(now + np.array([0, 23, 24]), now)[:2].tolist() == [80.0, 80.0]
    assert np.isnan(latest.predict(now + np.array([24]), now)[0])  # of tomorrow the latest value says nothing


def test_seasonal_follows_what_was_seen_just_now_and_forgets_it() -> None:
    seen = observe(MONDAY, 4.0, lambda _: 100.0, daily_sun)
    seen += observe(MONDAY + timedelta(days=4), 0.5, lambda _: 150.0, lambda t: 0.5 * daily_sun(t))
    at = MONDAY + timedelta(days=4, hours=12)
    found = learned("seasonal", seen).forecast(grid(at), at, NOTHING)
    assert found.load_kw[0] > 130.0
    assert found.load_kw[23] < 120.0  # a part of what lasted half a day may last another one
    assert found.available_kw["pv1"][0] < 0.75 * daily_sun(at)
    assert found.available_kw["pv1"][23] > 0.85 * daily_sun(at - timedelta(hours=1))


def test_seasonal_uses_the_site_s_own_hours() -> None:
    """Tokyo is nine hours ahead: what is learned is the local hour, so a profile made in UTC still comes out in UTC."""
    tokyo = ISLE.model_copy(update={"site": ISLE.site.model_copy(update={"timezone": "Asia/Tokyo"})})
    at = MONDAY + timedelta(days=4)
    found = learned("seasonal", observe(MONDAY, 4.0, daily_load, daily_sun), tokyo).forecast(grid(at), at, NOTHING)
    assert found.load_kw[12] == pytest.approx(160.0, rel=0.03)


SKY = [
    # date and UTC hour, latitude, longitude, sine of the elevation
    (datetime(2026, 3, 21, 12, tzinfo=UTC), 0.0, 0.0, 1.0),
    (datetime(2026, 6, 21, 12, tzinfo=UTC), 23.45, 0.0, 1.0),
    (datetime(2026, 6, 21, 0, tzinfo=UTC), 0.0, 180.0, math.cos(math.radians(23.45))),
    (datetime(2026, 3, 21, 0, tzinfo=UTC), 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("at", "latitude", "longitude", "expected"), SKY)
def test_the_sun_stands_where_it_should(at: datetime, latitude: float, longitude: float, expected: float) -> None:
    slots = np.array([at.timestamp() // SLOT_S])
    assert sines(slots, latitude, longitude)[0] == pytest.approx(expected, abs=0.01)
