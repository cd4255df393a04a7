"""The sky over a site: where the sun stands, and how much it gives when there is no cloud."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from datetime import UTC, datetime

import numpy as np

from ems.config.site import Site
from optimizer.forecasting.history import DAY, SLOT_S, Slots, Values

BLOCK_DAYS = 30
"""So many days are worked out at once: pvlib is slow to begin and quick to go on."""
KEPT_DAYS = 3 * BLOCK_DAYS


def place(site: Site) -> tuple[float, float]:
    """Return latitude and longitude [degrees]; a longitude that is not said is guessed from the time zone, so that noon is near noon."""
    info = site.site
    if located(site):
        return info.latitude, info.longitude
    offset = datetime(2026, 1, 1, tzinfo=UTC).astimezone(site.tz).utcoffset()
    return info.latitude, 0.0 if offset is None else offset.total_seconds() / 240.0


def located(site: Site) -> bool:
    """Return whether the site file says where the site is."""
    return {"latitude", "longitude"} <= site.site.model_fields_set


def sines(slots: Slots, latitude: float, longitude: float) -> Values:
    """Return the sine of the sun's elevation in the middle of slots, 0 at night.

    `sin h = sin(lat) sin(dec) + cos(lat) cos(dec) cos(hour angle)`, declination by Cooper's formula
    (J. A. Duffie, W. A. Beckman, Solar Engineering of Thermal Processes, eq. 1.6.1a) with the day of a mean
    year; the equation of time (at most 16 min) is left out.
    """
    days = (slots + 0.5) / DAY
    declination = np.radians(23.45) * np.sin(2.0 * np.pi * (285.0 + days % 365.2425) / 365.0)
    angle = 2.0 * np.pi * (days + longitude / 360.0 - 0.5)
    phi = np.radians(latitude)
    found: Values = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(angle)
    return np.maximum(found, 0.0)


class ClearSky:
    """Global irradiance under a sky without clouds, by the Ineichen model.

    P. Ineichen, R. Perez, A new airmass independent formulation for the Linke turbidity coefficient, Solar Energy 73
    (2002) 151, as pvlib has it, with its monthly turbidity. pvlib takes seconds to import, so that only happens when
    the first day is asked for.

    Parameters
    ----------
    latitude, longitude : float
        [degrees].
    """

    def __init__(self, latitude: float, longitude: float) -> None:
        self._place = latitude, longitude
        self._days: OrderedDict[int, Values] = OrderedDict()

    def ghi_wm2(self, slots: Slots) -> Values:
        """Return the clear-sky irradiance of slots [W/m2], shape as `slots`."""
        first, last = int(slots.min()) // DAY, int(slots.max()) // DAY
        if any(day not in self._days for day in range(first, last + 1)):
            self._fill(first, max(last, first + BLOCK_DAYS - 1))
        table = np.concatenate([self._days[day] for day in range(first, last + 1)])
        found: Values = table[slots - first * DAY]
        return found

    def _fill(self, first: int, last: int) -> None:
        missing = [day for day in range(first, last + 1) if day not in self._days]
        values = clear_wm2((np.array(missing)[:, None] * DAY + np.arange(DAY)).ravel(), *self._place)
        for k, day in enumerate(missing):
            self._days[day] = values[k * DAY : (k + 1) * DAY]
        while len(self._days) > max(KEPT_DAYS, last - first + 1):
            del self._days[max(self._days, key=lambda day: max(first - day, day - last))]  # a clock that was set back asks for days before all others


def clear_wm2(slots: Slots, latitude: float, longitude: float) -> Values:
    """Return the clear-sky irradiance in the middle of slots [W/m2]."""
    import pandas
    import pvlib

    times = pandas.to_datetime((slots * SLOT_S + SLOT_S // 2), unit="s", utc=True)
    zenith = pvlib.solarposition.get_solarposition(times, latitude, longitude)["apparent_zenith"]
    airmass = pvlib.atmosphere.get_absolute_airmass(pvlib.atmosphere.get_relative_airmass(zenith))
    with warnings.catch_warnings():  # pvlib asks pandas in a way that pandas will give up some day
        warnings.simplefilter("ignore", DeprecationWarning)
        turbidity = pvlib.clearsky.lookup_linke_turbidity(times, latitude, longitude)
    ghi = pvlib.clearsky.ineichen(zenith, airmass, turbidity)["ghi"].to_numpy()
    found: Values = np.nan_to_num(ghi, nan=0.0)
    return found
