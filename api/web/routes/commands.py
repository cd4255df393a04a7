"""Orders: each becomes one durable row before it is acknowledged, and control says what became of it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query

from api.web.auth import Person
from api.web.desk import AtDesk, Desk, Who, admit
from api.web.problem import Problem
from api.web.routes.limits import asset_of
from api.web.routes.read import stamp
from api.web.schemas import COMMAND_AHEAD, Command, ModeBody, Note, SiteModeBody, StageBody, StopBody, body, check_expiry, described
from drivers.store.requests import KeyReused
from ems.config.site import Deferrable, Diesel, Feeder, Hydro, Inverter, Solar
from ems.errors import StoreError
from ems.model import UNNUMBERED, Request
from ems.terms import Mode

router = APIRouter(dependencies=[Depends(admit)], tags=["orders"])

Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]
LOG = logging.getLogger("web")
STOP_S = 2.0
"""An emergency stop waits for the store no longer than this [s, real]."""
ALERTS = 20
"""So many stops that could not be stored are remembered for who asks what became of them."""
FINAL = ("done", "rejected", "expired")
ACTIONS: Mapping[type, tuple[str, ...]] = {
    Solar: ("set",),
    Hydro: ("start", "stop", "set"),
    Diesel: ("start", "stop", "set"),
    Inverter: ("start", "stop", "set"),
    Deferrable: ("start", "stop", "set"),
    Feeder: ("shed", "restore"),
}
"""What each kind can be told, besides `release`."""


@router.post("/assets/{id}/command", status_code=202, openapi_extra=described(Command))
async def command(id: str, at: AtDesk, person: Who, order: Annotated[Command, Depends(body(Command))], key: Key = None) -> dict[str, Any]:  # noqa: A002
    """Order something of one asset or feeder; the outcome is at `commands/{id}`."""
    unit = asset_of(at, id)
    if key is None:
        raise Problem(400, "key_missing", "a command needs an Idempotency-Key, so that sending it twice does it once")
    row = order.model_dump(mode="json", exclude_none=True, exclude={"expires_at"}) | {"expires_at": stamp(order.expires_at)}
    async with at.writing:
        first = await at.check(lambda: at.requests.keyed(person.name, key))
        if first is not None:
            return same(first, "command", id, row)
        check_expiry(order.expires_at, at.clock.now(), COMMAND_AHEAD)
        check(unit, order)
        await refuse_second(at, id, order.action)
        return await put(at, person, "command", id, row, key, order.expires_at)


@router.post("/assets/{id}/mode", status_code=202, openapi_extra=described(ModeBody))
async def asset_mode(id: str, at: AtDesk, person: Who, order: Annotated[ModeBody, Depends(body(ModeBody))], key: Key = None) -> dict[str, Any]:  # noqa: A002
    """Put one asset in manual, holding what it does, or give it back."""
    unit = asset_of(at, id)
    if type(unit) not in ACTIONS:
        raise Problem(422, "invalid", f"a {unit.kind} is not dispatched")
    return await put(at, person, "mode", id, order.model_dump(mode="json"), key)


@router.post("/mode", status_code=202, openapi_extra=described(SiteModeBody))
async def mode(at: AtDesk, person: Who, order: Annotated[SiteModeBody, Depends(body(SiteModeBody))], key: Key = None) -> dict[str, Any]:
    """Let the EMS decide, hold what people ordered, or bring up a dead bus; `auto` also leaves the emergency stop."""
    if order.former is not None:
        if order.mode != "black_start":
            raise Problem(422, "invalid", "former: for black_start only")
        unit = asset_of(at, order.former)
        if not isinstance(unit, Inverter | Diesel) or unit.forming == "never":
            raise Problem(422, "invalid", f"former: {order.former} cannot form the bus")
    return await put(at, person, "mode", None, order.model_dump(mode="json", exclude_none=True), key)


@router.post("/stage", status_code=202, openapi_extra=described(StageBody))
async def stage(at: AtDesk, person: Who, order: Annotated[StageBody, Depends(body(StageBody))], key: Key = None) -> dict[str, Any]:
    """Choose the rung of the commissioning ladder, of the site or of one asset; the lowest of all that apply is in force."""
    if order.asset is not None:
        asset_of(at, order.asset)
    return await put(at, person, "stage", order.asset, order.model_dump(mode="json", exclude={"asset"}), key)


@router.post("/stop", status_code=202, openapi_extra=described(StopBody))
async def stop(at: AtDesk, person: Who, order: Annotated[StopBody, Depends(body(StopBody, optional=True))], key: Key = None) -> dict[str, Any]:
    """Emergency stop: safe values once, then no write and no heartbeat any more. What cannot be stored goes to control past the store."""
    try:
        return await put(at, person, "stop", None, order.model_dump(mode="json"), key, wait_s=STOP_S)
    except (StoreError, OSError) as fault:
        return past_the_store(at, person, order, fault)


def past_the_store(at: Desk, person: Person, order: StopBody, fault: Exception) -> dict[str, Any]:
    """Hand a stop to control through the supervisor; its row in the audit follows when the file can be written again."""
    row = Request(UNNUMBERED, secrets.token_hex(8), "stop", None, order.model_dump(mode="json"), person.name, at.clock.now())
    LOG.error("the emergency stop of %s goes to control past the store: %s", person.name, fault)
    at.up({"stop": {"id": row.id, "reason": order.reason, "by": row.by, "at": stamp(row.at)}})
    at.alerts = dict([*at.alerts.items(), (row.id, row)][-ALERTS:])
    at.audit.owe("stop", row.by, row.at, order.reason, {"id": row.id, "stored": False})
    return {"id": row.id, "status": "queued"}


@router.post("/alarms/{id}/ack", status_code=202, openapi_extra=described(Note))
async def ack(id: str, at: AtDesk, person: Who, note: Annotated[Note, Depends(body(Note, optional=True))], key: Key = None) -> dict[str, Any]:  # noqa: A002
    """Say that an alarm was seen."""
    known = at.live.alarms if at.live.state is not None else await at.check(lambda: at.history.alarms(active=True))
    if all(alarm["id"] != id for alarm in known):
        raise Problem(404, "not_found", "there is no active alarm of this id")
    return await put(at, person, "ack", None, {"alarm": id, "reason": note.reason}, key)


@router.post("/advice/{id}/accept", status_code=202, openapi_extra=described(Note))
async def accept(id: str, at: AtDesk, person: Who, note: Annotated[Note, Depends(body(Note, optional=True))], key: Key = None) -> dict[str, Any]:  # noqa: A002
    """Let one piece of advice be carried out."""
    found = next((a for a in at.live.advice if a.get("id") == id), None)
    if found is None:
        raise Problem(404, "not_found", "there is no such advice now")
    return await put(at, person, "accept", found.get("asset"), {"advice": id, "reason": note.reason}, key)


@router.get("/commands")
async def commands(at: AtDesk, asset: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> list[dict[str, Any]]:
    """The newest orders first, of one asset where it is named."""
    if asset is not None:
        asset_of(at, asset)
    found = await at.look(lambda: at.requests.newest(limit, "command", asset))
    outcomes = await at.look(lambda: at.ledger.outcomes([r.seq for r in found]))
    now = at.clock.now()
    return [shown(r, outcomes.get(r.seq), now) for r in found]


@router.get("/commands/{id}")
async def outcome(id: str, at: AtDesk) -> dict[str, Any]:  # noqa: A002
    """What became of one order or any other request; no outcome yet is `queued`."""
    if id in at.alerts:
        return shown(at.alerts[id], in_force(at), at.clock.now())
    found = await at.look(lambda: at.requests.find(id))
    if found is None:
        raise Problem(404, "not_found", "there is no such command")
    said = await at.look(lambda: at.ledger.outcome(found.seq))
    return shown(found, said, at.clock.now())


def in_force(at: Desk) -> dict[str, Any] | None:
    """Return the outcome of a stop that was not stored: what the state says."""
    state = at.live.state or {}
    return {"status": "done", "cause": None, "result": "in force", "at": state["time"]} if state.get("mode") == Mode.SAFE else None


def shown(request: Request, said: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    """Return a request with what became of it."""
    late = said is None and request.kind == "command" and request.expires_at is not None and request.expires_at <= now
    status = "expired" if late else "queued" if said is None else said["status"]
    return {
        "id": request.id,
        "status": status,
        "cause": "expired" if late else None if said is None else said["cause"],
        "by": request.by,
        "at": stamp(request.at),
        "result": None if said is None else said["result"],
        "kind": request.kind,
        "asset": request.asset,
        "action": request.body.get("action"),
        "power_kw": request.body.get("power_kw"),
        "reason": request.body.get("reason"),
        "expires_at": None if request.expires_at is None else stamp(request.expires_at),
        "settled_at": None if said is None else said["at"],
    }


def check(unit: Any, order: Command) -> None:
    """Refuse what this unit cannot do, and powers beyond its rating."""
    allowed = ACTIONS.get(type(unit), ())
    if not allowed or order.action not in (*allowed, "release"):
        raise Problem(422, "invalid", f"action: a {unit.kind} takes {', '.join((*allowed, 'release')) if allowed else 'no command'}")
    if (order.action == "set") != (order.power_kw is not None):
        raise Problem(422, "invalid", "power_kw: needed for set, and for set only")
    if order.power_kw is not None:
        least = -unit.rated_kw if isinstance(unit, Inverter) else 0.0
        if not least <= order.power_kw <= unit.rated_kw:
            raise Problem(422, "invalid", f"power_kw: {order.power_kw:g} is outside {least:g} to {unit.rated_kw:g}")


async def refuse_second(at: Desk, asset: str, action: str) -> None:
    """Refuse a second live command on one asset; `release` is always taken, and ends what came before it."""
    newest = await at.check(lambda: at.requests.newest(1, "command", asset))
    if action == "release" or not newest or newest[0].body.get("action") == "release":
        return
    said = await at.check(lambda: at.ledger.outcome(newest[0].seq))
    found = shown(newest[0], said, at.clock.now())
    if found["status"] not in FINAL:
        raise Problem(409, "busy_asset", f"{found['by']}'s {found['action']} is still {found['status']}", id=found["id"], current=found)


def same(first: Request, kind: str, asset: str | None, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer that was given to a request that comes again under its key."""
    if (first.kind, first.asset, dict(first.body)) != (kind, asset, dict(row)):
        raise KeyReused("this Idempotency-Key was used for another request", "Idempotency-Key", "a new key for a new request")
    return {"id": first.id, "status": "queued"}


async def put(
    at: Desk,
    person: Person,
    kind: str,
    asset: str | None,
    row: Mapping[str, Any],
    key: str | None,
    expires_at: datetime | None = None,
    wait_s: float | None = None,
) -> dict[str, Any]:
    """Store a request durably and return its receipt; a `TimeoutError` where that takes longer than `wait_s` [s, real]."""
    before = None if at.live.state is None else {name: at.live.state.get(name) for name in ("mode", "stage", "cycle")}
    made = await at.write(lambda: at.requests.append(kind, asset, row, person.name, at.clock.now(), expires_at, key, before=before, after=None), wait_s)
    return {"id": made.id, "status": "queued"}
