"""Which of several like engines is to be spared: by its run hours, and by the service that is due.

A share of its price is added to each engine, small enough never to outweigh a real difference in fuel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ems.config.site import Diesel
from ems.model import AssetImage

SPREAD_H = 24.0
"""Engines whose run hours are this far apart or more differ by all of `HOURS_WEAR`; nearer ones in proportion [h]."""
HOURS_WEAR = 0.005
SERVICE_WEAR = 0.02
"""An engine within `SERVICE_NEAR_H` of its service, or past it, is spared by this share of its price."""
SERVICE_NEAR_H = 24.0
"""A service is near this long before it is due, and remembered this long after [h of running]: nobody tells us that it was done."""


def service_in_h(diesel: Diesel, run_h: float) -> float:
    """Return the run hours until the next service [h], counted from new in equal intervals; less than 0 where one was due just now."""
    every, passed = diesel.hours_between_service, run_h % diesel.hours_between_service
    return 0.0 - passed if run_h >= every and passed <= min(SERVICE_NEAR_H, every / 2.0) else every - passed


def wear(diesels: Collection[Diesel], images: Mapping[str, AssetImage]) -> dict[str, float]:
    """Return by how much each engine is to be spared, as a share of its price; 0 for the freshest, and where hours are not known.

    Parameters
    ----------
    diesels : Collection[Diesel]
    images : Mapping[str, AssetImage]
        Their `run_h` [h].
    """
    hours = {d.id: h for d in diesels if (h := images[d.id].get("run_h")) is not None}
    least = min(hours.values(), default=0.0)
    found = {}
    for d in diesels:
        if d.id in hours:
            spread = min(1.0, (hours[d.id] - least) / SPREAD_H)
            near = hours[d.id] > 0.0 and service_in_h(d, hours[d.id]) <= SERVICE_NEAR_H
            found[d.id] = HOURS_WEAR * spread + (SERVICE_WEAR if near else 0.0)
    return found
