"""Which limits really hold a setpoint: those without which it would be another one.

A power that happens to stand at the end of its bound is not held by it: a full battery is idle because nobody
needs it. So each limit that a setpoint touches is tried: the same cycle is decided once more without it. That is
for people to read and is done after the writes have gone out, not in `Controller.step`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ems.controller import Controller
from ems.decision import AssetDecision, Decision
from ems.frozen import frozen
from ems.guards import Bound, Guards
from ems.memory import Memory
from ems.model import Image, Request, Telemetry
from ems.plan import Plan

BLIND = ("soc_unknown",)
"""A guard that closes for want of its input says so in any case."""
DIFFERENT_KW = 0.1
"""A setpoint has changed when it moves by more than this [kW]."""
STANDS_S = 10.0
"""What was found of one unit and one set of limits stands for this long [s]."""


@frozen
class Cycle:
    """One cycle's arguments, so that it can be decided once more, and the limits that guards gave in it."""

    telemetry: Telemetry
    requests: Sequence[Request]
    plan: Plan | None
    memory: Memory


class _Relaxed(Guards):
    """The guards of a site, of which some of one unit are gone."""

    unit = ""
    names: Collection[str] = ()

    def bounds(self, image: Image, memory: Memory) -> Mapping[str, Bound]:
        return {**super().bounds(image, memory), self.unit: self.bound(self.unit, image, memory, self.names)}


class Binding:
    """Keeps what holds: for the controller of one site.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        self._guards = _Relaxed(controller.site)
        self._probe = Controller(controller.site, controller.stage, controller.policy, self._guards)
        self._found: dict[str, tuple[frozenset[str], float, bool]] = {}

    def kept(self, cycle: Cycle, decision: Decision) -> Decision:
        """Return the decision with only those limits named that hold a setpoint."""
        touched = {u: d for u, d in decision.assets.items() if self._guarded(u, d)}
        if not touched:
            return decision
        loose = {u: d for u, d in touched.items() if not self._holds(u, cycle, d)}
        return replace(decision, assets={**decision.assets, **{u: self._without(u, d) for u, d in loose.items()}}) if loose else decision

    def _guarded(self, unit: str, decided: AssetDecision) -> frozenset[str]:
        """Return the names that are those of guards and can be tried."""
        return frozenset(n for n in decided.why.limited_by if n not in BLIND and n in self._guards.names_of(unit))

    def _holds(self, unit: str, cycle: Cycle, decided: AssetDecision) -> bool:
        names, now_s = self._guarded(unit, decided), cycle.telemetry.now_s
        known = self._found.get(unit, (frozenset(), 0.0, False))
        if known[0] == names and 0.0 <= now_s - known[1] < STANDS_S:
            return known[2]
        holds = self.differs(unit, names, cycle, decided)
        self._found[unit] = (names, now_s, holds)
        return holds

    def differs(self, unit: str, names: Collection[str], cycle: Cycle, decided: AssetDecision) -> bool:
        """Whether a unit would be told something else, or give something else, without these limits."""
        self._guards.unit, self._guards.names = unit, names
        _, other = self._probe.step(cycle.telemetry, cycle.requests, cycle.plan, cycle.memory)
        free = other.assets[unit]
        if (free.setpoint_kw is None) is not (decided.setpoint_kw is None) or free.run is not decided.run:
            return True
        pairs = ((decided.setpoint_kw, free.setpoint_kw), (decided.why.numbers.get("power_kw"), free.why.numbers.get("power_kw")))
        return any(abs(float(a) - float(b)) > DIFFERENT_KW for a, b in pairs if a is not None and b is not None)

    def _without(self, unit: str, decided: AssetDecision) -> AssetDecision:
        loose = self._guarded(unit, decided)
        return replace(decided, why=replace(decided.why, limited_by=tuple(n for n in decided.why.limited_by if n not in loose)))
