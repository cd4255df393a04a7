"""Plan time: the plain search of the whole, the search in parts with its sketch, the way a replay goes; growth; others.

All ways answer the same questions in one run, so that what another job takes from the machine is taken from all.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import highspy

from ems.clock import cpu_s, real_s
from ems.config.load import load_site
from ems.config.site import Battery, Diesel, Site
from ems.errors import Failed
from ems.plan import DieselStart, Forecast, Grid, Plan, PlantStart
from ems.series import SeriesTable, read_series
from optimizer import search
from optimizer.answer import plan_of
from optimizer.foresight import after
from optimizer.frame import Question
from optimizer.planner import BELIEVED, GAP, NODE_LIMIT, plan_question, solve_question, step_lengths
from optimizer.problem import PlanProblem
from optimizer.solver import Effort, solve
from optimizer.worker import SOLVE_SHARE
from tools.figures import percentile, table
from tools.year import files

ROOT = Path(__file__).resolve().parent.parent
SITES, SERIES = ROOT / "configs/sites", ROOT / "configs/series"
CASES = (
    ("configs/sites/river", "composite_2016_1h", "2016-03-01T00:00:00+00:00"),
    ("configs/sites/river", "composite_2016_1h", "2016-06-06T00:00:00+00:00"),
    ("configs/sites/ouessant", "ouessant_2016_1h", "2016-05-01T00:00:00+00:00"),
    ("configs/sites/village", "village_1h", "2023-03-01T00:00:00+00:00"),
    ("configs/bench/pv60", "ouessant_2016_1h", "2016-04-13T00:00:00+00:00"),
)
PLANS = 24
AT_SITE = 12
"""Plans with a deadline, an hour of them."""
EFFORT, REPLAYED = Effort(GAP, NODE_LIMIT), Effort(GAP, NODE_LIMIT, believed=BELIEVED)
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Paired:
    """CPU time of each way for one question [s], what the way of a replay costs more [%], and what of it is neither HiGHS nor sketch, and the sketch [s]."""

    plain_s: float
    whole_s: float
    way_s: float
    dearer: float
    outside_s: float
    sketch_s: float


def begin(site: Site) -> PlantStart:
    """Return half full batteries and the first diesel on."""
    return PlantStart({b.id: 0.5 for b in site.of(Battery)}, {d.id: DieselStart(k == 0, 9000.0) for k, d in enumerate(site.of(Diesel))})


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU time of a piece of work [s] and what it returned."""
    began = cpu_s()
    found = work()
    return cpu_s() - began, found


@contextmanager
def clocked(owner: Any, name: str) -> Iterator[list[float]]:
    """Collect the CPU time of each call of a function while it lasts [s]."""
    real, spent = getattr(owner, name), list[float]()

    def call(*given: Any, **named: Any) -> Any:
        took_s, found = timed(lambda: real(*given, **named))
        spent.append(took_s)
        return found

    setattr(owner, name, call)
    try:
        yield spent
    finally:
        setattr(owner, name, real)


def hour_steps(steps: Sequence[float]) -> int:
    """Return how many steps the first hour has: from one plan to the next."""
    return next(k for k in range(1, len(steps) + 1) if sum(steps[:k]) >= HOUR_S)


def opened(name: str, series: str) -> tuple[Site, SeriesTable]:
    """Return the site of a case and what will happen there."""
    site = load_site(ROOT / f"{name}.yaml").site
    return site, files(site.site.id, series)[1] if "/bench/" in name else read_series(SERIES / f"{series}.csv", site)


def day(name: str, series: str, first: str) -> list[Paired]:
    """Plan every hour of a day, each from where the last one leads, every way on every question."""
    site, known = opened(name, series)
    steps = step_lengths(site.planner.grid)
    problem, state = PlanProblem(site, steps), begin(site)
    previous: Plan | None = None
    found = []
    for k in range(PLANS + 1):
        at = datetime.fromisoformat(first) + timedelta(hours=k)
        grid = Grid(at, steps)
        question = Question(at, grid, state, known.forecast(grid), {}, previous)
        problem.fill(question)
        plain_s, plain = timed(lambda: solve(problem.cp, EFFORT))
        whole_s, whole = timed(partial(solve_question, problem, question, EFFORT))
        with clocked(highspy.Highs, "run") as highs_s, clocked(search, "sketch") as sketch_s:
            way_s, (plan, solved) = timed(partial(plan_question, problem, question, REPLAYED, f"p{k}"))
        state = after(site, problem, plan, question, state, hour_steps(steps))
        previous = plan
        dearer = 100.0 * (solved.objective_l / min(plain.objective_l, whole.objective_l) - 1.0)
        if k > 0:  # the first plan compiles, and has nothing to be near to; a sketch alone is one solve
            found.append(Paired(plain_s, whole_s, way_s, dearer, way_s - sum(highs_s) - sum(sketch_s), sum(sketch_s)))
    return found


def bench_ways() -> None:
    """The three ways over a day of each site."""
    rows: list[list[object]] = []
    for case in CASES:
        pairs = day(*case)
        plain, whole, way = ([getattr(p, f) for p in pairs] for f in ("plain_s", "whole_s", "way_s"))
        rows.append(
            [
                f"{Path(case[0]).name}, {datetime.fromisoformat(case[2]):%-d %B}",
                len(step_lengths(load_site(ROOT / f"{case[0]}.yaml").site.planner.grid)),
                len(pairs),
                *(f(v) for v in (plain, whole, way) for f in (statistics.median, lambda x: percentile(x, 0.95))),
                sum(way) / sum(plain),
                statistics.mean(p.dearer for p in pairs),
                max(p.dearer for p in pairs),
                sum(p.outside_s for p in pairs) / sum(way),
                sum(p.sketch_s for p in pairs) / sum(way),
            ]
        )
    head = (
        "site",
        "steps",
        "plans",
        "plain p50 [CPU s]",
        "p95",
        "in parts p50",
        "p95",
        "as replayed p50",
        "p95",
        "as replayed / plain",
        "dearer mean [%]",
        "max [%]",
        "neither HiGHS nor sketch",
        "sketch",
    )
    table("Plan time, a plan every hour of a day", "python -m tools.bench plan", head, rows)


# ------------------------------------------------------------------ at the site
def bench_deadline() -> None:
    """Every five minutes with the solver's share of the deadline, as a site plans; and one search of the whole in the same time."""
    rows: list[list[object]] = []
    for name, series, first in CASES:
        site, known = opened(name, series)
        steps = step_lengths(site.planner.grid)
        problem, state = PlanProblem(site, steps), begin(site)
        effort = Effort(GAP, None, SOLVE_SHARE * site.planner.deadline_s, believed=BELIEVED)
        previous: Plan | None = None
        taken, gaps, more_l, late = list[float](), list[float](), list[float](), 0
        for k in range(AT_SITE + 1):
            grid = Grid(datetime.fromisoformat(first) + timedelta(hours=6, seconds=k * steps[0]), steps)
            question = Question(grid.start, grid, state, known.forecast(grid), {}, previous)
            began = real_s()
            plan, solved = plan_question(problem, question, effort, f"p{k}")
            spent = real_s() - began
            if k > 0:  # the first plan compiles
                taken.append(spent)
                gaps.append(math.inf if solved.gap is None else solved.gap)
                late += solved.limit_hit
                problem.fill(question)
                with suppress(Failed):
                    more_l.append(solve(problem.cp, effort).objective_l - solved.objective_l)
            state, previous = after(site, problem, plan, question, state, 1), plan
        title = f"{Path(name).name}, {datetime.fromisoformat(first):%-d %B}"
        rows.append([title, len(taken), statistics.median(taken), percentile(taken, 0.95), late, 100 * statistics.median(gaps), 100 * max(gaps)])
        rows[-1] += [len(taken) - len(more_l), statistics.mean(more_l) if more_l else "", max(more_l, default="")]
    head = ("site", "plans", "p50 [s]", "p95", "cut at the deadline", "gap p50 [%]", "max", "plain: none found", "plain dearer mean [L]", "max [L]")
    table("Plans at the site, every five minutes, 20 s deadline", "python -m tools.bench deadline", head, rows)


# ------------------------------------------------------------------ growth
def grown(diesels: int, batteries: int, hours: int) -> tuple[Site, tuple[float, ...]]:
    """Return a site whose fleet serves a peak of 1,700 kW, whatever the number of units, and a grid of so many hours."""
    assets: list[dict[str, Any]] = [
        {"id": "town", "kind": "load", "peak_kw": 1700.0},
        {"id": "pv1", "kind": "solar", "rated_kw": 1000.0},
        *({"id": f"dg{k}", "kind": "diesel", "rated_kw": round(2800.0 / diesels * (0.8 + 0.4 * k / max(1, diesels - 1)), 1)} for k in range(diesels)),
    ]
    for k in range(batteries):
        power, energy = 1000.0 / batteries, 2000.0 / batteries
        assets.append({"id": f"inv{k}", "kind": "inverter", "rated_kw": power, "forming": "droop"})
        assets.append({"id": f"bess{k}", "kind": "battery", "behind": f"inv{k}", "capacity_kwh": energy, "charge_kw": power, "discharge_kw": power})
    return Site.model_validate({"site": {"id": "grown"}, "assets": assets}), step_lengths(((5, 12), (15, 12), (60, hours - 4)))


def bench_growth() -> None:
    """Time of the search by number of diesels and batteries, and by horizon; sizes differ, so that no two sets are alike."""
    town = read_series(SERIES / "ouessant_2016_1h.csv", load_site(SITES / "ouessant.yaml").site)
    at = datetime(2016, 5, 1, tzinfo=UTC)
    rows: list[list[object]] = []
    cases = [*((d, 1, 36) for d in range(1, 9)), *((3, b, 36) for b in (2, 3, 4)), *((3, 1, h) for h in (24, 48, 72))]
    for diesels, batteries, hours in cases:
        site, steps = grown(diesels, batteries, hours)
        grid = Grid(at, steps)
        truth = town.forecast(grid)
        question = Question(at, grid, begin(site), Forecast(grid, truth.load_kw, {"pv1": truth.available_kw["pv1"]}, {}), {})
        build_s, problem = timed(partial(PlanProblem, site, steps))
        first_s, solved = timed(partial(solve_question, problem, question, EFFORT))
        plan = plan_of(problem, question, solved, "g0", grid.end)
        state = after(site, problem, plan, question, question.start, hour_steps(steps))
        later = Grid(at + timedelta(hours=1), steps)
        truth = town.forecast(later)
        question = Question(later.start, later, state, Forecast(later, truth.load_kw, {"pv1": truth.available_kw["pv1"]}, {}), {}, plan)
        whole_s, _ = timed(partial(solve_question, problem, question, EFFORT))
        way_s, _ = timed(partial(plan_question, problem, question, REPLAYED, "g1"))
        rows.append([diesels, batteries, hours, len(steps), problem.frame.n_sets, build_s, first_s, whole_s, way_s, way_s / whole_s])
    head = ("diesels", "batteries", "hours", "steps", "sets", "build [CPU s]", "first plan, compiled", "whole", "as replayed", "as replayed / whole")
    table("Growth of the plan's time", "python -m tools.bench growth", head, rows)
