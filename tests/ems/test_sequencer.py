"""The diesel's sequence as a table of cycles: what is seen, what is wanted, what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.config.site import Diesel
from ems.decision import Write
from ems.memory import UnitMemory
from ems.model import AssetImage, Quality
from ems.sequencer import HELD_S, Moment, advance, arrived, must_stay, rebuilt, startable
from ems.terms import Explanation, Phase, Reason
from tests.ems.island import site

DIESEL = site().of(Diesel)[1]
WHY = Explanation(Reason.PLAN)
OFF = UnitMemory(Phase.OFF, -10_000.0)
START, STOP = Write("dg2", "running", 1.0), Write("dg2", "running", 0.0)


def unit(on: bool | None, power_kw: float = 0.0, **points: float) -> AssetImage:
    if on is None:
        return AssetImage("dg2", "diesel", {}, Quality.BAD, None)
    return AssetImage("dg2", "diesel", {"power_kw": power_kw, "breaker_closed": float(on), **points}, Quality.GOOD, 0.0)


def cycles(memory: UnitMemory, *rows: tuple[float, AssetImage, bool, Phase, tuple[Write, ...]], dt_s: float = 1.0) -> UnitMemory:
    for k, (now, image, wanted, phase, writes) in enumerate(rows):
        moved = advance(DIESEL, arrived(DIESEL, memory, image, now, dt_s) or memory, image, wanted, WHY, Moment(now, dt_s))
        assert (moved.memory.phase, moved.writes) == (phase, writes), f"row {k}"
        memory = moved.memory
    return memory


def test_a_whole_run() -> None:
    last = cycles(
        OFF,
        (0.0, unit(False), False, Phase.OFF, ()),
        (1.0, unit(False), True, Phase.STARTING, (START,)),
        (2.0, unit(False), True, Phase.STARTING, ()),
        (66.0, unit(True, 10.0), True, Phase.ONLINE, ()),
        (2000.0, unit(True, 100.0), False, Phase.UNLOADING, ()),
        (2005.0, unit(True, 25.0), False, Phase.COOLDOWN, (STOP,)),
        (2006.0, unit(True, 5.0), False, Phase.COOLDOWN, ()),
        (2010.0, unit(False), False, Phase.COOLDOWN, ()),
        (2200.0, unit(False), False, Phase.OFF, ()),
    )
    assert last.failed_starts == 0


def test_a_start_that_fails_is_tried_again_after_a_rest_and_then_locked() -> None:
    memory = OFF
    now = 0.0
    for attempt in range(1, DIESEL.retries + 2):
        memory = cycles(memory, (now, unit(False), True, Phase.STARTING, (START,)))
        now += 120.0
        phase = Phase.OFF if attempt <= DIESEL.retries else Phase.LOCKED
        memory = cycles(memory, (now, unit(False), True, phase, (STOP,)))
        assert not startable(DIESEL, memory, unit(False), now + 10.0, economic=False)
        now += 31.0
    assert not startable(DIESEL, memory, unit(False), now + 9999.0, economic=False)
    cycles(memory, (now, unit(False), True, Phase.LOCKED, ()))


def test_a_fault_while_starting_ends_the_try_at_once() -> None:
    starting = replace(OFF, phase=Phase.STARTING, since_s=0.0)
    cycles(starting, (3.0, unit(False, fault=3.0), True, Phase.OFF, (STOP,)))


@pytest.mark.parametrize(("fault", "phase"), [(0.0, Phase.OFF), (7.0, Phase.LOCKED)])
def test_a_trip_is_seen_and_not_fought(fault: float, phase: Phase) -> None:
    online = UnitMemory(Phase.ONLINE, 0.0, started_s=0.0)
    moved = advance(DIESEL, online, unit(False, fault=fault), True, WHY, Moment(100.0, 1.0))
    assert (moved.memory.phase, moved.writes, [e.kind for e in moved.events]) == (phase, (), ["tripped"])


@pytest.mark.parametrize(
    ("held_s", "phase", "failed"),
    [(3.0, Phase.LOCKED, 3), (59.0, Phase.LOCKED, 3), (60.0, Phase.OFF, 0)],  # 1 + 2 retries, then a person has to look
)
def test_starts_that_end_in_a_trip_are_failed_starts(held_s: float, phase: Phase, failed: int) -> None:
    """Its breaker drops so soon after each closing, and it reports no fault: without a count it was started fifty times in an hour."""
    memory, now = OFF, 0.0
    for attempt in range(1, DIESEL.retries + 2):
        trip_s = now + 65.0 + held_s
        memory = cycles(
            memory,
            (now, unit(False), True, Phase.STARTING, (START,)),
            (now + 65.0, unit(True, 10.0), True, Phase.ONLINE, ()),
            (trip_s - 0.5, unit(True, 80.0), True, Phase.ONLINE, ()),
            (trip_s, unit(False), True, phase if attempt > DIESEL.retries else Phase.OFF, ()),
        )
        rests = memory.failed_starts > 0
        assert startable(DIESEL, memory, unit(False), trip_s + 29.0, economic=False) is not rests  # the starter motor rests for 30 s
        now = trip_s + 31.0
    assert memory.failed_starts == failed


def test_a_minute_on_the_bus_makes_a_start_a_success() -> None:
    tried = UnitMemory(Phase.ONLINE, 0.0, started_s=0.0, failed_starts=2, starts=(-65.0,))
    kept = cycles(tried, (59.0, unit(True, 80.0), True, Phase.ONLINE, ()))
    done = cycles(tried, (60.0, unit(True, 80.0), True, Phase.ONLINE, ()))
    assert (kept.failed_starts, done.failed_starts) == (2, 0)
    found = replace(tried, starts=(), failed_starts=0)  # running when we came: its trip is nobody's failed start
    assert cycles(found, (20.0, unit(False), True, Phase.OFF, ())).failed_starts == 0


def test_a_unit_found_running_is_adopted_without_a_write() -> None:
    moved = advance(DIESEL, OFF, unit(True, 80.0), False, WHY, Moment(50.0, 1.0))
    assert (moved.memory.phase, moved.writes, [e.kind for e in moved.events]) == (Phase.ONLINE, (), ["adopted"])
    assert must_stay(DIESEL, moved.memory, unit(True, 80.0), 60.0)


def test_one_that_will_not_stop_is_adopted_again_in_the_end() -> None:
    cooling = UnitMemory(Phase.COOLDOWN, 0.0)
    cycles(cooling, (60.0, unit(True, 50.0), False, Phase.COOLDOWN, ()), (121.0, unit(True, 50.0), False, Phase.ONLINE, ()))


def test_nothing_is_concluded_from_silence() -> None:
    online = UnitMemory(Phase.ONLINE, 0.0, started_s=0.0)
    cycles(online, (50.0, unit(None), False, Phase.ONLINE, ()))


def test_one_that_does_not_unload_goes_after_its_ramp_and_half_a_minute() -> None:
    """200 kW at 10 kW/s: after 50 s the breaker opens whatever its meter says, before low load lasts a minute."""
    online = UnitMemory(Phase.ONLINE, 0.0, started_s=0.0)
    cycles(
        online,
        (2000.0, unit(True, 60.0), False, Phase.UNLOADING, ()),
        (2049.0, unit(True, 60.0), False, Phase.UNLOADING, ()),
        (2050.0, unit(True, 60.0), False, Phase.COOLDOWN, (STOP,)),
    )


@pytest.mark.parametrize(
    ("power_kw", "steady_s", "cause"),
    [(60.0, 100.0, "dg2 does not unload"), (20.0, None, "the bus is not steady")],
)
def test_the_last_one_takes_the_load_back_where_it_cannot_leave_in_time(power_kw: float, steady_s: float | None, cause: str) -> None:
    """200 kW at 10 kW/s and half a minute: after 50 s it stays for five minutes."""
    unloading = UnitMemory(Phase.UNLOADING, 2000.0, started_s=0.0, unloaded_s=2010.0 if power_kw < 30.0 else None)
    for now_s, phase in ((2049.0, Phase.UNLOADING), (2050.0, Phase.ONLINE)):
        moved = advance(DIESEL, unloading, unit(True, power_kw), False, WHY, Moment(now_s, 1.0, steady_s, last=True))
        assert (moved.memory.phase, moved.writes) == (phase, ())
    assert (moved.memory.held_until_s, moved.events[0].kind) == (2050.0 + HELD_S, "hand_over_failed")
    assert moved.events[0].reason.startswith(cause)


def test_wanted_again_while_unloading_it_stays() -> None:
    """Not only for this cycle: demand at the ceiling of the others would send it off and call it back every few seconds, never loaded, never gone."""
    unloading = UnitMemory(Phase.UNLOADING, 0.0, started_s=-5000.0)
    back = cycles(unloading, (1.0, unit(True, 90.0), True, Phase.ONLINE, ()))
    held = [must_stay(DIESEL, back, unit(True, 60.0), now) for now in (2.0, HELD_S, 1.0 + HELD_S)]
    assert held == [True, True, False]
    assert not must_stay(DIESEL, back, unit(True, 60.0, fault=1.0), 2.0)


def test_a_long_step_holds_a_whole_start_and_stop() -> None:
    last = cycles(
        OFF,
        (0.0, unit(False), True, Phase.STARTING, (START,)),
        (900.0, unit(True, 100.0), True, Phase.ONLINE, ()),
        (1800.0, unit(True, 100.0), False, Phase.COOLDOWN, (STOP,)),
        dt_s=900.0,
    )
    assert last.phase is Phase.COOLDOWN


@pytest.mark.parametrize(
    ("memory", "image", "economic", "forced"),
    [
        (OFF, unit(False), True, True),
        (replace(OFF, since_s=900.0), unit(False), False, True),  # minimum down time: 900 s of which 100 passed
        (replace(OFF, starts=(10.0, 20.0, 30.0, 40.0)), unit(False), False, True),
        (replace(OFF, phase=Phase.COOLDOWN, since_s=990.0), unit(False), True, True),
        (OFF, unit(False, remote=0.0), False, False),
        (OFF, unit(False, estop=1.0), False, False),
        (OFF, unit(False, ready=0.0), False, False),
        (OFF, unit(None), False, False),
        (replace(OFF, phase=Phase.LOCKED), unit(False), False, False),
        (replace(OFF, since_s=990.0, failed_starts=1), unit(False), False, False),  # crank rest
    ],
)
def test_who_may_start(memory: UnitMemory, image: AssetImage, economic: bool, forced: bool) -> None:
    found = tuple(startable(DIESEL, memory, image, 1000.0, economic=e) for e in (True, False))
    assert found == (economic, forced)


def test_minimum_up_time_holds_unless_there_is_a_fault() -> None:
    online = UnitMemory(Phase.ONLINE, 0.0, started_s=0.0)
    assert must_stay(DIESEL, online, unit(True, 50.0), 1799.0)
    assert not must_stay(DIESEL, online, unit(True, 50.0), 1800.0)
    assert not must_stay(DIESEL, online, unit(True, 50.0, fault=1.0), 100.0)


def test_one_that_is_locked_out_and_started_by_hand_is_taken_as_it_is_and_locked_again_when_it_leaves() -> None:
    """Whatever is wanted: it is neither stopped nor fought while a person runs it, nor started once he has stopped it."""
    locked = UnitMemory(Phase.LOCKED, 0.0, failed_starts=3)
    moved = advance(DIESEL, locked, unit(True, 80.0), False, WHY, Moment(50.0, 1.0))
    assert (moved.memory.phase, moved.memory.barred, moved.writes, [e.kind for e in moved.events]) == (Phase.ONLINE, True, (), ["adopted"])
    assert startable(DIESEL, moved.memory, unit(True, 80.0), 51.0, economic=True)  # it runs: it may stay
    cycles(
        moved.memory,
        (60.0, unit(True, 80.0), True, Phase.ONLINE, ()),
        (70.0, unit(False), True, Phase.LOCKED, ()),
        (200.0, unit(False), True, Phase.LOCKED, ()),
    )


def test_one_that_is_locked_out_and_that_we_take_off_does_not_come_back_by_itself() -> None:
    by_hand = UnitMemory(Phase.ONLINE, 0.0, started_s=0.0, locked=True)
    last = cycles(
        by_hand,
        (2000.0, unit(True, 25.0), False, Phase.COOLDOWN, (STOP,)),
        (2001.0, unit(True, 5.0), False, Phase.COOLDOWN, ()),
        (2005.0, unit(False), True, Phase.LOCKED, ()),
    )
    cooling = replace(by_hand, phase=Phase.COOLDOWN, since_s=2000.0)
    assert [startable(DIESEL, m, unit(False), 9000.0, economic=False) for m in (cooling, last)] == [False, False]


@pytest.mark.parametrize(
    ("before", "on", "watch", "phase", "barred"),
    [
        (UnitMemory(Phase.LOCKED, 0.0), True, True, Phase.ONLINE, True),  # after a restart: START has a unit that holds the bus
        (UnitMemory(Phase.LOCKED, 0.0), False, True, Phase.LOCKED, True),
        (UnitMemory(Phase.LOCKED, 0.0), True, False, Phase.LOCKED, True),  # while we command, `advance` takes it, with an event
        (UnitMemory(Phase.ONLINE, 0.0, locked=True), False, True, Phase.LOCKED, True),
        (UnitMemory(Phase.ONLINE, 0.0), False, True, Phase.OFF, False),
        (None, True, False, Phase.ONLINE, False),
    ],
)
def test_what_is_rebuilt_from_what_is_read(before: UnitMemory | None, on: bool, watch: bool, phase: Phase, barred: bool) -> None:
    known = {} if before is None else {"dg2": before}
    found = rebuilt({"dg2": DIESEL}, known, {"dg2": unit(on, 50.0 * on)}, 100.0, watch)["dg2"]
    assert (found.phase, found.barred) == (phase, barred)
