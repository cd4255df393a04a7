"""What a question is made of: the plant's true state, and what a person or its own panel holds each unit to.

A plan that does not know of a turbine that an operator stopped counts on its river; one that thinks it can curtail a sun in local finds no room for it.
"""

from __future__ import annotations

from dataclasses import replace

from ems.charge import surely_stored
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Site, Solar, Tank
from ems.engines import CLEAN, burn_left_s
from ems.memory import Manual, Memory
from ems.model import AssetImage, Image, Limits
from ems.plan import DeferrableStart, DieselStart, PlantStart
from ems.rotation import service_in_h
from ems.sequencer import COMING
from ems.terms import Phase

IN_LOCAL = {"solar": True, "hydro": True, "inverter": False, "deferrable": False}
"""Kinds that a plan uses beside diesels, and whether it reckons with one in local: sun and river go on giving, what a battery does there nobody foretells."""
POND_DEPTH_M = 2.0
"""Depth that a full pond's level gauge shows [m]."""

Planned = Diesel | Hydro | Solar | Inverter | Deferrable


def plant_start(site: Site, image: Image, memory: Memory) -> PlantStart:
    """Return the true state from which a plan starts; `memory` has counted this image already."""
    soc = {b.id: s for b in site.of(Battery) if (s := surely_stored(image.assets[b.id])) is not None}
    diesels = {}
    for d in site.of(Diesel):
        unit = memory.units.get(d.id)
        if unit is None:
            diesels[d.id] = DieselStart(False, 0.0, usable=False)
            continue
        on = unit.phase in (*COMING, Phase.ONLINE)
        manual = memory.manual.get(d.id)
        local = not (image.assets[d.id].seen and image.assets[d.id].remote)
        ordered_off = manual is not None and manual.run is False
        # One out of service may be so for an hour only: that is a limit, which a plan sees end.
        # Nobody but a person at its panel starts one in local (CONTROL 3.3).
        startable = image.assets[d.id].ready and image.assets[d.id].flag("remote") is not False
        usable = (on or startable) and unit.phase is not Phase.LOCKED and not ordered_off
        # What a set ran before this start is no part of its minimum up time.
        since = 0.0 if unit.phase in COMING else image.now_s - (unit.started_s if on and unit.started_s is not None else unit.since_s)
        run_h = image.assets[d.id].get("run_h")
        diesels[d.id] = DieselStart(
            on,
            max(0.0, since),
            usable,
            frozen=unit.phase in (*COMING, Phase.UNLOADING),
            held=(manual is not None and manual.run is True) or (on and local),
            run_h=run_h,
            service_in_h=None if run_h is None else service_in_h(d, run_h),
            burn_s=burn_left_s(memory.engines.get(d.id, CLEAN)),
        )
    # A gauge may read a little under its zero.
    depth = {h.id: level for h in site.of(Hydro) if (level := image.assets[h.id].get("level_m")) is not None}
    pond = {h.id: min(1.0, max(0.0, depth[h.id] / POND_DEPTH_M)) * h.pond_m3 for h in site.of(Hydro) if h.pond_m3 > 0 and h.id in depth}
    tank = {t.id: max(0.0, level) for t in site.of(Tank) if (level := image.assets[t.id].get("level_l")) is not None}
    done = {d.id: memory.done_kwh.get(d.id, 0.0) for d in site.of(Deferrable)}
    unusable = {a: False for a, i in image.assets.items() if i.kind in IN_LOCAL and (not i.seen or i.fault or not (i.remote or IN_LOCAL[i.kind]))}
    duties = {
        d.id: DeferrableStart(duty.running, max(0.0, image.now_s - duty.since_s), duty.starts)
        for d in site.of(Deferrable)
        if (duty := memory.duties.get(d.id)) is not None
    }
    return PlantStart(soc, diesels, pond, tank, done, unusable, duties)


def planned_limits(site: Site, image: Image, memory: Memory) -> dict[str, Limits]:
    """Return the operator's limits, and as such what standing orders and panels in local hold units to as far as a plan looks (CONTROL 1.6).

    In mode `manual` every unit has an order, but a plan is to say what AUTO would do.
    """
    # A least power of PV is what a panel in local leaves nobody to curtail; as an order it means nothing.
    suns = {s.id for s in site.of(Solar)}
    found = {a: replace(limits, min_kw=None) if a in suns else limits for a, limits in memory.limits.items()}
    for unit in (a for a in site.assets if isinstance(a, Planned)):
        seen, before = image.assets[unit.id], found.get(unit.id, Limits())
        order = None if memory.all_manual else memory.manual.get(unit.id)
        held = by_order(unit, order, before) if seen.remote else by_panel(unit, seen, before) if seen.seen else None
        if held is not None:
            found[unit.id] = held
    return found


def by_panel(unit: Planned, seen: AssetImage, before: Limits) -> Limits | None:
    """Return what its own panel holds a unit to; None where a plan leaves it out, or where it reacts by itself.

    A turbine gives what it gives, as far as the river goes; so does a diesel without primary response, which is no reserve then. Sun comes as it comes.
    """
    free = replace(before, out_of_service=False, expires_at=None)
    if isinstance(unit, Solar):
        return replace(free, max_kw=None, min_kw=unit.rated_kw)
    if seen.power_kw is None:
        return None
    if isinstance(unit, Hydro):
        given_kw = seen.power_kw if seen.power_kw >= unit.min_kw else 0.0  # less does not turn it: that is its meter's noise
        return replace(free, max_kw=given_kw, min_kw=given_kw)
    if isinstance(unit, Diesel) and not unit.primary_response:
        return _at(unit, seen.power_kw, before)
    return None


def by_order(unit: Planned, order: Manual | None, before: Limits) -> Limits | None:
    """Return what a standing order holds a unit to; starts and stops of diesels are in the plant's state."""
    if order is None:
        return None
    if order.run is False and not isinstance(unit, Diesel):
        return replace(before, out_of_service=True, expires_at=None)
    if order.power_kw is None:
        return None
    if isinstance(unit, Solar):
        return replace(before, max_kw=order.power_kw, expires_at=None)  # for PV it is a ceiling
    if isinstance(unit, Hydro):
        return replace(before, max_kw=order.power_kw, min_kw=order.power_kw, expires_at=None)
    return _at(unit, order.power_kw, before) if isinstance(unit, Diesel) else None


def _at(diesel: Diesel, power_kw: float, before: Limits) -> Limits:
    """Return limits that leave a set one power while it runs [kW]."""
    power_kw = min(max(power_kw, diesel.min_kw), diesel.rated_kw)
    return replace(before, max_kw=power_kw, min_kw=power_kw, expires_at=None)
