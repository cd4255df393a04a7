"""A foreign SunSpec client on our simulated devices, and every shipped SunSpec profile read and written through our driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from drivers.modbus import ModbusLink
from drivers.sunspec import SunSpecDriver
from ems.config.load import LoadedSite, load_site
from simulator.plant import Conditions, Flows
from simulator.servers import PlantServers, ratings

SITE = """\
site: {id: isle}
assets:
  - {id: town, kind: load, peak_kw: 400}
  - {id: pv1, kind: solar, rated_kw: 900, device: {profile: sunspec-inverter, url: "tcp://10.0.0.1:502", unit: 1}}
  - {id: pv2, kind: solar, rated_kw: 100, device: {profile: sunspec-der-inverter, url: "tcp://10.0.0.1:502", unit: 2}}
  - {id: inv1, kind: inverter, rated_kw: 250, device: {profile: sunspec-storage, url: "tcp://10.0.0.1:502", unit: 3}}
  - {id: bess1, kind: battery, behind: inv1, capacity_kwh: 400, charge_kw: 200, discharge_kw: 200,
     device: {profile: sunspec-battery, url: "tcp://10.0.0.1:502", unit: 3}}
  - {id: inv2, kind: inverter, rated_kw: 500, device: {profile: sunspec-der-storage, url: "tcp://10.0.0.1:502", unit: 4}}
  - {id: bess2, kind: battery, behind: inv2, capacity_kwh: 2000, charge_kw: 500, discharge_kw: 500,
     device: {profile: sunspec-der-battery, url: "tcp://10.0.0.1:502", unit: 4}}
  - {id: m1, kind: meter, measures: pv1, serial: A1, device: {profile: sunspec-meter, url: "tcp://10.0.0.1:502", unit: 5}}
  - {id: dg1, kind: diesel, rated_kw: 400}
"""
POINTS: dict[str, dict[str, float | None]] = {
    "pv1": {"power_kw": 450.0, "reactive_kvar": -31.2, "state": 2.0},
    "pv2": {"power_kw": 61.35, "state": 1.0},
    "inv1": {"power_kw": -120.5, "running": 1.0, "breaker_closed": 1.0},
    "bess1": {"soc": 0.537, "charge_limit_kw": 180.0, "voltage_v": None},
    "inv2": {"power_kw": 333.0, "running": 1.0},
    "bess2": {"soc": 0.42, "soh": 0.97, "charge_limit_kw": 400.0, "discharge_limit_kw": 500.0, "available_kwh": 820.0, "fault": 0.0},
    "m1": {"power_kw": 450.0, "energy_export_kwh": 70123.456, "energy_import_kwh": 12.0},
    "dg1": {"frequency_hz": 50.02, "voltage_v": 398.5},
}


class StillPlant:
    """Shows what it is told and notes what it is commanded."""

    def __init__(self, loaded: LoadedSite) -> None:
        self.points = {asset: dict(POINTS.get(asset, {})) for asset in loaded.profiles}
        self.commands: list[tuple[str, str, float]] = []

    def command(self, asset: str, command: str, value: float) -> None:
        self.commands.append((asset, command, value))

    def observe(self, conditions: Conditions) -> dict[str, dict[str, float | None]]:
        return {asset: dict(points) for asset, points in self.points.items()}

    def step(self, dt_s: float, conditions: Conditions) -> Flows:
        raise NotImplementedError


class Isle:
    def __init__(self, loaded: LoadedSite, plant: StillPlant, servers: PlantServers) -> None:
        self.loaded, self.plant, self.servers = loaded, plant, servers

    def driver(self, asset: str) -> SunSpecDriver:
        at = self.servers.addresses[asset]
        host, _, port = at.url.removeprefix("tcp://").rpartition(":")
        return SunSpecDriver(asset, self.loaded.profiles[asset], at.unit, ModbusLink(host, int(port), 2.0), 2.0, ratings(self.loaded.site.asset(asset)))


@asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[Isle]:
    (folder / "site.yaml").write_text(SITE, "utf-8")
    loaded = load_site(folder / "site.yaml")
    plant = StillPlant(loaded)
    servers = PlantServers(loaded, plant)
    try:
        await servers.start(Conditions({}, {}, {}))
        yield Isle(loaded, plant, servers)
    finally:
        await servers.stop()


def scanned(url: str, unit: int, read: Mapping[str, str], write: Mapping[str, float] | None = None) -> tuple[list[int], dict[str, Any]]:
    """Let pysunspec2 scan a unit; return its models and the computed values of the points asked for, as `model.point`."""
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    device = SunSpecModbusClientDeviceTCP(slave_id=unit, ipaddr=host, ipport=int(port), timeout=5)
    device.connect()
    try:
        device.scan()
        for name, value in (write or {}).items():
            model, point = name.split(".")
            found = getattr(device.models[int(model)][0], point)
            found.cvalue = value
            found.write()
        for model in device.models.values():
            model[0].read()
        values = {}
        for name in read:
            model, point = name.split(".")
            values[name] = getattr(device.models[int(model)][0], point).cvalue
        return [m.model_id for m in device.model_list], values
    finally:
        device.close()


SEEN: list[tuple[str, list[int], dict[str, Any]]] = [
    ("pv1", [1, 103, 123], {"1.SN": "pv1", "103.W": 450_000.0, "103.VAr": -31_200.0, "103.Hz": 50.02, "103.St": 5, "103.TmpCab": None, "123.WMaxLim_Ena": 0}),
    ("pv2", [1, 701, 704], {"701.W": 61_350.0, "701.InvSt": 3, "701.ConnSt": 1, "701.LLV": None, "704.WMaxLimPctEna": 0}),
    ("inv1", [1, 103, 122, 123, 124], {"103.W": -120_500.0, "122.StorConn": 5, "124.ChaState": 53.7, "124.WChaMax": 180_000.0, "124.InBatV": None}),
    ("inv2", [1, 701, 703, 704, 713, 802], {"701.W": 333_000.0, "802.SoC": 42.0, "802.SoH": 97.0, "713.WHAvail": 820_000.0, "713.WHRtg": 2_000_000.0}),
    ("m1", [1, 203], {"203.W": 450_000.0, "203.TotWhExp": 70_123_456, "203.TotWhImp": 12_000, "203.A": None}),
]


async def test_pysunspec2_finds_our_models_and_reads_what_the_plant_shows(tmp_path: Path) -> None:
    async with listening(tmp_path) as isle:
        for asset, models, expected in SEEN:
            at = isle.servers.addresses[asset]
            found, values = await asyncio.to_thread(scanned, at.url, at.unit, expected)
            assert found == models
            for name, value in expected.items():
                assert values[name] == (pytest.approx(value, rel=1e-3) if isinstance(value, float) else value), name


async def test_pysunspec2_commands_the_plant(tmp_path: Path) -> None:
    async with listening(tmp_path) as isle:
        pv, storage = isle.servers.addresses["pv2"], isle.servers.addresses["inv1"]
        writes = {"704.WMaxLimPct": 40.0, "704.WMaxLimPctEna": 1}
        await asyncio.to_thread(scanned, pv.url, pv.unit, {}, writes)
        assert isle.plant.commands[-1] == ("pv2", "limit_kw", pytest.approx(40.0))
        await asyncio.to_thread(scanned, storage.url, storage.unit, {}, {"124.OutWRte": -20.0, "124.InWRte": 20.0, "124.StorCtl_Mod": 3})
        assert isle.plant.commands[-1] == ("inv1", "power_kw", pytest.approx(-50.0))


async def test_every_point_of_every_profile_through_our_driver(tmp_path: Path) -> None:
    async with listening(tmp_path) as isle:
        for asset, points in POINTS.items():
            if asset == "dg1":
                continue
            driver = isle.driver(asset)
            found = {name: reading.value for name, reading in (await driver.read()).items()}
            await driver.close()
            assert set(found) == set(isle.loaded.profiles[asset].points)
            for name, value in points.items():
                if name != "state":
                    assert found[name] == (None if value is None else pytest.approx(value, rel=1e-3, abs=0.02)), f"{asset}.{name}"


COMMANDS = [
    ("pv1", "limit_kw", 450.0),
    ("pv2", "limit_kw", 33.0),
    ("inv1", "power_kw", -75.5),
    ("inv1", "power_kw", 200.0),
    ("inv1", "running", 0.0),
    ("inv2", "power_kw", -412.0),
    ("inv2", "running", 1.0),
]


async def test_every_command_of_every_profile_reaches_the_plant(tmp_path: Path) -> None:
    async with listening(tmp_path) as isle:
        commanded = {(asset, command) for asset, profile in isle.loaded.profiles.items() if profile.protocol == "sunspec" for command in profile.commands}
        assert {(asset, command) for asset, command, _ in COMMANDS} == commanded
        for asset, command, value in COMMANDS:
            driver = isle.driver(asset)
            result = await driver.write(command, value)
            await driver.close()
            assert result.ok and result.read_back == pytest.approx(value, rel=1e-3), result
            assert isle.plant.commands[-1] == (asset, command, pytest.approx(value, rel=1e-3))


async def test_a_setpoint_that_is_not_refreshed_ends_at_the_device(tmp_path: Path) -> None:
    """The profile says 60 s; a client that asks for one second sees it end after one."""
    async with listening(tmp_path) as isle:
        at = isle.servers.addresses["inv2"]
        await asyncio.to_thread(scanned, at.url, at.unit, {}, {"704.WSetMod": 0, "704.WSetPct": 20.0, "704.WSetRvrtTms": 1, "704.WSetEna": 1})
        assert isle.plant.commands[-1] == ("inv2", "power_kw", pytest.approx(100.0))
        async with asyncio.timeout(10):
            while isle.plant.commands[-1][2] != 0.0:  # noqa: ASYNC110 - what is waited for is a timer of the device
                await asyncio.sleep(0.05)
