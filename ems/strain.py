"""How far the island is from what it can carry: overload now, and stored energy that will not last.

Energy is looked at only where storage has to give what nobody else on line can. It must last until the
next diesel can be on the bus, or, with no diesel that can be started, until the forecast surplus.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

from ems.config.site import Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar
from ems.dispatch import Shares, Situation
from ems.frozen import frozen
from ems.guards import ORDERS, Bound, Guards
from ems.memory import Memory
from ems.model import Image
from ems.outlook import Prospect
from ems.plan import Plan
from ems.reserve import ReserveRule, floor_soc, storages, usable_kwh
from ems.sequencer import COMING, CRANK_REST_S, LOCKED, START_GRACE, total_start_s
from ems.terms import Phase

OVERLOADED = 1.02
"""A leader counts as overloaded beyond this share of its limit: meters err by a per cent."""
LEAST_START_S = 10.0
"""A start that should be over by now is given this long [s]."""
MORNING_H = 8.0
"""Without a forecast the sun is taken to carry the island from this hour of the site's day on."""
DAY_H = 8.0
"""... and for so many hours [h]; within them it may come any moment."""
CLOUDY_S = 3600.0
"""By day and without a forecast storage shall last this long, and by night so long into the day [s]."""


@frozen
class Endurance:
    """Whether what is stored lasts.

    Attributes
    ----------
    deficit_kw : float
        What storage must give now because nobody else on line can; negative is what they have left [kW].
    energy_kwh : float | None
        Usable stored energy as it arrives at the busbar; None where a state of charge is unknown [kWh].
    need_kwh : float
        What it takes until relief is there [kWh].
    hold_s : float
        Until then [s].
    waits_for : str
        The diesel that is awaited, or `sun`.
    spare_kwh : float
        What lies under the floor, down to black-start charge, where `energy_kwh` leaves it out: what stands by may live on it [kWh].
    """

    deficit_kw: float
    energy_kwh: float | None
    need_kwh: float
    hold_s: float
    waits_for: str
    spare_kwh: float = 0.0

    @property
    def lasts_s(self) -> float | None:
        """How long storage carries the present deficit [s]; None where it has not to, or charge is unknown."""
        return None if self.deficit_kw <= 0.0 or self.energy_kwh is None else self.energy_kwh / self.deficit_kw * 3600.0

    def excess_kw(self, margin: float) -> float:
        """Return how much less load would let the energy last `margin` times as long as it must [kW]."""
        if self.deficit_kw <= 0.0 or self.energy_kwh is None or self.hold_s <= 0.0:
            return 0.0
        return min(self.deficit_kw, max(0.0, (self.need_kwh - self.energy_kwh / margin) * 3600.0 / self.hold_s))

    def holds(self, more_kw: float, margin: float) -> bool:
        """Whether the energy lasts `margin` times as long as it must with this much more load."""
        if self.deficit_kw + more_kw <= 0.0:
            return True
        added = more_kw if self.deficit_kw >= 0.0 else self.deficit_kw + more_kw
        return self.energy_kwh is not None and self.energy_kwh >= margin * (self.need_kwh + added * self.hold_s / 3600.0)


@frozen
class Strain:
    """What shedding and restoring have to go by in one cycle.

    Attributes
    ----------
    short_kw : float
        By how much demand is beyond what can be carried now [kW].
    room_kw : float
        What the units on line can add at once and hold [kW].
    regulating_kw : float
        What of that is kept for load steps and clouds [kW].
    endurance : Endurance
    """

    short_kw: float
    room_kw: float
    regulating_kw: float
    endurance: Endurance


class Strains:
    """Strain of one site."""

    def __init__(self, site: Site, reserve: ReserveRule) -> None:
        self._site = site
        self._guards = Guards(site)
        self._rule = site.reserve
        self._hold_s = reserve.hold_s
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._rivers = [h.id for h in site.of(Hydro)]
        self._suns = [s.id for s in site.of(Solar)]
        self._deferrables = [d.id for d in site.of(Deferrable)]
        self._pairs = storages(site)
        self._station_kw = sum(load.station_kw for load in site.of(Load))
        self._inverters = frozenset(i.id for i in site.of(Inverter))

    def of(
        self,
        image: Image,
        memory: Memory,
        situation: Situation,
        prospect: Prospect,
        leader: str | None,
        on: Collection[str],
        plan: Plan | None,
        ordered: Mapping[str, Bound] | None = None,
    ) -> Strain:
        """Return the strain under this sharing.

        Parameters
        ----------
        prospect : Prospect
            What comes of it.
        leader : str | None
            Who carries the residual: without one nothing can be said, and nothing is shed.
        on : Collection[str]
            Diesels on the bus.
        plan : Plan | None
            For its forecast, whether it is followed or not.
        ordered : Mapping[str, Bound] | None
            Bounds with the orders that wait, where they are others than the situation's: what is to go restores nobody.
        """
        endurance = self._endurance(image, memory, situation, on, plan)
        rule, shares = self._rule, prospect.shares
        solar = sum(shares.power_kw.get(s, 0.0) for s in self._suns)
        return Strain(
            short_kw=0.0 if leader is None else self._short_kw(image, memory, situation, shares, leader, endurance),
            room_kw=min(prospect.room_kw, self._bound_kw(prospect, situation, situation.bounds if ordered is None else ordered)),
            regulating_kw=max(rule.load_fraction * situation.demand_kw, rule.solar_fraction * solar),
            endurance=endurance,
        )

    def _own(self, unit: str, image: Image, memory: Memory, situation: Situation) -> Bound:
        """Return what a unit on the bus may do, whatever an operator ordered: nobody is shed for an order."""
        bound = situation.bounds[unit]
        return self._guards.bound(unit, image, memory, ORDERS) if bound.hi_by in ORDERS else bound

    def _bound_kw(self, prospect: Prospect, situation: Situation, bounds: Mapping[str, Bound]) -> float:
        """Return how much more the sets and inverters on line may give together inside their bounds [kW]."""
        power = prospect.shares.power_kw
        on = [u for u in prospect.supply.online if (u in self._diesels or u in self._inverters) and u not in situation.unloading]
        return max(0.0, sum([bounds[u].hi_kw - power.get(u, 0.0) for u in on]))

    def _short_kw(self, image: Image, memory: Memory, situation: Situation, shares: Shares, leader: str, endurance: Endurance) -> float:
        """Return demand that nobody can carry, or measured overload of the leader, whichever is more [kW].

        A battery at its floor is no overload while a diesel is on its way and what lies under the floor lasts until then.
        Neither is what an operator allows a leader: its power is what the others leave over, and nobody is shed for an order.
        """
        bound = self._own(leader, image, memory, situation) if leader in situation.bounds else None
        floored = bound is not None and bound.hi_by == "soc_empty"
        if floored and endurance.waits_for != "sun" and endurance.holds(0.0, 1.0):
            return 0.0
        short = shares.short_kw if image.load_known else 0.0
        measured = image.assets[leader].power_kw
        if bound is None or floored or measured is None or measured <= OVERLOADED * bound.hi_kw:
            return short
        going = sum(image.assets[d].power_kw or 0.0 for d in self._deferrables)
        return max(short, measured - bound.hi_kw - going, 0.0)

    def _endurance(self, image: Image, memory: Memory, situation: Situation, on: Collection[str], plan: Plan | None) -> Endurance:
        carried = sum([self._own(d, image, memory, situation).hi_kw for d in on if d not in situation.fixed_kw and d not in situation.unloading])
        carried += sum([p for u, p in situation.fixed_kw.items() if u not in self._inverters])
        given = sum(situation.solar_kw.values()) + sum(situation.hydro_kw.values())
        idle = sum([pair.inverter.no_load_kw for pair in self._pairs if pair.inverter.id in situation.inverters])
        deficit = situation.demand_kw + idle - carried - given
        comings = {d: s for d, diesel in self._diesels.items() if d not in on and (s := coming_s(diesel, image, memory)) is not None}
        if comings:
            first = min(comings, key=lambda d: comings[d])
            energy = self._energy_kwh(image, memory, situation, spare=True)
            return Endurance(deficit, energy, max(0.0, deficit) * comings[first] / 3600.0, comings[first], first)
        hold, need = self._until_surplus(image, deficit, carried, plan)
        energy, down = (self._energy_kwh(image, memory, situation, spare) for spare in (False, True))
        return Endurance(deficit, energy, need, hold, "sun", 0.0 if energy is None or down is None else max(0.0, down - energy))

    def _energy_kwh(self, image: Image, memory: Memory, situation: Situation, spare: bool) -> float | None:
        """Return usable stored energy [kWh], for a wait of minutes (`spare`) also what lies between the floor and the least that holds a busbar."""
        total = 0.0
        for pair in self._pairs:
            if pair.inverter.id not in situation.inverters and pair.inverter.id not in situation.astray:
                continue
            seen = image.assets[pair.battery.id]
            soc = seen.get("soc") if seen.seen else None
            if soc is None:
                return None
            floor = floor_soc(pair.battery, memory.limits.get(pair.battery.id))
            total += usable_kwh(pair, soc, pair.battery.holding_soc if spare else floor)
        return total

    def _until_surplus(self, image: Image, deficit_kw: float, carried_kw: float, plan: Plan | None) -> tuple[float, float]:
        """Return how long it is until others carry the island again [s], and what storage gives until then [kWh]."""
        index = plan.grid.index(image.time) if plan is not None else None
        if plan is None or index is None:
            hold = self._morning_s(image)
            return hold, max(0.0, deficit_kw) * hold / 3600.0
        end = plan.grid.start + timedelta(seconds=sum(plan.grid.step_s[: index + 1]))
        hold = (end - image.time).total_seconds()
        need = max(0.0, deficit_kw) * hold / 3600.0
        for k in range(index + 1, plan.grid.n_steps):
            given = sum(values[k] for values in plan.available_kw.values())
            given += sum(plan.power_kw[h][k] for h in self._rivers if h in plan.power_kw and h not in plan.available_kw)
            missing = plan.load_kw[k] + self._station_kw - given - carried_kw
            if missing <= 0.0:
                break
            hold += plan.grid.step_s[k]
            need += missing * plan.grid.step_s[k] / 3600.0
        return hold, need

    def _morning_s(self, image: Image) -> float:
        """Return how long it is until the sun may be counted on, where nobody has forecast it [s]."""
        if not self._suns:
            return self._hold_s
        local = image.time.astimezone(self._site.tz)
        hour = local.hour + local.minute / 60.0 + local.second / 3600.0
        since = (hour - MORNING_H) % 24.0
        return CLOUDY_S + (0.0 if since < DAY_H else (24.0 - since) * 3600.0)


def coming_s(diesel: Diesel, image: Image, memory: Memory) -> float | None:
    """Return how long it takes at most until this diesel is on the bus if it is wanted now [s], None if it cannot come."""
    unit, seen = memory.units.get(diesel.id), image.assets[diesel.id]
    manual, limits = memory.manual.get(diesel.id), memory.limits.get(diesel.id)
    barred = (manual is not None and manual.run is False) or (limits is not None and limits.out_of_service)
    if unit is None or unit.phase is LOCKED or not seen.ready or not seen.remote or barred:
        return None
    left_s, gone_s = total_start_s(diesel), image.now_s - unit.since_s
    if unit.phase in COMING:
        if unit.phase is not Phase.STARTING:
            left_s = diesel.sync_s + (diesel.warmup_s if unit.phase is Phase.WARMING else 0.0)
        return max(LEAST_START_S, START_GRACE * left_s - gone_s)
    rest_s = max(0.0, CRANK_REST_S - gone_s) if unit.failed_starts else 0.0
    return START_GRACE * left_s + rest_s
