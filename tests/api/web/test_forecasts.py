"""Forecasts pushed over REST: by whom, how strictly checked, and what becomes of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from ems.model import Status
from ems.plan import Storm
from ems.pushed import given_of
from tests.api.web import island
from tests.api.web.served import Site


def hour(ahead: float = 0.0) -> datetime:
    return island.NOW.replace(minute=0, second=0, microsecond=0) + timedelta(hours=ahead)


def body(**changed: Any) -> dict[str, Any]:
    return {"start": hour().isoformat(), "step_s": 3600, "load_kw": [100.0] * 24, "available_kw": {"pv1": [50.0] * 24}, "reason": "met office", **changed}


@pytest.mark.parametrize(("who", "status"), [(None, 401), ("viki", 403), ("olga", 202), ("emil", 202)])
async def test_operators_and_engineers_may_push(at: Site, who: str | None, status: int) -> None:
    assert (await at("POST", "forecast", body(), who=who)).status_code == status


async def test_it_becomes_a_row_that_control_can_read(at: Site) -> None:
    sent = await at("POST", "forecast", body(expires_at=hour(30).isoformat()), who="olga", Idempotency_Key="f1")
    assert (sent.status_code, sent.json()["status"]) == (202, "queued")
    stored = at.desk.requests.find(sent.json()["id"])
    assert (stored.kind, stored.asset, stored.by) == ("forecast", None, "olga")
    given = given_of(stored)
    assert (given.start, given.load_kw, dict(given.available_kw), given.until) == (hour(), (100.0,) * 24, {"pv1": (50.0,) * 24}, hour(30))
    again = await at("POST", "forecast", body(expires_at=hour(30).isoformat()), who="olga", Idempotency_Key="f1")
    assert again.json()["id"] == sent.json()["id"]
    other = await at("POST", "forecast", body(reason="another"), who="olga", Idempotency_Key="f1")
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    at.settle(sent.json()["id"], Status.DONE)
    seen = (await at("GET", f"commands/{sent.json()['id']}")).json()
    assert (seen["kind"], seen["status"]) == ("forecast", "done")


EARLY, LATE = "0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-10:00"


@pytest.mark.parametrize(
    "changed",
    [
        {"start": EARLY},
        {"start": LATE},
        {"start": "9999-12-31T23:00:00Z"},
        {"step_s": 10**400},
        {"expires_at": LATE},
        {"storm": {"start": EARLY, "until": hour(9).isoformat()}},
        {"storm": {"start": hour(3).isoformat(), "until": LATE}},
    ],
)
async def test_times_beyond_all_calendars_are_refused(at: Site, changed: dict[str, Any]) -> None:
    answer = await at("POST", "forecast", body(**changed), who="olga")
    assert answer.status_code == 422, answer.text
    assert at.desk.requests.newest() == []


async def test_a_storm_warning_comes_with_it_or_alone(at: Site) -> None:
    storm = {"start": hour(3).isoformat(), "until": hour(9).isoformat()}
    for said in (body(storm=storm), {k: v for k, v in body(storm=storm).items() if k not in ("load_kw", "available_kw")}):
        sent = await at("POST", "forecast", said, who="olga")
        assert sent.status_code == 202
        assert given_of(at.desk.requests.find(sent.json()["id"])).storm == Storm(hour(3), hour(9))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"storm": {"start": hour(3).isoformat(), "until": hour(1).isoformat()}}, "storm.until"),
        ({"storm": {"start": hour(3).isoformat()}}, "until"),
        ({"start": "2026-03-02T06:00:00"}, "start"),  # no zone
        ({"start": hour(0.25).isoformat()}, "off the grid"),
        ({"step_s": 61}, "step_s"),
        ({"step_s": 3600.5}, "step_s"),
        ({"load_kw": ["100"] * 24}, "load_kw"),
        ({"load_kw": [None] * 24}, "load_kw"),
        ({"load_kw": [-1.0] * 24}, "load_kw[0]: -1"),
        ({"load_kw": [1e9] * 24}, "load_kw[0]"),
        ({"available_kw": {"nobody": [1.0] * 24}}, "nobody"),
        ({"available_kw": {"pv1": [1.0] * 3}}, "3 values"),
        ({"load_kw": [100.0] * 200, "available_kw": {}}, "7 days"),
        ({"start": hour(-48).isoformat()}, "passed"),
        ({"expires_at": hour(-1).isoformat()}, "expires_at"),
        ({"wind_kw": [1.0]}, "unknown field"),
        ({"reason": " "}, "reason"),
    ],
)
async def test_what_is_wrong_is_refused(at: Site, changed: dict[str, Any], said: str) -> None:
    refused = await at("POST", "forecast", body(**changed), who="olga")
    assert refused.status_code == 422
    assert said in refused.json()["detail"]
    assert at.desk.requests.newest(5, "forecast") == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_what_is_no_finite_number_is_refused(at: Site, number: str) -> None:
    raw = f'{{"start": "{hour().isoformat()}", "step_s": 3600, "load_kw": [100.0, {number}], "reason": "x"}}'.encode()
    assert (await at("POST", "forecast", raw=raw, who="olga")).status_code == 422
