"""Signing in and out."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from api.web.desk import NOTE_S, AtDesk, Desk, Who, admit, origin
from api.web.problem import Problem
from api.web.schemas import Login, body, described
from ems.clock import real_s

router = APIRouter(prefix="/auth", dependencies=[Depends(admit)], tags=["session"])

WAITING = 8
"""More sign-ins than this at once are turned away: each takes memory and processor time of a small gateway."""


@router.post("/token", openapi_extra=described(Login))
async def token(request: Request, at: AtDesk, login: Annotated[Login, Depends(body(Login))]) -> dict[str, Any]:
    """Give a token for user name and password."""
    source = origin(request)
    wait_s = at.throttle.wait_s(source, real_s())
    if wait_s > 0.0 or at.sign_ins >= WAITING:
        raise slow_down(wait_s or 1.0)
    at.sign_ins += 1
    try:
        async with at.signing:
            user = await asyncio.to_thread(at.users.check, login.username, login.password)
    finally:
        at.sign_ins -= 1
    if user is None:
        at.throttle.wrong(source, real_s())
        await at.security(login.username, source, "wrong user name or password", {})
        raise Problem(401, "wrong_password", "user name or password is wrong", {"WWW-Authenticate": "Bearer"})
    at.throttle.right(source)
    await note(at, "login", user.name, "signed in", source)
    return receipt(at.tokens.issue(user))


@router.post("/renew")
async def renew(at: AtDesk, person: Who) -> dict[str, Any]:
    """Give a fresh token in place of a valid one, until the password is 12 h old."""
    found = await at.write(lambda: at.tokens.renew(person))
    if found is None:
        raise Problem(401, "sign_in", "the password must be given again", {"WWW-Authenticate": "Bearer"})
    return receipt(found)


@router.post("/logout", status_code=200)
async def logout(at: AtDesk, person: Who) -> dict[str, str]:
    """Take this token back."""
    await at.write(lambda: at.tokens.revoke(person))
    await note(at, "logout", person.name, "signed out", "")
    return {"status": "signed out"}


def receipt(made: tuple[str, int]) -> dict[str, Any]:
    """Return a token as OAuth 2 clients know it."""
    return {"access_token": made[0], "token_type": "bearer", "expires_in": made[1]}


def slow_down(wait_s: float) -> Problem:
    """Return the refusal of one sign-in too many."""
    wait = math.ceil(wait_s)
    return Problem(429, "too_many", f"too many attempts: wait {wait} s", {"Retry-After": str(wait)}, wait_s=wait)


async def note(at: Desk, kind: str, by: str, why: str, source: str) -> None:
    """Write an audit row; a disk that is full or hangs keeps nobody out."""
    with suppress(OSError):
        await at.write(lambda: at.audit.note(kind, by, at.clock.now(), why, {"source": source}), NOTE_S)
