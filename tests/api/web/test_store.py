"""What the page does while its own file is damaged, full, slow or gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from api.processes.control import stop_of
from api.web import desk
from api.web.routes import commands
from ems.errors import StoreError
from ems.model import UNNUMBERED
from tests.api.web.served import PASSWORD, Site
from tests.api.web.test_commands import body


def damage(at: Site) -> None:
    """Spoil site.db under the open connection, so that the next write finds it."""
    file = at.desk.requests.file
    file.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    at.desk.requests.path.write_bytes(b"\xff" * 8192)
    file.rows("PRAGMA shrink_memory")


async def test_a_damaged_file_costs_one_order_and_is_told_to_control_once(at: Site):
    await at("POST", "stop", who="olga")
    damage(at)
    assert (await at("POST", "mode", {"mode": "auto", "reason": "x"}, who="olga")).status_code == 503
    assert (await at("POST", "mode", {"mode": "auto", "reason": "x"}, who="olga")).status_code == 202
    assert (await at("POST", "stop", who="olga")).status_code == 202
    assert [list(said) for said in at.up] == [["notice"]]
    assert "site.db was damaged" in at.up[0]["notice"]


# ------------------------------------------------------------------ a full disk
@contextmanager
def full(at: Site) -> Iterator[None]:
    """Let nothing more into site.db, nor into the list of tokens."""
    file = at.desk.requests.file
    pages = file.rows("PRAGMA page_count")[0][0]
    file.rows(f"PRAGMA max_page_count = {pages}")
    while True:  # what is left of the last page
        try:
            at.desk.requests.append("ack", None, {"reason": "x" * 50}, "test", at.clock.now())
        except StoreError:
            break
    (at.data / "revoked.json").mkdir()
    yield
    (at.data / "revoked.json").rmdir()
    file.rows("PRAGMA max_page_count = 1000000")


def show_mode(at: Site, mode: str) -> None:
    at.live.state = {**(at.live.state or {}), "mode": mode}


async def test_an_emergency_stop_reaches_control_past_a_full_disk(at: Site):
    with full(at):
        assert (await at("POST", "mode", {"mode": "auto", "reason": "x"}, who="olga")).status_code == 503
        sent = await at("POST", "stop", {"reason": "fire"}, who="olga", Idempotency_Key="k")
        assert (sent.status_code, sent.json()["status"]) == (202, "queued")
        where = f"commands/{sent.json()['id']}"
        (said,) = at.up
        stop = stop_of(said["stop"])
        assert (stop.seq, stop.kind, stop.id, stop.by, stop.body, stop.at) == (
            UNNUMBERED,
            "stop",
            sent.json()["id"],
            "olga",
            {"reason": "fire"},
            at.clock.now(),
        )
        assert (await at("GET", where)).json()["status"] == "queued"
        show_mode(at, "safe")
        seen = (await at("GET", where)).json()
        assert (seen["status"], seen["result"], seen["by"], seen["reason"]) == ("done", "in force", "olga", "fire")
    await at("POST", "mode", {"mode": "auto", "reason": "room again"}, who="olga")
    kept = at.desk.requests.audit(limit=10_000)[-2:]
    assert [(row["kind"], row["by"], row["why"]) for row in kept] == [("mode", "olga", "room again"), ("stop", "olga", "fire")], "its row follows"
    assert at.desk.requests.verify() is None
    assert len(at.up) == 1


async def test_an_emergency_stop_does_not_wait_for_a_store_that_hangs(at: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(commands, "STOP_S", 0.1)
    held, ended = threading.Event(), threading.Event()

    def hang() -> None:
        with at.desk.requests.file.transaction():
            held.set()
            ended.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    held.wait(20)
    assert (await at("POST", "stop", who="olga")).status_code == 202
    assert [list(said) for said in at.up] == [["stop"]]
    ended.set()
    thread.join()


async def test_a_full_disk_keeps_nobody_out_and_signs_nobody_out(at: Site):
    with full(at):
        answer = await at("POST", "auth/token", {"username": "olga", "password": PASSWORD})
        assert answer.status_code == 200
        old = answer.json()["access_token"]
        assert (await at("POST", "auth/token", {"username": "olga", "password": "wrong"})).status_code == 401
        fresh = await at("POST", "auth/renew", Authorization=f"Bearer {old}")
        assert fresh.status_code == 200
        for token in (old, fresh.json()["access_token"]):
            assert (await at("GET", "auth/me", Authorization=f"Bearer {token}")).status_code == 200
        out = await at("POST", "auth/logout", Authorization=f"Bearer {old}")
        assert (out.status_code, out.json()["code"]) == (503, "store_unavailable")
        assert (await at("GET", "auth/me", Authorization=f"Bearer {old}")).status_code == 200, "who is told that it failed is still signed in"
    assert (await at("POST", "auth/logout", Authorization=f"Bearer {old}")).status_code == 200
    assert (await at("GET", "auth/me", Authorization=f"Bearer {old}")).status_code == 401
    kept = at.desk.requests.audit(limit=10_000)[-3:]
    assert [(row["kind"], row["why"]) for row in kept] == [("login", "signed in"), ("security", "wrong user name or password"), ("logout", "signed out")]


# ------------------------------------------------------------------ others who look
async def test_slow_looks_hold_up_no_order_and_of_charts_only_a_few_are_made_at_once(at: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(desk, "CHART_WAIT_S", 0.1)
    ended, making = threading.Event(), threading.Semaphore(0)

    def slow(*_: object) -> dict[str, object]:
        making.release()
        ended.wait(20)
        return {"time": [], "columns": {}}

    monkeypatch.setattr(at.desk.history, "points", slow)
    monkeypatch.setattr(at.desk.history, "plan", slow)
    charts = [asyncio.create_task(at("GET", "history?points=load_kw")) for _ in range(desk.CHARTS + 2)]
    looks = [asyncio.create_task(at("GET", "plan")) for _ in range(2 * desk.LOOKS)]
    try:
        for _ in range(desk.LOOKS):
            assert await asyncio.to_thread(making.acquire, timeout=20), "all threads for looks are busy"
        orders = [
            await at("PATCH", "limits/pv1", {"max_kw": 400.0, "reason": "x"}, who="olga", If_Match="*"),
            await at("POST", "assets/dg2/command", body(), who="olga", Idempotency_Key="a"),
            await at("POST", "assets/dg2/command", body(), who="olga", Idempotency_Key="b"),
            await at("POST", "stop", who="olga"),
        ]
        assert [answer.status_code for answer in orders] == [200, 202, 409, 202]
        turned_away = [await done for _, done in zip(range(2), asyncio.as_completed(charts), strict=False)]
        assert [(answer.status_code, answer.json()["code"]) for answer in turned_away] == [(503, "too_many_charts")] * 2
    finally:
        ended.set()
    assert sorted([(await task).status_code for task in charts]) == [200] * desk.CHARTS + [503] * 2
    assert {(await task).status_code for task in looks} == {200}
    assert (await at("GET", "history?points=load_kw")).status_code == 200, "and then there is room again"
