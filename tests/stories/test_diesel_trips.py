"""A diesel trips, or will not start: the others carry, the next one comes, and it is not asked again for ever."""

from __future__ import annotations

import pytest

from ems.terms import Phase
from tests.ems.island import site as isle
from tests.stories.life import Life, alarms, events, shipped, starts

CARRIED = {"ouessant": (900.0, 100.0, 0.0), "river": (900.0, 100.0, 0.8), "village": (70.0, 10.0, 0.0)}


@pytest.mark.parametrize("name", CARRIED)
def test_the_leading_diesel_trips_and_nobody_sits_in_the_dark(name: str) -> None:
    life = Life(shipped(name), soc=0.6)
    life.live(200, *CARRIED[name])
    assert life.plant.diesels[0].on
    life.plant.trip("dg1")
    cycles = life.live(400, *CARRIED[name])
    assert ("tripped", "dg1") in events(cycles)
    assert {("fault", "dg1"), ("locked", "dg1")} <= alarms(cycles)
    assert starts(cycles)["dg1"] == 0
    assert cycles[-1].decision.reserve.short_kw == 0.0
    assert cycles[-1].decision.leader != "dg1"


@pytest.mark.parametrize("level", ["energy", "dynamic"])
def test_two_trips_in_a_row(level: str) -> None:
    life = Life(shipped("ouessant"), soc=0.6, level=level)
    life.live(200, 1100.0)
    life.plant.trip("dg1")
    life.live(120, 1100.0)
    second = next(d for d, on in life.cycles[-1].flows.running.items() if on)
    life.plant.trip(second)
    cycles = life.live(200, 1100.0)
    assert sum(cycles[-1].flows.running.values()) == 1
    assert {("locked", "dg1"), ("locked", second)} <= alarms(cycles)


def test_a_lock_out_is_released_by_a_person_and_then_it_runs_again() -> None:
    life = Life(isle(), soc=0.15)
    life.live(30, 150.0)
    life.plant.trip("dg1")
    life.live(100, 150.0)
    assert life.memory.units["dg1"].phase is Phase.LOCKED
    refused = life.live(1, 150.0, asked=[life.ask("command", "dg1", action="start")])
    assert refused[0].decision.outcomes[0].cause == "it is not ready"
    life.plant.command("dg1", "running", 0.0)  # somebody resets it at its panel
    life.live(5, 150.0)
    assert life.memory.units["dg1"].phase is Phase.LOCKED
    life.live(1, 150.0, asked=[life.ask("command", "dg1", action="release")])
    life.live(100, 150.0, asked=[life.ask("command", "dg1", action="start")])
    assert life.memory.units["dg1"].phase is Phase.ONLINE


def test_one_that_will_not_start_is_replaced_before_its_retries_are_over() -> None:
    """The inverter runs low; the diesel that is called first never comes: the other one does, in time."""
    life = Life(isle(), soc=0.30, running=())
    life.live(60, 150.0)
    called: str | None = None
    for _ in range(4000):
        cycle = life.live(1, 150.0)[-1]
        begun = [asset for kind, asset in events([cycle]) if kind == "start"]
        called = called or (begun[0] if begun else None)
        if called is not None and not life.plant.diesels[0 if called == "dg1" else 1].fault:
            life.plant.trip(called)
        if any(cycle.flows.running.values()):
            break
    assert called is not None
    other = "dg2" if called == "dg1" else "dg1"
    assert life.cycles[-1].flows.running[other]
    assert life.cycles[-1].flows.soc["bess1"] > 0.10
    assert ("start_failed", called) in events(life.cycles)
