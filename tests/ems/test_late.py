"""A device that answers late, or again and again not: it is left alone until its heartbeat was watched, and nobody else pays for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ems.controller import Controller
from ems.fieldbus import Fieldbus, Wire
from ems.loop import Loop
from ems.memory import BlackStart, Memory
from ems.terms import Mode, Phase, Stage
from tests.ems.island import diesel, inverter, points, site, telemetry
from tests.ems.world import Device, World

COMMANDS = ("power_kw", "limit_kw", "running", "forming")


class Beating(Device):
    """A device with a heartbeat register that stands still but for our beats; a restart of its link leaves it as it is."""

    def __init__(self, world: World, asset: str, there: asyncio.Event) -> None:
        super().__init__(world, asset)
        self.value, self.moves, self._there = 0.0, True, there

    async def connect(self) -> None:
        await self._there.wait()
        await super().connect()

    async def heartbeat(self) -> float | None:
        return self.value

    async def beat(self, count: int) -> None:
        self.value = float(count % 2)
        self.world.trace.append(f"beat {self.asset}")


class Moving(Beating):
    """Somebody else beats on it."""

    async def heartbeat(self) -> float | None:
        self.value = 1.0 - self.value if self.moves else self.value
        return self.value


def living(world: World, kinds: dict[str, type[Beating]] | None = None, late: str = "") -> tuple[Loop, dict[str, Beating], asyncio.Event]:
    """Return a loop over devices that are watched for four looks before the first write, and what lets the late one answer."""
    loop, now, then = world.loop(), asyncio.Event(), asyncio.Event()
    now.set()
    devices = {a: (kinds or {}).get(a, Beating)(world, a, then if a == late else now) for a in world.plant.observe(world.conditions)}
    loop._fieldbus = Fieldbus({a: Wire(d, dict.fromkeys(COMMANDS), watch_s=0.0) for a, d in devices.items()}, 0.02)
    return loop, devices, then


async def lived(world: World, loop: Loop, cycles: int, loses: str = "") -> list[list[str]]:
    """Let the loop live; one device may lose every third poll. Return what was done in each cycle."""
    traces = []
    for k in range(cycles):
        world.lost = {loses} if k % 3 == 2 else set()
        await world.live(loop, 1)
        traces.append(list(world.trace))
    return traces


async def test_a_link_that_loses_every_third_poll_costs_only_its_own_device() -> None:
    world = World(site(), load_kw=200.0, sun_kw=100.0)
    loop, _, _ = living(world)
    await lived(world, loop, 12, loses="pv1")  # it never answers four times in a row
    assert loop.memory.mode is Mode.FALLBACK
    world.log.put("command", "dg2", action="start")
    traces = await lived(world, loop, 120, loses="pv1")
    others = {f"beat {a}" for a in ("dg1", "dg2", "inv1", "bess1", "town")}
    assert all(others <= set(trace) for trace in traces)  # in 120 of 120 cycles, each of the others
    assert not any("pv1" in step for trace in traces for step in trace)
    assert [cause for asset, cause in world.happened("start") if asset == "dg2"] == ["operator"]  # begun once
    assert loop.memory.units["dg2"].phase is Phase.ONLINE
    state = world.beats[-1]["state"]
    assert (state["stage"], state["assets"]["pv1"]["setpoint_kw"]) == ("control", None)  # must-run
    assert state["withheld"] == 0  # nothing is even tried


async def test_a_late_device_is_written_when_it_was_watched_and_the_others_all_the_while() -> None:
    world = World(site(), load_kw=200.0, sun_kw=100.0)
    loop, _, there = living(world, late="pv1")
    await lived(world, loop, 40)  # START has gone on without it
    assert loop.memory.mode is Mode.FALLBACK
    there.set()
    traces = await lived(world, loop, 8)
    # four looks: free in the fourth cycle
    assert ["beat pv1" in trace for trace in traces] == [False, False, False, True, True, True, True, True]
    assert ["write pv1.limit_kw" in trace for trace in traces[:4]] == [False, False, False, True]
    assert all("beat dg1" in trace for trace in traces)


async def test_a_late_set_is_not_started_before_it_was_watched() -> None:
    """A start whose write is held back would fail for that, and after a second one the set would be locked out."""
    world = World(site(), load_kw=200.0, sun_kw=0.0)
    loop, _, there = living(world, late="dg2")
    await lived(world, loop, 40)
    there.set()
    world.log.put("command", "dg2", action="start")
    await lived(world, loop, 1)
    assert world.ledger.last(1).cause == "it is under local control"
    await lived(world, loop, 3)
    world.log.put("command", "dg2", action="start")
    await lived(world, loop, 120)
    assert (loop.memory.units["dg2"].phase, world.happened("start_failed")) == (Phase.ONLINE, [])


async def test_a_late_device_of_somebody_else_silences_us_everywhere() -> None:
    world = World(site(), load_kw=200.0, sun_kw=100.0)
    loop, _, there = living(world, {"pv1": Moving}, late="pv1")
    await lived(world, loop, 40)
    assert world.beats[-1]["state"]["stage"] == "control"
    there.set()
    traces = await lived(world, loop, 6)
    # it is seen at the first look, and has moved at the second
    assert [any(step.startswith(("beat", "write")) for step in trace) for trace in traces] == [True, False, False, False, False, False]
    assert (world.beats[-1]["state"]["stage"], [a for a, _ in world.happened("second_controller")]) == ("advise", ["pv1"])


async def test_while_all_is_watched_anew_nothing_counts_as_commanded() -> None:
    """The stage stays at advise until the other one is seen to be gone: setpoints would else run ahead of what is written."""
    world = World(site(), load_kw=200.0, sun_kw=100.0)
    loop, devices, _ = living(world, {"pv1": Moving})
    await lived(world, loop, 10)
    devices["pv1"].moves = False
    world.log.put("stage", stage="control")
    stages = [(await world.live(loop, 1))["stage"] for _ in range(6)]
    assert stages == ["advise", "advise", "advise", "advise", "control", "control"]  # the word comes in the first; then four looks
    assert [a for a, _ in world.happened("second_controller")] == ["pv1"]


@pytest.mark.parametrize("watched", [False, True])
def test_a_black_start_begins_when_every_heartbeat_was_watched(watched: bool) -> None:
    dead = {"town": points(power_kw=0.0, frequency_hz=0.0, voltage_v=0.0), "dg1": diesel(), "inv1": inverter(0.0, running=0.0, forming=0.0, frequency_hz=0.0)}
    memory = Memory(black_start=BlackStart("inv1", "isolate", 0.0, "keeper"))
    _, decision = Controller(site(), Stage.CONTROL).step(replace(telemetry(1, **dead), watched=watched), (), None, memory)
    assert decision.mode is (Mode.BLACKSTART if watched else Mode.START)
