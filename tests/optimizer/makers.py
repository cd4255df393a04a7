"""What a child may run in the worker's tests: makers that answer, hang, crash or are slow, by the request's id."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

from ems.plan import PlanOutcome, PlanRequest


@dataclass(frozen=True)
class Odd:
    """A factory that is its own maker; `broken` crashes before it is ready."""

    broken: bool = False
    compile_s: float = 0.0

    def __call__(self) -> Odd:
        if self.broken:
            os._exit(3)
        return self

    def compile(self) -> None:
        time.sleep(self.compile_s)

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
