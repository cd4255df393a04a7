"""How much must be stored, and how much room left, for the day to go worse than forecast: paths for every battery.

Walked backwards from the end of the horizon: where the net load of a bad day is above all that diesels can
give, the difference must be in the batteries by then; where diesels have room again, they can put it back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ems.plan import Forecast, Plan, Storm
from optimizer.frame import Array, Question

KNOWN_S = 3600.0
"""The sun of the next hour is known from what is measured now [s]: no brighter one is counted with."""
FILL_S = 3600.0
"""A battery is to be full so long before a storm [s]: the warning may be late."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Energy at the busbar by point in time [kWh], shape (n_steps + 1,).

    Attributes
    ----------
    stored_kwh, room_kwh : Array
        To be stored at least, and room to be left at least.
    bright_kwh : Array
        Room that a bright day would fill by itself; what the night before it takes makes some.
    unsure_kwh : Array
        What a bad day, which one of ten exceeds, has taken until then: so much less may be stored than was planned.
    """

    stored_kwh: Array
    room_kwh: Array
    bright_kwh: Array
    unsure_kwh: Array


def paths_of(question: Question, net_kw: Array, able_kw: Array, must_kw: Array) -> Paths:
    """Return what a bad day asks of all batteries together.

    Parameters
    ----------
    net_kw : NDArray
        Load less sun less river as forecast [kW], shape (n_steps,).
    able_kw : NDArray
        What all diesels that may run can give [kW], shape (n_steps,).
    must_kw : NDArray
        What the river gives whether it is wanted or not, above the load as forecast; below 0 where load is left [kW], shape (n_steps,).

    Notes
    -----
    `need[t] = max(0, need[t+1] + (net + up - able) dt)`: the forecast's own error `up` and `down` are those that a day
    exceeds with 10 % probability (`Forecast.floor_up_kw`). Losses are left to the battery, which knows its own.
    """
    hours = np.array(question.grid.step_s) / 3600.0
    up, down = (np.array(x) if x else np.zeros(len(hours)) for x in (question.forecast.floor_up_kw, question.forecast.floor_down_kw))
    river_kw = must_kw + np.array(question.forecast.load_kw)
    surplus_kw = np.minimum(must_kw + down * (must_kw > -down), river_kw)  # no more than the river itself: a brighter sun is cut, no load is below nothing
    off_kwh = np.concatenate([[0.0], np.cumsum(up * hours)])
    bright_kwh = (bright_kw(question.forecast) - sun_kw(question.forecast) - net_kw) * hours
    return Paths(backwards((net_kw + up - able_kw) * hours), backwards(surplus_kw * hours), backwards(bright_kwh), off_kwh)


def sun_kw(seen: Forecast | Plan) -> Array:
    """Return the sun that a forecast, or a plan of its time, expects [kW], shape (n_steps,)."""
    return np.asarray(sum((np.asarray(v) for v in seen.available_kw.values()), np.zeros(seen.grid.n_steps)))


def bright_kw(forecast: Forecast) -> Array:
    """Return the sun of a bright day [kW], shape (n_steps,); what is expected where nothing is known of one."""
    return np.maximum(sun_kw(forecast), forecast.bright_kw or 0.0)


def backwards(lacking_kwh: Array) -> Array:
    """Return what must be there at each point in time for what lacks from then on [kWh], shape (n_steps + 1,)."""
    need = np.zeros(len(lacking_kwh) + 1)
    for t in range(len(lacking_kwh) - 1, -1, -1):
        need[t] = max(0.0, need[t + 1] + lacking_kwh[t])
    return need


def before_storm(question: Question) -> Array:
    """Return 1 where stores are to be full because a storm is near, shape (n_steps + 1,)."""
    points = np.concatenate([[0.0], np.cumsum(question.grid.step_s)])
    if question.storm is None:
        return np.zeros(len(points))
    left_s = (question.storm.start - question.grid.start).total_seconds()
    inside = (points > left_s - FILL_S) & (points <= left_s)
    return np.asarray(inside & (left_s > 0.0)).astype(float)


def without_sun(forecast: Forecast, storm: Storm | None) -> Forecast:
    """Return a forecast that counts on no sun in a storm, and says so; plan, check and rules then all see the same sky."""
    if storm is None:
        return forecast
    begins = forecast.grid.starts()
    ends = [*begins[1:], forecast.grid.end]
    dark = [begin < storm.until and end > storm.start for begin, end in zip(begins, ends, strict=True)]
    if not any(dark):
        return forecast
    sun = {s: tuple(0.0 if hidden else v for v, hidden in zip(values, dark, strict=True)) for s, values in forecast.available_kw.items()}
    bright = tuple(0.0 if hidden else v for v, hidden in zip(forecast.bright_kw, dark, strict=True)) if forecast.bright_kw else ()
    return replace(forecast, available_kw=sun, bright_kw=bright, source={**forecast.source, **dict.fromkeys(sun, "storm")}, storm=storm)
