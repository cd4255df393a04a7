"""A battery that cannot be used, or whose charge nobody knows, is planned as absent; the rest of the island is planned as ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from ems.config.site import Site
from ems.model import Limits
from ems.plan import DieselStart, Grid, Plan, PlantStart
from ems.plan_check import PlanCheck
from ems.rules import Rules
from optimizer.coarse import coarse
from optimizer.frame import MW
from optimizer.neighbourhood import whole_because
from optimizer.problem import PlanProblem
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, NOON, PV1, forecast, hybrid, planned, question, site, start

INV2 = {**INV1, "id": "inv2"}
BESS2 = {**BESS1, "id": "bess2", "behind": "inv2"}
STEPS = (HOUR,) * 12
LOAD_KW = (60.0, 60.0, 110.0, 160.0, 90.0, 60.0, 60.0, 60.0, 150.0, 180.0, 100.0, 80.0)
SUN_KW = (90.0, 140.0, 140.0, 120.0, 60.0, 10.0, *(0.0,) * 6)
AWAY = {"bess2": Limits(out_of_service=True)}


def twin() -> Site:
    """The small island with a second inverter and battery like the first."""
    return site(LOAD, PV1, DG1, DG2, INV1, BESS1, INV2, BESS2)


def begun(of: Site, soc: Mapping[str, float], **usable: bool) -> PlantStart:
    return replace(start(of), soc=soc, usable=usable)


def faults(of: Site, plan: Plan, begin: PlantStart, limits: Mapping[str, Limits] | None = None) -> list[str]:
    return PlanCheck(of).faults(plan, begin, forecast(of, Grid(NOON, STEPS), LOAD_KW, SUN_KW), limits or {})


@pytest.mark.parametrize(
    ("begin", "limits"),
    [
        (begun(twin(), {"bess1": 0.5}, inv2=False), AWAY),  # for maintenance: its BMS is off, and its inverter is not to be used
        (begun(twin(), {"bess1": 0.5}), {}),  # its meter alone is lost
        (begun(twin(), {"bess1": 0.5, "bess2": 0.1}), AWAY),  # out of service at its floor: nor does it ask for a reserve that others would hold
        (begun(twin(), {"bess1": 0.5, "bess2": 0.9}, inv2=False), {}),
    ],
)
def test_the_others_are_planned_as_if_it_were_not_there(begin: PlantStart, limits: dict[str, Limits]) -> None:
    """A plan of the same litres, prices and all, as where the second inverter has no battery; it draws its 2 kW and no more."""
    alone = site(LOAD, PV1, DG1, DG2, INV1, BESS1, {**INV2, "forming": "never"})
    plan = planned(twin(), STEPS, LOAD_KW, begin, sun=SUN_KW, limits=limits)
    other = planned(alone, STEPS, LOAD_KW, start(alone), sun=SUN_KW)
    assert plan.power_kw["inv2"] == pytest.approx((-2.0,) * 12, abs=1e-6)
    assert plan.objective_l == pytest.approx(other.objective_l, abs=1e-3)
    assert min(plan.soc["bess1"]) < 0.45  # the other one works
    assert plan.soc.get("bess2") == (None if "bess2" not in begin.soc else pytest.approx((begin.soc["bess2"],) * 13))
    assert faults(twin(), plan, begin, limits) == []


def test_what_a_plan_says_or_does_of_an_unknown_charge_is_refused() -> None:
    begin = begun(twin(), {"bess1": 0.5})
    plan = planned(twin(), STEPS, LOAD_KW, begin, sun=SUN_KW)
    told = replace(plan, soc={**plan.soc, "bess2": (0.5,) * 13})
    used = replace(plan, power_kw={**plan.power_kw, "inv1": tuple(p - 20.0 for p in plan.power_kw["inv1"]), "inv2": (18.0,) * 12})
    silent = replace(plan, soc={})
    assert faults(twin(), told, begin) == ["it gives soc of bess2, whose charge at the start is not known"]
    assert "inv2 at 18 kW in step 0, allowed -2 to 0 kW" in faults(twin(), used, begin)
    assert faults(twin(), silent, begin) == ["bess1 soc has 0 values instead of 13"]


def test_without_a_known_charge_a_diesel_holds_the_bus() -> None:
    """60 kW and 2 of the inverter: the small set burns 2 + 0.26 x 62 = 18.1 L/h, the large one 4 + 0.25 x 62 = 19.5."""
    of, begin = site(LOAD, DG1, DG2, INV1, BESS1), replace(start(hybrid()), soc={})
    plan = planned(of, STEPS, 60.0, begin)
    assert plan.on == {"dg1": (False,) * 12, "dg2": (True,) * 12}
    assert plan.power_kw["dg2"] == pytest.approx((62.0,) * 12)
    assert plan.power_kw["inv1"] == (-2.0,) * 12 and plan.soc == {}
    seen = forecast(of, Grid(NOON, STEPS), 60.0)
    assert PlanCheck(of).faults(plan, begin, seen) == []
    lone = replace(plan, on={"dg1": (False,) * 12, "dg2": (False,) * 12}, power_kw={"dg1": (0.0,) * 12, "dg2": (0.0,) * 12, "inv1": (60.0,) * 12})
    assert "nobody holds the bus in step 0" in PlanCheck(of).broken(lone, begin, seen)


@pytest.mark.parametrize("policy", ["load-following", "cycle-charging"])
def test_the_rules_run_without_it_and_pass_the_check(policy: str) -> None:
    begin = replace(start(hybrid(), on=["dg1"]), soc={})
    seen = forecast(hybrid(), Grid(NOON, STEPS), LOAD_KW, SUN_KW)
    plan = Rules(hybrid()).rollout(begin, seen, policy, "p", NOON)
    assert plan.soc == {} and plan.power_kw["inv1"] == (-2.0,) * 12
    assert all(a or b for a, b in zip(plan.on["dg1"], plan.on["dg2"], strict=True))
    assert PlanCheck(hybrid()).faults(plan, begin, seen) == []


def test_with_nobody_left_to_hold_the_bus_there_is_still_a_plan() -> None:
    gone = DieselStart(False, 1e6, usable=False)
    plan = planned(hybrid(), STEPS, LOAD_KW, replace(start(hybrid(), dg1=gone, dg2=gone), soc={}))
    assert plan.unserved_kw == pytest.approx(LOAD_KW, abs=2.1)
    assert not any(plan.on["dg1"]) and not any(plan.on["dg2"])


def test_a_sketch_sees_only_what_can_be_used() -> None:
    problem = PlanProblem(twin(), STEPS)
    problem.fill(question(twin(), STEPS, LOAD_KW, begun(twin(), {"bess1": 0.5})))
    store = coarse(problem).store
    assert store is not None
    assert (store.energy_0, float(store.top[0])) == pytest.approx((0.5 * 400.0 * MW, 0.95 * 400.0 * MW))
    problem.fill(question(twin(), STEPS, LOAD_KW, begun(twin(), {})))
    assert coarse(problem).store is None


def test_a_plan_near_one_that_knew_the_charge_is_not_enough() -> None:
    problem, known, unknown = PlanProblem(twin(), STEPS), begun(twin(), {"bess1": 0.5, "bess2": 0.5}), begun(twin(), {"bess1": 0.5})
    before = [planned(twin(), STEPS, LOAD_KW, s, sun=SUN_KW) for s in (known, unknown)]
    why = []
    for plan in before:
        asked = replace(question(twin(), STEPS, LOAD_KW, unknown, sun=SUN_KW), previous=plan)
        problem.fill(asked)
        why.append(whole_because(twin(), problem.frame, asked))
    assert why == ["bess2 is not charged as planned", ""]
