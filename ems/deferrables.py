"""Loads that may wait: desalination, ice, pumps. When they run, and what they have had today."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from ems.config.site import Deferrable, Site
from ems.frozen import changed
from ems.memory import Duty, Memory
from ems.model import NOTHING, Image, Limits
from ems.plan import Target
from ems.reserve import ceiling_kw

LATEST_MARGIN = 1.05
"""A day's energy is begun at the latest when so many times the rest of its window is needed for it."""


class Deferrables:
    """The deferrable loads of one site."""

    def __init__(self, site: Site) -> None:
        self._items: tuple[Deferrable, ...] = site.of(Deferrable)
        self._tz = site.tz
        self._windows_s = {d.id: d.window_s for d in self._items}

    def counted(self, image: Image, memory: Memory) -> Memory:
        """Return the memory with what each has had since local midnight, its run and its starts, and which day that is."""
        if not self._items:
            return memory
        today = image.time.astimezone(self._tz).date().isoformat()
        same = memory.day == today
        before = memory.done_kwh if same else NOTHING
        done = {d: before.get(d, 0.0) + (image.assets[d].power_kw or 0.0) * image.dt_s / 3600.0 for d in self._windows_s}
        duties = {d: duty for d in self._windows_s if (duty := _duty(image, d, memory.duties.get(d), same)) is not None}
        return changed(memory, done_kwh=done, duties=duties, day=today)

    def powers(self, image: Image, memory: Memory, target: Target | None, surplus: bool, relief: bool = False) -> dict[str, float]:
        """Return what each shall draw now [kW]: as planned, else with surplus or when its day runs out.

        Parameters
        ----------
        image : Image
        memory : Memory
        target : Target | None
            A plan's wishes; without one the rule here decides.
        surplus : bool
            Whether renewable power is being left unused.
        relief : bool
            Whether the island cannot carry them now: they go before anybody's feeder does, whatever was planned or ordered.
        """
        found = {}
        for item in self._items:
            unit = image.assets[item.id]
            manual = memory.manual.get(item.id)
            limits = memory.limits.get(item.id)
            least_kw, most_kw = range_kw(item, limits)
            if not unit.seen or not unit.remote:
                found[item.id] = unit.power_kw or 0.0
            elif relief or (limits is not None and limits.out_of_service):
                found[item.id] = 0.0
            elif manual is not None:
                found[item.id] = _inside(self._manual_kw(item, manual.run, manual.power_kw), limits, most_kw)
            elif target is not None and item.id in target.deferrable_kw:
                wished = target.deferrable_kw[item.id]
                # A run that was begun is not cut short, whatever plan comes after the one that began it.
                found[item.id] = _inside(least_kw if wished <= 0.0 and self._young(item, image, memory) else wished, limits, most_kw)
            else:
                found[item.id] = most_kw if most_kw > 0.0 and self._rule_runs(item, image, memory, surplus, most_kw) else 0.0
        return found

    def _manual_kw(self, item: Deferrable, run: bool | None, power_kw: float | None) -> float:
        if run is False:
            return 0.0
        return item.rated_kw if power_kw is None else power_kw

    def _young(self, item: Deferrable, image: Image, memory: Memory) -> bool:
        """Whether it runs, and has not yet for as long as it has to."""
        duty = memory.duties.get(item.id)
        return bool(image.assets[item.id].flag("running")) and duty is not None and duty.running and image.now_s - duty.since_s < item.min_run_s

    def _rule_runs(self, item: Deferrable, image: Image, memory: Memory, surplus: bool, most_kw: float) -> bool:
        """Whether it shall run without a plan: begun is gone on with until its day is had, and not begun more often than it may be."""
        local = image.time.astimezone(self._tz)
        clock_s = local.hour * 3600 + local.minute * 60 + local.second
        opens, closes = self._windows_s[item.id]
        left_kwh = item.daily_kwh - memory.done_kwh.get(item.id, 0.0)
        if not opens <= clock_s < closes:
            return False
        duty = memory.duties.get(item.id)
        if image.assets[item.id].flag("running"):
            return left_kwh > 0.0 or self._young(item, image, memory)
        if left_kwh <= 0.0 or (duty is not None and duty.starts >= starts_per_day(item)):
            return False
        return surplus or left_kwh >= most_kw * (closes - clock_s) / 3600.0 / LATEST_MARGIN


def _duty(image: Image, load: str, before: Duty | None, same_day: bool) -> Duty | None:
    """Return the run and the starts of one load as they are seen now; None as long as nothing has been seen of it."""
    running = image.assets[load].flag("running")
    if before is not None and not same_day and before.starts:
        before = changed(before, starts=0)
    if running is None or (before is not None and running is before.running):
        return before
    # It began, or ended, somewhere in the interval that is over: that counts from its beginning.
    return Duty(running, image.now_s - image.dt_s, (before.starts if before is not None else 0) + running)


def starts_per_day(x: Deferrable) -> int:
    """Return how often it may be begun on a day: once where a run may not be interrupted."""
    return x.max_starts_per_day if x.interruptible else 1


def range_kw(x: Deferrable, limits: Limits | None) -> tuple[float, float]:
    """Return what it draws at least and at most while it runs [kW]; (0, 0) where rating and operator together leave it nothing to run at."""
    least, most = x.min_kw if x.modulating else x.rated_kw, ceiling_kw(x.rated_kw, limits)
    if most < least:
        return 0.0, 0.0
    asked = 0.0 if limits is None or limits.min_kw is None else limits.min_kw
    return min(max(least, asked), most), most


def _inside(kw: float, limits: Limits | None, most_kw: float) -> float:
    """Return a wished power inside what an operator has set; nothing stays nothing [kW]."""
    asked = 0.0 if limits is None or limits.min_kw is None else limits.min_kw
    return min(max(kw, asked), most_kw) if kw > 0.0 else 0.0


def inside_s(x: Deferrable, tz: tzinfo, begin: datetime, step_s: float) -> dict[str, float]:
    """Return how much of a step lies inside a deferrable's hours, by local day [s]."""
    end, zone = begin + timedelta(seconds=step_s), begin.tzinfo
    opens_s, closes_s = x.window_s
    found: dict[str, float] = {}
    day = begin.astimezone(tz).date()
    while True:
        # Wall clock, as the window is: on the day of a change an hour less or more lies in between.
        midnight = datetime(day.year, day.month, day.day, tzinfo=tz)
        if midnight.astimezone(zone) >= end:
            return found
        opens, closes = ((midnight + timedelta(seconds=s)).astimezone(zone) for s in (opens_s, closes_s))
        inside = (min(end, closes) - max(begin, opens)).total_seconds()
        if inside > 0.0:
            found[day.isoformat()] = inside
        day += timedelta(days=1)
