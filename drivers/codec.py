"""Registers to house units and back: the one place where a vendor's words, units and signs die.

A *word* is one 16-bit register, or 0 and 1 in the coil and discrete tables. `decode` gives None for what the
device marks as missing, for NaN and for infinity: never a number that only looks like one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ems.config.profile import UNITS, Command, Defaults, Place, Point, Profile
from ems.errors import BadInput

PROTOCOL_MAX = {"holding": 125, "input": 125, "coil": 2000, "discrete": 2000}
"""Most words that one Modbus answer can carry, by table."""

INTEGERS = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"}
FORMATS = {**INTEGERS, "float32": "f", "float64": "d"}


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring points that one request reads.

    Attributes
    ----------
    table : str
        `holding | input | coil | discrete`.
    address, count : int
        First word and number of words; both ends are mapped points.
    points : tuple[tuple[str, Point], ...]
        Name and point, in the order of their addresses.
    """

    table: str
    address: int
    count: int
    points: tuple[tuple[str, Point], ...]

    def words_of(self, point: Point, words: Sequence[int]) -> Sequence[int]:
        """Return the point's own words out of the block's."""
        first = address_of(point) - self.address
        return words[first : first + point.words]


def address_of(place: Place) -> int:
    """Return the zero-based address, which every Modbus value has."""
    if place.address is None:
        raise BadInput("a Modbus value without an address", expected="a zero-based address from 0 to 65535")
    return place.address


def table_of(place: Place, defaults: Defaults) -> str:
    """Return the table that the value lives in."""
    return place.table or defaults.table


def blocks(points: Mapping[str, Point], defaults: Defaults) -> list[Block]:
    """Merge points into as few reads as `max_block` and `max_gap` allow, never beyond a mapped point."""
    found: list[Block] = []
    for table in PROTOCOL_MAX:
        most = min(defaults.max_block, PROTOCOL_MAX[table])
        here = sorted(((n, p) for n, p in points.items() if table_of(p, defaults) == table), key=lambda item: address_of(item[1]))
        group: list[tuple[str, Point]] = []
        start = end = 0
        for name, point in here:
            first = address_of(point)
            last = first + point.words
            if group and (first - end > defaults.max_gap or max(end, last) - start > most):
                found.append(Block(table, start, end - start, tuple(group)))
                group = []
            if not group:
                start = end = first
            group.append((name, point))
            end = max(end, last)
        if group:
            found.append(Block(table, start, end - start, tuple(group)))
    return found


def decode(words: Sequence[int], place: Place, profile: Profile, of: Mapping[str, float]) -> float | None:
    """Return the value in the house unit, or None where the words carry none.

    Parameters
    ----------
    words : Sequence[int]
        The place's own words, in the order of their addresses.
    place : Place
        What they mean: a point, a heartbeat, or a command, which gives what was commanded.
    profile : Profile
        Its orders and its marks for "no value".
    of : Mapping[str, float]
        Ratings that percentages refer to [house unit].
    """
    if len(words) != place.words or place.type == "string":
        return None
    if place.type == "bool":
        return _switched(words[0], place)
    words = _turned(words, place, profile.defaults)
    if _is_missing(words, place, profile):
        return None
    return from_raw(struct.unpack(">" + FORMATS[place.type], _bytes(words))[0], place, of)


def from_raw(raw: float, place: Place, of: Mapping[str, float]) -> float | None:
    """Return the house value of the number on the wire, whatever carried it; None for NaN, infinity and unknown codes."""
    if not math.isfinite(raw):
        return None
    if is_switch(place):
        return _switched(int(raw), place)
    if isinstance(place, Point) and place.none is not None:
        return 0.0 if raw == place.none else float(raw) or -1.0  # code 0 is a fault here, and must not read as none
    value = raw * place.scale * factor(place, of)
    return value if math.isfinite(value) else None


def encode(value: float | None, place: Place, profile: Profile, of: Mapping[str, float]) -> list[int]:
    """Return the words for a value in the house unit; None gives the type's mark for "no value".

    A point with `bit` gives its bit alone in the word. A counter wraps as a device's does.

    Raises
    ------
    BadInput
        The value is not finite, outside the command's range, does not fit the type, or would read as "no value".
    """
    if value is None:
        return _missing_words(place, profile)
    raw = to_raw(value, place, of)
    if place.type == "bool":
        return [int(raw)]
    if place.type in INTEGERS:
        raw = round(raw)
        if isinstance(place, Point) and place.counter:
            raw %= 1 << 16 * place.words
    try:
        words = _words(struct.pack(">" + FORMATS[place.type], raw))
    except (struct.error, OverflowError):
        raise BadInput(f"{value:g} does not fit {place.type} at address {place.address}", expected="a value inside the range of the type") from None
    if _is_missing(words, place, profile):
        raise BadInput(f'{value:g} would be read as "no value" at address {place.address}', expected="a value with other words")
    return _turned(words, place, profile.defaults)


def to_raw(value: float, place: Place, of: Mapping[str, float]) -> float:
    """Return the number that goes on the wire, before it is rounded to its type; refuses what a command may not be given."""
    if not math.isfinite(value):
        raise BadInput(f"{value} cannot be written", expected="a finite number")
    if isinstance(place, Command):
        _check_range(value, place)
    if is_switch(place):
        return _code(value, place)
    if isinstance(place, Point) and place.none is not None:
        return place.none if value == 0 else value
    return value / (place.scale * factor(place, of))


def text(words: Sequence[int], byte_order: str = "big") -> str:
    """Return the text in string registers, without its padding."""
    data = b"".join(word.to_bytes(2, "big" if byte_order == "big" else "little") for word in words)
    return data.split(b"\0")[0].decode("utf-8", "replace").strip()


def within_tolerance(wanted: float, actual: float | None, command: Command, of: Mapping[str, float]) -> bool:
    """Whether a read-back value confirms what was written; one raw step is always allowed."""
    if actual is None:
        return False
    step = abs(command.scale * factor(command, of)) if command.type in INTEGERS and not is_switch(command) else 0.0
    return abs(actual - wanted) <= max(command.tolerance * abs(wanted), step) * (1 + 1e-6) + 1e-9


def factor(place: Place, of: Mapping[str, float]) -> float:
    """Return house units per unit of the profile; a percentage of a rating becomes that rating's unit."""
    if place.of is not None and place.of not in of:
        raise BadInput(f"a percentage of {place.of}, which the asset does not have", expected=" | ".join(of) or "an asset with ratings")
    return (UNITS[place.unit][1] if place.unit else 1.0) * (of[place.of] if place.of else 1.0)


def is_switch(place: Place) -> bool:
    """Whether it is on or off: a coil, a bit of a word, or two codes."""
    return place.type == "bool" or (isinstance(place, Point) and place.bit is not None) or (isinstance(place, Command) and place.on is not None)


def _switched(raw: int, place: Place) -> float | None:
    """Return 1 or 0; None for a code that is neither on nor off."""
    if isinstance(place, Point) and place.bit is not None:
        return float(raw >> place.bit & 1)
    if isinstance(place, Command) and place.on is not None:
        return 1.0 if raw == place.on else 0.0 if raw == place.off else None
    return float(raw != 0)


def _code(value: float, place: Place) -> int:
    """Return the raw code of a switch position."""
    on = value >= 0.5
    if isinstance(place, Command) and place.on is not None and place.off is not None:
        return place.on if on else place.off
    return int(on) << ((place.bit or 0) if isinstance(place, Point) else 0)


def _check_range(value: float, command: Command) -> None:
    if is_switch(command) and value not in (0.0, 1.0):
        raise BadInput(f"{value:g} is no switch position", expected="0 or 1")
    low = -math.inf if command.min is None else command.min
    high = math.inf if command.max is None else command.max
    if not low <= value <= high:
        raise BadInput(f"{value:g} is outside the command's range", expected=f"{low:g} to {high:g}")


def _turned(words: Sequence[int], place: Place, defaults: Defaults) -> list[int]:
    """Swap words and bytes between the wire's order and most significant first; doing it twice undoes it."""
    if (place.word_order or defaults.word_order) == "little":
        words = words[::-1]
    if (place.byte_order or defaults.byte_order) == "little":
        words = [(word & 0xFF) << 8 | word >> 8 for word in words]
    return list(words)


def _bytes(words: Sequence[int]) -> bytes:
    return struct.pack(f">{len(words)}H", *words)


def _words(data: bytes) -> list[int]:
    return list(struct.unpack(f">{len(data) // 2}H", data))


def _is_missing(words: Sequence[int], place: Place, profile: Profile) -> bool:
    mark = profile.missing.get(place.type)
    return isinstance(mark, int) and int.from_bytes(_bytes(words), "big") == mark % (1 << 16 * place.words)


def _missing_words(place: Place, profile: Profile) -> list[int]:
    mark = profile.missing.get(place.type)
    if isinstance(mark, int):
        return _turned(_words((mark % (1 << 16 * place.words)).to_bytes(2 * place.words, "big")), place, profile.defaults)
    if place.type in ("float32", "float64"):
        return _turned(_words(struct.pack(">" + FORMATS[place.type], math.nan)), place, profile.defaults)
    raise BadInput(f'no mark for "no value" of type {place.type}', f"profile {profile.profile}: missing", f"{place.type}: the raw words")
