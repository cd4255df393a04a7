"""What happens outside the plant: a series as it was, or made weather that a seed repeats exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np

from ems.config.site import Hydro, Load, Site, Solar
from ems.series import Interval, SeriesTable
from simulator.plant import Conditions

Scenario = Callable[[datetime, float], Conditions]
"""Gives the mean conditions over the seconds from a time on."""

SAMPLE_S = 300.0
"""Made weather is sampled this often within an interval [s]."""
DAY_LOAD = (0.52, 0.49, 0.47, 0.46, 0.47, 0.51, 0.58, 0.63, 0.65, 0.66, 0.67, 0.68, 0.69, 0.67, 0.66, 0.66, 0.68, 0.74, 0.84, 0.92, 0.90, 0.82, 0.70, 0.59)
"""Load of an island village by local hour, as a share of its peak: an evening peak."""


def from_series(table: SeriesTable) -> Scenario:
    """Return the scenario of a series; outside its span it repeats."""

    def at(time: datetime, seconds: float) -> Conditions:
        return as_conditions(table.conditions(time, seconds))

    return at


def as_conditions(interval: Interval) -> Conditions:
    """Return an interval of a series as the plant takes it."""
    return Conditions(interval.load_kw, interval.available_kw, interval.inflow_m3s, interval.ghi_wm2, interval.air_temp_c)


def synthetic(site: Site, seed: int) -> Scenario:
    """Return made weather, load and river for a site: the same for the same seed, whenever it is asked.

    Load follows a day with an evening peak; the sun stands where it stands at the site, behind clouds of
    minutes to days; the river swings over days between a fifth and twice its design flow.
    """
    loads, solars, hydros = site.of(Load), site.of(Solar), site.of(Hydro)

    def sample(time: datetime) -> Conditions:
        local = time.astimezone(site.tz)
        hour = local.hour + local.minute / 60.0 + local.second / 3600.0
        low, high = DAY_LOAD[int(hour)], DAY_LOAD[(int(hour) + 1) % 24]
        share = low + (high - low) * (hour - int(hour))
        at_s = time.timestamp()
        clear = clear_sky(site.site.latitude, site.site.longitude, time)
        sky = 0.25 + 0.75 * noise(seed, 0, at_s, 86400.0)
        cloud = max(0.15, min(1.0, sky + 0.5 * (noise(seed, 1, at_s, 600.0) - 0.5) * (1.0 - abs(2.0 * sky - 1.25))))
        ghi = 1000.0 * clear * cloud
        return Conditions(
            {a.id: a.peak_kw * share * (0.93 + 0.14 * noise(seed, 10 + k, at_s, 1800.0)) for k, a in enumerate(loads)},
            {a.id: min(a.rated_kw, a.rated_kw * 1.1 * clear * cloud) for a in solars},
            {a.id: a.design_flow_m3s * (0.2 + 1.8 * noise(seed, 2, at_s, 4 * 86400.0) ** 2) + a.ecological_flow_m3s for a in hydros},
            ghi,
            24.0 + 4.0 * math.sin((hour - 9.0) / 12.0 * math.pi) + 3.0 * (noise(seed, 3, at_s, 86400.0) - 0.5),
        )

    def at(time: datetime, seconds: float) -> Conditions:
        count = max(1, math.ceil(seconds / SAMPLE_S))
        if count == 1:
            return sample(time + timedelta(seconds=seconds / 2))
        parts = [sample(time + timedelta(seconds=(k + 0.5) * seconds / count)) for k in range(count)]
        return mean(parts)

    return at


def mean(parts: list[Conditions]) -> Conditions:
    """Return the mean of equally long intervals."""
    n, first = len(parts), parts[0]
    return Conditions(
        {a: sum(p.load_kw[a] for p in parts) / n for a in first.load_kw},
        {a: sum(p.available_kw[a] for p in parts) / n for a in first.available_kw},
        {a: sum(p.inflow_m3s[a] for p in parts) / n for a in first.inflow_m3s},
        sum(p.ghi_wm2 or 0.0 for p in parts) / n,
        sum(p.air_temp_c or 0.0 for p in parts) / n,
    )


def noise(seed: int, channel: int, at_s: float, every_s: float) -> float:
    """Return smooth noise in 0..1 with a value of its own every `every_s` [s]."""
    place = at_s / every_s
    k = math.floor(place)
    f = place - k
    f = f * f * (3.0 - 2.0 * f)
    return _drawn(seed, channel, k) * (1.0 - f) + _drawn(seed, channel, k + 1) * f


@lru_cache(maxsize=4096)
def _drawn(seed: int, channel: int, k: int) -> float:
    return float(np.random.default_rng((seed, channel, k % 2**63)).random())


def clear_sky(latitude: float, longitude: float, time: datetime) -> float:
    """Return a clear sky's global irradiance as a share of 1000 W/m2, from the sun's height.

    Declination and equation of time after Spencer (1971); irradiance after Haurwitz (1945):
    `1098 cos(z) exp(-0.057 / cos(z))` W/m2.
    """
    day = time.timetuple().tm_yday
    hour_utc = time.hour + time.minute / 60.0 + time.second / 3600.0
    g = 2.0 * math.pi * (day - 1 + hour_utc / 24.0) / 365.0
    declination = (
        0.006918 - 0.399912 * math.cos(g) + 0.070257 * math.sin(g) - 0.006758 * math.cos(2 * g)
        + 0.000907 * math.sin(2 * g) - 0.002697 * math.cos(3 * g) + 0.00148 * math.sin(3 * g)
    )  # fmt: skip
    equation_min = 229.18 * (0.000075 + 0.001868 * math.cos(g) - 0.032077 * math.sin(g) - 0.014615 * math.cos(2 * g) - 0.040849 * math.sin(2 * g))
    solar_hour = hour_utc + longitude / 15.0 + equation_min / 60.0
    angle = math.radians(15.0 * (solar_hour - 12.0))
    lat = math.radians(latitude)
    height = math.sin(lat) * math.sin(declination) + math.cos(lat) * math.cos(declination) * math.cos(angle)
    return 1.098 * height * math.exp(-0.057 / height) if height > 0.0 else 0.0
