"""What trips, sheds and refuses by itself at the dynamic level, each with its delay and its name."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.dynamics import DynamicPlant
from simulator.plant import Flows
from simulator.protection import FrequencyRelays, SetRelays
from tests.simulator.test_dynamics import HOUSES, lowest, run
from tests.simulator.test_plant import BESS, DG1, DG2, HYDRO, INV, PV, site_of, weather

PLACE = {"profile": "generic-feeder", "url": "tcp://127.0.0.1:502"}
VILLAGE: dict[str, Any] = {
    **HOUSES,
    "peak_kw": 1100,
    "feeders": [
        {"id": "clinic", "priority": 1, "share": 0.2, "device": PLACE},
        {"id": "homes", "priority": 2, "share": 0.3, "device": PLACE},
        {"id": "hills", "priority": 3, "share": 0.3},
        {"id": "pumps", "priority": 4, "share": 0.2, "device": PLACE},
    ],
}


def told(plant: DynamicPlant, word: str) -> list[float]:
    """When events with this word came [s]."""
    return [at for at, text in plant.events if word in text]


# ------------------------------------------------------------------ relays
@pytest.mark.parametrize(
    ("power_kw", "relay", "after_s"),
    [(-29.0, None, 300), (-31.0, "reverse power", 5), (655.0, None, 300), (665.0, "overload", 60), (890.0, "overload", 60), (910.0, "overload", 2)],
)
def test_each_relay_of_a_set_has_its_setting_and_its_delay(power_kw: float, relay: str | None, after_s: float) -> None:
    relays, h = SetRelays(600.0), 0.05
    tripped = next((k for k in range(1, round(300 / h) + 1) if relays.see(power_kw, h)), None)
    if relay is None:
        assert tripped is None
    else:
        assert tripped is not None and tripped * h == pytest.approx(after_s)
        assert relays.see(power_kw, h) == relay


def test_a_relay_resets_when_its_quantity_comes_back() -> None:
    relays = SetRelays(600.0)
    for _ in range(40):
        assert all(relays.see(-60.0, 0.05) is None for _ in range(99))
        assert relays.see(10.0, 0.05) is None


@pytest.mark.parametrize(("hz", "relay", "after_s"), [(47.05, None, 20), (46.95, "under-frequency", 0.5), (51.95, None, 20), (52.05, "over-frequency", 0.2)])
def test_frequency_relays(hz: float, relay: str | None, after_s: float) -> None:
    relays, h = FrequencyRelays(50.0), 0.05
    tripped = next((k for k in range(1, round(20 / h) + 1) if relays.see(hz, h)), None)
    assert (tripped is None) == (relay is None)
    if tripped is not None:
        assert tripped * h == pytest.approx(after_s)


def test_an_overloaded_set_trips_after_a_minute_and_says_why() -> None:
    plant = DynamicPlant(site_of(HOUSES, DG1))
    run(plant, 2, weather(500))
    run(plant, 70, weather(675))
    (at,) = told(plant, "dg1: overload relay")
    assert 59.9 <= at - 2 <= 64
    assert plant.blackout
    assert plant.observe(weather(675))["dg1"]["fault"] == 6.0


def test_a_set_that_is_pushed_trips_on_reverse_power_and_the_pusher_goes_on() -> None:
    plant = DynamicPlant(site_of(HOUSES, DG1, INV, BESS), running=["dg1"])
    plant.command("inv1", "forming", 1)
    run(plant, 5, weather(400))
    plant.command("inv1", "power_kw", 600)
    flows = run(plant, 30, weather(400))
    (at,) = told(plant, "dg1: reverse power relay")
    assert 10 <= at <= 25
    assert flows[-1].formers == ("inv1",)
    assert flows[-1].unserved_kw == 0.0
    assert plant.observe(weather(400))["dg1"]["fault"] == 5.0


def test_a_bus_that_cannot_be_held_dies_on_under_frequency() -> None:
    plant = DynamicPlant(site_of(HOUSES, DG1, DG2), running=["dg1", "dg2"])
    run(plant, 5, weather(900))
    plant.trip("dg2")
    flows = run(plant, 6, weather(900))
    assert told(plant, "under-frequency relays")
    assert flows[-1].blackout and flows[-1].frequency_hz == 0.0 and flows[-1].voltage_v == 0.0
    assert flows[-1].unserved_kw == flows[-1].load_kw == pytest.approx(900)
    assert plant.observe(weather(900))["dg1"]["fault"] == 7.0


# ------------------------------------------------------------------ inverter limits
def test_an_inverter_gives_its_overload_for_ten_seconds_and_then_lets_go() -> None:
    small = {**INV, "rated_kw": 200, "no_load_kw": 0}
    plant = DynamicPlant(site_of({**HOUSES, "peak_kw": 300}, small, BESS), running=[])
    plant.command("inv1", "power_kw", 200)
    run(plant, 5, weather(180))
    flows = run(plant, 25, weather(230))
    assert all(f.unserved_kw == 0.0 for f in flows[:9])
    assert flows[8].power_kw["inv1"] == pytest.approx(230, rel=0.005)
    limited = next(f for f in flows if 0 < f.unserved_kw < 200)
    assert limited.power_kw["inv1"] == pytest.approx(200)
    assert (limited.voltage_v or 0.0) == pytest.approx(400 * (200 / limited.load_kw) ** 0.5, rel=0.01)
    (at,) = told(plant, "under-frequency relays")
    assert 15 <= at <= 20
    assert plant.blackout


def test_a_forming_inverter_with_the_voltage_down_trips_within_a_second_or_two() -> None:
    plant = DynamicPlant(site_of({**HOUSES, "peak_kw": 400}, {**INV, "rated_kw": 200, "droop": 0.05}, BESS), running=[])
    run(plant, 5, weather(100))
    run(plant, 3, weather(380))
    assert plant.blackout
    (at,) = told(plant, "inv1: overload relay") or told(plant, "under-frequency relays")
    assert 5 <= at <= 7
    assert plant.observe(weather(230))["inv1"]["fault"] in (6.0, 7.0)


def test_a_battery_that_may_not_charge_trips_the_island() -> None:
    """Nobody told the sun to wait: a full battery, a bus on it alone, and 700 kW too much."""
    plant = DynamicPlant(site_of(HOUSES, {**PV, "rated_kw": 1600}, INV, BESS), running=[])
    run(plant, 2, weather(100, 90))
    plant.batteries["bess1"].soc = plant.batteries["bess1"].top
    run(plant, 4, weather(100, 1500))
    assert plant.blackout
    assert told(plant, "over-frequency") or told(plant, "DC over-voltage")


def test_a_derated_or_empty_battery_limits_its_inverter() -> None:
    plant = DynamicPlant(site_of(HOUSES, DG1, INV, BESS), running=["dg1"])
    plant.command("inv1", "power_kw", 400)
    assert run(plant, 5, weather(500))[-1].power_kw["inv1"] == pytest.approx(400, abs=3)
    plant.batteries["bess1"].derate = 0.25
    limit = 0.25 * 800 * 0.975 - 6
    assert run(plant, 5, weather(500))[-1].power_kw["inv1"] == pytest.approx(limit)
    assert plant.observe(weather(500))["bess1"]["discharge_limit_kw"] == 200
    plant.batteries["bess1"].derate, plant.batteries["bess1"].soc = 1.0, plant.batteries["bess1"].floor
    flows = run(plant, 5, weather(500))
    assert flows[-1].power_kw["inv1"] == pytest.approx(-6)
    assert flows[-1].formers == ("dg1",)


# ------------------------------------------------------------------ load shedding
def lost_set() -> tuple[DynamicPlant, list[Flows]]:
    plant = DynamicPlant(site_of(VILLAGE, DG1, DG2), running=["dg1", "dg2"])
    run(plant, 5, weather(1000))
    plant.trip("dg2")
    return plant, run(plant, 10, weather(1000))


def test_feeders_are_shed_by_priority_until_the_bus_holds() -> None:
    plant, flows = lost_set()
    shed = [(text.split()[0], at) for at, text in plant.events if "is shed" in text]
    assert [feeder for feeder, _ in shed] == ["pumps", "hills"][: len(shed)] or [f for f, _ in shed] == ["pumps", "hills", "homes"]
    assert [at for _, at in shed] == sorted(at for _, at in shed)
    assert shed[0][1] >= 5.2, "200 ms after the frequency"
    assert not plant.blackout
    assert lowest(flows) > 47.0
    last = flows[-1]
    assert last.unserved_kw == pytest.approx(1000 * sum({"pumps": 0.2, "hills": 0.3, "homes": 0.3}[f] for f, _ in shed))
    seen = plant.observe(weather(1000))
    assert (seen["pumps"]["ufls_tripped"], seen["pumps"]["breaker_closed"], seen["pumps"]["power_kw"]) == (1.0, 0.0, 0.0)
    assert (seen["clinic"]["ufls_tripped"], seen["clinic"]["breaker_closed"]) == (0.0, 1.0)


def test_a_close_command_resets_the_relay_and_only_feeders_without_a_device_come_back_alone() -> None:
    plant, _ = lost_set()
    calm = weather(500)
    seen = plant.observe(calm)
    assert seen["hills"]["ufls_tripped"] == 1.0
    run(plant, 240, calm)
    assert plant.observe(calm)["hills"]["breaker_closed"] == 0.0
    run(plant, 100, calm)
    seen = plant.observe(calm)
    assert (seen["hills"]["breaker_closed"], seen["hills"]["ufls_tripped"]) == (1.0, 0.0)
    assert told(plant, "hills is restored")
    assert seen["pumps"]["breaker_closed"] == 0.0
    plant.command("pumps", "breaker", 1.0)
    run(plant, 1, calm)
    seen = plant.observe(calm)
    assert (seen["pumps"]["breaker_closed"], seen["pumps"]["ufls_tripped"]) == (1.0, 0.0)


def test_the_most_important_feeder_has_no_relay() -> None:
    site = site_of({**HOUSES, "feeders": [{"id": "all", "priority": 1, "share": 1.0}]}, DG1, DG2)
    plant = DynamicPlant(site, running=["dg1", "dg2"])
    run(plant, 5, weather(900))
    plant.trip("dg2")
    run(plant, 5, weather(900))
    assert not told(plant, "is shed")
    assert plant.blackout


def test_cold_load_fades_within_minutes() -> None:
    plant = DynamicPlant(site_of({**HOUSES, "feeders": [{"id": "f1", "share": 0.5, "device": PLACE}, {"id": "f2", "share": 0.5}]}, DG1))
    run(plant, 2, weather(200))
    plant.command("f1", "breaker", 0.0)
    plant.step(1800, weather(200))
    plant.command("f1", "breaker", 1.0)
    picked = run(plant, 5, weather(200))[-1]
    assert picked.power_kw["town"] == pytest.approx(200 * (0.5 + 0.5 * (1 + 0.5 * 0.865)), rel=0.02)
    assert picked.unserved_kw == 0.0
    faded = plant.step(600, weather(200)), plant.step(60, weather(200))
    assert faded[1].power_kw["town"] == pytest.approx(200, rel=0.01)


# ------------------------------------------------------------------ starting, synchronising, dead bus
def test_a_set_waits_with_its_breaker_until_the_bus_is_in_band() -> None:
    plant = DynamicPlant(site_of(HOUSES, {**INV, "droop": 0.03}, BESS, DG1), running=[])
    plant.command("dg1", "running", 1)
    low = run(plant, 90, weather(500))
    assert low[-1].frequency_hz is not None and low[-1].frequency_hz < 49.5
    assert not low[-1].running["dg1"]
    plant.command("inv1", "power_kw", 500)
    assert run(plant, 5, weather(500))[-1].running["dg1"]


def test_a_dead_bus_is_only_closed_on_by_what_can_form_and_is_told_to() -> None:
    plant = DynamicPlant(site_of(HOUSES, {**DG1, "forming": "never"}, DG2, INV, BESS, HYDRO, PV), running=[])
    plant.inverters[0].trip(1.0)
    calm = weather(100, 300, 0.4)
    plant.step(1, calm)
    assert plant.blackout
    for unit in ("dg1", "hydro1"):
        plant.command(unit, "running", 1)
    plant.command("inv1", "running", 0)  # resets its fault
    plant.command("inv1", "running", 1)
    dead = run(plant, 100, calm)[-1]
    assert dead.blackout and dead.power_kw["pv1"] == 0.0 and dead.unserved_kw == pytest.approx(100)
    plant.batteries["bess1"].soc = 0.04
    plant.command("inv1", "forming", 1)
    assert run(plant, 5, calm)[-1].blackout, "under its black start charge"
    plant.batteries["bess1"].soc = 0.5
    alive = run(plant, 5, calm)
    assert not alive[-1].blackout and alive[-1].formers[0] != "dg1"
    assert told(plant, "closed on the dead bus")
    assert alive[-1].power_kw["pv1"] == 0.0, "PV waits a minute"
    later = run(plant, 80, calm)[-1]
    assert later.power_kw["pv1"] > 0.0
    assert later.running["dg1"], "and now it synchronises"


def test_a_load_that_is_too_much_for_a_black_start_takes_the_bus_down_again() -> None:
    plant = DynamicPlant(site_of({**HOUSES, "peak_kw": 2000}, DG1), running=[])
    plant.step(1, weather(1500))
    plant.command("dg1", "running", 1)
    flows = run(plant, 75, weather(1500))
    assert sum(f.starts["dg1"] for f in flows) == 1
    assert told(plant, "closed on the dead bus")
    assert plant.blackout
