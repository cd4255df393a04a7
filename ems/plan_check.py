"""No plan is trusted: everything is recomputed from the plan alone, and priced against the rules.

Shares nothing with the optimiser but the physics and the hold time of reserve. A solver at its time limit can return numbers that break every
constraint, all zeros included; what fails here is not used, whatever its status said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ems.config.site import Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar
from ems.model import NOTHING, Limits
from ems.physics import best_slope_l_per_kwh, dc_kw, fuel_l_per_h, kwh_per_m3, storage_step
from ems.plan import Forecast, Plan, PlantStart
from ems.reserve import ReserveRule, Supply, storages
from ems.rules import Rules

SHARE = 2e-3
"""Numbers of a plan may be off by this share of the largest power or of a capacity: what a solver's tolerances allow."""
DEARER = 1.05
"""A plan that costs this many times what the rules would is a fault of the solver, not a plan."""
DEARER_L = 5.0
UNSERVED_L_PER_KWH = 50.0
SHORTFALL_L_PER_KWH = 5.0
"""Prices in litre-equivalents, far above fuel: unserved load outweighs short reserve, and that outweighs any saving."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a plan costs: litres with starts, less the litres that its stored energy is worth at the end; and what it leaves unserved."""

    litres: float
    unserved_kwh: float


class PlanCheck:
    """Checks plans of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._diesels = site.of(Diesel)
        self._pairs = storages(site)
        self._sources = [a.id for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter)]
        self._hydros = site.of(Hydro)
        self._station_kw = sum(load.station_kw for load in site.of(Load))
        self._tolerance_kw = max(1.0, SHARE * site.peak_kw)
        self._reserve = ReserveRule(site)
        self._rules = Rules(site)
        self._slope = best_slope_l_per_kwh(self._diesels)

    def faults(self, plan: Plan, start: PlantStart, forecast: Forecast, limits: Mapping[str, Limits] = NOTHING) -> list[str]:
        """Return what is wrong with a plan, in words; an empty list if it may be used.

        Parameters
        ----------
        plan : Plan
        start : PlantStart
            The true state from which it was asked for.
        forecast : Forecast
            What it was made for; it is range-checked first.
        limits : Mapping[str, Limits]
        """
        shape = [*self._forecast_faults(forecast), *self._shape_faults(plan, forecast)]
        if shape:
            return shape
        found = [
            *self._power_faults(plan, start, forecast, limits),
            *self._balance_faults(plan, forecast),
            *self._storage_faults(plan, start),
            *self._former_faults(plan),
            *self._sequence_faults(plan, start),
        ]
        return found or self._price_faults(plan, start, forecast, limits)

    def price(self, plan: Plan) -> Price:
        """Return what a plan costs by fuel curves, starts and reserve shortfall, whoever made it."""
        litres = unserved = 0.0
        for k, step_s in enumerate(plan.grid.step_s):
            hours = step_s / 3600.0
            for d in self._diesels:
                if plan.on[d.id][k]:
                    litres += fuel_l_per_h(d.fuel, plan.power_kw[d.id][k]) * hours
                    litres += d.start_l if k > 0 and not plan.on[d.id][k - 1] else 0.0
            reserve = self._reserve.assess(self._supply(plan, k), plan.load_kw[k])
            litres += SHORTFALL_L_PER_KWH * reserve.short_kw * hours
            unserved += plan.unserved_kw[k] * hours
        stored = sum(plan.soc[p.battery.id][-1] * p.battery.capacity_kwh * p.battery.discharge_efficiency * p.inverter.efficiency for p in self._pairs)
        filled = sum((plan.pond_m3[h.id][-1] - plan.pond_m3[h.id][0]) * kwh_per_m3(h) for h in self._hydros if h.id in plan.pond_m3)
        return Price(litres + UNSERVED_L_PER_KWH * unserved - (stored + filled) * self._slope, unserved)

    def _supply(self, plan: Plan, k: int) -> Supply:
        powers = {a: plan.power_kw[a][k] for a in self._sources if a in plan.power_kw}
        online = [d.id for d in self._diesels if plan.on[d.id][k]]
        online += [p.inverter.id for p in self._pairs]
        online += [h.id for h in self._site.of(Hydro) if powers.get(h.id, 0.0) > 0.0]
        # Energy that reserve draws on must be there at both ends of the step.
        soc = {p.battery.id: min(plan.soc[p.battery.id][k : k + 2]) for p in self._pairs}
        return Supply(powers, online, soc)

    def _forecast_faults(self, forecast: Forecast) -> Iterator[str]:
        most = 3.0 * self._site.peak_kw
        for name, values, top in (
            ("load", forecast.load_kw, most),
            *((s.id, forecast.available_kw.get(s.id, ()), 1.3 * s.rated_kw) for s in self._site.of(Solar)),
            *((h.id, forecast.inflow_m3s.get(h.id, ()), math.inf) for h in self._site.of(Hydro)),
        ):
            if len(values) != forecast.grid.n_steps:
                yield f"the forecast of {name} has {len(values)} of {forecast.grid.n_steps} steps"
            elif not all(math.isfinite(v) and -1e-6 <= v <= top for v in values):
                yield f"the forecast of {name} is out of range"

    def _shape_faults(self, plan: Plan, forecast: Forecast) -> Iterator[str]:
        n = plan.grid.n_steps
        if plan.grid != forecast.grid:
            yield "plan and forecast are on different grids"
        if plan.valid_until > plan.grid.end:
            yield "it claims to be valid beyond its horizon"
        columns: dict[str, tuple[Sequence[float], int]] = {a: (plan.power_kw.get(a, ()), n) for a in self._sources if self._planned(a)}
        columns.update({f"{d.id} on": (plan.on.get(d.id, ()), n) for d in self._diesels})
        columns.update({f"{p.battery.id} soc": (plan.soc.get(p.battery.id, ()), n + 1) for p in self._pairs})
        columns.update({d.id: (plan.power_kw.get(d.id, ()), n) for d in self._site.of(Deferrable)})
        columns.update(load=(plan.load_kw, n), unserved=(plan.unserved_kw, n))
        for name, (values, length) in columns.items():
            if len(values) != length:
                yield f"{name} has {len(values)} values instead of {length}"
            elif not all(math.isfinite(v) for v in values):
                yield f"{name} holds a number that is not finite"

    def _planned(self, asset: str) -> bool:
        """Whether a plan must speak of a source: an inverter without a battery does nothing."""
        return asset in {p.inverter.id for p in self._pairs} or not any(i.id == asset for i in self._site.of(Inverter))

    def _power_faults(self, plan: Plan, start: PlantStart, forecast: Forecast, limits: Mapping[str, Limits]) -> Iterator[str]:
        slack = self._tolerance_kw
        for s in self._site.of(Solar):
            yield from self._outside(plan, s.id, [(0.0, min(v, self._most(s.id, s.rated_kw, limits))) for v in forecast.available_kw[s.id]])
        for h in self._site.of(Hydro):
            yield from self._outside(plan, h.id, [(0.0, h.rated_kw)] * plan.grid.n_steps)
        for p in self._pairs:
            yield from self._outside(plan, p.inverter.id, [(-p.inverter.rated_kw, p.inverter.rated_kw)] * plan.grid.n_steps)
        for x in self._site.of(Deferrable):
            yield from self._outside(plan, x.id, [(0.0, x.rated_kw)] * plan.grid.n_steps)
        for d in self._diesels:
            first = start.diesels.get(d.id)
            if first is not None and not first.usable and any(plan.on[d.id]):
                yield f"{d.id} cannot run and is planned to"
            for k, on in enumerate(plan.on[d.id]):
                power = plan.power_kw[d.id][k]
                low, high = (d.min_loading * d.rated_kw, d.rated_kw) if on else (0.0, 0.0)
                if not low - slack <= power <= high + slack:
                    yield f"{d.id} at {power:.0f} kW in step {k}, allowed {low:.0f} to {high:.0f} kW"
                    break

    def _most(self, asset: str, rated_kw: float, limits: Mapping[str, Limits]) -> float:
        limit = limits.get(asset)
        return rated_kw if limit is None or limit.max_kw is None else min(rated_kw, limit.max_kw)

    def _outside(self, plan: Plan, asset: str, bounds: Sequence[tuple[float, float]]) -> Iterator[str]:
        for k, (power, (low, high)) in enumerate(zip(plan.power_kw[asset], bounds, strict=True)):
            if not low - self._tolerance_kw <= power <= high + self._tolerance_kw:
                yield f"{asset} at {power:.0f} kW in step {k}, allowed {low:.0f} to {high:.0f} kW"
                return

    def _balance_faults(self, plan: Plan, forecast: Forecast) -> Iterator[str]:
        deferrables = [d.id for d in self._site.of(Deferrable)]
        for k in range(plan.grid.n_steps):
            asked = forecast.load_kw[k] + sum(plan.power_kw[d][k] for d in deferrables)
            given = sum(plan.power_kw[a][k] for a in self._sources if a in plan.power_kw)
            gap = given + plan.unserved_kw[k] - asked - self._station_kw
            if abs(gap) > self._tolerance_kw or plan.unserved_kw[k] < -self._tolerance_kw or abs(plan.load_kw[k] - asked) > self._tolerance_kw:
                yield f"the balance of step {k} is off by {gap:.1f} kW"
                return

    def _storage_faults(self, plan: Plan, start: PlantStart) -> Iterator[str]:
        for pair in self._pairs:
            battery, soc = pair.battery, plan.soc[pair.battery.id]
            begun = start.soc.get(battery.id)
            if begun is None or abs(soc[0] - begun) > SHARE:
                yield f"{battery.id} does not start from its true charge"
                continue
            low, high = min(battery.soc_min, begun) - SHARE, max(battery.soc_max, begun) + SHARE
            for k, step_s in enumerate(plan.grid.step_s):
                expected = storage_step(battery, soc[k], dc_kw(pair.inverter, plan.power_kw[pair.inverter.id][k]), step_s / 3600.0)
                if abs(expected - soc[k + 1]) > SHARE:
                    yield f"{battery.id} goes to {soc[k + 1]:.3f} in step {k} where its power leads to {expected:.3f}"
                    break
                if not low <= soc[k + 1] <= high:
                    yield f"{battery.id} at {soc[k + 1]:.3f} in step {k}, allowed {low:.3f} to {high:.3f}"
                    break

    def _former_faults(self, plan: Plan) -> Iterator[str]:
        for k in range(plan.grid.n_steps):
            if not self._reserve.formers(self._supply(plan, k)) and plan.unserved_kw[k] < 0.99 * plan.load_kw[k]:
                yield f"nobody holds the bus in step {k}"
                return

    def _sequence_faults(self, plan: Plan, start: PlantStart) -> Iterator[str]:
        """Minimum up and down times; the first run counts what it has behind it, rounded by the grid's first step."""
        for d in self._diesels:
            first = start.diesels.get(d.id)
            if first is None:
                continue
            if first.frozen and not plan.on[d.id][0]:
                yield f"{d.id} is starting and is planned off"
            on, since = first.on, first.since_s + plan.grid.step_s[0]
            for k, (flag, step_s) in enumerate(zip(plan.on[d.id], plan.grid.step_s, strict=True)):
                if flag is not on:
                    least = d.min_up_s if on else d.min_down_s
                    if since < least - 1.0:
                        yield f"{d.id} {'stops' if on else 'starts'} in step {k} after {since:.0f} s, minimum {least:.0f} s"
                        break
                    on, since = flag, 0.0
                since += step_s

    def _price_faults(self, plan: Plan, start: PlantStart, forecast: Forecast, limits: Mapping[str, Limits]) -> list[str]:
        # The rules serve the same deferrables at the same time, so that the two are alike but for how they are supplied.
        alike = replace(forecast, load_kw=plan.load_kw)
        rules = self._rules.rollout(start, alike, self._site.rules.policy, plan.id, plan.made_at, limits)
        ours, theirs = self.price(plan), self.price(rules)
        slack_kwh = self._tolerance_kw * sum(plan.grid.step_s) / 3600.0 * 0.05
        if ours.unserved_kwh > theirs.unserved_kwh + slack_kwh:
            return [f"it leaves {ours.unserved_kwh:.1f} kWh unserved where the rules leave {theirs.unserved_kwh:.1f}"]
        if ours.litres > theirs.litres + (DEARER - 1.0) * abs(theirs.litres) + DEARER_L:
            return [f"it costs {ours.litres:.0f} litres where the rules cost {theirs.litres:.0f}"]
        return []
