"""A Modbus peer written by hand, byte by byte: it remembers what it was asked and answers as it is told to."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


def mbap(tid: int, unit: int, pdu: bytes, protocol: int = 0) -> bytes:
    return struct.pack(">HHHB", tid, protocol, len(pdu) + 1, unit) + pdu


class Peer:
    """A raw TCP server: frames every request, remembers it, and answers as `behave(tid, unit, pdu)` says (None: silence)."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes]] = []
        self.behave: Callable[[int, int, bytes], bytes | None | Awaitable[bytes | None]] = self.truth
        self.registers = {10: 300, 11: 499, 20: 0, 21: 0, 22: 0, 30: 0}
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()

    def truth(self, tid: int, unit: int, pdu: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", pdu[:5])
        if function in (3, 4):
            words = [self.registers[address + k] for k in range(count)]
            return mbap(tid, unit, struct.pack(f">BB{count}H", function, 2 * count, *words))
        if function == 1:
            return mbap(tid, unit, b"\x01\x01\x01")
        if function == 6:
            self.registers[address] = count
        if function == 16:
            for k in range(count):
                self.registers[address + k] = struct.unpack_from(">H", pdu, 6 + 2 * k)[0]
        return mbap(tid, unit, pdu[:5])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        try:
            while True:
                tid, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                pdu = await reader.readexactly(length - 1)
                self.asked.append((unit, pdu))
                answer = self.behave(tid, unit, pdu)
                if isinstance(answer, Awaitable):
                    answer = await answer
                if answer is not None:
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    @property
    def writes(self) -> list[bytes]:
        return [pdu for _, pdu in self.asked if pdu[0] in (5, 6, 15, 16)]


@asynccontextmanager
async def listening(peer: Peer, port: int = 0) -> AsyncIterator[int]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in list(peer.open):
            writer.close()
