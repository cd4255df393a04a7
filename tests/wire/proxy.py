"""A seeded fault proxy between a Modbus client and a real server: it spoils answers in every way that lines and gateways do.

What a spoiled answer carries is `POISON`, which no register of the server holds: a client that believes one is found out.
It speaks Modbus TCP, or as a gateway serial frames over TCP to its client. A serial device answers in order, so what follows a
late answer is later still; and what comes reaches whoever is connected then, as transparent gateways deliver it.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from drivers.frames import crc16

POISON = 0x0BAD
LATE = 2.5
"""A late answer comes after so many timeouts of the client."""

Pdu = bytes


def poisoned(pdu: Pdu) -> Pdu:
    """Return a read's answer with other data; any other answer as it is."""
    if 3 <= pdu[0] <= 4:
        return pdu[:2] + struct.pack(">H", POISON) * (pdu[1] // 2)
    return pdu[:2] + bytes([0xAD]) * pdu[1] if pdu[0] <= 2 else pdu


def shorter(pdu: Pdu) -> Pdu:
    return bytes([pdu[0], max(0, pdu[1] - 2)]) + pdu[2:-2]


def longer(pdu: Pdu) -> Pdu:
    return bytes([pdu[0], min(250, pdu[1] + 4)]) + pdu[2:] + struct.pack(">HH", POISON, POISON)


WRONG: dict[str, Callable[[int, int, Pdu], tuple[int, int, Pdu]]] = {
    "wrong transaction": lambda number, unit, pdu: (number + 1 & 0xFFFF, unit, poisoned(pdu)),
    "transaction 0": lambda number, unit, pdu: (0, unit, poisoned(pdu)),
    "wrong unit": lambda number, unit, pdu: (number, unit % 247 + 1, poisoned(pdu)),
    "wrong function": lambda number, unit, pdu: (number, unit, bytes([pdu[0] ^ 7]) + poisoned(pdu)[1:]),
    "short": lambda number, unit, pdu: (number, unit, shorter(poisoned(pdu))),
    "long": lambda number, unit, pdu: (number, unit, longer(poisoned(pdu))),
    "lying count": lambda number, unit, pdu: (number, unit, bytes([pdu[0], pdu[1] ^ 2]) + poisoned(pdu)[2:]),
    "exception": lambda number, unit, pdu: (number, unit, bytes([pdu[0] | 0x80, 6])),
}
"""Frames that are whole and answer another question."""
OTHER = ("drop", "late", "delay", "drip", "garbage", "garbage before", "half", "cut", "damaged")
FAULTS = (*WRONG, *OTHER)


class FaultProxy:
    """Passes questions on as they are, and answers with one of `faults` in `share` of them.

    Parameters
    ----------
    port : int
        Of the real server on this machine.
    client_timeout_s : float
        What the client waits for an answer, so that late ones are late [s].
    """

    def __init__(
        self, port: int, rng: random.Random, client_timeout_s: float, faults: Sequence[str] = FAULTS, share: float = 0.5, serial: bool = False
    ) -> None:
        self.port, self.rng, self.timeout_s, self.faults, self.share, self.serial = port, rng, client_timeout_s, faults, share, serial
        self.injected: Counter[str] = Counter()
        self.frames = 0
        self.spare: Callable[[Pdu], bool] = lambda pdu: False
        self.current: asyncio.StreamWriter | None = None
        self._late: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._line = asyncio.Lock()
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Stand between one client and the server until either goes."""
        me = asyncio.current_task()
        assert me is not None
        self._serving.add(me)
        me.add_done_callback(self._serving.discard)
        upstream, server = await asyncio.open_connection("127.0.0.1", self.port)
        self.current = writer
        self._open |= {writer, server}
        pumps = [asyncio.create_task(self._questions(reader, server)), asyncio.create_task(self._answers(upstream, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for side in (writer, server):
                side.close()
                self._open.discard(side)

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        for side in list(self._open):
            side.transport.abort()
        return len(self._open) // 2

    async def close(self) -> None:
        """End what is still under way."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        self.cut()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _questions(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            number = 0
            while True:
                if not self.serial:
                    data = await reader.read(512)
                    if not data:
                        return
                    server.write(data)
                    continue
                head = await reader.readexactly(8)
                frame = head + (await reader.readexactly(head[6] + 1) if head[1] in (15, 16) else b"")
                assert crc16(frame[:-2]) == frame[-2:], "our own questions are whole"
                number = number % 0xFFFF + 1
                server.write(struct.pack(">HHH", number, 0, len(frame) - 2) + frame[:-2])

    async def _answers(self, upstream: asyncio.StreamReader, mine: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                number, unit, pdu = await self._frame(upstream)
                writer = mine
                if self.serial:
                    async with self._line:  # behind what is late
                        writer = self.current or mine
                self.frames += 1
                fault = self.rng.choice(self.faults) if self.rng.random() < self.share and not self.spare(pdu) else None
                if fault is None:
                    writer.write(self._framed(number, unit, pdu))
                    continue
                self.injected[fault] += 1
                if not await self._spoil(fault, number, unit, pdu, writer):
                    return

    async def _frame(self, upstream: asyncio.StreamReader) -> tuple[int, int, Pdu]:
        number, _, length, unit = struct.unpack(">HHHB", await upstream.readexactly(7))
        return number, unit, await upstream.readexactly(length - 1)

    def _framed(self, number: int, unit: int, pdu: Pdu) -> bytes:
        if not self.serial:
            return struct.pack(">HHHB", number, 0, len(pdu) + 1, unit) + pdu
        frame = bytes([unit]) + pdu
        return frame + crc16(frame)

    async def _spoil(self, fault: str, number: int, unit: int, pdu: Pdu, writer: asyncio.StreamWriter) -> bool:
        """Do it; False where the connection ends with it."""
        true, rng = self._framed(number, unit, pdu), self.rng
        match fault:
            case "drop":
                pass
            case "late":
                task = asyncio.create_task(self._send_late(self._framed(number, unit, poisoned(pdu)), writer))
                await asyncio.sleep(0)  # it has taken the line
                self._late.add(task)
                task.add_done_callback(self._late.discard)
            case "delay":
                await asyncio.sleep(rng.uniform(0.0, 0.3) * self.timeout_s)
                writer.write(true)
            case "drip":
                for byte in true:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0)
            case "garbage":
                writer.write(rng.randbytes(rng.randint(1, 60)))
            case "garbage before":
                writer.write(rng.randbytes(rng.randint(1, 9)) + self._framed(number, unit, pdu))
            case "half":
                writer.write(true[: rng.randrange(1, len(true))])
            case "cut":
                writer.transport.abort()
                return False
            case "damaged":
                bad = bytearray(self._framed(number, unit, poisoned(pdu)))
                if self.serial:
                    bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
                else:
                    bad[rng.randrange(6)] ^= 1 << rng.randrange(8)  # the header: inside the data TCP's own check stands guard
                writer.write(bytes(bad))
            case _:
                writer.write(self._framed(*WRONG[fault](number, unit, pdu)))
        return True

    async def _send_late(self, frame: bytes, writer: asyncio.StreamWriter) -> None:
        if self.serial:
            async with self._line:
                await asyncio.sleep(LATE * self.timeout_s)
                writer = self.current or writer
                writer.write(frame)
            return
        await asyncio.sleep(LATE * self.timeout_s)
        if not writer.is_closing():
            writer.write(frame)


@asynccontextmanager
async def between(proxy: FaultProxy, port: int = 0) -> AsyncIterator[int]:
    """Listen, and give the port that the client shall use."""
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await proxy.close()
