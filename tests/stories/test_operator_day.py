"""A keeper's day: orders, limits, manual, shedding, an emergency stop and a restart, on the real plant."""

from __future__ import annotations

import pytest

from ems.loop import resumed
from ems.memory import Manual
from ems.model import Status
from ems.terms import Mode, Phase, Reason
from tests.ems.island import START
from tests.ems.island import site as isle
from tests.stories.life import Cycle, Life, alarms, events, shipped

TOWN = {
    "id": "town", "kind": "load", "peak_kw": 400.0,
    "feeders": [
        {"id": "north", "share": 0.4, "device": {"profile": "generic-feeder", "url": "tcp://127.0.0.1:502"}},
        {"id": "south", "share": 0.6},
    ],
}  # fmt: skip


def statuses(cycles: list[Cycle]) -> list[tuple[int, Status]]:
    return [(o.seq, o.status) for c in cycles for o in c.decision.outcomes]


def test_start_hold_release() -> None:
    life = Life(isle(), soc=0.7)
    life.live(30, 150.0, 40.0)
    started = life.live(100, 150.0, 40.0, asked=[life.ask("command", "dg2", action="start")])
    assert statuses(started) == [(1, Status.ACCEPTED), (1, Status.DONE)]
    assert started[-1].flows.running["dg2"]
    held = life.live(2000, 150.0, 40.0)
    assert held[-1].flows.running["dg2"], "an order holds until it is released, beyond every minimum up time"
    assert held[-1].decision.assets["dg2"].why.reason is Reason.OPERATOR
    life.live(1, 150.0, 40.0, asked=[life.ask("command", "dg2", action="release")])
    freed = life.live(200, 150.0, 40.0)
    assert not freed[-1].flows.running["dg2"]


def test_a_stop_is_done_when_the_breaker_is_open_not_before() -> None:
    life = Life(isle(), soc=0.7)
    life.live(30, 150.0)
    stopped = life.live(60, 150.0, asked=[life.ask("command", "dg1", action="stop")])
    done = next(k for k, c in enumerate(stopped) if (1, Status.DONE) in statuses([c]))
    assert not stopped[done - 1].flows.running["dg1"]
    assert all(c.flows.running["dg1"] for c in stopped[: done - 1])


def test_the_last_former_is_not_stopped_by_anybody() -> None:
    life = Life(isle(drop=("inv1", "bess1", "dg2")), running=("dg1",))
    life.live(30, 150.0)
    cycles = life.live(700, 150.0, asked=[life.ask("command", "dg1", action="stop")])
    assert all(c.flows.running["dg1"] for c in cycles)
    assert cycles[-1].decision.outcomes == () and statuses(cycles)[-1] == (1, Status.DONE)
    assert [o.cause for c in cycles for o in c.decision.outcomes] == [None, "no_effect"]


def test_limits_and_setpoints_are_obeyed_on_the_plant() -> None:
    life = Life(shipped("ouessant"), soc=0.6)
    life.live(200, 900.0, 400.0)
    limited = life.live(100, 900.0, 400.0, asked=[life.ask("limits", "pv1", max_kw=150.0), life.ask("command", "inv1", action="set", power_kw=-200.0)])
    assert limited[2].flows.power_kw["pv1"] == pytest.approx(150.0)
    assert limited[-1].flows.power_kw["inv1"] == pytest.approx(-200.0, abs=10.0)
    assert limited[-1].decision.assets["pv1"].why.limited_by == ("operator_limit",)


def test_manual_holds_what_runs_and_reserve_still_adds() -> None:
    life = Life(isle(), soc=0.7)
    life.live(100, 150.0, 40.0)
    manual = life.live(600, 150.0, 40.0, asked=[life.ask("mode", mode="manual")])
    assert {c.decision.mode for c in manual[1:]} == {Mode.MANUAL}
    assert manual[-1].flows.running == manual[0].flows.running
    back = life.live(10, 150.0, 40.0, asked=[life.ask("mode", mode="auto")])
    assert back[-1].decision.mode is Mode.AUTO


def test_one_asset_in_manual_does_not_restart_an_engine_that_cools_down() -> None:
    life = Life(isle(), soc=0.7)
    life.live(2, 150.0, asked=[life.ask("command", "dg1", action="stop")])
    while life.memory.units["dg1"].phase is not Phase.COOLDOWN:
        life.live(1, 150.0)
    life.live(1, 150.0, asked=[life.ask("command", "dg1", action="release")])
    life.live(100, 150.0, asked=[life.ask("mode", "dg1", mode="manual")])
    assert life.memory.manual["dg1"] == Manual(run=False, power_kw=0.0)
    assert not life.cycles[-1].flows.running["dg1"]


def test_a_feeder_is_shed_and_restored_by_a_person_only() -> None:
    life = Life(isle(TOWN, drop=("town",)), dark=True)
    life.live(30, 150.0)
    shed = life.live(30, 150.0, asked=[life.ask("command", "north", action="shed")])
    assert shed[-1].flows.served_kw == pytest.approx(90.0)
    assert statuses(shed) == [(1, Status.ACCEPTED), (1, Status.DONE)]
    back = life.live(30, 150.0, asked=[life.ask("command", "north", action="restore")])
    assert back[-1].flows.unserved_kw == pytest.approx(0.0)
    refused = life.live(1, 150.0, asked=[life.ask("command", "south", action="shed"), life.ask("mode", "south", mode="manual")])
    assert [s for _, s in statuses(refused)] == [Status.REJECTED] * 2


def test_an_emergency_stop_leaves_the_lights_on_and_auto_takes_over_what_it_finds() -> None:
    life = Life(isle(), soc=0.6)
    life.live(100, 200.0, 60.0)
    stopped = life.live(60, 200.0, 60.0, asked=[life.ask("stop")])
    assert {c.decision.mode for c in stopped} == {Mode.SAFE}
    assert not any(c.decision.heartbeat for c in stopped)
    assert all(c.decision.writes == () for c in stopped[1:])
    life.plant.command("dg2", "running", 1.0)  # somebody starts the second set at its panel
    life.live(100, 200.0, 60.0)
    back = life.live(60, 200.0, 60.0, asked=[life.ask("mode", mode="auto")])
    assert back[-1].decision.mode is Mode.AUTO
    assert life.memory.units["dg2"].phase is Phase.ONLINE
    assert "adopted" not in {kind for kind, _ in events(back)}, "what is found while hands are off is no news"


def test_start_goes_on_once_somebody_has_started_an_engine() -> None:
    """A dead bus is a person's matter: START waits, and follows as soon as a former is there."""
    life = Life(isle(), running=(), dark=True)
    life.plant.inverters[0].trip(1.0)
    dead = life.live(60, 150.0)
    assert life.plant.blackout
    assert dead[-1].decision.mode is Mode.START
    assert ("dead_bus", None) in alarms(dead)
    assert all(c.decision.writes == () for c in dead)
    life.plant.command("dg1", "running", 1.0)
    alive = life.live(120, 150.0)
    assert not life.plant.blackout
    assert alive[-1].decision.mode is Mode.AUTO
    assert alive[-1].decision.leader == "dg1"


def test_a_restart_keeps_orders_limits_and_lock_outs() -> None:
    life = Life(isle(), soc=0.7)
    life.live(30, 200.0, 60.0, asked=[life.ask("limits", "pv1", max_kw=40.0), life.ask("command", "dg2", action="start")])
    life.live(100, 200.0, 60.0)
    life.plant.trip("dg1")
    life.live(20, 200.0, 60.0)
    life.memory = resumed(life.memory, life.now_s)
    cycles = life.live(60, 200.0, 60.0)
    assert cycles[0].decision.memory.limits["pv1"].max_kw == 40.0
    assert life.memory.manual["dg2"].run is True and cycles[-1].flows.running["dg2"]
    assert life.memory.units["dg1"].phase is Phase.LOCKED
    assert max(c.flows.power_kw["pv1"] for c in cycles) <= 40.0 + 1e-6


def test_a_late_order_is_never_carried_out() -> None:
    life = Life(isle(), soc=0.7)
    late = life.ask("command", "dg2", action="start")
    assert late.expires_at is not None and late.expires_at > START
    life.now_s += 4000.0
    cycles = life.live(10, 150.0, asked=[late])
    assert statuses(cycles) == [(1, Status.EXPIRED)]
    assert life.memory.manual == {}
