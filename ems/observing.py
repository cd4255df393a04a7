"""What forecasts learn from: means of what was measured, by intervals, and the one that is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ems.bus import Bus, BusState
from ems.config.site import Hydro, Load, Site, Solar
from ems.decision import Decision
from ems.memory import Memory
from ems.model import Image
from ems.physics import hydro_flow_m3s
from ems.plan import Observation
from ems.situation import AT_LIMIT
from ems.water import gauged

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
        self._bus = Bus(site)
        self._means: _Means | None = None
        self._last: Observation | None = None

    def look(self, image: Image, decision: Decision) -> Observation | None:
        """Take one cycle in, and return an interval that has ended with it; what was not seen for half the time is left out, not guessed.

        On a dead bus nobody sees what people would draw or the sun would give, and while feeders wait in the dark the meters show too little.
        """
        if self._means is None:
            self._means = _Means(image.time)
        means, dt = self._means, image.dt_s
        means.seconds += dt
        dead = image.frequency_hz == 0.0 or self._bus.found(image).state is BusState.DEAD
        means.add("load", None if dead or unserved(decision.memory) else load_kw(self._loads, image), dt)
        for solar in self._solars:
            means.add(solar.id, None if dead else sun_kw(solar, image, decision), dt)
        for hydro in self._hydros:
            means.add(hydro.id, inflow_m3s(hydro, image, decision), dt)
        if means.seconds < OBSERVE_S - 1e-6:
            return None
        self._means, self._last = None, self._observed(means)
        return self._last

    def now(self) -> Observation | None:
        """Return how things stand: the interval under way once it tells enough, until then the one that has just ended."""
        return self._observed(self._means) if self._means is not None and self._means.seconds >= FRESH_S else self._last

    def _observed(self, means: _Means) -> Observation | None:
        load = means.mean("load")
        sun = {s.id: v for s in self._solars if (v := means.mean(s.id)) is not None}
        water = {h.id: v for h in self._hydros if (v := means.mean(h.id)) is not None}
        return Observation(means.start, means.seconds, load, sun, water) if load is not None or sun or water else None


def unserved(memory: Memory) -> bool:
    """Return whether a feeder waits in the dark; what a person has opened, or what is locked until one closes it, may stay so and is not waited for."""
    return any(f.opened_by in ("ems", "relay") and not f.locked for f in memory.feeders.values())


def load_kw(loads: Sequence[Load], image: Image) -> float | None:
    """Return what all loads draw [kW], None where one of them is not known."""
    powers = [image.assets[a.id].power_kw for a in loads]
    known = [p for p in powers if p is not None]
    return sum(known) if len(known) == len(powers) else None


def sun_kw(solar: Solar, image: Image, decision: Decision) -> float | None:
    """Return what the sun offered [kW]: measured, else the power while nothing held it back, else unknown.

    A unit that has a fault or is not ready, and so gives nothing, says nothing of the sun; one that draws a little for itself gives nothing.
    """
    unit = image.assets[solar.id]
    free, power = unit.free_kw, unit.power_kw
    if not unit.ready and max(free or 0.0, power or 0.0) <= AT_LIMIT * solar.rated_kw:
        return None
    if free is not None or power is None:
        return free
    return None if held(solar, power, decision) else max(0.0, power)


def inflow_m3s(hydro: Hydro, image: Image, decision: Decision) -> float | None:
    """Return the water at an intake [m3/s]: measured; without a gauge what the turbine draws, and leaves to the river, while nothing else holds it back.

    It tells nothing of its river where it stands, draws on a pond, or carries the residual.
    """
    unit = image.assets[hydro.id]
    power = unit.power_kw
    if gauged(hydro, unit):
        return unit.get("flow_m3s")
    if power is None or power <= AT_LIMIT * hydro.rated_kw or decision.leader == hydro.id or held(hydro, power, decision):
        return None
    return hydro_flow_m3s(hydro, power) + hydro.ecological_flow_m3s


def held(unit: Solar | Hydro, power_kw: float, decision: Decision) -> bool:
    """Return whether a setpoint of ours holds a unit back."""
    limit = decision.memory.setpoints.get(unit.id)
    return limit is not None and limit < (1.0 - AT_LIMIT) * unit.rated_kw and power_kw > limit - AT_LIMIT * unit.rated_kw
