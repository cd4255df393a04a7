"""uplink.db: how far each stream has been delivered, and what the far side would not take. Written by uplink.

The data itself stays in history and ledger until it has arrived: the cursor is all that moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from drivers.store.file import Writer, iso, micros

SCHEMA = """
CREATE TABLE IF NOT EXISTS cursors (stream TEXT PRIMARY KEY, birth INTEGER NOT NULL, position INTEGER NOT NULL, delivered INTEGER NOT NULL,
    thinned INTEGER NOT NULL, at_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine (n INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, at_us INTEGER NOT NULL,
    line TEXT NOT NULL, cause TEXT NOT NULL)
"""
QUARANTINE_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream has come.

    Attributes
    ----------
    birth : int
        Which file the position belongs to.
    position : int
        Number of the last source row that has arrived.
    delivered : int
        Lines that have arrived since the beginning.
    thinned : int
        Source rows that the store had to give up before they could be sent.
    """

    birth: int = 0
    position: int = 0
    delivered: int = 0
    thinned: int = 0


@dataclass(frozen=True, slots=True)
class Poison:
    """One line that the far side refuses for good, and its words."""

    line: str
    cause: str


class Outbox:
    """The writer."""

    def __init__(self, path: Path) -> None:
        self.file = Writer(path, SCHEMA, durable=True)

    @property
    def notice(self) -> str | None:
        """What happened to a damaged file; without cursors everything is sent again, which does no harm."""
        return self.file.notice

    def cursor(self, stream: str) -> Cursor:
        """Return how far a stream has come."""
        found = self.file.rows("SELECT birth, position, delivered, thinned FROM cursors WHERE stream = ?", (stream,))
        return Cursor(*found[0]) if found else Cursor()

    def advance(self, stream: str, cursor: Cursor, time: datetime, poison: Sequence[Poison] = ()) -> None:
        """Move on, in one step with what was set aside on the way."""
        with self.file.transaction() as db:
            db.executemany("INSERT INTO quarantine (stream, at_us, line, cause) VALUES (?, ?, ?, ?)", [(stream, micros(time), p.line, p.cause) for p in poison])
            db.execute("DELETE FROM quarantine WHERE n <= (SELECT max(n) FROM quarantine) - ?", (QUARANTINE_ROWS,))
            row = (stream, cursor.birth, cursor.position, cursor.delivered, cursor.thinned, micros(time))
            db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?, ?)", row)

    def quarantined(self) -> list[dict[str, str | None]]:
        """Return what was set aside, oldest first."""
        rows = self.file.rows("SELECT stream, at_us, line, cause FROM quarantine ORDER BY n")
        return [{"stream": stream, "at": iso(at_us), "line": line, "cause": cause} for stream, at_us, line, cause in rows]

    def close(self) -> None:
        """Close the file."""
        self.file.close()
