"""One Modbus connection, shared by the units behind it: turns, deadlines, and what was rejected.

Turns. The units behind one gateway share its connection one after another: writes before reads, and units that
did not answer last time after all others, so that the dead wait for the living and never the other way round. Once
its turn has come a unit has `timeout_s` for all its requests: a slow one cannot use up its neighbours' cycle.
A dead one has `timeout_s` in all, so however many are dead they are gone after that; the one that was tried longest ago goes first.

Nothing is ever sent twice, with one exception: on a serial line, where noise is normal, a read whose answer came
damaged is asked once more inside its turn. A write is sent once; what came of it is learned by reading.

After silence, a cancelled request or a wrong answer a TCP connection is closed, so that a late answer meets nobody; the next
turn opens it again. Serial frames have no number, and a late answer reaches the next connection through many gateways.
So such a link remembers what a unit still owes: before a question of the same shape is asked again, one of another shape
must be answered. A serial unit answers in order: what it owed has come by then, or never will.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Any

from drivers.frames import READ_FUNCTION, Framing, Question, Refused, Rejected, TcpFrames, reading, words_of, writing
from ems.clock import real_s
from ems.errors import BadInput, ConnectionLost

OWED_S = 10.0
"""No serial unit answers later than this [s]."""
TRIED_S = 60.0
"""A dead unit that the living have left no turn for so long is asked in its order [s]."""
MOST_GAPS = 20
"""A question waits for a quiet line so many times at most."""
MOST_UNASKED = 4096
"""So many bytes that nobody asked for are kept at most."""


@dataclass(slots=True)
class Counts:
    """What has happened on a link since it was made; for people, nothing decides on it.

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


class ModbusLink:
    """One connection over TCP.

    Parameters
    ----------
    host, port : str, int
    timeout_s : float
        For opening the connection, and the longest a single answer may take [s]: the longest of its devices.
    framing : Framing | None
        Modbus TCP where not given.
    """

    gap_s = 0.0
    """How long the line must have been quiet before a question [s]."""
    keeps = False
    """Whether it stays open after a fault."""

    def __init__(self, host: str, port: int, timeout_s: float, framing: Framing | None = None) -> None:
        self.host, self.port, self.timeout_s = host, port, timeout_s
        self.counts = Counts()
        self._framing: Framing = TcpFrames() if framing is None else framing
        self._turns = _Turns()
        self._stream: Stream | None = None
        self._units: set[int] = set()
        self._silent: dict[int, float] = {}
        self._owed: dict[int, dict[tuple[int, int], float]] = {}
        self._until_s = 0.0
        self._unreached_s = -1.0

    def __str__(self) -> str:
        return f"{'tcp' if self._framing.numbered else 'rtu+tcp'}://{self.host}:{self.port}"

    @property
    def open(self) -> bool:
        """Whether the connection stands, as far as can be seen."""
        return self._stream is not None and not self._stream.lost

    @asynccontextmanager
    async def turn(self, unit: int, timeout_s: float, first: bool = False) -> AsyncIterator[None]:
        """Hold the connection for one unit's requests, opened if need be; all that is asked inside ends in time.

        Parameters
        ----------
        first : bool
            Before all reads: a write.

        Raises
        ------
        ConnectionLost
            It cannot be opened, the unit is silent, or its turn did not come in time.
        """
        asked_s = real_s()
        self._units.add(unit)
        tried_s = self._silent.get(unit)
        dead = tried_s is not None
        rank = 0 if first else 2 if tried_s is not None and asked_s - tried_s < TRIED_S else 1
        patience_s = timeout_s if dead or first else timeout_s * max(1, len(self._units) - 1)
        if not await self._turns.take((rank, tried_s or 0.0), patience_s):
            raise ConnectionLost("no turn on the shared connection in time", f"{self} unit {unit}")
        sound = False
        try:
            now_s = real_s()
            self._until_s = min(now_s + timeout_s, asked_s + timeout_s) if dead else now_s + timeout_s
            if not self.open:
                await self._opened(asked_s)
            yield
            sound = True
        except (Refused, BadInput):
            sound = True
            raise
        finally:
            if not sound and not self.keeps:
                self._drop()
            self._turns.give()

    async def _opened(self, asked_s: float) -> None:
        """Open the connection; who already waited when it could not be opened does not try it again."""
        self._drop()
        if asked_s <= self._unreached_s:
            raise ConnectionLost("cannot connect", str(self))
        try:
            async with asyncio.timeout(min(self.timeout_s, max(0.0, self._until_s - real_s()))):
                self._stream = await self._connected(Stream(self.counts))
        except (OSError, TimeoutError) as error:
            self._unreached_s = real_s()
            raise ConnectionLost("cannot connect", str(self)) from error
        self.counts.opened += 1

    async def _connected(self, stream: Stream) -> Stream:
        """Return the stream once it is connected."""
        await asyncio.get_running_loop().create_connection(lambda: stream, self.host, self.port)
        return stream

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def close(self) -> None:
        """Close the connection once the turn under way has ended; the next turn opens it again."""
        await self._turns.take((0, 0.0), None)
        self._drop()
        self._turns.give()

    # ------------------------------------------------------------------ inside a turn
    async def read(self, unit: int, table: str, address: int, count: int) -> list[int]:
        """Return `count` words of a table; only inside a turn."""
        question = reading(table, address, count)
        return words_of(question, await self.ask(unit, question), count)

    async def write(self, unit: int, table: str, address: int, words: Sequence[int]) -> None:
        """Write words once and see them acknowledged; only inside a turn."""
        await self.ask(unit, writing(table, address, words))

    async def ask(self, unit: int, question: Question) -> bytes:
        """Return the right answer, function and data; only inside a turn.

        Raises
        ------
        Refused
            The device answered with an exception.
        Rejected
            Something came that does not answer this question.
        ConnectionLost
            Nothing did in time.
        """
        tries = 1 if self._framing.numbered or not question.reads else 2
        while True:
            tries -= 1
            try:
                if self._owed:
                    await self._settled(unit, question)
                return await self._asked(unit, question)
            except Rejected as error:
                if not tries:
                    error.where = f"{self} unit {unit}"
                    raise

    async def _settled(self, unit: int, question: Question) -> None:
        """Make sure that no answer is owed which would fit this question: ask something of another shape first."""
        owed = self._owed.get(unit, {})
        for shape in [shape for shape, since_s in owed.items() if real_s() - since_s > OWED_S]:
            del owed[shape]
        if (question.function, question.size) in owed:
            table = next((t for t, f in READ_FUNCTION.items() if f == question.function), "coil" if question.function in (5, 15) else "holding")
            address = int.from_bytes(question.pdu[1:3], "big")
            fences = (reading(table, address, n) for n in range(1, 126))
            fence = next((f for f in fences if (f.function, f.size) not in owed), None)
            if fence is None:
                raise ConnectionLost("too many answers are still owed", f"{self} unit {unit}")
            with suppress(Refused):  # an answer like any other: what was owed came before it
                await self._asked(unit, fence)
            owed.clear()
        if not owed:
            self._owed.pop(unit, None)

    async def _asked(self, unit: int, question: Question) -> bytes:
        """Send one question once and wait for its answer."""
        stream, where = self._stream, f"{self} unit {unit}"
        if stream is None:
            raise ConnectionLost("not connected", where)
        if self.gap_s:
            await self._quiet(stream)
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bytes] = loop.create_future()
        now_s = real_s()
        timer = loop.call_later(max(0.0, min(self.timeout_s, self._until_s - now_s)), _expire, waiting)
        stream.expect(_Expected(self._framing, unit, question, waiting))
        self.counts.asked += 1
        settled = False
        try:
            stream.send(self._framing.wrap(unit, question.pdu))
            answer = await waiting
            settled = True
        except TimeoutError as error:
            self._silent[unit] = real_s()
            self.counts.silent += 1
            raise ConnectionLost("no answer in time", where) from error
        except ConnectionLost as error:
            raise ConnectionLost(error.error, where) from error
        except Rejected as misfit:
            self.counts.spurn(misfit.reason)
            raise
        finally:
            timer.cancel()
            stream.expect(None)
            if not settled and not self._framing.numbered:
                self._owed.setdefault(unit, {})[(question.function, question.size)] = now_s
        self._silent.pop(unit, None)
        if answer[0] & 0x80:
            self.counts.refused += 1
            raise Refused(answer[1], where)
        self.counts.answered += 1
        return answer

    async def _quiet(self, stream: Stream) -> None:
        """Wait until the line has been quiet for its gap; a line that never is will not be heard either."""
        for _ in range(MOST_GAPS):
            rest_s = stream.heard_s + self.gap_s - real_s()
            if rest_s <= 0:
                return
            await asyncio.sleep(rest_s)


def _expire(waiting: asyncio.Future[bytes]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())


@dataclass(frozen=True, slots=True)
class _Expected:
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
        self._expected: _Expected | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def expect(self, expected: _Expected | None) -> None:
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


class _Turns:
    """Who may use a line next: the lowest rank first, within a rank in their order."""

    def __init__(self) -> None:
        self._busy = False
        self._count = 0
        self._queue: list[tuple[tuple[int, float], int, asyncio.Future[None]]] = []

    async def take(self, rank: tuple[int, float], patience_s: float | None) -> bool:
        """Wait for the turn; False where it did not come in time."""
        if not self._busy:
            self._busy = True
            return True
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._queue, (rank, self._count, mine))
        try:
            async with asyncio.timeout(patience_s):
                await mine
        except TimeoutError:
            return mine.done() and not mine.cancelled()  # it may have come in the same moment
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.give()
            raise
        return True

    def give(self) -> None:
        """Hand the line to the next one that still waits."""
        while self._queue:
            _, _, following = heapq.heappop(self._queue)
            if not following.done():
                following.set_result(None)
                return
        self._busy = False
