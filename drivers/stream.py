"""The bytes of one connection, out and in, and what has happened on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from drivers.frames import Framing, Question, Rejected
from ems.clock import real_s
from ems.errors import ConnectionLost

MOST_UNASKED = 4096
"""So many bytes that nobody asked for are kept at most."""


@dataclass(slots=True)
class Counts:
    """What has happened on a connection since it was made; for people, nothing decides on it.

    Attributes
    ----------
    asked, answered, silent, refused : int
        Questions sent; answered rightly, not in time, with an exception.
    opened : int
        Connections.
    rejected : Counter[str]
        Answers that were not used, by reason (`drivers.frames.REASONS`).
    """

    asked: int = 0
    answered: int = 0
    silent: int = 0
    refused: int = 0
    opened: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def spurn(self, reason: str) -> None:
        """Count an answer that is not used."""
        self.rejected[reason] += 1

    def document(self) -> dict[str, Any]:
        """Return the counts as JSON takes them."""
        return {f.name: dict(value) if isinstance(value := getattr(self, f.name), Counter) else value for f in fields(self)}


@dataclass(frozen=True, slots=True)
class Expected:
    """The question under way, and who waits for its answer."""

    framing: Framing
    unit: int
    question: Question
    waiting: asyncio.Future[bytes]


class Stream(asyncio.Protocol):
    """Bytes out and in of one connection; finds the answer that is waited for as soon as it is whole."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.lost = False
        self.heard_s = 0.0
        self._buffer = bytearray()
        self._expected: Expected | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def expect(self, expected: Expected | None) -> None:
        """Say which answer is waited for; what came before a question answers none."""
        self._expected = expected
        if expected is not None and self._buffer and not expected.framing.numbered:
            self.counts.spurn("unasked")
            self._buffer.clear()

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        if self._transport is None or self.lost:
            raise ConnectionLost("the connection was closed")
        self._transport.write(frame)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; hand over the answer, or why there will be none."""
        self.heard_s = real_s()
        self._buffer += data
        expected = self._expected
        if expected is None or expected.waiting.done():
            if len(self._buffer) > MOST_UNASKED:
                self.counts.spurn("unasked")
                self.close()
            return
        try:
            answer = expected.framing.take(self._buffer, expected.unit, expected.question, self.counts.spurn)
        except Rejected as misfit:
            expected.waiting.set_exception(misfit)
            return
        if answer is not None:
            expected.waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self.lost = True
        if self._expected is not None and not self._expected.waiting.done():
            self._expected.waiting.set_exception(ConnectionLost("the connection was closed"))

    def close(self) -> None:
        """Close at once: what was not sent is not sent any more."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
