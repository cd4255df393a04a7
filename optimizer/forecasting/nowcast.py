"""Where a forecast begins: by how much it is off now, and how long that lasts.

The methods know the intervals that are over. What is measured now says more about the next hours than any of them: the
forecast is moved onto it, and comes back to its own as the deviation fades.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np

from ems.plan import Observation
from optimizer.forecasting.history import SLOT_S, Slots, Values, observed

LASTS_H = {"load": 6.0, "sun": 3.0, "river": 12.0}
"""A deviation fades to 1/e in this time [h]. Of the blend's on `ouessant_2016_1h` there were left after 1, 3 and 6 h: of the
load's 1.0, 0.9 to 1.0 and 0.6, of the sun's 0.5 to 0.8, 0.4 to 0.5 and 0.1 to 0.25 (May and November)."""
OLD = timedelta(minutes=20)
"""What was measured longer ago says nothing about now."""
DIM = 0.02
"""Under this share of its rating, as forecast for now, the sun says nothing about the hours to come."""
BRIGHTER = 2.0
"""The deviation of the sun grows with the sun, at most by this factor."""
LEAST = 0.05
"""A forecast is lowered to this share of itself at most."""


def begun(values: Mapping[str, Values], slots: Slots, measured: Observation | None, at: datetime, rated_kw: Mapping[str, float]) -> dict[str, Values]:
    """Return forecasts that begin with what is measured.

    Parameters
    ----------
    values : Mapping[str, NDArray]
        By quantity, on `slots`.
    slots : NDArray
        Quarter hours since 1970.
    measured : Observation | None
        Taken for now unless it is old.
    at : datetime
        Now [UTC].
    rated_kw : Mapping[str, float]
        Of each solar asset [kW].
    """
    if measured is None or at - (measured.start + timedelta(seconds=measured.seconds)) > OLD:
        return dict(values)
    seen, now = observed(measured), int(at.timestamp() // SLOT_S)
    lead_h = np.maximum(0.0, slots - now) * SLOT_S / 3600.0
    first = int(np.searchsorted(slots, now))
    found = {}
    for name, value in values.items():
        is_now = seen.get(name)
        if is_now is None or not np.isfinite(is_now) or first >= len(slots):
            found[name] = value
            continue
        off, rated = is_now - float(value[first]), rated_kw.get(name)
        kind = "load" if name == "load" else "river" if rated is None else "sun"
        left = off * np.exp(-lead_h / LASTS_H[kind])
        if rated is not None:
            left *= np.clip(value / value[first], 0.0, BRIGHTER) if value[first] > DIM * rated else slots == now
        found[name] = np.clip(value + left, LEAST * value, np.inf if rated is None else rated)
    return found
