"""Bounds: what each unit may do now. Every guard stands alone, can only narrow, and names itself.

The order in which guards speak does not change the interval, only who is named for an end of it:
the one that holds it. Cutting happens here, before dispatch shares, so that what one unit may not
give is given by another on purpose and not by accident.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ems.config.site import Battery, Diesel, Hydro, Inverter, Site, Solar
from ems.decision import Memory, Write
from ems.model import AssetImage, Image, Limits
from ems.physics import ac_kw, charge_room_kw, discharge_room_kw

SOC_LOOKAHEAD_S = 60.0
"""A battery may not be driven past its SoC band within this time [s], or within one cycle if that is longer."""


@dataclass(frozen=True, slots=True)
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
            meet = hi if abs(hi) <= abs(lo) else lo
            return Bound(meet, meet, by, by)
        return Bound(lo, hi, lo_by, hi_by)

    def clip(self, power_kw: float) -> float:
        """Return the nearest power inside [kW]."""
        return min(max(power_kw, self.lo_kw), self.hi_kw)

    def names(self, power_kw: float) -> tuple[str, ...]:
        """Return who holds a setpoint at this power: the guards whose end it touches, ratings left out."""
        found = []
        if math.isclose(power_kw, self.hi_kw, abs_tol=0.05) and self.hi_by != "rating":
            found.append(self.hi_by)
        if math.isclose(power_kw, self.lo_kw, abs_tol=0.05) and self.lo_by not in ("rating", *found):
            found.append(self.lo_by)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Seat:
    """What a guard looks at: one unit, what is known of it, and what an operator allows."""

    image: AssetImage
    limits: Limits | None
    dt_s: float
    battery: Battery | None = None
    battery_image: AssetImage | None = None
    battery_limits: Limits | None = None


Guard = Callable[[Solar | Hydro | Diesel | Inverter, Seat], tuple[float, float] | None]


def operator_limit(unit: Solar | Hydro | Diesel | Inverter, seat: Seat) -> tuple[float, float] | None:
    """An operator's `max_kw` and `min_kw`; for an inverter `max_kw` bounds both directions."""
    limits = seat.limits
    if limits is None or (limits.max_kw is None and limits.min_kw is None):
        return None
    hi = math.inf if limits.max_kw is None else limits.max_kw
    lo = -math.inf if limits.min_kw is None else limits.min_kw
    if isinstance(unit, Inverter) and limits.min_kw is None:
        lo = -hi
    return lo, hi


def out_of_service(unit: Solar | Hydro | Diesel | Inverter, seat: Seat) -> tuple[float, float] | None:
    """Taken out of service: nothing but its own standby use."""
    if seat.limits is None or not seat.limits.out_of_service:
        return None
    idle = -unit.no_load_kw if isinstance(unit, Inverter) else 0.0
    return idle, idle


def apparent_power(unit: Solar | Hydro | Diesel | Inverter, seat: Seat) -> tuple[float, float] | None:
    """Real power left beside the measured reactive power: `sqrt(kva^2 - kvar^2)`."""
    kvar = seat.image.get("reactive_kvar")
    if kvar is None or isinstance(unit, Hydro):
        return None
    left = math.sqrt(max(0.0, unit.rated_kva**2 - kvar**2))
    return -left, left


def soc_band(unit: Solar | Hydro | Diesel | Inverter, seat: Seat) -> tuple[float, float] | None:
    """SoC floor and ceiling; without a SoC the guard `soc_unknown` speaks."""
    if not isinstance(unit, Inverter) or seat.battery is None or seat.battery_image is None:
        return None
    soc = seat.battery_image.get("soc") if seat.battery_image.seen else None
    if soc is None:
        return None
    limits = seat.battery_limits
    floor = seat.battery.soc_min if limits is None or limits.soc_min is None else limits.soc_min
    top = seat.battery.soc_max if limits is None or limits.soc_max is None else limits.soc_max
    hours = max(seat.dt_s, SOC_LOOKAHEAD_S) / 3600.0
    return (
        ac_kw(unit, -charge_room_kw(seat.battery, soc, top, hours)),
        ac_kw(unit, discharge_room_kw(seat.battery, soc, floor, hours)),
    )


def no_battery(unit: Solar | Hydro | Diesel | Inverter, seat: Seat) -> tuple[float, float] | None:
    """An inverter without a battery: nothing but its own standby use."""
    if not isinstance(unit, Inverter) or seat.battery is not None:
        return None
    return -unit.no_load_kw, -unit.no_load_kw


def soc_unknown(unit: Solar | Hydro | Diesel | Inverter, seat: Seat) -> tuple[float, float] | None:
    """A battery whose SoC is not known: neither charge nor discharge, only the inverter's own standby use.

    A former that leads gets no setpoint, so that it goes on covering the residual.
    """
    if not isinstance(unit, Inverter) or seat.battery is None:
        return None
    known = seat.battery_image is not None and seat.battery_image.seen and seat.battery_image.get("soc") is not None
    return None if known else (-unit.no_load_kw, -unit.no_load_kw)


def bms_limit(unit: Solar | Hydro | Diesel | Inverter, seat: Seat) -> tuple[float, float] | None:
    """What the battery's own management allows just now."""
    if not isinstance(unit, Inverter) or seat.battery_image is None:
        return None
    charge, discharge = seat.battery_image.get("charge_limit_kw"), seat.battery_image.get("discharge_limit_kw")
    lo = -math.inf if charge is None else ac_kw(unit, -max(0.0, charge))
    hi = math.inf if discharge is None else ac_kw(unit, max(0.0, discharge))
    return lo, hi


GUARDS: tuple[tuple[str, Guard], ...] = (
    ("kva", apparent_power),
    ("bms", bms_limit),
    ("no_battery", no_battery),
    ("soc", soc_band),
    ("soc_unknown", soc_unknown),
    ("operator_limit", operator_limit),
    ("out_of_service", out_of_service),
)


def rating(unit: Solar | Hydro | Diesel | Inverter) -> Bound:
    """Return the interval that the nameplate gives [kW]."""
    if isinstance(unit, Inverter):
        return Bound(-unit.rated_kw, unit.rated_kw)
    if isinstance(unit, Diesel):
        return Bound(unit.min_loading * unit.rated_kw, unit.rated_kw, lo_by="min_loading")
    if isinstance(unit, Hydro):
        return Bound(unit.min_kw, unit.rated_kw)
    return Bound(0.0, unit.rated_kw)


class Guards:
    """All bounds of a site, unit by unit."""

    def __init__(self, site: Site) -> None:
        self._units: tuple[Solar | Hydro | Diesel | Inverter, ...] = (
            *site.of(Solar),
            *site.of(Hydro),
            *site.of(Diesel),
            *site.of(Inverter),
        )
        self._batteries = {i.id: site.battery_behind(i.id) for i in site.of(Inverter)}

    def bounds(self, image: Image, memory: Memory) -> Mapping[str, Bound]:
        """Return the bound of every unit that feeds the busbar [kW]."""
        found: dict[str, Bound] = {}
        for unit in self._units:
            battery = self._batteries.get(unit.id)
            seat = Seat(
                image.assets[unit.id],
                memory.limits.get(unit.id),
                image.dt_s,
                battery,
                image.assets[battery.id] if battery else None,
                memory.limits.get(battery.id) if battery else None,
            )
            bound = narrow(unit, seat)
            manual = memory.manual.get(unit.id)
            if manual is not None and manual.power_kw is not None:
                bound = bound.narrowed(0.0 if isinstance(unit, Solar) else manual.power_kw, manual.power_kw, "operator")
            found[unit.id] = bound
        return found


def narrow(unit: Solar | Hydro | Diesel | Inverter, seat: Seat) -> Bound:
    """Return one unit's bound: its rating, narrowed by every guard in turn."""
    bound = rating(unit)
    for name, guard in GUARDS:
        said = guard(unit, seat)
        if said is None:
            continue
        by = ("soc_full", "soc_empty") if name == "soc" else (name, name)
        bound = bound.narrowed(said[0], math.inf, by[0]).narrowed(-math.inf, said[1], by[1])
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
    stops = [w for w in writes if w.command in ("running", "forming") and w.value < 0.5 and w.asset in held]
    if not held or {w.asset for w in stops} != set(held):
        return writes
    return tuple(w for w in writes if w not in stops)
