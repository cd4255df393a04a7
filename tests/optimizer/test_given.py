"""Forecasts from outside: averaged exactly, believed as far as they were right, dropped when they are stale."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

from ems.plan import Forecast, Given, Grid, PlantStart, Storm
from optimizer.forecasting import Forecasting
from optimizer.forecasting.given import Outside
from optimizer.forecasting.history import DAY
from tests.optimizer.test_learning import BEGIN, TOWN, days, sine, slot_of

NOTHING = PlantStart({}, {})
NOW = BEGIN + timedelta(days=6)


def forecast(method: str, given: Given | None, hours: int = 24, history: float = 6.0) -> Forecast:
    made = Forecasting(TOWN, method)
    made.learn(days(BEGIN, history, sine))
    made.give(given)
    return made.forecast(Grid(NOW, (3600.0,) * hours), NOW, NOTHING)


def test_steps_of_any_length_are_averaged_exactly_and_nothing_is_said_outside() -> None:
    given = Outside(Given(BEGIN, 300.0, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)), "load")
    found = given.predict(slot_of(BEGIN) + np.arange(-1, 4))
    assert found[1:3].tolist() == [2.0, 5.0]
    assert np.isnan(found[[0, 3, 4]]).all()
    coarse = Outside(Given(BEGIN, 3600.0, (8.0, 16.0)), "load")
    assert coarse.predict(slot_of(BEGIN) + np.arange(8)).tolist() == [8.0] * 4 + [16.0] * 4


@pytest.mark.parametrize(("method", "label"), [("seasonal", "file"), ("persistence", "file"), ("file", "file"), ("blend", "blend with file")])
def test_what_was_given_is_used(method: str, label: str) -> None:
    found = forecast(method, Given(NOW, 3600.0, (150.0,) * 48))
    plain = forecast("blend" if method == "blend" else method, None)
    assert found.source["load"] == label
    if method == "blend":  # nothing is known against it, and nothing for it
        assert all(min(a, 150.0) <= b <= max(a, 150.0) for a, b in zip(plain.load_kw, found.load_kw, strict=True))
        assert found.load_kw != plain.load_kw
    else:
        assert found.load_kw == (150.0,) * 24


def test_where_it_ends_the_method_goes_on() -> None:
    found = forecast("seasonal", Given(NOW, 3600.0, (150.0,) * 6))
    assert found.load_kw[:6] == (150.0,) * 6
    assert found.load_kw[6:] == forecast("seasonal", None).load_kw[6:]
    assert found.source["load"] == "file, then seasonal"


def test_a_stale_one_is_flagged_and_dropped() -> None:
    old = Given(NOW - timedelta(hours=3), 3600.0, (150.0,) * 48, until=NOW)
    for method in ("blend", "seasonal", "file"):
        found = forecast(method, old)
        assert found.load_kw == forecast(method, None).load_kw
        assert found.source["load"].startswith("fallback:")
        assert "stale file" in found.source["load"]
    fresh = Given(NOW - timedelta(hours=3), 3600.0, (150.0,) * 48, until=NOW + timedelta(seconds=1))
    assert forecast("seasonal", fresh).source["load"] == "file"


def test_a_warning_alone_leaves_the_load_what_it_was() -> None:
    """A day later nothing is stale that never was there, and of a forecast of the load only the load is."""
    old = NOW - timedelta(hours=25)
    warned = Given(old, 3600.0, storm=Storm(NOW, NOW + timedelta(hours=9)), until=NOW - timedelta(hours=1))
    assert forecast("blend", warned).source == forecast("blend", None).source
    made = Forecasting(TOWN, "blend")
    made.give(Given(old, 3600.0, (150.0,) * 48, until=NOW))
    for _ in range(2):
        found = made.forecast(Grid(NOW, (3600.0,)), NOW, NOTHING).source
        assert [name for name, source in found.items() if "stale file" in source] == ["load"]


def test_a_file_that_says_nothing_of_a_quantity_is_a_fallback() -> None:
    found = forecast("file", Given(NOW, 3600.0, (), {"pv9": (1.0,)}))
    assert found.source["load"] == "fallback:blend"
    assert found.load_kw == forecast("blend", None).load_kw


@pytest.mark.parametrize("nonsense", [math.nan, -1.0, math.inf])
def test_nonsense_is_never_used(nonsense: float) -> None:
    found = forecast("seasonal", Given(NOW, 3600.0, (nonsense,) * 48))
    assert found.load_kw == forecast("seasonal", None).load_kw


@pytest.mark.parametrize(("wrong_kw", "believed"), [(0.0, True), (60.0, False)])
def test_it_is_believed_as_far_as_it_was_right(wrong_kw: float, believed: bool) -> None:
    """A service pushes a new forecast each day; the town has jumped about so that nothing else can know."""
    chance = np.random.default_rng(8)
    truth = [float(chance.uniform(60.0, 140.0)) for _ in range(14 * 24)]
    seen = [o for k, v in enumerate(truth) for o in days(BEGIN + timedelta(hours=k), 1 / 24, lambda _, v=v: v)]
    made = Forecasting(TOWN, "blend")
    for day in range(12):
        made.give(Given(BEGIN + timedelta(days=day), 3600.0, tuple(v + wrong_kw for v in truth[24 * day : 24 * day + 48])))
        made.learn(seen[DAY * day : DAY * (day + 1)])
    made.give(Given(BEGIN + timedelta(days=12), 3600.0, tuple(v + wrong_kw for v in truth[24 * 12 :])))
    at = BEGIN + timedelta(days=12)
    found = made.forecast(Grid(at, (3600.0,) * 24), at, NOTHING)
    off = float(np.abs(np.array(found.load_kw) - truth[24 * 12 : 24 * 13]).mean())
    assert (off < 2.0) is believed
    assert off < 30.0
