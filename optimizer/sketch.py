"""A sketch of the commitments: a coarse dynamic programme over stored energy, the set of diesels that runs, and the sky.

With one battery and one sky a plan is a shortest path over (step, set, stored energy). On a grid of energies, with a few powers in each
step, it is found in one sweep backwards and one forwards, in a fraction of the time that a search over on and off takes to find as
good a one. Under several skies (`skies.py`) the sweep takes the mean over those that may come next, and the path is that of the sky which
is expected. It proves nothing and its litres are not used: the problem itself, with these commitments, has the last word.
Bellman, R., "Dynamic Programming", Princeton 1957.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from ems.reserve import DOWN_HOLD_S
from optimizer.assets.inverter import AT_ONCE_S
from optimizer.coarse import Coarse, Flags, Store, coarse
from optimizer.frame import MW, Array, Bounds
from optimizer.problem import PlanProblem

ENERGIES = 201
"""Points of stored energy under one sky, half a percent of a battery each: more find no better plans, half as many miss where it just carries the reserve."""
FEWER = 101
"""Points under several skies: their mean does not bend as sharply, and twice as many find no better plans."""
POWERS = 5
"""Powers of the diesels between the least that leaves nobody in the dark and the most that can be stored: more find no better plans, three miss some."""
MOST_SETS = 33
"""More sets than these (five different diesels, and the dark bus) take longer to go through than a search takes: the time grows with their square."""
MOST_STATES = 50_000
"""Sets times steps of a whole period that are gone through: two weeks of quarter hours with all sets of five diesels, in 160 MB."""
NEVER_L = 1e7
"""What may not be costs so much [L]: more than any way around it, and whether it was gone all the same is asked of the way."""
Ints = npt.NDArray[np.intp]
NOTHING: Array = np.zeros((1, 1, 1))


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
    if not of.n_sets or of.n_sets > MOST_SETS or of.frame.n * len(of.rows) > MOST_STATES:
        return None
    path = shortest(of)
    if path is None:
        return None
    on = of.members[path].astype(float)
    return {d.diesel.id: (on[:, k], on[:, k]) for k, d in enumerate(problem.diesels)}


def shortest(of: Coarse) -> Ints | None:
    """Return which set holds in each step under the first sky, as a row of `of`, shape (n_steps,); None where there is no way through.

    Forwards from what is stored now, by what the sweep found best in each state: from the nearest point of the grid as far as from there.
    """
    grid, inner, begin = energies(of), arcs(of, of.members[: of.n_sets]), arcs(of, of.before[None, :])
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
        by_sky = np.split(np.array([h.cost_l for h in held]), len(of.rows) // of.n_sets, axis=1)
        free = np.concatenate([changed(cost_l, inner.cost_l, inner.hold[t]) for cost_l in by_sky])
    return found


def of_skies(of: Coarse, t: int, cost_l: Array) -> Array:
    """Return the mean over the skies that may follow those of a step, of what costs so much under each, shape (n_rows, n_energies)."""
    by_sky = cost_l.reshape(of.changes.shape[1], -1)
    return np.asarray((of.changes[t] @ by_sky).reshape(cost_l.shape))


def energies(of: Coarse) -> Array:
    """Return the grid of stored energy [MWh], evenly spaced over the band and what lies at the beginning; two points without a battery."""
    if of.store is None:
        return np.array([0.0, 1.0])
    s = of.store
    low, high = min(s.energy_0, float(s.floor.min())), max(s.energy_0, float(s.top.max()))
    return np.linspace(low, max(high, low + 1e-6), ENERGIES if len(of.rows) == of.n_sets else FEWER)


def arcs(of: Coarse, before: Flags) -> Arcs:
    """Return the changes from sets to those of `of`: after one the new set holds until all that started may stop and all that stopped may start."""
    members = of.members[: of.n_sets]
    started = ~before[:, None, :] & members[None]
    stopped = before[:, None, :] & ~members[None]
    seconds = np.maximum((started * of.up_s).max(axis=2, initial=0.0), (stopped * of.down_s).max(axis=2, initial=0.0))
    begins, n = of.frame.elapsed_s, of.frame.n
    ends = np.searchsorted(begins, begins[:, None, None] + seconds)  # the first step that does not begin before
    return Arcs(started @ of.start_l, np.clip(ends - np.arange(n)[:, None, None], 1, np.arange(n, 0, -1)[:, None, None]))


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


def clip(values: npt.NDArray[Any], low: ArrayLike, high: ArrayLike) -> npt.NDArray[Any]:
    """Return `np.clip` of the values, in two thirds of its time for arrays of this size."""
    return np.asarray(np.minimum(np.maximum(values, low), high))


def end_l(of: Coarse, grid: Array) -> Array:
    """Return what stored energy at the end is worth, as a cost, shape (n_energies,)."""
    found = np.zeros(len(grid))
    if of.store is not None:
        rest = np.maximum(0.0, grid - of.store.floor[-1])
        for width, value in of.store.end:
            found -= value * np.minimum(rest, width)
            rest = np.maximum(0.0, rest - width)
    return found


def moves(of: Coarse, t: int, energy: Array) -> tuple[Array, Array]:
    """Return what each power of each row costs in a step [L], and the energy after it [MWh], shape (n_rows, n_powers, n_energies)."""
    hours, prices, store = float(of.frame.dt_h[t]), of.frame.prices, of.store
    begin = energy[None, None, :]
    demand, sun, low, live = column(of.demand, t), column(of.sun, t), column(of.low, t), of.live[:, None, None]
    most_out, most_in = limits(store, t, begin, hours) if store is not None else (0.0 * begin, 0.0 * begin)
    power = powers(of, t, most_out, most_in)
    wanted = demand - power
    out = clip(wanted, 0.0, most_out)
    into = clip(-wanted, 0.0, most_in)
    if store is not None:
        fallen = of.fallen[t] - np.maximum(0.0, demand + sun - low)
        out, into = with_room(of, store, t, begin, out, into, power - low, fallen, wanted + sun, most_out)
    dark = np.maximum(0.0, wanted - out)
    cut = clip(out - into - wanted, 0.0, sun)
    dumped, used = np.maximum(0.0, out - into - wanted - cut), sun - cut
    rate = reduce(np.maximum, (column(none, t) + slope * power for none, slope in of.lines))
    rate = rate + (dark * of.unserved_l_per_kwh + dumped * prices.surplus_l_per_kwh - used * prices.curtailed_l_per_kwh) / MW
    after: Array = np.broadcast_to(begin, power.shape)
    if store is not None:
        after = begin - out * (hours / store.to_bus) + into * (hours * store.into)
        rate = rate + (out + into) * store.wear + band_l(of, store, t, after)
        take = np.minimum(column(store.charge, t), np.maximum(0.0, store.top[t + 1] - after) / (store.into * DOWN_HOLD_S / 3600.0))
        back = take + out - into + power - low - dumped
        rate = rate + live * np.maximum(0.0, np.maximum(of.fed[t] - back, of.fallen[t] - back - used)) * (prices.low_l_per_kwh / MW)
    rate = rate + live * reserve_l(of, t, power, out - into, used, np.minimum(begin, after))
    fixed = of.fixed_l[:, t] + np.where(of.allowed[:, t], 0.0, NEVER_L)
    return hours * rate + fixed[:, None, None], after


def column(values: Array, t: int) -> Array:
    """Return one step of (n_rows, n_steps) so that it spreads over energies and powers."""
    return values[:, t, None, None]


def limits(store: Store, t: int, begin: Array, hours: float) -> tuple[Array, Array]:
    """Return the most that can be taken out of the battery and put into it, at the busbar [MW], shape (n_rows, 1, n_energies)."""
    out = np.minimum(column(store.discharge, t), np.maximum(0.0, begin - store.floor[t + 1]) * (store.to_bus / hours))
    into = np.minimum(column(store.charge, t), np.maximum(0.0, store.top[t + 1] - begin) / (store.into * hours))
    for empty, rise in store.curve:
        into = np.minimum(into, np.maximum(0.0, empty + rise * begin))
    return out, into


def with_room(
    of: Coarse, store: Store, t: int, begin: Array, out: Array, into: Array, above: Array, fallen: Array, most: Array, most_out: Array
) -> tuple[Array, Array]:
    """Return what is taken out and put in where sun is rather cut than the room for a lost feeder filled; `most` could be taken out with no sun at all.

    With x put in, diesels `above` their minimum, and the room that is left after the step to be filled in `DOWN_HOLD_S`:
    `x <= charge + above - fed` and `x (dt + hold) <= room / into - (fed - above) hold`; taken out, the same from the other side.
    """
    hours, hold_h = float(of.frame.dt_h[t]), DOWN_HOLD_S / 3600.0
    missing = of.fed[t] - above
    room = np.maximum(0.0, store.top[t + 1] - begin) / store.into
    fits = np.minimum(column(store.charge, t) - missing, (room - missing * hold_h) / (hours + hold_h))
    fits = np.minimum(fits, (room - fallen * hold_h) / hours)
    into = clip(fits, clip(-most, 0.0, into), into)
    needed = (missing * hold_h - room) / (hold_h + hours / (store.into * store.to_bus))
    needed = np.maximum(needed, (fallen * hold_h - room) * (store.into * store.to_bus / hours))
    return clip(needed, out, np.maximum(out, np.minimum(most, most_out))), into


def powers(of: Coarse, t: int, most_out: Array, most_in: Array) -> Array:
    """Return the powers of the diesels that are tried, shape (n_rows, n_powers, n_energies).

    From the least that serves all to the most that can be stored; and with the battery at rest, and giving what diesels could take over at once.
    """
    low, high, demand = column(of.low, t), column(of.high, t), column(of.demand, t)
    least, most = clip(demand - most_out, low, high), clip(demand + most_in, low, high)
    corners = [clip(x, least, most) for x in (demand, demand - column(of.idle, t) - of.quick[:, None, None])]
    return np.concatenate([least + (most - least) * np.linspace(0.0, 1.0, POWERS)[:, None], *corners], axis=1)


def band_l(of: Coarse, store: Store, t: int, after: Array) -> Array:
    """Return what it costs to keep what is stored, below the floor or off the path of a bad day more than else [L/h]."""
    prices = of.frame.prices
    under = np.maximum(0.0, store.floor[t + 1] - after)
    thin = np.maximum(0.0, np.maximum(store.path[t + 1] - after, after - store.roof[t + 1]))
    lost = np.maximum(0.0, after - store.bright[t + 1])
    return np.asarray((under * prices.under_l_per_kwh_h + thin * prices.thin_l_per_kwh_h) / MW + lost * store.lost_l[t])


def reserve_l(of: Coarse, t: int, power: Array, flow: Array, sun: Array, stored: Array) -> Array:
    """Return what missing reserve costs [L/h], as `optimizer/reserve.py` counts it: what is held, and what is added at once.

    Energy that a loss would take and the battery does not hold costs as a lack, or as the shortfall in power that would do without it, whichever is less.
    """
    store, rule, prices = of.store, of.frame.site.reserve, of.frame.prices
    idle, capacity, share = column(of.idle, t), column(of.capacity, t), of.share[:, None, None]
    left, quick = capacity - power, np.minimum(of.quick[:, None, None], capacity - power)
    given, reach = (flow - idle, column(store.reach, t) + idle) if store is not None else (NOTHING, NOTHING)
    added = np.maximum(of.added[t] + of.sun_share * sun, of.risen[t])
    lost = np.maximum(of.need[t], rule.solar_fraction * sun)
    others, at_once = NOTHING, NOTHING  # of the diesels alone; within seconds
    if rule.largest_unit:
        lost = np.maximum(lost, np.maximum(sun * of.sun_lost[t], of.river[t]) + added)
        if store is not None:
            counted = (1.0 - column(of.excused, t)) * (given > 0.0)
            rest = (1.0 - store.largest) * (reach - flow)
            others = (store.largest * given + added - np.minimum(quick, left) - rest) * counted
        at_once = (share * (power + quick) + added) * (share > 0.0) - quick
    at_once = np.maximum(at_once, lost - quick)
    others = np.maximum(others, at_once - (reach - flow) * (store.instant if store is not None else 0.0))
    asked = flow + lost - left  # of the inverter, to be held: below 0 where diesels hold more than is asked
    if rule.largest_unit:
        manned = np.asarray(of.members.any(axis=1))[:, None, None]
        asked = np.where(manned, np.maximum(asked, flow + power + added - column(of.spared, t)), asked)
    short = np.maximum(0.0, np.maximum(asked - reach, others))
    found = short * (prices.shortfall_l_per_kwh / MW)
    if store is not None:
        hold_h = np.maximum(1e-9, column(of.hold_h, t))
        firm = (stored - store.floor[t + 1] - store.err) * store.to_bus
        missing = hold_h * (asked - short) - firm
        bridge = np.maximum(0.0, at_once - short) * (AT_ONCE_S / 3600.0) - firm
        a_lack = prices.lack_l_per_kwh_h / store.to_bus
        lack = np.maximum(missing * np.minimum(a_lack, prices.shortfall_l_per_kwh / hold_h), bridge * a_lack)
        unsure = store.unsure[t] * store.to_bus
        spent = clip(missing + unsure, 0.0, unsure) * (prices.spent_l_per_kwh_h / store.to_bus)
        found = found + (np.maximum(0.0, lack) + spent) / MW
    return np.asarray(found)
