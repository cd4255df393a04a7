"""The sun that a plan counts on: a little more than is expected where a bright day would fill the batteries.

Both errors cost, but not the same. A diesel's kWh that is stored for a dark day is lost when the sun comes and the battery is
full; a kWh that is missing on a dark day is made by a diesel then, for the same litres. So the value of what is stored falls
with what a bright day would bring, which the mean of the forecast does not show. What secures the supply leans nowhere: the
paths of a bad day (`optimizer.security`) stay where they were, and reserve has its own errors.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ems.config.site import Battery, Hydro, Site
from ems.physics import river_kw
from ems.plan import Forecast
from optimizer.answer import series
from optimizer.frame import Array
from optimizer.security import KNOWN_S, bright_kw, sun_kw

LEAN = 0.25
"""So far towards a bright day (docs/decisions/0029)."""
DAY_S = 86400.0


def leaning(site: Site, forecast: Forecast) -> Forecast:
    """Return the forecast with its sun moved to the bright side, and its errors counted from there.

    Parameters
    ----------
    site : Site
    forecast : Forecast
        Unchanged where no bright day was seen; also where none is bright enough to fill a part of the batteries.
    """
    if not forecast.bright_kw:
        return forecast
    sun = {s: np.array(v) for s, v in forecast.available_kw.items()}
    total = sun_kw(forecast)
    begins = np.concatenate([[0.0], np.cumsum(forecast.grid.step_s)[:-1]])
    bright = bright_kw(forecast)
    moved = LEAN * (bright - total) * filled(site, forecast, bright, begins) * (begins >= KNOWN_S)
    ratio = np.divide(moved, total, out=np.zeros_like(total), where=total > 0.0)
    up, down = (np.array(x) if x else np.zeros_like(total) for x in (forecast.floor_up_kw, forecast.floor_down_kw))
    return replace(
        forecast,
        available_kw={s: series(v * (1.0 + ratio)) for s, v in sun.items()},
        floor_up_kw=series(up + moved),
        floor_down_kw=series(np.maximum(0.0, down - moved)),
    )


def filled(site: Site, forecast: Forecast, bright_kw: Array, begins_s: Array) -> Array:
    """Return by step which part of the batteries a bright day would fill, 0 to 1, shape (n_steps,)."""
    band_kwh = sum((b.soc_max - b.soc_min) * b.capacity_kwh for b in site.of(Battery))
    river = sum((np.array([river_kw(h, q) for q in forecast.inflow_m3s[h.id]]) for h in site.of(Hydro)), np.zeros(len(begins_s)))
    surplus = np.maximum(0.0, bright_kw + river - site.station_kw - np.array(forecast.load_kw)) * np.array(forecast.grid.step_s) / 3600.0
    found = np.zeros(len(begins_s))
    if band_kwh <= 0.0:
        return found
    for day in days(begins_s):
        found[day] = min(1.0, float(surplus[day].sum()) / band_kwh)
    return found


def days(begins_s: Array) -> list[npt.NDArray[np.bool_]]:
    """Return which steps begin on each day from now, each of shape (n_steps,)."""
    return [begins_s // DAY_S == day for day in range(int(begins_s[-1] // DAY_S) + 1)]
