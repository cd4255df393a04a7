"""The river: it falls as it has fallen, and floods do not break it."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from ems.plan import Observation
from optimizer.forecasting.history import SLOT_S, History, Values
from optimizer.forecasting.recession import BASE_H, QUICK_H, Recession
from tests.optimizer.test_learning import BEGIN, slot_of


def flood(hours: int, quick_h: float, base_h: float) -> Values:
    """Floods of 5 m3/s every five days on a base of 1 m3/s that sinks."""
    t = np.arange(hours, dtype=float)
    quick = sum(np.where(t >= start, 5.0 * np.exp(-(t - start) / quick_h), 0.0) for start in range(24, hours, 120))
    found: Values = np.exp(-t / base_h) + quick
    return found


def river_of(flows: Values) -> tuple[History, Recession, int]:
    history = History()
    river = Recession(history, "hydro1")
    first = slot_of(BEGIN)
    for k, flow in enumerate(np.repeat(flows, 4)):
        history.learn([Observation(BEGIN + timedelta(seconds=SLOT_S * k), SLOT_S, 1.0, {}, {"hydro1": float(flow)})])
        river.learn(first + k, float(flow))
    return history, river, first + 4 * len(flows)


def test_a_river_falls_as_it_has_fallen() -> None:
    flows = flood(24 * 40 + 24, 20.0, 2000.0)
    seen = 24 * 39
    _, river, now = river_of(flows[:seen])
    found = river.predict(now + np.arange(96), now)
    truth = np.repeat(flows[seen : seen + 24], 4)
    assert np.abs(found - truth).max() < 0.2 * truth.max()
    assert river.constants_h[0] < 30.0


def test_a_base_flow_falls_at_its_own_slow_pace() -> None:
    flows = 2.0 * np.exp(-np.arange(24 * 32) / 1000.0)
    _, river, now = river_of(flows[: 24 * 30])
    assert river.constants_h[1] == pytest.approx(1000.0, rel=0.1)
    assert river.predict(now + np.arange(4 * 48), now) == pytest.approx(np.repeat(flows[24 * 30 :], 4), rel=0.01)


def test_a_river_that_rises_is_held_before_it_falls() -> None:
    flows = np.concatenate([flood(24 * 20, 20.0, 2000.0), [4.0, 9.0]])
    _, river, now = river_of(flows)
    found = river.predict(now + np.arange(48), now)
    assert found[:4] == pytest.approx([9.0] * 4)
    assert 1.0 < found[-1] < 9.0
    assert (np.diff(found) <= 0.0).all()


def test_constants_stay_within_bounds_whatever_the_river_does() -> None:
    wild = np.random.default_rng(3).lognormal(0.0, 2.0, 24 * 60)
    _, river, now = river_of(wild)
    quick_h, base_h = river.constants_h
    assert QUICK_H[0] <= quick_h <= QUICK_H[1]
    assert BASE_H[0] <= base_h <= BASE_H[1]
    found = river.predict(now + np.arange(200), now)
    assert np.isfinite(found).all()
    assert (found >= 0.0).all()
