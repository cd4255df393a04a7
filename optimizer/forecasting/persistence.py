"""Persistence: as at the same time yesterday, or as it is now; and what is left where nothing was seen.

Without history the load stays as last seen, and the sun follows a clear day scaled by what was seen.
Before any daylight was seen the sun is that of a dull day; the load is never taken as zero.
"""

from __future__ import annotations

import numpy as np

from ems.config.site import Hydro, Site, Solar
from optimizer.forecasting.history import DAY, Arrays, History, Slots, Values
from optimizer.forecasting.sky import place, sines

WEEK = 7 * DAY
BACK_DAYS = 7
"""So far back a day with the hour in question is looked for."""
REACH_SLOTS = 24
"""The latest load says nothing of what is more than six hours away, and nothing once it is that old [slots]."""
UNSEEN_LOAD = 0.5
"""Share of the declared peak that is expected before anything was seen."""
UNSEEN_SUN = 0.3
"""Share of the rating that a dull day's sun gives in the zenith: too little planned costs a diesel hour, too much a scramble."""
LOW_SUN = 0.1
"""Under this height of the sun [sine] its power says too little about the day."""


class Yesterday:
    """The same time of the latest day that was seen."""

    def __init__(self, history: History, name: str) -> None:
        self._history, self._name = history, name

    def learn(self, slot: int, value: float) -> None:
        """Nothing: the history has it."""

    def predict(self, slots: Slots, now: int) -> Values:
        """Return what is expected, NaN where no day of the last seven was seen."""
        found = np.full(len(slots), np.nan)
        first = np.ceil(np.maximum(slots - now + 1, 1) / DAY).astype(np.int64)
        for days in range(BACK_DAYS):
            missing = np.isnan(found)
            if not missing.any():
                break
            found[missing] = self._history.at(self._name, (slots - DAY * (first + days))[missing])
        return found

    def state(self) -> dict[str, Values]:
        """Return nothing: it has no memory of its own."""
        return {}

    def resume(self, state: Arrays) -> None:
        """Nothing is taken over."""


class LastWeek:
    """The same time last week, shifted by what the last day had more than the same day a week before."""

    def __init__(self, history: History, name: str) -> None:
        self._history, self._name = history, name

    def learn(self, slot: int, value: float) -> None:
        """Nothing: the history has it."""

    def predict(self, slots: Slots, now: int) -> Values:
        """Return what is expected, NaN where last week was not seen."""
        past = np.arange(now - DAY, now)
        more = self._history.at(self._name, past) - self._history.at(self._name, past - WEEK)
        known = more[np.isfinite(more)]
        return self._history.at(self._name, slots - WEEK) + (known.mean() if len(known) else np.nan)

    def state(self) -> dict[str, Values]:
        """Return nothing: it has no memory of its own."""
        return {}

    def resume(self, state: Arrays) -> None:
        """Nothing is taken over."""


class Latest:
    """The latest value, held; it says nothing of what is further away than `reach_slots`."""

    def __init__(self, history: History, name: str, reach_slots: int = REACH_SLOTS) -> None:
        self._history, self._name, self._reach = history, name, reach_slots

    def learn(self, slot: int, value: float) -> None:
        """Nothing: the history has it."""

    def predict(self, slots: Slots, now: int) -> Values:
        """Return what is expected, NaN where the latest value is too old."""
        back = np.arange(now - 1, now - 1 - self._reach, -1)
        values = self._history.at(self._name, back)
        known = np.flatnonzero(np.isfinite(values))
        latest = values[known[0]] if len(known) else np.nan
        return np.where(slots < now + self._reach, latest, np.nan)

    def state(self) -> dict[str, Values]:
        """Return nothing: it has no memory of its own."""
        return {}

    def resume(self, state: Arrays) -> None:
        """Nothing is taken over."""


def spare_load_kw(site: Site, history: History) -> tuple[float, str]:
    """Return the load that is expected where nothing better is known [kW], and what it is."""
    last = history.last.get("load")
    return (last[1], "last value") if last is not None and last[1] > 0.0 else (UNSEEN_LOAD * site.peak_kw, "half of the peak")


def spare_sun_kw(site: Site, solar: Solar, history: History, slots: Slots) -> tuple[Values, str]:
    """Return a clear day scaled by the best that was seen [kW], before any daylight was seen a dull day, and what it is."""
    at = place(site)
    seen, values = history.seen(solar.id)
    shapes = sines(seen, *at)
    high = shapes > LOW_SUN
    zenith_kw = min(float((values[high] / shapes[high]).max()), solar.rated_kw / LOW_SUN) if high.any() else UNSEEN_SUN * solar.rated_kw
    return np.minimum(zenith_kw * sines(slots, *at), solar.rated_kw), "clear day as far as seen" if high.any() else "dull day"


def spare_inflow_m3s(hydro: Hydro, history: History) -> tuple[float, str]:
    """Return the last seen inflow [m3/s]; before anything was seen only the ecological flow is sure."""
    last = history.last.get(hydro.id)
    return (max(0.0, last[1]), "last value") if last is not None else (hydro.ecological_flow_m3s, "ecological flow")
