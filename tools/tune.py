"""Thresholds of the two rule policies, tried one by one on the bench sites: how `rules:` in `configs/bench` were found.

`python -m tools.tune pv60` runs every point of the grid through one week in each season (or, with `--year`, the whole of it) and prints litres, starts,
engine hours and violations, the least litres without a violation first. The best point of each policy goes into the site file by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from datetime import timedelta
from itertools import product
from multiprocessing import get_context

from simulator.closed_loop import Case, run
from simulator.summary import stored_l
from tools.year import REPLAN_S, SERIES, SITES, STEP_S, WEEKS, files
from tools.year_report import table

STARTS = (0.18, 0.20, 0.22, 0.25, 0.30)
STOPS = {"load-following": (0.26, 0.35, 0.45), "cycle-charging": (0.30, 0.40, 0.50, 0.70, 0.85)}
LOADINGS = {"load-following": (0.8,), "cycle-charging": (0.8, 0.9, 1.0)}
DAYS = 7.0


@dataclass(frozen=True, slots=True)
class Point:
    """One choice of thresholds for one policy, on one site and series; `days` 0 is the whole year."""

    site: str
    series: str
    policy: str
    start_soc: float
    stop_soc: float
    loading: float
    days: float


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it, SoC-corrected."""

    litres: float
    starts: int
    run_h: float
    unserved_kwh: float
    violations: int


def tried(point: Point) -> Found:
    """Return what one choice burns."""
    loaded, series = files(point.site, point.series)
    stop = {"cycle_stop_soc": point.stop_soc, "cycle_loading": point.loading} if point.policy == "cycle-charging" else {"diesel_stop_soc": point.stop_soc}
    rules = loaded.site.rules.model_copy(update={"diesel_start_soc": point.start_soc, **stop})
    site = loaded.site.model_copy(update={"rules": rules})
    begins = [series.start] if point.days == 0.0 else list(WEEKS.values())
    span = timedelta(days=point.days) if point.days else series.end - series.start
    runs = [run(Case(site, series, begin, STEP_S, REPLAN_S, round(span.total_seconds() / STEP_S)), point.policy) for begin in begins]
    return Found(
        litres=sum(r.sums["diesel_l"] + stored_l(site, r) for r in runs),
        starts=sum(sum(r.starts.values()) for r in runs),
        run_h=sum(sum(r.run_h.values()) for r in runs),
        unserved_kwh=sum(r.sums["unserved_kwh"] for r in runs),
        violations=sum(c.count for r in runs for c in r.violations.counts.values()),
    )


def points(site: str, series: str, policies: Sequence[str], days: float) -> list[Point]:
    """Return the grid."""
    return [
        Point(site, series, policy, start, stop, loading, days)
        for policy in policies
        for start, stop, loading in product(STARTS, STOPS[policy], LOADINGS[policy])
        if stop > start
    ]


def main() -> int:
    """Try the grid of one site and print it, the best first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", choices=SITES)
    parser.add_argument("--series", choices=list(SERIES), default=next(iter(SERIES)))
    parser.add_argument("--policy", choices=list(STOPS), action="append")
    parser.add_argument("--year", action="store_true", help="The whole year instead of four weeks.")
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    for policy in asked.policy or list(STOPS):
        grid = points(asked.site, asked.series, [policy], 0.0 if asked.year else DAYS)
        with ProcessPoolExecutor(max(1, asked.workers), mp_context=get_context("spawn")) as pool:
            results = list(pool.map(tried, grid))
        order = sorted(range(len(grid)), key=lambda k: (results[k].violations > 0 or results[k].unserved_kwh > 0.0, results[k].litres))
        rows = [[*(f"{x:g}" for x in astuple(grid[k])[3:6]), *(f"{x:,.0f}" for x in astuple(results[k]))] for k in order]
        header = ["start SoC", "stop SoC", "loading", "diesel [L]", "starts", "engine h", "unserved [kWh]", "violations"]
        sys.stdout.write(table(f"{asked.site}, {asked.series}, {policy}", header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
