"""Our Modbus driver against foreign devices: libmodbus over TCP and on a serial line, modbus-serial; and mbpoll as a second opinion."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.modbus import ModbusDriver, ModbusLink
from ems.config.profile import Command, Defaults, Point, Profile
from ems.errors import ConnectionLost
from ems.model import Quality
from tests.wire.peers import libmodbus_peer, node_peer, running

PROFILE = Profile(
    profile="foreign",
    kind="diesel",
    protocol="modbus",
    defaults=Defaults(max_gap=2),
    points={
        "power_kw": Point(address=10, type="uint16", unit="kW"),
        "fuel_l": Point(address=11, type="uint32", unit="L", counter=True),
        "run_h": Point(address=13, type="uint32", unit="h", word_order="little"),
        "code": Point(address=15, type="uint16", mask=0x00F0),
        "frequency_hz": Point(address=3, table="input", type="uint16", unit="Hz"),
        "running": Point(table="coil", address=9),
        "open": Point(table="coil", address=9 + 1, invert=True),
        "ready": Point(table="discrete", address=20),
    },
    commands={
        "running": Command(table="coil", address=30, read_back=30),
        "power_kw": Command(address=200, type="float32", unit="kW", max=600, read_back=200),
    },
)


@pytest.fixture(scope="module")
def libmodbus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return libmodbus_peer(tmp_path_factory.mktemp("libmodbus"))


@pytest.fixture(scope="module")
def c_port(libmodbus: Path) -> Iterator[int]:
    with running(libmodbus, "tcp") as port:
        yield port


@pytest.fixture(scope="module")
def node_port() -> Iterator[int]:
    with running(*node_peer()) as port:
        yield port


def driver(port: int, unit: int = 7, profile: Profile = PROFILE, timeout_s: float = 2.0) -> ModbusDriver:
    return ModbusDriver("dg1", profile, unit, ModbusLink("127.0.0.1", port, timeout_s), timeout_s, {})


def polled(mbpoll: Path, port: int, *options: str) -> str:
    command = [str(mbpoll), "-m", "tcp", "-p", str(port), "-a", "7", "-0", "-1", "-q", "-B", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_libmodbus_is_read_in_all_four_tables(c_port: int) -> None:
    device = driver(c_port)
    found = {name: reading.value for name, reading in (await device.read()).items()}
    await device.close()
    holding = {k: 7 * k + 3 for k in range(9, 20)}
    assert found == {
        "power_kw": holding[10],
        "fuel_l": holding[11] * 65536.0 + holding[12],
        "run_h": holding[14] * 65536.0 + holding[13],
        "code": holding[15] >> 4 & 0xF,
        "frequency_hz": 16.0,
        "running": 1.0,
        "open": 1.0,
        "ready": 1.0,
    }


async def test_libmodbus_takes_what_we_write_and_mbpoll_sees_it(c_port: int, peer: Callable[[str], Path]) -> None:
    mbpoll = peer("mbpoll")
    device = driver(c_port)
    assert (await device.write("power_kw", 123.5)).read_back == 123.5
    assert (await device.write("running", 0.0)).ok
    assert "123.5" in await asyncio.to_thread(polled, mbpoll, c_port, "-r", "200", "-t", "4:float", "127.0.0.1")
    await asyncio.to_thread(polled, mbpoll, c_port, "-r", "10", "-t", "4", "127.0.0.1", "321")
    assert (await device.read())["power_kw"].value == 321.0
    await asyncio.to_thread(polled, mbpoll, c_port, "-r", "10", "-t", "4", "127.0.0.1", "73")  # as it was
    await device.close()


async def test_what_libmodbus_refuses_is_bad_and_the_rest_good(c_port: int) -> None:
    far = PROFILE.model_copy(update={"points": {**PROFILE.points, "far": Point(address=5000, type="uint16")}})
    device = driver(c_port, profile=far)
    found = await device.read()
    await device.close()
    assert {name for name, reading in found.items() if reading.quality is Quality.BAD} == {"far"}


async def test_modbus_serial_and_its_units(node_port: int) -> None:
    link = ModbusLink("127.0.0.1", node_port, 1.0)
    profile = Profile(
        profile="node",
        kind="meter",
        protocol="modbus",
        points={"a": Point(address=10, type="uint16"), "b": Point(address=4, table="input", type="uint16"), "c": Point(table="coil", address=5)},
    )
    units = {unit: ModbusDriver(f"m{unit}", profile, unit, link, 1.0 if unit != 9 else 0.2, {}) for unit in (1, 2, 8, 9)}
    found = dict(zip(units, await asyncio.gather(*(u.read() for u in units.values()), return_exceptions=True), strict=True))
    for unit in (1, 2):
        read = found[unit]
        assert not isinstance(read, BaseException), read
        assert {name: reading.value for name, reading in read.items()} == {"a": 1000.0 * unit + 10, "b": 500.0 * unit + 4, "c": 1.0}
    refusing = found[8]
    assert not isinstance(refusing, BaseException), refusing
    assert all(reading.value is None and reading.quality is Quality.BAD for reading in refusing.values())
    assert isinstance(found[9], ConnectionLost)
    assert link.counts.refused == 3
    assert link.counts.silent == 1
    await link.close()
