"""ledger.db: what must never be lost. Outcomes of requests, metered minutes, the controller's memory.

Written by control alone; every commit survives a power cut. Minutes are rows of a hash chain: nothing in
them is ever changed, a gap in time or a step of the clock is a row of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from drivers.store.file import Writer, birth, iso, look, micros
from ems.chain import Anchor, Break, Link, canonical, link, origin, verify
from ems.errors import StoreError
from ems.memory import Memory
from ems.model import Outcome
from ems.record import pack, unpack

CHAIN = "ledger"
SCHEMA = """
CREATE TABLE IF NOT EXISTS outcomes (n INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL, status TEXT NOT NULL, cause TEXT, result TEXT,
    at_us INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS outcomes_seq ON outcomes (seq, n);
CREATE TABLE IF NOT EXISTS minutes (seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS minutes_at ON minutes (at_us);
CREATE TABLE IF NOT EXISTS memory (id INTEGER PRIMARY KEY CHECK (id = 1), cycle INTEGER NOT NULL, at_us INTEGER NOT NULL, body TEXT NOT NULL)
"""
NEWEST = "SELECT seq, at_us, body, hash FROM minutes ORDER BY seq DESC LIMIT 1"
LAST_TAKEN = """SELECT max(coalesce((SELECT max(seq) FROM outcomes), 0), coalesce((SELECT json_extract(body, '$.taken_seq') FROM memory), 0))"""
NEWEST_ENERGY = "SELECT body FROM minutes WHERE json_extract(body, '$.kind') = 'energy' ORDER BY seq DESC LIMIT 1"


class LedgerStore:
    """The writer; implements `ems.ports.Ledger`."""

    def __init__(self, path: Path) -> None:
        self.file = Writer(path, SCHEMA, durable=True)

    @property
    def notice(self) -> str | None:
        """What happened to a damaged file, for an alarm."""
        return self.file.notice

    def commit(self, time: datetime, outcomes: Sequence[Outcome], memory: Memory, cycle: int) -> None:
        """Commit outcomes and the memory that took the requests in one step, so that a crash between them runs nothing twice.

        The history of a request is kept, its newest row holds; of the memory only the newest is kept.
        """
        rows = [(o.seq, o.status.value, o.cause, o.result, micros(time)) for o in outcomes]
        with self.file.transaction() as db:
            db.executemany("INSERT INTO outcomes (seq, status, cause, result, at_us) VALUES (?, ?, ?, ?, ?)", rows)
            db.execute("INSERT OR REPLACE INTO memory VALUES (1, ?, ?, ?)", (cycle, micros(time), pack(memory).decode()))

    def minute(self, time: datetime, row: Mapping[str, Any]) -> None:
        """Commit one minute of energy, fuel and CO2 that began at `time` and lasted `row["seconds"]`.

        What lies between it and the minute before is booked as missing; a clock that went back is booked too.
        """
        at_us = micros(time)
        with self.file.transaction() as db:
            newest = db.execute(NEWEST).fetchone()
            seq, before = (newest[0], newest[3]) if newest else (0, origin(CHAIN))
            bodies = [*between(newest, at_us), (at_us, {**row, "kind": "energy", "at": iso(at_us)})]
            for n, (start_us, body) in enumerate(bodies, seq + 1):
                new = link(before, n, canonical(body))
                db.execute("INSERT INTO minutes VALUES (?, ?, ?, ?)", (n, start_us, new.body, new.hash))
                before = new.hash
        self.file.trim_log()

    def load_memory(self) -> tuple[Memory, int] | None:
        """Return the memory that was saved last, with its cycle number; None on a first start."""
        found = self.file.rows("SELECT body, cycle FROM memory")
        if not found:
            return None
        try:
            return unpack(Memory, found[0][0]), int(found[0][1])
        except ValueError as error:
            raise StoreError(f"the saved memory cannot be read: {error}", str(self.file.path), "a memory of this version") from error

    def newest(self) -> dict[str, Any] | None:
        """Return the newest energy row: its `totals` go on from there."""
        found = self.file.rows(NEWEST_ENERGY)
        return json.loads(found[0][0]) if found else None

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def between(newest: tuple[int, int, str, str] | None, at_us: int) -> list[tuple[int, dict[str, Any]]]:
    """Return the row that stands between the newest one and a minute that begins at `at_us`: a gap, a clock step, or none."""
    if newest is None:
        return []
    body = json.loads(newest[2])
    end_us = newest[1] + round(body.get("seconds", 0.0) * 1e6)
    if at_us > end_us + 1_000_000:
        return [(end_us, {"kind": "gap", "at": iso(end_us), "seconds": (at_us - end_us) / 1e6, "cause": "nothing was measured: missing, not zero"})]
    if at_us < end_us - 1_000_000:
        return [(at_us, {"kind": "clock", "at": iso(at_us), "seconds": 0.0, "from": iso(end_us), "cause": "the clock went back"})]
    return []


class LedgerReader:
    """What other processes may see."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def outcome(self, seq: int) -> dict[str, Any] | None:
        """Return what became of a request: `{seq, status, cause, result, at}`; None while it is queued."""
        return self.outcomes([seq]).get(seq)

    def outcomes(self, seqs: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Return the newest outcome of each of some requests."""
        wanted = list(seqs)
        marks = ", ".join("?" * len(wanted))
        newest = f"SELECT max(n) FROM outcomes WHERE seq IN ({marks}) GROUP BY seq"
        rows = look(self.path, f"SELECT seq, status, cause, result, at_us FROM outcomes WHERE n IN ({newest})", wanted)
        return {seq: {"seq": seq, "status": status, "cause": cause, "result": result, "at": iso(at_us)} for seq, status, cause, result, at_us in rows}

    def last_taken(self) -> int:
        """Return the highest number of a request that control has worked in, 0 before the first."""
        found = look(self.path, LAST_TAKEN)
        return int(found[0][0]) if found else 0

    def newest(self) -> dict[str, Any] | None:
        """Return the newest energy row."""
        found = look(self.path, NEWEST_ENERGY)
        return json.loads(found[0][0]) if found else None

    def after(self, seq: int, limit: int = 1000) -> list[tuple[int, int, dict[str, Any]]]:
        """Return rows of the chain after a number, as (seq, at_us, row)."""
        rows = look(self.path, "SELECT seq, at_us, body FROM minutes WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
        return [(n, at_us, json.loads(body)) for n, at_us, body in rows]

    def birth(self) -> int:
        """Return which file this is: another number where it was begun anew."""
        return birth(self.path)

    def last_seq(self) -> int:
        """Return the number of the newest row of the chain, 0 before the first."""
        found = look(self.path, "SELECT max(seq) FROM minutes")
        return int(found[0][0] or 0) if found else 0

    def minutes(self, begin: datetime, end: datetime) -> list[dict[str, Any]]:
        """Return the rows of [begin, end) in the order they were booked, looked up an hour at a time."""
        found: list[dict[str, Any]] = []
        while begin < end:
            until = min(end, begin + timedelta(hours=6))
            rows = look(self.path, "SELECT body FROM minutes WHERE at_us >= ? AND at_us < ? ORDER BY seq", (micros(begin), micros(until)))
            found += [json.loads(body) for (body,) in rows]
            begin = until
        return found

    def verify(self, anchors: Iterable[Anchor] = ()) -> Break | None:
        """Return the first break of the whole chain, or None where it holds."""
        return verify(CHAIN, links(self.path, "minutes"), anchors)


def links(path: Path, table: str) -> Iterable[Link]:
    """Yield the rows of a chain in order, a thousand at a look."""
    seq = 0
    while rows := look(path, f"SELECT seq, body, hash FROM {table} WHERE seq > ? ORDER BY seq LIMIT 1000", (seq,)):
        yield from (Link(*row) for row in rows)
        seq = rows[-1][0]
