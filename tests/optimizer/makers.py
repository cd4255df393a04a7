"""What a child may run in the worker's tests: makers that answer, hang, crash or are slow, by the request's id."""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass, replace

from ems.config.site import Site, Solar
from ems.errors import BadInput
from ems.plan import Forecast, Grid, PlanOutcome, PlanRequest
from ems.rules import Rules


@dataclass(frozen=True)
class Odd:
    """A factory that is its own maker; `broken` crashes before it is ready, `refused` does not take the site."""

    broken: bool = False
    compile_s: float = 0.0
    refused: str = ""

    def __call__(self) -> Odd:
        if self.broken:
            os._exit(3)
        return self

    def compile(self) -> None:
        time.sleep(self.compile_s)
        if self.refused:
            raise BadInput(self.refused, "assets", "at most 8")

    def make(self, request: PlanRequest) -> PlanOutcome:
        if request.id.startswith("hang"):
            threading.Event().wait()
        if request.id.startswith("crash"):
            os._exit(7)
        if request.id.startswith("glutton"):
            hoard = [bytearray(10_000_000) for _ in range(1000)]
            raise AssertionError(f"{len(hoard)} x 10 MB were given")
        seen = ",".join(o.start.strftime("%H:%M") for o in request.observations)
        return PlanOutcome(request.id, "ok", seen, None, None, solve_s=float(os.getpid()))


@dataclass(frozen=True)
class Ill:
    """A factory that is its own maker: it answers the first question well, and falls ill of one kind at the second."""

    site: Site
    kind: str
    load_kw: float = 180.0

    def __call__(self) -> Ill:
        return self

    def compile(self) -> None:
        """Nothing takes long."""

    def make(self, request: PlanRequest) -> PlanOutcome:
        kind = "" if request.id.endswith("-1") else self.kind
        if kind == "hang":
            threading.Event().wait()
        if kind == "crash":
            os._exit(7)
        if kind == "glutton":
            raise AssertionError(len([bytearray(10_000_000) for _ in range(1000)]))
        if kind == "infeasible":
            return PlanOutcome(request.id, "failed", "solver: no answer, status infeasible", None, None)
        grid = Grid(request.at, (900.0,) * 8)
        forecast = Forecast(grid, (self.load_kw,) * 8, {s.id: (0.0,) * 8 for s in self.site.of(Solar)}, {})
        plan = Rules(self.site).rollout(request.start, forecast, "load-following", request.id, request.at)
        if kind == "zeros":
            plan = replace(plan, power_kw={a: (0.0,) * 8 for a in plan.power_kw}, on={d: (False,) * 8 for d in plan.on})
        if kind == "nan":
            plan = replace(plan, power_kw={**plan.power_kw, "dg1": (math.nan,) * 8})
        if kind == "nan forecast":
            forecast = replace(forecast, load_kw=(math.inf,) * 8)
        return PlanOutcome(request.id, "ok", "", plan, forecast)
