"""Whose turn it is on a shared connection: everybody who waits there counts, whatever unit he asks."""

from __future__ import annotations

import asyncio

import pytest

from drivers.modbus import ModbusDriver, ModbusLink
from ems.config.load import shipped_profile

TIMEOUT_S = 0.2


async def test_three_devices_of_one_unit_all_get_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inverter, battery and meter in one unit: each turn takes 0.7 of a time-out, so the last has waited 1.4 of them."""
    link = ModbusLink("127.0.0.1", 1, TIMEOUT_S)

    async def opened(asked_s: float) -> None:
        """The connection stands."""

    monkeypatch.setattr(link, "_opened", opened)
    devices = [ModbusDriver(name, shipped_profile("bms-rack"), 1, link, TIMEOUT_S, {}) for name in ("inv1", "bess1", "m1")]
    served: list[str] = []

    async def look(device: ModbusDriver) -> None:
        async with link.turn(device.unit, TIMEOUT_S):
            await asyncio.sleep(0.7 * TIMEOUT_S)
            served.append(device.asset)

    await asyncio.gather(*(look(d) for d in devices))
    assert served == ["inv1", "bess1", "m1"]
