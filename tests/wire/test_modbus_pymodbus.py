"""The Modbus driver against pymodbus' own server, which shares no code with it above the frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.modbus import ModbusDriver, ModbusLink
from ems.clock import real_s
from ems.config.profile import Command, Defaults, Point, Profile
from ems.errors import ConnectionLost
from ems.model import Quality

PROFILE = Profile(
    profile="tables",
    kind="hydro",
    protocol="modbus",
    defaults=Defaults(max_gap=4),
    missing={"int16": 0x8000},
    points={
        "power_kw": Point(address=0, type="int16", unit="W", scale=-100),
        "energy_kwh": Point(address=4, type="uint32", unit="Wh", word_order="little"),
        "level_m": Point(address=10, type="float32", unit="m"),
        "flow_m3s": Point(address=12, type="int16", unit="m3/s", scale=0.01),
        "frequency_hz": Point(table="input", address=2, type="uint16", unit="Hz", scale=0.01),
        "running": Point(table="coil", address=9),
        "ready": Point(table="discrete", address=17),
        "remote": Point(table="discrete", address=18),
        "gone_kw": Point(address=900, type="int16", unit="kW"),
    },
    commands={
        "running": Command(table="coil", address=9, read_back=9),
        "power_kw": Command(address=20, type="float32", unit="kW", min=0, max=400, read_back=20),
    },
)


@asynccontextmanager
async def served(port: int = 0, units: tuple[int, ...] = (3,)) -> AsyncIterator[ModbusTcpServer]:
    def device(unit: int) -> SimDevice:
        bits = [address in (9, 17) for address in range(32)]
        words = [0xFFCE, 7, 8, 9, 0xE240, 0x0001, 0, 0, 0, 0, 0x4049, 0x0FDB, 0x8000] + [0] * 20
        return SimDevice(
            id=unit,
            simdata=(
                [SimData(0, values=bits, datatype=DataType.BITS)],
                [SimData(0, values=bits, datatype=DataType.BITS)],
                [SimData(0, values=words, datatype=DataType.REGISTERS)],
                [SimData(0, values=[1, 1, 5003], datatype=DataType.REGISTERS)],
            ),
        )

    server = ModbusTcpServer([device(unit) for unit in units], address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        yield server
    finally:
        await server.shutdown()


def port_of(server: ModbusTcpServer) -> int:
    return int(server.transport.sockets[0].getsockname()[1])  # type: ignore[union-attr]


async def test_all_four_tables() -> None:
    async with served() as server:
        device = ModbusDriver("hydro1", PROFILE, 3, ModbusLink("127.0.0.1", port_of(server), 1.0), 1.0, {})
        found = await device.read()
        assert {name: reading.value for name, reading in found.items()} == {
            "power_kw": pytest.approx(5.0),  # -50 x -100 W
            "energy_kwh": pytest.approx(123.456),  # 0x0001E240 Wh
            "level_m": pytest.approx(3.14159, abs=1e-5),
            "flow_m3s": None,
            "frequency_hz": pytest.approx(50.03),
            "running": 1.0,
            "ready": 1.0,
            "remote": 0.0,
            "gone_kw": None,  # the server refuses the address; the others are not hurt
        }
        assert {name for name, reading in found.items() if reading.quality is Quality.BAD} == {"flow_m3s", "gone_kw"}
        await device.close()


async def test_writes_arrive_and_are_read_back() -> None:
    async with served() as server:
        device = ModbusDriver("hydro1", PROFILE, 3, ModbusLink("127.0.0.1", port_of(server), 1.0), 1.0, {})
        result = await device.write("power_kw", 123.5)
        assert (result.ok, result.read_back) == (True, 123.5)
        assert await server.async_getValues(3, 3, 20, 2) == [0x42F7, 0x0000]
        result = await device.write("running", 0.0)
        assert (result.ok, result.read_back) == (True, 0.0)
        assert (await device.read())["running"].value == 0.0
        await device.close()


async def test_a_server_that_restarts_is_found_again_without_our_help() -> None:
    async with served() as server:
        port = port_of(server)
        device = ModbusDriver("hydro1", PROFILE, 3, ModbusLink("127.0.0.1", port, 0.3), 0.3, {})
        assert (await device.read())["running"].value == 1.0
    with pytest.raises(ConnectionLost):
        await device.read()
    async with served(port):
        end_s = real_s() + 5
        while True:
            try:
                await device.connect()
                found = await device.read()
                break
            except ConnectionLost:
                assert real_s() < end_s
                await asyncio.sleep(0.05)
        assert found["running"].value == 1.0
        await device.close()


async def test_units_share_one_connection() -> None:
    async with served(units=(1, 2, 3)) as server:
        link = ModbusLink("127.0.0.1", port_of(server), 1.0)
        units = [ModbusDriver(f"hydro{unit}", PROFILE, unit, link, 1.0, {}) for unit in (1, 2, 3)]
        for found in await asyncio.gather(*(unit.read() for unit in units)):
            assert found["running"].value == 1.0
        assert len(server.active_connections) == 1
        await units[0].close()
        assert (await units[1].read())["running"].value == 1.0, "one unit's close does not end its neighbours"
        await units[1].close()
