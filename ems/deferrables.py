"""Loads that may wait: desalination, ice, pumps. When they run, and what they have had today."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo

from ems.config.site import Deferrable, Site
from ems.memory import Memory
from ems.model import NOTHING, Image
from ems.plan import Target

LATEST_MARGIN = 1.05
"""A day's energy is begun at the latest when so many times the rest of its window is needed for it."""


class Deferrables:
    """The deferrable loads of one site."""

    def __init__(self, site: Site) -> None:
        self._items: tuple[Deferrable, ...] = site.of(Deferrable)
        self._tz = site.tz
        self._windows_s = {d.id: d.window_s for d in self._items}

    def counted(self, image: Image, memory: Memory) -> tuple[Mapping[str, float], str]:
        """Return the energy each has had since local midnight [kWh], and which day that is."""
        if not self._items:
            return memory.done_kwh, memory.day
        today = image.time.astimezone(self._tz).date().isoformat()
        before = memory.done_kwh if memory.day == today else NOTHING
        return {d: before.get(d, 0.0) + (image.assets[d].power_kw or 0.0) * image.dt_s / 3600.0 for d in self._windows_s}, today

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
            if not unit.seen or not unit.remote:
                found[item.id] = unit.power_kw or 0.0
            elif relief or (limits is not None and limits.out_of_service):
                found[item.id] = 0.0
            elif manual is not None:
                found[item.id] = self._manual_kw(item, manual.run, manual.power_kw)
            elif target is not None and item.id in target.deferrable_kw:
                found[item.id] = target.deferrable_kw[item.id]
            else:
                found[item.id] = self._rule_kw(item, image.time, memory, surplus, bool(unit.flag("running")))
        return found

    def _manual_kw(self, item: Deferrable, run: bool | None, power_kw: float | None) -> float:
        if run is False:
            return 0.0
        return item.rated_kw if power_kw is None else power_kw

    def _rule_kw(self, item: Deferrable, now: datetime, memory: Memory, surplus: bool, running: bool) -> float:
        local = now.astimezone(self._tz)
        clock_s = local.hour * 3600 + local.minute * 60 + local.second
        opens, closes = self._windows_s[item.id]
        left_kwh = item.daily_kwh - memory.done_kwh.get(item.id, 0.0)
        if not opens <= clock_s < closes or left_kwh <= 0.0:
            return 0.0
        late = left_kwh >= item.rated_kw * (closes - clock_s) / 3600.0 / LATEST_MARGIN
        return item.rated_kw if surplus or late or running else 0.0


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
