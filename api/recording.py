"""A device's registers or nodes as they stand now, for an office that works without the site. It only reads."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from api.scan import FoundNode, SunSpecMap
from drivers.modbus import BEHIND_GATEWAY, ModbusLink, Refused
from drivers.sunspec_map import MARKER
from drivers.sunspec_models import HEAD
from ems.clock import WallClock
from ems.config.profile import NODE_TYPES
from ems.errors import BadInput, ConnectionLost, Failed
from ems.record import iso
from simulator.dump import Dump, Held, RecordedNode, RegisterBlock, Table, blocks_of

BLOCK = {"holding": 60, "input": 60, "coil": 480, "discrete": 480}
"""So many registers are asked for at once: fewer than the standard allows, because some devices allow fewer."""
MOST = 20_000
"""So many registers at most; more would take a slow device an hour."""
Ask = Callable[[str, int, int], Awaitable[list[int] | None]]
"""Reads registers of a table; None where the device refuses them."""


def ranges_of(text: str) -> list[tuple[Table, int, int]]:
    """Return table, first address and count of every range in `holding:0-99,input:1000-1040`.

    Raises
    ------
    BadInput
        Naming the range that is none.
    """
    found: list[tuple[Table, int, int]] = []
    for part in text.split(","):
        told = re.fullmatch(r"(holding|input|coil|discrete):(\d{1,5})(?:-(\d{1,5}))?", part.strip())
        first, last = (int(told[2]), int(told[3] or told[2])) if told else (1, 0)
        if told is None or not first <= last <= 65535:
            raise BadInput(f"{part!r} is no range of registers", "--registers", "TABLE:FIRST-LAST, as holding:0-99,input:1000-1040; zero-based, to 65535")
        found.append((cast(Table, told[1]), first, last - first + 1))
    if sum(count for _, _, count in found) > MOST:
        raise BadInput(f"more than {MOST} registers", "--registers", "the ranges of the maker's list")
    return found


def asking(link: ModbusLink, unit: int, timeout_s: float) -> Ask:
    """Return how registers of one unit are read, each request in a turn of its own."""

    async def ask(table: str, address: int, count: int) -> list[int] | None:
        try:
            async with link.turn(unit, timeout_s):
                return await link.read(unit, table, address, count)
        except Refused as refusal:
            if refusal.code in BEHIND_GATEWAY:
                raise ConnectionLost(refusal.error, refusal.where) from refusal
            return None

    return ask


async def registers_of(ask: Ask, ranges: Sequence[tuple[Table, int, int]]) -> tuple[RegisterBlock, ...]:
    """Return what a device has in these ranges; where it refuses a block, each half is asked for, down to one register."""
    words: dict[Table, dict[int, int]] = {}
    for table, first, count in ranges:
        waiting = [(at, min(BLOCK[table], first + count - at)) for at in range(first, first + count, BLOCK[table])][::-1]
        while waiting:
            at, some = waiting.pop()
            got = await ask(table, at, some)
            if got is not None:
                words.setdefault(table, {}).update({at + k: word for k, word in enumerate(got)})
            elif some > 1:
                waiting += [(at + some // 2, some - some // 2), (at, some // 2)]
    return tuple(block for table, held in words.items() for block in blocks_of(held, table))


def map_ranges(found: SunSpecMap) -> list[tuple[Table, int, int]]:
    """Return where a SunSpec map is: marker, every model, and the end model."""
    last = found.models[-1]
    return [("holding", found.base, last.address + HEAD + last.length + HEAD - found.base)] if found.models else [("holding", found.base, len(MARKER) + HEAD)]


def modbus_dump(url: str, unit: int, blocks: tuple[RegisterBlock, ...], texts: dict[str, str]) -> Dump:
    """Return the dump of a Modbus unit.

    Raises
    ------
    Failed
        It has none of the registers.
    """
    if not blocks:
        raise Failed("the device has none of these registers", f"{url} unit {unit}", "ranges of the maker's list, zero-based")
    return Dump(format=1, protocol="modbus", url=url, unit=unit, recorded_at=_now(), device=texts, registers=blocks)


def opcua_dump(url: str, nodes: Sequence[FoundNode]) -> Dump:
    """Return the dump of a server's variables; arrays and structures are left out.

    Raises
    ------
    Failed
        Nothing is left.
    """
    kept = [n for n in nodes if n.type in NODE_TYPES]
    if not kept:
        raise Failed("no variable there holds a number, a switch or a text", url, "another --under")
    held = (RecordedNode(node=n.node, path=n.path, type=cast(Held, n.type), value=n.value, writable=n.writable) for n in kept)
    return Dump(format=1, protocol="opcua", url=url, recorded_at=_now(), nodes=tuple(held))


def _now() -> str:
    return str(iso(WallClock().now().replace(microsecond=0)))
