"""What forecasts learn from: means of what was measured, by intervals, and the one that is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ems.config.site import Hydro, Load, Site, Solar
from ems.decision import Decision
from ems.model import Image
from ems.plan import Observation

OBSERVE_S = 900.0
"""Measured means are handed to the forecasts in intervals of this length [s]."""
FRESH_S = 60.0
"""From so long on the mean of the interval under way says how things stand now [s]: a second may be a cloud's edge."""


@dataclass(slots=True)
class _Means:
    """What is being averaged for the next observation."""

    start: datetime
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, value: float | None, seconds: float) -> None:
        if value is not None:
            self.sums[name] = self.sums.get(name, 0.0) + value * seconds
            self.seen[name] = self.seen.get(name, 0.0) + seconds

    def mean(self, name: str) -> float | None:
        seen = self.seen.get(name, 0.0)
        return self.sums[name] / seen if seen >= 0.5 * self.seconds > 0.0 else None


class Observer:
    """Averages what one site measures."""

    def __init__(self, site: Site) -> None:
        self._loads = site.of(Load)
        self._solars = site.of(Solar)
        self._hydros = site.of(Hydro)
        self._means: _Means | None = None
        self._last: Observation | None = None

    def look(self, image: Image, decision: Decision) -> Observation | None:
        """Take one cycle in, and return an interval that has ended with it; what was not seen for half the time is left out, not guessed."""
        if self._means is None:
            self._means = _Means(image.time)
        means, dt = self._means, image.dt_s
        means.seconds += dt
        means.add("load", load_kw(self._loads, image), dt)
        for solar in self._solars:
            means.add(solar.id, sun_kw(solar, image, decision), dt)
        for hydro in self._hydros:
            means.add(hydro.id, image.assets[hydro.id].get("flow_m3s"), dt)
        if means.seconds < OBSERVE_S - 1e-6:
            return None
        self._means, self._last = None, self._observed(means)
        return self._last

    def now(self) -> Observation | None:
        """Return how things stand: the interval under way once it tells enough, until then the one that has just ended."""
        return self._observed(self._means) if self._means is not None and self._means.seconds >= FRESH_S else self._last

    def _observed(self, means: _Means) -> Observation | None:
        load = means.mean("load")
        if load is None:
            return None
        sun = {s.id: v for s in self._solars if (v := means.mean(s.id)) is not None}
        water = {h.id: v for h in self._hydros if (v := means.mean(h.id)) is not None}
        return Observation(means.start, means.seconds, load, sun, water)


def load_kw(loads: Sequence[Load], image: Image) -> float | None:
    """Return what all loads draw [kW], None where one of them is not known."""
    powers = [image.assets[a.id].power_kw for a in loads]
    known = [p for p in powers if p is not None]
    return sum(known) if len(known) == len(powers) else None


def sun_kw(solar: Solar, image: Image, decision: Decision) -> float | None:
    """Return what the sun offered [kW]: measured, else the power while nothing held it back, else unknown."""
    unit = image.assets[solar.id]
    free = unit.free_kw
    if free is not None or unit.power_kw is None:
        return free
    limit = decision.memory.setpoints.get(solar.id)
    held = limit is not None and limit < 0.98 * solar.rated_kw and unit.power_kw > limit - 0.02 * solar.rated_kw
    return None if held else unit.power_kw
