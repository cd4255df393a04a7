"""A small island for the kernel's tests, and telemetry for it in one line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ems.config.site import Site
from ems.model import Quality, Reading, Telemetry

START = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)


def site(*more: dict[str, Any], stage: str = "control", drop: tuple[str, ...] = (), **sections: Any) -> Site:
    """PV 300, diesels 300 (isochronous) and 200 (droop), inverter 250 (droop) with 500 kWh, load 400 kW."""
    assets: list[dict[str, Any]] = [
        {"id": "town", "kind": "load", "peak_kw": 400.0},
        {"id": "pv1", "kind": "solar", "rated_kw": 300.0, "ramp_up_kw_per_s": 10.0},
        {"id": "dg1", "kind": "diesel", "rated_kw": 300.0, "forming": "isochronous", "fuel": {"no_load_l_per_h": 6.0, "slope_l_per_kwh": 0.25}},
        {"id": "dg2", "kind": "diesel", "rated_kw": 200.0, "forming": "droop", "fuel": {"no_load_l_per_h": 4.0, "slope_l_per_kwh": 0.25}},
        {"id": "inv1", "kind": "inverter", "rated_kw": 250.0, "forming": "droop", "no_load_kw": 2.0, "efficiency": 0.975},
        {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 500.0, "charge_kw": 250.0, "discharge_kw": 250.0},
    ]
    kept = [a for a in assets if a["id"] not in drop]
    return Site.model_validate({"site": {"id": "isle"}, "control": {"stage": stage, "start_timeout_s": 10.0}, "assets": [*kept, *more], **sections})


def points(**values: float | None) -> dict[str, Reading]:
    return {name: Reading(value, Quality.GOOD if value is not None else Quality.BAD) for name, value in values.items()}


def diesel(power_kw: float | None = None, **more: float | None) -> dict[str, Reading]:
    """A diesel that is on the bus where it has a power, and off where it has none."""
    on = power_kw is not None
    state = dict(power_kw=power_kw or 0.0, running=float(on), synchronised=float(on), breaker_closed=float(on), frequency_hz=50.0 if on else 0.0)
    return points(**{**state, "remote": 1.0, "ready": 1.0, "fault": 0.0, **more})


def inverter(power_kw: float = -2.0, **more: float | None) -> dict[str, Reading]:
    return points(**{"power_kw": power_kw, "running": 1.0, "forming": 1.0, "frequency_hz": 50.0, "voltage_v": 400.0, "remote": 1.0, **more})


def telemetry(k: int = 0, dt_s: float = 1.0, time: datetime | None = None, **assets: dict[str, Reading]) -> Telemetry:
    """One cycle of the quiet island: 200 kW load on dg1, no sun, half a battery; named assets replace these."""
    quiet = {
        "town": points(power_kw=200.0),
        "pv1": points(power_kw=0.0, available_kw=0.0),
        "dg1": diesel(202.0),
        "dg2": diesel(),
        "inv1": inverter(),
        "bess1": points(soc=0.5),
    }
    return Telemetry(k, time or START + timedelta(seconds=k * dt_s), k * dt_s, dt_s, {**quiet, **assets})
