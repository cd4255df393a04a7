"""Which plan is followed when a new one would start or stop an engine otherwise than promised."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ems.plan import DieselStart, Forecast, Grid, Plan, PlanOutcome, PlanRequest, PlantStart
from ems.plan_check import PlanCheck
from ems.plan_choice import GAIN, GAIN_L, Change, changes, choose, promised, restless
from ems.plan_verdict import Verdict, judged
from ems.rules import whole
from tests.ems.island import START, site

STEPS = (900.0,) * 8 + (3600.0,) * 6
N = len(STEPS)
GRID = Grid(START, STEPS)
OFF, ON = DieselStart(False, 1e5), DieselStart(True, 1e5)


def flags(marks: str, n: int = N) -> tuple[bool, ...]:
    """Return on (`#`) and off (`.`) by step; the last mark stands for all that follow."""
    return tuple((marks + marks[-1] * n)[k] == "#" for k in range(n))


def plan(dg1: str, dg2: str, objective_l: float | None = None, grid: Grid = GRID) -> Plan:
    n = grid.n_steps
    on = {"dg1": flags(dg1, n), "dg2": flags(dg2, n), "ice": flags("#", n)}
    return Plan("p", grid.start, grid.end, "mpc", grid, {}, on, {}, (0.0,) * n, (0.0,) * n, objective_l=objective_l, deferrables=("ice",))


def marks(promise: tuple[bool | None, ...]) -> str:
    return "".join("?" if f is None else "#" if f else "." for f in promise)


@pytest.mark.parametrize(
    ("minutes", "dg1", "dg2"),
    [
        (0.0, "########??????", "..##....??????"),
        (15.0, "########??????", ".##.....??????"),  # the step of an hour holds for its first quarter too
        (5.0, "########?" + "?" * 5, "..##.....?????"[:8] + "??????"),  # a quarter that is two thirds old is what most of it was
        (60.0, "########??????", "........??????"),
    ],
)
def test_what_is_promised_are_two_hours_on_the_new_grid(minutes: float, dg1: str, dg2: str) -> None:
    at = START + timedelta(minutes=minutes)
    found = promised(plan("#", "..##...."), Grid(at, STEPS), at, {"dg1": ON, "dg2": OFF})
    assert {d: marks(p) for d, p in found.items()} == {"dg1": dg1, "dg2": dg2}


def test_nothing_is_promised_beyond_the_old_plan_nor_of_an_engine_that_has_left_it() -> None:
    at = START + timedelta(minutes=30)
    short = plan("#", ".", grid=Grid(START, (900.0,) * 4))
    assert marks(promised(short, Grid(at, STEPS), at, {"dg1": ON, "dg2": OFF})["dg1"]) == "##" + "?" * (N - 2)
    gone = promised(plan("#", "."), Grid(at, STEPS), at, {"dg1": OFF, "dg2": ON})
    assert {marks(p) for p in gone.values()} == {"?" * N}
    assert marks(promised(plan("#", "."), Grid(at, STEPS), at, {"dg2": OFF})["dg1"]) == "?" * N  # nobody knows what it does


def test_an_engine_about_to_start_as_planned_has_not_left_the_plan() -> None:
    """At the minute of its start it is still off, and that is what the plan had it be just before."""
    at = START + timedelta(minutes=30)
    found = promised(plan("#", "..##...."), Grid(at, STEPS), at, {"dg1": ON, "dg2": OFF})
    assert marks(found["dg2"]) == "##......" + "?" * 6


def test_the_first_step_of_each_engine_that_is_other_than_promised() -> None:
    promise = {"dg1": flags("#")[:8] + (None,) * 6, "dg2": (False, False, None, *(False,) * 5, *(None,) * 6)}
    assert changes(promise, plan("#", "..#.")) == ()  # nothing was promised there
    late = changes(promise, plan("#######.", "...##."))
    assert late == (Change("dg1", START + timedelta(minutes=105), False), Change("dg2", START + timedelta(minutes=45), True))


PROMISE = {"dg1": (*flags("#", 8), *(None,) * 6), "dg2": (*flags(".", 8), *(None,) * 6)}


@pytest.mark.parametrize(
    ("best", "keeping", "litres", "kept", "word"),
    [
        (plan("#", "........#", 90.0), None, 500.0, False, "changes no commitment"),  # beyond two hours it may do as it likes
        (plan("#", ".#", 90.0), plan("#", ".", 94.9), 500.0, True, "dg2 on at 06:15 UTC would save 4.9 L, a change takes 5.0 L"),
        (plan("#", ".#", 90.0), plan("#", ".", 95.0), 500.0, False, "saves 5.0 L"),
        (plan("#", ".#", 90.0), plan("#", ".", 91.9), 10.0, True, "a change takes 2.0 L"),
        (plan("#", ".#", 90.0), plan("#", ".", 80.0), 10.0, True, "would save -10.0 L"),  # a search may end anywhere inside its gap
        (plan(".", "#", 90.0), plan("#", ".", 92.0), 0.0, False, "dg1 off at 06:00, dg2 on at 06:00 UTC saves 2.0 L"),
        (plan("#", ".#", 90.0), None, 500.0, False, "to go on as before is not possible or too dear"),
        (plan("#", ".#", 90.0), plan("#", "..#", 91.0), 500.0, False, "to go on as before"),  # what claims to keep the promise does not
        (plan("#", ".#"), plan("#", "."), 500.0, False, "to go on as before"),  # nobody says what they cost
    ],
)
def test_which_plan_is_followed(best: Plan, keeping: Plan | None, litres: float, kept: bool, word: str) -> None:
    choice = choose(best, keeping, PROMISE, {"dg1": ON, "dg2": OFF}, litres)
    assert choice.kept is kept
    assert choice.plan is (keeping if kept else best)
    assert word in choice.why
    if choice.needed_l is not None:
        assert choice.needed_l == max(GAIN_L, GAIN * litres)


@pytest.mark.parametrize(
    ("dg1", "dg2", "more"),
    [
        ("#", "..##....", False),  # as promised
        ("#", "....##..", False),  # put off
        ("#", ".", False),  # called off
        ("#", "..#", False),  # it goes on: one stop less
        ("#", "..#.#.", True),  # twice
        ("..#", ".", False),  # dg1 rests instead of dg2's run: as many switchings
        ("..#", "..##....", True),
        ("#", "........#", False),  # what comes after two hours is decided again before
    ],
)
def test_more_switchings_than_promised_make_a_plan_restless(dg1: str, dg2: str, more: bool) -> None:
    now = {"dg1": ON, "dg2": OFF}
    promise = promised(plan("#", "..##...."), GRID, START, now)
    assert restless(promise, plan(dg1, dg2), now) is more


SITE = site()
CHECK = PlanCheck(SITE)
FORECAST = Forecast(GRID, (180.0,) * N, {"pv1": (0.0,) * N}, {})
FROM = PlantStart({"bess1": 0.5}, {"dg1": ON, "dg2": OFF})
POWER = {"dg1": (182.0,) * N, "dg2": (0.0,) * N, "inv1": (-2.0,) * N, "pv1": (0.0,) * N}
# The large set carries 180 kW and the inverter's own use; the battery rests.
GOOD = replace(plan("#", "."), id="r", power_kw=POWER, on={"dg1": flags("#"), "dg2": flags(".")}, soc={"bess1": (0.5,) * (N + 1)}, load_kw=(180.0,) * N)
GOOD = replace(GOOD, objective_l=100.0, deferrables=(), valid_until=START + timedelta(hours=2))


def with_dg2(of: Plan, objective_l: float, kw: float = 60.0) -> Plan:
    """Return a plan whose second set takes over some of the load of the first for the first hour."""
    dg1 = tuple(p - kw * (k < 4) for k, p in enumerate(of.power_kw["dg1"]))
    power = {**of.power_kw, "dg1": dg1, "dg2": (kw,) * 4 + (0.0,) * (N - 4)}
    return replace(of, power_kw=power, on={**of.on, "dg2": flags("####.")}, objective_l=objective_l)


def asked(previous: Plan | None = GOOD) -> PlanRequest:
    return PlanRequest("q", START, FROM, previous=previous)


def verdict(outcome: PlanOutcome, request: PlanRequest) -> Verdict:
    return whole(judged(CHECK, request, outcome, START))


def test_the_samples_are_plans_that_may_be_used() -> None:
    assert CHECK.faults(GOOD, FROM, FORECAST) == []
    assert CHECK.faults(with_dg2(GOOD, 90.0), FROM, FORECAST) == []
    assert CHECK.fuel_l(GOOD, FROM) == pytest.approx(8 * (6.0 + 0.25 * 182.0))
    assert CHECK.fuel_l(GOOD, FROM, 7200.0) == pytest.approx(2 * (6.0 + 0.25 * 182.0))  # a step counts where it begins in time
    assert CHECK.fuel_l(GOOD, FROM, 7201.0) == pytest.approx(3 * (6.0 + 0.25 * 182.0))


@pytest.mark.parametrize(
    ("outcome", "previous", "expected"),
    [
        ({"plan": with_dg2(GOOD, 99.0), "kept": GOOD}, GOOD, "kept"),
        ({"plan": with_dg2(GOOD, 97.0), "kept": GOOD}, GOOD, "best"),  # 3 L: of the horizon's 412 L it is not 1 %, of the 103 L of two hours it is
        ({"plan": with_dg2(GOOD, 99.0), "kept": GOOD}, None, "best"),  # after an event nothing is promised
        ({"plan": with_dg2(GOOD, 99.0), "kept": replace(GOOD, power_kw={})}, GOOD, "best"),  # what keeps the promise is no plan
        ({"plan": with_dg2(GOOD, 99.0, kw=10.0), "kept": GOOD}, GOOD, "refused"),  # below its minimum
        ({"plan": GOOD, "kept": None}, GOOD, "best"),
        ({"plan": None, "cause": "deadline of 20 s passed", "forecast": None}, GOOD, "refused"),
    ],
)
def test_what_becomes_of_an_answer(outcome: dict[str, Any], previous: Plan | None, expected: str) -> None:
    answer = PlanOutcome(**{"request_id": "q", "status": "ok", "cause": "", "forecast": FORECAST, **outcome})
    found = verdict(answer, asked(previous))
    wanted = {"kept": answer.kept, "best": answer.plan, "refused": None}[expected]
    assert found.plan is wanted
    assert bool(found.faults) is (expected == "refused")
    assert (found.choice is not None and found.choice.kept) is (expected == "kept")


@pytest.mark.parametrize(
    ("hurried", "why"), [(False, "to go on as before is not possible or too dear"), (True, "there was no time to look for a plan without that")]
)
def test_a_planner_without_time_is_not_said_to_have_found_nothing(hurried: bool, why: str) -> None:
    promise = promised(plan("#", "."), GRID, START, {"dg1": ON, "dg2": OFF})
    choice = choose(plan("#", ".#"), None, promise, {"dg1": ON, "dg2": OFF}, 100.0, hurried=hurried)
    assert (choice.kept, choice.why.endswith(why)) == (False, True)
