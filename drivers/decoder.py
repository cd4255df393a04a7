"""Blocks of registers to house values, made ready once: what is asked every cycle is unpacked in one go.

It gives the same as `drivers.codec.decode` for every point, which a property test holds it to; what is seldom goes through that.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from drivers.codec import FORMATS, INTEGERS, MOST_EXPONENT, Block, address_of, blocks, decode, factor, from_raw, is_switch, marks_of
from drivers.frames import Question, reading, words_of
from ems.config.profile import Defaults, Point, Profile

Converter = Callable[[float], float | None]


@dataclass(frozen=True, slots=True)
class ReadyBlock:
    """One question of every cycle, and how its answer becomes values.

    Attributes
    ----------
    question : Question
    plain : tuple[tuple[str, int, float, frozenset[float] | None], ...]
        Name, which of the unpacked numbers, house units per raw unit, raw numbers that mean "no value".
    coded : tuple[tuple[str, int, Converter, frozenset[float] | None], ...]
        Switches, codes and fields of bits: the same with a function.
    seldom : tuple[tuple[str, Point], ...]
        What the codec decodes word by word.
    """

    block: Block
    question: Question
    unpack: Callable[[bytes], tuple[float, ...]]
    plain: tuple[tuple[str, int, float, frozenset[float] | None], ...]
    coded: tuple[tuple[str, int, Converter, frozenset[float] | None], ...]
    seldom: tuple[tuple[str, Point], ...]
    profile: Profile
    of: Mapping[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        """The points in it."""
        return tuple(name for name, _ in self.block.points)

    def values(self, answer: bytes, found: dict[str, float | None]) -> None:
        """Put the value of every point into `found`."""
        numbers = self.unpack(answer)
        for name, index, scale, marks in self.plain:
            raw = numbers[index]
            value = raw * scale
            # NaN and infinity are the only numbers that give something else than 0 here
            found[name] = None if (marks is not None and raw in marks) or value - value != 0.0 else value
        for name, index, convert, marks in self.coded:
            raw = numbers[index]
            found[name] = None if marks is not None and raw in marks else convert(raw)
        if self.seldom:
            words = words_of(self.question, answer, self.block.count)
            for name, point in self.seldom:
                found[name] = decode(self.block.words_of(point, words), point, self.profile, self.of)


class Decoder:
    """All points of a profile that are numbers.

    Raises
    ------
    BadInput
        A percentage of a rating that the asset does not have.
    """

    def __init__(self, profile: Profile, of: Mapping[str, float]) -> None:
        points = {name: point for name, point in profile.points.items() if point.type != "string"}
        scaled = {name: point for name, point in points.items() if point.scale_point is not None}
        points |= {name: point.model_copy(update={"offset": 0.0}) for name, point in scaled.items()}  # the offset is added to what is scaled
        self.blocks = tuple(_ready(block, profile, of) for block in blocks(points, profile.defaults))
        self._scaled = tuple((name, point.scale_point, point.offset * factor(point, of)) for name, point in scaled.items() if point.scale_point is not None)

    def scale(self, found: dict[str, float | None]) -> None:
        """Apply the scale factors that were read in the same breath, then add the offsets, as `codec.rescaled` does."""
        for name, scale, offset in self._scaled:
            value, exponent = found[name], found[scale]
            usable = exponent is not None and exponent == round(exponent) and abs(exponent) <= MOST_EXPONENT
            found[name] = value * 10.0**exponent + offset if usable and value is not None and exponent is not None else None


def _ready(block: Block, profile: Profile, of: Mapping[str, float]) -> ReadyBlock:
    """Sort the points of a block into what one unpacking gives and the rest."""
    plain, coded, seldom = [], [], []
    fields: dict[tuple[int, str], int] = {}  # by offset in words and format
    end = 0
    registers = block.table in ("holding", "input")
    for name, point in block.points:
        scale = factor(point, of)  # refuses what could not be decoded later, before anything is read
        offset = address_of(point) - block.address
        kind = FORMATS.get(point.type, "")
        marks = _raw_marks(point, profile)
        known = (offset, kind) in fields
        if not registers or not kind or (offset < end and not known) or (marks is not None and point.type not in INTEGERS):
            seldom.append((name, point))
            continue
        if not known:
            fields[offset, kind] = len(fields)
            end = offset + point.words
        index = fields[offset, kind]
        if is_switch(point) or point.mask is not None or point.none is not None or point.offset:
            coded.append((name, index, _converter(point, of), marks))
        else:
            plain.append((name, index, point.scale * scale, marks))
    question = reading(block.table, block.address, block.count)
    return ReadyBlock(block, question, _unpacker(block, fields, profile.defaults), tuple(plain), tuple(coded), tuple(seldom), profile, of)


def _converter(point: Point, of: Mapping[str, float]) -> Converter:
    if point.bit is not None:
        bit, on, off = point.bit, 0.0 if point.invert else 1.0, 1.0 if point.invert else 0.0
        return lambda raw: on if int(raw) >> bit & 1 else off
    return lambda raw: from_raw(raw, point, of)


def _raw_marks(point: Point, profile: Profile) -> frozenset[float] | None:
    """Return the marks for "no value" as the numbers that unpacking gives; None where there are none."""
    marks, top = marks_of(point, profile), 1 << 16 * point.words
    if not marks:
        return None
    return frozenset(m - top if point.type.startswith("int") and m >= top // 2 else m for m in marks)


def _unpacker(block: Block, fields: Mapping[tuple[int, str], int], defaults: Defaults) -> Callable[[bytes], tuple[float, ...]]:
    """Return what gives the numbers of all fields, in their order, from an answer (function, byte count, data)."""
    ordered = sorted(fields)
    layout, at = ">2x", 0
    for offset, kind in ordered:
        layout += f"{2 * (offset - at)}x{kind}"
        at = offset + struct.calcsize(">" + kind) // 2
    unpack = struct.Struct(layout).unpack_from
    turned = _order(block, defaults)
    if turned is None:
        return unpack
    rearrange = itemgetter(*turned)
    return lambda answer: unpack(bytes(rearrange(answer)))


def _order(block: Block, defaults: Defaults) -> Sequence[int] | None:
    """Return where each byte of an answer goes so that all is most significant first; None where it is already."""
    order = list(range(2 + 2 * block.count))
    for _, point in block.points:
        if point.type not in FORMATS:
            continue
        first = 2 + 2 * (address_of(point) - block.address)
        words = [[first + 2 * k, first + 2 * k + 1] for k in range(point.words)]
        if (point.word_order or defaults.word_order) == "little":
            words.reverse()
        if (point.byte_order or defaults.byte_order) == "little":
            words = [word[::-1] for word in words]
        order[first : first + 2 * point.words] = [byte for word in words for byte in word]
    return None if order == sorted(order) or block.table not in ("holding", "input") else order
