"""Deferrable load: so much energy a day inside its hours, at times that suit the island."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import cvxpy as cp
import numpy as np
import numpy.typing as npt

from ems.config.site import Deferrable
from ems.deferrables import range_kw, starts_per_day
from ems.plan import DeferrableStart
from optimizer.frame import MW, Array, Frame, Question

EXTRA_L_PER_KWH = 0.1
"""Price of more than the day's energy: whole runs may give a little more, unused sun alone is no reason."""
NOTICE_KWH = 0.5
"""A day's energy is had when less than this is missing."""
CUT_L_PER_KWH = 10.0
"""Price of cutting a run short that is under way: far above what waiting saves, below load that is not served and reserve that is short."""


class DeferrableBlock:
    """One deferrable load of the problem."""

    def __init__(self, frame: Frame, load: Deferrable) -> None:
        self.frame = frame
        self.load = load
        n = frame.n
        self.days = int(sum(frame.step_s) // 86400) + 2
        self.top = cp.Parameter(n, nonneg=True)
        self.floor = cp.Parameter(n, nonneg=True)
        self.must = cp.Parameter(n, nonneg=True)
        self.on_before = cp.Parameter(nonneg=True)
        self.starts_left = cp.Parameter(self.days, nonneg=True)
        self.on_min = cp.Parameter(n, nonneg=True)
        self.on_max = cp.Parameter(n, nonneg=True)
        self.hours = cp.Parameter((self.days, n), nonneg=True)
        self.begins = cp.Parameter((self.days, n), nonneg=True)
        self.need = cp.Parameter(self.days, nonneg=True)
        self.power_by_set = frame.power(f"{load.id}.power")
        self.on = frame.whole(load.id, self.on_min, self.on_max, by_rows=True)
        self.start = cp.Variable(n, bounds=[0, 1], name=f"{load.id}.start")
        self.unmet = cp.Variable(self.days, nonneg=True, name=f"{load.id}.unmet")
        extra = cp.Variable(self.days, nonneg=True, name=f"{load.id}.extra")
        cut = cp.Variable(n, nonneg=True, name=f"{load.id}.cut")
        self.power = frame.total(self.power_by_set)
        frame.draw.append(self.power_by_set)
        before = cp.reshape(self.on_before, (1,), order="C")
        before = cp.hstack([before, self.on[: n - 1]]) if n > 1 else before
        frame.constraints += [
            self.power_by_set <= load.rated_kw * MW * frame.w,
            self.power <= cp.multiply(self.top, self.on),
            self.power >= cp.multiply(self.floor, self.on),
            self.hours @ self.power + self.unmet - extra == self.need,
            self.start >= self.on - before,
            frame.lagged(self.start, load.min_run_s if load.interruptible else 0.0) <= self.on,
            self.begins @ self.start <= self.starts_left,
            self.on + cut >= self.must,  # not a bound of `on`: on a dead bus, or where nobody can carry it, nothing runs
        ]
        frame.cost.append(cp.sum(cp.multiply(cut, frame.hours)) * load.rated_kw * CUT_L_PER_KWH)
        frame.cost.append(cp.sum(extra) * EXTRA_L_PER_KWH / MW)
        frame.cost.append(cp.sum(self.unmet) * frame.prices.unmet_l_per_kwh / MW)
        frame.cost.append(cp.sum(self.start) * 0.01)

    def fill(self, question: Question) -> None:
        """Set the parameters: which hours of which local day each step can serve, at which power, and what is under way."""
        load, n = self.load, self.frame.n
        first = question.at.astimezone(self.frame.site.tz).date()
        windows = [window(load, first + timedelta(days=d), self.frame.site.tz) for d in range(self.days)]
        starts = question.grid.starts()
        hours = np.zeros((self.days, n))
        for t, begin in enumerate(starts):
            end = begin + timedelta(seconds=self.frame.step_s[t])
            for d, (a, b) in enumerate(windows):
                hours[d, t] = max(0.0, (min(end, b) - max(begin, a)).total_seconds() / 3600.0)
        inside = hours.sum(axis=0)
        share = np.minimum(1.0, inside / self.frame.dt_h)
        limited, free = range_kw(load, question.limits.get(load.id)), range_kw(load, None)
        least, most = (np.where(question.in_force(load.id), a, b) for a, b in zip(limited, free, strict=True))
        usable = question.in_service(load.id) & (inside > 0) & (most > 0.0)
        self.top.value, self.floor.value = share * most * usable * MW, share * least * usable * MW
        self.on_min.value, self.on_max.value = np.zeros(n), usable.astype(float)
        # Power is the mean over the whole step: what a day gets of it is that day's part of the hours inside.
        part = np.divide(hours, inside, out=np.zeros_like(hours), where=inside > 0)
        self.hours.value = part * self.frame.dt_h
        self.begins.value = (part > 0.5).astype(float)
        need = self._need(question, windows, hours)
        self.need.value = need * MW
        self._under_way(question, need[0], self.hours.value[0] * self.top.value / MW, usable)

    def _under_way(self, question: Question, need_kwh: float, most_kwh: Array, usable: npt.NDArray[np.bool_]) -> None:
        """Say what was before, what starts are left of today, and how long the run under way must last.

        Its minimum run and, where it may not be interrupted, the time that the rest of the day's energy takes at full power, as far as it can run at all.
        """
        load, state = self.load, question.start.deferrables.get(self.load.id, DeferrableStart())
        per_day = starts_per_day(load)
        self.on_before.value = float(state.on)
        self.starts_left.value = np.array([max(0, per_day - state.starts_today), *[per_day] * (self.days - 1)], dtype=float)
        begin_s = self.frame.elapsed_s - (question.at - question.grid.start).total_seconds()
        must = begin_s < load.min_run_s - state.since_s
        if not load.interruptible and state.starts_today > 0:
            must |= np.concatenate([[0.0], np.cumsum(most_kwh)[:-1]]) < need_kwh - NOTICE_KWH
        self.must.value = (must & np.logical_and.accumulate(usable)).astype(float) * state.on

    def _need(self, question: Question, windows: list[tuple[datetime, datetime]], hours: Array) -> Array:
        """Return what each day still asks for [kWh]: all of today's rest, of a day cut by the horizon its part."""
        load = self.load
        need = np.zeros(self.days)
        for d, (a, b) in enumerate(windows):
            whole = (b - a).total_seconds() / 3600.0
            reached = min(1.0, max(0.0, (question.grid.end - a).total_seconds() / 3600.0 / whole))
            done = question.start.done_kwh.get(load.id, 0.0) if d == 0 else 0.0
            need[d] = max(0.0, load.daily_kwh * reached - done)
            if d > 0 and not hours[d].any():
                need[d] = 0.0
        return need


def window(load: Deferrable, day: date, tz: object) -> tuple[datetime, datetime]:
    """Return begin and end of its hours on a local day."""
    begin_s, end_s = load.window_s
    return local(day, begin_s, tz), local(day, end_s, tz)


def local(day: date, seconds: int, tz: object) -> datetime:
    """Return a local wall-clock time, which may be 24:00, as a stamp."""
    day, rest = day + timedelta(days=seconds // 86400), seconds % 86400
    return datetime(day.year, day.month, day.day, rest // 3600, rest % 3600 // 60, tzinfo=tz)  # type: ignore[arg-type]
