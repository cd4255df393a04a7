"""The Modbus part of `make bench`: the transport against bare pymodbus, decoding, growth, and dead units.

A bare server in a process of its own answers both sides; rounds of the two take turns, so that both meet the same machine.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ems.clock import cpu_s, real_s
from tools.figures import percentile, table

REGISTERS = 100
SILENT_FROM = 200
"""Units from this number on are dead: they never answer."""
TIMEOUT_S = 0.5
ROUNDS = {10: 300, 50: 120, 200: 40}
CYCLES = 40
FIRST = 3
"""Cycles until the field bus has met every device."""


async def serve() -> None:
    """Answer reads of holding registers as fast as Python can; print the port."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(12)
                number, _, _, unit, _, address, count = struct.unpack(">HHHBBHH", head)
                if unit < SILENT_FROM:
                    words = struct.pack(f">{count}H", *range(address, address + count))
                    writer.write(struct.pack(">HHHBBB", number, 0, 3 + len(words), unit, 3, len(words)) + words)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def server() -> Iterator[int]:
    """Run the server and give its port."""
    process = subprocess.Popen([sys.executable, "-m", "tools.bench_modbus"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@dataclass(slots=True)
class Cost:
    """Processor and wall time of each round [s]."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    async def round(self, reads: Sequence[Callable[[], Awaitable[object]]]) -> None:
        """Do all reads at once and note what they cost."""
        began, spent = real_s(), cpu_s()
        await asyncio.gather(*(read() for read in reads))
        self.cpu.append(cpu_s() - spent)
        self.wall.append(real_s() - began)

    @property
    def cpu_ms(self) -> float:
        """Median processor time of a round [ms]."""
        return 1000.0 * statistics.median(self.cpu)


def driver(port: int, unit: int, link: object = None) -> object:
    """Return a driver of 100 points of its own, over a connection of its own where none is given."""
    from drivers.modbus import ModbusDriver, ModbusLink
    from ems.config.profile import Defaults, Point, Profile

    points = {f"p{k}_kw": Point(address=k, type="int16", unit="kW", scale=0.1) for k in range(REGISTERS)}
    profile = Profile(profile="bench", kind="meter", protocol="modbus", defaults=Defaults(max_block=125), missing={"int16": 0x8000}, points=points)
    shared = link if isinstance(link, ModbusLink) else ModbusLink("127.0.0.1", port, TIMEOUT_S)
    return ModbusDriver(f"m{unit}", profile, unit, shared, TIMEOUT_S, {})


async def compare(port: int, devices: int) -> tuple[Cost, Cost, Cost]:
    """Return the costs of bare pymodbus, of our transport alone, and of reading with decoding."""
    from pymodbus.client import AsyncModbusTcpClient

    from drivers.frames import reading
    from drivers.modbus import ModbusDriver

    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    clients = [AsyncModbusTcpClient("127.0.0.1", port=port, timeout=TIMEOUT_S, retries=0) for _ in range(devices)]
    drivers = [d for d in (driver(port, 1 + k % 199) for k in range(devices)) if isinstance(d, ModbusDriver)]
    await asyncio.gather(*(c.connect() for c in clients), *(d.connect() for d in drivers))
    question = reading("holding", 0, REGISTERS)

    def bare_read(k: int, c: AsyncModbusTcpClient) -> Callable[[], Awaitable[object]]:
        return lambda: c.read_holding_registers(0, count=REGISTERS, device_id=1 + k % 199)

    def alone(d: ModbusDriver) -> Callable[[], Awaitable[object]]:
        return lambda: asked(d)

    async def asked(d: ModbusDriver) -> bytes:
        async with d.link.turn(d.unit, TIMEOUT_S):
            return await d.link.ask(d.unit, question)

    bare, transport, whole = Cost(), Cost(), Cost()
    kinds: list[tuple[Cost, list[Callable[[], Awaitable[object]]]]] = [
        (bare, [bare_read(k, c) for k, c in enumerate(clients)]),
        (transport, [alone(d) for d in drivers]),
        (whole, [d.read for d in drivers]),
    ]
    for _ in range(ROUNDS[devices]):
        for cost, reads in kinds:
            await cost.round(reads)
    for client in clients:
        client.close()
    await asyncio.gather(*(d.close() for d in drivers))
    return bare, transport, whole


async def ages(port: int, units: Sequence[int], shared: bool) -> list[float]:
    """Return the ages of healthy devices over some cycles of the field bus at one second [s]."""
    from drivers.modbus import ModbusDriver, ModbusLink
    from ems.fieldbus import Fieldbus, Wire

    link = ModbusLink("127.0.0.1", port, TIMEOUT_S) if shared else None
    drivers = {f"m{k}": d for k, unit in enumerate(units) if isinstance(d := driver(port, unit, link), ModbusDriver)}
    bus = Fieldbus({name: Wire(d) for name, d in drivers.items()}, 0.6)
    found: list[float] = []
    for cycle in range(CYCLES + FIRST):
        due = real_s() + 1.0
        readings = await bus.read()
        found += (
            []
            if cycle < FIRST
            else [next(iter(readings[name].values())).age_s if readings[name] else 99.0 for name, d in drivers.items() if d.unit < SILENT_FROM]
        )
        await asyncio.sleep(max(0.0, due - real_s()))
    await bus.close()
    return found


def bench_modbus() -> None:
    """Print the three tables."""
    rows: list[list[object]] = []
    cpu: dict[int, float] = {}
    with server() as port:
        for devices in ROUNDS:
            bare, transport, whole = asyncio.run(compare(port, devices))
            cpu[devices] = whole.cpu_ms
            points = devices * REGISTERS / statistics.median(whole.wall)
            ratios = [transport.cpu_ms / bare.cpu_ms, whole.cpu_ms / bare.cpu_ms]
            rows.append([devices, devices * REGISTERS, points, bare.cpu_ms, transport.cpu_ms, whole.cpu_ms, f"{whole.cpu_ms / 10:.2f} %", *ratios])
        table(
            "Modbus TCP, 100 registers a device, each second",
            "python -m tools.bench modbus",
            (
                "devices",
                "registers",
                "points/s",
                "pymodbus [CPU ms]",
                "our transport",
                "with decoding",
                "CPU share at 1 Hz",
                "transport / pymodbus",
                "decoding too / pymodbus",
            ),
            rows,
        )
        table(
            "Growth with devices",
            "python -m tools.bench modbus",
            ("devices", "CPU us a device"),
            [[devices, 1000.0 * spent / devices] for devices, spent in cpu.items()],
        )
        rows = []
        for name, units, shared in (
            ("50 connections, all well", list(range(1, 51)), False),
            ("50 connections, 5 dead", [*range(1, 46), *range(SILENT_FROM, SILENT_FROM + 5)], False),
            ("a gateway of 20 units, all well", list(range(1, 21)), True),
            ("a gateway of 20 units, 2 dead", [200, 201, *range(1, 19)], True),
        ):
            seen = asyncio.run(ages(port, units, shared))
            rows.append([name, len(seen), 1000 * percentile(seen, 0.5), 1000 * percentile(seen, 0.99), 1000 * max(seen)])
        table(
            "Age of healthy devices over 40 cycles of 1 s, after the first 3, timeout 0.5 s",
            "python -m tools.bench modbus",
            ("field", "readings", "p50 [ms]", "p99 [ms]", "oldest [ms]"),
            rows,
        )


if __name__ == "__main__":
    asyncio.run(serve())
