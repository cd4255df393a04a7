"""Load: what must be served, and the priced tiers of what cannot be."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from ems.config.site import Battery
from ems.tiers import tier_l_per_kwh, tier_shares
from optimizer.frame import MW, Frame, Question, each

LATER = 0.1
"""Power that nothing can take costs so much more at the beginning of a plan than at its end, as a share."""

DARK_LATER = 0.01
"""Load that is not served, likewise."""


class LoadBlock:
    """All loads of the site together, by tiers of feeder priority."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.shares = np.array(tier_shares(frame.site))
        k, n = len(self.shares), frame.n
        self.load = cp.Parameter((frame.n_sets, n), nonneg=True)
        self.beyond = cp.Parameter((frame.n_sets, n), nonneg=True)
        self.peak = cp.Parameter((frame.n_sets, n), nonneg=True)
        self.room = cp.Parameter((k, n), nonneg=True)
        self.unserved = cp.Variable((k, n), nonneg=True, name="unserved")
        self.unserved_by_set = cp.Variable((frame.n_sets, n), nonneg=True, name="unserved_by_set")
        self.surplus = frame.power("surplus")
        frame.constraints += [self.unserved <= self.room, frame.total(self.unserved_by_set) == cp.sum(self.unserved, axis=0)]
        frame.draw += [cp.multiply(self.load, frame.w), self.surplus, -self.unserved_by_set]
        if frame.purpose == "plan" and frame.site.of(Battery):
            # What is shed stays in the battery. Reserve does not count it, so nobody is put in the dark to have some.
            frame.saved = cp.Variable(n + 1, nonneg=True, name="saved")
            frame.constraints += [frame.saved[0] == 0, frame.saved[1:] == frame.saved[:n] + cp.multiply(cp.sum(self.unserved, axis=0), frame.hours)]
        left = 1.0 - frame.elapsed_s / sum(frame.step_s)
        # What must go dark does so as late as can be: until then a boat may come, or more sun than was foretold.
        waiting = 1.0 + DARK_LATER * left if frame.purpose == "plan" else np.ones(n)
        for tier in range(k):
            frame.energy_price(cp.multiply(self.unserved[tier], waiting), tier_l_per_kwh(tier))
        # What nothing can take is dumped as late as can be: the check asks of each step whether its battery was full.
        early = LATER * left if frame.purpose == "plan" else 0.0
        frame.energy_price(cp.multiply(frame.total(self.surplus), 1.0 + early), frame.prices.surplus_l_per_kwh)

    def fill(self, question: Question) -> None:
        """Set the parameters."""
        station = self.frame.site.station_kw
        load = np.maximum(0.0, np.asarray(question.forecast.load_kw))
        peak = np.maximum(load, np.asarray(question.forecast.load_peak_kw)) if question.forecast.load_peak_kw else load
        self.load.value = each((load + station) * MW, self.frame.n_sets)
        self.peak.value = each((peak + station) * MW, self.frame.n_sets)
        self.beyond.value = each((peak - load) * MW, self.frame.n_sets)
        room = np.outer(self.shares, load)
        room[0] += station
        self.room.value = room * MW
