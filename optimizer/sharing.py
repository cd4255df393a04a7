"""Which of the cheapest splits of a power the diesels on line take: the most even one.

Where two fuel curves rise alike, every split costs the same, and a linear program answers with a corner: one set at its
minimum loading, the other full, and the next step perhaps the other way round. Engines that share a load by droop run at the
same loading, and so do these; where the curves differ, the flatter one still goes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from optimizer.assets.diesel import DieselBlock, fuel_lines
from optimizer.frame import MW, Array
from optimizer.problem import PlanProblem

ALIKE_L_PER_KWH = 1e-6
"""Slopes that differ by less are one."""
NOTICE_KW = 1e-3

Part = tuple[float, int, float]
"""A part of a fuel curve: its slope [L/kWh], whose it is, and how much power it is wide [kW]."""


def evened(problem: PlanProblem, power_kw: Mapping[str, Array]) -> dict[str, Array]:
    """Return the diesels' powers [kW], each of shape (n_steps,), with the same sum and litres in every step, split evenly.

    Left as it is: a step between which and its neighbour a ramp limits a diesel, and one in which somebody's loss would leave more
    to be taken up within seconds.
    """
    blocks = problem.diesels
    found = {d.diesel.id: power_kw[d.diesel.id].copy() for d in blocks}
    sets = np.argmax(problem.frame.w.value, axis=0)
    tied = bound_by_ramps(problem)
    for t in range(problem.frame.n):
        running = [d for d in blocks if sets[t] in d.rows and found[d.diesel.id][t] > 0.0]
        if len(running) < 2 or t in tied:
            continue
        now = [float(found[d.diesel.id][t]) for d in running]
        even = split(sum(now), [limits(d, int(sets[t]), t) for d in running], running)
        if even is not None and lost_at_once(even, running) <= lost_at_once(now, running) + NOTICE_KW:
            for d, p in zip(running, even, strict=True):
                found[d.diesel.id][t] = p
    return found


def split(total_kw: float, bounds_kw: Sequence[tuple[float, float]], running: Sequence[DieselBlock]) -> list[float] | None:
    """Return the cheapest split that is even where curves rise alike [kW]; None where the bounds have no room for the total."""
    powers = [lo for lo, _ in bounds_kw]
    left = total_kw - sum(powers)
    parts: list[Part] = sorted(p for k, (d, (lo, hi)) in enumerate(zip(running, bounds_kw, strict=True)) for p in parts_of(d, k, lo, hi))
    while parts and left > 0.0:
        alike = [p for p in parts if p[0] <= parts[0][0] + ALIKE_L_PER_KWH]
        parts = parts[len(alike) :]
        places = sorted({k for _, k, _ in alike})
        levelled = level(left, [(powers[k], sum(w for _, at, w in alike if at == k), running[k].diesel.rated_kw) for k in places])
        left -= sum(levelled) - sum(powers[k] for k in places)
        for k, p in zip(places, levelled, strict=True):
            powers[k] = p
    return powers if abs(left) <= NOTICE_KW else None


def level(more_kw: float, parts: Sequence[tuple[float, float, float]]) -> list[float]:
    """Return the powers [kW] of parts (from [kW], width [kW], rating [kW]) filled with so much to one loading, as far as each reaches."""
    marks = sorted({edge / rated for begin, width, rated in parts for edge in (begin, begin + width)})
    by_mark = [[min(max(mark * rated, begin), begin + width) for begin, width, rated in parts] for mark in marks]
    total = more_kw + sum(begin for begin, _, _ in parts)
    loading = float(np.interp(total, [sum(powers) for powers in by_mark], marks))
    return [min(max(loading * rated, begin), begin + width) for begin, width, rated in parts]


def parts_of(block: DieselBlock, place: int, low_kw: float, high_kw: float) -> list[Part]:
    """Return the parts of a diesel's fuel curve, as the problem has it, between two powers."""
    lines = fuel_lines(block.diesel)
    bends = [(a - b) / (steeper - flatter) for (a, flatter), (b, steeper) in pairwise(lines)]
    ends = [min(max(x, low_kw), high_kw) for x in (low_kw, *bends, high_kw)]
    return [(slope, place, after - before) for (_, slope), (before, after) in zip(lines, pairwise(ends), strict=True) if after > before]


def limits(block: DieselBlock, row: int, t: int) -> tuple[float, float]:
    """Return between which powers a diesel may run in a step of a set [kW]; a burn that comes with a start is its least."""
    k = int(np.flatnonzero(block.rows == row)[0])
    return max(float(block.power_min.value[k, t]), block.burn_after_start(t)) / MW, float(block.power_max.value[k, t]) / MW


def lost_at_once(powers_kw: Sequence[float], running: Sequence[DieselBlock]) -> float:
    """Return what the worst trip among them leaves to others than diesels within seconds [kW]."""
    rooms = [min(d.block_kw, d.diesel.rated_kw - p) if d.reacts else 0.0 for d, p in zip(running, powers_kw, strict=True)]
    return max(p - (sum(rooms) - room) for p, room in zip(powers_kw, rooms, strict=True))


def bound_by_ramps(problem: PlanProblem) -> set[int]:
    """Return the steps from which, or to which, some diesel's ramp limits what it gives."""
    slow = [int(k) for d in problem.diesels for k in problem.frame.slow_steps(d.diesel.ramp_kw_per_s, d.diesel.rated_kw)]
    return {*slow, *(k - 1 for k in slow)}
