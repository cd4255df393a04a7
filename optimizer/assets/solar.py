"""Solar: anything from nothing to what the sun offers."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from ems.config.site import Solar
from optimizer.frame import MW, Frame, Question, Trip, each


class SolarBlock:
    """One solar asset of the problem."""

    def __init__(self, frame: Frame, solar: Solar) -> None:
        self.frame = frame
        self.solar = solar
        self.available = cp.Parameter((frame.n_sets, frame.n), nonneg=True)
        self.power = frame.power(f"{solar.id}.power")
        frame.constraints.append(self.power <= cp.multiply(self.available, frame.w))
        frame.supply.append(self.power)
        frame.solar.append(self.power)
        frame.trips.append(Trip(solar.id, self.power))
        frame.energy_price(-frame.total(self.power), frame.prices.curtailed_l_per_kwh)

    def fill(self, question: Question) -> None:
        """Set the parameters."""
        top = np.clip(question.ceiling(self.solar.id, "max_kw", self.solar.rated_kw), 0.0, self.solar.rated_kw)
        sun = np.asarray(question.forecast.available_kw[self.solar.id])
        free = np.clip(sun, 0.0, top) * question.in_service(self.solar.id)
        self.available.value = each(free * MW, self.frame.n_sets)
