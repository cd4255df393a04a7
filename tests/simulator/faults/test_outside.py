"""What plant faults do to units, weather, load and fuel, and that all of it heals."""

from __future__ import annotations

import pytest

from ems.decision import Write
from tests.simulator.faults.bench import Bench, fault


def diesel(bench: Bench, name: str = "dg1"):
    return next(d for d in bench.plant.diesels if d.id == name)


@pytest.mark.parametrize(("target", "point"), [("dg1", "power_kw"), ("hydro1", "power_kw"), ("inv1", "power_kw")])
def test_a_trip_stays_until_somebody_resets_it(target: str, point: str) -> None:
    bench = Bench(fault("trip", target, 5.0, 20.0))
    bench.cycles(5)
    bench.field.write(bench.now_s, [Write("inv1", "forming", 1.0)], [])
    seen = bench.cycles(2)[-1][target]
    assert (seen["fault"].value, seen["ready"].value) == (7.0, 0.0)
    bench.plant.command(target, "running", 0.0)  # an acknowledgement does not mend it
    assert bench.cycles(2)[-1][target]["fault"].value == 7.0
    bench.cycles(20)
    assert bench.cycle()[target]["fault"].value == 0.0
    assert not bench.lives


def test_a_trip_of_a_set_that_stands_takes_nothing_away() -> None:
    bench = Bench(fault("trip", "dg2", 1.0))
    assert [x["dg2"]["fault"].value for x in bench.cycles(3)] == [0.0, 7.0, 7.0]
    assert bench.flows.running == {"dg1": True, "dg2": False}


@pytest.mark.parametrize(("severity", "fails"), [(0.0, 1), (0.5, 2), (1.0, 3)])
def test_starts_fail_as_often_as_is_said(severity: float, fails: int) -> None:
    bench = Bench(fault("fail_start", "dg2", 0.0, 2000.0, severity))
    failed = 0
    for _ in range(1000):
        bench.cycle()
        unit = diesel(bench, "dg2")
        if unit.fault:
            failed += 1
            unit.command("running", 0.0)
        else:
            unit.command("running", 1.0)
    assert failed == fails
    assert diesel(bench, "dg2").on
    assert bench.lives[0].touched == fails


def test_a_slow_start_takes_longer() -> None:
    taken = []
    for faults in ((), (fault("slow_start", "dg2", 0.0, 1000.0, 0.5),)):
        bench = Bench(*faults)
        bench.cycle()
        bench.plant.command("dg2", "running", 1.0)
        while not diesel(bench, "dg2").on:
            bench.cycle()
        taken.append(bench.now_s)
    assert taken[1] - taken[0] == pytest.approx(60.0)


def test_a_stuck_breaker_does_not_open() -> None:
    bench = Bench(fault("stuck", "dg2", 0.0, 200.0), running=("dg1", "dg2"))
    bench.cycle()
    bench.plant.command("dg2", "running", 0.0)
    assert bench.cycles(100)[-1]["dg2"]["breaker_closed"].value == 1.0
    assert bench.lives[0].touched > 0
    bench.cycles(105)
    assert bench.cycle()["dg2"]["breaker_closed"].value == 0.0


@pytest.mark.parametrize("target", ["pv1", "hydro1", "dg1", "inv1", "desal"])
def test_local_shows_and_takes_no_commands(target: str) -> None:
    bench = Bench(fault("local", target, 1.0, 10.0))
    command, value = ("limit_kw", 1.0) if target == "pv1" else ("running", 1.0 if target == "desal" else 0.0)
    assert [x[target]["remote"].value for x in bench.cycles(2)] == [1.0, 0.0]
    shown = bench.cycle()[target]
    bench.plant.command(target, command, value)
    bench.cycles(5)
    after = bench.cycle()[target]
    assert {n: r.value for n, r in after.items() if n == "running"} == {n: r.value for n, r in shown.items() if n == "running"}
    bench.cycles(10)
    assert bench.cycle()[target]["remote"].value == 1.0


@pytest.mark.parametrize("target", ["pv1", "hydro1", "dg2", "inv1", "desal"])
def test_an_emergency_stop_stops_and_shows(target: str) -> None:
    bench = Bench(fault("estop", target, 20.0, 10.0), running=("dg1", "dg2"))
    bench.plant.command("desal", "running", 1.0)
    bench.plant.command("inv1", "power_kw", 50.0)
    assert bench.cycles(20)[-1][target]["power_kw"].value != 0.0
    seen = bench.cycles(3)[-1][target]
    assert (seen["estop"].value, seen["ready"].value, seen["power_kw"].value) == (1.0, 0.0, 0.0)
    bench.cycles(10)
    assert bench.cycle()[target]["estop"].value == 0.0


def test_weather_load_and_river_change_and_change_back() -> None:
    bench = Bench(fault("pv_drop", "pv1", 10.0, 60.0, 1.0), fault("load_step", "town", 10.0, 60.0, 1.0), fault("dry_river", "hydro1", 10.0, 60.0, 1.0))
    sun, load, river = [], [], []
    for _ in range(80):
        bench.cycle()
        sun.append(bench.conditions.available_kw["pv1"])
        load.append(bench.conditions.load_kw["town"])
        river.append(bench.conditions.inflow_m3s["hydro1"])
    assert (sun[9], sun[15], sun[20], sun[40], sun[65]) == pytest.approx((120.0, 72.0, 24.0, 24.0, 72.0))
    assert {round(x, 6) for x in load} in ({300.0, 390.0}, {300.0, 210.0})
    assert set(river) == {0.3, 0.0}
    assert (sun[-1], load[-1], river[-1]) == (120.0, 300.0, 0.3)


def test_a_battery_loses_its_limits_and_its_charge() -> None:
    bench = Bench(fault("derate", "bess1", 2.0, 5.0, 1.0), fault("soc_drop", "bess1", 10.0, 1.0, 1.0))
    seen = [x["bess1"] for x in bench.cycles(12)]
    assert [seen[k]["discharge_limit_kw"].value for k in (1, 3, 9)] == pytest.approx([250.0, 25.0, 250.0])
    assert (seen[9]["soc"].value or 0.0) - (seen[10]["soc"].value or 0.0) == pytest.approx(0.3, abs=0.01)


def test_a_tank_runs_dry_and_is_filled_again() -> None:
    bench = Bench(fault("tank_low", "tank1", 2.0, 600.0))
    bench.cycles(500)
    assert bench.plant.tanks["tank1"].dry
    assert bench.flows.running["dg1"] is False
    bench.cycles(105)
    assert bench.cycle()["tank1"]["level_l"].value == pytest.approx(5000.0, abs=5.0)


@pytest.mark.parametrize(("target", "shows"), [("dg2", "wanted"), ("desal", "running")])
def test_somebody_at_the_unit_does_the_opposite(target: str, shows: str) -> None:
    bench = Bench(fault("by_hand", target, 1.0, 1.0))
    unit = next(u for u in (*bench.plant.diesels, *bench.plant.deferrables) if u.id == target)
    bench.cycle()
    before = getattr(unit, shows)
    bench.cycle()
    assert getattr(unit, shows) is not before
