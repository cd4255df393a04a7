"""The registers of one simulated Modbus unit, and the TCP server that answers with them.

The unit keeps its own words; pymodbus asks for them at each request through its `action` hook, so what
is published counts at once and a write reaches the plant before its acknowledgement leaves. A request
outside the mapped registers, or a write to one that takes none, is refused as a device refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from ems.errors import Failed

TABLES = {1: "coil", 5: "coil", 15: "coil", 2: "discrete", 3: "holding", 6: "holding", 16: "holding", 4: "input"}
ORDER = ("coil", "discrete", "holding", "input")  # as pymodbus wants its four blocks
BITS = ("coil", "discrete")


class Unit:
    """Words and bits by table and address, with what may be written.

    Parameters
    ----------
    mapped : Mapping[str, Collection[int]]
        By table, every address that exists.
    writable : Collection[tuple[str, int]]
        What takes a write, as (table, address).
    max_gap : int
        Holes up to this long are answered with zeros, because the profile's blocks may run over them.
    """

    def __init__(self, mapped: Mapping[str, set[int]], writable: set[tuple[str, int]], max_gap: int) -> None:
        self.words: dict[str, dict[int, int]] = {table: dict.fromkeys(_with_gaps(mapped.get(table, set()), max_gap), 0) for table in ORDER}
        self.writable = writable
        self.on_write: Callable[[str, int, int], None] = lambda table, address, count: None

    def extend(self, mapped: Mapping[str, set[int]], writable: set[tuple[str, int]], max_gap: int) -> None:
        """Add the registers of a second asset in this unit; what is there already stays."""
        for table in ORDER:
            added = dict.fromkeys(_with_gaps(mapped.get(table, set()), max_gap), 0)
            self.words[table] = {**added, **self.words[table]}
        self.writable |= writable

    def get(self, table: str, address: int, count: int) -> list[int]:
        """Return `count` words from `address`."""
        return [self.words[table][address + k] for k in range(count)]

    def put(self, table: str, address: int, words: Sequence[int]) -> None:
        """Set words from inside the device; nobody is told."""
        for k, word in enumerate(words):
            self.words[table][address + k] = int(word)

    def put_bit(self, table: str, address: int, bit: int, on: bool) -> None:
        """Set one bit of a word from inside the device."""
        word = self.words[table][address]
        self.words[table][address] = word | 1 << bit if on else word & ~(1 << bit)

    async def _answer(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: list[int] | list[bool] | None
    ) -> ExcCodes | None:
        table = TABLES.get(function)
        if table is None:
            return ExcCodes.ILLEGAL_FUNCTION
        words = self.words[table]
        if values is not None:
            asked = range(address, address + len(values))
            if any((table, a) not in self.writable for a in asked):
                return ExcCodes.ILLEGAL_ADDRESS
            self.put(table, address, values)
            self.on_write(table, address, len(values))
            return None
        if table in BITS:  # 16 to a register, the lowest address in the lowest bit
            for k in range(address // 16 - start, address // 16 - start + count):
                first = (start + k) * 16
                registers[k] = sum(1 << b for b in range(16) if words.get(first + b))
            return None if address in words else ExcCodes.ILLEGAL_ADDRESS
        asked = range(address, address + count)
        if any(a not in words for a in asked):
            return ExcCodes.ILLEGAL_ADDRESS
        registers[address - start : address - start + count] = [words[a] for a in asked]
        return None

    def device(self, unit: int) -> SimDevice:
        """Return it as a device that pymodbus serves under the id `unit`."""
        blocks: list[list[SimData]] = []
        for table in ORDER:
            first, last = min(self.words[table], default=0), max(self.words[table], default=0)
            if table in BITS:
                first, last = first // 16 * 16, last // 16 * 16 + 15
                blocks.append([SimData(first, values=[False] * (last - first + 1), datatype=DataType.BITS)])
            else:
                blocks.append([SimData(first, values=[0] * (last - first + 1), datatype=DataType.REGISTERS)])
        return SimDevice(id=unit, simdata=(blocks[0], blocks[1], blocks[2], blocks[3]), action=self._answer)


def _with_gaps(addresses: set[int], max_gap: int) -> list[int]:
    ordered = sorted(addresses)
    filled = [a for low, high in pairwise(ordered) for a in (range(low, high) if high - low - 1 <= max_gap else (low,))]
    return filled + ordered[-1:]


async def _nobody(function: int, start: int, address: int, count: int, registers: list[int], values: list[int] | list[bool] | None) -> ExcCodes | None:
    return ExcCodes.GATEWAY_NO_RESPONSE


async def serve(units: Mapping[int, Unit], host: str, port: int) -> tuple[ModbusTcpServer, int]:
    """Listen with these units and return the server and its port (0: a free one); an id that no unit has answers as a gateway does."""
    devices = [unit.device(number) for number, unit in units.items()]
    if 0 not in units:  # id 0 takes every id that nobody else has
        devices.append(SimDevice(id=0, simdata=[SimData(0, count=65536, datatype=DataType.REGISTERS)], action=_nobody))
    server = ModbusTcpServer(devices, address=(host, port))
    try:
        await server.serve_forever(background=True)
    except RuntimeError as error:
        raise Failed("cannot listen here, the port is busy or not ours", f"{host}:{port}", "another --listen HOST:PORT, or 0 for a free port") from error
    sockets: list[Any] = getattr(server.transport, "sockets", [])  # of a listening server; pymodbus types it as a connection
    return server, int(sockets[0].getsockname()[1])
