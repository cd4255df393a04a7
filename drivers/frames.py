"""Modbus as bytes: questions, how they are framed, and whether an answer fits the one that was asked. No I/O.

Nothing that does not fit is ever handed on: another transaction, unit, function or length, another write's
acknowledgement, a damaged frame. Each is `Rejected` with its reason, or skipped and spurned with it while the right
answer may still come.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ems.errors import BadAnswer

READ_FUNCTION = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
PROTOCOL_MAX = {"holding": 125, "input": 125, "coil": 2000, "discrete": 2000}
"""Most words that one Modbus answer can carry, by table."""
REASONS = ("transaction", "unit", "function", "length", "acknowledgement", "crc", "framing", "unasked")
"""Why an answer was not used."""
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
LONGEST = 260
"""The longest frame of all, in bytes."""
HEADER = struct.Struct(">HHHB")

Spurn = Callable[[str], None]
"""Called with the reason for each answer that is skipped."""


class Refused(BadAnswer):
    """The device answered with an exception: the connection is sound, the request was not taken."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"refused with exception {code} ({REFUSALS.get(code, 'unknown')})", where)
        self.code = code


class Rejected(BadAnswer):
    """What came does not answer the question; `reason` is one of `REASONS`."""

    def __init__(self, reason: str, error: str, expected: str = "") -> None:
        super().__init__(error, expected=expected)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Question:
    """A request without its unit: function and data, and how long the right answer is (function and data too)."""

    pdu: bytes
    size: int

    @property
    def function(self) -> int:
        """The function code."""
        return self.pdu[0]

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.pdu[0] <= 4


def reading(table: str, address: int, count: int) -> Question:
    """Return the question for `count` words of a table."""
    function = READ_FUNCTION[table]
    return Question(struct.pack(">BHH", function, address, count), 2 + (2 * count if function >= 3 else -(-count // 8)))


def writing(table: str, address: int, words: Sequence[int]) -> Question:
    """Return the question that writes words: functions 6 and 16, coils 5 and 15."""
    if table == "coil":
        if len(words) == 1:
            return Question(struct.pack(">BHH", 5, address, 0xFF00 if words[0] else 0), 5)
        bits = sum(1 << k for k, word in enumerate(words) if word)
        data = bits.to_bytes(-(-len(words) // 8), "little")
        return Question(struct.pack(">BHHB", 15, address, len(words), len(data)) + data, 5)
    if len(words) == 1:
        return Question(struct.pack(">BHH", 6, address, words[0]), 5)
    return Question(struct.pack(f">BHHB{len(words)}H", 16, address, len(words), 2 * len(words), *words), 5)


def words_of(question: Question, answer: bytes, count: int) -> list[int]:
    """Return the words of a read's answer; bits as 0 and 1."""
    if question.function >= 3:
        return list(struct.unpack_from(f">{count}H", answer, 2))
    return [answer[2 + k // 8] >> k % 8 & 1 for k in range(count)]


def check(question: Question, answer: bytes) -> None:
    """Refuse what does not answer this question; an exception to it does.

    The echoed value of a write is not compared: a device may clear a pulse or bound a value before it answers; reading back decides.
    """
    function = question.pdu[0]
    if answer[0] == function | 0x80:
        if len(answer) != 2:
            raise Rejected("length", f"an exception of {len(answer)} bytes", "2 bytes")
        return
    if answer[0] != function:
        raise Rejected("function", f"an answer to function {answer[0] & 0x7F}", f"function {function}")
    if len(answer) != question.size or (function <= 4 and answer[1] != len(answer) - 2):
        raise Rejected("length", f"an answer of {len(answer)} bytes", f"{question.size} bytes with a true byte count")
    if function > 4 and (answer[1:3] != question.pdu[1:3] or (function >= 15 and answer[3:5] != question.pdu[3:5])):
        raise Rejected("acknowledgement", "another write was acknowledged", "the write that was sent")


class Framing(Protocol):
    """How questions become frames, and answers are found in what came.

    Attributes
    ----------
    numbered : bool
        Whether a late answer can be told by a transaction number.
    """

    numbered: bool

    def wrap(self, unit: int, pdu: bytes) -> bytes:
        """Return the frame of a question."""

    def take(self, buffer: bytearray, unit: int, question: Question, spurn: Spurn) -> bytes | None:
        """Take the right answer out of what came; None while it may still come.

        Raises
        ------
        Rejected
            The right answer will not come any more.
        """


class TcpFrames:
    """Modbus TCP: every question has its number, which is never 0 and never any."""

    numbered = True

    def __init__(self) -> None:
        self._number = 0

    def wrap(self, unit: int, pdu: bytes) -> bytes:
        """Return the frame of a question under the next number."""
        self._number = self._number % 0xFFFF + 1
        return HEADER.pack(self._number, 0, len(pdu) + 1, unit) + pdu

    def take(self, buffer: bytearray, unit: int, question: Question, spurn: Spurn) -> bytes | None:
        """Skip other transactions, refuse all else that does not fit."""
        while len(buffer) >= HEADER.size:
            number, protocol, length, who = HEADER.unpack_from(buffer)
            if protocol or not 3 <= length <= LONGEST - 6:
                raise Rejected("framing", "what came is no Modbus frame")
            if len(buffer) < 6 + length:
                return None
            answer = bytes(buffer[7 : 6 + length])
            del buffer[: 6 + length]
            if number != self._number:
                spurn("transaction")
                continue
            if who != unit:
                raise Rejected("unit", f"unit {who} answered", f"unit {unit}")
            check(question, answer)
            return answer
        return None


def _crc_table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
        found.append(value)
    return tuple(found)


CRC = _crc_table()


def crc16(data: bytes | bytearray) -> bytes:
    """Return the check of a serial frame as it stands on the wire (polynomial 0xA001, begun with 0xFFFF, low byte first)."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


class RtuFrames:
    """Serial frames: no number, no length, a check at the end.

    A frame of another unit, or of this one with another shape, may be an answer that comes late: it is skipped. Bytes that
    are no frame are skipped up to the next place where the right answer could begin.
    """

    numbered = False

    def wrap(self, unit: int, pdu: bytes) -> bytes:
        """Return the frame of a question."""
        frame = bytes((unit,)) + pdu
        return frame + crc16(frame)

    def take(self, buffer: bytearray, unit: int, question: Question, spurn: Spurn) -> bytes | None:
        """Skip whole frames that do not fit, and noise; refuse a damaged answer."""
        while buffer:
            size = _rtu_size(buffer)
            ours = _could_begin(buffer, 0, unit, question.function)
            if size and len(buffer) >= size and crc16(buffer[: size - 2]) == buffer[size - 2 : size]:
                who, answer = buffer[0], bytes(buffer[1 : size - 2])
                del buffer[:size]
                if who != unit:
                    spurn("unit")
                    continue
                try:
                    check(question, answer)
                except Rejected as misfit:
                    spurn(misfit.reason)
                    continue
                return answer
            if ours and size and len(buffer) >= size:
                del buffer[:]
                raise Rejected("crc", "a damaged frame")
            after = next((k for k in range(1, len(buffer)) if _could_begin(buffer, k, unit, question.function)), None)
            if ours or after is None and (size is None or size > len(buffer)):
                return None
            spurn("framing")
            del buffer[: len(buffer) if after is None else after]
        return None


def _could_begin(buffer: bytearray, at: int, unit: int, function: int) -> bool:
    """Whether an answer of this unit to this function could begin here; at the last byte only its unit can be seen."""
    return buffer[at] == unit and (at + 1 >= len(buffer) or buffer[at + 1] & 0x7F == function)


def _rtu_size(buffer: bytearray) -> int | None:
    """Return the length of the frame that begins here by its own words; 0 where none can, None where that cannot be seen yet."""
    if len(buffer) < 2:
        return None
    function = buffer[1]
    if 1 <= function <= 4:
        return None if len(buffer) < 3 else 5 + buffer[2]
    if function in (5, 6, 15, 16):
        return 8
    return 5 if function & 0x80 and function & 0x7F in (1, 2, 3, 4, 5, 6, 15, 16) else 0
