"""What a replay adds up beside the flows: the river's reach, the days of deferrable loads, deliveries of fuel."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

from ems.config.site import Deferrable, Hydro, Site, Tank
from ems.physics import hydro_flow_m3s, hydro_kw


def mean_soc(soc: Mapping[str, float], capacity_kwh: Mapping[str, float]) -> float:
    """Return the SoC of all batteries together, weighted by capacity."""
    return sum(soc[b] * c for b, c in capacity_kwh.items()) / sum(capacity_kwh.values())


class River:
    """What a river could have given: a turbine that takes all it can at once, with the pond as it was.

    Nobody can have made more by any time, so that hydro power is never above what was available.
    """

    def __init__(self, hydro: Hydro, pond_m3: float) -> None:
        self.id = hydro.id
        self._hydro = hydro
        self._pond_m3 = pond_m3
        self._flow_max_m3s = min(hydro.design_flow_m3s, hydro_flow_m3s(hydro, hydro.rated_kw))

    def reach_kwh(self, inflow_m3s: float, dt_s: float) -> float:
        """Return what it makes of one interval [kWh]."""
        river = max(0.0, inflow_m3s - self._hydro.ecological_flow_m3s)
        flow = min(self._flow_max_m3s, river + self._pond_m3 / dt_s)
        self._pond_m3 = min(self._hydro.pond_m3, self._pond_m3 + (river - flow) * dt_s)
        return hydro_kw(self._hydro, flow) * dt_s / 3600.0


class Deferred:
    """What deferrable loads have had on each local day, and what they should have had."""

    def __init__(self, site: Site) -> None:
        self._items = site.of(Deferrable)
        self._tz = site.tz
        self._kwh: dict[tuple[str, date], float] = {}

    def add(self, at: datetime, dt_s: float, power_kw: Mapping[str, float]) -> None:
        """Add one interval; it belongs to the day on which it starts."""
        for item in self._items:
            key = (item.id, at.astimezone(self._tz).date())
            self._kwh[key] = self._kwh.get(key, 0.0) + power_kw[item.id] * dt_s / 3600.0

    def unmet_kwh(self, start: datetime, end: datetime) -> float:
        """Return what was not had in all [kWh]; of a day cut by the period only the share of its window inside."""
        unmet = 0.0
        day, last = start.astimezone(self._tz).date(), end.astimezone(self._tz).date()
        while day <= last:
            for item in self._items:
                midnight = datetime.combine(day, time(), self._tz)
                opens, closes = (midnight + timedelta(seconds=s) for s in item.window_s)
                inside = max(0.0, (min(closes, end) - max(opens, start)).total_seconds())
                due = item.daily_kwh * inside / (closes - opens).total_seconds()
                unmet += max(0.0, due - self._kwh.get((item.id, day), 0.0))
            day += timedelta(days=1)
        return unmet


def deliveries(site: Site, start: datetime) -> list[tuple[datetime, str, float]]:
    """Return deliveries of fuel from `start` on, the next one last: at local midnight of their day, late by their delay."""
    found = []
    for tank in site.of(Tank):
        for delivery in tank.deliveries:
            at = datetime.combine(delivery.date, time(), site.tz) + timedelta(days=delivery.delay_days)
            if at >= start:
                found.append((at, tank.id, delivery.litres))
    return sorted(found, reverse=True)
