"""What was observed, in quarter-hour slots: one small store for all methods. Gaps stay gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from ems.plan import Observation

SLOT_S = 900
KEEP_SLOTS = 35 * 96
"""Five weeks: enough for a weekly rhythm, and it does not grow for years."""


class History:
    """Means of every observed quantity by slot.

    Quantities are `load`, and the ids of solar and hydro assets.
    """

    def __init__(self) -> None:
        self._slots: dict[str, dict[int, tuple[float, float]]] = {}
        self._taken: set[datetime] = set()
        self.last: dict[str, tuple[datetime, float]] = {}

    def learn(self, observations: Sequence[Observation]) -> list[Observation]:
        """Take observations in and return those that were new; the same interval counts once, however often it is sent."""
        fresh = [o for o in sorted(observations, key=lambda o: o.start) if o.start not in self._taken]
        for o in fresh:
            self._taken.add(o.start)
            for name, value in ({"load": o.load_kw} | dict(o.available_kw) | dict(o.inflow_m3s)).items():
                if value is not None and value == value:  # NaN is a gap too
                    self._add(name, o.start, o.seconds, value)
        if len(self._taken) > 4 * KEEP_SLOTS * SLOT_S // 60:
            self._taken = set(sorted(self._taken)[-2 * KEEP_SLOTS :])
        return fresh

    def _add(self, name: str, start: datetime, seconds: float, value: float) -> None:
        slots = self._slots.setdefault(name, {})
        for slot, shared in shares(start, seconds):
            total, weight = slots.get(slot, (0.0, 0.0))
            slots[slot] = (total + value * shared, weight + shared)
        while len(slots) > KEEP_SLOTS:
            del slots[next(iter(slots))]  # oldest first: observations come in order
        if name not in self.last or start >= self.last[name][0]:
            self.last[name] = (start, value)

    def slot(self, name: str, slot: int) -> float | None:
        """Return the mean of one slot, or None where nothing was seen."""
        total, weight = self._slots.get(name, {}).get(slot, (0.0, 0.0))
        return total / weight if weight > 0 else None

    def mean(self, name: str, start: datetime, seconds: float) -> float | None:
        """Return the mean over an interval, or None unless at least half of it was seen."""
        total = weight = 0.0
        for slot, shared in shares(start, seconds):
            value = self.slot(name, slot)
            if value is not None:
                total, weight = total + value * shared, weight + shared
        return total / weight if weight >= 0.5 * seconds else None

    def peak(self, name: str, start: datetime, seconds: float) -> float | None:
        """Return the highest slot of an interval, or None where nothing was seen."""
        return max((v for slot, _ in shares(start, seconds) if (v := self.slot(name, slot)) is not None), default=None)

    def seen(self, name: str) -> Iterator[tuple[datetime, float]]:
        """Yield the middle and the mean of every slot, oldest first."""
        for slot in sorted(self._slots.get(name, {})):
            value = self.slot(name, slot)
            if value is not None:
                yield datetime.fromtimestamp((slot + 0.5) * SLOT_S, UTC), value

    def days(self, name: str) -> float:
        """Return how much has been seen [days]."""
        return len(self._slots.get(name, {})) * SLOT_S / 86400.0


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


def day_before(at: datetime, days: int) -> datetime:
    """Return the same time `days` days earlier."""
    return at - timedelta(days=days)
