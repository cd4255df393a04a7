"""A long replay cut at the calendar months, so that they can run side by side, and joined again.

Each part but the first lives some days of the month before: by then plan and plant have forgotten the state
they began in. What forecasts learn depends on the measured history alone, so each part learns it for itself.
Decision 0021 says how well the joints fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ems.config.site import Battery
from simulator.closed_loop import Case, Run
from simulator.plans import Solves
from simulator.tallies import mean_soc
from simulator.violations import Broken

LEAD_DAYS = 4.0
"""Days that a part lives before it counts: more than twice the horizon of a plan."""


def parts_of(case: Case, lead_days: float = LEAD_DAYS) -> list[Case]:
    """Return the case month by month (UTC), each part with its lead as far as the case reaches back."""
    cuts = [0]
    for month in _months(case.start, case.end):
        step = round((month - case.start).total_seconds() / case.step_s)
        if cuts[-1] < step < case.steps:
            cuts.append(step)
    lead = round(lead_days * 86400.0 / case.step_s)
    ends = [*cuts[1:], case.steps]
    return [replace(case, start=case.start + timedelta(seconds=case.step_s * a), steps=b - a, lead_steps=min(lead, a)) for a, b in zip(cuts, ends, strict=True)]


def _months(start: datetime, end: datetime) -> list[datetime]:
    """Return the begins of the months between two times."""
    found: list[datetime] = []
    year, month = start.year, start.month
    while True:
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        at = datetime(year, month, 1, tzinfo=start.tzinfo)
        if at >= end:
            return found
        found.append(at)


def joined(runs: Sequence[Run]) -> Run:
    """Return the parts of one run, in their order, as one.

    Stored energy that a part did not take over from the one before it is worth litres, month by month
    (`simulator.summary.stored_l`), so that a joint makes nothing cheaper.
    """
    first, last = runs[0], runs[-1]
    broken = Broken()
    for run in runs:
        broken.low_load_h += run.violations.low_load_h
        for kind, count in run.violations.counts.items():
            total = broken.counts[kind]
            total.count, total.minutes, total.kwh = total.count + count.count, total.minutes + count.minutes, total.kwh + count.kwh
    lowest = [run.soc_lowest for run in runs if run.soc_lowest is not None]
    return replace(
        first,
        end=last.end,
        soc_end=last.soc_end,
        soc_lowest=min(lowest, default=None),
        sums=_added([run.sums for run in runs]),
        run_h=_added([run.run_h for run in runs]),
        starts={d: sum(run.starts[d] for run in runs) for d in first.starts},
        commitment_changes=sum(run.commitment_changes for run in runs),
        fallback_steps=sum(run.fallback_steps for run in runs),
        blackouts=sum(run.blackouts for run in runs),
        violations=broken,
        rows=[row for run in runs for row in run.rows],
        wall_s=sum(run.wall_s for run in runs),
        months=tuple(month for run in runs for month in run.months),
        deferred=first.deferred.joined([run.deferred for run in runs[1:]]),
    )


def solves_joined(solves: Sequence[Solves]) -> Solves:
    """Return how all plans of the parts were made."""
    return Solves(
        total_s=[t for s in solves for t in s.total_s],
        gaps=[g for s in solves for g in s.gaps],
        limit_hits=sum(s.limit_hits for s in solves),
        kept=sum(s.kept for s in solves),
        refused=[r for s in solves for r in s.refused],
        bound_l=solves[0].bound_l if len(solves) == 1 else None,
    )


def joints(runs: Sequence[Run]) -> dict[str, Any]:
    """Return how the parts fit: how many, and the greatest SoC by which one began beside the end of the one before."""
    capacity = {b.id: b.capacity_kwh for b in runs[0].site.of(Battery)}
    gaps = [abs(mean_soc(b.soc_start, capacity) - mean_soc(a.soc_end, capacity)) for a, b in zip(runs, runs[1:], strict=False) if capacity]
    return {"count": len(runs), "soc_gap_max": max(gaps, default=0.0)}


def _added(sums: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {k: sum(s[k] for s in sums) for k in sums[0]}
