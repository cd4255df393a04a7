"""The site's time: held in the hand, scaled, and real."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from ems.clock import ScaledClock, SimClock, WallClock, epoch_s, real_s
from tests.ems.island import START


def test_a_clock_in_the_hand_stands_until_it_is_moved() -> None:
    clock = SimClock(START)
    assert (clock.now(), clock.now_s()) == (START, 0.0)
    clock.advance(0.0)
    clock.advance(90.5)
    assert (clock.now(), clock.now_s()) == (START + timedelta(seconds=90.5), 90.5)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1.0)
    assert clock.now_s() == 90.5


def test_a_scaled_clock_runs_at_its_speed_from_a_common_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    real = {"monotonic": 100.0, "time": 5000.0}
    monkeypatch.setattr(time, "monotonic", lambda: real["monotonic"])
    monkeypatch.setattr(time, "time", lambda: real["time"])
    first = ScaledClock(START, origin=5000.0, speed=24.0)
    real["monotonic"] += 10.0
    real["time"] += 10.0
    second = ScaledClock(START, origin=5000.0, speed=24.0)  # another process, 10 s later
    assert first.now_s() == second.now_s() == pytest.approx(240.0)
    assert first.now() == second.now() == START + timedelta(seconds=240)
    real["time"] -= 3600.0  # somebody sets the computer's clock back: the site's time goes on
    real["monotonic"] += 1.0
    assert first.now_s() == pytest.approx(264.0)


def test_real_clocks_are_utc_and_never_step_back() -> None:
    clock = WallClock()
    assert clock.now().tzinfo is UTC
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 1.0
    assert clock.speed == 1.0
    assert clock.now_s() <= clock.now_s()
    assert real_s() <= real_s()
    assert abs(epoch_s() - datetime.now(UTC).timestamp()) < 1.0
