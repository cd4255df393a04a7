"""The uplink process: what history and ledger hold goes to InfluxDB, in order, until it has arrived.

    python -m api.processes.uplink '{"data": DIR, "site": ID}'        ends when its stdin closes

Nothing is kept in memory and nothing is copied: the data waits in its own files, a cursor moves on after
each 204. Energy and CO2 go first. EMS_INFLUX_URL, EMS_INFLUX_TOKEN, EMS_INFLUX_ORG and EMS_INFLUX_BUCKET
say where to; without them the process idles. stdout carries `{"uplink": {...}}` lines.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drivers.influxdb import Busy, Denied, InfluxSink, Target, Unsound, ledger_lines, minute_lines, send
from drivers.store.history import HistoryReader
from drivers.store.ledger import LedgerReader
from drivers.store.outbox import Outbox, Poison
from ems.clock import WallClock
from ems.errors import ConnectionLost, EmsError, StoreError
from ems.ports import Clock

LOG = logging.getLogger("uplink")
SETTINGS = ("EMS_INFLUX_URL", "EMS_INFLUX_TOKEN", "EMS_INFLUX_ORG", "EMS_INFLUX_BUCKET")
IDLE_S = 5.0
"""How often to look for something new [s]."""
FIRST_WAIT_S, LONGEST_WAIT_S, DENIED_WAIT_S = 1.0, 60.0, 60.0
NEWEST_ROWS = 3
"""From so many of the newest rows comes what a doubtful server is tried with: a row may have no line."""
MOST_TOLD = 3
"""So many of a batch's refused lines are in the log, the others are counted there."""
MOST_ROWS = 240
"""Minutes in one batch at the most: about 5,000 lines with 20 assets."""
END_S = 3.0
"""How long after its stdin has closed the process may still hang in a socket [s]."""

Row = tuple[int, int, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """One source of rows: `after(position, limit)` returns (number, at_us, content) in order; `lines` puts one into lines."""

    name: str
    after: Callable[[int, int], Sequence[Row]]
    newest: Callable[[], int]
    birth: Callable[[], int]
    lines: Callable[[str, int, Any], list[str]]


@dataclass(frozen=True, slots=True)
class Report:
    """How the uplink stands: `idle | sending | waiting | denied | store`, and the wait before the next try [s]."""

    status: str
    cause: str = ""
    wait_s: float = IDLE_S


class Uplink:
    """Delivers the streams of one site; `step` sends one batch of each and never raises for a far side that fails."""

    def __init__(self, site: str, data: Path, sink: InfluxSink, clock: Clock) -> None:
        history, ledger = HistoryReader(data / "history.db"), LedgerReader(data / "ledger.db")
        self.streams = (
            Stream("ledger", ledger.after, ledger.last_seq, ledger.birth, ledger_lines),
            Stream("minutes", history.minutes_after, history.last_minute_seq, history.birth, minute_lines),
        )
        self.outbox = Outbox(data / "uplink.db")
        self._site = site
        self._sink = sink
        self._clock = clock
        self._rows = MOST_ROWS
        self._wait_s = FIRST_WAIT_S
        self._proven = True

    def step(self) -> Report:
        """Send one batch of each stream; the report says how long to wait before the next step."""
        try:
            more = [self._deliver(stream) for stream in self.streams]
        except Busy as error:
            return Report("waiting", error.error, max(error.retry_after_s, self._longer()))
        except Denied as error:
            self._proven = self._proven and not isinstance(error, Unsound)  # then it is asked with the newest line, not with all of a batch
            return Report("denied", str(error), DENIED_WAIT_S)
        except ConnectionLost as error:
            self._rows = max(1, self._rows // 2)  # a thin link carries a small batch where a large one times out
            return Report("waiting", error.error, self._longer())
        except StoreError as error:
            return Report("store", str(error), self._longer())
        self._rows = min(MOST_ROWS, self._rows * 2)
        self._wait_s, self._proven = FIRST_WAIT_S, True
        return Report("sending" if any(more) else "idle", "", 0.0 if any(more) else IDLE_S)

    def _longer(self) -> float:
        now = self._wait_s
        self._wait_s = min(LONGEST_WAIT_S, now * 2.0)
        return now

    def _deliver(self, stream: Stream) -> bool:
        """Send the next rows of a stream and move its cursor; True where there was something."""
        cursor = self.outbox.cursor(stream.name)
        birth = stream.birth()
        if birth != cursor.birth:  # a new file in its place numbers its rows from 1 again
            cursor = replace(cursor, birth=birth, position=0)
        rows = stream.after(cursor.position, self._rows)
        if not rows:
            return False
        lost = self._lost(stream, cursor.position, rows)
        sent = send(self._sink, self._lines(stream, rows), lambda: self._newest(stream), self._proven)
        poison = [Poison(*found) for found in sent.poison]
        for found in poison[:MOST_TOLD]:
            LOG.warning("set aside, refused for good: %s (%s)", found.line, found.cause)
        if len(poison) > MOST_TOLD:
            LOG.warning("set aside, refused for good: %d more lines of %s, the last one: %s", len(poison) - MOST_TOLD, stream.name, poison[-1].line)
        moved = replace(cursor, position=rows[-1][0], delivered=cursor.delivered + sent.arrived, thinned=cursor.thinned + lost)
        self.outbox.advance(stream.name, moved, self._clock.now(), poison)
        return True

    def _lines(self, stream: Stream, rows: Sequence[Row]) -> list[str]:
        return [text for _, at_us, content in rows for text in stream.lines(self._site, at_us, content)]

    def _newest(self, stream: Stream) -> list[str]:
        """Return the lines of the newest rows, the newest first."""
        return self._lines(stream, stream.after(max(0, stream.newest() - NEWEST_ROWS), NEWEST_ROWS)[::-1])

    def _lost(self, stream: Stream, position: int, rows: Sequence[Row]) -> int:
        """Rows that are gone before they could be sent: the oldest minutes past their retention."""
        lost = rows[0][0] - position - 1 if position else 0
        if lost > 0:
            LOG.warning("%d rows of %s were given up before they could be sent", lost, stream.name)
        return max(0, lost)

    def status(self, report: Report) -> dict[str, Any]:
        """Return what goes up the pipe: how it stands, and what still waits."""
        cursors = {stream.name: self.outbox.cursor(stream.name) for stream in self.streams}
        return {
            "status": report.status,
            "cause": report.cause,
            "backlog": sum(max(0, stream.newest() - cursors[stream.name].position) for stream in self.streams),
            "delivered": sum(cursor.delivered for cursor in cursors.values()),
            "thinned": sum(cursor.thinned for cursor in cursors.values()),
            "quarantined": len(self.outbox.quarantined()),
            "refused": self._refused(),
            "notice": self.outbox.notice,
        }

    def _refused(self) -> int:
        """Return how many lines were refused for good since the beginning; of those that were set aside only the newest are kept."""
        return int(self.outbox.file.rows("SELECT max(n) FROM quarantine")[0][0] or 0)

    def close(self) -> None:
        """Let go of file and connection."""
        self.outbox.close()
        self._sink.close()


def target_of(environment: Mapping[str, str]) -> Target | None:
    """Return where to deliver, or None where it is not (wholly) said."""
    values = [environment.get(name, "") for name in SETTINGS]
    return Target(*values) if all(values) else None


def run(uplink: Uplink, stop: threading.Event, tell: Callable[[dict[str, Any]], None]) -> None:
    """Deliver until `stop`; logs a change of status once."""
    before = ""
    while not stop.is_set():
        report = uplink.step()
        if report.status != before:
            LOG.info("%s%s", report.status, f": {report.cause}" if report.cause else "")
            before = report.status
        try:
            tell(uplink.status(report))
        except StoreError as error:
            LOG.warning("%s", error)
        stop.wait(report.wait_s)


def main(argument: str) -> int:
    """Run the process; returns its exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    given = json.loads(argument)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor ends us by our stdin
    threading.Thread(target=end_with, args=(stop,), daemon=True).start()
    target = target_of(os.environ)
    if target is None:
        missing = [name for name in SETTINGS if not os.environ.get(name)]
        demo = given.get("start") is not None  # a clock of its own: nobody expects a simulated island to deliver
        LOG.log(logging.DEBUG if demo else logging.INFO, "not configured: %s not set; nothing is sent, everything is kept", ", ".join(missing))
        tell({"status": "off", "cause": f"not set: {', '.join(missing)}", "backlog": None})
        stop.wait()
        return 0
    try:
        uplink = Uplink(given["site"], Path(given["data"]), InfluxSink(target), WallClock())
    except EmsError as error:
        LOG.error("%s", error)
        return error.exit_code
    if uplink.outbox.notice:
        LOG.warning("%s", uplink.outbox.notice)
    run(uplink, stop, tell)
    uplink.close()
    return 0


def end_with(stop: threading.Event) -> None:
    """Wait until stdin closes, ask for the end, and make it happen: every cursor is committed already."""
    while sys.stdin.readline():
        pass
    stop.set()
    threading.Event().wait(END_S)
    os._exit(0)


def tell(status: Mapping[str, Any]) -> None:
    """Send a line up the pipe."""
    print(json.dumps({"uplink": status}), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
