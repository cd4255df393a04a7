"""The controller as tables of cycles: what is read, what is asked, what follows."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from ems.controller import Controller
from ems.decision import Decision, Write
from ems.memory import Manual, Memory, UnitMemory
from ems.model import Image, Limits, Request, Status, Telemetry
from ems.plan import Grid, Plan
from ems.terms import Mode, Phase, Reason, Stage
from tests.ems.island import START, diesel, inverter, points, site, telemetry

SITE = site()
AUTO = Memory(mode=Mode.AUTO, setpoints={"inv1": -2.0, "pv1": 300.0})
RESTED = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, started_s=-9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}


def decide(
    told: Telemetry, memory: Memory = AUTO, plan: Plan | None = None, asked: Sequence[Request] = (), policy: str = "load-following", **options: Any
) -> Decision:
    return Controller(SITE, policy=policy, **options).step(told, asked, plan, memory)[1]


def written(decision: Decision) -> dict[tuple[str, str], float]:
    return {(w.asset, w.command): w.value for w in decision.writes}


def request(kind: str, asset: str | None = None, seq: int = 1, expires: datetime | None = None, **body: Any) -> Request:
    return Request(seq, f"r{seq}", kind, asset, {"reason": "test", **body}, "keeper", START, expires)


def plan(on: tuple[str, ...] = ("dg1",), hours: int = 2, **power: float) -> Plan:
    grid = Grid(START, (3600.0,) * hours)
    return Plan(
        id="p1",
        made_at=START,
        valid_until=grid.end,
        source="mpc",
        grid=grid,
        power_kw={u: (p,) * hours for u, p in power.items()},
        on={d: (d in on,) * hours for d in ("dg1", "dg2")},
        soc={"bess1": (0.5,) * (hours + 1)},
        load_kw=(200.0,) * hours,
        unserved_kw=(0.0,) * hours,
    )


# ------------------------------------------------------------------ start
def test_start_writes_nothing_before_a_full_scan_and_first_moves_nothing() -> None:
    controller, memory = Controller(SITE, policy="load-following"), Memory()
    blind = telemetry(0, pv1={})
    image, decision = controller.step(blind, (), None, memory)
    assert (decision.mode, decision.writes) == (Mode.START, ())
    seen = telemetry(1, dg1=diesel(150.0), inv1=inverter(48.0), pv1=points(power_kw=40.0, available_kw=90.0))
    image, decision = controller.step(seen, (), None, decision.memory)
    assert decision.mode is Mode.AUTO
    assert written(decision)[("inv1", "power_kw")] == 48.0
    assert written(decision)[("pv1", "limit_kw")] == 40.0


def test_start_goes_on_without_a_silent_asset_after_its_time() -> None:
    controller, decision = Controller(SITE, policy="load-following"), None
    memory = Memory()
    for k in range(12):
        _, decision = controller.step(telemetry(k, pv1={}), (), None, memory)
        memory = decision.memory
    assert decision is not None
    assert decision.mode is Mode.AUTO
    assert {a.code for a in decision.alarms} == {"silent"}


def test_no_former_is_never_taken_for_a_blackout() -> None:
    controller, memory = Controller(SITE, policy="load-following"), Memory()
    for k in range(30):
        _, decision = controller.step(telemetry(k, dg1=diesel(), inv1=inverter(forming=0.0, running=0.0)), (), None, memory)
        memory = decision.memory
        assert decision.writes == ()
    assert decision.mode is Mode.START
    assert "start_waits" in {a.code for a in decision.alarms}


# ------------------------------------------------------------------ stages
@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.ADVISE])
def test_below_control_nothing_is_written_and_everything_else_is_the_same(stage: Stage) -> None:
    quiet = decide(telemetry(), stage=stage)
    loud = decide(telemetry())
    assert quiet.writes == () and not quiet.heartbeat
    assert loud.writes and loud.heartbeat
    assert {a: d.setpoint_kw for a, d in quiet.assets.items()} == {a: d.setpoint_kw for a, d in loud.assets.items()}


def test_the_lowest_stage_holds() -> None:
    assert decide(telemetry(), replace(AUTO, stage=Stage.SHADOW)).stage is Stage.SHADOW
    assert Controller(site(stage="shadow"), policy="load-following").step(telemetry(), (), None, AUTO)[1].stage is Stage.SHADOW


# ------------------------------------------------------------------ missing values
def test_missing_pv_is_inferred_not_zero() -> None:
    image, _ = Controller(SITE, policy="load-following").step(telemetry(pv1={}, dg1=diesel(120.0)), (), None, AUTO)
    assert image.assets["pv1"].power_kw == pytest.approx(200 - 120 + 2)
    assert not image.assets["pv1"].seen


def test_a_stale_value_is_not_used() -> None:
    old = {name: replace(r, age_s=3.1) for name, r in points(power_kw=50.0).items()}
    image, decision = Controller(SITE, policy="load-following").step(telemetry(pv1=old), (), None, AUTO)
    assert not image.assets["pv1"].seen
    assert ("silent", "pv1") in {(a.code, a.asset) for a in decision.alarms}
    assert ("pv1", "limit_kw") not in written(decision)


def test_without_soc_the_battery_is_held_and_a_diesel_is_kept() -> None:
    decision = decide(telemetry(bess1=points(soc=None)), replace(AUTO, units=RESTED))
    assert decision.assets["inv1"].why.limited_by == ("soc_unknown",)
    assert decision.memory.units["dg1"].phase is Phase.ONLINE
    assert written(decision)[("inv1", "power_kw")] == pytest.approx(-2.0)


def test_unknown_load_goes_on_with_the_last_one() -> None:
    image, decision = Controller(SITE, policy="load-following").step(telemetry(town={}, pv1={}), (), None, replace(AUTO, load_kw=180.0))
    assert (image.load_kw, image.load_known) == (180.0, False)
    assert "load_unknown" in {a.code for a in decision.alarms}


# ------------------------------------------------------------------ plan, rules, reserve
def test_a_plan_is_followed_and_the_leader_takes_the_rest() -> None:
    decision = decide(telemetry(5), plan=plan(dg1=150.0, inv1=48.0), policy="mpc")
    assert (decision.mode, decision.plan_id, decision.leader) == (Mode.AUTO, "p1", "dg1")
    assert written(decision)[("inv1", "power_kw")] == pytest.approx(48.0)
    assert decision.assets["dg1"].setpoint_kw is None
    assert decision.assets["inv1"].why.reason is Reason.PLAN


def test_without_a_plan_the_rules_are_a_named_fallback() -> None:
    decision = decide(telemetry(), policy="mpc")
    assert (decision.mode, decision.plan_source) == (Mode.FALLBACK, "load-following")
    assert "no_plan" in {a.code for a in decision.alarms}
    assert "mode" in {e.kind for e in decision.events}


def test_short_reserve_starts_a_diesel_whatever_the_plan_says() -> None:
    night = telemetry(dg1=diesel(200.0), bess1=points(soc=0.13))
    decision = decide(night, replace(AUTO, units=RESTED), plan=plan(dg1=198.0, inv1=-2.0), policy="mpc")
    assert written(decision)[("dg2", "running")] == 1.0
    why = decision.assets["dg2"].why
    assert why.reason is Reason.RESERVE
    assert why.numbers["contingency"] == "loss of dg1"


def test_the_last_former_is_not_stopped_on_an_empty_battery() -> None:
    decision = decide(telemetry(bess1=points(soc=0.10)), replace(AUTO, units=RESTED), plan=plan(on=(), inv1=200.0), policy="mpc")
    assert ("dg1", "running") not in written(decision)
    assert decision.memory.units["dg1"].phase is Phase.ONLINE


def test_a_stop_waits_until_the_inverter_holds_the_bus() -> None:
    following = telemetry(inv1=inverter(forming=0.0))
    decision = decide(following, replace(AUTO, units=RESTED))
    assert written(decision)[("inv1", "forming")] == 1.0
    assert decision.memory.units["dg1"].phase is Phase.ONLINE
    decision = decide(telemetry(1), decision.memory)
    assert decision.memory.units["dg1"].phase is Phase.ONLINE, "the rules' choice stands for a while"
    decision = decide(telemetry(11), decision.memory)
    assert decision.memory.units["dg1"].phase is Phase.UNLOADING


def test_handing_over_to_the_battery_never_leaves_the_bus_without_a_former() -> None:
    controller, memory = Controller(SITE, policy="load-following"), replace(AUTO, units=RESTED)
    power = 202.0
    for k in range(30):
        on = power > 0.0
        told = telemetry(k, dg1=diesel(power if on else None), inv1=inverter(200.0 - power))
        _, decision = controller.step(told, (), None, memory)
        memory = decision.memory
        assert decision.formers
        inverter_kw = written(decision)[("inv1", "power_kw")]
        stopped = ("dg1", "running") in written(decision)
        power = 0.0 if stopped or not on else max(0.0, 200.0 - inverter_kw)
    assert decision.leader == "inv1"
    assert memory.units["dg1"].phase is Phase.COOLDOWN


def test_the_error_that_the_plan_s_forecast_has_learned_is_kept_in_reserve() -> None:
    quiet = telemetry(town=points(power_kw=60.0), dg1=diesel(62.0))
    grid = Grid(quiet.time, (900.0,) * 8)
    level = {"dg1": (62.0,) * 8, "dg2": (0.0,) * 8, "inv1": (-2.0,) * 8, "pv1": (0.0,) * 8}
    on = {"dg1": (True,) * 8, "dg2": (False,) * 8}
    plan = Plan("p", quiet.time, grid.end, "mpc", grid, level, on, {"bess1": (0.5,) * 9}, (60.0,) * 8, (0.0,) * 8, error_up_kw=(350.0, *(330.0,) * 7))
    found = decide(quiet, plan=plan, policy="mpc").reserve
    assert (found.contingency, found.required_kw) == ("forecast", 350.0)
    assert decide(quiet, plan=replace(plan, error_up_kw=()), policy="mpc").reserve.contingency != "forecast"
    begun = replace(plan, grid=Grid(quiet.time - timedelta(minutes=15), (900.0,) * 8))  # each step has its own
    assert decide(quiet, plan=begun, policy="mpc").reserve.required_kw == 330.0
    late = replace(plan, grid=Grid(quiet.time - timedelta(hours=3), (900.0,) * 8))
    assert decide(quiet, plan=late, policy="mpc").reserve.contingency != "forecast"  # a plan that is over says nothing


def test_more_sun_than_the_battery_could_replace_starts_a_diesel() -> None:
    sunny = telemetry(town=points(power_kw=270.0), pv1=points(power_kw=260.0, available_kw=260.0), dg1=diesel(), inv1=inverter(10.0))
    decision = decide(sunny, replace(AUTO, units={**RESTED, "dg1": UnitMemory(Phase.OFF, -9000.0)}))
    assert decision.reserve.contingency == "loss of pv1"
    assert {d for d, u in decision.memory.units.items() if u.phase is Phase.STARTING} == {"dg2"}


# ------------------------------------------------------------------ people
def test_a_limit_is_obeyed_in_the_cycle_that_takes_it() -> None:
    sunny = telemetry(pv1=points(power_kw=150.0, available_kw=150.0), dg1=diesel(90.0), inv1=inverter(-40.0))
    decision = decide(sunny, asked=[request("limits", "pv1", max_kw=80.0)])
    assert written(decision)[("pv1", "limit_kw")] == pytest.approx(80.0)
    assert decision.assets["pv1"].why.limited_by == ("operator_limit",)
    assert [(o.seq, o.status) for o in decision.outcomes] == [(1, Status.DONE)]
    assert decision.memory.taken_seq == 1


def test_a_sun_that_is_told_below_what_it_gives_is_what_it_gives() -> None:
    """The device's own estimate stands still at 30 kW while 150 kW flow: the battery still takes 40 of them, and the headroom is kept."""
    told = {kw: telemetry(pv1=points(power_kw=150.0, available_kw=kw), dg1=diesel(90.0), inv1=inverter(-40.0)) for kw in (30.0, 150.0)}
    assert written(decide(told[30.0])) == written(decide(told[150.0])) == {("pv1", "limit_kw"): 160.0, ("inv1", "power_kw"): -40.0}


def test_a_limit_lapses_at_its_time() -> None:
    past = {"pv1": Limits(max_kw=10.0, expires_at=START - timedelta(seconds=1))}
    decision = decide(telemetry(), replace(AUTO, limits=past))
    assert decision.memory.limits == {}
    assert "limit_expired" in {e.kind for e in decision.events}


def test_a_start_is_accepted_done_and_held_until_release() -> None:
    controller = Controller(SITE, policy="load-following")
    asked = [request("command", "dg2", action="start", expires=START + timedelta(minutes=5))]
    memory = replace(AUTO, units=RESTED)
    _, decision = controller.step(telemetry(0), asked, None, memory)
    assert written(decision)[("dg2", "running")] == 1.0
    assert [o.status for o in decision.outcomes] == [Status.ACCEPTED]
    assert decision.assets["dg2"].why.reason is Reason.OPERATOR
    for k in (1, 2):
        _, decision = controller.step(telemetry(k, dg1=diesel(120.0), dg2=diesel(80.0)), (), None, decision.memory)
    assert decision.memory.units["dg2"].phase is Phase.ONLINE
    assert decision.memory.manual == {"dg2": Manual(run=True)}
    assert decision.memory.pending == {}
    released = [request("command", "dg2", seq=2, action="release", expires=START + timedelta(minutes=5))]
    _, decision = controller.step(telemetry(60, dg1=diesel(120.0), dg2=diesel(80.0)), released, None, replace(decision.memory, taken_seq=1))
    assert decision.memory.manual == {}


@pytest.mark.parametrize(
    ("asset", "body", "state", "cause"),
    [
        ("dg2", {"action": "start"}, {"dg2": diesel(remote=0.0)}, "local"),
        ("dg2", {"action": "start"}, {"dg2": {}}, "answer"),
        ("dg2", {"action": "start"}, {"dg2": diesel(fault=3.0)}, "ready"),
        ("pv1", {"action": "start"}, {}, "not started"),
        ("inv1", {"action": "set", "power_kw": 900.0}, {}, "outside"),
        ("bess1", {"action": "set", "power_kw": 1.0}, {}, "no setpoint"),
        ("town-f1", {"action": "shed"}, {}, "breaker"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_cause(asset: str, body: dict[str, Any], state: Any, cause: str) -> None:
    asked = [request("command", asset, expires=START + timedelta(minutes=5), **body)]
    decision = decide(telemetry(**state), replace(AUTO, units=RESTED), asked=asked)
    assert decision.outcomes[0].status is Status.REJECTED
    assert cause in (decision.outcomes[0].cause or "")
    assert "refused" in {e.kind for e in decision.events}


def test_a_late_command_is_never_executed() -> None:
    asked = [request("command", "dg2", action="start", expires=START - timedelta(seconds=1))]
    decision = decide(telemetry(), replace(AUTO, units=RESTED), asked=asked)
    assert decision.outcomes[0].status is Status.EXPIRED
    assert ("dg2", "running") not in written(decision)


def test_a_request_is_taken_once() -> None:
    asked = [request("limits", "pv1", max_kw=80.0)]
    decision = decide(telemetry(), replace(AUTO, taken_seq=1), asked=asked)
    assert (decision.outcomes, decision.memory.limits) == ((), {})


def test_emergency_stop_silences_heartbeats_and_stops_no_former() -> None:
    decision = decide(telemetry(), asked=[request("stop")])
    assert (decision.mode, decision.heartbeat) == (Mode.SAFE, False)
    assert all(w.asset not in ("dg1", "inv1") for w in decision.writes)
    again = decide(telemetry(1), decision.memory)
    assert (again.mode, again.writes) == (Mode.SAFE, ())
    back = decide(telemetry(2), again.memory, asked=[request("mode", seq=2, mode="auto")])
    assert back.mode in (Mode.START, Mode.AUTO)


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.START, Mode.BLACKSTART])
def test_an_emergency_stop_writes_the_safe_values_once_from_every_mode(mode: Mode) -> None:
    """What is pumped or desalted stops; in START and in a black start nothing has been decided yet that could be taken back."""
    isle = Controller(site({"id": "desal1", "kind": "deferrable", "rated_kw": 60.0}), Stage.CONTROL)
    running = points(power_kw=60.0, running=1.0, remote=1.0)
    memory = Memory(mode=mode, mode_since_s=-5.0, setpoints={"pv1": 0.0} if mode is Mode.AUTO else {})
    _, stopped = isle.step(telemetry(1, desal1=running), [request("stop")], None, memory)
    assert (stopped.mode, stopped.writes) == (Mode.SAFE, (Write("desal1", "running", 0.0),))
    _, later = isle.step(telemetry(2, desal1=running), (), None, stopped.memory)
    assert (later.mode, later.writes) == (Mode.SAFE, ())


def test_local_means_hands_off() -> None:
    decision = decide(telemetry(inv1=inverter(30.0, remote=0.0), dg1=diesel(170.0)), replace(AUTO, units=RESTED))
    assert not [w for w in decision.writes if w.asset == "inv1"]
    assert decision.assets["inv1"].why.reason is Reason.LOCAL


def test_manual_mode_holds_what_runs() -> None:
    memory = replace(AUTO, units=RESTED)
    decision = decide(telemetry(), memory, asked=[request("mode", mode="manual")])
    assert decision.mode is Mode.MANUAL
    assert decision.memory.units["dg1"].phase is Phase.ONLINE
    assert ("dg1", "running") not in written(decision)


# ------------------------------------------------------------------ the decision as a value
def test_the_same_arguments_give_the_same_decision_and_survive_pickling() -> None:
    told, memory = telemetry(5, dg1=diesel(150.0)), replace(AUTO, units=RESTED)
    first: tuple[Image, Decision] = Controller(SITE).step(told, (), plan(inv1=20.0), memory)
    second = Controller(SITE).step(*pickle.loads(pickle.dumps((told, (), plan(inv1=20.0), memory))))
    assert first == second


def test_every_asset_has_one_reason() -> None:
    decision = decide(telemetry())
    assert set(decision.assets) == {a.id for a in SITE.assets}
    assert all(isinstance(d.why.reason, Reason) for d in decision.assets.values())


def test_in_advise_only_what_a_person_accepts_is_written_once() -> None:
    controller = Controller(SITE, stage=Stage.ADVISE, policy="load-following")
    memory = replace(AUTO, units=RESTED, stage=Stage.ADVISE)
    sunny = telemetry(pv1=points(power_kw=50.0, available_kw=50.0), dg1=diesel(150.0))
    _, decision = controller.step(sunny, [request("accept", "pv1", advice="pv1::300")], None, memory)
    assert {w.asset for w in decision.writes} == {"pv1"}
    _, decision = controller.step(telemetry(1), (), None, decision.memory)
    assert decision.writes == ()


def test_in_shadow_not_even_accepted_advice_is_written() -> None:
    memory = replace(AUTO, units=RESTED)
    _, decision = Controller(SITE, stage=Stage.SHADOW, policy="load-following").step(telemetry(), [request("accept", "pv1")], None, memory)
    assert decision.writes == ()


def test_an_emergency_stop_at_a_device_is_one_event_and_no_start() -> None:
    """Reserve is short, and the only set that could help has its emergency stop pressed."""
    controller, memory = Controller(SITE, policy="load-following"), replace(AUTO, units=RESTED)
    seen: list[tuple[int, str]] = []
    for k in range(6):
        pressed = diesel(estop=float(1 <= k <= 3))
        shown = {} if k == 2 else pressed  # in the third cycle it does not even answer
        told = telemetry(k, dg1=diesel(290.0), dg2=shown, town=points(power_kw=290.0), inv1=inverter(), bess1=points(soc=0.1))
        _, decision = controller.step(told, (), None, memory)
        memory = decision.memory
        seen += [(k, e.reason) for e in decision.events if e.kind == "estop"]
        assert (("estop", "dg2") in {(a.code, a.asset) for a in decision.alarms}) is (k >= 1), "an alarm stays a few seconds"
        if 1 <= k <= 3:
            assert ("dg2", "running") not in written(decision) or written(decision)[("dg2", "running")] == 0.0
    assert seen == [(1, "its emergency stop is pressed"), (4, "its emergency stop is released")]


def test_a_ceiling_of_the_sun_is_lifted_by_its_ramp_until_it_holds_nothing_back() -> None:
    """Held at 40 kW of 90, and a load that takes all of it: 10 kW a second more, as the sun follows."""
    controller, memory, power = Controller(SITE, policy="load-following"), replace(AUTO, setpoints={"inv1": -2.0, "pv1": 40.0}), 40.0
    limits = []
    for k in range(4):
        seen = telemetry(k, town=points(power_kw=300.0), dg1=diesel(302.0 - power), pv1=points(power_kw=power, available_kw=90.0))
        _, decision = controller.step(seen, (), None, memory)
        memory = decision.memory
        limits.append(memory.setpoints["pv1"])
        power = min(90.0, limits[-1])
    assert limits == [50.0, 60.0, 70.0, 80.0]
