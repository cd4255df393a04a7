"""Modbus TCP: one connection for all units of a gateway, and a device read and written by its profile.

pymodbus carries the frames; whether an answer fits its question is decided here, because pymodbus hands
over answers of another function or length and takes transaction id 0 for any. Nothing is ever sent
twice: `retries=0`, and whoever wants a second try asks again after reading back.

Turns. The units behind one gateway share its connection one after another. Once its turn has come a unit
has `timeout_s` for all its requests; waiting included a call ends within twice that. A unit that did not
answer last time has only `timeout_s` in all: however many units are known to be dead, those that stand
before a living one are gone when `timeout_s` has passed.

After silence, a cancelled request or a wrong answer the connection is closed, so that a late answer meets
nobody. The next turn opens it again; there is no reconnecting in the background.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsResponse, ReadDiscreteInputsResponse
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, ReadInputRegistersResponse

from drivers.codec import Block, address_of, blocks, decode, encode, table_of, within_tolerance
from ems.clock import real_s
from ems.config.profile import Command, Profile
from ems.errors import BadAnswer, BadInput, ConnectionLost
from ems.model import Quality, Reading
from ems.ports import WriteResult

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what it would log, we raise

READ_FUNCTION = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
REFUSALS = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "acknowledged only",
    6: "device busy",
    8: "memory error",
    10: "gateway path unavailable",
    11: "no answer behind the gateway",
}
BEHIND_GATEWAY = (10, 11)


class Refused(BadAnswer):
    """The device answered with an exception: the connection is sound, the request was not taken."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"refused with exception {code} ({REFUSALS.get(code, 'unknown')})", where)
        self.code = code


def _whole(data: bytes) -> bool:
    return len(data) > 0 and len(data) == 1 + data[0]


class _Holding(ReadHoldingRegistersResponse):
    """Registers only from a frame whose byte count is even and true; pymodbus itself does not look."""

    def decode(self, data: bytes) -> None:
        self.registers = []
        if _whole(data) and data[0] % 2 == 0:
            super().decode(data)


class _Input(ReadInputRegistersResponse):
    """The same for input registers."""

    def decode(self, data: bytes) -> None:
        self.registers = []
        if _whole(data) and data[0] % 2 == 0:
            super().decode(data)


class _Coils(ReadCoilsResponse):
    """Bits only from a frame whose byte count is true."""

    def decode(self, data: bytes) -> None:
        self.bits = []
        if _whole(data):
            super().decode(data)


class _Discrete(ReadDiscreteInputsResponse):
    """The same for discrete inputs."""

    def decode(self, data: bytes) -> None:
        self.bits = []
        if _whole(data):
            super().decode(data)


class ModbusLink:
    """One TCP connection, shared by the units behind it.

    Parameters
    ----------
    host, port : str, int
    timeout_s : float
        For opening the connection, and the longest a single answer may take [s]: the longest of its devices.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.host, self.port, self.timeout_s = host, port, timeout_s
        self._client: AsyncModbusTcpClient | None = None
        self._line = asyncio.Lock()
        self._silent: set[int] = set()

    def __str__(self) -> str:
        return f"tcp://{self.host}:{self.port}"

    @asynccontextmanager
    async def turn(self, unit: int, timeout_s: float) -> AsyncIterator[None]:
        """Hold the connection for one unit's requests, opened if need be.

        Raises
        ------
        ConnectionLost
            It cannot be opened, the unit is silent, or its turn did not come in time.
        """
        where = f"{self} unit {unit}"
        end_s = real_s() + (timeout_s if unit in self._silent else 2 * timeout_s)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(end_s - real_s()):
                    await stack.enter_async_context(self._line)
            except TimeoutError:
                raise ConnectionLost("no turn on the shared connection in time", where) from None
            sound = False
            try:
                async with asyncio.timeout(min(timeout_s, end_s - real_s())):
                    if self._client is None or not self._client.connected:
                        await self._open()
                    yield
                sound = True
            except (Refused, BadInput):
                sound = True
                raise
            except (TimeoutError, ModbusException) as error:
                self._silent.add(unit)
                raise ConnectionLost("no answer in time", where) from error
            finally:
                if not sound:
                    self._drop()

    async def _open(self) -> None:
        self._drop()
        client = AsyncModbusTcpClient(self.host, port=self.port, timeout=self.timeout_s, retries=0, reconnect_delay=0)
        for strict in (_Holding, _Input, _Coils, _Discrete):
            client.register(strict)
        if not await client.connect():
            raise ConnectionLost("cannot connect", str(self))
        self._client = client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def close(self) -> None:
        """Close the connection once the turn under way has ended; the next turn opens it again."""
        async with self._line:
            self._drop()

    async def read(self, unit: int, table: str, address: int, count: int) -> list[int]:
        """Return `count` words of a table; only inside a turn."""
        client = self._opened()
        match table:
            case "holding":
                answer = await client.read_holding_registers(address, count=count, device_id=unit)
            case "input":
                answer = await client.read_input_registers(address, count=count, device_id=unit)
            case "coil":
                answer = await client.read_coils(address, count=count, device_id=unit)
            case _:
                answer = await client.read_discrete_inputs(address, count=count, device_id=unit)
        where = f"{self} unit {unit} {table} {address}"
        self._check(answer, unit, READ_FUNCTION[table], where)
        got = answer.bits if table in ("coil", "discrete") else answer.registers
        due = -(-count // 8) * 8 if table in ("coil", "discrete") else count
        if len(got) != due:
            raise BadAnswer(f"{len(got)} values came for a question about {count}", where, f"{due} values")
        return [int(word) for word in got[:count]]

    async def write(self, unit: int, table: str, address: int, words: Sequence[int]) -> None:
        """Write words once and see them acknowledged; only inside a turn."""
        client = self._opened()
        where = f"{self} unit {unit} {table} {address}"
        if table == "coil":
            function = 5 if len(words) == 1 else 15
            bits = [bool(word) for word in words]
            answer = await (client.write_coil(address, bits[0], device_id=unit) if function == 5 else client.write_coils(address, bits, device_id=unit))
        else:
            function = 6 if len(words) == 1 else 16
            answer = await (
                client.write_register(address, words[0], device_id=unit) if function == 6 else client.write_registers(address, list(words), device_id=unit)
            )
        self._check(answer, unit, function, where)
        # the echoed value is not compared: a device may clear a pulse or bound a value before it answers; reading back decides
        if answer.address != address or (function in (15, 16) and answer.count != len(words)):
            raise BadAnswer(f"a write of {answer.count} words at {answer.address} was acknowledged", where, "the write that was sent")

    def _opened(self) -> AsyncModbusTcpClient:
        if self._client is None:
            raise ConnectionLost("not connected", str(self))
        return self._client

    def _check(self, answer: ModbusPDU, unit: int, function: int, where: str) -> None:
        """Refuse what does not answer this question; pymodbus has already skipped other transaction ids, except 0."""
        if answer.transaction_id == 0:
            raise BadAnswer("an answer without a transaction id", where)
        if answer.dev_id != unit:
            raise BadAnswer(f"unit {answer.dev_id} answered", where, f"unit {unit}")
        if answer.function_code & 0x7F != function:
            raise BadAnswer(f"an answer to function {answer.function_code & 0x7F}", where, f"function {function}")
        self._silent.discard(unit)
        if answer.isError():
            raise Refused(answer.exception_code, where)


@dataclass(frozen=True, slots=True)
class Words:
    """What came back, by point: its words (none where refused) and when they were asked for."""

    of: dict[str, Sequence[int]]
    sent_s: dict[str, float]

    def readings(self, values: Mapping[str, float | None]) -> dict[str, Reading]:
        """Return the values with quality and age."""
        now_s = real_s()
        return {name: Reading(value, Quality.BAD if value is None else Quality.GOOD, now_s - self.sent_s[name]) for name, value in values.items()}


class ModbusDriver:
    """One unit, read and written as its profile says.

    Parameters
    ----------
    asset : str
        Id, for messages.
    profile : Profile
    unit : int
        Modbus unit id.
    link : ModbusLink
        Shared with the other units of the same url.
    timeout_s : float
        For one read or one write once its turn has come; with the wait for it at most twice that [s].
    of : Mapping[str, float]
        Ratings that percentages refer to.
    """

    def __init__(self, asset: str, profile: Profile, unit: int, link: ModbusLink, timeout_s: float, of: Mapping[str, float]) -> None:
        self.asset, self.profile, self.unit, self.link, self.timeout_s, self.of = asset, profile, unit, link, timeout_s, of
        self._blocks = blocks(profile.points, profile.defaults)

    async def connect(self) -> None:
        """Open the shared connection; while it is open do nothing."""
        async with self.link.turn(self.unit, self.timeout_s):
            return

    async def read(self) -> Mapping[str, Reading]:
        """Read every point; those of a refused block are bad, any other fault spoils the whole read."""
        try:
            async with self.link.turn(self.unit, self.timeout_s):
                words = await self.words(self._blocks)
        except Refused as refusal:
            raise ConnectionLost(refusal.error, refusal.where) from refusal
        return words.readings({name: decode(words.of[name], point, self.profile, self.of) for name, point in self.profile.points.items()})

    async def words(self, wanted: Sequence[Block]) -> Words:
        """Ask for blocks inside a turn; a gateway's word that nobody is behind it is raised, other refusals leave gaps."""
        words = Words({}, {})
        for block in wanted:
            sent_s = real_s()
            try:
                got = await self.link.read(self.unit, block.table, block.address, block.count)
            except Refused as refusal:
                if refusal.code in BEHIND_GATEWAY:
                    raise
                got = []
            for name, point in block.points:
                words.of[name] = block.words_of(point, got)
                words.sent_s[name] = sent_s
        return words

    async def write(self, command: str, value: float) -> WriteResult:
        """Write one command once and read it back where the profile says where; a pulse clears itself and is not read back."""
        target = command_of(self.profile, command, self.asset)
        words = encode(value, target, self.profile, self.of)
        table = table_of(target, self.profile.defaults)
        try:
            async with self.link.turn(self.unit, self.timeout_s):
                await self.link.write(self.unit, table, address_of(target), words)
                if not isinstance(target.read_back, int) or target.pulse_s > 0:
                    return WriteResult(True)
                words = await self.link.read(self.unit, table, target.read_back, target.words)
        except Refused as refusal:
            return WriteResult(False, None, str(refusal))
        return judge(value, decode(words, target, self.profile, self.of), target, self.of)

    async def beat(self, count: int) -> None:
        """Toggle the heartbeat: the device watches for change, not for a number."""
        beat = self.profile.heartbeat
        if beat is None:
            return
        async with self.link.turn(self.unit, self.timeout_s):
            await self.link.write(self.unit, table_of(beat, self.profile.defaults), address_of(beat), encode(float(count % 2), beat, self.profile, self.of))

    async def heartbeat(self) -> float | None:
        """Read the heartbeat back; a register that can only be written shows nothing."""
        beat = self.profile.heartbeat
        if beat is None:
            return None
        try:
            async with self.link.turn(self.unit, self.timeout_s):
                words = await self.link.read(self.unit, table_of(beat, self.profile.defaults), address_of(beat), beat.words)
        except Refused as refusal:
            if refusal.code in BEHIND_GATEWAY:
                raise ConnectionLost(refusal.error, refusal.where) from refusal
            return None
        return decode(words, beat, self.profile, self.of)

    async def close(self) -> None:
        """Close the shared connection; another unit's next turn opens it again."""
        await self.link.close()


def command_of(profile: Profile, command: str, asset: str) -> Command:
    """Return a command of the profile."""
    if command not in profile.commands:
        raise BadInput(f"{asset} takes no command {command}", f"profile {profile.profile}", " | ".join(profile.commands) or "no command at all")
    return profile.commands[command]


def judge(wanted: float, actual: float | None, target: Command, of: Mapping[str, float]) -> WriteResult:
    """Compare what was read back with what was written."""
    if within_tolerance(wanted, actual, target, of):
        return WriteResult(True, actual)
    return WriteResult(False, actual, f"wrote {wanted:g}, read back {'nothing' if actual is None else format(actual, 'g')}")
