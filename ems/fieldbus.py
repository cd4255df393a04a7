"""All devices of a site at once: read within a deadline, write what changed, beat.

Nothing is written to a device before its heartbeat has been watched (`ems/watch.py`), nothing at all while another
controller is met on any of them, and nothing, not even a heartbeat, to a device that is switched to local.

One fault stays with one device: each has its own deadline, is asked less often while it fails, and
keeps its last values with their growing age, so that staleness is found by age and by nothing else.

No cycle waits for a device longer than its shares for readings, writes and heartbeats. What is late goes on as
that device's own task, and its outcome counts in the cycle in which it is known: until then nothing is taken for
written. What has to wait for it on the same device goes out in its order, with the newest value, or is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ems.clock import real_s
from ems.decision import Write
from ems.errors import BadAnswer, BadInput, Failed
from ems.model import NOTHING, Reading
from ems.ports import Driver, WriteResult
from ems.watch import LOOK_EVERY, BeatWatch

BACKOFF_S = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)
"""How long a device that failed once, twice, ... is left alone [s, real]."""
DEADBAND_KW = 0.1
"""A setpoint that moves less than this is not written again [kW]."""
REFRESH_S = 60.0
"""A setpoint is written again after this time [s, real] where its profile does not say how often."""
GRACE_S = 0.1
"""A cycle waits no longer than this for a device that failed last time [s, real]: what it says counts in the next one."""
WRITE_SHARE = 1 / 3
"""A cycle waits so long for its writes, as a share of the time that it has for readings."""
BEAT_SHARE = 1 / 6
"""The same for its heartbeats."""
WAITING_S = 3.0
"""A write that could not begin for so long, because one before it is not answered, is given up [s, real]: what it was for has changed."""
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
    watch_s : float | None
        How long its heartbeat must stand still before our first write [s, real]; None where it has none.
    once : Mapping[str, float]
        Of these the ones that act each time they are sent, as a pulse does, and how long one is given to show its effect [s, real].
    """

    driver: Driver
    takes: Mapping[str, float | None] = field(default_factory=lambda: NOTHING)
    watch_s: float | None = None
    once: Mapping[str, float] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Sent:
    """One write and what came of it."""

    write: Write
    result: WriteResult


@dataclass(frozen=True, slots=True)
class _Due:
    """A write that waits for its device, and when it was last wanted [s, real]."""

    write: Write
    wanted_s: float


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
    watch: BeatWatch | None = None
    reads: int = 0
    beats: int = 0
    waiting: dict[str, _Due] = field(default_factory=dict)
    on_wire: Write | None = None
    writing: asyncio.Task[None] | None = None
    done: list[Sent] = field(default_factory=list)
    beating: asyncio.Task[None] | None = None
    beat_sent: int | None = None

    @property
    def local(self) -> bool:
        """Whether its switch stands on local, by its last reading."""
        remote = self.readings.get("remote")
        return remote is not None and remote.value is not None and remote.value < 0.5

    @property
    def free(self) -> bool:
        """Whether its heartbeat lets us write."""
        return self.watch is None or self.watch.free

    @property
    def known(self) -> bool:
        """Whether its heartbeat has told what it had to tell."""
        return self.watch is None or self.watch.free or bool(self.watch.rival)


class Fieldbus:
    """The field bus of one site.

    Parameters
    ----------
    wires : Mapping[str, Wire]
        By asset or feeder id.
    wait_s : float
        How long a cycle waits for readings [s, real]; what is later comes into the next cycle. Writes and heartbeats have their share of it.
    """

    def __init__(self, wires: Mapping[str, Wire], wait_s: float) -> None:
        self._lines = {asset: _Line(wire, watch=None if wire.watch_s is None else BeatWatch(wire.watch_s)) for asset, wire in wires.items()}
        self._wait_s = wait_s
        self._suspects: dict[str, str] = {}
        self.withheld = 0

    async def read(self) -> dict[str, dict[str, Reading]]:
        """Return the newest readings of every device, each with its age."""
        now = real_s()
        for line in self._lines.values():
            if line.reading is None and now >= line.quiet_until_s:
                line.reading = asyncio.create_task(self._read_one(line))
        tasks = [line.reading for line in self._lines.values() if line.reading is not None]
        sound = [line.reading for line in self._lines.values() if line.reading is not None and not line.failures]
        grace_s = min(GRACE_S, self._wait_s)
        if tasks:
            await asyncio.wait(tasks, timeout=self._wait_s if len(sound) == len(tasks) else grace_s)
        if sound and len(sound) < len(tasks) and not all(task.done() for task in sound):
            await asyncio.wait(sound, timeout=self._wait_s - grace_s)
        for line in self._lines.values():
            self._harvest(line)
        if self._suspects and self.watched:
            self._suspects = {}
        now = real_s()
        return {asset: self._aged(line, now) for asset, line in self._lines.items()}

    async def _read_one(self, line: _Line) -> tuple[Mapping[str, Reading], float]:
        """Return the readings and when they were complete [s, real]: the cycle may look at them later."""
        await line.wire.driver.connect()
        readings = await line.wire.driver.read()
        complete_s = real_s()
        line.reads += 1
        watch, beats = line.watch, line.beats
        if watch is not None and (not watch.begun or line.reads % LOOK_EVERY == 0):
            try:
                value = await line.wire.driver.heartbeat()
            except BadAnswer:  # what was read stays read: a heartbeat that is not there costs the watch, not the device
                value = None
            if line.watch is watch and line.beats == beats and beats % 2 == 0:  # no beat of ours was under way meanwhile
                line.watch = watch.seen(value, real_s())
        return readings, complete_s

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
        line.watch = None if line.watch is None else line.watch.lost()

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

    def rivals(self) -> dict[str, str]:
        """Return the devices on which another controller was met, and how; after `watch_anew` until it is seen to be gone."""
        return self._suspects | {asset: line.watch.rival for asset, line in self._lines.items() if line.watch is not None and line.watch.rival}

    @property
    def watched(self) -> bool:
        """Whether every device that answers has been watched long enough: control begins with that."""
        return all(line.known for line in self._lines.values() if line.readings and not line.failures)

    def unwatched(self) -> frozenset[str]:
        """Return the devices whose heartbeat is still to be watched: a late one is left alone, the others are controlled."""
        return frozenset([asset for asset, line in self._lines.items() if not line.known])

    def watch_anew(self) -> None:
        """Watch every heartbeat again: a person says that the other controller is off."""
        self._suspects = self.rivals()
        for line in self._lines.values():
            line.watch = None if line.watch is None else line.watch.anew()

    async def write(self, writes: Sequence[Write], late: bool = True) -> list[Sent]:
        """Write what changed or is due, devices side by side, each device's writes in their order; return every outcome that is known now.

        What must not go out is left out and counted in `withheld`: to a device in local, to one whose heartbeat
        has not been watched yet, to any while another controller is met. A level goes to no device that failed
        last time: it is wanted again in the next cycle. An order may be given only once, so it is tried.

        Parameters
        ----------
        late : bool
            Whether what had to wait in cycles before may still go out; not after the end of control.
        """
        if not late:
            self._forget()
        for write in writes:
            self._want(write)
        for line in self._lines.values():
            line.writing = _ended(line.writing)
            if line.waiting and line.writing is None:
                line.writing = asyncio.create_task(self._write_waiting(line))
        await _within(WRITE_SHARE * self._wait_s, [line.writing for line in self._lines.values()])
        sent = []
        for line in self._lines.values():
            line.writing = _ended(line.writing)
            sent += line.done
            line.done = []
        return sent

    def _want(self, write: Write) -> None:
        """Let a write wait for its device, in the place of an older one of its command, if it is due and may go out."""
        line = self._lines.get(write.asset)
        if line is None or write.command not in line.wire.takes:
            return
        if not self._due(line, write) or (line.failures and write.command in SETPOINTS):
            line.waiting.pop(write.command, None)  # an older wish has passed
        elif self._barred(line):
            self.withheld += 1
        else:
            line.waiting[write.command] = _Due(write, real_s())

    def _barred(self, line: _Line) -> bool:
        """Whether nothing may be written to a device now."""
        return bool(self.rivals()) or line.local or not line.free

    def _due(self, line: _Line, write: Write) -> bool:
        """Whether to write: a level that changed or is to be refreshed, an order each time; not what is under way, nor a pulse before reading has decided."""
        pressed = line.pressed.get(write.command)
        if pressed is not None and pressed[0] == write.value:
            return False
        if line.on_wire is not None and line.on_wire.command == write.command:
            return abs(line.on_wire.value - write.value) > (DEADBAND_KW if write.command in SETPOINTS else 0.0)
        if write.command not in SETPOINTS or write.command not in line.sent:
            return True
        value, at = line.sent[write.command]
        refresh = line.wire.takes[write.command] or REFRESH_S
        return abs(value - write.value) > DEADBAND_KW or real_s() - at >= refresh

    async def _write_waiting(self, line: _Line) -> None:
        """Write what waits, one after another; what the device has become unfit for meanwhile is left out."""
        while line.waiting:
            due = line.waiting.pop(next(iter(line.waiting)))
            if self._barred(line):
                self.withheld += 1
            elif real_s() - due.wanted_s > WAITING_S:
                line.done.append(Sent(due.write, WriteResult(ok=False, cause="given up: a write before it was not answered in time")))
            elif not line.failures or due.write.command not in SETPOINTS:
                result = await self._write_one(line, due.write)
                line.done.append(Sent(due.write, result))

    async def _write_one(self, line: _Line, write: Write) -> WriteResult:
        """Write once; until its outcome is known the device counts as not having been told."""
        pulse = write.command in line.wire.once
        line.sent.pop(write.command, None)
        line.on_wire = write
        if pulse:
            line.pressed[write.command] = (write.value, real_s())  # before it is sent: an answer may be lost, the pulse not
        try:
            result = await line.wire.driver.write(write.command, write.value)
        except (Failed, BadInput) as fault:
            result = WriteResult(ok=False, cause=str(fault))
        finally:
            line.on_wire = None
        if pulse:
            line.pressed[write.command] = (write.value, real_s())  # it may have acted as late as now: readings from before decide nothing
        if result.ok:
            line.sent[write.command] = (write.value, real_s())
        return result

    def _forget(self) -> None:
        """Give up what still waits for its device."""
        for line in self._lines.values():
            line.done += [Sent(due.write, WriteResult(ok=False, cause="given up: control has ended")) for due in line.waiting.values()]
            line.waiting.clear()

    async def beat(self, count: int) -> None:
        """Send every device the heartbeat of a completed cycle; a device that fails is found by its readings."""
        if self.rivals():
            return
        for line in self._lines.values():
            line.beating = _ended(line.beating)
            if line.beating is None and line.free and not line.failures and not line.local:
                line.beating = asyncio.create_task(self._beat_one(line, count))
        await _within(BEAT_SHARE * self._wait_s, [line.beating for line in self._lines.values()])
        for line in self._lines.values():
            line.beating = _ended(line.beating)

    async def _beat_one(self, line: _Line, count: int) -> None:
        """Beat, and note what stands there now; while it is under way, or failed, nobody knows."""
        if line.beat_sent is not None and (count - line.beat_sent) % 2 == 0:
            count += 1  # a beat was left out: the device watches for change, and would see none
        line.beats += 1
        line.beat_sent = count
        wrote: float | None = None
        try:
            await line.wire.driver.beat(count)
            wrote = float(count % 2)
        except Failed:
            return
        finally:
            line.beats += 1
            line.watch = None if line.watch is None else line.watch.wrote(wrote)

    async def close(self) -> None:
        """End what is under way and close every link."""
        under_way = (task for line in self._lines.values() for task in (line.reading, line.writing, line.beating))
        tasks: list[asyncio.Task[Any]] = [task for task in under_way if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(line.wire.driver.close() for line in self._lines.values()), return_exceptions=True)


def _ended(task: asyncio.Task[None] | None) -> asyncio.Task[None] | None:
    """Return what is still under way; a task that ended with a fault which no driver may raise ends control."""
    if task is None or not task.done():
        return task
    task.result()
    return None


async def _within(wait_s: float, tasks: Sequence[asyncio.Task[None] | None]) -> None:
    """Wait for tasks, so long at the most [s, real]."""
    under_way = [task for task in tasks if task is not None]
    if under_way:
        await asyncio.wait(under_way, timeout=wait_s)
