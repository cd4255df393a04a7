"""An integrated storage unit on the wire: a battery and its inverter in one Modbus unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from ems.model import Quality
from tests.simulator.test_servers import SITE, driver_for, listening, load_text, only


async def test_a_battery_in_the_modbus_unit_of_its_inverter(tmp_path: Path) -> None:
    """Both are read from one unit, and what is written for the one reaches it past the other."""
    here = 'device: {profile: PROFILE, url: "tcp://10.0.0.21:502", unit: 1}}'
    text = "\n".join(line for line in SITE.splitlines() if "hydro1" not in line and "desal1" not in line and "tank1" not in line and "sky1" not in line)
    text = text.replace("rated_kw: 200, forming: droop}", f"rated_kw: 200, forming: droop, {here.replace('PROFILE', 'battery-pcs')}")
    text = text.replace("discharge_kw: 200}", f"discharge_kw: 200, {here.replace('PROFILE', 'bms-rack')}")
    site = load_text(tmp_path, text)
    plant = only(site, inv1={"power_kw": -12.5, "running": 1.0, "frequency_hz": 50.0}, bess1={"soc": 0.615, "power_kw": -12.0, "fault": 0.0})
    async with listening(site, plant) as servers:
        assert servers.addresses["inv1"].url == servers.addresses["bess1"].url
        for asset, name, value in (("inv1", "power_kw", -12.5), ("bess1", "soc", 0.615), ("inv1", "frequency_hz", 50.0), ("bess1", "power_kw", -12.0)):
            driver = driver_for(site, asset, servers)
            await driver.connect()
            reading = (await driver.read())[name]
            await driver.close()
            assert (reading.quality, reading.value) == (Quality.GOOD, pytest.approx(value, abs=0.0501)), f"{asset}.{name}"
        driver = driver_for(site, "inv1", servers)
        await driver.connect()
        result = await driver.write("power_kw", 40.0)
        await driver.close()
        assert result.ok and result.read_back == pytest.approx(40.0)
        assert plant.commands == [("inv1", "power_kw", 40.0)]
