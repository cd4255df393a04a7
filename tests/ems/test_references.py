"""References of droop units are trimmed once in five seconds, turbines move along their ramp, a `break` inverter is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.controller import Controller
from ems.memory import Memory, UnitMemory
from ems.reserve import ReserveRule, Supply
from ems.terms import Mode, Phase
from tests.ems.island import diesel, inverter, points, site, telemetry

RESTED = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, started_s=-9000.0), "dg2": UnitMemory(Phase.ONLINE, -9000.0, started_s=-100.0)}
AUTO = Memory(mode=Mode.AUTO, units=RESTED, setpoints={"pv1": 300.0, "inv1": -2.0, "dg2": 80.0})


def moves(asset: str, memory: Memory, more: dict[str, object], loads: list[float], isle=None) -> list[float]:
    """Return what is written to a unit over some cycles, while the load changes every second."""
    controller, found = Controller(isle or site(), policy="load-following"), []
    for k, load in enumerate(loads):
        told = telemetry(k, town=points(power_kw=load), dg1=diesel(load - 80.0), dg2=diesel(80.0), **more)  # type: ignore[arg-type]
        decision = controller.step(told, (), None, memory)[1]
        memory = decision.memory
        found += [w.value for w in decision.writes if (w.asset, w.command) == (asset, "power_kw")]
    return found


@pytest.mark.parametrize("asset", ["dg2", "inv1"])
def test_a_droop_reference_moves_once_in_five_seconds(asset: str) -> None:
    written = moves(asset, AUTO, {}, [300.0 + 9.0 * k for k in range(20)])
    changes = [k for k in range(1, len(written)) if abs(written[k] - written[k - 1]) > 1e-9]
    assert all(b - a >= 5 for a, b in zip(changes, changes[1:], strict=False)), changes
    assert len(written) == 20


def test_a_droop_leader_is_trimmed_as_well() -> None:
    """The battery alone holds the bus: what is expected of it is written as its droop reference, not every second."""
    off = {d: UnitMemory(Phase.OFF, -9000.0) for d in ("dg1", "dg2")}
    memory, controller, written = replace(AUTO, units=off), Controller(site(), policy="load-following"), []
    for k in range(16):
        told = telemetry(k, town=points(power_kw=100.0 + k), dg1=diesel(), dg2=diesel(), inv1=inverter(100.0 + k), bess1=points(soc=0.8))
        decision = controller.step(told, (), None, memory)[1]
        assert decision.leader == "inv1"
        memory = decision.memory
        written += [w.value for w in decision.writes if (w.asset, w.command) == ("inv1", "power_kw")]
    assert len(set(written)) <= 4


def test_a_turbine_moves_along_its_ramp() -> None:
    wet = site({"id": "h1", "kind": "hydro", "rated_kw": 90.0, "min_kw": 10.0, "ramp_kw_per_s": 3.0})
    memory = replace(AUTO, setpoints={**AUTO.setpoints, "h1": 20.0})
    controller, written = Controller(wet, policy="load-following"), []
    for k in range(8):
        told = telemetry(k, town=points(power_kw=400.0), dg1=diesel(220.0), dg2=diesel(100.0), h1=points(power_kw=20.0, running=1.0, flow_m3s=0.38))
        decision = controller.step(told, (), None, memory)[1]
        memory = decision.memory
        written += [w.value for w in decision.writes if (w.asset, w.command) == ("h1", "power_kw")]
    assert written[0] == pytest.approx(23.0)
    assert all(b - a <= 3.0 + 1e-9 for a, b in zip(written, written[1:], strict=False))
    assert written[-1] > 40.0


@pytest.mark.parametrize(("handover", "told"), [("seamless", True), ("break", False)])
def test_an_inverter_that_must_stop_to_change_is_not_told_to_form(handover: str, told: bool) -> None:
    broken = {"id": "inv1", "kind": "inverter", "rated_kw": 250.0, "forming": "droop", "handover": handover}
    isle = site(broken, drop=("inv1",))
    decision = Controller(isle, policy="load-following").step(telemetry(1, inv1=inverter(forming=0.0)), (), None, AUTO)[1]
    assert (("inv1", "forming", 1.0) in [(w.asset, w.command, w.value) for w in decision.writes]) is told


@pytest.mark.parametrize(("response", "counts"), [(True, True), (False, False)])
def test_a_unit_in_local_counts_as_reserve_only_if_it_reacts_by_itself(response: bool, counts: bool) -> None:
    own = {"id": "dg3", "kind": "diesel", "rated_kw": 200.0, "forming": "droop", "primary_response": response}
    rule = ReserveRule(site(own))
    supply = Supply({"dg1": 150.0, "dg3": 100.0}, ("dg1", "dg3"), {}, local=("dg3",))
    assert ("dg3" in rule.headroom_kw(supply)[0]) is counts
    assert "dg3" in rule.headroom_kw(replace(supply, local=()))[0]


def test_a_diesel_that_is_not_seen_holds_the_bus_and_adds_nothing() -> None:
    rule = ReserveRule(site())
    supply = Supply({"dg1": 150.0, "dg2": 80.0}, ("dg1", "dg2"), {}, mute=("dg1",))
    assert set(rule.headroom_kw(supply)[0]) == {"dg2"}
    assert rule.formers(supply) == ("dg1", "dg2")
