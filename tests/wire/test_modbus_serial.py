"""A serial line over a pair of pseudo terminals: libmodbus on the far side, noise and a pulled plug in between."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from api.assembly import open_drivers
from drivers.frames import crc16
from drivers.modbus import ModbusDriver, SerialLink, line_s, link_to
from ems.config.endpoint import endpoint
from ems.config.load import load_site
from ems.config.profile import Command, Defaults, Point, Profile
from ems.errors import BadInput, ConnectionLost
from tests.wire.peers import libmodbus_peer, running

PROFILE = Profile(
    profile="line",
    kind="diesel",
    protocol="modbus",
    defaults=Defaults(max_gap=0),
    points={
        **{f"h{k}": Point(address=k, type="uint16") for k in range(100, 200)},
        "c0": Point(table="coil", address=9),
        "wide": Point(address=20, type="uint32"),
    },
    commands={"power_kw": Command(address=300, type="int32", unit="kW", read_back=300)},
)
UNIT = 17


class Line:
    """Two pseudo terminals joined by a wire that can be noisy."""

    def __init__(self) -> None:
        (self.left, left), (self.right, right) = os.openpty(), os.openpty()
        for end in (self.left, left, self.right, right):
            tty.setraw(end)
        self.ends = [os.ttyname(left), os.ttyname(right)]
        self._slaves = [left, right]
        self.spoil: Callable[[bytes], bytes] = lambda data: data
        loop = asyncio.get_running_loop()
        loop.add_reader(self.left, lambda: os.write(self.right, os.read(self.left, 512)))
        loop.add_reader(self.right, lambda: os.write(self.left, self.spoil(os.read(self.right, 512))))

    def hang_up(self) -> None:
        """Pull the plug on our side."""
        loop = asyncio.get_running_loop()
        for end in (self.left, self.right):
            loop.remove_reader(end)
        for end in (self.left, self.right, *self._slaves):
            with suppress(OSError):
                os.close(end)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line()
    yield line
    line.hang_up()


@pytest.fixture
async def device(line: Line, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModbusDriver]:
    peer = await asyncio.to_thread(libmodbus_peer, tmp_path_factory.mktemp("libmodbus"))
    with running(peer, "rtu", line.ends[1], str(UNIT)):
        link = link_to(endpoint(f"rtu://{line.ends[0]}?baud=115200&parity=N&stop=1"), 1.0)
        driver = ModbusDriver("dg1", PROFILE, UNIT, link, 3.0, {})
        yield driver
        await driver.close()


async def values(device: ModbusDriver) -> dict[str, float | None]:
    return {name: reading.value for name, reading in (await device.read()).items()}


TRUTH = {**{f"h{k}": 7.0 * k + 3 for k in range(100, 200)}, "c0": 1.0, "wide": (7 * 20 + 3) * 65536.0 + 7 * 21 + 3}


async def test_reads_and_writes_over_a_serial_line(device: ModbusDriver) -> None:
    assert isinstance(device.link, SerialLink)
    assert await values(device) == TRUTH
    result = await device.write("power_kw", -70000.0)
    assert (result.ok, result.read_back) == (True, -70000.0)
    assert device.link.counts.rejected == {}


async def test_a_damaged_answer_is_asked_for_once_more(device: ModbusDriver, line: Line) -> None:
    spoiled = 0

    def noisy(data: bytes) -> bytes:
        nonlocal spoiled
        if spoiled or len(data) < 5:
            return data
        spoiled += 1
        return data[:-1] + bytes([data[-1] ^ 0x40])

    line.spoil = noisy
    assert await values(device) == TRUTH
    assert device.link.counts.rejected["crc"] == 1


async def test_noise_and_echo_are_no_answers(device: ModbusDriver, line: Line) -> None:
    line.spoil = lambda data: b"\x00\xff\x11" + data  # 0x11 is our own unit
    assert await values(device) == TRUTH
    line.spoil = lambda data: b""
    device.timeout_s = 0.1
    with pytest.raises(ConnectionLost, match="no answer in time"):
        await device.read()
    line.spoil, device.timeout_s = (lambda data: data), 3.0
    assert await values(device) == TRUTH, "the next answer counts, behind the one that was owed"


async def test_a_pulled_plug_is_a_lost_connection(device: ModbusDriver, line: Line) -> None:
    assert await values(device) == TRUTH
    line.hang_up()
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            await device.read()
    assert not device.link.open


async def test_a_cancelled_read_leaves_nothing_for_the_next(device: ModbusDriver, line: Line) -> None:
    held = asyncio.Event()
    kept: list[bytes] = []

    def hold(data: bytes) -> bytes:
        kept.append(data)
        if len(data) > 3 and data[1] == 3:
            held.set()
        return b""

    line.spoil = hold
    reading = asyncio.create_task(device.read())
    await held.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    line.spoil = lambda data: data
    owed = kept[-1][:3] + bytes.fromhex("0bad") * (kept[-1][2] // 2)
    os.write(line.left, owed + crc16(owed))  # a whole frame of the right shape, late and wrong
    assert await values(device) == TRUTH


SITE = """\
site: {{id: line}}
assets:
  - {{id: town, kind: load, peak_kw: 400}}
  - {{id: dg1, kind: diesel, rated_kw: 400, device: {{profile: generic-diesel, url: "{url}", unit: {unit}{more}}}}}
  - {{id: dg2, kind: diesel, rated_kw: 400, device: {{profile: generic-diesel, url: "{other}", unit: 2, timeout_s: 2}}}}
"""
GOOD = "rtu:///dev/ttyS0?baud=9600&parity=E"


@pytest.mark.parametrize(
    ("url", "unit", "expected"),
    [
        ("rtu://dev/ttyS0", 1, "three slashes"),
        ("rtu:///dev/ttyS0?baud=9601", 1, "baud"),
        ("rtu:///dev/ttyS0?baud=9600&baud=9600", 1, "twice"),
        ("rtu:///dev/ttyS0?parity=X", 1, "parity"),
        ("rtu:///dev/ttyS0?stop=3", 1, "stop"),
        ("rtu:///dev/ttyS0?speed=9600", 1, "speed"),
        ("rtu:///etc/passwd", 1, "serial device"),
        ("tcp://10.0.0.1:70000", 1, "port"),
        ("tcp://10.0.0.1:0", 1, "port"),
        ("tcp://10.0.0.1:502/x", 1, "after the port"),
        ("rtu+tcp://10.0.0.1", 1, "url"),
        ("http://10.0.0.1:502", 1, "url"),
        (GOOD, 0, "serial line"),
        (GOOD, 248, "serial line"),
        ("rtu:///dev/ttyS0?baud=19200&parity=E", 1, "differently"),
    ],
)
def test_a_wrong_address_is_one_clear_error(tmp_path: Path, url: str, unit: int, expected: str) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE.format(url=url, unit=unit, more=", timeout_s: 2", other=GOOD))
    with pytest.raises(BadInput) as caught:
        load_site(site)
    assert expected in str(caught.value)
    assert f"{site}:" in caught.value.where


def test_a_timeout_that_the_line_cannot_meet_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE.format(url="rtu:///dev/ttyS1?baud=1200", unit=1, more="", other=GOOD))
    loaded = load_site(site)
    assert line_s(loaded.profiles["dg1"], endpoint("rtu:///dev/ttyS1?baud=1200")) == pytest.approx((13 + 28) * 10 / 1200)
    assert line_s(loaded.profiles["dg1"], endpoint("tcp://10.0.0.1:502")) == 0.0
    assert len(open_drivers(loaded)) == 2
    site.write_text(SITE.format(url="rtu:///dev/ttyS1?baud=300", unit=1, more="", other=GOOD))
    with pytest.raises(BadInput, match="at 300 baud"):
        open_drivers(load_site(site))
