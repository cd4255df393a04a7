"""The dynamic plant: what rotors, governors and inverters do to the frequency, against hand calculations."""

from __future__ import annotations

from typing import Any

import pytest

from ems.config.site import Site
from simulator.converters import SolarDrive
from simulator.drives import SetDrive
from simulator.dynamics import DynamicPlant
from simulator.plant import Conditions, Flows
from tests.simulator.test_plant import ALL, BESS, DG1, DG2, HYDRO, INV, PV, TOWN, site_of, weather

HOUSES: dict[str, Any] = {**TOWN, "power_factor": 1.0}
NOMINAL = 50.0


def run(plant: DynamicPlant, seconds: float, conditions: Conditions, dt_s: float = 1.0) -> list[Flows]:
    return [plant.step(dt_s, conditions) for _ in range(round(seconds / dt_s))]


def low(flows: Flows) -> float:
    """How far frequency is under nominal at the end [Hz]."""
    assert flows.frequency_hz is not None
    return NOMINAL - flows.frequency_hz


def lowest(flows: list[Flows]) -> float:
    return min(f.frequency_min_hz or 0.0 for f in flows)


# ------------------------------------------------------------------ rotors
@pytest.mark.parametrize(("inertia_s", "share"), [(1.0, 0.5), (2.0, 0.5), (1.0, 0.25)])
def test_a_lost_set_lets_the_frequency_fall_as_the_swing_equation_says(inertia_s: float, share: float) -> None:
    """df/dt = -dP f0 / (2 H S) with the inertia of what is left on the bus."""
    sets = ({**DG1, "inertia_s": inertia_s}, {**DG2, "inertia_s": inertia_s})
    plant = DynamicPlant(site_of(HOUSES, *sets), running=["dg1", "dg2"], substep_s=0.001)
    load = 1200 * share
    run(plant, 1, weather(load))
    plant.trip("dg2")
    flows = plant.step(0.002, weather(load))
    lost, kva = load / 2, 750.0
    assert flows.rocof_hz_per_s == pytest.approx(-lost * NOMINAL / (2 * inertia_s * kva), rel=0.01)


def test_the_rotors_of_everything_on_the_bus_brake_the_fall_together() -> None:
    plant = DynamicPlant(site_of(HOUSES, DG1, {**HYDRO, "inertia_s": 3.0}), running=["dg1"], substep_s=0.001)
    run(plant, 1, weather(300, 0, 0.3))
    flows = plant.step(0.002, weather(400, 0, 0.3))
    stored = 2 * (1.0 * 750 + 3.0 * 250) / NOMINAL
    assert flows.rocof_hz_per_s == pytest.approx(-100 / stored, rel=0.02)


def test_what_the_rotors_give_back_is_in_the_meter_and_not_in_the_fuel() -> None:
    """Shaft energy - energy at the terminals = what the rotor gained, M x df."""
    plant = DynamicPlant(site_of(HOUSES, DG1))
    run(plant, 1, weather(300))
    flows = plant.step(0.3, weather(450))
    shaft_kws = (flows.fuel_l["dg1"] - 12.6 * 0.3 / 3600) / 0.249 * 3600
    gained = 2 * 750 / NOMINAL * -low(flows)
    assert gained < -5.0
    assert shaft_kws - flows.power_kw["dg1"] * 0.3 == pytest.approx(gained, rel=1e-6)


# ------------------------------------------------------------------ governors
def test_a_droop_set_stands_off_nominal_by_its_droop() -> None:
    """600 kW at 3 % of 50 Hz are 400 kW/Hz; the load gives way by 1 % for 1 %."""
    plant = DynamicPlant(site_of(HOUSES, DG2), running=["dg2"])
    plant.command("dg2", "power_kw", 300)
    run(plant, 20, weather(300))
    flows = run(plant, 20, weather(450))[-1]
    assert low(flows) == pytest.approx(150 / (400 + 450 / NOMINAL), abs=1e-4)
    assert flows.power_kw["dg2"] == pytest.approx(300 + 400 * low(flows), abs=0.01)
    assert flows.served_kw == pytest.approx(450 * (1 - low(flows) / NOMINAL))
    assert flows.unserved_kw == 0.0


def test_an_isochronous_set_returns_to_nominal_and_droop_sets_to_their_references() -> None:
    plant = DynamicPlant(site_of(HOUSES, DG1, DG2), running=["dg1", "dg2"])
    plant.command("dg2", "power_kw", 200)
    run(plant, 30, weather(450))
    flows = run(plant, 40, weather(600))
    assert lowest(flows) < 49.9
    assert low(flows[-1]) == pytest.approx(0.0, abs=1e-3)
    assert flows[-1].power_kw == pytest.approx({"dg1": 400, "dg2": 200, "town": 600}, abs=0.5)


def test_sets_without_a_reference_share_by_rating_after_soft_loading() -> None:
    plant = DynamicPlant(site_of(HOUSES, DG1, DG2), running=["dg1"])
    plant.command("dg2", "running", 1)
    before = run(plant, 65, weather(500))
    assert not any(f.running["dg2"] for f in before[:-1])
    loading = run(plant, 5, weather(500))
    assert 20 < loading[-1].power_kw["dg2"] < 150, "30 kW/s: it takes load along its ramp"
    shared = run(plant, 30, weather(500))[-1]
    assert shared.power_kw == pytest.approx({"dg1": 250, "dg2": 250, "town": 500}, abs=1.0)


def test_a_set_told_to_stop_is_unloaded_before_its_breaker_opens() -> None:
    plant = DynamicPlant(site_of(HOUSES, DG1, DG2), running=["dg1", "dg2"])
    run(plant, 5, weather(500))
    plant.command("dg2", "running", 0)
    flows = run(plant, 25, weather(500))
    last = max(k for k, f in enumerate(flows) if f.running["dg2"])
    assert flows[last].power_kw["dg2"] < 0.12 * 600
    assert all(b.power_kw["dg2"] <= a.power_kw["dg2"] + 0.1 for a, b in zip(flows, flows[1:], strict=False))
    assert lowest(flows) > 49.7
    assert plant.observe(weather(500))["dg2"]["running"] == 1.0, "the engine cools down"


def test_an_engine_takes_no_more_in_a_step_than_it_has_air_for() -> None:
    """From 60 kW, with `block_load_kw` 150, a bus far too low gets 210 kW at first, and more as the turbocharger comes."""
    site = site_of(HOUSES, {**DG1, "block_load_kw": 150})
    plant = DynamicPlant(site)
    run(plant, 1, weather(60))
    drive = SetDrive(plant.diesels[0], NOMINAL)
    drive.join(60.0, 1.0)
    powers = []
    for _ in range(60):
        drive.prime(2.0, 0.1, 0.05)
        drive.settle(0.0, 0.05)
        powers.append(drive.shaft_kw)
    assert max(powers[:4]) <= 60 + 150 + 20
    assert powers[10] <= 60 + 150 * (1 + 0.55 / 2) + 1
    assert powers[-1] > 300
    soft, hard = (lowest(run(_warm(DynamicPlant(site_of(HOUSES, {**DG1, "block_load_kw": kw}))), 5, weather(300))) for kw in (300, 150))
    assert hard < soft - 0.3, "a load step beyond it costs frequency"


def _warm(plant: DynamicPlant) -> DynamicPlant:
    run(plant, 2, weather(60))
    return plant


def test_a_turbine_governs_slower_than_an_engine() -> None:
    engine, turbine = (DynamicPlant(site_of(HOUSES, asset), running=["dg1"]) for asset in ({**DG1, "rated_kw": 250, "inertia_s": 2.0}, HYDRO))
    dips = []
    for plant in (engine, turbine):
        run(plant, 60, weather(120, 0, 0.35))
        flows = run(plant, 60, weather(135, 0, 0.35))
        dips.append(flows[0].frequency_min_hz or 0.0)
        assert not plant.blackout
    start = 50.0
    assert start - dips[0] < 0.3
    held = run(turbine, 120, weather(135, 0, 0.35))[-1]
    assert held.power_kw["hydro1"] == pytest.approx(held.served_kw)
    assert held.rocof_hz_per_s == pytest.approx(0.0, abs=0.002), "the temporary droop has settled"


# ------------------------------------------------------------------ inverters
def test_an_inverter_alone_holds_the_bus_by_its_droop_without_a_rotor() -> None:
    """800 kW at 1 % are 1600 kW/Hz; 306 kW off its reference; there within half a second."""
    plant = DynamicPlant(site_of(HOUSES, INV, BESS), running=[])
    run(plant, 2, weather(100))
    flows = plant.step(0.5, weather(300))
    assert low(flows) == pytest.approx(306 / (1600 + 300 / NOMINAL), abs=1e-3)
    plant.command("inv1", "power_kw", 294)
    flows = plant.step(0.5, weather(300))
    assert low(flows) == pytest.approx(6 / (1600 + 300 / NOMINAL), abs=1e-3)


def test_an_isochronous_inverter_returns_to_nominal() -> None:
    plant = DynamicPlant(site_of(HOUSES, {**INV, "forming": "isochronous"}, BESS), running=[])
    run(plant, 5, weather(100))
    flows = run(plant, 30, weather(400))
    assert low(flows[-1]) == pytest.approx(0.0, abs=1e-3)
    assert flows[-1].power_kw["inv1"] == pytest.approx(400, abs=0.2)


def test_a_forming_inverter_takes_a_load_step_before_the_engines_do() -> None:
    alone = DynamicPlant(site_of(HOUSES, DG1))
    helped = DynamicPlant(site_of(HOUSES, DG1, INV, BESS), running=["dg1"])
    helped.command("inv1", "forming", 1)
    dips = []
    for plant in (alone, helped):
        run(plant, 5, weather(200))
        dips.append(lowest(run(plant, 3, weather(350))))
    assert dips[1] > dips[0] + 0.25


def test_a_following_inverter_with_primary_response_answers_beyond_its_deadband() -> None:
    """0.7 Hz low, 0.2 Hz of deadband: 0.5 Hz x 800 kW / (1 % x 50 Hz) would be its whole rating."""
    small = {**DG2, "rated_kw": 300, "droop": 0.05}
    plant = DynamicPlant(site_of(HOUSES, small, {**INV, "forming": "never", "primary_response": True}, BESS), running=["dg2"])
    plant.command("dg2", "power_kw", 200)
    run(plant, 20, weather(206))
    flows = run(plant, 20, weather(300))[-1]
    x = low(flows)
    assert x > 0.2
    assert flows.power_kw["inv1"] == pytest.approx(-6 + 1600 * (x - 0.2), abs=0.1)
    deaf = DynamicPlant(site_of(HOUSES, small, {**INV, "forming": "never"}, BESS), running=["dg2"])
    deaf.command("dg2", "power_kw", 200)
    assert run(deaf, 20, weather(240))[-1].power_kw["inv1"] == pytest.approx(-6)


@pytest.mark.parametrize(
    ("assets", "running"), [((DG1, DG2), ["dg1", "dg2"]), ((DG1, INV, BESS), ["dg1"]), ((INV, BESS), []), ((HYDRO, INV, BESS), []), (ALL[3:], ["dg3"])]
)
def test_a_long_substep_gives_the_frequency_of_a_short_one(assets: tuple[dict[str, Any], ...], running: list[str]) -> None:
    """Diesels, mixed, and inverters alone: the linearly implicit step is stable and close at 50 ms."""
    found = []
    for substep in (0.05, 0.005):
        kept = tuple(a for a in assets if a["id"] != "town")
        plant = DynamicPlant(site_of(HOUSES, *kept), running=running, substep_s=substep)
        for inverter in plant.inverters:
            inverter.command("forming", 1.0)
        run(plant, 10, weather(200, 0, 0.3))
        found.append([(f.frequency_hz, f.frequency_min_hz) for f in run(plant, 10, weather(330, 0, 0.3))])
    for (coarse, dip), (fine, fine_dip) in zip(*found, strict=True):
        assert coarse == pytest.approx(fine, abs=0.03)
        assert dip == pytest.approx(fine_dip, abs=0.15)


# ------------------------------------------------------------------ sun
def test_pv_gives_way_by_forty_per_cent_a_hertz_and_comes_back_slowly() -> None:
    plant = DynamicPlant(site_of(HOUSES, PV, DG1))
    sun = SolarDrive(plant.solars[0], NOMINAL)
    sun.ready(600.0, 1.0)
    for _ in range(60):
        sun.prime(-0.7, 0.0, 0.05)
        sun.settle(0.0, 0.05)
    assert sun.shaft_kw == pytest.approx(600 * (1 - 0.4 * 0.5), rel=1e-4)
    for _ in range(60 * 20):
        sun.prime(0.0, 0.0, 0.05)
        sun.settle(0.0, 0.05)
    assert sun.cap == pytest.approx(0.9)
    assert sun.shaft_kw == pytest.approx(600 * 0.9, rel=0.01)


def test_over_frequency_curtails_the_sun_that_a_full_battery_cannot_take() -> None:
    plant = DynamicPlant(site_of(HOUSES, PV, INV, BESS), running=[], soc=0.5)
    plant.step(1, weather(300, 300))
    plant.batteries["bess1"].soc = plant.batteries["bess1"].top
    flows = run(plant, 60, weather(300, 450))
    assert not plant.blackout
    assert max(f.frequency_max_hz or 0.0 for f in flows) > 50.2
    assert flows[-1].pushed_kw > 100
    assert flows[-1].power_kw["inv1"] >= -7.0


# ------------------------------------------------------------------ steps of any length
def test_long_steps_are_loops_of_short_ones_and_a_run_repeats_itself() -> None:
    site = site_of(*ALL)
    plants = [DynamicPlant(site, running=["dg1"]) for _ in range(3)]
    conditions = weather(500, 200, 0.3)
    for plant in plants:
        plant.command("desal1", "running", 1)
        plant.command("dg2", "running", 1)
    whole = plants[0].step(300, conditions)
    parts = [run(plant, 300, conditions) for plant in plants[1:]]
    assert parts[0] == parts[1]
    for asset, power in whole.power_kw.items():
        assert sum(f.power_kw[asset] for f in parts[0]) / 300 == pytest.approx(power, abs=1e-6)
    assert whole.fuel_l["dg2"] == pytest.approx(sum(f.fuel_l["dg2"] for f in parts[0]))
    assert whole.soc == pytest.approx(parts[0][-1].soc)
    assert plants[0].time_s == 300


def test_sixty_hertz_scales() -> None:
    site = Site.model_validate({"site": {"id": "sixty", "nominal_hz": 60, "nominal_v": 480}, "assets": [HOUSES, DG2]})
    plant = DynamicPlant(site, running=["dg2"])
    plant.command("dg2", "power_kw", 300)
    run(plant, 20, weather(300))
    flows = run(plant, 20, weather(450))[-1]
    assert 60 - (flows.frequency_hz or 0.0) == pytest.approx(150 / (600 / (0.03 * 60) + 450 / 60), abs=1e-4)
    assert flows.voltage_v == 480
