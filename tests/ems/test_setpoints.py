"""The last look: a value that may not go out is dropped, told, and never clipped."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ems.controller import Controller
from ems.decision import AssetDecision, Event, Write
from ems.dispatch import Shares, Situation
from ems.guards import Bound
from ems.image import ImageBuilder
from ems.memory import Memory, UnitMemory
from ems.setpoints import Setpoints
from ems.terms import Explanation, Mode, Phase, Reason
from tests.ems.island import diesel, points, site, telemetry

SITE = site()
MEMORY = Memory(mode=Mode.AUTO, setpoints={"inv1": -2.0, "pv1": 300.0})
WHY = Explanation(Reason.RULES)
SITUATION = Situation(
    demand_kw=200.0,
    solar_kw={"pv1": 100.0},
    hydro_kw={},
    fixed_kw={},
    bounds={"pv1": Bound(0.0, 120.0), "dg1": Bound(90.0, 300.0), "dg2": Bound(60.0, 150.0), "inv1": Bound(-50.0, 80.0)},
    inverters=("inv1",),
    unloading={},
)


def looked(
    unit: str, value: float, memory: Memory = MEMORY, leader: str | None = "dg1", unloading: dict[str, float] | None = None
) -> tuple[set[Write], tuple[Event, ...]]:
    """Return the powers written and the events, with one unit at a value and all others at harmless ones."""
    image = ImageBuilder(SITE).build(telemetry(0, dg1=diesel(150.0), dg2=diesel(80.0)), memory)
    powers = {"pv1": 100.0, "dg1": 150.0, "dg2": 80.0, "inv1": 0.0} | {unit: value}
    decided = {u: AssetDecision(p if u != leader else None, True, WHY) for u, p in powers.items()}
    situation = replace(SITUATION, unloading=unloading or {})
    writes, events = Setpoints(SITE).writes(image, memory, situation, decided, leader, Shares(powers, 0.0, 0.0, 0.0))
    return {w for w in writes if w.asset == unit and w.command in ("power_kw", "limit_kw")}, events


@pytest.mark.parametrize(
    ("unit", "command", "value", "why"),
    [
        ("pv1", "limit_kw", math.nan, "nan: not a finite number"),
        ("inv1", "power_kw", math.inf, "inf: not a finite number"),
        ("inv1", "power_kw", 90.0, "90: outside -50.0..80.0 kW"),  # inside the rating, outside the bound
        ("inv1", "power_kw", -60.0, "-60: outside -50.0..80.0 kW"),
        ("pv1", "limit_kw", 200.0, "200: outside 0.0..120.0 kW"),
        ("dg2", "power_kw", 180.0, "180: outside 0.0..150.0 kW"),
    ],
)
def test_a_follower_outside_its_bound_is_not_written_and_told(unit: str, command: str, value: float, why: str) -> None:
    assert looked(unit, value) == (set(), (Event("write_refused", unit, f"{command} {why}"),))


def test_inside_the_bound_all_goes_out() -> None:
    assert looked("inv1", 80.0) == ({Write("inv1", "power_kw", 80.0)}, ())
    assert looked("dg2", 40.0) == ({Write("dg2", "power_kw", 40.0)}, ()), "too little load is accepted under the minimum loading"


def test_a_leader_a_first_cycle_and_a_set_on_its_way_off_may_be_anywhere_in_the_rating() -> None:
    assert looked("dg2", 180.0, leader="dg2") == ({Write("dg2", "power_kw", 180.0)}, ())
    assert looked("inv1", 90.0, memory=Memory(mode=Mode.AUTO)) == ({Write("inv1", "power_kw", 90.0)}, ())
    assert looked("dg2", 180.0, unloading={"dg2": 180.0}) == ({Write("dg2", "power_kw", 180.0)}, ())
    assert looked("dg2", 230.0, leader="dg2")[1] == (Event("write_refused", "dg2", "power_kw 230: outside 0.0..200.0 kW"),)


def test_the_decision_tells_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Setpoints, "_trimmed", lambda *args: math.nan)
    memory = replace(MEMORY, units={"dg1": UnitMemory(Phase.ONLINE, -9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)})
    decision = Controller(SITE, policy="load-following").step(telemetry(1), (), None, memory)[1]
    assert [e for e in decision.events if e.kind == "write_refused"] == [Event("write_refused", "inv1", "power_kw nan: not a finite number")]
    assert {w.asset for w in decision.writes if w.command == "power_kw"} & {"inv1"} == set()
    assert "inv1" not in decision.memory.setpoints


def test_pv_that_draws_a_little_at_night_starts_with_a_limit_of_zero() -> None:
    decision = Controller(SITE, policy="load-following").step(telemetry(1, pv1=points(power_kw=-0.5, available_kw=0.0)), (), None, Memory(mode=Mode.AUTO))[1]
    assert Write("pv1", "limit_kw", 0.0) in decision.writes
    assert [e for e in decision.events if e.kind == "write_refused"] == []
