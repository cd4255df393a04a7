"""What each choice of diesels would lead to in one cycle, worked out once and asked many times.

Rules, commitment and the decision itself look at the same few choices: a set of diesels and a target.
"""

from __future__ import annotations

from collections.abc import Collection

from ems.config.site import Diesel, Hydro, Site
from ems.decision import Reserve
from ems.dispatch import Dispatch, Shares, Situation
from ems.frozen import frozen
from ems.plan import Target
from ems.reserve import ReserveRule, Supply


@frozen
class Prospect:
    """What comes of one choice: who gives how much, who holds the bus, and the reserve that is left.

    Attributes
    ----------
    shares : Shares
    supply : Supply
        With those shares, the diesels of the choice and everything else as it is.
    formers : tuple[str, ...]
        Who would hold the bus; without anybody nothing else counts.
    reserve : Reserve
    room_kw : float
        What the units on line can add at once and hold [kW].
    """

    shares: Shares
    supply: Supply
    formers: tuple[str, ...]
    reserve: Reserve
    room_kw: float

    @property
    def short_kw(self) -> float:
        """Reserve shortfall and unserved demand together [kW], infinite where nobody holds the bus."""
        return self.shares.short_kw + self.reserve.short_kw if self.formers else float("inf")


class Outlooks:
    """Outlooks of one site."""

    def __init__(self, site: Site) -> None:
        self.dispatch = Dispatch(site)
        self.reserve = ReserveRule(site)
        self._diesels = {d.id for d in site.of(Diesel)}
        self._rivers = {h.id for h in site.of(Hydro)}

    def of(self, situation: Situation, supply: Supply) -> Outlook:
        """Return the outlook of one cycle."""
        return Outlook(self, situation, supply)

    def supply_of(self, shares: Shares, on: Collection[str], supply: Supply) -> Supply:
        """Return the supply that a sharing would make, with the diesels `on` and everything else as it is."""
        # A turbine that is given no water stands, and holds nothing.
        power = shares.power_kw
        online = {u for u in supply.online if u not in self._diesels and (u not in self._rivers or power.get(u, 0.0) > 0.0)}
        online.update(on)
        return supply.changed(power, online)


class Outlook:
    """One cycle's situation and supply, and what every choice asked for so far would lead to."""

    __slots__ = ("situation", "supply", "_of", "_known")

    def __init__(self, of: Outlooks, situation: Situation, supply: Supply) -> None:
        self.situation, self.supply = situation, supply
        self._of = of
        self._known: dict[tuple[frozenset[str], int], tuple[Target, Prospect]] = {}

    def prospect(self, on: Collection[str], target: Target) -> Prospect:
        """Return what comes of these diesels on the bus and this target."""
        key = (frozenset(on), id(target))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = (target, self._looked(key[0], target))  # the target is kept, so that its id stays its own
        return known[1]

    def _looked(self, on: frozenset[str], target: Target) -> Prospect:
        shares = self._of.dispatch.share(self.situation, on, target)
        supply = self._of.supply_of(shares, on, self.supply)
        reserve = self._of.reserve
        formers, (instant, held) = reserve.formers(supply), reserve.headroom_kw(supply)
        assessed = reserve.assessed(supply, self.situation.demand_kw, self.situation.unloading, formers, instant, held)
        return Prospect(shares, supply, formers, assessed, min(sum(instant.values()), sum(held.values())))
