"""What is usual at an hour: a learned profile of the day, or a learned share of the clear sky."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from optimizer.forecasting.history import DAY, SLOT_S, Slots, Values
from optimizer.forecasting.sky import ClearSky

FORGET = 0.15
"""Weight of the newest day in a profile: about a week of memory."""
FORGET_WEEKEND = 0.08
"""Weight of the newest weekend day in what a weekend has more: about six weekends."""
ENOUGH_DAYS = 3.0
"""Under this much history [days] a profile says nothing."""
THURSDAY = 3
"""1970-01-01, where slots begin."""
HOURS_KEPT = 4096

RISE, SINK = 0.3, 0.004
"""How fast the clear-day scale follows a brighter and a duller moment: it shall lie at the clear ones."""
CLEAR_SHARE = 0.85
"""Share of the rating that 1000 W/m2 give, before any was seen."""
DULL = 0.35
"""Share of a clear day that is expected before any was seen: a dull day."""
LIT_WM2 = 40.0
"""Under this clear-sky irradiance [W/m2] an array's power says too little about the day."""
SHARE_MEMORY = 240.0
"""Memory of the mean index, in slots of full sun: about ten days."""


class Usual(Protocol):
    """What is usual, and how it is learned."""

    def learn(self, slot: int, value: float) -> None:
        """Take in one slot."""

    def at(self, slots: Slots) -> Values:
        """Return what is usual at slots, NaN where too little was seen."""

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""


class LocalTime:
    """The local quarter of the day and kind of day of slots; daylight saving is the time zone's."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._offsets: dict[int, int] = {}

    def of(self, slots: Slots) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return whether each slot lies on a weekend, and its quarter of the day."""
        first = int(slots.min()) // 4
        hours = range(first, int(slots.max()) // 4 + 1)
        if len(hours) > HOURS_KEPT:
            return self._of(slots, np.array([self._offset(int(slot) // 4) for slot in slots]))
        return self._of(slots, np.array([self._offset(hour) for hour in hours])[slots // 4 - first])

    def _of(self, slots: Slots, offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        local = slots + offsets
        return ((local // DAY + THURSDAY) % 7 >= 5).astype(np.int64), local % DAY

    def _offset(self, hour: int) -> int:
        """Return the offset of an hour's local time [slots]."""
        found = self._offsets.get(hour)
        if found is None:
            if len(self._offsets) >= HOURS_KEPT:
                self._offsets.clear()
            offset = utc_offset_s(hour * 3600, self._zone)
            found = self._offsets[hour] = round(offset / SLOT_S)
        return found


def utc_offset_s(at_s: float, zone: ZoneInfo) -> float:
    """Return how far local time is ahead of UTC [s]."""
    offset = datetime.fromtimestamp(at_s, zone).utcoffset()
    return 0.0 if offset is None else offset.total_seconds()


class Profile:
    """Means by quarter of the local day with a short memory; where `split`, with what a weekend has more or less.

    A weekend comes seldom, so what it has more is learned slowly, while the level of all days is learned from each of them.
    """

    def __init__(self, zone: ZoneInfo, split: bool) -> None:
        self._local = LocalTime(zone)
        self._split = split
        self._means = np.zeros((2, DAY))  # of all days, and what a weekend has more
        self._counts = np.zeros((2, DAY))

    def learn(self, slot: int, value: float) -> None:
        """Take in one slot."""
        kinds, quarters = self._local.of(np.array([slot]))
        kind, quarter = int(kinds[0]) if self._split else 0, int(quarters[0])
        common, weekends = self._counts[0, quarter], self._counts[1, quarter]
        missed = value - self._means[0, quarter] - kind * self._means[1, quarter]
        own = kind * max(FORGET_WEEKEND, 1.0 / (weekends + 1.0)) if common > 0.0 else 0.0
        self._means[1, quarter] += own * missed
        self._means[0, quarter] += max(FORGET, 1.0 / (common + 1.0)) * (1.0 - own) * missed
        self._counts[0, quarter] += 1.0
        self._counts[1, quarter] += 1.0 if own else 0.0

    def at(self, slots: Slots) -> Values:
        """Return what is usual; a weekend is like any day while none has been seen yet."""
        if self._counts[0].sum() < ENOUGH_DAYS * DAY or not (self._counts[0] > 0.0).all():
            return np.full(len(slots), np.nan)
        kinds, quarters = self._local.of(slots)
        found: Values = self._means[0, quarters] + (kinds * self._means[1, quarters] if self._split else 0.0)
        return found

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""
        return {"means": self._means, "counts": self._counts}


class Index:
    """A share of the clear sky: a scale for each hour (tilt, direction, losses, shade), and the mean clear-sky index.

    The scale follows the brightest moments of an hour, so it is what the array gives under a clear sky, for each
    W/m2 on the level.
    """

    def __init__(self, sky: ClearSky, rated_kw: float) -> None:
        self._sky, self._rated_kw = sky, rated_kw
        self._scales = np.full(24, CLEAR_SHARE * rated_kw / 1000.0)
        self._share = np.array([DULL, 4.0])  # mean index, and how much sun it is the mean of

    def learn(self, slot: int, value: float) -> None:
        """Take in one slot."""
        one = np.array([slot])
        ghi = float(self._sky.ghi_wm2(one)[0])
        if ghi < LIT_WM2:
            return
        hour = slot % DAY // 4
        clear = float(self._clear_kw(one)[0])
        seen = min(value / ghi, 3.0 * self._rated_kw / 1000.0)
        self._scales[hour] += (RISE if seen > self._scales[hour] else SINK) * (seen - self._scales[hour])
        weight = clear / self._rated_kw
        self._share[1] = min(self._share[1] + weight, SHARE_MEMORY)
        self._share[0] += weight / self._share[1] * (min(value / clear, 1.5) - self._share[0])

    def at(self, slots: Slots) -> Values:
        """Return the mean index times the clear-sky power of slots [kW]."""
        usual: Values = self._share[0] * self._clear_kw(slots)
        return usual

    def _clear_kw(self, slots: Slots) -> Values:
        """Return the clear-sky power of slots [kW]; between the middles of hours the scale is a line."""
        hour = ((slots % DAY) + 0.5) / 4.0 - 0.5
        low = np.floor(hour).astype(np.int64)
        part = hour - low
        scale = (1.0 - part) * self._scales[low % 24] + part * self._scales[(low + 1) % 24]
        clear: Values = np.minimum(np.maximum(scale, 1e-6) * self._sky.ghi_wm2(slots), self._rated_kw)
        return clear

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""
        return {"scales": self._scales, "share": self._share}
