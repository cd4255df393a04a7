"""Ways to break what a good plan was made from: forecast, state of the plant, limits of an operator."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Tank
from ems.model import Limits
from ems.plan import DeferrableStart, DieselStart
from tests.ems.plans import Good

Break = Callable[[Good, random.Random], Good | None]
"""Returns a broken plan, or None where this one does not lend itself to it."""


def put(values: tuple[Any, ...], k: int, value: Any) -> tuple[Any, ...]:
    return (*values[:k], value, *values[k + 1 :])


def some(chance: random.Random, found: list[Any]) -> Any:
    return chance.choice(found) if found else None


def column(case: Good, name: str, asset: str, values: tuple[Any, ...]) -> Good:
    return replace(case, plan=replace(case.plan, **{name: {**getattr(case.plan, name), asset: values}}))


def power(case: Good, asset: str, k: int, kw: float) -> Good:
    return column(case, "power_kw", asset, put(case.plan.power_kw[asset], k, kw))


def where(case: Good, asset: str, above_kw: float) -> list[int]:
    return [k for k, p in enumerate(case.plan.power_kw[asset]) if p > above_kw]


def with_asset(case: Good, asset: Any, **changes: Any) -> Good:
    assets = tuple(a.model_copy(update=changes) if a.id == asset.id else a for a in case.site.assets)
    return replace(case, site=case.site.model_copy(update={"assets": assets}))


def forecast(name: str, value: float) -> Break:
    def broken(case: Good, chance: random.Random) -> Good | None:
        k = chance.randrange(case.plan.grid.n_steps)
        if name == "load":
            return replace(case, forecast=replace(case.forecast, load_kw=put(case.forecast.load_kw, k, value)))
        found = getattr(case.forecast, name)
        asset = some(chance, sorted(found))
        if asset is None:
            return None
        return replace(case, forecast=replace(case.forecast, **{name: {**found, asset: put(found[asset], k, value)}}))

    return broken


def start_soc(value: float | None) -> Break:
    def broken(case: Good, chance: random.Random) -> Good:
        known = {} if value is None else dict.fromkeys(case.start.soc, value)
        return replace(case, start=replace(case.start, soc=known))

    return broken


def level(name: str, kinds: type, value: float) -> Break:
    def broken(case: Good, chance: random.Random) -> Good | None:
        asset = some(chance, [a.id for a in case.site.assets if isinstance(a, kinds) and (not isinstance(a, Hydro) or a.pond_m3 > 0.0)])
        return None if asset is None else replace(case, start=replace(case.start, **{name: {**getattr(case.start, name), asset: value}}))

    return broken


def limit_of(name: str, value: float) -> Break:
    def broken(case: Good, chance: random.Random) -> Good:
        asset = chance.choice([a.id for a in case.site.assets if isinstance(a, Battery | Diesel | Inverter)])
        return replace(case, limits={asset: Limits(**{name: value})})

    return broken


def diesel_start(pick: Callable[[DieselStart], DieselStart], on: bool | None = None, needs_run: bool = False) -> Break:
    def broken(case: Good, chance: random.Random) -> Good | None:
        flags = case.plan.on
        fitting = [d.id for d in case.site.of(Diesel) if (on is None or flags[d.id][0] is on) and (not needs_run or any(flags[d.id]))]
        d = some(chance, fitting)
        return None if d is None else replace(case, start=replace(case.start, diesels={**case.start.diesels, d: pick(case.start.diesels[d])}))

    return broken


def duty(since_s: float) -> Break:
    def broken(case: Good, chance: random.Random) -> Good | None:
        x = some(chance, [x.id for x in case.site.of(Deferrable)])
        return None if x is None else replace(case, start=replace(case.start, deferrables={x: DeferrableStart(True, since_s)}))

    return broken


INPUTS: dict[str, tuple[Break, str]] = {
    "load forecast out of range": (forecast("load", 1e5), "forecast of load"),
    "load forecast not a number": (forecast("load", math.nan), "forecast of load"),
    "sun forecast out of range": (forecast("available_kw", 1e4), "forecast of pv1 is out of range"),
    "inflow out of range": (forecast("inflow_m3s", -3.0), "forecast of h.* is out of range"),
    "charge unknown": (start_soc(None), "soc of bess1, whose charge at the start is not known"),
    "charge not a number": (start_soc(math.nan), "the charge of bess1 at the start"),
    "pond not a number": (level("pond_m3", Hydro, math.nan), "the pond of hydro1 at the start is nan"),
    "tank without end": (level("tank_l", Tank, math.inf), "the level of tank1 at the start is inf"),
    "energy of the day not a number": (level("done_kwh", Deferrable, math.nan), "the energy of the day of (desal1|ice)"),
    "running since no time": (diesel_start(lambda d: replace(d, since_s=math.nan)), "dg. is (on|off) since nan s"),
    "a run since no time": (duty(math.nan), "(desal1|ice) is on since nan s"),
    "a run since the future": (duty(-60.0), "(desal1|ice) is on since -60.0 s"),
    "limit not a number": (limit_of("max_kw", math.nan), "the limit max_kw of .* is nan"),
    "endless floor": (limit_of("soc_min", math.inf), "the limit soc_min of .* is inf"),
    "locked diesel": (diesel_start(lambda d: replace(d, usable=False), needs_run=True), "cannot run"),
    "stops while starting": (diesel_start(lambda d: replace(d, on=True, frozen=True), on=False), "starting and is planned off"),
    "starts while unloading": (diesel_start(lambda d: replace(d, on=False, frozen=True), on=True), "unloading and is planned on"),
}
