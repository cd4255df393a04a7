"""The search in parts and near the old plan: no dearer than the search of the whole, and the same everywhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from ems.config.site import Diesel, Site
from ems.errors import BadInput
from ems.model import Limits
from ems.plan import DieselStart, Plan
from ems.plan_check import PlanCheck
from ems.rotation import SPREAD_H
from optimizer.answer import plan_of
from optimizer.frame import Question
from optimizer.neighbourhood import near, shifted, whole_because
from optimizer.planner import plan_question, solve_question
from optimizer.problem import PlanProblem
from optimizer.ranking import useful_sets
from optimizer.search import Answer, Trust, search, widened
from optimizer.solver import Effort, Solved, solve
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, NOON, PV1, planned, question, site, start
from tests.optimizer.test_plans import faults
from tests.optimizer.test_problem import DESAL, RIVER

STEPS = (900.0,) * 8 + (HOUR,) * 16
MIDNIGHT = NOON.replace(hour=0)
EFFORT = Effort(0.01, 2000)


@cache
def isle() -> Site:
    return site(LOAD, PV1, RIVER, DG1, DG2, INV1, BESS1, DESAL)


@cache
def problem() -> PlanProblem:
    return PlanProblem(isle(), STEPS)


def asked(hour: int = 0, **more: Any) -> Question:
    at = more.pop("at", MIDNIGHT + timedelta(hours=hour))
    begins = np.concatenate([[0.0], np.cumsum(STEPS)[:-1]]) / 3600.0 + (at - MIDNIGHT).total_seconds() / 3600.0
    load = [90.0 + 70.0 * (18 <= h % 24 < 22) + (int(h) % 5) for h in begins]
    sun = [150.0 * max(0.0, 1.0 - abs(h % 24 - 12) / 6.0) for h in begins]
    begin = more.pop("begin", start(isle(), on=["dg1"]))
    previous = more.pop("previous", None)
    return replace(question(isle(), STEPS, load, begin, sun=sun, water=0.08, at=at), previous=previous)


@cache
def followed() -> Plan:
    plan, _ = plan_question(problem(), asked(), EFFORT, "first")
    return plan


def broken(plan: Plan, of: Question) -> list[str]:
    """What is wrong with a plan; the balance is recomputed with the river."""
    found = [f for f in faults(isle(), plan, of.start) if not f.startswith("balance")]
    for k in range(plan.grid.n_steps):
        supply = sum(plan.power_kw[a][k] for a in ("pv1", "hydro1", "dg1", "dg2", "inv1")) + plan.unserved_kw[k]
        if abs(supply - plan.load_kw[k]) > 0.1:
            found.append(f"step {k}: {supply} for {plan.load_kw[k]}")
    return found


def state(plan: Plan, steps: int) -> dict[str, Any]:
    diesels = {d: DieselStart(plan.on[d][steps - 1], 1e5) for d in ("dg1", "dg2")}
    return {"begin": replace(start(isle(), soc=plan.soc["bess1"][steps]), diesels=diesels)}


@pytest.mark.parametrize("hour", [0, 13])
def test_the_search_in_parts_is_as_good_as_that_of_the_whole(hour: int) -> None:
    of = asked(hour)
    problem().fill(of)
    whole = solve(problem().cp, Effort(1e-4, 5000))
    parts = solve_question(problem(), of, EFFORT)
    assert parts.bound_l <= whole.objective_l + 1e-6
    assert parts.objective_l >= whole.bound_l - 1e-6
    assert parts.gap is not None
    assert parts.gap <= 0.01
    plan = plan_of(problem(), of, parts, "parts", of.grid.end)
    assert broken(plan, of) == []


@pytest.mark.usefixtures("no_sketch")
def test_near_the_old_plan_an_hour_later_costs_the_same_and_proves_nothing() -> None:
    of = asked(1, previous=followed(), **state(followed(), 4))
    problem().fill(of)
    assert whole_because(isle(), problem().frame, of) == ""
    plan, solved = plan_question(problem(), of, EFFORT, "near")
    assert plan.gap is None
    assert solved.bound_l == -np.inf
    whole = solve_question(problem(), of, EFFORT)
    assert solved.objective_l - whole.objective_l <= 0.01 * abs(whole.objective_l)
    assert broken(plan, of) == []


@pytest.mark.usefixtures("no_sketch")
def test_a_charge_above_its_ceiling_is_no_reason_to_search_the_whole_and_load_in_the_dark_is() -> None:
    more = state(followed(), 4)
    limits: dict[str, dict[str, Limits]] = {
        "soc_max": {"bess1": Limits(soc_max=more["begin"].soc["bess1"] - 0.2)},
        "unserved": {"inv1": Limits(max_kw=0.0), **{d: Limits(max_kw=40.0) for d in ("dg1", "dg2")}},
    }
    for wish, given in limits.items():
        of = replace(asked(1, previous=followed(), **more), limits=given)
        problem().fill(of)
        assert whole_because(isle(), problem().frame, of) == ""
        plan, _ = plan_question(problem(), of, EFFORT, "near")
        assert wish in {u.limit for u in plan.unmet}
        assert (plan.gap is None) is (wish == "soc_max"), {u.limit for u in plan.unmet}


@pytest.mark.usefixtures("no_sketch")
def test_with_time_the_whole_is_searched_too_and_proves_the_gap() -> None:
    of = asked(1, previous=followed(), **state(followed(), 4))
    plan, solved = plan_question(problem(), of, Effort(0.01, None, 40.0), "both")
    assert plan.gap is not None
    assert plan.gap <= 0.01
    assert solved.bound_l <= solved.objective_l + 1e-6


def test_what_the_neighbourhood_leaves_open() -> None:
    plan = replace(followed(), on=followed().on | {"dg2": tuple(8 <= k < 16 for k in range(24))})
    of = asked(1, previous=plan)
    problem().fill(of)
    low, high = near(problem().frame, of)["dg2"]
    steps = shifted(plan, of)
    assert steps[0] == 4
    assert steps[-1] == -1
    free = (low == 0.0) & (high == 1.0)
    assert free[:2].all()
    assert free[-1]
    switching = int(np.flatnonzero(steps == 8)[0])
    assert free[switching - 1]
    assert free[switching]
    fixed = ~free
    assert fixed.any()
    assert all(bool(low[k]) == plan.on["dg2"][steps[k]] for k in np.flatnonzero(fixed))


def departed(**change: Any) -> Question:
    of = asked(1, previous=followed(), **state(followed(), 4))
    return replace(of, **change)


def reasons() -> list[tuple[Question, str]]:
    near_by = departed()
    hot = replace(near_by.forecast, load_kw=tuple(v + 60.0 for v in near_by.forecast.load_kw))
    flipped = {k: replace(v, on=not any(followed().on[k][3:6])) for k, v in near_by.start.diesels.items()}
    away = {k: replace(v, usable=False) for k, v in near_by.start.diesels.items()}
    return [
        (departed(previous=None), "no plan to begin from"),
        (departed(forecast=hot), "the forecast has moved"),
        (departed(start=replace(near_by.start, soc={"bess1": 0.95})), "bess1 is not charged as planned"),
        (departed(start=replace(near_by.start, diesels=flipped)), "does not run as planned"),
        (departed(start=replace(near_by.start, diesels=away)), "cannot run as planned"),
        (asked(7, previous=followed()), "a new part of the day"),
        (asked(48, previous=followed()), "the last plan is over"),
    ]


@pytest.mark.parametrize("k", range(7))
def test_when_the_whole_is_searched(k: int) -> None:
    of, why = reasons()[k]
    problem().fill(of)
    assert why in whole_because(isle(), problem().frame, of)


@pytest.mark.usefixtures("no_sketch")
def test_equal_questions_get_equal_plans_whatever_was_asked_before() -> None:
    of = asked(1, previous=followed(), **state(followed(), 4))
    one, _ = plan_question(problem(), of, EFFORT, "same")
    plan_question(problem(), asked(13), EFFORT, "other")
    again, _ = plan_question(problem(), of, EFFORT, "same")
    fresh, _ = plan_question(PlanProblem(isle(), STEPS), of, EFFORT, "same")
    assert one == again == fresh


@pytest.mark.usefixtures("no_sketch")
def test_an_old_plan_that_contradicts_the_plant_still_gives_a_plan() -> None:
    """dg1 is broken, the old plan lives by it: the whole is searched, and nothing is asked of dg1."""
    gone = {**start(isle()).diesels, "dg1": DieselStart(False, 1e6, usable=False)}
    of = asked(1, previous=followed(), begin=replace(start(isle()), diesels=gone))
    plan, _ = plan_question(problem(), of, EFFORT, "broken")
    assert not any(plan.on["dg1"])
    assert broken(plan, of) == []


@pytest.mark.parametrize(("flags", "steps", "wide"), [("0010000", 2, "1111100"), ("1000", 1, "1100"), ("1", 2, "1"), ("0000", 2, "0000"), ("0001", 5, "1111")])
def test_widened(flags: str, steps: int, wide: str) -> None:
    found = widened(np.array([c == "1" for c in flags]), steps)
    assert "".join("1" if v else "0" for v in found) == wide


def fleet(*ratings: float, **of_dg1: Any) -> Site:
    units = [{**DG1, "id": f"dg{k}", "rated_kw": kw, "block_load_kw": kw, "forming": "isochronous" if k == 0 else "droop"} for k, kw in enumerate(ratings)]
    units[1] |= of_dg1
    return site({**LOAD, "peak_kw": 400.0}, *units, INV1, BESS1)


def useful(of: Site, previous: Plan | None = None, limits: dict[str, Limits] | None = None, **states: DieselStart) -> set[str]:
    """Return the sets that are thought of beside the dead bus, by the numbers of their diesels; diesels at rest where nothing is said."""
    names = [d.id for d in of.of(Diesel)]
    sets = [(), *(c for k in range(len(names) + 1) for c in combinations(names, k))]
    asked_of = replace(question(of, [HOUR] * 2, 100.0, start(of, **states), limits=limits or {}), previous=previous)
    found = useful_sets(of, sets, asked_of, kept=previous is not None)
    assert found[0] == 1.0
    return {"".join(d[2:] for d in members) for members, flag in zip(sets[1:], found[1:], strict=True) if flag}


ON, LATELY, WORN = DieselStart(True, 1e6), DieselStart(False, 60.0), 2.0 * SPREAD_H
RANKED: list[tuple[tuple[float, ...], dict[str, DieselStart], int]] = [
    ((100.0,) * 8, {}, 9),
    ((100.0,) * 8, {"dg3": ON, "dg5": ON}, 9 + 5),  # with 3, 5 first, or 0, 1: up to five engines that is another set
    ((100.0, 95.0, 90.0, 200.0, 190.0), {}, 4 * 3),
    ((100.0, 200.0, 400.0), {}, 8),  # no two alike: all of them
    ((100.0, 130.0, 170.0, 220.0, 300.0), {}, 32),
    ((100.0, 95.0, 200.0), {}, 8),  # up to four only twins are put in order
    ((100.0, 100.0, 200.0), {}, 3 * 2),
    ((100.0, 100.0, 200.0, 200.0), {}, 3 * 3),
    ((100.0,) * 4, {}, 5),
]


@pytest.mark.parametrize(("ratings", "states", "count"), RANKED)
def test_only_sets_in_order_are_thought_of(ratings: tuple[float, ...], states: dict[str, DieselStart], count: int) -> None:
    found = useful(fleet(*ratings), **states)
    assert len(found) == count
    assert "".join(d[2:] for d in states) in found


TWINS: list[tuple[str, dict[str, DieselStart], set[str]]] = [
    ("the file's order", {}, {"0"}),
    ("the fresher one", {"dg0": replace(LATELY, since_s=1e6, run_h=WORN)}, {"1"}),
    ("one that runs, and the fresher one at rest", {"dg0": replace(ON, run_h=WORN)}, {"0", "1"}),
    ("one that runs and is no more worn", {"dg0": ON}, {"0"}),
    ("hours that are no reason to change", {"dg0": replace(ON, run_h=0.4 * SPREAD_H)}, {"0"}),
    ("both run: the fresher one", {"dg0": replace(ON, run_h=WORN), "dg1": ON}, {"1"}),
    ("both run, and the worn one may not stop yet", {"dg0": DieselStart(True, 60.0, run_h=WORN), "dg1": ON}, {"0", "1"}),
    ("one that is on its way", {"dg1": DieselStart(True, 1e6, frozen=True, run_h=WORN)}, {"0", "1"}),
    ("one that burns itself clean", {"dg0": ON, "dg1": replace(ON, burn_s=600.0)}, {"0", "1"}),
    ("one that has just stopped", {"dg0": LATELY}, {"0", "1"}),
    ("broken", {"dg0": DieselStart(False, 1e6, usable=False)}, {"1"}),
    ("a service is due", {"dg0": replace(LATELY, since_s=1e6, service_in_h=1.0)}, {"0", "1"}),
    ("a service, but not today", {"dg0": replace(LATELY, since_s=1e6, service_in_h=9.0)}, {"0"}),
]


@pytest.mark.parametrize(("why", "states", "alone"), TWINS)
def test_which_of_two_twins_may_run_alone(why: str, states: dict[str, DieselStart], alone: set[str]) -> None:
    assert useful(fleet(100.0, 100.0), **states) == {"", "01"} | alone, why


@pytest.mark.parametrize(
    ("limits", "more", "apart"),
    [
        ({"dg0": Limits(max_kw=60.0)}, {}, True),
        ({"dg1": Limits(min_kw=60.0)}, {}, True),
        ({"bess1": Limits(soc_max=0.8)}, {}, False),
        ({}, {"fuel": {"no_load_l_per_h": 4.0, "slope_l_per_kwh": 0.26}}, True),
        ({}, {"forming": "never"}, True),
        ({}, {"forming": "isochronous", "droop": 0.03}, False),
    ],
)
def test_what_makes_two_engines_differ(limits: dict[str, Limits], more: dict[str, Any], apart: bool) -> None:
    assert useful(fleet(100.0, 100.0, **more), limits=limits) == {"", "0", "01"} | ({"1"} if apart else set())


def test_one_out_of_service_is_the_last_of_its_kind() -> None:
    assert useful(fleet(100.0, 100.0), limits={"dg0": Limits(out_of_service=True)}) == {"", "1", "01"}


def test_what_the_plan_before_had_stays_possible() -> None:
    of = fleet(100.0, 100.0, 100.0)
    plan = planned(of, [HOUR] * 2, 100.0, start(of, soc=0.2, on=["dg0"]))
    other = replace(plan, on={"dg0": (False, True), "dg1": (True, False), "dg2": (True, True)})
    assert useful(of) == {"", "0", "01", "012"}
    assert useful(of, previous=other) == {"", "0", "01", "012"} | {"12", "02"}


def three() -> PlanProblem:
    """Three twins of 100 kW, and little battery."""
    units = [{**DG2, "id": f"dg{k}", "forming": "isochronous" if k == 1 else "droop"} for k in (1, 2, 3)]
    return PlanProblem(site(LOAD, PV1, *units, INV1, {**BESS1, "capacity_kwh": 200.0}), (900.0,) * 4 + (HOUR,) * 6)


def test_a_plan_with_twins_in_order_costs_what_one_with_all_sets_does() -> None:
    """12 random states: run hours, running or at rest for long or not, on their way, broken, burning clean."""
    of, rng, fewer = three(), np.random.default_rng(5), 0
    exact = Effort(1e-5, 20000)
    for _ in range(12):
        states = {
            f"dg{k}": DieselStart(
                on=bool(rng.random() < 0.5),
                since_s=float(rng.choice([0.0, 600.0, 1e5])),
                usable=bool(rng.random() < 0.9),
                frozen=bool(rng.random() < 0.15),
                run_h=float(rng.choice([0.0, 150.0, 1000.0])),
                burn_s=float(rng.choice([0.0, 0.0, 0.0, 1800.0])),
            )
            for k in (1, 2, 3)
        }
        load = (rng.uniform(40.0, 260.0) + 20.0 * rng.standard_normal(10)).clip(20.0, 290.0).tolist()
        begin = start(of.site, soc=float(rng.uniform(0.15, 0.9)), **states)
        asked_of = question(of.site, of.frame.step_s, load, begin, sun=float(rng.choice([0.0, 80.0, 150.0])))
        ordered = solve_question(of, asked_of, exact)
        fewer += int(of.frame.useful.sum()) < len(of.frame.sets)
        of.fill(asked_of)
        of.frame.useful = np.ones(len(of.frame.sets))
        of.frame.narrow({})
        whole = search(of, exact)
        if of.separate():
            whole = search(of, exact)
        litres = PlanCheck(of.site).fuel_l(plan_of(of, asked_of, whole, "all", asked_of.grid.end), begin)
        assert ordered.objective_l - whole.objective_l <= 1e-3 * litres
    assert fewer == 12


def test_eight_diesels_have_a_plan_and_running_ones_come_first() -> None:
    of = fleet(*(100.0,) * 8)
    broken_one = {"dg0": DieselStart(False, 1e6, usable=False)}
    asked_of = question(of, [900.0] * 4 + [HOUR] * 4, 300.0, start(of, soc=0.1, on=["dg3", "dg5"], **broken_one))
    many = PlanProblem(of, asked_of.grid.step_s)
    solved = solve_question(many, asked_of, EFFORT)
    plan = plan_of(many, asked_of, solved, "many", asked_of.grid.end)
    assert not any(plan.on["dg0"])
    assert plan.on["dg3"][0]
    assert plan.on["dg5"][0]
    assert max(plan.unserved_kw) < 0.1
    assert faults(of, plan, asked_of.start) == []


def test_nine_diesels_and_a_bound_of_eight_are_refused() -> None:
    with pytest.raises(BadInput, match="9 diesels"):
        PlanProblem(fleet(*(100.0,) * 9), (HOUR,))
    with pytest.raises(BadInput, match="8 diesels"):
        PlanProblem(fleet(*(100.0,) * 8), (HOUR,), "bound")


@pytest.mark.parametrize(
    ("objective_l", "dark_or_dry_l", "usual_l", "enough"),
    [
        (1005.0, 0.0, 0.0, True),  # within the gap
        (1030.0, 0.0, 0.0, True),  # believed
        (1030.0, 40.0, 0.0, False),  # not where load is left in the dark that the relaxation serves
        (1060.0, 0.0, 0.0, False),
        (1060.0, 0.0, 2000.0, True),  # 60 L of what the load would burn
    ],
)
def test_how_far_a_sketch_is_believed(objective_l: float, dark_or_dry_l: float, usual_l: float, enough: bool) -> None:
    """A bound of 1000 L, a gap of 1 %, and 4 % for a sketch."""
    solved = Solved(objective_l, 1000.0, (objective_l - 1000.0) / objective_l, 0.0, limit_hit=False)
    assert Answer(solved, [], dark_or_dry_l).enough(0.01, Trust(0.04, usual_l)) is enough
