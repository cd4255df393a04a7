"""An island whose feeders can be switched, for the tests of shedding, restoring and black start."""

from __future__ import annotations

from typing import Any

from ems.config.site import Site
from ems.model import Reading
from tests.ems.island import points

DEVICE = {"profile": "generic-feeder", "url": "tcp://127.0.0.1:502"}
FEEDERS = {"clinic": (1, 0.2), "village": (2, 0.3), "north": (3, 0.25), "south": (3, 0.25)}
"""By id: priority and share."""


def site(*more: dict[str, Any], drop: tuple[str, ...] = (), fixed: tuple[str, ...] = (), **town: Any) -> Site:
    """Four feeders on 400 kW, diesel 300 (isochronous) and 200 (droop), inverter 250 (droop) with 500 kWh, PV 300.

    Parameters
    ----------
    more, drop
        Assets that are added, and left out.
    fixed
        Feeders without a device of their own.
    town
        Further fields of the load.
    """
    feeders = [{"id": f, "priority": p, "share": s, **({} if f in fixed else {"device": DEVICE})} for f, (p, s) in FEEDERS.items()]
    assets: list[dict[str, Any]] = [
        {"id": "town", "kind": "load", "peak_kw": 400.0, "station_kw": 4.0, "feeders": feeders, **town},
        {"id": "pv1", "kind": "solar", "rated_kw": 300.0, "ramp_up_kw_per_s": 10.0},
        {"id": "dg1", "kind": "diesel", "rated_kw": 300.0, "forming": "isochronous", "fuel": {"no_load_l_per_h": 6.0, "slope_l_per_kwh": 0.25}},
        {"id": "dg2", "kind": "diesel", "rated_kw": 200.0, "forming": "droop", "fuel": {"no_load_l_per_h": 4.0, "slope_l_per_kwh": 0.25}},
        {"id": "inv1", "kind": "inverter", "rated_kw": 250.0, "forming": "droop", "no_load_kw": 2.0, "efficiency": 0.975},
        {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 500.0, "charge_kw": 250.0, "discharge_kw": 250.0},
    ]
    kept = [a for a in assets if a["id"] not in drop]
    return Site.model_validate({"site": {"id": "hamlets"}, "control": {"stage": "control", "start_timeout_s": 10.0}, "assets": [*kept, *more]})


def feeder(power_kw: float | None = 50.0, closed: bool = True, **more: float | None) -> dict[str, Reading]:
    """One feeder's device: power, breaker, relay."""
    return points(**{"power_kw": power_kw if closed else 0.0, "breaker_closed": float(closed), "ufls_tripped": 0.0, "remote": 1.0, **more})
