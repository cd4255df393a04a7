"""What stands between a unit's reference and its power within a second: governors, lags, limits.

Between two substeps every source on the bus is one line of one equation: its power at the end of the substep is

    power(df) = clamp(aim_kw - slope * df, lo_kw, hi_kw) - mass * df / h

where `df` is the change of the bus frequency in the substep of length `h` [Hz, s]. First-order lags are
taken implicitly (backward Euler), so that `aim` and `slope` hold a gain of any size without the substep
having to be shorter than the lag. `simulator/swing.py` finds the one `df` at which the bus balances.
"""

from __future__ import annotations

from ems.physics import ac_kw
from simulator.assets.diesel import OPEN_AT, DieselUnit
from simulator.assets.hydro import HydroUnit
from simulator.assets.inverter import InverterUnit
from simulator.assets.solar import SolarUnit
from simulator.assets.source import moved

ACTUATOR_S = 0.15
"""Lag from a diesel's governor to its torque [s]: electronic actuator 50 ms, the next firing strokes, tuned with derivative action."""
TURBO_S = 2.0
"""Lag of the charge air behind the power [s]; until it has come an engine takes at most `block_load_kw` more than it had air for."""
FUEL_STOP = 1.15
"""A diesel's fuel rack ends here, as a share of its rating: above the overload relay's 110 %, so that the relay decides."""
MOTORING = 0.08
"""What an engine without fuel takes from the bus, as a share of its rating: friction and pumping of a four-stroke set."""
HYDRO_SERVO_S = 0.5
"""Lag of the gate servo with the water column [s]."""
GATE_S = 10.0
"""The governor moves the gate over its whole stroke in this time [s], to spare the penstock; references move along the asset's ramp."""
TEMPORARY_DROOP = 0.4
DASHPOT_S = 5.0
"""Temporary droop and its reset time [s]: Kundur, Power System Stability and Control, 9.1.2, with 1 s of water starting time."""
FILTER_S = 0.05
"""Power filter of a droop inverter [s]; filter and droop together act as an inertia of `FILTER_S / (2 * droop)` on its kVA base
(D'Arco and Suul, Equivalence of virtual synchronous machines and frequency-droops, IEEE Trans. Smart Grid 2014)."""
RESPONSE_S = 0.1
DEADBAND = 0.004
"""Lag of a following inverter's P(f) with its measurement [s], and its deadband as a share of nominal frequency (0.2 Hz at 50)."""
COOLING = 6.0
"""An inverter's overload time comes back this many times slower than it is used."""
PV_LAG_S = 0.2
PV_START, PV_GRADIENT = 0.004, 20.0
"""PV is curtailed from 0.2 Hz (at 50) above nominal by 40 % for each further hertz: shares of nominal frequency."""
PV_RECOVERY_PER_S = 0.1 / 60.0
"""What over-frequency took from PV comes back by 10 % in a minute (VDE-AR-N 4105)."""
PV_RECONNECT_S = 60.0
"""PV waits this long on a healthy bus before it feeds again [s]."""


class Drive:
    """One source within a substep.

    Attributes
    ----------
    on : bool
        On the bus.
    shaft_kw, power_kw : float
        What engine, turbine or converter gives, and what arrives at the busbar: less what accelerates the rotor [kW].
    aim_kw, slope, lo_kw, hi_kw : float
        Its line of the bus equation [kW, kW/Hz].
    mass : float
        Of its rotor [kW s/Hz]: `2 H S / f0`.
    given_kws, shaft_kws, on_s : float
        Sums since the begin of the tick.
    """

    __slots__ = ("id", "on", "shaft_kw", "power_kw", "aim_kw", "slope", "lo_kw", "hi_kw", "mass", "given_kws", "shaft_kws", "on_s")

    def __init__(self, source: str) -> None:
        self.id = source
        self.on = False
        self.mass = 0.0
        self.given_kws = self.shaft_kws = self.on_s = 0.0
        self.rest()

    def rest(self) -> None:
        """Give nothing."""
        self.shaft_kw = self.power_kw = self.aim_kw = self.slope = self.lo_kw = self.hi_kw = 0.0

    def prime(self, low_hz: float, common: float, h: float) -> None:
        """Work out this substep's line; `low_hz` is how far frequency is under nominal, `common` the load share of sets without a reference."""
        raise NotImplementedError

    def settle(self, df: float, h: float) -> None:
        """Take the solution of the substep."""
        power = self.aim_kw - self.slope * df
        self.shaft_kw = power = self.lo_kw if power < self.lo_kw else min(power, self.hi_kw)
        self.power_kw = power - self.mass * df / h
        self.shaft_kws += power * h
        self.given_kws += self.power_kw * h
        self.on_s += h

    def clear(self) -> None:
        """Begin new sums."""
        self.given_kws = self.shaft_kws = self.on_s = 0.0


class SetDrive(Drive):
    """A diesel set: droop or isochronous governor, actuator, charge air.

    Attributes
    ----------
    slack : bool
        Without a reference of its own: it takes its part of the common load share, which returns frequency to nominal.
    part : float
        How far it has been taken into the common share, 0..1; it moves along the set's ramp.
    follow_kw : float
        Its load reference, ramped.
    """

    __slots__ = ("unit", "slack", "part", "follow_kw", "boost_kw", "gain", "inertia")

    def __init__(self, unit: DieselUnit, nominal_hz: float) -> None:
        self.unit: DieselUnit = unit
        self.inertia = 2.0 * unit.asset.inertia_s * unit.asset.rated_kva / nominal_hz
        self.gain = unit.rated_kw / (unit.asset.droop * nominal_hz) if unit.can_form or unit.asset.primary_response else 0.0
        super().__init__(unit.id)
        self.slack = False
        self.part = self.follow_kw = self.boost_kw = 0.0

    def join(self, power_kw: float, part: float) -> None:
        """Be on the bus at this power [kW]."""
        self.on, self.mass = True, self.inertia
        self.shaft_kw = self.power_kw = self.boost_kw = self.follow_kw = power_kw
        self.part = part

    def leave(self) -> None:
        """Be off the bus."""
        self.on = self.slack = False
        self.mass = self.part = self.follow_kw = self.boost_kw = 0.0
        self.rest()

    @property
    def unloaded(self) -> bool:
        """Whether its breaker may open."""
        return self.shaft_kw <= OPEN_AT * self.unit.rated_kw

    def prime(self, low_hz: float, common: float, h: float) -> None:
        """See `Drive.prime`."""
        unit = self.unit
        rated, step = unit.rated_kw, unit.asset.ramp_kw_per_s * h
        if not unit.wanted:
            self.slack = False
            self.part = 0.0
            self.follow_kw = max(0.0, self.follow_kw - step)
        elif unit.ref_kw is None or unit.asset.forming == "isochronous":
            self.slack = True
            self.part = min(1.0, self.part + step / rated)
            self.follow_kw = self.part * common * rated
        else:
            self.slack = False
            self.part = 0.0
            self.follow_kw = moved(self.follow_kw, min(max(unit.ref_kw, 0.0), rated), step)
        share = h / (ACTUATOR_S + h)
        self.slope = share * self.gain
        wish = -MOTORING * rated if unit.starved else self.follow_kw + self.gain * low_hz
        self.aim_kw = self.shaft_kw + share * (wish - self.shaft_kw)
        self.boost_kw += (self.shaft_kw - self.boost_kw) * h / (TURBO_S + h)
        self.lo_kw = -MOTORING * rated
        self.hi_kw = min(FUEL_STOP * rated, max(0.0, self.boost_kw) + unit.asset.block_load_kw)


class TurbineDrive(Drive):
    """A turbine with generator: gate along its ramp, and where it may respond a governor with temporary droop."""

    __slots__ = ("unit", "follow_kw", "wish_kw", "gain", "quick", "memory_hz", "memory_s", "inertia", "top_kw")

    def __init__(self, unit: HydroUnit, nominal_hz: float) -> None:
        self.unit: HydroUnit = unit
        asset = unit.asset
        responds = (asset.forming != "never" or asset.primary_response) and asset.mode != "fixed"
        self.inertia = 2.0 * asset.inertia_s * asset.rated_kw / nominal_hz
        self.gain = asset.rated_kw / (asset.droop * nominal_hz) if responds else 0.0
        self.quick = min(1.0, asset.droop / TEMPORARY_DROOP)
        self.memory_s = DASHPOT_S / self.quick
        super().__init__(unit.id)
        self.follow_kw = self.wish_kw = self.memory_hz = self.top_kw = 0.0

    def join(self, power_kw: float) -> None:
        """Be on the bus at this power [kW]."""
        self.shaft_kw = self.power_kw = self.follow_kw = power_kw
        self.memory_hz = 0.0

    def ready(self, inflow_m3s: float, tick_s: float) -> None:
        """Take water and reference of this tick: the reference moves along the ramp, from reference to reference."""
        unit = self.unit
        target = unit.rated_kw if unit.ref_kw is None else unit.ref_kw
        unit.follow_kw = self.follow_kw = moved(self.follow_kw, target, unit.asset.ramp_kw_per_s * tick_s)
        before = unit.power_kw
        unit.prepare(inflow_m3s, tick_s)
        turning = unit.hi_kw > 0.0
        self.top_kw = unit.hi_kw
        self.wish_kw = self.follow_kw = unit.power_kw
        if unit.fault or unit.estop:
            self.rest()
        self.on = turning or self.shaft_kw > 0.0
        self.mass = self.inertia if self.on else 0.0
        unit.power_kw = before if self.on else 0.0

    def prime(self, low_hz: float, common: float, h: float) -> None:
        """See `Drive.prime`."""
        share = h / (HYDRO_SERVO_S + h)
        seen_hz = self.quick * low_hz + (1.0 - self.quick) * self.memory_hz
        self.memory_hz += (low_hz - self.memory_hz) * h / (self.memory_s + h)
        gain = self.gain if self.top_kw > 0.0 else 0.0
        self.slope = share * gain * self.quick
        self.aim_kw = self.shaft_kw + share * (self.wish_kw + gain * seen_hz - self.shaft_kw)
        step = self.unit.rated_kw / GATE_S * h
        self.lo_kw = max(0.0, min(self.shaft_kw - step, self.top_kw))
        self.hi_kw = max(self.lo_kw, min(self.shaft_kw + step, max(self.top_kw, self.shaft_kw - step)))
        if self.top_kw <= 0.0 and self.shaft_kw < 1e-3 * self.unit.rated_kw:
            self.rest()


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

    __slots__ = ("unit", "gain", "virtual", "slack", "ref_kw", "surge_s", "spent", "sag_s", "brim_s", "nominal_hz", "floor_kw", "band_hz")

    def __init__(self, unit: InverterUnit, nominal_hz: float) -> None:
        self.unit: InverterUnit = unit
        asset = unit.asset
        super().__init__(unit.id)
        self.gain = asset.rated_kw / (asset.droop * nominal_hz)
        self.virtual = FILTER_S * self.gain
        self.nominal_hz, self.band_hz = nominal_hz, DEADBAND * nominal_hz
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
