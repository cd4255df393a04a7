"""Every invariant can fail: a step that holds everywhere, and one change to it that each must see, and an excuse that it must take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from ems.decision import Event, Write
from ems.memory import Memory, UnitMemory
from ems.model import Quality, Reading
from ems.terms import Alarm, Mode, Phase, Stage
from simulator.campaign.case import drawn
from simulator.campaign.conduct import RAISES, AlarmDue, AlarmStorm, Commands, Data, Recovery
from simulator.campaign.hand import DOUBT_S, SETTLE_S, Hand
from simulator.campaign.invariants import Balance, Charge, Former, Invariant, MinimumLoading, Rating, Reserve, Service, Starts
from simulator.campaign.run import _Life, watched
from simulator.campaign.truth import Step, Truth
from simulator.faults.live import Live
from tests.simulator.faults.bench import fault, island

SITE = island()


class Scene:
    """A quiet island after some cycles, with its last step at hand."""

    def __init__(self, *faults: Any, cycles: int = 8) -> None:
        life = _Life(SITE, replace(drawn(SITE, 5, 600.0, "energy"), faults=tuple(faults), running=("dg1",), soc=0.6))
        self.steps: list[Step] = []
        life._judge = self.steps.append  # type: ignore[assignment]  # what is judged is what these tests are about
        for _ in range(cycles):
            life.cycle()
        self.step, self.truth, self.plant = self.steps[-1], life._truth, life._plant

    def flows(self, **changes: Any) -> Step:
        power = {**self.step.flows.power_kw, **changes.pop("power_kw", {})}
        return replace(self.step, flows=replace(self.step.flows, power_kw=power, **changes))

    def decision(self, **changes: Any) -> Step:
        return replace(self.step, decision=replace(self.step.decision, **changes))


def told(invariant: Invariant, step: Step, truth: Truth, seconds: float = 1.0) -> list[tuple[str, str]]:
    """Return what an invariant says after it has looked at the same step for so long."""
    found: list[tuple[str, str]] = []
    for k in range(int(seconds)):
        found += invariant.check(replace(step, at_s=step.at_s + k), truth)
    return found


def test_a_quiet_island_breaks_nothing() -> None:
    scene = Scene(cycles=60)
    for invariant in watched(SITE, drawn(SITE, 0, 60.0, "energy")):
        for step in scene.steps:
            assert list(invariant.check(step, scene.truth)) == [], invariant.id


def test_every_invariant_has_an_id_of_its_own() -> None:
    found = [i.id for i in watched(SITE, replace(drawn(SITE, 0, 60.0, "energy"), faults=()))]
    assert sorted(found, key=lambda i: int(i[1:])) == [f"I{k}" for k in range(1, 14)]


def test_balance() -> None:
    scene = Scene()
    assert told(Balance(), scene.flows(unserved_kw=5.0), scene.truth)


@pytest.mark.parametrize(
    ("before", "after", "breaks"),
    [
        (0.099, 0.094, True),
        (0.101, 0.0995, False),
        (0.953, 0.956, True),
        (0.956, 0.955, False),
        (0.09, 0.091, False),
        (0.051, 0.04, True),
        (0.985, 0.996, True),
    ],
)
def test_charge(before: float, after: float, breaks: bool) -> None:
    scene = Scene()
    step = replace(scene.flows(soc={"bess1": after}, power_kw={"bess1": 45.0, "inv1": 40.0}), soc={"bess1": before})
    assert bool(told(Charge(), step, scene.truth, 12)) is breaks


def test_a_battery_may_carry_others_for_some_seconds_and_leak_a_little() -> None:
    scene = Scene()
    drained = replace(scene.flows(soc={"bess1": 0.094}, power_kw={"bess1": 45.0, "inv1": 40.0}), soc={"bess1": 0.095})
    assert told(Charge(), drained, scene.truth, 9) == []
    leaking = replace(scene.flows(soc={"bess1": 0.094}, power_kw={"bess1": 5.0, "inv1": 3.0}), soc={"bess1": 0.095})
    assert told(Charge(), leaking, scene.truth, 60) == []


def test_charge_and_discharge_at_once() -> None:
    scene = Scene()
    assert told(Charge(), scene.flows(power_kw={"bess1": -30.0, "inv1": 40.0}), scene.truth)


def test_charge_below_its_band_is_forced_while_no_set_is_able() -> None:
    scene = Scene()
    for unit in scene.plant.diesels:
        unit.fault, unit.on = 7.0, False
    step = replace(scene.flows(soc={"bess1": 0.09}), soc={"bess1": 0.0901})
    assert told(Charge(), step, scene.truth, 300) == []


def test_rating() -> None:
    scene = Scene()
    assert told(Rating(), scene.flows(power_kw={"dg1": 301.0}), scene.truth)
    assert told(Rating(), scene.flows(power_kw={"inv1": -251.0}), scene.truth)
    governed = scene.flows(power_kw={"dg1": 330.0}, frequency_hz=49.6)
    assert told(Rating(), governed, scene.truth, 55) == []
    assert told(Rating(), governed, scene.truth, 65)
    assert told(Rating(), scene.flows(power_kw={"dg1": 460.0}, frequency_hz=49.0), scene.truth)


def test_minimum_loading_after_a_transient_unless_nothing_is_left_to_do() -> None:
    scene = Scene()
    low = scene.flows(power_kw={"dg1": 20.0, "inv1": 100.0}, running={"dg1": True, "dg2": False})
    assert told(MinimumLoading(), low, scene.truth, 58) == []
    assert told(MinimumLoading(), low, scene.truth, 62)
    spent = scene.flows(power_kw={"dg1": 20.0, "inv1": -250.0, "pv1": 0.0, "hydro1": 6.0}, running={"dg1": True, "dg2": False})
    assert told(MinimumLoading(), spent, scene.truth, 100) == []
    scene.truth.hand.begin(fault("ignored", "inv1", 0.0, 1e6))
    assert told(MinimumLoading(), low, scene.truth, 100) == []


@pytest.mark.parametrize(("kind", "target", "breaks"), [(None, "", True), ("trip", "dg2", True), ("trip", "dg1", False)])
def test_a_bus_without_a_holder_is_forced_only_where_the_plant_took_him(kind: str | None, target: str, breaks: bool) -> None:
    scene = Scene()
    if kind is not None:
        scene.truth.hand.begin(fault(kind, target, 5.0, 60.0))
    former = Former()
    assert told(former, scene.flows(formers=("dg1",)), scene.truth) == []
    assert bool(told(former, scene.flows(formers=(), blackout=True), scene.truth)) is breaks


def test_short_reserve_wants_an_alarm_and_a_remedy() -> None:
    scene = Scene()
    short = replace(scene.step.decision.reserve, required_kw=400.0, available_kw=100.0)
    units = {**scene.step.decision.memory.units, "dg2": UnitMemory(Phase.OFF, -1e6)}
    step = scene.decision(mode=Mode.AUTO, reserve=short, alarms=(), memory=replace(scene.step.decision.memory, units=units))
    assert told(Reserve(SITE), step, scene.truth, 3) == []
    assert {subject for subject, _ in told(Reserve(SITE), step, scene.truth, 4)} == {"alarm", "remedy"}
    started = {**units, "dg2": UnitMemory(Phase.STARTING, 0.0)}
    cared = replace(
        step, decision=replace(step.decision, alarms=(Alarm("reserve_short", "warning", None, "", ""),), memory=replace(step.decision.memory, units=started))
    )
    assert told(Reserve(SITE), cared, scene.truth, 20) == []


def test_a_hidden_shortage_is_found() -> None:
    scene = Scene()
    held = replace(scene.step.decision.reserve, required_kw=10.0, available_kw=100.0)
    step = scene.flows(power_kw={"dg1": 290.0, "inv1": 240.0}, running={"dg1": True, "dg2": False})
    memory = replace(step.decision.memory, units={"dg1": UnitMemory(Phase.ONLINE, 0.0), "dg2": UnitMemory(Phase.OFF, 0.0)})
    step = replace(step, decision=replace(step.decision, mode=Mode.AUTO, reserve=held, memory=memory))
    assert "hidden" in {subject for subject, _ in told(Reserve(SITE), step, scene.truth, 120)}


def test_load_in_the_dark_though_somebody_could_serve_it() -> None:
    scene = Scene()
    dark = scene.flows(unserved_kw=50.0)
    assert told(Service(), dark, scene.truth, 100) == []
    assert told(Service(), dark, scene.truth, 500)
    assert told(Service(), scene.flows(unserved_kw=50.0, load_kw=5000.0), scene.truth, 500) == []


def test_critical_load_lost_by_a_single_trip() -> None:
    scene = Scene()
    trip = Live(fault("trip", "dg1", 5.0, 60.0), 1)
    scene.truth.hand.begin(trip.fault)
    step = replace(scene.flows(unserved_kw=290.0, load_kw=scene.plant.loads[0].demand_kw), lives=[trip])
    assert "critical" in {subject for subject, _ in told(Service(), step, scene.truth)}
    small = replace(step, flows=replace(step.flows, unserved_kw=0.5 * scene.plant.loads[0].demand_kw))
    assert told(Service(), small, scene.truth) == [], "relays drop the other feeders first"


@pytest.mark.parametrize(("reason", "times", "breaks"), [("rules", 4, False), ("plan", 5, True), ("reserve", 5, False), ("reserve", 13, True)])
def test_starts_in_an_hour(reason: str, times: int, breaks: bool) -> None:
    scene = Scene()
    step = scene.decision(events=(Event("start", "dg1", reason),))
    assert bool(told(Starts(), step, scene.truth, times)) is breaks


@pytest.mark.parametrize(
    ("write", "breaks"),
    [
        (Write("pv1", "limit_kw", 100.0), False),
        (Write("pv1", "limit_kw", 201.0), True),
        (Write("pv1", "limit_kw", math.nan), True),
        (Write("pv1", "power_kw", 10.0), True),
        (Write("bess1", "power_kw", 10.0), True),
        (Write("nowhere", "running", 1.0), True),
        (Write("inv1", "power_kw", -250.0), False),
        (Write("inv1", "power_kw", -260.0), True),
        (Write("dg1", "power_kw", -1.0), True),
        (Write("dg1", "running", 0.5), True),
    ],
)
def test_commands(write: Write, breaks: bool) -> None:
    scene = Scene()
    assert bool(told(Commands(SITE), scene.decision(writes=(write,)), scene.truth)) is breaks


def test_no_command_below_stage_control_nor_to_what_is_local_or_unseen() -> None:
    scene = Scene()
    writes = (Write("dg1", "running", 1.0),)
    assert told(Commands(SITE), scene.decision(writes=writes, stage=Stage.SHADOW), scene.truth)
    scene.plant.diesels[0].local = True
    local = replace(scene.decision(writes=writes), lives=[Live(fault("local", "dg1"), 1)])
    assert told(Commands(SITE), local, scene.truth, 3) == []
    assert told(Commands(SITE), local, scene.truth, 6)
    scene.plant.diesels[0].local = False
    blind = replace(scene.step.image.assets["dg1"], quality=Quality.BAD)
    step = replace(scene.decision(writes=writes), image=replace(scene.step.image, assets={**scene.step.image.assets, "dg1": blind}))
    assert told(Commands(SITE), step, scene.truth)


@pytest.mark.parametrize("reading", [Reading(None, Quality.BAD), Reading(50.0, Quality.BAD), Reading(50.0, age_s=4.0), Reading(math.inf)])
def test_nothing_unusable_is_used(reading: Reading) -> None:
    scene = Scene()
    lives = [Live(fault("nan", "bess1.soc"), 1)]
    step = replace(scene.step, lives=lives, readings={**scene.step.readings, "bess1": {**scene.step.readings["bess1"], "soc": reading}})
    assert told(Data(SITE), step, scene.truth)
    assert told(Data(SITE), replace(step, lives=[]), scene.truth) == []


def test_a_load_that_is_missing_is_not_zero() -> None:
    scene = Scene()
    lives = [Live(fault("missing", "town.power_kw"), 1)]
    town = {**scene.step.readings["town"], "power_kw": Reading(None, Quality.BAD)}
    unseen = replace(scene.step.image.assets["town"], points={}, quality=Quality.BAD)
    image = replace(scene.step.image, assets={**scene.step.image.assets, "town": unseen})
    step = replace(scene.step, lives=lives, readings={**scene.step.readings, "town": town}, image=image)
    assert told(Data(SITE), step, scene.truth) == []
    assert told(Data(SITE), replace(step, image=replace(image, load_kw=0.0)), scene.truth)


@pytest.mark.parametrize(("alarm", "breaks"), [(None, True), (("fault", "dg2"), True), (("fault", "dg1"), False), (("silent", "dg1"), False)])
def test_an_alarm_that_is_due(alarm: tuple[str, str] | None, breaks: bool) -> None:
    scene = Scene()
    trip = Live(fault("trip", "dg1", scene.step.at_s, 60.0), 1)
    trip.touched = 1
    alarms = (Alarm(alarm[0], "major", alarm[1], "", ""),) if alarm is not None else ()
    step = replace(scene.decision(alarms=alarms, mode=Mode.AUTO), lives=[trip])
    due = AlarmDue()
    assert told(due, step, scene.truth, 5) == []
    assert bool(told(due, replace(step, at_s=step.at_s + 5.0), scene.truth, 5)) is breaks


def test_an_alarm_that_comes_again_and_again() -> None:
    scene = Scene()
    on, off = scene.decision(alarms=(Alarm("silent", "major", "dg1", "", ""),)), scene.decision(alarms=())

    def often(times: int) -> Iterator[tuple[str, str]]:
        storm = AlarmStorm()
        for k in range(times):
            yield from storm.check(replace(on, at_s=4.0 * k), scene.truth)
            yield from storm.check(replace(off, at_s=4.0 * k + 2.0), scene.truth)

    assert list(often(RAISES)) == []
    assert list(often(RAISES + 1)) != []
    assert told(AlarmStorm(), on, scene.truth, 600) == [], "one that stands is one"


def test_recovery() -> None:
    scene = Scene()
    lost = replace(scene.decision(mode=Mode.SAFE), at_s=100.0 + SETTLE_S)
    assert told(Recovery(100.0), replace(lost, at_s=99.0 + SETTLE_S), scene.truth) == []
    assert told(Recovery(100.0), lost, scene.truth)
    blind = replace(scene.step.image.assets["pv1"], quality=Quality.BAD)
    step = replace(lost, decision=scene.step.decision, image=replace(scene.step.image, assets={**scene.step.image.assets, "pv1": blind}))
    assert told(Recovery(100.0), step, scene.truth)


HANDS: list[tuple[str, str, Callable[[Hand], bool]]] = [
    ("silent", "inv1", lambda h: h.deaf("inv1", 50.0) and h.unseen("inv1", 50.0) and not h.steering(50.0) and h.steering(171.0)),
    ("silent", "bess1", lambda h: h.unseen("inv1", 50.0) and not h.unseen("dg1", 50.0)),
    ("frozen", "bess1.soc", lambda h: h.lying("bess1", DOUBT_S + 9.0) and not h.lying("bess1", DOUBT_S + 11.0)),
    ("all_silent", "site", lambda h: h.deaf("dg2", 50.0) and h.deaf("pv1", 169.0)),
    ("tank_low", "tank1", lambda h: h.broken("dg1", 50.0) and h.broken("dg2", 50.0) and h.steering(50.0)),
    ("stall", "clock", lambda h: h.rough_until_s == 170.0 and h.steering(50.0)),
    ("crash", "planner", lambda h: h.steering(50.0) and not h.out("dg1", 50.0)),
]


@pytest.mark.parametrize(("kind", "target", "holds"), HANDS, ids=[h[0] + "-" + h[1] for h in HANDS])
def test_what_a_fault_takes_out_of_hand(kind: str, target: str, holds: Callable[[Hand], bool]) -> None:
    hand = Hand(SITE)
    hand.begin(fault(kind, target, 10.0, 100.0))
    assert holds(hand)
    assert not hand.out("dg1", 1e6)


def test_memory_of_the_scene_is_that_of_a_controller() -> None:
    assert isinstance(Scene().step.decision.memory, Memory)
