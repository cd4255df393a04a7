"""Registers to house units and back: the one place where a vendor's words, units and signs die.

A *word* is one 16-bit register, or 0 and 1 in the coil and discrete tables. `decode` gives None for what the
device marks as missing, for NaN and for infinity: never a number that only looks like one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from drivers.frames import PROTOCOL_MAX
from ems.config.profile import UNITS, Command, Defaults, Place, Point, Profile
from ems.errors import BadInput

INTEGERS = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"}
FORMATS = {**INTEGERS, "float32": "f", "float64": "d"}
MOST_EXPONENT = 10
"""A scale factor outside ten to the minus and plus tenth is no scale factor."""

P = TypeVar("P", bound=Place)


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
    words = turned(words, place, profile.defaults)
    if _is_missing(words, place, profile):
        return None
    return from_raw(struct.unpack(">" + FORMATS[place.type], _bytes(words))[0], place, of)


def from_raw(raw: float, place: Place, of: Mapping[str, float]) -> float | None:
    """Return the house value of the number on the wire, whatever carried it; None for NaN, infinity and unknown codes."""
    if not math.isfinite(raw):
        return None
    if isinstance(place, Point) and place.mask is not None:
        raw = (int(raw) & place.mask) >> shift_of(place.mask)
    if is_switch(place):
        return _switched(int(raw), place)
    if isinstance(place, Point) and place.none is not None:
        return 0.0 if raw == place.none else float(raw) or -1.0  # code 0 is a fault here, and must not read as none
    value = (raw * place.scale + place.offset) * factor(place, of)
    return value if math.isfinite(value) else None


def encode(value: float | None, place: Place, profile: Profile, of: Mapping[str, float]) -> list[int]:
    """Return the words for a value in the house unit; None gives the type's mark for "no value".

    A point with `bit` or `mask` gives its bits alone in the word. A counter wraps as a device's does. Where a `scale_point`
    scales it the place is first to be `rescaled`.

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
        if isinstance(place, Point) and place.mask is not None:
            raw = _masked(raw, place.mask, value)
        folded = isinstance(place, Point) and (place.counter or field_mask(place) is not None)
        if folded and place.type.startswith("int") and raw >> 16 * place.words - 1 == 1:
            raw -= 1 << 16 * place.words  # into the sign bit of a signed type
    try:
        words = _words(struct.pack(">" + FORMATS[place.type], raw))
    except (struct.error, OverflowError):
        raise BadInput(f"{value:g} does not fit {place.type} at address {place.address}", expected="a value inside the range of the type") from None
    if field_mask(place) is None and _is_missing(words, place, profile):
        raise BadInput(f'{value:g} would be read as "no value" at address {place.address}', expected="a value with other words")
    return turned(words, place, profile.defaults)


def encode_raw(code: int, place: Place, profile: Profile) -> list[int]:
    """Return the words of a raw number, as it stands in the profile."""
    if place.type == "bool":
        return [code]
    return turned(_words(struct.pack(">" + FORMATS[place.type], code)), place, profile.defaults)


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
    return (value / factor(place, of) - place.offset) / place.scale


def rescaled(place: P, exponent: float | None) -> P | None:
    """Return the place with the scale that its `scale_point` gave; None where that is no power of ten that devices use."""
    if exponent is None or exponent != round(exponent) or abs(exponent) > MOST_EXPONENT:
        return None
    return place.model_copy(update={"scale": place.scale * 10.0**exponent})


def field_mask(place: Place) -> int | None:
    """Return which bits of its words a point has for itself; None where it has all."""
    if not isinstance(place, Point):
        return None
    return place.mask if place.bit is None else 1 << place.bit


def put_field(words: Sequence[int], new: Sequence[int], place: Place, defaults: Defaults) -> list[int]:
    """Return words with the place's own bits taken from `new` and all others as they were."""
    mask = field_mask(place)
    if mask is None:
        return list(new)
    own = turned(_words(mask.to_bytes(2 * place.words, "big")), place, defaults)
    return [(old & ~bits) | (word & bits) for old, word, bits in zip(words, new, own, strict=True)]


def shift_of(mask: int) -> int:
    """Return how far the lowest bit of a mask is from the right."""
    return (mask & -mask).bit_length() - 1


def _masked(raw: int, mask: int, value: float) -> int:
    moved = raw << shift_of(mask)
    if raw < 0 or moved & ~mask:
        raise BadInput(f"{value:g} does not fit into the bits {mask:#x}", expected=f"at most {mask >> shift_of(mask)}")
    return moved


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
    """Whether it is on or off: a coil, a bit of a word, or by its codes."""
    if isinstance(place, Point | Command) and place.on is not None:
        return True
    return place.type == "bool" or (isinstance(place, Point) and place.bit is not None)


def on_codes(point: Point) -> tuple[int, ...]:
    """Return the codes at which a switch by code is on."""
    return point.on if isinstance(point.on, tuple) else () if point.on is None else (point.on,)


def _switched(raw: int, place: Place) -> float | None:
    """Return 1 or 0; None for a code that is neither on nor off."""
    if isinstance(place, Command) and place.on is not None:
        return 1.0 if raw == place.on else 0.0 if raw == place.off else None
    if not isinstance(place, Point):
        return float(raw != 0)
    if place.on is not None:
        return float(raw in on_codes(place))
    return float((raw != 0 if place.bit is None else raw >> place.bit & 1) != place.invert)


def _code(value: float, place: Place) -> int:
    """Return the raw code of a switch position."""
    on = value >= 0.5
    if isinstance(place, Command) and place.on is not None and place.off is not None:
        return place.on if on else place.off
    if not isinstance(place, Point):
        return int(on)
    if place.on is not None:
        codes = on_codes(place)
        return codes[0] if on else next(code for code in (*place.text, *range(len(codes) + 1)) if code not in codes)
    return int(on != place.invert) << (place.bit or 0)


def _check_range(value: float, command: Command) -> None:
    if is_switch(command) and value not in (0.0, 1.0):
        raise BadInput(f"{value:g} is no switch position", expected="0 or 1")
    low = -math.inf if command.min is None else command.min
    high = math.inf if command.max is None else command.max
    if not low <= value <= high:
        raise BadInput(f"{value:g} is outside the command's range", expected=f"{low:g} to {high:g}")


def turned(words: Sequence[int], place: Place, defaults: Defaults) -> list[int]:
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


def marks_of(place: Place, profile: Profile) -> frozenset[int]:
    """Return the raw words, as one unsigned number, that mean "no value" here: the point's own, else its type's."""
    own = place.missing if isinstance(place, Point) else None
    marks = profile.missing.get(place.type) if own is None else own
    return frozenset(mark % (1 << 16 * place.words) for mark in (marks if isinstance(marks, tuple) else (marks,)) if isinstance(mark, int))


def _is_missing(words: Sequence[int], place: Place, profile: Profile) -> bool:
    marks = marks_of(place, profile)
    return bool(marks) and int.from_bytes(_bytes(words), "big") in marks


def _missing_words(place: Place, profile: Profile) -> list[int]:
    marks = marks_of(place, profile)
    if marks:
        return turned(_words(min(marks).to_bytes(2 * place.words, "big")), place, profile.defaults)
    if place.type in ("float32", "float64"):
        return turned(_words(struct.pack(">" + FORMATS[place.type], math.nan)), place, profile.defaults)
    raise BadInput(f'no mark for "no value" of type {place.type}', f"profile {profile.profile}: missing", f"{place.type}: the raw words")
