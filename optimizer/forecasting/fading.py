"""Fading: how much of what is seen just now is left after some time, learned by lead.

A deviation from the usual fades at its own pace in every place: clouds in hours, a cold spell in days. For each
lead the coefficients of a few deviations are fitted by recursive least squares with forgetting (L. Ljung,
System Identification, 2nd ed., section 11.2), a few multiplications for each hour that passes.
"""

from __future__ import annotations

import numpy as np

from optimizer.forecasting.history import DAY, Arrays, Slots, Values

LEADS: Slots = np.array([1, 2, 4, 8, 12, 24, 48, 96, 144, 192])
"""Leads at which methods are tried and judged [slots]: lead 1 is the slot that begins now."""
ISSUE = 4
"""Methods are tried every so many slots: once an hour."""
RING = 256
"""Trials are kept this long [slots]: longer than the longest lead."""
PARTS = 3
"""Deviations: of the last hour, of the last day, and at the same time of the day before."""
FORETOLD: tuple[Slots, ...] = tuple(np.flatnonzero((residue - LEADS + 1) % ISSUE == 0) for residue in range(ISSUE))
"""By the remainder of a slot: which leads a trial could have had that foretold it."""
MEMORY = 0.998
"""Forgetting for each trial: three weeks of hours."""
RANGE = (-0.2, 1.2)
CERTAIN = 1e-2
"""Where learning starts: the first coefficients count like a few days of trials."""


class Fading:
    """Coefficients by lead, shape (n_leads, PARTS).

    Parameters
    ----------
    scale : float
        Size of the quantity, so that all work with numbers about one.
    hours : float
        How fast the last hour's deviation is taken to fade at first [h].
    """

    def __init__(self, scale: float, hours: float) -> None:
        self._scale = scale
        self.parts = np.zeros((len(LEADS), PARTS))
        self.parts[:, 0] = np.exp(-(LEADS / ISSUE) / hours)
        self.parts[:, 1] = 0.3 * (1.0 - self.parts[:, 0])
        self._spread = np.tile(np.eye(PARTS) / CERTAIN, (len(LEADS), 1, 1))
        self._tried = np.zeros((RING, len(LEADS), PARTS + 1))
        self._stamp = np.full(RING, -1.0)

    def at(self, leads: Slots) -> Values:
        """Return the coefficients at any leads, shape (n, PARTS)."""
        return np.column_stack([np.interp(leads, LEADS, self.parts[:, p]) for p in range(PARTS)])

    def tried(self, now: int, base: Values, deviations: Values) -> None:
        """Remember what was usual and what deviated at a trial.

        Parameters
        ----------
        base : NDArray
            The usual at each lead, shape (n_leads,).
        deviations : NDArray
            Shape (n_leads, PARTS).
        """
        self._tried[now % RING, :, 0] = base
        self._tried[now % RING, :, 1:] = deviations
        self._stamp[now % RING] = now

    def learn(self, slot: int, value: float) -> None:
        """Compare a slot's value with the trials that foretold it."""
        issued, known = trials(slot, self._stamp)
        if not len(known):
            return
        rows = self._tried[issued % RING, known]
        x, y = rows[:, 1:] / self._scale, (value - rows[:, 0]) / self._scale
        useful = np.isfinite(x).all(axis=1) & np.isfinite(y) & (np.abs(x).max(axis=1) > 1e-6)
        x, y, known = x[useful], y[useful], known[useful]
        if not len(known):
            return
        spread = self._spread[known]
        toward = np.einsum("nij,nj->ni", spread, x)
        gain = toward / (MEMORY + np.einsum("ni,ni->n", x, toward))[:, None]
        missed = np.clip(y - np.einsum("ni,ni->n", x, self.parts[known]), -0.5, 0.5)
        self.parts[known] = np.clip(self.parts[known] + gain * missed[:, None], *RANGE)
        narrowed = (spread - gain[:, :, None] * toward[:, None, :]) / MEMORY
        wide = np.trace(narrowed, axis1=1, axis2=2) > PARTS / CERTAIN  # nothing new for long: forgetting alone must not make it jumpy
        self._spread[known] = np.where(wide[:, None, None], spread, narrowed)

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""
        return {"parts": self.parts, "spread": self._spread, "tried": self._tried, "stamp": self._stamp}

    def resume(self, state: Arrays) -> None:
        """Take over what another one has learned."""
        take(self.state(), state)


def trials(slot: int, stamps: Values) -> tuple[Slots, Slots]:
    """Return when a slot was foretold, and at which leads (as indices), of the trials that are remembered."""
    leads = FORETOLD[slot % ISSUE]
    if not len(leads):
        return leads, leads
    issued = slot - LEADS[leads] + 1
    known = stamps[issued % RING] == issued
    return issued[known], leads[known]


def take(own: Arrays, other: Arrays, prefix: str = "") -> None:
    """Copy arrays of the same name and shape into one's own."""
    for name, array in own.items():
        found = other.get(prefix + name)
        if found is not None and found.shape == array.shape:
            array[...] = found


def day_before(slots: Slots, now: int) -> Slots:
    """Return the same times on the last day that has passed at `now`."""
    ahead = np.maximum(slots - now + 1, 1)
    return slots - DAY * np.ceil(ahead / DAY).astype(np.int64)


def mean_or_zero(values: Values) -> float:
    """Return the mean of what is known, 0 where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0
