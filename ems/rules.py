"""The two rule policies, tuned as a good engineer would, and their roll-out into a plan.

`load-following`: the battery serves what sun and river leave over; when it is low a diesel takes over,
follows the load, and leaves charging to the sun. `cycle-charging`: the same, but a running diesel is held
at good loading and charges the battery until it is nearly full. Both take the set of diesels that burns
least for the residual load among those that hold the reserve.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import combinations
from typing import TypeVar, cast

from ems.config.site import Battery, Diesel, Hydro, Inverter, Site, Solar
from ems.dispatch import Shares, Situation
from ems.guards import Bound, rating
from ems.model import NOTHING, Limits
from ems.outlook import Outlook, Outlooks
from ems.physics import ac_kw, charge_room_kw, dc_kw, discharge_room_kw, fuel_l_per_h, hydro_kw, storage_step
from ems.plan import Forecast, Plan, PlantStart, Target
from ems.reserve import Supply, ceiling_kw, ceiling_soc, floor_soc, lowest_kw

CYCLE_STEP = 0.1
"""Where charging that hard leaves the reserve short, so much less loading is tried, down to minimum loading."""
SUN_MARGIN = 0.02
"""Under a surplus of sun or river a diesel may stop so far above the SoC that starts it: the charge is rising by itself."""
WORTH_A_START = 1.05
"""A set with one more engine to start must be so much cheaper than those that run: sets do not swap at a threshold."""
ROTATE_WEAR = 0.005
"""A running engine gives way to its twin when it is so much more worn: the whole spread that run hours alone make."""
SHORTFALL_L_PER_KWH = 5.0
UNSERVED_L_PER_KWH = 50.0
T = TypeVar("T")


def surplus_kw(situation: Situation) -> float:
    """Return by how much sun and river exceed the demand [kW]."""
    return sum(situation.solar_kw.values()) + sum(situation.hydro_kw.values()) + sum(situation.fixed_kw.values()) - situation.demand_kw


class Rules:
    """Rule policies for one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._inverters = site.of(Inverter)
        self._rivers = frozenset(h.id for h in site.of(Hydro))
        self._pairs = [(i, b) for i in site.of(Inverter) if (b := site.battery_behind(i.id)) is not None]
        self.outlooks = Outlooks(site)
        least = max((d.min_loading for d in self._diesels.values()), default=0.0)
        steps = max(0, int((site.rules.cycle_loading - least) / CYCLE_STEP - 1e-9))
        self._loadings = (*(site.rules.cycle_loading - k * CYCLE_STEP for k in range(steps + 1)), None)
        ids = sorted(self._diesels, key=lambda d: self._diesels[d].rated_kw)
        self._sets = [frozenset(c) for n in range(1, len(ids) + 1) for c in combinations(ids, n)]
        self._sets.sort(key=lambda s: (sum(self._diesels[d].rated_kw for d in s), len(s), sorted(s)))

    def target(
        self,
        policy: str,
        outlook: Outlook,
        usable: Collection[str],
        on: Collection[str],
        diesel_wanted: bool,
        wear: Mapping[str, float] = NOTHING,
        must: frozenset[str] = frozenset(),
    ) -> tuple[Target, bool]:
        """Return what a policy wants now, and its hysteresis: whether it calls for a diesel.

        Parameters
        ----------
        policy : str
            `load-following | cycle-charging | diesel-only`.
        outlook : Outlook
            The situation; of its supply SoC, limits and what else is on line are used.
        usable : Collection[str]
            Diesels that can run.
        on : Collection[str]
            Diesels that run now: kept in a tie, so that sets do not swap for nothing.
        diesel_wanted : bool
            What this returned last time.
        wear : Mapping[str, float]
            By how much each diesel is to be spared, as a share of its price (`ems.rotation`).
        must : frozenset[str]
            Diesels that run and may not leave now: a cheaper set is no reason to start another beside them.
        """
        supply = outlook.supply
        if policy != "diesel-only" and self._battery_can(outlook.situation, supply, diesel_wanted or bool(on), policy):
            alone = Target(frozenset(), NOTHING, policy)
            if outlook.prospect((), alone).short_kw <= 0.0:
                return alone, False
        charging = policy == "cycle-charging" and self._below(supply, self._site.rules.cycle_stop_soc)
        plain = Target(frozenset(), NOTHING, policy)
        best, best_price = plain, float("inf")
        for loading in self._loadings if charging else (None,):
            target = replace(plain, loading=loading)
            chosen, price = self._cheapest(outlook, target, must.union(usable), on, wear, must)
            if price < best_price - 1e-9:
                best, best_price = replace(target, on=chosen), price
            if outlook.prospect(chosen, target).short_kw <= 0.0:
                break  # the hardest charge that leaves the reserve whole
        return best, True

    def _cheapest(
        self, outlook: Outlook, target: Target, may: frozenset[str], on: Collection[str], wear: Mapping[str, float], must: frozenset[str]
    ) -> tuple[frozenset[str], float]:
        """Return the set of diesels with the lowest price under a target, and that price."""
        best, best_price = frozenset[str](), float("inf")
        for candidate in self._sets:
            if not must <= candidate or not candidate <= may:
                continue
            rotated = self._rotated(candidate, on, wear)
            # A change of twins once a day or more is worth its start: neither the litres nor the margin of a start count.
            price = self.price(candidate, outlook, target, candidate if rotated else on)
            price *= 1.0 + sum(wear.get(d, 0.0) for d in candidate) / len(candidate)
            if on and not candidate <= frozenset(on) and not rotated:
                price *= WORTH_A_START
            if price < best_price - 1e-9:
                best, best_price = candidate, price
        return best, best_price

    def _rotated(self, candidate: Collection[str], on: Collection[str], wear: Mapping[str, float]) -> bool:
        """Whether a set differs from the running one by a fresher engine of the same size in place of one that is due to rest."""
        leaving, coming = set(on) - set(candidate), set(candidate) - set(on)
        if len(leaving) != 1 or len(coming) != 1:
            return False
        (old,), (new,) = leaving, coming
        return self._diesels[old].rated_kw == self._diesels[new].rated_kw and wear.get(old, 0.0) - wear.get(new, 0.0) >= ROTATE_WEAR

    def price(self, candidate: Collection[str], outlook: Outlook, target: Target, on: Collection[str]) -> float:
        """Return litres per hour of a set, with reserve shortfall and unserved load priced far above fuel."""
        prospect = outlook.prospect(candidate, target)
        shares = prospect.shares
        litres = sum(fuel_l_per_h(self._diesels[d].fuel, shares.power_kw[d]) for d in candidate)
        starts = sum(self._diesels[d].start_l for d in candidate if d not in on)
        low = 0.5 * shares.low_load_kw
        return litres + starts + low + SHORTFALL_L_PER_KWH * prospect.reserve.short_kw + UNSERVED_L_PER_KWH * shares.short_kw

    def _battery_can(self, situation: Situation, supply: Supply, diesel_on: bool, policy: str) -> bool:
        """Whether the battery may carry the island alone: a former with enough charge, with hysteresis."""
        if not any(i.forming != "never" and i.id in situation.inverters for i in self._inverters):
            return self._hydro_can(supply)
        rules = self._site.rules
        stop = rules.cycle_stop_soc if policy == "cycle-charging" else rules.diesel_stop_soc
        if surplus_kw(situation) > 0.0:
            stop = min(stop, rules.diesel_start_soc + SUN_MARGIN)
        return not self._below(supply, stop if diesel_on else rules.diesel_start_soc)

    def _hydro_can(self, supply: Supply) -> bool:
        return any(h.forming != "never" and h.id in supply.online for h in self._site.of(Hydro))

    def _below(self, supply: Supply, soc: float) -> bool:
        """Whether stored energy is below this share of the whole; an unknown SoC is."""
        known = [(b, supply.soc.get(b.id)) for _, b in self._pairs]
        if not known or any(s is None for _, s in known):
            return True
        stored = sum(b.capacity_kwh * (s or 0.0) for b, s in known)
        return stored < soc * sum(b.capacity_kwh for b, _ in known)

    def rollout(self, start: PlantStart, forecast: Forecast, policy: str, plan_id: str, at: datetime, limits: Mapping[str, Limits] = NOTHING) -> Plan:
        """Return the plan that a policy would live through under a forecast, on `ems.physics` alone.

        Used beside every optimised plan: what burns more or serves less than this is not used.
        """
        return whole(self.rolling(start, forecast, policy, plan_id, at, limits))

    def rolling(
        self, start: PlantStart, forecast: Forecast, policy: str, plan_id: str, at: datetime, limits: Mapping[str, Limits] = NOTHING
    ) -> Generator[None, None, Plan]:
        """Live through the same step by step, so that a cycle can do a part of it."""
        roll = _Roll(self, self._site, start)
        for k, (begin, step_s) in enumerate(zip(forecast.grid.starts(), forecast.grid.step_s, strict=True)):
            roll.limit({a: limit for a, limit in limits.items() if limit.holds(begin)})
            solar = {s: values[k] for s, values in forecast.available_kw.items()}
            inflow = {h: values[k] for h, values in forecast.inflow_m3s.items()}
            roll.step(policy, step_s, forecast.load_kw[k], solar, inflow)
            yield
        return roll.plan(plan_id, at, at + timedelta(seconds=2 * self._site.planner.replan_s), policy, forecast)


class _Roll:
    """The state of one roll-out: SoC and running diesels, and what has been written down."""

    def __init__(self, rules: Rules, site: Site, start: PlantStart) -> None:
        self._rules, self._site, self._start = rules, site, start
        self._pairs = [(i, b) for i in site.of(Inverter) if (b := site.battery_behind(i.id)) is not None]
        self._running = frozenset(d for d, s in start.diesels.items() if s.on)
        up_s = {d.id: d.min_up_s for d in site.of(Diesel)}
        self._stay_s = {d: max(up_s[d] - s.since_s, s.burn_s) for d, s in start.diesels.items() if s.on and d in up_s}
        self._elapsed_s = 0.0
        self._held: frozenset[str] | None = None
        self._rivers = site.of(Hydro)
        self._soc = {b.id: start.soc[b.id] for _, b in self._pairs if b.id in start.soc}
        self._wanted = bool(self._running)
        self.power: dict[str, list[float]] = {a.id: [] for a in (*site.of(Solar), *site.of(Hydro), *site.of(Diesel))}
        self.power.update({i.id: [] for i, _ in self._pairs})
        self.on: dict[str, list[bool]] = {d.id: [] for d in site.of(Diesel)}
        self.soc: dict[str, list[float]] = {b: [s] for b, s in self._soc.items()}
        self.unserved: list[float] = []
        self.limit(NOTHING)

    def limit(self, limits: Mapping[str, Limits]) -> None:
        """Let these limits of the operator hold from now on."""
        self._limits = limits
        self._usable = [d for d, s in self._start.diesels.items() if s.usable and self._serves(d)]
        self._bounds = {u.id: limited(rating(u), u, limits) for u in self._site.assets if isinstance(u, Solar | Hydro | Diesel)}

    def plan(self, plan_id: str, at: datetime, until: datetime, source: str, forecast: Forecast) -> Plan:
        """Return what has been lived through as a plan."""
        return Plan(
            id=plan_id,
            made_at=at,
            valid_until=until,
            source=source,
            grid=forecast.grid,
            power_kw={u: tuple(v) for u, v in self.power.items()},
            on={d: tuple(v) for d, v in self.on.items()},
            soc={b: tuple(v) for b, v in self.soc.items()},
            load_kw=tuple(forecast.load_kw),
            unserved_kw=tuple(self.unserved),
            available_kw=forecast.available_kw,
        )

    def step(self, policy: str, step_s: float, load_kw: float, solar_kw: Mapping[str, float], inflow_m3s: Mapping[str, float]) -> None:
        """Live through one step under a policy."""
        if self._held is None:  # who is out of service in the first step is bound by nothing that was
            self._held = frozenset(d for d, s in self._start.diesels.items() if s.held and d in self._usable)
        river = {h.id: hydro_kw(h, inflow_m3s.get(h.id, 0.0) - h.ecological_flow_m3s) for h in self._rivers}
        situation, supply = self._seen(step_s, load_kw, solar_kw, river)
        outlook = self._rules.outlooks.of(situation, supply)
        target, self._wanted = self._rules.target(policy, outlook, self._usable, self._running, self._wanted)
        # What may not stop yet stays in control too (`ems.choice`): a plan is not held against rules that are free of it.
        on = target.on.union(self._held.intersection(self._usable), (d for d, left_s in self._stay_s.items() if left_s > self._elapsed_s and d in self._usable))
        shares = outlook.prospect(on, target).shares
        self._running = on
        self._elapsed_s += step_s
        self._write(shares, on, step_s / 3600.0)

    def _seen(self, step_s: float, load_kw: float, solar_kw: Mapping[str, float], water_kw: Mapping[str, float]) -> tuple[Situation, Supply]:
        site, hours = self._site, step_s / 3600.0
        bounds = dict(self._bounds)
        for inverter, battery in self._pairs:
            bounds[inverter.id] = self._storage_bound(inverter, battery, hours)
        for h in self._rivers:
            asked = limits.min_kw if (limits := self._limits.get(h.id)) is not None else None
            if asked is not None:  # as far as the river gives it
                bounds[h.id] = bounds[h.id].narrowed(min(asked, water_kw[h.id]), float("inf"), "operator_limit")
        situation = Situation(
            demand_kw=load_kw + site.station_kw,
            solar_kw={s: bounds[s].clip(p) if self._serves(s) else 0.0 for s, p in solar_kw.items()},
            # Less than its minimum does not turn a turbine.
            hydro_kw={h.id: p if (p := water_kw[h.id]) >= h.min_kw and self._serves(h.id) else 0.0 for h in self._rivers},
            fixed_kw=NOTHING,
            bounds=bounds,
            inverters=tuple(i.id for i, _ in self._pairs),
            unloading=NOTHING,
        )
        running = frozenset((*(i.id for i, b in self._pairs if self._stores(i, b)), *(h for h, p in situation.hydro_kw.items() if p > 0)))
        return situation, Supply(NOTHING, running, dict(self._soc), limits=self._limits)

    def _storage_bound(self, inverter: Inverter, battery: Battery, hours: float) -> Bound:
        if not self._stores(inverter, battery):
            return Bound(-inverter.no_load_kw, -inverter.no_load_kw, "out_of_service", "out_of_service")
        soc, limits = self._soc[battery.id], self._limits.get(battery.id)
        floor, top = floor_soc(battery, limits), ceiling_soc(battery, limits)
        lo = ac_kw(inverter, -charge_room_kw(battery, soc, top, hours))
        hi = ac_kw(inverter, discharge_room_kw(battery, soc, floor, hours))
        given = self._limits.get(inverter.id)
        most = ceiling_kw(inverter.rated_kw, given)
        return rating(inverter).narrowed(lowest_kw(inverter, given), most, "operator_limit").narrowed(lo, hi, "soc")

    def _stores(self, inverter: Inverter, battery: Battery) -> bool:
        """Whether an inverter may draw on its battery: both serve, and it is known what is in it."""
        return battery.id in self._soc and self._serves(inverter.id) and self._serves(battery.id)

    def _serves(self, asset: str) -> bool:
        """Whether an asset is there to be used: neither known as away nor taken out of service."""
        limits = self._limits.get(asset)
        return self._start.usable.get(asset, True) and not (limits is not None and limits.out_of_service)

    def _write(self, shares: Shares, on: Collection[str], hours: float) -> None:
        for unit, column in self.power.items():
            column.append(shares.power_kw.get(unit, 0.0))
        for diesel, flags in self.on.items():
            flags.append(diesel in on)
        for inverter, battery in self._pairs:
            if battery.id not in self._soc:
                continue
            soc = storage_step(battery, self._soc[battery.id], dc_kw(inverter, shares.power_kw[inverter.id]), hours)
            self._soc[battery.id] = soc
            self.soc[battery.id].append(soc)
        self.unserved.append(shares.short_kw)


def limited(bound: Bound, unit: Solar | Hydro | Diesel, limits: Mapping[str, Limits]) -> Bound:
    """Return a bound narrowed by an operator's limits for this unit; a least power is asked of a diesel that runs."""
    limit = limits.get(unit.id)
    if limit is None:
        return bound
    top = ceiling_kw(bound.hi_kw, limit)
    least = limit.min_kw if isinstance(unit, Diesel) else None
    return bound.narrowed(-float("inf") if least is None else min(least, top), top, "operator_limit")


def whole(parts: Generator[None, None, T]) -> T:
    """Do all parts of a piece of work at once."""
    while True:
        try:
            next(parts)
        except StopIteration as done:
            return cast(T, done.value)
