"""One look at every point of every device: what `ems check --probe` and commissioning show."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from api.assembly import open_drivers
from drivers.modbus import ModbusDriver
from ems.config.load import LoadedSite
from ems.config.profile import UNITS, Place, Profile, house_unit
from ems.errors import BadInput, Failed
from ems.model import Quality, Reading
from ems.ports import Driver

SHOWN = {house: unit for unit, (house, factor) in reversed(UNITS.items()) if factor == 1.0}
"""By house unit: how it is written."""


def probe_points(loaded: LoadedSite) -> list[dict[str, Any]]:
    """Read every device once and return a row for each point; one that did not answer has quality bad and its cause.

    Returns
    -------
    list[dict[str, Any]]
        `asset point value unit quality age_s on_silence`, `text` where the profile has one for the code, and `cause`
        where there is no value.
    """
    drivers = open_drivers(loaded)
    if not drivers:
        raise BadInput("no asset has a device to read", str(loaded.path), "a `device` in the site file, as `ems simulate` writes it")
    answers = asyncio.run(_read_all(drivers))
    return [row for asset, answer in answers.items() for row in _rows(asset, loaded.profiles[asset], answer)]


async def _read_all(drivers: Mapping[str, Driver]) -> dict[str, Mapping[str, Reading | str] | Failed]:
    try:
        found = await asyncio.gather(*(_read(driver) for driver in drivers.values()))
    finally:
        await asyncio.gather(*(driver.close() for driver in drivers.values()), return_exceptions=True)
    return dict(zip(drivers, found, strict=True))


async def _texts(driver: Driver) -> Mapping[str, str]:
    """Return the points that are text, which no cycle reads."""
    if not isinstance(driver, ModbusDriver) or all(point.type != "string" for point in driver.profile.points.values()):
        return {}
    return await driver.texts()


async def _read(driver: Driver) -> Mapping[str, Reading | str] | Failed:
    try:
        await driver.connect()
        readings = await driver.read()
        return {**readings, **(await _texts(driver))}
    except Failed as fault:
        return fault


def _rows(asset: str, profile: Profile, answer: Mapping[str, Reading | str] | Failed) -> list[dict[str, Any]]:
    silence = None if profile.on_silence is None else profile.on_silence.model_dump()
    rows = []
    for name, point in profile.points.items():
        found = None if isinstance(answer, Failed) else answer.get(name)
        reading = Reading(None) if isinstance(found, str) else found
        value = reading.value if reading is not None and reading.value is not None and math.isfinite(reading.value) else None
        row: dict[str, Any] = {
            "asset": asset,
            "point": name,
            "value": value,
            "unit": unit_of(name, point),
            "quality": (Quality.BAD if reading is None or value is None else reading.quality).value,
            "age_s": None if reading is None else round(reading.age_s, 3),
            "on_silence": silence,
        }
        if isinstance(found, str) and found:
            rows.append(row | {"text": {"en": found, "ja": found}, "quality": Quality.GOOD.value})
            continue
        if value is not None and (text := point.text.get(round(value))) is not None:
            row["text"] = text.model_dump()
        if value is None:
            row["cause"] = str(answer) if isinstance(answer, Failed) else "the device gives no value"
        rows.append(row)
    return rows


def unit_of(name: str, point: Place) -> str | None:
    """Return the unit in which a point's value is shown; None for switches and codes."""
    house = house_unit(name) if point.unit is None or point.of is not None else UNITS[point.unit][0]
    return None if house is None else SHOWN[house]
