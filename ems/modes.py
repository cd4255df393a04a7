"""Modes and their allowed transitions, each with its reason."""

from __future__ import annotations

from ems.black_start import under_way
from ems.memory import Memory
from ems.model import Image
from ems.terms import Mode

ALLOWED: dict[Mode, frozenset[Mode]] = {
    Mode.START: frozenset({Mode.AUTO, Mode.MANUAL, Mode.FALLBACK, Mode.SAFE, Mode.BLACKSTART}),
    Mode.AUTO: frozenset({Mode.MANUAL, Mode.FALLBACK, Mode.SAFE, Mode.START}),
    Mode.MANUAL: frozenset({Mode.AUTO, Mode.FALLBACK, Mode.SAFE, Mode.START}),
    Mode.FALLBACK: frozenset({Mode.AUTO, Mode.MANUAL, Mode.SAFE, Mode.START}),
    Mode.SAFE: frozenset({Mode.START}),
    Mode.BLACKSTART: frozenset({Mode.AUTO, Mode.MANUAL, Mode.FALLBACK, Mode.SAFE, Mode.START}),
}
"""SAFE is left only through START, on a person's word; BLACKSTART is entered only from START, on a person's word."""


def next_mode(memory: Memory, image: Image, formers: tuple[str, ...], planned: bool, start_timeout_s: float, dead: bool = False) -> tuple[Mode, str]:
    """Return the mode of this cycle and why.

    Parameters
    ----------
    memory : Memory
        With the mode so far and what people ordered.
    image : Image
    formers : tuple[str, ...]
        Who is proven to hold the bus.
    planned : bool
        Whether what the site is to follow (its plan, or the rule policy it was given) is there.
    start_timeout_s : float
        After this time START goes on without the assets that do not answer [s].
    dead : bool
        Whether the bus is found dead by two measurements: nothing is started on it but by a person's order.
    """
    wanted, reason = _wanted(memory, image, formers, planned, start_timeout_s, dead)
    if wanted is memory.mode or wanted in ALLOWED[memory.mode]:
        return wanted, reason
    return memory.mode, f"{wanted.value} is not reached from {memory.mode.value}"


def _wanted(memory: Memory, image: Image, formers: tuple[str, ...], planned: bool, start_timeout_s: float, dead: bool) -> tuple[Mode, str]:
    if memory.stopped or memory.mode is Mode.SAFE:
        return Mode.SAFE, "emergency stop"
    if under_way(memory) and memory.mode is Mode.START and not image.watched:
        return Mode.START, "a black start is ordered; first it is seen that nobody else beats"
    if under_way(memory):
        return (Mode.BLACKSTART, "an operator's order") if memory.mode in (Mode.START, Mode.BLACKSTART) else (Mode.START, "a black start is ordered")
    if memory.mode is Mode.BLACKSTART and memory.black_start is not None:
        return Mode.START, "the black start has ended"
    if dead:
        return Mode.START, "the bus is dead by two measurements"
    if memory.mode is Mode.START:
        complete = all(a.seen for a in image.assets.values())
        waited = image.now_s - memory.mode_since_s >= start_timeout_s
        if not formers or not image.watched or not (complete or waited):
            return Mode.START, "waiting for a full scan, a unit that holds the bus, and to see that nobody else beats"
    if memory.all_manual:
        return Mode.MANUAL, "an operator's order"
    if not planned:
        return Mode.FALLBACK, "no plan: rules"
    return Mode.AUTO, "plan" if memory.mode is not Mode.START else "a full scan is there and the bus is held"
