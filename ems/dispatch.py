"""Who gives how much: shares the demand among the units inside their bounds.

The unit that holds the bus (the leader) gets no setpoint: its power is the residual. Everyone else is
shaped so that the residual stays where the leader can carry it. Surplus goes, in this order, into the
battery, then PV is curtailed pro rata, then hydro is lowered, and low load of a diesel is accepted last.
Deferrables and the stopping of diesels are decided before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ems.config.site import Diesel, Hydro, Inverter, Site
from ems.frozen import frozen
from ems.guards import Bound
from ems.plan import Target

EPSILON_KW = 1e-6
LEADING = ("diesel", "inverter", "hydro")
"""Who leads first where nobody is isochronous."""


@frozen
class Situation:
    """What dispatch has to work with in one cycle.

    Attributes
    ----------
    demand_kw : float
        Loads, station use and deferrables [kW].
    solar_kw, hydro_kw : Mapping[str, float]
        What the sun and the river offer, inside each unit's bound [kW].
    fixed_kw : Mapping[str, float]
        Power of units that take no command now, or do not follow it: local, unseen, manual, astray [kW].
    bounds : Mapping[str, Bound]
        Of every unit that takes commands.
    inverters : tuple[str, ...]
        Inverters that run and take a setpoint.
    unloading : Mapping[str, float]
        Diesels on their way off the bus, with the power they may still have [kW].
    astray : frozenset[str]
        Those of `fixed_kw` that are told what to give and do not give it; a diesel among them gives nothing once it is off.
    """

    demand_kw: float
    solar_kw: Mapping[str, float]
    hydro_kw: Mapping[str, float]
    fixed_kw: Mapping[str, float]
    bounds: Mapping[str, Bound]
    inverters: tuple[str, ...]
    unloading: Mapping[str, float]
    astray: frozenset[str] = frozenset()


@frozen
class Shares:
    """The outcome: power of every unit, and what could not be met.

    Attributes
    ----------
    power_kw : Mapping[str, float]
        Expected busbar power of every source [kW].
    curtailed_kw : float
        PV left unused [kW].
    short_kw : float
        Demand that nobody could carry inside the bounds [kW].
    low_load_kw : float
        By how much diesels run under their minimum loading [kW].
    """

    power_kw: Mapping[str, float]
    curtailed_kw: float
    short_kw: float
    low_load_kw: float


def spread(total_kw: float, wishes: Mapping[str, float], bounds: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return powers near the wishes that add up to `total_kw`, as far as the bounds allow [kW].

    The difference between the total and the clipped wishes is given out in proportion to the room
    that each has left in that direction, so one pass never passes a bound.
    """
    powers = {u: min(max(wishes[u], lo), hi) for u, (lo, hi) in bounds.items()}
    missing = total_kw - sum(powers.values())
    rooms = {u: (hi - powers[u] if missing > 0 else powers[u] - lo) for u, (lo, hi) in bounds.items()}
    room = sum(rooms.values())
    if room <= EPSILON_KW:
        return powers
    share = max(-1.0, min(1.0, missing / room))
    return {u: p + share * rooms[u] for u, p in powers.items()}


class Dispatch:
    """Sharing for one site."""

    def __init__(self, site: Site) -> None:
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._inverters = {i.id: i for i in site.of(Inverter)}
        self._hydros = {h.id: h for h in site.of(Hydro)}
        units: list[Diesel | Inverter | Hydro] = [*self._diesels.values(), *self._inverters.values(), *self._hydros.values()]
        units.sort(key=lambda u: (u.forming != "isochronous", LEADING.index(u.kind), -u.rated_kw))
        self._ranked = [u.id for u in units]

    def leader(self, formers: Collection[str], on: Collection[str], fixed: Collection[str] = (), astray: Collection[str] = ()) -> str | None:
        """Return who carries the residual: the isochronous unit, else the largest diesel on line, else an inverter, else hydro.

        Who is `fixed`, because it takes no command or does not do as told, leads only where nobody else can, and of those first
        who is `astray`: a former that gives other than told may well be who carries the residual.
        """
        able = [u for u in self._ranked if u in formers and (u in on or u not in self._diesels)]
        return min(able, key=lambda u: (u in fixed) * (1 if u in astray else 2), default=None)

    def share(self, situation: Situation, on: Collection[str], target: Target) -> Shares:
        """Return the power of every unit with the diesels `on` on the bus.

        Parameters
        ----------
        situation : Situation
        on : Collection[str]
            Diesels on the bus; those in `situation.unloading` are on their way off.
        target : Target
            What the plan or the rules wish for.
        """
        solar = dict(situation.solar_kw)
        # An operator may ask for more than the river gives: that is not there.
        hydro = {h: min(p, situation.bounds[h].clip(min(p, target.power_kw.get(h, p)))) for h, p in situation.hydro_kw.items()}
        diesel_bounds = self._diesel_bounds(situation, on)
        floor, ceiling = totals(diesel_bounds)
        fixed = situation.fixed_kw
        if situation.astray:
            fixed = {u: p for u, p in fixed.items() if u in on or u not in situation.astray or u not in self._diesels}
        net = situation.demand_kw - sum(solar.values()) - sum(hydro.values()) - sum(fixed.values())

        ranges = {i: (situation.bounds[i].lo_kw, situation.bounds[i].hi_kw) for i in situation.inverters}
        lowest, highest = totals(ranges)
        wished = self._storage_wish(situation, target, on, net, ceiling)
        stored = min(max(sum(wished.values()), net - ceiling), net - floor)
        stored = min(max(stored, lowest), highest)

        surplus = max(0.0, floor - (net - stored)) if on else max(0.0, stored - net)
        solar, curtailed = lowered(solar, dict.fromkeys(solar, 0.0), surplus)
        surplus -= curtailed
        hydro, held_back = lowered(hydro, {h: min(p, max(self._hydros[h].min_kw, situation.bounds[h].lo_kw)) for h, p in hydro.items()}, surplus)
        surplus -= held_back
        residual = net + curtailed + held_back - stored

        power: dict[str, float] = {**solar, **hydro, **fixed, **spread(stored, wished, ranges)}
        if on:
            wishes = {d: target.power_kw.get(d, residual * hi / ceiling if ceiling > 0 else 0.0) for d, (_, hi) in diesel_bounds.items()}
            reachable = {d: (min(lo, max(0.0, residual * lo / floor if floor > 0 else 0.0)), hi) for d, (lo, hi) in diesel_bounds.items()}
            power.update(spread(residual, wishes, reachable))
        short = max(0.0, residual - ceiling)
        return Shares(power, curtailed, short if short > EPSILON_KW else 0.0, max(0.0, surplus) if on else 0.0)

    def _diesel_bounds(self, situation: Situation, on: Collection[str]) -> dict[str, tuple[float, float]]:
        found = {}
        for d in on:
            if d in situation.fixed_kw:
                continue
            bound = situation.bounds[d]
            left = situation.unloading.get(d)
            found[d] = (bound.lo_kw, bound.hi_kw) if left is None else (0.0, left)
        return found

    def _storage_wish(self, situation: Situation, target: Target, on: Collection[str], net_kw: float, ceiling_kw: float) -> dict[str, float]:
        """Return what the inverters shall give [kW]: as planned, or idle, or what keeps diesels at a loading by charging."""
        wishes = {}
        share = 1.0 / len(situation.inverters) if situation.inverters else 0.0
        for i in situation.inverters:
            if i in target.power_kw:
                wishes[i] = target.power_kw[i]
            elif target.loading is not None and on:
                wishes[i] = min(-self._inverters[i].no_load_kw, (net_kw - target.loading * ceiling_kw) * share)
            else:
                wishes[i] = -self._inverters[i].no_load_kw
        return wishes


def totals(ranges: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Return the sums of both ends [kW]."""
    return sum([lo for lo, _ in ranges.values()]), sum([hi for _, hi in ranges.values()])


def lowered(powers: Mapping[str, float], floors: Mapping[str, float], by_kw: float) -> tuple[dict[str, float], float]:
    """Return the powers reduced pro rata by up to `by_kw` down to their floors, and by how much in all [kW]."""
    if by_kw <= EPSILON_KW:
        return dict(powers), 0.0
    room = sum([max(0.0, p - floors[u]) for u, p in powers.items()])
    if room <= EPSILON_KW:
        return dict(powers), 0.0
    share = min(1.0, by_kw / room)
    return {u: p - share * max(0.0, p - floors[u]) for u, p in powers.items()}, share * room
