"""No plan is trusted: everything is recomputed from the plan alone, and compared with what the rules would do.

Shares nothing with the optimiser but the physics and the hold time of reserve. A solver at its time limit can return numbers that break every
constraint, all zeros included; what fails here is not used, whatever its status said. Form first (`plan_form`), then units (`plan_units`),
stores (`plan_stores`) and the busbar, at last the rules.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from ems.config.site import Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar, Tank
from ems.model import NOTHING, Limits
from ems.physics import best_slope_l_per_kwh, kwh_per_m3
from ems.plan import Forecast, Plan, PlantStart
from ems.plan_case import Case, case_of
from ems.plan_form import form_faults
from ems.plan_stores import TANK_L, beyond_tank_l, planned_l, store_faults, unfuelled_kw
from ems.plan_units import unit_faults
from ems.plan_unmet import unlisted
from ems.reserve import ReserveRule, storages
from ems.rules import Rules, whole
from ems.tiers import dark_l_per_h, tier_shares

DEARER = 1.05
"""A plan that costs this many times what the rules would is a fault of the solver, not a plan."""
DEARER_L = 5.0
SHORTFALL_L_PER_KWH = 5.0
"""In litre-equivalents, far above fuel: unserved load (`ems.tiers`) outweighs short reserve, and that outweighs any saving."""
AT_ONCE = 64
"""So many sharings of the roll-out are worked out in one part, about 0.1 ms each: each step has one for every set of diesels."""
WORSE = 0.02
"""By this share of the load's energy reserve (of the reactive energy, kVA) may be shorter than with the rules: they look at one step, a plan at a day."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a plan costs, and what it does not meet.

    Attributes
    ----------
    litres : float
        Litres with starts and what starts and hours wear, less those that its stored energy is worth at the end; unserved load and short reserve priced in.
    unserved_kwh : float
        With what diesels give out of fuel that a tank does not hold.
    short_kwh : float
        Reserve that is missing, power times time.
    dark_l : float
        What the unserved load is worth: a hospital is not a lamp.
    """

    litres: float
    unserved_kwh: float
    short_kwh: float = 0.0
    dark_l: float = 0.0


class PlanCheck:
    """Checks plans of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._diesels = site.of(Diesel)
        self._inverters = site.of(Inverter)
        self._pairs = storages(site)
        self._sources = [a.id for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter)]
        self._hydros = site.of(Hydro)
        self._kva = {d.id: d.rated_kva for d in self._diesels} | {i.id: i.rated_kva for i in self._inverters}
        self._tan_phi = sum(load.peak_kw * math.tan(math.acos(load.power_factor)) for load in site.of(Load)) / site.peak_kw
        self._tiers = tier_shares(site)
        self._reserve = ReserveRule(site)
        self._rules = Rules(site)
        self._steps_at_once = max(1, AT_ONCE >> len(self._diesels))
        self._slope = best_slope_l_per_kwh(self._diesels)

    def faults(self, plan: Plan, start: PlantStart, forecast: Forecast, limits: Mapping[str, Limits] = NOTHING, at: datetime | None = None) -> list[str]:
        """Return what is wrong with a plan, in words; an empty list if it may be used.

        Parameters
        ----------
        plan : Plan
        start : PlantStart
            The true state from which it was asked for.
        forecast : Forecast
            What it was made for; it is range-checked first.
        limits : Mapping[str, Limits]
        at : datetime | None
            Now, where that is known: a plan from the future is none.
        """
        return whole(self.looking(plan, start, forecast, limits, at))

    def looking(
        self, plan: Plan, start: PlantStart, forecast: Forecast, limits: Mapping[str, Limits] = NOTHING, at: datetime | None = None
    ) -> Generator[None, None, list[str]]:
        """Find the same part by part, a few milliseconds each: the roll-out of the rules is too long for one cycle."""
        found = self.broken(plan, start, forecast, limits, at)
        if found:
            return found
        yield
        return (yield from self._comparison_faults(case_of(self._site, plan, start, forecast, limits)))

    def broken(self, plan: Plan, start: PlantStart, forecast: Forecast, limits: Mapping[str, Limits] = NOTHING, at: datetime | None = None) -> list[str]:
        """Return what of it cannot be, as `faults` does, without the comparison with the rules: where something better is at hand anyway."""
        form = list(form_faults(self._site, plan, start, forecast, limits, at))
        if form:
            return form
        case = case_of(self._site, plan, start, forecast, limits)
        return [*unit_faults(case), *store_faults(case), *self._bus_faults(case), *unlisted(case)]

    def price(self, case: Case) -> Price:
        """Return what a plan costs by fuel curves, starts and reserve shortfall, whoever made it."""
        plan = case.plan
        unserved = dark_l = short = 0.0
        # Rules know no tank, and a plan may say that it is dry: neither serves anybody with fuel that is not there.
        dry_kw = [unfuelled_kw(case, tank) for tank in self._site.of(Tank)]
        for k, step_s in enumerate(plan.grid.step_s):
            hours = step_s / 3600.0
            short += self._reserve.assess(case.supply(k), plan.load_kw[k]).short_kw * hours
            # No more than the load goes dark: what such sets would have charged is nobody's.
            dark_kw = max(plan.unserved_kw[k], min(plan.load_kw[k], plan.unserved_kw[k] + sum(dry[k] for dry in dry_kw)))
            unserved += dark_kw * hours
            dark_l += dark_l_per_h(dark_kw, plan.load_kw[k], self._tiers) * hours
        held = [p for p in self._pairs if p.battery.id in plan.soc]  # what nobody knows the charge of is worth nothing, to plan and rules alike
        stored = sum(plan.soc[p.battery.id][-1] * p.battery.capacity_kwh * p.battery.discharge_efficiency * p.inverter.efficiency for p in held)
        filled = sum((plan.pond_m3[h.id][-1] - plan.pond_m3[h.id][0]) * kwh_per_m3(h) for h in self._hydros if h.id in plan.pond_m3)
        burnt = self.fuel_l(plan, case.start) + self._worn_l(plan, case.start)
        litres = burnt + SHORTFALL_L_PER_KWH * short + dark_l - (stored + filled) * self._slope
        return Price(litres, unserved, short, dark_l)

    def fuel_l(self, plan: Plan, start: PlantStart, until_s: float = math.inf) -> float:
        """Return what a plan burns, or what in the steps that begin within `until_s` [s], starts included [L]."""
        return planned_l(plan, start, self._diesels, until_s)

    def _worn_l(self, plan: Plan, start: PlantStart) -> float:
        """Return what starts and engine hours wear, as litres: a plan may burn more to spare them."""
        worn = 0.0
        for d in self._diesels:
            flags = (d.id in start.diesels and start.diesels[d.id].on, *plan.on[d.id])
            start_l, hour_l = self._site.worn_l(d, plan.grid.start)
            worn += start_l * sum(on and not before for before, on in zip(flags, flags[1:], strict=False))
            worn += hour_l * sum(s for s, on in zip(plan.grid.step_s, plan.on[d.id], strict=True) if on) / 3600.0
        return worn

    def _bus_faults(self, case: Case) -> Iterator[str]:
        """The balance of every step, and somebody to hold the bus in it."""
        plan, slack = case.plan, case.slack_kw
        deferrables = [d.id for d in self._site.of(Deferrable)]
        for k in range(plan.grid.n_steps):
            asked = case.forecast.load_kw[k] + sum(plan.power_kw[d][k] for d in deferrables)
            if abs(plan.load_kw[k] - asked) > slack:
                yield f"its load of step {k} is {plan.load_kw[k]:.0f} kW where {asked:.0f} kW are forecast"
                break
            given = sum(plan.power_kw[a][k] for a in self._sources if a in plan.power_kw)
            gap = given + plan.unserved_kw[k] - asked - self._site.station_kw
            if abs(gap) > slack:
                yield f"the balance of step {k} is off by {gap:.1f} kW"
                break
            if plan.unserved_kw[k] < -slack:
                yield f"less than nothing is unserved in step {k}"
                break
        for k in range(plan.grid.n_steps):
            able = [f for f in self._reserve.formers(case.supply(k)) if case.in_service(f, k)]
            if not able and not case.dark(k):
                yield f"nobody holds the bus in step {k}"
                return

    def _comparison_faults(self, case: Case) -> Generator[None, None, list[str]]:
        """What it leaves unserved, how short reserve, kVA and fuel are, and what it costs, against the rules in the same hours."""
        plan, start, hours = case.plan, case.start, sum(case.plan.grid.step_s) / 3600.0
        # The rules serve the same deferrables at the same time, so that the two are alike but for how they are supplied.
        alike = replace(case.forecast, load_kw=plan.load_kw)
        rules = yield from in_groups(self._rules.rolling(start, alike, self._site.rules.policy, plan.id, plan.made_at, case.limits), self._steps_at_once)
        # What the forecast has been wrong by is asked of both: it is no fault of a plan to hold reserve for it.
        beside = replace(case, plan=replace(rules, error_up_kw=plan.error_up_kw))
        yield
        ours = self.price(case)
        yield
        theirs = self.price(beside)
        load_kwh = sum(p * s for p, s in zip(plan.load_kw, plan.grid.step_s, strict=True)) / 3600.0
        found = []
        little = case.slack_kw * hours * 0.05
        # Where the rules leave something dark too, it is asked what: a plan that rations fuel sheds more, and keeps the hospital.
        if ours.unserved_kwh > theirs.unserved_kwh + little and (theirs.unserved_kwh <= little or ours.dark_l > theirs.dark_l):
            found.append(f"it leaves {ours.unserved_kwh:.1f} kWh unserved where the rules leave {theirs.unserved_kwh:.1f}")
        if ours.short_kwh > theirs.short_kwh + WORSE * load_kwh + case.slack_kw:
            found.append(f"its reserve is short by {ours.short_kwh:.0f} kWh where that of the rules is short by {theirs.short_kwh:.0f}")
        ours_kvarh, theirs_kvarh = self._kvar_short_h(case), self._kvar_short_h(beside)
        if ours_kvarh > theirs_kvarh + WORSE * load_kwh * self._tan_phi + case.slack_kw:
            found.append(f"reactive power is short by {ours_kvarh:.0f} kvarh where with the rules it is short by {theirs_kvarh:.0f}")
        for tank in self._site.of(Tank):
            dry, enough = (beyond_tank_l(c, tank)[0] for c in (case, beside))
            if dry > DEARER * enough + TANK_L:
                found.append(f"it burns {dry:.0f} L more than {tank.id} holds where the rules burn {enough:.0f} L more")
        if ours.litres > theirs.litres + (DEARER - 1.0) * abs(theirs.litres) + DEARER_L:
            found.append(f"it costs {ours.litres:.0f} litres where the rules cost {theirs.litres:.0f}")
        return found

    def _kvar_short_h(self, case: Case) -> float:
        """Return the reactive energy that the loads need and the units on line cannot give beside their power [kvarh].

        Each gives `sqrt(kva^2 - kw^2)`; loads draw `tan(phi)` of their power, deferrables as the loads do.
        """
        plan, short = case.plan, 0.0
        for k, step_s in enumerate(plan.grid.step_s):
            online = [u for u in case.supply(k).online if u in self._kva]
            left = sum(math.sqrt(max(0.0, self._kva[u] ** 2 - plan.power_kw[u][k] ** 2)) for u in online)
            need = self._tan_phi * max(0.0, plan.load_kw[k] - plan.unserved_kw[k])
            short += max(0.0, need - left) * step_s / 3600.0
        return short


def in_groups(parts: Generator[None, None, Plan], size: int) -> Generator[None, None, Plan]:
    """Yield only after every so many parts."""
    while True:
        for _ in range(size):
            try:
                next(parts)
            except StopIteration as done:
                return cast(Plan, done.value)
        yield
