"""What stands between a machine's reference and its power within a second: governor, lags, limits.

Between two substeps every source on the bus is one line of one equation: its power at the end of the substep is

    power(df) = clamp(aim_kw - slope * df, lo_kw, hi_kw) - mass * df / h

where `df` is the change of the bus frequency in the substep of length `h` [Hz, s]. First-order lags are
taken implicitly (backward Euler), so that `aim` and `slope` hold a gain of any size without the substep
having to be shorter than the lag. `simulator/swing.py` finds the one `df` at which the bus balances;
what has no rotor is in `simulator/converters.py`.
"""

from __future__ import annotations

from simulator.assets.diesel import OPEN_AT, DieselUnit
from simulator.assets.hydro import HydroUnit
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
            # Its own controller lowers the speed until it carries nothing, however low the frequency is.
            self.follow_kw = max(-self.gain * max(0.0, low_hz), self.follow_kw - step)
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
