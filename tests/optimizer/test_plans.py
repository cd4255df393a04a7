"""Whatever the start: there is a plan, and it obeys physics and limits, recomputed here from the plan alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ems.config.site import Battery, Diesel, Inverter, Site, Solar
from ems.model import Limits
from ems.physics import dc_kw, storage_step
from ems.plan import DieselStart, Plan, PlantStart
from optimizer.answer import plan_of
from optimizer.planner import solve_question
from optimizer.problem import PlanProblem
from optimizer.solver import Effort
from tests.optimizer.cases import hybrid, question, start

STEPS = (300.0, 300.0, 300.0, 900.0, 900.0, 3600.0, 3600.0, 3600.0)
EFFORT = Effort(0.01, 2000)


@cache
def compiled() -> PlanProblem:
    return PlanProblem(hybrid(), STEPS)


def plan_for(begin: PlantStart, load: list[float], sun: list[float], limits: dict[str, Limits] | None = None) -> Plan:
    asked = question(hybrid(), STEPS, load, begin, sun=sun, limits=limits or {})
    solved = solve_question(compiled(), asked, EFFORT)
    return plan_of(compiled(), asked, solved, "p", asked.grid.end)


def faults(of: Site, plan: Plan, begin: PlantStart) -> list[str]:
    """Recompute everything from the plan, with `ems.physics` and nothing of the optimiser."""
    found = []
    sources = [a.id for a in of.assets if isinstance(a, Solar | Diesel | Inverter)]
    low_load = any(u.limit == "min_loading" for u in plan.unmet)
    for k, step_s in enumerate(plan.grid.step_s):
        given_kw = sum(plan.power_kw[a][k] for a in sources) + plan.unserved_kw[k]
        if abs(given_kw - plan.load_kw[k]) > 0.1:
            found.append(f"balance of step {k}: {given_kw} for {plan.load_kw[k]}")
        for d in of.of(Diesel):
            power, on = plan.power_kw[d.id][k], plan.on[d.id][k]
            if power > d.rated_kw * on + 0.1 or (power < d.min_kw * on - 0.1 and not low_load):
                found.append(f"{d.id} at {power} in step {k}, on {on}")
        for g in of.of(Solar):
            if not -1e-6 <= plan.power_kw[g.id][k] <= plan.available_kw[g.id][k] + 0.01:
                found.append(f"{g.id} in step {k}")
        for i in of.of(Inverter):
            if abs(plan.power_kw[i.id][k]) > i.rated_kw + 0.1:
                found.append(f"{i.id} in step {k}")
        for b in of.of(Battery):
            inverter: Any = of.asset(b.behind)
            expected = storage_step(b, plan.soc[b.id][k], dc_kw(inverter, plan.power_kw[b.behind][k]), step_s / 3600.0)
            low, high = min(b.soc_min, begin.soc[b.id]), max(b.soc_max, begin.soc[b.id])
            if abs(expected - plan.soc[b.id][k + 1]) > 1e-6 or not low - 1e-4 <= expected <= high + 1e-4:
                found.append(f"{b.id} in step {k}: {expected} in {low}..{high}")
        if not any(plan.on[d.id][k] for d in of.of(Diesel)) and min(plan.soc["bess1"][k : k + 2]) <= 0.05 and plan.unserved_kw[k] < 0.99 * plan.load_kw[k]:
            found.append(f"nobody holds the bus in step {k}")
    return found


diesel_starts = st.builds(
    DieselStart,
    on=st.booleans(),
    since_s=st.sampled_from([0.0, 300.0, 1200.0, 1e6]),
    usable=st.sampled_from([True, True, False]),
    frozen=st.booleans(),
)


@settings(max_examples=40)
@given(
    soc=st.sampled_from([0.0, 0.04, 0.07, 0.1, 0.12, 0.3, 0.6, 0.95, 1.0]),
    dg1=diesel_starts,
    dg2=diesel_starts,
    load=st.lists(st.sampled_from([0.0, 10.0, 60.0, 150.0, 320.0]), min_size=8, max_size=8),
    sun=st.sampled_from([0.0, 30.0, 150.0]),
    limits=st.sampled_from([{}, {"inv1": Limits(out_of_service=True)}, {"bess1": Limits(soc_min=0.5)}, {"pv1": Limits(max_kw=20.0)}]),
)
def test_there_is_always_a_plan_and_it_obeys(soc: float, dg1: DieselStart, dg2: DieselStart, load: list[float], sun: float, limits: dict[str, Limits]) -> None:
    begin = PlantStart({"bess1": soc}, {"dg1": dg1, "dg2": dg2})
    assert faults(hybrid(), plan_for(begin, load, [sun] * 8, limits), begin) == []


def test_the_faults_function_can_fail() -> None:
    begin = start(hybrid())
    plan = plan_for(begin, [100.0] * 8, [0.0] * 8)
    assert faults(hybrid(), plan, begin) == []
    wrong = {**plan.power_kw, "dg1": tuple(p + 50.0 for p in plan.power_kw["dg1"])}
    broken = Plan(**{**{f: getattr(plan, f) for f in Plan.__slots__}, "power_kw": wrong})
    assert faults(hybrid(), broken, begin)


def test_the_same_question_gives_the_same_plan_from_any_history_of_solves() -> None:
    begin = start(hybrid(), soc=0.4, on=["dg1"])
    first = plan_for(begin, [120.0, 60.0, 150.0, 90.0, 30.0, 150.0, 100.0, 80.0], [40.0] * 8)
    plan_for(start(hybrid(), soc=0.9), [20.0] * 8, [0.0] * 8)
    again = plan_for(begin, [120.0, 60.0, 150.0, 90.0, 30.0, 150.0, 100.0, 80.0], [40.0] * 8)
    assert first == again


def test_charging_and_discharging_at_once_is_shut_and_solved_again() -> None:
    """A frozen diesel gives more than the load and the full battery takes no more: burning it would pay, and must not be."""
    begin = start(hybrid(), soc=0.95, dg1=DieselStart(True, 0.0, frozen=True))
    plan = plan_for(begin, [5.0] * 8, [0.0] * 8)
    out, into = (x.value.sum(axis=0) for x in (compiled().inverters[0].discharge, compiled().inverters[0].charge))
    assert np.minimum(out, into).max() <= 1e-4
    assert faults(hybrid(), plan, begin) == []
    assert any(u.limit == "min_loading" for u in plan.unmet)


def test_shedding_is_the_last_resort() -> None:
    """Reserve is short before anybody goes dark: one diesel at its rating, nothing behind it."""
    begin = start(hybrid(), soc=0.1, on=["dg1"], dg2=DieselStart(False, 0.0, usable=False))
    plan = plan_for(begin, [195.0] * 8, [0.0] * 8)
    assert max(plan.unserved_kw) == pytest.approx(0.0, abs=1e-3)
    assert any(u.limit == "reserve" for u in plan.unmet)
