"""HiGHS behind cvxpy: one thread, a fixed seed, and what its answer is worth."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cvxpy as cp
import highspy

from ems.clock import cpu_s, real_s
from ems.errors import Failed

SEED = 1
FINDERS = ("mip_heuristic_run_rins", "mip_heuristic_run_rens", "mip_heuristic_run_root_reduced_cost")
"""Searches within the search that HiGHS looks for a first good answer with: where it is given one they take two to four times as long as all else."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try.

    Attributes
    ----------
    gap : float
        Relative gap at which it is enough.
    node_limit : int | None
        For replay and tests: the same answer on every machine.
    time_limit_s : float | None
        For the site: an answer in time [s].
    now_s : Callable[[], float]
        The clock that the time limit is counted on [s].
    believed : float
        Relative gap up to which a sketch of everything that is on or off is the answer; 0 for no more than any other.
    dearest_l : float
        Where every answer must cost more than this, none is searched for [L].
    """

    gap: float = 0.01
    node_limit: int | None = None
    time_limit_s: float | None = None
    now_s: Callable[[], float] = real_s
    believed: float = 0.0
    dearest_l: float = math.inf


@dataclass(frozen=True, slots=True)
class Solved:
    """What the solver says of its own answer; the plan check decides whether it is used.

    Attributes
    ----------
    objective_l, bound_l : float
        Value of the answer, and what no answer can be below [L].
    gap : float | None
        Relative distance of the two.
    solve_s : float
        CPU time inside HiGHS [s].
    limit_hit : bool
        Stopped at a limit instead of at the gap.
    """

    objective_l: float
    bound_l: float
    gap: float | None
    solve_s: float
    limit_hit: bool


@cache
def move_banner() -> None:
    """Let HiGHS print its banner to nowhere: it does so once per process, and stdout belongs to one JSON document."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        highspy.Highs()
        ctypes.CDLL(None).fflush(None)  # the banner may still lie in C's buffer
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def distance(objective_l: float, bound_l: float) -> float | None:
    """Return the relative gap between an answer and a bound; None without a bound."""
    return max(0.0, objective_l - bound_l) / max(abs(objective_l), 1e-9) if math.isfinite(bound_l) else None


def solve(problem: cp.Problem, effort: Effort, *, once: bool = False, relaxed: bool = False, start: bool = False) -> Solved:
    """Solve with HiGHS.

    Parameters
    ----------
    problem : cvxpy.Problem
        With all parameters set.
    effort : Effort
    once : bool
        Compile with the parameters as constants: quicker for a large problem that is solved once.
    relaxed : bool
        Let what should be whole be anything between.
    start : bool
        Begin from this problem's last answer, which must have been whole, and look for better ones beside the proof alone (`FINDERS`).

    Raises
    ------
    Failed
        Where there is no answer at all. An answer at a limit is returned: its status proves nothing either way; that
        of a relaxation is not, since it is no bound.
    """
    move_banner()
    options: dict[str, object] = {"threads": 1, "random_seed": SEED, "mip_rel_gap": effort.gap}
    if relaxed:
        options["solve_relaxation"] = True
    elif effort.node_limit is not None:
        options["mip_max_nodes"] = effort.node_limit
    if start:
        options |= dict.fromkeys(FINDERS, False)
    if effort.time_limit_s is not None:
        options["time_limit"] = effort.time_limit_s
    began = cpu_s()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")  # said of every answer at a limit; `limit_hit` says it too
            problem.solve(solver=cp.HIGHS, warm_start=start, ignore_dpp=once, **options)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - cvxpy and HiGHS raise ValueError, SolverError and others for what is one thing here: no answer
        raise Failed(f"solver: {error}") from error
    stats = problem.solver_stats
    if problem.value is None or not math.isfinite(problem.value) or any(v.value is None for v in problem.variables()):
        raise Failed(f"solver: no answer, status {problem.status}")
    if relaxed and problem.status != cp.OPTIMAL:
        raise Failed(f"solver: no relaxation, status {problem.status}")
    info = stats.extra_stats
    if problem.status != cp.OPTIMAL and info.primal_solution_status != int(highspy.SolutionStatus.kSolutionStatusFeasible):
        # HiGHS hands out zeros then, of value 0: cheaper than every true answer, they would take the place of one found before.
        raise Failed(f"solver: no answer before its limit, status {problem.status}")
    shift = problem.value - info.objective_function_value
    value = float(problem.value)
    bound = float(info.mip_dual_bound + shift) if problem.is_mixed_integer() and not relaxed else value
    # HiGHS tells wall time, which another job on the same core stretches; all of the call is a ceiling of its CPU time.
    solve_s = min(float(stats.solve_time or 0.0), cpu_s() - began)
    return Solved(value, bound, distance(value, bound), solve_s, problem.status != cp.OPTIMAL)
