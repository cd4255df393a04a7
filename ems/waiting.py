"""Orders that wait: what an operator takes from the island goes when others carry it, and never before.

An order shapes the choice of diesels at once, so that those who will carry its load are started. It is carried out as soon
as the island does without: until then the unit goes on, as a diesel does that was stopped while nobody else holds the bus.
What carries the island is not asked: its power is what the others leave over, whatever was ordered.

Whoever has obeyed an order to stand still stays so, since somebody may be working on it. A limit or a setpoint gives way
by as much as is missing. The emergency stop is another matter, and so is what a person does at the unit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ems.config.site import Diesel, Hydro, Inverter, Site, Solar
from ems.cycle import Look, Shared
from ems.decision import AssetDecision
from ems.frozen import changed
from ems.guards import ORDERS, Bound, Guards
from ems.memory import Memory
from ems.model import Image
from ems.outlook import Prospect

SHORT_KW = 0.1
"""Less than this is not missing [kW]."""
GIVES = 0.02
"""A unit that shall give less than this share of its rating stands still [of rated]."""


class Waiting:
    """The orders of one site that wait.

    Parameters
    ----------
    site : Site
    guards : Guards
        Those of the controller.
    """

    def __init__(self, site: Site, guards: Guards) -> None:
        self._guards = guards
        self._rated = {a.id: a.rated_kw for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter)}
        self._rivers = frozenset(h.id for h in site.of(Hydro))
        self._inverters = frozenset(i.id for i in site.of(Inverter))

    def ordered(self, look: Look) -> list[str]:
        """Return the units whose power an operator's order holds down."""
        memory = look.memory
        if not memory.manual and not memory.limits:
            return []
        return [u for u in self._rated if look.bounds[u].hi_by in ORDERS or self._stopped(u, memory)]

    def steps(self, look: Look, units: Collection[str], leader: str | None, obeyed: Shared, coming: bool) -> list[tuple[Mapping[str, Bound], bool]]:
        """Return whose orders may wait, with the bounds they then have, step by step, and whether that is for reserve too.

        First who carries the island, whose order changes nothing of its power; then who was told to stand still and gives
        power yet; at last limits and setpoints give way, by as much as is missing. Reserve is waited for where it comes:
        nobody's order waits for ever because of a trip that may never come.

        Parameters
        ----------
        look : Look
        units : Collection[str]
            As `ordered`.
        leader : str | None
            Who holds the bus now and carries the residual.
        obeyed : Shared
            What comes of all orders being obeyed.
        coming : bool
            Whether a diesel is on its way.
        """
        free = {u: self._guards.bound(u, look.image, look.memory, ORDERS) for u in units}
        still = {u for u in units if self._still(u, look)}
        leading = {u: b for u, b in free.items() if u == leader}
        if look.rising:
            return [(leading, False)]  # a black start has an order of its own
        staying = {u: b for u, b in free.items() if u in still and self._gives(u, look.image, look.memory, obeyed)}
        # A diesel that is kept although it shall go is kept for reserve, so it gives some.
        kept = {u: b for u, b in staying.items() if u in obeyed.on}
        missing_kw = obeyed.final.shares.short_kw
        raised = {u: _raised(look.bounds[u], b, missing_kw) for u, b in free.items() if u not in still and u != leader}
        return [(leading, False), (kept, True), (staying, coming), (raised, False)]

    def freed(self, look: Look, bounds: Mapping[str, Bound]) -> Look:
        """Return what a cycle is decided from with other bounds, and without the stops of those turbines."""
        manual = {u: m for u, m in look.memory.manual.items() if u not in bounds or u not in self._rivers}
        memory = changed(look.memory, manual=manual) if len(manual) != len(look.memory.manual) else look.memory
        return changed(look, bounds={**look.bounds, **bounds}, memory=memory)

    def waits(self, look: Look, units: Collection[str], freed: Look, obeyed: Prospect, found: Prospect) -> dict[str, tuple[str, float]]:
        """Return whose orders wait, each with what would be wrong otherwise, and by how much [kW]."""
        if not obeyed.formers:
            cause = "order_waits_former", 0.0
        elif obeyed.shares.short_kw - found.shares.short_kw > SHORT_KW:
            cause = "order_waits_load", obeyed.shares.short_kw - found.shares.short_kw
        else:
            cause = "order_waits_reserve", obeyed.short_kw
        power = found.shares.power_kw
        stays = [u for u in units if self._stopped(u, look.memory) and not self._stopped(u, freed.memory)]
        more = [u for u in units if freed.bounds[u] is not look.bounds[u] and power.get(u, 0.0) > look.bounds[u].hi_kw + SHORT_KW]
        return dict.fromkeys((*more, *stays), cause)

    def _stopped(self, unit: str, memory: Memory) -> bool:
        """Whether an operator has stopped a turbine; diesels are kept by their sequences."""
        manual = memory.manual.get(unit)
        return unit in self._rivers and manual is not None and manual.run is False

    def _still(self, unit: str, look: Look) -> bool:
        """Whether a unit is told to stand still, not only to give less."""
        bound = look.bounds[unit]
        if unit in self._inverters:
            return bound.hi_by == "out_of_service"
        return bound.hi_kw <= 0.0 or self._stopped(unit, look.memory)

    def _gives(self, unit: str, image: Image, memory: Memory, obeyed: Shared) -> bool:
        """Whether a unit has not been told to stand still yet: it was told to give power, or gives it untold. A diesel has once it leaves the bus."""
        if unit in obeyed.on:
            return unit not in obeyed.situation.unloading
        told_kw = memory.setpoints.get(unit, image.assets[unit].power_kw or 0.0)
        return told_kw > GIVES * self._rated[unit]


def helps(before: Prospect, after: Prospect, for_reserve: bool) -> bool:
    """Whether an order has to wait: demand would not be met without that, or, `for_reserve`, the reserve is short."""
    if for_reserve and after.formers and before.short_kw > SHORT_KW:
        return unserved_kw(after) <= unserved_kw(before)
    return unserved_kw(after) < unserved_kw(before) - SHORT_KW


def unserved_kw(prospect: Prospect) -> float:
    """Return the demand that is not met [kW]: all of it where nobody holds the bus."""
    return prospect.shares.short_kw if prospect.formers else float("inf")


def told(decided: Mapping[str, AssetDecision], waiting: Mapping[str, tuple[str, float]]) -> dict[str, AssetDecision]:
    """Return the decisions of those whose orders wait, with that they wait, and for how much."""
    found = {}
    for unit, (cause, kw) in waiting.items():
        why = decided[unit].why
        why = changed(why, limited_by=(*(n for n in why.limited_by if n not in ORDERS), cause), numbers={**why.numbers, "order_kw": f"{kw:.0f}"})
        found[unit] = changed(decided[unit], why=why)
    return found


def _raised(bound: Bound, free: Bound, by_kw: float) -> Bound:
    """Return an ordered bound with so much more room upwards, as far as the unit has it without the order."""
    return Bound(bound.lo_kw, min(max(free.hi_kw, bound.hi_kw), bound.hi_kw + by_kw), bound.lo_by, bound.hi_by)
