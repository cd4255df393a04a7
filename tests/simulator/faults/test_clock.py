"""Clock and cycle: what the wall clock shows under each time fault, and how long cycles take."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from simulator.faults.clock import STEPS_S, cycle_s, wall
from simulator.faults.live import Live
from tests.simulator.faults.bench import fault

TRUE = datetime(2026, 6, 1, 10, tzinfo=UTC)


def one(kind: str, severity: float = 0.5, onset_s: float = 0.0) -> Live:
    return Live(fault(kind, "clock", onset_s, severity=severity), 1)


def test_steps_go_forwards_and_back_by_what_is_usual() -> None:
    offsets = {(wall(TRUE, 5.0, [one("clock_step", onset_s=float(k))]) - TRUE).total_seconds() for k in range(60)}
    assert offsets == {sign * step for step in STEPS_S for sign in (-1.0, 1.0)}
    live = one("clock_step")
    assert wall(TRUE, 5.0, [live]) == wall(TRUE, 9.0, [live])


def test_a_dead_battery_shows_1970_and_a_slewed_clock_drifts() -> None:
    assert wall(TRUE, 5.0, [one("clock_1970")]) == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    live = one("slew", 1.0)
    assert abs((wall(TRUE, 100.0, [live]) - TRUE).total_seconds()) == pytest.approx(5.0)
    assert wall(TRUE, 100.0, []) == TRUE


def test_cycles_stall_a_few_times_then_go_on() -> None:
    live = one("stall", 0.5)
    taken = [cycle_s(1.0, [live]) for _ in range(6)]
    assert all(1.5 <= t <= 21.0 for t in taken[:3])
    assert taken[3:] == [1.0] * 3
    assert live.touched == 3


def test_cycles_jitter_and_hurry() -> None:
    jitter = one("jitter")
    taken = [cycle_s(1.0, [jitter]) for _ in range(50)]
    assert 0.5 <= min(taken) < 1.0 < max(taken) <= 2.5
    assert cycle_s(1.0, [one("hurried")]) == 0.1
    assert cycle_s(1.0, []) == 1.0
