"""The frequency of one busbar: rotors, governors and inverters in one equation a substep.

All rotors on the bus turn together (centre of inertia): with `M = sum 2 H S / f0`,

    M df/dt = sum of shaft powers + sum of inverter powers - load(f)

which is the swing equation (Kundur, Power System Stability and Control, 3.9) in kW and Hz. A droop inverter with its
power filter obeys `P = reference + (f0 - f) / R - (T / R) df/dt`, so it enters the same line with a gain and a virtual rotor. The
step is linearly implicit (backward Euler): `df` solves

    sum clamp(aim - slope * df, lo, hi) - (M / h + damping) * df = load

a falling, piecewise linear function, so there is exactly one solution, found by fixing what is beyond its limits and solving again.
It is stable for any `h`. With rotors alone it is the swing equation; with inverters alone, where `M` is 0, it
is their droop, reached through their filter; mixed, it is both.

Where every forming inverter is in its limit and no rotor is left, no frequency balances the bus. A shortage then takes
the voltage down until the load (as impedance) takes what is there; a surplus goes into the formers, as far as their current
goes, and is then pushed out of PV. Meanwhile the formers' virtual rotors are braked or driven by the missing power, as the overload
control of the CERTS droop inverters does it (Du, Lasseter and Khalsa, IEEE Trans. Smart Grid 2019), so that frequency relays and PV see it.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulator.converters import SolarDrive, StorageDrive
from simulator.drives import Drive, SetDrive

DAMPING = 1.0
"""Motors and pumps: load falls by this many per cent for each per cent of frequency."""
RESET_S = 1.0
"""Integral time of the isochronous governor, on top of a proportional action as strong as its droop [s]: alone, a set is back
in its band within the 3 to 5 s of ISO 8528-5, class G2 and G3; beside droop units slower, by the ratio of the gains."""


class Bus:
    """A busbar that is alive.

    Attributes
    ----------
    hz, rocof : float
        Frequency, and its change in the last substep [Hz, Hz/s].
    voltage, weak : float
        As a share of nominal; what excitation holds under the load of the moment. Loads draw its square.
    common : float
        The load share (of rating) of all units without a reference of their own: one integrator, as on a load-sharing line.
    load_kw, steady_kw : float
        What motors and houses want at nominal frequency, and what does not depend on frequency [kW].
    drawn_kw, missing_kw : float
        What all of it wanted in this substep, and what of it the voltage did not allow [kW].
    """

    __slots__ = (
        "nominal_hz",
        "hz",
        "rocof",
        "voltage",
        "weak",
        "common",
        "load_kw",
        "steady_kw",
        "drawn_kw",
        "missing_kw",
        "_drives",
        "_formers",
        "_sharing",
        "_solars",
        "_mass",
    )

    def __init__(self, nominal_hz: float) -> None:
        self.nominal_hz = nominal_hz
        self.hz = nominal_hz
        self.voltage = self.weak = 1.0
        self.rocof = self.common = self.load_kw = self.steady_kw = self.drawn_kw = self.missing_kw = 0.0
        self._drives: list[Drive] = []
        self._formers: list[StorageDrive] = []
        self._sharing: list[SetDrive | StorageDrive] = []
        self._solars: list[SolarDrive] = []
        self._mass = 0.0

    def connect(self, drives: Sequence[Drive]) -> None:
        """Take those of these that are on."""
        self._drives = [d for d in drives if d.on]
        self._formers = [d for d in self._drives if isinstance(d, StorageDrive) and d.unit.forming]
        self._sharing = [d for d in self._drives if isinstance(d, SetDrive | StorageDrive)]
        self._solars = [d for d in self._drives if isinstance(d, SolarDrive)]
        self._mass = sum(d.mass for d in self._drives)

    def substep(self, h: float) -> None:
        """Let `h` pass [s]."""
        low_hz = self.nominal_hz - self.hz
        damping = DAMPING * self.load_kw / self.nominal_hz
        wanted = self.load_kw + self.steady_kw - damping * low_hz
        for d in self._drives:
            d.prime(low_hz, self.common, h)
        held = self.weak * self.weak
        df = self._solve(held * wanted, held * damping, h)
        for d in self._drives:
            d.settle(df, h)
        self.hz += df
        self.rocof = df / h
        self.drawn_kw = wanted + damping * df
        self.voltage, self.missing_kw = self.weak, (1.0 - held) * self.drawn_kw
        if self._mass == 0.0:
            self._without_rotors(h)
        self._integrate(h)

    def _solve(self, wanted_kw: float, damping: float, h: float) -> float:
        """Return the change of frequency at which the bus balances [Hz]."""
        missing, slope = wanted_kw, self._mass / h + damping
        free: list[Drive] = []
        for d in self._drives:
            if d.slope > 0.0:
                free.append(d)
                missing -= d.aim_kw
                slope += d.slope
            else:
                missing -= d.lo_kw if d.aim_kw < d.lo_kw else min(d.aim_kw, d.hi_kw)
        while True:
            if self._mass == 0.0 and not any(d in free for d in self._formers):
                virtual = sum(d.virtual for d in self._formers) / h
                return -missing / (slope + virtual) if slope + virtual > 0.0 else 0.0
            df = -missing / slope
            over = under = 0.0
            for d in free:
                power = d.aim_kw - d.slope * df
                if power > d.hi_kw:
                    over += power - d.hi_kw
                elif power < d.lo_kw:
                    under += d.lo_kw - power
            if over == under == 0.0:
                return df
            kept = []
            for d in free:
                power = d.aim_kw - d.slope * df
                bound = d.hi_kw if over >= under and power > d.hi_kw else d.lo_kw if over < under and power < d.lo_kw else None
                if bound is None:
                    kept.append(d)
                else:
                    missing += d.aim_kw - bound
                    slope -= d.slope
            free = kept

    def _without_rotors(self, h: float) -> None:
        """Meet the load with what inverters alone can give: what no frequency balances, voltage and current do."""
        missing = served = self.drawn_kw - self.missing_kw
        for d in self._drives:
            missing -= d.power_kw
        if -1e-7 < missing < 1e-7:
            missing_part = missing / len(self._formers) if self._formers else 0.0
            for f in self._formers:
                f.give(f.power_kw + missing_part, h)
            return
        if missing > 0.0:
            for f in self._formers:
                more = min(missing, max(0.0, f.hi_kw - f.power_kw))
                f.give(f.power_kw + more, h)
                missing -= more
            self.missing_kw += missing
            self.voltage *= max(0.0, 1.0 - missing / served) ** 0.5 if served > 0.0 else 0.0
            return
        surplus = -missing
        for f in self._formers:
            taken = min(surplus, max(0.0, f.power_kw - f.floor_kw))
            f.give(f.power_kw - taken, h)
            surplus -= taken
        for s in self._solars:
            taken = min(surplus, s.power_kw)
            s.push(taken, h)
            surplus -= taken
        for f in self._formers[:1]:
            f.give(f.power_kw - surplus, h)

    def _integrate(self, h: float) -> None:
        """Move the common load share towards nominal frequency, unless its units are at their limits already."""
        low_hz = self.nominal_hz - self.hz
        gain = rated = 0.0
        room = False
        for d in self._sharing:
            if d.slack:
                gain += d.gain
                rated += d.unit.rated_kw
                room = room or (d.shaft_kw < d.hi_kw - 1e-9 if low_hz > 0.0 else d.shaft_kw > d.lo_kw + 1e-9)
        if rated > 0.0 and room:
            self.common = min(1.1, max(-1.0, self.common + low_hz * gain / rated * h / RESET_S))
