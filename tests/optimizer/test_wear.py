"""Wear by depth: segments and prices by hand, and what plans make of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

from ems.config.site import Battery, Site
from ems.config.strict import Curve
from optimizer.assets.wear import SEGMENTS, WearBlock, life, segments
from optimizer.frame import Frame
from optimizer.problem import PlanProblem, prices_of
from optimizer.solver import Effort, solve
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, PV1, planned, site, start

SQUARE = [[0.5, 4000.0], [1.0, 1000.0]]
"""1000 / depth^2 cycles: a cycle takes depth^2 / 1000 of the life."""
COSTS = {"diesel_per_l": 1.0, "storage_wear_per_kwh": 0.04}
EVEN = [[0.2, 5000.0], [1.0, 1000.0]]
"""The same throughput at every depth."""


def battery(curve: Any, **more: Any) -> Battery:
    return Battery.model_validate({**BESS1, "soc_min": 0.0, "soc_max": 1.0, **more, "cycle_life": curve})


def isle(curve: Any = (), objective: str = "cost", **more: Any) -> Site:
    """A battery of 400 kWh in a band of 80 %, with a diesel beside it."""
    bess = {**BESS1, "soc_min": 0.1, "soc_max": 0.9, **more} | ({"cycle_life": curve} if curve else {})
    return site(LOAD, PV1, DG1, INV1, bess, planner={"objective": objective}, costs=COSTS)


@pytest.mark.parametrize(
    ("curve", "depth", "share"),
    [
        (((0.5, 4000.0), (1.0, 1000.0)), 0.5, 0.25e-3),
        (((0.5, 4000.0), (1.0, 1000.0)), 0.25, 0.0625e-3),  # the power law goes on below the first point
        (((0.2, 8000.0), (0.4, 4000.0), (0.8, 1000.0)), 0.6, 1.0 / (4000.0 * (0.4 / 0.6) ** 2)),  # and has a slope of its own in each part
        (((0.8, 3000.0),), 0.4, 1.0 / 6000.0),  # one point: equal throughput
        (((0.8, 3000.0),), 0.0, 0.0),
    ],
)
def test_the_life_that_a_cycle_takes(curve: Curve, depth: float, share: float) -> None:
    assert life(curve, depth) == pytest.approx(share)


def test_marginal_prices_rise_with_depth_and_a_whole_cycle_costs_the_mean() -> None:
    """depth^2 in quarters: 1, 3, 5, 7 sixteenths of what the whole cycle costs, 0.04 per kWh on the mean."""
    found = segments(battery(SQUARE), 0.04)
    assert [s.width for s in found] == pytest.approx([0.25] * SEGMENTS)
    assert [s.l_per_kwh for s in found] == pytest.approx([0.01, 0.03, 0.05, 0.07])
    band = segments(battery(SQUARE, soc_min=0.1, soc_max=0.9), 0.04)  # the shape is that of the depth from the top of the band
    assert [s.l_per_kwh for s in band] == pytest.approx([0.01, 0.03, 0.05, 0.07])
    assert sum(s.width * s.l_per_kwh for s in band) == pytest.approx(0.8 * 0.04)


@pytest.mark.parametrize("curve", [EVEN, [[0.8, 3000.0]], [[0.2, 3000.0], [0.8, 3000.0]]])
def test_where_depth_does_not_matter_there_is_one_segment_at_the_flat_price(curve: Any) -> None:
    """Equal throughput; and cycles that do not fall at all, where deep ones are the cheaper: the hull makes them equal."""
    (only,) = segments(battery(curve), 0.04)
    assert (only.width, only.l_per_kwh) == (pytest.approx(1.0), pytest.approx(0.04))


def worn_l(path: list[float], soc: float) -> float:
    """Return what the block charges for a path of stored energy of a battery of 400 kWh, as shares, beyond the price each way."""
    n = len(path) - 1
    of = site(LOAD, DG1, INV1, {**BESS1, "soc_min": 0.0, "soc_max": 1.0, "cycle_life": SQUARE}, planner={"objective": "cost"}, costs=COSTS)
    frame = Frame(of, (HOUR,) * n, prices_of(of, "plan"), "plan")
    stored = cp.Variable(n + 1)
    frame.constraints, frame.cost = [], []
    block = WearBlock(frame, of.of(Battery)[0], stored, 1.0)
    block.fill(soc)
    assert block.each_way_l_per_kwh == pytest.approx(0.005)
    problem = cp.Problem(cp.Minimize(cp.sum(cp.hstack(frame.cost))), [*frame.constraints, stored == np.array(path) * 0.4])
    return solve(problem, Effort()).objective_l


PATHS = [
    # depths of 1/4 each are 100 kWh, which cost 0, 2, 4, 6 L beyond the price of the first
    ([1.0, 0.75], 0.0),
    ([1.0, 0.5], 2.0),
    ([1.0, 0.0], 12.0),  # one deep cycle
    ([1.0, 0.5, 1.0, 0.5], 4.0),  # two shallow ones of the same energy
    ([1.0, 0.75, 0.5, 0.25, 0.0], 12.0),  # in steps it is the same cycle
    ([1.0, 0.5, 0.75, 0.5], 2.0),  # a small cycle inside a deep one is a small one, as rainflow counts it
    ([0.5, 0.25], 4.0),  # a battery is thought to have come down from its full charge
    ([0.5, 0.75, 0.5], 0.0),  # what was charged before is shallow
    ([0.375, 0.25], 2.0),
    ([0.0, 1.0], 0.0),  # charging costs no more than each way
]


@pytest.mark.parametrize(("path", "litres"), PATHS)
def test_a_path_costs_what_its_cycles_take(path: list[float], litres: float) -> None:
    assert worn_l(path, path[0]) == pytest.approx(litres, abs=1e-6)


def test_with_a_flat_curve_the_plan_and_its_cost_are_those_of_the_flat_price() -> None:
    load, sun = [60.0] * 8, [0.0] * 2 + [150.0] * 3 + [0.0] * 3
    plain, even, deep = (planned(isle(c), [HOUR] * 8, load, start(isle(c), soc=0.8), sun=sun) for c in ((), EVEN, SQUARE))
    assert even.objective_l == pytest.approx(plain.objective_l, rel=1e-9)
    assert even.power_kw == plain.power_kw
    assert deep.objective_l != pytest.approx(plain.objective_l, rel=1e-4)


def test_a_battery_of_unknown_charge_holds_nothing_that_could_wear() -> None:
    begin = replace(start(isle(SQUARE)), soc={})
    deep, plain = (planned(isle(c), [HOUR] * 4, 60.0, begin) for c in (SQUARE, ()))
    assert deep.soc == {} and deep.objective_l == pytest.approx(plain.objective_l, rel=1e-9)


@pytest.mark.parametrize("purpose", ["plan", "bound"])
def test_litres_alone_know_no_wear_by_depth(purpose: Any) -> None:
    """Objective `diesel`, and the bound under both: the same problem with and without a curve, not a variable more."""
    for objective in ("diesel", "cost") if purpose == "bound" else ("diesel",):
        with_curve, without = (PlanProblem(isle(c, objective), (HOUR,) * 6, purpose).cp for c in (SQUARE, ()))
        assert with_curve.size_metrics.num_scalar_variables == without.size_metrics.num_scalar_variables
        assert len(with_curve.constraints) == len(without.constraints)
    load = [60.0] * 6
    one, other = (planned(isle(c, "diesel"), [HOUR] * 6, load, start(isle(c), soc=0.8)) for c in (SQUARE, ()))
    assert one == other


def test_a_curve_costs_at_most_three_segments_a_step_and_no_whole_variable() -> None:
    n = 12
    with_curve, without = (PlanProblem(isle(c), (HOUR,) * n).cp for c in (SQUARE, ()))
    assert with_curve.size_metrics.num_scalar_variables - without.size_metrics.num_scalar_variables == 3 * (2 * n + 1)
    whole = [sum(v.size for v in p.variables() if v.attributes["integer"]) for p in (with_curve, without)]
    assert whole[0] == whole[1]
    assert with_curve.is_dcp(dpp=True)


def test_two_equal_batteries_go_half_as_deep_instead_of_one_whole() -> None:
    """Under the flat price it is all one which of them gives; by depth both stay within the same segment."""
    more = ({**INV1, "id": "inv2"}, {**BESS1, "id": "bess2", "behind": "inv2", "cycle_life": SQUARE})
    two = site(LOAD, DG1, INV1, {**BESS1, "cycle_life": SQUARE}, *more, planner={"objective": "cost"}, costs=COSTS | {"storage_wear_per_kwh": 0.1})
    plan = planned(two, [HOUR] * 6, 60.0, start(two, soc=0.95))
    given = [0.95 - plan.soc[b][-1] for b in ("bess1", "bess2")]
    border = 0.85 / 4
    assert sum(given) > 2.2 * border  # more than both shallow segments hold
    assert border - 0.01 <= min(given) and max(given) <= 2 * border + 0.01


@pytest.mark.parametrize("soc", [0.0, 0.04, 0.1, 0.5, 0.9, 0.97, 1.0])
def test_inside_and_outside_its_band_there_is_a_plan(soc: float) -> None:
    of = isle(SQUARE)
    plan = planned(of, [HOUR] * 4, 60.0, start(of, soc=soc, on=["dg1"]), sun=100.0)
    assert plan.objective_l is not None
    assert not any(u.limit == "unserved" for u in plan.unmet)
    block = PlanProblem(of, (HOUR,)).inverters[0].store
    assert block is not None
    assert sum(block.wear.held(soc)) == pytest.approx(max(0.0, soc - max(0.0, min(soc, 0.9) - 0.7)))


def test_the_deepest_segment_is_left_to_a_diesel() -> None:
    """Six hours before the sun: a kWh from a diesel costs 0.29 L.

    The flat price of 0.22 L lets the battery go down to its reserve; by depth the last quarter costs 0.385 L.
    """
    dear = COSTS | {"storage_wear_per_kwh": 0.22}
    base = {**BESS1, "soc_min": 0.1, "soc_max": 0.9}
    lowest = []
    for curve in ((), SQUARE):
        of = site(LOAD, PV1, DG1, DG2, INV1, base | ({"cycle_life": curve} if curve else {}), planner={"objective": "cost"}, costs=dear)
        plan = planned(of, [HOUR] * 12, 60.0, start(of, soc=0.9), sun=[0.0] * 6 + [150.0] * 6)
        lowest.append(min(plan.soc["bess1"]))
    assert lowest[0] < 0.2
    assert lowest[1] >= 0.3 - 1e-3
