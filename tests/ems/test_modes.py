"""Modes as a table: from, what is true, to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.controller import Controller
from ems.decision import Memory, Mode
from ems.modes import ALLOWED, next_mode
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


def test_safe_is_left_only_through_start_and_start_is_entered_from_nowhere_else() -> None:
    assert ALLOWED[Mode.SAFE] == {Mode.START}
    assert [m for m, to in ALLOWED.items() if Mode.START in to] == [Mode.SAFE]
    assert all(Mode.SAFE in to for m, to in ALLOWED.items() if m is not Mode.SAFE)
