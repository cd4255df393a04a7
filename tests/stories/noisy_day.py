"""A day whose load and sun flutter, and whose forecast is wrong anew every five minutes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ems.config.site import Site
from ems.plan import Forecast, Grid, PlanOutcome, PlanRequest
from ems.ports import Planner
from ems.series import SeriesTable
from optimizer.forecasting import Forecasting
from optimizer.planner import InlinePlanner, PlanMaker
from simulator.closed_loop import Case, Run, controlled, run
from simulator.plans import RollingPlans, WholePlan

START = datetime(2026, 3, 1, 0, 0, tzinfo=UTC)
STEP_S = 300.0
ASSETS: tuple[dict[str, Any], ...] = (
    {"id": "town", "kind": "load", "peak_kw": 300.0},
    {"id": "pv1", "kind": "solar", "rated_kw": 250.0},
    {"id": "dg1", "kind": "diesel", "rated_kw": 250.0, "block_load_kw": 250.0, "forming": "isochronous", "min_up_s": 900.0, "min_down_s": 600.0},
    {"id": "dg2", "kind": "diesel", "rated_kw": 120.0, "block_load_kw": 120.0, "forming": "droop", "min_up_s": 900.0, "min_down_s": 600.0},
    {"id": "inv1", "kind": "inverter", "rated_kw": 200.0, "forming": "droop", "no_load_kw": 2.0},
    {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 300.0, "charge_kw": 150.0, "discharge_kw": 150.0},
)
GRID = [[5, 12], [15, 4], [60, 6]]
"""Eight hours: one in five minutes, one in quarters, the rest in hours."""


def island() -> Site:
    return Site.model_validate({"site": {"id": "isle"}, "planner": {"grid": GRID}, "assets": list(ASSETS)})


def fluttering(seed: int, hours: float) -> SeriesTable:
    """Return load and sun in five-minute steps: a day's shape, and noise that forgets itself within half an hour."""
    n, chance = int(hours * 12), np.random.default_rng(seed)
    at = np.arange(n) / 12.0

    def wander(sigma: float) -> Any:
        found = np.zeros(n)
        for k in range(1, n):
            found[k] = 0.85 * found[k - 1] + sigma * chance.standard_normal()
        return found

    load = 170.0 + 45.0 * np.sin((at - 13.0) * math.pi / 12.0) + 30.0 * np.exp(-((at - 19.0) ** 2) / 4.0) + wander(5.0)
    sun = np.clip(np.sin((at - 6.0) * math.pi / 12.0), 0.0, None) * 230.0 * np.clip(0.8 + wander(0.08), 0.1, 1.0)
    return SeriesTable(island(), START, STEP_S, {"load_kw": np.clip(load, 20.0, 300.0), "pv1.available_kw": sun})


@dataclass(frozen=True)
class Wrong:
    """A forecast whose error is drawn anew at every asking and grows with the lead."""

    truth: Callable[[Grid], Forecast]
    seed: int
    sigma: float = 0.06

    def __call__(self, grid: Grid) -> Forecast:
        chance = np.random.default_rng([self.seed, int(grid.start.timestamp())])
        real = self.truth(grid)
        lead_h = np.cumsum(grid.step_s) / 3600.0
        scale = self.sigma * np.minimum(1.0, 0.4 + 0.2 * lead_h)

        def off(values: tuple[float, ...]) -> tuple[float, ...]:
            whole = chance.standard_normal()
            return tuple(max(0.0, v * (1.0 + s * (whole + chance.standard_normal()))) for v, s in zip(values, scale, strict=True))

        return replace(real, load_kw=off(real.load_kw), available_kw={a: off(v) for a, v in real.available_kw.items()}, load_peak_kw=())


class Forgetful:
    """A planner that is not told which plan is followed: what happens without the rule."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    def submit(self, request: PlanRequest) -> None:
        self._planner.submit(replace(request, previous=None))

    def take(self) -> PlanOutcome | None:
        return self._planner.take()

    def close(self) -> None:
        self._planner.close()


def lived(seed: int, hours: float, how: str) -> tuple[Run, int]:
    """Run the day with `foresight`, with `promises` or `without`; return it and how often a promise was kept against a better plan."""
    table = fluttering(seed, hours + 14.0)
    case = Case(island(), table, START, STEP_S, STEP_S, int(hours * 12), 0.5)
    if how == "foresight":
        return run(case, "perfect-foresight", WholePlan(controlled(case.site, "perfect-foresight", STEP_S), case)), 0
    of = controlled(case.site, "mpc", STEP_S)
    forecasting = Forecasting(of, "perfect", Wrong(table.forecast, seed))
    planner: Planner = InlinePlanner(PlanMaker(of, forecasting, step_s=STEP_S))
    plans = RollingPlans(of, planner if how == "promises" else Forgetful(planner), STEP_S)
    return run(case, "mpc", plans), plans.solves.kept
