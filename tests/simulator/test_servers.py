"""The simulated devices: their registers and nodes against hand-computed bytes, and every point through the drivers."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.uaerrors import BadTypeMismatch

from drivers.modbus import ModbusDriver, ModbusLink
from drivers.opcua import OpcUaDriver
from drivers.sunspec import SunSpecDriver
from ems.clock import SimClock, real_s
from ems.config.load import LoadedSite, load_site
from ems.config.site import Hydro, Load, Solar
from ems.errors import Failed
from ems.model import Quality
from ems.ports import Driver
from simulator.as_simulated import write_as_simulated
from simulator.plant import Conditions, Flows, Plant
from simulator.servers import PlantServers, ratings, run

SITE = """\
# an island
site: {id: isle, timezone: UTC}
assets:
  - {id: town, kind: load, peak_kw: 400, feeders: [{id: f1, priority: 1, share: 0.4}, {id: f2, priority: 2, share: 0.6}]}
  - {id: pv1, kind: solar, rated_kw: 900, device: {profile: sunspec-inverter, url: "tcp://10.0.0.11:502", unit: 7, timeout_s: 2.0}}   # by SunSpec
  - {id: pv2, kind: solar, rated_kw: 100}
  - {id: hydro1, kind: hydro, rated_kw: 60, min_kw: 10, mode: power, head_m: 25, design_flow_m3s: 0.31}
  - {id: dg1, kind: diesel, rated_kw: 300, forming: isochronous}
  - {id: dg2, kind: diesel, rated_kw: 300, device: {profile: genset-controller, url: "tcp://10.0.0.12:502", unit: 3}}
  - {id: inv1, kind: inverter, rated_kw: 200, forming: droop}
  - {id: bess1, kind: battery, behind: inv1, capacity_kwh: 400, charge_kw: 200, discharge_kw: 200}
  - {id: desal1, kind: deferrable, rated_kw: 60, daily_kwh: 100}
  - {id: tank1, kind: tank, feeds: [dg1], capacity_l: 40000}
  - {id: m1, kind: meter, measures: pv1, serial: A1}
  - {id: sky1, kind: weather}
"""
MODBUS_ONLY = "\n".join(line for line in SITE.splitlines() if not re.search("id: (hydro1|inv1|bess1|desal1|tank1|m1|sky1),", line))
"""Without an OPC UA server, which takes a second or two to build."""


class StillPlant:
    """A plant that shows what it is told and notes what it is commanded."""

    def __init__(self, points: Mapping[str, Mapping[str, float | None]]) -> None:
        self.points = {a: dict(p) for a, p in points.items()}
        self.commands: list[tuple[str, str, float]] = []
        self.steps: list[float] = []

    def command(self, asset: str, command: str, value: float) -> None:
        self.commands.append((asset, command, value))

    def observe(self, conditions: Conditions) -> dict[str, dict[str, float | None]]:
        return {a: dict(p) for a, p in self.points.items()}

    def step(self, dt_s: float, conditions: Conditions) -> Flows:
        raise NotImplementedError


def conditions(loaded: LoadedSite) -> Conditions:
    site = loaded.site
    return Conditions({a.id: 200.0 for a in site.of(Load)}, {a.id: 50.0 for a in site.of(Solar)}, {a.id: 0.2 for a in site.of(Hydro)}, 600.0, 27.5)


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedSite:
    return load_text(tmp_path, SITE)


@pytest.fixture
def wired(tmp_path: Path) -> LoadedSite:
    return load_text(tmp_path, MODBUS_ONLY)


def load_text(folder: Path, text: str) -> LoadedSite:
    path = folder / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return load_site(path)


@asynccontextmanager
async def listening(loaded: LoadedSite, plant: Any, port: int = 0) -> AsyncIterator[PlantServers]:
    servers = PlantServers(loaded, plant, port=port)
    try:
        await servers.start(conditions(loaded))
        yield servers
    finally:
        await servers.stop()


def only(loaded: LoadedSite, **points: Mapping[str, float | None]) -> StillPlant:
    return StillPlant({a: points.get(a, {}) for a in loaded.profiles})


async def asked(url: str, request: bytes) -> bytes:
    """Send one Modbus TCP frame and return the answer after its transaction id."""
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x12\x34" + request)
    head = await reader.readexactly(6)
    body = await reader.readexactly(struct.unpack(">H", head[4:6])[0])
    writer.close()
    await writer.wait_closed()
    assert head[:4] == b"\x12\x34\x00\x00"
    return body


def frame(text: str) -> bytes:
    """Return a request from hex: protocol id and length are put before it."""
    body = bytes.fromhex(text)
    return b"\0\0" + struct.pack(">H", len(body)) + body


GENSET = """\
site: {id: g}
assets: [{id: town, kind: load, peak_kw: 100}, {id: dg1, kind: diesel, rated_kw: 300, device: {profile: generic-diesel, url: "tcp://10.0.0.1:502", unit: 5}}]
"""


@pytest.mark.parametrize(
    ("request_hex", "answer_hex"),
    [
        # 250.5 kW = 0x437A8000; nothing for kvar = quiet NaN
        ("05 03 0000 0004", "05 03 08 437A8000 7FC00000"),
        # 1234.5 L in tenths = 12345 = 0x3039; run_h 10.2 -> 102; running, remote, ready = bits 0, 3, 4 = 0x19; fault code 3
        ("05 03 0008 0006", "05 03 0C 00003039 00000066 0019 0003"),
        ("05 03 0010 0001", "05 83 02"),  # nothing there
        ("05 03 000D 0002", "05 83 02"),  # one beyond the last point
        ("05 06 0000 0001", "05 86 02"),  # a measurement cannot be written
        ("09 03 0000 0001", "09 83 0B"),  # nobody has this unit
        ("05 06 0028 0001", "05 06 0028 0001"),  # start
        ("05 10 0029 0002 04 43160000", "05 10 0029 0002"),  # 150 kW
    ],
)
async def test_frames_by_hand(tmp_path: Path, request_hex: str, answer_hex: str) -> None:
    loaded = load_text(tmp_path, GENSET)
    genset = {"power_kw": 250.5, "reactive_kvar": None, "frequency_hz": 50.0, "voltage_v": 400.0, "fuel_l": 1234.5, "run_h": 10.2}
    plant = only(loaded, dg1={**genset, "running": 1.0, "breaker_closed": 0.0, "fault": 3.0})
    async with listening(loaded, plant) as servers:
        assert (await asked(servers.addresses["dg1"].url, frame(request_hex))).hex() == bytes.fromhex(answer_hex).hex()
    due = {"05 06 0028 0001": [("dg1", "running", 1.0)], "05 10 0029 0002 04 43160000": [("dg1", "power_kw", 150.0)]}
    assert plant.commands == due.get(request_hex, [])


async def test_a_sunspec_map_by_hand(wired: LoadedSite) -> None:
    """Model 1 at 40002 (66 words), 103 at 40070 (50), 123 at 40122 (24), the end model at 40148."""
    plant = only(wired, pv1={"power_kw": 450.0, "state": 2.0}, dg1={"frequency_hz": 49.98})
    async with listening(wired, plant) as servers:
        at = servers.addresses["pv1"]
        assert at.unit == 7

        async def words(address: int, count: int) -> list[int]:
            body = await asked(at.url, frame(f"07 03 {address:04X} {count:04X}"))
            assert body[:3] == bytes((7, 3, 2 * count))
            return list(struct.unpack(f">{count}H", body[3:]))

        assert await words(40000, 4) == [0x5375, 0x6E53, 1, 66]
        assert struct.pack(">16H", *await words(40052, 16)).rstrip(b"\0") == b"pv1"
        assert await words(40070, 2) == [103, 50]
        assert await words(40084, 4) == [4500, 2, 4998, 0x10000 - 2]  # W and its factor, Hz and its factor
        assert await words(40094, 3) == [0, 1000, 0]  # 1 kWh on the register at first
        assert await words(40108, 1) == [5]  # throttled
        assert await words(40122, 2) == [123, 24]
        assert await words(40148, 2) == [0xFFFF, 0]
        assert await words(40127, 1) == [10000] and await words(40131, 1) == [0] and await words(40145, 1) == [0x10000 - 2]
        await asked(at.url, frame("07 06 9CBF 1388"))  # 40127: 50.00 %, not yet enabled
        assert plant.commands[-1] == ("pv1", "limit_kw", 900.0)
        await asked(at.url, frame("07 06 9CC1 0001"))  # 40129: for 1 s
        await asked(at.url, frame("07 06 9CC3 0001"))  # 40131: enable
        assert plant.commands[-1] == ("pv1", "limit_kw", 450.0)

        async def reverted() -> bool:
            return await words(40131, 1) == [0]

        await until(reverted)
        assert plant.commands[-1] == ("pv1", "limit_kw", 900.0)


def driver_for(site: LoadedSite, asset: str, servers: PlantServers) -> Driver:
    at, profile, of = servers.addresses[asset], site.profiles[asset], ratings(site.site.asset(asset))
    if profile.protocol == "opcua":
        return OpcUaDriver(asset, profile, at, 2.0, of)
    host, _, port = at.url.removeprefix("tcp://").rpartition(":")
    kind = SunSpecDriver if profile.protocol == "sunspec" else ModbusDriver
    return kind(asset, profile, at.unit, ModbusLink(host, int(port), 2.0), 2.0, of)


async def test_every_point_reads_as_the_plant_shows_it(loaded: LoadedSite) -> None:
    plant = Plant(loaded.site)
    outside = conditions(loaded)
    async with listening(loaded, plant) as servers:
        plant.step(1.0, outside)
        await servers.publish(outside)
        shown = plant.observe(outside)
        for asset, profile in loaded.profiles.items():
            driver = driver_for(loaded, asset, servers)
            await driver.connect()
            readings = await driver.read()
            await driver.close()
            assert set(readings) == set(profile.points)
            assert {n: r.quality for n, r in readings.items()} == dict.fromkeys(profile.points, Quality.GOOD), asset
            for name, reading in readings.items():
                if name in shown[asset] and name != "state":  # a step of the coarsest register is 0.1 kW
                    assert reading.value == pytest.approx(shown[asset][name], abs=0.0501), f"{asset}.{name}"


COMMANDS = [
    ("pv1", "limit_kw", 450.0, ["pv1"]),
    ("pv2", "limit_kw", 33.0, ["pv2"]),
    ("f2", "breaker", 0.0, ["f2"]),
    ("town", "breaker", 0.0, ["f1", "f2"]),
    ("dg1", "running", 1.0, ["dg1"]),
    ("dg2", "running", 0.0, ["dg2"]),
    ("inv1", "power_kw", -75.5, ["inv1"]),
    ("inv1", "forming", 1.0, ["inv1"]),
    ("hydro1", "power_kw", 40.0, ["hydro1"]),
    ("desal1", "power_kw", 45.0, ["desal1"]),
]


async def test_a_command_through_the_driver_reaches_the_plant(loaded: LoadedSite) -> None:
    plant = only(loaded)
    async with listening(loaded, plant) as servers:
        for asset, command, value, takers in COMMANDS:
            driver = driver_for(loaded, asset, servers)
            await driver.connect()
            result = await driver.write(command, value)
            await driver.close()
            assert result.ok and result.read_back in (None, pytest.approx(value)), result
            assert plant.commands[-len(takers) :] == [(taker, command, value) for taker in takers]


async def test_a_pulse_clears_itself_and_acts_once(wired: LoadedSite) -> None:
    plant = only(wired)
    async with listening(wired, plant) as servers:
        at = servers.addresses["dg2"]
        await asked(at.url, frame("03 06 1008 8B75"))  # holding 4104 = 35701: start
        assert (await asked(at.url, frame("03 03 1008 0001"))).hex() == "0303028b75"

        async def cleared() -> bool:
            return (await asked(at.url, frame("03 03 1008 0001"))).hex() == "0303020000"

        await until(cleared)
    assert plant.commands == [("dg2", "running", 1.0)]


async def test_opcua_nodes_keep_their_type_and_show_what_is_missing(loaded: LoadedSite) -> None:
    plant = only(loaded, inv1={"power_kw": -12.5, "running": 1.0, "voltage_v": None}, bess1={"soc": 0.5})
    async with listening(loaded, plant) as servers, Client(servers.addresses["inv1"].url) as client:
        power = await client.get_node("ns=2;s=inv1.Power").read_data_value()
        assert (power.Value.Value, power.Value.VariantType) == (-12_500.0, ua.VariantType.Double)
        assert await client.get_node("ns=2;s=bess1.SoC").read_value() == 50.0
        assert await client.get_node("ns=2;s=inv1.Running").read_value() is True
        voltage = await client.get_node("ns=2;s=inv1.Voltage").read_data_value(raise_on_bad_status=False)
        assert voltage.StatusCode.is_bad() and voltage.Value.Value is None
        command = client.get_node("ns=2;s=inv1.Command.Power")
        with pytest.raises(BadTypeMismatch):
            await command.write_value(ua.Variant(5, ua.VariantType.Int32))
        await command.write_value(ua.DataValue(ua.Variant(5000.0, ua.VariantType.Double)))
        assert await command.read_value() == 5000.0
    assert plant.commands == [("inv1", "power_kw", 5.0)]


async def test_a_limit_written_over_modbus_cuts_the_sun(wired: LoadedSite) -> None:
    plant, outside = Plant(wired.site), conditions(wired)
    async with listening(wired, plant) as servers:
        driver = driver_for(wired, "pv2", servers)
        await driver.connect()
        assert (await driver.read())["power_kw"].value == pytest.approx(50.0)
        await driver.write("limit_kw", 20.0)
        plant.step(1.0, outside)
        await servers.publish(outside)
        assert (await driver.read())["power_kw"].value == pytest.approx(20.0)
        await driver.close()


@pytest.mark.parametrize(
    ("silence", "taken"),
    [
        ("{after_s: 30, does: hold}", []),
        ("{after_s: 30, does: local_auto}", []),
        ("{after_s: 30, does: start}", [("dg1", "running", 1.0)]),
        ("{after_s: 30, does: trip}", [("dg1", "running", 0.0)]),
        ("{after_s: 30, does: preset, value: 120}", [("dg1", "power_kw", 120.0)]),
    ],
)
async def test_what_a_device_does_when_the_heartbeat_stops(tmp_path: Path, silence: str, taken: list[Any]) -> None:
    (tmp_path / "genset.yaml").write_text(
        "profile: genset\nkind: diesel\nprotocol: modbus\n"
        "points: {power_kw: {address: 0, type: int16, unit: kW}}\n"
        "commands: {running: {address: 40, type: uint16, on: 1, off: 0}, power_kw: {address: 41, type: int16, unit: kW}}\n"
        f"heartbeat: {{address: 49, type: uint16}}\non_silence: {silence}\n"
    )
    loaded = load_text(tmp_path, GENSET.replace("generic-diesel", "genset.yaml"))
    plant = only(loaded)
    async with listening(loaded, plant) as servers:
        url = servers.addresses["dg1"].url
        servers.watch(real_s() + 1000.0)  # nobody has ever been there: nobody is missed
        assert plant.commands == []
        await asked(url, frame("05 06 0031 0001"))
        heard_s = real_s()
        servers.watch(heard_s + 29.0)
        assert plant.commands == []
        servers.watch(heard_s + 31.0)
        servers.watch(heard_s + 32.0)
        assert plant.commands == taken  # once
        await asked(url, frame("05 06 0031 0001"))  # the same value is no beat
        servers.watch(real_s() + 29.0)
        await asked(url, frame("05 06 0031 0000"))
        servers.watch(real_s() + 1.0)
        servers.watch(real_s() + 31.0)
        assert plant.commands == 2 * taken


async def test_the_file_as_simulated_is_the_same_site_with_real_addresses(tmp_path: Path, loaded: LoadedSite) -> None:
    async with listening(loaded, only(loaded)) as servers:
        path = tmp_path / "out" / "as-simulated.yaml"
        write_as_simulated(loaded, path, servers.addresses)
        again = load_site(path)
        assert len({a.url for a in servers.addresses.values()}) == 4  # two urls of the site, Modbus and OPC UA for the rest
    assert {a: d.url for a in again.profiles if (d := again.site.asset(a).device)} == {a: at.url for a, at in servers.addresses.items()}
    assert again.profiles == loaded.profiles
    bare = [{k: v for k, v in a.model_dump().items() if k not in ("device", "feeders")} for a in again.site.assets]
    assert bare == [{k: v for k, v in a.model_dump().items() if k not in ("device", "feeders")} for a in loaded.site.assets]
    pv1 = again.site.asset("pv1").device
    assert pv1 is not None and (pv1.unit, pv1.timeout_s) == (7, 2.0)
    text = path.read_text(encoding="utf-8")
    assert "# an island" in text and "# by SunSpec" in text


async def test_a_site_that_names_no_feeders_and_a_profile_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "profiles"
    folder.mkdir(parents=True)
    (folder / "g.yaml").write_text("profile: g\nkind: diesel\nprotocol: modbus\npoints: {power_kw: {address: 0, type: int16, unit: kW}}\n")
    loaded = load_text(tmp_path / "in", GENSET.replace("generic-diesel", "profiles/g.yaml"))
    async with listening(loaded, only(loaded)) as servers:
        write_as_simulated(loaded, tmp_path / "out.yaml", servers.addresses)
    again = load_site(tmp_path / "out.yaml")
    feeder = again.site.asset("town-f1").device
    assert feeder is not None and feeder.profile == "generic-feeder"
    assert again.profiles["dg1"] == loaded.profiles["dg1"]


async def test_a_busy_port_is_one_clear_error(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, GENSET)
    async with listening(loaded, only(loaded)) as servers:
        port = int(servers.addresses["town"].url.rpartition(":")[2])
        with pytest.raises(Failed) as caught:
            async with listening(loaded, only(loaded), port):
                raise AssertionError("it listens twice")
    assert str(port) in caught.value.where


async def test_the_plant_lives_on_the_clock_it_is_given(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, GENSET)
    plant, clock, stop = Plant(loaded.site), SimClock(datetime(2026, 3, 1, tzinfo=UTC)), asyncio.Event()
    seen: list[tuple[datetime, float]] = []
    outside = conditions(loaded)

    def at(time: datetime, seconds: float) -> Conditions:
        seen.append((time, seconds))
        return outside

    async def caught_up() -> bool:
        return plant.time_s == clock.now_s()

    async with listening(loaded, plant) as servers:
        task = asyncio.create_task(run(plant, clock, at, servers, stop, tick_s=0.01))
        await asyncio.sleep(0)
        for seconds in (60.0, 15.0):
            clock.advance(seconds)
            await until(caught_up)
        stop.set()
        await asyncio.wait_for(task, 2)
    assert seen == [(clock.start, 60.0), (datetime(2026, 3, 1, 0, 1, tzinfo=UTC), 15.0)]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await holds():  # noqa: ASYNC110 - what is waited for is on the wire
            await asyncio.sleep(0.02)
