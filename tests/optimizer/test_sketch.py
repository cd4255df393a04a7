"""The sketch: when diesels run, by hand and against the search of the whole; never against what must or may not be."""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import pytest

from ems.config.site import Site
from ems.errors import Failed
from ems.model import Limits
from ems.plan import DieselStart
from ems.plan_check import PlanCheck
from optimizer.coarse import coarse
from optimizer.frame import Question
from optimizer.planner import plan_question
from optimizer.problem import PlanProblem
from optimizer.search import search, sketched
from optimizer.sketch import MOST_SETS, arcs, interpolated, sketch
from optimizer.solver import Effort, solve
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, PV1, hybrid, question, site, start
from tests.optimizer.test_problem import DESAL, RIVER
from tests.optimizer.test_search import fleet

QUARTER = 900.0
EFFORT = Effort(0.015, 2000)


def relaxed(of: Site, asked: Question) -> PlanProblem:
    """Return the problem of a question with the answer of its relaxation."""
    problem = PlanProblem(of, asked.grid.step_s)
    problem.fill(asked)
    solve(problem.cp, Effort(), relaxed=True)
    return problem


def drawn(of: Site, asked: Question) -> dict[str, str]:
    """Return on and off of each diesel in a sketch, a character for each step."""
    found = sketch(relaxed(of, asked))
    assert found is not None
    for low, high in found.values():
        assert (low == high).all()
    return {d: "".join(str(int(v)) for v in low) for d, (low, _) in found.items()}


@cache
def bare() -> Site:
    return site(LOAD, DG1, DG2)


def test_a_night_that_the_battery_lasts_needs_no_start() -> None:
    """320 kWh above the floor for 6 h of 40 kW."""
    assert drawn(hybrid(), question(hybrid(), [HOUR] * 6, 40.0, start(hybrid(), soc=0.9))) == {"dg1": "000000", "dg2": "000000"}


def test_an_evening_is_left_to_the_set_that_burns_least() -> None:
    """70 kW without a battery: dg2 burns 2.0 + 0.26 * 70 = 20.2 L/h, dg1 4.0 + 0.25 * 70 = 21.5."""
    assert drawn(bare(), question(bare(), [HOUR] * 3, 70.0, start(bare()))) == {"dg1": "000", "dg2": "111"}


def test_above_the_small_ones_rating_the_large_one_runs_alone() -> None:
    """150 kW: dg1 41.5 L/h, both together 6.0 + 0.25 * 150 and the minimum of dg2 dearer."""
    assert drawn(bare(), question(bare(), [HOUR] * 3, 150.0, start(bare()))) == {"dg1": "111", "dg2": "000"}


def test_a_start_for_ten_minutes_lasts_the_shortest_run() -> None:
    """The inverter gives 60 kW; two steps of five minutes need more, and dg1 must then run for 30 minutes."""
    isle = site(LOAD, {**DG1, "start_s": 1.0, "warmup_s": 0.0, "sync_s": 1.0}, INV1, {**BESS1, "discharge_kw": 64.0})
    load = [30.0] * 3 + [90.0] * 2 + [30.0] * 13
    on = drawn(isle, question(isle, [300.0] * 18, load, start(isle, soc=0.9)))["dg1"]
    assert on[3:5] == "11"
    assert on.strip("0") == "1" * 6


@pytest.mark.parametrize(("min_up_s", "min_down_s", "expected"), [(1800.0, 900.0, (2, 1)), (900.0, 5400.0, (1, 3)), (0.0, 0.0, (1, 1)), (1e6, 1e6, (6, 6))])
def test_how_long_a_set_must_hold(min_up_s: float, min_down_s: float, expected: tuple[int, int]) -> None:
    """After a start and after a stop in the first of four quarters and two hours; 5400 s end within the first of the hours."""
    isle = site(LOAD, {**DG1, "min_up_s": min_up_s, "min_down_s": min_down_s}, INV1, BESS1)
    of = coarse(relaxed(isle, question(isle, [QUARTER] * 4 + [HOUR] * 2, 40.0, start(isle))))
    off, on = (int(np.flatnonzero(of.fleet.members[:, 0] == flag)[0]) for flag in (False, True))
    ways = arcs(of, of.fleet.members)
    steps = (int(ways.hold[0, off, on]), int(ways.hold[0, on, off]))
    assert steps == ((expected[0], 5) if min_down_s == 5400.0 else expected)
    assert ways.hold[-1].max() == 1
    assert ways.cost_l[off, on] == pytest.approx(1.0)
    assert ways.cost_l[on, off] == 0.0


def test_the_least_fuel_of_a_set_is_that_of_the_best_split() -> None:
    """Two engines, one with a bent curve, against every split of their power."""
    bent = {"points": [[0.0, 2.0], [50.0, 12.0], [100.0, 28.0]]}
    isle = site(LOAD, DG1, {**DG2, "fuel": bent}, INV1, BESS1)
    of = coarse(relaxed(isle, question(isle, [HOUR], 120.0, start(isle))))
    both = int(np.flatnonzero(of.fleet.members.all(axis=1))[0])
    for power in (100.0, 140.0, 200.0, 260.0, 300.0):
        splits = [x for x in np.arange(30.0, 100.01, 0.5) if 60.0 <= power - x <= 200.0]
        best = min(4.0 + 0.25 * (power - x) + float(np.interp(x, [0.0, 50.0, 100.0], [2.0, 12.0, 28.0])) for x in splits)
        assert max(float(none[both, 0]) + slope * power * 1e-3 for none, slope in of.fleet.lines) == pytest.approx(best, abs=1e-6)


def test_interpolated_is_linear_and_flat_beyond_the_ends() -> None:
    grid, values = np.linspace(1.0, 3.0, 5), np.array([[0.0, 1.0, 4.0, 9.0, 16.0], [5.0] * 5])
    at = np.array([0.0, 1.0, 1.25, 2.9, 3.0, 7.0])[None, None, :] * np.ones((2, 1, 1))
    found = interpolated(values, grid, at)
    assert found[0, 0] == pytest.approx(np.interp(at[0, 0], grid, values[0]))
    assert found[1, 0] == pytest.approx(5.0)


def random_question(rng: np.random.Generator, steps: tuple[float, ...]) -> Question:
    """Return a state of the hybrid site: dg1 running or not for long, dg2 perhaps broken or out of service, some charge, some sun."""
    states = {
        "dg1": DieselStart(bool(rng.random() < 0.5), float(rng.choice([600.0, 1e5]))),
        "dg2": DieselStart(False, float(rng.choice([600.0, 1e5])), usable=bool(rng.random() < 0.8)),
    }
    begin = start(hybrid(), soc=float(rng.uniform(0.25, 0.9)), **states)
    limits: dict[str, Limits] = {"dg2": Limits(out_of_service=True)} if rng.random() < 0.2 else {}
    hours = np.cumsum(steps) / 3600.0 + float(rng.uniform(0.0, 24.0))
    sun = (150.0 * rng.random() * np.clip(np.cos((hours % 24.0 - 12.0) * np.pi / 12.0), 0.0, None)).tolist()
    load = (rng.uniform(30.0, 170.0) + 15.0 * rng.standard_normal(len(steps))).clip(10.0, 195.0).tolist()
    return question(hybrid(), steps, load, begin, sun=sun, limits=limits)


STEPS = (QUARTER,) * 8 + (HOUR,) * 10


@pytest.mark.parametrize("seed", range(12))
def test_a_random_question_is_answered_near_the_optimum_and_within_what_may_be(seed: int) -> None:
    problem = PlanProblem(hybrid(), STEPS)
    asked = random_question(np.random.default_rng(seed), STEPS)
    problem.fill(asked)
    solve(problem.cp, Effort(), relaxed=True)
    found = sketch(problem)
    assert found is not None
    for switch in problem.frame.switches:
        low, high = found[switch.asset]
        assert (low >= switch.low.value).all()
        assert (high <= switch.high.value).all()
    sets = [next(k for k, s in enumerate(problem.frame.sets) if k and set(s) == {d for d, (v, _) in found.items() if v[t]}) for t in range(len(STEPS))]
    live = problem.frame.allowed.value[sets, np.arange(len(STEPS))] > 0.5
    assert live.all()
    problem.frame.narrow(found)
    solve(problem.cp, Effort(), relaxed=True)  # it would fail where what a sketch fixes cannot be
    plan, solved = plan_question(problem, asked, EFFORT, "sketched")
    exact = solve(filled(problem, asked).cp, Effort(1e-3, 20000))
    litres = PlanCheck(hybrid()).fuel_l(plan, asked.start)
    assert solved.objective_l >= exact.bound_l - 1e-4
    assert solved.objective_l - exact.objective_l <= EFFORT.gap * max(abs(solved.objective_l), litres)
    assert PlanCheck(hybrid()).faults(plan, asked.start, asked.forecast, asked.limits) == []
    for on in plan.on.values():
        assert len(on) == len(STEPS)


def filled(problem: PlanProblem, asked: Question) -> PlanProblem:
    problem.fill(asked)
    return problem


def test_a_sketch_is_the_same_whatever_was_asked_before() -> None:
    one, other = (random_question(np.random.default_rng(k), STEPS) for k in (1, 2))
    problem = PlanProblem(hybrid(), STEPS)
    plans = [plan_question(problem, q, EFFORT, "same")[0] for q in (one, other, one)]
    assert plans[0] == plans[2]


SITES: list[tuple[str, tuple[dict[str, Any], ...], dict[str, Any]]] = [
    ("no battery", (LOAD, PV1, DG1, DG2), {}),
    ("one diesel", (LOAD, PV1, DG1, INV1, BESS1), {}),
    ("a charge that falls", (LOAD, PV1, DG1, INV1, {**BESS1, "charge_limit_curve": [[0.7, 1.0], [0.95, 0.2]]}), {}),
    ("two batteries", (LOAD, PV1, DG1, DG2, INV1, BESS1, {**INV1, "id": "inv2"}, {**BESS1, "id": "bess2", "behind": "inv2"}), {}),
    ("shares and losses together", (LOAD, PV1, DG1, DG2, INV1, BESS1), {"reserve": {"combine": "sum"}}),
    ("shares alone", (LOAD, PV1, DG1, DG2, INV1, BESS1), {"reserve": {"largest_unit": False}}),
    ("a sole former is not enough", (LOAD, PV1, DG1, DG2, INV1, BESS1), {"reserve": {"single_former": "refuse"}}),
    ("an inverter that forms nothing", (LOAD, PV1, DG1, DG2, {**INV1, "forming": "never"}, BESS1), {}),
    ("a river", (LOAD, PV1, {**RIVER, "pond_m3": 0.0}, DG1, DG2, INV1, BESS1), {}),
    ("a river and a deferrable", (LOAD, PV1, RIVER, DG1, DG2, INV1, BESS1, DESAL), {}),
]


@pytest.mark.parametrize(("name", "assets", "sections"), SITES, ids=[s[0] for s in SITES])
def test_every_kind_of_site_is_answered_no_dearer_than_the_gap_allows(name: str, assets: tuple[dict[str, Any], ...], sections: dict[str, Any]) -> None:
    isle = site(*assets, **sections)
    load = [60.0 + 80.0 * (10 <= k < 14) for k in range(18)]
    sun = [90.0 * (k < 8) for k in range(18)]
    asked = question(isle, STEPS, load, start(isle, on=["dg1"]), sun=sun, water=0.08)
    problem = PlanProblem(isle, STEPS)
    assert sketched(problem) == (name != "a river and a deferrable")
    plan, solved = plan_question(problem, asked, EFFORT, "any")
    exact = solve(filled(problem, asked).cp, Effort(1e-3, 20000))
    assert exact.bound_l - 1e-4 <= solved.objective_l <= exact.objective_l + EFFORT.gap * abs(exact.objective_l)
    assert PlanCheck(isle).faults(plan, asked.start, asked.forecast) == []


def test_a_narrowed_problem_is_sketched_within_its_bounds() -> None:
    """dg1 is kept on throughout, as a plan before has it, where dg2 alone would burn less."""
    asked = question(hybrid(), [HOUR] * 4, 70.0, start(hybrid(), soc=0.1, on=["dg1"]))
    problem = relaxed(hybrid(), asked)
    problem.narrow(asked, {"dg1": (np.ones(4), np.ones(4))})
    solve(problem.cp, Effort(), relaxed=True)
    found = sketch(problem)
    assert found is not None
    assert found["dg1"][0].all()
    search(problem, EFFORT)
    assert all(s.low.value.all() for s in problem.frame.switches if s.asset == "dg1")


def test_without_a_way_through_nothing_is_sketched_and_the_search_says_so() -> None:
    """dg1 is to be on for one quarter of an hour alone, and must be on for two."""
    asked = question(hybrid(), [QUARTER] * 4, 70.0, start(hybrid()))
    problem = relaxed(hybrid(), asked)
    flags = np.array([0.0, 1.0, 0.0, 0.0])
    problem.narrow(asked, {"dg1": (flags, flags), "dg2": (np.zeros(4), np.zeros(4))})
    assert sketch(problem) is None
    with pytest.raises(Failed):
        search(problem, EFFORT)


def test_more_sets_than_it_goes_through_are_left_to_the_search() -> None:
    many = fleet(100.0, 130.0, 170.0, 220.0, 300.0, 390.0, 510.0)
    problem = relaxed(many, question(many, [HOUR] * 2, 300.0, start(many, on=["dg0"])))
    assert int(problem.frame.allowed.value.any(axis=1).sum()) > MOST_SETS
    assert sketch(problem) is None
    assert not sketched(problem)  # a plan near the one that is followed is looked for instead


def test_a_window_is_not_sketched() -> None:
    """It is to end where the relaxation of the whole does, which a sketch does not know."""
    assert sketched(PlanProblem(hybrid(), (HOUR,) * 2, "bound"))
    assert not sketched(PlanProblem(hybrid(), (HOUR,) * 2, "window"))


def test_runs_and_rests_last_as_long_as_they_must() -> None:
    """An evening of ups and downs in quarters of an hour: every run in the sketch lasts 30 minutes, every rest 45."""
    load = np.random.default_rng(3).choice([20.0, 190.0], 16).tolist()
    tired = {"min_down_s": 2700.0}
    isle = site(LOAD, DG1 | tired, DG2 | tired, INV1, {**BESS1, "capacity_kwh": 80.0, "discharge_kw": 60.0})
    found = drawn(isle, question(isle, [QUARTER] * 16, load, start(isle, on=["dg1"])))
    stretches = [x for flags in found.values() for x in [(on, len(list(same))) for on, same in groupby(flags)][1:-1]]
    assert stretches
    assert all(length >= (2 if on == "1" else 3) for on, length in stretches)


@pytest.mark.parametrize(("share", "runs"), [((1.0,), True), ((0.4, 0.3, 0.3), False)])
def test_a_kilowatt_in_the_dark_costs_what_its_tier_costs(share: tuple[float, ...], runs: bool) -> None:
    """2.4 kW for ten minutes beyond the inverter: 80 L where all are of the first tier, 8 L where some are of the third; a start takes 30 L."""
    town = {**LOAD, "feeders": [{"id": f"f{k}", "priority": k + 1, "share": s} for k, s in enumerate(share)]}
    bare_reserve = {"load_fraction": 0.0, "solar_fraction": 0.0, "largest_unit": False}
    isle = site(town, {**DG1, "start_l": 30.0, "start_s": 1.0, "warmup_s": 0.0, "sync_s": 1.0}, {**INV1, "rated_kw": 60.0}, BESS1, reserve=bare_reserve)
    load = [30.0] * 3 + [62.4] * 2 + [30.0] * 13
    assert ("1" in drawn(isle, question(isle, [300.0] * 18, load, start(isle, soc=0.9)))["dg1"]) is runs


@pytest.mark.parametrize(("combine", "share"), [("sum", 0.25), ("max", 0.0)])
def test_beside_a_loss_a_share_of_the_sun_is_asked_only_with_sum(combine: str, share: float) -> None:
    isle = site(LOAD, PV1, DG1, DG2, INV1, BESS1, reserve={"combine": combine, "solar_fraction": 0.25})
    assert coarse(relaxed(isle, question(isle, [HOUR] * 2, 40.0, start(isle), sun=50.0))).sun_share == share
