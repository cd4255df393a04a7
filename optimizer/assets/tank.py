"""Tank: litres below `unusable_l` are not fuel; a delivery counts after its delay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import cvxpy as cp
import numpy as np

from ems.config.site import Tank
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

    def fill(self, question: Question) -> None:
        """Set the parameters; an unknown level is taken as enough, the days in hand watch it."""
        tank, n = self.tank, self.frame.n
        level = question.start.tank_l.get(tank.id, tank.capacity_l + tank.unusable_l)
        self.usable_0.value = max(0.0, level - tank.unusable_l) * KL
        delivered = np.zeros(n)
        for d in tank.deliveries:
            due = datetime(d.date.year, d.date.month, d.date.day, tzinfo=UTC) + timedelta(days=d.delay_days)
            step = question.grid.index(due)
            if step is not None:
                delivered[step] += d.litres * KL
        self.delivered.value = delivered
