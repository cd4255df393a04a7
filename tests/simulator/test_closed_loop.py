"""Replay: the loop closes, policies keep the rules, the summary adds up, and a violation is seen."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from ems.config.site import Site
from ems.memory import Memory
from ems.model import Image
from ems.plan import Grid, Observation, Plan, PlanOutcome, PlanRequest
from ems.rules import Rules
from ems.series import SeriesTable
from simulator.closed_loop import Case, Plans, Run, controlled, run, starting
from simulator.plans import RollingPlans, Solves, past
from simulator.plant import Flows, Plant
from simulator.scenario import as_conditions
from simulator.summary import summarise, times
from simulator.tallies import Deferred, River, Ships
from simulator.violations import Violations

START = datetime(2026, 3, 1, tzinfo=UTC)
ASSETS: tuple[dict[str, Any], ...] = (
    {"id": "town", "kind": "load", "peak_kw": 900},
    {"id": "pv1", "kind": "solar", "rated_kw": 900},
    {"id": "hydro1", "kind": "hydro", "rated_kw": 250, "min_kw": 40, "forming": "droop", "head_m": 62, "design_flow_m3s": 0.52, "pond_m3": 3000},
    {"id": "dg1", "kind": "diesel", "rated_kw": 600, "forming": "isochronous", "fuel": {"no_load_l_per_h": 12.6, "slope_l_per_kwh": 0.249}, "start_l": 2.0},
    {"id": "dg2", "kind": "diesel", "rated_kw": 600, "fuel": {"no_load_l_per_h": 12.6, "slope_l_per_kwh": 0.262}, "start_l": 2.0},
    {"id": "inv1", "kind": "inverter", "rated_kw": 800, "forming": "droop", "efficiency": 0.975, "no_load_kw": 6},
    {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 2400, "charge_kw": 800, "discharge_kw": 800},
)


def site_of(*more: dict[str, Any], **sections: Any) -> Site:
    return Site.model_validate({"site": {"id": "test"}, **sections, "assets": (*ASSETS, *more)})


def table_of(site: Site, hours: int = 48) -> SeriesTable:
    t = np.arange(4 * hours) / 4.0
    load = 420 + 120 * np.sin((t - 14) / 24 * 2 * math.pi)
    sun = 780 * np.maximum(0.0, np.sin((t % 24 - 6) / 12 * math.pi))
    return SeriesTable(site, START, 900.0, {"load_kw": load, "pv1.available_kw": sun, "river.inflow_m3s": np.full(4 * hours, 0.3)}, "abc")


def case_of(site: Site, hours: int = 48, **changes: Any) -> Case:
    return replace(Case(site, table_of(site, hours), START, 900.0, 3600.0, 4 * hours), **changes)


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    case = case_of(site_of())
    return {p: run(case, p) for p in ("load-following", "cycle-charging", "diesel-only")}


@pytest.mark.parametrize("policy", ["load-following", "cycle-charging", "diesel-only"])
def test_rule_policies_serve_the_load_and_keep_the_rules(runs: dict[str, Run], policy: str) -> None:
    made = runs[policy]
    assert {k: c.count for k, c in made.violations.counts.items()} == dict.fromkeys(made.violations.counts, 0)
    assert made.sums["unserved_kwh"] == 0
    assert made.sums["load_kwh"] == pytest.approx(sum(table_of(site_of()).forecast(Grid(START, (900.0,) * 192)).load_kw) / 4)
    assert made.blackouts == made.fallback_steps == 0
    supply = made.sums["diesel_kwh"] + made.sums["solar_kwh"] + made.sums["hydro_kwh"] + made.sums["battery_discharge_kwh"] - made.sums["battery_charge_kwh"]
    assert supply == pytest.approx(made.sums["served_kwh"], abs=1e-4)
    assert made.sums["hydro_kwh"] <= made.sums["hydro_available_kwh"] + 1e-6
    assert made.sums["solar_available_kwh"] == pytest.approx(made.sums["solar_kwh"] + made.sums["curtailed_kwh"])


def test_storage_and_losses_close(runs: dict[str, Run]) -> None:
    made = runs["cycle-charging"]
    taken = (made.soc_start["bess1"] - made.soc_end["bess1"]) * 2400
    assert taken + made.sums["battery_charge_kwh"] - made.sums["battery_discharge_kwh"] == pytest.approx(made.sums["losses_kwh"], abs=1e-6)


def test_diesel_only_burns_the_most_and_has_no_renewables(runs: dict[str, Run]) -> None:
    alone = runs["diesel-only"]
    assert alone.sums["solar_available_kwh"] == alone.sums["hydro_available_kwh"] == alone.sums["battery_charge_kwh"] == 0
    assert alone.sums["diesel_l"] > max(runs[p].sums["diesel_l"] for p in ("load-following", "cycle-charging"))


def test_the_same_case_gives_the_same_run(runs: dict[str, Run]) -> None:
    again = run(case_of(site_of()), "load-following")
    assert again.rows == runs["load-following"].rows
    assert again.sums == runs["load-following"].sums


def test_rows_have_a_value_for_every_column(runs: dict[str, Run]) -> None:
    for made in runs.values():
        assert len(made.rows) == 192
        assert {len(r) for r in made.rows} == {len(made.columns)}
        assert len(set(made.columns)) == len(made.columns)
    made = runs["load-following"]
    first = dict(zip(made.columns, made.rows[0], strict=True))
    assert first["time"] == "2026-03-01T00:00:00Z"
    assert first["town.power_kw"] == first["load_kw"]
    on = [sum(dict(zip(made.columns, r, strict=True))[f"{d}.on"] for r in made.rows) / 4 for d in ("dg1", "dg2")]
    assert on == [made.run_h["dg1"], made.run_h["dg2"]]
    kwh = sum(dict(zip(made.columns, r, strict=True))["dg1.power_kw"] for r in made.rows) / 4
    assert kwh + sum(dict(zip(made.columns, r, strict=True))["dg2.power_kw"] for r in made.rows) / 4 == pytest.approx(made.sums["diesel_kwh"], abs=0.1)


class Pause(Plans):
    """A plan that takes dg1 off for one interval."""

    def observe(self, observation: Observation) -> None:
        """Nothing is learned."""

    def plan(self, image: Image, memory: Memory) -> Plan | None:
        n = 48
        grid = Grid(START, (900.0,) * n)
        on = tuple(k != 8 for k in range(n))
        power = {"dg1": tuple(300.0 * flag for flag in on), "dg2": (0.0,) * n, "inv1": (-6.0,) * n, "hydro1": (100.0,) * n}
        return Plan(
            "p1",
            START,
            START + timedelta(hours=12),
            "mpc",
            grid,
            power,
            {"dg1": on, "dg2": (False,) * n},
            {"bess1": (0.5,) * (n + 1)},
            (500.0,) * n,
            (0.0,) * n,
        )


def test_a_diesel_that_is_started_out_of_its_cool_down_is_on_the_bus_in_that_step() -> None:
    made = run(case_of(site_of(), hours=4), "mpc", Pause())
    table = [dict(zip(made.columns, r, strict=True)) for r in made.rows]
    assert [r["dg1.on"] for r in table[6:11]] == [1, 1, 0, 1, 1]
    assert table[9]["dg1.power_kw"] >= 180.0
    assert made.violations.counts["min_loading"].count == 0


def test_a_diesel_that_was_started_takes_commands_in_the_interval_after() -> None:
    """From then on the sun leaves it 50 kW: the battery is to take what it gives above that at its minimum loading of 180 kW."""
    site = site_of()
    sun = np.where(np.arange(16) < 10, 0.0, 350.0)
    table = SeriesTable(site, START, 900.0, {"load_kw": np.full(16, 500.0), "pv1.available_kw": sun, "river.inflow_m3s": np.full(16, 0.3)}, "abc")
    made = run(case_of(site, hours=4, table=table), "mpc", Pause())
    rows = [dict(zip(made.columns, r, strict=True)) for r in made.rows]
    assert [r["dg1.on"] for r in rows[8:11]] == [0, 1, 1]
    assert rows[10]["dg1.power_kw"] == pytest.approx(180.0)
    assert made.violations.counts["min_loading"].count == 0


class Script:
    """A plan that keeps dg1 alone on and the battery idle, from the third interval on."""

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.images: list[Image] = []

    def observe(self, observation: Observation) -> None:
        self.seen.append(observation)

    def plan(self, image: Image, memory: Memory) -> Plan | None:
        self.images.append(image)
        if len(self.images) < 3:
            return None
        n = 48
        grid = Grid(START, (3600.0,) * n)
        power = {"dg1": (300.0,) * n, "dg2": (0.0,) * n, "inv1": (-6.0,) * n, "hydro1": (100.0,) * n}
        on = {"dg1": (True,) * n, "dg2": (False,) * n}
        return Plan("p1", START, START + timedelta(days=2), "mpc", grid, power, on, {"bess1": (0.5,) * (n + 1)}, (500.0,) * n, (0.0,) * n)


def test_a_plan_is_followed_and_what_has_passed_is_observed() -> None:
    case = case_of(site_of(), hours=6)
    script = Script()
    made = run(case, "mpc", script)
    assert made.fallback_steps == 2
    table = [dict(zip(made.columns, r, strict=True)) for r in made.rows]
    assert {r["source"] for r in table[2:]} == {"mpc"}
    assert {r["dg1.on"] for r in table[2:]} == {1}
    assert {r["hydro1.power_kw"] for r in table[2:]} == {100.0}
    assert {r["inv1.power_kw"] for r in table[2:]} == {-6.0}
    assert [o.start for o in script.seen] == [START + timedelta(minutes=15 * k) for k in range(24)]
    assert script.seen[5].load_kw == pytest.approx(table[5]["load_kw"], abs=1e-4)
    assert set(script.seen[5].available_kw) == {"pv1"}


def test_the_first_diesels_carry_the_first_load_less_the_river() -> None:
    site = site_of()
    first = table_of(site).conditions(START, 900)
    assert starting(site, replace(first, load_kw={"town": 600.0})) == ("dg1",)
    assert starting(site, replace(first, load_kw={"town": 700.0})) == ("dg1", "dg2")
    assert starting(site, replace(first, load_kw={"town": 100.0}, inflow_m3s={"hydro1": 0.52})) == ()


def test_summary_formulas(runs: dict[str, Run]) -> None:
    case = case_of(site_of())
    made, alone = runs["load-following"], runs["diesel-only"]
    found = summarise(case, made, Solves(), alone, "none", ("s", "abc"))
    assert found["diesel_l_soc_corrected"] == pytest.approx(found["diesel_l"] + (0.5 - found["soc_end"]) * 2400 * 0.96 * 0.975 * 0.249, abs=1e-3)
    assert found["renewable_fraction"] == pytest.approx(1 - found["diesel_kwh"] / found["served_kwh"], abs=1e-6)
    assert found["co2_t"] == pytest.approx(found["diesel_l"] * 0.84 * 43.0 * 74.1 / 1e6, abs=1e-5)
    assert found["co2_displaced_t"] == pytest.approx((alone.sums["diesel_l"] - found["diesel_l"]) * 0.84 * 43.0 * 74.1 / 1e6, abs=1e-5)
    assert found["cost"]["total"] == pytest.approx(sum(v for k, v in found["cost"].items() if k != "total"), abs=1e-5)
    assert found["cost"]["fuel"] + found["cost"]["starts"] == pytest.approx(1.10 * found["diesel_l"], abs=1e-5)
    assert found["lcoe_per_kwh"] is None
    assert (found["start"], found["end"], found["steps"]) == ("2026-03-01T00:00:00Z", "2026-03-03T00:00:00Z", 192)
    lone = summarise(case, alone, Solves(), alone, "none", ("s", "abc"))
    assert (lone["soc_start"], lone["soc_end"], lone["min_soc"]) == (0.5, 0.5, 0.5)
    assert lone["diesel_l"] == lone["diesel_l_soc_corrected"] == lone["baseline_diesel_l"]
    assert lone["co2_displaced_t"] == 0


def test_lcoe_counts_the_capex_of_what_is_used(runs: dict[str, Run]) -> None:
    economics = {"discount_rate": 0.05, "years": 20, "subsidy_share": 0.5, "capex": {"pv1": 1_000_000, "bess1": 500_000}}
    case = case_of(site_of(economics=economics))
    made = runs["load-following"]
    found = summarise(case, made, Solves(), None, "none", ("s", "abc"))
    recovery = 0.05 / (1 - 1.05**-20)
    per_year = 8760 / 48
    assert found["lcoe_per_kwh"] == pytest.approx((recovery * 750_000 / per_year + found["cost"]["total"]) / found["served_kwh"], abs=1e-5)
    lone = summarise(case, runs["diesel-only"], Solves(), None, "none", ("s", "abc"))
    assert lone["lcoe_per_kwh"] == pytest.approx(lone["cost"]["total"] / lone["served_kwh"], abs=1e-6)
    assert lone["baseline_diesel_l"] is None


def test_times_are_of_plans_that_there_were() -> None:
    assert times([]) == {"p50": None, "p95": None, "max": None}
    assert times([0.1 * k for k in range(1, 21)]) == pytest.approx({"p50": 1.0, "p95": 1.9, "max": 2.0})


def flows_of(site: Site, power: dict[str, float], load_kw: float, on: tuple[str, ...] = ("dg1",), soc: float = 0.5) -> Flows:
    """A step as it might have been: whatever is not named is off."""
    everything = {a.id: 0.0 for a in site.assets} | power
    return Flows(
        power_kw=everything, load_kw=load_kw, served_kw=load_kw, unserved_kw=0.0, station_kw=0.0, available_kw={"pv1": 0.0}, curtailed_kw=0.0, spilled_kw=0.0,
        pushed_kw=0.0, fuel_l={}, running={d: d in on for d in ("dg1", "dg2")}, starts={}, losses_kw=0.0, soc={"bess1": soc}, pond_m3={},
        formers=(*on, "inv1"), blackout=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("power", "load_kw", "on", "soc", "kind", "kwh"),
    [
        ({"dg1": 400, "inv1": -6}, 394, ("dg1",), 0.5, None, 0),
        ({"dg1": 400, "inv1": -6}, 384, ("dg1",), 0.5, "balance", 10),
        ({"dg1": 630, "inv1": 0}, 630, ("dg1", "dg2"), 0.5, "rating", 30),
        ({"dg1": 400, "inv1": -6}, 394, ("dg1",), 0.05, "soc", 120),
        ({"dg1": 100, "inv1": -6}, 94, ("dg1",), 0.5, "min_loading", 77),  # the battery could have charged
        ({"dg1": 500, "inv1": 200}, 700, ("dg1",), 0.16, "reserve", 316),  # 168.48 kWh over 900 s and more: 184 kW for 500
    ],
)
def test_every_violation_is_seen(power: dict[str, float], load_kw: float, on: tuple[str, ...], soc: float, kind: str | None, kwh: float) -> None:
    site = site_of()
    judge = Violations(site, {"bess1": 0.5})
    judge.add(flows_of(site, power, load_kw, on, soc), {"bess1": soc}, 1.0)
    found = {k: c.count for k, c in judge.counts.items() if c.count}
    assert found.get(kind) == 1 if kind else found == {}, found
    if kind in ("balance", "rating", "soc", "min_loading"):
        assert judge.counts[kind].kwh == pytest.approx(kwh)


def test_low_load_with_the_surplus_spent_is_hours_and_no_violation() -> None:
    site = site_of()
    judge = Violations(site, {"bess1": 0.95})
    judge.add(flows_of(site, {"dg1": 100, "inv1": -6}, 94, soc=0.95), {"bess1": 0.95}, 0.25)
    assert judge.counts["min_loading"].count == 0
    assert judge.low_load_h == 0.25
    judge.add(flows_of(site, {"dg1": 100, "pv1": 50, "inv1": -6}, 144, soc=0.95), {"bess1": 0.95}, 0.25)
    assert judge.counts["min_loading"].count == 1


def test_a_battery_that_starts_outside_its_band_may_come_back_but_not_go_on() -> None:
    site = site_of()
    judge = Violations(site, {"bess1": 0.97})
    for soc, count in ((0.97, 0), (0.96, 0), (0.966, 1), (0.94, 1), (0.949, 1), (0.955, 2)):
        judge.add(flows_of(site, {"dg1": 400, "inv1": -6}, 394, soc=soc), {"bess1": soc}, 0.25)
        assert judge.counts["soc"].count == count, soc


def test_a_blackout_is_a_violation_with_what_was_not_served() -> None:
    site = site_of()
    plant = Plant(site, running=["dg1"])
    plant.trip("dg1")
    plant.trip("hydro1")
    conditions = as_conditions(table_of(site).conditions(START, 900))
    flows = plant.step(900, conditions)
    judge = Violations(site, {"bess1": 0.5})
    judge.add(flows, {"bess1": 0.5}, 0.25)
    assert judge.counts["reserve"].kwh == pytest.approx(conditions.load_kw["town"] / 4)


def test_a_greedy_river_is_never_below_what_a_turbine_made() -> None:
    site = site_of()
    hydro = site.asset("hydro1")
    river = River(hydro, 1500)  # type: ignore[arg-type]
    first = river.reach_kwh(0.3, 3600)
    assert first == pytest.approx(250)  # 0.3 m3/s and the pond: more than it can swallow
    assert sum(river.reach_kwh(0.3, 3600) for _ in range(100)) == pytest.approx((0.3 * 360000 + 1500 + 0.3 * 3600 - 0.52 * 3600) / 3600 * 250 / 0.52)


def test_deferrable_days_are_local_and_of_a_cut_day_counts_what_no_longer_fitted() -> None:
    desal = {"id": "d1", "kind": "deferrable", "rated_kw": 100, "daily_kwh": 800, "window": ["06:00", "22:00"]}
    site = Site.model_validate({"site": {"id": "test", "timezone": "Pacific/Palau"}, "assets": (*ASSETS, desal)})
    deferred = Deferred(site)
    local = datetime(2026, 3, 1, tzinfo=site.tz)
    assert deferred.unmet_kwh(local, local + timedelta(days=1)) == pytest.approx(800)
    assert deferred.unmet_kwh(local + timedelta(hours=12), local + timedelta(days=1)) == pytest.approx(200)  # 600 kWh could have come before
    assert deferred.unmet_kwh(local, local + timedelta(hours=10)) == 0  # the rest of the day is enough for all of it
    deferred.add((local + timedelta(hours=8)).astimezone(UTC), 3 * 3600, {"d1": 100})
    assert deferred.unmet_kwh(local, local + timedelta(days=1)) == pytest.approx(500)
    assert deferred.unmet_kwh(local, local + timedelta(days=2)) == pytest.approx(1300)


def test_a_day_with_a_deferrable_has_it_served() -> None:
    desal = {"id": "d1", "kind": "deferrable", "rated_kw": 100, "daily_kwh": 400, "window": ["06:00", "22:00"]}
    made = run(case_of(site_of(desal), hours=24), "load-following")
    assert made.deferrable_unmet_kwh == pytest.approx(0, abs=25)
    assert made.sums["load_kwh"] > sum(table_of(site_of(), 24).forecast(Grid(START, (900.0,) * 96)).load_kw) / 4 + 370


TANK: dict[str, Any] = {"id": "tank1", "kind": "tank", "feeds": ["dg1"], "capacity_l": 5000, "level_l_start": 1000}


def test_deliveries_come_late_and_in_order() -> None:
    declared = [{"date": date(2026, 3, 5), "litres": 1}, {"date": date(2026, 3, 1), "litres": 2, "delay_days": 2}, {"date": date(2026, 2, 1), "litres": 3}]
    ships = Ships(site_of({**TANK, "deliveries": declared}), START, START + timedelta(days=30))
    seen = [ships.arriving(START + timedelta(days=d), {"tank1": 0.0}) for d in range(6)]
    assert seen == [[], [], [("tank1", 2)], [], [("tank1", 1)], []]


def test_where_none_is_declared_fuel_comes_when_it_is_low() -> None:
    for declared in ([], [{"date": date(2030, 1, 1), "litres": 1}]):
        ships = Ships(site_of({**TANK, "deliveries": declared}), START, START + timedelta(days=30))
        assert [ships.arriving(START, {"tank1": level}) for level in (5000, 1251, 1250)] == [[], [], [("tank1", 3750)]]


def test_a_long_run_does_not_end_for_want_of_a_ship() -> None:
    made = run(case_of(site_of(TANK)), "diesel-only")
    assert made.sums["diesel_l"] > 1000
    assert made.sums["unserved_kwh"] == 0


def test_the_past_of_a_series_is_what_forecasts_may_learn_from() -> None:
    case = case_of(site_of())
    assert past(case, START) == ()
    learned = past(case, START + timedelta(hours=2))
    assert [o.start for o in learned] == [START + timedelta(minutes=15 * k) for k in range(8)]
    assert learned[1].load_kw == pytest.approx(sum(case.table.conditions(START + timedelta(minutes=15), 900).load_kw.values()))


class Once:
    """A planner that answers its first question with a plan that is valid for an hour, and then fails."""

    def __init__(self, site: Site, table: SeriesTable) -> None:
        self._site, self._table = site, table
        self.asked: list[PlanRequest] = []

    def submit(self, request: PlanRequest) -> None:
        self.asked.append(request)

    def take(self) -> PlanOutcome:
        request = self.asked[-1]
        if len(self.asked) > 1:
            return PlanOutcome(request.id, "failed", "tired", None, None)
        forecast = self._table.forecast(Grid(request.at, (900.0,) * 8))
        plan = Rules(self._site).rollout(request.start, forecast, "load-following", "p", request.at)
        return PlanOutcome(request.id, "ok", "", replace(plan, valid_until=request.at + timedelta(hours=1)), forecast)

    def close(self) -> None:
        """Nothing is held."""


def test_a_plan_that_is_over_is_not_handed_on_as_the_plan_before() -> None:
    """The state stays as it is, so that only time can take it away; at the end of its hour it was followed until now."""
    case, seen = case_of(site_of(), steps=1, soc=0.15), Script()
    run(case, "load-following", seen)
    planner = Once(case.site, case.table)
    plans = RollingPlans(case.site, planner, 900.0)
    image, memory = seen.images[0], Memory()
    for k in range(8):
        plans.plan(replace(image, time=image.time + timedelta(minutes=15 * k), now_s=image.now_s + 900.0 * k), memory)
    assert [request.previous is not None for request in planner.asked] == [False, *(True,) * 4, *(False,) * 3]


def test_diesel_only_keeps_the_fleet_it_is_given() -> None:
    site = site_of()
    assert [a.id for a in controlled(site, "diesel-only", 3600.0, ("dg2",)).assets] == ["town", "dg2"]
    assert controlled(site, "mpc", 1800.0).planner.replan_s == 1800
    assert controlled(site, "mpc", 1800.0).control.stage == "control"
