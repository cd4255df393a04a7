"""Forecasts from outside: a file or what was pushed over REST, averaged exactly onto slots."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from ems.bands import Series
from ems.plan import Given
from optimizer.forecasting.history import SLOT_S, Slots, Values


def series_of(given: Given, name: str) -> Series:
    """Return the values of a quantity, empty where it is not part of it."""
    if name == "load":
        return given.load_kw
    return given.available_kw.get(name) or given.inflow_m3s.get(name) or ()


def stale(given: Given, at: datetime) -> bool:
    """Return whether a forecast is too old to be used."""
    return given.until is not None and at >= given.until


class Outside:
    """What was given for one quantity; NaN outside of its time. Where one value cannot be, none is believed."""

    def __init__(self, given: Given, name: str) -> None:
        values = np.array(series_of(given, name), dtype=np.float64)
        values = values if np.isfinite(values).all() and (values >= 0.0).all() else np.empty(0)
        self._start_s, self._step_s = given.start.timestamp(), given.step_s
        self._whole = np.concatenate([[0.0], np.cumsum(values)]) * given.step_s

    def predict(self, slots: Slots) -> Values:
        """Return what was given for slots, NaN where nothing was for the whole of one."""
        edges = (np.concatenate([slots, slots + 1]) * SLOT_S - self._start_s) / self._step_s
        n = len(self._whole) - 1
        integral = np.interp(edges, np.arange(n + 1), self._whole)
        found = (integral[len(slots) :] - integral[: len(slots)]) / SLOT_S
        inside = (edges[: len(slots)] >= -1e-9) & (edges[len(slots) :] <= n + 1e-9)
        return np.where(inside & (n > 0), found, np.nan)
