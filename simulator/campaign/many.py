"""Many runs: side by side where there are workers, in the order of their seeds, and what they broke shrunk to what shows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ems.config.site import Site
from simulator.campaign.case import Case, drawn
from simulator.campaign.report import document, violation_document
from simulator.campaign.run import Outcome, run
from simulator.campaign.shrink import TRIES, shrunk

MOST_SHRUNK = 12
"""So many violations are shrunk, one of each invariant and subject; the others are listed as they came."""


@dataclass(slots=True)
class Campaign:
    """Everything that a campaign is given.

    Attributes
    ----------
    site : Site
    path : str
        Of the site file, for the command that shows a violation again.
    out : Path | None
        Where schedules of violations are written; None writes none.
    workers : int
        Processes; 1 stays in this one.
    """

    site: Site
    path: str
    cases: Sequence[Case]
    hours: float
    out: Path | None = None
    workers: int = 1
    tries: int = TRIES
    done: Callable[[Outcome], None] = lambda outcome: None
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Run every case and return the report."""
        for outcome in self._all():
            self.outcomes.append(outcome)
            self.done(outcome)
        seeds = [c.seed for c in self.cases]
        level = self.cases[0].level if self.cases else "energy"
        return document(self.site.site.id, level, seeds, self.hours, self.outcomes, self._violations())

    def _all(self) -> Iterator[Outcome]:
        if self.workers <= 1 or len(self.cases) <= 1:
            for case in self.cases:
                yield run(self.site, case)
            return
        with ProcessPoolExecutor(self.workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(run, [self.site] * len(self.cases), self.cases)

    def _violations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        seen: set[tuple[str, str]] = set()
        for outcome in self.outcomes:
            for violation in outcome.violations:
                case, small = outcome.case, False
                if violation.key not in seen and len(seen) < MOST_SHRUNK and self.tries > 0:
                    case, small = shrunk(self.site, case, violation, self.tries), True
                seen.add(violation.key)
                name = f"{violation.invariant}-{violation.subject or 'island'}-{outcome.case.seed}.json".replace("/", "-")
                place = (self.out or Path()) / name
                command = f"ems campaign {self.path} --schedule {place}"
                found.append(one := violation_document(violation, case, small, command))
                if self.out is not None:
                    content = {**case.document(), "site": self.site.site.id, "violation": {k: one[k] for k in ("invariant", "subject", "at_s", "text")}}
                    place.write_text(json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n", "utf-8")
        return found


def cases(site: Site, first_seed: int, count: int, hours: float, level: str) -> list[Case]:
    """Return the cases of so many seeds."""
    return [drawn(site, seed, hours * 3600.0, level) for seed in range(first_seed, first_seed + count)]
