"""The usual, and what is left of today's deviation from it: `seasonal` and `clearsky`."""

from __future__ import annotations

import numpy as np

from optimizer.forecasting.fading import ISSUE, LEADS, Fading, day_before, mean_or_zero, take
from optimizer.forecasting.history import DAY, Arrays, History, Slots, Values
from optimizer.forecasting.usual import Usual

RECENT = 4
"""Slots of the last hour."""
LIT = 0.05
"""The sun is up where this share of the rating is usual."""
RATIO = (-0.9, 1.5)
"""The sun just now may deviate from the usual by this much."""
FADE_LOAD_H, FADE_SUN_H = 6.0, 3.0
"""How fast a deviation is taken to fade before its fading was learned [h]."""


class LoadDeviation:
    """Load: a profile plus the deviations of the last hour, the last day and the same time yesterday, each as far as it lasts."""

    def __init__(self, history: History, name: str, usual: Usual, size_kw: float) -> None:
        self._history, self._name, self._usual = history, name, usual
        self._fading = Fading(size_kw, FADE_LOAD_H)

    def learn(self, slot: int, value: float) -> None:
        """Take in one slot."""
        self._fading.learn(slot, value)
        self._usual.learn(slot, value)
        if (slot + 1) % ISSUE == 0:
            base, deviations = self._look(slot + LEADS, slot + 1)
            if np.isfinite(base).all():
                self._fading.tried(slot + 1, base, deviations)

    def predict(self, slots: Slots, now: int) -> Values:
        """Return what is expected, NaN where too little was seen; at least a tenth of the usual."""
        base, deviations = self._look(slots, now)
        found: Values = np.maximum(base + (self._fading.at(slots - now + 1) * deviations).sum(axis=1), 0.1 * base)
        return found

    def _look(self, slots: Slots, now: int) -> tuple[Values, Values]:
        """Return the usual of slots and the deviations seen from `now`, shape (n, PARTS)."""
        base = self._usual.at(slots)
        past = np.arange(now - DAY, now)
        off = self._history.at(self._name, past) - self._usual.at(past)
        before = day_before(slots, now)
        last = self._history.at(self._name, before) - self._usual.at(before)
        day = mean_or_zero(off)
        return base, np.column_stack([np.full(len(slots), mean_or_zero(off[-RECENT:])), np.full(len(slots), day), np.where(np.isfinite(last), last, day)])

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""
        return {f"usual/{k}": v for k, v in self._usual.state().items()} | {f"fading/{k}": v for k, v in self._fading.state().items()}

    def resume(self, state: Arrays) -> None:
        """Take over what another one has learned."""
        take(self.state(), state)


class SunDeviation:
    """Sun: the usual times how this hour, this day and the same time yesterday compare with it, each as far as it lasts.

    At dawn nothing has been seen of the day: then other coefficients hold than at noon.
    """

    def __init__(self, history: History, name: str, usual: Usual, rated_kw: float) -> None:
        self._history, self._name, self._usual, self._rated_kw = history, name, usual, rated_kw
        self._fadings = (Fading(rated_kw, 1e-3), Fading(rated_kw, FADE_SUN_H))

    def learn(self, slot: int, value: float) -> None:
        """Take in one slot."""
        for fading in self._fadings:
            fading.learn(slot, value)
        self._usual.learn(slot, value)
        if (slot + 1) % ISSUE == 0:
            base, deviations, lit = self._look(slot + LEADS, slot + 1)
            if np.isfinite(base).all():
                self._fadings[lit].tried(slot + 1, base, deviations)

    def predict(self, slots: Slots, now: int) -> Values:
        """Return what is expected, NaN where too little was seen."""
        base, deviations, lit = self._look(slots, now)
        found = base + (self._fadings[lit].at(slots - now + 1) * deviations).sum(axis=1)
        bounded: Values = np.clip(found, 0.05 * base, self._rated_kw)
        return bounded

    def _look(self, slots: Slots, now: int) -> tuple[Values, Values, bool]:
        """Return the usual of slots, the deviations seen from `now`, shape (n, PARTS), and whether the sun is up."""
        base = self._usual.at(slots)
        past = np.arange(now - DAY, now)
        seen, usual = self._history.at(self._name, past), self._usual.at(past)
        bright = np.isfinite(seen) & (usual > LIT * self._rated_kw)
        recent = bright[-2 * RECENT :]
        lit = bool(recent[-RECENT:].sum() >= 2)
        now_off = ratio(seen[-2 * RECENT :][recent], usual[-2 * RECENT :][recent]) if lit else 0.0
        day_off = ratio(seen[bright], usual[bright])
        before = day_before(slots, now)
        known, was = self._history.at(self._name, before), self._usual.at(before)
        last = np.clip(np.where(np.isfinite(known), known - was, 0.0), RATIO[0] * base, RATIO[1] * base)
        return base, np.column_stack([now_off * base, day_off * base, last]), lit

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""
        found = {f"usual/{k}": v for k, v in self._usual.state().items()}
        for n, fading in enumerate(self._fadings):
            found |= {f"fading{n}/{k}": v for k, v in fading.state().items()}
        return found

    def resume(self, state: Arrays) -> None:
        """Take over what another one has learned."""
        take(self.state(), state)


def ratio(seen: Values, usual: Values) -> float:
    """Return by which share more was seen than is usual, bounded; 0 where nothing was."""
    total = float(usual.sum())
    return min(max(float(seen.sum()) / total - 1.0, RATIO[0]), RATIO[1]) if total > 0.0 else 0.0
