"""What a heartbeat register tells: tables of looks and beats, as they come in the field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.watch import WITHIN_LOOKS, BeatWatch


def looked(values: str, watch_s: float = 3.0) -> BeatWatch:
    """Return the watch after one look a second: a digit is what stands there, `-` that nothing is shown."""
    watch = BeatWatch(watch_s)
    for second, shown in enumerate(values):
        watch = watch.seen(None if shown == "-" else float(shown), 100.0 + second)
    return watch


@pytest.mark.parametrize(
    ("values", "free", "rival"),
    [
        ("0", False, ""),
        ("000", False, ""),
        ("0000", True, ""),  # three seconds have passed
        ("7777", True, ""),  # a former controller's last word
        ("01", False, "moved from 0 to 1"),
        ("0001", False, "moved from 0 to 1"),
        ("00001", False, "moved from 0 to 1"),  # later too, as long as we have not written
        ("0-000", True, ""),
        ("-", True, ""),  # it cannot be read back: nothing can be found out
        ("--00", False, ""),  # and then it can
    ],
)
def test_before_the_first_write(values: str, free: bool, rival: str) -> None:
    watch = looked(values)
    assert watch.free is free
    assert rival in watch.rival
    assert bool(rival) is bool(watch.rival)


def test_a_long_period_is_watched_longer() -> None:
    assert not looked("0000", watch_s=30.0).free
    assert looked("0" * 31, watch_s=30.0).free


@pytest.mark.parametrize(
    ("beats", "rival"),
    [
        ("00 11 00 11", ""),  # ours each time
        ("00 10 00 10 00", ""),  # the device clears it by itself
        ("01 11 01 11", ""),  # or sets it
        ("00 10 01", "both directions"),
        ("01 10", "both directions"),
        ("00 15", "holds 5, and we wrote 1"),  # a counter is not ours
        ("0- 1-", ""),
    ],
)
def test_while_we_run(beats: str, rival: str) -> None:
    """Each pair is what we wrote and what stood there at the next look."""
    watch = looked("0000")
    for second, pair in enumerate(beats.split()):
        watch = watch.wrote(float(pair[0])).seen(None if pair[1] == "-" else float(pair[1]), 200.0 + second)
    assert rival in watch.rival
    assert bool(rival) is bool(watch.rival)
    assert watch.free is not bool(rival)


def test_old_accidents_are_forgotten_and_a_rival_is_not() -> None:
    watch = looked("0000").wrote(1.0).seen(0.0, 1.0)
    for second in range(WITHIN_LOOKS):
        watch = watch.wrote(1.0).seen(1.0, 2.0 + second)
    assert watch.wrote(0.0).seen(1.0, 50.0).rival == ""
    rival = looked("0000").wrote(1.0).seen(0.0, 1.0).wrote(0.0).seen(1.0, 2.0)
    assert rival.rival
    assert rival.wrote(1.0).seen(1.0, 3.0).rival
    assert rival.lost().rival
    assert not rival.anew().rival
    assert not rival.anew().free


def test_what_was_lost_is_watched_again_before_the_first_write_only() -> None:
    assert not looked("0000").lost().free
    assert looked("000").lost().seen(1.0, 200.0).rival == ""  # it came back with another value: nobody saw who wrote it
    assert looked("0000").wrote(1.0).lost().free
    assert looked("0000").wrote(1.0).lost().seen(0.0, 200.0).overturned == ()


@given(st.lists(st.booleans(), max_size=60))
def test_who_is_alone_is_never_accused(arrives: list[bool]) -> None:
    """Beats of ours that are lost, or whose acknowledgement is, in any order; the register holds what arrived last."""
    watch, register = looked("0000"), 0.0
    for count, sure in enumerate(arrives):
        register = float(count % 2)
        watch = watch.wrote(register if sure else None).seen(register, 10.0 + count)
    assert watch.rival == ""
