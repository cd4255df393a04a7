"""The search: the relaxation first, then what it leaves open, and only if that is not near enough the whole.

With a balance of its own for every commitment set (formulation.md) the relaxation is nearly whole by itself and nearly
the optimum: to keep what it decided and to search the rest takes a fraction of a search from nothing, and the
relaxation tells how good the answer is. What was narrowed before stays narrow.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ems.errors import Failed
from optimizer.frame import Array, Bounds, Frame
from optimizer.problem import PlanProblem
from optimizer.solver import Effort, Solved, distance, solve

WHOLE = 1e-6
"""An on/off within this of 0 or 1 is decided."""
AROUND = 2
"""So many steps on both sides of one that the relaxation leaves open stay open too."""
MUCH = 0.25
"""Where the relaxation leaves more than this share of all on and off open, it is no guide: the whole is searched at once."""
OPEN_SHARE = 0.5
"""Share of the wanted gap that the search of what is open may leave; its distance to the relaxation has the rest."""


def search(problem: PlanProblem, effort: Effort, *, once: bool = False) -> Solved:
    """Return what the answer to a filled problem is worth; the answer itself is left in its variables.

    Raises
    ------
    Failed
        Where there is no answer, or none within the time limit.
    """
    began = effort.now_s()
    below = solve(problem.cp, effort, once=once, relaxed=True)
    share = open_share(problem.frame)
    if share == 0.0:
        return below
    near = None
    if share <= MUCH:
        near = open_part(problem, replace(left(effort, began), gap=OPEN_SHARE * effort.gap), once=once)
    if near is not None:
        near = joined(near, below, below.bound_l)
        if near.gap is not None and near.gap <= effort.gap:
            return near
    values = {v: v.value for v in problem.cp.variables()}
    try:
        found = solve(problem.cp, left(effort, began), once=once, start=near is not None)
        found = joined(found, near or below, max(found.bound_l, below.bound_l))
    except Failed:
        if near is None:
            raise
        found = replace(near, limit_hit=True)
    if near is None or found.objective_l < near.objective_l:
        return found
    for variable, value in values.items():
        variable.save_value(value)
    return replace(found, objective_l=near.objective_l, gap=distance(near.objective_l, found.bound_l))


def open_part(problem: PlanProblem, effort: Effort, *, once: bool) -> Solved | None:
    """Search what the relaxation left open; None where what it decided cannot be made whole."""
    frame = problem.frame
    limits, allowed = [(s.low.value, s.high.value) for s in frame.switches], frame.allowed.value
    frame.narrow(around(frame))
    try:
        return solve(problem.cp, effort, once=once)
    except Failed:
        return None
    finally:
        frame.allowed.value = allowed
        for switch, (low, high) in zip(frame.switches, limits, strict=True):
            switch.low.value, switch.high.value = low, high


def joined(later: Solved, earlier: Solved, bound_l: float) -> Solved:
    """Return the later of two solves with the time of both and a bound that holds for the whole problem."""
    return replace(later, bound_l=bound_l, gap=distance(later.objective_l, bound_l), solve_s=later.solve_s + earlier.solve_s)


def remaining(effort: Effort, began_s: float) -> Effort:
    """Return the effort with what remains of its time since `began_s` of its clock, which may be less than nothing."""
    return effort if effort.time_limit_s is None else replace(effort, time_limit_s=effort.time_limit_s - (effort.now_s() - began_s))


def left(effort: Effort, began_s: float) -> Effort:
    """Return the effort with what is left of its time since `began_s` of its clock.

    Raises
    ------
    Failed
        Where nothing is left.
    """
    rest = remaining(effort, began_s)
    if rest.time_limit_s is not None and rest.time_limit_s <= 0.0:
        raise Failed("solver: no time left")
    return rest


def whole(values: Array) -> npt.NDArray[np.bool_]:
    """Return where an on/off is decided, same shape."""
    return np.asarray(np.abs(values - np.round(values)) <= WHOLE)


def open_share(frame: Frame) -> float:
    """Return the share of all on and off that the answer in the variables leaves open."""
    flags = np.concatenate([whole(s.on.value) for s in frame.switches]) if frame.switches else np.ones(1)
    return float(1.0 - np.mean(flags))


def around(frame: Frame) -> Bounds:
    """Return each on/off as the relaxation has it, free around the steps that it left open: (lowest, highest), shape (n_steps,)."""
    found = {}
    for switch in frame.switches:
        value = switch.on.value
        free = widened(~whole(value), AROUND)
        found[switch.asset] = np.where(free, 0.0, np.round(value)), np.where(free, 1.0, np.round(value))
    return found


def widened(flags: npt.NDArray[np.bool_], steps: int) -> npt.NDArray[np.bool_]:
    """Return the flags with so many neighbours on both sides of each."""
    found = flags.copy()
    for k in range(1, steps + 1):
        found[k:] |= flags[:-k]
        found[:-k] |= flags[k:]
    return found
