from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drivers.store.ledger import LedgerReader, LedgerStore
from ems.chain import Anchor
from ems.errors import StoreError
from ems.memory import Duty, Memory, UnitMemory
from ems.model import Limits, Outcome, Status
from ems.terms import Mode, Phase

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def book(ledger: LedgerStore, *minutes: float) -> None:
    for minute in minutes:
        ledger.minute(NOON + timedelta(minutes=minute), {"seconds": 60.0, "fuel_l": 1.2, "totals": {"fuel_l": minute}})


def kinds(path: Path) -> list[tuple[str, float]]:
    return [(row["kind"], row["seconds"]) for _, _, row in LedgerReader(path).after(0)]


def test_the_newest_outcome_holds_and_all_are_kept(path: Path) -> None:
    ledger, seen = LedgerStore(path), LedgerReader(path)
    assert seen.outcome(4) is None
    ledger.commit(NOON, [Outcome(4, Status.ACCEPTED), Outcome(5, Status.REJECTED, "superseded")], Memory(), 0)
    ledger.commit(NOON + timedelta(seconds=9), [Outcome(4, Status.DONE, None, "start seen")], Memory(), 0)
    assert seen.outcome(4) == {"seq": 4, "status": "done", "cause": None, "result": "start seen", "at": "2026-03-01T12:00:09Z"}
    assert ledger.file.rows("SELECT status FROM outcomes WHERE seq = 4 ORDER BY n") == [("accepted",), ("done",)]
    assert {seq: row["cause"] for seq, row in seen.outcomes([4, 5, 6]).items()} == {4: None, 5: "superseded"}
    assert seen.outcomes([]) == {}
    ledger.close()


def test_an_outcome_is_in_the_file_when_settle_returns(path: Path) -> None:
    ledger = LedgerStore(path)
    ledger.commit(NOON, [Outcome(4, Status.ACCEPTED)], Memory(), 0)
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())  # what a killed process leaves: file and log, as they stand on the disk
    copy.with_name("copy.db-wal").write_bytes(path.with_name("ledger.db-wal").read_bytes())
    assert LedgerStore(copy).file.rows("SELECT seq, status FROM outcomes") == [(4, "accepted")]
    ledger.close()


def test_minutes_are_a_chain_that_verifies(path: Path) -> None:
    ledger, seen = LedgerStore(path), LedgerReader(path)
    assert seen.verify() is None
    book(ledger, 0, 1, 2)
    ledger.close()
    ledger = LedgerStore(path)
    book(ledger, 3)
    assert kinds(path) == [("energy", 60.0)] * 4
    assert seen.verify() is None
    assert seen.last_seq() == 4
    newest = ledger.newest()
    assert newest is not None
    assert newest["totals"] == {"fuel_l": 3}
    assert seen.newest() == newest
    ledger.close()


def test_a_gap_is_booked_as_missing_and_the_clock_going_back_too(path: Path) -> None:
    ledger = LedgerStore(path)
    book(ledger, 0, 1, 10, 11, 4)
    assert kinds(path) == [("energy", 60.0), ("energy", 60.0), ("gap", 480.0), ("energy", 60.0), ("energy", 60.0), ("clock", 0.0), ("energy", 60.0)]
    rows = LedgerReader(path).minutes(NOON, NOON + timedelta(hours=7))
    assert [row["at"] for row in rows][1:3] == ["2026-03-01T12:01:00Z", "2026-03-01T12:02:00Z"]
    assert [row["kind"] for row in rows] == [kind for kind, _ in kinds(path)]  # in the order they were booked
    newest = ledger.newest()
    assert newest is not None
    assert newest["totals"]["fuel_l"] == 4
    ledger.close()


@pytest.mark.parametrize(
    ("what", "tamper"),
    [
        ("changed", "UPDATE minutes SET body = replace(body, '1.2', '1.1') WHERE seq = 3"),
        ("dropped", "DELETE FROM minutes WHERE seq = 3"),
        ("moved", "UPDATE minutes SET body = (SELECT body FROM minutes WHERE seq = 4) WHERE seq = 3"),
        ("cut", "DELETE FROM minutes WHERE seq >= 3"),
    ],
)
def test_tampering_names_the_first_bad_row(path: Path, what: str, tamper: str) -> None:
    ledger = LedgerStore(path)
    book(ledger, *range(6))
    anchor = Anchor(*ledger.file.rows("SELECT seq, hash FROM minutes ORDER BY seq DESC LIMIT 1")[0])
    ledger.close()
    with sqlite3.connect(path) as db:
        db.execute(tamper)
    db.close()
    found = LedgerReader(path).verify([anchor])
    assert found is not None, what
    assert found.seq == 3


def test_memory_comes_back_with_its_cycle(path: Path) -> None:
    ledger = LedgerStore(path)
    assert ledger.load_memory() is None
    memory = Memory(mode=Mode.MANUAL, units={"dg1": UnitMemory(Phase.LOCKED, 3.0)}, limits={"pv1": Limits(max_kw=80.0, reason="x", version=3)}, taken_seq=7)
    memory = replace(memory, done_kwh={"ice": 80.0}, duties={"ice": Duty(True, 900.0, 2)}, day="2026-03-01")
    ledger.commit(NOON, (), Memory(), 10)
    ledger.commit(NOON, (), memory, 11)
    ledger.close()
    assert LedgerStore(path).load_memory() == (memory, 11)


def test_a_memory_of_an_older_version_is_read_as_far_as_it_goes(path: Path) -> None:
    ledger = LedgerStore(path)
    ledger.commit(NOON, (), Memory(done_kwh={"ice": 80.0}, day="2026-03-01"), 10)
    ledger.file.rows("UPDATE memory SET body = json_remove(body, '$.duties')")
    ledger.close()
    assert "duties" not in LedgerStore(path).file.rows("SELECT body FROM memory")[0][0]
    found = LedgerStore(path).load_memory()
    assert found == (Memory(done_kwh={"ice": 80.0}, day="2026-03-01"), 10)


def test_a_memory_that_cannot_be_read_is_an_error_that_says_so(path: Path) -> None:
    ledger = LedgerStore(path)
    ledger.commit(NOON, (), Memory(), 10)
    ledger.file.rows("""UPDATE memory SET body = '{"mode": "flying"}'""")
    with pytest.raises(StoreError, match="memory"):
        ledger.load_memory()
    ledger.close()


def test_outcomes_and_memory_are_committed_together_or_not_at_all(path: Path) -> None:
    ledger = LedgerStore(path)
    ledger.commit(NOON, [Outcome(1, Status.ACCEPTED)], Memory(taken_seq=1), 5)
    ledger.file.rows(f"PRAGMA max_page_count = {ledger.file.rows('PRAGMA page_count')[0][0]}")
    with pytest.raises(StoreError, match="full"):
        ledger.commit(NOON, [Outcome(2, Status.ACCEPTED)], Memory(taken_seq=2, day="x" * 100_000), 6)
    assert LedgerReader(path).outcome(2) is None
    assert ledger.load_memory() == (Memory(taken_seq=1), 5)
    ledger.close()


@pytest.mark.parametrize("call", ["outcomes", "minute", "memory"])
def test_a_full_disk_is_loud_and_changes_nothing(path: Path, call: str) -> None:
    ledger = LedgerStore(path)
    book(ledger, 0, 1)
    ledger.file.rows(f"PRAGMA max_page_count = {ledger.file.rows('PRAGMA page_count')[0][0]}")
    big: Any = "x" * 100_000
    with pytest.raises(StoreError, match="full"):
        if call == "outcomes":
            ledger.commit(NOON, [Outcome(1, Status.DONE, result=big)], Memory(), 0)
        elif call == "minute":
            ledger.minute(NOON + timedelta(minutes=2), {"seconds": 60.0, "note": big})
        else:
            ledger.commit(NOON, (), Memory(day=big), 1)
    ledger.file.rows("PRAGMA max_page_count = 100000")
    book(ledger, 2)
    assert kinds(path) == [("energy", 60.0)] * 3
    assert LedgerReader(path).verify() is None
    ledger.close()
