"""From a schedule that breaks an invariant to a short one that breaks the same: halves, then single faults, then shorter and milder ones.

Delta debugging (Zeller and Hildebrandt 2002) on a list whose order does not matter: each fault has its own chance, so that
what is left behaves as it did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ems.config.site import Site
from simulator.campaign.case import Case
from simulator.campaign.run import Outcome, Violation, run
from simulator.faults.alphabet import Fault

TRIES = 120
"""So many runs are spent on one violation."""
SHORTEST_S = 2.0
AFTER_S = 5.0
"""The run is cut this long after the violation [s]."""

Fails = Callable[[Sequence[Fault]], bool]
Runner = Callable[[Site, Case, tuple[str, str] | None], Outcome]
"""Runs a case until it breaks an invariant."""


class Budget:
    """Counts tries; when they are spent nothing fails any more, so that what was found so far stays."""

    def __init__(self, fails: Fails, tries: int) -> None:
        self._fails, self.left = fails, tries

    def __call__(self, faults: Sequence[Fault]) -> bool:
        """Whether these faults still break the invariant."""
        if self.left <= 0:
            return False
        self.left -= 1
        return self._fails(faults)


def fewest(faults: Sequence[Fault], fails: Fails) -> list[Fault]:
    """Return a subset that still fails and from which no single fault can be left out, as far as the tries go."""
    kept, parts = list(faults), 2
    if kept and fails([]):
        return []
    while len(kept) >= 2:
        size = max(1, -(-len(kept) // parts))
        for k in range(0, len(kept), size):
            rest = kept[:k] + kept[k + size :]
            if rest and fails(rest):
                kept, parts = rest, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(kept), 2 * parts)
    return kept


def milder(faults: Sequence[Fault], fails: Fails, end_s: float) -> list[Fault]:
    """Return the faults with durations and severities halved as often as they still fail.

    Parameters
    ----------
    end_s : float
        When the run ends: what lasts longer is first cut to that [s].
    """
    kept = list(faults)
    for k in range(len(kept)):
        for change in (lambda f: _until(f, end_s), _shorter, _shorter, _shorter, _milder, _milder):
            changed = change(kept[k])
            if changed != kept[k] and fails([*kept[:k], changed, *kept[k + 1 :]]):
                kept[k] = changed
    return kept


def _until(fault: Fault, end_s: float) -> Fault:
    return replace(fault, duration_s=round(min(fault.duration_s, max(SHORTEST_S, end_s - fault.onset_s)), 1))


def _shorter(fault: Fault) -> Fault:
    return replace(fault, duration_s=round(max(SHORTEST_S, fault.duration_s / 2.0), 1)) if fault.duration_s > SHORTEST_S else fault


def _milder(fault: Fault) -> Fault:
    return replace(fault, severity=round(fault.severity / 2.0, 3))


def shrunk(site: Site, case: Case, violation: Violation, tries: int = TRIES, run: Runner = run) -> Case:
    """Return the shortest case found that breaks the same invariant about the same subject."""
    cut = replace(case, length_s=violation.at_s + AFTER_S, faults=tuple(f for f in case.faults if f.onset_s <= violation.at_s))

    def fails(faults: Sequence[Fault]) -> bool:
        return any(v.key == violation.key for v in run(site, cut.with_faults(faults), violation.key).violations)

    budget = Budget(fails, tries)
    near = [f for f in cut.faults if f in violation.faults]
    first = near if near and len(near) < len(cut.faults) and budget(near) else list(cut.faults)
    found = milder(fewest(first, budget), budget, cut.length_s)
    ended = run(site, cut.with_faults(found), violation.key)
    at_s = next((v.at_s for v in ended.violations if v.key == violation.key), violation.at_s)
    return replace(cut, length_s=round(at_s + AFTER_S, 1), faults=tuple(found))
