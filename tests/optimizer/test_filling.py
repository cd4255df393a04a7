"""Sun that a plan would cut rather than pay for what a diesel stored before: stored, as far as it fits until the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ems.config.site import Site
from ems.model import Limits
from ems.plan import Plan
from ems.plan_check import PlanCheck
from optimizer import answer
from optimizer.filling import stored_kw
from optimizer.frame import Question
from optimizer.planner import solve_question
from optimizer.problem import PlanProblem
from optimizer.solver import Effort
from tests.optimizer.cases import BESS1, DG1, DG2, HOUR, INV1, LOAD, PV1, hybrid, question, site, start

SUN = (0.0, 0.0, 90.0, 90.0, 90.0, 90.0)


def asked(of: Site, **limits: Limits) -> Question:
    """Two dark hours, four of sun; a bright day would have more than half as much again."""
    found = question(of, [HOUR] * 6, (100.0, 100.0, 40.0, 40.0, 40.0, 40.0), start(of, 0.3, ("dg1",), 0.0), sun=SUN, limits=limits)
    return replace(found, forecast=replace(found.forecast, bright_kw=(0.0, 0.0, 150.0, 150.0, 150.0, 150.0)))


def plans(of: Site, what: Question, monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, Plan, PlanProblem]:
    """Return the plan as the problem has it, and as it is given away."""
    problem = PlanProblem(of, what.grid.step_s)
    solved = solve_question(problem, what, Effort(1e-6, 10000))
    given = answer.plan_of(problem, what, solved, "p", what.grid.end)
    monkeypatch.setattr(answer, "with_sun_stored", lambda _problem, power: power)
    return answer.plan_of(problem, what, solved, "p", what.grid.end), given, problem


def test_sun_that_is_cut_beside_a_battery_with_room_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """43 of 90 kW would be cut in the third hour, and the plan refused: they are 40 kWh more in the battery to the end, and change nothing else."""
    of = hybrid()
    bare, given, _ = plans(of, asked(of), monkeypatch)
    cut = SUN[2] - bare.power_kw["pv1"][2]
    assert cut == pytest.approx(42.8, abs=0.1)
    assert given.power_kw["pv1"] == pytest.approx(SUN)
    assert given.power_kw["inv1"][2] == pytest.approx(bare.power_kw["inv1"][2] - cut)
    assert np.subtract(given.soc["bess1"], bare.soc["bess1"]) == pytest.approx([0.0, 0.0, 0.0] + [cut * 0.975 * 0.96 / 400.0] * 4)
    assert {a: given.power_kw[a] for a in ("dg1", "dg2")} == {a: bare.power_kw[a] for a in ("dg1", "dg2")}
    assert [len(PlanCheck(of).faults(p, asked(of).start, asked(of).forecast)) for p in (bare, given)] == [1, 0]


@pytest.mark.parametrize(
    ("battery", "begin_kwh", "taken_kw", "clear_kwh", "fits_kw"),
    [
        ({}, 120.0, (10.0, 10.0, 10.0), 0.0, 90.0),  # all that is offered
        ({"charge_kw": 97.5}, 120.0, (10.0, 10.0, 10.0), 0.0, 100.0 - 10.0 - 40.0),  # behind 0.975; a feeder of 40 kW may be lost
        ({"charge_kw": 97.5}, 120.0, (-20.0, 10.0, 10.0), 0.0, 100.0 + 20.0 - 40.0),  # it gives 20 kW that it need not give
        ({}, 260.0, (10.0, 20.0, 30.0), 0.0, (120.0 - 40.0 / 12.0 * 0.936) / 0.936 - 60.0),  # up to 380 kWh at the end, less five minutes of the feeder
        ({}, 260.0, (10.0, 20.0, 30.0), 50.0, (90.0 - 40.0 / 12.0 * 0.936) / 0.936 - 60.0),  # up to 350: a bright day is to find its place
        ({"charge_kw": 97.5, "charge_limit_curve": [[0.0, 1.0], [1.0, 0.0]]}, 120.0, (10.0, 0.0, 0.0), 0.0, 70.0 - 10.0 - 40.0),  # at 0.3 it takes 70 of 100
        # 120 kWh and 9.36 of the first hour: 67.7 kW of 100 in the third, of which 24 and 40 are spoken for; 3.66 kW are 14.64 kWh of 400.
        ({"charge_kw": 97.5, "charge_limit_curve": [[0.0, 1.0], [1.0, 0.0]]}, 120.0, (10.0, 0.0, 24.0), 0.0, (0.25 * 270.64 - 64.0) * 4.0 / 0.936),
    ],
)
def test_what_is_planned_later_still_fits(battery: dict[str, Any], begin_kwh: float, taken_kw: Sequence[float], clear_kwh: float, fits_kw: float) -> None:
    """90 kW are offered in the first of three hours; the plan charges with so much already."""
    of = site(LOAD, PV1, DG1, DG2, INV1, {**BESS1, **battery})
    problem = PlanProblem(of, (HOUR,) * 3)
    problem.fill(question(of, [HOUR] * 3, 40.0, start(of, begin_kwh / 400.0), sun=90.0))
    inverter, frame = problem.inverters[0], problem.frame
    assert inverter.store is not None
    frame.w.value = np.eye(frame.n_sets)[:, [1, 1, 1]]
    into = np.array(taken_kw) / 1e3
    inverter.charge.value, inverter.discharge.value = (frame.w.value * np.maximum(0.0, x) for x in (into, -into))
    flow = np.where(into > 0.0, into * 0.936, into / 0.936)
    inverter.store.stored.value = np.cumsum(np.append(begin_kwh / 1e3, flow))
    inverter.store.clear.value = np.full(4, clear_kwh / 1e3)
    assert stored_kw(problem, inverter, inverter.store, np.array([90.0, 0.0, 0.0])) == pytest.approx([fits_kw, 0.0, 0.0])


@pytest.mark.parametrize(
    ("inverter", "reserve"),
    [({"forming": "never", "primary_response": False}, {}), ({}, {"combine": "sum", "solar_fraction": 0.2})],
)
def test_sun_that_reserve_could_not_replace_stays_cut(inverter: dict[str, Any], reserve: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An inverter that does not react takes over nothing within seconds; a share of the sun on top of its loss is not covered by charging that ends."""
    of = site(LOAD, PV1, DG1, DG2, {**INV1, **inverter}, BESS1, reserve=reserve)
    bare, given, _ = plans(of, asked(of), monkeypatch)
    assert min(bare.power_kw["pv1"][2:]) < 80.0
    assert given.power_kw == bare.power_kw


def test_on_a_dead_bus_and_beside_an_absent_battery_nothing_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    of = hybrid()
    what = asked(of, inv1=Limits(out_of_service=True))
    bare, given, _ = plans(of, what, monkeypatch)
    assert given.power_kw == bare.power_kw
    assert min(given.power_kw["pv1"][2:]) < 90.0
