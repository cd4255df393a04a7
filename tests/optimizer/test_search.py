"""The search in parts and near the old plan: no dearer than the search of the whole, and the same everywhere."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from ems.config.site import Site
from ems.errors import BadInput
from ems.model import Limits
from ems.plan import DieselStart, Plan
from optimizer.answer import plan_of
from optimizer.frame import Question
from optimizer.neighbourhood import near, shifted, whole_because
from optimizer.planner import plan_question, solve_question
from optimizer.problem import PlanProblem
from optimizer.ranking import useful_sets
from optimizer.search import widened
from optimizer.solver import Effort, solve
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, NOON, PV1, question, site, start
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
    return dataclasses.replace(question(isle(), STEPS, load, begin, sun=sun, water=0.08, at=at), previous=previous)


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
    return {"begin": dataclasses.replace(start(isle(), soc=plan.soc["bess1"][steps]), diesels=diesels)}


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


def test_a_charge_above_its_ceiling_is_no_reason_to_search_the_whole_and_load_in_the_dark_is() -> None:
    more = state(followed(), 4)
    limits: dict[str, dict[str, Limits]] = {
        "soc_max": {"bess1": Limits(soc_max=more["begin"].soc["bess1"] - 0.2)},
        "unserved": {"inv1": Limits(max_kw=0.0), **{d: Limits(max_kw=40.0) for d in ("dg1", "dg2")}},
    }
    for wish, given in limits.items():
        of = dataclasses.replace(asked(1, previous=followed(), **more), limits=given)
        problem().fill(of)
        assert whole_because(isle(), problem().frame, of) == ""
        plan, _ = plan_question(problem(), of, EFFORT, "near")
        assert wish in {u.limit for u in plan.unmet}
        assert (plan.gap is None) is (wish == "soc_max"), {u.limit for u in plan.unmet}


def test_with_time_the_whole_is_searched_too_and_proves_the_gap() -> None:
    of = asked(1, previous=followed(), **state(followed(), 4))
    plan, solved = plan_question(problem(), of, Effort(0.01, None, 40.0), "both")
    assert plan.gap is not None
    assert plan.gap <= 0.01
    assert solved.bound_l <= solved.objective_l + 1e-6


def test_what_the_neighbourhood_leaves_open() -> None:
    plan = dataclasses.replace(followed(), on=followed().on | {"dg2": tuple(8 <= k < 16 for k in range(24))})
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
    return dataclasses.replace(of, **change)


def reasons() -> list[tuple[Question, str]]:
    near_by = departed()
    hot = dataclasses.replace(near_by.forecast, load_kw=tuple(v + 60.0 for v in near_by.forecast.load_kw))
    flipped = {k: dataclasses.replace(v, on=not any(followed().on[k][3:6])) for k, v in near_by.start.diesels.items()}
    away = {k: dataclasses.replace(v, usable=False) for k, v in near_by.start.diesels.items()}
    return [
        (departed(previous=None), "no plan to begin from"),
        (departed(forecast=hot), "the forecast has moved"),
        (departed(start=dataclasses.replace(near_by.start, soc={"bess1": 0.95})), "bess1 is not charged as planned"),
        (departed(start=dataclasses.replace(near_by.start, diesels=flipped)), "does not run as planned"),
        (departed(start=dataclasses.replace(near_by.start, diesels=away)), "cannot run as planned"),
        (asked(7, previous=followed()), "a new part of the day"),
        (asked(48, previous=followed()), "the last plan is over"),
    ]


@pytest.mark.parametrize("k", range(7))
def test_when_the_whole_is_searched(k: int) -> None:
    of, why = reasons()[k]
    problem().fill(of)
    assert why in whole_because(isle(), problem().frame, of)


def test_equal_questions_get_equal_plans_whatever_was_asked_before() -> None:
    of = asked(1, previous=followed(), **state(followed(), 4))
    one, _ = plan_question(problem(), of, EFFORT, "same")
    plan_question(problem(), asked(13), EFFORT, "other")
    again, _ = plan_question(problem(), of, EFFORT, "same")
    fresh, _ = plan_question(PlanProblem(isle(), STEPS), of, EFFORT, "same")
    assert one == again == fresh


def test_an_old_plan_that_contradicts_the_plant_still_gives_a_plan() -> None:
    """dg1 is broken, the old plan lives by it: the whole is searched, and nothing is asked of dg1."""
    gone = {**start(isle()).diesels, "dg1": DieselStart(False, 1e6, usable=False)}
    of = asked(1, previous=followed(), begin=dataclasses.replace(start(isle()), diesels=gone))
    plan, _ = plan_question(problem(), of, EFFORT, "broken")
    assert not any(plan.on["dg1"])
    assert broken(plan, of) == []


@pytest.mark.parametrize(("flags", "steps", "wide"), [("0010000", 2, "1111100"), ("1000", 1, "1100"), ("1", 2, "1"), ("0000", 2, "0000"), ("0001", 5, "1111")])
def test_widened(flags: str, steps: int, wide: str) -> None:
    found = widened(np.array([c == "1" for c in flags]), steps)
    assert "".join("1" if v else "0" for v in found) == wide


def fleet(*ratings: float) -> Site:
    units = [{**DG1, "id": f"dg{k}", "rated_kw": kw, "block_load_kw": kw, "forming": "isochronous" if k == 0 else "droop"} for k, kw in enumerate(ratings)]
    return site({**LOAD, "peak_kw": 400.0}, *units, INV1, BESS1)


RANKED: list[tuple[tuple[float, ...], list[str], dict[str, Any], int]] = [
    # ratings, running, resting or broken, sets beside the dead bus
    ((100.0,) * 8, ["dg3", "dg5"], {}, 9),
    ((100.0, 95.0, 90.0, 200.0, 190.0), [], {}, 4 * 3),
    ((100.0, 200.0, 400.0), [], {}, 8),  # few: all of them
    ((100.0, 130.0, 170.0, 220.0, 300.0), [], {}, 32),  # no two alike: all of them
]


@pytest.mark.parametrize(("ratings", "running", "more", "count"), RANKED)
def test_of_many_diesels_only_sets_in_order_are_thought_of(ratings: tuple[float, ...], running: list[str], more: dict[str, Any], count: int) -> None:
    of = fleet(*ratings)
    names = [f"dg{k}" for k in range(len(ratings))]
    sets = [(), *(c for k in range(len(names) + 1) for c in combinations(names, k))]
    found = useful_sets(of, sets, question(of, [HOUR], 100.0, start(of, on=running, **more)))
    assert found.sum() == count + 1
    kept = [set(members) for members, flag in zip(sets, found, strict=True) if flag]
    assert set(running) in kept


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
