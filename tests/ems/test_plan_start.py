"""What a plan starts from: the plant's true state, and what persons and panels hold each unit to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ems.controller import Controller
from ems.decision import Decision
from ems.memory import Manual, Memory, UnitMemory
from ems.model import Image, Limits, Reading
from ems.plan_start import planned_limits, plant_start
from ems.terms import Mode, Phase
from tests.ems.island import START, diesel, inverter, points, site, telemetry

SITE = site()
UNITS = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, -9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}
AUTO = Memory(mode=Mode.AUTO, units=UNITS, setpoints={"inv1": -2.0, "pv1": 300.0})


def lived(now_s: float = 0.0, **assets: dict[str, Reading]) -> tuple[Image, Decision]:
    return Controller(SITE, policy="load-following").step(replace(telemetry(int(now_s), **assets), now_s=now_s), (), None, AUTO)


@pytest.mark.parametrize(
    ("unit", "more", "expected"),
    [
        (UnitMemory(Phase.ONLINE, 90.0, started_s=40.0), {}, (True, 60.0, True, False)),
        (UnitMemory(Phase.STARTING, 70.0), {}, (True, 0.0, True, True)),
        (UnitMemory(Phase.SYNCHRONISING, 70.0, started_s=-900.0), {}, (True, 0.0, True, True)),  # what it ran before this start counts for nothing
        (UnitMemory(Phase.OFF, 20.0), {}, (False, 80.0, True, False)),
        (UnitMemory(Phase.UNLOADING, 95.0, started_s=0.0), {}, (False, 5.0, True, True)),
        (UnitMemory(Phase.LOCKED, 50.0), {}, (False, 50.0, False, False)),
        (UnitMemory(Phase.OFF, 20.0), {"manual": {"dg2": Manual(run=False)}}, (False, 80.0, False, False)),
        (UnitMemory(Phase.OFF, 20.0), {"limits": {"dg2": Limits(out_of_service=True)}}, (False, 80.0, True, False)),  # the limit says so, and may end
        (None, {}, (False, 0.0, False, False)),
    ],
)
def test_a_plan_starts_from_what_each_diesel_really_does(unit: UnitMemory | None, more: dict[str, object], expected: tuple[bool, float, bool, bool]) -> None:
    image, _ = lived(100.0)
    units = {"dg1": UNITS["dg1"]} if unit is None else {"dg1": UNITS["dg1"], "dg2": unit}
    start = plant_start(SITE, image, replace(AUTO, units=units, **more)).diesels["dg2"]  # type: ignore[arg-type]
    assert (start.on, start.since_s, start.usable, start.frozen) == expected


@pytest.mark.parametrize(
    ("phase", "manual", "seen", "held"),
    [
        (Phase.ONLINE, {}, {}, False),
        (Phase.ONLINE, {}, {"remote": 0.0}, True),  # its own panel runs it: must-run (CONTROL 1.6)
        (Phase.OFF, {}, {"remote": 0.0}, False),
        (Phase.ONLINE, {"dg2": Manual(run=True)}, {}, True),
        (Phase.OFF, {"dg2": Manual(run=True)}, {}, True),  # it is on its way
        (Phase.ONLINE, {"dg2": Manual(run=False)}, {}, False),
    ],
)
def test_what_a_person_or_its_own_panel_runs_is_run_in_the_plan_too(phase: Phase, manual: dict[str, Manual], seen: dict[str, float], held: bool) -> None:
    image, _ = lived(100.0, dg2=diesel(**seen))
    memory = replace(AUTO, units={"dg1": UNITS["dg1"], "dg2": UnitMemory(phase, 20.0)}, manual=manual)
    assert plant_start(SITE, image, memory).diesels["dg2"].held is held


def test_a_set_in_local_is_started_by_nobody_and_goes_on_where_it_runs() -> None:
    image, _ = lived(100.0, dg2=diesel(remote=0.0))
    for phase, usable in ((Phase.OFF, False), (Phase.ONLINE, True)):
        memory = replace(AUTO, units={"dg1": UNITS["dg1"], "dg2": UnitMemory(phase, 20.0)})
        assert plant_start(SITE, image, memory).diesels["dg2"].usable is usable


def test_sun_and_river_in_local_are_reckoned_with_and_a_battery_is_not() -> None:
    image, decision = lived(pv1=points(power_kw=40.0, remote=0.0), inv1=inverter(remote=0.0))
    assert plant_start(SITE, image, decision.memory).usable == {"inv1": False}


@pytest.mark.parametrize(
    ("remote", "power_kw", "before", "expected"),
    [
        (1.0, 30.0, None, None),
        (1.0, 30.0, Limits(max_kw=40.0), Limits(max_kw=40.0)),
        (0.0, 30.0, None, Limits(max_kw=30.0, min_kw=30.0)),
        (0.0, 0.3, None, Limits(max_kw=0.0, min_kw=0.0)),  # its meter's noise: 10 kW turn it
        (0.0, 30.0, Limits(max_kw=20.0, reason="eels", expires_at=START), Limits(max_kw=30.0, min_kw=30.0, reason="eels")),
        (0.0, 30.0, Limits(out_of_service=True, expires_at=START), Limits(max_kw=30.0, min_kw=30.0)),
    ],
)
def test_a_turbine_that_its_own_panel_runs_is_planned_at_what_it_gives(remote: float, power_kw: float, before: Limits | None, expected: Limits | None) -> None:
    wet = site({"id": "h1", "kind": "hydro", "rated_kw": 50.0, "min_kw": 10.0})
    memory = replace(AUTO, limits={} if before is None else {"h1": before})
    image, _ = Controller(wet, policy="load-following").step(telemetry(0, h1=points(power_kw=power_kw, remote=remote)), (), None, memory)
    assert planned_limits(wet, image, memory).get("h1") == expected


def test_a_plan_starts_from_true_charge_and_leaves_out_what_is_not_there() -> None:
    image, decision = lived(bess1=points(soc=0.03), pv1={}, inv1=inverter(remote=0.0), dg2=diesel(ready=0.0))
    start = plant_start(SITE, image, decision.memory)
    assert start.soc == {"bess1": 0.03}
    assert start.usable == {"pv1": False, "inv1": False}
    assert not start.diesels["dg2"].usable
    blind, decision = lived(bess1={})
    assert plant_start(SITE, blind, decision.memory).soc == {}


def test_a_least_power_of_pv_that_was_ordered_once_binds_no_plan() -> None:
    memory = replace(AUTO, limits={"pv1": Limits(max_kw=200.0, min_kw=50.0), "dg1": Limits(min_kw=100.0)})
    image, _ = Controller(SITE, policy="load-following").step(telemetry(0), (), None, memory)
    assert planned_limits(SITE, image, memory) == {"pv1": Limits(max_kw=200.0), "dg1": Limits(min_kw=100.0)}


PLANT = site(
    {"id": "h1", "kind": "hydro", "rated_kw": 50.0, "min_kw": 10.0},
    {"id": "ice", "kind": "deferrable", "rated_kw": 20.0, "daily_kwh": 40.0},
    {
        "id": "dg3",
        "kind": "diesel",
        "rated_kw": 100.0,
        "forming": "never",
        "primary_response": False,
        "fuel": {"no_load_l_per_h": 4.0, "slope_l_per_kwh": 0.25},
    },
)
EELS = Limits(max_kw=20.0, reason="eels", expires_at=START)


@pytest.mark.parametrize(
    ("unit", "seen", "before", "expected"),
    [
        ("pv1", {"power_kw": 40.0}, None, Limits(min_kw=300.0)),  # all that comes
        ("pv1", {"power_kw": 40.0}, EELS, Limits(min_kw=300.0, reason="eels")),
        ("dg3", diesel(60.0), None, Limits(max_kw=60.0, min_kw=60.0)),  # no reserve is left of it
        ("dg3", diesel(5.0), None, Limits(max_kw=30.0, min_kw=30.0)),
        ("dg3", diesel(), Limits(out_of_service=True), Limits(max_kw=30.0, min_kw=30.0, out_of_service=True)),
        ("dg2", diesel(60.0), None, None),  # it reacts: its governor gives more or less
        ("dg3", {"power_kw": None}, None, None),
        ("inv1", {"power_kw": 30.0}, None, None),  # a plan leaves it out
    ],
)
def test_what_a_panel_runs_is_must_run(unit: str, seen: dict[str, Any], before: Limits | None, expected: Limits | None) -> None:
    told = {k: v.value if isinstance(v, Reading) else v for k, v in seen.items()}
    memory = replace(AUTO, limits={} if before is None else {unit: before})
    asked = telemetry(0, **{unit: points(**{**told, "remote": 0.0})})
    image, _ = Controller(PLANT, policy="load-following").step(asked, (), None, memory)
    assert planned_limits(PLANT, image, memory).get(unit) == expected


@pytest.mark.parametrize(
    ("unit", "order", "expected"),
    [
        ("pv1", Manual(power_kw=80.0), Limits(max_kw=80.0)),
        ("h1", Manual(run=False), Limits(out_of_service=True)),
        ("h1", Manual(run=True), None),
        ("h1", Manual(run=True, power_kw=30.0), Limits(max_kw=30.0, min_kw=30.0)),
        ("ice", Manual(run=False), Limits(out_of_service=True)),
        ("ice", Manual(run=True), None),
        ("inv1", Manual(run=False), Limits(out_of_service=True)),
        ("inv1", Manual(power_kw=50.0), None),
        ("dg2", Manual(run=False), None),  # said in the plant's state
        ("dg2", Manual(run=True, power_kw=150.0), Limits(max_kw=150.0, min_kw=150.0)),
        ("dg2", Manual(run=True, power_kw=10.0), Limits(max_kw=60.0, min_kw=60.0)),
    ],
)
def test_a_standing_order_binds_the_plan_as_it_binds_control(unit: str, order: Manual, expected: Limits | None) -> None:
    memory = replace(AUTO, manual={unit: order})
    image, _ = Controller(PLANT, policy="load-following").step(telemetry(0), (), None, memory)
    assert planned_limits(PLANT, image, memory).get(unit) == expected
    assert planned_limits(PLANT, image, replace(memory, all_manual=True)) == {}  # there a plan says what AUTO would do
