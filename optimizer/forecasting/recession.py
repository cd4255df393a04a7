"""Recession: a river falls as an exponential, quickly after rain and slowly on its base flow.

The inflow is split into base flow and quick flow by a recursive filter; both fall as `q exp(-t / K)` (W. Boussinesq
1877; R. J. Nathan, T. A. McMahon, Water Resources Research 26 (1990) 1465, for the separation), each with a K fitted on
line to the hours in which the river fell. Rain to come is not foretold: while the river rises it is held first.
"""

from __future__ import annotations

import numpy as np

from optimizer.forecasting.fading import take
from optimizer.forecasting.history import Arrays, History, Slots, Values

HOUR = 4
"""Slots of an hour: the river is looked at once in it."""
FILTER = 0.98
"""Of the base flow filter, for each hour."""
QUICK_H, BASE_H = (2.0, 120.0), (240.0, 2400.0)
"""Bounds of the two constants [h]: two hours to five days, and ten to a hundred days."""
LEARN = 0.03
"""Weight of an hour in the constants."""
QUICK = 0.1
"""Share of the inflow from which on its quick part tells something."""
RISING = 1.05
"""Rise in an hour that is a flood coming, not noise."""
HOLD_H = 2.0
"""A river that rises is held for so long before it falls [h]."""
OLD_SLOTS = 96


class Recession:
    """The river of one hydro asset."""

    def __init__(self, history: History, name: str) -> None:
        self._history, self._name = history, name
        self._log_k = np.log([24.0, 720.0])  # quick, base [h]
        self._flow = np.full(4, np.nan)  # base, inflow, slot of the last hour, and whether it rose

    @property
    def constants_h(self) -> tuple[float, float]:
        """Recession constants of quick and base flow [h]."""
        quick, base = np.exp(self._log_k)
        return float(quick), float(base)

    def learn(self, slot: int, value: float) -> None:
        """Take in one slot; the river is looked at once an hour."""
        if (slot + 1) % HOUR:
            return
        hour = self._history.at(self._name, np.arange(slot - HOUR + 1, slot + 1))
        known = hour[np.isfinite(hour)]
        flow = float(known.mean()) if len(known) else value
        base, last, when, _ = self._flow
        if not np.isfinite(base) or slot - when != HOUR:  # the first hour, or after a gap: all that flows may be base
            self._flow[:] = min(flow, base) if np.isfinite(base) else flow, flow, slot, 0.0
            return
        now_base = min(flow, FILTER * base + (1.0 - FILTER) / 2.0 * (flow + last))
        quick, before = flow - now_base, last - base
        if before > QUICK * last and 0.0 < quick < before:
            self._fit(0, -1.0 / np.log(quick / before), QUICK_H)
        elif before <= QUICK * last and 0.0 < flow < last:
            self._fit(1, -1.0 / np.log(flow / last), BASE_H)
        self._flow[:] = now_base, flow, slot, float(flow > RISING * last)

    def _fit(self, which: int, hours: float, bounds: tuple[float, float]) -> None:
        self._log_k[which] += LEARN * (np.log(np.clip(hours, *bounds)) - self._log_k[which])

    def predict(self, slots: Slots, now: int) -> Values:
        """Return what is expected, NaN where the river has not been seen for a day."""
        base, last, when, rose = self._flow
        if not np.isfinite(base) or now - when > OLD_SLOTS:
            return np.full(len(slots), np.nan)
        ahead_h = np.maximum((slots - when) / HOUR - (HOLD_H if rose else 0.0), 0.0)
        quick_h, base_h = self.constants_h
        found: Values = base * np.exp(-ahead_h / base_h) + max(0.0, last - base) * np.exp(-ahead_h / quick_h)
        return found

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""
        return {"log_k": self._log_k, "flow": self._flow}

    def resume(self, state: Arrays) -> None:
        """Take over what another one has learned."""
        take(self.state(), state)
