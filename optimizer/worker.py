"""The planner in a process of its own: what may hang or crash does it there.

The child holds one end of a pipe; it compiles its problem at start, answers one question at a time and
ends when the pipe does, so it never outlives its parent. It is killed at its deadline of real time, gets no
more memory than is stated here, and is started again within a budget, after a pause that grows each time;
when that is spent every question is answered with the cause.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol

from ems.clock import real_s
from ems.config.site import Site
from ems.errors import EmsError
from ems.plan import Observation, PlanOutcome, PlanRequest

RESTARTS = 5
RESTART_WINDOW_S = 600.0
PAUSE_S = 1.0
"""Pause before the second restart in the window; it doubles with each, so that a child that always dies costs little. The first comes at once."""
SPENT = "planner restart budget spent"
SEARCH_MB = 300
"""Memory that a search may take beyond what a compiled child holds (about 300 MB): with control, web and uplink it stays within 1 GB."""
DRY_CODE = 75
"""Exit code of a child that was refused memory."""
DRY = f"out of memory: a search took more than {SEARCH_MB} MB"
START_S = 60.0
"""Real time a child gets to import and compile on a slow gateway, before its first deadline begins [s]."""
SOLVE_SHARE = 0.7
"""Share of the deadline that the solver gets; the rest is for forecasts, for cvxpy and for a busy machine."""
PLANS_PER_CHILD = 2000
"""After so many answers the child is recycled: about a week at one plan in five minutes."""
HISTORY = 14 * 96
"""Observations that a new child is taught: two weeks of quarter hours."""
CODE_S = 1.0
"""So long a child that has closed its pipe may take to say why [s]."""
GONE_S = 5.0
"""So long a killed child is waited for at the end [s]."""
READY = "ready"
log = logging.getLogger(__name__)


class Maker(Protocol):
    """What a child runs."""

    def compile(self) -> None:
        """Get ready, which may take long."""

    def make(self, request: PlanRequest) -> PlanOutcome:
        """Answer one question."""


@dataclass(frozen=True, slots=True)
class SiteMaker:
    """Makes a site's `PlanMaker`; a value, so that it can be sent to the child."""

    site: Site
    forecast: str
    time_limit_s: float
    kept: Path | None = None

    def __call__(self) -> Maker:
        """Return the maker, in the child: only there is the solver loaded."""
        from optimizer.forecasting import Forecasting
        from optimizer.planner import PlanMaker

        return PlanMaker(self.site, Forecasting(self.site, self.forecast, kept=self.kept), time_limit_s=self.time_limit_s)


@dataclass(frozen=True, slots=True)
class Unable:
    """A maker for a site that cannot be planned for: every answer is the cause."""

    cause: str

    def compile(self) -> None:
        """There is nothing to get ready."""

    def make(self, request: PlanRequest) -> PlanOutcome:
        """Return the cause."""
        return failed(request, self.cause)


def serve(pipe: Connection, factory: Callable[[], Maker]) -> None:
    """Answer questions until the pipe closes: the child's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us by closing the pipe
    threading.Thread(target=leave_with_parent, daemon=True).start()
    try:
        maker = made(factory)
        bound_memory(SEARCH_MB)
        pipe.send(READY)
        while True:
            pipe.send(maker.make(pipe.recv()))
    except MemoryError:
        sys.exit(DRY_CODE)  # what is left of this process is in pieces: a new one answers the next question
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def made(factory: Callable[[], Maker]) -> Maker:
    """Return the maker, ready; of a site that it refuses one that says why: another child would refuse it too."""
    try:
        maker = factory()
        maker.compile()
    except EmsError as error:
        log.warning("planner: %s", error)
        return Unable(str(error))
    return maker


def bound_memory(more_mb: float) -> None:
    """Let this process take so much more memory and no more [MB]: an allocation beyond fails at once, before the gateway swaps.

    Counts what is mapped to be written, not what is resident: libraries reserve a lot that they never touch. Only Linux knows this limit.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return
    held_kb = next(int(line.split()[1]) for line in status.read_text("ascii").splitlines() if line.startswith("VmData:"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = int(held_kb * 1024 + more_mb * 1e6)
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def leave_with_parent() -> None:
    """End this process with its parent, even in the middle of a solve that would not see the pipe close."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)


class WorkerPlanner:
    """Plans in a child process; `submit` and `take` never block.

    Parameters
    ----------
    site : Site
    forecast : str
        Method of `optimizer.forecasting`.
    deadline_s : float
        Real time for one answer [s]; the child is killed when it takes longer.
    factory : Callable[[], Maker] | None
        Picklable; what the child runs instead of the site's planner (tests).
    start_s : float
        Real time a child gets to start [s].
    kept : Path | None
        File in which the child keeps what its forecasts have learned.
    pause_s : float
        Real time before the second restart in the window [s]; it doubles with each.
    """

    def __init__(
        self,
        site: Site,
        forecast: str,
        deadline_s: float,
        factory: Callable[[], Maker] | None = None,
        start_s: float = START_S,
        kept: Path | None = None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._factory = factory or SiteMaker(site, forecast, SOLVE_SHARE * deadline_s, kept)
        self._deadline_s = deadline_s
        self._start_s = start_s
        self._pause_s = pause_s
        self._context = multiprocessing.get_context("spawn")
        self._child: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._ended_s: float | None = None
        self._dying: list[SpawnProcess] = []
        self._ready = False
        self._since_s = 0.0
        self._answered = 0
        self._seen: deque[Observation] = deque(maxlen=HISTORY)
        self._unsent: list[Observation] = []
        self._next: PlanRequest | None = None
        self._running: PlanRequest | None = None
        self._outcomes: deque[PlanOutcome] = deque()
        self._restarts: deque[float] = deque()
        self._closed = False
        self._start()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        return self._child.pid if self._child is not None else None

    def submit(self, request: PlanRequest) -> None:
        """Ask; a newer question replaces one that has not been started. What was observed is never lost."""
        self._seen.extend(request.observations)
        self._unsent.extend(request.observations)
        self._next = request
        self._step()

    def take(self) -> PlanOutcome | None:
        """Return an answer once, or None while there is none."""
        self._step()
        return self._outcomes.popleft() if self._outcomes else None

    def close(self) -> None:
        """End the child, and wait until it is gone."""
        self._closed = True
        self._kill()
        for child in self._dying:
            child.join(GONE_S)

    def _step(self) -> None:
        """Look at the child: collect what it says, kill it if it is late, start it again, hand over the next question."""
        if self._closed:
            return
        self._dying = [child for child in self._dying if child.exitcode is None]  # asking is what buries those that are gone
        self._listen()
        if self._ended_s is not None:
            return  # it has not said yet why it ended
        if self._child is not None:
            limit_s = self._deadline_s if self._ready else self._start_s
            busy = self._running is not None or not self._ready
            if busy and real_s() - self._since_s > limit_s:
                self._fail(f"deadline of {limit_s:g} s passed")
        if self._child is None and not self._start() and self._spent() and self._next is not None:
            self._outcomes.append(failed(self._next, SPENT))
            self._next = None
        if self._ready and self._running is None and self._next is not None and self._pipe is not None:
            self._running = replace(self._next, observations=tuple(self._unsent))
            self._next, self._unsent, self._since_s = None, [], real_s()
            try:
                self._pipe.send(self._running)
            except OSError as error:
                self._fail(f"child is gone: {error}")

    def _listen(self) -> None:
        """Take everything that has come, and notice when the child is gone."""
        try:
            while self._pipe is not None and self._pipe.poll():
                said = self._pipe.recv()
                if said == READY:
                    self._ready = True
                elif isinstance(said, PlanOutcome):
                    self._outcomes.append(said)
                    self._running = None
                    self._answered += 1
        except (EOFError, OSError):
            if self._child is not None:
                code, self._ended_s = self._child.exitcode, self._ended_s or real_s()
                if code is not None or real_s() - self._ended_s > CODE_S:
                    self._fail(DRY if code == DRY_CODE else f"child ended with code {code}")
            return
        if self._answered >= PLANS_PER_CHILD and self._running is None:
            self._kill()
            self._spawn()

    def _fail(self, cause: str) -> None:
        """End a child that hangs or is gone; its question is answered with the cause."""
        log.warning("planner: %s", cause)
        self._kill()
        if self._running is not None:
            self._outcomes.append(failed(self._running, cause))
            self._running = None

    def _spent(self) -> bool:
        """Whether there have been as many restarts in the window as are allowed; the first start is no restart."""
        while self._restarts and real_s() - self._restarts[0] > RESTART_WINDOW_S:
            self._restarts.popleft()
        return len(self._restarts) > RESTARTS

    def _start(self) -> bool:
        """Start a child if the budget allows, and the pause after the last start is over."""
        if self._spent():
            return False
        again = len(self._restarts) - 1  # restarts so far
        if again > 0 and real_s() - self._restarts[-1] < self._pause_s * 2.0 ** (again - 1):
            return False
        self._restarts.append(real_s())
        self._spawn()
        return True

    def _spawn(self) -> None:
        """Start a child; where the machine has no room for one, that was a restart, and the next look tries again within the budget."""
        ours, theirs = self._context.Pipe()
        child = self._context.Process(target=serve, args=(theirs, self._factory), name="planner", daemon=True)
        try:
            child.start()
        except OSError as error:
            ours.close()
            log.warning("planner: it cannot be started: %s", error)
            return
        finally:
            theirs.close()  # or its end would never be seen
        self._child, self._pipe, self._ready, self._since_s, self._answered = child, ours, False, real_s(), 0
        self._unsent = list(self._seen)  # a new child has learned nothing yet

    def _kill(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._child is not None:
            self._child.kill()
            self._dying.append(self._child)  # nobody waits for it here: a cycle may be under way
        self._child, self._pipe, self._ready, self._ended_s = None, None, False, None


def failed(request: PlanRequest, cause: str) -> PlanOutcome:
    """Return the answer to a question that found none."""
    return PlanOutcome(request.id, "failed", cause, None, None)
