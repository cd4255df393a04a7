"""The bound: below every plan, and proved."""

from __future__ import annotations

import pytest

from ems.physics import fuel_l
from ems.plan import Grid
from optimizer.foresight import foresight
from tests.optimizer.cases import DG1, LOAD, NOON, forecast, hybrid, site, start


def test_one_diesel_and_nothing_to_choose_is_its_own_bound() -> None:
    alone = site(LOAD, DG1)
    grid = Grid(NOON, (900.0,) * 8)
    outcome = foresight(alone, forecast(alone, grid, 100.0), start(alone, on=["dg1"]))
    assert outcome.plan is not None
    assert outcome.plan.bound_l == pytest.approx(2 * (4.0 + 25.0), rel=1e-3)


def test_the_bound_is_soc_corrected_litres_and_the_gap_is_proved() -> None:
    grid = Grid(NOON, (900.0,) * 48)
    load = [100.0 + 60.0 * (k % 12) / 12 for k in range(48)]
    sun = [150.0 if 8 <= k < 20 else 0.0 for k in range(48)]
    outcome = foresight(hybrid(), forecast(hybrid(), grid, load, sun), start(hybrid(), on=["dg1"]))
    plan = outcome.plan
    assert plan is not None
    assert plan.bound_l is not None
    burnt = 0.0
    for diesel in ("dg1", "dg2"):
        before = diesel == "dg1"
        for power, on in zip(plan.power_kw[diesel], plan.on[diesel], strict=True):
            burnt += fuel_l(hybrid().asset(diesel), power, 0.25) if on else 0.0  # type: ignore[arg-type]
            burnt += 1.0 if on and not before else 0.0
            before = on
    corrected = burnt + (plan.soc["bess1"][0] - plan.soc["bess1"][-1]) * 400.0 * 0.96 * 0.975 * 0.25
    assert plan.bound_l <= corrected
    assert corrected - plan.bound_l <= 0.002 * corrected + 0.01
    assert plan.gap is not None
    assert plan.gap <= 0.002
    assert not outcome.limit_hit


def test_an_impossible_question_is_a_failed_outcome() -> None:
    grid = Grid(NOON, (900.0,) * 4)
    outcome = foresight(hybrid(), forecast(hybrid(), grid, float("inf")), start(hybrid()))
    assert outcome.status == "failed"
    assert "load" in outcome.cause
