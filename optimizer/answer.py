"""From a solved problem to a `Plan`: numbers made consistent, and what could not be met said in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import numpy as np

from ems.bands import Series
from ems.errors import Failed
from ems.physics import dc_kw, storage_step
from ems.plan import Plan, Unmet
from ems.plan_unmet import unmet
from optimizer.assets.hydro import POND_SCALE
from optimizer.filling import with_sun_stored
from optimizer.frame import MW, Array, Question
from optimizer.problem import PlanProblem
from optimizer.reserve import learned_up_kw
from optimizer.sharing import evened
from optimizer.solver import Solved

NOTICE_KW = 0.5
"""Less than this is the solver's tolerance, not a wish that could not be met [kW]."""


def plan_of(problem: PlanProblem, question: Question, solved: Solved, plan_id: str, valid_until: datetime, bound_l: float | None = None) -> Plan:
    """Return the plan that the problem's variables hold.

    On and off are rounded, powers clipped to what they allow, the largest storage closes the balance, and SoC
    follows from its power by `ems.physics`. Whether that is a good plan is for the plan check to say.
    """
    power: dict[str, Array] = {}
    on: dict[str, tuple[bool, ...]] = {}
    for d in problem.diesels:
        runs = d.on.value > 0.5
        on[d.diesel.id] = tuple(bool(x) for x in runs)
        least, most = d.power_min.value.min(axis=0), d.power_max.value.max(axis=0)  # what a set leaves it of kVA differs from set to set
        power[d.diesel.id] = np.where(runs, np.clip(d.power.value.sum(axis=0), least, most), 0.0) / MW
    for s in problem.solars:
        power[s.solar.id] = np.clip(s.power.value.sum(axis=0), 0.0, s.available.value[0]) / MW
    for h in problem.hydros:
        power[h.hydro.id] = np.clip(h.power.value.sum(axis=0), 0.0, h.power_max.value[0]) / MW
    power |= evened(problem, {d.diesel.id: power[d.diesel.id] for d in problem.diesels})
    _lower(problem, power)
    drawn: dict[str, Array] = {}
    for x in problem.deferrables:
        runs = x.on.value > 0.5
        on[x.load.id] = tuple(bool(v) for v in runs)
        drawn[x.load.id] = np.where(runs, np.clip(x.power.value, 0.0, x.top.value) / MW, 0.0)
    for i in problem.inverters:
        power[i.inverter.id] = np.full(problem.frame.n, -i.inverter.no_load_kw)
        if i.store is not None:
            power[i.inverter.id] += (i.discharge.value - i.charge.value).sum(axis=0) / MW
    if problem.frame.purpose == "plan":
        power = with_sun_stored(problem, power)
    load = np.asarray(question.forecast.load_kw) + sum(drawn.values(), np.zeros(problem.frame.n))
    unserved = np.maximum(0.0, problem.load.unserved.value.sum(axis=0) / MW)
    unserved[unserved < NOTICE_KW * 1e-3] = 0.0
    _close_balance(problem, power, load + problem.site.station_kw, unserved)
    if not all(np.isfinite(v).all() for v in (*power.values(), load, unserved)):
        raise Failed("solver: its answer holds numbers that are not finite")
    available = {s.solar.id: question.forecast.available_kw[s.solar.id] for s in problem.solars}
    plan = Plan(
        id=plan_id,
        made_at=question.at,
        valid_until=valid_until,
        source="mpc",
        grid=question.grid,
        power_kw={a: series(v) for a, v in (power | drawn).items()},
        on=on,
        soc=_soc(problem, question, power),
        load_kw=series(load),
        unserved_kw=series(unserved),
        pond_m3={h.hydro.id: series(h.pond.value / POND_SCALE) for h in problem.hydros if h.pond is not None},
        objective_l=solved.objective_l,
        gap=solved.gap,
        bound_l=bound_l,
        deferrables=tuple(drawn),
        available_kw=available,
        error_up_kw=series(learned) if (learned := learned_up_kw(problem.site, question)).any() else (),  # before `unmet` below, which counts as control will
    )
    return replace(plan, unmet=(*unmet(problem.site, plan, question.start, question.forecast, question.limits), *_days_in_hand(problem, question)))


def series(values: Array) -> Series:
    """Return an array as a tuple of plain floats."""
    return tuple(values.tolist())


def _lower(problem: PlanProblem, power: dict[str, Array]) -> None:
    """Take power that nothing can take out of the diesels (low load), then out of the river."""
    left = np.maximum(0.0, problem.load.surplus.value.sum(axis=0) / MW)
    left[left < 1e-3] = 0.0
    for unit in (*(d.diesel.id for d in problem.diesels), *(h.hydro.id for h in problem.hydros), *(s.solar.id for s in problem.solars)):
        taken = np.minimum(left, power[unit])
        power[unit] = power[unit] - taken
        left = left - taken


def _close_balance(problem: PlanProblem, power: dict[str, Array], wanted: Array, unserved: Array) -> None:
    """Give what the solver's tolerance left open to the largest storage; on a dead bus its standby use is unserved too."""
    stores = [i for i in problem.inverters if i.store is not None]
    open_kw = wanted - unserved - sum(power.values(), np.zeros(len(wanted)))
    dead = problem.frame.w.value[0] > 0.5
    unserved[dead] += open_kw[dead]
    if stores:
        largest = max(stores, key=lambda i: i.inverter.rated_kw)
        power[largest.inverter.id] = power[largest.inverter.id] + np.where(dead | (np.abs(open_kw) > 1.0), 0.0, open_kw)


def _soc(problem: PlanProblem, question: Question, power: dict[str, Array]) -> dict[str, Series]:
    found = {}
    for i in problem.inverters:
        if i.store is None or i.store.battery.id not in question.start.soc:
            continue
        battery = i.store.battery
        soc = [question.start.soc[battery.id]]
        for kw, hours in zip(power[i.inverter.id], problem.frame.dt_h, strict=True):
            soc.append(storage_step(battery, soc[-1], dc_kw(i.inverter, float(kw)), float(hours)))
        found[battery.id] = tuple(soc)
    return found


def _days_in_hand(problem: PlanProblem, question: Question) -> Iterator[Unmet]:
    """Say which tank will not last as long as it should on diesels alone; how long follows from the forecast, which a plan does not hold."""
    for t in problem.tanks:
        if t.short is not None and t.short.value * 1e3 > 0.01 * t.hand_l + 1.0 and t.days is not None:
            name, days, wanted = t.tank.id, t.days, t.tank.days_in_hand
            en = f"{name} lasts {days:.1f} days on diesels alone without a delivery, {wanted:g} are wanted"
            ja = f"{name} の燃料は補給なしのディーゼル単独運転で {days:.1f} 日分、必要日数は {wanted:g} 日"
            yield Unmet("days_in_hand", question.grid.starts()[-1], wanted - days, "d", en, ja)
