"""Diesel: on, off and start with affine or piecewise fuel, minimum loading, minimum up and down times."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import numpy.typing as npt

from ems.config.site import Diesel
from ems.engines import BURN_LOADING, CLEAN_S
from ems.lines import convex_lines
from ems.physics import fuel_l_per_h
from ems.plan import DieselStart
from ems.rotation import SPREAD_H
from optimizer.frame import MW, Array, Frame, Question

OVERDUE = 0.02
"""An hour past a service costs this share of the litres of full load: such an engine is spared as the rules spare it (`ems.rotation.SERVICE_WEAR`)."""
SPARED_L_PER_H = 0.01
"""What tells equal diesels apart [L/h]: by run hours, in days, then by their place in the site file."""


class DieselBlock:
    """One diesel of the problem."""

    def __init__(self, frame: Frame, diesel: Diesel) -> None:
        self.frame = frame
        self.diesel = diesel
        n = frame.n
        self.rows = frame.rows_with(diesel.id)
        self.on_min = cp.Parameter(n, nonneg=True)
        self.on_max = cp.Parameter(n, nonneg=True)
        self.on_before = cp.Parameter(nonneg=True)
        self.change: Array = np.zeros(n)
        self.promised_l = cp.Parameter(nonneg=True)
        self.power_min = cp.Parameter((len(self.rows), n), nonneg=True)
        self.power_max = cp.Parameter((len(self.rows), n), nonneg=True)
        self.excused = cp.Parameter(n, nonneg=True)
        self.ceiling: Array = np.zeros(n)
        self.block_kw = min(diesel.block_load_kw, diesel.rated_kw)
        self.reacts = diesel.primary_response or diesel.forming != "never"
        others = {x.id for x in frame.site.of(Diesel) if x.forming != "never" and x.id != diesel.id}
        self.sole_sets = [k for k in self.rows if diesel.forming != "never" and not others & set(frame.sets[k])]
        self.on = frame.whole(diesel.id, self.on_min, self.on_max)
        self.start = cp.Variable(n, bounds=[0, 1], name=f"{diesel.id}.start")
        self.power = cp.Variable((len(self.rows), n), nonneg=True, name=f"{diesel.id}.power")
        self._output()
        self._commitment()
        self._fuel()

    def _output(self) -> None:
        """Power of each set that it is in, nothing in the others; what is left to its ceiling, and what can be taken back."""
        frame, d = self.frame, self.diesel
        pick = frame.pick(self.rows)
        w = pick @ frame.w
        top = cp.multiply(self.power_max, w)
        frame.constraints += [self.power >= cp.multiply(self.power_min, w), self.power <= top]
        self.power_by_set = pick.T @ self.power
        self.left_by_set = top - self.power
        self.total_power = frame.total(self.power)
        alone = frame.total(frame.pick(np.array(self.sole_sets, dtype=np.intp)) @ frame.w) if self.sole_sets else np.zeros(frame.n)
        self.excused_power = cp.multiply(self.excused, alone)
        frame.supply.append(self.power_by_set)
        frame.lower.append(self.total_power - d.min_kw * MW * self.on)

    def excused_in(self, row: int) -> npt.NDArray[np.bool_]:
        """Return where its loss is accepted because it alone holds the bus in this set, shape (n_steps,)."""
        return np.asarray(self.excused.value > 0.0) & (row in self.sole_sets)

    def _commitment(self) -> None:
        """`on` follows from the sets; starts, and how long they last, by constant lag matrices."""
        frame, d, n = self.frame, self.diesel, self.frame.n
        # Of a part of a period nobody knows what was before it: that is taken as it is then; a start has its price at the end (`_joint`).
        first = self.on[:1] if frame.purpose == "part" else cp.reshape(self.on_before, (1,), order="C")
        before = cp.hstack([first, self.on[: n - 1]]) if n > 1 else first
        stop = cp.Variable(n, nonneg=True, name=f"{d.id}.stop")  # not an expression: DPP takes no parameter times what holds `on_before`
        self.runs = frame.total(frame.pick(self.rows) @ frame.w)  # `on`, where a parameter stands before it: nor one times a variable with parametric bounds
        frame.constraints += [
            self.on == self.runs,
            stop == self.start - self.on + before,
            frame.lagged(self.start, d.min_up_s) <= self.on,
            frame.lagged(stop, d.min_down_s) <= 1 - self.on,
        ]
        self.slow = slow = frame.slow_steps(d.ramp_kw_per_s, d.rated_kw)
        if len(slow):
            # Means of two steps differ by what the ramp gives from middle to middle; starts and stops have sequences of their own.
            self.ramp, rated = cp.Parameter(len(slow), nonneg=True, value=frame.ramp_kw(d.ramp_kw_per_s)[slow] * MW), d.rated_kw * MW
            rise = self.total_power[slow] - self.total_power[slow - 1]
            frame.constraints += [rise <= self.ramp + rated * self.start[slow], -rise <= self.ramp + rated * stop[slow]]

    def burn_after_start(self, t: int) -> float:
        """Return the least power of a step that a start asks for, which burns an engine clean [MW]."""
        if self.frame.purpose != "plan" or not self.burn.value:
            return 0.0
        return float(self.burn.value * (self.frame.lag(CLEAN_S)[[t]] @ self.start.value)[0])

    def _fuel(self) -> None:
        """Litres by step: affine, or above every line of the curve's convex hull; each by set, so that it stays tight."""
        frame, d = self.frame, self.diesel
        hours = frame.hours
        lines = fuel_lines(d)
        if len(lines) == 1:
            no_load, slope = lines[0]
            litres = cp.multiply(no_load * self.runs + slope / MW * frame.total(self.power), hours)
        else:
            rate = cp.Variable((len(self.rows), frame.n), nonneg=True, name=f"{d.id}.fuel")
            w = frame.pick(self.rows) @ frame.w
            frame.constraints += [rate >= no_load * w + slope / MW * self.power for no_load, slope in lines]
            litres = cp.multiply(frame.total(rate), hours)
        litres = litres + d.start_l * self.start
        frame.fuel[d.id] = litres
        frame.cost.append(cp.sum(litres))
        if frame.purpose == "plan":
            self._wishes()
        if frame.purpose == "part":
            self._joint()

    def _joint(self) -> None:
        """Between two parts of a period `max(0, on - before) >= on - before`: one pays a start if it is on, the other has it back (`by_day.py`)."""
        frame = self.frame
        self.begin_l, self.left_l = cp.Parameter(nonneg=True), cp.Parameter(nonneg=True)
        frame.cost.append(self.begin_l * self.runs[0] - self.left_l * self.runs[frame.n - 1])

    def _wishes(self) -> None:
        """What is not fuel: wear, who is to be spared, changes of the plan in force, hours past a service, a burn that comes with a start."""
        frame, d, n = self.frame, self.diesel, self.frame.n
        self.on_price, self.start_price = cp.Parameter(n), cp.Parameter(nonneg=True)
        self.service_left = cp.Parameter(nonneg=True)
        self.burn = cp.Parameter(nonneg=True)
        overdue = cp.Variable(nonneg=True, name=f"{d.id}.overdue")
        frame.cost += [self.start_price * cp.sum(self.start), self.on_price @ self.runs + self.promised_l, OVERDUE * full_l_per_h(d) * overdue]
        frame.constraints += [
            overdue >= frame.hours @ self.runs - self.service_left,
            self.total_power >= self.burn * (frame.lag(CLEAN_S) @ self.start),
        ]

    def _fill_wishes(self, question: Question, since: DieselStart, top: Array) -> None:
        frame, d = self.frame, self.diesel
        self.start_price.value, hour_l = frame.site.worn_l(d, question.grid.start)
        self.on_price.value = self.change + frame.dt_h * (SPARED_L_PER_H * self._rank(question) + hour_l)
        left = since.service_in_h
        self.service_left.value = max(0.0, left) if left is not None else float(frame.dt_h.sum())
        self.burn.value = BURN_LOADING * d.rated_kw * MW if since.burn_s > 0.0 and top.min() >= BURN_LOADING * d.rated_kw else 0.0

    def _rank(self, question: Question) -> int:
        """Return how many diesels of the site are to be run before this one, where nothing else decides: fewer run hours, then the place in the file."""
        hours = {x.id: (s.run_h or 0.0 if (s := question.start.diesels.get(x.id)) is not None else 0.0) for x in self.frame.site.of(Diesel)}
        places = {x: k for k, x in enumerate(hours)}
        me = self.diesel.id
        return sum((round(h / SPREAD_H), places[x]) < (round(hours[me] / SPREAD_H), places[me]) for x, h in hours.items())

    def fill(self, question: Question, formers: Array) -> None:
        """Set the parameters; `formers` counts the inverters that hold the bus: hydro takes up nobody's load, shape (n_steps,)."""
        frame, d, n = self.frame, self.diesel, self.frame.n
        if len(self.slow):
            self.ramp.value = frame.ramp_kw(d.ramp_kw_per_s)[self.slow] * MW
        begin, since = frame.elapsed_s, question.start.diesels.get(d.id, DieselStart(False, 0.0, usable=False))
        low, high = np.zeros(n), np.ones(n)
        if since.on:
            low[begin < max(d.min_up_s - since.since_s, since.burn_s)] = 1.0
        else:
            high[begin < d.min_down_s - since.since_s] = 0.0
            ready_s = d.start_s + d.warmup_s + d.sync_s
            high[(begin < ready_s) & (np.array(frame.step_s) < ready_s)] = 0.0
        if since.held and question.in_service(d.id)[0]:  # out of service it stops, and nobody is bound by what was
            low[high > 0.0] = 1.0
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
        burning = (begin < since.burn_s) & since.on
        floor = np.where(burning, np.maximum(floor, BURN_LOADING * d.rated_kw), floor)
        able = np.minimum(top, d.rated_kva * frame.upright[self.rows])
        self.power_max.value = able * MW
        self.power_min.value = np.minimum(floor, able) * MW
        if frame.purpose == "plan":
            self._fill_wishes(question, since, top)
        allow = frame.site.reserve.single_former == "allow"
        self.ceiling = top * MW
        self.excused.value = np.where(formers > 0, 0.0, frame.loosened_kw(d.rated_kw) * MW * allow)

    def _promise(self, question: Question, low: Array, high: Array) -> None:
        """Price what the plan before has promised of it, or narrow `on` to it as far as history lets it."""
        flags = question.promise.get(self.diesel.id, (None,) * self.frame.n)
        signs = np.array([0.0 if f is None else -1.0 if f else 1.0 for f in flags])
        self.change = change = signs * self.frame.dt_h * self.frame.prices.changed_starts_per_h * self.diesel.start_l
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


def full_l_per_h(diesel: Diesel) -> float:
    """Return the litres of an hour at full load."""
    return fuel_l_per_h(diesel.fuel, diesel.rated_kw)
