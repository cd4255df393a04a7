"""What was observed, in quarter-hour slots: one small store for all methods. Gaps stay gaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from ems.plan import Observation

Slots = NDArray[np.int64]
Values = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.float64]]

SLOT_S = 900
DAY = 96
"""Slots of a day. Slots are counted from 1970-01-01T00:00Z."""
KEEP_SLOTS = 35 * DAY
"""Five weeks: enough for a weekly rhythm, and it does not grow for years."""
BRIGHT_DAYS = 22
"""Three weeks before the day after tomorrow: long enough that one of them had a clear sky, short enough that the sun stood nearly as high."""
MOST_TAKEN = 2 * KEEP_SLOTS


class History:
    """Means of every observed quantity by slot, in one ring for each quantity.

    Quantities are `load`, and the ids of solar and hydro assets.
    """

    def __init__(self) -> None:
        self._rings: dict[str, Values] = {}
        self._taken: dict[float, None] = {}
        self.last: dict[str, tuple[datetime, float]] = {}

    def learn(self, observations: Sequence[Observation]) -> list[Observation]:
        """Take observations in and return those that were new; the same interval counts once, however often it is sent."""
        fresh = []
        for o in sorted(observations, key=lambda o: o.start):
            if o.start.timestamp() in self._taken:
                continue
            fresh.append(o)
            self._taken[o.start.timestamp()] = None
            for name, value in observed(o).items():
                self._add(name, o.start, o.seconds, value)
        if len(self._taken) > MOST_TAKEN:
            self._taken = dict.fromkeys(sorted(self._taken)[-KEEP_SLOTS:])
        return fresh

    def _add(self, name: str, start: datetime, seconds: float, value: float) -> None:
        ring = self._rings.get(name)
        if ring is None:
            ring = self._rings[name] = blank()
        for slot, shared in shares(start, seconds):
            k = slot % KEEP_SLOTS
            if ring[2, k] == slot:
                ring[0, k] += value * shared
                ring[1, k] += shared
            else:
                ring[:, k] = value * shared, shared, slot
        if name not in self.last or start >= self.last[name][0]:
            self.last[name] = (start, value)

    def at(self, name: str, slots: Slots) -> Values:
        """Return the means of slots, NaN where nothing was seen; shape as `slots`."""
        ring = self._rings.get(name)
        if ring is None:
            return np.full(slots.shape, np.nan)
        total, weight, stamp = ring[:, slots % KEEP_SLOTS]
        known = (stamp == slots) & (weight > 0.0)
        return np.where(known, total / np.where(known, weight, 1.0), np.nan)

    def brightest(self, name: str, slots: Slots) -> Values:
        """Return the most that was seen at the same time of the last days, NaN where nothing was; shape as `slots`."""
        return np.asarray(np.fmax.reduce([self.at(name, slots - DAY * k) for k in range(1, BRIGHT_DAYS + 1)]))

    def mean(self, name: str, start: datetime, seconds: float) -> float | None:
        """Return the mean over an interval, or None unless at least half of it was seen."""
        parts = list(shares(start, seconds))
        values = self.at(name, np.array([slot for slot, _ in parts], dtype=np.int64))
        weights = np.where(np.isfinite(values), [shared for _, shared in parts], 0.0)
        seen = float(weights.sum())
        return float(np.nansum(values * weights)) / seen if seen >= 0.5 * seconds else None

    def seen(self, name: str) -> tuple[Slots, Values]:
        """Return every slot that was seen and its mean, oldest first."""
        ring = self._rings.get(name)
        if ring is None:
            return np.empty(0, dtype=np.int64), np.empty(0)
        slots = np.sort(ring[2][ring[1] > 0.0]).astype(np.int64)
        return slots, self.at(name, slots)

    def days(self, name: str) -> float:
        """Return how much has been seen [days]."""
        ring = self._rings.get(name)
        return 0.0 if ring is None else float(np.count_nonzero(ring[1] > 0.0)) / DAY

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""
        found = {f"ring/{name}": ring.copy() for name, ring in self._rings.items()}
        found |= {f"last/{name}": np.array([at.timestamp(), value]) for name, (at, value) in self.last.items()}
        return found | {"taken": np.array(sorted(self._taken), dtype=np.float64)}

    def resume(self, state: Arrays) -> None:
        """Take over what another one has learned; what has another shape is left out."""
        self._taken = dict.fromkeys(state.get("taken", np.empty(0)).tolist())
        for key, array in state.items():
            kind, _, name = key.partition("/")
            if kind == "ring" and array.shape == (3, KEEP_SLOTS):
                self._rings[name] = array.copy()
            elif kind == "last" and array.shape == (2,):
                self.last[name] = (datetime.fromtimestamp(array[0], UTC), float(array[1]))


def blank() -> Values:
    """Return an empty ring: rows are the sum, its seconds, and the number of the slot."""
    ring = np.zeros((3, KEEP_SLOTS))
    ring[2] = -1.0
    return ring


def observed(o: Observation) -> dict[str, float]:
    """Return the values of an observation that can be used, by quantity; what is not finite or negative is a gap too."""
    found = {"load": o.load_kw} | dict(o.available_kw) | dict(o.inflow_m3s)
    return {name: value for name, value in found.items() if value is not None and np.isfinite(value) and value >= 0.0}


def shares(start: datetime, seconds: float) -> Iterator[tuple[int, float]]:
    """Yield the slots that an interval touches, and the seconds it shares with each."""
    begin = start.timestamp()
    end = begin + seconds
    slot = int(begin // SLOT_S)
    while slot * SLOT_S < end:
        shared = min(end, (slot + 1) * SLOT_S) - max(begin, slot * SLOT_S)
        if shared > 0:
            yield slot, shared
        slot += 1
