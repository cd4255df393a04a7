"""What has no rotor: inverters that form or follow, and PV, as lines of the bus equation (see `simulator/drives.py`)."""

from __future__ import annotations

from ems.physics import ac_kw
from simulator.assets.inverter import InverterUnit
from simulator.assets.solar import SolarUnit
from simulator.drives import Drive

FILTER_S = 0.05
"""Power filter of a droop inverter [s]; filter and droop together act as an inertia of `FILTER_S / (2 * droop)` on its kVA base
(D'Arco and Suul, Equivalence of virtual synchronous machines and frequency-droops, IEEE Trans. Smart Grid 2014)."""
RESPONSE_S = 0.1
DEADBAND = 0.004
"""Lag of a following inverter's P(f) with its measurement [s], and its deadband as a share of nominal frequency (0.2 Hz at 50)."""
COOLING = 6.0
"""An inverter's overload time comes back this many times slower than it is used."""
PV_LAG_S = 0.2
PV_START = 0.004
PV_GRADIENT = 20.0
"""PV is curtailed from 0.2 Hz (at 50) above nominal by 40 % for each further hertz: shares of nominal frequency."""
PV_RECOVERY_PER_S = 0.1 / 60.0
"""What over-frequency took from PV comes back by 10 % in a minute (VDE-AR-N 4105)."""
PV_RECONNECT_S = 60.0
"""PV waits this long on a healthy bus before it feeds again [s]."""


class StorageDrive(Drive):
    """An inverter: forming by droop (isochronous: by the common load share, too), or following with P(f).

    Attributes
    ----------
    virtual : float
        What its filter and droop are worth as a rotor [kW s/Hz], in force while it is inside its limits.
    floor_kw : float
        The deepest its current limit allows, whatever the battery can take [kW].
    surge_s, spent : float, bool
        Overload time that is left; whether it was used up and has to come back whole.
    sag_s, brim_s : float
        How long it has been in its current limit with the voltage down, and above what the battery may take.
    """

    __slots__ = ("unit", "gain", "virtual", "slack", "ref_kw", "surge_s", "spent", "sag_s", "brim_s", "floor_kw", "band_hz")

    def __init__(self, unit: InverterUnit, nominal_hz: float) -> None:
        self.unit: InverterUnit = unit
        asset = unit.asset
        super().__init__(unit.id)
        self.gain = asset.rated_kw / (asset.droop * nominal_hz)
        self.virtual = FILTER_S * self.gain
        self.band_hz = DEADBAND * nominal_hz
        self.slack = False
        self.surge_s = asset.overload_s
        self.spent = False
        self.ref_kw = self.floor_kw = self.sag_s = self.brim_s = 0.0

    def ready(self, kvar: float, tick_s: float, dead: bool) -> None:
        """Take the limits of battery and semiconductors for this tick [kvar: its part of the reactive load]."""
        unit, battery = self.unit, self.unit.battery
        asset = unit.asset
        unit.begin(dead)
        self.on = unit.running and not unit.estop and (not dead or unit.forming)
        if not self.on:
            self.rest()
            unit.power_kw = 0.0
            return
        most = min(asset.rated_kw, (max(0.0, asset.rated_kva**2 - kvar**2)) ** 0.5)
        if abs(self.power_kw) > most + 1e-6:
            self.surge_s = max(0.0, self.surge_s - tick_s)
            self.spent = self.spent or self.surge_s < 1e-6
        else:
            self.surge_s = min(asset.overload_s, self.surge_s + tick_s / COOLING)
            self.spent = self.spent and self.surge_s < asset.overload_s
        if not self.spent:
            most *= asset.overload
        idle = -asset.no_load_kw
        self.floor_kw = -most
        if battery is None:
            self.lo_kw = self.hi_kw = self.ref_kw = idle
            return
        hours = tick_s / 3600.0
        self.hi_kw = max(idle, min(most, ac_kw(asset, battery.discharge_kw(hours))))
        self.lo_kw = min(idle, max(-most, ac_kw(asset, -battery.charge_kw(hours))))
        self.ref_kw = min(max(unit.ref_kw, self.lo_kw, -asset.rated_kw), self.hi_kw, asset.rated_kw)
        self.slack = unit.forming and asset.forming == "isochronous"

    def prime(self, low_hz: float, common: float, h: float) -> None:
        """See `Drive.prime`."""
        unit = self.unit
        if unit.forming:
            self.aim_kw = (common * unit.rated_kw if self.slack else self.ref_kw) + self.gain * low_hz
            self.slope = self.gain + self.virtual / h
            return
        share = h / (RESPONSE_S + h)
        wish, self.slope = self.ref_kw, 0.0
        if unit.asset.primary_response:
            beyond = low_hz - self.band_hz if low_hz > self.band_hz else low_hz + self.band_hz if low_hz < -self.band_hz else 0.0
            if beyond != 0.0:
                wish += self.gain * beyond
                self.slope = share * self.gain
        self.aim_kw = self.shaft_kw + share * (min(max(wish, self.lo_kw), self.hi_kw) - self.shaft_kw)

    def give(self, power_kw: float, h: float) -> None:
        """Correct the power of this substep: the bus left no choice."""
        self.shaft_kws += (power_kw - self.shaft_kw) * h
        self.given_kws += (power_kw - self.power_kw) * h
        self.shaft_kw = self.power_kw = power_kw


class SolarDrive(Drive):
    """A PV plant: follows sun and limit, and gives way to over-frequency.

    Attributes
    ----------
    cap : float
        Share of its power that over-frequency leaves it.
    pushed_kws : float
        What over-frequency took since the begin of the tick.
    """

    __slots__ = ("unit", "target_kw", "cap", "wait_s", "start_hz", "per_hz", "pushed_kws")

    def __init__(self, unit: SolarUnit, nominal_hz: float) -> None:
        self.unit: SolarUnit = unit
        super().__init__(unit.id)
        self.on = True
        self.cap = 1.0
        self.target_kw = self.wait_s = self.pushed_kws = 0.0
        self.start_hz, self.per_hz = PV_START * nominal_hz, PV_GRADIENT / nominal_hz

    def ready(self, available_kw: float, tick_s: float) -> None:
        """Take sun and limit of this tick."""
        unit, before = self.unit, self.power_kw
        unit.power_kw = before
        unit.begin(tick_s)
        unit.prepare(available_kw)
        self.target_kw = unit.hi_kw if self.wait_s <= 0.0 else 0.0
        unit.power_kw = before

    def prime(self, low_hz: float, common: float, h: float) -> None:
        """See `Drive.prime`."""
        over = -low_hz - self.start_hz
        self.cap = cap = max(0.0, min(1.0, self.cap + PV_RECOVERY_PER_S * h, 1.0 - self.per_hz * over))
        share = h / (PV_LAG_S + h)
        self.slope = share * self.target_kw * self.per_hz if over > 0.0 and cap > 0.0 else 0.0
        self.aim_kw = self.shaft_kw + share * (self.target_kw * cap - self.shaft_kw)
        self.hi_kw = min(max(self.target_kw, self.shaft_kw), self.unit.available_kw)
        self.pushed_kws += self.target_kw * (1.0 - cap) * h

    def push(self, power_kw: float, h: float) -> None:
        """Take power out of it in this substep: the voltage leaves it no room [kW]."""
        self.shaft_kw -= power_kw
        self.power_kw -= power_kw
        self.given_kws -= power_kw * h
        self.shaft_kws -= power_kw * h
        self.pushed_kws += power_kw * h

    def clear(self) -> None:
        """Begin new sums."""
        super().clear()
        self.pushed_kws = 0.0
