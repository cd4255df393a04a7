"""Orders as tables: who may ask what of whom, what it changes, and when it counts as done."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ems.black_start import BlackStarts
from ems.controller import Controller
from ems.feeders import Feeders
from ems.image import ImageBuilder
from ems.memory import Manual, Memory, Pending, UnitMemory
from ems.model import UNNUMBERED, Image, Limits, Reading, Request, Status
from ems.orders import EFFECT_TIMEOUT_S, Orders, Taken, answered, limits_of, said
from ems.terms import Explanation, Mode, Phase, Reason, Stage
from tests.ems.island import START, diesel, points, site, telemetry

TOWN = {
    "id": "town", "kind": "load", "peak_kw": 400.0,
    "feeders": [
        {"id": "north", "share": 0.4, "device": {"profile": "generic-feeder", "url": "tcp://127.0.0.1:502"}},
        {"id": "south", "share": 0.6},
    ],
}  # fmt: skip
HYDRO = {"id": "h1", "kind": "hydro", "rated_kw": 80.0}
DESAL = {"id": "desal", "kind": "deferrable", "rated_kw": 40.0}
SITE = site(TOWN, HYDRO, DESAL, drop=("town",))
ORDERS = Orders(SITE, BlackStarts(SITE, Stage.CONTROL, Feeders(SITE)))
CALM = Controller(site(), policy="load-following")
UNITS = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, -9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}
MEMORY = Memory(mode=Mode.AUTO, units=UNITS, setpoints={"inv1": -2.0, "dg2": 0.0})


def image(k: int = 0, **assets: dict[str, Reading]) -> Image:
    more = {
        "north": points(power_kw=80.0, breaker_closed=1.0, remote=1.0),
        "h1": points(power_kw=0.0, running=0.0, flow_m3s=0.0),
        "desal": points(power_kw=0.0, running=0.0),
    }
    return ImageBuilder(SITE).build(telemetry(k, **{**more, **assets}), MEMORY)


def order(kind: str = "command", asset: str | None = None, seq: int = 1, expires_s: float = 300.0, **body: Any) -> Request:
    return Request(seq, f"r{seq}", kind, asset, body, "keeper", START, START + timedelta(seconds=expires_s))


def take(*asked: Request, memory: Memory = MEMORY, **assets: dict[str, Reading]) -> Taken:
    return ORDERS.take(image(**assets), memory, asked)


@pytest.mark.parametrize(
    ("asset", "body", "assets", "cause"),
    [
        ("nowhere", {"action": "start"}, {}, "unknown asset"),
        (None, {"action": "start"}, {}, "unknown asset"),
        ("dg1", {"action": "dance"}, {}, "takes no order"),
        ("dg1", {"action": "shed"}, {}, "takes no order"),
        ("dg1", {}, {}, "takes no order"),
        ("inv1", {"action": "stop"}, {}, "not started or stopped"),
        ("town", {"action": "start"}, {}, "not started or stopped"),
        ("north", {"action": "start"}, {}, "not started or stopped"),
        ("north", {"action": "set", "power_kw": 5.0}, {}, "no setpoint"),
        ("south", {"action": "shed"}, {}, "no breaker"),
        ("south", {"action": "release"}, {}, "no breaker"),
        ("north", {"action": "shed"}, {"north": {}}, "does not answer"),
        ("north", {"action": "shed"}, {"north": points(breaker_closed=1.0, remote=0.0)}, "local"),
        ("dg2", {"action": "stop"}, {"dg2": diesel(remote=0.0)}, "local"),
        ("dg2", {"action": "start"}, {"dg2": {}}, "does not answer"),
        ("dg2", {"action": "start"}, {"dg2": diesel(ready=0.0)}, "not ready"),
        ("dg2", {"action": "start"}, {"dg2": diesel(estop=1.0)}, "not ready"),
        ("dg2", {"action": "set"}, {}, "missing"),
        ("dg2", {"action": "set", "power_kw": "much"}, {}, "missing"),
        ("dg2", {"action": "set", "power_kw": 201.0}, {}, "0..200"),
        ("dg2", {"action": "set", "power_kw": -1.0}, {}, "0..200"),
        ("pv1", {"action": "set", "power_kw": float("nan")}, {}, "0..300"),
        ("inv1", {"action": "set", "power_kw": -251.0}, {}, "-250..250"),
    ],
)
def test_refusals_name_their_cause_and_change_nothing(asset: str | None, body: dict[str, Any], assets: dict[str, dict[str, Reading]], cause: str) -> None:
    taken = take(order(asset=asset, **body), **assets)
    assert taken.outcomes[0].status is Status.REJECTED
    assert cause in (taken.outcomes[0].cause or "")
    assert taken.memory == replace(MEMORY, taken_seq=1)
    assert [e.kind for e in taken.events] == ["refused"]


@pytest.mark.parametrize(("kind", "asset"), [("mode", "nowhere"), ("mode", "south"), ("limits", "nowhere"), ("limits", None)])
def test_mode_and_limits_of_what_is_not_there_are_refused_too(kind: str, asset: str | None) -> None:
    taken = take(order(kind, asset, mode="manual", max_kw=3.0))
    assert taken.outcomes[0].status is Status.REJECTED
    assert (taken.memory.manual, taken.memory.limits) == ({}, {})


@pytest.mark.parametrize(
    ("asset", "body", "manual", "status"),
    [
        ("dg2", {"action": "start"}, Manual(run=True), Status.ACCEPTED),
        ("dg2", {"action": "stop"}, Manual(run=False), Status.ACCEPTED),
        ("dg2", {"action": "set", "power_kw": 120.0}, Manual(power_kw=120.0), Status.DONE),
        ("inv1", {"action": "set", "power_kw": -250.0}, Manual(power_kw=-250.0), Status.DONE),
        ("h1", {"action": "stop"}, Manual(run=False), Status.ACCEPTED),
        ("desal", {"action": "start"}, Manual(run=True), Status.ACCEPTED),
        ("north", {"action": "shed"}, Manual(run=False), Status.ACCEPTED),
        ("north", {"action": "restore"}, Manual(run=True), Status.ACCEPTED),
    ],
)
def test_orders_are_kept_as_manual(asset: str, body: dict[str, Any], manual: Manual, status: Status) -> None:
    taken = take(order(asset=asset, **body))
    assert (taken.memory.manual, taken.outcomes[0].status) == ({asset: manual}, status)
    assert set(taken.memory.pending) == ({1} if status is Status.ACCEPTED else set())
    assert [(e.kind, e.asset, e.by) for e in taken.events] == [("command", asset, "keeper")]


def test_a_later_order_adds_to_an_earlier_one_and_a_stop_forgets_the_power() -> None:
    both = take(order(asset="dg2", seq=2, action="set", power_kw=120.0), order(asset="dg2", seq=1, action="start"))
    assert both.memory.manual == {"dg2": Manual(run=True, power_kw=120.0)}
    stopped = take(order(asset="dg2", seq=3, action="stop"), memory=both.memory)
    assert stopped.memory.manual == {"dg2": Manual(run=False)}
    assert take(order(asset="dg2", seq=4, action="release"), memory=stopped.memory).memory.manual == {}


def test_an_order_is_taken_once_and_in_order() -> None:
    taken = take(order(asset="dg2", seq=2, action="stop"), order(asset="dg2", seq=1, action="start"))
    assert (taken.memory.manual["dg2"].run, taken.memory.taken_seq) == (False, 2)
    assert take(order(asset="dg2", seq=2, action="start"), memory=taken.memory).outcomes == ()


def test_only_commands_run_out() -> None:
    late = [order(asset="dg2", action="start", expires_s=-1.0), order("limits", "pv1", seq=2, expires_s=60.0, max_kw=9.0), order("stop", seq=3, expires_s=-1.0)]
    taken = take(*late)
    assert [(o.status, o.cause) for o in taken.outcomes] == [(Status.EXPIRED, "expired"), (Status.DONE, None), (Status.DONE, None)]
    assert taken.memory.stopped


@pytest.mark.parametrize(
    ("kind", "asset", "body", "age_s", "cause"),
    [
        ("mode", None, {"mode": "manual"}, 899.0, None),
        ("mode", None, {"mode": "manual"}, 901.0, "expired"),
        ("mode", "dg2", {"mode": "auto"}, 901.0, "expired"),
        ("stage", None, {"stage": "control"}, 901.0, "expired"),
        ("stage", "pv1", {"stage": "control"}, 901.0, "expired"),
        ("accept", "pv1", {"advice": "pv1::60"}, 901.0, "expired"),
        ("command", "dg2", {"action": "release"}, 901.0, "expired"),
        ("mode", None, {"mode": "black_start"}, 59.0, "the bus is alive"),
        ("mode", None, {"mode": "black_start"}, 61.0, "expired"),
        ("limits", "pv1", {"max_kw": 9.0}, 1e6, None),
        ("stop", None, {}, 1e6, None),
        # What only takes something out of our hands: there may be men at work.
        ("stage", None, {"stage": "advise"}, 1e6, None),
        ("stage", "pv1", {"stage": "shadow"}, 1e6, None),
        ("mode", "north", {"mode": "manual"}, 1e6, None),
    ],
)
def test_old_orders_are_not_carried_out(kind: str, asset: str | None, body: dict[str, Any], age_s: float, cause: str | None) -> None:
    asked = replace(order(kind, asset, expires_s=1e7, **body), at=START - timedelta(seconds=age_s))
    taken = take(asked)
    status = {None: Status.DONE, "expired": Status.EXPIRED}.get(cause, Status.REJECTED)
    assert (taken.outcomes[0].status, taken.outcomes[0].cause) == (status, cause)
    assert taken.memory.taken_seq == 1
    if cause is not None:
        assert taken.memory == replace(MEMORY, taken_seq=1)


def old(seq: int, kind: str, asset: str | None = None, **body: Any) -> Request:
    return replace(order(kind, asset, seq=seq, **body), at=START - timedelta(hours=3, seconds=-seq))


@pytest.mark.parametrize(
    ("asked", "causes", "stopped", "stage"),
    [
        # The log of years is worked in once more, or control was down: a stop that was lifted, an advise that was overcome, stay so.
        ((old(1, "stop"), old(2, "mode", mode="auto")), ["superseded", "expired"], False, Stage.CONTROL),
        ((old(1, "stage", stage="advise"), old(2, "stage", stage="control")), ["superseded", "expired"], False, Stage.CONTROL),
        ((old(1, "stage", stage="control"), old(2, "stage", stage="advise")), ["superseded", None], False, Stage.ADVISE),
        ((old(1, "stop"), old(2, "mode", "dg2", mode="auto"), old(3, "mode", mode="manual")), [None, "expired", "expired"], True, Stage.CONTROL),
        ((old(1, "stage", stage="advise"), old(2, "stage", "pv1", stage="control")), [None, "expired"], False, Stage.ADVISE),
    ],
)
def test_of_old_orders_only_the_last_one_counts(asked: tuple[Request, ...], causes: list[str | None], stopped: bool, stage: Stage) -> None:
    taken = take(*asked)
    assert [o.cause for o in taken.outcomes] == causes
    assert (taken.memory.stopped, taken.memory.stage) == (stopped, stage)


def test_what_was_refused_before_a_restart_stays_refused_but_for_a_stop() -> None:
    asked = (order("limits", "dg2", 1, out_of_service=True), order("stop", None, 2), order("mode", None, 3, mode="auto"), order("limits", "pv1", 4, max_kw=9.0))
    taken = take(*asked, memory=replace(MEMORY, answered_seq=3))
    assert [(o.status, o.cause) for o in taken.outcomes] == [
        (Status.REJECTED, "ledger_dead"),
        (Status.DONE, None),
        (Status.REJECTED, "ledger_dead"),
        (Status.DONE, None),  # it came after the process before had ended
    ]
    assert (set(taken.memory.limits), taken.memory.stopped) == ({"pv1"}, True)
    assert answered(asked, START - timedelta(seconds=1)) == 0
    assert (answered(asked, START), answered(asked, None), answered((), START)) == (4, 0, 0)


def test_a_fast_clock_gives_an_order_the_time_of_two_cycles() -> None:
    """At sixty times real time a cycle is a minute: a black start of 100 s ago has waited for one cycle and a bit."""
    asked = replace(order("mode", mode="black_start"), at=START - timedelta(seconds=100))
    slow, fast = (ORDERS.take(replace(image(), dt_s=dt_s), MEMORY, (asked,)).outcomes[0].cause for dt_s in (1.0, 60.0))
    assert (slow, fast) == ("expired", "the bus is alive")
    paused = ORDERS.take(replace(image(), dt_s=7200.0), MEMORY, (replace(asked, at=START - timedelta(seconds=901)),))
    assert paused.outcomes[0].cause == "expired"  # a pause of two hours is no fast clock


def test_a_release_frees_a_lock_out_and_nothing_else_does() -> None:
    locked = replace(MEMORY, units={**UNITS, "dg2": UnitMemory(Phase.LOCKED, -60.0, failed_starts=3)})
    refused = take(order(asset="dg2", action="start"), memory=locked)
    assert "locked out" in (refused.outcomes[0].cause or "")
    freed = take(order(asset="dg2", action="release"), memory=locked)
    assert freed.memory.units["dg2"] == UnitMemory(Phase.OFF, 0.0)
    running = UnitMemory(Phase.ONLINE, -60.0, started_s=-60.0, locked=True)  # somebody has started it by hand
    freed = take(order(asset="dg2", action="release"), memory=replace(MEMORY, units={**UNITS, "dg2": running}), dg2=diesel(50.0))
    assert freed.memory.units["dg2"] == replace(running, locked=False)


def test_manual_mode_of_one_asset_holds_what_it_does() -> None:
    cooling = replace(MEMORY, units={**UNITS, "dg2": UnitMemory(Phase.COOLDOWN, -9.0)})
    turning = diesel(running=1.0)  # an engine that cools down turns, and is off all the same
    assert take(order("mode", "dg2", mode="manual"), memory=cooling, dg2=turning).memory.manual == {"dg2": Manual(run=False, power_kw=0.0)}
    assert take(order("mode", "dg1", mode="manual")).memory.manual == {"dg1": Manual(run=True)}
    assert take(order("mode", "inv1", mode="manual")).memory.manual == {"inv1": Manual(run=True, power_kw=-2.0)}
    assert take(order("mode", "north", mode="manual")).memory.manual == {"north": Manual(run=True)}
    held = replace(MEMORY, manual={"inv1": Manual(power_kw=40.0)})
    assert take(order("mode", "inv1", mode="manual"), memory=held).memory.manual == held.manual
    assert take(order("mode", "inv1", mode="auto"), memory=held).memory.manual == {}


def test_mode_and_stage_of_the_site() -> None:
    assert take(order("mode", mode="manual")).memory.all_manual
    assert not take(order("mode", mode="auto"), memory=replace(MEMORY, all_manual=True)).memory.all_manual
    stopped = replace(MEMORY, mode=Mode.SAFE, stopped=True)
    back = take(order("mode", mode="auto"), memory=stopped).memory
    assert (back.mode, back.stopped) == (Mode.START, False)
    assert take(order("mode", mode="manual"), memory=stopped).memory.stopped, "manual does not leave the emergency stop"
    shadow = take(order("stage", stage="shadow")).memory
    assert (shadow.stage, shadow.setpoints) == (Stage.SHADOW, {})
    assert take(order("stage", stage="control")).memory.setpoints == MEMORY.setpoints


@pytest.mark.parametrize(
    ("pending", "assets", "status"),
    [
        (Pending("dg2", "start", 600.0), {"dg2": diesel(30.0)}, Status.DONE),
        (Pending("dg2", "start", 600.0), {}, None),
        (Pending("dg1", "stop", 600.0), {}, None),
        (Pending("dg1", "stop", 600.0), {"dg1": diesel()}, Status.DONE),
        (Pending("dg1", "stop", 600.0), {"dg1": {}}, None),  # nothing is concluded from silence
        (Pending("h1", "start", 600.0), {"h1": points(power_kw=0.0, running=1.0)}, Status.DONE),
        (Pending("north", "shed", 600.0), {}, None),
        (Pending("north", "shed", 600.0), {"north": points(breaker_closed=0.0)}, Status.DONE),
        (Pending("north", "restore", 600.0), {}, Status.DONE),
        (Pending("gone", "start", 600.0), {}, None),
        (Pending("dg2", "start", 0.0), {}, Status.DONE),  # its time is over
    ],
)
def test_an_order_is_done_when_its_effect_is_seen(pending: Pending, assets: dict[str, dict[str, Reading]], status: Status | None) -> None:
    taken = ORDERS.effects(image(**assets), replace(MEMORY, pending={7: pending}))
    assert [o.status for o in taken.outcomes] == ([] if status is None else [status])
    assert (7 in taken.memory.pending) is (status is None)
    assert all((o.cause == "no_effect") is (pending.until_s == 0.0) for o in taken.outcomes)


def test_limits_are_taken_whole_and_lapse() -> None:
    asked = order("limits", "pv1", seq=5, expires_s=60.0, max_kw=80.0, min_kw=None, reason="cable")
    taken = take(asked)
    assert taken.memory.limits["pv1"] == Limits(max_kw=80.0, expires_at=START + timedelta(seconds=60), reason="cable", by="keeper", version=5)
    later = ORDERS.take(image(60), taken.memory, ())
    assert later.memory.limits == {}
    assert [(e.kind, e.asset, e.reason) for e in later.events] == [("limit_expired", "pv1", "cable")]
    assert limits_of({"out_of_service": True}, asked).out_of_service
    assert said(asked) == "max_kw 80.0 (cable)"


@pytest.mark.parametrize(
    "cycles",
    [
        # one cycle a day ahead: it ends at its time and not before
        [(1, 0.0, True), (2, 86400.0, True), (3, 0.0, True), (1000, 0.0, True), (7199, 0.0, True), (7200, 0.0, False)],
        # a quarter of an hour ahead: that is what it is now
        [(1, 0.0, True), (2, 86400.0, True), (901, 86400.0, True), (902, 86400.0, False)],
        # what a time server trims is no step
        [(7195, 0.0, True), (7196, 4.0, False)],
        [(7195, 0.0, True), (7196, 6.0, True), (7197, 6.0, True)],
    ],
)
def test_a_clock_that_jumps_ends_no_out_of_service(cycles: list[tuple[int, float, bool]]) -> None:
    """Men work at dg2 for two hours; each cycle with its second, how far the clock is ahead, and whether dg2 is out of service."""
    memory = replace(MEMORY, limits={"dg2": Limits(out_of_service=True, expires_at=START + timedelta(hours=2), reason="men at work")})
    before, held = 0, []
    for k, ahead_s, _ in cycles:
        seen = replace(telemetry(k, time=START + timedelta(seconds=k + ahead_s)), dt_s=float(k - before))
        memory, before = CALM.step(seen, (), None, memory)[1].memory, k
        held.append("dg2" in memory.limits)
    assert held == [out for _, _, out in cycles]


def test_what_nobody_has_to_do_is_noted() -> None:
    assert take(order("ack", alarm="a1")).outcomes[0].status is Status.DONE
    assert EFFECT_TIMEOUT_S == 600.0


def test_an_order_for_a_river_is_carried_out() -> None:
    """A stop by an operator shuts the guide vanes, whatever the river brings."""
    wet = points(power_kw=60.0, running=1.0, flow_m3s=1.0, ready=1.0, remote=1.0)
    told = telemetry(h1=wet, dg1=diesel(142.0), north=points(breaker_closed=1.0), desal=points(power_kw=0.0))
    memory = replace(MEMORY, manual={"h1": Manual(run=False)})
    decision = Controller(SITE, policy="load-following").step(told, (), None, memory)[1]
    assert [w.value for w in decision.writes if (w.asset, w.command) == ("h1", "running")] == [0.0]
    assert decision.assets["h1"].run is False


def test_a_unit_of_somebody_else_gets_no_write() -> None:
    """LOCAL, silent, or locked out and run by hand: its power counts, and nothing is written to it."""
    by_hand = replace(MEMORY, units={"dg1": UnitMemory(Phase.LOCKED, -60.0, why=Explanation(Reason.FAULT)), "dg2": UnitMemory(Phase.ONLINE, -9000.0, -9000.0)})
    told = telemetry(dg1=diesel(90.0), dg2=diesel(112.0), north=points(breaker_closed=1.0, remote=0.0), h1=points(power_kw=0.0), desal=points(power_kw=0.0))
    memory = replace(by_hand, manual={"north": Manual(run=False)})
    decision = Controller(SITE, policy="load-following").step(told, (), None, memory)[1]
    assert {w.asset for w in decision.writes} & {"dg1", "north"} == set()
    given = {w.asset: w.value for w in decision.writes if w.command == "power_kw"}
    assert given["dg2"] + given["inv1"] == pytest.approx(200.0 - 90.0, abs=0.5)


def test_a_stop_past_the_log_is_taken_whatever_was_taken_before_and_hides_no_order_after_it() -> None:
    memory = replace(MEMORY, taken_seq=40)
    taken = take(order("stop", seq=UNNUMBERED), order("mode", seq=40, mode="auto"), order("mode", seq=41, mode="manual"), memory=memory)
    assert (taken.memory.stopped, taken.memory.all_manual, taken.memory.taken_seq) == (True, True, 41)
    assert take(order("stop", seq=UNNUMBERED), memory=memory).memory.taken_seq == 40
