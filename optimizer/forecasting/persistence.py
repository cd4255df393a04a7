"""Persistence: load and sun as at the same time yesterday, the river as it is now.

Without history the load stays as last seen, and the sun follows a clear day scaled by what was seen.
Before any daylight was seen the sun is that of a dull day; the load is never taken as zero.
"""

from __future__ import annotations

from datetime import datetime

from ems.config.site import Hydro, Site, Solar
from ems.plan import Forecast, Grid, Series
from optimizer.forecasting.history import History, day_before
from optimizer.forecasting.sky import mean_shape

BACK_DAYS = 7
"""So far back a day with the hour in question is looked for."""
UNSEEN_LOAD = 0.5
"""Share of the declared peak that is expected before anything was seen."""
UNSEEN_SUN = 0.3
"""Share of the rating that a dull day's sun gives in the zenith: too little planned costs a diesel hour, too much a scramble."""
LOW_SUN = 0.1
"""Under this height of the sun [sine] its power says too little about the day."""


def persistence(site: Site, history: History, grid: Grid) -> Forecast:
    """Return the forecast on a grid."""
    source: dict[str, str] = {}
    load, peak, source["load"] = load_kw(site, history, grid)
    sun: dict[str, Series] = {}
    for solar in site.of(Solar):
        sun[solar.id], source[solar.id] = sun_kw(site, solar, history, grid)
    water: dict[str, Series] = {}
    for hydro in site.of(Hydro):
        water[hydro.id], source[hydro.id] = inflow_m3s(hydro, history, grid)
    return Forecast(grid, load, sun, water, source, peak)


def yesterday(history: History, name: str, start: datetime, seconds: float) -> tuple[float, float] | None:
    """Return mean and peak at the same time of the latest day that was seen, or None."""
    for days in range(1, BACK_DAYS + 1):
        begin = day_before(start, days)
        mean = history.mean(name, begin, seconds)
        if mean is not None:
            return mean, max(mean, history.peak(name, begin, seconds) or mean)
    return None


def load_kw(site: Site, history: History, grid: Grid) -> tuple[Series, Series, str]:
    """Return mean and peak load by step [kW], and where they come from."""
    last = history.last.get("load")
    spare = last[1] if last is not None and last[1] > 0 else UNSEEN_LOAD * site.peak_kw
    means, peaks, missing = [], [], 0
    for start, seconds in zip(grid.starts(), grid.step_s, strict=True):
        found = yesterday(history, "load", start, seconds)
        missing += found is None
        mean, peak = found if found is not None else (spare, spare)
        means.append(mean)
        peaks.append(peak)
    label = "persistence" if not missing else "fallback:last value" if last is not None else "fallback:half of the peak"
    return tuple(means), tuple(peaks), label


def sun_kw(site: Site, solar: Solar, history: History, grid: Grid) -> tuple[Series, str]:
    """Return what the sun will offer by step [kW], and where it comes from."""
    place = site.site.latitude, site.site.longitude
    clear: float | None = None
    values = []
    for start, seconds in zip(grid.starts(), grid.step_s, strict=True):
        found = yesterday(history, solar.id, start, seconds)
        if found is None:
            clear = clear_day_kw(site, solar, history) if clear is None else clear
            values.append(min(solar.rated_kw, clear * mean_shape(start, seconds, *place)))
        else:
            values.append(found[0])
    return tuple(values), "persistence" if clear is None else "fallback:clear day as far as seen"


def clear_day_kw(site: Site, solar: Solar, history: History) -> float:
    """Return the power [kW] of the sun in the zenith, judged by the best that was seen; before any daylight was, of a dull day."""
    shapes = ((mean_shape(middle, 0.0, site.site.latitude, site.site.longitude), value) for middle, value in history.seen(solar.id))
    seen = [value / shape for shape, value in shapes if shape > LOW_SUN]
    return min(max(seen), solar.rated_kw / LOW_SUN) if seen else UNSEEN_SUN * solar.rated_kw


def inflow_m3s(hydro: Hydro, history: History, grid: Grid) -> tuple[Series, str]:
    """Return the last seen inflow for every step [m3/s]; before anything was seen only the ecological flow is sure."""
    last = history.last.get(hydro.id)
    value = hydro.ecological_flow_m3s if last is None else max(0.0, last[1])
    return (value,) * grid.n_steps, "persistence" if last is not None else "fallback:ecological flow"
