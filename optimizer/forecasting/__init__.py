"""Forecasts of load, sun and river: what the planner plans with.

`perfect` knows the truth (replay only), `persistence` repeats yesterday, `seasonal` has learned the day.
Each quantity says in `Forecast.source` which method gave it; `fallback:...` where the wanted one could not.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ems.config.site import Site
from ems.errors import BadInput
from ems.plan import Forecast, Grid, Observation, PlantStart
from optimizer.forecasting.history import History
from optimizer.forecasting.perfect import Truth, perfect
from optimizer.forecasting.persistence import persistence
from optimizer.forecasting.seasonal import Seasonal

METHODS = ("perfect", "persistence", "seasonal")


class Forecasting:
    """Learns from observations and forecasts by one method.

    Parameters
    ----------
    site : Site
    method : str
        `perfect | persistence | seasonal`.
    truth : Callable[[Grid], Forecast] | None
        What will happen; only for `perfect`.
    """

    def __init__(self, site: Site, method: str, truth: Truth | None = None) -> None:
        if method not in METHODS:
            raise BadInput(f"unknown forecast {method!r}", "forecast", " or ".join(METHODS))
        self._site = site
        self._method = method
        self._truth = truth
        self._history = History()
        self._seasonal = Seasonal(site, self._history)

    def learn(self, observations: Sequence[Observation]) -> None:
        """Take in what was observed; the same interval twice counts once."""
        self._seasonal.learn(self._history.learn(observations))

    def forecast(self, grid: Grid, at: datetime, start: PlantStart) -> Forecast:
        """Return what is expected on a grid, seen from `at`.

        Parameters
        ----------
        grid : Grid
        at : datetime
            Now [UTC].
        start : PlantStart
            The plant's state, for methods that use it.
        """
        if self._method == "perfect":
            return perfect(self._truth, grid)
        if self._method == "persistence":
            return persistence(self._site, self._history, grid)
        return self._seasonal.forecast(grid, at)
