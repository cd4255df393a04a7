"""Modes as a table: from, what is true, to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.controller import Controller
from ems.memory import BlackStart, Memory
from ems.modes import ALLOWED, next_mode
from ems.terms import Mode
from tests.ems.island import site, telemetry

SEEN = Controller(site(), policy="load-following").step(telemetry(40), (), None, Memory())[0]
BLIND = Controller(site(), policy="load-following").step(telemetry(40, pv1={}), (), None, Memory())[0]
ONE = ("dg1",)


@pytest.mark.parametrize(
    ("mode", "since_s", "whole", "formers", "planned", "more", "expected"),
    [
        (Mode.START, 40.0, True, ONE, True, {}, Mode.AUTO),
        (Mode.START, 40.0, True, ONE, False, {}, Mode.FALLBACK),
        (Mode.START, 40.0, True, (), True, {}, Mode.START),
        (Mode.START, 31.0, False, ONE, True, {}, Mode.START),  # 9 s
        (Mode.START, 30.0, False, ONE, True, {}, Mode.AUTO),  # 10 s: without what is silent
        (Mode.START, 0.0, False, (), True, {}, Mode.START),  # a blackout is never inferred
        (Mode.START, 40.0, True, ONE, True, {"all_manual": True}, Mode.MANUAL),
        (Mode.START, 40.0, True, ONE, True, {"stopped": True}, Mode.SAFE),
        (Mode.AUTO, 0.0, True, ONE, False, {}, Mode.FALLBACK),
        (Mode.AUTO, 0.0, True, (), True, {}, Mode.AUTO),
        (Mode.AUTO, 0.0, False, ONE, True, {}, Mode.AUTO),
        (Mode.FALLBACK, 0.0, True, ONE, True, {}, Mode.AUTO),
        (Mode.MANUAL, 0.0, True, ONE, True, {"all_manual": True}, Mode.MANUAL),
        (Mode.MANUAL, 0.0, True, ONE, True, {}, Mode.AUTO),
        (Mode.FALLBACK, 0.0, True, ONE, False, {"stopped": True}, Mode.SAFE),
        (Mode.SAFE, 0.0, True, ONE, True, {}, Mode.SAFE),  # left only by a person's word, through START
    ],
)
def test_next_mode(mode: Mode, since_s: float, whole: bool, formers: tuple[str, ...], planned: bool, more: dict[str, bool], expected: Mode) -> None:
    memory = replace(Memory(mode=mode, mode_since_s=since_s), **more)
    assert next_mode(memory, SEEN if whole else BLIND, formers, planned, 10.0)[0] is expected


def test_safe_and_black_start_are_entered_and_left_on_a_persons_word() -> None:
    assert ALLOWED[Mode.SAFE] == {Mode.START}
    assert all(Mode.SAFE in to for m, to in ALLOWED.items() if m is not Mode.SAFE)
    assert [m for m, to in ALLOWED.items() if Mode.BLACKSTART in to] == [Mode.START]


@pytest.mark.parametrize(
    ("mode", "step", "formers", "expected"),
    [
        (Mode.START, "isolate", (), Mode.BLACKSTART),
        (Mode.AUTO, "isolate", (), Mode.START),  # through START, like everything
        (Mode.BLACKSTART, "energise", (), Mode.BLACKSTART),
        (Mode.BLACKSTART, "roll_back", (), Mode.BLACKSTART),
        (Mode.BLACKSTART, "failed", (), Mode.START),
        (Mode.START, "failed", (), Mode.START),
        (Mode.START, "failed", ONE, Mode.AUTO),  # somebody else brought it up
        (Mode.BLACKSTART, None, ONE, Mode.AUTO),
    ],
)
def test_a_black_start_holds_its_mode_until_it_is_done_or_rolled_back(mode: Mode, step: str | None, formers: tuple[str, ...], expected: Mode) -> None:
    start = None if step is None else BlackStart("dg1", step, 0.0, "keeper")
    memory = Memory(mode=mode, black_start=start)
    assert next_mode(memory, SEEN, formers, True, 10.0, dead=not formers)[0] is expected
    assert next_mode(replace(memory, stopped=True), SEEN, formers, True, 10.0)[0] is Mode.SAFE


@pytest.mark.parametrize("mode", [m for m in Mode if m not in (Mode.SAFE, Mode.BLACKSTART)])
def test_a_bus_that_is_found_dead_leads_to_start(mode: Mode) -> None:
    memory = Memory(mode=mode, all_manual=mode is Mode.MANUAL)
    assert next_mode(memory, SEEN, ONE, mode is not Mode.FALLBACK, 10.0, dead=True)[0] is Mode.START
    assert next_mode(replace(memory, stopped=True), SEEN, ONE, True, 10.0, dead=True)[0] is Mode.SAFE
