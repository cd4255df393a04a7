"""A load behind its feeders."""

from __future__ import annotations

import math

from ems.config.site import Load


class LoadUnit:
    """One load: what people want [kW], and which feeders are closed.

    Attributes
    ----------
    tripped : dict[str, bool]
        Feeders whose under-frequency relay has opened them; a close command resets it.
    pickup : dict[str, float]
        What a feeder draws as a multiple of what people usually want: more after an outage.
    factor : float
        What frequency and voltage make of the demand.
    local, ignores : set[str]
        Feeders (or the load itself) switched to local, or that acknowledge commands and do nothing.
    """

    __slots__ = ("id", "asset", "closed", "tripped", "pickup", "share", "factor", "demand_kw", "tan_phi", "local", "ignores")

    def __init__(self, asset: Load) -> None:
        self.id = asset.id
        self.asset = asset
        self.closed = {f.id: True for f in asset.feeders}
        self.tripped = dict.fromkeys(self.closed, False)
        self.pickup = dict.fromkeys(self.closed, 1.0)
        self.local: set[str] = set()
        self.ignores: set[str] = set()
        self.share = self.factor = 1.0
        self.demand_kw = 0.0
        self.tan_phi = math.tan(math.acos(asset.power_factor))

    def switch(self, breaker: str, closed: bool) -> None:
        """Open (shed) or close (restore) a feeder, or all of them by the load's own id."""
        if breaker in self.local or breaker in self.ignores:
            return
        for feeder in self.closed if breaker == self.id else (breaker,):
            self.closed[feeder] = closed
            if closed:
                self.tripped[feeder] = False
        self.count()

    def relay(self, feeder: str) -> None:
        """Let the under-frequency relay of a feeder open it."""
        self.closed[feeder] = False
        self.tripped[feeder] = True
        self.count()

    def count(self) -> None:
        """Work out which share of the usual demand is connected."""
        if all(self.closed.values()) and all(p == 1.0 for p in self.pickup.values()):
            self.share = 1.0
        else:
            self.share = sum(f.share * self.pickup[f.id] for f in self.asset.feeders if self.closed[f.id])

    @property
    def shed_kw(self) -> float:
        """What people want behind open feeders [kW]."""
        return self.demand_kw * sum(f.share for f in self.asset.feeders if not self.closed[f.id])

    def points(self, live: bool, frequency_hz: float, voltage_v: float) -> dict[str, float | None]:
        """Return what the meter of the whole load shows."""
        power = self.demand_kw * self.share * self.factor if live else 0.0
        return {
            "power_kw": power,
            "reactive_kvar": power * self.tan_phi,
            "frequency_hz": frequency_hz,
            "voltage_v": voltage_v,
            "breaker_closed": 1.0 if self.share > 0.0 else 0.0,
            "ufls_tripped": 1.0 if any(self.tripped.values()) else 0.0,
        }

    def feeder_points(self, live: bool) -> dict[str, dict[str, float | None]]:
        """Return what each feeder's device shows."""
        found: dict[str, dict[str, float | None]] = {}
        for feeder in self.asset.feeders:
            closed = self.closed[feeder.id]
            power = self.demand_kw * feeder.share * self.pickup[feeder.id] * self.factor if closed and live else 0.0
            found[feeder.id] = {
                "power_kw": power,
                "reactive_kvar": power * self.tan_phi,
                "breaker_closed": 1.0 if closed else 0.0,
                "ufls_tripped": 1.0 if self.tripped[feeder.id] else 0.0,
                "remote": 0.0 if feeder.id in self.local else 1.0,
                "ready": 1.0,
                "estop": 0.0,
            }
        return found
