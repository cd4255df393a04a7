"""The stream: full state first, then changes only, and few bytes of them."""

from __future__ import annotations

import asyncio
import copy
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.web.live import LiveState, changes, coarse
from api.web.routes.stream import Reader
from tests.api.web import island
from tests.api.web.served import Site, serve, site

NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)
DOCUMENT = st.dictionaries(st.sampled_from("abc"), NESTED, max_size=3)


def merged(into: Any, change: Any) -> Any:
    """As RFC 7396, except that a key which becomes null may stay, as null."""
    if not isinstance(change, dict) or not isinstance(into, dict):
        return change
    return {**into, **{key: merged(into.get(key), value) for key, value in change.items()}}


def bare(value: Any) -> Any:
    return {key: bare(inner) for key, inner in value.items() if inner is not None} if isinstance(value, dict) else value


@given(DOCUMENT, DOCUMENT)
def test_merging_the_changes_gives_the_new_document(before: dict[str, Any], after: dict[str, Any]):
    kept = copy.deepcopy(before)
    assert bare(merged(before, changes(before, after))) == bare(after)
    assert before == kept
    assert changes(after, after) == {}


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        *[
            ("power_kw", 612.3481, 612.3),
            ("power_kw", -0.04, 0),
            ("soc", 0.93149, 0.931),
            ("frequency_hz", 49.987, 49.99),
            ("age_s", 0.12, 0),
            ("age_s", 7.9, 7),
        ],
        *[
            ("age_s", 734.2, 730),
            ("energy_kwh", 1480.4, 1480),
            ("displaced_kg_today", 3412.61, 3412.6),
            ("renewable_fraction", 0.87654, 0.877),
            ("cycle", 4711, 4711),
        ],
    ],
)
def test_the_stream_is_rounded_by_name(name: str, value: float, sent: float):
    assert coarse({name: value}) == {name: sent}


def test_a_steady_island_costs_less_than_a_kilobyte_a_second():
    live = LiveState()
    reader = Reader(coarse(island.state()))
    live.update(island.beat(4711))
    list(reader.news(live, 0.0))
    size = 0
    for second in range(1, 61):
        live.update(island.beat(4711 + second, island.NOW + timedelta(seconds=second), jitter=0.003))
        size += sum(len(text.encode()) for text in reader.news(live, float(second)))
    assert 1000 < size < 60 * 1000, f"{size / 60:.0f} B/s"


def test_alarms_come_when_they_change_and_reasons_no_more_often_than_asked():
    live, reader = LiveState(), Reader(coarse(island.state()))
    beat = island.beat()
    live.update(beat)
    assert [text.split("\n")[0] for text in reader.news(live, 0.0)] == ["event: alarms", "event: explain"]
    live.update({**beat, "alarms": [], "explain": beat["explain"][1:]})
    assert [text.split("\n")[0] for text in reader.news(live, 5.0)] == ["event: alarms"]
    (late,) = reader.news(live, 10.0)
    assert json.loads(late.split("data: ")[1]) == {"pv1": None}


async def test_waiting_ends_by_a_beat_by_time_and_by_closing():
    live = LiveState()
    assert not await live.wait(live.version, 0.01)
    waiting = asyncio.create_task(live.wait(live.version, 30))
    await asyncio.sleep(0)
    live.update(island.beat())
    assert await waiting
    waiting = asyncio.create_task(live.ended(30))
    await asyncio.sleep(0)
    live.close()
    assert await waiting


def read(lines: Any, count: int) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            found.append((name, json.loads(line[6:])))
            if len(found) == count:
                break
    return found


def test_over_the_wire(tmp_path):
    made: Site = site(tmp_path)
    with serve(made, beat_s=0.05) as base, httpx.Client(base_url=base, timeout=10) as client:
        with client.stream("GET", "/api/v1/stream") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert "content-encoding" not in answer.headers
            events = read(answer.iter_lines(), 6)
        assert events[0][0] == "state"
        assert {"cycle", "assets", "reserve"} <= set(events[0][1])
        assert {name for name, _ in events[1:]} == {"change", "alarms", "explain"}
        cycles = [data["cycle"] for name, data in events if "cycle" in data]
        assert cycles == sorted(set(cycles))
        with client.stream("GET", "/api/v1/stream?every=5") as answer:
            assert answer.status_code == 422
        held = client.stream("GET", "/api/v1/stream?every=30s")  # serve() checks that an open stream does not hold up the end
        assert held.__enter__().status_code == 200
    made.close()


async def test_no_more_streams_than_there_is_room_for(at: Site):
    at.desk.streams = 32
    answer = await at("GET", "stream")
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_streams")
