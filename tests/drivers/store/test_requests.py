from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drivers.store import requests
from drivers.store.ledger import LedgerReader, LedgerStore
from drivers.store.requests import Door, KeyReused, RequestReader, RequestStore
from ems.errors import StoreError
from ems.memory import Memory
from ems.model import UNNUMBERED, Limits, Outcome, Request, Status

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
START = {"action": "start", "reason": "test"}


@pytest.fixture
def store(tmp_path: Path) -> RequestStore:
    return RequestStore(tmp_path / "site.db")


def limit(store: RequestStore, at_s: float, expires_s: float | None = None, **body: object) -> Request:
    expires = None if expires_s is None else NOON + timedelta(seconds=expires_s)
    return store.append("limits", "pv1", {"reason": "r", **body}, "kim", NOON + timedelta(seconds=at_s), expires)


def test_a_request_is_read_back_by_control_in_order(store: RequestStore) -> None:
    seen = RequestReader(store.path)
    first = store.append("command", "dg1", START, "kim", NOON, NOON + timedelta(minutes=5))
    second = store.append("stop", None, {"reason": "fire"}, "lee", NOON)
    assert [first.seq, second.seq] == [1, 2]
    assert list(seen.after(0)) == [first, second]
    assert list(seen.after(1)) == [second]
    assert first == Request(1, first.id, "command", "dg1", START, "kim", NOON, NOON + timedelta(minutes=5))
    assert seen.find(first.id) == first
    assert seen.find("none") is None
    assert [r.seq for r in seen.newest()] == [2, 1]
    assert [r.seq for r in seen.newest(kind="command", asset="dg1")] == [1]
    store.close()


def test_before_the_first_request_there_is_none(tmp_path: Path) -> None:
    assert list(RequestReader(tmp_path / "site.db").after(0)) == []


def test_at_grows_strictly_even_if_the_clock_does_not(store: RequestStore) -> None:
    ats = [store.append("ack", None, {}, "kim", at).at for at in (NOON, NOON, NOON - timedelta(hours=1), NOON + timedelta(seconds=1))]
    assert ats == sorted(set(ats))
    assert ats[0] == NOON
    assert ats[3] == NOON + timedelta(seconds=1)
    store.close()


def test_one_key_is_one_request(store: RequestStore) -> None:
    first = store.append("command", "dg1", START, "kim", NOON, None, "k1")
    assert store.append("command", "dg1", dict(reversed(START.items())), "kim", NOON + timedelta(seconds=5), None, "k1") == first
    assert store.keyed("kim", "k1") == first
    for kind, asset, body in (("command", "dg2", START), ("command", "dg1", {**START, "action": "stop"}), ("mode", "dg1", START)):
        with pytest.raises(KeyReused):
            store.append(kind, asset, body, "kim", NOON, None, "k1")
    other = store.append("command", "dg1", START, "lee", NOON, None, "k1")
    assert other.seq == 2
    assert len(store.after(0)) == 2
    assert len(store.audit()) == 2
    store.close()


def test_a_request_is_in_the_file_when_append_returns(store: RequestStore) -> None:
    made = store.append("command", "dg1", START, "kim", NOON)
    copy = store.path.with_name("copy.db")
    copy.write_bytes(store.path.read_bytes())
    copy.with_name("copy.db-wal").write_bytes(store.path.with_name("site.db-wal").read_bytes())
    assert list(RequestStore(copy).after(0)) == [made]
    store.close()


def test_the_newest_limits_hold_whole_and_name_their_version(store: RequestStore) -> None:
    assert store.limits("pv1", NOON) == Limits()
    limit(store, 0, max_kw=100.0, min_kw=None, out_of_service=False)
    limit(store, 1, max_kw=None, soc_min=0.3)
    assert store.limits("pv1", NOON) == Limits(soc_min=0.3, reason="r", by="kim", version=2)
    assert store.limits("dg1", NOON) == Limits()
    store.close()


def test_refused_limits_do_not_count(store: RequestStore) -> None:
    limit(store, 0, max_kw=100.0)
    limit(store, 1, max_kw=50.0)
    found = store.limits("pv1", NOON, refused=[2])
    assert (found.max_kw, found.version) == (100.0, 1)
    store.close()


@pytest.mark.parametrize(("at_s", "max_kw"), [(59.0, 80.0), (60.0, None), (61.0, None)])
def test_limits_lapse_and_leave_their_version(store: RequestStore, at_s: float, max_kw: float | None) -> None:
    limit(store, 0, expires_s=60, max_kw=80.0)
    found = store.limits("pv1", NOON + timedelta(seconds=at_s))
    assert (found.max_kw, found.version) == (max_kw, 1)
    store.close()


def test_the_audit_says_who_when_why_before_and_after(store: RequestStore) -> None:
    store.append("limits", "pv1", {"max_kw": 80.0, "reason": "wind"}, "kim", NOON, before={"max_kw": None}, after={"max_kw": 80.0})
    store.note("security", "lee", NOON + timedelta(seconds=1), "wrong password", {"source": "10.0.0.9"})
    first, second = store.audit()
    assert {name: first[name] for name in ("request", "kind", "asset", "by", "why", "before", "after", "at")} == {
        "request": 1,
        "kind": "limits",
        "asset": "pv1",
        "by": "kim",
        "why": "wind",
        "before": {"max_kw": None},
        "after": {"max_kw": 80.0},
        "at": "2026-03-01T12:00:00Z",
    }
    assert (second["kind"], second["by"], second["why"], second["detail"]) == ("security", "lee", "wrong password", {"source": "10.0.0.9"})
    assert store.verify() is None
    assert [row["seq"] for row in store.audit(after=1)] == [2]
    store.close()


def test_an_audit_that_was_changed_is_found(store: RequestStore) -> None:
    for n in range(4):
        store.append("ack", None, {"n": n}, "kim", NOON)
    store.close()
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE audit SET body = replace(body, 'kim', 'lee') WHERE seq = 2")
    db.close()
    found = RequestReader(store.path).verify()
    assert found is not None
    assert found.seq == 2


# ------------------------------------------------------------------ past the log
def test_a_stop_past_the_log_is_told_once_and_alone_whatever_the_log_is_like(store: RequestStore) -> None:
    stored, past = stop(store), Request(UNNUMBERED, "x", "stop", None, {"reason": "fire"}, "kim", NOON)
    door = Door(store.path)
    door.let_in(past)
    assert list(door.after(0)) == [past]
    assert list(door.after(0)) == [stored]
    store.close()
    damage(store.path)
    door.let_in(past)
    assert list(door.after(0)) == [past]
    with pytest.raises(StoreError):
        door.after(0)


# ------------------------------------------------------------------ no number twice
def stop(store: RequestStore) -> Request:
    return store.append("stop", None, {"reason": "fire"}, "kim", NOON)


def taken_by_control(store: RequestStore, outcomes: bool = True) -> int:
    """Let control take forty orders; return the number of the last one."""
    seqs = [store.append("mode", None, {"mode": "auto", "reason": str(n)}, "kim", NOON).seq for n in range(40)]
    ledger = LedgerStore(store.path.with_name("ledger.db"))
    ledger.commit(NOON, [Outcome(seq, Status.DONE) for seq in seqs if outcomes], Memory(taken_seq=seqs[-1]), 1)
    ledger.close()
    return seqs[-1]


def damage(path: Path) -> None:
    path.write_bytes(b"\xff" * 8192)


def put_back(path: Path) -> None:
    """Put an old copy in its place: five orders of long ago."""
    path.unlink()
    path.with_name("ledger.db").rename(path.with_name("kept"))
    old = RequestStore(path)
    for _ in range(5):
        stop(old)
    old.close()
    path.with_name("kept").rename(path.with_name("ledger.db"))


@pytest.mark.parametrize("epoch_s", [0.0, 1.8e9], ids=["clock lost", "clock right"])
@pytest.mark.parametrize("outcomes", [True, False], ids=["outcomes", "memory alone"])
@pytest.mark.parametrize("lose", [damage, Path.unlink, put_back])
def test_what_is_ordered_after_a_loss_of_the_file_reaches_control(
    store: RequestStore, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Path], None], outcomes: bool, epoch_s: float
) -> None:
    monkeypatch.setattr(requests, "epoch_s", lambda: epoch_s)
    taken = taken_by_control(store, outcomes)
    store.close()
    lose(store.path)
    again = RequestStore(store.path)
    order = stop(again)
    assert list(RequestReader(store.path).after(taken)) == [order]
    assert LedgerReader(store.path.with_name("ledger.db")).outcome(order.seq) is None
    assert (again.notice is not None) is (lose is damage)
    again.close()
    later = RequestStore(store.path)
    assert stop(later).seq == order.seq + 1, "a restart leaves the numbers alone"
    later.close()


def test_a_file_that_is_taken_away_while_we_write_is_begun_anew_above_all_numbers(store: RequestStore) -> None:
    taken = taken_by_control(store)
    store.path.unlink()
    order = stop(store)
    assert list(RequestReader(store.path).after(taken)) == [order]
    store.close()


def test_a_file_found_damaged_while_we_write_goes_on_above_all_numbers(store: RequestStore) -> None:
    taken = taken_by_control(store)
    store.file.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(store.path)
    store.file.rows("PRAGMA shrink_memory")
    with pytest.raises(StoreError):
        stop(store)
    order = stop(store)
    assert list(RequestReader(store.path).after(taken)) == [order]
    assert store.notice is not None
    store.close()


def test_without_a_ledger_that_can_be_read_a_new_file_begins_at_the_time(store: RequestStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "epoch_s", lambda: 1.8e9)
    taken = taken_by_control(store)
    store.close()
    damage(store.path)
    shutil.copy(store.path, store.path.with_name("ledger.db"))
    again = RequestStore(store.path)
    assert stop(again).seq == 1_800_000_000_001 > taken
    again.close()
