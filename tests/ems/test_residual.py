"""What the leader's power teaches: a small difference is learned, a leader that does the opposite of what the frequency asks is led no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.controller import Controller
from ems.decision import Decision
from ems.memory import Expected, Memory, UnitMemory
from ems.model import GOOD, SUSPECT, Doubt, Flaw
from ems.residual import AGAIN_S, AGAINST_S, MOST_SHARE, Residual
from ems.terms import Mode, Phase
from tests.ems.island import diesel, inverter, points, site, telemetry

RUNNING = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, started_s=-9000.0), "dg2": UnitMemory(Phase.ONLINE, -9000.0, started_s=-9000.0)}
AUTO = Memory(mode=Mode.AUTO, units=RUNNING, setpoints={"pv1": 300.0, "inv1": -2.0, "dg2": 80.0})
LOAD_KW = 300.0
QUIET_KW = 222.0
"""What dg1 gives of it beside 80 of dg2 and the -2 of inv1 [kW]."""


def after(seconds: int, dg1_kw: float, hz: float, before_s: int = 20) -> list[Decision]:
    """Return the decisions of a while in which `dg1`, which leads, gives so much at this frequency, after some quiet seconds."""
    controller, memory, found = Controller(site(), policy="load-following"), AUTO, []
    for k in range(before_s + seconds):
        lead, at = (QUIET_KW, 50.0) if k < before_s else (dg1_kw, hz)
        left = (QUIET_KW - lead) / 182.0  # what it leaves to the others: 82 of 182 kW to dg2, 100 to inv1
        told = telemetry(
            k,
            town=points(power_kw=LOAD_KW),
            dg1=diesel(lead, frequency_hz=at),
            dg2=diesel(80.0 + 82.0 * left, frequency_hz=at),
            inv1=inverter(-2.0 + 100.0 * left, frequency_hz=at),
        )
        decision = controller.step(told, (), None, memory)[1]
        memory = decision.memory
        found.append(decision)
    return found[before_s:]


def test_what_was_learned_from_others_on_their_way_is_soon_forgotten() -> None:
    """PV rises slowly to its limit, so the leader gives more than expected; once it is there the leader must not stay under its minimum for a minute."""
    rule, image = Residual(site()), Controller(site()).step(telemetry(0, dg1=diesel(300.0)), (), None, AUTO)[0]
    learned: list[float] = []
    for off_kw, seconds in ((25.0, 60), (-25.0, 30)):
        for _ in range(seconds):
            bias = learned[-1] if learned else 0.0
            now = replace(image, now_s=1e6, assets={**image.assets, "dg1": replace(image.assets["dg1"], points={"power_kw": 300.0 + off_kw})})
            found = rule.learned(now, replace(AUTO, expected=Expected("dg1", 300.0, 0.0, bias)))
            assert found is not None
            learned.append(found.bias_kw)
    assert learned[59] == pytest.approx(MOST_SHARE * 300.0)
    assert learned[59 + 15] == pytest.approx(0.0, abs=6.0)  # 90 kW at 25 kW in 4 s
    assert learned[-1] < 0.0


def test_nothing_is_learned_from_a_reading_that_its_device_calls_uncertain() -> None:
    image = Controller(site()).step(telemetry(0, dg1=diesel(320.0)), (), None, AUTO)[0]
    memory = replace(AUTO, expected=Expected("dg1", 300.0, -100.0))
    sure, unsure = (replace(image, assets={**image.assets, "dg1": replace(image.assets["dg1"], quality=q)}) for q in (GOOD, SUSPECT))
    learned = [Residual(site()).learned(i, memory) for i in (sure, unsure)]
    assert [e is not None and e.bias_kw > 0.0 for e in learned] == [True, False]


def test_what_the_balance_implies_of_a_leader_teaches_as_its_meter_would() -> None:
    """Its meter's sign is turned and PV gives 25 kW more than it says is there: the leader, 25 kW below what was expected, is not left there."""
    controller, learned = Controller(site(), policy="load-following"), list[float]()
    for lies in (1.0, -1.0):
        memory = AUTO
        for k in range(60):
            told = telemetry(
                k,
                town=points(power_kw=LOAD_KW),
                pv1=points(power_kw=65.0, available_kw=40.0),
                dg1=diesel(lies * 157.0),
                dg2=diesel(80.0),
            )
            image, decision = controller.step(told, (), None, memory)
            memory = replace(decision.memory, expected=replace(decision.memory.expected, power_kw=182.0) if decision.memory.expected else None)
        assert image.assets["dg1"].power_kw == pytest.approx(157.0)
        assert memory.expected is not None
        learned.append(memory.expected.bias_kw)
    assert learned[0] < -25.0
    assert learned[1] == pytest.approx(learned[0])


def test_nothing_is_learned_from_the_last_power_that_was_believed() -> None:
    image = Controller(site()).step(telemetry(0, dg1=diesel(320.0)), (), None, AUTO)[0]
    memory = replace(AUTO, expected=Expected("dg1", 300.0, -100.0))
    replaced = replace(image.assets["dg1"], quality=SUSPECT, suspect=("power_kw",))
    found = {}
    for source in ("balance", "last"):
        doubt = Doubt("dg1", "power_kw", Flaw.RANGE, 0.0, -320.0, 320.0, source)
        learned = Residual(site()).learned(replace(image, assets={**image.assets, "dg1": replaced}, doubts=(doubt,)), memory)
        found[source] = learned is not None and learned.bias_kw > 0.0
    assert found == {"balance": True, "last": False}


@pytest.mark.parametrize(
    ("leader", "phase", "for_s", "learns"),
    [
        ("dg2", Phase.ONLINE, 600.0, True),
        ("dg2", Phase.UNLOADING, 15.0, False),  # 200 kW at 10 kW/s: it comes down its ramp, and gives more than its reference meanwhile
        ("dg2", Phase.UNLOADING, 31.0, True),  # it has had its ramp and 10 s: now somebody leaves it load
        ("dg2", Phase.ONLINE, 5.0, False),  # just called back: it goes up again
        ("dg1", Phase.UNLOADING, 5.0, True),  # it takes no reference: what it keeps, the others have left to it
    ],
)
def test_a_set_that_moves_along_its_ramp_teaches_nothing(leader: str, phase: Phase, for_s: float, learns: bool) -> None:
    image = Controller(site()).step(telemetry(0, dg1=diesel(60.0), dg2=diesel(60.0)), (), None, AUTO)[0]
    units = {**RUNNING, leader: UnitMemory(phase, image.now_s - for_s, started_s=-9000.0)}
    found = Residual(site()).learned(image, replace(AUTO, units=units, expected=Expected(leader, 30.0, image.now_s - 600.0)))
    assert found is not None
    assert found.bias_kw == pytest.approx(3.0 if learns else 0.0)


def codes(decision: Decision) -> set[tuple[str, str | None]]:
    return {(a.code, a.asset) for a in decision.alarms}


def test_a_leader_that_unloads_while_the_frequency_is_low_is_led_by_another() -> None:
    decisions = after(int(AGAINST_S) + 5, 40.0, 49.8)
    assert decisions[0].leader == "dg1"
    assert decisions[-1].leader == "dg2"
    assert ("astray", "dg1") in codes(decisions[-1])
    assert decisions[-1].assets["dg2"].setpoint_kw is None  # it takes the residual now


@pytest.mark.parametrize(
    ("dg1_kw", "hz"),
    [
        (40.0, 50.0),  # somebody else gives more than told: the frequency is well, and the leader makes room
        (40.0, 50.2),  # low because the frequency is high: it does what it should
        (200.0, 49.8),  # within what is learned
    ],
)
def test_a_leader_that_answers_the_frequency_goes_on_leading(dg1_kw: float, hz: float) -> None:
    assert {d.leader for d in after(int(AGAINST_S) + 30, dg1_kw, hz)} == {"dg1"}


def test_it_may_lead_again_after_a_while_or_once_it_has_been_off_the_bus() -> None:
    controller = Controller(site(), policy="load-following")
    told = telemetry(0, town=points(power_kw=LOAD_KW), dg1=diesel(220.0), dg2=diesel(80.0))
    for since_s, leads in ((-AGAIN_S / 2.0, "dg2"), (-AGAIN_S - 1.0, "dg1")):
        memory = replace(AUTO, unled={"dg1": since_s})
        memory = controller.step(told, (), None, memory)[1].memory
        assert controller.step(replace(told, now_s=told.now_s + 1.0), (), None, memory)[1].leader == leads
    off = replace(AUTO, unled={"dg1": -1.0}, units={**RUNNING, "dg1": UnitMemory(Phase.OFF, -9.0)})
    gone = telemetry(0, town=points(power_kw=80.0), dg1=diesel(), dg2=diesel(80.0))
    assert "dg1" not in controller.step(gone, (), None, off)[1].memory.unled


def test_a_leader_that_cannot_be_read_is_not_held_to_be_against() -> None:
    """It went against the frequency for 29 s and was unread for an hour: once it is seen again its time begins anew."""
    rule, image = Residual(site()), Controller(site()).step(telemetry(0, dg1=diesel(300.0)), (), None, AUTO)[0]
    unread = replace(image, now_s=1e6, assets={**image.assets, "dg1": replace(image.assets["dg1"], points={})})
    found = rule.learned(unread, replace(AUTO, expected=Expected("dg1", 300.0, 0.0, 5.0, 1e6 - AGAINST_S + 1.0)))
    assert found == Expected("dg1", 300.0, 0.0, 5.0)


def test_a_set_whose_switch_says_open_counts_as_far_as_it_shows_power() -> None:
    """A breaker's switch that lies: the others make room for what the set gives, and the leader is not left at nothing."""
    off = replace(AUTO, units={**RUNNING, "dg2": UnitMemory(Phase.OFF, -9000.0)})
    told = telemetry(0, town=points(power_kw=LOAD_KW), dg1=diesel(220.0), dg2=diesel(80.0, breaker_closed=0.0), inv1=inverter(-2.0))
    expected = Controller(site(), policy="load-following").step(told, (), None, off)[1].memory.expected
    assert expected is not None
    assert (expected.leader, expected.power_kw) == ("dg1", pytest.approx(LOAD_KW + 2.0 - 80.0, abs=1.0))
