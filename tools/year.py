"""`make campaign ARGS=year`: the bench sites in closed loop, against the bound and against the better rule.

Two weeks in each season (perfect foresight, the planner with perfect and with its own forecasts, both rules), for litres alone, and the whole year
(the planner with its own forecasts month by month, both rules), at the site's prices of starts and hours. Each finished run is a line of JSON, so
that a stop loses only what was running; a line counts as long as code, site and series are those that made it. Prints Markdown for
`docs/benchmarks.md` and ends with 1 where a target was missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ems.config.load import LoadedSite, load_site
from ems.config.site import Site, Solar
from ems.series import SeriesTable, read_series
from simulator.closed_loop import Case
from simulator.jobs import Job, carried_out
from simulator.parts import parts_of
from simulator.summary import summarise
from tools.year_lines import Key, code_sha256, end_torn_line, line_of, lines
from tools.year_report import report

ROOT = Path(__file__).resolve().parent.parent
SITES = ("pv20", "pv60", "pv120")
SERIES = {"ouessant_2016_1h": "", "composite_2016_1h": "-river"}
"""By series, what the site files that go with it end in."""
WEEKS = {
    "winter": datetime(2016, 1, 11, tzinfo=UTC),
    "spring": datetime(2016, 4, 11, tzinfo=UTC),
    "summer": datetime(2016, 7, 11, tzinfo=UTC),
    "autumn": datetime(2016, 10, 10, tzinfo=UTC),
}
WEEK_DAYS = 14
STEP_S, REPLAN_S = 900.0, 3600.0
SERIES_KWP = 1000.0
"""The series give the PV of so many kWp; a site's rating over this is its factor."""
RULES = ("load-following", "cycle-charging")
IN_WEEKS = (("perfect-foresight", "perfect"), ("mpc", "perfect"), ("mpc", "blend"), *((rule, "none") for rule in RULES))
IN_YEAR = (("mpc", "blend"), *((rule, "none") for rule in RULES))


def files(site: str, series: str) -> tuple[LoadedSite, SeriesTable]:
    """Return a bench site and its series, the sun scaled to its rating."""
    loaded = load_site(ROOT / "configs/bench" / f"{site}{SERIES[series]}.yaml")
    scale = {f"{s.id}.available_kw": s.rated_kw / SERIES_KWP for s in loaded.site.of(Solar)}
    return loaded, read_series(ROOT / "configs/series" / f"{series}.csv", loaded.site, scale=scale)


def sha256(loaded: LoadedSite, table: SeriesTable) -> tuple[str, str]:
    """Return what tells a site file and a series from other ones."""
    return loaded.sha256, table.sha256


def litres_alone(site: Site) -> Site:
    """Return a site whose plans count nothing for the wear of starts and hours, as the bound counts nothing for it."""
    planner = site.planner.model_copy(update={"wear_share": dict.fromkeys(range(1, 13), 0.0)})
    return site.model_copy(update={"planner": planner})


def cases(key: Key, loaded: LoadedSite, table: SeriesTable) -> Case:
    """Return the case of one line."""
    if key.what == "weeks":
        return Case(litres_alone(loaded.site), table, WEEKS[key.part], STEP_S, REPLAN_S, round(WEEK_DAYS * 86400.0 / STEP_S))
    whole = Case(loaded.site, table, table.start, STEP_S, REPLAN_S, round(table.span_s / STEP_S))
    return whole if key.part == "year" else next(p for p in parts_of(whole) if f"{p.start:%Y-%m}" == key.part)


def keys(whats: Sequence[str], sites: Sequence[str], serieses: Sequence[str], seasons: Sequence[str]) -> Iterator[Key]:
    """Return what there is to do, the quick before the long."""
    if "weeks" in whats:
        for site in sites:
            for series in serieses:
                for season in seasons:
                    yield from (Key(site, series, "weeks", season, *how) for how in IN_WEEKS)
    if "year" in whats:
        for site in sites:
            for series in serieses:
                loaded, table = files(site, series)
                months = [f"{p.start:%Y-%m}" for p in parts_of(cases(Key(site, series, "year", "year", "", ""), loaded, table))]
                for policy, forecast in IN_YEAR:
                    yield from (Key(site, series, "year", part, policy, forecast) for part in (months if policy == "mpc" else ["year"]))


def carry_out(key: Key) -> dict[str, Any]:
    """Run one line and return its summary."""
    loaded, table = files(key.site, key.series)
    done = carried_out(Job("", case := cases(key, loaded, table), key.policy, key.forecast))
    summary = summarise(case, done.run, done.solves, None, key.forecast, sha256(loaded, table))
    return summary | {"refused": done.solves.refused[:5]}


def run_all(wanted: Sequence[Key], workers: int, out: Path, code: str) -> dict[Key, dict[str, Any]]:
    """Run what is wanted side by side, a line at each end, and return the summaries."""
    found: dict[Key, dict[str, Any]] = {}
    out.parent.mkdir(parents=True, exist_ok=True)
    end_torn_line(out)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool, out.open("a", encoding="utf-8") as file:
        waiting = {pool.submit(carry_out, key): key for key in wanted}
        for future in as_completed(waiting):
            key, summary = waiting[future], future.result()
            found[key] = summary
            file.write(line_of(key, code, summary))
            file.flush()
            sys.stderr.write(f"year: {len(found)} of {len(wanted)}: {key}, {summary['wall_s']:.0f} s\n")
    return found


def chosen(text: str, of: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Return the names of an option, each known."""
    names = text.split(",")
    for name in names:
        if name not in of:
            parser.error(f"{name!r} is none of {', '.join(of)}")
    return names


def main() -> int:
    """Run what is not there yet, print the tables, and return 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Example: python -m tools.year weeks --site pv60 --season spring --workers 2")
    parser.add_argument("whats", nargs="*", choices=[[], "weeks", "year"], default=[], help="Which part; both without a word.")
    parser.add_argument("--site", default=",".join(SITES), help="Sites, by comma.")
    parser.add_argument("--series", default=",".join(SERIES), help="Series, by comma.")
    parser.add_argument("--season", default=",".join(WEEKS), help="Seasons of the two weeks, by comma.")
    parser.add_argument("--workers", type=int, default=1, help="Processes.")
    parser.add_argument("--out", type=Path, default=ROOT / "data/year/results.jsonl", help="Where the lines are kept.")
    parser.add_argument("--keep", action="store_true", help="Take lines of older code too.")
    parser.add_argument("--report", action="store_true", help="Run nothing; print what is there.")
    asked = parser.parse_args()
    whats = asked.whats or ["weeks", "year"]
    sites, serieses = chosen(asked.site, SITES, parser), chosen(asked.series, list(SERIES), parser)
    wanted = list(keys(whats, sites, serieses, chosen(asked.season, list(WEEKS), parser)))
    code = code_sha256()
    have = lines(asked.out, code, lambda key: sha256(*files(key.site, key.series)), keep=asked.keep)
    if not asked.report:
        have |= run_all([k for k in wanted if k not in have], max(1, asked.workers), asked.out, code)
    text, missed = report({k: have[k] for k in wanted if k in have})
    sys.stdout.write(text)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
