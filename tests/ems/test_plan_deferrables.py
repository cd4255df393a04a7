"""What the check says of deferrable loads in a plan: limits, runs under way, starts of the day, and the day's energy."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ems.config.site import Site
from ems.controller import Controller
from ems.deferrables import Deferrables
from ems.memory import Duty, Memory
from ems.model import Limits
from ems.plan import DeferrableStart, DieselStart, Forecast, Grid, Plan, PlantStart, Target
from ems.plan_check import PlanCheck
from ems.plan_start import plant_start
from ems.plan_unmet import unmet
from ems.rules import Rules
from tests.ems.island import START, points, site, telemetry

# 400 kWh a day at 100 kW, from 04:00 to 20:00; plans begin at 06:00 and have 16 steps of an hour.
LOAD = {"id": "ice", "kind": "deferrable", "rated_kw": 100.0, "daily_kwh": 400.0, "window": ["04:00", "20:00"]}
GRID = Grid(START, (3600.0,) * 16)
N = GRID.n_steps


def island(**changes: Any) -> Site:
    return site({**LOAD, **changes})


def begin(duty: DeferrableStart | None = None, done_kwh: float = 0.0) -> PlantStart:
    diesels = {"dg1": DieselStart(True, 9000.0), "dg2": DieselStart(False, 9000.0)}
    return PlantStart({"bess1": 0.5}, diesels, done_kwh={"ice": done_kwh}, deferrables={} if duty is None else {"ice": duty})


def planned(of: Site, start: PlantStart, drawn_kw: dict[int, float], limits: dict[str, Limits] | None = None, *, tells: bool = True) -> tuple[Plan, Forecast]:
    """Return the rules' plan in which the load draws this much in these steps; it tells what it leaves undone, unless it does not."""
    forecast = Forecast(GRID, (150.0,) * N, {"pv1": (0.0,) * N}, {})
    column = tuple(drawn_kw.get(k, 0.0) for k in range(N))
    asked = replace(forecast, load_kw=tuple(150.0 + kw for kw in column))
    plan = Rules(of).rollout(start, asked, "load-following", "p", START)
    on = {**plan.on, "ice": tuple(kw > 0.0 for kw in column)}
    plan = replace(plan, power_kw={**plan.power_kw, "ice": column}, on=on, deferrables=("ice",))
    return replace(plan, unmet=tuple(unmet(of, plan, start, forecast, limits or {})) if tells else ()), forecast


def faults(of: Site, start: PlantStart, drawn_kw: dict[int, float], limits: dict[str, Limits] | None = None, *, tells: bool = True) -> list[str]:
    plan, forecast = planned(of, start, drawn_kw, limits, tells=tells)
    return PlanCheck(of).faults(plan, start, forecast, limits or {})


def at(kw: float, *steps: int) -> dict[int, float]:
    return dict.fromkeys(steps, kw)


@pytest.mark.parametrize(
    ("limits", "drawn_kw", "word"),
    [
        (Limits(), at(100.0, 2, 3, 4, 5), None),
        (Limits(max_kw=40.0), at(100.0, 2, 3, 4, 5), "ice at 100 kW in step 2, allowed 30 to 40 kW"),
        (Limits(max_kw=40.0), at(40.0, *range(2, 12)), None),
        (Limits(max_kw=40.0, expires_at=START + timedelta(hours=4)), at(100.0, 4, 5, 6, 7), None),
        (Limits(max_kw=40.0, expires_at=START + timedelta(hours=5)), at(100.0, 4, 5, 6, 7), "ice at 100 kW in step 4"),
        (Limits(max_kw=20.0), at(20.0, 2, 3), "ice at 20 kW in step 2, allowed 0 to 0 kW"),  # under its minimum it cannot run
        (Limits(min_kw=80.0), at(50.0, *range(2, 10)), "ice at 50 kW in step 2, allowed 80 to 100 kW"),
        (Limits(min_kw=80.0, max_kw=60.0), at(60.0, *range(2, 9)), None),
        (Limits(out_of_service=True), at(100.0, 2), "ice at 100 kW in step 2, allowed 0 to 0 kW"),
    ],
)
def test_power_beyond_what_an_operator_allows(limits: Limits, drawn_kw: dict[int, float], word: str | None) -> None:
    found = faults(island(modulating=True), begin(), drawn_kw, {"ice": limits})
    assert any(word in f for f in found) if word is not None else found == [], found


def test_what_is_all_or_nothing_does_not_run_below_its_rating() -> None:
    assert any("allowed 0 to 0" in f for f in faults(island(), begin(), at(100.0, 2, 3, 4, 5), {"ice": Limits(max_kw=90.0)}))


@pytest.mark.parametrize(
    ("changes", "duty", "drawn", "word"),
    [
        # Half of its day is had in one run: it goes on, and does not pause until 13:00.
        ({"interruptible": False}, DeferrableStart(True, 7200.0, 1), (0, 1), None),
        ({"interruptible": False}, DeferrableStart(True, 7200.0, 1), (7, 8), "ice starts 2 times on 2026-03-01, allowed 1"),
        ({"interruptible": False}, DeferrableStart(True, 7200.0, 1), (0, 8), "ice starts 2 times on 2026-03-01, allowed 1"),
        ({"interruptible": False}, DeferrableStart(False, 7200.0, 1), (7, 8), "ice starts 2 times on 2026-03-01, allowed 1"),
        ({"interruptible": False}, DeferrableStart(False, 7200.0, 0), (7, 8), None),
        ({"interruptible": False}, DeferrableStart(True, 9e4, 0), (7, 8), None),  # begun yesterday: today's run is another
        # Two starts are left of four; going on is none.
        ({}, DeferrableStart(False, 7200.0, 2), (1, 3), None),
        ({}, DeferrableStart(False, 7200.0, 2), (1, 3, 5), "ice starts 5 times on 2026-03-01, allowed 4"),
        ({}, DeferrableStart(True, 7200.0, 2), (0, 3, 5), None),
        ({}, DeferrableStart(True, 7200.0, 9), (0, 1), None),  # more than it may be: by hand, and it only goes on
        # Three hours at least, of which two have passed.
        ({"min_run_s": 10800.0}, DeferrableStart(True, 7200.0, 1), (0,), None),
        ({"min_run_s": 10800.0}, DeferrableStart(True, 7200.0, 1), (2, 3, 4), "ice runs for 7200 s up to step -1, minimum 10800 s"),
        ({"min_run_s": 18000.0}, DeferrableStart(True, 7200.0, 1), (0, 1, 4, 5, 6, 7, 8), "ice runs for 14400 s up to step 1, minimum 18000 s"),
        ({"min_run_s": 10800.0}, DeferrableStart(False, 7200.0, 1), (0,), "ice runs for 3600 s up to step 0, minimum 10800 s"),
        ({"min_run_s": 10800.0, "window": ["04:00", "07:00"], "daily_kwh": 300.0}, DeferrableStart(True, 3600.0, 1), (0,), None),  # its hours are over
    ],
)
def test_runs_under_way_and_starts_of_today(changes: dict[str, Any], duty: DeferrableStart, drawn: tuple[int, ...], word: str | None) -> None:
    of, start = island(**changes), begin(duty, 200.0)
    plan, forecast = planned(of, start, at(100.0, *drawn))
    plan = replace(plan, unmet=tuple(u for u in plan.unmet if u.limit != "min_run"))
    found = PlanCheck(of).faults(plan, start, forecast)
    assert any(word in f for f in found) if word is not None else found == [], found


def test_a_run_that_a_plan_says_it_cuts_short_may_be() -> None:
    start = begin(DeferrableStart(True, 600.0, 1), 200.0)
    plan, _ = planned(island(), start, at(100.0, 3, 4))
    told = [u for u in plan.unmet if u.limit == "min_run"]
    assert [(u.at, u.amount, u.unit, u.en) for u in told] == [(START, 1200.0, "s", "ice is stopped 1200 s before its minimum run")]
    assert "1200 秒" in told[0].ja
    assert faults(island(), start, at(100.0, 3, 4)) == []
    assert any("ice runs for 600 s" in f for f in faults(island(), start, at(100.0, 3, 4), tells=False))


@pytest.mark.parametrize(
    ("duty", "done_kwh", "drawn", "limits", "word"),
    [
        (None, 0.0, (), Limits(), "ice is left 400 kWh short on 2026-03-01, could have them"),
        (None, 0.0, (2,), Limits(), "ice is left 300 kWh short"),
        (None, 300.0, (2,), Limits(), None),
        (None, 396.5, (), Limits(), None),  # less than a hundredth is no wish
        (None, 0.0, (), Limits(out_of_service=True), None),  # it cannot have them
        (None, 0.0, (), Limits(out_of_service=True, expires_at=START + timedelta(hours=11)), "ice is left 300 kWh short"),  # three hours are left then
        (None, 0.0, (11, 12), Limits(out_of_service=True, expires_at=START + timedelta(hours=11)), "ice is left 100 kWh short"),
        (None, 0.0, (11, 12, 13), Limits(out_of_service=True, expires_at=START + timedelta(hours=11)), None),
        (DeferrableStart(False, 60.0, 4), 200.0, (), Limits(), None),  # begun as often as it may be
        (DeferrableStart(True, 7200.0, 4), 200.0, (), Limits(), "ice is left 200 kWh short"),  # but it could have gone on
    ],
)
def test_a_day_that_could_be_had_is_had_or_told(
    duty: DeferrableStart | None, done_kwh: float, drawn: tuple[int, ...], limits: Limits, word: str | None
) -> None:
    held = {"ice": limits}
    silent = faults(island(), begin(duty, done_kwh), at(100.0, *drawn), held, tells=False)
    assert any(word in f for f in silent) if word is not None else silent == [], silent
    assert faults(island(), begin(duty, done_kwh), at(100.0, *drawn), held) == []


def test_what_is_told_of_one_load_does_not_excuse_another() -> None:
    of, start = site(LOAD, {**LOAD, "id": "pump", "daily_kwh": 100.0}), begin()
    forecast = Forecast(GRID, (150.0,) * N, {"pv1": (0.0,) * N}, {})
    plan = Rules(of).rollout(start, forecast, "load-following", "p", START)
    idle, off = {"ice": (0.0,) * N, "pump": (0.0,) * N}, {"ice": (False,) * N, "pump": (False,) * N}
    plan = replace(plan, power_kw={**plan.power_kw, **idle}, on={**plan.on, **off}, deferrables=("ice", "pump"))
    told = tuple(u for u in unmet(of, plan, start, forecast, {}) if u.limit == "deferrable")
    assert [round(u.amount) for u in told] == [400, 100]
    assert PlanCheck(of).faults(replace(plan, unmet=told), start, forecast) == []
    assert any("pump is left 100 kWh short" in f for f in PlanCheck(of).faults(replace(plan, unmet=told[:1]), start, forecast))
    assert any("ice is left 400 kWh short" in f for f in PlanCheck(of).faults(replace(plan, unmet=told[1:]), start, forecast))


def test_a_plan_starts_from_the_run_and_the_starts_that_control_has_counted() -> None:
    """Running for 700 s, begun for the third time today; what has not been seen is left out."""
    of = island()
    memory = Memory(done_kwh={"ice": 120.0}, duties={"ice": Duty(True, -699.0, 3)}, day="2026-03-01")
    told = telemetry(0, 1.0, START, ice=points(power_kw=100.0, running=1.0))
    image, decision = Controller(of, policy="load-following").step(replace(told, now_s=1.0), (), None, memory)
    start = plant_start(of, image, decision.memory)
    assert start.deferrables == {"ice": DeferrableStart(True, 700.0, 3)}
    assert start.done_kwh == {"ice": pytest.approx(120.0 + 100.0 / 3600.0)}
    assert plant_start(of, image, Memory()).deferrables == {}


@pytest.mark.parametrize(("ran_s", "wished_kw", "drawn_kw"), [(600.0, 0.0, 50.0), (1900.0, 0.0, 0.0), (600.0, 70.0, 70.0), (None, 0.0, 0.0)])
def test_a_run_is_not_cut_short_by_a_plan_that_did_not_begin_it(ran_s: float | None, wished_kw: float, drawn_kw: float) -> None:
    """Half an hour at least: the plan that began it may fail, and the next one know nothing of it."""
    of = site({**LOAD, "min_run_s": 1800.0, "modulating": True, "min_kw": 50.0})
    running = ran_s is not None
    told = telemetry(0, 1.0, START, ice=points(power_kw=100.0 * running, running=float(running)))
    image, _ = Controller(of, policy="load-following").step(replace(told, now_s=5000.0), (), None, Memory())
    memory = Memory(duties={"ice": Duty(running, 5000.0 - (ran_s or 0.0), 1)})
    wish = Target(frozenset(), {}, "mpc", deferrable_kw={"ice": wished_kw})
    assert Deferrables(of).powers(image, memory, wish, surplus=False) == {"ice": drawn_kw}
