"""The field bus: one fault stays with one device, nothing is written twice for nothing, nothing old looks new."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from ems.decision import Write
from ems.errors import BadAnswer, ConnectionLost
from ems.fieldbus import Fieldbus, Wire
from ems.model import Reading
from ems.ports import WriteResult
from ems.watch import LOOK_EVERY


class Device:
    """A device in memory: `values` to be read, `written` in order; `fault` and `delay_s` are what befalls it."""

    def __init__(self, **values: float) -> None:
        self.values = values
        self.written: list[tuple[str, float]] = []
        self.beats: list[int] = []
        self.beat_value: float | None = 0.0
        self.fault: Exception | None = None
        self.delay_s = 0.0
        self.write_s = 0.0
        self.reads = 0

    async def connect(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def read(self) -> Mapping[str, Reading]:
        self.reads += 1
        await asyncio.sleep(self.delay_s)
        return {name: Reading(value) for name, value in self.values.items()}

    async def write(self, command: str, value: float) -> WriteResult:
        if self.fault is not None:
            raise self.fault
        self.written.append((command, value))
        await asyncio.sleep(self.write_s)
        if self.fault is not None:
            raise self.fault
        return WriteResult(ok=True, read_back=value)

    async def beat(self, count: int) -> None:
        await asyncio.sleep(self.write_s)
        self.beats.append(count)
        self.beat_value = float(count % 2)

    async def heartbeat(self) -> float | None:
        return self.beat_value

    async def close(self) -> None:
        self.values = {}


def bus(wait_s: float = 0.2, **devices: Device) -> Fieldbus:
    takes = {"power_kw": None, "limit_kw": None, "running": None}
    return Fieldbus({asset: Wire(device, takes) for asset, device in devices.items()}, wait_s)


async def test_a_silent_device_costs_its_neighbours_nothing() -> None:
    good, dead = Device(power_kw=5.0), Device()
    dead.fault = ConnectionLost("no answer")
    field = bus(a=good, b=dead)
    readings = await field.read()
    assert readings["a"]["power_kw"].value == 5.0
    assert readings["b"] == {}
    assert field.faults() == {"b": "no answer"}
    await field.close()


async def test_what_is_late_ages_and_is_taken_when_it_comes() -> None:
    slow = Device(power_kw=5.0)
    field = bus(wait_s=0.05, a=slow)
    first = await field.read()
    assert first["a"] == {} or first["a"]["power_kw"].age_s < 0.1
    slow.delay_s = 0.3
    aged = []
    for _ in range(4):
        aged.append((await field.read())["a"]["power_kw"].age_s)
    assert max(aged) > 0.1
    assert slow.reads < 5  # never two questions at once
    await field.close()


async def test_a_failing_device_is_asked_less_often() -> None:
    dead = Device()
    dead.fault = ConnectionLost("gone")
    asked = 0

    async def counted() -> None:
        nonlocal asked
        asked += 1
        raise ConnectionLost("gone")

    dead.connect = counted  # type: ignore[method-assign]
    field = bus(a=dead)
    for _ in range(20):
        await field.read()
    assert asked <= 3
    await field.close()


async def test_setpoints_are_written_on_change_and_orders_each_time() -> None:
    unit = Device()
    field = bus(a=unit)
    for value in (10.0, 10.05, 12.0):
        await field.write([Write("a", "power_kw", value), Write("a", "running", 1.0)])
    assert unit.written == [("power_kw", 10.0), ("running", 1.0), ("running", 1.0), ("power_kw", 12.0), ("running", 1.0)]


async def test_what_a_profile_does_not_take_is_not_sent() -> None:
    unit = Device()
    field = Fieldbus({"a": Wire(unit, {"limit_kw": None})}, 0.1)
    assert await field.write([Write("a", "power_kw", 1.0), Write("elsewhere", "power_kw", 1.0)]) == []
    assert unit.written == []


async def test_a_failed_setpoint_is_written_again_and_a_lost_device_gets_everything_anew() -> None:
    unit = Device(power_kw=0.0)
    field = bus(a=unit)
    unit.fault = ConnectionLost("gone")
    sent = await field.write([Write("a", "power_kw", 10.0)])
    assert (sent[0].result.ok, sent[0].result.cause) == (False, "gone")
    unit.fault = None
    await field.write([Write("a", "power_kw", 10.0)])
    unit.fault = ConnectionLost("gone")
    await field.read()
    unit.fault = None
    await field.write([Write("a", "power_kw", 10.0)])
    assert unit.written == [("power_kw", 10.0)], "nobody has heard of it since"
    await field.read()
    await field.write([Write("a", "power_kw", 10.0)])
    assert unit.written == [("power_kw", 10.0), ("power_kw", 10.0)]
    await field.close()


async def test_heartbeats_reach_those_that_answer() -> None:
    unit, dead = Device(), Device()
    dead.fault = ConnectionLost("gone")
    field = bus(a=unit, b=dead)
    await field.read()
    await field.beat(7)
    assert (unit.beats, dead.beats) == ([7], [])
    await field.close()


async def test_a_bug_in_a_driver_is_not_swallowed() -> None:
    class Broken(Device):
        async def read(self) -> Mapping[str, Reading]:
            raise ZeroDivisionError

    field = bus(a=Broken())
    with pytest.raises(ZeroDivisionError):
        await field.read()


# ------------------------------------------------------------------ nobody else
def watching(**devices: Device) -> Fieldbus:
    return Fieldbus({asset: Wire(device, {"power_kw": None, "running": None}, watch_s=0.0) for asset, device in devices.items()}, 0.2)


async def test_nothing_is_written_before_the_heartbeat_has_been_watched() -> None:
    unit = Device(power_kw=0.0)
    field = watching(a=unit)
    for look in range(4):
        assert field.watched is (look == 0)  # nobody has answered yet: there is nothing to watch
        assert await field.write([Write("a", "power_kw", 10.0)]) == []
        await field.beat(look)
        await field.read()
    assert (unit.written, unit.beats, field.withheld) == ([], [], 4)
    assert field.watched
    await field.write([Write("a", "power_kw", 10.0)])
    await field.beat(4)
    assert (unit.written, unit.beats) == ([("power_kw", 10.0)], [4])


async def test_a_heartbeat_that_moves_before_we_write_is_another_controller() -> None:
    unit, other = Device(power_kw=0.0), Device(power_kw=0.0)
    field = watching(a=unit, b=other)
    for count in range(8):
        unit.beat_value = float(count % 2)  # somebody else beats
        await field.read()
        await field.write([Write("a", "running", 1.0), Write("b", "running", 1.0)])
        await field.beat(count)
    assert field.rivals() == {"a": "its heartbeat moved from 0 to 1 before we wrote"}
    assert field.watched  # what it had to find it has found
    assert unit.written == other.written == []
    assert unit.beats == []

    field.watch_anew()
    for _ in range(4):
        await field.read()
    await field.write([Write("a", "running", 1.0)])
    assert (field.rivals(), unit.written) == ({}, [("running", 1.0)])


async def test_another_controller_that_comes_later_is_met() -> None:
    unit, calm = Device(power_kw=0.0), Device(power_kw=0.0)
    field = watching(a=unit, b=calm)
    for _ in range(4):
        await field.read()
    for count in range(40):
        await field.beat(count)
        if count > 5:
            unit.beat_value = float((count + 1) % 2)  # it beats out of step with us
        if field.rivals():
            break
        await field.read()
    assert field.rivals() == {"a": "its heartbeat was changed in both directions after we wrote it"}
    assert count < 5 + 2 * LOOK_EVERY + 2
    await field.write([Write("a", "power_kw", 1.0), Write("b", "power_kw", 1.0)])
    beats = len(calm.beats)
    await field.beat(41)
    assert (unit.written, calm.written, len(calm.beats)) == ([], [], beats)  # two who fight over one plant: neither writes anywhere


@pytest.mark.parametrize("shown", [0.0, None])
async def test_a_device_that_clears_or_hides_its_heartbeat_is_no_rival(shown: float | None) -> None:
    unit = Device(power_kw=0.0)
    unit.beat_value = shown
    field = watching(a=unit)
    for _ in range(5):
        await field.read()
    for count in range(60):
        await field.beat(count)
        unit.beat_value = shown
        await field.read()
    assert field.rivals() == {}
    assert len(unit.beats) == 60


async def test_a_heartbeat_that_is_not_there_costs_the_watch_and_not_the_device() -> None:
    class Wrong(Device):
        async def heartbeat(self) -> float | None:
            raise BadAnswer("no such node")

    unit = Wrong(power_kw=5.0)
    field = watching(a=unit)
    assert (await field.read())["a"]["power_kw"].value == 5.0
    assert (field.faults(), field.watched) == ({}, True)
    assert [s.result.ok for s in await field.write([Write("a", "power_kw", 1.0)])] == [True]


async def test_a_beat_that_may_not_have_arrived_proves_nothing() -> None:
    class Deaf(Device):
        async def beat(self, count: int) -> None:
            self.beats.append(count)
            raise ConnectionLost("no acknowledgement")

    unit = Deaf(power_kw=0.0)
    field = watching(a=unit)
    for _ in range(5):
        await field.read()
    for count in range(60):
        await field.beat(count)
        unit.beat_value = float((count + 1) % 2)
        await field.read()
    assert field.rivals() == {}


async def test_a_device_in_local_gets_no_write_at_all() -> None:
    unit, other = Device(power_kw=0.0, remote=0.0), Device(power_kw=0.0, remote=1.0)
    field = Fieldbus({asset: Wire(device, {"power_kw": None, "running": None}) for asset, device in (("a", unit), ("b", other))}, 0.2)
    for value, switch in ((10.0, 0.0), (20.0, 1.0), (30.0, 0.0)):
        unit.values["remote"] = switch
        await field.read()
        await field.write([Write("a", "power_kw", value), Write("a", "running", 1.0), Write("b", "power_kw", value)])
        await field.beat(int(value))
    assert unit.written == [("power_kw", 20.0), ("running", 1.0)]
    assert unit.beats == [20]
    assert [v for _, v in other.written] == [10.0, 20.0, 30.0]
    assert field.withheld == 4


async def test_a_pulse_waits_for_its_effect_however_often_it_is_wanted() -> None:
    unit = Device(running=0.0)
    field = Fieldbus({"a": Wire(unit, {"running": None}, once={"running": 60.0})}, 0.2)

    async def cycle(value: float) -> None:
        await field.read()
        await field.write([Write("a", "running", value)])

    unit.fault = None
    for _ in range(4):
        await cycle(1.0)
    assert unit.written == [("running", 1.0)], "its effect has not shown, and its time is not over"
    await cycle(0.0)
    assert unit.written[-1] == ("running", 0.0), "the other way is another order"
    await cycle(1.0)
    unit.values["running"] = 1.0
    await cycle(1.0)
    assert unit.written[2:] == [("running", 1.0), ("running", 1.0)], "seen to have acted: what is wanted now is a new order"
    await field.close()


async def test_a_pulse_whose_answer_was_lost_is_decided_by_reading_alone() -> None:
    unit = Device(running=0.0)
    field = Fieldbus({"a": Wire(unit, {"running": None}, once={"running": 0.02})}, 0.2)
    await field.read()
    unit.fault = ConnectionLost("no answer in time")
    await field.write([Write("a", "running", 1.0)])
    await asyncio.sleep(0.05)
    for _ in range(3):  # its time is over, but nobody has seen the set since
        await field.read()
        await field.write([Write("a", "running", 1.0)])
    unit.fault = None
    assert unit.written == []
    field._lines["a"].quiet_until_s = 0.0
    await field.read()
    await field.write([Write("a", "running", 1.0)])
    assert unit.written == [("running", 1.0)], "a reading from after its time shows that it has not acted"
    await field.close()


async def test_age_counts_from_the_reading_and_not_from_when_the_cycle_looks_at_it() -> None:
    quick, slow = Device(power_kw=1.0), Device(power_kw=2.0)
    slow.delay_s = 0.15
    field = bus(wait_s=0.5, a=quick, b=slow)
    readings = await field.read()
    assert readings["a"]["power_kw"].age_s >= 0.1 > readings["b"]["power_kw"].age_s
    await field.close()


async def test_a_cycle_does_not_wait_for_a_device_that_failed() -> None:
    good, back = Device(power_kw=1.0), Device(power_kw=2.0)
    back.fault = ConnectionLost("gone")
    field = bus(wait_s=5.0, a=good, b=back)
    await field.read()
    back.fault, back.delay_s = None, 0.3
    field._lines["b"].quiet_until_s = 0.0
    assert (await field.read())["b"] == {}, "not in this cycle"
    await asyncio.sleep(0.4)
    assert (await field.read())["b"]["power_kw"].value == 2.0
    assert field.faults() == {}
    await field.close()
