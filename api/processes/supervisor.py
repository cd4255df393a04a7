"""Starts control, web and uplink, watches them, starts them again within a budget, and ends them. Stdlib only.

Every child has a pipe to its stdin and ends when that closes, so nothing outlives this process. Control's
beats go on to web and are dropped where web is slow. Five silent cycles of control, and it is killed and
started again. A spent budget ends everything where it is control's; of the others it is an alarm.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from api.processes.lines import LONGEST
from ems.clock import real_s
from ems.errors import Failed

Spawn = Callable[[str, Mapping[str, Any], tuple[int, ...]], Awaitable[asyncio.subprocess.Process]]
LOG = logging.getLogger("supervisor")
ASK_S, TERMINATE_S = 3.0, 2.0
"""How long a child has to end by itself, and after SIGTERM [s]."""
KEPT = ("notice", "stop")
"""What web has told control, and is told to a new control process again; an emergency stop until it is in force."""
LOCK_WAIT_S = 4.0
"""The children of a supervisor that was killed need a moment to end; until then the folder is theirs [s]."""


@dataclass(frozen=True, slots=True)
class Patience:
    """What is borne before something is done about it.

    Attributes
    ----------
    restarts, window_s : int, float
        How often a child may be started again in how long [s].
    pause_s : float
        Before the first new start; longer before each further one [s].
    silent_cycles, silence_s : float, float
        Control is killed after so many cycles without a beat, but not before `silence_s` [s]: with very
        short cycles a device's deadline is longer.
    first_beat_s : float
        A new control process has to read site, stores and a whole bus first [s].
    """

    restarts: int = 5
    window_s: float = 600.0
    pause_s: float = 0.5
    silent_cycles: float = 5.0
    silence_s: float = 5.0
    first_beat_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the children are told; `start` and `origin` belong to a clock that runs `speed` times as fast."""

    site: str
    site_id: str
    data: str
    stage: str
    url: str
    public: bool
    cycle_s: float
    speed: float = 1.0
    origin: float | None = None
    start: str | None = None


@dataclass(slots=True)
class Child:
    """One process and its past."""

    name: str
    process: asyncio.subprocess.Process | None = None
    starts: list[float] = field(default_factory=list)
    heard: bool = False


class Supervisor:
    """The processes of one site.

    Parameters
    ----------
    door : socket.socket
        Listening already; web serves it, and gets it again when it is started again.
    lock : int
        File descriptor of the folder's lock. Children inherit it, so that it is held as long as one of them lives.
    announce : Callable[[str], None]
        Told the address once, when it answers.
    start : Spawn
        Starts a child by its name.
    """

    def __init__(
        self, settings: Settings, door: socket.socket, lock: int, announce: Callable[[str], None], start: Spawn | None = None, patience: Patience | None = None
    ) -> None:
        self._spawn = start or spawn
        self._patience = patience or Patience()
        self._announce = announce
        self._settings = settings
        self._door = door
        self._lock = lock
        self._children = {name: Child(name) for name in ("control", "web", "uplink")}
        self.cycle = 0
        self._announced = False
        self._dead: list[str] = []
        self._kept: dict[str, Any] = {}
        self._failed = False
        self.stop = asyncio.Event()

    async def run(self) -> int:
        """Run until `stop` is set or control's budget is spent; returns the exit code."""
        async with asyncio.TaskGroup() as group:
            for child in self._children.values():
                group.create_task(self._keep(child))
            await self.stop.wait()
            await asyncio.gather(*(end(child.process) for child in self._children.values() if child.process is not None))
        return 1 if self._failed else 0

    async def _keep(self, child: Child) -> None:
        """Start a child, follow it, and start it again when it ends, until the budget is spent."""
        while not self.stop.is_set():
            process = await self._start(child)
            if self.stop.is_set():
                await end(process)
                return
            await self._follow(child, process)
            await end(process)  # it may hang on its way out
            code = process.returncode
            if self.stop.is_set():
                return
            now = real_s()
            child.starts = [at for at in child.starts if now - at < self._patience.window_s]
            if len(child.starts) > self._patience.restarts:
                self._give_up(child.name, code)
                return
            LOG.warning("%s ended with %s and is started again (%d of %d)", child.name, code, len(child.starts), self._patience.restarts)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), self._patience.pause_s * len(child.starts))

    async def _start(self, child: Child) -> asyncio.subprocess.Process:
        given = {**asdict(self._settings), "cycle": self.cycle, "fd": self._door.fileno()}
        if child.name == "uplink":
            given["site"] = self._settings.site_id
        fds = (self._lock, self._door.fileno()) if child.name == "web" else (self._lock,)
        child.process = await self._spawn(child.name, given, fds)
        child.starts.append(real_s())
        child.heard = False
        if child.name == "control":
            for name, said in {"dead": self._dead, **self._kept}.items():
                self._send("control", {name: said}, sure=True)
        return child.process

    async def _follow(self, child: Child, process: asyncio.subprocess.Process) -> None:
        """Take a child's lines until it ends; control is killed when it falls silent."""
        assert process.stdout is not None
        with suppress(ProcessLookupError):
            while True:
                try:
                    line = await asyncio.wait_for(process.stdout.readline(), self._limit_s(child))
                except TimeoutError:
                    LOG.error("%s is silent: killed", child.name)
                    process.kill()
                    return
                if not line:
                    return
                child.heard = True
                try:
                    said = json.loads(line)
                except ValueError:
                    LOG.warning("%s says %r", child.name, line[:200])
                else:
                    self._take(child.name, said)

    def _limit_s(self, child: Child) -> float | None:
        if child.name != "control":
            return None
        if not child.heard:
            return self._patience.first_beat_s
        return max(self._patience.silent_cycles * self._settings.cycle_s, self._patience.silence_s)

    def _take(self, name: str, said: Mapping[str, Any]) -> None:
        if name == "control" and "beat" in said:
            self.cycle = said["beat"]["cycle"]
            if said["beat"]["state"].get("mode") == "safe":
                self._kept.pop("stop", None)
            self._send("web", said)
        elif name == "web" and "ready" in said and not self._announced:
            self._announced = True
            self._announce(said["ready"])
        elif name == "web" and "control" in said:
            self._hand_on(said["control"])

    def _hand_on(self, said: Mapping[str, Any]) -> None:
        """Hand control what web has to tell it; what a control process that is started again must know, too, is kept."""
        self._kept |= {name: said[name] for name in KEPT if name in said}
        self._send("control", said, sure=True)

    def _send(self, name: str, document: Mapping[str, Any], sure: bool = False) -> None:
        """Send a line to a child; where the one before is still on its way it is dropped, unless it is `sure`, so that nobody waits for it."""
        process = self._children[name].process
        if process is None or process.stdin is None or process.stdin.is_closing():
            return
        if process.stdin.transport.get_write_buffer_size() > 0 and not sure:
            return
        process.stdin.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def _give_up(self, name: str, code: int | None) -> None:
        LOG.error("%s ended with %s once more: it is not started again", name, code)
        if name == "control":
            self._failed = True
            self.stop.set()
            return
        self._dead.append(name)
        self._send("control", {"dead": self._dead})


async def spawn(name: str, given: Mapping[str, Any], fds: tuple[int, ...] = ()) -> asyncio.subprocess.Process:
    """Start `api.processes.<name>` with pipes to its stdin and from its stdout."""
    command = (sys.executable, "-P", "-m", f"api.processes.{name}", json.dumps(given))  # -P: a folder `ems` where we were called is not ours
    return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, pass_fds=fds, limit=LONGEST)


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask a child to end by closing its pipe; insist where it does not."""
    if process.stdin is not None:
        process.stdin.close()
    for patience_s, insist in ((ASK_S, process.terminate), (TERMINATE_S, process.kill)):
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience_s)
            return
        with suppress(ProcessLookupError):
            insist()
    await process.wait()


def lock_folder(data: Path, wait_s: float = LOCK_WAIT_S) -> int:
    """Take a data folder for one service; returns the descriptor that holds it.

    Where its owner is gone and only its children are left, their end is waited for, `wait_s` at most [s].
    """
    held = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = real_s() + wait_s
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            owner = os.pread(held, 20, 0).decode(errors="replace").strip()
            if runs(owner) or real_s() > until:
                os.close(held)
                said = f"this data folder is in use by another service (process {owner or 'unknown'})"
                raise Failed(said, str(data), "a folder of its own, or the end of that one") from None
        threading.Event().wait(0.1)
    os.ftruncate(held, 0)
    os.write(held, f"{os.getpid()}\n".encode())
    return held


def runs(pid: str) -> bool:
    """Whether another process of this number exists; our own number means that it was written in another container."""
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def supervise(settings: Settings, door: socket.socket, lock: int) -> int:
    """Run a site's processes until SIGTERM or SIGINT; returns the exit code."""

    async def until_signal() -> int:
        supervisor = Supervisor(settings, door, lock, lambda url: print(url, flush=True))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, supervisor.stop.set)
        return await supervisor.run()

    return asyncio.run(until_signal())
