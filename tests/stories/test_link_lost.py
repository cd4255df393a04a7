"""A device goes silent: the lights stay on, one alarm is raised, and nothing is taken for zero."""

from __future__ import annotations

import pytest

from ems.decision import Phase
from tests.ems.island import site as isle
from tests.stories.life import Life, alarms, events, shipped, starts, switchings

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
    assert alarms(back) == set()
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
    assert {("silent", "inv1"), ("no_former", None)} <= alarms(cycles)
    assert sum(starts(cycles).values()) <= 2
    assert all(w.asset != "inv1" for c in cycles for w in c.decision.writes)
    life.live(30, load_kw)
    assert alarms(life.live(300, load_kw)) == set()


@pytest.mark.parametrize("name", CALM)
def test_without_a_soc_meter_the_battery_is_held_and_diesels_carry(name: str) -> None:
    life = Life(shipped(name))
    life.live(150, *CALM[name])
    cycles = life.live(300, *CALM[name], shown={"bess1": {"soc": None}})
    assert alarms(cycles) == {("soc_unknown", "bess1")}
    assert any(cycles[-1].flows.running.values())
    held = life.plant.inverters[0].asset
    assert cycles[-1].flows.power_kw["inv1"] == pytest.approx(-held.no_load_kw, abs=1.0)


def test_a_soc_meter_lost_while_the_battery_carries_alone() -> None:
    life = Life(isle(), soc=0.8, running=())
    assert life.live(300, 120.0)[-1].decision.leader == "inv1"
    cycles = life.live(400, 120.0, shown={"bess1": {"soc": None}})
    assert any(cycles[-1].flows.running.values())
    assert ("soc_unknown", "bess1") in alarms(cycles)
    assert cycles[-1].decision.leader in ("dg1", "dg2")


def test_a_diesel_that_went_silent_while_starting_is_not_given_up() -> None:
    life = Life(isle(), soc=0.8, running=())
    life.live(60, 120.0)
    life.live(10, 120.0, asked=[life.ask("command", "dg2", action="start")])
    life.live(40, 120.0, lost=("dg2",))
    assert life.memory.units["dg2"].phase is Phase.STARTING
    life.live(40, 120.0)
    assert life.memory.units["dg2"].phase is Phase.ONLINE
