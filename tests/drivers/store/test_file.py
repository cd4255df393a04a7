from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers.store import file
from drivers.store.file import Writer, birth, iso, look, micros, reader, time_of
from ems.errors import StoreError

SCHEMA = "CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, text TEXT)"


def put(writer: Writer, text: str) -> None:
    with writer.transaction() as db:
        db.execute("INSERT INTO t (text) VALUES (?)", (text,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.db"


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_a_writer_uses_a_log_and_the_sync_it_was_asked_for(path: Path, durable: bool, level: int) -> None:
    writer = Writer(path, SCHEMA, durable)
    assert writer.rows("PRAGMA journal_mode") == [("wal",)]
    assert writer.rows("PRAGMA synchronous") == [(level,)]
    writer.close()


def test_what_is_committed_is_seen_and_what_fails_is_not(path: Path) -> None:
    writer = Writer(path, SCHEMA, durable=True)
    put(writer, "kept")
    with pytest.raises(ZeroDivisionError), writer.transaction() as db:
        db.execute("INSERT INTO t (text) VALUES ('lost')")
        raise ZeroDivisionError
    assert look(path, "SELECT text FROM t") == [("kept",)]
    put(writer, "after")
    assert len(look(path, "SELECT text FROM t")) == 2
    writer.close()


def test_a_file_that_is_not_there_yet_is_empty_for_a_reader(path: Path) -> None:
    assert look(path, "SELECT 1") == []
    assert birth(path) == 0
    assert not path.exists()


def test_a_reader_cannot_write_and_never_checkpoints(path: Path) -> None:
    writer = Writer(path, SCHEMA, durable=False)
    put(writer, "x")
    before = path.read_bytes(), writer.log_bytes()
    with pytest.raises(StoreError), reader(path) as db:
        db.execute("DELETE FROM t")
    assert look(path, "SELECT text FROM t") == [("x",)]
    assert (path.read_bytes(), writer.log_bytes()) == before
    left = path.with_name("left.db")  # as a killed writer leaves it: the reader is alone with file and log
    left.write_bytes(before[0])
    left.with_name("left.db-wal").write_bytes(path.with_name("some.db-wal").read_bytes())
    assert look(left, "SELECT text FROM t") == [("x",)]
    assert (left.read_bytes(), left.with_name("left.db-wal").stat().st_size) == before
    writer.close()


def test_a_long_look_is_ended(path: Path) -> None:
    writer = Writer(path, SCHEMA, durable=False)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(StoreError, match="interrupted"), reader(path, limit_s=0.05) as db:
        db.execute(endless)
    writer.close()


def damage_header(path: Path) -> None:
    path.write_bytes(b"no database at all" + path.read_bytes()[18:])


def damage_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def no_room(writer: Writer) -> sqlite3.Connection:
    raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize("damage", [damage_header, damage_page, cut])
def test_a_damaged_file_is_kept_aside_and_a_new_one_is_begun(path: Path, damage: object) -> None:
    writer = Writer(path, SCHEMA, durable=True)
    for n in range(200):
        put(writer, f"row {n} " + "x" * 100)
    born = birth(path)
    writer.close()
    assert callable(damage)
    damage(path)
    bad = path.read_bytes()
    writer = Writer(path, SCHEMA, durable=True)
    assert writer.notice is not None
    (kept,) = [p for p in path.parent.iterdir() if ".damaged-" in p.name]
    assert kept.name in writer.notice
    assert kept.read_bytes() == bad
    assert writer.rows("SELECT * FROM t") == []
    assert birth(path) not in (0, born)
    put(writer, "goes on")
    writer.close()
    assert Writer(path, SCHEMA, durable=True).notice is None


def test_damage_found_while_running_costs_one_write_and_says_so(path: Path) -> None:
    writer = Writer(path, SCHEMA, durable=True)
    for n in range(200):
        put(writer, f"row {n} " + "x" * 100)
    writer.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    damage_page(path)
    writer.rows("PRAGMA shrink_memory")
    with pytest.raises(StoreError, match="malformed"), writer.transaction() as db:
        db.execute("SELECT sum(length(text)) FROM t").fetchall()
        db.execute("INSERT INTO t (text) VALUES ('x')")
    assert writer.renewals == 1
    assert writer.notice is not None
    put(writer, "goes on")
    assert look(path, "SELECT text FROM t") == [("goes on",)]
    writer.close()


def test_a_file_that_cannot_be_renewed_at_once_is_renewed_when_it_can(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(path, SCHEMA, durable=True)
    writer.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    damage_header(path)
    writer.rows("PRAGMA shrink_memory")
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_open", no_room)
        for _ in range(3):
            with pytest.raises(StoreError, match="full|database"):
                put(writer, "x")
            with pytest.raises(StoreError, match="full"):
                writer.rows("SELECT * FROM t")
    assert not path.exists(), "it was moved aside, and nothing is in its place yet"
    put(writer, "goes on")
    assert look(path, "SELECT text FROM t") == [("goes on",)]
    assert writer.renewals == 1
    assert writer.notice is not None
    writer.close()
    with pytest.raises(StoreError, match="closed"):
        put(writer, "after the end")


def test_a_patient_writer_opens_its_file_when_it_can(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "no" / "some.db", SCHEMA, durable=True, patient=True)
    with pytest.raises(StoreError, match="cannot open"):
        put(writer, "x")
    (tmp_path / "no").mkdir()
    put(writer, "now")
    assert look(writer.path, "SELECT text FROM t") == [("now",)]
    writer.close()


def test_a_file_that_was_taken_away_is_begun_anew(path: Path) -> None:
    writer = Writer(path, SCHEMA, durable=True)
    put(writer, "gone")
    path.unlink()
    put(writer, "here")
    assert look(path, "SELECT text FROM t") == [("here",)]
    writer.close()


def test_a_folder_that_is_not_there_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot open"):
        Writer(tmp_path / "no" / "some.db", SCHEMA, durable=True)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_refuses_and_recovers_by_itself(path: Path) -> None:
    writer = Writer(path, SCHEMA, durable=True)
    writer.rows(f"PRAGMA max_page_count = {writer.rows('PRAGMA page_count')[0][0]}")
    with pytest.raises(StoreError, match="full"):
        put(writer, "x" * 100_000)
    assert writer.notice is None
    writer.rows("PRAGMA max_page_count = 100000")
    put(writer, "x" * 100_000)
    writer.close()


def test_another_writer_is_waited_for_shortly_only(path: Path) -> None:
    writer = Writer(path, SCHEMA, durable=True)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        put(writer, "x")
    other.execute("ROLLBACK")
    other.close()
    put(writer, "x")
    writer.close()


def test_a_writer_may_be_used_from_several_threads(path: Path) -> None:
    writer = Writer(path, SCHEMA, durable=False)

    def fifty() -> None:
        for _ in range(50):
            put(writer, "x")

    threads = [threading.Thread(target=fifty) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert look(path, "SELECT count(*) FROM t") == [(200,)]
    writer.close()


def test_a_grown_log_is_cut_by_the_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "WAL_LIMIT_BYTES", 50_000)
    writer = Writer(path, SCHEMA, durable=False)
    with reader(path, limit_s=20.0) as db:
        db.execute("BEGIN")
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
        for _ in range(20):
            put(writer, "x" * 10_000)
        assert writer.trim_log() > 50_000  # a reader holds it
        db.execute("COMMIT")
    assert writer.trim_log() == 0
    writer.close()


@pytest.mark.parametrize("at_us", [0, 1_772_366_400_123_456, 253_402_300_799_999_999, -1])
def test_stamps_are_exact_to_the_microsecond(at_us: int) -> None:
    assert micros(time_of(at_us)) == at_us
    assert micros(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == 1_000_000
    assert iso(0) == "1970-01-01T00:00:00Z"
    assert iso(None) is None
