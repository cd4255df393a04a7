"""A battery with its management (BMS), on the DC side of an inverter."""

from __future__ import annotations

from ems.config.site import Battery
from ems.physics import charge_limit_kw, storage_step

BELOW, ABOVE = 0.05, 0.04
"""How far beyond `soc_min` and `soc_max` the BMS stops by itself: those two are limits of the EMS, not of physics."""
EMPTY = 1e-6


class BatteryUnit:
    """One battery: what it holds and what its BMS lets through [kW DC]; `derate` is the share of its limits that is left."""

    __slots__ = ("id", "asset", "soc", "floor", "top", "power_kw", "derate")

    def __init__(self, asset: Battery, soc: float) -> None:
        self.id = asset.id
        self.asset = asset
        self.floor = max(0.0, asset.soc_min - BELOW)
        self.top = min(1.0, asset.soc_max + ABOVE)
        self.soc = soc
        self.power_kw = 0.0
        self.derate = 1.0

    def charge_kw(self, hours: float) -> float:
        """Return what it takes for `hours` [kW DC]; with 0 hours at this moment."""
        asset = self.asset
        room = (self.top - self.soc) * asset.capacity_kwh / asset.charge_efficiency
        limit = self.derate * (charge_limit_kw(asset, self.soc) if asset.charge_limit_curve else asset.charge_kw)
        if hours > 0.0:
            return min(limit, room / hours) if room > 0.0 else 0.0
        return limit if room > EMPTY else 0.0

    def discharge_kw(self, hours: float) -> float:
        """Return what it gives for `hours` [kW DC]; with 0 hours at this moment."""
        asset = self.asset
        held = (self.soc - self.floor) * asset.capacity_kwh * asset.discharge_efficiency
        limit = self.derate * asset.discharge_kw
        if hours > 0.0:
            return min(limit, held / hours) if held > 0.0 else 0.0
        return limit if held > EMPTY else 0.0

    @property
    def empty(self) -> bool:
        """Whether its BMS has opened for lack of energy."""
        return self.soc <= self.floor + EMPTY

    def integrate(self, power_dc_kw: float, hours: float) -> float:
        """Let time pass at a DC power [kW]; return the energy taken out of the cells [kWh]."""
        before, self.power_kw = self.soc, power_dc_kw
        self.soc = storage_step(self.asset, before, power_dc_kw, hours)
        return (before - self.soc) * self.asset.capacity_kwh

    def points(self) -> dict[str, float | None]:
        """Return what its BMS reports."""
        return {
            "power_kw": self.power_kw,
            "soc": self.soc,
            "charge_limit_kw": self.charge_kw(0.0),
            "discharge_limit_kw": self.discharge_kw(0.0),
            "cell_temp_max_c": 25.0,
            "soh": 1.0,
            "contactor_closed": 1.0,
            "fault": 0.0,
        }
