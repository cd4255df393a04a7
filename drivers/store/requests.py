"""site.db: the one door. Every change of state enters here as a row, durable before it is acknowledged.

Written by web alone, read by control. Beside the requests stands the audit: who, when, why, before and
after of everything that was asked, also of what was refused, as a hash chain.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from drivers.store.file import Writer, iso, look, micros, time_of
from drivers.store.ledger import LedgerReader, links
from ems.chain import Anchor, Break, canonical, link, origin, verify
from ems.clock import epoch_s
from ems.errors import BadInput, StoreError
from ems.model import Limits, Request
from ems.orders import limits_of

CHAIN = "audit"
SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, asset TEXT, body TEXT NOT NULL,
    "by" TEXT NOT NULL, at_us INTEGER NOT NULL, expires_us INTEGER, key TEXT, UNIQUE ("by", key));
CREATE INDEX IF NOT EXISTS requests_asset ON requests (kind, asset, seq);
CREATE TABLE IF NOT EXISTS audit (seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL)
"""
UNDER_WAY = 1_000_000
"""So far above the last number in the ledger a renewed file goes on: control may have taken some that the ledger does not know yet."""
COLUMNS = 'seq, id, kind, asset, body, "by", at_us, expires_us'


class KeyReused(BadInput):
    """An idempotency key came again with another request."""


class RequestReader:
    """What control and the REST handlers read; implements `ems.ports.RequestLog`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def after(self, seq: int, limit: int = 1000) -> Sequence[Request]:
        """Return the requests that came after `seq`, in order."""
        return self._look("seq > ? ORDER BY seq LIMIT ?", seq, limit)

    def find(self, request_id: str) -> Request | None:
        """Return a request by its id."""
        return next(iter(self._look("id = ?", request_id)), None)

    def keyed(self, by: str, key: str) -> Request | None:
        """Return the request that a user has made with an idempotency key."""
        return next(iter(self._look('"by" = ? AND key = ?', by, key)), None)

    def newest(self, limit: int = 100, kind: str | None = None, asset: str | None = None) -> Sequence[Request]:
        """Return the newest requests first, of one kind and asset where given."""
        return self._look("(?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR asset = ?2) ORDER BY seq DESC LIMIT ?3", kind, asset, limit)

    def limits(self, asset: str, now: datetime, refused: Collection[int] = ()) -> Limits:
        """Return what is set for an asset: its newest request that was not `refused` (by number) holds whole, as in control.

        The version is that request's number, 0 where there is none; past its time nothing else is left of it.
        """
        for request in self._look("kind = 'limits' AND asset = ? ORDER BY seq DESC", asset):
            if request.seq not in refused:
                found = limits_of(request.body, request)
                lapsed = found.expires_at is not None and found.expires_at <= now
                return Limits(version=found.version) if lapsed else found
        return Limits()

    def audit(self, after: int = 0, limit: int = 500) -> list[dict[str, Any]]:
        """Return audit rows after a number, in order."""
        rows = look(self.path, "SELECT seq, body, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
        return [{"seq": seq, **json.loads(body), "hash": digest} for seq, body, digest in rows]

    def verify(self, anchors: Sequence[Anchor] = ()) -> Break | None:
        """Return the first break of the audit chain, or None where it holds."""
        return verify(CHAIN, links(self.path, "audit"), anchors)

    def _look(self, where: str, *values: Any) -> list[Request]:
        return [_request(row) for row in look(self.path, f"SELECT {COLUMNS} FROM requests WHERE {where}", values)]


class Door(RequestReader):
    """What control reads: the log, and an emergency stop that came past it because it could not be stored."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._urgent: list[Request] = []

    def let_in(self, stop: Request) -> None:
        """Take a stop for the next cycle."""
        self._urgent.append(stop)

    def after(self, seq: int, limit: int = 100) -> Sequence[Request]:
        """Return a stop alone, for then the log may not be readable either; else the requests that came after `seq`, in order."""
        if self._urgent:
            found, self._urgent = self._urgent, []
            return found
        return super().after(seq, limit)


class RequestStore(RequestReader):
    """The writer, who can read as well.

    Control passes over every number that is not above the last one it took, and outcomes are found by number. So
    no number is given out twice, also not by a file that was begun anew or put back from an older copy. A file that
    cannot be opened at the start is opened later: the page is needed then, too.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.file = Writer(path, SCHEMA, durable=True, patient=True, ready=self._number_on)

    def _number_on(self, db: sqlite3.Connection, new: bool) -> None:
        """Let the numbers go on above all that the ledger beside this file knows of.

        A new file begins at the milliseconds since 1970 at least, in case that the ledger was renewed as well.
        """
        ledger = LedgerReader(self.path.with_name("ledger.db"))
        taken = 0
        with suppress(StoreError):  # then the time has to do
            taken = ledger.last_taken()
        found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'requests'").fetchone()
        last = begin = found[0] if found else 0
        if new and ledger.path.exists():
            begin = max(begin, int(epoch_s() * 1000))
        if taken and (new or taken > last):
            begin = max(begin, taken + UNDER_WAY)
        if begin != last:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM sqlite_sequence WHERE name = 'requests'")
            db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('requests', ?)", (begin,))
            db.execute("COMMIT")

    @property
    def notice(self) -> str | None:
        """What happened to a damaged file, for an alarm."""
        return self.file.notice

    def append(
        self,
        kind: str,
        asset: str | None,
        body: Mapping[str, Any],
        by: str,
        at: datetime,
        expires_at: datetime | None = None,
        idempotency_key: str | None = None,
        before: Any = None,
        after: Any = None,
    ) -> Request:
        """Store a request with its audit row; returns once both are durable.

        Parameters
        ----------
        at : datetime
            Server time [UTC]; what is stored grows strictly, by a microsecond if it must.
        idempotency_key : str | None
            The same key by the same user gives the first request back; with another request it is `KeyReused`.
        before, after : Any
            What the audit shows of the value that is asked to change.
        """
        text = canonical(body)
        with self.file.transaction() as db:
            if idempotency_key is not None:
                found = db.execute(f'SELECT {COLUMNS} FROM requests WHERE "by" = ? AND key = ?', (by, idempotency_key)).fetchone()
                if found:
                    if (found[2], found[3], found[4]) != (kind, asset, text):
                        raise KeyReused("this Idempotency-Key was used for another request", "Idempotency-Key", "a new key for a new request")
                    return _request(found)
            last = db.execute("SELECT max(at_us) FROM requests").fetchone()[0]
            at_us = micros(at) if last is None else max(micros(at), last + 1)
            row = (secrets.token_hex(8), kind, asset, text, by, at_us, None if expires_at is None else micros(expires_at), idempotency_key)
            cursor = db.execute('INSERT INTO requests (id, kind, asset, body, "by", at_us, expires_us, key) VALUES (?, ?, ?, ?, ?, ?, ?, ?)', row)
            seq = int(cursor.lastrowid or 0)
            self._audit(
                db, at_us, {"request": seq, "kind": kind, "asset": asset, "by": by, "why": body.get("reason"), "body": body, "before": before, "after": after}
            )
            return _request((seq, *row[:-1]))

    def note(self, kind: str, by: str, at: datetime, why: str, detail: Mapping[str, Any] | None = None) -> None:
        """Note what made no request: a refusal (`kind="security"`), a log-in, a new user."""
        with self.file.transaction() as db:
            self._audit(db, micros(at), {"kind": kind, "by": by, "why": why, "detail": dict(detail or {})})

    def _audit(self, db: Any, at_us: int, row: Mapping[str, Any]) -> None:
        newest = db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        seq, before = newest or (0, origin(CHAIN))
        new = link(before, seq + 1, canonical({**row, "at": iso(at_us)}))
        db.execute("INSERT INTO audit VALUES (?, ?, ?, ?)", (new.seq, at_us, new.body, new.hash))

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _request(row: Sequence[Any]) -> Request:
    seq, request_id, kind, asset, body, by, at_us, expires_us = row
    return Request(seq, request_id, kind, asset, json.loads(body), by, time_of(at_us), None if expires_us is None else time_of(expires_us))
