"""What can be looked at, and how every refusal looks."""

from __future__ import annotations

import re

import pytest

from api.web.auth import API, RULES
from tests.api.web import island
from tests.api.web.served import Site, site


@pytest.mark.parametrize(
    "path",
    [
        *(
            "site",
            "state",
            "mode",
            "stage",
            "plan",
            "forecast",
            "explain",
            "advice",
            "limits",
            "limits/pv1",
            "commands",
            "events",
            "alarms",
            "alarms?active=true",
        ),
        *("mrv/summary", "history?points=load_kw,pv1.power_kw", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/", "/static/app.js"),
    ],
)
async def test_reads_are_open_on_loopback(at: Site, path: str):
    assert (await at("GET", path)).status_code == 200


async def test_the_state_is_what_control_told(at: Site):
    told = (await at("GET", "state")).json()
    assert told == island.state()
    assert (await at("GET", "alarms?active=true")).json() == island.alarms()
    assert (await at("GET", "mode")).json()["mode"] == "auto"


async def test_before_the_first_beat_the_store_answers_and_health_says_no(tmp_path):
    island.remember(tmp_path)
    at = site(tmp_path, beats=False)
    assert (await at("GET", "state")).json()["cycle"] > 100
    for path in ("/healthz", "/readyz"):
        answer = await at("GET", path)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "ems_up 0.0" in (await at("GET", "/metrics")).text
    at.close()


async def test_with_nothing_at_all_the_state_is_a_clear_503(tmp_path):
    at = site(tmp_path, beats=False)
    answer = await at("GET", "state")
    assert (answer.status_code, answer.json()["code"]) == (503, "no_cycle")
    assert (await at("GET", "plan")).json() == {"id": None}
    at.close()


async def test_health_falls_when_beats_stop(at: Site, monkeypatch):
    assert (await at("GET", "/healthz")).status_code == 200
    monkeypatch.setattr(at.live, "_received_s", at.live._received_s - 5.0)  # cycle_s is 1: five cycles
    assert (await at("GET", "/healthz")).status_code == 503


async def test_what_was_stored_is_shown(tmp_path):
    island.remember(tmp_path)
    at = site(tmp_path)
    plan = (await at("GET", "plan")).json()
    assert (plan["id"], len(plan["grid"]["step_s"]), len(plan["soc"]["bess1"])) == ("plan-17", 34, 35)
    assert len((await at("GET", "forecast")).json()["load_kw"]) == 34
    answer = await at("GET", "history?points=load_kw,pv1.power_kw,pv1.run&from=2026-06-14T00:00:00Z&to=2026-06-14T12:00:00Z&step=1h")
    found = answer.json()
    assert len(found["time"]) == 12 == len(found["columns"]["pv1.power_kw"])
    assert all(isinstance(v, float) for v in found["columns"]["load_kw"])
    assert found["columns"]["pv1.run"] == [None] * 12
    summary = (await at("GET", "mrv/summary")).json()
    assert summary["today"]["diesel_l"] == 214.2
    assert summary["physical"]["displaced_kg_today"] == 3412.6
    assert summary["credited"] is None
    at.close()


async def test_a_misspelt_point_is_told_its_neighbours(at: Site):
    answer = await at("GET", "history?points=load_kw,pv1.powr_kw")
    assert re.search(r"no 'pv1.powr_kw' here; did you mean pv1.power_kw\b", answer.json()["detail"])


async def test_points_that_are_null_now_can_be_asked_for(at: Site):
    names = ("reserve.time_to_empty_s", "dg3.power_kw", "dg3.running", "inv1.setpoint_kw", "bess1.soc", "pv1.quality_code", "harbour.closed", "alarms.active")
    assert (await at("GET", f"history?points={','.join(names)}")).status_code == 200


PROBLEMS = [
    ("GET", "no-such-route", 404, "not_found"),
    ("GET", "/nowhere", 404, "not_found"),
    ("GET", "/static/../app.py", 404, "not_found"),
    ("GET", "/static/users.json", 404, "not_found"),
    ("DELETE", "state", 405, "method_not_allowed"),
    ("GET", "limits/no-such", 404, "unknown_asset"),
    ("GET", "commands/no-such", 404, "not_found"),
    ("GET", "history", 422, "invalid"),
    ("GET", "history?points=" + ",".join(f"p{k}" for k in range(51)), 422, "invalid"),
    ("GET", "history?points=load_kw&step=60", 422, "invalid"),
    ("GET", "history?points=load_kw,pv1.powr_kw", 422, "invalid"),
    ("GET", "history?points=pv9.power_kw", 422, "invalid"),
    ("GET", "history?points=pv1.reason", 422, "invalid"),
    ("GET", "commands?asset=no-such", 404, "unknown_asset"),
    ("GET", "history?points=load_kw&from=2026-06-14T00:00:00&to=2026-06-14T01:00:00Z", 422, "invalid"),
    ("GET", "history?points=load_kw&from=2026-06-14T02:00:00Z&to=2026-06-14T01:00:00Z", 422, "invalid"),
    ("GET", "history?points=load_kw&from=2006-06-14T02:00:00Z&to=2026-06-14T01:00:00Z&step=1s", 422, "invalid"),
    ("GET", "events?limit=0", 422, "invalid"),
    ("GET", "events?after=-1", 422, "invalid"),
    ("GET", f"events?after={2**63}", 422, "invalid"),
    ("GET", "events?after=99999999999999999999", 422, "invalid"),
    ("GET", "history?points=load_kw&to=0001-01-01T00:00:00Z", 422, "invalid"),
    ("GET", "history?points=load_kw&from=0001-01-01T00:00:00%2B14:00&to=0001-01-02T00:00:00Z", 422, "invalid"),
    ("GET", "history?points=load_kw&from=0001-01-01T00:00:00Z&to=0001-01-02T00:00:00Z&step=7d", 422, "invalid"),
    ("GET", "history?points=load_kw&from=9999-12-31T22:00:00Z&to=9999-12-31T23:59:59-10:00", 422, "invalid"),
    ("GET", "history?points=load_kw&step=999999999d", 422, "invalid"),
    ("GET", "history?points=load_kw&step=3661d", 422, "invalid"),
    ("GET", "auth/me", 401, "sign_in"),
    ("POST", "mode", 401, "sign_in"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), PROBLEMS)
async def test_every_refusal_is_a_problem_document(at: Site, method: str, path: str, status: int, code: str):
    answer = await at(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    assert body["detail"]


@pytest.mark.parametrize(
    "path", [f"events?after={2**63 - 1}", "history?points=load_kw&from=9999-12-31T22:00:00Z&to=9999-12-31T23:00:00Z", "history?points=load_kw&step=3660d"]
)
async def test_the_last_number_and_time_that_can_be_are_answered(at: Site, path: str):
    island.remember(at.data)
    assert (await at("GET", path)).status_code == 200


async def test_a_bug_is_a_problem_document_that_tells_nothing(at: Site, monkeypatch):
    def broken() -> None:
        raise RuntimeError("the secret is 1234")

    monkeypatch.setattr(at.desk.history, "plan", broken)
    answer = await at("GET", "plan")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "1234" not in answer.text


async def test_a_store_that_cannot_be_read_is_503_and_the_live_values_go_on(at: Site):
    (at.data / "history.db").write_bytes(b"this is no database" * 100)
    assert (await at("GET", "events")).json()["code"] == "store_unavailable"
    assert (await at("GET", "state")).status_code == 200
    assert (await at("GET", "alarms?active=true")).status_code == 200


def test_every_route_of_the_api_is_in_the_table_of_roles(at: Site):
    spec = at.app.openapi()["paths"]
    routes = {(method.upper(), path.removeprefix(API)) for path, item in spec.items() if path.startswith(API) for method in item}
    assert routes == set(RULES)


async def test_openapi_shows_the_bodies_we_read_ourselves(at: Site):
    spec = (await at("GET", "/openapi.json")).json()
    shown = spec["paths"]["/api/v1/assets/{id}/command"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(shown["required"]) == {"action", "expires_at", "reason"}


async def test_metrics_leave_out_what_is_missing(at: Site):
    text = (await at("GET", "/metrics")).text
    assert re.search(r'^ems_asset_power_kw\{asset="pv1",kind="solar"\} 7\d\d\.', text, re.M)
    assert 'asset="dg3"' not in text.split("ems_asset_age_s")[0]  # it does not answer: no power, but an age
    assert "ems_cycles_total 4711.0" in text
    assert "ems_link_asked_total{" not in text, "no link was told of"


async def test_metrics_count_what_happens_on_each_link(at: Site):
    counts = {"asked": 90, "answered": 80, "silent": 6, "refused": 1, "opened": 4, "rejected": {"transaction": 2, "crc": 1}}
    at.live.update({"state": at.live.state, "links": {"tcp://10.0.0.5:502": counts}})
    text = (await at("GET", "/metrics")).text
    assert 'ems_link_asked_total{link="tcp://10.0.0.5:502"} 90.0' in text
    assert 'ems_link_silent_total{link="tcp://10.0.0.5:502"} 6.0' in text
    assert 'ems_link_rejected_total{link="tcp://10.0.0.5:502",reason="transaction"} 2.0' in text
    assert 'ems_link_rejected_total{link="tcp://10.0.0.5:502",reason="crc"} 1.0' in text


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1:8080", 200), ("localhost", 200), ("[::1]:8080", 200), ("evil.example", 421), ("", 421)])
async def test_on_loopback_no_foreign_name_is_served(at: Site, host: str, status: int):
    assert (await at("GET", "state", Host=host)).status_code == status


async def test_the_page_allows_nothing_from_elsewhere(at: Site):
    answer = await at("GET", "/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r'(?:src|href)="(?!/)', answer.text)
    again = await at("GET", "/", If_None_Match=answer.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
