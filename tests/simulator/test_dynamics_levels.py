"""Both levels of the plant: what is conserved, what faults from outside do, and that quiet hours agree."""

from __future__ import annotations

from dataclasses import dataclass
from math import sin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ems.config.site import Load, Solar
from ems.physics import kwh_per_m3
from simulator.assets.diesel import OVERCRANK
from simulator.dynamics import DynamicPlant
from simulator.plant import Conditions, Plant
from tests.simulator.test_plant import ALL, BESS, DESAL, DG1, DG2, HYDRO, INV, PV, TANK, TOWN, site_of, supply_kw, weather
from tests.stories.life import Life, shipped

LEVELS = pytest.mark.parametrize("level", [Plant, DynamicPlant])
FEEDERS = {"feeders": [{"id": "f1", "priority": 1, "share": 0.3}, {"id": "f2", "priority": 2, "share": 0.3}, {"id": "f3", "priority": 3, "share": 0.4}]}
COMMANDS = st.sampled_from(
    [
        *((d, "running", on) for d in ("dg1", "dg2", "dg3") for on in (0.0, 1.0)),
        *(("dg2", "power_kw", kw) for kw in (100.0, 500.0)),
        *(("inv1", "power_kw", kw) for kw in (-700.0, 0.0, 700.0)),
        *(("inv1", name, on) for name in ("forming", "running") for on in (0.0, 1.0)),
        *(("hydro1", name, x) for name, x in (("power_kw", 60.0), ("running", 0.0), ("running", 1.0))),
        *(("pv1", "limit_kw", kw) for kw in (0.0, 900.0)),
        *(("desal1", "running", on) for on in (0.0, 1.0)),
        *((f, "breaker", on) for f in ("f1", "f2", "f3") for on in (0.0, 1.0)),
    ]
)
Step = tuple[float, float, float, float, list[tuple[str, str, float]]]
STEPS = st.lists(
    st.tuples(st.sampled_from([0.2, 1.0, 7.3]), st.floats(0, 1200), st.floats(0, 900), st.floats(0, 0.8), st.lists(COMMANDS, max_size=2)),
    min_size=3,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, soc=st.floats(0.05, 0.99), running=st.sets(st.sampled_from(["dg1", "dg2", "dg3"])))
def test_power_energy_water_and_fuel_are_conserved_whatever_happens(steps: list[Step], soc: float, running: set[str]) -> None:
    site = site_of({**TOWN, **FEEDERS, "station_kw": 7.0}, *ALL[1:], TANK)
    plant = DynamicPlant(site, soc, sorted(running))
    for dt_s, load, sun, river, commands in steps:
        for command in commands:
            plant.command(*command)
        pond, charge, level = plant.hydros[0].pond_m3, plant.batteries["bess1"].soc, plant.tanks["tank1"].level_l
        flows = plant.step(dt_s, weather(load, sun, river))
        told = f"{plant.time_s} s: {flows}"
        assert supply_kw(site, flows) + flows.unserved_kw == pytest.approx(flows.load_kw + flows.station_kw, abs=1e-3), told
        assert flows.served_kw == pytest.approx(flows.power_kw["town"] + flows.power_kw["desal1"], abs=1e-3), told
        assert -1e-6 <= flows.unserved_kw <= flows.load_kw + 1e-6, told
        taken_kwh = (charge - flows.soc["bess1"]) * 2400
        assert taken_kwh * 3600 / dt_s == pytest.approx(flows.power_kw["inv1"] + flows.losses_kw, abs=1e-3), told
        assert flows.losses_kw >= -1e-9, told
        assert level - plant.tanks["tank1"].level_l == pytest.approx(flows.fuel_l["dg1"], abs=1e-9)
        assert 0.0 <= flows.pond_m3["hydro1"] <= 3000, told
        water_kwh = (max(0.0, river - 0.05) * dt_s + pond - flows.pond_m3["hydro1"]) * kwh_per_m3(plant.hydros[0].asset)
        rotor_kwh = 2 * 2.0 * 250 / 50 * 10 / 3600  # what it gives back from 55 to 45 Hz
        assert flows.power_kw["hydro1"] * dt_s / 3600 <= water_kwh + rotor_kwh + 1e-6, told
        assert -1e-9 <= flows.power_kw["pv1"] <= flows.available_kw["pv1"] + 1e-9, told
        assert (flows.frequency_hz == 0.0) is flows.blackout, told
        assert bool(flows.formers) is not flows.blackout, told
        assert flows.blackout or 44 < (flows.frequency_hz or 0.0) < 60, told


# ------------------------------------------------------------------ faults from outside
@LEVELS
def test_a_start_that_fails_shows_overcrank_and_the_next_one_may_come(level: type[Plant]) -> None:
    plant = level(site_of(TOWN, DG1, DG2), running=["dg1"])
    plant.diesels[1].failing_starts = 1
    plant.command("dg2", "running", 1)
    for _ in range(25):
        flows = plant.step(1, weather(300))
    shown = plant.observe(weather(300))["dg2"]
    assert (shown["fault"], shown["ready"], shown["running"]) == (OVERCRANK, 0.0, 0.0)
    assert not flows.running["dg2"] and flows.fuel_l["dg2"] == 0.0
    plant.command("dg2", "running", 0)
    plant.step(1, weather(300))
    plant.command("dg2", "running", 1)
    for _ in range(66):
        flows = plant.step(1, weather(300))
    assert flows.running["dg2"]


@LEVELS
def test_a_slow_start_and_a_stuck_breaker(level: type[Plant]) -> None:
    plant = level(site_of(TOWN, DG1, DG2), running=["dg1"])
    plant.diesels[1].start_delay_s = 30.0
    plant.step(1, weather(300))
    plant.command("dg2", "running", 1)
    on = [plant.step(1, weather(300)).running["dg2"] for _ in range(97)]
    assert on.index(True) in (94, 95)
    plant.diesels[1].stuck = True
    plant.command("dg2", "running", 0)
    flows = [plant.step(1, weather(300)) for _ in range(40)]
    assert flows[-1].running["dg2"]
    assert abs(flows[-1].power_kw["dg2"]) < 0.05 * 600
    plant.trip("dg2")
    assert not plant.step(1, weather(300)).running["dg2"]
    plant.command("dg2", "running", 0)
    plant.step(1, weather(300))
    plant.command("dg2", "running", 1)
    for _ in range(120):
        flows.append(plant.step(1, weather(300)))
    assert not flows[-1].running["dg2"], "it cannot close either"


@LEVELS
@pytest.mark.parametrize("asset", ["dg1", "inv1", "hydro1", "pv1", "desal1"])
def test_local_deaf_and_emergency_stop(level: type[Plant], asset: str) -> None:
    plant = level(site_of(TOWN, PV, HYDRO, DG1, DG2, INV, BESS, DESAL), running=["dg1", "dg2"])
    calm = weather(500, 100, 0.3)
    plant.command("desal1", "running", 1)
    units = {u.id: u for u in (*plant.solars, *plant.hydros, *plant.diesels, *plant.inverters, *plant.deferrables)}
    unit = units[asset]
    stop = {"pv1": ("limit_kw", 10.0)}.get(asset, ("running", 0.0))
    plant.step(60, calm)
    before = plant.step(1, calm).power_kw[asset]
    unit.local = True
    assert plant.observe(calm)[asset]["remote"] == 0.0
    plant.command(asset, *stop)
    assert plant.step(1, calm).power_kw[asset] == pytest.approx(before, abs=3)
    unit.local, unit.ignores = False, True
    assert plant.observe(calm)[asset]["remote"] == 1.0
    plant.command(asset, *stop)
    assert plant.step(1, calm).power_kw[asset] == pytest.approx(before, abs=3)
    unit.ignores, unit.estop = False, True
    plant.step(2, calm)
    assert plant.step(2, calm).power_kw[asset] == pytest.approx(0.0, abs=0.1)
    shown = plant.observe(calm)[asset]
    assert (shown["estop"], shown["ready"]) == (1.0, 0.0)


@LEVELS
def test_a_feeder_in_local_is_not_switched(level: type[Plant]) -> None:
    plant = level(site_of({**TOWN, **FEEDERS}, DG1))
    plant.step(1, weather(300))
    plant.loads[0].local.add("f3")
    plant.command("f3", "breaker", 0.0)
    plant.command("f2", "breaker", 0.0)
    shown = plant.observe(weather(300))
    assert (shown["f3"]["remote"], shown["f3"]["breaker_closed"]) == (0.0, 1.0)
    assert (shown["f2"]["remote"], shown["f2"]["breaker_closed"]) == (1.0, 0.0)
    assert plant.step(1, weather(300)).unserved_kw == pytest.approx(90)


# ------------------------------------------------------------------ quiet hours
@dataclass(frozen=True)
class Window:
    """Part of a quiet day: mean load and sun, how far they go up and down in 20 minutes, river, charge, sets at first."""

    name: str
    load_kw: float
    sun_kw: float
    river_m3s: float
    soc: float
    running: tuple[str, ...]


QUIET = [
    Window("river", 650.0, 0.0, 0.9, 0.6, ("dg1",)),
    Window("ouessant", 700.0, 350.0, 0.0, 0.7, ()),
    Window("village", 60.0, 15.0, 0.0, 0.5, ("dg1",)),
]


@pytest.mark.parametrize("window", QUIET, ids=lambda w: w.name)
def test_quiet_hours_agree_between_the_levels(window: Window) -> None:
    """The real controller at one second for a quarter of an hour at each level, load and sun moving all the time.

    Energy of every source within 0.5 % of what was served, the load itself, litres and charge. A whole day at this pace is
    minutes of computing; quiet hours are alike, so a quarter of an hour of each of three sites stands for it.
    """
    site = shipped(window.name)
    found = {}
    for level in ("energy", "dynamic"):
        life = Life(site, soc=window.soc, running=window.running, level=level)
        life.live(60, window.load_kw, window.sun_kw, window.river_m3s)
        cycles = life.live(
            900,
            lambda s: window.load_kw * (1.0 + 0.1 * sin(s / 190)),
            lambda s: window.sun_kw * (1.0 + 0.2 * sin(s / 210)),
            window.river_m3s,
        )
        flows = [c.flows for c in cycles]
        kwh = {a: sum(f.power_kw[a] for f in flows) / 3600 for a in flows[0].power_kw}
        kwh["served"] = sum(f.served_kw for f in flows) / 3600
        litres = sum(sum(f.fuel_l.values()) for f in flows)
        found[level] = kwh, litres, flows[-1].soc, [f.running for f in flows][-1]
    (still, still_l, still_soc, on), (quick, quick_l, quick_soc, quick_on) = found["energy"], found["dynamic"]
    assert on == quick_on
    for asset, energy_kwh in still.items():
        assert quick[asset] == pytest.approx(energy_kwh, abs=0.005 * still["served"]), asset
    assert quick_l == pytest.approx(still_l, rel=0.005, abs=0.05)
    for battery, soc in still_soc.items():
        assert quick_soc[battery] == pytest.approx(soc, abs=0.002)


def test_both_levels_show_the_same_points() -> None:
    site = shipped("river")
    conditions = Conditions({a.id: 600.0 for a in site.of(Load)}, {a.id: 100.0 for a in site.of(Solar)}, {"hydro1": 0.8})
    still, quick = Plant(site), DynamicPlant(site)
    for plant in (still, quick):
        plant.step(60, conditions)
    first, second = still.observe(conditions), quick.observe(conditions)
    assert {a: set(p) for a, p in first.items()} == {a: set(p) for a, p in second.items()}
    for asset, points in first.items():
        for point, value in points.items():
            shown = second[asset][point]
            assert (value is None) == (shown is None), (asset, point)
            assert value is None or shown == pytest.approx(value, rel=1e-3, abs=0.01), (asset, point)
