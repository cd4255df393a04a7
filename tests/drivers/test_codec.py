"""Registers against house values: vectors written by hand, then round trips over everything."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.codec import blocks, decode, encode, rescaled, text, within_tolerance
from ems.config.profile import Command, Defaults, Point, Profile
from ems.errors import BadInput

MISSING: dict[str, Any] = {"int16": 0x8000, "uint16": 0xFFFF, "int32": 0x80000000, "uint32": 0xFFFFFFFF, "uint64": 0xFFFFFFFFFFFFFFFF, "float32": "nan"}


def profile(points: dict[str, Point] | None = None, defaults: Defaults | None = None, missing: dict[str, Any] | None = None) -> Profile:
    points = points or {"x": Point(address=0, type="uint16")}
    return Profile(
        profile="test", kind="diesel", protocol="modbus", points=points, defaults=defaults or Defaults(), missing=MISSING if missing is None else missing
    )


def point(**fields: Any) -> Point:
    return Point(address=0, **fields)


# 60.05 as a float is 0x42703333; -2 as int32 is 0xFFFFFFFE; 123456789 is 0x075BCD15
VECTORS = [
    ("int16", {}, [0x0007], 7.0),
    ("int16", {}, [0xFFFE], -2.0),
    ("uint16", {}, [0xFFFE], 65534.0),
    ("int32", {}, [0xFFFF, 0xFFFE], -2.0),
    ("uint32", {}, [0x075B, 0xCD15], 123456789.0),
    ("uint32", {"word_order": "little"}, [0xCD15, 0x075B], 123456789.0),
    ("uint32", {"byte_order": "little"}, [0x5B07, 0x15CD], 123456789.0),
    ("uint32", {"word_order": "little", "byte_order": "little"}, [0x15CD, 0x5B07], 123456789.0),
    ("int64", {}, [0xFFFF, 0xFFFF, 0xFFFF, 0xFF85], -123.0),
    ("uint64", {"word_order": "little"}, [0x0003, 0x0002, 0x0001, 0x0000], 2**32 + 2 * 2**16 + 3.0),
    ("uint16", {"byte_order": "little"}, [0x3412], 0x1234),
    ("float64", {}, [0x404E, 0x0666, 0x6666, 0x6666], 60.05),
    ("float64", {"word_order": "little"}, [0x6666, 0x6666, 0x0666, 0x404E], 60.05),
]


@pytest.mark.parametrize(("kind", "order", "words", "value"), VECTORS)
def test_numbers_by_hand(kind: str, order: dict[str, Any], words: list[int], value: float) -> None:
    place = point(type=kind, **order)
    assert decode(words, place, profile(), {}) == value
    assert encode(value, place, profile(), {}) == words


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({}, [0x4270, 0x3333]),
        ({"word_order": "little"}, [0x3333, 0x4270]),
        ({"byte_order": "little"}, [0x7042, 0x3333]),
        ({"word_order": "little", "byte_order": "little"}, [0x3333, 0x7042]),
    ],
)
def test_float_in_four_orders(order: dict[str, Any], words: list[int]) -> None:
    place = point(type="float32", **order)
    assert decode(words, place, profile(), {}) == pytest.approx(60.05, abs=1e-5)
    assert encode(60.05, place, profile(), {}) == words


def test_orders_come_from_the_defaults() -> None:
    little = profile(defaults=Defaults(word_order="little"))
    assert decode([0xCD15, 0x075B], point(type="uint32"), little, {}) == 123456789.0
    assert decode([0x075B, 0xCD15], point(type="uint32", word_order="big"), little, {}) == 123456789.0


@pytest.mark.parametrize(
    ("fields", "words", "value"),
    [
        ({"type": "int16", "unit": "W", "scale": 100}, [35], 3.5),
        ({"type": "int16", "unit": "W", "scale": -100}, [35], -3.5),
        ({"type": "int16", "unit": "kW", "scale": -0.1}, [0xFFF6], 1.0),
        ({"type": "uint16", "unit": "MW", "scale": 0.01}, [12], 120.0),
        ({"type": "uint32", "unit": "Wh"}, [0x0001, 0x0000], 65.536),
        ({"type": "uint16", "unit": "MWh"}, [2], 2000.0),
        ({"type": "uint32", "unit": "m3", "scale": 0.001}, [0, 1500], 1500.0),
        ({"type": "uint16", "unit": "pct", "scale": 0.1}, [555], 0.555),
        ({"type": "uint16", "unit": "pct", "of": "rated_kw"}, [40], 80.0),
        ({"type": "uint16", "unit": "kV", "scale": 0.01}, [41], 410.0),
        ({"type": "uint16", "unit": "min"}, [3], 180.0),
        ({"type": "uint16", "unit": "Hz", "scale": 0.01}, [5998], 59.98),
    ],
)
def test_scale_and_unit_become_the_house_unit(fields: dict[str, Any], words: list[int], value: float) -> None:
    place = point(**fields)
    assert decode(words, place, profile(), {"rated_kw": 200.0}) == pytest.approx(value, rel=1e-12)
    assert encode(value, place, profile(), {"rated_kw": 200.0}) == words


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("int16", [0x8000]),
        ("uint16", [0xFFFF]),
        ("int32", [0x8000, 0x0000]),
        ("uint32", [0xFFFF, 0xFFFF]),
        ("uint64", [0xFFFF] * 4),
        ("float32", [0x7FC0, 0x0000]),
        ("float32", [0x7F80, 0x0001]),  # a signalling NaN
        ("float32", [0x7F80, 0x0000]),  # infinity
        ("float32", [0xFF80, 0x0000]),
        ("float64", [0x7FF0, 0, 0, 0]),
        ("float64", [0x7FF8, 0, 0, 0]),
    ],
)
def test_no_value_is_none(kind: str, words: list[int]) -> None:
    assert decode(words, point(type=kind), profile(), {}) is None


def test_missing_mark_follows_the_orders_and_touches_no_other_type() -> None:
    turned = point(type="int32", word_order="little", byte_order="little")
    assert decode([0x0000, 0x0080], turned, profile(), {}) is None
    assert encode(None, turned, profile(), {}) == [0x0000, 0x0080]
    assert decode([0x8000], point(type="uint16"), profile(), {}) == 32768.0
    assert decode([0x8000], point(type="int16"), profile(missing={}), {}) == -32768.0
    assert decode([0x8000], point(type="int16"), profile(missing={"int16": -32768}), {}) is None
    assert decode([0xFFFF], point(type="uint16", bit=3), profile(), {}) is None


def test_missing_is_written_as_its_mark() -> None:
    assert encode(None, point(type="int16"), profile(), {}) == [0x8000]
    assert math.isnan(struct.unpack(">f", struct.pack(">2H", *encode(None, point(type="float32"), profile(), {})))[0])
    with pytest.raises(BadInput, match="no mark"):
        encode(None, point(type="int64"), profile(), {})


def test_bits_switches_and_faults() -> None:
    assert [decode([0b0100], point(type="uint16", bit=b), profile(), {}) for b in (1, 2)] == [0.0, 1.0]
    assert encode(1.0, point(type="uint16", bit=5), profile(), {}) == [32]
    assert [decode([raw], point(table="coil"), profile(), {}) for raw in (0, 1)] == [0.0, 1.0]
    key = Command(address=0, type="uint16", on=35701, off=35700)
    assert [decode([raw], key, profile(), {}) for raw in (35700, 35701, 7)] == [0.0, 1.0, None]
    assert [encode(v, key, profile(), {}) for v in (0.0, 1.0)] == [[35700], [35701]]
    fault = point(type="uint16", none=0)
    assert [decode([raw], fault, profile(), {}) for raw in (0, 3)] == [0.0, 3.0]
    assert encode(0.0, point(type="uint16", none=9), profile(), {}) == [9]
    assert decode([0], point(type="uint16", none=9), profile(), {}), "code 0 is a fault here and must not look like none"


def test_fields_of_bits_codes_and_offsets_by_hand() -> None:
    state = point(type="uint16", mask=0x0F00)
    assert [decode([word], state, profile(), {}) for word in (0x0000, 0xF3FF, 0x0F00)] == [0.0, 3.0, 15.0]
    assert encode(5.0, state, profile(), {}) == [0x0500]
    with pytest.raises(BadInput, match="0xf00"):
        encode(16.0, state, profile(), {})
    top = point(type="int32", mask=0xF0000000)  # reaches into the sign
    assert decode([0xA000, 0], top, profile(), {}) == 10.0
    assert encode(10.0, top, profile(), {}) == [0xA000, 0]
    assert decode([0x8000, 0], point(type="uint32", bit=31), profile(), {}) == 1.0
    assert decode([0, 0x8000], point(type="uint32", bit=31, word_order="little"), profile(), {}) == 1.0
    chain = point(type="uint16", bit=4, invert=True)
    assert [decode([word], chain, profile(), {}) for word in (0, 16)] == [1.0, 0.0]
    assert [encode(value, chain, profile(), {}) for value in (1.0, 0.0)] == [[0], [16]]
    assert [decode([word], point(table="coil", invert=True), profile(), {}) for word in (0, 1)] == [1.0, 0.0]
    mode = point(type="uint16", mask=0x0003, on=2)
    assert [decode([word], mode, profile(), {}) for word in (0, 1, 2, 3, 0xFFFE)] == [0.0, 0.0, 1.0, 0.0, 1.0]
    running = point(type="uint16", on=(0, 3))
    assert [decode([word], running, profile(), {}) for word in (0, 1, 3)] == [1.0, 0.0, 1.0]
    assert decode(encode(0.0, running, profile(), {}), running, profile(), {}) == 0.0
    cell = point(type="uint16", unit="degC", offset=-40.0)
    assert decode([65], cell, profile(), {}) == 25.0
    assert encode(25.0, cell, profile(), {}) == [65]
    half = point(type="int16", unit="pct", scale=0.1, offset=50.0, of="rated_kw")
    assert decode([0xFF06], half, profile(), {"rated_kw": 200.0}) == 50.0


def test_a_point_has_its_own_marks_for_no_value() -> None:
    gauge = point(type="int16", missing=(0x7FFF, 0x7FFE))
    assert [decode([word], gauge, profile(), {}) for word in (0x7FFF, 0x7FFE, 0x8000)] == [None, None, -32768.0], "its own, not its type's"
    assert encode(None, gauge, profile(), {}) == [0x7FFE]
    several = profile(missing={"uint16": (0xFFFF, 0xFFFE)})
    assert [decode([word], point(type="uint16"), several, {}) for word in (0xFFFF, 0xFFFE, 0xFFFD)] == [None, None, 65533.0]


def test_a_scale_factor_rescales_a_place() -> None:
    place = Command(address=0, type="int16", unit="W", scale_point="sf")
    assert [rescaled(place, exponent) and encode(0.5, rescaled(place, exponent), profile(), {}) for exponent in (0.0, 1.0, -1.0)] == [[500], [50], [5000]]
    assert [rescaled(place, exponent) for exponent in (None, 0.5, 11.0, -11.0)] == [None] * 4


def test_words_of_another_number_are_no_value() -> None:
    assert decode([1], point(type="uint32"), profile(), {}) is None
    assert decode([1, 2, 3], point(type="uint32"), profile(), {}) is None
    assert decode([], point(type="uint16"), profile(), {}) is None


def test_text() -> None:
    assert text([0x4142, 0x4300, 0x0000]) == "ABC"
    assert text([0x4241, 0x0043], "little") == "ABC"
    assert decode([0x4142, 0x4300], point(type="string(2)"), profile(), {}) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 301.0, -0.5])
def test_commands_refuse_what_is_out_of_range(value: float) -> None:
    with pytest.raises(BadInput):
        encode(value, Command(address=0, type="int16", unit="W", scale=100, min=0, max=300), profile(), {})


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"type": "int16"}, 32768.0),
        ({"type": "int16"}, -32768.0),  # fits, but reads as missing
        ({"type": "uint16"}, -1.0),
        ({"type": "uint16"}, 65535.0),
        ({"type": "float32"}, 1e39),
        ({"type": "uint16", "on": 1, "off": 0}, 0.5),
        ({"type": "uint16", "unit": "pct", "of": "rated_kva"}, 1.0),
    ],
)
def test_commands_refuse_what_does_not_fit(fields: dict[str, Any], value: float) -> None:
    with pytest.raises(BadInput):
        encode(value, Command(address=0, **fields), profile(), {"rated_kw": 200.0})


def test_a_counter_wraps_where_a_measurement_is_refused() -> None:
    assert encode(2**32 * 0.1 + 5, point(type="uint32", unit="L", scale=0.1, counter=True), profile(), {}) == [0, 50]
    with pytest.raises(BadInput):
        encode(2**32 * 0.1 + 5, point(type="uint32", unit="L", scale=0.1), profile(), {})


def test_tolerance_is_relative_but_never_finer_than_a_step() -> None:
    coarse = Command(address=0, type="int16", unit="kW", scale=1, tolerance=0.02)
    for wanted, actual, fits in [(100.0, 102.0, True), (100.0, 102.5, False), (10.4, 10.0, True), (0.0, 1.0, True), (0.0, 2.0, False), (5.0, None, False)]:
        assert within_tolerance(wanted, actual, coarse, {}) is fits
    switch = Command(address=0, type="uint16", on=1, off=0)
    assert not within_tolerance(1.0, 0.0, switch, {})


RANGES = {"int16": 2**15, "int32": 2**31, "int64": 2**52, "uint16": 2**16, "uint32": 2**32, "uint64": 2**53}


@given(
    kind=st.sampled_from(sorted(RANGES)),
    word_order=st.sampled_from(["big", "little"]),
    byte_order=st.sampled_from(["big", "little"]),
    share=st.floats(-1, 1),
    scale=st.sampled_from([1.0, -1.0, 0.1, 100.0, -0.01]),
    unit=st.sampled_from(["W", "kW", "pct", None]),
)
def test_integers_survive_the_wire(kind: str, word_order: str, byte_order: str, share: float, scale: float, unit: Any) -> None:
    place = point(type=kind, word_order=word_order, byte_order=byte_order, scale=scale, unit=unit)
    raw = int(share * (RANGES[kind] - 2)) if kind.startswith("i") else int(abs(share) * (RANGES[kind] - 2))
    value = raw * scale * {"W": 1e-3, "pct": 0.01}.get(unit, 1.0)
    words = encode(value, place, profile(), {})
    assert len(words) == place.words
    assert decode(words, place, profile(), {}) == pytest.approx(value, rel=1e-12)


@given(
    value=st.floats(allow_nan=False, allow_infinity=False, width=32),
    word_order=st.sampled_from(["big", "little"]),
    kind=st.sampled_from(["float32", "float64"]),
)
def test_floats_survive_the_wire(value: float, word_order: str, kind: str) -> None:
    place = point(type=kind, word_order=word_order)
    assert decode(encode(value, place, profile(), {}), place, profile(), {}) == value


@given(words=st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4), kind=st.sampled_from(["int64", "uint64", "float64"]))
def test_any_words_give_a_finite_number_or_none(words: list[int], kind: str) -> None:
    value = decode(words, point(type=kind), profile(), {})
    assert value is None or math.isfinite(value)


def at(*addresses: int, kind: str = "uint16", table: Any = None) -> dict[str, Point]:
    return {f"{table}{a}": Point(address=a, type=kind, table=table) for a in addresses}


@pytest.mark.parametrize(
    ("addresses", "defaults", "expected"),
    [
        ((0, 1, 2), Defaults(), [(0, 3)]),
        ((5, 14), Defaults(max_gap=8), [(5, 10)]),  # eight words lie between
        ((5, 15), Defaults(max_gap=8), [(5, 1), (15, 1)]),
        ((0, 1, 2, 3, 4), Defaults(max_block=2, max_gap=0), [(0, 2), (2, 2), (4, 1)]),
        ((9, 3, 4), Defaults(max_gap=0), [(3, 2), (9, 1)]),
    ],
)
def test_blocks(addresses: tuple[int, ...], defaults: Defaults, expected: list[tuple[int, int]]) -> None:
    assert [(b.address, b.count) for b in blocks(at(*addresses), defaults)] == expected


def test_blocks_keep_tables_apart_and_wide_points_whole() -> None:
    points = at(0, 1, table="holding") | at(2, table="input") | at(0, 3, kind="bool", table="coil") | {"wide": Point(address=2, type="uint64")}
    found = blocks(points, Defaults(max_block=4))
    assert [(b.table, b.address, b.count) for b in found] == [("holding", 0, 2), ("holding", 2, 4), ("input", 2, 1), ("coil", 0, 4)]
    assert found[1].words_of(points["wide"], [1, 2, 3, 4]) == [1, 2, 3, 4]


@given(
    addresses=st.sets(st.integers(0, 400), min_size=1), max_block=st.integers(1, 125), max_gap=st.integers(0, 20), kind=st.sampled_from(["uint16", "float32"])
)
def test_every_point_is_in_one_block_inside_the_limits(addresses: set[int], max_block: int, max_gap: int, kind: str) -> None:
    step = 1 if kind == "uint16" else 2
    points = at(*(a * step for a in addresses), kind=kind)
    found = blocks(points, Defaults(max_block=max_block, max_gap=max_gap))
    assert sorted(name for b in found for name, _ in b.points) == sorted(points)
    for block in found:
        assert block.count <= max(max_block, step)
        assert block.address == block.points[0][1].address, "a block starts at a mapped point"
        last = block.points[-1][1]
        assert block.address + block.count == (last.address or 0) + step, "and ends with one"
