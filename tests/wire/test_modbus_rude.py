"""A Modbus peer written by hand, byte by byte, that misbehaves: nothing wrong may come through, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from drivers.modbus import ModbusDriver, ModbusLink
from ems.clock import real_s
from ems.config.profile import Command, Defaults, Heartbeat, Point, Profile
from ems.errors import BadAnswer, BadInput, ConnectionLost
from ems.model import Quality
from tests.wire.modbus_peer import Peer, listening, mbap

POISON = 0x0BAD  # what every wrong answer carries
TIMEOUT_S = 0.2

PROFILE = Profile(
    profile="rude",
    kind="diesel",
    protocol="modbus",
    defaults=Defaults(max_gap=0),
    points={"power_kw": Point(address=10, type="uint16", unit="kW"), "frequency_hz": Point(address=11, type="uint16", unit="Hz", scale=0.1)},
    commands={
        "running": Command(address=20, type="uint16", on=1, off=0, pulse_s=1.0),
        "power_kw": Command(address=21, type="uint32", unit="kW", max=1000, read_back=21),
    },
    heartbeat=Heartbeat(address=30, type="uint16"),
)
BITS = Profile(profile="bits", kind="feeder", protocol="modbus", defaults=Defaults(table="coil"), points={"breaker_closed": Point(address=3)})


@pytest.fixture
async def peer() -> Peer:
    return Peer()


@pytest.fixture
async def link(peer: Peer) -> AsyncIterator[ModbusLink]:
    async with listening(peer) as port:
        link = ModbusLink("127.0.0.1", port, TIMEOUT_S)
        yield link
        await link.close()


def driver(link: ModbusLink, unit: int = 7, profile: Profile = PROFILE) -> ModbusDriver:
    return ModbusDriver("dg1", profile, unit, link, TIMEOUT_S, {})


def values(found: Any) -> dict[str, float | None]:
    return {name: reading.value for name, reading in found.items()}


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    end_s = real_s() + within_s
    while not condition():
        assert real_s() < end_s, "did not come about"
        await asyncio.sleep(0.005)


async def test_the_truth_comes_through_in_one_frame(peer: Peer, link: ModbusLink) -> None:
    assert values(await driver(link).read()) == {"power_kw": 300.0, "frequency_hz": pytest.approx(49.9)}
    assert peer.asked == [(7, bytes.fromhex("03000a0002"))]


REGISTERS = struct.pack(">HH", POISON, POISON)
WRONG: dict[str, Callable[[int, int, bytes], bytes | None]] = {
    "wrong unit": lambda tid, unit, pdu: mbap(tid, unit + 1, b"\x03\x04" + REGISTERS),
    "wrong function": lambda tid, unit, pdu: mbap(tid, unit, b"\x04\x04" + REGISTERS),
    "wrong transaction": lambda tid, unit, pdu: mbap(tid + 1, unit, b"\x03\x04" + REGISTERS),
    "transaction 0": lambda tid, unit, pdu: mbap(0, unit, b"\x03\x04" + REGISTERS),
    "one register short": lambda tid, unit, pdu: mbap(tid, unit, b"\x03\x02" + REGISTERS[:2]),
    "two registers more": lambda tid, unit, pdu: mbap(tid, unit, b"\x03\x08" + REGISTERS * 2),
    "no registers": lambda tid, unit, pdu: mbap(tid, unit, b"\x03\x00"),
    "odd byte count": lambda tid, unit, pdu: mbap(tid, unit, b"\x03\x05" + REGISTERS + b"\x01"),
    "byte count too small for the frame": lambda tid, unit, pdu: mbap(tid, unit, b"\x03\x04" + REGISTERS + REGISTERS),
    "byte count too large for the frame": lambda tid, unit, pdu: mbap(tid, unit, b"\x03\x06" + REGISTERS),
    "exception to another function": lambda tid, unit, pdu: mbap(tid, unit, b"\x84\x02"),
    "unknown function": lambda tid, unit, pdu: mbap(tid, unit, b"\x63\x04" + REGISTERS),
    "other protocol": lambda tid, unit, pdu: mbap(tid, unit, b"\x03\x04" + REGISTERS, protocol=9),
    "an acknowledgement of a write": lambda tid, unit, pdu: mbap(tid, unit, b"\x10" + pdu[1:5]),
    "garbage": lambda tid, unit, pdu: b"\xff" * 40,
    "half a frame": lambda tid, unit, pdu: mbap(tid, unit, b"\x03\x04" + REGISTERS)[:10],
    "silence": lambda tid, unit, pdu: None,
}


@pytest.mark.parametrize("lie", WRONG)
async def test_no_wrong_answer_becomes_a_value(peer: Peer, link: ModbusLink, lie: str) -> None:
    device = driver(link)
    peer.behave = WRONG[lie]
    began_s = real_s()
    with pytest.raises((ConnectionLost, BadAnswer)):
        await device.read()
    assert real_s() - began_s < 4 * TIMEOUT_S
    assert len(peer.asked) == 1, "asked once, never again by itself"
    peer.behave = peer.truth
    assert values(await device.read())["power_kw"] == 300.0, "the next read starts clean"


async def test_unit_0_is_not_any_unit(peer: Peer, link: ModbusLink) -> None:
    peer.behave = WRONG["wrong unit"]
    with pytest.raises(BadAnswer, match="unit 1 answered"):
        await driver(link, unit=0).read()


async def test_wrong_answers_then_the_right_one(peer: Peer, link: ModbusLink) -> None:
    """What pymodbus may skip it skips; the right answer behind it still counts."""
    peer.behave = lambda tid, unit, pdu: WRONG["wrong transaction"](tid, unit, pdu) + peer.truth(tid, unit, pdu)  # type: ignore[operator]
    assert values(await driver(link).read())["power_kw"] == 300.0


async def test_bits_are_counted_too(peer: Peer, link: ModbusLink) -> None:
    feeder = driver(link, profile=BITS)
    assert values(await feeder.read()) == {"breaker_closed": 1.0}
    for answer in (b"\x01\x02\xff\xff", b"\x01\x00", b"\x02\x01\xff", b"\x01\x01\xff\xff"):
        peer.behave = lambda tid, unit, pdu, answer=answer: mbap(tid, unit, answer)
        with pytest.raises(BadAnswer):
            await feeder.read()


async def test_a_late_answer_is_never_used(peer: Peer, link: ModbusLink) -> None:
    late = asyncio.Event()

    async def slow(tid: int, unit: int, pdu: bytes) -> bytes:
        await late.wait()
        return mbap(tid, unit, b"\x03\x04" + REGISTERS)

    peer.behave = slow
    device = driver(link)
    with pytest.raises(ConnectionLost):
        await device.read()
    peer.behave = peer.truth
    late.set()
    for _ in range(5):
        assert values(await device.read())["power_kw"] == 300.0
    assert peer.connections == 2, "the late answer met a closed connection"


async def test_a_cancelled_read_leaves_nothing_behind(peer: Peer, link: ModbusLink) -> None:
    held = asyncio.Event()

    async def hold(tid: int, unit: int, pdu: bytes) -> bytes:
        await held.wait()
        return mbap(tid, unit, b"\x03\x04" + REGISTERS)

    peer.behave = hold
    device = driver(link)
    reading = asyncio.create_task(device.read())
    await until(lambda: len(peer.asked) == 1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    peer.behave = peer.truth
    held.set()
    assert values(await device.read())["power_kw"] == 300.0


async def test_a_refused_block_is_bad_and_the_others_good(peer: Peer, link: ModbusLink) -> None:
    far = PROFILE.model_copy(update={"points": {**PROFILE.points, "fuel_l": Point(address=500, type="uint16", unit="L")}})
    peer.behave = lambda tid, unit, pdu: mbap(tid, unit, b"\x83\x02") if pdu[1:3] == b"\x01\xf4" else peer.truth(tid, unit, pdu)
    found = await driver(link, profile=far).read()
    assert found["power_kw"].value == 300.0
    assert found["power_kw"].quality is Quality.GOOD
    assert found["fuel_l"].value is None
    assert found["fuel_l"].quality is Quality.BAD


async def test_nobody_behind_the_gateway_is_a_lost_connection(peer: Peer, link: ModbusLink) -> None:
    peer.behave = lambda tid, unit, pdu: mbap(tid, unit, b"\x83\x0b")
    with pytest.raises(ConnectionLost, match="behind the gateway"):
        await driver(link).read()
    peer.behave = peer.truth
    assert values(await driver(link).read())["power_kw"] == 300.0
    assert peer.connections == 1, "the gateway itself is sound"


async def test_age_counts_from_the_request(peer: Peer, link: ModbusLink) -> None:
    async def slow(tid: int, unit: int, pdu: bytes) -> bytes:
        await asyncio.sleep(0.1)
        return peer.truth(tid, unit, pdu)

    peer.behave = slow
    found = await driver(link).read()
    assert 0.09 < found["power_kw"].age_s < TIMEOUT_S


@pytest.mark.parametrize(("command", "value", "frame"), [("running", 1.0, "0600140001"), ("power_kw", 250.0, "10001500020400000" + "0fa")])
async def test_a_write_whose_answer_is_lost_was_sent_once(peer: Peer, link: ModbusLink, command: str, value: float, frame: str) -> None:
    peer.behave = lambda tid, unit, pdu: None
    with pytest.raises(ConnectionLost):
        await driver(link).write(command, value)
    assert peer.writes == [bytes.fromhex(frame)]
    peer.behave = peer.truth
    await driver(link).read()
    assert len(peer.writes) == 1, "not even with the next request"


async def test_time_left_after_silence_is_not_used_for_a_second_try(peer: Peer) -> None:
    async with listening(peer) as port:
        link = ModbusLink("127.0.0.1", port, 0.05)  # a single answer may take this, the whole call four times as long
        peer.behave = lambda tid, unit, pdu: None
        with pytest.raises(ConnectionLost):
            await driver(link).write("running", 1.0)
        assert len(peer.writes) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"\x10\x00\x15\x00\x01",  # one word fewer
        b"\x10\x00\x16\x00\x02",  # another address
        b"\x06\x00\x15\x00\xfa",  # another function
    ],
)
async def test_another_acknowledgement_is_none(peer: Peer, link: ModbusLink, answer: bytes) -> None:
    peer.registers[22] = 250  # what would be read back is right
    peer.behave = lambda tid, unit, pdu: mbap(tid, unit, answer) if pdu[0] == 16 else peer.truth(tid, unit, pdu)
    with pytest.raises(BadAnswer):
        await driver(link).write("power_kw", 250.0)
    assert len(peer.writes) == 1


async def test_a_write_is_read_back(peer: Peer, link: ModbusLink) -> None:
    result = await driver(link).write("power_kw", 250.0)
    assert (result.ok, result.read_back) == (True, 250.0)
    peer.behave = lambda tid, unit, pdu: mbap(tid, unit, pdu[:5]) if pdu[0] == 16 else peer.truth(tid, unit, pdu)  # acknowledges, does nothing
    result = await driver(link).write("power_kw", 400.0)
    assert (result.ok, result.read_back) == (False, 250.0)
    assert "400" in result.cause


async def test_a_refused_write_says_why(peer: Peer, link: ModbusLink) -> None:
    peer.behave = lambda tid, unit, pdu: mbap(tid, unit, bytes([pdu[0] | 0x80, 4]))
    result = await driver(link).write("running", 1.0)
    assert not result.ok
    assert "device failure" in result.cause
    assert len(peer.writes) == 1


@pytest.mark.parametrize(("command", "value"), [("power_kw", float("nan")), ("power_kw", 1001.0), ("power_kw", -1.0), ("running", 0.4), ("breaker", 1.0)])
async def test_what_may_not_be_written_never_reaches_the_wire(peer: Peer, link: ModbusLink, command: str, value: float) -> None:
    with pytest.raises(BadInput):
        await driver(link).write(command, value)
    assert peer.asked == []


async def test_the_heartbeat_toggles(peer: Peer, link: ModbusLink) -> None:
    for count in (41, 42, 43):
        await driver(link).beat(count)
    assert [pdu.hex() for pdu in peer.writes] == ["06001e0001", "06001e0000", "06001e0001"]
    assert await driver(link).heartbeat() == 1.0
    assert await driver(link, profile=BITS).heartbeat() is None
    await driver(link, profile=BITS).beat(44)
    assert len(peer.asked) == 4, "a profile without a heartbeat sends none"


async def test_a_living_unit_waits_once_for_all_the_dead_before_it(peer: Peer, link: ModbusLink) -> None:
    peer.behave = lambda tid, unit, pdu: None if unit < 5 else peer.truth(tid, unit, pdu)
    dead = [driver(link, unit) for unit in range(1, 5)]
    for device in dead:
        with pytest.raises(ConnectionLost):
            await device.read()
    queue = [asyncio.create_task(device.read()) for device in dead]
    found = await driver(link, 5).read()
    assert values(found)["power_kw"] == 300.0
    assert found["power_kw"].age_s < TIMEOUT_S / 2, "waiting for its turn does not make it old"
    assert all(isinstance(result, ConnectionLost) for result in await asyncio.gather(*queue, return_exceptions=True))


async def test_dead_units_do_not_starve_the_living(peer: Peer, link: ModbusLink) -> None:
    dead = (2, 4, 5)
    peer.behave = lambda tid, unit, pdu: None if unit in dead else peer.truth(tid, unit, pdu)
    units = {unit: driver(link, unit) for unit in range(1, 7)}
    for unit in dead:  # from here they are known to be silent
        with pytest.raises(ConnectionLost):
            await units[unit].read()
    for _ in range(3):
        began_s = real_s()
        found = await asyncio.gather(*(units[u].read() for u in units), return_exceptions=True)
        assert real_s() - began_s < 3 * TIMEOUT_S
        for unit, result in zip(units, found, strict=True):
            if unit in dead:
                assert isinstance(result, ConnectionLost)
            else:
                assert not isinstance(result, BaseException), f"unit {unit}: {result}"
                assert values(result)["power_kw"] == 300.0

    async def slow(tid: int, unit: int, pdu: bytes) -> bytes:
        await asyncio.sleep(0.0 if unit == 2 else 0.7 * TIMEOUT_S)
        return peer.truth(tid, unit, pdu)

    peer.behave = slow
    assert values(await units[2].read())["power_kw"] == 300.0, "the dead may come back"
    back = await asyncio.gather(units[1].read(), units[3].read(), units[2].read())
    assert [values(one)["power_kw"] for one in back] == [300.0] * 3, "and then wait as long as the living do"


async def test_lost_and_found_again(peer: Peer) -> None:
    async with listening(peer) as port:
        link = ModbusLink("127.0.0.1", port, TIMEOUT_S)
        device = driver(link)
        await device.connect()
        await device.connect()
        assert values(await device.read())["power_kw"] == 300.0
        assert peer.connections == 1
    await until(lambda: not peer.open)
    with pytest.raises(ConnectionLost, match="cannot connect"):
        await until_lost(device)
    with pytest.raises(ConnectionLost):
        await device.connect()
    async with listening(peer, port):
        await device.connect()
        assert values(await device.read())["power_kw"] == 300.0
        await device.close()
    await device.close()


async def until_lost(device: ModbusDriver) -> None:
    """Read until the refusal of a closed port is reached; the first read may still meet the dying connection."""
    try:
        await device.read()
    except ConnectionLost as error:
        if "cannot connect" in str(error):
            raise
    await device.read()


async def test_mixed_frames_bring_no_wrong_value(peer: Peer, link: ModbusLink) -> None:
    """Every value that comes through is the truth, whatever came before it."""
    lies = [
        lie
        for name, lie in WRONG.items()
        if name not in ("silence", "garbage", "half a frame", "other protocol", "unknown function", "wrong unit", "wrong transaction")
    ]
    turn = 0

    def mixed(tid: int, unit: int, pdu: bytes) -> bytes | None:
        nonlocal turn
        turn += 1
        return peer.truth(tid, unit, pdu) if turn % 3 else lies[turn // 3 % len(lies)](tid, unit, pdu)

    peer.behave = mixed
    device = driver(link)
    good = bad = 0
    for _ in range(300):
        try:
            found = values(await device.read())
        except (ConnectionLost, BadAnswer):
            bad += 1
        else:
            good += 1
            assert found == {"power_kw": 300.0, "frequency_hz": pytest.approx(49.9)}
    assert (good, bad) == (200, 100)
