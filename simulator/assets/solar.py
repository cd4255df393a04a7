"""A solar plant: gives what the sun offers, at most what it is told."""

from __future__ import annotations

from ems.config.site import Solar
from simulator.assets.source import SHORT_STEP_S, Source

CURTAILED, RUNNING, NIGHT = 2.0, 1.0, 0.0


class SolarUnit(Source):
    """One solar plant: `limit_kw` is the command in force, `ceiling_kw` where its ramp has got to [kW]."""

    __slots__ = ("asset", "limit_kw", "ceiling_kw", "available_kw")

    def __init__(self, asset: Solar) -> None:
        super().__init__(asset.id, asset.rated_kw)
        self.asset = asset
        self.limit_kw = self.ceiling_kw = asset.rated_kw
        self.available_kw = 0.0

    def command(self, name: str, value: float) -> None:
        """Take `limit_kw`."""
        if self.deaf:
            return
        self.limit_kw = min(max(0.0, value), self.rated_kw)

    def begin(self, dt_s: float) -> None:
        """Follow the limit: down at once, up along the ramp."""
        limit = self.limit_kw
        if limit <= self.ceiling_kw or dt_s >= SHORT_STEP_S:
            self.ceiling_kw = limit
            return
        from_kw = min(self.ceiling_kw, self.power_kw) if self.power_kw > 0.0 else self.ceiling_kw
        self.ceiling_kw = min(limit, from_kw + self.asset.ramp_up_kw_per_s * dt_s)

    def prepare(self, available_kw: float) -> None:
        """Set its power for the balance."""
        self.available_kw = min(available_kw, self.rated_kw)
        self.hi_kw = self.power_kw = 0.0 if self.estop else min(self.available_kw, self.ceiling_kw, self.limit_kw)

    def points(self) -> dict[str, float | None]:
        """Return what its inverter reports."""
        state = CURTAILED if self.power_kw < self.available_kw - 1e-9 else RUNNING if self.available_kw > 0.0 else NIGHT
        return {
            "power_kw": self.power_kw,
            "reactive_kvar": 0.0,
            "available_kw": self.available_kw,
            "state": state,
            "remote": 0.0 if self.local else 1.0,
            "ready": 0.0 if self.estop else 1.0,
            "estop": 1.0 if self.estop else 0.0,
        }
