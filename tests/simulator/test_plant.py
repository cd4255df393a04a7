"""The energy-level plant: hand-computed cases, and what is conserved whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ems.config.site import Site
from ems.physics import dc_kw, fuel_l_per_h, hydro_kw
from simulator.assets.source import Source
from simulator.balance import share
from simulator.plant import Conditions, Flows, Plant, first_running

TOWN = {"id": "town", "kind": "load", "peak_kw": 900}
PV = {"id": "pv1", "kind": "solar", "rated_kw": 900, "ramp_up_kw_per_s": 20}
HYDRO = {
    "id": "hydro1",
    "kind": "hydro",
    "rated_kw": 250,
    "min_kw": 40,
    "forming": "droop",
    "head_m": 62,
    "design_flow_m3s": 0.52,
    "pond_m3": 3000,
    "ecological_flow_m3s": 0.05,
}
DG1 = {"id": "dg1", "kind": "diesel", "rated_kw": 600, "forming": "isochronous", "fuel": {"no_load_l_per_h": 12.6, "slope_l_per_kwh": 0.249}, "start_l": 2.0}
DG2 = {"id": "dg2", "kind": "diesel", "rated_kw": 600, "forming": "droop", "fuel": {"no_load_l_per_h": 12.6, "slope_l_per_kwh": 0.262}, "start_l": 2.0}
DG3 = {"id": "dg3", "kind": "diesel", "rated_kw": 400, "forming": "droop", "fuel": {"no_load_l_per_h": 8.4, "slope_l_per_kwh": 0.270}, "start_l": 2.0}
INV = {"id": "inv1", "kind": "inverter", "rated_kw": 800, "forming": "droop", "efficiency": 0.975, "no_load_kw": 6}
BESS = {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 2400, "charge_kw": 800, "discharge_kw": 800}
DESAL = {"id": "desal1", "kind": "deferrable", "rated_kw": 120, "min_kw": 40, "modulating": True, "daily_kwh": 900}
TANK = {"id": "tank1", "kind": "tank", "feeds": ["dg1"], "capacity_l": 1000, "unusable_l": 50, "level_l_start": 100}
ALL = (TOWN, PV, HYDRO, DG1, DG2, DG3, INV, BESS, DESAL)


def site_of(*assets: dict[str, Any]) -> Site:
    return Site.model_validate({"site": {"id": "test"}, "assets": assets})


def weather(load_kw: float = 0.0, sun_kw: float = 0.0, river_m3s: float = 0.0) -> Conditions:
    return Conditions({"town": load_kw}, {"pv1": sun_kw}, {"hydro1": river_m3s})


def supply_kw(site: Site, flows: Flows) -> float:
    return sum(flows.power_kw[a.id] for a in site.assets if a.kind in ("solar", "hydro", "diesel", "inverter"))


def test_one_diesel_carries_the_load_and_burns_by_its_line() -> None:
    plant = Plant(site_of(TOWN, DG1))
    flows = plant.step(900, weather(400))
    assert flows.power_kw["dg1"] == pytest.approx(400)
    assert flows.fuel_l["dg1"] == pytest.approx((12.6 + 0.249 * 400) / 4)
    assert flows.formers == ("dg1",)
    assert flows.unserved_kw == 0


def test_battery_follows_its_setpoint_and_pays_for_conversion() -> None:
    plant = Plant(site_of(TOWN, DG1, INV, BESS), soc=0.5)
    plant.command("inv1", "power_kw", 150)
    flows = plant.step(3600, weather(400))
    dc = (150 + 6) / 0.975
    assert flows.power_kw == pytest.approx({"dg1": 250, "inv1": 150, "bess1": dc, "town": 400})
    assert flows.soc["bess1"] == pytest.approx(0.5 - dc / 0.96 / 2400)
    assert flows.losses_kw == pytest.approx(dc / 0.96 - 150)


def test_idle_inverter_draws_its_no_load_power_and_no_charge() -> None:
    plant = Plant(site_of(TOWN, DG1, INV, BESS))
    flows = plant.step(3600, weather(400))
    assert flows.power_kw["inv1"] == -6
    assert flows.power_kw["dg1"] == pytest.approx(406)
    assert flows.soc["bess1"] == 0.5
    assert flows.losses_kw == pytest.approx(6)


def test_forming_inverter_takes_the_residual_after_the_diesel_stops() -> None:
    plant = Plant(site_of(TOWN, PV, DG1, INV, BESS))
    plant.command("inv1", "forming", 1)
    plant.command("dg1", "running", 0)
    flows = plant.step(900, weather(300, 500))
    assert flows.running == {"dg1": False}
    assert flows.power_kw["inv1"] == pytest.approx(-200)
    assert flows.formers == ("inv1",)
    assert flows.power_kw["bess1"] == pytest.approx((-200 + 6) * 0.975)


def test_sets_without_a_reference_share_in_proportion_and_with_one_they_hold_it() -> None:
    plant = Plant(site_of(TOWN, DG1, DG2, DG3), running=["dg1", "dg2", "dg3"])
    flows = plant.step(900, weather(800))
    assert flows.power_kw == pytest.approx({"dg1": 300, "dg2": 300, "dg3": 200, "town": 800})
    plant.command("dg3", "power_kw", 380)
    plant.command("dg2", "power_kw", 200)
    flows = plant.step(900, weather(800))
    assert flows.power_kw == pytest.approx({"dg1": 220, "dg2": 200, "dg3": 380, "town": 800})


def test_what_the_isochronous_set_cannot_take_goes_along_the_droop_then_is_unserved() -> None:
    plant = Plant(site_of({**TOWN, "peak_kw": 2000}, DG1, DG2, DG3), running=["dg1", "dg2", "dg3"])
    plant.command("dg2", "power_kw", 200)
    plant.command("dg3", "power_kw", 200)
    flows = plant.step(900, weather(1100))
    assert flows.power_kw == pytest.approx({"dg1": 600, "dg2": 260, "dg3": 240, "town": 1100})
    flows = plant.step(900, weather(1700))
    assert flows.unserved_kw == pytest.approx(100)
    assert flows.power_kw["town"] == pytest.approx(1600)
    assert flows.served_kw == pytest.approx(1600)


def test_a_surplus_is_low_load_first_and_then_pushed_out_of_pv() -> None:
    plant = Plant(site_of(TOWN, PV, DG1))
    flows = plant.step(900, weather(400, 300))
    assert flows.power_kw["dg1"] == pytest.approx(100)  # its governor knows no minimum loading
    assert flows.pushed_kw == 0
    flows = plant.step(900, weather(250, 300))
    assert flows.power_kw["dg1"] == 0
    assert flows.power_kw["pv1"] == pytest.approx(250)
    assert flows.pushed_kw == flows.curtailed_kw == pytest.approx(50)


def test_an_isochronous_set_takes_low_load_before_a_forming_inverter_leaves_its_reference() -> None:
    plant = Plant(site_of(TOWN, DG1, INV, BESS))
    plant.command("inv1", "forming", 1)
    plant.command("inv1", "power_kw", -6)
    flows = plant.step(900, weather(50))
    assert (flows.power_kw["dg1"], flows.power_kw["inv1"]) == pytest.approx((56, -6))
    plant.command("inv1", "power_kw", 100)
    flows = plant.step(900, weather(50))
    assert (flows.power_kw["dg1"], flows.power_kw["inv1"]) == pytest.approx((0, 50))


def test_a_must_run_turbine_is_not_pushed_before_a_set_runs_low() -> None:
    plant = Plant(site_of(TOWN, DG1, {**HYDRO, "mode": "fixed", "pond_m3": 0}))
    flows = plant.step(900, weather(250, 0, 0.57))
    assert flows.power_kw["hydro1"] == pytest.approx(250)
    assert flows.power_kw["dg1"] == pytest.approx(0)
    assert plant.step(900, weather(300, 0, 0.57)).power_kw["dg1"] == pytest.approx(50)
    assert plant.step(900, weather(200, 0, 0.57)).power_kw["hydro1"] == pytest.approx(200)  # nothing else is left


def test_solar_limit_cuts_at_once_and_is_released_along_the_ramp() -> None:
    plant = Plant(site_of(TOWN, PV, DG1))
    plant.command("pv1", "limit_kw", 50)
    assert plant.step(1, weather(600, 400)).power_kw["pv1"] == 50
    plant.command("pv1", "limit_kw", 900)
    assert [plant.step(1, weather(600, 400)).power_kw["pv1"] for _ in range(3)] == pytest.approx([70, 90, 110])
    assert plant.step(900, weather(600, 400)).power_kw["pv1"] == 400


def test_start_longer_than_a_step_takes_its_time_and_a_shorter_one_is_over_at_its_start() -> None:
    plant = Plant(site_of(TOWN, DG1, DG2))
    plant.command("dg2", "running", 1)
    seen = [plant.step(10, weather(400)) for _ in range(8)]  # 20 + 30 + 15 s: closes within the seventh step
    assert [f.running["dg2"] for f in seen] == [False] * 6 + [True, True]
    assert [f.starts["dg2"] for f in seen] == [0] * 6 + [1, 0]
    assert seen[6].fuel_l["dg2"] == pytest.approx(2.0 + (12.6 + 0.262 * 200) * 10 / 3600)
    plant = Plant(site_of(TOWN, DG1, DG2))
    plant.command("dg2", "running", 1)
    assert plant.step(900, weather(400)).power_kw["dg2"] == pytest.approx(200)


def test_a_stopped_set_unloads_opens_and_cools_down() -> None:
    plant = Plant(site_of(TOWN, DG1, DG2), running=["dg1", "dg2"])
    plant.step(1, weather(400))
    plant.command("dg2", "running", 0)
    powers = []
    while (flows := plant.step(1, weather(400))).running["dg2"]:
        powers.append(flows.power_kw["dg2"])
    assert powers == pytest.approx([200 - 30 * k for k in range(1, len(powers) + 1)])
    assert powers[-1] <= 0.05 * 600
    assert plant.observe(weather(400))["dg2"]["running"] == 1.0
    for _ in range(121):
        plant.step(1, weather(400))
    assert plant.observe(weather(400))["dg2"]["running"] == 0.0


def test_water_ecological_flow_first_then_turbine_then_spillway() -> None:
    site = site_of(TOWN, DG1, HYDRO)
    hydro = site.asset("hydro1")
    plant = Plant(site)
    plant.command("hydro1", "power_kw", 100)
    flows = plant.step(3600, weather(400, 0, 0.40))
    kw_per_m3s = hydro_kw(hydro, 0.52) / 0.52  # type: ignore[arg-type]
    turbine = 100 / kw_per_m3s
    assert flows.power_kw["hydro1"] == pytest.approx(100)
    assert flows.pond_m3["hydro1"] == pytest.approx(1500 + (0.35 - turbine) * 3600)
    flows = plant.step(36000, weather(400, 0, 0.40))
    assert flows.pond_m3["hydro1"] == 3000
    assert flows.spilled_kw > 0


def test_a_dry_river_stands_still_and_fills_the_pond() -> None:
    plant = Plant(site_of(TOWN, DG1, {**HYDRO, "pond_m3": 0}))
    assert plant.step(900, weather(400, 0, 0.09)).power_kw["hydro1"] == 0  # 0.04 m3/s is 19 kW, under the 40 kW it needs
    assert plant.step(900, weather(400, 0, 0.03)).power_kw["hydro1"] == 0


def test_loss_of_the_only_former_is_a_blackout_and_a_diesel_restarts_the_dead_bus() -> None:
    plant = Plant(site_of(TOWN, PV, DG1, DG2, INV, BESS))
    plant.step(60, weather(400, 100))
    plant.trip("dg1")
    flows = plant.step(60, weather(400, 100))
    assert flows.blackout
    assert flows.formers == ()
    assert flows.unserved_kw == 400
    assert supply_kw(plant.site, flows) == 0
    assert "blackout" in plant.events[-1][1]
    shown = plant.observe(weather(400, 100))
    assert shown["inv1"]["frequency_hz"] == 0.0
    assert shown["town"]["power_kw"] == 0.0
    plant.command("pv1", "limit_kw", 900)
    assert plant.step(60, weather(400, 100)).blackout  # nobody else brings it back by itself
    plant.command("dg2", "running", 1)
    assert plant.step(60, weather(400, 100)).blackout  # 65 s to start
    flows = plant.step(60, weather(400, 100))
    assert not flows.blackout
    assert flows.power_kw["dg2"] == pytest.approx(300)
    assert "dg2" in plant.events[-1][1]
    assert plant.blackout is False


def test_an_inverter_restarts_a_dead_bus_only_with_energy_for_it() -> None:
    for soc, alive in ((0.5, True), (0.20, False)):
        plant = Plant(site_of(TOWN, DG1, INV, {**BESS, "black_start_soc": 0.3}), soc=soc)
        plant.trip("dg1")
        plant.step(60, weather(100))
        plant.command("inv1", "running", 1)
        plant.command("inv1", "forming", 1)
        flows = plant.step(60, weather(100))
        assert flows.blackout is not alive
        assert flows.power_kw["inv1"] == (pytest.approx(100) if alive else 0.0)


def test_an_empty_forming_battery_lets_the_bus_go() -> None:
    plant = Plant(site_of(TOWN, DG1, INV, BESS), soc=0.06, running=[])
    first = plant.step(3600, weather(100))  # 5 % is the BMS's floor: 24 kWh are left for an hour
    assert first.soc["bess1"] == pytest.approx(0.05)
    assert first.unserved_kw == pytest.approx(100 - (0.01 * 2400 * 0.96 * 0.975 - 6))
    assert plant.step(3600, weather(100)).blackout


def test_shed_feeder_is_unserved_by_choice() -> None:
    feeders = [{"id": "f1", "share": 0.4}, {"id": "f2", "share": 0.6}]
    plant = Plant(site_of({**TOWN, "feeders": feeders}, DG1))
    plant.command("f2", "breaker", 0)
    flows = plant.step(900, weather(500))
    assert (flows.load_kw, flows.served_kw, flows.unserved_kw) == pytest.approx((500, 200, 300))
    assert plant.observe(weather(500))["f2"]["breaker_closed"] == 0.0


def test_a_dry_tank_starves_its_set() -> None:
    plant = Plant(site_of(TOWN, DG1, DG2, TANK), running=["dg1", "dg2"])
    while not plant.tanks["tank1"].dry:
        plant.step(900, weather(400))
    assert plant.step(900, weather(400)).running == {"dg1": False, "dg2": True}
    plant.deliver("tank1", 2000)
    assert plant.tanks["tank1"].level_l == pytest.approx(1000)
    assert plant.step(900, weather(400)).running["dg1"]


def test_first_running_takes_the_order_of_the_file() -> None:
    site = site_of(TOWN, DG1, DG2, DG3)
    assert [first_running(site, need) for need in (0.0, 500.0, 700.0, 5000.0)] == [(), ("dg1",), ("dg1", "dg2"), ("dg1", "dg2", "dg3")]


def test_share_fills_unequal_rooms() -> None:
    units = [Source("a", 100), Source("b", 300)]
    for unit in units:
        unit.hi_kw = unit.rated_kw
    units[1].hi_kw = 120
    assert share(units, 200) == 0
    assert [u.power_kw for u in units] == pytest.approx([80, 120])
    assert share(units, 100) == pytest.approx(80)


COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["dg1", "dg2", "dg3"]), st.just("running"), st.sampled_from([0.0, 1.0])),
        st.tuples(st.sampled_from(["dg1", "dg2", "dg3", "hydro1", "desal1"]), st.just("power_kw"), st.floats(0, 700)),
        st.tuples(st.just("inv1"), st.just("power_kw"), st.floats(-900, 900)),
        st.tuples(st.sampled_from(["inv1"]), st.sampled_from(["forming", "running"]), st.sampled_from([0.0, 1.0, 1.0])),
        st.tuples(st.sampled_from(["desal1", "hydro1"]), st.just("running"), st.sampled_from([0.0, 1.0])),
        st.tuples(st.just("pv1"), st.just("limit_kw"), st.floats(0, 900)),
        st.tuples(st.just("town-f1"), st.just("breaker"), st.sampled_from([0.0, 1.0, 1.0])),
    ),
    max_size=4,
)
STEPS = st.lists(
    st.tuples(st.sampled_from([1.0, 10.0, 60.0, 900.0, 3600.0]), st.floats(0, 1500), st.floats(0, 1000), st.floats(0, 1.0), COMMANDS),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(STEPS, st.floats(0.05, 0.99), st.sampled_from([None, [], ["dg2"], ["dg1", "dg3"]]), st.sampled_from(["power", "level", "fixed"]))
def test_power_energy_fuel_and_water_are_conserved(steps: Any, soc: float, running: list[str] | None, mode: str) -> None:
    site = site_of({**TOWN, "station_kw": 7.0}, PV, {**HYDRO, "mode": mode}, DG1, DG2, DG3, INV, BESS, DESAL)
    plant = Plant(site, soc, running)
    inverter, battery = site.asset("inv1"), site.asset("bess1")
    litres = 0.0
    for dt_s, load, sun, river, commands in steps:
        for command in commands:
            plant.command(*command)
        pond, held = plant.hydros[0].pond_m3, plant.batteries["bess1"].soc
        conditions = weather(load, sun, river)
        flows = plant.step(dt_s, conditions)
        hours = dt_s / 3600
        assert supply_kw(site, flows) + flows.unserved_kw == pytest.approx(flows.load_kw + flows.station_kw, abs=1e-6)
        assert flows.served_kw >= -1e-9
        dc = dc_kw(inverter, flows.power_kw["inv1"]) if plant.inverters[0].running and not flows.blackout else 0.0  # type: ignore[arg-type]
        inner = dc / 0.96 if dc > 0 else dc * 0.96
        assert (held - flows.soc["bess1"]) * battery.capacity_kwh == pytest.approx(inner * hours, abs=1e-6)  # type: ignore[union-attr]
        assert min(held, 0.05) - 1e-6 <= flows.soc["bess1"] <= max(held, 0.99) + 1e-6
        assert flows.losses_kw == pytest.approx(inner - flows.power_kw["inv1"], abs=1e-6)
        for unit in plant.diesels:
            power = flows.power_kw[unit.id]
            burnt = (fuel_l_per_h(unit.asset.fuel, power) * hours if flows.running[unit.id] else 0.0) + 2.0 * flows.starts[unit.id]
            assert flows.fuel_l[unit.id] == pytest.approx(burnt, abs=1e-9)
            assert 0.0 <= power <= unit.rated_kw + 1e-6
            assert flows.running[unit.id] or power == 0.0
            litres += flows.fuel_l[unit.id]
        turbine = plant.hydros[0].turbine_m3s
        assert river * dt_s == pytest.approx(
            (plant.hydros[0].ecological_m3s + turbine + plant.hydros[0].spill_m3s) * dt_s + flows.pond_m3["hydro1"] - pond, abs=1e-6
        )
        assert plant.hydros[0].ecological_m3s == min(river, 0.05)
        assert flows.power_kw["pv1"] <= min(sun, 900) + 1e-9
        assert flows.power_kw["pv1"] + flows.curtailed_kw == pytest.approx(min(sun, 900), abs=1e-9)
        assert bool(flows.formers) is not flows.blackout
        if flows.blackout:
            assert supply_kw(site, flows) == 0.0
        shown = plant.observe(conditions)
        assert shown["bess1"]["soc"] == flows.soc["bess1"]
    assert sum(d.fuel_l for d in plant.diesels) == pytest.approx(litres, abs=1e-9)
