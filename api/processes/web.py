"""The web process: page and API on one loop, fed with control's beats.

    python -m api.processes.web '{"site": PATH, "data": DIR, "fd": N, "url": URL, "public": false, "speed": 1.0, "origin": null, "start": null}'

The listening socket is inherited (`fd`), so that the address stays ours while this process is started
again. stdin brings control's beats as lines; when it closes, or on SIGTERM, open streams are ended and the
process exits. stdout carries `{"ready": URL}` once it answers, and `{"control": {...}}` for what control has to know.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from api.assembly import site_clock
from api.processes.child import end_soon, on_signals, run_child, tell
from api.processes.lines import lines_of
from api.web.app import create_app
from api.web.auth import tls_files
from api.web.live import LiveState
from ems.config.load import load_site

GRACE_S = 1
"""How long open requests may go on at the end [s]."""
END_S = 4.0
"""By then the process has ended, whatever hangs [s]."""


class Server(uvicorn.Server):
    """uvicorn, but the signals are ours and it says when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()


async def serve(given: Mapping[str, Any]) -> None:
    """Serve until stdin closes or SIGTERM comes."""
    data, live = Path(given["data"]), LiveState()
    clock = site_clock(given["speed"], given.get("origin"), given.get("start"))
    app = create_app(load_site(given["site"]), data, live, clock, public=given["public"], up=lambda said: tell({"control": said}))
    tls = tls_files(data) if given["public"] else None
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=None if tls is None else tls[0],
        ssl_keyfile=None if tls is None else tls[1],
    )
    server = Server(config, lambda: tell({"ready": given["url"]}))

    def end() -> None:
        end_soon(END_S)  # a reader on a dead link must not hold it
        live.close()
        server.should_exit = True

    on_signals(end)
    listening = asyncio.create_task(_listen(live, end))
    await server.serve([socket.socket(fileno=given["fd"])])
    listening.cancel()


async def _listen(live: LiveState, end: Callable[[], None]) -> None:
    async for line in lines_of(sys.stdin):
        live.update(json.loads(line)["beat"])
    end()


def main(argument: str) -> int:
    """Run the process; returns its exit code."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    return run_child("web", serve, argument)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
