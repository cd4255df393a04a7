"""What a plan's stores hold from step to step: batteries, ponds and tanks follow from their flows, inside what they can hold.

A plan gives one signed power for each inverter, so charging and discharging at once cannot even be written
down; what it would burn shows as a charge that its power does not lead to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate

from ems.config.site import Diesel, Hydro, Tank
from ems.physics import charge_limit_kw, dc_kw, fuel_l_per_h, hull_flow_m3s, hydro_kw, storage_step
from ems.plan import Plan, PlantStart
from ems.plan_case import SHARE, Case
from ems.reserve import Storage, ceiling_soc, floor_soc, storages

TANK_L = 5.0
TANK_SHARE = 0.01
"""Fuel may be off by this [L] and by this share of what is burnt: a planner's lines lie a little under a bent fuel curve."""


def store_faults(case: Case) -> Iterator[str]:
    """Yield where stores do not follow from their flows or leave what they can hold."""
    for pair in storages(case.site):
        if pair.battery.id in case.start.soc:
            yield from _battery_faults(case, pair)
    for h in case.site.of(Hydro):
        yield from _river_faults(case, h)
    told_l = sum(u.amount for u in case.plan.unmet if u.limit == "fuel")  # of all tanks, so what one lacks does not excuse another
    for tank in case.site.of(Tank):
        dry_l, burnt = beyond_tank_l(case, tank)
        if dry_l > told_l + TANK_L + TANK_SHARE * burnt:
            yield f"it burns {dry_l:.0f} L more than {tank.id} holds and says so of {told_l:.0f} L"
        told_l = max(0.0, told_l - dry_l)


def _battery_faults(case: Case, pair: Storage) -> Iterator[str]:
    battery, soc = pair.battery, case.plan.soc[pair.battery.id]
    begun = case.start.soc[battery.id]
    if abs(soc[0] - begun) > SHARE:
        yield f"{battery.id} does not start from its true charge"
        return
    low, high = begun, begun
    for k, step_s in enumerate(case.plan.grid.step_s):
        power_dc = dc_kw(pair.inverter, case.plan.power_kw[pair.inverter.id][k])
        expected = storage_step(battery, soc[k], power_dc, step_s / 3600.0)
        if abs(expected - soc[k + 1]) > SHARE:
            yield f"{battery.id} goes to {soc[k + 1]:.3f} in step {k} where its power leads to {expected:.3f}"
            return
        if not -charge_limit_kw(battery, soc[k]) - 2.0 * case.slack_kw <= power_dc <= battery.discharge_kw + 2.0 * case.slack_kw:
            yield f"{battery.id} at {power_dc:.0f} kW in step {k}, its cells take {charge_limit_kw(battery, soc[k]):.0f} and give {battery.discharge_kw:.0f} kW"
            return
        # A limit that ends may only widen the band: the way back to the old one could be too short.
        limit = case.limit(battery.id, k)
        low, high = min(low, floor_soc(battery, limit)), max(high, ceiling_soc(battery, limit))
        if not low - SHARE <= soc[k + 1] <= high + SHARE:
            yield f"{battery.id} at {soc[k + 1]:.3f} in step {k}, allowed {low:.3f} to {high:.3f}"
            return


def _river_faults(case: Case, h: Hydro) -> Iterator[str]:
    """Power from the river alone where no pond is planned; else the pond follows from what comes in and what is drawn."""
    plan, inflow = case.plan, case.forecast.inflow_m3s[h.id]
    river = [max(0.0, q - h.ecological_flow_m3s) for q in inflow]
    pond = plan.pond_m3.get(h.id) if h.plans_pond else None
    begun = case.start.pond_m3.get(h.id)
    if pond is None or begun is None:
        why = "more than the river gives" if pond is None else "and the level of its pond is not known"
        for k, power in enumerate(plan.power_kw[h.id]):
            if power > hydro_kw(h, river[k]) + case.slack_kw:
                yield f"{h.id} draws {power:.0f} kW in step {k}, {why}"
                return
        return
    slack = SHARE * h.pond_m3 + 1.0
    if abs(pond[0] - min(begun, h.pond_m3)) > slack:
        yield f"{h.id} does not start from the true level of its pond"
        return
    for k, step_s in enumerate(plan.grid.step_s):
        power = plan.power_kw[h.id][k]  # within the slack it stands, and a no-load flow would not be there
        most = pond[k] + (river[k] - (hull_flow_m3s(h, power) if power > case.slack_kw else 0.0)) * step_s
        if pond[k + 1] > most + slack:
            yield f"the pond of {h.id} goes to {pond[k + 1]:.0f} m3 in step {k} where its flows lead to {most:.0f} m3"
            return
        if not -slack <= pond[k + 1] <= h.pond_m3 + slack:
            yield f"the pond of {h.id} at {pond[k + 1]:.0f} m3 in step {k}, it holds 0 to {h.pond_m3:.0f} m3"
            return


def burnt_l(plan: Plan, diesel: Diesel, k: int, on_before: bool) -> float:
    """Return the litres that a diesel burns in step k, its start included."""
    if not plan.on[diesel.id][k]:
        return 0.0
    started = diesel.start_l if not on_before else 0.0
    return fuel_l_per_h(diesel.fuel, plan.power_kw[diesel.id][k]) * plan.grid.step_s[k] / 3600.0 + started


def planned_l(plan: Plan, start: PlantStart, diesels: tuple[Diesel, ...], until_s: float = math.inf) -> float:
    """Return the litres that all diesels burn over a plan's horizon, or in its steps that begin within `until_s` [s], starts included."""
    litres, count = 0.0, sum(begin < until_s for begin in accumulate(plan.grid.step_s[:-1], initial=0.0))
    for d in diesels:
        before = (d.id in start.diesels and start.diesels[d.id].on, *plan.on[d.id])
        litres += sum(burnt_l(plan, d, k, before[k]) for k in range(count))
    return litres


def beyond_tank_l(case: Case, tank: Tank) -> tuple[float, float]:
    """Return the litres that a plan burns and a tank does not hold, and all that it burns of this tank [L].

    What is below `unusable_l` is not fuel, and a delivery counts after its delay. An unknown level is taken as enough: the days in hand watch it.
    """
    missing, burnt = dry_l(case, tank)
    return sum(missing), burnt


def unfuelled_kw(case: Case, tank: Tank) -> list[float]:
    """Return what a plan's diesels give out of fuel that a tank does not hold [kW], shape (n_steps,): load that nobody will serve."""
    plan, fed = case.plan, _fed(case, tank)
    found = [0.0] * plan.grid.n_steps
    for k, litres in enumerate(dry_l(case, tank)[0]):
        if litres > 0.0:
            hours, running = plan.grid.step_s[k] / 3600.0, [d for d in fed if plan.on[d.id][k]]
            burnt = hours * sum(fuel_l_per_h(d.fuel, plan.power_kw[d.id][k]) for d in running)
            found[k] = sum(plan.power_kw[d.id][k] for d in running) * min(1.0, litres / burnt) if burnt > 0.0 else 0.0
    return found


def dry_l(case: Case, tank: Tank) -> tuple[list[float], float]:
    """Return what a tank does not hold in each step [L], shape (n_steps,), and all that is burnt of it [L]; see `beyond_tank_l`.

    A delivery that is not confirmed comes after the storm that it falls into.
    """
    plan, start, storm = case.plan, case.start, case.forecast.storm
    level = start.tank_l.get(tank.id)
    if level is None:
        return [0.0] * plan.grid.n_steps, 0.0
    left, burnt, missing = max(0.0, level - tank.unusable_l), 0.0, list[float]()
    due: dict[int, float] = {}
    for delivery in tank.deliveries:
        late = storm is not None and not delivery.confirmed and storm.start <= delivery.due < storm.until
        k = plan.grid.index(storm.until if late and storm is not None else delivery.due)
        if k is not None:
            due[k] = due.get(k, 0.0) + delivery.litres
    fed = _fed(case, tank)
    before = {d.id: d.id in start.diesels and start.diesels[d.id].on for d in fed}
    for k in range(plan.grid.n_steps):
        left += due.get(k, 0.0)
        for d in fed:
            litres = burnt_l(plan, d, k, before[d.id])
            left, burnt = left - litres, burnt + litres
            before[d.id] = plan.on[d.id][k]
        missing.append(max(0.0, -left))
        left = max(0.0, left)
    return missing, burnt


def _fed(case: Case, tank: Tank) -> list[Diesel]:
    """Return the diesels that burn out of a tank."""
    return [d for d in case.site.of(Diesel) if d.id in tank.feeds]
