"""One alarm per cause, in both languages, and none on a quiet day."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ems.alarms import waiting_orders
from ems.controller import Controller
from ems.decision import AssetDecision, Decision
from ems.memory import Manual, Memory, UnitMemory
from ems.model import Limits, Reading
from ems.terms import Explanation, Mode, Phase, Reason, Stage
from tests.ems.island import diesel, inverter, points, site, telemetry

RESTED = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, -9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}
AUTO = Memory(mode=Mode.AUTO, units=RESTED, setpoints={"inv1": -2.0, "pv1": 300.0})


def decide(memory: Memory = AUTO, policy: str = "load-following", **assets: dict[str, Reading]) -> Decision:
    return Controller(site(), policy=policy).step(telemetry(60, **assets), (), None, memory)[1]


def causes(decision: Decision) -> list[tuple[str, str | None]]:
    return [(a.code, a.asset) for a in decision.alarms]


@pytest.mark.parametrize(
    ("cause", "en", "ja"),
    [
        ("order_waits_former", "without inv1 nobody would hold the bus", "inv1 がないと母線を形成する機器がありません"),
        ("order_waits_load", "nobody else can carry 304 kW of the load now", "負荷のうち 304 kW を担える他機がありません"),
        ("order_waits_reserve", "without inv1 the reserve would be short by 304 kW", "inv1 がないと予備力が 304 kW 不足します"),
    ],
)
def test_an_order_that_waits_says_what_for(cause: str, en: str, ja: str) -> None:
    decision = decide(replace(AUTO, limits={"inv1": Limits(max_kw=50.0)}))
    waits = Explanation(Reason.FORMING, (cause,), {"order_kw": "304"})
    (found,) = waiting_orders(replace(decision, assets={**decision.assets, "inv1": AssetDecision(None, True, waits)}))
    assert (found.code, found.severity, found.asset) == ("order_waits", "warning", "inv1")
    assert found.en == f"the order for inv1 waits: {en}; it is obeyed as soon as others can do that"
    assert found.ja == f"inv1 への指示は待機中：{ja}。他機が担え次第実行します"
    assert waiting_orders(decision) == []


def test_a_quiet_island_has_none() -> None:
    assert causes(decide()) == []


@pytest.mark.parametrize(
    ("assets", "expected"),
    [
        ({"pv1": {}}, [("silent", "pv1")]),
        ({"bess1": {}}, [("silent", "bess1")]),
        ({"bess1": points(soc=None)}, [("silent", "bess1")]),
        ({"bess1": points(soc=None, charge_limit_kw=200.0)}, [("soc_unknown", "bess1")]),  # it answers, but not with its charge
        ({"bess1": points(soc=7.0, charge_limit_kw=200.0)}, [("soc_unknown", "bess1")]),
        ({"dg2": diesel(fault=3.0)}, [("fault", "dg2")]),
        ({"dg2": diesel(estop=1.0)}, [("estop", "dg2")]),
        ({"dg2": diesel(estop=1.0, fault=3.0)}, [("fault", "dg2"), ("estop", "dg2")]),
        ({"town": {}, "pv1": {}}, [("silent", "town"), ("silent", "pv1"), ("load_unknown", None)]),
        ({"town": {}}, [("silent", "town")]),  # the sources tell the load
        ({"dg1": diesel(202.0, reactive_kvar=9999.0)}, [("refused", "dg1")]),
        ({"dg1": diesel(202.0, reactive_kvar=9999.0, frequency_hz=500.0)}, [("refused", "dg1")]),
        ({"inv1": inverter(0.0, breaker_closed=0.0)}, [("breaker_open", "inv1")]),
        ({"inv1": inverter(0.0, running=0.0, forming=0.0, breaker_closed=0.0)}, []),  # it was stopped, as stopped ones stand
        ({"inv1": inverter(-2.0, breaker_closed=1.0)}, []),
        ({"dg1": diesel(9999.0)}, [("doubt", "dg1")]),  # of a power doubt speaks
    ],
)
def test_devices(assets: dict[str, dict[str, Reading]], expected: list[tuple[str, str | None]]) -> None:
    assert causes(decide(**assets)) == expected


@pytest.mark.parametrize(
    ("memory", "more", "expected"),
    [
        ({"units": {**RESTED, "dg2": UnitMemory(Phase.LOCKED, -60.0)}}, {}, ("locked", "dg2")),
        ({"units": {**RESTED, "dg1": UnitMemory(Phase.ONLINE, -60.0, -60.0, locked=True)}}, {}, ("locked", "dg1")),  # run by hand meanwhile
        ({"astray": {"inv1": 0.0}}, {"inv1": inverter(90.0), "dg1": diesel(110.0)}, ("astray", "inv1")),
        ({"stopped": True}, {}, ("safe", None)),
        ({}, {"policy": "mpc"}, ("no_plan", None)),
        ({"mode": Mode.START}, {"dg1": diesel(), "inv1": inverter(running=0.0)}, ("start_waits", None)),
        ({"units": {**RESTED, "dg1": UnitMemory(Phase.OFF, -9000.0)}}, {"dg1": diesel(), "inv1": inverter(200.0, running=0.0)}, ("no_former", None)),
        ({}, {"bess1": points(soc=0.12), "dg2": diesel(ready=0.0)}, ("reserve_short", None)),
        ({"units": {**RESTED, "dg1": UnitMemory(Phase.ONLINE, -9.0, -9000.0, held_until_s=200.0)}}, {}, ("hand_over_failed", "dg1")),
        ({}, {"dg1": diesel(202.0, run_h=1480.0)}, ("service_due", "dg1")),
        ({}, {"dg1": diesel(202.0, run_h=1500.1)}, ("service_due", "dg1")),
        ({"volts_off_s": -20.0}, {"inv1": inverter(voltage_v=440.5)}, ("voltage", None)),
        (
            {"units": {"dg1": UnitMemory(Phase.LOCKED, -60.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}},
            {"dg1": diesel(), "dg2": diesel(ready=0.0), "inv1": inverter(200.0)},
            ("no_diesel", None),
        ),
    ],
)
def test_units_and_island(memory: dict[str, Any], more: dict[str, Any], expected: tuple[str, str | None]) -> None:
    assert causes(decide(replace(AUTO, **memory), **more)).count(expected) == 1


@pytest.mark.parametrize(
    ("memory", "more", "code"),
    [
        ({}, {"dg1": diesel(202.0, run_h=1470.0)}, "service_due"),
        ({}, {"dg1": diesel(202.0, run_h=1525.0)}, "service_due"),
        ({"volts_off_s": 95.0}, {"inv1": inverter(voltage_v=440.5)}, "voltage"),
        ({"volts_off_s": -20.0}, {"inv1": inverter(voltage_v=439.5)}, "voltage"),
        ({}, {}, "no_diesel"),
        ({"units": {**RESTED, "dg1": UnitMemory(Phase.ONLINE, -9.0, -9000.0, held_until_s=-1.0)}}, {}, "hand_over_failed"),
    ],
)
def test_and_not_before_there_is_a_cause(memory: dict[str, Any], more: dict[str, Any], code: str) -> None:
    assert code not in {a for a, _ in causes(decide(replace(AUTO, **memory), **more))}


def test_a_cause_that_comes_and_goes_is_one_alarm() -> None:
    """A device answers every third second: it is one alarm from the first cycle to ten seconds after the last."""
    controller, memory, active = Controller(site(), policy="load-following"), AUTO, []
    for k in range(60, 110):
        told = telemetry(k, **({"sky": {}} | ({} if k % 3 == 0 or k > 90 else {"dg2": {}})))
        _, decision = controller.step(told, (), None, memory)
        memory = decision.memory
        active.append(("silent", "dg2") in causes(decision))
    begun = active.index(True)
    assert active[begun : begun + 36] == [True] * 36 and begun <= 2
    assert not any(active[45:])


def test_every_alarm_speaks_both_languages_and_names_its_asset() -> None:
    silent = decide(town={}, pv1={}, dg1=diesel(150.0, fault=2.0), bess1=points(soc=None, charge_limit_kw=1.0), dg2=diesel(estop=1.0))
    assert len({(a.code, a.asset) for a in silent.alarms}) == len(silent.alarms) >= 5
    for alarm in silent.alarms:
        assert alarm.severity in ("critical", "major", "warning")
        assert alarm.en.isascii()
        assert not alarm.ja.isascii()
        assert alarm.asset is None or (alarm.asset in alarm.en and alarm.asset in alarm.ja)


def test_who_was_taken_off_needs_no_alarm_for_its_breaker() -> None:
    idle = inverter(0.0, breaker_closed=0.0)
    for known in (replace(AUTO, manual={"inv1": Manual(run=False)}), replace(AUTO, limits={"inv1": Limits(out_of_service=True)})):
        assert "breaker_open" not in {a for a, _ in causes(decide(known, inv1=idle))}
    assert "breaker_open" in {a for a, _ in causes(decide(AUTO, inv1=idle))}


def test_what_cannot_be_is_named_and_takes_nothing_from_anybody() -> None:
    """dg1 alone at 202 kW: with 9999 kvar believed, sqrt(375^2 - 9999^2) would leave it nothing and the village would go dark."""
    decision = decide(dg1=diesel(202.0, reactive_kvar=9999.0, frequency_hz=500.0), inv1=inverter(0.0, running=0.0, forming=0.0))
    alarm = next(a for a in decision.alarms if a.code == "refused")
    assert all(point in text for text in (alarm.en, alarm.ja) for point in ("dg1", "reactive_kvar", "frequency_hz"))
    assert not alarm.ja.isascii()
    assert (decision.leader, decision.memory.overload_s) == ("dg1", 0.0)


def test_short_reserve_is_told_without_a_word_of_english_in_the_japanese() -> None:
    short = next(a for a in decide(bess1=points(soc=0.12), dg2=diesel(ready=0.0)).alarms if a.code == "reserve_short")
    assert "loss of dg1" in short.en
    assert "loss" not in short.ja and "dg1" in short.ja


def test_below_control_nobody_is_blamed_for_not_obeying() -> None:
    memory = replace(AUTO, astray={"inv1": 0.0}, stage=Stage.SHADOW)
    decision = decide(memory, inv1=inverter(90.0), dg1=diesel(110.0))
    assert decision.memory.astray == {}
