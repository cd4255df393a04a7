"""The field bus and time: no cycle waits for a device, and what is late is neither lost nor taken for done."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from ems.clock import real_s
from ems.decision import Write
from ems.errors import ConnectionLost
from ems.fieldbus import Fieldbus, Wire
from ems.model import Reading
from ems.ports import WriteResult
from tests.ems.test_fieldbus import Device, bus


class Silent(Device):
    """It answered once, and now takes each question and says nothing until its timeout; `asked` is what it was asked."""

    timeout_s = 0.6

    def __init__(self, **values: float) -> None:
        super().__init__(**values)
        self.silent = False
        self.asked: list[str] = []

    async def _silence(self, question: str) -> None:
        if self.silent:
            self.asked.append(question)
            await asyncio.sleep(self.timeout_s)
            raise ConnectionLost("no answer in time")

    async def read(self) -> Mapping[str, Reading]:
        await self._silence("read")
        return await super().read()

    async def write(self, command: str, value: float) -> WriteResult:
        await self._silence(f"{command} {value:g}")
        return await super().write(command, value)

    async def beat(self, count: int) -> None:
        await self._silence("beat")
        await super().beat(count)


async def cycle(field: Fieldbus, number: int, *writes: Write) -> tuple[list[tuple[str, float, bool]], float]:
    """Run one cycle; return the outcomes that it told, and how long it took [s]."""
    begun_s = real_s()
    await field.read()
    told = await field.write(writes)
    await field.beat(number)
    return [(s.write.command, s.write.value, s.result.ok) for s in told], real_s() - begun_s


async def test_a_device_that_falls_silent_makes_no_cycle_longer_and_costs_its_neighbour_no_write_and_no_beat() -> None:
    good, bad = Device(power_kw=1.0), Silent(power_kw=1.0)
    field = bus(wait_s=0.06, a=good, b=bad)
    await cycle(field, 0)
    bad.silent = True
    for number in range(1, 16):
        orders = [Write("b", "running", 0.0), Write("b", "limit_kw", 5.0), Write("b", "power_kw", float(10 * number))]
        _, took_s = await cycle(field, number, Write("a", "power_kw", float(number)), *orders)
        assert took_s < 0.5, number  # 0.09 by its shares; the rest is for a busy machine
        await asyncio.sleep(max(0.0, 0.1 - took_s))
    assert good.written == [("power_kw", float(number)) for number in range(1, 16)]
    assert good.beats == list(range(16))
    assert "power_kw" not in " ".join(bad.asked), "a level does not go to a device that is known to be silent"
    assert field.faults() == {"b": "no answer in time"}
    bad.silent = False
    field._lines["b"].quiet_until_s = 0.0
    while field.faults():
        await cycle(field, 16)
        await asyncio.sleep(0.02)
    assert bad.beats[-1] in (16, 17), "it just answers again, and hears us in the same cycle"
    await field.close()


async def test_a_late_write_is_told_when_its_outcome_is_known_and_holds_up_what_comes_after_it_on_that_device_alone() -> None:
    slow, quick = Device(power_kw=1.0), Device(power_kw=1.0)
    field = bus(wait_s=0.06, a=slow, b=quick)
    slow.write_s = 0.15
    told, _ = await cycle(field, 0, Write("a", "limit_kw", 5.0), Write("a", "running", 1.0), Write("b", "limit_kw", 5.0))
    assert told == [("limit_kw", 5.0, True)]  # of b
    assert slow.written == [("limit_kw", 5.0)]
    told, _ = await cycle(field, 1, Write("a", "limit_kw", 5.0), Write("b", "limit_kw", 5.0))
    assert (told, len(slow.written), len(quick.written)) == ([], 1, 1), "it is under way: not again"
    await cycle(field, 2, Write("a", "limit_kw", 7.0))
    await cycle(field, 3, Write("a", "limit_kw", 8.0))
    await asyncio.sleep(0.5)
    told, _ = await cycle(field, 4, Write("a", "limit_kw", 8.0))
    assert slow.written == [("limit_kw", 5.0), ("running", 1.0), ("limit_kw", 8.0)], "an order that is given once waits, of a level the newest counts"
    assert ("limit_kw", 8.0, True) in told
    await field.close()


async def test_a_late_write_that_fails_is_written_again() -> None:
    unit = Device(power_kw=1.0)
    field = bus(wait_s=0.06, a=unit)
    await cycle(field, 0, Write("a", "power_kw", 5.0))
    unit.write_s = 0.15
    assert (await cycle(field, 1, Write("a", "power_kw", 10.0)))[0] == []
    unit.fault = ConnectionLost("no answer in time")
    await asyncio.sleep(0.2)
    unit.fault, unit.write_s = None, 0.0
    told, _ = await cycle(field, 2, Write("a", "power_kw", 10.0))
    assert told == [("power_kw", 10.0, False), ("power_kw", 10.0, True)]
    assert unit.written == [("power_kw", 5.0), ("power_kw", 10.0), ("power_kw", 10.0)]
    await field.close()


@pytest.mark.parametrize("how", ["stopped", "too long", "local"])
async def test_what_waits_for_a_slow_device_does_not_go_out_when_its_time_has_passed(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Device(power_kw=1.0, remote=1.0)
    field = bus(wait_s=0.06, a=unit)
    unit.write_s = 0.2
    await cycle(field, 0, Write("a", "limit_kw", 5.0), Write("a", "running", 1.0))
    if how == "too long":
        monkeypatch.setattr("ems.fieldbus.WAITING_S", 0.05)
    unit.values["remote"] = float(how != "local")
    await field.read()
    told = await field.write([], late=how != "stopped")
    await asyncio.sleep(0.4)
    told += await field.write([])
    assert unit.written == [("limit_kw", 5.0)]
    given_up = [s.result.cause for s in told if s.write.command == "running"]
    assert [cause.startswith("given up") for cause in given_up] == ([] if how == "local" else [True])
    await field.close()


async def test_a_beat_that_takes_longer_than_a_cycle_still_changes_the_register() -> None:
    slow = Device(power_kw=1.0)
    slow.write_s = 0.15
    field = bus(wait_s=0.06, a=slow)
    for number in range(12):
        _, took_s = await cycle(field, number)
        await asyncio.sleep(max(0.0, 0.1 - took_s))
    assert len(slow.beats) >= 4
    assert all((b - a) % 2 for a, b in zip(slow.beats, slow.beats[1:], strict=False)), slow.beats
    await field.close()


async def test_a_late_pulse_is_decided_by_a_reading_from_after_it() -> None:
    unit = Device(running=0.0)
    unit.write_s = 0.4
    field = Fieldbus({"a": Wire(unit, {"running": None}, once={"running": 0.3})}, 0.06)
    told: list[tuple[str, float, bool]] = []
    while not told:
        told, _ = await cycle(field, 0, Write("a", "running", 1.0))
        await asyncio.sleep(0.02)
    await cycle(field, 0, Write("a", "running", 1.0))  # the time that it has to show its effect begins when it has been sent
    assert unit.written == [("running", 1.0)]
    await field.close()


async def test_a_bug_in_a_late_write_is_not_swallowed() -> None:
    class Broken(Device):
        async def write(self, command: str, value: float) -> WriteResult:
            await asyncio.sleep(0.1)
            raise ZeroDivisionError

    field = bus(wait_s=0.06, a=Broken(power_kw=1.0))
    await cycle(field, 0, Write("a", "running", 1.0))
    await asyncio.sleep(0.1)
    with pytest.raises(ZeroDivisionError):
        await cycle(field, 1)
