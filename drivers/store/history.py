"""history.db: every cycle, the minutes they make, plans, events and alarms. Written by control alone.

A cycle is one row: its REST state and its packed record. When a minute is over, its means go to
`minutes` (what charts and the uplink read); when it is half an hour old, its records are packed into one
compressed row of `packs` and the rows are dropped. All rings are bounded by rows, not by time, so that a
clock that jumps deletes nothing.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgpack

from drivers.store import alarms
from drivers.store.alarms import AlarmList
from drivers.store.file import Writer, birth, iso, look, micros, time_of
from drivers.store.points import flat, means
from ems.decision import Event
from ems.errors import BadInput, StoreError
from ems.plan import Forecast, Plan
from ems.record import pack

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
MAX_STEPS = 5000
"""How many steps a chart may ask for."""
MAX_STEP_S = 3660 * 86400.0
"""The longest step of a chart [s]: nothing is kept for longer."""
FRESH_MINUTES = 30
"""How long single cycles stay readable for charts before they are packed."""
PACKED_A_MINUTE = 2
"""How many minutes may be packed for each that comes, one a cycle: a backlog melts, and no cycle stalls on it."""
WAITING_EVENTS = 1000
"""How many events wait in memory while the file cannot be written."""
LAST_CYCLE = "SELECT max((SELECT coalesce(max(cycle), 0) FROM cycles), (SELECT coalesce(max(last_cycle), 0) FROM packs))"
NEWEST_AT = "SELECT at_us FROM cycles ORDER BY cycle DESC LIMIT 1"

SCHEMA = """
CREATE TABLE IF NOT EXISTS cycles (cycle INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, state TEXT NOT NULL, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS cycles_at ON cycles (at_us);
CREATE TABLE IF NOT EXISTS minutes (seq INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL UNIQUE, points TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS hours (at_us INTEGER PRIMARY KEY, points TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS packs (first_cycle INTEGER PRIMARY KEY, last_cycle INTEGER NOT NULL, at_us INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS plans (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, at_us INTEGER NOT NULL, plan TEXT NOT NULL, forecast TEXT);
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL, kind TEXT NOT NULL, asset TEXT,
    "by" TEXT NOT NULL, reason TEXT NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class Retention:
    """How many rows each ring keeps; the oldest go first, as many at a time as come in."""

    packs: int = 30 * 24 * 60
    minutes: int = 400 * 24 * 60
    hours: int = 10 * 366 * 24
    plans: int = 10_000
    events: int = 200_000
    alarms: int = 20_000


class History:
    """The writer; implements `ems.ports.Historian`.

    A full disk gives up the oldest packed minutes to go on with the present; what could not be
    stored at all is counted and told by an event as soon as there is room again.
    """

    def __init__(self, path: Path, retention: Retention | None = None) -> None:
        self.file = Writer(path, f"{SCHEMA};{alarms.SCHEMA}", durable=False)
        self.retention = retention or Retention()
        self.lost = 0
        self.thinned = 0
        self.alarms = AlarmList(self.file)
        self._waiting: list[tuple[int, str, str | None, str, str]] = []
        self._minute = self._newest_minute()
        self._to_pack = 0

    @property
    def notice(self) -> str | None:
        """What happened to a damaged file, for an alarm."""
        return self.file.notice

    def append(self, cycle: int, time: datetime, state: Mapping[str, Any], record: bytes) -> None:
        """Store one cycle: the REST state and the packed record."""
        try:
            row = (cycle, micros(time), dump(state), record)
        except ValueError as error:
            raise StoreError(f"a state with a number that is none cannot be stored: {error}", f"cycle {cycle}", "finite numbers or null") from error
        try:
            self._append(row)
        except StoreError as error:
            self.lost += 1
            if not full(error) or not self._make_room():
                raise
            self._append(row, again=True)

    def _append(self, row: tuple[int, int, str, bytes], again: bool = False) -> None:
        at_us = row[1]
        minute = at_us // MINUTE_US
        lost = self.lost - again  # this very cycle has been counted as lost by the first try
        with self.file.transaction() as db:
            if self._minute is not None and minute != self._minute:
                self._finish_minute(db, self._minute)
            elif self._to_pack:
                pack_oldest(db)
            db.execute("INSERT OR REPLACE INTO cycles VALUES (?, ?, ?, ?)", row)
            if lost or self.thinned:
                gap = f"{lost} cycles could not be stored, {self.thinned} packed minutes were given up for room"
                db.execute('INSERT INTO events (at_us, kind, asset, "by", reason) VALUES (?, ?, ?, ?, ?)', (at_us, "history_gap", None, "ems", gap))
        self.lost = self.thinned = 0
        self._to_pack = max(0, self._to_pack - 1)
        if self._minute != minute:
            self._minute, self._to_pack = minute, PACKED_A_MINUTE
            self.file.trim_log()

    def _finish_minute(self, db: sqlite3.Connection, minute: int) -> None:
        """Keep the means of the minute that is over, pack old cycles, let go of the oldest rows."""
        begin = minute * MINUTE_US
        states = db.execute("SELECT state FROM cycles WHERE at_us >= ? AND at_us < ?", (begin, begin + MINUTE_US)).fetchall()
        if not states:
            return  # the file was begun anew in between
        points = means([flat(json.loads(state)) for (state,) in states])
        db.execute("INSERT OR REPLACE INTO minutes (at_us, points) VALUES (?, ?)", (begin, dump(points)))
        hour = begin - begin % HOUR_US
        part = db.execute("SELECT points FROM minutes WHERE at_us >= ? AND at_us < ?", (hour, hour + HOUR_US)).fetchall()
        db.execute("INSERT OR REPLACE INTO hours VALUES (?, ?)", (hour, dump(means([json.loads(text) for (text,) in part]))))
        keep = self.retention
        rings = (
            ("packs", keep.packs),
            ("minutes", keep.minutes),
            ("hours", keep.hours),
            ("plans", keep.plans),
            ("events", keep.events),
            ("alarms", keep.alarms),
        )
        for table, rows in rings:
            open_too = "AND cleared_at_us NOT NULL" if table == "alarms" else ""
            oldest = f"SELECT rowid FROM {table} ORDER BY rowid DESC LIMIT 1 OFFSET ?"
            db.execute(f"DELETE FROM {table} WHERE rowid <= ({oldest}) {open_too}", (rows,))

    def _make_room(self) -> bool:
        """Give up the oldest hour of packed records; False where there is nothing left to give."""
        try:
            with self.file.transaction() as db:
                given = db.execute("DELETE FROM packs WHERE first_cycle IN (SELECT first_cycle FROM packs ORDER BY first_cycle LIMIT 60)").rowcount
        except StoreError:
            return False
        self.thinned += given
        return given > 0

    def events(self, time: datetime, events: Sequence[Event]) -> None:
        """Store events in order; those that a full disk refuses wait for the next call."""
        self._waiting = [*self._waiting, *((micros(time), e.kind, e.asset, e.by, e.reason) for e in events)][-WAITING_EVENTS:]
        if self._waiting:
            with self.file.transaction() as db:
                db.executemany('INSERT INTO events (at_us, kind, asset, "by", reason) VALUES (?, ?, ?, ?, ?)', self._waiting)
            self._waiting = []

    def plan(self, time: datetime, plan: Plan, forecast: Forecast | None) -> None:
        """Store a plan and the forecast it was made from."""
        seen = None if forecast is None else pack(forecast).decode()
        with self.file.transaction() as db:
            db.execute("INSERT INTO plans (id, at_us, plan, forecast) VALUES (?, ?, ?, ?)", (plan.id, micros(time), pack(plan).decode(), seen))

    def last_cycle(self) -> int:
        """Return the highest cycle number ever stored, 0 before the first."""
        found = self.file.rows(LAST_CYCLE)
        return int(found[0][0])

    def last_at(self) -> datetime | None:
        """Return when the newest cycle was that is stored; None before the first."""
        found = self.file.rows(NEWEST_AT)
        return time_of(found[0][0]) if found else None

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _newest_minute(self) -> int | None:
        found = self.file.rows(NEWEST_AT)
        return found[0][0] // MINUTE_US if found else None


def dump(value: Any) -> str:
    """Return compact JSON; NaN is a `ValueError`."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def full(error: StoreError) -> bool:
    """Whether a write failed for want of room."""
    return getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def pack_oldest(db: sqlite3.Connection) -> None:
    """Pack the oldest minute of single cycles, if there are more than `FRESH_MINUTES` of them."""
    minutes = db.execute("SELECT count(DISTINCT at_us / ?) FROM cycles", (MINUTE_US,)).fetchone()[0]
    if minutes <= FRESH_MINUTES:
        return
    first_us = db.execute("SELECT at_us FROM cycles ORDER BY cycle LIMIT 1").fetchone()[0]
    rows = db.execute("SELECT cycle, at_us, record FROM cycles ORDER BY cycle LIMIT 600").fetchall()
    minute = []
    for row in rows:
        if row[1] // MINUTE_US != first_us // MINUTE_US:
            break
        minute.append(row)
    body = zlib.compress(msgpack.packb(minute), 1)
    db.execute("INSERT OR REPLACE INTO packs VALUES (?, ?, ?, ?)", (minute[0][0], minute[-1][0], first_us, body))
    db.execute("DELETE FROM cycles WHERE cycle <= ?", (minute[-1][0],))


def unpack_minute(body: bytes) -> list[tuple[int, int, bytes]]:
    """Return the cycles of one pack as (cycle, at_us, record): the way back to what was recorded, so that cycles can be run again."""
    return [(cycle, at_us, record) for cycle, at_us, record in msgpack.unpackb(zlib.decompress(body))]


class HistoryReader:
    """What other processes may see; every call is one short look, and a file not there yet is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def newest_state(self) -> dict[str, Any] | None:
        """Return the state of the newest cycle."""
        found = look(self.path, "SELECT state FROM cycles ORDER BY cycle DESC LIMIT 1")
        return json.loads(found[0][0]) if found else None

    def last_cycle(self) -> int:
        """Return the highest cycle number ever stored, 0 before the first."""
        found = look(self.path, LAST_CYCLE)
        return int(found[0][0]) if found else 0

    def minutes_after(self, seq: int, limit: int) -> list[tuple[int, int, dict[str, float]]]:
        """Return finished minutes after a number, as (number, at_us, points): a minute that was made again comes again."""
        rows = look(self.path, "SELECT seq, at_us, points FROM minutes WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
        return [(n, at_us, json.loads(points)) for n, at_us, points in rows]

    def birth(self) -> int:
        """Return which file this is: another number where it was begun anew."""
        return birth(self.path)

    def last_minute_seq(self) -> int:
        """Return the number of the newest minute, 0 before the first."""
        found = look(self.path, "SELECT max(seq) FROM minutes")
        return int(found[0][0] or 0) if found else 0

    def plan(self, plan_id: str | None = None) -> dict[str, Any] | None:
        """Return a plan by its id, or the newest."""
        return self._planned("plan", plan_id)

    def forecast(self, plan_id: str | None = None) -> dict[str, Any] | None:
        """Return the forecast that a plan was made from, by the plan's id or the newest."""
        return self._planned("forecast", plan_id)

    def _planned(self, column: str, plan_id: str | None) -> dict[str, Any] | None:
        found = look(self.path, f"SELECT {column} FROM plans WHERE ?1 IS NULL OR id = ?1 ORDER BY n DESC LIMIT 1", (plan_id,))
        return json.loads(found[0][0]) if found and found[0][0] is not None else None

    def events(self, after: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return events in order: those after a number, or the newest."""
        columns = 'seq, at_us, kind, asset, "by", reason'
        if after is None:
            rows = look(self.path, f"SELECT {columns} FROM events ORDER BY seq DESC LIMIT ?", (limit,))[::-1]
        else:
            rows = look(self.path, f"SELECT {columns} FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
        return [{"seq": seq, "at": iso(at_us), "kind": kind, "asset": asset, "by": by, "reason": reason} for seq, at_us, kind, asset, by, reason in rows]

    def alarms(self, active: bool = False, limit: int = 500) -> list[dict[str, Any]]:
        """Return alarms, the newest first; `active` leaves out those that have cleared."""
        only = "WHERE cleared_at_us IS NULL" if active else ""
        rows = look(self.path, f"{alarms.SELECT} {only} ORDER BY raised_at_us DESC LIMIT ?", (limit,))
        return [alarms.document(dict(zip(alarms.COLUMNS, row, strict=True))) for row in rows]

    def points(self, names: Sequence[str], begin: datetime, end: datetime, step_s: float) -> dict[str, Any]:
        """Return means of points over [begin, end) in steps [s]: `{time: [...], columns: {name: [...]}}`, missing as None.

        Steps of a minute and more are made from minutes, shorter ones from single cycles (the last half hour).
        Many short looks, not a long one, so that the writer's log is never held for long.
        """
        begin_us, end_us, step_us = micros(begin), micros(end), round(step_s * 1e6)
        if step_us <= 0 or end_us <= begin_us:
            raise BadInput("the step or the time span is not positive", "history", "from before to, and a step of at least 1s")
        if step_s > MAX_STEP_S:
            raise BadInput("the step is too long", "history", f"at most {MAX_STEP_S / 86400:g}d")
        begin_us -= begin_us % step_us
        count = -(-(end_us - begin_us) // step_us)
        if count > MAX_STEPS:
            raise BadInput(f"{count} steps are too many", "history", f"at most {MAX_STEPS}: a longer step or a shorter span")
        sums: dict[int, list[dict[str, float]]] = {}
        for at_us, row in self._rows(begin_us, begin_us + count * step_us, step_us):
            sums.setdefault((at_us - begin_us) // step_us, []).append({name: row[name] for name in names if name in row})
        steps = [means(sums.get(k, ())) for k in range(count)]
        return {"time": [iso(begin_us + k * step_us) for k in range(count)], "columns": {name: [step.get(name) for step in steps] for name in names}}

    def _rows(self, begin_us: int, end_us: int, step_us: int) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield the points stored in a span of time, from the coarsest table that is fine enough."""
        table, text = ("hours", "points") if step_us >= HOUR_US else ("minutes", "points") if step_us >= MINUTE_US else ("cycles", "state")
        after = (begin_us - 1, -1)
        while True:
            sql = f"SELECT at_us, rowid, {text} FROM {table} WHERE (at_us, rowid) > (?, ?) AND at_us < ? ORDER BY at_us, rowid LIMIT 500"
            rows = look(self.path, sql, (*after, end_us))
            for at_us, _, found in rows:
                yield at_us, json.loads(found) if text == "points" else flat(json.loads(found))
            if len(rows) < 500:
                return
            after = (rows[-1][0], rows[-1][1])
