"""Ways to break a good plan, each with the words by which the check must name it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from ems.config.site import Battery, Diesel, Hydro, Inverter, Solar, Tank
from ems.model import Limits
from ems.plan import Grid
from ems.plan_case import case_of
from ems.plan_stores import beyond_tank_l
from tests.ems.broken_duties import DUTIES
from tests.ems.broken_inputs import INPUTS, Break, column, power, put, some, where, with_asset
from tests.ems.plans import Good


def running(case: Good) -> list[tuple[Diesel, int]]:
    return [(d, k) for d in case.site.of(Diesel) for k, on in enumerate(case.plan.on[d.id]) if on]


def number(value: float) -> Break:
    def broken(case: Good, chance: random.Random) -> Good:
        name, asset = chance.choice([(n, a) for n in ("power_kw", "soc") for a in getattr(case.plan, n)])
        values = getattr(case.plan, name)[asset]
        return column(case, name, asset, put(values, chance.randrange(len(values)), value))

    return broken


def short_column(case: Good, chance: random.Random) -> Good:
    name, asset = chance.choice([(n, a) for n in ("power_kw", "on", "soc") for a in getattr(case.plan, n)])
    return column(case, name, asset, getattr(case.plan, name)[asset][: chance.randrange(5)])


def missing(case: Good, chance: random.Random) -> Good:
    gone = chance.choice(sorted(case.plan.power_kw))
    return replace(case, plan=replace(case.plan, power_kw={a: v for a, v in case.plan.power_kw.items() if a != gone}))


def stranger(case: Good, chance: random.Random) -> Good:
    name, of = chance.choice([("power_kw", 0.0), ("on", False), ("soc", 0.5)])
    return column(case, name, "dg9", (of,) * (case.plan.grid.n_steps + (name == "soc")))


def other_grid(case: Good, chance: random.Random) -> Good:
    grid = case.plan.grid
    moved = Grid(grid.start + timedelta(hours=chance.choice([-1, 1])), grid.step_s)
    return replace(case, plan=replace(case.plan, grid=moved))


def stamps(**shift_h: float) -> Break:
    def broken(case: Good, chance: random.Random) -> Good:
        grid = case.plan.grid
        ends = {"made_at": grid.start, "valid_until": grid.end}
        return replace(case, plan=replace(case.plan, **{n: ends[n] + timedelta(hours=h * chance.uniform(1.0, 2.0)) for n, h in shift_h.items()}))

    return broken


def sun(times: float) -> Break:
    """More, or less than nothing, of what a solar asset gives."""

    def broken(case: Good, chance: random.Random) -> Good:
        s = chance.choice(case.site.of(Solar))
        k = chance.randrange(case.plan.grid.n_steps)
        return power(case, s.id, k, case.forecast.available_kw[s.id][k] * (times > 0) + times * 0.1 * s.rated_kw)

    return broken


def another_sun(case: Good, chance: random.Random) -> Good:
    s = chance.choice(case.site.of(Solar))
    values = case.plan.available_kw[s.id]
    k = chance.randrange(len(values))
    return column(case, "available_kw", s.id, put(values, k, values[k] + 0.1 * s.rated_kw))


def other_error(case: Good, chance: random.Random) -> Good:
    """Another learned error than the forecast has: more holds reserve for nothing, less holds none."""
    n, most = case.plan.grid.n_steps, max(case.forecast.error_up_kw, default=0.0)
    return replace(case, plan=replace(case.plan, error_up_kw=(() if most > 10.0 else (chance.uniform(5.0, 50.0),) * n)))


def against_a_person(case: Good, chance: random.Random) -> Good | None:
    """A set that a person, or its own panel, keeps running, and that the plan stops."""
    runs = [d for d, s in case.start.diesels.items() if s.on and s.usable and not all(case.plan.on[d])]
    d = some(chance, runs)
    if d is None:
        return None
    held = replace(case.start.diesels[d], held=True)
    return replace(case, start=replace(case.start, diesels={**case.start.diesels, d: held}))


def hydro(pick: Callable[[Hydro, float], float | None]) -> Break:
    """Another power of a turbine in a step with sun, so that it is not the last to make room."""

    def broken(case: Good, chance: random.Random) -> Good | None:
        h = some(chance, list(case.site.of(Hydro)))
        k = some(chance, where(case, "pv1", 60.0))
        if h is None or k is None:
            return None
        kw = pick(h, case.plan.power_kw[h.id][k])
        return None if kw is None else power(case, h.id, k, kw)

    return broken


def river_only(pond_known: bool) -> Break:
    def broken(case: Good, chance: random.Random) -> Good | None:
        h = case.site.of(Hydro)[0] if case.site.of(Hydro) else None
        if h is None or (not pond_known and h.id not in case.plan.pond_m3):
            return None
        k = some(
            chance, [k for k, p in enumerate(case.plan.power_kw[h.id]) if p < 0.8 * h.rated_kw and case.forecast.inflow_m3s[h.id][k] < 0.8 * h.design_flow_m3s]
        )
        if k is None:
            return None
        drawn = power(case, h.id, k, h.rated_kw)
        if pond_known:
            return replace(drawn, plan=replace(drawn.plan, pond_m3={}))
        return replace(drawn, start=replace(case.start, pond_m3={}))

    return broken


def pond(pick: Callable[[Hydro, tuple[float, ...], int], tuple[float, ...]]) -> Break:
    def broken(case: Good, chance: random.Random) -> Good | None:
        h = some(chance, [h for h in case.site.of(Hydro) if h.id in case.plan.pond_m3])
        return None if h is None else column(case, "pond_m3", h.id, pick(h, case.plan.pond_m3[h.id], chance.randrange(case.plan.grid.n_steps)))

    return broken


def no_setpoints(draws: bool) -> Break:
    """A set that takes no power from us keeps its own pond: a plan that tells of one, or draws more than the river from it, is of another set."""

    def broken(case: Good, chance: random.Random) -> Good | None:
        h = some(chance, [h for h in case.site.of(Hydro) if h.id in case.plan.pond_m3])
        if h is None:
            return None
        drawn = river_only(pond_known=True)(case, chance) if draws else case
        return None if drawn is None else with_asset(drawn, h, mode=chance.choice(["level", "flow", "fixed"]))

    return broken


def diesel_power(share: float, sunny: bool = False) -> Break:
    def broken(case: Good, chance: random.Random) -> Good | None:
        lit = set(where(case, "pv1", 60.0)) if sunny else set(range(case.plan.grid.n_steps))
        found = some(chance, [(d, k) for d, k in running(case) if k in lit])
        return None if found is None else power(case, found[0].id, found[1], share * found[0].rated_kw)

    return broken


def off_with_power(case: Good, chance: random.Random) -> Good | None:
    found = some(chance, [(d, k) for d in case.site.of(Diesel) for k, on in enumerate(case.plan.on[d.id]) if not on])
    return None if found is None else power(case, found[0].id, found[1], 0.5 * found[0].rated_kw)


def limited(case: Good, chance: random.Random) -> Good | None:
    units = [u for u in case.site.assets if isinstance(u, Solar | Hydro | Diesel | Inverter) and where(case, u.id, 40.0)]
    unit = some(chance, units)
    if unit is None:
        return None
    top = max(case.plan.power_kw[unit.id])
    return replace(case, limits={unit.id: Limits(max_kw=top - 20.0)})


def least(case: Good, chance: random.Random) -> Good | None:
    found = some(chance, [(d, k) for d, k in running(case) if case.plan.power_kw[d.id][k] < 0.8 * d.rated_kw and case.plan.power_kw["pv1"][k] > 60.0])
    return None if found is None else replace(case, limits={found[0].id: Limits(min_kw=0.95 * found[0].rated_kw)})


def away(how: str) -> Break:
    def broken(case: Good, chance: random.Random) -> Good | None:
        kinds = (Solar, Hydro, Inverter) if how == "usable" else (Solar, Hydro, Inverter, Diesel)
        unit = some(chance, [u for u in case.site.assets if isinstance(u, kinds) and where(case, u.id, 20.0)])
        if unit is None:
            return None
        if how == "usable":
            return replace(case, start=replace(case.start, usable={unit.id: False}))
        return replace(case, limits={unit.id: Limits(out_of_service=True)})

    return broken


def minimum(field: str, on: bool) -> Break:
    """A machine that asks for longer runs, or longer rests, than the plan has."""

    def broken(case: Good, chance: random.Random) -> Good | None:
        found = []
        for d in case.site.of(Diesel):
            flags, steps = case.plan.on[d.id], case.plan.grid.step_s
            begins = [k for k in range(1, len(flags)) if flags[k] is on and flags[k - 1] is not on]
            for b in begins:
                end = next((k for k in range(b, len(flags)) if flags[k] is not on), None)
                if end is not None:
                    found.append((d, sum(steps[b:end]) + 1800.0))
        picked = some(chance, found)
        return None if picked is None else with_asset(case, picked[0], **{field: picked[1]})

    return broken


def soc(pick: Callable[[tuple[float, ...], int], tuple[float, ...]]) -> Break:
    def broken(case: Good, chance: random.Random) -> Good:
        b = chance.choice(case.site.of(Battery))
        return column(case, "soc", b.id, pick(case.plan.soc[b.id], chance.randrange(case.plan.grid.n_steps)))

    return broken


def band(low: bool) -> Break:
    """An operator's floor (ceiling) that the plan leaves on its way."""

    def broken(case: Good, chance: random.Random) -> Good | None:
        b = chance.choice(case.site.of(Battery))
        path = case.plan.soc[b.id]
        edge = min(path) if low else max(path)
        if abs(path[0] - edge) < 0.04:
            return None
        at = 0.5 * (path[0] + edge)
        return replace(case, limits={b.id: Limits(soc_min=at) if low else Limits(soc_max=at)})

    return broken


def cells(field: str, sign: float) -> Break:
    def broken(case: Good, chance: random.Random) -> Good | None:
        b = chance.choice(case.site.of(Battery))
        most = max(sign * p for p in case.plan.power_kw[b.behind])
        return None if most < 60.0 else with_asset(case, b, **{field: 0.4 * most})

    return broken


def unbalanced(case: Good, chance: random.Random) -> Good | None:
    k = some(chance, where(case, "pv1", 40.0))
    return None if k is None else power(case, "pv1", k, case.plan.power_kw["pv1"][k] - 20.0)


def negative_unserved(case: Good, chance: random.Random) -> Good:
    k, inverter = chance.randrange(case.plan.grid.n_steps), case.site.of(Inverter)[0].id
    more = power(case, inverter, k, case.plan.power_kw[inverter][k] + 50.0)
    return replace(more, plan=replace(more.plan, unserved_kw=put(case.plan.unserved_kw, k, case.plan.unserved_kw[k] - 50.0 - case.plan.unserved_kw[k])))


def another_load(case: Good, chance: random.Random) -> Good:
    k = chance.randrange(case.plan.grid.n_steps)
    return replace(case, plan=replace(case.plan, load_kw=put(case.plan.load_kw, k, case.plan.load_kw[k] * 0.7)))


def all_zeros(case: Good, chance: random.Random) -> Good:
    plan, n = case.plan, case.plan.grid.n_steps
    low = dict.fromkeys(case.start.soc, 0.04)
    dark = replace(plan, power_kw={a: (0.0,) * n for a in plan.power_kw}, on={a: (False,) * n for a in plan.on}, soc={b: (0.04,) * (n + 1) for b in plan.soc})
    return replace(case, plan=dark, start=replace(case.start, soc=low))


def dry_tank(case: Good, chance: random.Random) -> Good | None:
    tank = some(chance, list(case.site.of(Tank)))
    if tank is None:
        return None
    _, burnt = beyond_tank_l(case_of(case.site, case.plan, case.start, case.forecast, {}), tank)
    left = replace(case.start, tank_l={tank.id: tank.unusable_l + chance.uniform(0.0, 0.5) * burnt})
    return None if burnt < 200.0 else replace(case, start=left)


MUTATIONS: dict[str, tuple[Break, str]] = {
    **INPUTS,
    "not a number": (number(math.nan), "not finite"),
    "infinite": (number(-math.inf), "not finite"),
    "short column": (short_column, "values instead of"),
    "missing column": (missing, "0 values instead of"),
    "unknown asset": (stranger, "dg9, which the site does not have"),
    "other grid": (other_grid, "different grids"),
    "valid for too long": (stamps(valid_until=1.0), "beyond its horizon"),
    "never valid": (stamps(made_at=0.0, valid_until=-60.0), "never valid"),
    "made in the future": (stamps(made_at=0.2), "in the future"),
    "made long ago": (stamps(made_at=-3.0), "first step of its grid"),
    "more sun than there is": (sun(1.0), "pv1 at .* allowed"),
    "less than no sun": (sun(-1.0), "pv1 at .* allowed"),
    "another sun": (another_sun, "another sun for pv1"),
    "hydro above its rating": (hydro(lambda h, p: 1.3 * h.rated_kw), "h.* at .* allowed"),
    "hydro under its minimum": (hydro(lambda h, p: 0.5 * h.min_kw if p >= h.min_kw else None), "turns at .* minimum"),
    "more than the river": (river_only(pond_known=True), "more than the river gives"),
    "pond of unknown level": (river_only(pond_known=False), "its pond is not known"),
    "water out of nothing": (pond(lambda h, v, k: put(v, k + 1, v[k + 1] + 0.2 * h.pond_m3)), "the pond of hydro1"),
    "pond below nothing": (pond(lambda h, v, k: put(v, len(v) - 1, -0.1 * h.pond_m3)), "the pond of hydro1 .* it holds"),
    "pond from elsewhere": (pond(lambda h, v, k: (v[0] * 0.5, *v[1:])), "true level of its pond"),
    "pond of a set that takes no setpoints": (no_setpoints(draws=False), "pond of hydro1, which has none"),
    "pond drawn by a set that takes no setpoints": (no_setpoints(draws=True), "hydro1 draws .* more than the river gives"),
    "diesel above its rating": (diesel_power(1.1), "dg. at .* allowed"),
    "diesel below zero": (diesel_power(-0.1), "dg. at .* allowed"),
    "diesel under its minimum": (diesel_power(0.1, sunny=True), "dg. at .* allowed"),
    "power of a diesel that is off": (off_with_power, "dg. at .* allowed 0 to 0"),
    "above an operator's limit": (limited, "allowed .* to"),
    "below an operator's limit": (least, "dg. at .* allowed"),
    "another error than was learned": (other_error, "reckons with an error"),
    "stops what a person runs": (against_a_person, "by a person or its own panel"),
    "out of service": (away("service"), "out of service|allowed"),
    "not usable": (away("usable"), "allowed"),
    "too short a run": (minimum("min_up_s", True), "stops in step .* minimum"),
    "too short a rest": (minimum("min_down_s", False), "starts in step .* minimum"),
    "charge out of nothing": (soc(lambda v, k: put(v, k + 1, v[k + 1] + 0.05)), "bess1 goes to"),
    "charge that burns": (soc(lambda v, k: put(v, k + 1, v[k + 1] - 0.05)), "bess1 goes to"),
    "starts from elsewhere": (soc(lambda v, k: (v[0] + 0.1, *v[1:])), "its true charge"),
    "below an operator's floor": (band(low=True), "bess1 at .* allowed"),
    "above an operator's ceiling": (band(low=False), "bess1 at .* allowed"),
    "cells give less": (cells("discharge_kw", 1.0), "its cells take"),
    "cells take less": (cells("charge_kw", -1.0), "its cells take"),
    "balance off": (unbalanced, "the balance of step"),
    "negative unserved": (negative_unserved, "less than nothing is unserved"),
    "another load": (another_load, "its load of step"),
    "nobody forms": (all_zeros, "nobody holds the bus"),
    **DUTIES,
    "more fuel than the tank holds": (dry_tank, "L more than tank1 holds"),
}
