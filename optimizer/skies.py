"""The skies that a sketch reckons with: how far the sun may come out off its forecast, and when that shows.

A plan for what is expected alone stops a set where the battery will just do, and starts another at noon for three hours, as if nothing were
still to be learned. What waits may see more sun than expected, and what stops may see less and start again: both have their worth
once a few skies are possible, and the plan may go on otherwise under each (docs/decisions/0031).
"""

from __future__ import annotations

import numpy as np

from ems.plan import Forecast
from optimizer.frame import Array
from optimizer.security import KNOWN_S, sun_kw

CHANCES = np.array([0.4, 0.3, 0.3])
"""Of what is expected, and of what one of ten exceeds either way, the two halves of the rest: Keefer, D. L., Bodily, S. E., "Three-point
approximations for continuous random variables", Management Science 29 (1983), 595-609."""
SHOWN = 0.5
"""So much of what is open shows itself within the first hour of sun."""
LASTS_S = 24 * 3600.0
"""And then a sky lasts so long on the mean until it is drawn again [s]."""


def skies_of(forecast: Forecast) -> Array:
    """Return the sun of each sky as a share of its forecast, the expected one first, shape (n_skies, n_steps).

    One sky alone where nothing is known of errors: a perfect forecast, a bound. The errors are those of the net load; only as far as there is sun
    to lose, or a brighter day was seen, are they taken for the sky's. A night's load errs too, but not for as long as a sky lasts: a plan that
    may need less all night leaves the rest to another start at dawn.
    """
    sun, none = sun_kw(forecast), np.zeros(forecast.grid.n_steps)
    up, down = (np.array(x) if x else none for x in (forecast.floor_up_kw, forecast.floor_down_kw))
    most = np.maximum(0.0, np.array(forecast.bright_kw) - sun) if forecast.bright_kw else sun  # unknown: no more than twice as much
    changes = np.array([none, -np.minimum(up, sun), np.minimum(down, most)])
    skies = 1.0 + np.divide(changes, sun, out=np.zeros_like(changes), where=sun > 0.0)
    return np.asarray(skies if changes.any() else skies[:1])


def changes_of(sun: Array, step_s: Array) -> Array:
    """Return the chance of each sky in the next step by the sky of this one, shape (n_steps, n_skies, n_skies).

    It shows in the hour that is known; by night in the first with sun, since until dawn nobody learns what the day will be.

    Parameters
    ----------
    sun : NDArray
        Sun under each sky, shape (n_skies, n_steps).
    step_s : NDArray
        Shape (n_steps,) [s].
    """
    ends = np.cumsum(step_s)
    lit = np.flatnonzero(sun.any(axis=0))
    first_s = float(ends[lit[0]] - step_s[lit[0]]) if len(lit) else 0.0
    shows = int(np.searchsorted(ends, first_s + KNOWN_S))  # the step at whose end that hour is over
    anew = 1.0 - np.exp(-step_s / LASTS_S)
    anew[:shows] = 0.0
    anew[shows : shows + 1] = SHOWN
    n = len(sun)
    chances = CHANCES if n > 1 else np.ones(1)
    return np.asarray((1.0 - anew)[:, None, None] * np.eye(n) + anew[:, None, None] * chances)
