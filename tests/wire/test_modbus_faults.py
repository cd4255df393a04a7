"""A fault proxy between the driver and a libmodbus device: nothing wrong becomes a value, every flap heals, nothing starts twice.

`make test` sends a tenth of the frames and a fifth of the starts; `EMS_FRAMES=10000`, as `make campaign` sets it, all of them.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from drivers.frames import RtuFrames
from drivers.modbus import ModbusDriver, ModbusLink
from ems.clock import real_s
from ems.config.profile import Command, Defaults, Point, Profile
from ems.decision import Write
from ems.errors import Failed
from ems.fieldbus import Fieldbus, Wire
from tests.wire.peers import libmodbus_peer, running
from tests.wire.proxy import FAULTS, POISON, FaultProxy, between

FRAMES = int(os.environ.get("EMS_FRAMES", "1000"))
TIMEOUT_S = 0.15
DEVICES = 10
BLOCKS = Profile(
    profile="blocks",
    kind="meter",
    protocol="modbus",
    defaults=Defaults(max_gap=0),
    points={
        **{f"h{k}": Point(address=k, type="uint16") for k in (10, 11, 12, 300)},
        "wide": Point(address=20, type="uint32"),
        **{f"i{k}": Point(address=k, table="input", type="uint16") for k in (40, 41)},
    },
)
TRUTH = {
    **{f"h{k}": 7.0 * k + 3 for k in (10, 11, 12, 300)},
    "wide": (7 * 20 + 3) * 65536.0 + 7 * 21 + 3,
    **{f"i{k}": 5.0 * k + 1 for k in (40, 41)},
}
SERIAL_FAULTS = tuple(f for f in FAULTS if f not in ("wrong transaction", "transaction 0"))  # there is none: the frame would be right


@pytest.fixture(scope="module")
def c_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running(libmodbus_peer(tmp_path_factory.mktemp("libmodbus")), "tcp") as port:
        yield port


def linked(port: int, serial: bool, timeout_s: float = TIMEOUT_S) -> ModbusLink:
    return ModbusLink("127.0.0.1", port, timeout_s, RtuFrames() if serial else None)


async def hammer(proxy: FaultProxy, device: ModbusDriver, frames: int) -> tuple[int, int]:
    """Read until so many answers were spoiled; return how many reads were whole and how many values were left out."""
    whole = missing = 0
    while sum(proxy.injected.values()) < frames:
        try:
            found = await device.read()
        except Failed:
            continue
        for name, reading in found.items():
            assert reading.value in (None, TRUTH[name]), f"{name} = {reading.value}: {dict(proxy.injected)}"
        missing += sum(reading.value is None for reading in found.values())
        whole += all(reading.value is not None for reading in found.values())
    return whole, missing


@pytest.mark.timeout(900)
async def test_no_spoiled_frame_becomes_a_value(c_port: int) -> None:
    proxy = FaultProxy(c_port, random.Random(6), TIMEOUT_S)
    assert all(POISON not in (int(v), int(v) & 0xFFFF, int(v) >> 16) for v in TRUTH.values()), "poison is told from the truth"
    async with between(proxy) as port:
        devices = [ModbusDriver(f"m{k}", BLOCKS, k, linked(port, False), TIMEOUT_S, {}) for k in range(1, DEVICES + 1)]
        outcomes = await asyncio.gather(*(hammer(proxy, device, FRAMES) for device in devices))
        await asyncio.gather(*(device.close() for device in devices))
    assert sum(proxy.injected.values()) >= FRAMES
    assert set(proxy.injected) == set(FAULTS), "every kind came"
    assert sum(whole for whole, _ in outcomes) > 0, "and the truth still came through"
    counted = sum((device.link.counts.rejected for device in devices), start=type(devices[0].link.counts.rejected)())
    assert {"transaction", "unit", "function", "length", "framing"} <= set(counted), counted


@pytest.mark.timeout(900)
async def test_no_spoiled_serial_frame_becomes_a_value(c_port: int) -> None:
    """Serial frames over TCP, without any transaction number, late answers to whoever is connected then."""
    async with gateways(c_port, TIMEOUT_S, 20, SERIAL_FAULTS) as (proxies, devices):
        outcomes = await asyncio.gather(*(hammer(p, d, FRAMES // 20) for p, d in zip(proxies, devices, strict=True)))
    injected = sum((p.injected for p in proxies), start=type(proxies[0].injected)())
    assert sum(injected.values()) >= FRAMES
    assert set(injected) == set(SERIAL_FAULTS)
    assert sum(whole for whole, _ in outcomes) > 0


@asynccontextmanager
async def gateways(
    c_port: int, timeout_s: float, count: int, faults: Sequence[str], share: float = 0.5
) -> AsyncIterator[tuple[list[FaultProxy], list[ModbusDriver]]]:
    """Give so many serial gateways, and a device behind each."""
    async with AsyncExitStack() as stack:
        proxies, devices = [], []
        for k in range(1, count + 1):
            proxies.append(FaultProxy(c_port, random.Random(k), timeout_s, faults, share, serial=True))
            port = await stack.enter_async_context(between(proxies[-1]))
            devices.append(ModbusDriver(f"m{k}", BLOCKS, k, linked(port, True, timeout_s), timeout_s, {}))
            stack.push_async_callback(devices[-1].close)
        yield proxies, devices


async def test_a_late_serial_answer_of_the_same_shape_meets_another_question_first(c_port: int) -> None:
    """Unit, function and length are those of the next question, and there is no number: only the fence tells it."""
    async with gateways(c_port, 0.05, 5, ("late",), 0.3) as (proxies, devices):
        await asyncio.gather(*(hammer(proxy, device, 12) for proxy, device in zip(proxies, devices, strict=True)))
        assert sum(device.link.counts.rejected.total() for device in devices) > 0, "late answers came, and were told"


async def test_a_hundred_flaps_are_a_hundred_recoveries(c_port: int) -> None:
    proxy = FaultProxy(c_port, random.Random(1), TIMEOUT_S, share=0.0)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(between(proxy))
        device = ModbusDriver("m1", BLOCKS, 1, linked(port, False, 0.5), 0.5, {})
        stack.push_async_callback(device.close)
        assert (await device.read())["h10"].value == TRUTH["h10"]
        for flap in range(100):
            proxy.cut()
            for _ in range(3):  # the cut is seen at once or by the first question
                try:
                    found = await device.read()
                except Failed:
                    continue
                break
            else:
                pytest.fail(f"flap {flap} was not recovered from")
            assert found["h10"].value == TRUTH["h10"]
        assert device.link.counts.opened == 101


async def test_a_half_open_connection_is_left_after_one_silence(c_port: int) -> None:
    """The far end is gone and nobody said so: questions go into nothing."""
    proxy = FaultProxy(c_port, random.Random(1), TIMEOUT_S, ("drop",), share=1.0)
    async with between(proxy) as port:
        device = ModbusDriver("m1", BLOCKS, 1, linked(port, False), TIMEOUT_S, {})
        with pytest.raises(Failed, match="no answer in time"):
            await device.read()
        proxy.share = 0.0
        assert (await device.read())["h10"].value == TRUTH["h10"]
        assert device.link.counts.opened == 2
        await device.close()


KEY = Profile(
    profile="key",
    kind="diesel",
    protocol="modbus",
    points={"starts": Point(address=501, type="uint16"), "running": Point(address=502, type="uint16")},
    commands={"running": Command(address=500, type="uint16", on=1, off=0, pulse_s=0.01)},
)
TRIALS = min(1000, FRAMES // 5)
SETS = 20


async def starts(bus: Fieldbus, asset: str) -> tuple[float, float] | None:
    """Return how often a set was started and whether it runs, as far as it was read."""
    readings = (await bus.read())[asset]
    values = [readings[name].value if name in readings else None for name in ("starts", "running")]
    return None if values[0] is None or values[1] is None else (values[0], values[1])


async def started_once(bus: Fieldbus, asset: str, began: float) -> float:
    """Want the set running in every cycle until it is seen to, then let it stop; return the count of its starts."""
    end_s = real_s() + 20.0
    while True:
        await bus.write([Write(asset, "running", 1.0)])
        seen = await starts(bus, asset)
        if seen is not None and seen[1] == 1.0:
            break
        assert real_s() < end_s, "it never ran"
        await asyncio.sleep(0.002)
    assert seen[0] - began == 1, f"{seen[0] - began:.0f} starts where one was wanted"
    while True:
        await bus.write([Write(asset, "running", 0.0)])
        stopped = await starts(bus, asset)
        if stopped is not None and stopped[1] == 0.0:
            return stopped[0]
        assert real_s() < end_s, "it never stopped"
        await asyncio.sleep(0.002)


@pytest.mark.timeout(900)
async def test_no_set_starts_twice_however_many_answers_are_lost(c_port: int) -> None:
    """A pulse whose answer is lost is not sent again: the set cranks for three reads, and only then shows that it runs."""
    proxy = FaultProxy(c_port, random.Random(9), 0.03, ("drop", "cut", "half", "wrong function"), share=0.9)
    proxy.spare = lambda pdu: pdu[0] != 6  # every fault hits an acknowledgement
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(between(proxy))
        buses = {}
        for k in range(1, SETS + 1):
            device = ModbusDriver(f"dg{k}", KEY, k, linked(port, False, 0.5), 0.03, {})
            buses[f"dg{k}"] = Fieldbus({f"dg{k}": Wire(device, {"running": None}, once={"running": 5.0})}, 0.5)
            stack.push_async_callback(device.close)

        async def trials(asset: str) -> int:
            count = 0.0
            for _ in range(TRIALS // SETS):
                count = await started_once(buses[asset], asset, count)
            return int(count)

        counts = await asyncio.gather(*(trials(asset) for asset in buses))
    assert sum(counts) == TRIALS
    assert sum(proxy.injected.values()) > TRIALS, "most of them without an acknowledgement"
