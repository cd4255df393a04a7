"""A load behind its feeders."""

from __future__ import annotations

import math

from ems.config.site import Load


class LoadUnit:
    """One load: what people want [kW], and which feeders are closed."""

    __slots__ = ("id", "asset", "closed", "share", "demand_kw", "tan_phi")

    def __init__(self, asset: Load) -> None:
        self.id = asset.id
        self.asset = asset
        self.closed = {f.id: True for f in asset.feeders}
        self.share = 1.0
        self.demand_kw = 0.0
        self.tan_phi = math.tan(math.acos(asset.power_factor))

    def switch(self, breaker: str, closed: bool) -> None:
        """Open (shed) or close (restore) a feeder, or all of them by the load's own id."""
        for feeder in self.closed if breaker == self.id else (breaker,):
            self.closed[feeder] = closed
        self.share = 1.0 if all(self.closed.values()) else sum(f.share for f in self.asset.feeders if self.closed[f.id])

    def points(self, live: bool, frequency_hz: float, voltage_v: float) -> dict[str, float | None]:
        """Return what the meter of the whole load shows."""
        power = self.demand_kw * self.share if live else 0.0
        return {
            "power_kw": power,
            "reactive_kvar": power * self.tan_phi,
            "frequency_hz": frequency_hz,
            "voltage_v": voltage_v,
            "breaker_closed": 1.0 if self.share > 0.0 else 0.0,
            "ufls_tripped": 0.0,
        }

    def feeder_points(self, live: bool) -> dict[str, dict[str, float | None]]:
        """Return what each feeder's device shows."""
        found: dict[str, dict[str, float | None]] = {}
        for feeder in self.asset.feeders:
            closed = self.closed[feeder.id]
            power = self.demand_kw * feeder.share if closed and live else 0.0
            found[feeder.id] = {
                "power_kw": power,
                "reactive_kvar": power * self.tan_phi,
                "breaker_closed": 1.0 if closed else 0.0,
                "ufls_tripped": 0.0,
                "remote": 1.0,
                "ready": 1.0,
                "estop": 0.0,
            }
        return found
