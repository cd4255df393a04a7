"""The only place that names concrete classes: which driver for which protocol, which store, which planner."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from api.kernel_clock import TIME_ERROR, kernel_clock
from drivers.modbus import ModbusDriver, ModbusLink, line_s, link_to
from drivers.mqtt import MqttDriver, MqttLink
from drivers.opcua import OpcUaDriver, OpcUaLink
from drivers.store.file import WAL_LIMIT_BYTES
from drivers.store.history import History
from drivers.store.ledger import LedgerReader, LedgerStore
from drivers.store.requests import Door, RequestReader
from drivers.sunspec import SunSpecDriver
from ems.clock import ScaledClock, WallClock, epoch_s, real_s
from ems.config.endpoint import Endpoint, endpoint
from ems.config.load import LoadedSite
from ems.config.profile import UNITS, Command, Profile
from ems.config.site import AnyAsset, Device, Diesel, Feeder, Meter, Security
from ems.controller import Controller
from ems.errors import BadInput, StoreError
from ems.fieldbus import Fieldbus, Wire
from ems.loop import Loop, Stores, resumed
from ems.memory import Memory
from ems.minutes import MinuteBook, Totals
from ems.orders import answered
from ems.plan import Given
from ems.plan_keeper import PlanKeeper
from ems.ports import Clock, Driver
from ems.pushed import given_of, holds
from ems.record import ClockInfo
from ems.sequencer import START_GRACE, total_start_s
from ems.terms import Alarm, Stage
from ems.watch import PERIODS
from optimizer.worker import WorkerPlanner

LOG = logging.getLogger("control")
READ_SHARE = 0.6
"""Share of a cycle that it waits for readings: the rest is for the decision and the writes."""
FORECASTS = "forecasts.npz"
"""In the data folder: what the planner's forecasts have learned; written by the planner process alone."""
PLAN_PAUSE_S = 15.0
"""Between two plans at least this much real time passes, however fast the site's clock runs [s]."""


@dataclass(frozen=True, slots=True)
class Control:
    """The parts of the control process that someone has to run and to close."""

    loop: Loop
    fieldbus: Fieldbus
    keeper: PlanKeeper
    history: History
    ledger: LedgerStore
    door: Door

    def notices(self) -> list[Alarm]:
        """Return what the stores have to say: a damaged file that was put aside, a log that grows."""
        found = []
        for file, notice in ((self.history.file, self.history.notice), (self.ledger.file, self.ledger.notice)):
            name = file.path.stem
            if notice is not None:
                found.append(Alarm(f"{name}_renewed", "major", None, notice, f"{file.path.name} が破損したため退避し、新しいファイルを作りました"))
            if file.log_bytes() > 4 * WAL_LIMIT_BYTES:
                found.append(
                    Alarm(f"{name}_log", "warning", None, f"the log of {file.path.name} keeps growing: something holds it", f"{name} のログが増え続けています")
                )
        return found


def site_clock(speed: float, origin: float | None = None, start: str | None = None) -> Clock:
    """Return the site's clock: real time, or `speed` times as fast from a common origin.

    Parameters
    ----------
    origin : float | None
        Real seconds since 1970 at which the site's clock showed `start`; now where not given.
    start : str | None
        Time of the site's clock at the origin, ISO 8601; the present where not given.
    """
    if speed == 1.0 and start is None:
        return WallClock()
    begin = WallClock().now() if start is None else datetime.fromisoformat(start).astimezone(UTC)
    return ScaledClock(begin, epoch_s() if origin is None else origin, speed)


def control_parts(
    loaded: LoadedSite,
    data: Path,
    clock: Clock,
    stage: Stage,
    cycle: int,
    tell: Callable[[dict[str, Any]], object],
    outside: Callable[[], Sequence[Alarm]],
) -> Control:
    """Return the control of a site, ready to run: it goes on where the last process stopped.

    Parameters
    ----------
    cycle : int
        A cycle number that has been used already; the stores may know a higher one.
    outside : Callable[[], Sequence[Alarm]]
        Alarms that the supervisor raises.
    """
    site = loaded.site
    history, ledger = History(data / "history.db"), LedgerStore(data / "ledger.db")
    door = Door(data / "site.db")
    memory, saved_cycle = _memory(ledger)
    cycle_s = site.control.cycle_s
    drivers = open_drivers(loaded)
    fieldbus = open_fieldbus(loaded, drivers, READ_SHARE * cycle_s, clock.speed)
    links = {str(d.link): d.link for d in drivers.values() if isinstance(d, ModbusDriver)}
    keeper = PlanKeeper(site, WorkerPlanner(site, site.planner.forecast, site.planner.deadline_s, kept=data / FORECASTS), PLAN_PAUSE_S * clock.speed)
    if (given := pushed(data, clock.now())) is not None:
        keeper.give(given)
    loop = Loop(
        site=site,
        controller=Controller(site, stage),
        fieldbus=fieldbus,
        keeper=keeper,
        book=MinuteBook(site, Totals.of(ledger.newest()), 5.0 * cycle_s * clock.speed, counter_ends(loaded)),
        stores=Stores(history, ledger, door),
        clock=clock,
        # Without a saved memory nothing is known of what became of orders: the log is worked in once more.
        memory=resumed(memory, clock.now_s(), _answered(history, RequestReader(data / "site.db"), memory.taken_seq) if saved_cycle else 0),
        cycle=max(cycle, saved_cycle, history.last_cycle()),
        tell=lambda beat: tell({**beat, "links": {line: link.counts.document() for line, link in links.items()}}),
        outside=lambda: (*outside(), *control.notices()),
        clock_info=lambda: clock_info(clock.speed),
    )
    control = Control(loop, fieldbus, keeper, history, ledger, door)
    return control


def clock_info(speed: float) -> ClockInfo:
    """Return how far the site's clock can be trusted: as the kernel says; of a scaled clock nothing can be said, and nobody tells the offset."""
    state = kernel_clock() if speed == 1.0 else None
    return ClockInfo(None if state is None else state != TIME_ERROR, None)


def _memory(ledger: LedgerStore) -> tuple[Memory, int]:
    """Return the saved memory and cycle; without one the log of orders is worked in once more, late commands as expired."""
    try:
        return ledger.load_memory() or (Memory(), 0)
    except StoreError as fault:
        LOG.warning("%s", fault)
        return Memory(), 0


def _answered(history: History, requests: RequestReader, taken_seq: int) -> int:
    """Return the newest order that the process before has met; what it did not take it has refused."""
    try:
        return answered(requests.after(taken_seq), history.last_at())
    except StoreError as fault:
        LOG.warning("%s", fault)
        return 0


def pushed(data: Path, now: datetime) -> Given | None:
    """Return the forecast that was pushed in last and not refused, if its values are still fresh or its warning still holds."""
    try:
        for request in RequestReader(data / "site.db").newest(5, "forecast"):
            said = LedgerReader(data / "ledger.db").outcome(request.seq)
            given = given_of(request)
            if said is not None and said["status"] == "done":
                return given if holds(given, now) else None  # it had taken the place of those before it
    except StoreError as fault:
        LOG.warning("%s", fault)
    return None


def open_fieldbus(loaded: LoadedSite, drivers: Mapping[str, Driver], wait_s: float, speed: float = 1.0) -> Fieldbus:
    """Return the field bus of a site: every asset and feeder that has a device; nothing is connected yet."""
    profiles, site = loaded.profiles, loaded.site
    return Fieldbus(
        {a: Wire(d, takes(profiles[a]), watch_s(profiles[a], real_s()), once(profiles[a], site.asset(a), speed)) for a, d in drivers.items()}, wait_s
    )


def watch_s(profile: Profile, started_s: float) -> float | None:
    """Return how long a heartbeat is watched before the first write [s]: three periods, and up to three more.

    How many more follows from when this process began, so that of two gateways that get their power back at one
    time, one begins to beat while the other is still watching.
    """
    if profile.heartbeat is None:
        return None
    return (PERIODS + int(started_s * 1e6) % (PERIODS + 1)) * profile.heartbeat.period_s


def once(profile: Profile, asset: AnyAsset | Feeder, speed: float = 1.0) -> dict[str, float]:
    """Return the commands that act each time they are sent, with the real time each is given to show its effect: at least a diesel's start [s]."""
    start_s = START_GRACE * total_start_s(asset) / speed if isinstance(asset, Diesel) else 0.0
    return {
        name: max(command.pulse_s + command.settle_s, start_s if name == "running" else 0.0)
        for name, command in profile.commands.items()
        if not command.idempotent
    }


def counter_ends(loaded: LoadedSite) -> dict[str, float]:
    """Return where each counter wraps [house unit]: as its profile says, else at the end of an unsigned type; a meter has its `register_max`."""
    found = {}
    for asset, profile in loaded.profiles.items():
        for name, point in profile.points.items():
            unit = UNITS[point.unit][1] if point.unit is not None else 1.0
            if point.wraps_at is not None:
                found[f"{asset}.{name}"] = point.wraps_at
            elif point.counter and point.type.startswith("uint") and point.scale_point is None and not isinstance(loaded.site.asset(asset), Meter):
                found[f"{asset}.{name}"] = 2.0 ** (16 * point.words) * abs(point.scale) * unit
    return found


def takes(profile: Profile) -> dict[str, float | None]:
    """Return the commands of a profile with the time after which each is written again [s].

    What expires at the device (by itself, or because nothing else tells it that we are there) is
    refreshed at a third of its time.
    """
    silence_s = None if profile.on_silence is None or profile.on_silence.after_s < 1.0 else profile.on_silence.after_s

    def again_s(command: Command) -> float | None:
        expires = command.revert_s is not None or profile.heartbeat is None
        return min((s for s in (command.refresh_s, silence_s / 3.0 if expires and silence_s is not None else None) if s is not None), default=None)

    return {name: again_s(command) for name, command in profile.commands.items()}


def open_drivers(loaded: LoadedSite) -> dict[str, Driver]:
    """Return a driver for every asset and feeder with a device; units of one Modbus url share its connection."""
    equipment = {a.id: a for a in (*loaded.site.assets, *loaded.site.of(Feeder)) if a.device is not None}
    timeouts: dict[Endpoint, float] = {}
    for asset in equipment.values():
        device = _device(asset)
        line = endpoint(device.url)
        timeouts[line] = max(device.timeout_s, timeouts.get(line, 0.0))
    links: dict[Endpoint, ModbusLink] = {}
    servers = Servers(loaded.site.control.cycle_s)
    return {asset_id: _driver(asset, loaded.profiles[asset_id], links, timeouts, servers) for asset_id, asset in equipment.items()}


class Servers:
    """The OPC UA servers and MQTT brokers of a site: devices with the same url and security share a session."""

    def __init__(self, cycle_s: float) -> None:
        self._cycle_s = cycle_s
        self._opcua: dict[tuple[str, Security | None], OpcUaLink] = {}
        self._mqtt: dict[tuple[str, Security | None], MqttLink] = {}

    def opcua(self, device: Device) -> OpcUaLink:
        """Return the session of an OPC UA device; its server is to tell once a cycle what has changed."""
        key = (device.url, device.security)
        if key not in self._opcua:
            self._opcua[key] = OpcUaLink(device, self._cycle_s)
        return self._opcua[key]

    def mqtt(self, device: Device) -> MqttLink:
        """Return the connection of an MQTT device."""
        key = (device.url, device.security)
        if key not in self._mqtt:
            self._mqtt[key] = MqttLink(device)
        return self._mqtt[key]


def _driver(asset: AnyAsset | Feeder, profile: Profile, links: dict[Endpoint, ModbusLink], timeouts: dict[Endpoint, float], servers: Servers) -> Driver:
    device, of = _device(asset), ratings(asset)
    if profile.protocol == "opcua":
        return OpcUaDriver(asset.id, profile, device, device.timeout_s, of, servers.opcua(device))
    if profile.protocol == "mqtt":
        return MqttDriver(asset.id, profile, servers.mqtt(device), device.timeout_s, of)
    line = endpoint(device.url)
    if line not in links:
        links[line] = link_to(line, timeouts[line])
    if profile.protocol == "modbus" and (least_s := line_s(profile, line)) >= device.timeout_s:
        text = f"timeout_s {device.timeout_s:g} is shorter than the {least_s:.2f} s that its registers take at {line.baud} baud"
        raise BadInput(text, asset.id, f"timeout_s: {2 * least_s:.1f}, or fewer points")
    kind = SunSpecDriver if profile.protocol == "sunspec" else ModbusDriver
    return kind(asset.id, profile, device.unit, links[line], device.timeout_s, of)


def _device(asset: AnyAsset | Feeder) -> Device:
    if asset.device is None:
        raise BadInput(f"{asset.id} has no device", asset.id, "a device")
    return asset.device


def ratings(asset: AnyAsset | Feeder) -> dict[str, float]:
    """Return an asset's own numbers, which percentages in a profile refer to."""
    return {name: float(value) for name, value in asset.model_dump().items() if isinstance(value, int | float) and not isinstance(value, bool)}
