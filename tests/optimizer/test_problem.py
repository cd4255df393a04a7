"""Small problems whose answer is known by hand."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from ems.model import Limits
from ems.physics import ac_kw, dc_kw, fuel_l, hydro_kw, storage_step
from ems.plan import DieselStart, Plan, PlantStart
from optimizer.problem import PlanProblem
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, NOON, PV1, hybrid, planned, site, start


def unmet(plan: Plan) -> set[str]:
    return {u.limit for u in plan.unmet}


def test_one_diesel_serves_a_constant_load_at_its_curve() -> None:
    alone = site(LOAD, DG1)
    plan = planned(alone, [HOUR] * 4, 100.0, start(alone, on=["dg1"]))
    assert plan.power_kw["dg1"] == pytest.approx((100.0,) * 4)
    assert plan.objective_l == pytest.approx(4 * (4.0 + 0.25 * 100.0))
    assert plan.unmet == ()


def test_a_stopped_diesel_pays_its_start() -> None:
    alone = site(LOAD, DG1)
    plan = planned(alone, [HOUR] * 4, 100.0, start(alone))
    assert plan.objective_l == pytest.approx(4 * (4.0 + 0.25 * 100.0) + 1.0)


@pytest.mark.parametrize(("share", "starts"), [(0.0, 3), (1.0, 1)])
def test_a_start_is_worth_more_than_its_litres(share: float, starts: int) -> None:
    """80 kW but for one hour: dg2 before and after saves 7.2 L with three starts of 1 L; at 3 L each, only the change for the last three hours does.

    A month in which wear does not count (`planner.wear_share`) has the three.
    """
    worn = site(LOAD, {**DG1, "start_wear_l": 2.0}, {**DG2, "start_wear_l": 2.0}, planner={"wear_share": {NOON.month: share}})
    plan = planned(worn, [HOUR] * 7, [80.0] * 3 + [150.0] + [80.0] * 3, start(worn, on=["dg1"]))
    on = [(plan.on["dg1"][k], plan.on["dg2"][k]) for k in range(7)]
    assert sum(now and not before for a, b in zip([(True, False), *on], on, strict=False) for before, now in zip(a, b, strict=True)) == starts
    assert on[3] == (True, False)


def test_a_curve_counts_as_its_points() -> None:
    points = [[40.0, 14.0], [100.0, 26.0], [200.0, 51.0]]
    curved = site(LOAD, {**DG1, "min_loading": 0.2, "fuel": {"points": points}})
    plan = planned(curved, [HOUR] * 3, [60.0, 100.0, 150.0], start(curved, on=["dg1"]))
    assert plan.objective_l == pytest.approx(18.0 + 26.0 + 38.5)


def test_the_cheaper_set_runs_and_the_other_rests() -> None:
    """80 kW: dg2 burns 2 + 0.26 x 80 = 22.8 L/h, dg1 4 + 20 = 24 L/h."""
    two = site(LOAD, DG1, DG2)
    plan = planned(two, [HOUR] * 3, 80.0, start(two, on=["dg2"]))
    assert plan.on["dg2"] == (True,) * 3
    assert plan.on["dg1"] == (False,) * 3


def test_surplus_under_minimum_loading_is_low_load_and_said() -> None:
    alone = site(LOAD, DG1)
    plan = planned(alone, [HOUR] * 2, 20.0, start(alone, on=["dg1"]))
    assert plan.power_kw["dg1"] == pytest.approx((20.0, 20.0))
    assert unmet(plan) == {"min_loading"}


def test_the_battery_carries_the_load_alone_and_its_charge_follows_physics() -> None:
    plan = planned(hybrid(), [HOUR] * 3, 40.0, start(hybrid(), soc=0.9))
    assert plan.on["dg1"] == plan.on["dg2"] == (False,) * 3
    inverter, battery = hybrid().asset("inv1"), hybrid().asset("bess1")
    soc = 0.9
    for k in range(3):
        assert plan.power_kw["inv1"][k] == pytest.approx(40.0, abs=1e-3)
        soc = storage_step(battery, soc, dc_kw(inverter, 40.0), 1.0)  # type: ignore[arg-type]
        assert plan.soc["bess1"][k + 1] == pytest.approx(soc, abs=1e-6)


def test_sun_that_no_one_can_take_is_curtailed() -> None:
    """A nearly full battery: it takes no more than its room less what a lost feeder would push into it for 300 s, the rest of the sun stays unused."""
    plan = planned(hybrid(), [HOUR] * 2, 50.0, start(hybrid(), soc=0.94), sun=150.0)
    assert max(plan.soc["bess1"]) <= 0.95 + 1e-6
    isle = site(LOAD, PV1, DG1, INV1, {**BESS1, "soc_max": 0.99})
    kept_kwh = 50.0 * 0.96 * 0.975 * 300.0 / 3600.0
    full = planned(isle, [HOUR] * 2, 50.0, start(isle, soc=0.94), sun=150.0).soc["bess1"][-1]
    assert full == pytest.approx(0.99 - kept_kwh / 400.0, abs=5e-4)
    room_kw = max(0.0, 0.01 * 400.0 - kept_kwh) / 0.96 / 0.975 + 2.0  # at the busbar, over both hours
    assert sum(plan.power_kw["pv1"]) == pytest.approx(2 * 50.0 + room_kw + 2.0, rel=1e-3)
    assert plan.available_kw["pv1"] == (150.0, 150.0)


def test_charge_is_limited_by_the_curve() -> None:
    bess = {**BESS1, "charge_limit_curve": [[0.5, 1.0], [0.9, 0.2]]}
    curved = site(LOAD, PV1, DG1, INV1, bess)
    plan = planned(curved, [900.0] * 2, 0.0, start(curved, soc=0.7), sun=150.0)
    inverter: Any = curved.asset("inv1")
    assert plan.power_kw["inv1"][0] >= ac_kw(inverter, -200.0 * 0.6) - 1e-3  # share at 0.7: 1 - 0.2 / 0.4 x 0.8


def test_scarce_power_is_shed_in_the_order_of_priority() -> None:
    town = {**LOAD, "feeders": [{"id": "clinic", "priority": 1, "share": 0.6}, {"id": "homes", "priority": 2, "share": 0.4}]}
    short = site(town, DG2)
    problem_plan = planned(short, [HOUR] * 2, 150.0, start(short, on=["dg2"]))
    assert problem_plan.unserved_kw[0] >= 50.0 - 1e-6
    assert problem_plan.unserved_kw[0] <= 0.4 * 150.0 + 1e-6  # nothing of the clinic
    assert "unserved" in unmet(problem_plan)
    assert all(u.en and u.ja for u in problem_plan.unmet)


def test_no_former_at_all_is_a_dark_island_and_still_a_plan() -> None:
    begin = start(hybrid(), soc=0.04, dg1=DieselStart(False, 0.0, usable=False), dg2=DieselStart(False, 0.0, usable=False))
    plan = planned(hybrid(), [HOUR] * 3, 100.0, begin, sun=100.0)
    assert plan.power_kw["pv1"] == pytest.approx((0.0,) * 3)
    assert plan.unserved_kw == pytest.approx((102.0,) * 3)  # the inverter's standby with it
    assert plan.soc["bess1"] == pytest.approx((0.04,) * 4)


def test_a_battery_under_its_floor_comes_back_and_never_goes_lower() -> None:
    plan = planned(hybrid(), [900.0] * 8, 100.0, start(hybrid(), soc=0.06, on=["dg1"]))
    soc = plan.soc["bess1"]
    assert all(b >= a - 1e-9 for a, b in zip(soc, soc[1:], strict=False) if a < 0.1)
    assert soc[-1] >= 0.1 - 1e-6


def test_a_battery_above_its_top_is_not_charged_further() -> None:
    plan = planned(hybrid(), [900.0] * 4, 20.0, start(hybrid(), soc=0.98), sun=150.0)
    soc = plan.soc["bess1"]
    assert all(b <= a + 1e-9 for a, b in zip(soc, soc[1:], strict=False))


HISTORY = [
    # (start of dg1, expected `on` of the first steps of 15 min, where the battery could carry the load)
    (DieselStart(True, 0.0), (True, True, False)),
    (DieselStart(True, 900.0), (True, False, False)),
    (DieselStart(True, 1e6), (False, False, False)),
    (DieselStart(True, 1e6, frozen=True), (True, False, False)),
    (DieselStart(True, 0.0, usable=False), (False, False, False)),
]


@pytest.mark.parametrize(("first", "expected"), HISTORY)
def test_history_fixes_what_still_has_to_run(first: DieselStart, expected: tuple[bool, ...]) -> None:
    plan = planned(hybrid(), [900.0] * 8, 40.0, start(hybrid(), soc=0.9, dg1=first))
    assert plan.on["dg1"][:3] == expected


def test_minimum_down_time_keeps_a_diesel_off() -> None:
    alone = site({**LOAD, "peak_kw": 300.0}, {**DG1, "min_down_s": 3600.0}, DG2, reserve={"single_former": "allow"})
    plan = planned(alone, [900.0] * 6, 80.0, start(alone, on=["dg2"], dg1=DieselStart(False, 900.0)), limits={"dg2": Limits(max_kw=50.0)})
    assert plan.on["dg1"][:3] == (False,) * 3
    assert plan.on["dg1"][3]


def test_a_start_longer_than_a_step_rounds_up() -> None:
    """65 s to the bus and steps of 30 s: the first step that begins after it is the third."""
    alone = site(LOAD, DG1)
    plan = planned(alone, [30.0] * 5, 100.0, start(alone))
    assert plan.on["dg1"] == (False, False, False, True, True)


def test_minimum_up_time_holds_on_a_mixed_grid() -> None:
    two = site({**LOAD, "peak_kw": 300.0}, DG1, {**DG2, "min_up_s": 3600.0, "start_l": 0.0})
    steps = [300.0] * 3 + [900.0] * 3 + [HOUR] * 2
    plan = planned(two, steps, [100.0, 250.0] + [100.0] * 6, start(two, on=["dg1"]))
    runs = [sum(s for s, on in zip(steps, plan.on["dg2"], strict=True) if on)]
    assert plan.on["dg2"][1]
    assert runs[0] >= 3600.0


LIMITS = [
    ("pv1", Limits(max_kw=30.0), lambda p: max(p.power_kw["pv1"]) <= 30.0 + 1e-6),
    ("pv1", Limits(out_of_service=True), lambda p: max(p.power_kw["pv1"]) <= 1e-6),
    ("dg1", Limits(out_of_service=True), lambda p: not any(p.on["dg1"])),
    ("inv1", Limits(max_kw=50.0), lambda p: max(abs(v) for v in p.power_kw["inv1"]) <= 50.0 + 1e-3),
    ("bess1", Limits(soc_min=0.6), lambda p: min(p.soc["bess1"]) >= 0.6 - 1e-6),
    ("bess1", Limits(soc_max=0.7), lambda p: max(p.soc["bess1"]) <= 0.7 + 1e-6),
]


@pytest.mark.parametrize(("asset", "limit", "obeyed"), LIMITS, ids=lambda x: str(x) if isinstance(x, str) else "")
def test_operator_limits_are_obeyed(asset: str, limit: Limits, obeyed: Any) -> None:
    plan = planned(hybrid(), [HOUR] * 6, 120.0, start(hybrid(), soc=0.65), sun=[150.0, 150.0, 150.0, 0.0, 0.0, 0.0], limits={asset: limit})
    assert obeyed(plan)


def test_a_limit_ends_when_it_expires() -> None:
    limit = Limits(max_kw=10.0, expires_at=NOON + timedelta(hours=2))
    plan = planned(hybrid(), [HOUR] * 4, 160.0, start(hybrid()), sun=100.0, limits={"pv1": limit})
    assert plan.power_kw["pv1"] == pytest.approx((10.0, 10.0, 100.0, 100.0), abs=1e-3)


def test_an_engine_out_of_service_for_an_hour_runs_after_it() -> None:
    """200 kW with an inverter of 50 need the large engine; it is away for the first hour, and nobody is in the dark longer than that."""
    of = site(LOAD, DG1, DG2, {**INV1, "rated_kw": 50.0}, BESS1)
    limit = Limits(out_of_service=True, expires_at=NOON + timedelta(hours=1))
    plan = planned(of, [HOUR] * 3, 190.0, start(of, on=["dg2"]), limits={"dg1": limit})
    assert plan.on["dg1"] == (False, True, True)
    assert plan.unserved_kw[0] > 30.0
    assert plan.unserved_kw[1:] == pytest.approx((0.0, 0.0), abs=1e-3)


RIVER: dict[str, Any] = {
    "id": "hydro1",
    "kind": "hydro",
    "rated_kw": 50.0,
    "min_kw": 10.0,
    "head_m": 20.0,
    "design_flow_m3s": 0.32,
    "pond_m3": 2000.0,
    "ecological_flow_m3s": 0.05,
}


def test_water_is_conserved_and_the_ecological_flow_goes_first() -> None:
    river = site(LOAD, DG1, RIVER)
    hydro: Any = river.asset("hydro1")
    begin = PlantStart({}, {"dg1": DieselStart(True, 1e6)}, pond_m3={"hydro1": 1000.0})
    plan = planned(river, [HOUR] * 4, 120.0, begin, water=0.25)
    per_m3s = hydro_kw(hydro, 0.2) / 0.2
    pond = 1000.0
    for k, power in enumerate(plan.power_kw["hydro1"]):
        after = plan.pond_m3["hydro1"][k + 1]
        assert after <= pond + (0.25 - 0.05 - power / per_m3s) * HOUR + 1e-3
        assert -1e-6 <= after <= 2000.0 + 1e-6
        pond = after


@pytest.mark.parametrize(("mode", "expected"), [("fixed", 31.25), ("level", 31.25), ("flow", 31.25)])
def test_without_a_free_hand_the_river_gives_what_it_has(mode: str, expected: float) -> None:
    river = site(LOAD, DG1, {**RIVER, "mode": mode, "ecological_flow_m3s": 0.0})
    plan = planned(river, [HOUR] * 2, 120.0, start(river, on=["dg1"]), water=0.2)
    assert plan.power_kw["hydro1"] == pytest.approx((expected, expected), rel=1e-3)


def test_too_little_water_turns_nothing() -> None:
    river = site(LOAD, DG1, {**RIVER, "pond_m3": 0.0})
    plan = planned(river, [HOUR] * 2, 120.0, start(river, on=["dg1"]), water=0.08)
    assert plan.power_kw["hydro1"] == pytest.approx((0.0, 0.0))


DESAL: dict[str, Any] = {
    "id": "desal1",
    "kind": "deferrable",
    "rated_kw": 40.0,
    "min_kw": 10.0,
    "modulating": True,
    "daily_kwh": 80.0,
    "window": ["06:00", "18:00"],
}


def test_a_deferrable_runs_in_the_sun_and_gets_its_day() -> None:
    isle = site(LOAD, PV1, DG1, DESAL)
    at = NOON - timedelta(hours=6)
    sun = [0.0] * 4 + [150.0] * 4 + [0.0] * 4
    plan = planned(isle, [HOUR] * 12, 60.0, start(isle, on=["dg1"]), sun=sun, at=at)
    drawn = plan.power_kw["desal1"]
    assert sum(drawn) == pytest.approx(80.0, abs=0.1)
    assert plan.load_kw == pytest.approx([60.0 + d for d in drawn], abs=1e-6)
    assert plan.deferrables == ("desal1",)


def test_what_was_done_today_is_not_done_again_and_a_closed_window_is_unmet() -> None:
    isle = site(LOAD, PV1, DG1, DESAL)
    at = NOON + timedelta(hours=5)
    begin = start(isle, on=["dg1"])
    half = PlantStart(begin.soc, begin.diesels, done_kwh={"desal1": 60.0})
    assert sum(planned(isle, [HOUR] * 4, 60.0, half, at=at).power_kw["desal1"]) == pytest.approx(20.0, abs=0.1)
    plan = planned(isle, [HOUR] * 4, 60.0, begin, at=at)
    assert sum(plan.power_kw["desal1"]) == pytest.approx(40.0, abs=0.1)  # one hour of the window is left
    assert [u.amount for u in plan.unmet if u.limit == "deferrable"] == pytest.approx([40.0], abs=0.2)


def test_the_window_is_local_time() -> None:
    isle = site(LOAD, DG1, {**DESAL, "daily_kwh": 40.0}).model_copy()
    local = isle.model_copy(update={"site": isle.site.model_copy(update={"timezone": "Asia/Tokyo"})})
    plan = planned(local, [HOUR] * 12, 60.0, start(local, on=["dg1"]), at=NOON + timedelta(hours=6))  # 03:00 in Tokyo
    assert plan.on["desal1"][:3] == (False,) * 3
    assert sum(plan.power_kw["desal1"]) >= 30.0 - 1e-6


def test_an_empty_tank_stops_its_diesel() -> None:
    tank: dict[str, Any] = {"id": "tank1", "kind": "tank", "feeds": ["dg1"], "capacity_l": 1000.0, "unusable_l": 50.0}
    isle = site({**LOAD, "peak_kw": 80.0}, DG1, DG2, tank)
    begin = PlantStart({}, {"dg1": DieselStart(True, 1e6), "dg2": DieselStart(False, 1e6)}, tank_l={"tank1": 110.0})
    plan = planned(isle, [HOUR] * 4, 75.0, begin)
    burnt = sum(fuel_l(isle.asset("dg1"), p, 1.0) for p, on in zip(plan.power_kw["dg1"], plan.on["dg1"], strict=True) if on)  # type: ignore[arg-type]
    assert burnt <= 60.0 + 1e-3
    assert max(plan.unserved_kw) < 1e-3


def test_loss_of_a_diesel_is_covered_by_the_others() -> None:
    """Without a battery and with single_former refused one diesel is never enough."""
    strict = site(LOAD, DG1, {**DG1, "id": "dg2", "forming": "droop"}, reserve={"single_former": "refuse"})
    plan = planned(strict, [HOUR] * 3, 90.0, start(strict, on=["dg1"]))
    for k in range(3):
        for lost, other in (("dg1", "dg2"), ("dg2", "dg1")):
            assert 200.0 - plan.power_kw[other][k] >= plan.power_kw[lost][k] - 1e-3
    assert plan.on["dg1"] == plan.on["dg2"] == (True,) * 3


def test_reserve_from_storage_needs_energy_not_power_alone() -> None:
    """40 kW of sun may be lost with no diesel on: the battery keeps 40 kW x 900 s above floor and error."""
    isle = site(LOAD, PV1, DG1, INV1, {**BESS1, "capacity_kwh": 100.0})
    plan = planned(isle, [900.0] * 6, 60.0, start(isle, soc=0.5), sun=40.0)
    for k in range(6):
        if not plan.on["dg1"][k]:
            usable = (min(plan.soc["bess1"][k : k + 2]) - 0.03 - 0.10) * 100.0 * 0.96 * 0.975
            assert usable >= 40.0 * 0.25 - 1e-3


def test_the_problem_is_dpp_and_too_many_diesels_are_refused() -> None:
    problem = PlanProblem(hybrid(), (900.0,) * 3)
    assert problem.cp.is_dcp(dpp=True)
    many = site({**LOAD, "peak_kw": 2000.0}, *({**DG1, "id": f"g{k}", "forming": "droop"} for k in range(9)))
    with pytest.raises(Exception, match="too many"):
        PlanProblem(many, (900.0,) * 3)


def test_the_bound_problem_prices_litres_alone() -> None:
    problem = PlanProblem(hybrid(), (900.0,) * 3, "bound")
    assert problem.frame.prices.curtailed_l_per_kwh == 0.0
    assert math.isclose(problem.frame.prices.wear_l_per_kwh, 1e-5)
