"""What every route works with, and who is let in to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Depends, Request

from api.web.audit import Audit, Ration
from api.web.auth import API, OPEN_ON_LOOPBACK, RULES, Person, Throttle, Tokens, Users
from api.web.live import LiveState
from api.web.problem import Problem
from drivers.store.history import HistoryReader
from drivers.store.ledger import LedgerReader
from drivers.store.requests import RequestStore
from ems.clock import real_s
from ems.config.load import LoadedSite
from ems.model import Request as Row
from ems.ports import Clock

Value = TypeVar("Value")
CHARTS, CHART_WAIT_S = 2, 2.0
"""So many requests of history are worked on at once, each takes seconds of a small gateway's processor; others wait so long for their turn [s, real]."""
TRACED = (401, 403, 409, 412, 422)
"""Refusals that leave a row of the audit where something was to be changed."""
STRANGER = "(not signed in)"
NOTE_S = 2.0
"""A refusal waits for its row no longer than this; it is written later then [s, real]."""
LOOKS = 4
"""How many looks into the store at once: slow ones must not take all threads. Orders have as many of their own."""


@dataclass(slots=True)
class Desk:
    """One web process: what it reads, and the one file it writes."""

    loaded: LoadedSite
    live: LiveState
    clock: Clock
    public: bool
    up: Callable[[Mapping[str, Any]], None]
    users: Users
    tokens: Tokens
    requests: RequestStore
    audit: Audit
    history: HistoryReader
    ledger: LedgerReader
    throttle: Throttle = field(default_factory=Throttle)
    looks: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(LOOKS))
    doing: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(LOOKS))
    charts: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(CHARTS))
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    signing: asyncio.Lock = field(default_factory=asyncio.Lock)
    sign_ins: int = 0
    streams: int = 0
    ration: Ration = field(default_factory=Ration)
    notice: str | None = None
    alerts: dict[str, Row] = field(default_factory=dict)

    async def look(self, read: Callable[[], Value]) -> Value:
        """Do one short look into a store, off the event loop."""
        return await anyio.to_thread.run_sync(read, limiter=self.looks)

    async def chart(self, read: Callable[[], Value]) -> Value:
        """Do a long look for a chart: a few at once, and a short wait for a turn, for all open pages ask when there is a new plan."""
        with anyio.move_on_after(CHART_WAIT_S) as turn:
            await self.charts.acquire()
        if turn.cancelled_caught:
            raise Problem(503, "too_many_charts", f"{CHARTS} charts are being made already", {"Retry-After": "5"})
        try:
            return await self.look(read)
        finally:
            self.charts.release()

    async def check(self, read: Callable[[], Value]) -> Value:
        """Do one short look that an order has to wait for: what others look at does not hold it up."""
        return await anyio.to_thread.run_sync(read, limiter=self.doing)

    async def write(self, work: Callable[[], Value], wait_s: float | None = None) -> Value:
        """Do what changes a file of ours, off the event loop; after `wait_s` go on without it, with a `TimeoutError` [s, real]."""

        def whole() -> Value:
            done = work()
            self.audit.settle()
            return done

        try:
            with anyio.fail_after(wait_s):
                return await anyio.to_thread.run_sync(whole, limiter=self.doing, abandon_on_cancel=wait_s is not None)
        finally:
            self.report()

    async def security(self, by: str, source: str, why: str, detail: Mapping[str, Any], asset: str | None = None) -> None:
        """Leave a row of the audit of what was refused, and an event; neither holds up the answer for long, whatever the disk does.

        Events are open to everybody on this machine, and people type passwords in place of names: a name
        that nobody has proven to be theirs stands in the audit alone.
        """
        shown_by = by if detail.get("signed_in") else STRANGER
        with suppress(OSError):
            self.up({"event": {"asset": asset, "by": shown_by, "reason": f"{why}, from {source}"}})
        row = {"source": source, **detail}
        with suppress(OSError):
            await self.write(lambda: self.audit.note("security", by, self.clock.now(), why, row), NOTE_S)

    def report(self) -> None:
        """Tell control once what happened to a damaged site.db: alarms are its own."""
        if self.requests.notice != self.notice:
            with suppress(OSError):  # a supervisor that is gone takes us with it: what was asked is answered first
                self.up({"notice": self.requests.notice})
                self.notice = self.requests.notice


def desk(request: Request) -> Desk:
    """Return the desk of the app that got this request."""
    found: Desk = request.app.state.desk
    return found


def admit(request: Request) -> Person | None:
    """Let in who may use this route; every route of the API depends on it."""
    at = desk(request)
    path = request.scope["route"].path.removeprefix(API)
    rule = (request.method, path)
    if rule not in RULES:
        raise Problem(403, "role", "nobody may use this route")
    needed = RULES[rule]
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    person = at.tokens.person(token.strip()) if kind.lower() == "bearer" else None
    request.state.person = person
    if needed is None:
        return person
    if person is None:
        if rule in OPEN_ON_LOOPBACK and not at.public:
            return None
        raise Problem(401, "sign_in", "a valid token is needed: POST auth/token", {"WWW-Authenticate": "Bearer"})
    if not person.role.covers(needed):
        raise Problem(403, "role", f"this needs the role {needed}; {person.name} is {person.role}")
    return person


def known(request: Request) -> Person:
    """Return who asks, on routes that need a token."""
    person = admit(request)
    if person is None:
        raise Problem(401, "sign_in", "a valid token is needed: POST auth/token", {"WWW-Authenticate": "Bearer"})
    return person


async def note_refusal(request: Request, status: int, code: str, why: str) -> None:
    """Leave a trace of a change that was refused, so many an hour for each person, and for each source of those without a token."""
    if request.method == "GET" or status not in TRACED or code == "wrong_password":  # that one is noted with the name that was given
        return
    at, person, source = desk(request), getattr(request.state, "person", None), origin(request)
    left_out = at.ration.take(f"by {person.name}" if person else source, real_s())
    if left_out is None:
        return
    by = person.name if person else STRANGER
    place = request.url.path.removeprefix(f"{API}/")[:100]
    named = request.path_params.get("asset") or request.path_params.get("id")
    asset = named if named in at.loaded.site.ids else None
    detail = {"method": request.method, "path": place, "status": status, "code": code, "signed_in": person is not None, "left_out": left_out}
    await at.security(by, source, f"{request.method} {place}: {why}"[:500], detail, asset)


def origin(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client else "?"


AtDesk = Annotated[Desk, Depends(desk)]
Who = Annotated[Person, Depends(known)]
