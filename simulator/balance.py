"""Who carries what: the quasi-steady power balance of one busbar.

In every step the references are taken first; what they leave over goes to the isochronous units and
those without a reference, then along the droop of the other formers, then to units with primary
response. What is left is unserved, or, as a surplus, pushed out of PV by over-frequency and then out of
hydro. Governors go down to zero: nothing here knows of minimum loading, and a surplus that the EMS has
not cared for shows first as low load of diesels.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulator.assets.diesel import DieselUnit
from simulator.assets.hydro import HydroUnit
from simulator.assets.inverter import InverterUnit
from simulator.assets.solar import SolarUnit
from simulator.assets.source import Source

EPSILON_KW = 1e-9


def share(units: Sequence[Source], missing_kw: float) -> float:
    """Change the units' powers by `missing_kw` in proportion to rating, inside their ranges.

    Returns
    -------
    float
        What they could not take [kW].
    """
    if len(units) == 1:
        unit = units[0]
        want = unit.power_kw + missing_kw
        unit.power_kw = got = unit.lo_kw if want < unit.lo_kw else min(want, unit.hi_kw)
        return want - got
    active = list(units)
    while active:
        total = 0.0
        for unit in active:
            total += unit.rated_kw
        wants, over, under = list[float](), 0.0, 0.0
        for unit in active:
            want = unit.power_kw + missing_kw * unit.rated_kw / total
            wants.append(want)
            if want > unit.hi_kw:
                over += want - unit.hi_kw
            if want < unit.lo_kw:
                under += unit.lo_kw - want
        if over == under == 0.0:
            for unit, want in zip(active, wants, strict=True):
                unit.power_kw = want
            return 0.0
        free = []
        for unit, want in zip(active, wants, strict=True):
            bound = unit.hi_kw if over >= under and want > unit.hi_kw else unit.lo_kw if over < under and want < unit.lo_kw else None
            if bound is None:
                free.append(unit)
            else:
                missing_kw -= bound - unit.power_kw
                unit.power_kw = bound
        active = free
    return missing_kw


def push(units: Sequence[Source], surplus_kw: float, floors_kw: Sequence[float]) -> float:
    """Lower the units pro rata to what they give above their floors; return the surplus that is left [kW]."""
    room = sum(max(0.0, u.power_kw - f) for u, f in zip(units, floors_kw, strict=True))
    if room <= 0.0:
        return surplus_kw
    part = min(1.0, surplus_kw / room)
    for unit, floor in zip(units, floors_kw, strict=True):
        if unit.power_kw > floor:
            unit.power_kw = floor if part == 1.0 else unit.power_kw - part * (unit.power_kw - floor)
    return max(0.0, surplus_kw - room)


class Balance:
    """The sources of one busbar; `settle` gives each its power."""

    def __init__(self, solars: Sequence[SolarUnit], hydros: Sequence[HydroUnit], diesels: Sequence[DieselUnit], inverters: Sequence[InverterUnit]) -> None:
        self._solars = solars
        self._hydros = hydros
        self._diesels = diesels
        self._inverters = inverters
        self._all: tuple[Source, ...] = (*solars, *hydros, *diesels, *inverters)

    def settle(self, need_kw: float) -> tuple[float, float, float]:
        """Give every source its power so that they meet `need_kw` [kW].

        Returns
        -------
        unserved_kw, pushed_kw, strain : float
            What nobody could give, what over-frequency took out of PV and hydro [kW], and how far droop
            units stand off their references, as a share of their rating.
        """
        tiers: tuple[list[Source], list[Source], list[Source]] = ([], [], [])
        missing = need_kw
        for unit in self._all:
            missing -= unit.power_kw
            if unit.tier < 3:
                tiers[unit.tier].append(unit)
        strain = 0.0
        for k, units in enumerate(tiers):
            if units and (missing > EPSILON_KW or missing < -EPSILON_KW):
                before = missing
                missing = share(units, missing)
                if k:
                    strain += (before - missing) / sum(u.rated_kw for u in units)
        if missing > EPSILON_KW:
            return missing, 0.0, strain
        if missing < -EPSILON_KW:
            return 0.0, self._push(-missing), strain
        return 0.0, 0.0, strain

    def _push(self, surplus_kw: float) -> float:
        """Take a surplus that no governor could take out of PV, hydro, followers, and must-run hydro, in this order."""
        left = push(self._solars, surplus_kw, [0.0] * len(self._solars))
        left = push(self._hydros, left, [min(h.power_kw, h.lo_kw) for h in self._hydros])
        pushed = surplus_kw - left
        left = push(self._diesels, left, [0.0] * len(self._diesels))
        left = push(self._inverters, left, [u.lo_kw for u in self._inverters])
        left = push(self._hydros, left, [0.0] * len(self._hydros))
        if left > 1e-6:
            raise AssertionError(f"{left} kW of surplus with nobody left to lower")
        return pushed
