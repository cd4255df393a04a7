"""The page and its files, from memory: packed once at start, never looked up by a name from outside."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from api.web.problem import Problem

KINDS = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class File:
    """One file of the page, as it is and packed."""

    kind: str
    plain: bytes
    packed: bytes
    etag: str

    def answer(self, request: Request) -> Response:
        """Return it, or 304 where the browser has it; packed for those who can unpack."""
        head = {"ETag": self.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=head)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.packed, media_type=self.kind, headers={**head, "Content-Encoding": "gzip"})
        return Response(self.plain, media_type=self.kind, headers=head)


def load() -> Mapping[str, File]:
    """Read all files of the page."""
    found = {}
    for file in files("api.web").joinpath("hmi").iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind is not None and file.is_file():
            plain = file.read_bytes()
            found[file.name] = File(kind, plain, gzip.compress(plain, 9, mtime=0), f'"{hashlib.sha256(plain).hexdigest()[:20]}"')
    return found


def pages() -> APIRouter:
    """Return the routes of the page: `/`, `/docs` and `/static/NAME`."""
    known = load()
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index(request: Request) -> Response:
        return known["index.html"].answer(request)

    @router.get("/docs")
    async def docs(request: Request) -> Response:
        return known["docs.html"].answer(request)

    @router.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        if name not in known:
            raise Problem(404, "not_found", "there is no such file")
        return known[name].answer(request)

    return router
