"""One plan before its check: the plan, what it was made from, and which limits hold in which step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeGuard

from ems.config.site import Battery, Diesel, Hydro, Inverter, Site, Solar
from ems.model import Limits
from ems.physics import ac_kw, charge_room_kw, river_kw
from ems.plan import Forecast, Plan, PlantStart
from ems.reserve import DOWN_HOLD_S, Supply, ceiling_kw, ceiling_soc, hold_s, largest_feeder, storages

SHARE = 2e-3
"""Numbers of a plan may be off by this share of the largest power or of a capacity: what a solver's tolerances allow."""
LEAST_KW = 1.0
"""And by so much at any site [kW]: meters are no better."""


@dataclass(frozen=True, slots=True)
class Case:
    """A plan with everything that it is judged by.

    Attributes
    ----------
    slack_kw : float
        Powers may be off by this [kW].
    starts : tuple[datetime, ...]
        Begin of every step of the plan [UTC].
    """

    site: Site
    plan: Plan
    start: PlantStart
    forecast: Forecast
    limits: Mapping[str, Limits]
    slack_kw: float
    starts: tuple[datetime, ...]

    def limit(self, asset: str, k: int) -> Limits | None:
        """Return what an operator has set for an asset as far as it still holds in step k."""
        found = self.limits.get(asset)
        return found if found is not None and found.holds(self.starts[k]) else None

    def in_service(self, asset: str, k: int) -> bool:
        """Whether an asset may be used in step k."""
        found = self.limit(asset, k)
        return self.start.usable.get(asset, True) and not (found is not None and found.out_of_service)

    def top_kw(self, unit: Solar | Hydro | Diesel | Inverter, k: int) -> float:
        """Return the highest power that rating, operator and service allow in step k [kW]."""
        rated = unit.rated_kw if isinstance(unit, Hydro) else min(unit.rated_kw, unit.rated_kva)
        return max(0.0, ceiling_kw(rated, self.limit(unit.id, k))) if self.in_service(unit.id, k) else 0.0

    def taken_kw(self, solar: Solar, k: int) -> float:
        """Return what of the sun must be taken in step k because nobody can curtail it [kW]."""
        limit = self.limit(solar.id, k)
        return 0.0 if limit is None or limit.min_kw is None else min(limit.min_kw, self.forecast.available_kw[solar.id][k], self.top_kw(solar, k))

    def asked_kw(self, hydro: Hydro, k: int) -> float:
        """Return what an operator wants of a turbine in step k at least [kW]: no more than the river alone gives."""
        limit = self.limit(hydro.id, k)
        if limit is None or limit.min_kw is None:
            return 0.0
        return min(limit.min_kw, river_kw(hydro, self.forecast.inflow_m3s[hydro.id][k]), self.top_kw(hydro, k))

    def floor_kw(self, hydro: Hydro, k: int) -> float:
        """Return the least that a turbine gives while it turns in step k [kW]."""
        return max(min(hydro.min_kw, self.top_kw(hydro, k)), self.asked_kw(hydro, k))

    def usable(self, inverter: Inverter, battery: Battery, k: int) -> bool:
        """Whether an inverter may draw on its battery in step k: both in service, and its charge known at the start."""
        return battery.id in self.start.soc and self.in_service(inverter.id, k) and self.in_service(battery.id, k)

    def dark(self, k: int) -> bool:
        """Whether the busbar is dead in step k, so that nothing can feed it."""
        return self.plan.unserved_kw[k] >= 0.99 * self.plan.load_kw[k]

    def inverter_kw(self, inverter: Inverter, battery: Battery, k: int) -> tuple[float, float]:
        """Return the range of an inverter's busbar power in step k [kW]; where it may not be used only its own use is left."""
        if not self.usable(inverter, battery, k):
            return -inverter.no_load_kw, 0.0
        limit, top = self.limit(inverter.id, k), self.top_kw(inverter, k)
        low = -top if limit is None or limit.min_kw is None else min(0.0, max(-top, limit.min_kw))
        return min(low, -inverter.no_load_kw), top

    def supply(self, k: int, soc: Mapping[str, float] | None = None) -> Supply:
        """Return who feeds the busbar in step k, as control would see it then (`ems.supply`).

        Parameters
        ----------
        k : int
        soc : Mapping[str, float] | None
            Charge to count with; None takes what the plan has: energy that reserve draws on must be there at both ends of the step.
        """
        plan, site, pairs = self.plan, self.site, storages(self.site)
        powers = {a.id: plan.power_kw[a.id][k] for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter) and a.id in plan.power_kw}
        online = [d.id for d in site.of(Diesel) if plan.on[d.id][k]]
        online += [p.inverter.id for p in pairs if self.usable(p.inverter, p.battery, k)]
        online += [h.id for h in site.of(Hydro) if powers.get(h.id, 0.0) > 0.0]
        charge = soc if soc is not None else {b: min(path[k : k + 2]) for b, path in plan.soc.items()}
        # So must room to charge, but for the very beginning: there it is what it is.
        spread = {b: max(0.0, *(s - least for s in plan.soc[b][max(k, 1) : k + 2])) for b, least in charge.items() if b in plan.soc}
        limits = {a: limit for a in self.limits if (limit := self.limit(a, k)) is not None}
        learned_kw = plan.error_up_kw[k] if plan.error_up_kw else 0.0
        return Supply(powers, online, charge, limits=limits, hold_s=self._hold_s(k), learned_kw=learned_kw, soc_spread=spread)

    def _hold_s(self, k: int) -> float | None:
        """Return how long reserve must last for the diesels that can be started beside those that run in step k [s]; None leaves the site's own figure."""
        diesels, states = self.site.of(Diesel), self.start.diesels
        able = [d.id for d in diesels if not self.plan.on[d.id][k] and (s := states.get(d.id)) is not None and s.usable and self.in_service(d.id, k)]
        return hold_s(self.site, able) if able and len(able) < len(diesels) else None

    def gives_way(self, k: int) -> bool:
        """Whether sun, river or a battery could still have made room in step k, so that no set had to run below its minimum."""
        plan, hours = self.plan, self.plan.grid.step_s[k] / 3600.0
        room = 0.0
        for inverter in self.site.of(Inverter):
            battery = self.site.battery_behind(inverter.id)
            if battery is None or not self.usable(inverter, battery, k):
                continue
            low, _ = self.inverter_kw(inverter, battery, k)
            full = ceiling_soc(battery, self.limit(battery.id, k))
            lowest = max(low, ac_kw(inverter, -charge_room_kw(battery, plan.soc[battery.id][k], full, hours)))
            room += max(0.0, plan.power_kw[inverter.id][k] - lowest)
        left = sum(max(0.0, plan.power_kw[s.id][k] - self.taken_kw(s, k)) for s in self.site.of(Solar))
        left += sum(max(0.0, plan.power_kw[h.id][k] - self.floor_kw(h, k)) for h in self.site.of(Hydro) if h.mode == "power")
        return left + max(0.0, room - self._kept_kw(k)) > 2.0 * self.slack_kw

    def _kept_kw(self, k: int) -> float:
        """Return what may be left uncharged in step k so that a lost feeder, and what the sets are under their minimum, finds room for `DOWN_HOLD_S` [kW]."""
        plan, site = self.plan, self.site
        feeder = largest_feeder(site) * plan.load_kw[k]
        under = sum(d.min_kw - plan.power_kw[d.id][k] for d in site.of(Diesel) if plan.on[d.id][k])
        charged = sum(max(0.0, -plan.power_kw[i.id][k]) for i in site.of(Inverter))
        return (feeder + max(0.0, under) + charged) * min(1.0, DOWN_HOLD_S / plan.grid.step_s[k])


def case_of(site: Site, plan: Plan, start: PlantStart, forecast: Forecast, limits: Mapping[str, Limits]) -> Case:
    """Return a plan with what it is judged by."""
    return Case(site, plan, start, forecast, limits, max(LEAST_KW, SHARE * site.peak_kw), tuple(plan.grid.starts()))


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number at all."""
    return value is not None and math.isfinite(value)
