"""Limits: strict bodies, ratings, and nobody overwrites what they have not seen."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ems.model import Status
from tests.api.web import island
from tests.api.web.served import Site

GOOD = {"max_kw": 400.0, "reason": "test"}
SOON = (island.NOW + timedelta(hours=1)).isoformat()


async def tag(at: Site, asset: str = "pv1") -> str:
    return str((await at("GET", f"limits/{asset}")).headers["etag"])


async def test_a_change_is_stored_and_has_a_new_tag(at: Site):
    before = await tag(at)
    answer = await at("PATCH", "limits/pv1", GOOD, who="olga", If_Match=before)
    assert answer.status_code == 200
    assert (answer.json()["max_kw"], answer.json()["by"]) == (400.0, "olga")
    assert answer.headers["etag"] != before
    assert (await at("GET", "limits/pv1")).headers["etag"] == answer.headers["etag"]
    assert (await at("GET", "limits")).json()["pv1"]["max_kw"] == 400.0
    stored = at.desk.requests.newest(1)[0]
    assert (stored.kind, stored.asset, stored.by, stored.body["max_kw"]) == ("limits", "pv1", "olga", 400.0)
    audit = at.desk.requests.audit()[-1]
    assert (audit["by"], audit["why"], audit["before"]["max_kw"], audit["after"]["max_kw"]) == ("olga", "test", None, 400.0)


async def test_what_is_left_out_stays_and_null_takes_back(at: Site):
    await at("PATCH", "limits/dg1", {"max_kw": 400, "min_kw": 200, "out_of_service": True, "reason": "a"}, who="olga", If_Match=await tag(at, "dg1"))
    kept = await at("PATCH", "limits/dg1", {"max_kw": None, "reason": "b"}, who="olga", If_Match=await tag(at, "dg1"))
    found = kept.json()
    assert (found["max_kw"], found["min_kw"], found["out_of_service"], found["reason"]) == (None, 200.0, True, "b")
    row = at.desk.requests.newest(1)[0].body  # each request says all of them: control takes the newest one whole
    assert {"max_kw", "min_kw", "soc_min", "soc_max", "out_of_service", "expires_at", "reason"} == set(row)


async def test_nobody_orders_the_sun_to_shine(at: Site):
    answer = await at("PATCH", "limits/pv1", {"min_kw": 10, "reason": "a"}, who="olga", If_Match=await tag(at))
    assert (answer.status_code, answer.json()["detail"]) == (422, "min_kw: a solar takes max_kw")


async def test_without_tag_428_and_with_an_old_one_412_that_shows_the_new(at: Site):
    old = await tag(at)
    assert (await at("PATCH", "limits/pv1", GOOD, who="olga")).status_code == 428
    await at("PATCH", "limits/pv1", GOOD, who="olga", If_Match=old)
    stale = await at("PATCH", "limits/pv1", {"max_kw": 90.0, "reason": "late"}, who="otto", If_Match=old)
    assert (stale.status_code, stale.json()["code"], stale.json()["current"]["max_kw"]) == (412, "changed_meanwhile", 400.0)


async def test_the_same_change_again_under_its_key_is_the_same_change(at: Site):
    old = await tag(at)
    one = await at("PATCH", "limits/pv1", GOOD, who="olga", If_Match=old, Idempotency_Key="k")
    two = await at("PATCH", "limits/pv1", GOOD, who="olga", If_Match=old, Idempotency_Key="k")
    assert (two.status_code, two.headers["etag"]) == (200, one.headers["etag"])
    assert len(at.desk.requests.newest()) == 1
    other = await at("PATCH", "limits/pv1", {"max_kw": 5, "reason": "test"}, who="olga", If_Match=one.headers["etag"], Idempotency_Key="k")
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


async def test_limits_run_out_and_then_have_another_tag(at: Site):
    await at("PATCH", "limits/pv1", {**GOOD, "expires_at": SOON}, who="olga", If_Match=await tag(at))
    held = await tag(at)
    at.clock.advance(3601)
    after = await at("GET", "limits/pv1")
    assert (after.json()["max_kw"], after.json()["expires_at"]) == (None, None)
    assert after.headers["etag"] != held


async def test_what_control_refused_does_not_hold(at: Site):
    await at("PATCH", "limits/pv1", GOOD, who="olga", If_Match=await tag(at))
    at.settle(at.desk.requests.newest(1)[0].id, Status.REJECTED, "the ledger cannot be written")
    assert (await at("GET", "limits/pv1")).json()["max_kw"] is None


BAD = [
    b'{"max_kw": NaN, "reason": "x"}',
    b'{"max_kw": Infinity, "reason": "x"}',
    b'{"max_kw": -Infinity, "reason": "x"}',
    b'{"max_kw": 1e400, "reason": "x"}',
    b'{"max_kw": "400", "reason": "x"}',
    b'{"max_kw": true, "reason": "x"}',
    b'{"max_kw": [400], "reason": "x"}',
    b'{"max_kw": 100, "maxkw": 100, "reason": "x"}',
    b'{"max_kw": 100, "max_kw": 200, "reason": "x"}',
    b'{"max_kw": 100}',
    b'{"max_kw": 100, "reason": ""}',
    b'{"max_kw": 100, "reason": "   "}',
    b'{"max_kw": 100, "reason": null}',
    b'{"max_kw": 100, "reason": 5}',
    b'{"max_kw": -1, "reason": "x"}',
    b'{"max_kw": 1000.1, "reason": "x"}',
    b'{"min_kw": 1001, "reason": "x"}',
    b'{"min_kw": 300, "max_kw": 200, "reason": "x"}',
    b'{"soc_min": 0.2, "reason": "x"}',
    b'{"out_of_service": 1, "reason": "x"}',
    b'{"out_of_service": "true", "reason": "x"}',
    b'{"max_kw": 100, "reason": "x", "expires_at": "2026-06-21T12:32:09Z"}',
    b'{"max_kw": 100, "reason": "x", "expires_at": "2026-06-14T12:32:08Z"}',
    b'{"max_kw": 100, "reason": "x", "expires_at": "2026-06-14T13:00:00"}',
    b'{"max_kw": 100, "reason": "x", "expires_at": 1781440000}',
    b'{"max_kw": 100, "reason": "x"',
    b"\xff\xfe",
    b"[]",
    b"null",
    b"",
    b'{"max_kw": ' + b"[" * 20000 + b"]" * 20000 + b', "reason": "x"}',
    b'{"max_kw": ' + b"9" * 5000 + b', "reason": "x"}',
]


@pytest.mark.parametrize("raw", BAD, ids=lambda raw: raw[:45].decode(errors="replace"))
async def test_a_doubtful_body_is_refused_and_changes_nothing(at: Site, raw: bytes):
    before = await tag(at)
    answer = await at("PATCH", "limits/pv1", raw=raw, who="olga", If_Match=before, Content_Type="application/json")
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await tag(at) == before
    assert at.desk.requests.newest() == []


UNITS = [
    ("bess1", {"soc_min": 0.2, "soc_max": 0.9}, 200),
    ("bess1", {"soc_min": 0.9, "soc_max": 0.2}, 422),
    ("bess1", {"soc_min": 0.05}, 422),  # the site file's band begins at 0.10
    ("bess1", {"soc_max": 1.2}, 422),
    ("bess1", {"max_kw": 100}, 422),  # power limits go to the inverter
    ("inv1", {"max_kw": 500}, 200),
    ("inv1", {"min_kw": -500}, 200),
    ("inv1", {"max_kw": -5}, 422),
    ("dg1", {"max_kw": 0}, 200),
    ("dg1", {"min_kw": -1}, 422),
    ("desal1", {"max_kw": 120}, 200),
    ("desal1", {"max_kw": 121}, 422),
    ("dg1", {"out_of_service": True}, 200),
    ("town", {"max_kw": 5}, 422),
    ("harbour", {"max_kw": 5}, 422),
    ("m1", {"out_of_service": True}, 422),
    ("nobody", {"max_kw": 5}, 404),
]


@pytest.mark.parametrize(("asset", "body", "status"), UNITS)
async def test_values_are_checked_against_the_unit(at: Site, asset: str, body: dict[str, object], status: int):
    answer = await at("PATCH", f"limits/{asset}", {**body, "reason": "x"}, who="olga", If_Match='"0"')
    assert answer.status_code == status, answer.text


async def test_a_large_body_is_cut_off(at: Site):
    answer = await at("PATCH", "limits/pv1", raw=b'{"reason": "' + b"x" * 70_000 + b'"}', who="olga", If_Match='"0"')
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"reason": "only"}, "nothing to change"),
        ({"max_kw": 100, "maxkw": 100, "reason": "x"}, "maxkw: unknown field"),
        ({"max_kw": 100}, "reason: is missing"),
    ],
)
async def test_a_refusal_says_what_is_wrong_in_our_words(at: Site, patch: dict[str, object], said: str):
    answer = await at("PATCH", "limits/pv1", patch, who="olga", If_Match=await tag(at))
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
