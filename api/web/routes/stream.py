"""Server-sent events: the full state once, then only what changes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from api.duration import duration_s
from api.web.desk import AtDesk, Desk, admit
from api.web.live import LiveState, by_asset, changes, coarse
from api.web.problem import Problem
from api.web.routes.read import State
from ems.clock import real_s

router = APIRouter(dependencies=[Depends(admit)], tags=["read"])

QUIET_S = 15.0
"""A comment line at least this often: satellite links and proxies forget silent connections [s, real]."""
EXPLAIN_EVERY_S = 10.0
"""Sentences carry numbers that move with every cycle; they are sent again no more often than this [s, real]."""
STREAMS = 32


@router.get("/stream", response_class=StreamingResponse)
async def stream(
    request: Request, at: AtDesk, first: State, every: Annotated[str | None, Query(max_length=10, description="at most one change in this time, as 5s")] = None
) -> StreamingResponse:
    """Events `state` (all of it), then `change` (merge it in, as RFC 7396), `alarms` (the active ones), `explain` (by asset, merge it in)."""
    pause_s = 0.0 if every is None else min(60.0, duration_s(every, "every"))
    if at.streams >= STREAMS:
        raise Problem(503, "too_many_streams", f"more than {STREAMS} streams are open", {"Retry-After": "30"})
    head = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(request, at, first, pause_s), media_type="text/event-stream", headers=head)


async def events(request: Request, at: Desk, first: dict[str, Any], pause_s: float) -> AsyncIterator[str]:
    """Yield the stream of one reader until the server stops, or its token ends."""
    at.streams += 1
    try:
        reader = Reader(coarse(first))
        yield event("state", reader.state)
        version = -1
        while not at.live.closed and allowed(request):
            if not await at.live.wait(version, QUIET_S):
                yield ": still here\n\n"
                continue
            version = at.live.version
            if at.live.state is not None:
                for text in reader.news(at.live, real_s()):
                    yield text
            if pause_s:
                await at.live.ended(pause_s)
    finally:
        at.streams -= 1


class Reader:
    """What one reader of the stream has been told."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self._alarms: list[dict[str, Any]] | None = None
        self._explain: dict[str, Any] = {}
        self._explained_s: float | None = None

    def news(self, live: LiveState, now_s: float) -> Iterator[str]:
        """Yield the events that bring the reader up to date."""
        state = coarse(live.state)
        if change := changes(self.state, state):
            self.state = state
            yield event("change", change)
        if live.alarms != self._alarms:
            self._alarms = live.alarms
            yield event("alarms", live.alarms)
        if self._explained_s is None or now_s - self._explained_s >= EXPLAIN_EVERY_S:
            explain = by_asset(live.explain)
            if difference := changes(self._explain, explain):
                self._explain, self._explained_s = explain, now_s
                yield event("explain", difference)


def allowed(request: Request) -> bool:
    """Whether who listens may still do so: tokens end, users are revoked."""
    try:
        admit(request)
    except Problem:
        return False
    return True


def event(name: str, data: Any) -> str:
    """Return one event as it goes over the wire."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
