"""What is unpacked in one go is what the codec gives word by word, for any profile and any words."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.codec import decode, encode, rescaled
from drivers.decoder import Decoder
from ems.config.profile import WORDS, Command, Defaults, Point, Profile
from ems.errors import BadInput

OF = {"rated_kw": 200.0}
MISSING: dict[str, Any] = {"int16": 0x8000, "uint16": (0xFFFF, 0xFFFE), "int32": 0x80000000, "uint32": 0xFFFFFFFF, "float32": 0x7FC00000}


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    points: dict[str, Point] = {}
    at = 0
    for k in range(draw(st.integers(1, 12))):
        at += draw(st.integers(0, 12))
        table = draw(st.sampled_from(["holding", "holding", "input", "coil"]))
        if table == "coil":
            points[f"p{k}"] = Point(address=at, table="coil", invert=draw(st.booleans()))
            at += 1
            continue
        kind = draw(st.sampled_from([t for t in WORDS if t != "bool"]))
        bits = 16 * WORDS[kind]
        fields: dict[str, Any] = {"scale": draw(st.sampled_from([1.0, 0.1, -100.0])), "unit": draw(st.sampled_from([None, "W", "pct"]))}
        form = draw(st.sampled_from(["number", "number", "bit", "mask", "none", "marked"])) if not kind.startswith("float") else "number"
        if fields["unit"] == "pct" and draw(st.booleans()):
            fields["of"] = "rated_kw"
        if form == "bit":
            fields = {"bit": draw(st.integers(0, bits - 1)), "invert": draw(st.booleans())}
        elif form == "mask":
            low = draw(st.integers(0, bits - 1))
            fields |= {"mask": ((1 << draw(st.integers(1, bits - low))) - 1) << low}
        elif form == "none":
            fields = {"none": draw(st.integers(0, 9))}
        elif form == "marked":
            fields |= {"missing": (0x7FFF, 1)}
        orders = {"word_order": draw(st.sampled_from(["big", "little", None])), "byte_order": draw(st.sampled_from(["big", "little", None]))}
        points[f"p{k}"] = Point(address=at, table=table, type=kind, **orders, **fields)
        at += WORDS[kind]
    defaults = Defaults(word_order=draw(st.sampled_from(["big", "little"])), max_gap=draw(st.integers(0, 12)))
    return Profile(profile="any", kind="diesel", protocol="modbus", defaults=defaults, missing=MISSING, points=points)


WORD = st.sampled_from([0, 1, 0x7FFF, 0x8000, 0xFFFF, 0xFFFE, 0x7FC0, 0x7F80, 0xFF80]) | st.integers(0, 0xFFFF)


@settings(max_examples=150)
@given(profile=profiles(), data=st.data())
def test_both_ways_of_decoding_agree(profile: Profile, data: st.DataObject) -> None:
    decoder = Decoder(profile, OF)
    assert sorted(name for block in decoder.blocks for name in block.names) == sorted(profile.points)
    for block in decoder.blocks:
        count, bits = block.block.count, block.block.table == "coil"
        words = data.draw(st.lists(st.integers(0, 1) if bits else WORD, min_size=count, max_size=count))
        packed = sum(w << k for k, w in enumerate(words)).to_bytes(-(-count // 8), "little") if bits else struct.pack(f">{count}H", *words)
        found: dict[str, float | None] = {}
        block.values(bytes([block.question.function, len(packed)]) + packed, found)
        for name, point in block.block.points:
            expected = decode(block.block.words_of(point, words), point, profile, OF)
            assert found[name] == (expected if expected is None else pytest.approx(expected, rel=1e-12)), (name, point)


def sunspec_like(**more: Point) -> Profile:
    points = {"power_kw": Point(address=0, type="int16", unit="W", scale_point="power_sf"), "power_sf": Point(address=1, type="int16", missing=0x8000), **more}
    command = Command(address=9, type="int16", unit="W", scale_point="power_sf")
    return Profile(profile="sf", kind="inverter", protocol="modbus", points=points, commands={"power_kw": command})


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ((1234, 0), 1.234),
        ((1234, 2), 123.4),
        ((-50, 1), -0.5),
        ((1234, -1), 0.1234),
        ((1234, 11), None),  # no device scales by more than ten to the tenth
        ((1234, -32768), None),  # its own mark for "no value"
    ],
)
def test_a_scale_factor_applies_in_the_same_breath(words: tuple[int, int], value: float | None) -> None:
    decoder = Decoder(sunspec_like(), {})
    found: dict[str, float | None] = {}
    decoder.blocks[0].values(b"\x03\x04" + struct.pack(">2h", *words), found)
    decoder.scale(found)
    assert found["power_kw"] == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("raw", "exponent", "fields", "value"),
    [
        (650, -1, {"unit": "degC", "offset": -40.0}, 25.0),
        (650, 0, {"unit": "degC", "offset": -40.0}, 610.0),
        (12, 1, {"unit": "W", "scale": 2.0, "offset": 500.0}, 0.74),
        (100, -1, {"unit": "pct", "of": "rated_kw", "offset": 5.0}, 30.0),
        (0, 3, {"offset": -1.5}, -1.5),
        (650, 11, {"offset": -40.0}, None),
    ],
)
def test_an_offset_is_added_to_what_is_scaled_reading_and_writing_alike(raw: int, exponent: int, fields: dict[str, Any], value: float | None) -> None:
    point = Point(address=0, type="int16", scale_point="sf", **fields)
    profile = sunspec_like().model_copy(update={"points": {"x": point, "sf": Point(address=1, type="int16")}, "commands": {}})
    decoder = Decoder(profile, OF)
    found: dict[str, float | None] = {}
    decoder.blocks[0].values(b"\x03\x04" + struct.pack(">2h", raw, exponent), found)
    decoder.scale(found)
    assert found["x"] == (None if value is None else pytest.approx(value))
    alike = rescaled(point, float(exponent))
    assert (alike and decode([raw], alike, profile, OF)) == (None if value is None else pytest.approx(value))
    if alike is not None:
        assert encode(value, alike, profile, OF) == [raw]


def test_a_percentage_of_nothing_is_refused_before_anything_is_read() -> None:
    profile = Profile(profile="p", kind="solar", protocol="modbus", points={"power_kw": Point(address=0, type="int16", unit="pct", of="rated_kva")})
    with pytest.raises(BadInput, match="rated_kva"):
        Decoder(profile, OF)
