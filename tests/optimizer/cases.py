"""Small sites and questions for the planner's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from ems.config.site import Battery, Diesel, Hydro, Site, Solar
from ems.model import Limits
from ems.plan import DieselStart, Forecast, Grid, Plan, PlanRequest, PlantStart
from optimizer.answer import plan_of
from optimizer.frame import Question
from optimizer.planner import solve_question
from optimizer.problem import PlanProblem
from optimizer.solver import Effort

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = 3600.0
LOAD: dict[str, Any] = {"id": "town", "kind": "load", "peak_kw": 200.0}
DG1: dict[str, Any] = {
    "id": "dg1",
    "kind": "diesel",
    "rated_kw": 200.0,
    "block_load_kw": 200.0,
    "forming": "isochronous",
    "fuel": {"no_load_l_per_h": 4.0, "slope_l_per_kwh": 0.25},
    "start_l": 1.0,
    "start_wear_l": 0.0,
    "hour_wear_l": 0.0,
}
DG2: dict[str, Any] = {
    **DG1,
    "id": "dg2",
    "rated_kw": 100.0,
    "block_load_kw": 100.0,
    "forming": "droop",
    "fuel": {"no_load_l_per_h": 2.0, "slope_l_per_kwh": 0.26},
}
PV1: dict[str, Any] = {"id": "pv1", "kind": "solar", "rated_kw": 150.0}
INV1: dict[str, Any] = {"id": "inv1", "kind": "inverter", "rated_kw": 200.0, "forming": "droop", "no_load_kw": 2.0, "efficiency": 0.975}
BESS1: dict[str, Any] = {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 400.0, "charge_kw": 200.0, "discharge_kw": 200.0}


def site(*assets: dict[str, Any], **sections: Any) -> Site:
    return Site.model_validate({"site": {"id": "isle"}, "assets": list(assets), **sections})


@cache
def hybrid() -> Site:
    """PV 150, diesels 200 and 100, inverter 200 with 400 kWh, load up to 200 kW."""
    return site(LOAD, PV1, DG1, DG2, INV1, BESS1)


def start(of: Site, soc: float = 0.5, on: Sequence[str] = (), since_s: float = 1e6, **diesels: DieselStart) -> PlantStart:
    states = {d.id: DieselStart(d.id in on, since_s) for d in of.of(Diesel)}
    return PlantStart({b.id: soc for b in of.of(Battery)}, states | diesels)


def forecast(of: Site, grid: Grid, load: float | Sequence[float], sun: float | Sequence[float] = 0.0, water: float | Sequence[float] = 0.0) -> Forecast:
    def wide(values: float | Sequence[float]) -> tuple[float, ...]:
        return (float(values),) * grid.n_steps if isinstance(values, int | float) else tuple(values)

    return Forecast(grid, wide(load), {s.id: wide(sun) for s in of.of(Solar)}, {h.id: wide(water) for h in of.of(Hydro)})


def question(of: Site, steps: Sequence[float], load: float | Sequence[float], begin: PlantStart, **more: Any) -> Question:
    limits: Mapping[str, Limits] = more.pop("limits", {})
    at: datetime = more.pop("at", NOON)
    grid = Grid(at, tuple(steps))
    return Question(at, grid, begin, forecast(of, grid, load, **more), dict(limits))


def planned(of: Site, steps: Sequence[float], load: float | Sequence[float], begin: PlantStart, **more: Any) -> Plan:
    """Build, solve to the optimum and read one small problem."""
    asked = question(of, steps, load, begin, **more)
    problem = PlanProblem(of, tuple(steps))
    solved = solve_question(problem, asked, Effort(1e-6, 10000))
    return plan_of(problem, asked, solved, "test", asked.grid.end)


def request(of: Site, begin: PlantStart, **more: Any) -> PlanRequest:
    return PlanRequest("r1", more.pop("at", NOON), begin, **more)
