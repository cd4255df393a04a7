"""The blend: each method weighs as much as its own errors of late allow, for each lead apart."""

from __future__ import annotations

import numpy as np

from optimizer.forecasting.fading import LEADS, RING, take, trials
from optimizer.forecasting.history import Arrays, Slots, Values

MEMORY_TRIALS = 240.0
"""Hourly trials in the mean of squared errors: ten days."""
POWER = 4.0
"""Weights go with the inverse of the squared error to this power: the better method leads clearly, none is left alone."""
OUTLIER = 16.0
"""A squared error counts at most so many times the mean: one flood does not turn everything over."""
FEW_TRIALS = 24
"""Under so many trials a method weighs like the best: nothing is known against it."""


class Record:
    """How well the methods of one quantity have foretold it.

    Attributes
    ----------
    squares : NDArray
        Mean squared error, shape (n_methods, n_leads).
    counts : NDArray
        Trials that were judged, at most the memory.
    """

    def __init__(self, n_methods: int) -> None:
        self.squares = np.zeros((n_methods, len(LEADS)))
        self.counts = np.zeros((n_methods, len(LEADS)))
        self._tried = np.full((RING, n_methods, len(LEADS)), np.nan)
        self._stamp = np.full(RING, -1.0)

    def tried(self, now: int, values: Values) -> None:
        """Remember what every method foretold at `now`, shape (n_methods, n_leads)."""
        self._tried[now % RING] = values
        self._stamp[now % RING] = now

    def learn(self, slot: int, value: float) -> None:
        """Judge the trials that foretold this slot."""
        issued, known = trials(slot, self._stamp)
        if not len(known):
            return
        wrong = (self._tried[issued % RING, :, known].T - value) ** 2  # (n_methods, n_known)
        counts, squares = self.counts[:, known], self.squares[:, known]
        wrong = np.where(counts >= FEW_TRIALS, np.minimum(wrong, OUTLIER * squares), wrong)
        judged = np.isfinite(wrong)
        counts = np.where(judged, np.minimum(counts + 1.0, MEMORY_TRIALS), counts)
        self.counts[:, known] = counts
        self.squares[:, known] = np.where(judged, squares + (np.where(judged, wrong, 0.0) - squares) / np.maximum(counts, 1.0), squares)

    def weights(self) -> Values:
        """Return the weight of each method at each lead, shape (n_methods, n_leads); they sum to one."""
        seen = self.counts >= FEW_TRIALS
        best = np.where(seen, self.squares, np.inf).min(axis=0)
        best = np.where(np.isfinite(best), best, 1.0)
        floor = np.maximum(best, 1e-12)
        share = (floor / np.maximum(np.where(seen, self.squares, best), floor)) ** POWER
        found: Values = share / share.sum(axis=0)
        return found

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""
        return {"squares": self.squares, "counts": self.counts, "tried": self._tried, "stamp": self._stamp}

    def resume(self, state: Arrays) -> None:
        """Take over what another one has learned."""
        take(self.state(), state)


def blended(values: Values, weights: Values, leads: Slots) -> Values:
    """Return the weighted mean over methods; a method that says nothing is left out, NaN where none says anything.

    Parameters
    ----------
    values : NDArray
        Shape (n_methods, n).
    weights : NDArray
        Shape (n_methods, n_leads).
    leads : NDArray
        Lead of each of the n values [slots].
    """
    at = np.vstack([np.interp(leads, LEADS, row) for row in weights])
    at = np.where(np.isfinite(values), np.maximum(at, 1e-9), 0.0)
    total = at.sum(axis=0)
    mixed = (at * np.where(np.isfinite(values), values, 0.0)).sum(axis=0)
    return np.where(total > 0.0, mixed / np.where(total > 0.0, total, 1.0), np.nan)
