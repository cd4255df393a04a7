"""What a replay adds up beside the flows: the river's reach, the days of deferrable loads, deliveries of fuel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta

from ems.config.site import Deferrable, Hydro, Site, Tank
from ems.physics import best_kwh_per_m3, hydro_flow_m3s

CALL_AT = 0.25
"""Share of a tank at which fuel is ordered where no delivery is declared."""


def mean_soc(soc: Mapping[str, float], capacity_kwh: Mapping[str, float]) -> float:
    """Return the SoC of all batteries together, weighted by capacity."""
    return sum(soc[b] * c for b, c in capacity_kwh.items()) / sum(capacity_kwh.values())


class River:
    """What a river could have given: a turbine that takes all it can at once, with the pond as it was, at its best efficiency.

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
        return best_kwh_per_m3(self._hydro) * flow * dt_s


class Deferred:
    """What deferrable loads have had on each local day, and what they should have had."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._items = site.of(Deferrable)
        self._tz = site.tz
        self._kwh: dict[tuple[str, date], float] = {}

    def add(self, at: datetime, dt_s: float, power_kw: Mapping[str, float]) -> None:
        """Add one interval; it belongs to the day on which it starts."""
        for item in self._items:
            key = (item.id, at.astimezone(self._tz).date())
            self._kwh[key] = self._kwh.get(key, 0.0) + power_kw[item.id] * dt_s / 3600.0

    def joined(self, others: Sequence[Deferred]) -> Deferred:
        """Return what was had here and in other parts of the same run."""
        whole = Deferred(self._site)
        for part in (self, *others):
            for key, kwh in part._kwh.items():
                whole._kwh[key] = whole._kwh.get(key, 0.0) + kwh
        return whole

    def unmet_kwh(self, start: datetime, end: datetime) -> float:
        """Return what was not had in all [kWh]; of a day cut by the period, what no longer fitted into its hours outside."""
        unmet = 0.0
        day, last = start.astimezone(self._tz).date(), end.astimezone(self._tz).date()
        while day <= last:
            for item in self._items:
                midnight = datetime.combine(day, time(), self._tz)
                opens, closes = (midnight + timedelta(seconds=s) for s in item.window_s)
                inside = max(0.0, (min(closes, end) - max(opens, start)).total_seconds())
                outside_kwh = item.rated_kw * ((closes - opens).total_seconds() - inside) / 3600.0
                unmet += max(0.0, item.daily_kwh - outside_kwh - self._kwh.get((item.id, day), 0.0))
            day += timedelta(days=1)
        return unmet


class Ships:
    """Deliveries of fuel: on their days if any falls into the period, else whenever a tank is down to a quarter.

    A declared delivery comes at local midnight of its date, late by its delay.
    """

    def __init__(self, site: Site, start: datetime, end: datetime) -> None:
        self._due: list[tuple[datetime, str, float]] = []
        self._on_call: dict[str, float] = {}
        for tank in site.of(Tank):
            stamps = [(datetime.combine(d.date, time(), site.tz) + timedelta(days=d.delay_days), tank.id, d.litres) for d in tank.deliveries]
            inside = [s for s in stamps if start <= s[0] < end]
            self._due += inside
            if not inside:
                self._on_call[tank.id] = tank.capacity_l
        self._due.sort(reverse=True)

    def arriving(self, at: datetime, level_l: Mapping[str, float]) -> list[tuple[str, float]]:
        """Return tank and litres [L] of what has come by `at` and has not been returned before."""
        found = []
        while self._due and self._due[-1][0] <= at:
            _, tank, litres = self._due.pop()
            found.append((tank, litres))
        found += [(t, full - level_l[t]) for t, full in self._on_call.items() if level_l[t] <= CALL_AT * full]
        return found
