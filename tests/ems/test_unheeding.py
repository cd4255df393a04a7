"""Who does not do as told, or stands behind its open breaker: what is seen of it counts, what was hoped for does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.memory import Manual, UnitMemory
from ems.terms import Phase
from tests.ems.island import diesel, inverter, points, telemetry
from tests.ems.test_controller import AUTO, RESTED, decide, written


def test_an_inverter_behind_its_open_breaker_is_no_reserve_and_takes_no_share() -> None:
    """Alone, dg1 gives the load's 200 of its 300 kW: 100 are left, and none of the 250 of an inverter that idles at 50 Hz behind its breaker."""
    open_, closed = (decide(telemetry(inv1=inverter(0.0, breaker_closed=b)), replace(AUTO, units=RESTED)) for b in (0.0, 1.0))
    assert (open_.formers, closed.formers) == (("dg1",), ("dg1", "inv1"))
    assert open_.reserve.available_kw <= 100.0 < closed.reserve.available_kw
    assert not [w for w in open_.writes if w.asset == "inv1"]
    assert ("breaker_open", "inv1") in {(a.code, a.asset) for a in open_.alarms}


def test_who_does_not_follow_is_counted_as_it_is_seen_and_told_all_the_same() -> None:
    """320 kW beside dg2, which stands at 70 kW whatever it is told: dg1 is seen to carry 252, and its loss is judged by that.

    Followed, dg2 would have two fifths of the 322 kW that the two carry: that it goes on being told.
    """
    both = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, started_s=-9000.0), "dg2": UnitMemory(Phase.ONLINE, -9000.0, started_s=-9000.0)}
    memory = replace(AUTO, units=both, manual={"dg2": Manual(run=True)}, setpoints={**AUTO.setpoints, "dg2": 128.8}, astray={"dg2": -60.0})
    told = telemetry(5, town=points(power_kw=320.0), dg1=diesel(252.0), dg2=diesel(70.0), bess1=points(soc=0.5))
    decision = decide(told, memory)
    assert (decision.leader, decision.reserve.contingency) == ("dg1", "loss of dg1")
    assert (decision.reserve.required_kw, decision.reserve.available_kw) == (pytest.approx(252.0), pytest.approx(243.75))
    assert written(decision)[("dg2", "power_kw")] == pytest.approx(0.4 * 322.0)
    assert decision.memory.astray == {"dg2": -60.0}  # until it is seen at its setpoint
    followed = telemetry(5, town=points(power_kw=320.0), dg1=diesel(194.0), dg2=diesel(128.0))
    assert decide(followed, memory).memory.astray == {}


def test_an_inverter_that_does_not_follow_is_no_reserve() -> None:
    """Told to give 60 kW it charges with 60: dg1 carries 260, and nobody is sure to take that up."""
    memory = replace(AUTO, units=RESTED, setpoints={**AUTO.setpoints, "inv1": 60.0}, astray={"inv1": -60.0})
    decision = decide(telemetry(5, dg1=diesel(260.0), inv1=inverter(-60.0), dg2=diesel(ready=0.0)), memory)
    assert decision.leader == "dg1"
    assert (decision.reserve.required_kw, decision.reserve.available_kw, decision.reserve.contingency) == (pytest.approx(260.0), 0.0, "loss of dg1")
    assert ("inv1", "power_kw") in written(decision)
    assert ("astray", "inv1") in {(a.code, a.asset) for a in decision.alarms}
