"""One writer: two controllers on one simulated plant, over real Modbus; and what expires at a device is refreshed in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from api.assembly import open_drivers, open_fieldbus
from ems.clock import WallClock, real_s
from ems.config.load import LoadedSite, load_site
from ems.config.site import Site
from ems.controller import Controller
from ems.decision import Write
from ems.loop import Loop, Stores
from ems.memory import Memory
from ems.minutes import MinuteBook
from ems.plan_keeper import PlanKeeper
from ems.terms import Stage
from simulator.as_simulated import write_as_simulated
from simulator.plant import Conditions, Plant
from simulator.servers import PlantServers, run
from tests.ems.world import NoPlanner, World

GENSET = """\
profile: genset
kind: diesel
protocol: modbus
points:
  power_kw: {address: 0, type: float32, unit: kW}
  running: {address: 12, type: uint16, bit: 0}
  breaker_closed: {address: 12, type: uint16, bit: 2}
  remote: {address: 12, type: uint16, bit: 3}
commands: {running: {address: 40, type: uint16, on: 1, off: 0, read_back: 40}}
heartbeat: {address: 49, type: uint16, period_s: 0.2}
on_silence: {after_s: 30, does: hold}
"""
SUN = """\
profile: sun
kind: solar
protocol: sunspec
models: [1, 103, 123]
points: {power_kw: {point: 103.W}}
commands:
  limit_kw: {point: 123.WMaxLimPct, unit: pct, of: rated_kw, enable: 123.WMaxLim_Ena, revert_s: 123.WMaxLimPct_RvrtTms, min: 0}
on_silence: {after_s: 2, does: local_auto}
"""
SITE = """\
site: {id: two}
control: {cycle_s: 0.1, stage: control, start_timeout_s: 5}
assets:
  - {id: town, kind: load, peak_kw: 200, device: {profile: generic-load, url: "tcp://10.0.0.1:502", unit: 1}}
  - {id: pv1, kind: solar, rated_kw: 200, device: {profile: sun.yaml, url: "tcp://10.0.0.1:502", unit: 2}}
  - {id: dg1, kind: diesel, rated_kw: 300, device: {profile: genset.yaml, url: "tcp://10.0.0.1:502", unit: 3}}
"""


OUTSIDE = Conditions({"town": 150.0}, {"pv1": 100.0}, {})


class Switched(Plant):
    """The plant, with a switch at each device that a person can turn to local."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.in_local: set[str] = set()

    def observe(self, conditions: Conditions) -> dict[str, dict[str, float | None]]:
        return {a: {**points, "remote": float(a not in self.in_local)} for a, points in super().observe(conditions).items()}


@asynccontextmanager
async def plant(folder: Path) -> AsyncIterator[tuple[LoadedSite, Switched]]:
    """Serve the site; gives it with its real addresses, and the plant behind."""
    for name, text in (("site.yaml", SITE), ("genset.yaml", GENSET), ("sun.yaml", SUN)):
        (folder / name).write_text(text, "utf-8")
    loaded = load_site(folder / "site.yaml")
    behind, stop = Switched(loaded.site), asyncio.Event()
    servers = PlantServers(loaded, behind)
    await servers.start(OUTSIDE)
    living = asyncio.create_task(run(behind, WallClock(), lambda at, s: OUTSIDE, servers, stop, tick_s=0.05))
    write_as_simulated(loaded, folder / "as-simulated.yaml", servers.addresses)
    try:
        yield load_site(folder / "as-simulated.yaml"), behind
    finally:
        stop.set()
        await living
        await servers.stop()


class Gateway:
    """One EMS: the true loop on the true field bus, with stores in memory."""

    def __init__(self, loaded: LoadedSite, stage: Stage = Stage.CONTROL) -> None:
        self.world = World(loaded.site)
        self.world.log.now = WallClock().now  # an order of long ago would not be carried out
        self.fieldbus = open_fieldbus(loaded, open_drivers(loaded), 0.1)
        stores = Stores(self.world.history, self.world.ledger, self.world.log)
        keeper, controller = PlanKeeper(loaded.site, NoPlanner()), Controller(loaded.site, stage)
        self.loop = Loop(loaded.site, controller, self.fieldbus, keeper, MinuteBook(loaded.site), stores, WallClock(), Memory(), tell=self.world.beats.append)
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self.loop.run(self._stop))

    @property
    def state(self) -> dict[str, Any]:
        return self.world.beats[-1]["state"] if self.world.beats else {"stage": "none", "mode": "none", "withheld": 0}

    @property
    def alarms(self) -> set[tuple[str, str | None]]:
        return {(a["code"], a["asset"]) for a in self.world.beats[-1]["alarms"]} if self.world.beats else set()

    @property
    def controls(self) -> bool:
        return (self.state["stage"], self.state["mode"]) == ("control", "fallback")

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                assert not self._running.done(), self._running.exception()
                await asyncio.sleep(0.02)

    async def end(self) -> None:
        self._stop.set()
        await self._running
        await self.fieldbus.close()


async def test_the_second_of_two_controllers_writes_nothing(tmp_path: Path) -> None:
    async with plant(tmp_path) as (loaded, _):
        first = Gateway(loaded)
        await first.until(lambda: first.controls)
        second = Gateway(loaded)
        await second.until(lambda: ("second_controller", "dg1") in second.alarms)
        cycle = second.loop.completed
        await second.until(lambda: second.loop.completed > cycle + 20)
        assert second.state["stage"] == "advise"
        assert ("second_controller", "dg1") in second.alarms
        assert [asset for asset, _ in second.world.happened("second_controller")] == ["dg1"]  # told once
        assert first.controls  # the first never met the second, because that one never wrote
        assert first.alarms == {("no_plan", None)}

        await first.end()
        second.world.log.put("stage", stage="control")
        await second.until(lambda: second.controls)
        await second.until(lambda: ("second_controller", "dg1") not in second.alarms)  # an alarm stays a few seconds
        await second.end()


async def test_a_controller_that_comes_later_stops_ours(tmp_path: Path) -> None:
    async with plant(tmp_path) as (loaded, _):
        ours = Gateway(loaded)
        await ours.until(lambda: ours.controls)
        other = open_drivers(loaded)["dg1"]  # one that looks at nothing, and beats out of step: at no pace that could fall into ours
        count, pauses = 0, Random(1)
        async with asyncio.timeout(20):
            while ("second_controller", "dg1") not in ours.alarms:
                await other.connect()
                await other.beat(count)
                count += 1
                await asyncio.sleep(pauses.uniform(0.03, 0.13))
        assert ours.state["stage"] == "advise"
        await other.beat(1)
        cycle = ours.loop.completed
        await ours.until(lambda: ours.loop.completed > cycle + 10)
        assert await other.heartbeat() == 1.0  # ours has fallen silent
        await other.close()
        await ours.end()


async def test_who_only_watches_may_stand_beside_another(tmp_path: Path) -> None:
    async with plant(tmp_path) as (loaded, _):
        first = Gateway(loaded)
        await first.until(lambda: first.controls)
        shadow = Gateway(loaded, Stage.SHADOW)
        await shadow.until(lambda: shadow.loop.completed > 20)
        assert (shadow.state["stage"], shadow.state["mode"]) == ("shadow", "fallback")
        assert not any(code == "second_controller" for code, _ in shadow.alarms)
        await first.end()
        await shadow.end()


async def test_a_device_in_local_is_left_alone_on_the_wire(tmp_path: Path) -> None:
    async with plant(tmp_path) as (loaded, behind):
        ours, looking = Gateway(loaded), open_drivers(loaded)["dg1"]
        await ours.until(lambda: ours.controls)
        behind.in_local.add("dg1")
        await ours.until(lambda: ours.state["assets"]["dg1"]["control"] == "local")
        await looking.connect()
        beat, cycle = await looking.heartbeat(), ours.loop.completed
        await ours.until(lambda: ours.loop.completed > cycle + 20)
        assert await looking.heartbeat() == beat  # not even a heartbeat
        assert [s.write.command for s in await ours.fieldbus.write([Write("dg1", "running", 0.0)])] == []  # whoever decides otherwise is stopped here
        assert behind.observe(OUTSIDE)["dg1"]["running"] == 1.0
        await ours.until(lambda: ours.state["withheld"] == 1)
        behind.in_local.clear()
        await ours.until(lambda: ours.state["assets"]["dg1"]["control"] == "remote")
        seen: set[float | None] = set()
        async with asyncio.timeout(20):
            while len(seen) < 2:
                seen.add(await looking.heartbeat())
                await asyncio.sleep(0.03)
        assert ours.controls
        await looking.close()
        await ours.end()


async def test_a_limit_that_expires_is_refreshed_at_a_third_of_its_time(tmp_path: Path) -> None:
    """The device takes its limit back after two seconds; it stays in force for as long as we write, and no longer."""
    async with plant(tmp_path) as (loaded, behind):
        fieldbus = open_fieldbus(loaded, open_drivers(loaded), 0.2)
        await fieldbus.read()
        sent_s: list[float] = []
        begin_s = real_s()
        lost = 0
        while real_s() - begin_s < 5.0:
            sent = await fieldbus.write([Write("pv1", "limit_kw", 40.0)])
            assert all(s.result.ok for s in sent)
            sent_s += [real_s()] * len(sent)
            await asyncio.sleep(0.1)
            limit = behind.observe(OUTSIDE)["pv1"]["power_kw"]
            lost += real_s() - begin_s > 0.5 and (limit or 0.0) > 40.5
        assert lost == 0
        gaps = [b - a for a, b in zip(sent_s, sent_s[1:], strict=False)]
        assert len(gaps) >= 4
        assert min(gaps) > 0.6  # not each cycle
        async with asyncio.timeout(10):
            while (behind.observe(OUTSIDE)["pv1"]["power_kw"] or 0.0) < 42.0:  # noqa: ASYNC110 - the plant ramps up
                await asyncio.sleep(0.05)
        await fieldbus.close()


@pytest.mark.parametrize("asset", ["town", "pv1"])
async def test_a_device_without_a_heartbeat_has_nothing_to_watch(tmp_path: Path, asset: str) -> None:
    async with plant(tmp_path) as (loaded, _):
        driver = open_drivers(loaded)[asset]
        await driver.connect()
        await driver.read()
        assert await driver.heartbeat() is None
        await driver.close()


async def test_a_heartbeat_is_read_back_over_every_protocol(tmp_path: Path) -> None:
    """The inverter's is an OPC UA node, the battery's a SunSpec point, the genset's a register."""
    text = (
        "profile: bms\nkind: battery\nprotocol: sunspec\nmodels: [1, 802]\npoints: {soc: {point: 802.SoC}}\nheartbeat: {point: 802.CtrlHb}\n"
        "on_silence: {after_s: 30, does: hold}\n"
    )
    (tmp_path / "bms.yaml").write_text(text, "utf-8")
    (tmp_path / "site.yaml").write_text(
        "site: {id: beats}\nassets:\n  - {id: town, kind: load, peak_kw: 200}\n  - {id: dg1, kind: diesel, rated_kw: 300}\n"
        "  - {id: inv1, kind: inverter, rated_kw: 100}\n  - {id: bess1, kind: battery, behind: inv1, capacity_kwh: 200, charge_kw: 100, discharge_kw: 100, "
        'device: {profile: bms.yaml, url: "tcp://10.0.0.1:502", unit: 4}}\n',
        "utf-8",
    )
    loaded = load_site(tmp_path / "site.yaml")
    servers = PlantServers(loaded, Plant(loaded.site))
    try:
        await servers.start(Conditions({"town": 150.0}, {}, {}))
        write_as_simulated(loaded, tmp_path / "as-simulated.yaml", servers.addresses)
        drivers = open_drivers(load_site(tmp_path / "as-simulated.yaml"))
        faces = {face.asset: face for face in servers.faces}
        for asset in ("dg1", "inv1", "bess1"):
            await drivers[asset].connect()
            await drivers[asset].read()
            for count in (1, 2, 3):
                await drivers[asset].beat(count)
                assert await drivers[asset].heartbeat() == count % 2
            assert faces[asset].heard_s is not None
        for driver in drivers.values():
            await driver.close()
    finally:
        await servers.stop()
