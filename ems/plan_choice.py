"""Whether a plan that starts or stops an engine otherwise than the one before is worth it: no flapping (CONTROL 4.7).

Every new forecast moves the optimum a little, and starting and stopping engines for that costs more than it saves. So
a planner answers with two plans where they differ: the best one, and the best one that leaves the engines as the plan
before it had them for the next two hours. Both come from the same state and the same forecast; this says which is
followed. What does not touch a promised commitment is followed at once, powers and all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from ems.plan import DieselStart, Grid, Plan, overlap

GAIN_L = 2.0
GAIN = 0.01
"""A change must save so many litres, and this share of what is burnt while a promise holds: less is what forecasts err by in an hour."""
NEAR_S = 7200.0
"""So far ahead a commitment is a promise [s]; what lies further is decided again before it comes."""
PASSED_S = 60.0
"""An engine that is not as its plan had it so long ago [s] has left the plan: nothing is promised of it."""

Promise = tuple[bool | None, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One engine that a plan runs otherwise than promised, and when that begins."""

    diesel: str
    at: datetime
    on: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of two plans to follow.

    Attributes
    ----------
    kept : bool
        Whether it is the one that keeps what was promised.
    gain_l, needed_l : float | None
        By how much the other is cheaper, and how much that must be [L]; None where there was nothing to compare.
    why : str
    """

    plan: Plan
    kept: bool
    why: str
    gain_l: float | None = None
    needed_l: float | None = None


def promised(old: Plan, grid: Grid, at: datetime, diesels: Mapping[str, DieselStart]) -> dict[str, Promise]:
    """Return what an old plan has promised of each engine in the steps of a new grid: on, off, or None for nothing.

    Parameters
    ----------
    old : Plan
    grid : Grid
    at : datetime
        Now.
    diesels : Mapping[str, DieselStart]
        What the engines really do now. One that has left the plan, by a trip or because reserve asked for it, is free.
    """
    found, near = {}, at + timedelta(seconds=NEAR_S)
    weights = [overlap(old.grid, begin, step_s) if begin < near else {} for begin, step_s in zip(grid.starts(), grid.step_s, strict=True)]
    now = {k for k in (old.grid.index(at), old.grid.index(at - timedelta(seconds=PASSED_S))) if k is not None}
    for diesel, on in old.on.items():
        if diesel in old.deferrables:
            continue
        real = diesels.get(diesel)
        follows = real is not None and (not now or any(on[k] is real.on for k in now))
        found[diesel] = tuple(sum(s for k, s in w.items() if on[k]) >= 0.5 * sum(w.values()) if w and follows else None for w in weights)
    return found


def changes(promise: Mapping[str, Promise], plan: Plan) -> tuple[Change, ...]:
    """Return where a plan does other than promised: of each engine the first step."""
    found, starts = [], plan.grid.starts()
    for diesel, wanted in promise.items():
        for k, (flag, on) in enumerate(zip(wanted, plan.on[diesel], strict=True)):
            if flag is not None and flag is not on:
                found.append(Change(diesel, starts[k], on))
                break
    return tuple(found)


def restless(promise: Mapping[str, Promise], plan: Plan, diesels: Mapping[str, DieselStart]) -> bool:
    """Whether a plan starts and stops engines more often than promised, in the steps of which something was promised."""
    ours = theirs = 0
    for diesel, flags in promise.items():
        now = diesels[diesel].on if diesel in diesels else False
        wanted = [(flag, plan.on[diesel][k]) for k, flag in enumerate(flags) if flag is not None]
        theirs += sum(a is not b for a, b in pairwise([now, *(flag for flag, _ in wanted)]))
        ours += sum(a is not b for a, b in pairwise([now, *(on for _, on in wanted)]))
    return ours > theirs


def needed_l(litres: float) -> float:
    """Return what a change must save [L] where so many litres are burnt while a promise holds."""
    return max(GAIN_L, GAIN * litres)


def choose(
    best: Plan, keeping: Plan | None, promise: Mapping[str, Promise], diesels: Mapping[str, DieselStart], litres: float, *, hurried: bool = False
) -> Choice:
    """Return the plan to follow.

    Parameters
    ----------
    best : Plan
        The cheapest.
    keeping : Plan | None
        The cheapest that keeps what was promised; None where `best` does, where nothing can, or only what is too dear anyway.
    promise : Mapping[str, tuple]
    diesels : Mapping[str, DieselStart]
        What the engines do now.
    litres : float
        What `best` burns while a promise holds [L]: what follows is decided again, however long the horizon.
    hurried : bool
        Whether the planner had no time to look for `keeping`.
    """
    changed = changes(promise, best)
    if not changed:
        return Choice(best, False, "it changes no commitment of the next two hours")
    if not restless(promise, best, diesels):
        return Choice(best, False, "it switches no engine more than was promised")
    words = ", ".join(f"{c.diesel} {'on' if c.on else 'off'} at {c.at:%H:%M}" for c in changed)
    if keeping is None and hurried:
        return Choice(best, False, f"{words} UTC: there was no time to look for a plan without that")
    if keeping is None or best.objective_l is None or keeping.objective_l is None or changes(promise, keeping):
        return Choice(best, False, f"{words} UTC: to go on as before is not possible or too dear")
    gain, needed = keeping.objective_l - best.objective_l, needed_l(litres)
    if gain >= needed:
        return Choice(best, False, f"{words} UTC saves {gain:.1f} L", gain, needed)
    return Choice(keeping, True, f"{words} UTC would save {gain:.1f} L, a change takes {needed:.1f} L", gain, needed)
