"""The web application: the API, the stream, health, metrics, and the page, on one loop in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.web import problem
from api.web.audit import Audit
from api.web.auth import API, Tokens, Users
from api.web.desk import Desk, note_refusal
from api.web.live import LiveState
from api.web.page import pages
from api.web.routes import commands, forecasts, limits, read, service, session, stream
from drivers.store.history import HistoryReader
from drivers.store.ledger import LedgerReader
from drivers.store.requests import RequestStore
from ems.config.load import LoadedSite
from ems.ports import Clock

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(
    loaded: LoadedSite,
    data: Path,
    live: LiveState,
    clock: Clock,
    *,
    public: bool = False,
    up: Callable[[Mapping[str, Any]], None],
) -> FastAPI:
    """Return the application for one site.

    Parameters
    ----------
    data : Path
        The site's data folder: users, secret and site.db are written here, history.db and ledger.db only read.
    live : LiveState
        Fed with control's beats by whoever runs the server; `live.close()` ends all streams.
    clock : Clock
        The site's clock, by which `expires_at` is judged.
    public : bool
        Whether other machines can reach it: then reads need a token too.
    up : Callable[[Mapping[str, Any]], None]
        Takes what control has to know at once; must not wait for it.
    """
    users, requests = Users(data), RequestStore(data / "site.db")
    at = Desk(
        loaded=loaded,
        live=live,
        clock=clock,
        public=public,
        up=up,
        users=users,
        tokens=Tokens(data, users),
        requests=requests,
        audit=Audit(requests),
        history=HistoryReader(data / "history.db"),
        ledger=LedgerReader(data / "ledger.db"),
    )

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        at.report()
        yield
        at.requests.close()

    app = FastAPI(title="Shima EMS", version="1", description="Energy management of an island microgrid.", docs_url=None, redoc_url=None, lifespan=life)
    app.state.desk = at
    for part in (read, limits, commands, forecasts, session, stream):
        app.include_router(part.router, prefix=API)
    app.include_router(service.router)
    app.include_router(pages())
    problem.install(app, note_refusal)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=6)  # leaves event streams alone
    app.add_middleware(Guard, public=public)
    return app


class Guard:
    """Around everything: safe headers on every answer, and on loopback no foreign host name.

    A page from elsewhere may point its own name at 127.0.0.1 and read what is open there (DNS rebinding);
    such a request still carries the foreign name.
    """

    def __init__(self, app: ASGIApp, public: bool) -> None:
        self._app = app
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith(API):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if not self._public and host(Headers(scope=scope).get("host", "")) not in LOCAL_NAMES:
            await problem.answer(421, "wrong_host", "this address is not served: use 127.0.0.1 or localhost")(scope, receive, sealed)
            return
        await self._app(scope, receive, sealed)


def host(header: str) -> str:
    """Return the name of a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] or header
