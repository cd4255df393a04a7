"""All devices of a site at once: read within a deadline, write what changed, beat.

One fault stays with one device: each has its own deadline, is asked less often while it fails, and
keeps its last values with their growing age, so that staleness is found by age and by nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ems.clock import real_s
from ems.decision import Write
from ems.errors import BadInput, Failed
from ems.model import NOTHING, Reading
from ems.ports import Driver, WriteResult

BACKOFF_S = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)
"""How long a device that failed once, twice, ... is left alone [s, real]."""
DEADBAND_KW = 0.1
"""A setpoint that moves less than this is not written again [kW]."""
REFRESH_S = 60.0
"""A setpoint is written again after this time [s, real] where its profile does not say how often."""
GRACE_S = 0.1
"""A cycle waits no longer than this for a device that failed last time [s, real]: what it says counts in the next one."""
UNKNOWN = Reading(None)
SETPOINTS = ("power_kw", "limit_kw")
"""Commands that are levels: written on change and refreshed. All others are orders: written once, each time."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One device on the field bus.

    Attributes
    ----------
    driver : Driver
    takes : Mapping[str, float | None]
        Commands of its profile, with the time after which each is to be refreshed [s, real].
    once : Mapping[str, float]
        Of these the ones that act each time they are sent, as a pulse does, and how long one is given to show its effect [s, real].
    """

    driver: Driver
    takes: Mapping[str, float | None] = field(default_factory=lambda: NOTHING)
    once: Mapping[str, float] = field(default_factory=lambda: NOTHING)


@dataclass(slots=True)
class _Line:
    """What is known of one device between cycles."""

    wire: Wire
    readings: Mapping[str, Reading] = field(default_factory=lambda: NOTHING)
    read_at_s: float = 0.0
    failures: int = 0
    quiet_until_s: float = 0.0
    reading: asyncio.Task[tuple[Mapping[str, Reading], float]] | None = None
    sent: dict[str, tuple[float, float]] = field(default_factory=dict)
    pressed: dict[str, tuple[float, float]] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """One write and what came of it."""

    write: Write
    result: WriteResult


class Fieldbus:
    """The field bus of one site.

    Parameters
    ----------
    wires : Mapping[str, Wire]
        By asset or feeder id.
    wait_s : float
        How long a cycle waits for readings [s, real]; what is later comes into the next cycle.
    """

    def __init__(self, wires: Mapping[str, Wire], wait_s: float) -> None:
        self._lines = {asset: _Line(wire) for asset, wire in wires.items()}
        self._wait_s = wait_s

    async def read(self) -> dict[str, dict[str, Reading]]:
        """Return the newest readings of every device, each with its age."""
        now = real_s()
        for line in self._lines.values():
            if line.reading is None and now >= line.quiet_until_s:
                line.reading = asyncio.create_task(self._read_one(line.wire.driver))
        tasks = [line.reading for line in self._lines.values() if line.reading is not None]
        sound = [line.reading for line in self._lines.values() if line.reading is not None and not line.failures]
        grace_s = min(GRACE_S, self._wait_s)
        if tasks:
            await asyncio.wait(tasks, timeout=self._wait_s if len(sound) == len(tasks) else grace_s)
        if sound and len(sound) < len(tasks) and not all(task.done() for task in sound):
            await asyncio.wait(sound, timeout=self._wait_s - grace_s)
        for line in self._lines.values():
            self._harvest(line)
        now = real_s()
        return {asset: self._aged(line, now) for asset, line in self._lines.items()}

    async def _read_one(self, driver: Driver) -> tuple[Mapping[str, Reading], float]:
        """Return the readings and when they were complete [s, real]: the cycle may look at them later."""
        await driver.connect()
        readings = await driver.read()
        return readings, real_s()

    def _harvest(self, line: _Line) -> None:
        """Take what a finished read brought; a failed one lengthens the pause before the next."""
        task = line.reading
        if task is None or not task.done():
            return
        line.reading = None
        fault = task.exception()
        now = real_s()
        if fault is None:
            line.readings, line.read_at_s = task.result()
            line.failures, line.fault = 0, ""
            self._decide(line)
            return
        if not isinstance(fault, Failed):
            raise fault
        line.fault = str(fault)
        line.failures += 1
        line.quiet_until_s = now + BACKOFF_S[min(line.failures, len(BACKOFF_S)) - 1]
        # A device that was away may have forgotten what it was told: everything is written anew.
        line.sent.clear()

    def _decide(self, line: _Line) -> None:
        """Forget the pulses that a reading asked for since shows to have acted, or not to have in the time they were given."""
        for command, (value, at_s) in list(line.pressed.items()):
            shown = line.readings.get(command, UNKNOWN)
            passed_s = line.read_at_s - shown.age_s - at_s
            if (passed_s >= 0.0 and shown.value == value) or passed_s >= line.wire.once[command]:
                del line.pressed[command]

    def _aged(self, line: _Line, now: float) -> dict[str, Reading]:
        since = now - line.read_at_s
        return {point: Reading(reading.value, reading.quality, reading.age_s + since) for point, reading in line.readings.items()}

    def faults(self) -> dict[str, str]:
        """Return why each device that failed last failed."""
        return {asset: line.fault for asset, line in self._lines.items() if line.fault}

    async def write(self, writes: Sequence[Write]) -> list[Sent]:
        """Write what changed or is due, devices side by side, each device's writes in their order."""
        by_asset: dict[str, list[Write]] = {}
        for write in writes:
            line = self._lines.get(write.asset)
            if line is not None and write.command in line.wire.takes and self._due(line, write):
                by_asset.setdefault(write.asset, []).append(write)
        batches = await asyncio.gather(*(self._write_all(self._lines[asset], batch) for asset, batch in by_asset.items()))
        return [sent for batch in batches for sent in batch]

    def _due(self, line: _Line, write: Write) -> bool:
        """Whether to write: a level that changed or is to be refreshed, an order each time; a pulse not again before reading has decided."""
        pressed = line.pressed.get(write.command)
        if pressed is not None and pressed[0] == write.value:
            return False
        if write.command not in SETPOINTS or write.command not in line.sent:
            return True
        value, at = line.sent[write.command]
        refresh = line.wire.takes[write.command] or REFRESH_S
        return abs(value - write.value) > DEADBAND_KW or real_s() - at >= refresh

    async def _write_all(self, line: _Line, writes: Sequence[Write]) -> list[Sent]:
        sent = []
        for write in writes:
            if write.command in line.wire.once:
                line.pressed[write.command] = (write.value, real_s())  # before it is sent: an answer may be lost, the pulse not
            try:
                result = await line.wire.driver.write(write.command, write.value)
            except (Failed, BadInput) as fault:
                result = WriteResult(ok=False, cause=str(fault))
            if result.ok:
                line.sent[write.command] = (write.value, real_s())
            else:
                line.sent.pop(write.command, None)
            sent.append(Sent(write, result))
        return sent

    async def beat(self, count: int) -> None:
        """Send every device the heartbeat of a completed cycle; a device that fails is found by its readings."""
        beating = [line.wire.driver for line in self._lines.values() if not line.failures]
        results = await asyncio.gather(*(driver.beat(count) for driver in beating), return_exceptions=True)
        for fault in results:
            if isinstance(fault, BaseException) and not isinstance(fault, Failed):
                raise fault

    async def close(self) -> None:
        """End what is under way and close every link."""
        tasks = [line.reading for line in self._lines.values() if line.reading is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(line.wire.driver.close() for line in self._lines.values()), return_exceptions=True)
