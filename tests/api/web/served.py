"""The application as tests meet it: in this process without a socket, or served by uvicorn on a free port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from api.web.app import create_app
from api.web.auth import Role, User, Users
from api.web.live import LiveState
from drivers.store.ledger import LedgerStore
from ems.clock import SimClock, real_s
from ems.memory import Memory
from ems.model import Outcome, Status
from tests.api.web import island

PASSWORD = "correct horse"
PEOPLE = {"viki": Role.VIEWER, "olga": Role.OPERATOR, "otto": Role.OPERATOR, "emil": Role.ENGINEER}
LOADED = island.loaded()


@dataclass
class Site:
    """One app with its data folder, and tokens made without a password: hashing takes time."""

    data: Path
    app: FastAPI
    live: LiveState
    clock: SimClock
    up: list[Any] = field(default_factory=list)
    shown: dict[str, Any] = field(default_factory=dict, init=False)
    _ledger: LedgerStore | None = field(default=None, init=False)

    @property
    def desk(self) -> Any:
        return self.app.state.desk

    def token(self, name: str) -> str:
        made: str = self.desk.tokens.issue(self.desk.users.all()[name])[0]
        return made

    def client(self, base: str = "http://127.0.0.1") -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url=base)

    async def __call__(self, method: str, path: str, body: Any = None, who: str | None = None, raw: bytes | None = None, **headers: str) -> httpx.Response:
        head = {name.replace("_", "-"): value for name, value in headers.items()}
        if who is not None:
            head["Authorization"] = f"Bearer {self.token(who)}"
        where = path if path.startswith("/") else f"/api/v1/{path}"
        async with self.client() as client:
            given: dict[str, Any] = {"content": raw} if raw is not None else {} if body is None else {"json": body}
            return await client.request(method, where, headers=head, **given)

    def settle(self, request_id: str, status: Status, cause: str | None = None) -> None:
        """Say what became of a request, as control would."""
        self._ledger = self._ledger or LedgerStore(self.data / "ledger.db")
        self._ledger.commit(self.clock.now(), [Outcome(self.desk.requests.find(request_id).seq, status, cause)], Memory(), 0)

    def close(self) -> None:
        self.desk.requests.close()
        if self._ledger is not None:
            self._ledger.close()


HASHED: dict[str, User] = {}


def people(data: Path) -> None:
    """Add the people of the tests; each password is hashed once for the whole run."""
    users = Users(data)
    for name, role in PEOPLE.items():
        if name not in HASHED:
            users.add(name, role, PASSWORD)
            HASHED[name] = users.all()[name]
    users._save(HASHED)


def site(data: Path, public: bool = False, beats: bool = True) -> Site:
    """Return a site whose clock stands at `island.NOW`."""
    people(data)
    live, clock, up = LiveState(), SimClock(island.NOW), list[Any]()
    if beats:
        live.update(island.beat())
    return Site(data, create_app(LOADED, data, live, clock, public=public, up=up.append), live, clock, up)


@contextmanager
def serve(made: Site, beat_s: float = 0.2) -> Iterator[str]:
    """Serve a site on a free port from a thread, with a beat every `beat_s`; yield its address."""
    server = uvicorn.Server(uvicorn.Config(made.app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=2))
    stop = threading.Event()

    async def beats() -> None:
        cycle = 4711
        while not stop.is_set():
            cycle += 1
            made.clock.advance(1.0)
            beat = island.beat(cycle, made.clock.now(), 0.002)
            made.live.update(beat | {"state": beat["state"] | made.shown})
            await asyncio.sleep(beat_s)
        made.live.close()
        server.should_exit = True

    async def both() -> None:
        await asyncio.gather(server.serve(), beats())

    thread = threading.Thread(target=lambda: asyncio.run(both()))
    thread.start()
    try:
        until = real_s() + 15
        while not server.started and real_s() < until and thread.is_alive():
            threading.Event().wait(0.02)
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive(), "the server did not stop"
