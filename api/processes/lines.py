"""JSON lines through pipes between processes, without ever waiting for the other end. Stdlib only."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any, TextIO

LONGEST = 16 * 2**20
"""A state of a hundred assets is some 0.1 MB."""


class LineWriter:
    """Writes documents to a pipe; what the other end does not take in time is dropped whole."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    @classmethod
    async def open(cls, stream: TextIO) -> LineWriter:
        """Return the writer of a pipe of this process."""
        transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, stream)
        return cls(transport)

    def send(self, document: Mapping[str, Any]) -> bool:
        """Send a document; False where the one before is still on its way, or nobody is there."""
        if self._transport.is_closing() or self._transport.get_write_buffer_size() > 0:
            return False
        self._transport.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        return True

    def close(self) -> None:
        """Let go of the pipe; nothing is waited for."""
        self._transport.abort()


def own_pipe(stream: TextIO) -> TextIO:
    """Return the pipe behind `stream` for ourselves; what libraries print, here or in a child, goes to stderr."""
    mine = os.fdopen(os.dup(stream.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), stream.fileno())
    return mine


async def lines_of(stream: TextIO) -> AsyncIterator[bytes]:
    """Yield the lines that come through a pipe of this process until it closes."""
    reader = asyncio.StreamReader(limit=LONGEST)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    while line := await reader.readline():
        yield line
