"""What the load served would have burnt without renewables and battery, beside what was burnt.

    displaced = (baseline litres x factor - litres burnt) x CO2 of a litre

The baseline is a diesel-only plant: the cheapest set of the declared fleet that carries the load under
the same capacity, minimum-loading and reserve rules, by its fuel curves, free to change at any time and
without start litres, so it errs against us. `factor` is measured over modelled fuel of the real plant;
how far it is from 1 is the band that every displaced figure carries. This is the physical account; what
may be credited is the business of `mrv`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from ems.config.site import Diesel, ReserveConfig, Site
from ems.physics import fuel_l_per_h

METHOD = "diesel-only baseline, same rules, model"
METER_BAND = 0.02
"""Fuel meters are good to 1-2 %; a band below that would be false."""
CURVE_BAND = 0.20
"""How far a set may be from its curve; the band while nothing has been compared."""
ENOUGH_L = 50.0
"""Litres to be burnt before measured and modelled fuel are compared [L]."""


@dataclass(frozen=True, slots=True)
class Served:
    """How a diesel-only plant would carry a load.

    Attributes
    ----------
    l_per_h : float
        Fuel rate [L/h].
    units : tuple[str, ...]
        Diesels on the bus.
    kept : bool
        Whether minimum loading and reserve hold; else the mildest breach was taken.
    """

    l_per_h: float
    units: tuple[str, ...]
    kept: bool


@dataclass(frozen=True, slots=True)
class Factor:
    """Measured over modelled fuel of the real plant, with the band that follows from it (a ratio)."""

    value: float
    band: float
    basis: str


class DieselOnly:
    """The diesel-only plant of one site; empty where there is no diesel.

    Parameters
    ----------
    site : Site
        Its `baseline` names the fleet; without one all diesels are it.
    """

    def __init__(self, site: Site) -> None:
        named = None if site.baseline is None else set(site.baseline.assets)
        self.fleet = tuple(d for d in site.of(Diesel) if named is None or d.id in named)
        self._reserve = site.reserve
        self._sets = list(sets_of(self.fleet))

    def serve(self, load_kw: float) -> Served | None:
        """Return the cheapest way to carry a load [kW]; None without a fleet, no fuel for no load."""
        if not self.fleet:
            return None
        if load_kw <= 0.0:
            return Served(0.0, (), True)
        mildest: dict[int, Served] = {}
        for units in self._sets:
            if sum(d.rated_kw for d in units) < load_kw:
                continue
            for powers in dispatches(units, load_kw):
                breach = 2 * (not reserve_held(units, powers, load_kw, self._reserve)) + any(p < d.min_kw - 1e-9 for d, p in zip(units, powers, strict=True))
                rate = sum(fuel_l_per_h(d.fuel, p) for d, p in zip(units, powers, strict=True))
                if breach not in mildest or rate < mildest[breach].l_per_h:
                    mildest[breach] = Served(rate, tuple(d.id for d in units), breach == 0)
        if mildest:
            return mildest[min(mildest)]
        full = sum(fuel_l_per_h(d.fuel, d.rated_kw) for d in self.fleet)
        return Served(full, tuple(d.id for d in self.fleet), False)

    def litres(self, load_kw: float, hours: float) -> float | None:
        """Return the litres for a constant load [kW] over `hours`; None without a fleet."""
        served = self.serve(load_kw)
        return None if served is None else served.l_per_h * hours


def sets_of(fleet: Sequence[Diesel]) -> Iterator[tuple[Diesel, ...]]:
    """Yield every different set of diesels, equal ones counted once."""
    kinds: dict[tuple[object, ...], list[Diesel]] = {}
    for d in fleet:
        kinds.setdefault((d.rated_kw, d.min_loading, d.block_load_kw, d.fuel, d.forming != "never"), []).append(d)
    groups = list(kinds.values())
    for counts in product(*(range(len(group) + 1) for group in groups)):
        chosen = tuple(d for group, count in zip(groups, counts, strict=True) for d in group[:count])
        if any(d.forming != "never" for d in chosen):
            yield chosen


def dispatches(units: Sequence[Diesel], load_kw: float) -> Iterator[list[float]]:
    """Yield ways to share a load [kW] that the units can carry: by merit, and in proportion as droop does.

    Below their minimum together, only in proportion.
    """
    rated = sum(d.rated_kw for d in units)
    least = sum(d.min_kw for d in units)
    if load_kw < least:
        yield [load_kw * d.rated_kw / rated for d in units]
        return
    room = rated - least
    yield [d.min_kw + (d.rated_kw - d.min_kw) * (load_kw - least) / room if room > 0 else d.rated_kw for d in units]
    left = load_kw - least
    powers = {d.id: d.min_kw for d in units}
    for d in sorted(units, key=lambda d: d.fuel.slope_l_per_kwh):
        more = min(left, d.rated_kw - d.min_kw)
        powers[d.id] += more
        left -= more
    yield [powers[d.id] for d in units]


def reserve_held(units: Sequence[Diesel], powers: Sequence[float], load_kw: float, rules: ReserveConfig) -> bool:
    """Whether running diesels cover the loss of any one of them and the load's own swing, by the site's rules."""
    headroom = [min(d.rated_kw - p, d.block_load_kw) for d, p in zip(units, powers, strict=True)]
    total = sum(headroom)
    swing = rules.load_fraction * load_kw
    if total < swing - 1e-9:
        return False
    if not rules.largest_unit:
        return True
    formers = [d for d in units if d.forming != "never"]
    added = swing if rules.combine == "sum" else 0.0
    for d, p, own in zip(units, powers, headroom, strict=True):
        alone = len(formers) == 1 and formers[0] is d and rules.single_former == "allow"
        if p > 0.0 and not alone and total - own < p + added - 1e-9:
            return False
    return True


def fuel_factor_kg_per_l(site: Site) -> float:
    """Return the CO2 of one litre of diesel [kg/L]: density x net calorific value x emission factor."""
    return site.fuel_constants.co2_kg_per_l


def factor_of(measured_l: float, modelled_l: float) -> Factor:
    """Return how model and meter compare, over all litres for which both are known [L]."""
    if modelled_l < ENOUGH_L:
        return Factor(1.0, CURVE_BAND, "model not compared yet")
    ratio = measured_l / modelled_l
    off = abs(ratio - 1.0)
    if off > CURVE_BAND:
        return Factor(1.0, off, "fuel meter and curve differ too much to scale")
    return Factor(ratio, max(METER_BAND, off), "scaled by measured over modelled fuel")
