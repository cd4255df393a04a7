"""A planner process that falls ill: its reason is told, the old plan goes on, then the rules; no cycle waits for it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from ems.controller import Controller
from ems.decision import Event
from ems.memory import Memory, UnitMemory
from ems.plan import Plan
from ems.plan_keeper import PlanKeeper
from ems.terms import Mode, Phase
from optimizer.worker import WorkerPlanner
from tests.ems.island import START, site, telemetry
from tests.optimizer.makers import Ill

SITE = site()
UNITS = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, -9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}
CYCLES = 2000
"""Far more than any answer takes: each waits a hundredth of a second of real time."""


class Island:
    """A controller and a plan keeper with a planner process, cycle by cycle; the time of the site is what the test says."""

    def __init__(self, kind: str) -> None:
        self.keeper = PlanKeeper(SITE, WorkerPlanner(SITE, "persistence", 1.5 if kind == "hang" else 30.0, Ill(SITE, kind), pause_s=0.01))
        self.controller = Controller(SITE)
        self.memory = Memory(mode=Mode.AUTO, units=UNITS, setpoints={"inv1": -2.0, "pv1": 300.0})
        self.cycles = 0
        self.sources: list[str] = []

    def cycle(self, at_s: float) -> list[Event]:
        """Run one cycle at this time of the site [s]."""
        told = replace(telemetry(self.cycles), now_s=at_s, time=START + timedelta(seconds=at_s))
        plan = self.keeper.current(told.time)
        image, decision = self.controller.step(told, (), plan, self.memory)
        events, _ = self.keeper.tick(image, decision)
        self.memory = decision.memory
        self.cycles += 1
        self.sources.append(decision.plan_source)
        return events

    def until(self, at_s: float, done: str) -> list[Event]:
        """Run cycles at about this time until an event of this kind comes, or a plan is there (`plan`)."""
        for k in range(CYCLES):
            events = self.cycle(at_s + 1e-4 * k)
            if any(e.kind == done for e in events) or (done == "plan" and self.keeper.plan is not None):
                return events
            time.sleep(0.01)
        raise AssertionError(f"no {done} in {CYCLES} cycles")


@pytest.mark.parametrize(
    ("kind", "event", "word"),
    [
        ("hang", "plan_failed", "deadline of 1.5 s passed"),
        ("crash", "plan_failed", "code 7"),
        ("glutton", "plan_failed", "out of memory"),
        ("infeasible", "plan_failed", "status infeasible"),
        ("zeros", "plan_refused", "where its power leads to"),
        ("nan", "plan_refused", "not finite"),
        ("nan forecast", "plan_refused", "forecast of load is out of range"),
    ],
)
def test_an_ill_planner_costs_no_cycle(kind: str, event: str, word: str) -> None:
    island = Island(kind)
    try:
        island.until(0.0, "plan")
        good: Plan | None = island.keeper.plan
        assert good is not None
        island.cycle(299.0)
        assert island.sources[-1] == "load-following"  # the plan's own source: a roll-out
        before = island.cycles
        told = island.until(300.0, event)
        assert word in next(e.reason for e in told if e.kind == event)
        # Rung two: the plan before goes on, in every cycle from the question to the refusal and after it.
        assert island.keeper.current(START + timedelta(seconds=301.0)) is good
        assert island.cycles - before > (30 if kind == "hang" else 0)  # 1.5 s of a hanging child hold nobody up
        # Rung three: when it is no longer valid, the rules.
        lapsed = (good.valid_until - START).total_seconds()
        island.cycle(lapsed + 1.0)
        assert island.keeper.plan is None
        assert island.memory.mode is Mode.FALLBACK
    finally:
        island.keeper.close()
