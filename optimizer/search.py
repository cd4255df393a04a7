"""The search: the relaxation, a sketch, what the relaxation leaves open, and at last the whole.

With a balance of its own for every commitment set (formulation.md) the relaxation is nearly whole by itself and nearly
the optimum, so it tells how good an answer is. The sketch (`sketch.py`) says when diesels run; with these fixed the problem is linear,
or has the few on and off of ponds and deferrables left.
Where that is not near enough, what the relaxation decided is kept and the rest is searched. What was narrowed before stays narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cvxpy as cp
import numpy as np
import numpy.typing as npt

from ems.config.site import Diesel
from ems.errors import Failed
from ems.physics import best_slope_l_per_kwh
from ems.tiers import tier_l_per_kwh
from optimizer.assets.tank import KL
from optimizer.frame import MW, Array, Bounds, Frame
from optimizer.neighbourhood import near_answer
from optimizer.problem import PlanProblem
from optimizer.sketch import MOST_SETS, sketch
from optimizer.solver import Effort, Solved, distance, solve

WHOLE = 1e-6
"""An on/off within this of 0 or 1 is decided."""
AROUND = 2
"""So many steps on both sides of one that the relaxation leaves open stay open too."""
MUCH = 0.25
"""Where the relaxation leaves more than this share of all on and off open, it is no guide: the whole is searched at once."""
UNMET_L = 0.5
"""What is unmet costs so much at least [L]: less is the solver's tolerance."""
REDRAWN = 2
"""A sketch beside ponds or deferrables is drawn so often at most."""
OPEN_SHARE = 0.5
"""Share of the wanted gap that the search of what is open may leave; its distance to the relaxation has the rest."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The gap up to which an answer is believed where it leaves nothing grave unmet.

    `usual_l` is what that gap is of at least [L]: in summer what is stored at the end outweighs the litres, and a gap of next to nothing is none.
    """

    gap: float = 0.0
    usual_l: float = 0.0


PROVEN = Trust()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was found, kept while another is looked for; `dark_or_dry_l` is what it leaves unmet [L]."""

    solved: Solved
    values: list[tuple[cp.Variable, Array]]
    dark_or_dry_l: float

    @classmethod
    def of(cls, problem: PlanProblem, solved: Solved) -> Answer:
        """Keep what the variables hold."""
        return cls(solved, [(v, v.value) for v in problem.cp.variables()], dark_or_dry_l(problem))

    def enough(self, gap: float, trust: Trust, unmet_l: float = 0.0) -> bool:
        """Return whether it is near enough to what no answer can be below, or is believed; `unmet_l` is what the relaxation leaves unmet [L]."""
        if self.solved.gap is None or self.solved.gap <= gap:
            return self.solved.gap is not None
        off_l = self.solved.objective_l - self.solved.bound_l
        return self.dark_or_dry_l <= unmet_l + UNMET_L and off_l <= trust.gap * max(abs(self.solved.objective_l - self.dark_or_dry_l), trust.usual_l)

    def restored(self) -> Solved:
        """Put it back into the variables."""
        for variable, value in self.values:
            variable.save_value(value)
        return self.solved


def search(problem: PlanProblem, effort: Effort, *, once: bool = False) -> Solved:
    """Return what the answer to a filled problem is worth; the answer itself is left in its variables.

    Parameters
    ----------
    problem : PlanProblem
    effort : Effort
    once : bool
        Whether it is solved only once.

    Raises
    ------
    Failed
        Where there is no answer, or none within the time limit, or where every one is dearer than is asked for.
    """
    began = effort.now_s()
    below = solve(problem.cp, effort, once=once, relaxed=True)
    if below.bound_l > effort.dearest_l:
        raise Failed(f"search: every answer costs more than {effort.dearest_l:.1f} L")
    share = open_share(problem.frame)
    if share == 0.0 and not (sketched(problem) and len(problem.skies) > 1):  # it is whole, under the expected sky alone
        return below
    unmet_l = dark_or_dry_l(problem)
    if unmet_l > UNMET_L:  # a share of what nobody can meet is no gap: tiers of the load would be crossed within it
        effort = replace(effort, gap=effort.gap * min(1.0, max(UNMET_L, abs(below.bound_l - unmet_l)) / abs(below.bound_l)))
    opened = around(problem.frame) if share <= MUCH else None  # before the sketch's answer takes the relaxation's place
    best = sketches(problem, effort, began, below, once=once)
    if best is not None and not best.enough(effort.gap, PROVEN, unmet_l) and not drawable(problem):
        best.restored()
        best = opening(problem, near_answer(problem.frame), effort, began, below, best, once=once)
    if best is not None and best.enough(effort.gap, trust(problem, effort), unmet_l):
        return best.restored()
    if opened is not None:
        best = opening(problem, opened, effort, began, below, best, once=once)
        if best is not None and best.enough(effort.gap, PROVEN, unmet_l):
            return best.restored()
    return rest(problem, effort, began, below, best, once=once)


def opening(problem: PlanProblem, bounds: Bounds, effort: Effort, began_s: float, below: Solved, best: Answer | None, *, once: bool) -> Answer | None:
    """Search what some bounds leave open, from the answer that was found last, while there is time; return the best answer."""
    rest_of = remaining(effort, began_s)
    if rest_of.time_limit_s is not None and rest_of.time_limit_s <= 0.0:
        return best
    return part(problem, bounds, replace(rest_of, gap=OPEN_SHARE * effort.gap), below, best, once=once, start=best is not None)


def sketches(problem: PlanProblem, effort: Effort, began_s: float, below: Solved, *, once: bool) -> Answer | None:
    """Return the best answer of sketches, the variables holding that of the relaxation; None where there is none.

    Ponds and deferrables are in the first as the relaxation has them, beside diesels in parts; in the next as the answer before has them.
    """
    best, before = None, None
    for _ in range(1 if drawable(problem) else REDRAWN):
        bounds, rest_of = sketch(problem), remaining(effort, began_s)
        if bounds is None or same(bounds, before) or (rest_of.time_limit_s is not None and rest_of.time_limit_s <= 0.0):
            break
        found = part(problem, bounds, rest_of, below, best, once=once)
        if found is None or (best is not None and found.solved.objective_l > best.solved.objective_l - UNMET_L):
            return found  # no answer to read from, or none that is better by more than the solver's tolerance
        best, before = found, bounds
    return best


def same(bounds: Bounds, before: Bounds | None) -> bool:
    """Return whether two sketches fix the same."""
    return before is not None and all(np.array_equal(before[a][0], low) for a, (low, _) in bounds.items())


def trust(problem: PlanProblem, effort: Effort) -> Trust:
    """Return how far from the relaxation a sketch is believed: with time to go on, where it knows more than the problem does, under several skies."""
    if effort.time_limit_s is not None and not (sketched(problem) and len(problem.skies) > 1):
        return PROVEN
    return Trust(effort.believed, float(problem.load.load.value[0] @ problem.frame.dt_h) / MW * best_slope_l_per_kwh(problem.site.of(Diesel)))


def sketchable(problem: PlanProblem) -> bool:
    """Return whether a sketch says when the diesels of the filled problem run."""
    few = int(problem.frame.allowed.value.any(axis=1).sum()) <= MOST_SETS
    return problem.frame.purpose != "window" and few and bool(problem.diesels)


def sketched(problem: PlanProblem) -> bool:
    """Return whether that is all that is on or off."""
    return sketchable(problem) and len(problem.diesels) == len(problem.frame.switches)


def drawable(problem: PlanProblem) -> bool:
    """Return whether a sketch needs no relaxation: it says all that is on or off, and no pond or deferrable is to be read from one."""
    return sketched(problem) and not problem.deferrables and all(h.pond is None for h in problem.hydros)


def dark_or_dry_l(problem: PlanProblem) -> float:
    """Return what load and fuel that are not met cost in the answer that the variables hold [L].

    Not what lacks of reserve: it has its price in the sketch as in the problem, and a search for better takes long and finds none.
    """
    tiers = [float(kw @ problem.frame.dt_h) / MW * tier_l_per_kwh(k) for k, kw in enumerate(problem.load.unserved.value)]
    return sum(tiers) + sum(float(t.dry.value.sum()) for t in problem.tanks) * problem.frame.prices.dry_l_per_l / KL


def part(problem: PlanProblem, bounds: Bounds, effort: Effort, below: Solved, best: Answer | None, *, once: bool, start: bool = False) -> Answer | None:
    """Search what some bounds leave open; return the cheaper of this answer and the best before, None where there is neither."""
    try:
        found = narrowed(problem, bounds, effort, once=once, start=start)
    except Failed:
        return best
    found = joined(found, below if best is None else best.solved, below.bound_l)
    if best is not None and best.solved.objective_l <= found.objective_l:
        return replace(best, solved=replace(best.solved, solve_s=found.solve_s))
    return Answer.of(problem, found)


def narrowed(problem: PlanProblem, bounds: Bounds, effort: Effort, *, once: bool, start: bool = False) -> Solved:
    """Search what some bounds leave open, and put the limits back as they were; raises `Failed` where there is no answer."""
    frame = problem.frame
    limits, allowed = [(s.low.value, s.high.value) for s in frame.switches], frame.allowed.value
    frame.narrow(bounds)
    decided = all((s.low.value == s.high.value).all() for s in frame.switches)  # then it is linear
    try:
        return solve(problem.cp, effort, once=once, relaxed=decided, start=start)
    finally:
        frame.allowed.value = allowed
        for switch, (low, high) in zip(frame.switches, limits, strict=True):
            switch.low.value, switch.high.value = low, high


def drawn(problem: PlanProblem, effort: Effort, *, once: bool = False) -> Solved:
    """Return the answer as a sketch has it, unproven: without the relaxation, which a sketch needs only for ponds and deferrables.

    Raises
    ------
    Failed
        Where nothing can be drawn, or load or fuel would be left unmet: that is not for a sketch alone to say.
    """
    bounds = sketch(problem)
    if bounds is None:
        raise Failed("sketch: there is no way through")
    found = narrowed(problem, bounds, effort, once=once)
    if dark_or_dry_l(problem) > UNMET_L:
        raise Failed("sketch: it leaves something grave unmet")
    return replace(found, bound_l=-math.inf, gap=None)


def rest(problem: PlanProblem, effort: Effort, began_s: float, below: Solved, best: Answer | None, *, once: bool) -> Solved:
    """Search the whole, from what was solved last where there is an answer; the cheaper of both is left in the variables."""
    before = below if best is None else best.restored()
    try:
        found = solve(problem.cp, left(effort, began_s), once=once, start=best is not None)
    except Failed:
        if best is None:
            raise
        return replace(best.restored(), limit_hit=True)
    found = joined(found, before, max(found.bound_l, below.bound_l))
    if best is None or found.objective_l < before.objective_l:
        return found
    best.restored()
    return replace(found, objective_l=before.objective_l, gap=distance(before.objective_l, found.bound_l))


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
