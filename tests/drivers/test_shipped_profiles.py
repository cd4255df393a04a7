"""Every shipped Modbus profile: values inside the range of each point go to registers and come back, on the simulated device and through the driver."""

from __future__ import annotations

import math
import random

import pytest

from api.probe import _read, _rows
from drivers.codec import INTEGERS, decode, encode, factor, field_mask, is_switch, on_codes, rescaled
from drivers.decoder import Decoder
from drivers.modbus import ModbusDriver, ModbusLink
from ems.config.load import shipped_profile, shipped_profiles
from ems.config.profile import Command, Place, Point, Profile
from ems.errors import BadInput
from simulator import registers
from simulator.faces import ModbusFace

OF = {"rated_kw": 500.0, "rated_kva": 600.0, "peak_kw": 800.0, "capacity_kwh": 1000.0, "capacity_l": 20000.0}
MODBUS = [name for name in shipped_profiles() if shipped_profile(name).protocol == "modbus"]
OURS = ("genset-paralleling", "genset-command-word", "genset-key-pair", "bms-rack", "pcs-setpoint", "tank-gauge", "energy-meter-64", "weather-station")


def test_there_are_enough_and_those_of_controllers_say_that_they_are_patterns() -> None:
    assert len(shipped_profiles()) >= 12
    assert set(OURS) <= set(MODBUS)


def drawn(place: Place, rng: random.Random) -> float:
    """Return a value that the place can carry [house unit]."""
    if isinstance(place, Point) and (place.none is not None or (place.text and not on_codes(place))):
        codes = list(place.text) or [1]
        return float(rng.choice(codes) if place.none is None or rng.random() < 0.7 else 0)
    if is_switch(place):
        return float(rng.random() < 0.5)
    unit = abs(place.scale) * factor(place, OF)
    if place.type.startswith("float"):
        low, high = -1e4, 1e4
    else:
        bits = 16 * place.words if not isinstance(place, Point) or place.mask is None else bin(place.mask).count("1")
        high = min(2.0**52, 2.0 ** (bits - 1) - 2) if place.type.startswith("int") else min(2.0**52, 2.0**bits - 4)
        low = -high if place.type.startswith("int") else 0.0
    raw = float(round(rng.uniform(low, high)))
    value = (raw * place.scale + place.offset) * factor(place, OF) if unit else raw
    if isinstance(place, Command):
        return min(math.inf if place.max is None else place.max, max(-math.inf if place.min is None else place.min, value))
    return abs(value) if isinstance(place, Point) and place.counter else value


def close(a: float | None, b: float, place: Place) -> bool:
    step = abs(place.scale) * factor(place, OF) if place.type in INTEGERS else 0.0
    return a is not None and (a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=0.51 * step + 1e-9))


@pytest.mark.parametrize("name", MODBUS)
def test_random_values_survive_every_shipped_profile(name: str) -> None:
    profile, rng = shipped_profile(name), random.Random(name)
    decoder = Decoder(profile, OF)
    places: dict[str, Place] = {**profile.points, **{f"{n} (command)": c for n, c in profile.commands.items()}}
    tried = 0
    for label, place in places.items():
        if place.type == "string":
            continue
        scaled = rescaled(place, rng.randint(-2, 3)) if place.scale_point is not None else place
        assert scaled is not None
        for _ in range(40):
            value = drawn(scaled, rng)
            try:
                words = encode(value, scaled, profile, OF)
            except BadInput as refused:
                assert "no value" in str(refused), f"{label}: {refused}"  # drew the very mark of a missing value
                continue
            tried += 1
            assert len(words) == place.words
            assert all(0 <= word <= 0xFFFF for word in words)
            assert close(decode(words, scaled, profile, OF), value, scaled), (label, value, words)
        if field_mask(place) is None and isinstance(place, Point) and (place.missing is not None or place.type in profile.missing):
            assert decode(encode(None, place, profile, OF), place, profile, OF) is None, label
    assert tried > 0
    assert {n for b in decoder.blocks for n in b.names} == {n for n, p in profile.points.items() if p.type != "string"}
    for block in decoder.blocks:
        assert block.block.count <= profile.defaults.max_block


def reach(point: Point) -> float:
    """Return the largest value of a point [house unit]; a scale factor makes room for more."""
    if point.type.startswith("float") or point.scale_point is not None:
        return math.inf
    return (2.0 ** (16 * point.words - 1) * abs(point.scale) + point.offset) * factor(point, OF)


def shown(profile: Profile, rng: random.Random) -> dict[str, float]:
    """Return a value for every point that the simulated device could show."""
    return {
        name: rng.choice((0.0, 1.0)) if is_switch(point) else rng.uniform(0.001, 0.9) * min(100.0, reach(point))
        for name, point in profile.points.items()
        if point.type != "string" and point.none is None and not point.text and name not in {p.scale_point for p in profile.points.values()}
    }


@pytest.mark.parametrize("name", MODBUS)
async def test_the_driver_reads_what_the_simulated_device_shows(name: str) -> None:
    profile, rng = shipped_profile(name), random.Random(name)
    values, taken = shown(profile, rng), []
    face = ModbusFace("x1", profile, OF, lambda command, value: taken.append((command, value)))
    await face.begin(values)
    server, port = await registers.serve({5: face.unit}, "127.0.0.1", 0)
    device = ModbusDriver("x1", profile, 5, ModbusLink("127.0.0.1", port, 2.0), 2.0, OF)
    try:
        found = await device.read()
        for point, value in values.items():
            place = profile.points[point]
            if place.scale_point is not None:
                place = rescaled(place, face._exponents[place.scale_point]) or place
            assert close(found[point].value, value, place), (point, value, found[point])
        for command, target in profile.commands.items():
            value = 1.0 if is_switch(target) else 42.0
            result = await device.write(command, value)
            assert result.ok, (command, result)
            assert taken[-1] == (command, pytest.approx(value, abs=1.0))
        await device.beat(1)
        assert profile.heartbeat is None or face.heard_s is not None
    finally:
        await device.close()
        await server.shutdown()


async def test_a_pulse_that_we_have_to_clear_is_cleared_at_the_next_reading_after_its_time() -> None:
    profile = shipped_profile("genset-command-word")
    taken: list[tuple[str, float]] = []
    face = ModbusFace("dg1", profile, OF, lambda command, value: taken.append((command, value)))
    await face.begin({})
    server, port = await registers.serve({5: face.unit}, "127.0.0.1", 0)
    slow = profile.model_copy(update={"commands": {"running": profile.commands["running"].model_copy(update={"pulse_s": 0.05})}})
    device = ModbusDriver("dg1", slow, 5, ModbusLink("127.0.0.1", port, 2.0), 2.0, OF)
    try:
        assert (await device.write("running", 1.0)).ok
        assert face.unit.get("holding", 1, 1) == [1]
        while face.unit.get("holding", 1, 1) == [1]:
            await device.read()
        assert face.unit.get("holding", 1, 1) == [0]
        assert taken == [("running", 1.0)], "clearing is no order"
        assert (await device.write("running", 0.0)).ok
        assert face.unit.get("holding", 1, 1) == [2]
        await device.close()
        assert face.unit.get("holding", 1, 1) == [0], "nothing stays pressed when we go"
    finally:
        await server.shutdown()


async def test_texts_are_read_when_asked_for() -> None:
    profile = shipped_profile("bms-rack")
    face = ModbusFace("bess1", profile, OF, lambda command, value: None)
    await face.begin({})
    face.unit.put("input", 0, [0x5348, 0x494D, 0x412D, 0x3031, 0, 0, 0, 0])
    server, port = await registers.serve({5: face.unit}, "127.0.0.1", 0)
    device = ModbusDriver("bess1", profile, 5, ModbusLink("127.0.0.1", port, 2.0), 2.0, OF)
    try:
        assert await device.texts() == {"serial": "SHIMA-01"}
        assert "serial" not in await device.read()
        shown = {row["point"]: row for row in _rows("bess1", profile, await _read(device))}
        assert (shown["serial"]["text"]["en"], shown["serial"]["quality"]) == ("SHIMA-01", "good")
        face.unit.put("input", 0, [0] * 8)
        empty = {row["point"]: row for row in _rows("bess1", profile, await _read(device))}
        assert empty["serial"]["quality"] == "bad"
    finally:
        await device.close()
        await server.shutdown()
