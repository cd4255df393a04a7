"""A state as flat points, and the means of a minute of them: the names that charts and the uplink use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

QUALITY_CODE = {"good": 0.0, "suspect": 1.0, "bad": 2.0}
"""Where only numbers travel: the higher, the worse."""
SITE_POINTS = ("load_kw", "frequency_hz", "voltage_v", "unserved_kw", "renewable_fraction")


def flat(state: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a state by point name: `load_kw`, `reserve.required_kw`, `pv1.power_kw`; what is missing is absent."""
    found = {name: state.get(name) for name in SITE_POINTS}
    for part in ("reserve", "co2", "alarms"):
        found |= {f"{part}.{name}": value for name, value in state.get(part, {}).items()}
    for asset, values in (*state.get("assets", {}).items(), *state.get("feeders", {}).items()):
        found |= {f"{asset}.{name}": value for name, value in values.items()}
        if "quality" in values:
            found[f"{asset}.quality_code"] = QUALITY_CODE.get(values["quality"])
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every point over the rows that have it; of codes the worst."""
    sums: dict[str, tuple[float, int]] = {}
    worst: dict[str, float] = {}
    for row in rows:
        for name, value in row.items():
            if name.endswith("_code"):
                worst[name] = max(value, worst.get(name, value))
            else:
                total, count = sums.get(name, (0.0, 0))
                sums[name] = (total + value, count + 1)
    return {name: round(total / count, 6) for name, (total, count) in sums.items()} | worst
