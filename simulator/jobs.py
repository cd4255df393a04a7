"""Replays as jobs that can run side by side, in processes that share nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from ems.series import SeriesTable
from simulator.closed_loop import Case, Run, run
from simulator.plans import Solves, plans_for

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One policy over one case, or over one part of it.

    Attributes
    ----------
    name : str
        Which run it is a part of.
    forecast : str
        Of `mpc`.
    given : SeriesTable | None
        The forecast of `file`.
    fleet : tuple[str, ...] | None
        Which diesels a diesel-only run has; None takes all.
    """

    name: str
    case: Case
    policy: str
    forecast: str = "perfect"
    given: SeriesTable | None = None
    fleet: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A job's run, and how its plans were made."""

    job: Job
    run: Run
    solves: Solves


def carried_out(job: Job, progress: Progress | None = None) -> Done:
    """Return what came of a job."""
    plans = plans_for(job.case, job.policy, job.forecast, job.given)
    made = run(job.case, job.policy, plans, job.fleet, progress)
    return Done(job, made, Solves() if plans is None else plans.solves)


def all_carried_out(jobs: Sequence[Job], workers: int, progress: Callable[[str], Progress]) -> list[Done]:
    """Return what came of all jobs, in their order.

    Parameters
    ----------
    jobs : Sequence[Job]
    workers : int
        Processes; 1 stays in this one.
    progress : Callable[[str], Progress]
        By name of a run, what is told how many of its intervals are done.
    """
    if workers <= 1 or len(jobs) <= 1:
        return [carried_out(job, progress(job.name)) for job in jobs]
    found: dict[int, Done] = {}
    past: dict[str, int] = {}
    # The longest come first, so that nobody is left with one at the end.
    order = sorted(range(len(jobs)), key=lambda k: (jobs[k].policy not in ("mpc", "perfect-foresight"), -jobs[k].case.steps))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(carried_out, jobs[k]): k for k in order}
        for future in as_completed(waiting):
            k = waiting[future]
            found[k] = future.result()
            name = jobs[k].name
            past[name] = past.get(name, 0) + jobs[k].case.steps
            progress(name)(past[name])
    return [found[k] for k in range(len(jobs))]
