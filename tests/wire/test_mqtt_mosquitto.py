"""MQTT meters through a real broker, with a foreign publisher: live and kept messages, nonsense, loss, trust."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.mqtt import MqttDriver, MqttLink
from ems.config.profile import Profile
from ems.config.site import Device
from ems.errors import BadInput, ConnectionLost
from ems.model import Quality
from tests.ports import free_port
from tests.wire.certificates import made, written
from tests.wire.mosquitto import broker, publish

PROFILE = Profile.model_validate(
    {
        "profile": "gateway",
        "kind": "meter",
        "protocol": "mqtt",
        "points": {
            "power_kw": {"topic": "{id}/power", "unit": "W", "scale": -1.0},
            "energy_export_kwh": {"topic": "{id}/state", "json": "total.0.wh", "unit": "Wh", "counter": True},
            "breaker_closed": {"topic": "{id}/state", "json": "closed", "type": "Boolean"},
        },
    }
)
Peer = Callable[[str], Path]


def driver_on(port: int, scheme: str = "mqtt", profile: Profile = PROFILE, **device: Any) -> MqttDriver:
    at = Device.model_validate({"profile": "x", "url": f"{scheme}://127.0.0.1:{port}", **device})
    return MqttDriver("m1", profile, MqttLink(at), 0.2, {})


async def said(peer: Peer, port: int, topic: str, payload: str, *options: str) -> None:
    await asyncio.to_thread(publish, peer("mosquitto_pub"), port, topic, payload, *options)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(1000):
        if await holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came")


async def until_shown(driver: MqttDriver, **expected: tuple[float | None, Quality]) -> None:
    async def shown() -> bool:
        readings = await driver.read()
        return {name: (readings[name].value, readings[name].quality) for name in expected} == expected

    await until(shown)


async def test_what_is_published_arrives_in_house_units_and_nonsense_as_missing(peer: Peer, tmp_path: Path) -> None:
    with broker(peer("mosquitto"), tmp_path, free_port(), "allow_anonymous true") as port:
        await said(peer, port, "m1/power", "-2500", "-r")  # kept by the broker, from whenever
        driver = driver_on(port)
        await driver.connect()
        await driver.connect()
        readings = await driver.read()
        assert (readings["power_kw"].value, readings["power_kw"].quality) == (2.5, Quality.SUSPECT)
        assert (readings["energy_export_kwh"].value, readings["energy_export_kwh"].quality) == (None, Quality.BAD)
        await said(peer, port, "m1/power", "-2600", "-r")  # live, though kept for others
        await said(peer, port, "m1/state", '{"total": [{"wh": 81234567}], "closed": "ON"}')
        await until_shown(driver, power_kw=(2.6, Quality.GOOD), energy_export_kwh=(81234.567, Quality.GOOD), breaker_closed=(1.0, Quality.GOOD))
        for nonsense in ("", "offline", "nan", "1e999", '{"power": 1}', "ÿ"):
            await said(peer, port, "m1/power", "-2700")
            await until_shown(driver, power_kw=(2.7, Quality.GOOD))
            await said(peer, port, "m1/power", nonsense)
            await until_shown(driver, power_kw=(None, Quality.BAD), breaker_closed=(1.0, Quality.GOOD))
        await said(peer, port, "m1/state", '{"total": [], "closed": false}')
        await until_shown(driver, energy_export_kwh=(None, Quality.BAD), breaker_closed=(0.0, Quality.GOOD))
        with pytest.raises(BadInput, match="read only|takes no command"):
            await driver.write("running", 1.0)
        await driver.close()


async def test_a_value_ages_from_its_message_and_a_lost_broker_is_told(peer: Peer, tmp_path: Path) -> None:
    port = free_port()
    with broker(peer("mosquitto"), tmp_path, port, "allow_anonymous true"):
        driver = driver_on(port)
        await driver.connect()
        await said(peer, port, "m1/power", "1")
        await until_shown(driver, power_kw=(-0.001, Quality.GOOD))
        first = (await driver.read())["power_kw"].age_s
        await said(peer, port, "m1/state", "{}")  # another message makes no old value younger
        assert (await driver.read())["power_kw"].age_s > first > 0.0
    with pytest.raises(ConnectionLost):
        await until(lambda: lost(driver))
    with pytest.raises(ConnectionLost, match="no connection to the broker"):
        await driver.connect()
    with broker(peer("mosquitto"), tmp_path, port, "allow_anonymous true"):
        await driver.connect()  # a new client, and every topic again
        await said(peer, port, "m1/power", "2")
        await until_shown(driver, power_kw=(-0.002, Quality.GOOD))
        await driver.close()


async def lost(driver: MqttDriver) -> bool:
    await driver.read()
    return False


@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")  # paho leaves a socket whose handshake failed to the collector
async def test_only_a_trusted_broker_hears_the_password(peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, impostor = made("broker"), made("broker")
    certificate, key = written(tmp_path / "broker", own)
    stranger, _ = written(tmp_path / "impostor", impostor)
    passwords = tmp_path / "passwords"
    process = await asyncio.create_subprocess_exec(peer("mosquitto_passwd"), "-b", "-c", passwords, "ems", "secret")
    assert await process.wait() == 0
    passwords.chmod(0o644)
    tls = (f"certfile {certificate}", f"keyfile {key}")
    with broker(peer("mosquitto"), tmp_path, free_port(), "allow_anonymous false", f"password_file {passwords}", *tls) as port:
        monkeypatch.setenv("EMS_METERS_USER", "ems")
        monkeypatch.setenv("EMS_METERS_PASSWORD", "secret")
        for security, says in (
            ({"credentials": "meters", "trust": str(stranger)}, "CERTIFICATE_VERIFY_FAILED"),
            ({"credentials": "meters"}, "CERTIFICATE_VERIFY_FAILED"),
            ({"trust": str(certificate)}, "Not authorized"),
        ):
            with pytest.raises(ConnectionLost, match=says):
                await driver_on(port, "mqtts", security=security).connect()
        driver = driver_on(port, "mqtts", security={"credentials": "meters", "trust": pinned(tmp_path, certificate)})
        await driver.connect()
        options = ("--cafile", str(certificate), "-u", "ems", "-P", "secret")
        await said(peer, port, "m1/power", "3", *options)
        await until_shown(driver, power_kw=(-0.003, Quality.GOOD))
        await driver.close()


def pinned(folder: Path, certificate: Path) -> str:
    """Put a certificate into a folder of trust, as a commissioning engineer does."""
    trust = folder / "pinned"
    trust.mkdir()
    (trust / "broker.crt").write_bytes(certificate.read_bytes())
    return str(trust)


def test_a_password_is_not_kept_ready_for_a_plain_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMS_MQTT_USER", "ems")
    monkeypatch.setenv("EMS_MQTT_PASSWORD", "secret")
    urls = {"mqtt://10.0.0.9:1883": None, "mqtts://10.0.0.9:8883": ("ems", "secret"), "mqtt://127.0.0.1:1883": ("ems", "secret")}
    assert {url: MqttLink(Device(profile="x", url=url))._user() for url in urls} == urls
