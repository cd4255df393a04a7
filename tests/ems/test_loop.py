"""The loop with a plant in the same process: what comes in which order, and what each kind of failure does."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ems.controller import Controller
from ems.loop import durable, resumed
from ems.memory import Duty, Manual, Memory, Pending, UnitMemory
from ems.model import Limits, Outcome, Status
from ems.plan import PlanRequest
from ems.record import ClockInfo
from ems.setpoints import Setpoints
from ems.terms import Alarm, Mode, Phase, Stage
from tests.ems.island import START, site
from tests.ems.world import NoPlanner, World


@pytest.fixture
def world() -> World:
    return World(site())


# ------------------------------------------------------------------ a day like any other
async def test_the_island_is_run_cycle_by_cycle(world: World) -> None:
    loop = world.loop(cycle=41)
    state = await world.live(loop, 30)
    assert world.history.cycles == list(range(42, 72))  # numbers go on from the last process
    assert (state["cycle"], state["mode"], state["skipped"]) == (71, "fallback", 0)
    supply = sum(state["assets"][a]["power_kw"] for a in ("pv1", "dg1", "dg2", "inv1"))
    assert supply + state["unserved_kw"] == pytest.approx(state["load_kw"], abs=0.5)
    assert state["assets"]["pv1"]["power_kw"] == pytest.approx(150, abs=1)  # the sun is used
    assert {k["asset"] for k in world.beats[-1]["explain"]} >= {"pv1", "dg1", "inv1"}


async def test_what_is_written_was_committed_and_what_beats_was_written(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 20)
    seq = world.log.put("command", "pv1", action="set", power_kw=60.0)
    state = await world.live(loop, 1)
    order = [step for step in world.trace if step in ("commit", "write pv1.limit_kw", "append")]
    assert order == ["commit", "write pv1.limit_kw", "append"]
    assert world.trace.index("write pv1.limit_kw") < world.trace.index("beat") < world.trace.index("append")
    assert world.ledger.last(seq).status is Status.DONE
    assert state["assets"]["pv1"]["setpoint_kw"] == 60.0
    assert (await world.live(loop, 2))["assets"]["pv1"]["power_kw"] == pytest.approx(60.0)


async def test_a_pushed_forecast_reaches_the_planner_and_a_refused_one_does_not(world: World) -> None:
    asked: list[PlanRequest] = []

    class Desk(NoPlanner):
        def submit(self, request: PlanRequest) -> None:
            asked.append(request)

    loop = world.loop(planner=Desk())
    await world.live(loop, 5)
    assert asked[-1].given is None
    body = {"start": START.isoformat(), "step_s": 3600, "load_kw": [210.0] * 24, "available_kw": {"pv1": [1.0] * 24}, "inflow_m3s": {}}
    seq = world.log.put("forecast", None, **body)
    await world.live(loop, 1)
    assert world.ledger.last(seq) == Outcome(seq, Status.DONE, result="in force")
    assert world.happened("forecast") == [(None, f"load, pv1 from {START.isoformat()} (test)")]
    world.ledger.broken = True
    world.log.put("forecast", None, **{**body, "load_kw": [99.0] * 24})
    await world.live(loop, 1)
    world.clock.advance(3400.0)  # an unanswered question is given up at last
    await world.live(loop, 1)
    given = asked[-1].given
    assert given is not None
    assert (given.load_kw, dict(given.available_kw), given.until) == ((210.0,) * 24, {"pv1": (1.0,) * 24}, START + timedelta(minutes=10))


async def test_a_record_holds_the_memory_once_a_minute(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 130)
    kept = [r.telemetry.time for r in world.history.records if r.before is not None]
    assert [at - START for at in kept] == [timedelta(seconds=s) for s in (1, 60, 120)]


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.ADVISE])
async def test_below_control_nothing_reaches_the_devices(world: World, stage: Stage) -> None:
    loop = world.loop(stage=stage)
    touched: list[str] = []
    for _ in range(15):
        await world.live(loop, 1)
        touched += [step for step in world.trace if step == "beat" or step.startswith("write")]
    assert touched == []
    advice = world.beats[-1]["advice"]
    assert bool(advice) is (stage is Stage.ADVISE)
    assert {a["asset"] for a in advice} <= {"pv1", "dg1", "dg2", "inv1"}


# ------------------------------------------------------------------ stores that fail
async def test_without_a_ledger_orders_are_refused_and_control_goes_on(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 20)
    world.ledger.broken = True
    seq = world.log.put("command", "pv1", action="set", power_kw=60.0)
    state = await world.live(loop, 2)
    assert state["assets"]["pv1"]["power_kw"] == pytest.approx(150, abs=1)  # the order did nothing
    assert "ledger_dead" in world.codes()
    assert world.happened("refused") == [("pv1", "command: ledger_dead")]
    world.conditions = replace(world.conditions, available_kw={"pv1": 100.0})
    assert (await world.live(loop, 3))["assets"]["pv1"]["power_kw"] == pytest.approx(100, abs=1)
    assert not any(o.seq == seq for o in world.ledger.outcomes)

    world.ledger.broken = False
    state = await world.live(loop, 2)
    assert world.ledger.last(seq) == Outcome(seq, Status.REJECTED, "ledger_dead")  # told as soon as it can be
    assert "ledger_dead" not in world.codes()
    assert state["assets"]["pv1"]["power_kw"] == pytest.approx(100, abs=1)  # and never carried out later


async def test_without_a_ledger_an_emergency_stop_is_obeyed(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 20)
    world.ledger.broken = True
    order, stop = world.log.put("command", "dg2", action="start"), world.log.put("stop")
    state = await world.live(loop, 1)
    assert state["mode"] == "safe"
    assert "beat" not in world.trace
    await world.live(loop, 1)
    assert world.trace == ["append"]  # nothing is written any more
    world.ledger.broken = False
    await world.live(loop, 1)
    assert world.ledger.last(order).status is Status.REJECTED
    assert world.ledger.last(stop).status is Status.DONE


async def test_what_was_refused_without_a_ledger_is_not_in_force_after_a_kill(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 20)
    world.ledger.broken = True
    limit, manual = world.log.put("limits", "dg2", out_of_service=True), world.log.put("mode", None, mode="manual")
    await world.live(loop, 5)
    assert world.happened("refused") == [("dg2", "limits: ledger_dead"), (None, "mode: ledger_dead")]
    world.ledger.broken = False
    assert world.ledger.memory is not None
    again = world.loop(resumed(world.ledger.memory[0], world.clock.now_s()))  # nothing of it was ever written down
    await world.live(again, 2)
    assert (again.memory.limits, again.memory.all_manual) == ({}, False)
    assert [world.ledger.last(seq).cause for seq in (limit, manual)] == ["ledger_dead", "ledger_dead"]
    later = world.log.put("limits", "dg2", out_of_service=True)
    await world.live(again, 1)
    assert (world.ledger.last(later).status, set(again.memory.limits)) == (Status.DONE, {"dg2"})


async def test_minutes_wait_for_the_ledger(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 50)
    world.ledger.broken = True
    await world.live(loop, 80)
    assert world.ledger.minutes == []
    world.ledger.broken = False
    await world.live(loop, 60)
    assert [at - START for at in world.ledger.minutes] == [timedelta(seconds=s) for s in (1, 60, 120)]


async def test_without_a_history_control_and_the_page_go_on(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 20)
    world.history.broken = True
    world.conditions = replace(world.conditions, available_kw={"pv1": 90.0})
    state = await world.live(loop, 3)
    assert (state["cycle"], world.history.cycles[-1]) == (23, 20)
    assert state["assets"]["pv1"]["power_kw"] == pytest.approx(90, abs=1)
    assert "history_dead" in world.codes()
    world.history.broken = False
    await world.live(loop, 2)
    assert "history_dead" not in world.codes()


async def test_orders_that_cannot_be_read_wait(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 20)
    world.log.broken = True
    seq = world.log.put("limits", "pv1", max_kw=40.0)
    await world.live(loop, 2)
    assert "requests_dead" in world.codes()
    world.log.broken = False
    state = await world.live(loop, 2)
    assert world.ledger.last(seq).status is Status.DONE
    assert state["assets"]["pv1"]["setpoint_kw"] == 40.0


async def test_an_alarm_is_acknowledged_through_the_same_door(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 2)
    seq = world.log.put("ack", alarm="no_plan:site:1")
    await world.live(loop, 1)
    assert world.history.alarms.acked == [("no_plan:site:1", "hanako")]
    assert world.ledger.last(seq).status is Status.DONE


# ------------------------------------------------------------------ devices that fail
async def test_a_command_refused_three_times_is_an_alarm_until_it_is_taken(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 20)
    world.refusing = {"pv1"}
    world.log.put("command", "pv1", action="set", power_kw=60.0)
    seen = []
    for _ in range(4):
        await world.live(loop, 1)
        seen.append("unwritable" in world.codes())
    assert seen == [False, False, True, True]
    assert world.happened("write_failed") == [("pv1", "limit_kw 60: illegal address")]  # told once
    world.refusing = set()
    await world.live(loop, 1)
    assert "unwritable" not in world.codes()


async def test_a_device_that_is_lost_and_back_is_told_once_each(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 3)
    world.lost = {"pv1"}
    state = await world.live(loop, 2)
    assert state["assets"]["dg1"]["quality"] == "good"  # the fault stays with its device
    world.lost = set()
    until = asyncio.get_running_loop().time() + 20
    while not world.happened("device_back") and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(0.05)  # a device that failed is asked less often, in real time
        await world.live(loop, 1)
    assert [asset for asset, _ in world.happened("device_lost")] == ["pv1"]
    assert [asset for asset, _ in world.happened("device_back")] == ["pv1"]


async def test_alarms_of_others_are_shown(world: World) -> None:
    loop = world.loop(outside=[Alarm("uplink_dead", "major", None, "gone", "停止")])
    await world.live(loop, 1)
    assert "uplink_dead" in world.codes()


# ------------------------------------------------------------------ time
async def test_ticks_that_come_too_late_are_skipped_and_counted() -> None:
    isle = site()
    world = World(isle.model_copy(update={"control": isle.control.model_copy(update={"cycle_s": 0.1})}))
    stop = asyncio.Event()

    def tell(beat: dict[str, Any]) -> None:
        world.beats.append(beat)
        if beat["cycle"] == 2:
            threading.Event().wait(0.35)  # three ticks pass meanwhile
        if beat["cycle"] == 4:
            stop.set()

    loop = world.loop(tell=tell)
    await asyncio.wait_for(loop.run(stop), 20)
    assert world.history.cycles == [1, 2, 3, 4]
    assert loop.skipped >= 3
    assert world.beats[-1]["state"]["skipped"] == loop.skipped


# ------------------------------------------------------------------ restart
async def test_a_restart_goes_on_and_repeats_nothing(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 20)
    limit, order = world.log.put("limits", "pv1", max_kw=40.0), world.log.put("command", "dg2", action="start")
    await world.live(loop, 1)
    assert world.ledger.last(order).status is Status.ACCEPTED
    assert world.ledger.memory is not None
    memory, cycle = world.ledger.memory  # what a kill right after the first write leaves

    again = world.loop(resumed(memory, world.clock.now_s()), cycle)
    state = await world.live(again, 1)
    assert state["cycle"] == cycle + 1
    assert world.happened("mode")[-1][1].startswith("start -> fallback")  # through START again
    settled = len([o for o in world.ledger.outcomes if o.seq in (limit, order) and o.status is not Status.DONE])
    assert settled == 1  # accepted once, not once more
    state = await world.live(again, 100)
    assert state["assets"]["pv1"]["setpoint_kw"] == 40.0
    assert world.ledger.last(order).status is Status.DONE  # closed by its effect
    assert state["assets"]["dg2"]["running"] is True


def test_what_a_restart_keeps_and_what_it_forgets() -> None:
    old = Memory(
        mode=Mode.AUTO,
        mode_since_s=5000.0,
        stage=Stage.ADVISE,
        units={"dg1": UnitMemory(Phase.ONLINE, 4000.0, started_s=4000.0), "dg2": UnitMemory(Phase.LOCKED, 4500.0, failed_starts=3)},
        limits={"pv1": Limits(max_kw=40.0, version=7)},
        manual={"dg1": Manual(run=True)},
        pending={9: Pending("dg1", "start", 5600.0)},
        setpoints={"pv1": 40.0},
        astray={"pv1": 4990.0},
        done_kwh={"desal1": 300.0},
        duties={"desal1": Duty(True, 4800.0, 2)},
        day="2026-03-01",
        all_manual=True,
        stopped=True,
        taken_seq=9,
    )
    new = resumed(old, 10.0)
    assert (new.mode, new.mode_since_s, new.stage, new.stopped, new.all_manual, new.taken_seq) == (Mode.START, 10.0, Stage.ADVISE, True, True, 9)
    assert (new.limits, new.manual, new.done_kwh, new.day) == (old.limits, old.manual, old.done_kwh, old.day)
    assert {d: (u.phase, u.since_s) for d, u in new.units.items()} == {"dg2": (Phase.LOCKED, 10.0)}  # others are rebuilt from what is read
    assert new.duties == {"desal1": Duty(True, 10.0, 2)}  # a minimum run counts as not met
    assert new.pending[9].until_s > 10.0
    assert (new.setpoints, new.astray) == ({}, {})


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"limits": {"pv1": Limits(max_kw=1.0)}}, True),
        ({"manual": {"dg1": Manual(run=True)}}, True),
        ({"stage": Stage.SHADOW}, True),
        ({"stopped": True}, True),
        ({"taken_seq": 3}, True),
        ({"units": {"dg1": UnitMemory(Phase.LOCKED, 1.0)}}, True),
        ({"units": {"dg1": UnitMemory(Phase.ONLINE, 1.0, locked=True)}}, True),
        ({"units": {"dg1": UnitMemory(Phase.ONLINE, 1.0)}}, False),
        ({"duties": {"desal1": Duty(True, 1.0, 1)}}, True),
        ({"duties": {"desal1": Duty(False, 1.0, 0)}}, False),
        ({"setpoints": {"pv1": 3.0}}, False),
        ({"load_kw": 300.0}, False),
    ],
)
def test_only_what_must_not_be_lost_is_saved_at_once(change: dict[str, Any], kept: bool) -> None:
    assert (durable(replace(Memory(), **change)) != durable(Memory())) is kept


async def test_a_quiet_island_does_not_wear_its_disk(world: World) -> None:
    loop = world.loop()
    await world.live(loop, 40)
    assert world.ledger.saves == 1


# ------------------------------------------------------------------ what the loop passes on
async def test_a_refused_write_is_told_once_in_a_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = world.loop()
    await world.live(loop, 5)
    monkeypatch.setattr(Setpoints, "_trimmed", lambda *args: 900.0)
    await world.live(loop, 3)
    assert world.happened("write_refused") == [("inv1", "power_kw 900: outside -247.0..241.8 kW")]
    monkeypatch.undo()
    await world.live(loop, 6)
    monkeypatch.setattr(Setpoints, "_trimmed", lambda *args: 900.0)
    await world.live(loop, 2)
    assert len(world.happened("write_refused")) == 2


async def test_the_state_shows_how_far_the_clock_is_trusted(world: World) -> None:
    unknown = await world.live(world.loop(), 1)
    known = await world.live(world.loop(clock_info=lambda: ClockInfo(True, 0.25)), 1)
    assert (unknown["clock"], known["clock"]) == ({"synced": None, "offset_s": None}, {"synced": True, "offset_s": 0.25})


async def test_the_record_names_the_policy_that_ran(world: World) -> None:
    loop = world.loop(controller=Controller(world.site, policy="cycle-charging"))
    await world.live(loop, 1)
    assert world.history.records[-1].policy == "cycle-charging"
