"""Hydro: run of river with a pond; the ecological flow goes first, efficiency constant or by its curve (`ems.physics`)."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from ems.config.site import Diesel, Hydro
from ems.physics import best_slope_l_per_kwh, flow_lines, kwh_per_m3, river_kw
from optimizer.frame import MW, Array, Frame, Question, Trip, each, end_l_per_kwh
from optimizer.security import before_storm

WATER_VALUE = 0.9
"""Water left in the pond is worth this share of the litres it would save: a little less than using it."""
POND_SCALE = 1e-3
"""m3 to 1000 m3, so that the pond has numbers like the rest."""


class HydroBlock:
    """One turbine of the problem. It runs whenever the river alone carries it; from a pond it may also run in between."""

    def __init__(self, frame: Frame, hydro: Hydro) -> None:
        self.frame = frame
        self.hydro = hydro
        n = frame.n
        self.target: cp.Parameter | None = None
        self.has_pond = hydro.plans_pond
        self.must = cp.Parameter((frame.n_sets, n), nonneg=True)
        self.power_max = cp.Parameter((frame.n_sets, n), nonneg=True)
        self.top_kw = self.must_kw = np.zeros(n)
        self.power = frame.power(f"{hydro.id}.power")
        frame.supply.append(self.power)
        frame.trips.append(Trip(hydro.id, self.power))
        frame.constraints += [self.power >= cp.multiply(self.must, frame.live_w), self.power <= cp.multiply(self.power_max, frame.live_w)]
        self._ramps()
        self.pond: cp.Variable | None = None
        self.width: cp.Parameter | None = None
        if self.has_pond:
            self._store()

    def _ramps(self) -> None:
        """From step to step no faster than penstock and river bear; a river that fails takes its power with it, and one that rises a set of mode `fixed`."""
        frame, h = self.frame, self.hydro
        self.slow = frame.slow_steps(h.ramp_kw_per_s, h.rated_kw)
        if h.mode == "fixed" or not len(self.slow):
            return
        self.rise = cp.Parameter(len(self.slow), nonneg=True)
        self.fall = cp.Parameter(len(self.slow), nonneg=True)
        change = frame.total(self.power)[self.slow] - frame.total(self.power)[self.slow - 1]
        frame.constraints += [change <= self.rise, -change <= self.fall]

    def _fill_ramps(self, top: Array, must: Array, runs: Array) -> None:
        """Where the river begins or ceases to turn it, an operator's limit comes, or more must flow, the ramp gives way."""
        if self.hydro.mode == "fixed" or not len(self.slow):
            return
        h, slow = self.hydro, self.slow
        most = self.frame.ramp_kw(h.ramp_kw_per_s)[slow]
        begins, ceases = (runs[slow] > 0) & (runs[slow - 1] == 0), (runs[slow] == 0)
        most_up = most + np.maximum(0.0, must[slow] - must[slow - 1])
        free = h.rated_kw * self.has_pond  # from a pond it also starts and stops by our choice
        self.rise.value = np.where(begins, h.rated_kw, np.maximum(most_up, free * (runs[slow - 1] == 0))) * MW
        self.fall.value = np.where(ceases, h.rated_kw, most + np.maximum(0.0, top[slow - 1] - top[slow])) * MW

    def _store(self) -> None:
        """Pond volume from step to step, and whether the turbine turns while the river alone would not turn it."""
        frame, h, n = self.frame, self.hydro, self.frame.n
        self.river: Array = np.zeros(n)
        self.comes = cp.Parameter(n, nonneg=True)
        self.pond_0 = cp.Parameter(nonneg=True)
        self.on_min = cp.Parameter(n, nonneg=True)
        self.on_max = cp.Parameter(n, nonneg=True)
        self.pond = cp.Variable(n + 1, bounds=[0, h.pond_m3 * POND_SCALE], name=f"{h.id}.pond")
        self.spill = cp.Variable(n, nonneg=True, name=f"{h.id}.spill")
        self.on = frame.whole(h.id, self.on_min, self.on_max)
        turbine = self._turbine(self.on)
        frame.constraints += [
            self.pond[0] == self.pond_0,
            self.pond[1:] == self.pond[:n] + self.comes - cp.multiply(turbine + self.spill, frame.hours) * (3600.0 * POND_SCALE),
            frame.total(self.power) <= h.rated_kw * MW * self.on,
            frame.total(self.power) >= h.min_kw * MW * (self.on - frame.w[0]),
        ]
        if frame.purpose == "window":
            self.target = cp.Parameter(nonneg=True)
            frame.cost.append(best_slope_l_per_kwh(frame.site.of(Diesel)) * kwh_per_m3(h) / POND_SCALE * cp.abs(self.pond[n] - self.target))
        if frame.purpose == "plan":
            self.wanted = cp.Parameter(n + 1, nonneg=True)
            empty = cp.Variable(n + 1, nonneg=True, name=f"{h.id}.empty")
            frame.constraints.append(self.pond + empty >= self.wanted)
            kwh_per_unit = kwh_per_m3(h) / POND_SCALE
            frame.cost.append(cp.sum(cp.multiply(empty[1:], frame.hours)) * (frame.prices.thin_l_per_kwh_h * kwh_per_unit))
            self._end_value(self.pond[n])

    def _end_value(self, left: cp.Expression) -> None:
        """What is left in the pond, concave in three pieces as in a battery (formulation.md)."""
        frame, values = self.frame, WATER_VALUE * np.array(end_l_per_kwh(self.frame.site.of(Diesel)))
        self.width = cp.Parameter(3, nonneg=True)
        piece = cp.Variable(3, bounds=[0, self.width], name=f"{self.hydro.id}.end")
        frame.constraints.append(cp.sum(piece) <= left)
        frame.cost.append(-((values * kwh_per_m3(self.hydro) / POND_SCALE) @ piece))

    def follow(self, net_kw: Array, lacking_kwh: float) -> float:
        """Set what the water left at the end is worth, after `fill`, and return what of the lacking energy it would bring.

        Parameters
        ----------
        net_kw : Array
            Load less sun less river [kW], shape (n_steps,).
        lacking_kwh : float
            What is lacking before the next surplus, and what no battery keeps for it [kWh].
        """
        if self.width is None:
            return 0.0
        h, seconds = self.hydro, np.array(self.frame.step_s)
        turned = np.minimum(self.river, h.design_flow_m3s)
        rests = np.minimum(turned, np.maximum(0.0, -net_kw) / (3600.0 * kwh_per_m3(h)))  # while there is surplus it may stand
        coming = float(np.sum(((self.river - turned + rests) * seconds)[self.frame.last_day]))
        no_room = min(h.pond_m3, coming)
        needed = min(h.pond_m3 - no_room, lacking_kwh / kwh_per_m3(h))
        self.width.value = np.array([needed, h.pond_m3 - no_room - needed, no_room]) * POND_SCALE
        return needed * kwh_per_m3(h)

    def _turbine(self, on: cp.Expression) -> cp.Expression:
        """Flow by step [m3/s]: power over one efficiency, or above every line of the convex hull of flow over power."""
        frame, lines = self.frame, flow_lines(self.hydro)
        power = frame.total(self.power)
        if not self.hydro.efficiency_curve:
            return power * (lines[0][1] / MW)
        flow = cp.Variable(frame.n, nonneg=True, name=f"{self.hydro.id}.flow")
        frame.constraints += [flow >= none * on + (per_kw / MW) * power for none, per_kw in lines]
        return flow

    def natural_kw(self, question: Question) -> Array:
        """Return what the river alone gives [kW], shape (n_steps,)."""
        return np.array([river_kw(self.hydro, q) for q in question.forecast.inflow_m3s[self.hydro.id]])

    def runs(self, question: Question) -> Array:
        """Return where the river alone turns it: 1 there, else 0, shape (n_steps,)."""
        natural = self.natural_kw(question)
        return ((natural > 0.0) & question.in_service(self.hydro.id)).astype(float)

    def forms(self, question: Question) -> Array:
        """Return where it is sure to hold the bus, shape (n_steps,)."""
        return self.runs(question) * (self.hydro.forming != "never")

    def fill(self, question: Question) -> None:
        """Set the parameters."""
        h = self.hydro
        runs, natural = self.runs(question), self.natural_kw(question)
        ceiling = np.clip(question.ceiling(h.id, "max_kw", h.rated_kw), 0.0, h.rated_kw) * question.in_service(h.id)
        level = question.start.pond_m3.get(h.id)
        # A pond whose level nobody knows gives nothing: the turbine has what the river brings (CONTROL 3.8).
        top = np.minimum(ceiling, h.rated_kw if self.has_pond and level is not None else natural * runs)
        # What an operator wants at least is asked of the river alone, never of the pond.
        asked = np.minimum(question.ceiling(h.id, "min_kw", 0.0), natural)
        must = natural if h.mode == "fixed" else np.maximum(h.min_kw, asked)
        self.top_kw, self.must_kw = top, np.minimum(must * runs, top)
        if self.has_pond:  # a limit under what turns it stops it
            self.must_kw = np.where(top >= h.min_kw, self.must_kw, 0.0)
        self._fill_ramps(top, self.must_kw, runs)
        self.power_max.value = each(top * MW, self.frame.n_sets)
        self.must.value = each(self.must_kw * MW, self.frame.n_sets)
        if self.has_pond:
            inflow = np.asarray(question.forecast.inflow_m3s[h.id])
            self.river = np.maximum(0.0, inflow - h.ecological_flow_m3s)
            self.comes.value = self.river * self.frame.dt_h * (3600.0 * POND_SCALE)
            self.pond_0.value = min(max(0.0 if level is None else level, 0.0), h.pond_m3) * POND_SCALE
            fits = top >= h.min_kw
            self.on_min.value = runs * fits
            self.on_max.value = np.where(question.in_service(h.id) & fits & ((runs > 0) | (level is not None)), 1.0, 0.0)
            if self.frame.purpose == "plan":
                self.wanted.value = before_storm(question) * h.pond_m3 * POND_SCALE
