from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api.processes import uplink as module
from api.processes.uplink import Uplink, run, target_of
from drivers.influxdb import InfluxSink, Target
from drivers.store.history import History, Retention
from drivers.store.ledger import LedgerStore
from ems.clock import SimClock
from tests.drivers.influx_server import OK, FakeInflux, fake_influx

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def influx() -> Iterator[FakeInflux]:
    with fake_influx() as fake:
        yield fake


def minutes(data: Path, count: int, first: int = 0, retention: Retention | None = None) -> None:
    """Let history and ledger grow by so many finished minutes."""
    history, ledger = History(data / "history.db", retention), LedgerStore(data / "ledger.db")
    for n in range(first, first + count + 1):
        state = {"load_kw": 300.0 + n, "assets": {"pv1": {"power_kw": float(n), "quality": "good"}}}
        history.append(n + 1, NOON + timedelta(minutes=n), state, b"")
        if n < first + count:
            ledger.minute(NOON + timedelta(minutes=n), {"seconds": 60.0, "fuel_l": 1.0 + n, "totals": {}})
    history.close()
    ledger.close()


@pytest.fixture
def uplink(tmp_path: Path, influx: FakeInflux) -> Iterator[Uplink]:
    found = make(tmp_path, influx)
    yield found
    found.close()


def make(data: Path, influx: FakeInflux, answer_s: float = 5.0) -> Uplink:
    return Uplink("isle", data, InfluxSink(Target(influx.url, "t", "o", "b"), answer_s=answer_s), SimClock(NOON))


def drain(uplink: Uplink) -> None:
    for _ in range(50):
        if uplink.step().status == "idle":
            return
    raise AssertionError("the backlog does not melt")


def at(text: str) -> int:
    return int(text.rsplit(" ", 1)[1])


def test_a_backlog_arrives_once_in_order_and_then_nothing_more(tmp_path: Path, influx: FakeInflux, uplink: Uplink) -> None:
    minutes(tmp_path, 30)
    assert uplink.status(uplink.step())["backlog"] == 0
    drain(uplink)
    assert len(influx.arrived) == len(set(influx.arrived)) == 30 * 3  # fuel; site and pv1
    for measurement in ("ems_fuel", "ems_site", "ems_asset"):
        stamps = [at(text) for text in influx.arrived if text.startswith(measurement)]
        assert stamps == [int((NOON.timestamp() + 60 * n) * 1e6) for n in range(30)], measurement
    before = len(influx.requests)
    drain(uplink)
    assert len(influx.requests) == before
    status = uplink.status(uplink.step())
    assert {name: status[name] for name in ("status", "backlog", "delivered", "quarantined", "thinned")} == {
        "status": "idle",
        "backlog": 0,
        "delivered": 90,
        "quarantined": 0,
        "thinned": 0,
    }


def test_energy_goes_first(tmp_path: Path, influx: FakeInflux, uplink: Uplink) -> None:
    minutes(tmp_path, 2)
    uplink.step()
    assert all(text.startswith("ems_fuel") for text in influx.requests[0])


def test_it_goes_on_where_it_was_after_a_restart(tmp_path: Path, influx: FakeInflux) -> None:
    for first in (0, 5):
        minutes(tmp_path, 5, first)
        uplink = make(tmp_path, influx)
        drain(uplink)
        uplink.close()
    assert len(influx.arrived) == len(set(influx.arrived)) == 30


@pytest.mark.parametrize("status", [500, 503, 429, 401, 404])
def test_a_far_side_that_fails_costs_no_point_and_no_order(tmp_path: Path, influx: FakeInflux, uplink: Uplink, status: int) -> None:
    minutes(tmp_path, 6)
    influx.answer = lambda lines, n: (status, {}, "") if n in (0, 2, 3) else OK
    drain_through(uplink)
    assert sorted(set(influx.arrived)) == sorted(influx.arrived)
    assert len(influx.arrived) == 18


def drain_through(uplink: Uplink) -> None:
    for _ in range(20):
        if uplink.step().status == "idle":
            return
    raise AssertionError("it does not recover")


@pytest.mark.parametrize(
    ("status", "headers", "said", "waits_s"),
    [
        (401, {}, "denied", [60.0, 60.0, 60.0]),
        (404, {}, "denied", [60.0, 60.0, 60.0]),
        (500, {}, "waiting", [1.0, 2.0, 4.0]),
        (429, {"Retry-After": "9"}, "waiting", [9.0, 9.0, 9.0]),
        (503, {"Retry-After": "0"}, "waiting", [1.0, 2.0, 4.0]),
    ],
)
def test_it_does_not_spin(tmp_path: Path, influx: FakeInflux, uplink: Uplink, status: int, headers: dict[str, str], said: str, waits_s: list[float]) -> None:
    minutes(tmp_path, 1)
    influx.answer = lambda lines, n: (status, headers, "")
    reports = [uplink.step() for _ in waits_s]
    assert [(r.status, r.wait_s) for r in reports] == [(said, wait) for wait in waits_s]
    assert len(influx.requests) == len(waits_s)
    assert uplink.status(reports[-1])["backlog"] == 2
    influx.answer = lambda lines, n: OK
    drain_through(uplink)
    assert uplink.step().wait_s == module.IDLE_S


def test_the_wait_grows_to_a_bound(tmp_path: Path, influx: FakeInflux, uplink: Uplink) -> None:
    minutes(tmp_path, 1)
    influx.answer = lambda lines, n: (500, {}, "")
    assert [uplink.step().wait_s for _ in range(9)][-3:] == [60.0, 60.0, 60.0]


def test_poison_is_kept_aside_and_the_rest_goes_on(tmp_path: Path, influx: FakeInflux, uplink: Uplink) -> None:
    minutes(tmp_path, 10)
    bad = f"ems_site,site=isle load_kw=304.0 {int((NOON.timestamp() + 240) * 1e6)}"
    influx.answer = lambda lines, n: (422, {}, "field type conflict") if bad in lines else OK
    drain(uplink)
    assert len(influx.arrived) == 29
    assert [(row["line"], row["cause"]) for row in uplink.outbox.quarantined()] == [(bad, "answered 422: field type conflict")]
    assert uplink.status(uplink.step())["quarantined"] == 1


def test_minutes_beyond_the_far_sides_retention_are_counted_and_what_came_after_them_arrives(tmp_path: Path, influx: FakeInflux, uplink: Uplink) -> None:
    """A gateway whose clock stood at a time that the far side does not keep, for longer than one batch."""
    minutes(tmp_path, 300)
    cut = int((NOON.timestamp() + 60 * 290) * 1e6)

    def answer(lines: list[str], n: int) -> tuple[int, dict[str, str], str]:
        old = sum(at(text) < cut for text in lines)
        return (422, {}, f"partial write: points beyond retention policy dropped={old}") if old else OK

    influx.answer = answer
    drain(uplink)
    assert set(influx.arrived) == {text for text in influx.arrived if at(text) >= cut}
    assert len(set(influx.arrived)) == 10 * 3
    status = uplink.status(uplink.step())
    assert {name: status[name] for name in ("status", "backlog", "delivered", "refused")} == {"status": "idle", "backlog": 0, "delivered": 30, "refused": 870}
    assert len(influx.requests) < 60


def test_a_far_side_that_refuses_everything_keeps_all_and_is_asked_for_little(tmp_path: Path, influx: FakeInflux, uplink: Uplink) -> None:
    minutes(tmp_path, 300)
    influx.answer = lambda lines, n: (400, {}, "no")
    assert [uplink.step().status for _ in range(4)] == ["denied"] * 4
    assert all(len(lines) == 1 for lines in influx.requests[-9:])
    before = len(influx.requests)
    assert uplink.step().wait_s == module.DENIED_WAIT_S
    assert len(influx.requests) - before <= 3
    assert uplink.status(uplink.step())["backlog"] == 600
    influx.answer = lambda lines, n: OK
    drain_through(uplink)
    assert len(set(influx.arrived)) == 900
    assert uplink.outbox.quarantined() == []


def test_on_a_thin_link_batches_shrink_until_they_pass(tmp_path: Path, influx: FakeInflux) -> None:
    minutes(tmp_path, 100)
    influx.hang = threading.Event()
    influx.hangs = lambda lines: len(lines) > 30
    uplink = make(tmp_path, influx, answer_s=0.2)
    while uplink.outbox.cursor("minutes").position < 100:
        uplink.step()
    assert [len(lines) for lines in influx.requests[:3]] == [100, 100, 60]  # fuel of 240, 120, 60 minutes at the most
    fuel = [text for lines in influx.requests for text in lines if len(lines) <= 30 and text.startswith("ems_fuel")]
    assert [at(text) for text in fuel] == [int((NOON.timestamp() + 60 * n) * 1e6) for n in range(100)]
    uplink.close()


def test_minutes_given_up_before_they_were_sent_are_counted(tmp_path: Path, influx: FakeInflux, uplink: Uplink) -> None:
    minutes(tmp_path, 5)
    drain(uplink)
    influx.answer = lambda lines, n: (500, {}, "")
    minutes(tmp_path, 20, 5, Retention(minutes=8))
    uplink.step()
    influx.answer = lambda lines, n: OK
    drain_through(uplink)
    assert uplink.outbox.cursor("minutes").thinned == 12
    assert uplink.outbox.cursor("ledger").thinned == 0
    assert len([text for text in influx.arrived if text.startswith("ems_fuel")]) == 25


def test_a_history_begun_anew_is_sent_from_its_beginning(tmp_path: Path, influx: FakeInflux, uplink: Uplink) -> None:
    minutes(tmp_path, 5)
    drain(uplink)
    for left in tmp_path.glob("history.db*"):
        left.unlink()
    history = History(tmp_path / "history.db")
    for n in range(9):
        history.append(n + 1, NOON + timedelta(hours=1, minutes=n), {"load_kw": 1.0}, b"")
    history.close()
    drain(uplink)
    assert len([text for text in influx.arrived if "load_kw=1.0" in text]) == 8
    assert uplink.outbox.cursor("minutes").thinned == 0


def test_a_store_that_cannot_be_read_is_told_and_waited_for(tmp_path: Path, influx: FakeInflux, uplink: Uplink) -> None:
    (tmp_path / "history.db").write_bytes(b"no database" * 1000)
    report = uplink.step()
    assert (report.status, influx.requests) == ("store", [])
    assert report.wait_s > 0


def test_it_runs_until_it_is_stopped(tmp_path: Path, influx: FakeInflux, uplink: Uplink) -> None:
    minutes(tmp_path, 3)
    stop, told = threading.Event(), []

    def tell(status: dict[str, Any]) -> None:
        told.append(status)
        if status["status"] == "idle":
            stop.set()

    run(uplink, stop, tell)
    assert [status["status"] for status in told] == ["sending", "idle"]
    assert len(influx.arrived) == 9


@pytest.mark.parametrize("missing", ["", "EMS_INFLUX_URL", "EMS_INFLUX_TOKEN", "EMS_INFLUX_ORG", "EMS_INFLUX_BUCKET"])
def test_where_to_is_said_wholly_or_not_at_all(missing: str) -> None:
    environment = {"EMS_INFLUX_URL": "http://x", "EMS_INFLUX_TOKEN": "t", "EMS_INFLUX_ORG": "o", "EMS_INFLUX_BUCKET": "b"}
    environment.pop(missing, None)
    assert target_of(environment) == (None if missing else Target("http://x", "t", "o", "b"))


# -- as a process ------------------------------------------------------------------------------------


def process(data: Path, start: str | None = None, **settings: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EMS_")} | settings
    command = [sys.executable, "-m", "api.processes.uplink", json.dumps({"data": str(data), "site": "isle", "start": start})]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_unconfigured_it_says_so_once_and_ends_with_its_stdin(tmp_path: Path) -> None:
    child = process(tmp_path, EMS_INFLUX_URL="http://127.0.0.1:1")
    assert child.stdout is not None
    first = json.loads(child.stdout.readline())
    out, err = child.communicate(timeout=10)
    assert first["uplink"]["status"] == "off"
    assert (child.returncode, out) == (0, "")
    assert err.count("not configured") == 1
    assert "EMS_INFLUX_TOKEN" in err
    assert "EMS_INFLUX_URL" not in err


def test_a_simulated_island_is_silent_about_it(tmp_path: Path) -> None:
    child = process(tmp_path, start="2026-03-01T06:00:00+01:00")
    out, err = child.communicate(timeout=10)
    assert json.loads(out)["uplink"]["status"] == "off"
    assert (child.returncode, err) == (0, "")


def test_it_delivers_and_ends_in_time_even_while_the_far_side_hangs(tmp_path: Path, influx: FakeInflux) -> None:
    minutes(tmp_path, 3)
    child = process(tmp_path, EMS_INFLUX_URL=influx.url, EMS_INFLUX_TOKEN="t", EMS_INFLUX_ORG="o", EMS_INFLUX_BUCKET="b")
    assert child.stdout is not None
    for text in child.stdout:
        if json.loads(text)["uplink"]["status"] == "idle":
            break
    assert len(influx.arrived) == 9
    influx.hang = threading.Event()
    minutes(tmp_path, 3, 3)
    waiting = threading.Event()
    influx.answer = lambda lines, n: waiting.set() or OK  # type: ignore[func-returns-value]
    assert waiting.wait(15.0)
    child.communicate(timeout=8)
    assert child.returncode == 0
