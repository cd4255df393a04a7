"""The plan check refuses every kind of broken plan, and passes what the rules would do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from ems.config.site import Diesel, Site, Solar, Tank
from ems.model import Limits
from ems.physics import dc_kw, storage_step
from ems.plan import DieselStart, Forecast, Grid, Plan, PlantStart, Target, Unmet, target_at
from ems.plan_case import case_of
from ems.plan_check import PlanCheck
from ems.plan_stores import beyond_tank_l
from ems.reserve import hold_s, storages
from ems.rules import Rules
from tests.ems.island import START, site

SITE = site({"id": "h1", "kind": "hydro", "rated_kw": 50.0})
CHECK = PlanCheck(SITE)
GRID = Grid(START, (900.0,) * 8 + (3600.0,) * 10)
N = GRID.n_steps
SUN = tuple(max(0.0, 280.0 * math.sin(math.pi * (t - START).total_seconds() / 36000)) if (t - START).total_seconds() < 36000 else 0.0 for t in GRID.starts())
FORECAST = Forecast(GRID, (210.0,) * N, {"pv1": SUN}, {"h1": (0.1,) * N})
FROM = PlantStart({"bess1": 0.5}, {"dg1": DieselStart(True, 9000.0), "dg2": DieselStart(False, 9000.0)})
GOOD = Rules(SITE).rollout(FROM, FORECAST, "load-following", "p1", START)


def faults(plan: Plan, start: PlantStart = FROM, forecast: Forecast = FORECAST, limits: dict[str, Limits] | None = None) -> list[str]:
    return CHECK.faults(plan, start, forecast, limits or {})


def test_the_rules_own_plan_passes() -> None:
    assert faults(GOOD) == []
    assert any(GOOD.on["dg2"]) and not all(GOOD.on["dg2"])  # the case is not a trivial one


def column(name: str, asset: str, change: Callable[[tuple[Any, ...], int], tuple[Any, ...]]) -> Callable[[Plan, int], Plan]:
    def broken(plan: Plan, k: int) -> Plan:
        columns = getattr(plan, name)
        return replace(plan, **{name: {**columns, asset: change(columns[asset], k)}})

    return broken


def at(value: Any) -> Callable[[tuple[Any, ...], int], tuple[Any, ...]]:
    return lambda values, k: (*values[:k], value(values[k]) if callable(value) else value, *values[k + 1 :])


BROKEN: dict[str, Callable[[Plan, int], Plan]] = {
    "not a number": column("power_kw", "dg1", at(math.nan)),
    "infinite": column("power_kw", "inv1", at(math.inf)),
    "soc not a number": column("soc", "bess1", at(math.nan)),
    "diesel above its rating": column("power_kw", "dg1", at(400.0)),
    "power of a diesel that is off": column("power_kw", "dg2", at(lambda p: p + 50.0)),
    "diesel on without power, or off with it": column("on", "dg2", at(lambda on: not on)),
    "more sun than there is": column("power_kw", "pv1", at(lambda p: p + 40.0)),
    "negative sun": column("power_kw", "pv1", at(-30.0)),
    "hydro above its rating": column("power_kw", "h1", at(90.0)),
    "inverter above its rating": column("power_kw", "inv1", at(300.0)),
    "inverter charges too fast": column("power_kw", "inv1", at(-300.0)),
    "balance off": column("power_kw", "h1", at(lambda p: p + 20.0 if p < 25.0 else p - 20.0)),
    "inverter off balance": column("power_kw", "inv1", at(lambda p: p - 25.0)),
    "charge out of nothing": column("soc", "bess1", at(lambda s: s + 0.05)),
    "below the floor": column("soc", "bess1", lambda values, k: tuple(0.05 for _ in values)),
    "starts elsewhere": column("soc", "bess1", lambda values, k: (values[0] + 0.2, *values[1:])),
    "too short a column": column("power_kw", "pv1", lambda values, k: values[:-1]),
    "too short an on column": column("on", "dg1", lambda values, k: values[:-1]),
    "soc without its end": column("soc", "bess1", lambda values, k: values[:-1]),
    "all zeros": lambda plan, k: replace(
        plan, power_kw={a: (0.0,) * N for a in plan.power_kw}, on={a: (False,) * N for a in plan.on}, soc={b: (0.5,) * (N + 1) for b in plan.soc}
    ),
    "unserved out of thin air": lambda plan, k: replace(plan, unserved_kw=at(100.0)(plan.unserved_kw, k)),
    "negative unserved": lambda plan, k: replace(plan, unserved_kw=at(-100.0)(plan.unserved_kw, k)),
    "another load": lambda plan, k: replace(plan, load_kw=at(lambda v: v - 60.0)(plan.load_kw, k)),
    "another grid": lambda plan, k: replace(plan, grid=Grid(START + timedelta(hours=1), GRID.step_s)),
    "valid for ever": lambda plan, k: replace(plan, valid_until=GRID.end + timedelta(hours=1)),
    "missing asset": lambda plan, k: replace(plan, power_kw={a: p for a, p in plan.power_kw.items() if a != "h1"}),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_every_kind_of_broken_plan_is_refused(kind: str) -> None:
    for k in range(N):
        assert faults(BROKEN[kind](GOOD, k)), f"step {k}"


def test_a_diesel_that_flaps_is_refused() -> None:
    on = tuple(k % 2 == 0 for k in range(N))
    powers = {**GOOD.power_kw, "dg1": tuple(150.0 if f else 0.0 for f in on)}
    assert any("dg1" in f and "minimum" in f for f in faults(replace(GOOD, on={**GOOD.on, "dg1": on}, power_kw=powers)))


def test_a_locked_diesel_may_not_be_planned() -> None:
    locked = replace(FROM, diesels={**FROM.diesels, "dg2": DieselStart(False, 9000.0, usable=False)})
    assert any("cannot run" in f for f in faults(GOOD, locked))


def test_nobody_forming_is_refused() -> None:
    empty = replace(FROM, soc={"bess1": 0.04})
    dark = replace(GOOD, on={d: (False,) * N for d in GOOD.on}, soc={"bess1": (0.04,) * (N + 1)})
    assert faults(dark, empty)


@pytest.mark.parametrize("bad", [math.nan, -5.0, 5000.0])
def test_a_forecast_out_of_range_refuses_the_plan(bad: float) -> None:
    assert faults(GOOD, forecast=replace(FORECAST, load_kw=(bad, *FORECAST.load_kw[1:])))
    assert faults(GOOD, forecast=replace(FORECAST, available_kw={"pv1": (bad, *SUN[1:])}))


def test_shedding_what_the_rules_serve_is_refused() -> None:
    inv = tuple(p - 60.0 for p in GOOD.power_kw["inv1"])
    soc = [0.5]
    from ems.physics import dc_kw, storage_step
    from ems.reserve import storages

    pair = storages(SITE)[0]
    for p, s in zip(inv, GRID.step_s, strict=True):
        soc.append(storage_step(pair.battery, soc[-1], dc_kw(pair.inverter, p), s / 3600))
    shed = replace(GOOD, power_kw={**GOOD.power_kw, "inv1": inv}, soc={"bess1": tuple(soc)}, unserved_kw=(60.0,) * N)
    assert faults(shed)


def test_a_wasteful_plan_is_refused() -> None:
    """Everything holds, but both diesels run all day for nothing: dearer than the rules."""
    rules = Rules(SITE)
    both = rules.rollout(replace(FROM, soc={"bess1": 0.10}), FORECAST, "cycle-charging", "p2", START)
    dear, cheap = (CHECK.price(case_of(SITE, plan, FROM, FORECAST, {})).litres for plan in (both, GOOD))
    assert dear > cheap


@pytest.mark.parametrize(
    ("objective", "share", "hour_l", "start_l"),
    [("diesel", {}, 7.0, 3.0), ("cost", {}, 4.0, 3.0), ("diesel", {START.month: 0.5}, 3.5, 1.5), ("cost", {START.month: 0.5}, 4.0, 1.5)],
)
def test_what_starts_and_hours_wear_counts_in_the_comparison(objective: str, share: dict[int, float], hour_l: float, start_l: float) -> None:
    """7 L for each hour, or its 6 of money at 1.5 a litre, and 3 L for each start of either set, as the plan has them; wear by its share of the month."""
    hours = starts = 0.0
    for on, before in ((GOOD.on["dg1"], True), (GOOD.on["dg2"], False)):
        hours += sum(s for s, runs in zip(GRID.step_s, on, strict=True) if runs) / 3600.0
        starts += sum(runs and not was for was, runs in zip((before, *on), on, strict=False))
    worn, free = (
        SITE.model_copy(
            update={
                "assets": [a.model_copy(update=wear) if a.kind == "diesel" else a for a in SITE.assets],
                "planner": SITE.planner.model_copy(update={"objective": objective, "wear_share": share}),
                "costs": SITE.costs.model_copy(update={"diesel_per_l": 1.5}),
            }
        )
        for wear in ({"hour_wear_l": 7.0, "start_wear_l": 3.0, "om_per_h": 6.0}, {"hour_wear_l": 0.0, "start_wear_l": 0.0, "om_per_h": 0.0})
    )
    dear, cheap = (PlanCheck(of).price(case_of(of, GOOD, FROM, FORECAST, {})).litres for of in (worn, free))
    assert starts > 0
    assert dear - cheap == pytest.approx(hour_l * hours + start_l * starts)


def test_a_plan_gives_means_over_the_time_asked_for() -> None:
    grid = Grid(START, (300.0, 300.0, 300.0, 3600.0))
    plan = replace(
        GOOD,
        grid=grid,
        on={"dg1": (True, True, False, False), "dg2": (False,) * 4},
        power_kw={"inv1": (30.0, 60.0, 90.0, 0.0), "pv1": (50.0,) * 4},
        available_kw={"pv1": (50.0, 80.0, 80.0, 50.0)},
    )
    whole = target_at(plan, START, 900.0)
    assert whole == Target(frozenset({"dg1"}), {"inv1": 60.0}, "load-following")
    later = target_at(plan, START + timedelta(seconds=600), 1.0)
    assert later is not None and later.on == frozenset()
    assert target_at(plan, START + timedelta(days=1), 900.0) is None


FLAT = Grid(START, (900.0,) * 16)


def led(of: Site, on: dict[str, bool], start: PlantStart, load_kw: float, inverter_kw: float, grid: Grid = FLAT) -> tuple[Plan, Forecast]:
    """Return the plan of the same commitment and the same power of storage in every step, the diesels by their ratings, with its forecast."""
    n, pair = grid.n_steps, storages(of)[0]
    forecast = Forecast(grid, (load_kw,) * n, {s.id: (0.0,) * n for s in of.of(Solar)}, {})
    running_kw = sum(d.rated_kw for d in of.of(Diesel) if on[d.id])
    powers = {d.id: (load_kw - inverter_kw) * d.rated_kw / running_kw if on[d.id] else 0.0 for d in of.of(Diesel)}
    powers |= {"inv1": inverter_kw, "pv1": 0.0}
    soc = [start.soc["bess1"]]
    for step_s in grid.step_s:
        soc.append(storage_step(pair.battery, soc[-1], dc_kw(pair.inverter, inverter_kw), step_s / 3600.0))
    columns = {a: (kw,) * n for a, kw in powers.items()}
    plan = Plan("p", START, grid.end, "mpc", grid, columns, {d: (f,) * n for d, f in on.items()}, {"bess1": tuple(soc)}, (load_kw,) * n, (0.0,) * n)
    return plan, forecast


OF = site()
REST = {"dg1": DieselStart(False, 1e5), "dg2": DieselStart(False, 1e5)}


@pytest.mark.parametrize(
    ("of", "on", "start", "load_kw", "inverter_kw", "word"),
    [
        # A thirsty set beside the one that is enough, all the time: 30 L/h for nothing.
        (
            site({"id": "dg3", "kind": "diesel", "rated_kw": 100.0, "forming": "droop", "fuel": {"no_load_l_per_h": 30.0, "slope_l_per_kwh": 0.25}}),
            {"dg1": True, "dg2": False, "dg3": True},
            PlantStart({"bess1": 0.15}, {**REST, "dg3": DieselStart(False, 1e5)}),
            220.0,
            -2.0,
            "it costs",
        ),
        # The inverter is away and one set alone carries all: the rules put both on the bus.
        (
            site(reserve={"single_former": "refuse"}),
            {"dg1": True, "dg2": False},
            PlantStart({"bess1": 0.15}, REST, usable={"inv1": False}),
            220.0,
            -2.0,
            "reserve is short",
        ),
        # 240 kW of 250 kVA leave 70 kvar where the load draws 116; the rules run a set beside it.
        (
            site({**OF.asset("bess1").model_dump(mode="json", exclude={"device"}), "capacity_kwh": 9000.0}, drop=("bess1",)),
            {"dg1": False, "dg2": False},
            PlantStart({"bess1": 0.22}, REST),
            240.0,
            240.0,
            "reactive power is short",
        ),
    ],
)
def test_what_only_the_rules_beside_it_show(of: Site, on: dict[str, bool], start: PlantStart, load_kw: float, inverter_kw: float, word: str) -> None:
    plan, forecast = led(of, on, start, load_kw, inverter_kw)
    check = PlanCheck(of)
    assert check.broken(plan, start, forecast) == []
    found = check.faults(plan, start, forecast)
    assert any(word in f for f in found), found


def test_a_step_shorter_than_the_ramp_may_not_jump() -> None:
    slow = {"id": "dg1", "kind": "diesel", "rated_kw": 300.0, "forming": "isochronous", "ramp_kw_per_s": 0.1}
    of = site(slow, drop=("dg1",))
    plan, forecast = led(of, {"dg1": True, "dg2": False}, PlantStart({"bess1": 0.5}, REST), 150.0, -2.0)
    jump = replace(plan, power_kw={**plan.power_kw, "dg1": (*plan.power_kw["dg1"][:8], *(p + 95.0 for p in plan.power_kw["dg1"][8:]))})
    step = replace(plan, power_kw={**plan.power_kw, "dg1": (*plan.power_kw["dg1"][:8], *(p + 85.0 for p in plan.power_kw["dg1"][8:]))})
    found = [PlanCheck(of).faults(p, PlantStart({"bess1": 0.5}, REST), forecast) for p in (jump, step)]
    assert [any("its ramp allows 90 kW" in f for f in faults) for faults in found] == [True, False]


@pytest.mark.parametrize(
    ("delay_days", "told_l", "refused"),
    [(0.0, 0.0, False), (2.0, 0.0, True), (2.0, 1e4, False)],  # delivered in time; not yet; not yet, but the plan says so and the rules burn as much
)
def test_fuel_that_has_not_come_is_not_burnt(delay_days: float, told_l: float, refused: bool) -> None:
    tank = {"id": "tank1", "kind": "tank", "capacity_l": 5000.0, "unusable_l": 200.0}
    of = site({**tank, "deliveries": [{"date": date(2026, 3, 1), "litres": 3000.0, "delay_days": delay_days}]})
    start = PlantStart({"bess1": 0.15}, REST, tank_l={"tank1": 260.0})
    plan, forecast = led(of, {"dg1": True, "dg2": False}, start, 200.0, -2.0)
    forecast = replace(forecast, grid=Grid(START, FLAT.step_s))
    if delay_days == 0.0:  # due at midnight: the morning before, it has been there and shows in the level
        start = replace(start, tank_l={"tank1": 3260.0})
    told = (Unmet("fuel", START, told_l, "L", "fuel", "燃料"),) if told_l else ()
    found = PlanCheck(of).faults(replace(plan, unmet=told), start, forecast)
    assert any("more than tank1 holds" in f for f in found) is refused, found


def test_what_one_tank_is_said_to_lack_does_not_excuse_another() -> None:
    tank = {"kind": "tank", "capacity_l": 5000.0, "unusable_l": 200.0}
    of = site({"id": "tank1", "feeds": ["dg1"], **tank}, {"id": "tank2", "feeds": ["dg2"], **tank})
    start = PlantStart({"bess1": 0.15}, REST, tank_l={"tank1": 210.0, "tank2": 210.0})
    plan, forecast = led(of, {"dg1": True, "dg2": True}, start, 300.0, -2.0)
    lacks = [beyond_tank_l(case_of(of, plan, start, forecast, {}), t)[0] for t in of.of(Tank)]
    assert min(lacks) > 50.0
    for told_l, dry in ((0.0, [True, True]), (lacks[0], [False, True]), (sum(lacks), [False, False])):
        unmet = (Unmet("fuel", START, told_l, "L", "fuel", "燃料"),) if told_l else ()
        found = PlanCheck(of).broken(replace(plan, unmet=unmet), start, forecast)
        assert [any(f"more than {t.id} holds" in f for f in found) for t in of.of(Tank)] == dry, found


def test_a_limit_holds_until_it_expires() -> None:
    powers = GOOD.power_kw["dg1"]
    most = max(powers) - 30.0
    first = next(k for k, p in enumerate(powers) if p > most)
    for expires, refused in ((None, True), (GRID.end, True), (GRID.starts()[first], False)):
        limits = {"dg1": Limits(max_kw=most, expires_at=expires)}
        assert any("dg1 at" in f for f in CHECK.broken(GOOD, FROM, FORECAST, limits)) is (refused and most > 0.0)


def test_low_load_is_a_fault_only_where_somebody_could_make_room() -> None:
    """20 kW on one set: with a battery that takes 70 kW it must not run at 20; with a full one it has to.

    So it has to where the battery keeps room for 300 s of a lost feeder (20 kW), of what the set is under its minimum (68) and of
    what is charged (2): that are 7.5 kWh, or 30 kW for a quarter of an hour. At 0.94 it could take 21 kW, at 0.93 it could take 43.
    """
    n = FLAT.n_steps
    forecast = Forecast(FLAT, (20.0,) * n, {"pv1": (0.0,) * n}, {})
    for soc, refused in ((0.5, True), (0.93, True), (0.94, False), (0.95, False)):
        start = PlantStart({"bess1": soc}, REST)
        low, _ = led(OF, {"dg1": True, "dg2": False}, start, 20.0, -2.0)
        low = replace(low, soc={"bess1": (soc,) * (n + 1)})
        assert any("dg1 at 22 kW" in f for f in PlanCheck(OF).broken(low, start, forecast)) is refused


def test_reserve_is_counted_with_the_limits_that_hold_in_the_step() -> None:
    """One set at 222 kW and nobody else while the inverter is out of service for two hours: 444 kWh of reserve are missing."""
    quick = {"id": "dg3", "kind": "diesel", "rated_kw": 100.0, "start_s": 5.0, "warmup_s": 5.0, "sync_s": 5.0}
    of = site(quick, reserve={"single_former": "refuse", "hold_s": 60.0})
    start = PlantStart({"bess1": 0.9}, {**REST, "dg3": DieselStart(False, 1e5, usable=False)})
    plan, forecast = led(of, {"dg1": True, "dg2": False, "dg3": False}, start, 220.0, -2.0)
    limits = {"inv1": Limits(out_of_service=True, expires_at=START + timedelta(hours=2)), "dg1": Limits(max_kw=250.0, expires_at=START + timedelta(hours=3))}
    free, held = (case_of(of, plan, start, forecast, given) for given in ({}, limits))
    assert [k for k in range(16) if "inv1" in held.supply(k).online] == list(range(8, 16))
    assert [k for k in range(16) if "dg1" in held.supply(k).limits] == list(range(12))
    assert held.supply(0).hold_s == hold_s(of, ["dg1", "dg2"]) > hold_s(of)
    assert PlanCheck(of).price(free).short_kwh == 0.0
    assert PlanCheck(of).price(held).short_kwh == pytest.approx(444.0)


@pytest.mark.parametrize(("error_kw", "refused"), [(0.0, False), (SITE.peak_kw + 350.0, False), (1e5, True), (-1.0, True), (math.nan, True), (math.inf, True)])
def test_a_learned_error_is_no_more_than_the_site_can_be_wrong_by(error_kw: float, refused: bool) -> None:
    one = (*(0.0,) * (GOOD.grid.n_steps - 1), error_kw)
    assert any("learned error" in f for f in CHECK.broken(replace(GOOD, error_up_kw=one), FROM, FORECAST)) is refused


@pytest.mark.parametrize(("less", "refused"), [(0, False), (1, True), (-1, True)])
def test_a_learned_error_is_none_or_one_for_each_step(less: int, refused: bool) -> None:
    errors = (5.0,) * (GOOD.grid.n_steps - less)
    assert any("learned error" in f for f in CHECK.broken(replace(GOOD, error_up_kw=errors), FROM, FORECAST)) is refused
    assert not any("learned error" in f for f in CHECK.broken(replace(GOOD, error_up_kw=()), FROM, FORECAST))
