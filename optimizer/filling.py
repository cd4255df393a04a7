"""Sun that a plan cuts beside a battery that has room for it: stored after all.

What a diesel stores has a price while a bright day may fill its place (`Prices.lost_l_per_kwh_h`), and a linear problem cannot tell it from sun
that came later: towards its end a plan cuts sun rather than pay for what a diesel stored at dawn. Control would store that sun, so the
plan that is given away does too: it costs nothing, and is worth something on the day after.
"""

from __future__ import annotations

import numpy as np

from ems.reserve import DOWN_HOLD_S
from optimizer.assets.battery import BatteryBlock
from optimizer.assets.inverter import InverterBlock, charge_lines
from optimizer.frame import MW, Array
from optimizer.problem import PlanProblem


def with_sun_stored(problem: PlanProblem, power_kw: dict[str, Array]) -> dict[str, Array]:
    """Return the powers of a plan with all sun in use that fits into the batteries until its end, whatever else the plan stores later.

    Room for a lost feeder, and on the path of a bright day, stays free: sun that is cut for these is rightly cut. So is what reserve
    could not replace: all sun may be lost at once, and then an inverter that reacts ends its charging, but no share on top of the loss is covered by that.

    Parameters
    ----------
    problem : PlanProblem
        Solved.
    power_kw : dict[str, NDArray]
        By asset [kW], shape (n_steps,); only sun and inverters change.
    """
    alive = problem.frame.live_w.value.sum(axis=0)
    cut = {s.solar.id: np.maximum(0.0, s.available.value[0] * alive / MW - power_kw[s.solar.id]) for s in problem.solars}
    offered = left = sum(cut.values(), np.zeros(problem.frame.n))
    found = dict(power_kw)
    rule = problem.site.reserve
    for i in problem.inverters if rule.combine == "max" or rule.solar_fraction == 0.0 else ():
        if i.store is not None and i.store.share > 0.0 and i.reacts:
            more = stored_kw(problem, i, i.store, left)
            found[i.inverter.id] = found[i.inverter.id] - more
            left = left - more
    used = np.divide(offered - left, offered, out=np.zeros_like(offered), where=offered > 0.0)
    return found | {sun: found[sun] + kw * used for sun, kw in cut.items()}


def stored_kw(problem: PlanProblem, inverter: InverterBlock, store: BatteryBlock, offered_kw: Array) -> Array:
    """Return what a battery can take beside what the plan gives it, so that it still takes that later [kW], shape (n_steps,)."""
    frame, b, down = problem.frame, store.battery, np.maximum(problem.reserve.fed.value, problem.reserve.fallen.value)
    stored = store.stored.value
    taken = (inverter.charge.value - inverter.discharge.value).sum(axis=0)
    most = (inverter.charge_max.value * frame.live_w.value).sum(axis=0) - taken - down
    head = np.minimum(store.top.value, store.capacity - store.clear.value)[1:] - stored[1:] - down * (store.into * DOWN_HOLD_S / 3600.0)
    # The fuller, the slower: what is stored more must not slow down what is to be charged later.
    full_mw = b.charge_kw * MW / inverter.inverter.efficiency
    lines = [(full_mw * at_empty, full_mw * rise / store.capacity) for at_empty, rise in charge_lines(b)]
    for empty, rise in lines:
        if rise < 0.0:
            head[:-1] = np.minimum(head[:-1], ((empty + rise * stored[:-1] - taken - down) / -rise)[1:])
    room = np.minimum.accumulate(head[::-1])[::-1]
    more, extra = np.zeros(frame.n), 0.0
    for t, hours in enumerate(frame.dt_h):
        quick = min((empty + rise * (stored[t] + extra) - taken[t] - down[t] for empty, rise in lines), default=most[t])
        more[t] = max(0.0, min(offered_kw[t] * MW, most[t], quick, (room[t] - extra) / (store.into * hours)))
        extra += more[t] * store.into * hours
    return more / MW
