"""The sun that a plan counts on: on the bright side of what is expected, where a bright day would fill the batteries.

Both errors cost, but not the same. A diesel's kWh that is stored for a dark day is lost when the sun comes and the battery is
full; a kWh that is missing on a dark day is made by a diesel then, for the same litres. So the value of what is stored falls
with what a bright day would bring, which the mean of the forecast does not show. What secures the supply leans nowhere: the
paths of a bad day (`optimizer.security`) stay where they were, and reserve has its own errors.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ems.config.site import Battery, Site
from ems.plan import Forecast
from optimizer.answer import series
from optimizer.frame import Array

LEAN = 0.25
"""So far towards the day that is exceeded with 10 % probability: what is won in litres beyond that is lost in starts (docs/benchmarks.md)."""
SOON_S = 3600.0
"""What begins sooner is known from what is measured now [s]."""
DAY_S = 86400.0


def leaning(site: Site, forecast: Forecast) -> Forecast:
    """Return the forecast with its sun moved to the bright side, and its errors counted from there.

    Parameters
    ----------
    site : Site
    forecast : Forecast
        Unchanged where its errors are not learned, or where no day is bright enough to fill a part of the batteries.
    """
    if forecast.bands is None or not forecast.bands.learned or not forecast.floor_down_kw:
        return forecast
    sun = {s: np.array(v) for s, v in forecast.available_kw.items()}
    total: Array = sum(sun.values(), np.zeros(forecast.grid.n_steps))
    begins = np.concatenate([[0.0], np.cumsum(forecast.grid.step_s)[:-1]])
    more = LEAN * np.array(forecast.floor_down_kw) * ((begins >= SOON_S) & (total > 0.0))
    more *= filled(site, forecast, total + np.array(forecast.floor_down_kw) * (total > 0.0), begins)
    ratio = np.divide(more, total, out=np.zeros_like(total), where=total > 0.0)
    return replace(
        forecast,
        available_kw={s: series(v * (1.0 + ratio)) for s, v in sun.items()},
        floor_up_kw=series(np.array(forecast.floor_up_kw) + more),
        floor_down_kw=series(np.array(forecast.floor_down_kw) - more),
    )


def filled(site: Site, forecast: Forecast, bright_kw: Array, begins_s: Array) -> Array:
    """Return by step which part of the batteries a bright day would fill, 0 to 1, shape (n_steps,)."""
    band_kwh = sum((b.soc_max - b.soc_min) * b.capacity_kwh for b in site.of(Battery))
    surplus = np.maximum(0.0, bright_kw - np.array(forecast.load_kw)) * np.array(forecast.grid.step_s) / 3600.0
    found = np.zeros(len(begins_s))
    if band_kwh <= 0.0:
        return found
    for day in range(int(begins_s[-1] // DAY_S) + 1):
        inside = begins_s // DAY_S == day
        found[inside] = min(1.0, float(surplus[inside].sum()) / band_kwh)
    return found
