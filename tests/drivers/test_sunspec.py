"""SunSpec by a fixed base: the map is written here register by register, as the standard numbers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.modbus import ModbusLink
from drivers.sunspec import SunSpecDriver
from drivers.sunspec_map import declared, register_of
from drivers.sunspec_models import MODELS
from ems.config.profile import Command, Point, Profile
from ems.errors import BadAnswer, BadInput, ConnectionLost
from ems.model import Quality

BASE = 40000
INVERTER = BASE + 2 + 68  # behind the marker and model 1
CONTROLS = INVERTER + 52
METER = CONTROLS + 26
END = METER + 107

PROFILE = Profile(
    profile="sun",
    kind="solar",
    protocol="sunspec",
    base=BASE,
    models=(1, 103, 123, 203),
    points={
        "power_kw": Point(point="103.W"),
        "frequency_hz": Point(point="103.Hz"),
        "energy_kwh": Point(point="103.WH", counter=True),
        "state": Point(point="103.St"),
        "dc_kw": Point(point="103.DCW"),
        "meter_kw": Point(point="203.W", scale=-1.0),
        "meter_export_kwh": Point(point="203.TotWhExp"),
    },
    commands={
        "limit_kw": Command(
            point="123.WMaxLimPct", unit="pct", of="rated_kw", enable="123.WMaxLim_Ena", revert_s="123.WMaxLimPct_RvrtTms", min=0, refresh_s=20.0
        )
    },
)


def device_map() -> dict[int, int]:
    """Return a device's registers by address: 812.3 kW, 59.98 Hz, 70000 kWh, and a limit that is off."""
    words = dict.fromkeys(range(BASE, END + 2), 0xFFFF)
    put = {
        BASE: [0x5375, 0x6E53, 1, 66],
        INVERTER: [103, 50],
        INVERTER + 14: [8123, 2],  # W, W_SF
        INVERTER + 16: [5998, 0xFFFE],  # Hz, Hz_SF -2
        INVERTER + 24: [0x0001, 0x1170, 3],  # WH 70000, WH_SF
        INVERTER + 31: [0x8000, 2],  # DCW is not implemented
        INVERTER + 38: [4],
        CONTROLS: [123, 24],
        CONTROLS + 5: [1000, 0, 0, 0, 0],  # WMaxLimPct, WinTms, RvrtTms, RmpTms, Ena
        CONTROLS + 23: [0xFFFF],  # WMaxLimPct_SF -1
        METER: [203, 105],
        METER + 18: [0xFF38],  # W -200
        METER + 22: [1],
        METER + 38: [0, 0],  # TotWhExp is not accumulated
        METER + 54: [0],
        END: [0xFFFF, 0],
    }
    for address, values in put.items():
        words.update({address + k: value for k, value in enumerate(values)})
    return words


class Device:
    """The map on the wire, with every write noted; `stuck` addresses acknowledge and stay as they are."""

    def __init__(self) -> None:
        self.words = device_map()
        self.written: list[tuple[int, int]] = []
        self.reads: list[tuple[int, int]] = []
        self.stuck: set[int] = set()
        self.silent = False

    async def answer(self, function: int, start: int, address: int, count: int, registers: list[int], values: list[int] | None) -> ExcCodes | None:
        if self.silent:
            await asyncio.sleep(2.0)
        if any(address + k not in self.words for k in range(count)):
            return ExcCodes.ILLEGAL_ADDRESS
        if values is not None:
            for k, value in enumerate(values):
                self.written.append((address + k, value))
                if address + k not in self.stuck:
                    self.words[address + k] = value
            return None
        self.reads.append((address, count))
        registers[address - start : address - start + count] = [self.words[address + k] for k in range(count)]
        return None

    @asynccontextmanager
    async def served(self) -> AsyncIterator[int]:
        first = min(self.words)
        blank = SimData(first, values=[0] * (max(self.words) - first + 200), datatype=DataType.REGISTERS)
        server = ModbusTcpServer([SimDevice(id=1, simdata=[blank], action=self.answer)], address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        try:
            yield int(server.transport.sockets[0].getsockname()[1])  # type: ignore[union-attr]
        finally:
            await server.shutdown()


@asynccontextmanager
async def driving(device: Device, profile: Profile = PROFILE) -> AsyncIterator[SunSpecDriver]:
    async with device.served() as port:
        driver = SunSpecDriver("pv1", profile, 1, ModbusLink("127.0.0.1", port, 1.0), 1.0, {"rated_kw": 900.0})
        yield driver
        await driver.close()


async def test_values_with_their_scale_factors() -> None:
    async with driving(Device()) as driver:
        found = await driver.read()
    assert {name: reading.value for name, reading in found.items()} == {
        "power_kw": pytest.approx(812.3),
        "frequency_hz": pytest.approx(59.98),
        "energy_kwh": pytest.approx(70000.0),
        "state": 4.0,
        "dc_kw": None,
        "meter_kw": pytest.approx(2.0),
        "meter_export_kwh": None,
    }
    assert found["power_kw"].quality is Quality.GOOD
    assert found["dc_kw"].quality is Quality.BAD


async def test_a_scale_factor_is_read_with_its_value() -> None:
    device = Device()
    async with driving(device) as driver:
        assert (await driver.read())["power_kw"].value == pytest.approx(812.3)
        device.words[INVERTER + 15] = 1
        assert (await driver.read())["power_kw"].value == pytest.approx(81.23)
        for impossible in (0x8000, 11, 0xFFF5):
            device.words[INVERTER + 15] = impossible
            assert (await driver.read())["power_kw"].value is None


async def test_the_map_is_proved_once() -> None:
    device = Device()
    async with driving(device) as driver:
        await driver.read()
        first = len(device.reads)
        await driver.read()
    heads = [(BASE, 2), (BASE + 2, 2), (INVERTER, 2), (CONTROLS, 2), (METER, 2)]
    assert device.reads[:5] == heads
    assert not set(heads) & set(device.reads[first:])


@pytest.mark.parametrize(("address", "word"), [(BASE, 0), (BASE + 2, 2), (INVERTER, 111), (INVERTER + 1, 60), (METER + 1, 104)])
async def test_another_map_is_no_value_and_takes_no_write(address: int, word: int) -> None:
    device = Device()
    device.words[address] = word
    async with driving(device) as driver:
        for _ in range(2):
            with pytest.raises(BadAnswer):
                await driver.read()
        with pytest.raises(BadAnswer):
            await driver.write("limit_kw", 450.0)
        assert device.written == []
        device.words[address] = device_map()[address]
        assert (await driver.read())["state"].value == 4.0


async def test_a_limit_is_written_then_its_time_then_enabled() -> None:
    device = Device()
    async with driving(device) as driver:
        result = await driver.write("limit_kw", 450.0)
    assert (result.ok, result.read_back) == (True, pytest.approx(450.0))
    assert device.written == [(CONTROLS + 5, 500), (CONTROLS + 7, 60), (CONTROLS + 9, 1)]  # 50.0 %, three refreshes of 20 s, on


async def test_a_limit_that_is_not_enabled_is_not_done() -> None:
    device = Device()
    device.stuck = {CONTROLS + 9}
    async with driving(device) as driver:
        result = await driver.write("limit_kw", 450.0)
    assert not result.ok
    assert "enable" in result.cause
    assert device.written.count((CONTROLS + 5, 500)) == 1


async def test_a_limit_that_did_not_take_is_not_done() -> None:
    device = Device()
    device.stuck = {CONTROLS + 5}
    async with driving(device) as driver:
        result = await driver.write("limit_kw", 450.0)
    assert (result.ok, result.read_back) == (False, pytest.approx(900.0))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 1e6])
async def test_an_impossible_limit_is_not_written(value: float) -> None:
    device = Device()
    async with driving(device) as driver:
        with pytest.raises(BadInput):
            await driver.write("limit_kw", value)
    assert device.written == []


@pytest.mark.parametrize("changed", [{"models": (1, 103)}, {"models": (1, 103, 64001)}, {"points": {"x": Point(point="103.Nothing")}}])
def test_what_the_models_do_not_have_is_refused_at_once(changed: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        SunSpecDriver("pv1", PROFILE.model_copy(update=changed), 1, ModbusLink("127.0.0.1", 1, 1.0), 1.0, {"rated_kw": 900.0})


def test_offsets_are_those_of_the_standard() -> None:
    assert {m: s.address for m, s in declared(PROFILE).items()} == {1: 40002, 103: 40070, 123: 40122, 203: 40148}
    expected = {"103.W": 14, "103.Hz": 16, "103.VA": 18, "103.WH": 24, "103.DCW": 31, "103.St": 38, "103.Evt1": 40}
    expected |= {"120.WRtg": 3, "120.WHRtg": 19, "120.MaxChaRte": 23, "120.MaxDisChaRte": 25, "121.WMax": 2, "121.WGra": 12}
    expected |= {"123.Conn": 4, "123.WMaxLimPct": 5, "123.WMaxLimPct_RvrtTms": 7, "123.WMaxLim_Ena": 9, "123.WMaxLimPct_SF": 23}
    expected |= {"203.Hz": 16, "203.W": 18, "203.W_SF": 22, "203.TotWhExp": 38, "203.TotWhImp": 46, "203.TotWh_SF": 54}
    everything = PROFILE.model_copy(update={"models": tuple(MODELS)})
    assert {reference: register_of(reference, everything)[1].offset for reference in expected} == expected


# ------------------------------------------------------------------ discovery
def moved(*models: tuple[int, int, int], base: int = BASE) -> dict[int, int]:
    """Return a map of models given as (id, length, where its words come from in `device_map`); 0: none."""
    source, words = device_map(), {base: 0x5375, base + 1: 0x6E53}
    at = base + 2
    for number, length, start in models:
        words |= {at: number, at + 1: length} | {at + 2 + k: source.get(start + 2 + k, 0xFFFF) if start else 0xFFFF for k in range(length)}
        at += 2 + length
    return words | {at: 0xFFFF, at + 1: 0}


@pytest.mark.parametrize(
    "words",
    [
        moved((1, 65, BASE + 2), (120, 26, 0), (123, 24, CONTROLS), (64001, 9, 0), (103, 50, INVERTER), (203, 105, METER)),  # others between, another order
        moved((1, 66, BASE + 2), (101, 50, INVERTER), (123, 24, CONTROLS), (204, 105, METER)),  # one phase, and a delta meter
        moved((1, 66, BASE + 2), (103, 50, INVERTER), (123, 24, CONTROLS), (203, 105, METER), base=50000),
        moved((1, 66, BASE + 2), (103, 50, INVERTER), (123, 24, CONTROLS), (203, 105, METER), base=0),
    ],
)
async def test_models_are_found_wherever_the_device_keeps_them(words: dict[int, int]) -> None:
    device = Device()
    device.words = words
    async with driving(device) as driver:
        assert (await driver.read())["power_kw"].value == pytest.approx(812.3)
        result = await driver.write("limit_kw", 450.0)
    assert (result.ok, result.read_back) == (True, pytest.approx(450.0))
    assert [value for _, value in device.written] == [500, 60, 1]


async def test_a_device_that_comes_back_with_another_map_is_walked_again() -> None:
    device = Device()
    async with driving(device) as driver:
        assert (await driver.read())["power_kw"].value == pytest.approx(812.3)
        device.silent = True
        with pytest.raises(ConnectionLost):
            await driver.read()
        device.silent = False
        device.words = moved((1, 66, BASE + 2), (120, 26, 0), (103, 50, INVERTER), (123, 24, CONTROLS), (203, 105, METER))
        assert (await driver.read())["power_kw"].value == pytest.approx(812.3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (moved((1, 66, 0), (103, 50, INVERTER), (123, 24, CONTROLS)), "model 203 is not there but 1, 103, 123"),
        (moved((1, 66, 0), (103, 52, INVERTER)), "model 103 of length 52"),
        (moved((1, 66, 0), (103, 0, INVERTER)), "does not end"),
        ({k: v for k, v in moved((1, 66, 0)).items() if k < BASE + 70}, "does not end"),
        ({BASE: 0x5375, BASE + 1: 0x6E54}, "no SunSpec marker"),
    ],
)
async def test_a_map_that_lacks_something_is_told_in_one_line(words: dict[int, int], told: str) -> None:
    device = Device()
    device.words = words
    async with driving(device) as driver:
        with pytest.raises(BadAnswer, match=told):
            await driver.read()
        with pytest.raises(BadAnswer, match=told):
            await driver.write("limit_kw", 450.0)
    assert device.written == []


async def test_a_model_with_a_part_that_repeats() -> None:
    """Two trackers: the second one's 1234 with a factor of 1 are 12.34 kW; a third one is not there."""
    profile = PROFILE.model_copy(update={"models": (1, 160), "points": {"string_kw": Point(point="160.DCW_2")}, "commands": {}})
    device = Device()
    device.words = moved((1, 66, 0), (160, 48, 0))
    start = BASE + 2 + 68
    device.words |= {start + 4: 1, start + 10 + 31: 1234}
    async with driving(device, profile) as driver:
        assert (await driver.read())["string_kw"].value == pytest.approx(12.34)
    third = profile.model_copy(update={"points": {"string_kw": Point(point="160.DCW_3")}})
    async with driving(device, third) as driver:
        with pytest.raises(BadAnswer, match="repeats 2 times"):
            await driver.read()


async def test_two_rates_and_a_mode_are_one_setpoint() -> None:
    """The older storage model: -225 kW of 900 are -25.0 % as discharge and 25.0 % as charge, for 60 s, both in force by mode 3."""
    command = Command(point="124.OutWRte", mirror="124.InWRte", also={"124.StorCtl_Mod": 3}, revert_s="124.InOutWRte_RvrtTms", unit="pct", of="rated_kw")
    profile = PROFILE.model_copy(
        update={"kind": "inverter", "models": (1, 124), "points": {"soc": Point(point="124.ChaState")}, "commands": {"power_kw": command}}
    )
    device, start = Device(), BASE + 2 + 68
    device.words = moved((1, 66, 0), (124, 24, 0)) | {start + 25: 0xFFFF, start + 22: 0xFFFF, start + 8: 537}
    async with driving(device, profile) as driver:
        assert (await driver.read())["soc"].value == pytest.approx(0.537)
        assert (await driver.write("power_kw", -225.0)).ok
        assert device.written == [(start + 12, 0x10000 - 250), (start + 13, 250), (start + 5, 3), (start + 15, 60)]
        for stuck, told in ((start + 13, "read back"), (start + 5, "StorCtl_Mod"), (start + 15, "revert_s")):
            device.stuck, device.words[stuck] = {stuck}, 0
            result = await driver.write("power_kw", 90.0)
            assert not result.ok and told in result.cause
