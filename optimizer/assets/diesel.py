"""Diesel: on, off and start with affine or piecewise fuel, minimum loading, minimum up and down times."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from ems.config.site import Diesel
from ems.physics import fuel_l_per_h
from ems.plan import DieselStart
from optimizer.frame import MW, Array, Frame, Question, Trip, each
from optimizer.lines import convex_lines


class DieselBlock:
    """One diesel of the problem."""

    def __init__(self, frame: Frame, diesel: Diesel, order: int) -> None:
        self.frame = frame
        self.diesel = diesel
        n = frame.n
        self.rows = frame.rows_with(diesel.id)
        self.on_min = cp.Parameter(n, nonneg=True)
        self.on_max = cp.Parameter(n, nonneg=True)
        self.on_before = cp.Parameter(nonneg=True)
        self.change = cp.Parameter(n)
        self.promised_l = cp.Parameter(nonneg=True)
        self.power_min = cp.Parameter((len(self.rows), n), nonneg=True)
        self.power_max = cp.Parameter((len(self.rows), n), nonneg=True)
        self.excused = cp.Parameter((len(self.rows), n), nonneg=True)
        self.on = frame.whole(self.on_min, self.on_max, f"{diesel.id}.on")
        self.start = cp.Variable(n, bounds=[0, 1], name=f"{diesel.id}.start")
        self.power = cp.Variable((len(self.rows), n), nonneg=True, name=f"{diesel.id}.power")
        self.headroom = cp.Variable((len(self.rows), n), nonneg=True, name=f"{diesel.id}.headroom")
        self._output()
        self._commitment()
        self._fuel(order)

    def _output(self) -> None:
        """Power and headroom of each set that it is in; nothing in the others."""
        frame, d = self.frame, self.diesel
        pick = frame.pick(self.rows)
        w = pick @ frame.w
        top = cp.multiply(self.power_max, w)
        frame.constraints += [self.power >= cp.multiply(self.power_min, w), self.power + self.headroom <= top]
        if d.block_load_kw < d.rated_kw * (1.0 - d.min_loading):
            frame.constraints.append(self.headroom <= d.block_load_kw * MW * w)
        power = pick.T @ self.power
        frame.supply.append(power)
        frame.headroom[d.id] = pick.T @ self.headroom
        others = {x.id for x in frame.site.of(Diesel) if x.forming != "never" and x.id != d.id}
        sole = np.array([[float(d.forming != "never" and not others & set(frame.sets[k]))] for k in self.rows])
        excused = cp.multiply(self.excused, cp.multiply(sole * np.ones((1, frame.n)), w))
        frame.trips.append(Trip(d.id, power, pick.T @ excused))

    def _commitment(self) -> None:
        """`on` follows from the sets; starts, and how long they last, by constant lag matrices."""
        frame, d, n = self.frame, self.diesel, self.frame.n
        before = cp.hstack([cp.reshape(self.on_before, (1,), order="C"), self.on[: n - 1]]) if n > 1 else cp.reshape(self.on_before, (1,), order="C")
        stop = self.start - self.on + before
        frame.constraints += [
            self.on == frame.total(frame.pick(self.rows) @ frame.w),
            stop >= 0,
            frame.lag(d.min_up_s) @ self.start <= self.on,
            frame.lag(d.min_down_s) @ stop <= 1 - self.on,
        ]

    def _fuel(self, order: int) -> None:
        """Litres by step: affine, or above every line of the curve's convex hull; each by set, so that it stays tight."""
        frame, d = self.frame, self.diesel
        hours = frame.dt_h
        lines = fuel_lines(d)
        if len(lines) == 1:
            no_load, slope = lines[0]
            litres = cp.multiply(no_load * self.on + slope / MW * frame.total(self.power), hours)
        else:
            rate = cp.Variable((len(self.rows), frame.n), nonneg=True, name=f"{d.id}.fuel")
            w = frame.pick(self.rows) @ frame.w
            frame.constraints += [rate >= no_load * w + slope / MW * self.power for no_load, slope in lines]
            litres = cp.multiply(frame.total(rate), hours)
        litres = litres + d.start_l * self.start
        frame.fuel[d.id] = litres
        frame.cost.append(cp.sum(litres))
        if frame.purpose == "plan":
            # By sets: DPP takes no parameter times `on`, whose bounds are parameters.
            frame.cost.append(self.change @ frame.total(frame.pick(self.rows) @ frame.w) + self.promised_l)
        per_hour = frame.prices.om_l_per_currency * d.om_per_h + frame.prices.order_l_per_h * order
        if per_hour:
            frame.cost.append(cp.sum(cp.multiply(self.on, hours * per_hour)))

    def fill(self, question: Question, formers: Array) -> None:
        """Set the parameters; `formers` counts inverters and hydro that hold the bus, shape (n_steps,)."""
        frame, d, n = self.frame, self.diesel, self.frame.n
        begin, since = frame.elapsed_s, question.start.diesels.get(d.id, DieselStart(False, 0.0, usable=False))
        low, high = np.zeros(n), np.ones(n)
        if since.on:
            low[begin < d.min_up_s - since.since_s] = 1.0
        else:
            high[begin < d.min_down_s - since.since_s] = 0.0
            ready_s = d.start_s + d.warmup_s + d.sync_s
            high[(begin < ready_s) & (np.array(frame.step_s) < ready_s)] = 0.0
        if since.frozen:
            low[0] = high[0] = float(since.on)
        if not since.usable:
            high[:] = 0.0
        high[~question.in_service(d.id)] = 0.0
        self._promise(question, low, high)
        self.on_max.value, self.on_min.value = high, np.minimum(low, high)
        self.on_before.value = float(since.on)
        top = np.clip(question.ceiling(d.id, "max_kw", d.rated_kw), 0.0, d.rated_kw)
        floor = np.maximum(question.ceiling(d.id, "min_kw", 0.0), d.min_kw)
        self.power_max.value = each(top * MW, len(self.rows))
        self.power_min.value = each(np.minimum(floor, top) * MW, len(self.rows))
        allow = frame.site.reserve.single_former == "allow"
        self.excused.value = each(np.where(formers > 0, 0.0, d.rated_kw * MW * allow), len(self.rows))

    def _promise(self, question: Question, low: Array, high: Array) -> None:
        """Price what the plan before has promised of it, or narrow `on` to it as far as history lets it."""
        flags = question.promise.get(self.diesel.id, (None,) * self.frame.n)
        signs = np.array([0.0 if f is None else -1.0 if f else 1.0 for f in flags])
        self.change.value = change = signs * self.frame.dt_h * self.frame.prices.changed_starts_per_h * self.diesel.start_l
        self.promised_l.value = -change[change < 0.0].sum()
        if question.keep:
            low[(signs < 0.0) & (high > 0.0)] = 1.0
            high[(signs > 0.0) & (low < 1.0)] = 0.0


def fuel_lines(diesel: Diesel) -> list[tuple[float, float]]:
    """Return (no_load [L/h], slope [L/kWh]) of the lines whose maximum is the fuel rate's lower convex hull."""
    fuel = diesel.fuel
    if not fuel.points:
        return [(fuel.no_load_l_per_h, fuel.slope_l_per_kwh)]
    knots = sorted({diesel.min_kw, diesel.rated_kw, *(x for x, _ in fuel.points if diesel.min_kw < x < diesel.rated_kw)})
    return convex_lines([(x, fuel_l_per_h(fuel, x)) for x in knots])
