"""Bounds: what each unit may do now. Every guard stands alone, can only narrow, and names itself.

The order in which guards speak does not change the interval, only who is named for an end of it:
the one that holds it. Cutting happens here, before dispatch shares, so that what one unit may not
give is given by another on purpose and not by accident.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ems.config.site import Battery, Diesel, Hydro, Inverter, Site, Solar
from ems.decision import Write
from ems.frozen import frozen
from ems.memory import Memory
from ems.model import AssetImage, Image, Limits
from ems.physics import ac_kw, charge_room_kw, discharge_room_kw
from ems.reserve import ceiling_soc, floor_soc

ORDERS = ("operator", "operator_limit", "out_of_service")
"""Who speaks in a bound for an operator."""
SOC_LOOKAHEAD_S = 60.0
"""A battery may not be driven past its SoC band within this time [s], or within one cycle if that is longer."""


@frozen
class Bound:
    """An interval of busbar power [kW] and who holds its two ends."""

    lo_kw: float
    hi_kw: float
    lo_by: str = "rating"
    hi_by: str = "rating"

    def narrowed(self, lo_kw: float, hi_kw: float, by: str) -> Bound:
        """Return the intersection with [lo_kw, hi_kw]; where they do not meet, the end nearer to zero power holds."""
        lo, lo_by = (lo_kw, by) if lo_kw > self.lo_kw else (self.lo_kw, self.lo_by)
        hi, hi_by = (hi_kw, by) if hi_kw < self.hi_kw else (self.hi_kw, self.hi_by)
        if lo > hi:
            meet, whose = (hi, hi_by) if abs(hi) <= abs(lo) else (lo, lo_by)
            return Bound(meet, meet, whose, whose)
        return Bound(lo, hi, lo_by, hi_by)

    def clip(self, power_kw: float) -> float:
        """Return the nearest power inside [kW]."""
        return min(max(power_kw, self.lo_kw), self.hi_kw)

    def names(self, power_kw: float) -> tuple[str, ...]:
        """Return who holds a setpoint at this power: the guards whose end it touches, ratings left out."""
        found: tuple[str, ...] = ()
        if self.hi_by != "rating" and math.isclose(power_kw, self.hi_kw, abs_tol=0.05):
            found = (self.hi_by,)
        if self.lo_by != "rating" and self.lo_by not in found and math.isclose(power_kw, self.lo_kw, abs_tol=0.05):
            found += (self.lo_by,)
        return found


@frozen
class Seat:
    """What a guard looks at: one unit, what is known of it, and what an operator allows."""

    image: AssetImage
    limits: Limits | None
    dt_s: float
    battery: Battery | None = None
    battery_image: AssetImage | None = None
    battery_limits: Limits | None = None


Powered = Solar | Hydro | Diesel | Inverter
Guard = Callable[[Any, Seat], tuple[float, float] | None]
"""Takes a unit of the kinds it is listed for in `GUARDS`; gives the interval it allows [kW], or None where it has nothing to say."""


def apparent_power(unit: Solar | Diesel | Inverter, seat: Seat) -> tuple[float, float] | None:
    """Real power left beside the measured reactive power: `sqrt(kva^2 - kvar^2)`."""
    kvar = seat.image.get("reactive_kvar")
    if not kvar:
        return None if kvar is None or unit.rated_kva >= unit.rated_kw else (-unit.rated_kva, unit.rated_kva)
    left = math.sqrt(max(0.0, unit.rated_kva**2 - kvar**2))
    return -left, left


def bms_limit(unit: Inverter, seat: Seat) -> tuple[float, float] | None:
    """What the battery's own management allows just now."""
    if seat.battery_image is None:
        return None
    charge, discharge = seat.battery_image.get("charge_limit_kw"), seat.battery_image.get("discharge_limit_kw")
    lo = -math.inf if charge is None else ac_kw(unit, -max(0.0, charge))
    hi = math.inf if discharge is None else ac_kw(unit, max(0.0, discharge))
    return lo, hi


def no_battery(unit: Inverter, seat: Seat) -> tuple[float, float] | None:
    """An inverter without a battery: nothing but its own standby use."""
    return (-unit.no_load_kw, -unit.no_load_kw) if seat.battery is None else None


def soc_band(unit: Inverter, seat: Seat) -> tuple[float, float] | None:
    """SoC floor and ceiling, each moved in by the band of a counted SoC; without a SoC the guard `soc_unknown` speaks."""
    if seat.battery is None or seat.battery_image is None:
        return None
    soc = seat.battery_image.get("soc")
    if soc is None:
        return None
    band = seat.battery_image.get("soc_band") or 0.0  # counted SoC: both ends of what it may be keep inside
    limits = seat.battery_limits
    floor = floor_soc(seat.battery, limits)
    top = ceiling_soc(seat.battery, limits)
    hours = max(seat.dt_s, SOC_LOOKAHEAD_S) / 3600.0
    return (
        ac_kw(unit, -charge_room_kw(seat.battery, soc, top - band, hours)),
        ac_kw(unit, discharge_room_kw(seat.battery, soc, floor + band, hours)),
    )


def soc_unknown(unit: Inverter, seat: Seat) -> tuple[float, float] | None:
    """A battery whose SoC is not known: neither charge nor discharge, only the inverter's own standby use.

    A former that leads gets no setpoint, so that it goes on covering the residual.
    """
    if seat.battery is None:
        return None
    known = seat.battery_image is not None and seat.battery_image.get("soc") is not None
    return None if known else (-unit.no_load_kw, -unit.no_load_kw)


def operator_limit(unit: Powered, seat: Seat) -> tuple[float, float] | None:
    """An operator's `max_kw` and `min_kw`; for an inverter `max_kw` bounds both directions, and nobody orders the sun to shine."""
    limits = seat.limits
    if limits is None or (limits.max_kw is None and limits.min_kw is None):
        return None
    hi = math.inf if limits.max_kw is None else limits.max_kw
    lo = -math.inf if limits.min_kw is None or isinstance(unit, Solar) else limits.min_kw
    if isinstance(unit, Inverter) and limits.min_kw is None:
        lo = -hi
    return lo, hi


def out_of_service(unit: Powered, seat: Seat) -> tuple[float, float] | None:
    """Taken out of service: nothing but its own standby use."""
    if seat.limits is None or not seat.limits.out_of_service:
        return None
    idle = -unit.no_load_kw if isinstance(unit, Inverter) else 0.0
    return idle, idle


ALL, STORAGE = ("solar", "hydro", "diesel", "inverter"), ("inverter",)
GUARDS: tuple[tuple[str, Guard, tuple[str, ...]], ...] = (
    ("kva", apparent_power, ("solar", "diesel", "inverter")),
    ("bms", bms_limit, STORAGE),
    ("no_battery", no_battery, STORAGE),
    ("soc", soc_band, STORAGE),
    ("soc_unknown", soc_unknown, STORAGE),
    ("operator_limit", operator_limit, ALL),
    ("out_of_service", out_of_service, ALL),
)
"""In the order in which they speak, each with the kinds of units it watches."""


def rating(unit: Powered) -> Bound:
    """Return the interval that the nameplate gives [kW]."""
    if isinstance(unit, Inverter):
        return Bound(-unit.rated_kw, unit.rated_kw)
    if isinstance(unit, Diesel):
        return Bound(unit.min_loading * unit.rated_kw, unit.rated_kw, lo_by="min_loading")
    if isinstance(unit, Hydro):
        return Bound(unit.min_kw, unit.rated_kw)
    return Bound(0.0, unit.rated_kw)


class Guards:
    """All bounds of a site, unit by unit.

    Parameters
    ----------
    site : Site
    without : Collection[str]
        Names of guards that are left out, and `operator` for what operators set: to see what each of them holds back.
    """

    def __init__(self, site: Site, without: Collection[str] = ()) -> None:
        units: tuple[Powered, ...] = (*site.of(Solar), *site.of(Hydro), *site.of(Diesel), *site.of(Inverter))
        self._orders = "operator" not in without
        self._places = {u.id: (u, rating(u), site.battery_behind(u.id), guards_of(u.kind, without)) for u in units}

    def bounds(self, image: Image, memory: Memory) -> Mapping[str, Bound]:
        """Return the bound of every unit that feeds the busbar [kW]: its rating, narrowed by every guard in turn, and by what an operator set."""
        found: dict[str, Bound] = {}
        for unit, bound, battery, guards in self._places.values():
            bound = narrow(bound, unit, _seat(unit, battery, image, memory), guards)
            manual = memory.manual.get(unit.id)
            if manual is not None and manual.power_kw is not None and self._orders:
                bound = _ordered(bound, unit, manual.power_kw)
            found[unit.id] = bound
        return found

    def names_of(self, unit: str) -> frozenset[str]:
        """Return the names under which limits of a unit may speak; empty for what has no bound."""
        if unit not in self._places:
            return frozenset()
        named = [("soc_full", "soc_empty") if n == "soc" else (n,) for n, _ in self._places[unit][3]]
        return frozenset((*(n for names in named for n in names), "operator", "min_loading"))

    def bound(self, unit: str, image: Image, memory: Memory, without: Collection[str]) -> Bound:
        """Return one unit's bound as it would be without some of those that hold it [kW]; names as in `Bound`."""
        place, bound, battery, guards = self._places[unit]
        if "min_loading" in without:
            bound = Bound(0.0, bound.hi_kw)
        left = [(n, g) for n, g in guards if n not in without and not (n == "soc" and {"soc_full", "soc_empty"} & set(without))]
        bound = narrow(bound, place, _seat(place, battery, image, memory), left)
        manual = memory.manual.get(unit)
        if manual is None or manual.power_kw is None or "operator" in without or not self._orders:
            return bound
        return _ordered(bound, place, manual.power_kw)


def _ordered(bound: Bound, unit: Powered, power_kw: float) -> Bound:
    """Return a bound narrowed to the setpoint that an operator gave; for PV it is a ceiling."""
    return bound.narrowed(0.0 if isinstance(unit, Solar) else power_kw, power_kw, "operator")


def _seat(unit: Powered, battery: Battery | None, image: Image, memory: Memory) -> Seat:
    assets, limits = image.assets, memory.limits
    if battery is None:
        return Seat(assets[unit.id], limits.get(unit.id), image.dt_s)
    return Seat(assets[unit.id], limits.get(unit.id), image.dt_s, battery, assets[battery.id], limits.get(battery.id))


def guards_of(kind: str, without: Collection[str] = ()) -> list[tuple[str, Guard]]:
    """Return the guards that watch a kind of unit, in their order."""
    return [(name, guard) for name, guard, kinds in GUARDS if kind in kinds and name not in without]


def narrow(bound: Bound, unit: Powered, seat: Seat, guards: Sequence[tuple[str, Guard]]) -> Bound:
    """Return a bound narrowed by each of the guards."""
    for name, guard in guards:
        said = guard(unit, seat)
        if said is None:
            continue
        lo, hi = said
        if lo > bound.lo_kw:
            bound = bound.narrowed(lo, math.inf, "soc_full" if name == "soc" else name)
        if hi < bound.hi_kw:
            bound = bound.narrowed(-math.inf, hi, "soc_empty" if name == "soc" else name)
    return bound


def refuse(power_kw: float, bound_kw: tuple[float, float]) -> str | None:
    """Return why a value may not be written at all, or None: the last look before the wire drops, it never clips."""
    if not math.isfinite(power_kw):
        return "not a finite number"
    lo, hi = bound_kw
    slack = 0.001 * max(abs(lo), abs(hi), 1.0)
    if not lo - slack <= power_kw <= hi + slack:
        return f"outside {lo:.1f}..{hi:.1f} kW"
    return None


def keep_a_former(writes: tuple[Write, ...], held: Collection[str]) -> tuple[Write, ...]:
    """Return the writes without those that together would stop everyone who holds the bus: that would darken the island.

    Parameters
    ----------
    writes : tuple[Write, ...]
    held : Collection[str]
        Who holds the bus now and is not on its way off.
    """
    stops = [w for w in writes if w.value < 0.5 and w.command in ("running", "forming") and w.asset in held]
    if not held or not stops or {w.asset for w in stops} != set(held):
        return writes
    return tuple(w for w in writes if w not in stops)
