"""Form of a plan: all that is there, nothing that is not of the site, every number finite, stamps in order.

What fails here makes every further look at the numbers meaningless, so it is asked first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from ems.config.site import Deferrable, Diesel, Hydro, Inverter, Site, Solar
from ems.model import Limits
from ems.plan import Forecast, Plan, PlantStart
from ems.plan_case import LEAST_KW, SHARE, known
from ems.reserve import storages

LOAD_TIMES = 3.0
"""More load than this many times the site's peak is no forecast."""
SUN_TIMES = 1.3
"""More sun than this many times a solar asset's rating is none either; a little over it is cold air and edges of clouds."""
CLOCK = timedelta(seconds=1)
"""Stamps may be off by this."""


def form_faults(site: Site, plan: Plan, start: PlantStart, forecast: Forecast, limits: Mapping[str, Limits], at: datetime | None) -> Iterator[str]:
    """Yield what is wrong with a plan's form and with what it was made from."""
    yield from start_faults(site, start, limits)
    yield from _forecast_faults(site, forecast)
    yield from _stamp_faults(plan, forecast, at)
    yield from _stranger_faults(site, plan, start)
    yield from _column_faults(site, plan, start)
    yield from _sun_faults(site, plan, forecast)
    yield from _error_faults(site, plan, forecast)


def start_faults(site: Site, start: PlantStart, limits: Mapping[str, Limits]) -> Iterator[str]:
    """Yield what of the plant's state and of the operator's limits is no number that a plan could start from."""
    # A battery without a charge is no fault: its meter may be off for maintenance, and the island is planned without it.
    for battery, soc in start.soc.items():
        if not known(soc) or not -SHARE <= soc <= 1.0 + SHARE:
            yield f"the charge of {battery} at the start is {soc}"
    for what, levels in (("pond", start.pond_m3), ("level", start.tank_l), ("energy of the day", start.done_kwh)):
        for asset, level in levels.items():
            if not known(level) or level < 0.0:
                yield f"the {what} of {asset} at the start is {level}"
    for diesel, state in start.diesels.items():
        if not known(state.since_s):
            yield f"{diesel} is {'on' if state.on else 'off'} since {state.since_s} s"
    for load, duty in start.deferrables.items():
        if not known(duty.since_s) or duty.since_s < 0.0 or duty.starts_today < 0:
            yield f"{load} is {'on' if duty.on else 'off'} since {duty.since_s} s and was begun {duty.starts_today} times"
    for asset, limit in limits.items():
        for name in ("max_kw", "min_kw", "soc_min", "soc_max"):
            value = getattr(limit, name)
            if value is not None and not math.isfinite(value):
                yield f"the limit {name} of {asset} is {value}"


def _forecast_faults(site: Site, forecast: Forecast) -> Iterator[str]:
    if not forecast.grid.step_s or not all(known(s) and s > 0.0 for s in forecast.grid.step_s):
        yield "the grid of the forecast has a step without a length"
    most = LOAD_TIMES * site.peak_kw
    columns: list[tuple[str, Sequence[float], float]] = [("load", forecast.load_kw, most)]
    columns += [("load peaks", forecast.load_peak_kw, most)] * bool(forecast.load_peak_kw)
    columns += [(s.id, forecast.available_kw.get(s.id, ()), SUN_TIMES * s.rated_kw) for s in site.of(Solar)]
    columns += [(h.id, forecast.inflow_m3s.get(h.id, ()), math.inf) for h in site.of(Hydro)]
    for name, values, top in columns:
        if len(values) != forecast.grid.n_steps:
            yield f"the forecast of {name} has {len(values)} of {forecast.grid.n_steps} steps"
        elif not all(math.isfinite(v) and -1e-6 <= v <= top for v in values):
            yield f"the forecast of {name} is out of range"


def _stamp_faults(plan: Plan, forecast: Forecast, at: datetime | None) -> Iterator[str]:
    if plan.grid != forecast.grid:
        yield "plan and forecast are on different grids"
    elif plan.grid.step_s and not plan.grid.start - CLOCK <= plan.made_at <= plan.grid.start + timedelta(seconds=plan.grid.step_s[0]) + CLOCK:
        yield "it was not made in the first step of its grid"
    if at is not None and plan.made_at > at + CLOCK:
        yield "it was made in the future"
    if plan.valid_until > plan.grid.end:
        yield "it claims to be valid beyond its horizon"
    if plan.valid_until <= plan.made_at:
        yield "it was never valid"


def _stranger_faults(site: Site, plan: Plan, start: PlantStart) -> Iterator[str]:
    diesels, deferrables = {d.id for d in site.of(Diesel)}, {x.id for x in site.of(Deferrable)}
    suns, rivers = {s.id for s in site.of(Solar)}, {h.id for h in site.of(Hydro)}
    inverters = {i.id for i in site.of(Inverter)}
    places: tuple[tuple[str, Mapping[str, object] | tuple[str, ...], set[str]], ...] = (
        ("power", plan.power_kw, diesels | deferrables | suns | rivers | inverters),
        ("on", plan.on, diesels | deferrables),
        ("soc", plan.soc, {p.battery.id for p in storages(site)}),
        ("available power", plan.available_kw, suns),
        ("deferrable load", plan.deferrables, deferrables),
        ("pond", plan.pond_m3, rivers),
    )
    for what, ids, own in places:
        for stranger in sorted(set(ids) - own):
            yield f"it gives {what} of {stranger}, which the site does not have"
    for h in site.of(Hydro):
        if h.id in plan.pond_m3 and not h.plans_pond:
            yield f"it gives pond of {h.id}, which has none that a plan may draw on"
    for battery in sorted(set(plan.soc) - set(start.soc)):
        yield f"it gives soc of {battery}, whose charge at the start is not known"


def _column_faults(site: Site, plan: Plan, start: PlantStart) -> Iterator[str]:
    n = plan.grid.n_steps
    pairs = storages(site)
    # An inverter without a battery does nothing, and a plan need not speak of it.
    sources = [a.id for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Deferrable)] + [p.inverter.id for p in pairs]
    columns: dict[str, tuple[Sequence[float], int]] = {a: (plan.power_kw.get(a, ()), n) for a in sources}
    columns.update({f"{a} power": (values, n) for a, values in plan.power_kw.items() if a not in columns})
    columns.update({f"{d.id} on": (plan.on.get(d.id, ()), n) for d in (*site.of(Diesel), *site.of(Deferrable))})
    columns.update({f"{p.battery.id} soc": (plan.soc.get(p.battery.id, ()), n + 1) for p in pairs if p.battery.id in start.soc})
    columns.update({f"{h} pond": (values, n + 1) for h, values in plan.pond_m3.items()})
    columns.update({f"{s} available": (values, n) for s, values in plan.available_kw.items()})
    columns.update(load=(plan.load_kw, n), unserved=(plan.unserved_kw, n))
    for name, (values, length) in columns.items():
        if len(values) != length:
            yield f"{name} has {len(values)} values instead of {length}"
        elif not all(math.isfinite(v) for v in values):
            yield f"{name} holds a number that is not finite"
    if len(plan.error_up_kw) not in (0, n):
        yield f"its learned error has {len(plan.error_up_kw)} values instead of {n}"
    elif (error := next((e for e in plan.error_up_kw if not 0.0 <= e <= most_error_kw(site) + LEAST_KW), None)) is not None:  # nor is what is not finite
        yield f"its learned error is {error:g} kW, which no net load of this site can rise by"


def _error_faults(site: Site, plan: Plan, forecast: Forecast) -> Iterator[str]:
    """What a plan says the forecast may be wrong by decides on reserve, here and in control: it must be what was learned."""
    most, none = most_error_kw(site), (0.0,) * plan.grid.n_steps
    learned, said = tuple(min(e, most) for e in forecast.error_up_kw) or none, plan.error_up_kw or none
    if len(said) == len(learned) and not all(abs(a - b) <= LEAST_KW for a, b in zip(said, learned, strict=True)):
        yield f"it reckons with an error of up to {max(said):.0f} kW where the forecast has one of up to {max(learned):.0f} kW"


def most_error_kw(site: Site) -> float:
    """Return by how much a net load can be more than was forecast at most: all sun and rivers gone, and the peak load come [kW]."""
    return site.peak_kw + sum(a.rated_kw for a in site.assets if isinstance(a, Solar | Hydro))


def _sun_faults(site: Site, plan: Plan, forecast: Forecast) -> Iterator[str]:
    """What a plan says to be available decides on ceilings of sun: it must be what was forecast."""
    for s in site.of(Solar):
        claimed, real = plan.available_kw.get(s.id), forecast.available_kw.get(s.id, ())
        if claimed is not None and len(claimed) == len(real) and any(not abs(a - b) <= SHARE * s.rated_kw + 1.0 for a, b in zip(claimed, real, strict=True)):
            yield f"it takes another sun for {s.id} than the forecast"
