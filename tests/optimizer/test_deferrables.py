"""Deferrable loads of a plan from a real solve: what an operator allows, what is under way, and what is left of today's starts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ems.config.site import Site
from ems.model import Limits
from ems.plan import DeferrableStart, DieselStart, Forecast, Grid, Plan, PlantStart
from ems.plan_check import PlanCheck
from optimizer.foresight import after
from optimizer.frame import Question
from optimizer.neighbourhood import whole_because
from optimizer.problem import PlanProblem
from tests.optimizer.cases import DG1, HOUR, LOAD, NOON, PV1, forecast, planned, question, site, start

# 400 kWh a day at 100 kW, from 06:00 to 22:00; plans begin at noon and have ten hours to its end.
ICE: dict[str, Any] = {"id": "ice", "kind": "deferrable", "rated_kw": 100.0, "daily_kwh": 400.0, "window": ["06:00", "22:00"]}
TEN = (HOUR,) * 10
DARK = (0.0,) * 7 + (110.0,) * 3
"""Sun from 19:00 on: what may wait waits for it. Of 70 kW of load the set takes 60 at least, so 10 kW of it are used without the ice."""


def isle(**changes: Any) -> Site:
    return site(LOAD, PV1, DG1, {**ICE, **changes})


def begin(of: Site, duty: DeferrableStart | None = None, done_kwh: float = 0.0) -> PlantStart:
    return replace(start(of, on=["dg1"]), done_kwh={"ice": done_kwh}, deferrables={} if duty is None else {"ice": duty})


def solved(of: Site, duty: DeferrableStart | None, done_kwh: float, limits: dict[str, Limits] | None = None, **more: Any) -> Plan:
    """Return the plan of ten hours, which the check has nothing against."""
    steps, load_kw, sun = more.pop("steps", TEN), more.pop("load", 70.0), more.pop("sun", DARK)
    from_ = replace(begin(of, duty, done_kwh), **more)
    plan = planned(of, steps, load_kw, from_, sun=sun, limits=limits or {})
    assert PlanCheck(of).broken(plan, from_, forecast(of, plan.grid, load_kw, sun=sun), limits or {}) == []
    return plan


def hours(plan: Plan) -> list[int]:
    return [k for k, on in enumerate(plan.on["ice"]) if on]


def missed(plan: Plan) -> float:
    return sum(u.amount for u in plan.unmet if u.limit == "deferrable")


# ------------------------------------------------------------------ what an operator allows
@pytest.mark.parametrize(
    ("limits", "most_kw", "drawn_kwh"),
    [
        (Limits(), 100.0, 400.0),
        (Limits(max_kw=40.0), 40.0, 400.0),
        (Limits(max_kw=35.0), 35.0, 350.0),  # ten hours at 35 kW
        (Limits(max_kw=40.0, expires_at=NOON + timedelta(hours=9)), 100.0, 400.0),
        (Limits(max_kw=20.0), 0.0, 0.0),  # its minimum is 30 kW: it cannot run
    ],
)
def test_no_more_is_drawn_than_an_operator_allows(limits: Limits, most_kw: float, drawn_kwh: float) -> None:
    plan = solved(isle(modulating=True), None, 0.0, {"ice": limits})
    drawn = plan.power_kw["ice"]
    held = [kw for k, kw in enumerate(drawn) if limits.max_kw is not None and limits.holds(plan.grid.starts()[k])]
    assert max(drawn) <= most_kw + 1e-3 and max(held, default=0.0) <= (limits.max_kw or 0.0) + 1e-3
    assert sum(drawn) == pytest.approx(drawn_kwh, abs=0.5)
    assert missed(plan) == pytest.approx(400.0 - drawn_kwh, abs=0.5)


def test_an_operators_minimum_is_drawn_while_it_runs_and_is_no_order_to_run() -> None:
    """With 40 kW of sun to spare all day it runs at 40 for ten hours; where 80 are asked for it is five hours of 80."""
    of, sun = isle(modulating=True), (50.0,) * 10
    free = solved(of, None, 0.0, sun=sun).power_kw["ice"]
    held = solved(of, None, 0.0, {"ice": Limits(min_kw=80.0)}, sun=sun).power_kw["ice"]
    assert free == pytest.approx((40.0,) * 10, abs=0.1)
    assert sorted(held) == pytest.approx([0.0] * 5 + [80.0] * 5, abs=0.1)


def test_what_is_all_or_nothing_and_may_not_draw_its_rating_cannot_run() -> None:
    plan = solved(isle(), None, 0.0, {"ice": Limits(max_kw=99.0)})
    assert hours(plan) == [] and missed(plan) == pytest.approx(400.0)


# ------------------------------------------------------------------ what is under way
@pytest.mark.parametrize(
    ("changes", "duty", "done_kwh", "dark", "sunny"),
    [
        # In the dark it costs 25 L an hour, in any of the three hours of sun from 19:00 on nothing.
        ({}, DeferrableStart(True, 7200.0, 1), 200.0, [], 2),
        ({"interruptible": False}, None, 200.0, [], 2),
        ({"interruptible": False}, DeferrableStart(True, 7200.0, 1), 200.0, [0, 1], 0),  # its one run goes on
        ({"interruptible": False}, DeferrableStart(True, 7200.0, 1), 400.0, [], 0),  # until its day is had
        ({"interruptible": False}, DeferrableStart(True, 9e4, 0), 200.0, [], 2),  # yesterday's run is over with its hours
        ({"min_run_s": 2.5 * HOUR}, DeferrableStart(True, 0.5 * HOUR, 1), 200.0, [0, 1], 0),
        ({"min_run_s": 2.5 * HOUR}, DeferrableStart(True, 2.5 * HOUR, 1), 100.0, [], 3),
        ({"min_run_s": 2.5 * HOUR}, DeferrableStart(True, 0.0, 1), 400.0, [0, 1, 2], 0),  # even with its day had
    ],
)
def test_a_run_under_way_goes_on_as_long_as_it_must(
    changes: dict[str, Any], duty: DeferrableStart | None, done_kwh: float, dark: list[int], sunny: int
) -> None:
    plan = solved(isle(**changes), duty, done_kwh)
    ran = hours(plan)
    assert ran[: len(dark)] == dark
    assert len(ran) == len(dark) + sunny and all(k >= 7 for k in ran[len(dark) :])
    assert ran == [ran[0] + k for k in range(len(ran))]  # in one go
    assert missed(plan) == 0.0


def test_a_run_under_way_ends_with_what_it_is_allowed_or_its_hours() -> None:
    """Three of the five hours that it would have to go on for are left of its window; out of service it is off at once, and another start is not left."""
    late = solved(isle(min_run_s=5.0 * HOUR, window=["06:00", "15:00"]), DeferrableStart(True, 0.0, 1), 0.0)
    assert hours(late) == [0, 1, 2] and missed(late) == pytest.approx(100.0)
    away = {"ice": Limits(out_of_service=True, expires_at=NOON + timedelta(hours=1))}
    once = solved(isle(interruptible=False), DeferrableStart(True, 600.0, 1), 200.0, away)
    assert hours(once) == [] and missed(once) == pytest.approx(200.0)


def test_a_run_under_way_is_cut_short_before_anybody_goes_without_power() -> None:
    """200 kW of diesel for 180 and then 60 kW of load: for two hours both cannot be had, and the plan says what it stops."""
    plan = solved(isle(min_run_s=4.0 * HOUR), DeferrableStart(True, 0.0, 1), 300.0, load=(180.0,) * 2 + (60.0,) * 8, sun=(0.0,) * 10)
    assert max(plan.unserved_kw) < 1e-3
    assert not any(plan.on["ice"][:2]) and any(plan.on["ice"][2:])
    assert [(u.at, u.amount) for u in plan.unmet if u.limit == "min_run"] == [(NOON, 4.0 * HOUR)]


def test_on_a_dead_bus_there_is_a_plan_too() -> None:
    plan = solved(isle(interruptible=False, min_run_s=4.0 * HOUR), DeferrableStart(True, 0.0, 1), 0.0, diesels={"dg1": DieselStart(False, 1e6, usable=False)})
    assert hours(plan) == [] and missed(plan) == pytest.approx(400.0)


# ------------------------------------------------------------------ starts of today
@pytest.mark.parametrize(("starts_today", "expected"), [(0, 2), (1, 1), (2, 0), (3, 0)])
def test_starts_of_today_are_counted(starts_today: int, expected: int) -> None:
    """Two bright hours with a dark one between them: two starts where they are left, one long run else, and then none."""
    of, sun = isle(max_starts_per_day=2), (0.0,) * 5 + (150.0, 0.0, 150.0, 0.0, 0.0)
    plan = solved(of, DeferrableStart(False, 7200.0, starts_today), 200.0, sun=sun)
    begun = sum(on and not before for before, on in zip((False, *plan.on["ice"]), plan.on["ice"], strict=False))
    assert begun == expected
    assert missed(plan) == pytest.approx(0.0 if expected else 200.0)


def test_tomorrow_has_starts_of_its_own() -> None:
    of = isle(interruptible=False)
    plan = solved(of, DeferrableStart(False, 7200.0, 1), 200.0, steps=(HOUR,) * 34, sun=(0.0,) * 34)
    assert len(hours(plan)) == 4 and min(hours(plan)) >= 18  # from 06:00 on
    assert missed(plan) == pytest.approx(200.0)


# ------------------------------------------------------------------ what else takes the state
def test_the_whole_is_searched_where_a_load_does_not_run_as_planned() -> None:
    of = isle()
    before = solved(of, None, 0.0)
    problem = PlanProblem(of, TEN)
    for duty, usable, expected in (
        (DeferrableStart(True, 600.0, 1), {}, "ice does not run as planned"),
        (DeferrableStart(False, 600.0, 0), {}, ""),
        (DeferrableStart(True, 600.0, 1), {"ice": False}, "ice cannot run as planned"),  # nobody can make it
    ):
        asked = question(of, TEN, 70.0, replace(begin(of, duty), usable=usable), sun=DARK)
        problem.fill(asked)
        assert whole_because(of, problem.frame, replace(asked, previous=before)) == expected


def test_a_window_begins_where_the_last_one_left_its_loads() -> None:
    """From 20:00 on by the hour: on at 21:00, off at 22:00; on at 23:00 and over midnight, which begins another day."""
    of = isle(window=["00:00", "24:00"])
    at = NOON + timedelta(hours=8)
    on = (False, True, False, True, True, True)
    grid = Grid(at, (HOUR,) * len(on))
    plan = planned(of, grid.step_s, 50.0, begin(of), at=at)
    plan = replace(plan, on={**plan.on, "ice": on})
    problem = PlanProblem(of, grid.step_s)
    asked = Question(at, grid, begin(of), Forecast(grid, (50.0,) * len(on), {"pv1": (0.0,) * len(on)}, {}), {})
    found = [after(of, problem, plan, asked, begin(of, DeferrableStart(False, 1800.0, 1)), k).deferrables["ice"] for k in (1, 2, 3, 4, 6)]
    assert found == [
        DeferrableStart(False, 1800.0 + HOUR, 1),
        DeferrableStart(True, HOUR, 2),
        DeferrableStart(False, HOUR, 2),
        DeferrableStart(True, HOUR, 0),
        DeferrableStart(True, 3.0 * HOUR, 0),
    ]
