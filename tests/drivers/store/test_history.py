from __future__ import annotations

import json
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drivers.store import history as module
from drivers.store.history import History, HistoryReader, Retention, unpack_minute
from drivers.store.points import flat, means
from ems.decision import Event
from ems.errors import BadInput, StoreError
from ems.plan import Forecast, Grid, Plan
from ems.record import unpack
from ems.terms import Alarm

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def state(cycle: int, pv_kw: float | None = 100.0, quality: str = "good") -> dict[str, Any]:
    return {
        "cycle": cycle,
        "time": "...",
        "load_kw": 300.0,
        "unserved_kw": None,
        "reserve": {"required_kw": 50.0, "contingency": "load"},
        "co2": {"displaced_kg_today": 1.0},
        "alarms": {"active": 2},
        "feeders": {"f1": {"closed": True, "shed_by": None}},
        "assets": {"pv1": {"kind": "solar", "power_kw": pv_kw, "quality": quality}, "dg1": {"power_kw": 200.0, "running": True, "quality": "good"}},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def fill(history: History, seconds: int, step_s: int = 1, first: int = 1, start: datetime = NOON) -> None:
    for n, s in enumerate(range(0, seconds, step_s)):
        history.append(first + n, start + timedelta(seconds=s), state(first + n, float(s)), f"record {first + n}".encode())


def test_the_newest_state_is_the_newest_cycle(path: Path) -> None:
    history, seen = History(path), HistoryReader(path)
    assert seen.newest_state() is None
    assert (history.last_cycle(), seen.last_cycle()) == (0, 0)
    fill(history, 3)
    assert seen.newest_state() == state(3, 2.0)
    assert (history.last_cycle(), seen.last_cycle()) == (3, 3)
    history.close()


def test_what_kill_leaves_behind_is_every_cycle(path: Path) -> None:
    history = History(path)
    fill(history, 5)
    assert HistoryReader(path).last_cycle() == 5  # committed, though never closed
    again = History(path)
    assert again.last_cycle() == 5
    assert again.notice is None


def test_a_minute_that_is_over_becomes_means_also_across_a_restart(path: Path) -> None:
    history = History(path)
    fill(history, 30)
    history.close()
    history = History(path)
    fill(history, 31, first=31, start=NOON + timedelta(seconds=30))
    ((seq, at_us, points),) = HistoryReader(path).minutes_after(0, 10)
    assert (seq, at_us) == (1, int(NOON.timestamp() * 1e6))
    # 0..29 twice: from the restart on they begin again
    assert points["pv1.power_kw"] == pytest.approx(14.5)
    assert points["dg1.running"] == 1.0
    assert points["reserve.required_kw"] == 50.0
    assert "unserved_kw" not in points
    assert "reserve.contingency" not in points
    history.close()


def test_flat_leaves_out_what_is_missing_and_codes_quality() -> None:
    assert flat(state(1, None, "suspect")) == {
        "load_kw": 300.0,
        "reserve.required_kw": 50.0,
        "co2.displaced_kg_today": 1.0,
        "alarms.active": 2.0,
        "f1.closed": 1.0,
        "pv1.quality_code": 1.0,
        "dg1.power_kw": 200.0,
        "dg1.running": 1.0,
        "dg1.quality_code": 0.0,
    }


def test_means_take_what_is_there_and_the_worst_of_codes() -> None:
    assert means([{"a": 1.0, "q_code": 0.0}, {"a": 2.0, "q_code": 2.0}, {"q_code": 0.0, "b": 5.0}]) == {"a": 1.5, "b": 5.0, "q_code": 2.0}
    assert means([]) == {}


def test_charts_at_seconds_minutes_and_hours(path: Path) -> None:
    history, seen = History(path), HistoryReader(path)
    fill(history, 25 * 60, step_s=5)
    found = seen.points(["pv1.power_kw", "dg1.fuel_l"], NOON + timedelta(seconds=20), NOON + timedelta(seconds=40), 10.0)
    assert found == {
        "time": ["2026-03-01T12:00:20Z", "2026-03-01T12:00:30Z"],
        "columns": {"pv1.power_kw": [22.5, 32.5], "dg1.fuel_l": [None, None]},
    }
    found = seen.points(["pv1.power_kw"], NOON - timedelta(minutes=1), NOON + timedelta(minutes=2), 60.0)
    assert found["columns"]["pv1.power_kw"] == [None, 27.5, 87.5]
    found = seen.points(["pv1.power_kw"], NOON, NOON + timedelta(minutes=10), 300.0)
    assert found["columns"]["pv1.power_kw"] == [147.5, 447.5]
    found = seen.points(["pv1.power_kw"], NOON, NOON + timedelta(hours=1), 3600.0)
    assert found["columns"]["pv1.power_kw"] == [pytest.approx(24 * 30 - 2.5)]  # the 24 minutes that are over
    history.close()


@pytest.mark.parametrize(("hours", "step_s"), [(24, 1.0), (1, 0.0), (0, 60.0), (-1, 60.0)])
def test_a_chart_without_end_or_beginning_is_refused(path: Path, hours: int, step_s: float) -> None:
    with pytest.raises(BadInput):
        HistoryReader(path).points(["load_kw"], NOON, NOON + timedelta(hours=hours), step_s)


def test_old_cycles_are_packed_and_nothing_of_their_records_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH_MINUTES", 2)
    history = History(path)
    fill(history, 10 * 60, step_s=10)
    packed = [row for (body,) in history.file.rows("SELECT body FROM packs ORDER BY first_cycle") for row in unpack_minute(body)]
    fresh = history.file.rows("SELECT cycle, at_us, record FROM cycles ORDER BY cycle")
    assert [*packed, *fresh] == [(n, int((NOON.timestamp() + 10 * (n - 1)) * 1e6), f"record {n}".encode()) for n in range(1, 61)]
    assert 6 <= len(fresh) <= 24
    assert history.last_cycle() == 60
    history.close()


def test_rings_are_bounded_by_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH_MINUTES", 2)
    history = History(path, Retention(packs=3, minutes=5, hours=1, plans=2, events=4, alarms=1))
    for n in range(20):
        history.events(NOON, [Event("x", None, str(n))])
        alarm = Alarm(f"a{n}", "major", None, "a", "b")
        history.alarms.update(NOON, [Alarm("open", "major", None, "a", "b"), alarm])
    fill(history, 15 * 60, step_s=20)
    counts = {table: history.file.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("minutes", "hours", "events")}
    assert counts == {"minutes": 5, "hours": 1, "events": 4}
    assert 3 <= history.file.rows("SELECT count(*) FROM packs")[0][0] <= 3 + module.PACKED_A_MINUTE  # those packed since the last look
    assert [row["code"] for row in HistoryReader(path).alarms(active=True)] == ["a19", "open"]
    assert len(HistoryReader(path).alarms()) == 2
    history.close()


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(hours=-1), datetime(1970, 1, 1, tzinfo=UTC) - NOON, timedelta(days=5000)])
def test_a_step_of_the_clock_loses_nothing(path: Path, step: timedelta) -> None:
    history = History(path)
    fill(history, 120, step_s=10)
    fill(history, 120, step_s=10, first=13, start=NOON + step)
    fill(history, 120, step_s=10, first=25, start=NOON + timedelta(minutes=5))
    assert history.file.rows("SELECT count(*) FROM cycles") == [(36,)]
    minutes = HistoryReader(path).minutes_after(0, 100)
    assert len(minutes) == 5  # the sixth is not over
    assert [seq for seq, _, _ in minutes] == sorted(seq for seq, _, _ in minutes)
    assert HistoryReader(path).newest_state() == state(36, 110.0)
    history.close()


def test_a_full_disk_gives_up_the_oldest_records_and_says_how_many(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH_MINUTES", 1)
    history = History(path)
    fill(history, 6 * 60, step_s=10)
    packs = history.file.rows("SELECT count(*) FROM packs")[0][0]
    history.file.rows(f"PRAGMA max_page_count = {history.file.rows('PRAGMA page_count')[0][0]}")
    big = {**state(99), "filler": "x" * 200_000}
    with pytest.raises(StoreError, match="full"):
        history.append(99, NOON + timedelta(minutes=6), big, b"")
    assert history.file.rows("SELECT count(*) FROM packs") == [(0,)]
    for cycle in (100, 101):
        with pytest.raises(StoreError, match="full"):
            history.append(cycle, NOON + timedelta(minutes=6), big, b"")
    history.file.rows("PRAGMA max_page_count = 1000000")
    history.append(102, NOON + timedelta(minutes=6, seconds=1), state(102), b"")
    (event,) = HistoryReader(path).events()
    assert (event["kind"], event["reason"]) == ("history_gap", f"3 cycles could not be stored, {packs} packed minutes were given up for room")
    history.append(103, NOON + timedelta(minutes=6, seconds=2), state(103), b"")
    assert len(HistoryReader(path).events()) == 1
    history.close()


def test_room_made_for_one_cycle_is_no_lost_cycle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH_MINUTES", 1)
    history = History(path)
    for n in range(1, 40):
        history.append(n, NOON + timedelta(seconds=10 * n), state(n), zlib.compress(bytes(range(256)) * 4) * 8)
    history.file.rows(f"PRAGMA max_page_count = {history.file.rows('PRAGMA page_count')[0][0]}")
    for n in range(40, 60):
        history.append(n, NOON + timedelta(seconds=10 * n), state(n), b"x" * 3000)
    events = HistoryReader(path).events()
    assert events
    assert all(e["reason"].startswith("0 cycles could not be stored") for e in events)
    assert history.last_cycle() == 59
    history.close()


def test_a_state_with_nan_is_refused_and_not_stored(path: Path) -> None:
    history = History(path)
    with pytest.raises(StoreError, match="number"):
        history.append(1, NOON, state(1, float("nan")), b"")
    assert HistoryReader(path).newest_state() is None
    history.close()


def test_events_are_numbered_in_order(path: Path) -> None:
    history, seen = History(path), HistoryReader(path)
    history.events(NOON, [Event("mode", None, "start -> auto"), Event("start", "dg1", "reserve", "kim")])
    history.events(NOON, [])
    assert seen.events(after=1) == [{"seq": 2, "at": "2026-03-01T12:00:00Z", "kind": "start", "asset": "dg1", "by": "kim", "reason": "reserve"}]
    assert [e["seq"] for e in seen.events(limit=1)] == [2]
    assert [e["seq"] for e in seen.events()] == [1, 2]
    history.close()


def test_events_wait_while_the_disk_is_full(path: Path) -> None:
    history = History(path)
    history.file.rows(f"PRAGMA max_page_count = {history.file.rows('PRAGMA page_count')[0][0]}")
    with pytest.raises(StoreError):
        history.events(NOON, [Event("big", None, "x" * 100_000)])
    history.file.rows("PRAGMA max_page_count = 1000000")
    history.events(NOON, [Event("small", None, "y")])
    assert [e["kind"] for e in HistoryReader(path).events()] == ["big", "small"]
    history.close()


SILENT = Alarm("silent", "major", "pv1", "pv1 does not answer", "応答なし")


def test_an_alarm_is_raised_once_acknowledged_and_cleared(path: Path) -> None:
    history, seen = History(path), HistoryReader(path)
    for s in range(5):
        history.alarms.update(NOON + timedelta(seconds=s), [SILENT, Alarm("hint", "info", None, "a", "b")])
    (row,) = seen.alarms(active=True)
    assert row == {
        "id": row["id"],
        "code": "silent",
        "severity": "major",
        "asset": "pv1",
        "text": {"en": "pv1 does not answer", "ja": "応答なし"},
        "raised_at": "2026-03-01T12:00:00Z",
        "cleared_at": None,
        "acked_by": None,
    }
    assert history.alarms.documents() == [row]
    assert history.alarms.ack(row["id"], "kim")
    assert seen.alarms(active=True)[0]["acked_by"] == "kim"
    history.alarms.update(NOON + timedelta(seconds=9), [])
    assert seen.alarms(active=True) == []
    assert seen.alarms()[0]["cleared_at"] == "2026-03-01T12:00:09Z"
    assert not history.alarms.ack(row["id"], "kim")
    history.alarms.update(NOON + timedelta(seconds=20), [SILENT])
    assert [a["acked_by"] for a in seen.alarms()] == [None, "kim"]  # a new one, to be seen anew
    history.close()


def test_alarms_live_on_across_a_restart(path: Path) -> None:
    history = History(path)
    history.alarms.update(NOON, [SILENT])
    history.close()
    history = History(path)
    history.alarms.update(NOON + timedelta(hours=1), [SILENT])
    assert [a["raised_at"] for a in history.alarms.documents()] == ["2026-03-01T12:00:00Z"]
    history.alarms.update(NOON + timedelta(hours=2), [])
    assert [a["cleared_at"] for a in HistoryReader(path).alarms()] == ["2026-03-01T14:00:00Z"]
    history.close()


def test_a_graver_alarm_is_to_be_seen_again(path: Path) -> None:
    history = History(path)
    history.alarms.update(NOON, [SILENT])
    history.alarms.ack(history.alarms.documents()[0]["id"], "kim")
    history.alarms.update(NOON, [replace(SILENT, severity="critical")])
    assert [(a["severity"], a["acked_by"]) for a in HistoryReader(path).alarms()] == [("critical", None)]
    history.close()


def test_the_alarm_list_is_right_while_the_disk_is_full_and_stored_afterwards(path: Path) -> None:
    history = History(path)
    history.file.rows(f"PRAGMA max_page_count = {history.file.rows('PRAGMA page_count')[0][0]}")
    long = replace(SILENT, en="x" * 100_000)
    with pytest.raises(StoreError):
        history.alarms.update(NOON, [long])
    assert [a["code"] for a in history.alarms.documents()] == ["silent"]
    history.file.rows("PRAGMA max_page_count = 1000000")
    history.alarms.update(NOON + timedelta(seconds=1), [long])
    assert [a["raised_at"] for a in HistoryReader(path).alarms(active=True)] == ["2026-03-01T12:00:00Z"]
    history.close()


PLAN = Plan("p7", NOON, NOON, "mpc", Grid(NOON, (300.0,)), {"dg1": (200.0,)}, {"dg1": (True,)}, {}, (400.0,), (0.0,))
FORECAST = Forecast(Grid(NOON, (300.0,)), (400.0,), {"pv1": (1.0,)}, {})


def test_plans_are_kept_with_their_forecast(path: Path) -> None:
    history, seen = History(path), HistoryReader(path)
    assert (seen.plan(), seen.forecast()) == (None, None)
    history.plan(NOON, PLAN, FORECAST)
    history.plan(NOON, replace(PLAN, id="p8", source="cycle-charging"), None)
    newest, first = seen.plan(), seen.plan("p7")
    assert newest is not None
    assert first is not None
    assert newest["id"] == "p8"
    assert unpack(Plan, json.dumps(first)) == PLAN
    assert seen.forecast() is None
    assert unpack(Forecast, json.dumps(seen.forecast("p7"))) == FORECAST
    assert seen.plan("none") is None
    history.close()
