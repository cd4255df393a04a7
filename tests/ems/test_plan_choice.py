"""Which plan goes on when a new one comes: the old one as long as it holds and little is to be gained."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ems.model import NOTHING, Limits
from ems.plan import DieselStart, Forecast, Grid, Plan, PlantStart
from ems.plan_check import PlanCheck
from ems.plan_choice import DEFERRED_L_PER_KWH, GAIN, GAIN_L, VALID, Choice, PlanChoice, common
from ems.rules import Rules
from tests.ems.island import START, site
from tests.ems.plans import SITES, good

SITE = site()
RULES, CHECK = Rules(SITE), PlanCheck(SITE)
CHOICE = PlanChoice(SITE, CHECK)
STEPS = (900.0,) * 8 + (3600.0,) * 10
N = len(STEPS)
GRID = Grid(START, STEPS)
FORECAST = Forecast(GRID, (180.0,) * N, {"pv1": (0.0,) * N}, {})
FROM = PlantStart({"bess1": 0.5}, {"dg1": DieselStart(True, 1e5), "dg2": DieselStart(False, 1e5)})
IDLE = {"inv1": (-2.0,) * N, "pv1": (0.0,) * N}


def wanted(dg1: str, dg2: str, of: Grid = GRID) -> Plan:
    """Return a plan with these commitments, `#` on and `.` off; one mark stands for all that follow. The powers are those of the dispatch."""
    on = {d: tuple((marks + marks[-1] * N)[k] == "#" for k in range(of.n_steps)) for d, marks in (("dg1", dg1), ("dg2", dg2))}
    bare = Plan("p", of.start, of.end, "mpc", of, {a: v[: of.n_steps] for a, v in IDLE.items()}, on, {}, (0.0,) * of.n_steps, (0.0,) * of.n_steps)
    return replace(RULES.follow(bare, FROM, replace(FORECAST, grid=of), of.start), valid_until=of.start + VALID)


def chosen(old: Plan | None, new: Plan, start: PlantStart = FROM, forecast: Forecast = FORECAST, limits: dict[str, Limits] | None = None) -> Choice:
    return CHOICE.between(old, new, start, forecast, limits or NOTHING)


BEST = wanted("#", ".")  # 180 kW on the large set all day: 6 + 45 L/h
LARGER = wanted("#", "#")  # both sets: 4 L/h more


def test_a_plan_lived_through_again_is_itself() -> None:
    assert CHECK.broken(BEST, FROM, FORECAST) == []
    again = RULES.follow(BEST, FROM, FORECAST, START)
    assert again.power_kw == BEST.power_kw
    assert again.soc["bess1"] == pytest.approx(BEST.soc["bess1"])


@pytest.mark.parametrize("name", SITES)
def test_what_the_rules_do_follows_itself(name: str) -> None:
    case = good(name, 3)
    again = Rules(case.site).follow(case.plan, case.start, case.forecast, case.plan.made_at)
    for asset, powers in case.plan.power_kw.items():
        assert again.power_kw[asset] == pytest.approx(powers, abs=0.1), asset
    assert PlanCheck(case.site).broken(again, case.start, case.forecast) == []


SHUT = replace(FROM, diesels={**FROM.diesels, "dg1": DieselStart(False, 1e5, usable=False)})
EMPTY = replace(FROM, soc={"bess1": 0.04})
MORE = replace(FORECAST, load_kw=(*FORECAST.load_kw[:12], *(340.0,) * (N - 12)))


@pytest.mark.parametrize(
    ("old", "new", "start", "forecast", "kept", "word"),
    [
        (None, BEST, FROM, FORECAST, False, "no plan to keep"),
        (BEST, BEST, FROM, FORECAST, True, "would save 0.0 L"),
        (BEST, LARGER, FROM, FORECAST, True, "would save -"),  # dearer by 12 h x 4 L/h
        (wanted("#", ".......##."), BEST, FROM, FORECAST, True, "would save 5.0 L"),  # 1.25 h of 4 L/h; 1 % are 6 L
        (LARGER, BEST, FROM, FORECAST, False, "it saves"),
        (BEST, wanted(".", "#"), SHUT, FORECAST, False, "does not hold any more: dg1 cannot run"),
        (wanted("####.", "####."), BEST, EMPTY, FORECAST, False, "it saves"),  # nothing is left to hold the bus: all of it unserved
        (wanted("#", "."), wanted("#", "............#"), FROM, MORE, True, "would save 0.0 L"),  # the load has outgrown the set: the other joins in any case
    ],
)
def test_which_plan_goes_on(old: Plan | None, new: Plan, start: PlantStart, forecast: Forecast, kept: bool, word: str) -> None:
    choice = chosen(old, new, start, forecast)
    assert (choice.kept, word in choice.why) == (kept, True), choice.why
    assert choice.plan.on == (old if kept and old is not None else new).on


def test_the_price_of_a_change_is_gain_and_threshold_by_hand() -> None:
    """Both sets for 12 h against one: 4 L/h and dg2's start saved; the first two hours are a changed commitment, once."""
    choice = chosen(LARGER, BEST)
    start_l = 0.003 * 200.0
    hours = 8 * 0.25 + 10
    assert choice.gain_l == pytest.approx(hours * 4.0 + start_l - start_l)
    assert choice.needed_l == pytest.approx(GAIN * (hours * (6.0 + 4.0 + 182.0 * 0.25) + start_l))
    short = replace(FORECAST, load_kw=(20.0,) * N)
    assert GAIN_L == 2.0 and (chosen(BEST, BEST, forecast=short).needed_l or 0.0) >= GAIN_L


@pytest.mark.parametrize(("marks", "changes"), [(".#....", 1), (".##...", 1), (".#.#..", 2), ("........#", 0), (".......####", 1)])
def test_a_commitment_changed_within_two_hours_has_its_price(marks: str, changes: int) -> None:
    """What the new plan costs more than fuel and starts is one start of the engine for each stretch that is other than before."""
    new = wanted("#", marks)
    choice = chosen(BEST, new)
    plain = CHECK.price(BEST, FROM).litres - CHECK.price(new, FROM).litres
    assert choice.gain_l == pytest.approx(plain - changes * 0.003 * 200.0)


def later(minutes: float) -> tuple[Forecast, Plan, datetime]:
    at = START + timedelta(minutes=minutes)
    return replace(FORECAST, grid=Grid(at, STEPS)), replace(BEST, grid=Grid(at, STEPS), made_at=at, id="new"), at


@pytest.mark.parametrize("minutes", [5.0, 15.0, 60.0, 100.0])
def test_a_kept_plan_is_dated_again_but_never_beyond_its_grid(minutes: float) -> None:
    forecast, new, at = later(minutes)
    choice = chosen(BEST, new, forecast=forecast)
    assert (choice.kept, choice.plan.id, choice.plan.made_at) == (True, BEST.id, BEST.made_at)
    assert choice.plan.valid_until == at + VALID
    late = GRID.end - timedelta(minutes=30)
    assert CHOICE.between(BEST, new, FROM, forecast, at=late).plan.valid_until == GRID.end


@pytest.mark.parametrize(("minutes", "reaches"), [(-15.0, False), (0.0, True), (5 * 60.0, True), (7 * 60.0, False)])
def test_an_old_plan_is_compared_only_where_it_has_looked(minutes: float, reaches: bool) -> None:
    forecast, new, _ = later(minutes)
    cut = common(GRID, forecast)
    assert (cut is not None) is reaches
    if cut is not None:
        assert cut.grid.end <= GRID.end
        assert len(cut.load_kw) == len(cut.available_kw["pv1"]) == cut.grid.n_steps
    else:
        assert not chosen(BEST, new, forecast=forecast).kept


def test_what_a_deferrable_would_miss_counts_for_the_new_plan() -> None:
    of = site({"id": "ice", "kind": "deferrable", "rated_kw": 40.0, "modulating": True, "daily_kwh": 300.0})
    idle = replace(BEST, power_kw={**BEST.power_kw, "ice": (0.0,) * N}, on={**BEST.on, "ice": (False,) * N}, deferrables=("ice",))
    busy = replace(
        idle, power_kw={**BEST.power_kw, "ice": (0.0,) * 8 + (20.0,) * 5 + (0.0,) * 5}, on={**BEST.on, "ice": (False,) * 8 + (True,) * 5 + (False,) * 5}
    )
    choice = PlanChoice(of, PlanCheck(of)).between(idle, busy, FROM, FORECAST)
    assert not choice.kept
    assert choice.gain_l == pytest.approx(DEFERRED_L_PER_KWH * 100.0 - 0.25 * 100.0)
    assert PlanChoice(of, PlanCheck(of)).between(busy, idle, FROM, FORECAST).gain_l == pytest.approx(0.25 * 100.0)
