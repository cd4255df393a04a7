"""Solar: anything from nothing, or from what nobody can curtail, to what the sun offers."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from ems.config.site import Solar
from optimizer.frame import MW, Array, Frame, Question, Trip, each


class SolarBlock:
    """One solar asset of the problem."""

    def __init__(self, frame: Frame, solar: Solar) -> None:
        self.frame = frame
        self.solar = solar
        self.available = cp.Parameter((frame.n_sets, frame.n), nonneg=True)
        self.taken = cp.Parameter((frame.n_sets, frame.n), nonneg=True)
        self.power = frame.power(f"{solar.id}.power")
        self.must_run = cp.multiply(self.taken, frame.live_w)
        frame.constraints += [self.power <= cp.multiply(self.available, frame.w), self.power >= self.must_run]
        frame.supply.append(self.power)
        frame.solar.append(self.power)
        frame.trips.append(Trip(solar.id, self.power))
        frame.energy_price(-frame.total(self.power), frame.prices.curtailed_l_per_kwh)
        self._expected_kw: Array = np.zeros(frame.n)
        self._top_kw: Array = np.zeros(frame.n)

    def fill(self, question: Question) -> None:
        """Set the parameters."""
        ceiling = question.ceiling(self.solar.id, "max_kw", self.solar.rated_kw)
        self._top_kw = np.clip(ceiling, 0.0, self.solar.rated_kw) * question.in_service(self.solar.id)
        self._expected_kw = np.asarray(question.forecast.available_kw[self.solar.id])
        self.available.value = each(offered := self.under(np.ones(self.frame.n)), self.frame.n_sets)
        self.taken.value = each(np.minimum(question.ceiling(self.solar.id, "min_kw", 0.0) * MW, offered), self.frame.n_sets)

    def under(self, sky: Array) -> Array:
        """Return what may be taken [MW] where the sun is this share of what is expected, same shape (..., n_steps)."""
        return np.asarray(np.clip(self._expected_kw * sky, 0.0, self._top_kw) * MW)
