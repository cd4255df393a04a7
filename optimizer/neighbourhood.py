"""Near the plan that is followed: what its shifted commitments leave open, and when that is not enough.

Forecast and state move a little from one plan to the next, and so do the hours at which engines start and stop. So what is
on or off is fixed as the last plan had it, but near its own switchings, now, and beyond its end. All of this is a function of the
question alone, so that a replay gives the same plans everywhere.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt

from ems.config.site import Battery, Site
from ems.plan import Plan
from optimizer.frame import Array, Bounds, Frame, Question
from optimizer.security import sun_kw

AROUND_S = 3600.0
"""A switching may move by so much [s], at least by a step."""
HEAD_STEPS = 2
"""The first steps are free: what is decided now is decided anew."""
WHOLE_EVERY_S = 6 * 3600.0
"""The whole is searched when a plan is the first of such a part of the day [s]."""
OFF_SOC = 0.05
"""State of charge off the plan that makes the old commitments a bad place to begin."""
OFF_LOAD = 0.10
"""Mean change of the net load's forecast over the next half day, as a share of the site's peak load."""
AHEAD = timedelta(hours=12)
GRAVE = frozenset({"unserved", "reserve", "fuel"})
"""Wishes (`Unmet.limit`) that the whole is searched for where a plan near the old one leaves them unmet; others stay as unmet in the whole, mostly."""

Flags = npt.NDArray[np.bool_]


def near(frame: Frame, question: Question) -> Bounds:
    """Return (lowest, highest) of each on/off by asset, shape (n_steps,); nothing where there is no plan to be near to."""
    plan = question.previous
    if plan is None:
        return {}
    steps = shifted(plan, question)
    found = {}
    for switch in frame.switches:
        before = commitment(plan, switch.asset)
        if before is None:
            continue
        on = np.where(steps >= 0, before[steps], False)
        found[switch.asset] = loosened(frame, on, steps < 0)
    return found


def near_answer(frame: Frame) -> Bounds:
    """Return each on/off as the answer in the variables has it, free at the beginning and near its switchings."""
    return {s.asset: loosened(frame, s.on.value > 0.5, np.zeros(frame.n, dtype=bool)) for s in frame.switches}


def loosened(frame: Frame, on: Flags, open_: Flags) -> tuple[Array, Array]:
    """Return (lowest, highest) of an on/off, shape (n_steps,): fixed but where it is open anyway, near its switchings and now."""
    free = open_ | near_switching(frame, on)
    free[:HEAD_STEPS] = True
    return np.where(free, 0.0, on), np.where(free, 1.0, on)


def shifted(plan: Plan, question: Question) -> npt.NDArray[np.intp]:
    """Return which step of the old plan each new step begins in, -1 beyond its horizon, shape (n_steps,)."""
    found = [plan.grid.index(begin) for begin in question.grid.starts()]
    return np.array([-1 if k is None else k for k in found])


def commitment(plan: Plan, asset: str) -> Flags | None:
    """Return where a plan has an asset on; a turbine is on where it gives power; None where the plan does not speak of it."""
    if asset in plan.on:
        return np.array(plan.on[asset], dtype=bool)
    return np.array(plan.power_kw[asset]) > 0.0 if asset in plan.power_kw else None


def near_switching(frame: Frame, on: Flags) -> Flags:
    """Return the steps that begin within `AROUND_S` of a switching, and both steps that it lies between."""
    at = np.flatnonzero(on[1:] != on[:-1]) + 1
    found = np.zeros(len(on), dtype=bool)
    for k in at:
        found |= np.abs(frame.elapsed_s - frame.elapsed_s[k]) < AROUND_S
        found[k - 1] = found[k] = True
    return found


def whole_because(site: Site, frame: Frame, question: Question) -> str:
    """Return why the whole must be searched, in words; empty where it is enough to search near the plan that is followed.

    To be asked with the problem filled, so that what must or may not run is known.
    """
    plan, due = question.previous, due_because(question)
    if plan is None or due:
        return due
    return _state_departs(site, plan, question) or _forecast_departs(site, plan, question) or _forced(frame, question)


def due_because(question: Question) -> str:
    """Return why the whole is due whatever has happened, in words; empty where it is not."""
    plan = question.previous
    if plan is None:
        return "no plan to begin from"
    if plan.grid.index(question.grid.start) is None:
        return "the last plan is over"
    return "a new part of the day" if question.at.timestamp() // WHOLE_EVERY_S != plan.made_at.timestamp() // WHOLE_EVERY_S else ""


def _state_departs(site: Site, plan: Plan, question: Question) -> str:
    step = plan.grid.index(question.grid.start) or 0
    for battery in site.of(Battery):
        path, soc = plan.soc.get(battery.id), question.start.soc.get(battery.id)
        if path is None and soc is None:
            continue
        if path is None or soc is None or abs(soc - path[step]) > OFF_SOC:
            return f"{battery.id} is not charged as planned"
    for name, state in question.start.diesels.items():
        on = plan.on.get(name)
        if on is None or state.on not in on[max(0, step - 1) : step + 2]:
            return f"{name} does not run as planned"
    for name, duty in question.start.deferrables.items():
        on = plan.on.get(name)
        if on is not None and question.start.usable.get(name, True) and duty.on not in on[max(0, step - 1) : step + 2]:
            return f"{name} does not run as planned"
    return ""


def _forecast_departs(site: Site, plan: Plan, question: Question) -> str:
    steps = shifted(plan, question)
    known = (steps >= 0) & np.array([begin < question.at + AHEAD for begin in question.grid.starts()])
    drawn = sum((np.array(plan.power_kw[a]) for a in plan.deferrables), np.zeros(plan.grid.n_steps))
    sun = sun_kw(plan)
    before = (np.array(plan.load_kw) - drawn - sun)[steps]
    sun_now = sun_kw(question.forecast)
    change = np.abs(np.array(question.forecast.load_kw) - sun_now - before) * np.array(question.grid.step_s) * known
    mean_kw = float(change.sum() / max(1.0, float((np.array(question.grid.step_s) * known).sum())))
    return "the forecast has moved" if mean_kw > OFF_LOAD * site.peak_kw else ""


def _forced(frame: Frame, question: Question) -> str:
    wanted = near(frame, question)
    for switch in frame.switches:
        low, high = wanted.get(switch.asset, (np.zeros(frame.n), np.ones(frame.n)))
        if (low > switch.high.value).any() or (high < switch.low.value).any():
            return f"{switch.asset} cannot run as planned"
    return ""
