"""Several units behind one gateway: who is dead or slow costs the others nothing, whoever is asked first."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from drivers.link import ModbusLink
from drivers.modbus import ModbusDriver
from ems.clock import real_s
from ems.config.profile import Command, Point, Profile
from ems.errors import ConnectionLost
from ems.fieldbus import Fieldbus, Wire
from tests.wire.modbus_peer import Peer, listening

TIMEOUT_S = 0.2
CYCLE_S = 0.4
PROFILE = Profile(
    profile="unit",
    kind="meter",
    protocol="modbus",
    points={"power_kw": Point(address=10, type="uint16", unit="kW")},
    commands={},
)
TAKING = PROFILE.model_copy(update={"kind": "diesel", "commands": {"power_kw": Command(address=21, type="uint16", unit="kW")}})


@pytest.fixture
async def peer() -> Peer:
    return Peer()


@pytest.fixture
async def link(peer: Peer) -> AsyncIterator[ModbusLink]:
    async with listening(peer) as port:
        link = ModbusLink("127.0.0.1", port, TIMEOUT_S)
        yield link
        await link.close()


def bus(link: ModbusLink, units: range) -> Fieldbus:
    return Fieldbus({f"m{u}": Wire(ModbusDriver(f"m{u}", PROFILE, u, link, TIMEOUT_S, {})) for u in units}, 0.6 * CYCLE_S)


async def ages(field: Fieldbus, healthy: list[str], cycles: int) -> list[float]:
    """Return the age of every healthy unit in every cycle [s]; infinite where it was never read."""
    found = []
    for _ in range(cycles):
        due_s = real_s() + CYCLE_S
        readings = await field.read()
        found += [readings[name]["power_kw"].age_s if readings[name] else float("inf") for name in healthy]
        await asyncio.sleep(max(0.0, due_s - real_s()))
    return found


async def test_a_slow_unit_does_not_age_its_neighbours_beyond_two_cycles(peer: Peer, link: ModbusLink) -> None:
    async def slow(tid: int, unit: int, pdu: bytes) -> bytes:
        await asyncio.sleep(0.9 * TIMEOUT_S if unit == 1 else 0.0)
        return peer.truth(tid, unit, pdu)

    peer.behave = slow
    field = bus(link, range(1, 7))
    seen = await ages(field, [f"m{u}" for u in range(2, 7)], 8)
    assert max(seen) < 2 * CYCLE_S
    assert link.counts.silent == 0
    await field.close()


async def test_dead_units_are_asked_less_and_age_nobody(peer: Peer, link: ModbusLink) -> None:
    peer.behave = lambda tid, unit, pdu: None if unit in (1, 4) else peer.truth(tid, unit, pdu)
    field = bus(link, range(1, 9))
    healthy = [f"m{u}" for u in range(1, 9) if u not in (1, 4)]
    await ages(field, healthy, 3)  # until the dead are known
    asked = Counter(unit for unit, _ in peer.asked)
    seen = await ages(field, healthy, 8)
    later = Counter(unit for unit, _ in peer.asked)
    assert max(seen) < 2 * CYCLE_S
    assert all(later[u] - asked[u] >= 7 for u in range(1, 9) if u not in (1, 4)), "the living are asked in every cycle"
    assert all(later[u] - asked[u] <= 3 for u in (1, 4)), "the dead are not"
    await field.close()


class Held:
    """Makes a peer hold back its first answer: `came` when it was asked, `go` to let it answer."""

    def __init__(self, peer: Peer) -> None:
        self.came, self.go = asyncio.Event(), asyncio.Event()
        self._peer = peer
        peer.behave = self._behave

    async def _behave(self, tid: int, unit: int, pdu: bytes) -> bytes:
        self.came.set()
        await self.go.wait()
        return self._peer.truth(tid, unit, pdu)


async def test_a_write_goes_before_the_reads_that_wait(peer: Peer, link: ModbusLink) -> None:
    held = Held(peer)
    reads = [asyncio.create_task(ModbusDriver("m", PROFILE, u, link, 2.0, {}).read()) for u in (1, 2, 3)]
    await held.came.wait()
    write = asyncio.create_task(ModbusDriver("dg1", TAKING, 9, link, 2.0, {}).write("power_kw", 5.0))
    await asyncio.sleep(0)
    held.go.set()
    assert (await write).ok
    await asyncio.gather(*reads)
    assert [unit for unit, _ in peer.asked] == [1, 9, 2, 3]


async def test_who_waits_while_a_gateway_cannot_be_reached_does_not_try_it_once_more(peer: Peer) -> None:
    async with listening(peer) as port:
        pass
    link = ModbusLink("127.0.0.1", port, TIMEOUT_S)
    found = await asyncio.gather(*(ModbusDriver("m", PROFILE, u, link, TIMEOUT_S, {}).read() for u in range(1, 6)), return_exceptions=True)
    assert [type(fault) for fault in found] == [ConnectionLost] * 5
    async with listening(peer, port):
        assert (await ModbusDriver("m", PROFILE, 1, link, TIMEOUT_S, {}).read())["power_kw"].value == 300.0
    await link.close()


async def test_a_cancelled_wait_leaves_the_line_to_the_next(peer: Peer, link: ModbusLink) -> None:
    held = Held(peer)
    first, second, third = (asyncio.create_task(ModbusDriver("m", PROFILE, u, link, 2.0, {}).read()) for u in (1, 2, 3))
    await held.came.wait()
    second.cancel()
    held.go.set()
    await first
    assert (await third)["power_kw"].value == 300.0
    assert second.cancelled()


async def test_a_unit_that_was_dead_comes_back_on_a_line_that_the_living_keep_busy(peer: Peer, link: ModbusLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.link.TRIED_S", 1.0)
    alive: set[int] = set(range(1, 7))

    async def busy(tid: int, unit: int, pdu: bytes) -> bytes | None:
        await asyncio.sleep(0.45 * TIMEOUT_S if unit in alive else 0.0)
        return peer.truth(tid, unit, pdu) if unit in alive else None

    peer.behave = busy
    field = bus(link, range(1, 8))
    await ages(field, [], 3)
    assert list(field.faults()) == ["m7"]
    alive.add(7)
    seen: list[float] = []
    for _ in range(20):
        seen += await ages(field, [f"m{u}" for u in range(1, 7)], 1)
        if not field.faults():
            break
    assert field.faults() == {}
    assert max(seen) < 5 * CYCLE_S, "and the living are not starved for it: seven units of 0.09 s share 0.4 s"
    await field.close()
