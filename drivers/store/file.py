"""One SQLite file: one writer, short readers.

Only the writer checkpoints (SQLite before 3.51.3 can damage a WAL that two connections reset), readers
open read-only, for at most 200 ms each. A file that cannot be used is moved aside, never repaired or
deleted, and a new one is begun: `Writer.notice` says so once, for an alarm. Where that fails (a full disk) it
is tried again with every call.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import RLock
from typing import Any

from ems.clock import epoch_s, real_s
from ems.errors import StoreError

BUSY_S = 0.2
WAL_LIMIT_BYTES = 16 * 2**20
"""Above this the writer cuts its write-ahead log; an alarm is due at four times as much."""
CHECK_S = 2.0
"""How long the check at start may take: a large file is not worth minutes without control."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(time: datetime) -> int:
    """Return microseconds since 1970 of a stamp [UTC], exactly."""
    return (time - EPOCH) // timedelta(microseconds=1)


def time_of(at_us: int) -> datetime:
    """Return the stamp [UTC] of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=at_us)


def iso(at_us: int | None) -> str | None:
    """Return the ISO 8601 text of microseconds since 1970, as REST shows it."""
    return None if at_us is None else time_of(at_us).isoformat().replace("+00:00", "Z")


class Writer:
    """The one connection that may write a file.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.
    schema : str
        Statements that make what is not there yet.
    durable : bool
        True: a commit survives a power cut (FULL). False: the last commits may be lost then, never the file.
    patient : bool
        Whether a file that cannot be opened yet is left to the first call that needs it.
    ready : Callable[[sqlite3.Connection, bool], None] | None
        Called whenever the file has been opened, before its first use, and told whether it is a new one.
    """

    def __init__(self, path: Path, schema: str, durable: bool, patient: bool = False, ready: Callable[[sqlite3.Connection, bool], None] | None = None) -> None:
        self.path = path
        self.notice: str | None = None
        self.renewals = 0
        self._schema = schema
        self._durable = durable
        self._ready = ready
        self._lock = RLock()
        self._closed = False
        self._db: sqlite3.Connection | None = None
        try:
            self._db = self._open_or_renew()
        except StoreError:
            if not patient:
                raise

    def _opened(self) -> sqlite3.Connection:
        """Return the connection; open it where it is lost, and begin a new file where somebody took ours away: nobody reads that one."""
        if self._db is not None and not self.path.exists():
            self._let_go()
        if self._db is None:
            if self._closed:
                raise StoreError("the file was closed", str(self.path), "a call before the end")
            self._db = self._open_or_renew()
        return self._db

    def _let_go(self) -> None:
        """Close the connection; the next call opens another."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

    def _open_or_renew(self) -> sqlite3.Connection:
        try:
            return self._open()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not damaged(error):
                raise StoreError(f"cannot open the database: {error}", str(self.path), "a writable SQLite file") from error
            self._move_aside(error)
        try:
            return self._open()
        except sqlite3.Error as error:
            raise StoreError(f"cannot begin a new database: {error}", str(self.path), "a writable folder") from error

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
            db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES // 2}")
            db.execute("PRAGMA mmap_size = 0")
            check(db)
            db.executescript(f"BEGIN IMMEDIATE; {self._schema}; COMMIT;")
            new = db.execute("PRAGMA user_version").fetchone()[0] == 0
            if self._ready is not None:
                self._ready(db, new)
            if new:
                db.execute(f"PRAGMA user_version = {secrets.randbelow(2**31 - 1) + 1}")
        except BaseException:
            db.close()
            raise
        return db

    def _move_aside(self, error: Exception) -> None:
        """Keep the bad file under a name of its own, with its log."""
        kept = self.path.with_name(f"{self.path.name}.damaged-{int(epoch_s() * 1000)}")
        try:
            for ending in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + ending).rename(kept.with_name(kept.name + ending))
        except OSError as refused:
            raise StoreError(f"damaged ({error}) and cannot be moved aside: {refused}", str(self.path), "a writable folder") from error
        self.renewals += 1
        self.notice = f"{self.path.name} was damaged ({error}); it is kept as {kept.name} and a new file was begun"

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what is done inside, or nothing; any failure of the file is a `StoreError`.

        A file found damaged on the way is moved aside; the next transaction goes into a new one.
        """
        with self._lock:
            try:
                db = self._opened()
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except sqlite3.Error as error:
                self._give_up()
                if damaged(error):
                    self._let_go()
                    self._move_aside(error)
                    self._db = self._open_or_renew()
                raise StoreError(f"cannot write: {error}", str(self.path), "a disk with room and a sound file") from error
            except BaseException:
                self._give_up()
                raise

    def _give_up(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):  # a failed commit may have rolled back already
                self._db.execute("ROLLBACK")

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query on the writer's own connection."""
        with self._lock:
            try:
                return self._opened().execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"cannot read: {error}", str(self.path), "a sound file") from error

    def trim_log(self) -> int:
        """Cut the write-ahead log where it has grown; return its size [bytes] (a reader may have held it)."""
        if self.log_bytes() > WAL_LIMIT_BYTES:
            self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.log_bytes()

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log [bytes]."""
        log = self.path.with_name(self.path.name + "-wal")
        return log.stat().st_size if log.exists() else 0

    def close(self) -> None:
        """Close the file for good; the log is folded into it."""
        with self._lock:
            self._closed = True
            self._let_go()


def check(db: sqlite3.Connection) -> None:
    """Look for damage, for at most `CHECK_S`; raise `sqlite3.DatabaseError` where there is some."""
    until = real_s() + CHECK_S
    db.set_progress_handler(lambda: int(real_s() > until), 20_000)
    try:
        found = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        found = ("ok",)
    finally:
        db.set_progress_handler(None, 0)
    if found is None or found[0] != "ok":
        raise sqlite3.DatabaseError(f"database disk image is malformed: {found}")


def damaged(error: Exception) -> bool:
    """Whether an error means that the file itself is bad, not the disk, the rights or a lock."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "malformed" in str(error) or isinstance(error, UnicodeDecodeError)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextmanager
def reader(path: Path, limit_s: float = BUSY_S) -> Iterator[sqlite3.Connection]:
    """Open a file for one short look; a query that takes longer than `limit_s` in all is ended.

    Read-only connections never checkpoint, so the writer stays the only one that does.
    """
    until = real_s() + limit_s
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=limit_s, isolation_level=None)) as db:
            db.execute("PRAGMA query_only = 1")
            db.set_progress_handler(lambda: int(real_s() > until), 10_000)
            yield db
    except sqlite3.Error as error:
        raise StoreError(f"cannot read: {error}", str(path), f"a sound file and an answer within {limit_s:g} s") from error


def birth(path: Path) -> int:
    """Return a number that a file was given when it was begun, so that a new one in its place is known; 0 without a file."""
    found = look(path, "PRAGMA user_version")
    return int(found[0][0]) if found else 0


def look(path: Path, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of one query; of a file that is not there yet: none."""
    if not path.exists():
        return []
    with reader(path) as db:
        return db.execute(sql, values).fetchall()
