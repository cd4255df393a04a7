"""Every error of the API as a problem document (RFC 9457), with a `code` that a program or the page can look up."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from drivers.store.requests import KeyReused
from ems.errors import BadInput, StoreError

LOG = logging.getLogger("web")
MEDIA = "application/problem+json"
PLAIN = {"extra_forbidden": "unknown field", "missing": "is missing"}
"""Findings of pydantic in our words, by their type."""


class Problem(Exception):
    """A refusal: HTTP status, a short code for programs, a sentence for people, and what else helps.

    Parameters
    ----------
    extra : Any
        Further members of the document, such as `current` or `id`.
    """

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra


def answer(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **extra: Any) -> JSONResponse:
    """Return the problem document as a response."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code, "detail": detail, **extra}
    return JSONResponse(body, status, headers={**(headers or {}), "Cache-Control": "no-store"}, media_type=MEDIA)


def install(app: FastAPI, note: Callable[[Request, int, str, str], Awaitable[None]]) -> None:
    """Let every failure of the app leave as a problem document.

    Parameters
    ----------
    note : Callable[[Request, int, str, str], Awaitable[None]]
        Told of each refusal with status, code and words, before it is answered.
    """

    async def refusal(request: Request, status: int, code: str, detail: str) -> JSONResponse:
        await note(request, status, code, detail)
        return answer(status, code, detail)

    @app.exception_handler(Problem)
    async def refused(request: Request, problem: Problem) -> JSONResponse:
        await note(request, problem.status, problem.code, problem.detail)
        return answer(problem.status, problem.code, problem.detail, problem.headers, **problem.extra)

    @app.exception_handler(HTTPException)
    async def http(_: Request, fault: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(fault.status_code, "http_error")
        return answer(fault.status_code, code, str(fault.detail), fault.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, fault: RequestValidationError) -> JSONResponse:
        return await refusal(request, 422, "invalid", "; ".join(said(e) for e in fault.errors()[:5]))

    @app.exception_handler(BadInput)
    async def bad_input(request: Request, fault: BadInput) -> JSONResponse:
        return await refusal(request, 422, "invalid", str(fault))

    @app.exception_handler(KeyReused)
    async def key_reused(request: Request, fault: KeyReused) -> JSONResponse:
        return await refusal(request, 422, "key_reused", fault.error)

    @app.exception_handler(StoreError)
    async def store(_: Request, fault: StoreError) -> JSONResponse:
        return answer(503, "store_unavailable", fault.error)

    @app.exception_handler(OverflowError)
    async def beyond(request: Request, fault: OverflowError) -> JSONResponse:
        LOG.warning("%s %s: %s", request.method, request.url.path, fault)
        return await refusal(request, 422, "invalid", "a time or a number is beyond what can be counted with")

    @app.exception_handler(OSError)
    async def disk(_: Request, fault: OSError) -> JSONResponse:
        LOG.error("the data folder: %s", fault)
        return answer(503, "store_unavailable", f"the data folder cannot be used: {fault.strerror or 'no answer in time'}")

    @app.exception_handler(Exception)
    async def bug(_: Request, __: Exception) -> JSONResponse:  # the text of a bug stays in the log: it may tell too much
        return answer(500, "internal", "an error in the EMS itself; it is in the log")


def said(error: Mapping[str, Any]) -> str:
    """Return one finding of pydantic as `place: what is wrong`, without the value, which may be a secret."""
    place = ".".join(str(part) for part in error.get("loc", ()) if part not in ("body", "query", "path"))
    message = PLAIN.get(str(error.get("type")), str(error.get("msg", "invalid")).removeprefix("Value error, "))
    return f"{place}: {message}" if place else message
