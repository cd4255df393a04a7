"""A deferrable load: desalination, ice, pumping."""

from __future__ import annotations

from ems.config.site import Deferrable


class DeferrableUnit:
    """One deferrable load: what it is told to draw [kW]; without modulation it is all or nothing."""

    __slots__ = ("id", "asset", "running", "ref_kw", "power_kw", "local", "estop", "ignores")

    def __init__(self, asset: Deferrable) -> None:
        self.id = asset.id
        self.asset = asset
        self.running = False
        self.ref_kw: float | None = None
        self.power_kw = 0.0
        self.local = self.estop = self.ignores = False

    def command(self, name: str, value: float) -> None:
        """Take `running` or `power_kw`."""
        if self.local or self.estop or self.ignores:
            return
        if name == "running":
            self.running = value >= 0.5
        else:
            self.ref_kw = value

    def draws_kw(self) -> float:
        """Return what it wants from a live bus [kW]."""
        if not self.running or self.estop:
            return 0.0
        asset = self.asset
        if not asset.modulating or self.ref_kw is None:
            return asset.rated_kw
        return min(max(self.ref_kw, asset.min_kw), asset.rated_kw)

    def points(self) -> dict[str, float | None]:
        """Return what its controller reports."""
        return {
            "power_kw": self.power_kw,
            "running": 1.0 if self.running and not self.estop else 0.0,
            "fault": 0.0,
            "remote": 0.0 if self.local else 1.0,
            "ready": 0.0 if self.estop else 1.0,
            "estop": 1.0 if self.estop else 0.0,
        }
