"""Deferrable load: so much energy a day inside its hours, at times that suit the island."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import cvxpy as cp
import numpy as np

from ems.config.site import Deferrable
from optimizer.frame import MW, Array, Frame, Question

EXTRA_L_PER_KWH = 0.1
"""Price of more than the day's energy: whole runs may give a little more, unused sun alone is no reason."""


class DeferrableBlock:
    """One deferrable load of the problem."""

    def __init__(self, frame: Frame, load: Deferrable) -> None:
        self.frame = frame
        self.load = load
        n = frame.n
        self.days = int(sum(frame.step_s) // 86400) + 2
        self.share = cp.Parameter(n, nonneg=True)
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
        self.power = frame.total(self.power_by_set)
        frame.draw.append(self.power_by_set)
        top = cp.multiply(self.share, self.on) * load.rated_kw * MW
        floor = cp.multiply(self.share, self.on) * load.min_kw * MW
        frame.constraints += [
            self.power_by_set <= load.rated_kw * MW * frame.w,
            self.power <= top,
            self.power >= (floor if load.modulating else top),
            self.hours @ self.power + self.unmet - extra == self.need,
            self.start >= self.on - cp.hstack([np.zeros(1), self.on[: n - 1]]),
            frame.lag(load.min_run_s if load.interruptible else 0.0) @ self.start <= self.on,
            self.begins @ self.start <= (load.max_starts_per_day if load.interruptible else 1),
        ]
        frame.cost.append(cp.sum(extra) * EXTRA_L_PER_KWH / MW)
        frame.cost.append(cp.sum(self.unmet) * frame.prices.unmet_l_per_kwh / MW)
        frame.cost.append(cp.sum(self.start) * 0.01)

    def fill(self, question: Question) -> None:
        """Set the parameters: which hours of which local day each step can serve."""
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
        usable = question.in_service(load.id) & (inside > 0)
        self.share.value = share
        self.on_min.value, self.on_max.value = np.zeros(n), usable.astype(float)
        # Power is the mean over the whole step: what a day gets of it is that day's part of the hours inside.
        part = np.divide(hours, inside, out=np.zeros_like(hours), where=inside > 0)
        self.hours.value = part * self.frame.dt_h
        self.begins.value = (part > 0.5).astype(float)
        self.need.value = self._need(question, windows, hours) * MW

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
