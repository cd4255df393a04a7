"""Perfect: what will really happen. Only a replay knows it."""

from __future__ import annotations

from collections.abc import Callable

from ems.errors import Failed
from ems.plan import Forecast, Grid

Truth = Callable[[Grid], Forecast]


def perfect(truth: Truth | None, grid: Grid) -> Forecast:
    """Return the truth on a grid."""
    if truth is None:
        raise Failed("forecast: 'perfect' needs the truth, which only a replay has")
    return truth(grid)
