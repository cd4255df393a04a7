"""What a step of the sketch costs in each set, under each sky and at each power, and what it leaves stored.

The balance of the problem with one battery, its prices, and its reserve in closed form (`optimizer/reserve.py`): what is held beside
diesels and inverter does not depend on how they share the load. Everything is an array over rows, powers and stored energies.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from ems.reserve import DOWN_HOLD_S
from optimizer.assets.inverter import AT_ONCE_S
from optimizer.coarse import Coarse, Store
from optimizer.frame import MW, Array

POWERS = 5
"""Powers of the diesels between the least that leaves nobody in the dark and the most that can be stored: more find no better plans, three miss some."""
NEVER_L = 1e7
"""What may not be costs so much [L]: more than any way around it, and whether it was gone all the same is asked of the way."""
NOTHING: Array = np.zeros((1, 1, 1))


def clip(values: npt.NDArray[Any], low: ArrayLike, high: ArrayLike) -> npt.NDArray[Any]:
    """Return `np.clip` of the values, in two thirds of its time for arrays of this size."""
    return np.asarray(np.minimum(np.maximum(values, low), high))


def moves(of: Coarse, t: int, energy: Array) -> tuple[Array, Array]:
    """Return what each power of each row costs in a step [L], and the energy after it [MWh], shape (n_rows, n_powers, n_energies)."""
    hours, prices, store = float(of.frame.dt_h[t]), of.frame.prices, of.store
    begin = energy[None, None, :]
    demand, sun, low, live = column(of.demand, t), column(of.sun, t), column(of.fleet.low, t), of.live[:, None, None]
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
    dumped, used = np.maximum(0.0, out - into - wanted - cut - column(of.spilled, t)), sun - cut
    rate = reduce(np.maximum, (column(none, t) + slope * power for none, slope in of.fleet.lines))
    rate = rate + (dark * of.unserved_l_per_kwh + dumped * prices.surplus_l_per_kwh - used * prices.curtailed_l_per_kwh) / MW
    after: Array = np.broadcast_to(begin, power.shape)
    if store is not None:
        after = begin - out * (hours / store.to_bus) + into * (hours * store.into)
        rate = rate + (out + into) * store.wear + band_l(of, store, t, after)
        take = np.minimum(column(store.charge, t), np.maximum(0.0, store.top[t + 1] - after) / (store.into * DOWN_HOLD_S / 3600.0))
        back = take + out - into + power - low - dumped
        rate = rate + live * np.maximum(0.0, np.maximum(of.fed[t] - back, of.fallen[t] - back - used)) * (prices.low_l_per_kwh / MW)
    rate = rate + live * reserve_l(of, t, power, out - into, used, np.minimum(begin, after))
    fixed = of.fleet.fixed_l[:, t] + np.where(of.allowed[:, t], 0.0, NEVER_L)
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
    low, high, demand = column(of.fleet.low, t), column(of.fleet.high, t), column(of.demand, t)
    least, most = clip(demand - most_out, low, high), clip(demand + most_in, low, high)
    corners = [clip(x, least, most) for x in (demand, demand - column(of.idle, t) - of.fleet.quick[:, None, None])]
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
    idle, capacity, share = column(of.idle, t), column(of.fleet.capacity, t), of.fleet.share[:, None, None]
    left, quick = capacity - power, np.minimum(of.fleet.quick[:, None, None], capacity - power)
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
        manned = np.asarray(of.fleet.members.any(axis=1))[:, None, None]
        asked = np.where(manned, np.maximum(asked, flow + power + added - column(of.fleet.spared, t)), asked)
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
