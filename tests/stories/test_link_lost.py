"""A device goes silent: the lights stay on, one alarm is raised, and nothing is taken for zero."""

from __future__ import annotations

import pytest

from ems.alarms import OFF_DELAY_S
from ems.terms import Phase
from tests.ems.island import site as isle
from tests.stories.life import Life, alarms, events, shipped, starts, switchings

SHOWN_S = int(OFF_DELAY_S) + 1
"""So many cycles of a second a cause that is gone is still shown."""
CALM = {"ouessant": (800.0, 300.0, 0.0), "river": (700.0, 300.0, 1.0), "village": (50.0, 20.0, 0.0)}


@pytest.mark.parametrize(
    ("name", "device"),
    [
        *(("ouessant", d) for d in ("pv1", "dg1", "dg2", "dg3", "inv1", "bess1", "m1", "sky")),
        *(("river", d) for d in ("pv1", "hydro1", "dg1", "inv1", "bess1", "desal1", "tank1")),
        *(("village", d) for d in ("pv1", "dg1")),
        ("ouessant", "town"),
        ("river", "town"),
    ],
)
def test_one_silent_device_is_one_alarm_and_no_blackout(name: str, device: str) -> None:
    life = Life(shipped(name))
    life.live(150, *CALM[name])
    before = life.cycles[-1].flows
    cycles = life.live(150, *CALM[name], lost=(device,))
    assert alarms(cycles) == {("silent", device)}
    assert "tripped" not in {kind for kind, _ in events(cycles)}
    assert all(w.asset != device for c in cycles for w in c.decision.writes)
    # A unit on the bus is not stopped for being silent, nor is anybody else on its word.
    running = [d for d, on in before.running.items() if on]
    assert all(cycles[-1].flows.running[d] for d in running)
    back = life.live(60, *CALM[name])
    assert alarms(back[SHOWN_S:]) == set()
    assert all(n == 0 for d, n in switchings(back).items() if d in running)


@pytest.mark.parametrize("lost", [("dg1", "pv1"), ("dg1", "town"), ("pv1", "town"), ("dg1", "pv1", "town"), ("dg1", "dg3"), ("inv1", "bess1")])
def test_two_or_three_silent_devices_leave_the_others_where_they_are(lost: tuple[str, ...]) -> None:
    """One gateway often serves several devices. What is unseen together is what the balance leaves over, never zero."""
    life = Life(shipped("ouessant"))
    life.live(150, *CALM["ouessant"])
    before = life.cycles[-1].flows.power_kw
    cycles = life.live(150, *CALM["ouessant"], lost=lost)
    for unit in ("dg1", "dg3"):
        assert min(c.flows.power_kw[unit] for c in cycles) >= 0.7 * before[unit], unit
    assert {asset for code, asset in alarms(cycles) if code == "silent"} == set(lost)


@pytest.mark.parametrize(("name", "load_kw"), [("ouessant", 400.0), ("village", 40.0)])
def test_the_silent_former_is_not_a_lost_former_but_a_reason_for_a_diesel(name: str, load_kw: float) -> None:
    life = Life(shipped(name), soc=0.8, running=())
    quiet = life.live(300, load_kw)
    assert quiet[-1].decision.leader == "inv1"
    assert not any(quiet[-1].flows.running.values())
    cycles = life.live(300, load_kw, lost=("inv1",))
    assert any(cycles[-1].flows.running.values())
    assert "inv1" in cycles[-1].flows.formers
    assert ("silent", "inv1") in alarms(cycles)
    assert sum(starts(cycles).values()) <= 2
    assert all(w.asset != "inv1" for c in cycles for w in c.decision.writes)
    life.live(30, load_kw)
    assert alarms(life.live(300, load_kw)) == set()


@pytest.mark.parametrize("name", CALM)
def test_a_battery_whose_charge_was_never_seen_is_held_and_diesels_carry(name: str) -> None:
    life = Life(shipped(name))
    cycles = life.live(450, *CALM[name], shown={"bess1": {"soc": None}})
    assert ("soc_unknown", "bess1") in alarms(cycles)
    assert any(cycles[-1].flows.running.values())
    held = life.plant.inverters[0].asset
    assert cycles[-1].flows.power_kw["inv1"] == pytest.approx(-held.no_load_kw, abs=1.0)


@pytest.mark.parametrize("name", CALM)
@pytest.mark.parametrize("gone", ["point", "bms"])
def test_a_charge_that_is_no_longer_seen_is_counted_on(name: str, gone: str) -> None:
    life = Life(shipped(name), soc=0.6)
    life.live(150, *CALM[name])
    cycles = life.live(900, *CALM[name], shown={"bess1": {"soc": None}}) if gone == "point" else life.live(900, *CALM[name], lost=("bess1",))
    assert alarms(cycles) == {("soc_unknown" if gone == "point" else "silent", "bess1")}
    battery = cycles[-1].image.assets["bess1"]
    assert battery.get("soc") == pytest.approx(cycles[-2].flows.soc["bess1"], abs=0.002)
    assert battery.get("soc_band") == pytest.approx(0.015, abs=0.001)  # 1 % in 10 min, for a quarter of an hour
    assert {"soc", "soc_band"} <= set(battery.suspect)
    assert (battery.silent_s, battery.seen) == ((0.0, True) if gone == "point" else (899.0, False))
    back = life.live(60, *CALM[name])
    assert alarms(back[5 + SHOWN_S :]) == set()
    assert back[-1].image.assets["bess1"].get("soc") == pytest.approx(back[-2].flows.soc["bess1"])


def test_a_soc_meter_lost_while_the_battery_carries_alone_never_empties_it() -> None:
    """The band eats what may be discharged: a diesel comes before the true charge is at its floor, and there is no deep discharge."""
    life = Life(isle(), soc=0.25, running=())
    life.live(60, 120.0)
    cycles = life.live(2400, 120.0, shown={"bess1": {"soc": None}})
    assert any(cycles[-1].flows.running.values())
    assert min(c.flows.soc["bess1"] for c in cycles) > 0.10


def test_silent_inverter_and_battery_are_inferred_from_the_busbar() -> None:
    """Nobody else forms, yet the load is served at 50 Hz: it lives, its power is what the balance leaves, its charge is counted from that."""
    life = Life(isle(), soc=0.8, running=())
    life.live(60, 120.0)
    first, *cycles = life.live(90, 120.0, lost=("inv1", "bess1"))
    inverter, battery = first.image.assets["inv1"], first.image.assets["bess1"]
    assert (inverter.silent_s, inverter.seen, inverter.flag("forming"), inverter.flag("running")) == (0.0, False, True, True)
    assert inverter.power_kw == pytest.approx(120.0)
    assert {"power_kw", "forming", "running"} <= set(inverter.suspect)
    assert battery.get("discharge_limit_kw") == 250.0
    last = cycles[-1]
    assert last.image.assets["inv1"].silent_s == 89.0
    assert last.image.frequency_hz == pytest.approx(50.0, rel=0.02)
    assert last.image.assets["bess1"].get("soc") == pytest.approx(cycles[-2].flows.soc["bess1"], abs=0.001)
    back = life.live(20, 120.0)[-1].image
    assert (back.assets["inv1"].silent_s, back.assets["inv1"].suspect) == (0.0, ())


def test_a_silent_inverter_that_has_tripped_is_not_taken_for_alive() -> None:
    life = Life(isle(), soc=0.8)
    life.live(60, 250.0)
    life.live(60, 250.0, asked=[life.ask("command", "inv1", action="set", power_kw=100.0)])
    assert life.cycles[-1].flows.power_kw["inv1"] == pytest.approx(100.0)
    life.plant.trip("inv1")
    inverter = life.live(5, 250.0, lost=("inv1",))[-1].image.assets["inv1"]
    assert inverter.power_kw == pytest.approx(0.0, abs=1.0)
    assert (inverter.flag("running"), inverter.flag("forming")) == (False, False)


def test_a_diesel_that_went_silent_while_starting_is_not_given_up() -> None:
    life = Life(isle(), soc=0.8, running=())
    life.live(60, 120.0)
    life.live(10, 120.0, asked=[life.ask("command", "dg2", action="start")])
    life.live(40, 120.0, lost=("dg2",))
    assert life.memory.units["dg2"].phase is Phase.STARTING
    life.live(40, 120.0)
    assert life.memory.units["dg2"].phase is Phase.ONLINE
