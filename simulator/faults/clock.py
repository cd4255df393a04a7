"""Time faults: what the wall clock shows, and how long a cycle takes; the timer that never steps back is not touched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from simulator.faults.live import Live

STEPS_S = (1.0, 60.0, 3600.0, 86400.0)
"""A clock step is one of these, forwards or back [s]."""
SLEW = 0.05
"""A slewed clock gains or loses this share at severity 1."""
STALL_S = (0.5, 20.0)
"""Shortest and longest stall [s]."""
HURRIED_S = 0.1
"""A cycle that follows at once upon a late one [s]."""


def wall(true: datetime, now_s: float, lives: Sequence[Live]) -> datetime:
    """Return what the site's clock shows.

    Parameters
    ----------
    true : datetime
        The time that it is [UTC].
    """
    for live in lives:
        if live.kind == "clock_1970":
            true = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now_s)
        elif live.kind == "clock_step":
            step: float = live.memo.setdefault("step", live.chance.choice(STEPS_S) * live.chance.choice((-1.0, 1.0)))
            true += timedelta(seconds=step)
        elif live.kind == "slew":
            sign: float = live.memo.setdefault("sign", live.chance.choice((-1.0, 1.0)))
            true += timedelta(seconds=sign * SLEW * live.severity * (now_s - live.fault.onset_s))
        else:
            continue
        live.touched += 1
    return true


def cycle_s(declared_s: float, lives: Sequence[Live]) -> float:
    """Return how long the next cycle takes [s]: declared, stalled, late, or hurried after a late one."""
    for live in lives:
        if live.kind == "stall":
            if live.memo.get("left", 1 + round(4.0 * live.severity)) <= 0:
                continue
            live.memo["left"] = live.memo.get("left", 1 + round(4.0 * live.severity)) - 1
            low, high = STALL_S
            taken = declared_s + low * math.exp(live.chance.random() * math.log(high / low))
        elif live.kind == "jitter":
            taken = declared_s * live.chance.uniform(0.5, 2.5)
        elif live.kind == "hurried":
            taken = min(declared_s, HURRIED_S)
        else:
            continue
        live.touched += 1
        return taken
    return declared_s
