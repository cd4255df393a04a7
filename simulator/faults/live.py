"""A fault in force: its own chance, what it remembers, and whether it has changed anything that the EMS could see."""

from __future__ import annotations

import random
from typing import Any

from simulator.faults.alphabet import Fault


class Live:
    """One fault while it lasts.

    Its chance depends on nothing but the fault and the run's seed: taking other faults out of a schedule does not change it.

    Attributes
    ----------
    touched : int
        How often it has changed a value or an effect; 0 means that it was not injected at all.
    memo : dict[str, Any]
        What its layer remembers from cycle to cycle.
    """

    __slots__ = ("fault", "kind", "target", "asset", "point", "severity", "chance", "memo", "touched")

    def __init__(self, fault: Fault, seed: int) -> None:
        self.fault = fault
        self.kind = fault.kind
        self.target = fault.target
        self.asset, _, self.point = fault.target.partition(".")
        self.severity = fault.severity
        self.chance = random.Random(f"{seed} {fault.kind} {fault.target} {fault.onset_s}")
        self.memo: dict[str, Any] = {}
        self.touched = 0
