"""What every route works with, and who is let in to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Depends, Request

from api.web.audit import Audit
from api.web.auth import API, OPEN_ON_LOOPBACK, RULES, Person, Throttle, Tokens, Users
from api.web.live import LiveState
from api.web.problem import Problem
from drivers.store.history import HistoryReader
from drivers.store.ledger import LedgerReader
from drivers.store.requests import RequestStore
from ems.config.load import LoadedSite
from ems.model import Request as Row
from ems.ports import Clock

Value = TypeVar("Value")
LOOKS = 4
"""How many looks into the store at once: slow ones must not take all threads."""


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
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    signing: asyncio.Lock = field(default_factory=asyncio.Lock)
    sign_ins: int = 0
    streams: int = 0
    notice: str | None = None
    alerts: dict[str, Row] = field(default_factory=dict)

    async def look(self, read: Callable[[], Value]) -> Value:
        """Do one short look into a store, off the event loop."""
        return await anyio.to_thread.run_sync(read, limiter=self.looks)

    async def write(self, work: Callable[[], Value], wait_s: float | None = None) -> Value:
        """Do what changes a file of ours, off the event loop; after `wait_s` go on without it, with a `TimeoutError` [s, real]."""

        def whole() -> Value:
            done = work()
            self.audit.settle()
            return done

        try:
            with anyio.fail_after(wait_s):
                return await anyio.to_thread.run_sync(whole, limiter=self.looks, abandon_on_cancel=wait_s is not None)
        finally:
            self.report()

    def report(self) -> None:
        """Tell control once what happened to a damaged site.db: alarms are its own."""
        if self.requests.notice != self.notice:
            self.notice = self.requests.notice
            self.up({"notice": self.notice})


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


AtDesk = Annotated[Desk, Depends(desk)]
Who = Annotated[Person, Depends(known)]
