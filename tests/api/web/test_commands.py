"""Orders: sent once, in time, one at a time, by who may."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ems.model import Status
from tests.api.web import island
from tests.api.web.served import Site


def within(seconds: float) -> str:
    return (island.NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def body(action: str = "start", seconds: float = 300, **more: object) -> dict[str, object]:
    return {"action": action, "expires_at": within(seconds), "reason": "test", **more}


async def test_a_command_is_queued_and_its_outcome_follows(at: Site):
    sent = await at("POST", "assets/dg2/command", body(), who="olga", Idempotency_Key="a")
    assert (sent.status_code, sent.json()["status"]) == (202, "queued")
    where = f"commands/{sent.json()['id']}"
    seen = (await at("GET", where)).json()
    assert {"id", "status", "cause", "by", "at", "result"} <= set(seen)
    assert (seen["status"], seen["by"], seen["cause"]) == ("queued", "olga", None)
    at.settle(sent.json()["id"], Status.ACCEPTED)
    assert (await at("GET", where)).json()["status"] == "accepted"
    at.settle(sent.json()["id"], Status.REJECTED, "it is not ready")
    assert (await at("GET", where)).json()["cause"] == "it is not ready"
    listed = (await at("GET", "commands?asset=dg2")).json()
    assert [(c["action"], c["status"]) for c in listed] == [("start", "rejected")]
    stored = at.desk.requests.find(sent.json()["id"])
    assert (stored.kind, stored.asset, stored.body["action"], stored.expires_at) == ("command", "dg2", "start", island.NOW + timedelta(seconds=300))


async def test_an_order_that_nobody_took_up_in_time_shows_as_expired(at: Site):
    sent = await at("POST", "assets/dg2/command", body(), who="olga", Idempotency_Key="a")
    at.clock.advance(301)
    seen = (await at("GET", f"commands/{sent.json()['id']}")).json()
    assert (seen["status"], seen["cause"]) == ("expired", "expired")


@pytest.mark.parametrize(("seconds", "status"), [(-30, 422), (0, 422), (1, 202), (900, 202), (901, 422), (3600, 422)])
async def test_expiry_is_judged_by_the_server(at: Site, seconds: float, status: int):
    assert (await at("POST", "assets/dg2/command", body(seconds=seconds), who="olga", Idempotency_Key="a")).status_code == status


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize(("method", "path"), [("POST", "assets/dg2/command"), ("PATCH", "limits/dg2")])
async def test_an_end_beyond_all_calendars_is_refused(at: Site, method: str, path: str, end: str):
    said = {"action": "start"} if method == "POST" else {"max_kw": 400.0}
    answer = await at(method, path, {**said, "expires_at": end, "reason": "x"}, who="olga", Idempotency_Key="a", If_Match="*")
    assert answer.status_code == 422, answer.text
    assert at.desk.requests.newest() == []


async def test_one_key_is_one_order(at: Site):
    one = await at("POST", "assets/dg2/command", body(), who="olga", Idempotency_Key="k")
    two = await at("POST", "assets/dg2/command", body(), who="olga", Idempotency_Key="k")
    assert (two.status_code, two.json()["id"]) == (202, one.json()["id"])
    at.clock.advance(600)  # also when it has expired meanwhile: the answer was lost, not the order
    assert (await at("POST", "assets/dg2/command", body(), who="olga", Idempotency_Key="k")).json()["id"] == one.json()["id"]
    other = await at("POST", "assets/dg2/command", body(reason="another"), who="olga", Idempotency_Key="k")
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    elsewhere = await at("POST", "assets/dg1/command", body(), who="olga", Idempotency_Key="k")
    assert elsewhere.status_code == 422
    assert (await at("POST", "assets/dg2/command", body(), who="olga")).status_code == 400


async def test_two_live_orders_on_one_asset(at: Site):
    one = await at("POST", "assets/dg2/command", body(), who="olga", Idempotency_Key="a")
    two = await at("POST", "assets/dg2/command", body("stop"), who="otto", Idempotency_Key="b")
    assert (two.status_code, two.json()["code"], two.json()["id"]) == (409, "busy_asset", one.json()["id"])
    assert (await at("POST", "assets/dg1/command", body(), who="otto", Idempotency_Key="c")).status_code == 202
    at.settle(one.json()["id"], Status.ACCEPTED)
    assert (await at("POST", "assets/dg2/command", body("stop"), who="otto", Idempotency_Key="d")).status_code == 409
    assert (await at("POST", "assets/dg2/command", body("release"), who="otto", Idempotency_Key="e")).status_code == 202
    assert (await at("POST", "assets/dg2/command", body("stop"), who="otto", Idempotency_Key="f")).status_code == 202


async def test_a_settled_order_is_no_obstacle(at: Site):
    one = await at("POST", "assets/dg2/command", body(), who="olga", Idempotency_Key="a")
    at.settle(one.json()["id"], Status.DONE)
    assert (await at("POST", "assets/dg2/command", body("stop"), who="otto", Idempotency_Key="b")).status_code == 202


UNITS = [
    ("dg2", body("set", power_kw=500), 202),
    ("dg2", body("set", power_kw=1000.5), 422),
    ("dg2", body("set", power_kw=-1), 422),
    ("dg2", body("set"), 422),
    ("dg2", body("start", power_kw=5), 422),
    ("dg2", body("shed"), 422),
    ("dg2", body("explode"), 422),
    ("dg2", {**body(), "reason": ""}, 422),
    ("dg2", {"action": "start", "reason": "x"}, 422),
    ("dg2", {**body(), "force": True}, 422),
    ("pv1", body("set", power_kw=100), 202),
    ("pv1", body("start"), 422),
    ("inv1", body("set", power_kw=-1000), 202),
    ("inv1", body("set", power_kw=-1001), 422),
    ("desal1", body("start"), 202),
    ("harbour", body("shed"), 202),
    ("harbour", body("start"), 422),
    ("town", body("shed"), 422),
    ("bess1", body("set", power_kw=5), 422),
    ("bess1", body("release"), 422),
    ("m1", body("release"), 422),
    ("no-such", body(), 404),
]


@pytest.mark.parametrize(("asset", "order", "status"), UNITS)
async def test_each_kind_takes_its_own_orders(at: Site, asset: str, order: dict[str, object], status: int):
    answer = await at("POST", f"assets/{asset}/command", order, who="olga", Idempotency_Key="k")
    assert answer.status_code == status, answer.text


REST = [
    ("mode", {"mode": "manual", "reason": "x"}, "olga", 202, "mode"),
    ("mode", {"mode": "safe", "reason": "x"}, "olga", 422, None),
    ("mode", {"mode": "manual"}, "olga", 422, None),
    ("mode", {"mode": "black_start", "reason": "x"}, "olga", 202, "mode"),
    ("mode", {"mode": "black_start", "former": "dg1", "reason": "x"}, "olga", 202, "mode"),
    ("mode", {"mode": "black_start", "former": "dg1", "reason": "x"}, "viki", 403, None),
    ("mode", {"mode": "black_start", "former": "dg9", "reason": "x"}, "olga", 404, None),
    ("mode", {"mode": "black_start", "former": "pv1", "reason": "x"}, "olga", 422, None),
    ("mode", {"mode": "auto", "former": "dg1", "reason": "x"}, "olga", 422, None),
    ("mode", {"mode": "black_start"}, "olga", 422, None),
    ("assets/dg1/mode", {"mode": "black_start", "reason": "x"}, "olga", 422, None),
    ("assets/dg1/mode", {"mode": "manual", "reason": "x"}, "olga", 202, "mode"),
    ("assets/town/mode", {"mode": "manual", "reason": "x"}, "olga", 422, None),
    ("stage", {"stage": "shadow", "reason": "x"}, "emil", 202, "stage"),
    ("stage", {"stage": "shadow", "reason": "x"}, "olga", 403, None),
    ("stage", {"stage": "CONTROL", "reason": "x"}, "emil", 422, None),
    ("stage", {"stage": "shadow", "asset": "dg1", "reason": "x"}, "emil", 202, "stage"),
    ("stage", {"stage": "shadow", "asset": "dg9", "reason": "x"}, "emil", 404, None),
    ("stop", {"reason": "smoke"}, "olga", 202, "stop"),
    ("stop", None, "olga", 202, "stop"),  # nothing may stand in its way
    ("stop", None, "viki", 403, None),
    ("alarms/no_answer:dg3:1781439594000000/ack", None, "olga", 202, "ack"),
    ("alarms/no-such/ack", None, "olga", 404, None),
    ("advice/no-such/accept", None, "olga", 404, None),
]


@pytest.mark.parametrize(("path", "order", "who", "status", "kind"), REST)
async def test_other_orders(at: Site, path: str, order: dict[str, object] | None, who: str, status: int, kind: str | None):
    answer = await at("POST", path, order, who=who)
    assert answer.status_code == status, answer.text
    stored = at.desk.requests.newest(1)
    assert (stored[0].kind if stored else None) == kind
    if kind:
        assert (await at("GET", f"commands/{answer.json()['id']}")).json()["status"] == "queued"


async def test_an_acknowledgement_names_its_alarm(at: Site):
    await at("POST", "alarms/no_answer:dg3:1781439594000000/ack", {"reason": "on my way"}, who="olga")
    assert at.desk.requests.newest(1)[0].body == {"alarm": "no_answer:dg3:1781439594000000", "reason": "on my way"}


async def test_advice_can_be_accepted(at: Site):
    at.live.update({**island.beat(), "advice": [{"id": "adv1", "asset": "dg2"}]})
    assert (await at("POST", "advice/adv1/accept", None, who="olga")).status_code == 202
    stored = at.desk.requests.newest(1)[0]
    assert (stored.kind, stored.asset, stored.body["advice"]) == ("accept", "dg2", "adv1")
