"""Tank: litres below `unusable_l` are not fuel; a delivery counts after its delay."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from ems.config.site import Diesel, Tank
from ems.physics import best_average_l_per_kwh
from optimizer.frame import Frame, Question

KL = 1e-3
"""L to 1000 L, so that the tank has numbers like the rest."""


class TankBlock:
    """One tank of the problem."""

    def __init__(self, frame: Frame, tank: Tank) -> None:
        self.frame = frame
        self.tank = tank
        n = frame.n
        burnt = sum(frame.fuel[d] for d in tank.feeds if d in frame.fuel)
        self.usable_0 = cp.Parameter(nonneg=True)
        self.delivered = cp.Parameter(n, nonneg=True)
        self.usable = cp.Variable(n + 1, nonneg=True, name=f"{tank.id}.usable")
        self.dry = cp.Variable(n, nonneg=True, name=f"{tank.id}.dry")
        frame.constraints += [
            self.usable[0] == self.usable_0,
            self.usable[1:] == self.usable[:n] + self.delivered - burnt * KL + self.dry,
        ]
        frame.cost.append(cp.sum(self.dry) * frame.prices.dry_l_per_l / KL)
        self.short: cp.Variable | None = None
        self.hand_l = 0.0
        self.daily_l = 0.0
        if frame.purpose == "plan":
            self.in_hand = cp.Parameter(nonneg=True)
            self.short = cp.Variable(nonneg=True, name=f"{tank.id}.short")
            frame.constraints.append(self.usable[n] - cp.sum(self.delivered) + self.short >= self.in_hand)
            frame.cost.append(self.short * frame.prices.in_hand_l_per_l / KL)

    def fill(self, question: Question) -> None:
        """Set the parameters; an unknown level is taken as enough, the days in hand watch it."""
        tank, n = self.tank, self.frame.n
        level = question.start.tank_l.get(tank.id, tank.capacity_l + tank.unusable_l)
        self.usable_0.value = max(0.0, level - tank.unusable_l) * KL
        delivered = np.zeros(n)
        for d in tank.deliveries:
            step = question.grid.index(d.due)
            if step is not None and not d.confirmed and question.storm is not None and question.storm.start <= d.due < question.storm.until:
                step = question.grid.index(question.storm.until)  # no boat comes in a storm
            if step is not None:
                delivered[step] += d.litres * KL
        self.delivered.value = delivered
        if self.short is not None:
            self.daily_l = self._daily_l(question)
            self.hand_l = tank.days_in_hand * self.daily_l if tank.id in question.start.tank_l else 0.0
            self.in_hand.value = self.hand_l * KL

    def _daily_l(self, question: Question) -> float:
        """Return what diesels alone would take out of it for the load of a day [L]: each tank its part by the ratings that it feeds."""
        diesels = self.frame.site.of(Diesel)
        part = sum(d.rated_kw for d in diesels if d.id in self.tank.feeds) / sum(d.rated_kw for d in diesels)
        load_kw = float(np.asarray(question.forecast.load_kw) @ self.frame.dt_h) / float(self.frame.dt_h.sum())
        return 24.0 * (load_kw + self.frame.site.station_kw) * best_average_l_per_kwh(diesels) * part

    @property
    def days(self) -> float | None:
        """How long the fuel lasts at the end of the horizon, diesel-only and without what is delivered [d]; None where no diesel draws from it."""
        if self.short is None or self.daily_l <= 0.0:
            return None
        return float(self.usable.value[-1] - self.delivered.value.sum()) / KL / self.daily_l
