"""Readings become one image: what is old, absurd or missing is not used, and what the balance tells is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ems.image import ImageBuilder
from ems.memory import Memory
from ems.model import Image, Quality, Reading
from tests.ems.island import diesel, inverter, points, site, telemetry

BUILD = ImageBuilder(site()).build


def image(memory: Memory | None = None, k: int = 0, **assets: dict[str, Reading]) -> Image:
    return BUILD(telemetry(k, **assets), memory or Memory())


@pytest.mark.parametrize(
    ("reading", "value"),
    [
        (Reading(202.0), 202.0),
        (Reading(202.0, Quality.SUSPECT), 202.0),
        (Reading(202.0, age_s=3.0), 202.0),  # three cycles old: just usable
        (Reading(202.0, age_s=3.01), None),
        (Reading(202.0, Quality.BAD), None),
        (Reading(None), None),
        (Reading(math.nan), None),
        (Reading(math.inf), None),
        (Reading(451.0), 451.0),  # 1.5 times 300 kW and one
        (Reading(451.1), None),
        (Reading(-65535.0), None),
    ],
)
def test_what_is_usable(reading: Reading, value: float | None) -> None:
    # The load is left out as well, so that the balance cannot fill the gap.
    seen = image(dg1={**diesel(202.0), "power_kw": reading}, town={}).assets["dg1"]
    assert seen.power_kw == value
    assert seen.seen is (value is not None)


@pytest.mark.parametrize(("soc", "known"), [(0.0, True), (1.0, True), (1.02, False), (-0.02, False), (50.0, False)])
def test_a_charge_outside_0_to_1_is_none(soc: float, known: bool) -> None:
    assert image(bess1=points(soc=soc)).assets["bess1"].get("soc") == (soc if known else None)


def test_the_quality_of_the_whole_is_the_worst_of_what_is_used() -> None:
    readings = {**diesel(202.0), "frequency_hz": Reading(50.0, Quality.SUSPECT), "fault": Reading(0.0, age_s=2.0)}
    seen = image(dg1=readings).assets["dg1"]
    assert (seen.quality, seen.age_s) == (Quality.SUSPECT, 2.0)


@pytest.mark.parametrize(
    ("assets", "unit", "power_kw"),
    [
        ({"pv1": {}, "dg1": diesel(120.0)}, "pv1", 82.0),  # 200 - 120 + 2
        ({"dg1": {}, "inv1": inverter(-52.0)}, "dg1", 252.0),
        ({"inv1": {}, "dg1": diesel(150.0)}, "inv1", 50.0),
        ({"inv1": {}, "dg1": diesel(290.0)}, "inv1", -90.0),  # charging
        ({"dg2": {}, "dg1": diesel(400.0)}, "dg2", None),  # nobody gives -198 kW: nothing is inferred
        ({"pv1": {}, "dg2": {}, "dg1": diesel(120.0)}, "pv1", None),  # two gaps have no single answer
    ],
)
def test_the_one_gap_is_what_closes_the_balance(assets: dict[str, dict[str, Reading]], unit: str, power_kw: float | None) -> None:
    seen = image(**assets)
    assert seen.assets[unit].power_kw == (power_kw if power_kw is None else pytest.approx(power_kw))
    assert not seen.assets[unit].seen, "inferred is not seen"


def test_an_unseen_load_is_what_the_sources_give() -> None:
    with_station = site({"id": "hut", "kind": "load", "peak_kw": 10.0, "station_kw": 5.0})
    seen = ImageBuilder(with_station).build(telemetry(town={}, hut=points(power_kw=3.0)), Memory())
    assert (seen.load_kw, seen.load_known) == (pytest.approx(202.0 - 2.0 - 5.0), True)


@pytest.mark.parametrize(("before", "load_kw"), [(180.0, 180.0), (None, 0.0)])
def test_a_load_that_nothing_tells_is_the_last_known(before: float | None, load_kw: float) -> None:
    seen = image(Memory(load_kw=before), town={}, pv1={})
    assert (seen.load_kw, seen.load_known) == (load_kw, False)


def test_deferrables_are_part_of_the_load() -> None:
    build = ImageBuilder(site({"id": "desal", "kind": "deferrable", "rated_kw": 40.0})).build
    assert build(telemetry(desal=points(power_kw=30.0)), Memory()).load_kw == pytest.approx(230.0)


def test_frequency_comes_from_whoever_measures_it() -> None:
    assert image().frequency_hz == 50.0
    assert image(dg1=diesel(), inv1=inverter(frequency_hz=49.7)).frequency_hz == 49.7
    assert image(dg1=diesel(), inv1=inverter(frequency_hz=0.0), town=points(power_kw=0.0)).frequency_hz == 0.0
    assert image(dg1={}, dg2={}, inv1={}).frequency_hz is None
    warming = diesel(running=1.0, frequency_hz=48.0)  # behind its open breaker: that is not the bus
    assert image(dg1=warming, inv1=inverter(frequency_hz=0.0), town=points(power_kw=0.0)).frequency_hz == 0.0


HYDRO = {"id": "h1", "kind": "hydro", "rated_kw": 80.0, "min_kw": 10.0}
TURBINES = ImageBuilder(site(HYDRO)).build


@pytest.mark.parametrize(
    ("turbine", "others", "hz", "volts"),
    [
        ({"running": 0.0, "voltage_v": 7.0, "frequency_hz": 0.0}, {}, 50.0, 400.0),  # remanence at rest
        ({"running": 0.0, "voltage_v": 240.0, "frequency_hz": 31.0}, {}, 50.0, 400.0),  # it runs up
        ({"voltage_v": 7.0, "frequency_hz": 31.0}, {}, 50.0, 400.0),  # no switch of its own: without power it is not on the bus
        ({"running": None, "power_kw": 0.4, "voltage_v": 7.0}, {}, 50.0, 400.0),  # its meter errs, but 7 V are nobody's busbar
        ({"running": 1.0, "power_kw": 40.0, "voltage_v": 396.0, "frequency_hz": 49.9}, {}, 49.9, 396.0),
        ({"running": 0.0, "voltage_v": 7.0, "frequency_hz": 31.0}, {"inv1": {}, "dg1": diesel(), "town": points(power_kw=0.0)}, 0.0, 0.0),
        ({"running": 1.0, "power_kw": 40.0, "voltage_v": 150.0, "frequency_hz": 49.0}, {"inv1": {}, "dg1": {}}, 49.0, 150.0),  # the bus itself is low
    ],
)  # fmt: skip
def test_a_turbine_that_stands_or_runs_up_measures_itself(turbine: dict[str, float], others: dict[str, dict[str, Reading]], hz: float, volts: float) -> None:
    """The shipped governor profile has no `breaker_closed`: its breaker is its `running`."""
    seen = TURBINES(telemetry(h1=points(**{"power_kw": 0.0, **turbine}), **others), Memory())
    assert (seen.frequency_hz, seen.voltage_v) == (hz, volts)


def test_an_inverter_behind_its_open_breaker_measures_itself() -> None:
    idle = inverter(0.0, frequency_hz=50.0, voltage_v=400.0, breaker_closed=0.0)
    dark = image(dg1=diesel(), inv1=idle, town=points(power_kw=0.0, frequency_hz=0.0, voltage_v=0.0))
    assert (dark.frequency_hz, dark.voltage_v) == (0.0, 0.0)
    off = inverter(0.0, running=0.0, frequency_hz=0.0, voltage_v=0.0, breaker_closed=0.0)
    unmeasured = image(dg1={}, dg2={}, inv1=off, town={})
    assert (unmeasured.frequency_hz, unmeasured.voltage_v) == (None, None)
    carrying = image(dg1=diesel(), inv1=inverter(200.0, breaker_closed=0.0))  # only its switch is wrong
    assert carrying.frequency_hz == 50.0


def test_a_unit_that_is_off_its_setpoint_for_half_a_minute_does_not_follow() -> None:
    builder, memory = ImageBuilder(site()), Memory(setpoints={"inv1": 50.0, "pv1": 100.0})
    sunny = points(power_kw=60.0, available_kw=60.0)  # less sun than allowed is no fault
    for k in (0, 10, 29):
        seen = builder.build(telemetry(k, pv1=sunny, dg1=diesel(142.0)), memory)
        assert seen.assets["inv1"].follows
        memory = replace(memory, astray=builder.astray(seen, memory, memory.setpoints))
        assert memory.astray == {"inv1": 0.0}
    assert not builder.build(telemetry(30, pv1=sunny), memory).assets["inv1"].follows
    back = builder.build(telemetry(31, inv1=inverter(48.0)), memory)
    assert builder.astray(back, memory, memory.setpoints) == {}


def test_a_setpoint_that_moves_is_no_reason_to_blame_the_unit() -> None:
    builder, memory = ImageBuilder(site()), Memory(setpoints={"inv1": 50.0})
    assert builder.astray(builder.build(telemetry(), memory), memory, {"inv1": 90.0}) == {}


def test_nor_is_it_one_to_forgive_a_unit_that_does_not_follow_yet() -> None:
    """Off by 52 kW since second 0: a setpoint that moves in second 40 leaves it astray, power at the setpoint does not."""
    builder, memory = ImageBuilder(site()), Memory(setpoints={"inv1": 50.0}, astray={"inv1": 0.0})
    seen = builder.build(telemetry(40), memory)
    assert not seen.assets["inv1"].follows
    assert builder.astray(seen, memory, {"inv1": 90.0}) == {"inv1": 0.0}
    assert builder.astray(builder.build(telemetry(40, inv1=inverter(49.0)), memory), memory, {"inv1": 90.0}) == {}


@pytest.mark.parametrize(
    ("power_kw", "hz", "blamed"),
    [(-2.0, 50.0, True), (-2.0, 49.8, True), (-2.0, 50.2, False), (98.0, 50.0, True), (98.0, 49.8, False), (98.0, 50.2, True)],
)
def test_who_does_what_droop_is_for_is_not_astray(power_kw: float, hz: float, blamed: bool) -> None:
    """Told 48 kW: giving 50 more at 49.8 Hz, or 50 less at 50.2 Hz, it props up a leader that fails."""
    builder, memory = ImageBuilder(site()), Memory(setpoints={"inv1": 48.0})
    seen = builder.build(telemetry(0, dg1=diesel(150.0, frequency_hz=hz), inv1=inverter(power_kw, frequency_hz=hz)), memory)
    assert ("inv1" in builder.astray(seen, memory, memory.setpoints)) is blamed


def test_in_a_long_step_powers_are_means_and_nobody_is_astray() -> None:
    memory = Memory(setpoints={"inv1": 50.0}, astray={"inv1": 0.0})
    assert [ImageBuilder(site()).build(telemetry(k, dt_s=dt), memory).assets["inv1"].follows for k, dt in ((40, 1.0), (1, 900.0))] == [False, True]


@pytest.mark.parametrize(
    ("town", "frequency_hz"),
    [
        (points(power_kw=200.0), None),  # the sets stand, the load draws: it is alive, at nobody knows what frequency
        (points(power_kw=200.0, frequency_hz=49.9), 49.9),
        (points(power_kw=0.0, frequency_hz=0.0), 0.0),
        (points(power_kw=1.0), 0.0),
    ],
)
def test_who_tells_the_busbar_when_the_inverter_is_silent(town: dict[str, Reading], frequency_hz: float | None) -> None:
    assert image(inv1={}, dg1=diesel(), town=town).frequency_hz == frequency_hz


@pytest.mark.parametrize(
    ("unit", "power_kw", "refused"),
    [("pv1", -17.0, True), ("pv1", -15.0, False), ("dg1", -46.5, True), ("dg1", -40.0, False), ("inv1", -376.5, True), ("inv1", -300.0, False),
     ("town", 801.5, True), ("town", -22.0, True), ("town", 790.0, False)],
)  # fmt: skip
def test_a_power_that_cannot_be_is_refused_by_name(unit: str, power_kw: float, refused: bool) -> None:
    seen = image(**{unit: points(power_kw=power_kw)}).assets[unit]
    assert (seen.refused, seen.seen) == ((("power_kw",), False) if refused else ((), True))


@pytest.mark.parametrize(
    ("unit", "kvar", "believed"),
    [("dg1", 562.0, True), ("dg1", 563.0, False), ("dg1", -9999.0, False), ("dg2", -375.0, True), ("inv1", 375.0, True), ("inv1", 376.0, False),
     ("pv1", 451.0, False)],
)  # fmt: skip
def test_reactive_power_beyond_one_and_a_half_times_the_kva_is_refused_by_name(unit: str, kvar: float, believed: bool) -> None:
    """375 kVA of dg1 give 562.5 kvar, 250 of dg2 and inv1 375, 300 of pv1 450; the rest of the device is believed all the same."""
    shown = {"dg1": diesel(202.0), "dg2": diesel(), "inv1": inverter(), "pv1": points(power_kw=0.0)}[unit]
    seen = image(**{unit: {**shown, **points(reactive_kvar=kvar)}}).assets[unit]
    assert (seen.get("reactive_kvar"), seen.refused, seen.seen) == ((kvar, (), True) if believed else (None, ("reactive_kvar",), True))
