"""A fake write API on loopback for the answers that no real server gives on demand."""

from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, dict[str, str], str]
OK: Answer = (204, {}, "")


@dataclass
class FakeInflux:
    """What came in, and what to answer: a function of the lines and of how many requests came before."""

    url: str = ""
    answer: Callable[[list[str], int], Answer] = lambda lines, n: OK
    requests: list[list[str]] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)
    queries: list[dict[str, list[str]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    hang: threading.Event | None = None
    hangs: Callable[[list[str]], bool] = lambda lines: True


@contextmanager
def fake_influx() -> Iterator[FakeInflux]:
    """Serve on a free port until the end of the block."""
    fake = FakeInflux()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            lines = (gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body).decode().splitlines()
            fake.queries.append(parse_qs(urlsplit(self.path).query))
            fake.headers.append({k.lower(): v for k, v in self.headers.items()})
            status, headers, text = fake.answer(lines, len(fake.requests))
            fake.requests.append(lines)
            if fake.hang is not None and fake.hangs(lines):
                fake.hang.wait(20.0)
            if status == 204:
                fake.arrived += lines
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            content = text.encode()
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a client that gave up is what some tests are about
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        if fake.hang is not None:
            fake.hang.set()
        server.shutdown()
        server.server_close()
        thread.join(5.0)
