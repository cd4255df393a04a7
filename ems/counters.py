"""Counters that go on without us: litres of engines, registers of meters.

A reading is believed if it can have come about since the last one that was: a bad word for a second costs nothing. What stays
where it cannot be is another meter, or one that was reset: nothing is booked across it. The last good reading is carried over
whatever was not seen, minutes, pauses and restarts, so that the total stays as measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ems.decision import Event
from ems.model import AssetImage, Image, Quality

HOLD_S = 10.0
"""What cannot be is another meter, or a reset, when it stays for this long [s]."""
WAIT_H = 1.0
"""A leap that full power explains within this time is waited for [h]: some registers count in large steps."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A reading that was believed: its value, when it was read, and how many litres more than it shows have been booked by the curve [L]."""

    value: float
    at: datetime
    ahead_l: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How far a counter can come: so much in an hour, and a step or a start more [house unit]."""

    per_h: float
    more: float

    def most(self, hours: float) -> float:
        """Return the most that it can advance in `hours`."""
        return self.per_h * max(0.0, hours) + self.more


@dataclass(frozen=True, slots=True)
class Span:
    """A counter over one minute.

    Attributes
    ----------
    start, end : float | None
        The last good reading before the minute, and the one at its end; None where there was none.
    gone : float | None
        What lies between them; None where one is missing, or another meter came.
    since_s : float
        When `start` was read, before the minute began [s]; more than a few cycles is a gap.
    carried : bool
        Whether it is one.
    refused, renewed : bool
        Whether an impossible reading was met, and whether another meter came.
    """

    start: float | None = None
    end: float | None = None
    gone: float | None = None
    since_s: float = 0.0
    carried: bool = False
    refused: bool = False
    renewed: bool = False


@dataclass(slots=True)
class _Counter:
    """One counter between cycles; times are of `now_s`."""

    value: float
    read_s: float
    start: tuple[float, float] | None = None
    odd: tuple[float, float] | None = None
    refused: bool = False
    renewed: bool = False


class Counters:
    """The counters of one site.

    Parameters
    ----------
    paces : Mapping[str, Pace]
        How far each can come, by asset and point as `dg1.fuel_l`.
    ends : Mapping[str, float]
        Where each wraps [house unit].
    fresh_s : float
        A reading this old still stands for now [s].
    """

    def __init__(self, paces: Mapping[str, Pace], ends: Mapping[str, float], fresh_s: float) -> None:
        self.names = tuple(paces)
        self._paces, self._ends, self._fresh_s = paces, ends, fresh_s
        self._points = [(name, *name.split(".", 1)) for name in paces]
        self._seen: dict[str, _Counter] = {}
        self._news: list[Event] = []

    def restore(self, sights: Mapping[str, Sight], image: Image) -> None:
        """Go on from what the ledger knows, before the first look."""
        for name, sight in sights.items():
            if name in self._paces:
                read_s = image.now_s - max(0.0, (image.time - sight.at).total_seconds())
                self._seen[name] = _Counter(sight.value, read_s, (sight.value, read_s))

    def news(self) -> list[Event]:
        """Return what happened since the last call: readings that cannot be, and other meters."""
        news, self._news = self._news, []
        return news

    def look(self, image: Image) -> None:
        """Take the readings of a cycle."""
        for name, asset, point in self._points:
            value = measured(image.assets.get(asset), point)
            if value is None:
                continue
            found = self._seen.get(name)
            if found is None:
                self._seen[name] = _Counter(value, image.now_s)
            elif self._can_be(name, found.value, value, image.now_s - found.read_s):
                if found.odd is not None:  # it is back where it was: that was a bad word
                    self._news.append(refused(name, found.value, found.odd[0], image.now_s - found.odd[1]))
                    found.refused = True
                found.value, found.read_s, found.odd = value, image.now_s, None
            else:
                self._doubted(name, found, value, image.now_s)

    def begin(self, now_s: float) -> None:
        """Begin where nothing was booked before: what is read now is a start."""
        for found in self._seen.values():
            if found.start is None and found.read_s == now_s:
                found.start = (found.value, found.read_s)

    def span(self, name: str, begun_s: float, now_s: float) -> Span:
        """Return a counter's minute, and let the next one go on from its end."""
        found = self._seen.get(name)
        if found is None:
            return Span()
        start, read_s = found.start or (None, begun_s)
        end = found.value if now_s - found.read_s <= self._fresh_s else None
        gone = None if start is None or end is None or found.renewed else advance(self._ends.get(name), start, end)
        span = Span(start, end, gone, max(0.0, begun_s - read_s), begun_s - read_s > self._fresh_s, found.refused or found.odd is not None, found.renewed)
        if end is not None:
            found.start, found.renewed = (end, found.read_s), False
        found.refused = False
        return span

    def sight(self, name: str, now_s: float, at: datetime, ahead_l: float = 0.0) -> Sight | None:
        """Return from where a counter goes on after this minute; `at` is the stamp of `now_s`."""
        found = self._seen.get(name)
        if found is None or found.start is None:
            return None
        return Sight(found.start[0], at - timedelta(seconds=now_s - found.start[1]), ahead_l)

    def _can_be(self, name: str, start: float, end: float, seconds: float) -> bool:
        gone = advance(self._ends.get(name), start, end)
        return gone is not None and gone <= self._paces[name].most(seconds / 3600.0)

    def _doubted(self, name: str, found: _Counter, value: float, now_s: float) -> None:
        """Hold back a reading that cannot be; where it stays it is another meter."""
        if self._can_be(name, found.value, value, now_s - found.read_s + 3600.0 * WAIT_H):
            return
        if found.odd is None or not self._can_be(name, found.odd[0], value, now_s - found.odd[1]):
            found.odd = (value, now_s)
        elif now_s - found.odd[1] >= HOLD_S:
            self._news.append(replaced(name, found.value, value))
            found.value, found.read_s, found.odd, found.renewed = value, now_s, None, True


def advance(wraps_at: float | None, start: float, end: float) -> float | None:
    """Return how far a counter has come, over its end where it wraps; None where it fell otherwise: another meter, or one that was reset."""
    if end >= start:
        return end - start
    wrapped = wraps_at is not None and start > 0.9 * wraps_at and end < 0.1 * wraps_at
    return end + wraps_at - start if wrapped and wraps_at is not None else None


def refused(name: str, start: float, end: float, seconds: float) -> Event:
    """Return the event of a reading that could not be, and is gone."""
    asset, _, point = name.partition(".")
    return Event("counter_refused", asset, f"{point} showed {end:.10g} after {start:.10g} for {seconds:.0f} s: not possible, and not booked")


def replaced(name: str, start: float, end: float) -> Event:
    """Return the event of another meter or a reset: nothing is booked across it, and it goes on from where it is."""
    asset, _, point = name.partition(".")
    way = "fell" if end < start else "leapt"
    return Event("counter_replaced", asset, f"{point} {way} from {start:.10g} to {end:.10g}: another meter or a reset; this minute is booked without it")


def measured(asset: AssetImage | None, point: str) -> float | None:
    """Return a value that was measured and is beyond doubt, else None."""
    return None if asset is None or asset.quality is not Quality.GOOD else asset.get(point)


def sights_of(row: Mapping[str, Any]) -> dict[str, Sight]:
    """Return from where each counter goes on after a row of the ledger."""
    if "at" not in row:
        return {}
    at = datetime.fromisoformat(row["at"]) + timedelta(seconds=row["seconds"])
    found: dict[str, Sight] = {}
    for asset, fuel in row.get("fuel", {}).items():
        found |= _sight(f"{asset}.fuel_l", fuel, "counter", at, fuel.get("ahead_l", 0.0))
    for meter, register in row.get("meters", {}).items():
        for way in ("export", "import"):
            found |= _sight(f"{meter}.energy_{way}_kwh", register, way, at, 0.0)
    return found


def _sight(name: str, part: Mapping[str, Any], prefix: str, at: datetime, ahead_l: float) -> Iterable[tuple[str, Sight]]:
    if part.get(f"{prefix}_end") is not None:
        return [(name, Sight(part[f"{prefix}_end"], at, ahead_l))]
    if part.get(f"{prefix}_start") is not None:
        since = part.get(f"{prefix}_since")
        return [(name, Sight(part[f"{prefix}_start"], at if since is None else datetime.fromisoformat(since), ahead_l))]
    return []
