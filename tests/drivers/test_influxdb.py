from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from influxdb_client.client.write.point import Point

from drivers.influxdb import Busy, Denied, InfluxSink, Refused, Target, Unsound, ledger_lines, line, minute_lines, send
from ems.errors import ConnectionLost, Failed
from tests.drivers.influx_server import OK, Answer, FakeInflux, fake_influx
from tests.ports import free_port

AT_US = 1_772_366_400_000_000


@pytest.fixture
def influx() -> Iterator[FakeInflux]:
    with fake_influx() as fake:
        yield fake


@pytest.fixture
def sink(influx: FakeInflux) -> Iterator[InfluxSink]:
    found = InfluxSink(Target(influx.url, "secret", "isles", "atoll"), connect_s=2.0, answer_s=5.0)
    yield found
    found.close()


# -- lines -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"power_kw": 12.5, "a": 1}, "ems_asset,asset=pv1,site=isle a=1.0,power_kw=12.5"),
        ({"running": True, "fault": False}, "ems_asset,asset=pv1,site=isle fault=0.0,running=1.0"),
        ({"power_kw": None, "soc": float("nan"), "x": float("inf"), "text": "on", "ok": 0.0}, "ems_asset,asset=pv1,site=isle ok=0.0"),
        ({"power_kw": None}, None),
        ({}, None),
    ],
)
def test_a_line_holds_floats_and_nothing_else(fields: dict[str, object], expected: str | None) -> None:
    assert line("ems_asset", {"site": "isle", "asset": "pv1"}, fields, AT_US) == (None if expected is None else f"{expected} {AT_US}")


@given(st.text(min_size=1, max_size=8).filter(lambda t: t.isprintable() and "\\" not in t), st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_line_is_what_the_library_itself_would_write(tag: str, value: float) -> None:
    theirs = Point("ems_asset").tag("site", tag).field("power_kw", value).time(AT_US, "us").to_line_protocol()
    ours = line("ems_asset", {"site": tag}, {"power_kw": value}, AT_US)
    assert ours is not None
    tags, number, at = ours.rsplit(" ", 2)
    assert (tags, at) == (theirs.rsplit(" ", 2)[0], theirs.rsplit(" ", 2)[2])
    assert float(number.removeprefix("power_kw=")) == float(theirs.rsplit(" ", 2)[1].removeprefix("power_kw="))
    assert not number.endswith("i")


def test_a_minute_is_one_line_for_the_site_and_one_for_each_asset() -> None:
    points = {"load_kw": 300.0, "reserve.required_kw": 50.0, "pv1.power_kw": 9.5, "pv1.quality_code": 1.0, "f1.closed": 1.0, "alarms.active": 2.0}
    assert minute_lines("isle", AT_US, points) == [
        f"ems_site,site=isle alarms_active=2.0,load_kw=300.0,reserve_required_kw=50.0 {AT_US}",
        f"ems_asset,asset=f1,site=isle closed=1.0 {AT_US}",
        f"ems_asset,asset=pv1,site=isle power_kw=9.5,quality_code=1.0 {AT_US}",
    ]


def test_a_ledger_row_is_fuel_and_energy_and_a_gap_says_how_long() -> None:
    row = {
        "kind": "energy",
        "at": "...",
        "seconds": 60.0,
        "fuel_l": 1.2,
        "displaced_co2_kg": None,
        "method": "diesel-only",
        "assets": {"dg1": {"kwh": 4.0, "in_kwh": 0.0, "method": "integrated power"}},
        "meters": {"m1": {"measures": "pv1", "export_kwh": 2.0}},
        "fuel": {"dg1": {"counter_l": None, "model_l": 1.2}},
        "totals": {"day": "2026-03-01", "fuel_l": 9.0},
    }
    assert ledger_lines("isle", AT_US, row) == [
        f"ems_fuel,site=isle fuel_l=1.2,seconds=60.0,total_fuel_l=9.0 {AT_US}",
        f"ems_energy,asset=dg1,site=isle in_kwh=0.0,kwh=4.0,model_l=1.2 {AT_US}",
        f"ems_energy,asset=m1,site=isle export_kwh=2.0 {AT_US}",
    ]
    assert ledger_lines("isle", AT_US, {"kind": "gap", "seconds": 480.0}) == [f"ems_fuel,site=isle missing_s=480.0 {AT_US}"]
    assert ledger_lines("isle", AT_US, {"kind": "clock", "seconds": 0.0}) == []


# -- the sink (a fake server: real ones do not give these answers on demand) ------------------------


def test_a_write_says_where_to_and_who(influx: FakeInflux, sink: InfluxSink) -> None:
    sink.write(["a x=1.0 5", "b x=2.0 5"])
    assert influx.arrived == ["a x=1.0 5", "b x=2.0 5"]
    assert influx.queries == [{"org": ["isles"], "bucket": ["atoll"], "precision": ["us"]}]
    assert (influx.headers[0]["authorization"], influx.headers[0]["content-encoding"]) == ("Token secret", "gzip")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, {}, '{"code":"invalid","message":"unable to parse"}'), Refused),
        ((413, {}, ""), Refused),
        ((422, {}, "field type conflict"), Refused),
        ((401, {}, ""), Denied),
        ((403, {}, ""), Denied),
        ((404, {}, "bucket not found"), Denied),
        ((200, {}, "<html>welcome to the ferry's WLAN</html>"), Denied),
        ((302, {"Location": "http://127.0.0.1:1/login"}, ""), Denied),
        ((429, {"Retry-After": "7"}, ""), Busy),
        ((503, {}, ""), Busy),
        ((500, {}, ""), ConnectionLost),
        ((502, {}, "bad gateway"), ConnectionLost),
    ],
)
def test_only_204_is_an_arrival(influx: FakeInflux, sink: InfluxSink, answer: Answer, error: type[Failed]) -> None:
    influx.answer = lambda lines, n: answer
    with pytest.raises(error) as caught:
        sink.write(["a x=1.0 5"])
    assert len(influx.requests) == 1  # no retry behind our back
    assert str(answer[0]) in caught.value.error


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"Retry-After": "86400"}, 600.0),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "nan"}, 0.0),
        ({"Retry-After": "soon"}, 0.0),
        ({}, 0.0),
        ({"Retry-After": "Sun, 01 Mar 2026 12:00:30 GMT", "Date": "Sun, 01 Mar 2026 12:00:00 GMT"}, 30.0),
    ],
)
def test_how_long_to_wait_is_what_the_server_says(influx: FakeInflux, sink: InfluxSink, headers: dict[str, str], wait_s: float) -> None:
    influx.answer = lambda lines, n: (429, headers, "")
    with pytest.raises(Busy) as caught:
        sink.write(["a x=1.0 5"])
    assert caught.value.retry_after_s == wait_s


def test_nobody_there_is_a_lost_connection() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with closing(InfluxSink(Target(url, "t", "o", "b"), connect_s=1.0)) as sink, pytest.raises(ConnectionLost):
        sink.write(["a x=1.0 5"])


def test_a_server_that_does_not_answer_in_time_is_a_lost_connection(influx: FakeInflux) -> None:
    influx.hang = threading.Event()
    with closing(InfluxSink(Target(influx.url, "t", "o", "b"), answer_s=0.1)) as sink, pytest.raises(ConnectionLost):
        sink.write(["a x=1.0 5"])


# -- batches -----------------------------------------------------------------------------------------


def refuse(*bad: str) -> object:
    return lambda lines, n: (422, {}, "no") if any(text in bad for text in lines) else OK


@pytest.mark.parametrize("at", [0, 1, 2499, 4999])
def test_one_poison_line_is_set_aside_and_the_other_4999_arrive_in_order(influx: FakeInflux, sink: InfluxSink, at: int) -> None:
    lines = [f"a x={n}.0 {n}" for n in range(5000)]
    influx.answer = refuse(lines[at])  # type: ignore[assignment]
    sent = send(sink, lines)
    assert influx.arrived == lines[:at] + lines[at + 1 :]
    assert sent.arrived == 4999
    assert sent.poison == [(lines[at], "answered 422: no")]
    assert len(influx.requests) <= 30


def test_some_poison_lines_are_all_found(influx: FakeInflux, sink: InfluxSink) -> None:
    lines = [f"a x={n}.0 {n}" for n in range(40)]
    bad = [lines[3], lines[4], lines[30]]
    influx.answer = refuse(*bad)  # type: ignore[assignment]
    assert [text for text, _ in send(sink, lines).poison] == bad
    assert influx.arrived == [text for text in lines if text not in bad]


@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_server_that_refuses_everything_costs_no_data(influx: FakeInflux, sink: InfluxSink, count: int) -> None:
    influx.answer = lambda lines, n: (400, {}, "no")
    with pytest.raises(Denied):
        send(sink, [f"a x={n}.0 {n}" for n in range(count)])
    assert len(influx.requests) <= 40


def beyond_retention(before: int, tells: bool) -> object:
    """A far side that refuses what is stamped before a time, as InfluxDB does; `tells`: it says how many."""

    def answer(lines: list[str], n: int) -> Answer:
        old = sum(int(text.rsplit(" ", 1)[1]) < before for text in lines)
        said = f"partial write: points beyond retention policy dropped={old}" if tells else "points beyond retention policy"
        return (422, {}, f'{{"code":"unprocessable entity","message":"{said}"}}') if old else OK

    return answer


@pytest.mark.parametrize(("tells", "requests"), [(True, 16), (False, 200)])
@pytest.mark.parametrize("count", [100, 90])  # the batch ends with ten sound lines, or is poison alone
def test_lines_that_a_sound_server_refuses_are_set_aside_however_many(influx: FakeInflux, sink: InfluxSink, count: int, tells: bool, requests: int) -> None:
    lines = [f"a x={n}.0 {n}" for n in range(100)]
    influx.answer = beyond_retention(90, tells)  # type: ignore[assignment]
    sent = send(sink, lines[:count], lambda: ["a x=500.0 500"])
    assert [text for text, _ in sent.poison] == lines[:90]
    assert influx.arrived == ["a x=500.0 500", *lines[90:count]]
    assert len(influx.requests) <= requests


@pytest.mark.parametrize(
    ("newest", "sound"),
    [
        ([], False),
        (["bad 1"], False),
        (["bad 1", "a 2"], True),  # one of the newest may be poison itself
        (["bad 1"] * 3 + ["a 2"], False),  # but it is not tried for long
    ],
)
def test_the_newest_lines_tell_whether_a_server_is_sound(influx: FakeInflux, sink: InfluxSink, newest: list[str], sound: bool) -> None:
    influx.answer = lambda lines, n: (422, {}, "no") if any("bad" in text for text in lines) else OK
    if sound:
        assert len(send(sink, ["bad 0"] * 9, lambda: newest).poison) == 9
    else:
        with pytest.raises(Unsound):
            send(sink, ["bad 0"] * 9, lambda: newest)


def test_a_server_that_was_not_sound_is_asked_with_the_newest_line_first(influx: FakeInflux, sink: InfluxSink) -> None:
    influx.answer = lambda lines, n: (400, {}, "no")
    with pytest.raises(Unsound):
        send(sink, ["a 1"] * 99, lambda: ["a 2"], proven=False)
    assert influx.requests == [["a 2"]]
    influx.answer = lambda lines, n: OK
    assert send(sink, ["a 1"] * 99, lambda: ["a 2"], proven=False).arrived == 99


def test_a_link_lost_in_the_middle_of_the_search_sets_nothing_aside(influx: FakeInflux, sink: InfluxSink) -> None:
    influx.answer = lambda lines, n: (422, {}, "") if n == 0 else (503, {}, "")
    with pytest.raises(Busy):
        send(sink, ["a x=1.0 1", "a x=2.0 2"])


def test_nothing_to_send_is_not_sent(influx: FakeInflux, sink: InfluxSink) -> None:
    assert send(sink, []).arrived == 0
    assert influx.requests == []
