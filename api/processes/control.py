"""The control process: the loop, on the wire.

    python -m api.processes.control '{"site": PATH, "data": DIR, "stage": "control", "speed": 1.0, "origin": null, "start": null, "cycle": 0}'

stdin is the supervisor's pipe: lines `{"dead": [NAME]}` tell which other processes are given up, and from web
come `{"notice": TEXT}`, which it has of a damaged site.db, `{"stop": {...}}`, an emergency stop that it could not
store, and `{"event": {...}}`, a request that it refused. When stdin closes, or on SIGTERM, nothing more is written
to any device and the process ends with 0 within 2 s. On stdout goes one line `{"beat": {...}}` per cycle. Any
error nobody expected ends the process with 1, so that the devices fall back to what they do without us, and the
supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from api.assembly import Control, control_parts, site_clock
from api.processes.child import end_soon, on_signals, run_child
from api.processes.lines import LineWriter, lines_of, own_pipe
from ems.config.load import load_site
from ems.decision import Event
from ems.errors import StoreError
from ems.model import UNNUMBERED, Request
from ems.ports import Clock
from ems.terms import Alarm, Stage

END_S = 2.0
"""By then the process has ended, whatever hangs [s]."""
LAST_CYCLE_S = 0.8
"""How long a cycle under way may go on after the end was asked for [s]."""


class Told:
    """What came down the pipe, as alarms: which other processes are given up, and what web says of its store."""

    def __init__(self) -> None:
        self.dead: tuple[str, ...] = ()
        self.notice: str | None = None

    def take(self, said: Mapping[str, Any]) -> None:
        """Take one line; what is not known here is left alone."""
        self.dead = tuple(said.get("dead", self.dead))
        self.notice = said.get("notice", self.notice)

    def alarms(self) -> tuple[Alarm, ...]:
        """Return one alarm for each."""
        renewed = (
            () if self.notice is None else (Alarm("site_renewed", "major", None, self.notice, "site.db が破損したため退避し、新しいファイルを作りました"),)
        )
        return renewed + tuple(
            Alarm(
                f"{name}_dead",
                "major",
                None,
                f"the process {name} keeps ending and is not started again",
                f"プロセス {name} が繰り返し終了したため停止しています",
            )
            for name in self.dead
        )


async def control(given: Mapping[str, Any]) -> None:
    """Run control until stdin closes or SIGTERM comes."""
    stop, told = asyncio.Event(), Told()
    on_signals(stop.set)
    out = await LineWriter.open(own_pipe(sys.stdout))
    clock = site_clock(given["speed"], given.get("origin"), given.get("start"))
    parts = control_parts(
        load_site(given["site"]), Path(given["data"]), clock, Stage(given["stage"]), given.get("cycle", 0), lambda beat: out.send({"beat": beat}), told.alarms
    )
    listening = asyncio.create_task(_listen(told, stop, parts, clock))
    try:
        await _until(stop, parts)
    finally:
        listening.cancel()
        await _close(parts)
        out.close()


async def _until(stop: asyncio.Event, parts: Control) -> None:
    """Run cycles until `stop`; one that hangs then is cut off. What a cycle raises comes out here."""
    running = asyncio.create_task(parts.loop.run(stop))
    asked = asyncio.create_task(stop.wait())
    await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if stop.is_set():
        end_soon(END_S)
        await asyncio.wait({running}, timeout=LAST_CYCLE_S)
        running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def _close(parts: Control) -> None:
    """Let go of everything; the links last, because a far end may not answer."""
    parts.keeper.close()
    parts.history.close()
    parts.ledger.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(parts.fieldbus.close(), 0.5)


async def _listen(told: Told, stop: asyncio.Event, parts: Control, clock: Clock) -> None:
    async for line in lines_of(sys.stdin):
        said = json.loads(line)
        told.take(said)
        if "stop" in said:
            parts.door.let_in(stop_of(said["stop"]))
        if "event" in said:
            with suppress(StoreError):  # then it waits there
                parts.history.events(clock.now(), [event_of(said["event"])])
    stop.set()


def event_of(said: Mapping[str, Any]) -> Event:
    """Return the event of a request that web has refused."""
    return Event("security", said["asset"], said["reason"], said["by"])


def stop_of(said: Mapping[str, Any]) -> Request:
    """Return the emergency stop that a line brings."""
    return Request(UNNUMBERED, said["id"], "stop", None, {"reason": said["reason"]}, said["by"], datetime.fromisoformat(said["at"]))


def main(argument: str) -> int:
    """Run the process; returns its exit code."""
    return run_child("control", control, argument)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
