"""The plant on the wire: every asset and feeder as a real Modbus, SunSpec or OPC UA device, through the profiles that the drivers read with.

One Modbus server for each distinct `url` of the site, units kept; one OPC UA server likewise. What has no
`device` gets the built-in profile of its kind, on servers of its own. What a client writes reaches the plant at
once; what the plant shows is written after each step.

When the EMS falls silent a device does what its profile says: it listens from the first change of its heartbeat
(without one, from the first write) and after `after_s` real seconds holds (`hold`; `local_auto`, whose governing is
in the plant anyway), starts (`start`), stops (`trip`), or takes the preset value (`preset`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from asyncua.server.server import Server as OpcUaServer
from pymodbus.server import ModbusTcpServer

from ems.clock import real_s
from ems.config.load import LoadedSite, shipped_profile
from ems.config.profile import OnSilence, Profile
from ems.config.site import AnyAsset, Device, Feeder, Load
from ems.errors import BadInput, Failed
from ems.model import NOTHING
from ems.ports import Clock
from simulator import opcua_face, registers
from simulator.dump import Dump
from simulator.dump_face import ModbusDumpFace, OpcUaDumpFace
from simulator.faces import Face, ModbusFace
from simulator.opcua_face import OpcUaFace
from simulator.plant import Conditions, Flows
from simulator.sunspec_face import SunSpecFace

log = logging.getLogger(__name__)

UNITS_PER_SERVER = 247
GENERIC = "generic"
"""Stands for the url of all that has no device."""

ALWAYS = {"remote": 1.0, "ready": 1.0, "estop": 0.0, "fault": 0.0, "reactive_kvar": 0.0, "ufls_tripped": 0.0, "breaker_closed": 1.0, "contactor_closed": 1.0}
"""What a healthy device shows where the plant does not model it."""

FIRST_KWH = 1.0
"""Energy registers do not begin at 0, which SunSpec reads as "not accumulated" [kWh]."""

MAX_STEP_S = 3600.0


class PlantLike(Protocol):
    """What stands behind the devices: `simulator.plant.Plant`, or another level with the same calls."""

    def command(self, asset: str, command: str, value: float) -> None:
        """Take a command as the device would."""

    def observe(self, conditions: Conditions) -> dict[str, dict[str, float | None]]:
        """Return every point of every asset and feeder."""

    def step(self, dt_s: float, conditions: Conditions) -> Flows:
        """Let time pass [s]."""


UnitFace = ModbusFace | SunSpecFace | ModbusDumpFace


class PlantServers:
    """All devices of a site, listening.

    Parameters
    ----------
    loaded : LoadedSite
    plant : PlantLike
    host : str
    port : int
        Of the first Modbus server; 0 and all others: free ones.
    dumps : Mapping[str, Dump]
        Assets that are served as they were recorded (`simulator/dump.py`), whatever the plant does.
    """

    def __init__(self, loaded: LoadedSite, plant: PlantLike, host: str = "127.0.0.1", port: int = 0, dumps: Mapping[str, Dump] = NOTHING) -> None:
        self.plant, self.host, self.port = plant, host, port
        self.site, self.dumps = loaded.site, dumps
        self.faces: list[Face] = []
        self.addresses: dict[str, Device] = {}
        self._units: dict[str, dict[int, list[UnitFace]]] = {}
        self._nodes: dict[str, list[OpcUaFace | OpcUaDumpFace]] = {}
        self._modbus: list[ModbusTcpServer] = []
        self._opcua: list[OpcUaServer] = []
        self._silent: set[str] = set()
        self._energy_kwh = {a: FIRST_KWH for a, p in loaded.profiles.items() if "energy_export_kwh" in p.points}
        for asset_id, profile in loaded.profiles.items():
            self._add(self.site.asset(asset_id), profile)

    def _add(self, asset: AnyAsset | Feeder, profile: Profile) -> None:
        """Give an asset its face and its place on a server."""
        taken, of = partial(self._take, asset), ratings(asset)
        device = asset.device
        if profile.protocol == "mqtt":  # there is no broker here: such a meter is shown as the built-in device of its kind
            device, profile = None, shipped_profile(f"generic-{asset.kind}").for_asset(asset.id)
        url = device.url if device is not None else GENERIC
        if profile.protocol == "opcua":
            dump = self.dumps.get(asset.id)
            node_face = OpcUaFace(asset.id, profile, of, taken) if dump is None else OpcUaDumpFace(asset.id, profile, dump, f"dump of {asset.id}")
            self._nodes.setdefault(url, []).append(node_face)
            self.faces.append(node_face)
        elif profile.protocol in ("modbus", "sunspec"):
            if device is None:
                url = f"{GENERIC} {sum(len(u) for k, u in self._units.items() if k.startswith(GENERIC)) // UNITS_PER_SERVER}"
            units = self._units.setdefault(url, {})
            here = units.setdefault(device.unit if device is not None else len(units) + 1, [])
            here.append(self._unit_face(asset, profile, here[-1] if here else None))  # a battery may be in the map of its inverter
            self.faces.append(here[-1])
        else:
            raise Failed(f"{profile.protocol} devices are not simulated", asset.id, "modbus, sunspec or opcua")

    def _unit_face(self, asset: AnyAsset | Feeder, profile: Profile, before: UnitFace | None) -> UnitFace:
        """Return the face of an asset in a Modbus unit, in which another asset may be already."""
        dump = self.dumps.get(asset.id)
        if dump is not None and before is not None and not isinstance(before, ModbusDumpFace):
            raise BadInput(f"{before.asset} is in the same unit and not from a dump", f"--dump {asset.id}", f"--dump for {before.asset} as well")
        if isinstance(before, ModbusDumpFace):
            return ModbusDumpFace(asset.id, profile, dump or self.dumps[before.asset], before)
        if dump is not None:
            return ModbusDumpFace(asset.id, profile, dump)
        taken, of = partial(self._take, asset), ratings(asset)
        if profile.protocol == "sunspec":
            if isinstance(before, ModbusFace):
                raise BadInput(f"{asset.id} has a SunSpec map in the unit of {before.asset}", asset.id, f"{asset.id} before {before.asset} in the site file")
            return SunSpecFace(asset.id, profile, of, taken, before if isinstance(before, SunSpecFace) else None)
        return ModbusFace(asset.id, profile, of, taken, before.unit if before is not None else None)

    def _take(self, asset: AnyAsset | Feeder, command: str, value: float) -> None:
        log.debug("%s: %s = %g", asset.id, command, value)
        for taker in asset.feeders if isinstance(asset, Load) else (asset,):
            self.plant.command(taker.id, command, value)

    async def start(self, conditions: Conditions) -> None:
        """Show the plant as it is, then listen; `addresses` has then the real address of each asset and feeder."""
        points = self._whole(self.plant.observe(conditions))
        port = self.port
        for units in self._units.values():
            for face in (face for faces in units.values() for face in faces):
                await face.begin(points[face.asset])
            server, at = await registers.serve({n: faces[-1].unit for n, faces in units.items()}, self.host, port)
            self._modbus.append(server)
            port = 0
            for n, face in ((n, face) for n, faces in units.items() for face in faces):
                self.addresses[face.asset] = Device(profile=face.profile.profile, url=f"tcp://{self._reached}:{at}", unit=n)
        for nodes in self._nodes.values():
            node_server, at = await opcua_face.serve(nodes, self.host)
            self._opcua.append(node_server)
            for node_face in nodes:
                await node_face.begin(points[node_face.asset])
                self.addresses[node_face.asset] = Device(profile=node_face.profile.profile, url=f"opc.tcp://{self._reached}:{at}")

    @property
    def _reached(self) -> str:
        return "127.0.0.1" if self.host == "0.0.0.0" else self.host

    async def publish(self, conditions: Conditions) -> None:
        """Show the plant as it is now."""
        points = self._whole(self.plant.observe(conditions))
        for face in self.faces:
            await face.publish(points[face.asset])

    def _whole(self, shown: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
        """Add what devices show and the plant does not model, so that no device looks broken."""
        busbar = {name: max((p.get(name) or 0.0 for p in shown.values()), default=0.0) for name in ("frequency_hz", "voltage_v")}
        whole = {a: {**ALWAYS, **busbar, "energy_export_kwh": self._energy_kwh.get(a), **points} for a, points in shown.items()}
        for load in self.site.of(Load):  # its main breaker is the sum of its feeders'
            whole[load.id]["breaker_closed"] = float(any(whole[f.id]["breaker_closed"] for f in load.feeders))
        return whole

    def count(self, flows: Flows, dt_s: float) -> None:
        """Advance the energy registers of devices that the plant keeps none for [s]."""
        for asset in self._energy_kwh:
            self._energy_kwh[asset] += max(0.0, flows.power_kw.get(asset, 0.0)) * dt_s / 3600.0

    def watch(self, now_s: float) -> None:
        """Let each device that has not heard the EMS for too long do what its profile says; `now_s` is real time [s]."""
        for face in self.faces:
            rule = face.profile.on_silence
            if rule is None or face.heard_s is None:
                continue
            if now_s - face.heard_s <= rule.after_s:
                self._silent.discard(face.asset)
            elif face.asset not in self._silent:
                self._silent.add(face.asset)
                log.warning("%s has not heard the EMS for %g s: %s", face.asset, rule.after_s, rule.does)
                for command, value in on_silence(rule, face.profile):
                    self._take(self.site.asset(face.asset), command, value)

    async def stop(self) -> None:
        """Close every server."""
        await asyncio.gather(*(s.shutdown() for s in self._modbus), *(s.stop() for s in self._opcua))
        self._modbus, self._opcua = [], []


def on_silence(rule: OnSilence, profile: Profile) -> list[tuple[str, float]]:
    """Return the commands that a device gives itself: names of its profile, values in house units."""
    if rule.does == "start" and "running" in profile.commands:
        return [("running", 1.0)]
    if rule.does == "trip":
        return [(name, 0.0) for name in profile.commands if name in ("running", "limit_kw")][:1]
    if rule.does == "preset" and rule.value is not None:
        return [(name, rule.value) for name in profile.commands if name in ("limit_kw", "power_kw")]
    return []


def ratings(asset: AnyAsset | Feeder) -> dict[str, float]:
    """Return the asset's own numbers, which percentages in a profile refer to."""
    return {name: float(value) for name, value in asset.model_dump().items() if isinstance(value, int | float) and not isinstance(value, bool)}


async def run(
    plant: PlantLike, clock: Clock, conditions_at: Callable[[datetime, float], Conditions], servers: PlantServers, stop: asyncio.Event, tick_s: float = 0.2
) -> None:
    """Let the plant live on the site's clock until `stop` is set.

    Parameters
    ----------
    conditions_at : Callable[[datetime, float], Conditions]
        The outside world over an interval: its start [UTC] and length [s].
    tick_s : float
        Real seconds between two steps [s].
    """
    last_s = clock.now_s()
    while not await _within(tick_s, stop.wait()):
        now_s = clock.now_s()
        dt_s, last_s = min(now_s - last_s, MAX_STEP_S), now_s
        if dt_s <= 0:
            continue
        conditions = conditions_at(clock.now() - timedelta(seconds=dt_s), dt_s)
        servers.watch(real_s())
        servers.count(plant.step(dt_s, conditions), dt_s)
        await servers.publish(conditions)


async def _within(seconds: float, done: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await done
    except TimeoutError:
        return False
    return True
