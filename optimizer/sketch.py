"""A sketch of the commitments: a coarse dynamic programme over stored energy, the set of diesels that runs, and the sky.

With one battery and one sky a plan is a shortest path over (step, set, stored energy). On a grid of energies, with a few powers in each
step, it is found in one sweep backwards and one forwards, in a fraction of the time that a search over on and off takes to find as
good a one. Under several skies (`skies.py`) the sweep takes the mean over those that may come next, and the path is that of the sky which
is expected. It proves nothing and its litres are not used: the problem itself, with these commitments, has the last word.
Bellman, R., "Dynamic Programming", Princeton 1957.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimizer.coarse import Coarse, coarse
from optimizer.fleet import Flags
from optimizer.frame import Array, Bounds
from optimizer.moves import clip, moves
from optimizer.problem import PlanProblem

ENERGIES = 201
"""Points of stored energy under one sky, half a percent of a battery each: more find no better plans, half as many miss where it just carries the reserve."""
FEWER = 101
"""Points under several skies: their mean does not bend as sharply, and twice as many find no better plans."""
MOST_SETS = 33
"""More sets than these (five different diesels, and the dark bus) take longer to go through than a search takes: the time grows with their square."""
MOST_STATES = 50_000
"""Sets times steps of a whole period that are gone through: two weeks of quarter hours with all sets of five diesels, in 160 MB under one sky."""
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Arcs:
    """Changes of set: what they cost, and for how many steps the new set must then hold.

    Attributes
    ----------
    cost_l : Array
        From a set to another, shape (n_from, n_sets).
    hold : Ints
        Steps, 1 or more, shape (n_steps, n_from, n_sets).
    """

    cost_l: Array
    hold: Ints


@dataclass(frozen=True, slots=True)
class Held:
    """What is best while a set holds in a step: by set and stored energy before it, shape (n_rows, n_energies).

    Attributes
    ----------
    cost_l : Array
        Of this step and all that follows [L].
    after : Array
        What is stored after it [MWh].
    """

    cost_l: Array
    after: Array


def sketch(problem: PlanProblem) -> Bounds | None:
    """Return on and off of each diesel by step, to be fixed: (low, high) that are equal; None where nothing can be said.

    The problem is filled, perhaps narrowed; with rivers or deferrables its variables hold the answer of its relaxation.
    """
    if not problem.diesels or problem.frame.purpose == "window":  # a window is to end where the relaxation of the whole does, which a sketch does not know
        return None
    of = coarse(problem)
    if not of.n_sets or of.n_sets > MOST_SETS or of.frame.n * of.n_sets > MOST_STATES:
        return None
    path = shortest(of)
    if path is None:
        return None
    on = of.fleet.members[path].astype(float)
    return {d.diesel.id: (on[:, k], on[:, k]) for k, d in enumerate(problem.diesels)}


def shortest(of: Coarse) -> Ints | None:
    """Return which set holds in each step under the first sky, as a row of `of`, shape (n_steps,); None where there is no way through.

    Forwards from what is stored now, by what the sweep found best in each state: from the nearest point of the grid as far as from there.
    """
    grid, inner, begin = energies(of), arcs(of, of.fleet.members[: of.n_sets]), arcs(of, of.fleet.before[None, :])
    sets = np.arange(of.n_sets)
    found = swept(of, grid, inner, depths(inner, begin))
    energy = of.store.energy_0 if of.store is not None else 0.0
    path, row, left = np.zeros(of.frame.n, dtype=np.intp), -1, 0
    for t, held in enumerate(found):
        if left == 0:
            way, k = (begin, 0) if row < 0 else (inner, row)
            cost = np.array([interpolated(h.cost_l[: of.n_sets], grid, np.full((of.n_sets, 1, 1), energy))[:, 0, 0] for h in held])
            total = cost[way.hold[t, k] - 1, sets] + way.cost_l[k]
            row = int(np.argmin(total))
            left = int(way.hold[t, k, row])
            if not of.allowed[row, t : t + left].all():
                return None
        point = int(np.abs(grid - energy).argmin())
        energy = min(max(energy + float(held[left - 1].after[row, point] - grid[point]), grid[0]), grid[-1])
        path[t] = row
        left -= 1
    return path


def swept(of: Coarse, grid: Array, inner: Arcs, deep: list[int]) -> list[list[Held]]:
    """Return the best of each step by the steps that its set must still hold, itself included: the sweep backwards."""
    free: Array = np.tile(end_l(of, grid), (len(of.rows), 1))
    found: list[list[Held]] = [[]] * of.frame.n
    held: list[Held] = []
    for t in range(of.frame.n - 1, -1, -1):
        cost, after = moves(of, t, grid)
        later = [of_skies(of, t, cost_l) for cost_l in (free, *(h.cost_l for h in held[: deep[t] - 1]))]
        found[t] = held = [best(cost, after, grid, follows) for follows in later]
        by_sky = np.split(np.array([h.cost_l for h in held]), of.n_skies, axis=1)
        free = np.concatenate([changed(cost_l, inner.cost_l, inner.hold[t]) for cost_l in by_sky])
    return found


def of_skies(of: Coarse, t: int, cost_l: Array) -> Array:
    """Return the mean over the skies that may follow those of a step, of what costs so much under each, shape (n_rows, n_energies)."""
    by_sky = cost_l.reshape(of.n_skies, -1)
    return np.asarray((of.changes[t] @ by_sky).reshape(cost_l.shape))


def energies(of: Coarse) -> Array:
    """Return the grid of stored energy [MWh], evenly spaced over the band and what lies at the beginning; two points without a battery."""
    if of.store is None:
        return np.array([0.0, 1.0])
    s = of.store
    low, high = min(s.energy_0, float(s.floor.min())), max(s.energy_0, float(s.top.max()))
    return np.linspace(low, max(high, low + 1e-6), ENERGIES if of.n_skies == 1 else FEWER)


def arcs(of: Coarse, before: Flags) -> Arcs:
    """Return the changes from sets to those of `of`: after one the new set holds until all that started may stop and all that stopped may start."""
    members = of.fleet.members[: of.n_sets]
    started = ~before[:, None, :] & members[None]
    stopped = before[:, None, :] & ~members[None]
    seconds = np.maximum((started * of.fleet.up_s).max(axis=2, initial=0.0), (stopped * of.fleet.down_s).max(axis=2, initial=0.0))
    begins, n = of.frame.elapsed_s, of.frame.n
    ends = np.searchsorted(begins, begins[:, None, None] + seconds)  # the first step that does not begin before
    return Arcs(started @ of.fleet.start_l, np.clip(ends - np.arange(n)[:, None, None], 1, np.arange(n, 0, -1)[:, None, None]))


def depths(*ways: Arcs) -> list[int]:
    """Return for each step how long a set may still have to hold [steps]: by a change there, or by one before."""
    most = np.max([way.hold.max(axis=(1, 2)) for way in ways], axis=0)
    found: list[int] = []
    for k in most:
        found.append(max(int(k), found[-1] - 1 if found else 1))
    return found


def changed(held: Array, cost_l: Array, hold: Ints) -> Array:
    """Return the value of being free to change, by the set before; `held` by steps to hold, set and energy."""
    return np.asarray((held[hold - 1, np.arange(held.shape[1])] + cost_l[:, :, None]).min(axis=1))


def best(cost: Array, after: Array, grid: Array, follows: Array) -> Held:
    """Return the least of cost and what follows over all powers."""
    whole = cost + interpolated(follows, grid, after)
    power = whole.argmin(axis=1)[:, None, :]
    return Held(np.take_along_axis(whole, power, axis=1)[:, 0, :], np.take_along_axis(after, power, axis=1)[:, 0, :])


def interpolated(values: Array, grid: Array, at: Array) -> Array:
    """Return values (n_rows, n_grid) at energies (n_rows, ...), linear in between."""
    place = clip((at - grid[0]) * ((len(grid) - 1) / (grid[-1] - grid[0])), 0.0, len(grid) - 1.0)
    below = np.minimum(place.astype(np.intp), len(grid) - 2)
    part = place - below
    flat = values.ravel()
    index = below + (np.arange(len(values)) * len(grid))[:, None, None]
    first = flat[index]
    return np.asarray(first + part * (flat[index + 1] - first))


def end_l(of: Coarse, grid: Array) -> Array:
    """Return what stored energy at the end is worth, as a cost, shape (n_energies,)."""
    found = np.zeros(len(grid))
    if of.store is not None:
        rest = np.maximum(0.0, grid - of.store.floor[-1])
        for width, value in of.store.end:
            found -= value * np.minimum(rest, width)
            rest = np.maximum(0.0, rest - width)
    return found
