"""A plan that is asked for while its first step is under way: what is over is over, in energy, in minimum times and in litres."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ems.config.site import Battery, Inverter, Site
from ems.physics import dc_kw, storage_step
from ems.plan import DieselStart, Forecast, Grid, Plan, PlantStart
from ems.plan_check import PlanCheck
from optimizer.forecasting import Forecasting
from optimizer.planner import PlanMaker
from tests.optimizer.cases import BESS1, DG1, DG2, INV1, LOAD, NOON, PV1, forecast, request, site, start

QUARTER = 900.0


def isle(**engine: float) -> Site:
    """Quarter hours for two hours, then hours."""
    return site(LOAD, PV1, {**DG1, **engine}, DG2, INV1, BESS1, planner={"grid": [[15, 8], [60, 6]]})


def asked(of: Site, minutes: float, begin: PlantStart, load: float = 120.0, sun: float = 0.0) -> tuple[Plan, Forecast, list[str]]:
    def truth(grid: Grid) -> Forecast:
        return forecast(of, grid, load, sun)

    outcome = PlanMaker(of, Forecasting(of, "perfect", truth)).make(request(of, begin, at=NOON + timedelta(minutes=minutes)))
    assert outcome.plan is not None, outcome.cause
    assert outcome.forecast is not None
    return outcome.plan, outcome.forecast, PlanCheck(of).faults(outcome.plan, begin, outcome.forecast)


@pytest.mark.parametrize("minutes", [0.0, 1.0, 7.5, 11.9, 12.1, 14.9])
def test_the_charge_after_the_first_step_is_what_is_left_of_it_brings(minutes: float) -> None:
    """The sun fills the battery from now to the next quarter, not from the last one: 60 kW for 3 minutes are 3 kWh, not 15."""
    of, begin = isle(), start(isle(), 0.5)
    plan, _, faults = asked(of, minutes, begin, 60.0, 120.0)
    assert faults == []
    left_s = QUARTER - 60.0 * minutes + (QUARTER if minutes > 12.0 else 0.0)
    assert plan.grid.step_s[:2] == (pytest.approx(left_s), QUARTER)
    battery, inverter = of.of(Battery)[0], of.of(Inverter)[0]
    after = storage_step(battery, 0.5, dc_kw(inverter, plan.power_kw["inv1"][0]), left_s / 3600.0)
    assert plan.power_kw["inv1"][0] < -50.0
    assert plan.soc["bess1"][1] == pytest.approx(after, abs=1e-4)


@pytest.mark.parametrize(("minutes", "first"), [(0.0, 1), (1.0, 1), (10.0, 2), (14.0, 1)])
def test_a_set_rests_until_its_time_is_over_not_until_that_of_the_grid_is(minutes: float, first: int) -> None:
    """It rests for 800 s more, and is wanted at once. Ten minutes into a quarter hour 300 s are left of it: the next one still begins too early."""
    of = isle(min_down_s=1000.0)
    begin = start(of, 0.28, dg1=DieselStart(False, 200.0), dg2=DieselStart(False, 1e6, usable=False))
    plan, seen, _ = asked(of, minutes, begin, 150.0)
    assert PlanCheck(of).broken(plan, begin, seen) == []  # the rules beside it know no rest
    assert plan.on["dg1"].index(True) == first


@pytest.mark.parametrize("minutes", [0.0, 6.0, 11.0, 14.5])
def test_a_start_now_holds_for_its_minimum_run(minutes: float) -> None:
    """Half an hour at least, begun in what is left of a step: with the whole of it counted, the plan would stop it too soon and be refused."""
    of = isle(min_up_s=1800.0, start_s=0.0, warmup_s=0.0, sync_s=0.0)
    begin = start(of, 0.12, dg2=DieselStart(False, 1e6, usable=False))
    plan, _, faults = asked(of, minutes, begin, 150.0)
    assert faults == []
    runs, at = plan.on["dg1"], 0.0
    if runs[0]:
        held = next((k for k, on in enumerate(runs) if not on), len(runs))
        at = sum(plan.grid.step_s[:held])
        assert at >= 1800.0 - 1.0


def test_litres_are_of_what_is_left_of_the_first_step() -> None:
    """A set that must run at 120 kW takes 34 L an hour: 5 minutes of it 2.8 L, where the quarter hour would be 8.5."""
    of = site(LOAD, DG1, planner={"grid": [[15, 4]]})
    begin = start(of, dg1=DieselStart(True, 1e6))
    plan, _, faults = asked(of, 10.0, begin)
    assert faults == []
    assert plan.objective_l == pytest.approx(34.0 * (300.0 + 3 * QUARTER) / 3600.0, rel=0.01)
