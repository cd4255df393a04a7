"""A change that was refused leaves a row of the audit and an event: who, from where, what, and why not."""

from __future__ import annotations

from typing import Any

import pytest

from api.processes.control import event_of
from api.web.audit import Ration
from drivers.store.history import History
from ems.decision import Event
from tests.api.web import island
from tests.api.web.served import PASSWORD, Site
from tests.api.web.test_commands import body

LIMITS = {"max_kw": 400.0, "reason": "test"}
NOBODY = "(not signed in)"


def rows(at: Site) -> list[dict[str, Any]]:
    return [row for row in at.desk.requests.audit(limit=1000) if row["kind"] == "security"]


@pytest.mark.parametrize(
    ("method", "path", "said", "who", "head", "status", "code", "asset"),
    [
        ("POST", "stop", None, None, {}, 401, "sign_in", None),
        ("POST", "stop", None, "viki", {}, 403, "role", None),
        ("POST", "stage", {"stage": "shadow", "reason": "x"}, "olga", {}, 403, "role", None),
        ("POST", "assets/dg2/command", body(), "otto", {"Idempotency_Key": "b"}, 409, "busy_asset", "dg2"),
        ("PATCH", "limits/pv1", LIMITS, "otto", {"If_Match": '"old"'}, 412, "changed_meanwhile", "pv1"),
        ("PATCH", "limits/pv1", {"max_kw": 1e9, "reason": "x"}, "otto", {"If_Match": "*"}, 422, "invalid", "pv1"),
        ("POST", "assets/dg2/command", body(seconds=-5), "otto", {"Idempotency_Key": "c"}, 422, "late", "dg2"),
        ("POST", "assets/dg2/command", body("stop"), "olga", {"Idempotency_Key": "a"}, 422, "key_reused", "dg2"),
        ("POST", "mode", {"mode": "autoo", "reason": "x"}, "olga", {}, 422, "invalid", None),
        ("POST", "mode", {"mode": "auto", "reason": "x"}, "olga", {"Idempotency_Key": "k" * 201}, 422, "invalid", None),
    ],
)
async def test_each_kind_of_refusal_is_traced(
    at: Site, method: str, path: str, said: Any, who: str | None, head: dict[str, str], status: int, code: str, asset: str | None
):
    await at("POST", "assets/dg2/command", body(), who="olga", Idempotency_Key="a")
    answer = await at(method, path, said, who=who, **head)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    (row,) = rows(at)
    assert (row["by"], row["at"]) == (who or NOBODY, "2026-06-14T12:32:08Z")
    assert row["why"] == f"{method} {path}: {answer.json()['detail']}"
    assert row["detail"] == {
        "source": "127.0.0.1", "method": method, "path": path, "status": status, "code": code, "signed_in": who is not None, "left_out": 0,
    }  # fmt: skip
    assert at.desk.requests.verify() is None
    assert [event_of(line["event"]) for line in at.up] == [Event("security", asset, f"{row['why']}, from 127.0.0.1", who or NOBODY)]


async def test_what_changes_nothing_and_what_is_taken_leave_none(at: Site):
    await at("GET", "limits/nowhere")
    await at("GET", "history?points=load_kw&step=soon")
    await at("POST", "nowhere")
    assert (await at("PATCH", "limits/pv1", LIMITS, who="olga")).status_code == 428
    assert (await at("POST", "stop", who="olga")).status_code == 202
    assert (rows(at), at.up) == ([], [])


async def test_a_name_that_nobody_has_proven_is_in_the_audit_alone(at: Site):
    await at("POST", "auth/token", {"username": PASSWORD, "password": "olga"})  # the two fields mixed up
    (row,) = rows(at)
    assert (row["by"], row["why"]) == (PASSWORD, "wrong user name or password")
    assert [line["event"] for line in at.up] == [{"asset": None, "by": NOBODY, "reason": "wrong user name or password, from 127.0.0.1"}]


async def test_who_hammers_at_the_door_fills_nothing_and_hides_nobody_else(at: Site):
    for _ in range(Ration.ROWS + 5):
        assert (await at("POST", "stop")).status_code == 401
    assert (len(rows(at)), len(at.up)) == (Ration.ROWS, Ration.ROWS)
    await at("POST", "stop", who="viki")
    assert rows(at)[-1]["by"] == "viki"


def test_a_ration_counts_what_it_leaves_out_and_forgets_the_oldest_source():
    ration = Ration()
    assert [ration.take("a", 0.0) for _ in range(Ration.ROWS + 2)] == [0] * Ration.ROWS + [None, None]
    assert [ration.take("b", 1.0), ration.take("a", 3599.0), ration.take("a", 3600.0), ration.take("a", 3601.0)] == [0, None, 3, 0]
    for k in range(2 * Ration.SOURCES):
        ration.take(f"s{k}", 0.0)
    assert len(ration._seen) == Ration.SOURCES


async def test_a_refusal_is_answered_and_traced_later_while_nothing_can_be_stored(at: Site):
    file = at.desk.requests.file
    file.rows("PRAGMA query_only = 1")
    assert (await at("POST", "stop")).status_code == 401
    assert len(at.up) == 1
    file.rows("PRAGMA query_only = 0")
    await at("POST", "mode", {"mode": "auto", "reason": "x"}, who="olga")
    assert [row["by"] for row in rows(at)] == [NOBODY]


async def test_the_event_is_among_those_that_control_stores(at: Site):
    history = History(at.data / "history.db")
    await at("POST", "assets/dg2/command", body(), who="viki", Idempotency_Key="a")
    history.events(island.NOW, [event_of(line["event"]) for line in at.up])
    history.close()
    (event,) = (await at("GET", "events")).json()
    assert (event["kind"], event["asset"], event["by"]) == ("security", "dg2", "viki")
    assert event["reason"].startswith("POST assets/dg2/command: this needs the role operator; viki is viewer, from ")
