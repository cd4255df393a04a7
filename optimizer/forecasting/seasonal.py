"""Seasonal: the profile of the day, learned with a short memory, pulled towards what was seen just now."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ems.config.site import Site, Solar
from ems.plan import Forecast, Grid, Observation, Series
from optimizer.forecasting.history import History, shares
from optimizer.forecasting.persistence import persistence

ENOUGH_DAYS = 3.0
"""Under this much history [days] persistence is better."""
FORGET = 0.15
"""Weight of the newest day in a profile: about a week of memory."""
LOAD_FADE_H, SUN_FADE_H = 6.0, 3.0
"""How fast the recent error fades from the forecast [h]."""
RECENT_S = 3600.0
RATIO = (0.2, 2.0)
"""What was seen of the sun just now may change the profile by this much."""


@dataclass(slots=True)
class Profile:
    """Means by hour of the day, each with a short memory; `key` 1 is the weekend."""

    split: bool
    means: dict[tuple[int, int], float] = field(default_factory=dict)
    counts: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, local: datetime, value: float, weight: float) -> None:
        """Take in one value; `weight` is its share of an hour."""
        key = self._key(local)
        seen = self.counts.get(key, 0)
        part = max(FORGET, 1.0 / (seen + 1)) * min(1.0, weight)
        self.means[key] = value if seen == 0 else self.means[key] + part * (value - self.means[key])
        self.counts[key] = seen + 1

    def at(self, local: datetime) -> float | None:
        """Return the value of an hour, of the other kind of day if this kind has not been seen yet."""
        day, hour = self._key(local)
        return self.means.get((day, hour), self.means.get((1 - day, hour)))

    def _key(self, local: datetime) -> tuple[int, int]:
        return (int(self.split and local.weekday() >= 5), local.hour)


class Seasonal:
    """The learned profiles of one site."""

    def __init__(self, site: Site, history: History) -> None:
        self._site = site
        self._history = history
        self._tz: ZoneInfo = site.tz
        self._profiles = {"load": Profile(split=True)} | {s.id: Profile(split=False) for s in site.of(Solar)}

    def learn(self, fresh: list[Observation]) -> None:
        """Take in new observations."""
        for o in fresh:
            values = {"load": o.load_kw} | dict(o.available_kw)
            for name, profile in self._profiles.items():
                value = values.get(name)
                if value is None or not math.isfinite(value):
                    continue
                for slot, shared in shares(o.start, o.seconds):
                    profile.add(self._local(slot), value, shared / 3600.0)

    def forecast(self, grid: Grid, at: datetime) -> Forecast:
        """Return the forecast on a grid; what has too little history comes from persistence, and says so."""
        spare = persistence(self._site, self._history, grid)
        source = dict(spare.source)
        load, peak = spare.load_kw, spare.load_peak_kw
        if self._enough("load"):
            offset = self._recent("load", at)
            load = self._with_offset("load", grid, at, offset)
            peak, source["load"] = load, "seasonal"
        elif source["load"] == "persistence":
            source["load"] = "fallback:persistence"
        sun = dict(spare.available_kw)
        for solar in self._site.of(Solar):
            if self._enough(solar.id):
                sun[solar.id] = self._with_ratio(solar, grid, at)
                source[solar.id] = "seasonal"
            elif source[solar.id] == "persistence":
                source[solar.id] = "fallback:persistence"
        return Forecast(grid, load, sun, spare.inflow_m3s, source, peak)

    def _enough(self, name: str) -> bool:
        return self._history.days(name) >= ENOUGH_DAYS and len({h for _, h in self._profiles[name].means}) == 24

    def _local(self, slot: int) -> datetime:
        return datetime.fromtimestamp((slot + 0.5) * 900, self._tz)

    def _value(self, name: str, start: datetime, seconds: float) -> float:
        """Return the profile's mean over one step."""
        parts = max(1, round(seconds / 900.0))
        points = [start + timedelta(seconds=seconds * (k + 0.5) / parts) for k in range(parts)]
        return sum(self._profiles[name].at(p.astimezone(self._tz)) or 0.0 for p in points) / parts

    def _recent(self, name: str, at: datetime) -> float:
        """Return seen minus profile over the last hour, 0 where that was not seen."""
        begin = at - timedelta(seconds=RECENT_S)
        seen = self._history.mean(name, begin, RECENT_S)
        return 0.0 if seen is None else seen - self._value(name, begin, RECENT_S)

    def _with_offset(self, name: str, grid: Grid, at: datetime, offset: float) -> Series:
        """Return the profile plus the recent error, which fades; at least a tenth of the profile remains."""
        values = []
        for start, seconds in zip(grid.starts(), grid.step_s, strict=True):
            base = self._value(name, start, seconds)
            values.append(max(0.1 * base, base + offset * fade(start, seconds, at, LOAD_FADE_H)))
        return tuple(values)

    def _with_ratio(self, solar: Solar, grid: Grid, at: datetime) -> Series:
        """Return the profile times how the last hours compare with it, which fades to one."""
        begin = at - timedelta(hours=SUN_FADE_H)
        seen = self._history.mean(solar.id, begin, SUN_FADE_H * 3600.0)
        usual = self._value(solar.id, begin, SUN_FADE_H * 3600.0)
        ratio = 1.0
        if seen is not None and usual > 0.02 * solar.rated_kw:
            ratio = min(max(seen / usual, RATIO[0]), RATIO[1])
        values = []
        for start, seconds in zip(grid.starts(), grid.step_s, strict=True):
            part = fade(start, seconds, at, SUN_FADE_H)
            values.append(min(max(0.0, self._value(solar.id, start, seconds) * (1.0 + (ratio - 1.0) * part)), solar.rated_kw))
        return tuple(values)


def fade(start: datetime, seconds: float, at: datetime, hours: float) -> float:
    """Return how much of a recent error is left in the middle of a step."""
    ahead_h = ((start - at).total_seconds() + seconds / 2.0) / 3600.0
    return math.exp(-max(0.0, ahead_h) / hours)
