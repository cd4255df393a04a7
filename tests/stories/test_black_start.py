"""A dead bus: nothing starts by itself; on an operator's order one unit brings it up, step by step, or goes back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ems.loop import resumed
from ems.model import Status
from ems.terms import Mode
from tests.ems.hamlets import site
from tests.stories.life import Cycle, Life, alarms, events

LOAD, SUN = 150.0, 100.0


def darkened(soc: float = 0.6, running: tuple[str, ...] = (), level: str = "energy", reset: bool = True) -> Life:
    """An island whose bus has died under load; somebody has looked at the units and reset them."""
    life = Life(site(), soc=soc, running=running, dark=True, level=level)
    life.live(40, LOAD, SUN)
    for unit in ("inv1", *(d.id for d in life.plant.diesels if d.on)):
        life.plant.trip(unit)
    life.live(20, LOAD, SUN)
    if reset:
        for unit in ("inv1", "dg1", "dg2"):
            life.plant.command(unit, "running", 0.0)
        life.live(3, LOAD, SUN, asked=[life.ask("command", d, action="release") for d in ("dg1", "dg2")])
    assert life.cycles[-1].flows.blackout
    return life


def told(cycles: Sequence[Cycle]) -> list[str]:
    return [e.reason for c in cycles for e in c.decision.events if e.kind == "black_start"]


def outcomes(cycles: Sequence[Cycle]) -> list[tuple[Status, str | None]]:
    return [(o.status, o.cause) for c in cycles for o in c.decision.outcomes]


def test_on_a_dead_bus_nothing_is_started_and_the_operator_is_asked() -> None:
    life = darkened()
    cycles = life.live(600, LOAD, SUN)
    assert {c.decision.mode for c in cycles} == {Mode.START}
    assert not any(c.decision.writes for c in cycles)
    assert ("dead_bus", None) in alarms(cycles[-1:])
    alarm = next(a for a in cycles[-1].decision.alarms if a.code == "dead_bus")
    assert "town, inv1" in alarm.en or "inv1, town" in alarm.en
    assert "ブラックスタート" in alarm.ja


def test_a_start_under_way_is_called_off_when_the_bus_dies() -> None:
    life = Life(site(), soc=0.6, running=("dg1",), dark=True)
    life.live(20, LOAD)
    assert ("start", "dg2") in events(life.live(10, LOAD, asked=[life.ask("command", "dg2", action="start")]))
    life.plant.trip("inv1")
    life.plant.trip("dg1")
    cycles = life.live(200, LOAD)
    assert ("start_cancelled", "dg2") in events(cycles)
    assert cycles[-1].flows.blackout


@pytest.mark.parametrize("level", ["energy", "dynamic"])
@pytest.mark.parametrize(("soc", "running", "former"), [(0.6, (), "inv1"), (0.04, ("dg1",), "dg1")])
def test_one_unit_brings_up_the_bus_and_everybody_comes_back(soc: float, running: tuple[str, ...], former: str, level: str) -> None:
    life = darkened(soc, running, level)
    cycles = life.live(500, LOAD, SUN, asked=[life.ask("mode", mode="black_start")])
    assert outcomes(cycles) == [(Status.ACCEPTED, None), (Status.DONE, None)]
    assert told(cycles) == [
        "all feeders are open",
        f"{former} holds the bus",
        "frequency and voltage are in band",
        "the auxiliaries are fed",
        "all feeders are back",
        "done: PV is let in",
    ]
    assert [asset for kind, asset in events(cycles) if kind == "restore"] == ["clinic", "village", "north", "south"]
    first_live = next(k for k, c in enumerate(cycles) if not c.flows.blackout)
    assert cycles[first_live].flows.served_kw == 0.0, "energised without load"
    done = next(k for k, c in enumerate(cycles) if c.decision.mode is Mode.AUTO)
    assert max(c.flows.power_kw["pv1"] for c in cycles[:done]) == 0.0
    assert done - first_live >= 60
    assert not any(c.flows.blackout for c in cycles[first_live:])
    assert cycles[-1].flows.unserved_kw == pytest.approx(0.0, abs=1.0)
    assert cycles[-1].flows.power_kw["pv1"] > 90.0
    assert not {"dead_bus", "black_start", "black_start_failed", "load_shed"} & {a.code for a in cycles[-1].decision.alarms}


@pytest.mark.parametrize(
    ("soc", "former", "shown", "stage", "cause"),
    [
        (0.6, "dg9", {}, None, "it cannot form the bus"),
        (0.6, "pv1", {}, None, "it cannot form the bus"),
        (0.6, "dg1", {"dg1": {"remote": 0.0}}, None, "it is under local control"),
        (0.6, "dg1", {"dg1": {"ready": 0.0}}, None, "it is not ready"),
        (0.6, "dg1", {"dg1": {"estop": 1.0}}, None, "it is not ready"),
        (0.04, "inv1", {}, None, "its charge is too low for a black start"),
        (0.6, None, {"town": {"frequency_hz": None, "voltage_v": None}}, None, "the bus is not found dead by two measurements"),
        (0.6, None, {"town": {"frequency_hz": 50.0}}, None, "the bus is alive"),
        (0.04, None, {"dg1": {"ready": 0.0}, "dg2": {"remote": 0.0}}, None, "no unit is ready to form the bus"),
        (0.6, None, {}, "advise", "the site is not in stage control"),
    ],
)
def test_a_black_start_is_refused_with_its_cause(
    soc: float, former: str | None, shown: dict[str, dict[str, float | None]], stage: str | None, cause: str
) -> None:
    life = darkened(soc, ("dg1",) if soc < 0.1 else ())
    if stage is not None:
        life.live(1, LOAD, asked=[life.ask("stage", stage=stage)])
    body = {"mode": "black_start"} | ({} if former is None else {"former": former})
    cycles = life.live(60, LOAD, shown=shown, asked=[life.ask("mode", **body)])
    assert outcomes(cycles) == [(Status.REJECTED, cause)]
    assert not any(c.decision.writes for c in cycles)


def test_after_an_emergency_stop_it_is_refused() -> None:
    life = darkened()
    life.live(2, LOAD, asked=[life.ask("stop")])
    assert outcomes(life.live(1, LOAD, asked=[life.ask("mode", mode="black_start")])) == [(Status.REJECTED, "the emergency stop is in force")]


def test_a_step_that_fails_is_rolled_back_and_may_be_ordered_again() -> None:
    """The inverter is told to form and trips again at once."""
    life = darkened()
    life.live(8, LOAD, asked=[life.ask("mode", mode="black_start", former="inv1")])
    life.plant.trip("inv1")
    cycles = life.live(60, LOAD)
    assert cycles[-1].decision.mode is Mode.START
    assert outcomes(cycles) == [(Status.DONE, "black_start_failed")]
    alarm = next(a for a in cycles[-1].decision.alarms if a.code == "black_start_failed")
    assert alarm.en.startswith("the black start by inv1 failed while proving frequency and voltage: inv1 lost the bus again")
    assert "失敗しました" in alarm.ja
    assert ("dead_bus", None) in alarms(cycles[-1:])
    assert all(m.opened_by == "ems" for m in life.memory.feeders.values())
    life.plant.command("inv1", "running", 0.0)
    again = life.live(300, LOAD, asked=[life.ask("mode", mode="black_start", former="dg1")])
    assert again[-1].decision.mode is Mode.AUTO
    assert again[-1].flows.unserved_kw == 0.0
    assert ("black_start_failed", None) not in alarms(again[-1:])


def test_a_diesel_that_does_not_start_is_tried_again_and_then_given_up() -> None:
    life = darkened(0.04, ("dg1",))
    cycles = life.live(1, LOAD, asked=[life.ask("mode", mode="black_start", former="dg1")])
    for _ in range(500):
        if life.memory.units["dg1"].phase.value in ("starting", "warming", "synchronising"):
            life.plant.trip("dg1")
        cycles += life.live(1, LOAD)
    assert [kind for kind, asset in events(cycles) if asset == "dg1"].count("start") == 3
    assert ("black_start_failed", "dg1") in events(cycles)
    assert cycles[-1].decision.mode is Mode.START
    assert cycles[-1].flows.blackout


def test_a_feeder_that_does_not_open_stops_it_before_anything_is_energised() -> None:
    life = darkened()
    stuck = {"village": {"breaker_closed": 1.0}}
    cycles = life.live(60, LOAD, shown=stuck, asked=[life.ask("mode", mode="black_start")])
    assert cycles[-1].flows.blackout
    assert any("village did not open" in a.en for a in cycles[-1].decision.alarms)
    assert not any(w.asset == "inv1" and w.value for c in cycles for w in c.decision.writes)


def test_an_operator_calls_it_off() -> None:
    life = darkened()
    life.live(8, LOAD, asked=[life.ask("mode", mode="black_start", former="inv1")])
    cycles = life.live(30, LOAD, asked=[life.ask("mode", mode="auto")])
    assert cycles[-1].flows.blackout
    assert cycles[-1].decision.mode is Mode.START
    assert any("an operator called it off" in a.en for a in cycles[-1].decision.alarms)


def test_the_bus_dies_again_under_its_first_feeders() -> None:
    life = darkened()
    life.live(40, LOAD, asked=[life.ask("mode", mode="black_start", former="inv1")])
    assert life.memory.black_start is not None
    assert life.memory.black_start.step == "feeders"
    life.plant.trip("inv1")
    cycles = life.live(40, LOAD)
    assert cycles[-1].decision.mode is Mode.START
    assert all(m.opened_by == "ems" for m in life.memory.feeders.values())
    assert any("the bus died again" in a.en for a in cycles[-1].decision.alarms)


def test_somebody_at_the_set_is_faster() -> None:
    """Its own controller closes a diesel on the dead bus: it is adopted, and what waits in the dark is restored."""
    life = darkened(0.04, ("dg1",))
    for f in ("north", "south"):
        life.plant.command(f, "breaker", 0.0)
    life.live(5, LOAD)
    life.plant.command("dg1", "running", 1.0)
    cycles = life.live(300, LOAD)
    assert cycles[-1].decision.mode is Mode.AUTO
    assert cycles[-1].flows.unserved_kw == 0.0
    assert [asset for kind, asset in events(cycles) if kind == "restore"] == ["north", "south"]


def test_a_restart_of_the_ems_ends_a_black_start_and_says_so() -> None:
    life = darkened()
    life.live(10, LOAD, asked=[life.ask("mode", mode="black_start", former="dg1")])
    life.memory = resumed(life.memory, life.now_s)
    cycles = life.live(5, LOAD)
    assert cycles[-1].decision.mode is Mode.START
    assert any("the EMS was restarted" in a.en for a in cycles[-1].decision.alarms)
