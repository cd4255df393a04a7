"""How old a value is and whether it counts: tables of answers in the order in which they came."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from asyncua import ua

from drivers.opcua_sightings import BOOT_S, Sightings, age_s, lateness_s

POWER, RUNNING, SPEED = (ua.NodeId.from_string(f"ns=2;s={name}") for name in ("Power", "Running", "Speed"))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
START_S = 1000.0
"""The monotonic clock at noon."""


def at(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def value(raw: object, stamped: float | None = None, status: int = 0) -> ua.DataValue:
    return ua.DataValue(ua.Variant(raw), StatusCode=ua.StatusCode(ua.UInt32(status)), SourceTimestamp=None if stamped is None else at(stamped))


def device(*nodes: ua.NodeId, ours: tuple[ua.NodeId, ...] = ()) -> Sightings:
    found = Sightings(nodes or (POWER, RUNNING, SPEED), ours)
    found.begin(restarted=False, started=None)
    return found


def take(known: Sightings, node: ua.NodeId, second: float, answer: ua.DataValue) -> None:
    known.take(node, answer, START_S + second, at(second))


def age(known: Sightings, node: ua.NodeId, second: float, confirmed: float | None = None) -> float:
    return age_s(known.seen[node], START_S + second, 0.0 if confirmed is None else START_S + confirmed, known.frozen_since_s())


# ------------------------------------------------------------------ age
def test_a_value_is_as_old_as_its_last_confirmation():
    known = device()
    take(known, POWER, 0, value(100.0, stamped=0))
    assert age(known, POWER, 3) == 3.0
    assert age(known, POWER, 3, confirmed=2.5) == 0.5


@pytest.mark.parametrize(
    ("stamped", "second", "expected"),
    [
        (4.0, 10, 6.0),  # the change was six seconds old when it came
        (4.0, 12, 6.0),  # two seconds later it is four seconds late and two seconds old
        (4.0, 20, 10.0),  # a stamp says nothing about a value that stays
        (10.5, 11, 1.0),  # from the future: another clock
        (10 - 601.0, 11, 1.0),  # ten minutes and more: another clock
        (None, 11, 1.0),
    ],
)
def test_a_change_that_came_late_is_older_by_that(stamped: float | None, second: float, expected: float):
    known = device()
    take(known, POWER, 0, value(90.0, stamped=0))
    take(known, POWER, 10, value(100.0, stamped))
    assert age(known, POWER, second) == pytest.approx(expected)


def test_a_first_value_is_not_late_however_old_its_stamp():
    known = device()
    take(known, RUNNING, 0, value(True, stamped=-500))  # running since then, and stamped when it started
    assert age(known, RUNNING, 1) == 1.0
    assert lateness_s(at(-500), at(0)) == 500.0


def stamped_each_second(known: Sightings, seconds: range) -> None:
    """A server that stamps every sample, read once a second: the power moves, the switch stays."""
    for second in seconds:
        take(known, POWER, second, value(100.0 + second % 3, stamped=second))
        take(known, RUNNING, second, value(True, stamped=second))
        known.looked_s = START_S + second


def test_where_every_sample_is_stamped_a_stamp_that_stands_still_ages_all():
    known = device(POWER, RUNNING)
    stamped_each_second(known, range(0, 70))
    assert age(known, POWER, 69.5) == 0.5
    for second in range(70, 75):  # asked and answered, and nothing moves behind the server
        take(known, POWER, second, value(100.0, stamped=69))
        take(known, RUNNING, second, value(True, stamped=69))
        known.looked_s = START_S + second
    assert (age(known, POWER, 74), age(known, RUNNING, 74)) == (5.0, 5.0)
    stamped_each_second(known, range(75, 76))
    assert (age(known, POWER, 75), age(known, RUNNING, 75)) == (0.0, 0.0)


@pytest.mark.parametrize("seconds", [range(0, 59), range(0, 300, 60)], ids=["not a minute", "not six times"])
def test_too_little_has_been_seen_to_hold_stamps_against_a_device(seconds: range):
    known = device(POWER, RUNNING)
    stamped_each_second(known, seconds)
    last = seconds[-1]
    for second in (last + 60, last + 120):
        take(known, RUNNING, second, value(True, stamped=last))
        known.looked_s = START_S + second
    assert age(known, RUNNING, last + 121) == 1.0


def test_where_changes_are_stamped_a_stopped_set_stays_fresh():
    known = device(POWER, RUNNING)
    for second in range(200):
        power = 100.0 + second % 3 if second < 100 else 0.0
        take(known, POWER, second, value(power, stamped=min(second, 100)))
        take(known, RUNNING, second, value(second < 100, stamped=0 if second < 100 else 100))
        known.looked_s = START_S + second
    assert (age(known, POWER, 200), age(known, RUNNING, 200)) == (1.0, 1.0)


def test_a_stamp_that_turns_back_is_told_until_it_moves_on():
    known = device()
    seen = []
    for second, stamped in enumerate((0, 10, 5, 5, 6)):
        take(known, POWER, second, value(1.0, stamped))
        seen.append(known.seen[POWER].turned_back)
    assert seen == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(30, True, 30), (60, True, 30)], [True, False]),  # at minute 1 the clock was set back to 0:00, the switch moved at 0:30
        ([(30, True, 30), (30, True, 30)], [True, True]),  # the same moment: nothing new
        ([(None, True, 30), (None, True, 30)], [True, True]),  # a server that does not tell its time
        ([(90, True, 30), (95, False, 91)], [True, False]),  # overtaken on the way: the next one is the true one
        ([(30, True, 30), (60, False, 20), (90, False, 20)], [True, True, False]),
    ],
)
def test_a_clock_that_was_set_back_casts_doubt_until_the_next_look(looks: list[tuple[float | None, bool, float]], expected: list[bool]):
    known = device()
    take(known, RUNNING, 60, value(False, stamped=60))
    seen = []
    for n, (server, raw, stamped) in enumerate(looks):
        known.take(RUNNING, value(raw, stamped), START_S + 90 + 10 * n, None if server is None else at(server))
        seen.append(known.seen[RUNNING].turned_back)
    assert seen == expected


# ------------------------------------------------------------------ restart
def restarted(**before: object) -> Sightings:
    """A device that showed these values, and whose server came back at second 0."""
    known = device(ours=(SPEED,))
    for name, raw in {"Power": 120.0, "Running": True, "Speed": 7.0, **before}.items():
        take(known, ua.NodeId.from_string(f"ns=2;s={name}"), -30, value(raw, stamped=-30))
    known.begin(restarted=True, started=at(0))
    return known


def counting(known: Sightings, second: float) -> set[str]:
    return {str(node.Identifier) for node in known.seen if known.seen[node].raw is not None and known.counts(node, START_S + second)}


def test_zeros_of_a_restart_do_not_count():
    known = restarted()
    for second in (1, 20, 300):  # stamped when the server was initialised, and for ever
        take(known, POWER, second, value(0.0, stamped=0.5))
        take(known, RUNNING, second, value(False, stamped=0.5))
        assert counting(known, second) == set()
        assert known.waiting(START_S + second) == 2


def test_what_is_as_before_counts_at_once():
    known = restarted(Power=0.0, Running=False)
    take(known, POWER, 1, value(0.0, stamped=0.5))
    take(known, RUNNING, 1, value(True, stamped=0.5))
    assert counting(known, 1) == {"Power"}


def test_a_change_counts_and_ten_seconds_later_the_whole_device():
    known = restarted()
    for second in (1, 5):
        take(known, POWER, second, value(0.0, stamped=0.5))
        take(known, RUNNING, second, value(False, stamped=0.5))
    take(known, POWER, 6, value(118.0, stamped=6))
    assert counting(known, 6) == {"Power"}
    take(known, POWER, 7, value(0.0, stamped=7))  # and then it trips: this zero is a change
    assert counting(known, 7) == {"Power"}
    assert counting(known, 6 + BOOT_S) == {"Power", "Running"}


def test_a_stamp_well_after_the_restart_counts():
    known = restarted()
    for second in (1, 5, BOOT_S - 1):  # the server stamps every sample of a zero
        take(known, POWER, second, value(0.0, stamped=second))
        assert counting(known, second) == set()
    take(known, POWER, BOOT_S + 1, value(0.0, stamped=BOOT_S + 1))
    assert counting(known, BOOT_S + 1) == {"Power"}


@pytest.mark.parametrize("stamped", [None, BOOT_S + 60], ids=["no stamp", "a stamp from the future"])
def test_a_stamp_that_says_nothing_does_not_count(stamped: float | None):
    known = restarted()
    take(known, POWER, BOOT_S + 1, value(0.0, stamped))
    assert counting(known, BOOT_S + 1) == set()


def test_what_we_write_ourselves_is_no_sign_of_life():
    known = restarted()
    take(known, POWER, 1, value(0.0, stamped=0.5))
    take(known, SPEED, 1, value(0.0, stamped=0.5))
    take(known, SPEED, 2, value(1.0, stamped=2))
    assert counting(known, 60) == set()


def test_doubt_outlives_a_lost_link_and_a_second_restart():
    known = restarted()
    take(known, POWER, 1, value(0.0, stamped=0.5))
    known.begin(restarted=False, started=at(0))
    take(known, POWER, 4, value(0.0, stamped=0.5))
    assert counting(known, 60) == set()
    known.begin(restarted=True, started=at(60))
    take(known, POWER, 61, value(0.0, stamped=60.5))  # as before, but it did not count before
    assert counting(known, 61) == set()
    take(known, POWER, 62, value(120.0, stamped=60.5))
    assert counting(known, 62) == {"Power"}


@pytest.mark.parametrize("answer", [value(0.0, 1, status=0x80000000), value(math.nan, 1), value(None, 1)], ids=["bad", "nan", "empty"])
def test_what_has_no_value_is_neither_a_change_nor_life(answer: ua.DataValue):
    known = restarted()
    take(known, POWER, 1, value(0.0, stamped=0.5))
    take(known, POWER, 2, answer)
    take(known, POWER, 3, value(0.0, stamped=0.5))
    assert counting(known, 60) == set()


def test_a_lost_link_alone_raises_no_doubt():
    known = device()
    take(known, POWER, 0, value(120.0, stamped=0))
    known.begin(restarted=False, started=None)
    take(known, POWER, 30, value(0.0, stamped=20))
    assert known.counts(POWER, START_S + 30)
    assert known.waiting(START_S + 30) == 0
