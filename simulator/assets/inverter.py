"""An inverter (PCS) with or without a battery: follows its setpoint, or holds the bus."""

from __future__ import annotations

from ems.config.site import Inverter
from ems.physics import ac_kw, dc_kw
from simulator.assets.battery import BatteryUnit
from simulator.assets.source import DROOP, FIXED, RESPONSE, SLACK, Source


class InverterUnit(Source):
    """One inverter.

    Attributes
    ----------
    running, hold : bool
        Commands in force: run, and form the bus.
    ref_kw : float
        Its power setpoint at the busbar, positive discharging [kW].
    """

    __slots__ = ("asset", "battery", "running", "hold", "ref_kw", "fault", "_dc_hi", "_dc_lo", "_ac_hi", "_ac_lo")

    def __init__(self, asset: Inverter, battery: BatteryUnit | None, forming: bool) -> None:
        super().__init__(asset.id, asset.rated_kw)
        self.asset = asset
        self.battery = battery
        self.running = True
        self.hold = forming and asset.forming != "never"
        self.ref_kw = -asset.no_load_kw
        self.fault = 0.0
        self._dc_hi = self._dc_lo = -1.0
        self._ac_hi = self._ac_lo = 0.0

    def command(self, name: str, value: float) -> None:
        """Take `running`, `forming` or `power_kw`."""
        if self.deaf:
            return
        if name == "power_kw":
            self.ref_kw = value
        elif name == "forming":
            self.hold = value >= 0.5 and self.asset.forming != "never"
        else:
            self.running = value >= 0.5
            if not self.running:
                self.fault = 0.0

    def begin(self, dead: bool) -> None:
        """At the start of a step: what is empty lets the bus go."""
        self.forming = self.can_hold(dead)

    def can_hold(self, dead: bool) -> bool:
        """Return whether it holds the bus as commanded; a dead bus needs SoC above `black_start_soc`."""
        battery = self.battery
        if not (self.running and self.hold and not self.fault and not self.estop) or battery is None or battery.empty:
            return False
        return not dead or battery.soc > battery.asset.black_start_soc

    def trip(self, fault: float) -> None:
        """Stop now; it stays off until it is told to run again."""
        self.running = self.hold = self.forming = False
        self.fault = fault
        self.rest()

    def prepare(self, hours: float) -> None:
        """Set range, reference and tier for the balance."""
        if not self.running or self.estop:
            self.rest()
            return
        asset, battery = self.asset, self.battery
        idle = -asset.no_load_kw
        if battery is None:
            self.lo_kw = self.hi_kw = self.power_kw = idle
            self.tier = FIXED
            return
        give, take = battery.discharge_kw(hours), battery.charge_kw(hours)
        if give != self._dc_hi:  # the conversion is only worked out anew where the battery's limit has moved
            self._dc_hi, self._ac_hi = give, min(self.rated_kw, ac_kw(asset, give))
        if take != self._dc_lo:
            self._dc_lo, self._ac_lo = take, max(-self.rated_kw, ac_kw(asset, -take))
        self.lo_kw, self.hi_kw = min(self._ac_lo, idle), max(self._ac_hi, idle)
        self.power_kw = min(max(self.ref_kw, self.lo_kw), self.hi_kw)
        if self.forming:
            self.tier = SLACK if asset.forming == "isochronous" else DROOP
            if self.tier is SLACK:
                self.power_kw = min(max(0.0, self.lo_kw), self.hi_kw)
        else:
            self.tier = RESPONSE if asset.primary_response else FIXED

    def integrate(self, hours: float, live: bool) -> float:
        """Let time pass at the present power; return what became heat in inverter and battery [kWh].

        On a dead bus it stands by: it draws nothing, or it would drain an empty battery.
        """
        if self.battery is None:
            return -self.power_kw * hours
        if not self.running or self.estop or not live:
            self.battery.power_kw = 0.0
            return 0.0
        return self.battery.integrate(dc_kw(self.asset, self.power_kw), hours) - self.power_kw * hours

    def points(self, frequency_hz: float, voltage_v: float) -> dict[str, float | None]:
        """Return what it reports."""
        on = 1.0 if self.running and not self.estop else 0.0
        return {
            "power_kw": self.power_kw,
            "reactive_kvar": 0.0,
            "running": on,
            "frequency_hz": frequency_hz,
            "voltage_v": voltage_v,
            "forming": 1.0 if self.forming else 0.0,
            "breaker_closed": on,
            "fault": self.fault,
            "remote": 0.0 if self.local else 1.0,
            "ready": 0.0 if self.fault or self.estop else 1.0,
            "estop": 1.0 if self.estop else 0.0,
        }
