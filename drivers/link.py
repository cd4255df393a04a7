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
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from drivers.frames import BEHIND_GATEWAY, READ_FUNCTION, Framing, Question, Refused, Rejected, TcpFrames, reading, words_of, writing
from drivers.stream import Counts, Expected, Stream
from drivers.turns import Turns
from ems.clock import real_s
from ems.errors import BadInput, ConnectionLost

OWED_S = 10.0
"""No serial unit answers later than this [s]."""
TRIED_S = 60.0
"""A dead unit that the living have left no turn for so long is asked once as if it lived: in its order, with their patience [s]."""
MOST_GAPS = 20
"""A question waits for a quiet line so many times at most."""


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
        self._turns = Turns()
        self._stream: Stream | None = None
        self._sharers = 0
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

    def join(self) -> None:
        """Count one more driver that takes turns here: a unit may have several, and each waits for all the others."""
        self._sharers += 1

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
        tried_s = self._silent.get(unit, -TRIED_S)
        dead = asked_s - tried_s < TRIED_S
        rank = 0 if first else 2 if dead else 1
        patience_s = timeout_s if dead or first else timeout_s * max(1, self._sharers - 1)
        if not await self._turns.take((rank, tried_s if dead else 0.0), patience_s):
            raise ConnectionLost("no turn on the shared connection in time", f"{self} unit {unit}")
        sound = False
        try:
            self._until_s = timeout_s + (asked_s if dead else real_s())
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
        except (OSError, TimeoutError, UnicodeError) as error:  # the last: a host name that cannot be one
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
        left_s = min(self.timeout_s, self._until_s - now_s)
        if left_s <= 0.0:
            raise ConnectionLost("its turn was over before all was asked", where)  # and nothing more is sent
        timer = loop.call_later(left_s, _expire, waiting)
        stream.expect(Expected(self._framing, unit, question, waiting))
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
        if answer[0] & 0x80 and answer[1] in BEHIND_GATEWAY:
            self._silent[unit] = real_s()
        else:
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
