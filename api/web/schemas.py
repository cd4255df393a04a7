"""What may be said through the door: bodies that are checked strictly and never repaired."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from fastapi import Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from api.web.problem import Problem, said
from ems.terms import Stage

BODY_LIMIT = 64 * 1024
COMMAND_AHEAD = timedelta(minutes=15)
LIMITS_AHEAD = timedelta(days=7)

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Body(BaseModel):
    """Nothing unknown, nothing converted, nothing infinite."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class LimitsPatch(Body):
    """What to change; a key left out stays as it is, null goes back to the site file's rating."""

    max_kw: float | None = None
    min_kw: float | None = None
    soc_min: float | None = None
    soc_max: float | None = None
    out_of_service: bool | None = None
    expires_at: AwareDatetime | None = None
    reason: Reason


class Command(Body):
    """One order to one asset or feeder."""

    action: Literal["start", "stop", "set", "release", "shed", "restore"]
    power_kw: float | None = None
    expires_at: AwareDatetime
    reason: Reason


class ModeBody(Body):
    """`auto`: the EMS decides; `manual`: it holds what people ordered."""

    mode: Literal["auto", "manual"]
    reason: Reason


class SiteModeBody(Body):
    """As `ModeBody`; `black_start` brings up a dead bus by one unit, `former` or the best one."""

    mode: Literal["auto", "manual", "black_start"]
    former: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    reason: Reason


class StageBody(Body):
    """The commissioning ladder."""

    stage: Stage
    asset: str | None = None
    reason: Reason


class StopBody(Body):
    """The emergency stop asks for no reason: nothing may stand in its way."""

    reason: Reason = "emergency stop"


class StormBody(Body):
    """A warning: from when to when neither the sun nor the boat with the fuel is to be counted on."""

    start: AwareDatetime
    until: AwareDatetime


class ForecastBody(Body):
    """A forecast as `GET forecast` shows it, on an even grid; what is left out is forecast by the EMS itself. A warning may come with it, or alone."""

    start: AwareDatetime
    step_s: int
    load_kw: list[float] = []
    available_kw: dict[str, list[float]] = {}
    inflow_m3s: dict[str, list[float]] = {}
    storm: StormBody | None = None
    expires_at: AwareDatetime | None = None
    reason: Reason


class Note(Body):
    """A remark with an acknowledgement or an acceptance."""

    reason: Reason = "seen"


class Login(Body):
    """User name and password."""

    username: Annotated[str, StringConstraints(max_length=64)]
    password: Annotated[str, StringConstraints(max_length=1024)]


Model = TypeVar("Model", bound=Body)


def body(model: type[Model], optional: bool = False) -> Callable[[Request], Awaitable[Model]]:
    """Return a dependency that reads the body as `model`, or refuses it with 413 or 422."""

    async def parse(request: Request) -> Model:
        raw = await read(request)
        if optional and not raw.strip():
            raw = b"{}"
        refuse_doubtful(raw)
        try:
            return model.model_validate_json(raw)
        except ValidationError as fault:
            raise Problem(422, "invalid", "; ".join(said(dict(e)) for e in fault.errors()[:5])) from fault

    return parse


def described(model: type[Body]) -> dict[str, Any]:
    """Return what OpenAPI shows of a body, which FastAPI cannot see since we read it ourselves."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


async def read(request: Request) -> bytes:
    """Read the body, but never more than `BODY_LIMIT` of it, whatever its header says."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_LIMIT:
            raise Problem(413, "too_large", f"a body has at most {BODY_LIMIT} bytes", {"Connection": "close"})
        parts.append(part)
    return b"".join(parts)


def refuse_doubtful(raw: bytes) -> None:
    """Refuse what JSON readers understand differently: keys given twice, NaN and Infinity, wrong UTF-8, deep nesting."""
    try:
        json.loads(raw.decode("utf-8"), object_pairs_hook=once, parse_constant=no_constant)
    except (ValueError, RecursionError) as fault:
        raise Problem(422, "invalid", f"the body is not usable JSON: {str(fault)[:200]}") from fault


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object, if every key is given once."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def no_constant(name: str) -> NoReturn:
    """NaN and Infinity are not JSON."""
    raise ValueError(f"{name} is not a JSON number")


def check_expiry(expires_at: datetime | None, now: datetime, ahead: timedelta) -> None:
    """Refuse what is late already, and what would lie in wait for too long."""
    if expires_at is None:
        return
    if expires_at <= now:
        raise Problem(422, "late", f"expires_at has passed: it is {now.isoformat(timespec='seconds')} here", now=now.isoformat())
    if expires_at > now + ahead:
        raise Problem(
            422,
            "too_far",
            f"expires_at is more than {int(ahead.total_seconds() // 60)} min ahead: it is {now.isoformat(timespec='seconds')} here",
            now=now.isoformat(),
        )
