"""When a plan is asked for, which answers are believed, and what is learned on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ems.controller import Controller
from ems.decision import Decision, Event
from ems.memory import Memory, UnitMemory
from ems.model import Image, Reading
from ems.physics import dc_kw, storage_step
from ems.plan import Forecast, Given, Grid, Plan, PlanOutcome, PlanRequest
from ems.plan_keeper import PATIENCE, PlanKeeper
from ems.reserve import storages
from ems.rules import Rules
from ems.terms import Mode, Phase
from tests.ems.island import START, diesel, points, site, telemetry

SITE = site()
UNITS = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, -9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}
AUTO = Memory(mode=Mode.AUTO, units=UNITS, setpoints={"inv1": -2.0, "pv1": 300.0})


class Desk:
    """A planner that answers when it is told to; a prompt one fails at once, so that it may be asked again."""

    def __init__(self, prompt: bool = False) -> None:
        self.prompt = prompt
        self.asked: list[PlanRequest] = []
        self.answer: PlanOutcome | None = None
        self.closed = False

    def submit(self, request: PlanRequest) -> None:
        self.asked.append(request)
        if self.prompt:
            self.answer = PlanOutcome(request.id, "failed", "tired", None, None)

    def take(self) -> PlanOutcome | None:
        answer, self.answer = self.answer, None
        return answer

    def close(self) -> None:
        self.closed = True


def lived(now_s: float = 0.0, dt_s: float = 1.0, memory: Memory = AUTO, events: tuple[Event, ...] = (), **assets: dict[str, Reading]) -> tuple[Image, Decision]:
    told = replace(telemetry(int(now_s), **assets), now_s=now_s, time=START + timedelta(seconds=now_s), dt_s=dt_s)
    image, decision = Controller(SITE, policy="load-following").step(told, (), None, memory)
    return image, replace(decision, events=events)


def answer(request: PlanRequest) -> PlanOutcome:
    grid = Grid(request.at, (900.0,) * 8)
    forecast = Forecast(grid, (200.0,) * 8, {"pv1": (0.0,) * 8}, {})
    plan = Rules(SITE).rollout(request.start, forecast, "load-following", f"plan-{request.id}", request.at)
    return PlanOutcome(request.id, "ok", "", plan, forecast)


def keeper(prompt: bool = False) -> tuple[PlanKeeper, Desk]:
    desk = Desk(prompt)
    return PlanKeeper(SITE, desk), desk


def settled(keep: PlanKeeper, now_s: float, cycles: int = 12) -> tuple[list[Event], PlanOutcome | None]:
    """Return what the cycles tell in which an answer is looked through."""
    found: list[Event] = []
    for k in range(cycles):
        events, taken = keep.tick(*lived(now_s + 0.01 * k))
        found += events
        if taken is not None:
            return found, taken
    return found, None


def test_a_forecast_from_outside_goes_with_every_question_until_another_comes() -> None:
    keep, desk = keeper(prompt=True)
    first, second = Given(START, 3600.0, (100.0,)), Given(START, 3600.0, (200.0,))
    for now_s, given in ((0.0, None), (100.0, first), (400.0, None), (700.0, second)):
        if given is not None:
            keep.give(given)
        keep.tick(*lived(now_s))
    assert [r.given for r in desk.asked] == [None, first, first, second]


def asked_at(*ticks: tuple[float, tuple[str, ...]]) -> list[float]:
    """Return at which of these times [s], with these kinds of events, a plan was asked for."""
    keep, desk = keeper(prompt=True)
    found: list[float] = []
    for now_s, kinds in ticks:
        keep.tick(*lived(now_s, events=tuple(Event(k, None, "") for k in kinds)))
        if len(desk.asked) > len(found):
            found.append(now_s)
    return found


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        ([(0.0, ()), (1.0, ()), (299.0, ()), (300.0, ()), (301.0, ()), (600.0, ())], [0.0, 300.0, 600.0]),
        ([(0.0, ()), (40.0, ("tripped",)), (41.0, ()), (340.0, ())], [0.0, 40.0, 340.0]),
        ([(0.0, ()), (40.0, ("start", "adopted"))], [0.0]),  # what the plan itself brings about is no news
        ([(0.0, ()), (40.0, ("limits",)), (50.0, ("limits",)), (69.0, ("limits",)), (70.0, ())], [0.0, 40.0, 70.0]),
        ([(0.0, ()), (10.0, ("tripped",)), (29.0, ()), (30.0, ())], [0.0, 30.0]),  # too early, but not forgotten
    ],
)
def test_when_a_plan_is_asked_for(ticks: list[tuple[float, tuple[str, ...]]], expected: list[float]) -> None:
    assert asked_at(*ticks) == expected


def test_scaled_time_asks_no_more_often_than_it_may() -> None:
    desk = Desk(prompt=True)
    keep = PlanKeeper(SITE, desk, pause_s=480.0)
    for now_s in (0.0, 300.0, 479.0, 480.0):
        keep.tick(*lived(now_s, events=(Event("tripped", None, ""),)))
    assert len(desk.asked) == 2


def test_one_question_at_a_time_until_patience_ends() -> None:
    keep, desk = keeper()
    for now_s in (0.0, 31.0, 299.0, PATIENCE * 300.0 - 1.0):
        keep.tick(*lived(now_s, events=(Event("tripped", None, ""),)))
        assert len(desk.asked) == 1
    keep.tick(*lived(PATIENCE * 300.0))
    assert len(desk.asked) == 2
    desk.answer = answer(desk.asked[0])  # the first one comes after all: it knows nothing of what has happened since
    events, taken = keep.tick(*lived(PATIENCE * 300.0 + 1.0))
    assert ([e.kind for e in events], taken) == (["plan_refused"], None)


def test_a_good_answer_is_used_until_it_is_no_longer_valid() -> None:
    keep, desk = keeper()
    keep.tick(*lived())
    assert keep.current(START) is None
    desk.answer = answer(desk.asked[0])
    events, taken = settled(keep, 2.0)
    assert (events, taken) == ([], keep.outcome)
    assert taken is not None and keep.current(START) is taken.plan is not None
    valid = taken.plan.valid_until
    assert keep.current(valid - timedelta(seconds=1)) is taken.plan
    assert keep.current(valid) is None
    assert keep.tick(*lived(3.0)) == ([], None)


def test_a_check_is_spread_over_cycles_while_there_is_a_plan_and_done_at_once_without() -> None:
    keep, desk = keeper()
    keep.tick(*lived())
    desk.answer = answer(desk.asked[0])
    assert keep.tick(*lived(1.0))[1] is not None
    keep.tick(*lived(301.0))
    desk.answer = answer(desk.asked[1])
    first, cycles = keep.plan, 0
    while keep.plan is first:
        keep.tick(*lived(302.0 + cycles))
        cycles += 1
    assert 3 < cycles < 12
    assert len(desk.asked) == 2  # and no question is asked while an answer is being looked at


def broken(outcome: PlanOutcome) -> Plan:
    plan = outcome.plan
    assert plan is not None
    return replace(plan, power_kw={**plan.power_kw, "dg1": (1e4,) * plan.grid.n_steps})


def test_what_fails_the_check_is_refused_with_its_reason_and_the_last_plan_goes_on() -> None:
    keep, desk = keeper()
    keep.tick(*lived())
    good = answer(desk.asked[0])
    desk.answer = good
    settled(keep, 1.0)
    assert good.plan is not None
    for now_s, kind, word in ((301.0, "plan_refused", "dg1"), (340.0, "plan_failed", "deadline")):
        keep.tick(*lived(now_s, events=(Event("mode", None, ""),)))
        asked = desk.asked[-1]
        wrong = replace(answer(asked), plan=broken(answer(asked))) if kind == "plan_refused" else PlanOutcome(asked.id, "failed", "deadline", None, None)
        desk.answer = wrong
        events, taken = settled(keep, now_s + 1.0)
        assert [e.kind for e in events] == [kind]
        assert word in events[0].reason
        assert taken is None
        assert keep.current(START + timedelta(seconds=now_s + 1.0)) is good.plan


@pytest.mark.parametrize("event", ["tripped", "locked", "limits", "limit_expired", "mode", "start"])
def test_the_followed_plan_goes_with_the_question_but_after_an_event_nothing_is_promised(event: str) -> None:
    keep, desk = keeper()
    keep.tick(*lived())
    desk.answer = answer(desk.asked[0])
    settled(keep, 1.0)
    first = keep.plan
    assert first is not None
    keep.tick(*lived(300.0))  # asked before it happens
    keep.tick(*lived(310.0, events=(Event(event, None, ""),)))
    desk.answer = answer(desk.asked[1])
    settled(keep, 311.0)
    keep.tick(*lived(600.0))  # what is followed now does not know of it either
    desk.answer = answer(desk.asked[2])
    settled(keep, 601.0)
    last = keep.plan
    keep.tick(*lived(900.0))
    known = [None if r.previous is None else r.previous.id for r in desk.asked]
    second = None if event != "start" else f"plan-{desk.asked[1].id}"
    assert last is not None
    assert known == [None, first.id, second, last.id]


def test_a_plan_that_keeps_what_was_promised_is_told_with_what_a_change_would_save() -> None:
    keep, desk = keeper()
    keep.tick(*lived())
    desk.answer = answer(desk.asked[0])
    settled(keep, 1.0)
    keep.tick(*lived(300.0))
    good = answer(desk.asked[1])
    assert good.plan is not None and good.forecast is not None
    assert good.plan.on["dg1"][:4] == (False, False, False, True)
    # dg2 runs for half an hour and spares the battery: one start and one stop more than promised.
    pair, more = storages(SITE)[0], {"dg2": 100.0, "inv1": -100.0}
    power = {a: (v[0] + more.get(a, 0.0), v[1] + more.get(a, 0.0), *v[2:]) for a, v in good.plan.power_kw.items()}
    soc = [good.plan.soc["bess1"][0]]
    for kw in power["inv1"]:
        soc.append(storage_step(pair.battery, soc[-1], dc_kw(pair.inverter, kw), 0.25))
    on = {**good.plan.on, "dg2": (True, True, *good.plan.on["dg2"][2:])}
    other = replace(good.plan, power_kw=power, soc={"bess1": tuple(soc)}, on=on, objective_l=99.0)
    kept = replace(good.plan, objective_l=100.0)
    desk.answer = replace(good, plan=other, kept=kept)
    events, taken = settled(keep, 301.0)
    assert [e.kind for e in events] == ["plan_kept"]
    assert "would save 1.0 L, a change takes" in events[0].reason
    assert keep.plan is kept
    assert taken is not None and taken.plan is kept


def test_closing_ends_the_planner() -> None:
    keep, desk = keeper()
    keep.close()
    assert desk.closed


def test_what_is_learned_is_a_mean_of_what_was_seen() -> None:
    keep, desk = keeper(prompt=True)
    bright, dim = points(power_kw=100.0, available_kw=160.0), points(power_kw=100.0)
    for k in range(15):
        pv = bright if k < 9 else dim if k < 12 else {}
        idle = diesel() if k < 12 else {}  # two gaps: the balance tells of neither
        keep.tick(*lived(60.0 * k, 60.0, pv1=pv, dg2=idle, town=points(power_kw=180.0 if k < 10 else 210.0), dg1=diesel(102.0)))
    keep.tick(*lived(1300.0, 60.0))
    seen = desk.asked[-1].observations
    assert [(o.start, o.seconds, o.load_kw) for o in seen] == [(START, 900.0, pytest.approx((10 * 180 + 5 * 210) / 15))]
    # The offer was measured for nine minutes, and for three it was what the unit gave, held back by nobody.
    assert seen[0].available_kw == {"pv1": pytest.approx((9 * 160 + 3 * 100) / 12)}


def test_what_was_not_seen_for_half_the_time_is_left_out_not_guessed() -> None:
    keep, desk = keeper(prompt=True)
    for k in range(15):
        seen = {"pv1": points(power_kw=50.0, available_kw=50.0)} if k < 6 else {"pv1": {}, "dg2": {}}
        keep.tick(*lived(60.0 * k, 60.0, dg1=diesel(152.0), **seen))
    keep.tick(*lived(1300.0, 60.0))
    assert desk.asked[-1].observations[0].available_kw == {}
    keep, desk = keeper(prompt=True)
    for k in range(15):
        keep.tick(*lived(60.0 * k, 60.0, town={}, pv1={}))
    keep.tick(*lived(1300.0, 60.0))
    assert desk.asked[-1].observations == ()
