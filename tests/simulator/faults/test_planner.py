"""The planner in virtual time: its answers pass the site's own check, and every fault in them is found or shown to do no harm."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ems.plan import DieselStart, PlanRequest, PlantStart
from ems.plan_check import PlanCheck
from simulator.faults.live import Live
from simulator.faults.planner import ANSWER_S, SPOILED, RollOutPlanner
from simulator.scenario import synthetic
from tests.simulator.faults.bench import fault, island

AT = datetime(2026, 6, 1, 10, tzinfo=UTC)
SITE = island()
START = PlantStart({"bess1": 0.6}, {"dg1": DieselStart(True, 100.0), "dg2": DieselStart(False, 9000.0)})
REQUEST = PlanRequest("q1", AT, START)


def answered(*kinds: str, after_s: float = ANSWER_S):
    planner = RollOutPlanner(SITE, synthetic(SITE, 3))
    lives = [Live(fault(kind, "planner"), 1) for kind in kinds]
    planner.at(100.0, AT, lives)
    planner.submit(REQUEST)
    assert planner.take() is None
    planner.at(100.0 + after_s, AT, lives)
    return planner.take(), lives


def test_an_answer_comes_once_after_its_delay_and_passes_the_check() -> None:
    outcome, _ = answered()
    assert outcome is not None and outcome.plan is not None and outcome.forecast is not None
    assert PlanCheck(SITE).faults(outcome.plan, START, outcome.forecast) == []
    assert answered()[0] == outcome


@pytest.mark.parametrize("kind", ["hang", "slow"])
def test_no_answer_in_time(kind: str) -> None:
    outcome, lives = answered(kind)
    assert outcome is None
    assert lives[0].touched
    late, _ = answered(kind, after_s=3600.0)
    assert (late is None) is (kind == "hang")


@pytest.mark.parametrize("kind", sorted(set(SPOILED) - {"cost_blind"}))
def test_a_spoiled_answer_is_no_plan_that_passes(kind: str) -> None:
    outcome, lives = answered(kind)
    assert outcome is not None and lives[0].touched == 1
    refused = outcome.plan is None or outcome.request_id != REQUEST.id or PlanCheck(SITE).faults(outcome.plan, START, outcome.forecast)
    assert refused


def test_an_answer_that_ignores_cost_runs_every_set() -> None:
    outcome, _ = answered("cost_blind")
    assert all(all(on) for d, on in outcome.plan.on.items() if d != "desal")


def test_a_battery_of_unknown_charge_has_no_part_in_the_roll_out() -> None:
    planner = RollOutPlanner(SITE, synthetic(SITE, 3))
    planner.at(0.0, AT, ())
    planner.submit(PlanRequest("q2", AT, PlantStart({}, START.diesels)))
    planner.at(ANSWER_S, AT, ())
    outcome = planner.take()
    assert outcome.status == "ok" and outcome.plan.soc == {}
    assert set(outcome.plan.power_kw["inv1"]) == {-SITE.asset("inv1").no_load_kw}
