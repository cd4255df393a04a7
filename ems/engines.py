"""Low load by engine: counted, and burnt clean after enough of it.

A diesel that runs under its minimum loading collects unburnt fuel in its exhaust (wet stacking); run hard for half an hour it is
clean again. The limits are the usual ones of engine makers: some hours under 30 % load, then at least 30 min above 70 %.
"""

from __future__ import annotations

from collections.abc import Mapping

from ems.config.site import Diesel, Site
from ems.memory import Engine, Memory
from ems.model import Image
from ems.sequencer import on_bus

DUE_S = 4.0 * 3600.0
"""After so much low load a clean-out burn is due [s]."""
CLEAN_LOADING = 0.70
"""Above this loading an engine burns itself clean ..."""
CLEAN_S = 1800.0
"""... within this time [s]."""
BURN_LOADING = 0.75
"""A burn is run at this loading: above the limit with a margin for the load's ups and downs."""
SLACK = 0.98
"""Under this share of its minimum loading an engine counts as low: meters err."""


class Engines:
    """The diesels of one site."""

    def __init__(self, site: Site) -> None:
        self._diesels = site.of(Diesel)

    def counted(self, image: Image, memory: Memory) -> Mapping[str, Engine]:
        """Return the low load of each engine with this cycle counted; one that has burnt clean begins anew."""
        found: dict[str, Engine] = {}
        changed = False
        for d in self._diesels:
            before = memory.engines.get(d.id, CLEAN)
            unit = image.assets[d.id]
            power, after = unit.power_kw, before
            if power is not None and on_bus(unit):
                after = self._ran(d, before, power, image.dt_s)
            found[d.id] = after
            changed = changed or after is not before
        return found if changed else memory.engines

    def _ran(self, diesel: Diesel, before: Engine, power_kw: float, dt_s: float) -> Engine:
        if power_kw < SLACK * diesel.min_kw:
            return Engine(before.low_s + dt_s, 0.0)
        if before.low_s <= 0.0 or power_kw < CLEAN_LOADING * diesel.rated_kw:
            return before
        burnt = before.burnt_s + dt_s
        return CLEAN if burnt >= CLEAN_S else Engine(before.low_s, burnt)

    def burns(self, memory: Memory, online: frozenset[str]) -> frozenset[str]:
        """Return the engines on the bus whose clean-out burn is due; one that has begun is ended."""
        return frozenset([d for d in online if due(memory.engines.get(d, CLEAN))])


CLEAN = Engine()


def due(engine: Engine) -> bool:
    """Whether an engine has had enough low load to be burnt clean."""
    return engine.low_s >= DUE_S


def burn_left_s(engine: Engine) -> float:
    """Return the clean-out burn that is due, or what is still to be run of the one under way [s]; 0 where none is."""
    return max(0.0, CLEAN_S - engine.burnt_s) if due(engine) else 0.0
