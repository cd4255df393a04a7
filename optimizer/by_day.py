"""A long period day by day: days that know of each other only by the price of what is stored where they meet.

Where a battery is full every evening the relaxation of a whole period is loose: each night it runs a part of an engine. A day alone is
small enough to be searched. The end of one and the beginning of the next may differ, at a price (Lagrangian relaxation: Geoffrion, A. M.,
"Lagrangean relaxation for integer programming", Mathematical Programming Study 2, 1974): whatever the prices are, the sum of the days' bounds
is a bound of the whole, and the nearer they bring the days together, the better it is. What the days have on and off is that of a good plan then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ems.plan import DieselStart, Grid, PlantStart
from optimizer.assets.battery import BatteryBlock
from optimizer.frame import Array, Bounds, Question
from optimizer.problem import PlanProblem
from optimizer.solver import Effort, solve

DAY_S = 86400.0
LONG_S = 1e9
"""So long ago that a diesel may do as it likes [s]."""
MOVE = 0.1
"""Of what stored energy is worth: how far a price moves until days have differed both ways."""
LEAST, MOST = 0.1, 0.9
"""Then it goes between these parts of the way from one to the other."""
MEET = 0.005
"""Days meet where they differ by no more of the battery."""
MOST_FREE = 4
"""So many days are searched at once in the plan of all; two took 74 CPU s of quarter hours, all of two weeks do not end."""


@dataclass(frozen=True, slots=True)
class Day:
    """The answer of one day at the prices of its two ends.

    Attributes
    ----------
    prices : Array
        What is stored at the beginning costs so much, at the end it is worth so much [L/MWh], shape (n_batteries, 2).
    bound_l : float
        No answer is below it, the prices counted [L].
    begins, ends : Array
        What is stored there [MWh], shape (n_batteries,).
    on : dict[str, Array]
        By diesel, shape (n_steps of the day,).
    solve_s : float
        CPU time inside HiGHS.
    """

    prices: Array
    bound_l: float
    begins: Array
    ends: Array
    on: dict[str, Array]
    solve_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """What one round over the days has found: a bound of the whole [L], on and off to be fixed, and the CPU time inside HiGHS [s]."""

    bound_l: float
    on: Bounds
    solve_s: float


def apart(problem: PlanProblem) -> bool:
    """Return whether nothing but what is stored goes from one day to the next: no pond, tank or daily energy."""
    return bool(problem.batteries) and not problem.tanks and not problem.deferrables and all(h.pond is None for h in problem.hydros)


def by_day(relaxed: PlanProblem, question: Question, effort: Effort) -> Iterator[Round]:
    """Yield one round after the other, for as long as the days do not meet.

    Parameters
    ----------
    relaxed : PlanProblem
        The relaxation of the whole period, solved: its duals are the first prices.
    question : Question
        On a uniform grid.
    effort : Effort
        Of each day.

    Raises
    ------
    Failed
        Where a day has no answer.
    """
    stores = batteries(relaxed)
    worth = np.array([float(s.end_l_per_mwh[0]) for s in stores])
    begin_l = float(worth @ [float(s.stored_0.value) for s in stores])
    cuts = cuts_of(question.grid, np.sum([s.stored.value for s in stores], axis=0))
    prices = Prices(np.array([s.price_l()[cuts] for s in stores]), worth, MEET * np.array([s.capacity for s in stores]))
    problems: dict[int, PlanProblem] = {}
    days: list[Day] = []
    while True:
        before, days = days, []
        for k, (first, end) in enumerate(zip(cuts, cuts[1:], strict=False)):
            if end - first not in problems:
                problems[end - first] = PlanProblem(relaxed.site, question.grid.step_s[first:end], "part")
            at = prices.now[:, k : k + 2].copy()
            kept = before and (before[k].prices == at).all()
            days.append(before[k] if kept else solved(problems[end - first], question, first, end, at, effort))
        off = np.array([early.ends - late.begins for early, late in zip(days, days[1:], strict=False)]).T
        free = alone(np.any(np.abs(off) > prices.meet[:, None], axis=0))
        on = {d: (flags(days, d, free, 0.0), flags(days, d, free, 1.0)) for d in days[0].on}
        spent = sum(day.solve_s for k, day in enumerate(days) if not before or day is not before[k])
        yield Round(begin_l + sum(day.bound_l for day in days), on, spent)
        if not prices.moved(off):
            return


class Prices:
    """The price of what is stored at each cut [L/MWh], shape (n_batteries, n_cuts), first and last given; each moves by itself.

    Too low a price leaves less than the next day takes, too high a one more; in between lies the best, and what was left and taken says about where.
    """

    def __init__(self, first: Array, worth: Array, meet: Array) -> None:
        self.now, self.worth, self.meet = first, worth, meet
        self.now[:, 0], self.now[:, -1] = 0.0, worth  # the first day begins as it is; what is left at last is worth what the bound says
        self.sides: dict[tuple[int, int, bool], tuple[float, float]] = {}

    def moved(self, off: Array) -> bool:
        """Move the prices by what each day leaves more than the next takes [MWh], shape (n_batteries, n_cuts - 2); return whether any did."""
        found = False
        for (b, k), more in np.ndenumerate(off):
            if abs(more) <= self.meet[b]:
                continue
            at = self.now[b, k + 1]
            self.sides[b, k, bool(more > 0.0)] = float(at), abs(float(more))
            low, high = self.sides.get((b, k, False)), self.sides.get((b, k, True))
            if low is not None and high is not None:
                at = low[0] + (high[0] - low[0]) * min(MOST, max(LEAST, low[1] / (low[1] + high[1])))
            else:
                at = max(0.0, at - np.sign(more) * MOVE * self.worth[b])
            found |= bool(at != self.now[b, k + 1])
            self.now[b, k + 1] = at
        return found


def alone(missed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the days at cuts that are missed, to be left free: fixed, a night would be without enough. None where they are too many to be searched at once."""
    found = np.append(missed, False) | np.insert(missed, 0, False)
    return np.asarray(found & (found.sum() <= MOST_FREE))


def flags(days: list[Day], diesel: str, free: npt.NDArray[np.bool_], side: float) -> Array:
    """Return on and off of a diesel over all days, or this side of what may be on days that are free, shape (n_steps,)."""
    return np.concatenate([np.full_like(day.on[diesel], side) if open_ else day.on[diesel] for day, open_ in zip(days, free, strict=True)])


def cuts_of(grid: Grid, stored: Array) -> list[int]:
    """Return where days begin and the last one ends [steps]: at the time of day at which most is stored, summed over the days."""
    n, per_day = grid.n_steps, round(DAY_S / grid.step_s[0])
    best = max(range(per_day), key=lambda k: float(np.mean(stored[k:n:per_day])))
    return [0, *(k for k in range(best, n, per_day) if k > 0), n]


def cut(question: Question, first: int, end: int, start: PlantStart) -> Question:
    """Return the question of the steps from one to another, that begins so."""
    whole = question.forecast
    grid = Grid(question.grid.starts()[first], question.grid.step_s[first:end])
    forecast = replace(
        whole,
        grid=grid,
        load_kw=whole.load_kw[first:end],
        available_kw={a: v[first:end] for a, v in whole.available_kw.items()},
        inflow_m3s={a: v[first:end] for a, v in whole.inflow_m3s.items()},
        load_peak_kw=whole.load_peak_kw[first:end],
    )
    return replace(question, at=grid.start, grid=grid, forecast=forecast, start=start)


def anyhow(start: PlantStart) -> PlantStart:
    """Return the beginning of a day of which nobody knows what diesels did before it."""
    return replace(start, diesels={d: DieselStart(True, LONG_S, usable=s.usable) for d, s in start.diesels.items()})


def solved(problem: PlanProblem, whole: Question, first: int, end: int, prices: Array, effort: Effort) -> Day:
    """Solve the day of these steps at the prices of its two ends; the first of all begins with what there is, the others as they like."""
    problem.fill(cut(whole, first, end, anyhow(whole.start) if first else whole.start))
    stores = batteries(problem)
    for store, (begin_l, end_l) in zip(stores, prices.tolist(), strict=True):
        store.begin_l.value, store.left_l.value = begin_l, end_l
        stored = float(store.stored_0.value)
        store.least_0.value, store.most_0.value = (0.0, store.capacity) if first else (stored, stored)
    for block in problem.diesels:
        block.begin_l.value = block.diesel.start_l * (1.0 if first else 1.0 - float(block.on_before.value))
        block.left_l.value = block.diesel.start_l * (end < whole.grid.n_steps)
    found = solve(problem.cp, effort)
    begins, ends = (np.array([float(s.stored.value[k]) for s in stores]) for k in (0, -1))
    return Day(prices, found.bound_l, begins, ends, {d.diesel.id: np.round(d.on.value) for d in problem.diesels}, found.solve_s)


def batteries(problem: PlanProblem) -> list[BatteryBlock]:
    """Return the batteries' blocks, in the order of their inverters."""
    return [i.store for i in problem.inverters if i.store is not None]
