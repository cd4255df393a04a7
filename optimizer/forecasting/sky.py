"""The sun's height: the shape of a clear day, for a site that has not seen one yet."""

from __future__ import annotations

import math
from datetime import datetime, timedelta


def sine_of_elevation(at: datetime, latitude: float, longitude: float) -> float:
    """Return the sine of the sun's elevation, 0 at night.

    `sin h = sin(lat) sin(dec) + cos(lat) cos(dec) cos(hour angle)`, declination by Cooper's formula
    (J. A. Duffie, W. A. Beckman, Solar Engineering of Thermal Processes, eq. 1.6.1a); the equation of
    time (at most 16 min) is left out.
    """
    day = at.timetuple().tm_yday
    declination = math.radians(23.45) * math.sin(2.0 * math.pi * (284 + day) / 365.0)
    solar_h = at.hour + at.minute / 60.0 + at.second / 3600.0 + longitude / 15.0
    angle = math.radians(15.0 * (solar_h - 12.0))
    phi = math.radians(latitude)
    return max(0.0, math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(declination) * math.cos(angle))


def mean_shape(start: datetime, seconds: float, latitude: float, longitude: float) -> float:
    """Return the mean of that shape over an interval, from three points in it."""
    points = (1 / 6, 1 / 2, 5 / 6)
    return sum(sine_of_elevation(start + timedelta(seconds=seconds * p), latitude, longitude) for p in points) / len(points)
