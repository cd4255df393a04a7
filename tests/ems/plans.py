"""Good plans to be broken: the rules' roll-outs of several sites and situations, and what goes with them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

from ems.config.load import load_site
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Site, Solar, Tank
from ems.model import Limits
from ems.physics import hydro_flow_m3s
from ems.plan import DeferrableStart, DieselStart, Forecast, Grid, Plan, PlantStart
from ems.plan_unmet import unmet
from ems.rules import Rules
from tests.ems.island import START, site

ISLE = site({"id": "h1", "kind": "hydro", "rated_kw": 50.0})
# Ice that may not be interrupted, and a tank with a delivery that comes late.
FROST = site(
    {"id": "dg3", "kind": "diesel", "rated_kw": 300.0, "forming": "droop"},
    {"id": "ice", "kind": "deferrable", "rated_kw": 40.0, "daily_kwh": 200.0, "window": ["08:00", "20:00"], "interruptible": False},
    {"id": "tank1", "kind": "tank", "capacity_l": 20000.0, "unusable_l": 500.0, "deliveries": [{"date": date(2026, 3, 2), "litres": 8000.0, "delay_days": 2}]},
)
RIVER = load_site(Path(__file__).parents[2] / "configs/sites/river.yaml").site
SITES: Mapping[str, Site] = {"isle": ISLE, "frost": FROST, "river": RIVER}
GRIDS = ((1800.0,) * 8 + (3600.0,) * 10, (1800.0,) * 24, (3600.0,) * 30)
"""A roll-out knows no minimum up and down times: its steps are as long as these."""


@dataclass(frozen=True)
class Good:
    """A plan that may be used, with all it was made from."""

    site: Site
    plan: Plan
    start: PlantStart
    forecast: Forecast
    limits: Mapping[str, Limits] = field(default_factory=dict)


def good(name: str, seed: int) -> Good:
    """Return what the rules would do in a situation drawn by the seed: load, sun, river, charge, who runs, and deferrables at work."""
    of, chance = SITES[name], random.Random(f"{name}-{seed}")
    at = START + timedelta(hours=chance.randrange(24))
    grid = Grid(at, chance.choice(GRIDS))
    n, peak = grid.n_steps, of.peak_kw
    level, wave = chance.uniform(0.35, 0.6), chance.uniform(0.05, 0.15)
    hours = [(t.hour + t.minute / 60.0) for t in grid.starts()]
    load = tuple(peak * (level + wave * math.sin(h * math.pi / 12.0) + 0.02 * chance.random()) for h in hours)
    cloud = chance.uniform(0.3, 1.0)
    sun = {s.id: tuple(s.rated_kw * cloud * max(0.0, math.sin((h - 6.0) * math.pi / 12.0)) for h in hours) for s in of.of(Solar)}
    water = chance.uniform(0.0, 2.0)
    inflow = {h.id: (h.ecological_flow_m3s + water * h.design_flow_m3s,) * n for h in of.of(Hydro)}
    running = chance.choice([d.id for d in of.of(Diesel)])
    start = PlantStart(
        soc={b.id: chance.uniform(b.soc_min + 0.02, b.soc_max - 0.02) for b in of.of(Battery)},
        diesels={d.id: DieselStart(d.id == running, 1e5) for d in of.of(Diesel)},
        pond_m3={h.id: chance.uniform(0.3, 0.9) * h.pond_m3 for h in of.of(Hydro) if h.pond_m3 > 0.0},
        tank_l={t.id: t.capacity_l for t in of.of(Tank)},
    )
    forecast = Forecast(grid, load, sun, inflow)
    drawn = {x.id: duty(of, x, grid) for x in of.of(Deferrable)}
    extra = [sum(x.rated_kw for x in of.of(Deferrable) if drawn[x.id][k]) for k in range(n)]
    asked = replace(forecast, load_kw=tuple(p + e for p, e in zip(load, extra, strict=True)))
    plan = Rules(of).rollout(start, asked, of.rules.policy, f"{name}-{seed}", at)
    powers = {x.id: tuple(x.rated_kw * on for on in drawn[x.id]) for x in of.of(Deferrable)}
    plan = replace(plan, power_kw={**plan.power_kw, **powers}, on={**plan.on, **drawn}, deferrables=tuple(drawn))
    # What runs at first may have been begun an hour ago; what it does not get in two hours the plan says.
    begun = {x for x in drawn if drawn[x][0] and chance.random() < 0.5}
    start = replace(start, deferrables={x: DeferrableStart(x in begun, 3600.0, int(x in begun)) for x in drawn})
    return Good(of, replace(plan, unmet=tuple(unmet(of, plan, start, forecast, {}))), start, forecast)


def duty(of: Site, x: Deferrable, grid: Grid) -> tuple[bool, ...]:
    """Return one run of at least two hours inside the hours of a deferrable, where the horizon has one."""
    opens_s, closes_s = x.window_s
    left_s, on = 2.0 * 3600.0, []
    for at, step_s in zip(grid.starts(), grid.step_s, strict=True):
        local = at.astimezone(of.tz)
        clock = local.hour * 3600.0 + local.minute * 60.0
        runs = left_s > 0.0 and clock >= opens_s and clock + max(left_s, step_s) <= closes_s
        on.append(runs)
        left_s -= step_s * runs
    return tuple(on)


def with_pond(case: Good) -> Good:
    """Return a plan that also tells the pond of its hydro: filled by what the turbine leaves, spilt when full."""
    ponds = {}
    for h in case.site.of(Hydro):
        if h.pond_m3 <= 0.0:
            continue
        level = [case.start.pond_m3[h.id]]
        for k, step_s in enumerate(case.plan.grid.step_s):
            river = max(0.0, case.forecast.inflow_m3s[h.id][k] - h.ecological_flow_m3s)
            drawn = hydro_flow_m3s(h, case.plan.power_kw[h.id][k])
            level.append(min(h.pond_m3, max(0.0, level[-1] + max(0.0, river - drawn) * step_s)))
        ponds[h.id] = tuple(level)
    return replace(case, plan=replace(case.plan, pond_m3=ponds))
