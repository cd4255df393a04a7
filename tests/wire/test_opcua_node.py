"""Our OPC UA driver against node-opcua: encrypted, with users; quality, limits of the server, strangers, and a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding

from drivers.opcua import OpcUaDriver, OpcUaLink
from ems.config.profile import Profile
from ems.config.site import Device
from ems.errors import BadInput, ConnectionLost, Failed
from ems.model import Quality
from tests.conftest import find_peer
from tests.ports import free_port
from tests.wire.certificates import made, written
from tests.wire.node_opcua import Turbine, needed, turbine

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("node-opcua"),
    pytest.mark.timeout(180),
]  # a server takes four CPU seconds to start

PERIOD_S = 0.2
PROFILE = Profile.model_validate(
    {
        "profile": "turbine",
        "kind": "hydro",
        "protocol": "opcua",
        "points": {
            "power_kw": {"node": "ns=1;s=Power", "type": "Double", "unit": "kW"},
            "running": {"node": "ns=1;s=Running", "type": "Boolean"},
            "level_m": {"node": "ns=1;s=Level", "type": "Float", "unit": "m"},
            "fault": {"node": "ns=1;s=Fault", "type": "Int16", "none": 0},
            "flow_m3s": {"node": "ns=1;s=Flow", "type": "Double", "unit": "m3/s"},
        },
        "commands": {"power_kw": {"node": "ns=1;s=Set", "type": "Double", "unit": "kW", "min": 0, "max": 250}},
        "heartbeat": {"node": "ns=1;s=Beat", "type": "UInt16"},
    }
)


Shown = dict[str, tuple[float | None, Quality]]


class Site:
    """The folders of a site with one turbine: our key pair, the server's, and what each side trusts."""

    def __init__(self, folder: Path) -> None:
        self.port, self.impostor_port = free_port(), free_port()
        ours, theirs = made("ems"), made("plant")
        self.certificate, self.key = written(folder / "ems", ours)
        self.theirs, self.impostor = written(folder / "plant", theirs), written(folder / "impostor", made("plant"))
        self.trust = folder / "trust"
        self.trust.mkdir()
        (self.trust / "plant.der").write_bytes(theirs[0].public_bytes(Encoding.DER))
        self.clients = folder / "pki"
        known = self.clients / "trusted" / "certs"
        known.mkdir(parents=True)
        (known / "ems.pem").write_bytes(self.certificate.read_bytes())

    def server(self, port: int, pair: tuple[Path, Path]) -> AbstractAsyncContextManager[Turbine]:
        return turbine(needed(find_peer), port, self.clients, *pair, sessions=2)

    def driver(self, port: int | None = None, **security: Any) -> OpcUaDriver:
        files = {"certificate": str(self.certificate), "private_key": str(self.key), "trust": str(self.trust)}
        device = Device.model_validate({"profile": "x", "url": f"opc.tcp://127.0.0.1:{port or self.port}", "security": {**files, **security}})
        return OpcUaDriver("hydro1", PROFILE, device, 3.0, {}, OpcUaLink(device, PERIOD_S))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    needed(find_peer)
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMS_OPCUA_USER", "ems")
    monkeypatch.setenv("EMS_OPCUA_PASSWORD", "secret")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(site: Site) -> AsyncIterator[tuple[Turbine, Turbine]]:
    """The server and, beside it, one with its name and another key pair; each takes seconds to start."""
    async with AsyncExitStack() as stack:
        plant, impostor = site.server(site.port, site.theirs), site.server(site.impostor_port, site.impostor)
        yield tuple(await asyncio.gather(stack.enter_async_context(plant), stack.enter_async_context(impostor)))


@pytest.fixture
def server(both: tuple[Turbine, Turbine]) -> Turbine:
    return both[0]


async def until(driver: OpcUaDriver, holds: Callable[[Shown], bool]) -> Shown:
    """Read as a cycle does, connecting where there is no session, until it holds; return what was shown then."""
    shown: Shown = {}
    loop = asyncio.get_running_loop()
    end_s = loop.time() + 100.0
    while loop.time() < end_s:
        try:
            await driver.connect()
            shown = {name: (reading.value, reading.quality) for name, reading in (await driver.read()).items()}
        except Failed:
            shown = {}
        if shown and holds(shown):
            return shown
        await asyncio.sleep(PERIOD_S / 4)
    raise AssertionError(f"it never came: {shown}")


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes256_Sha256_RsaPss"])
async def test_reads_writes_and_hears_changes_over_a_sealed_channel(site: Site, server: Turbine, policy: str) -> None:
    await server.shows("Power", 120.5)
    await server.shows("Level", 1.5)
    driver = site.driver(policy=policy)
    await driver.connect()
    assert {n: r.value for n, r in (await driver.read()).items()} == {"power_kw": 120.5, "running": 0.0, "level_m": 1.5, "fault": 0.0, "flow_m3s": 0.0}
    assert driver.link.feed is not None  # and it is subscribed, in as many requests as this server allows
    assert driver.link.feed.refused == ()
    await server.shows("Power", 99.25)
    await until(driver, lambda shown: shown["power_kw"] == (99.25, Quality.GOOD))
    result = await driver.write("power_kw", 80.0)
    assert (result.ok, result.read_back) == (True, 80.0)
    await driver.beat(7)
    await driver.close()
    await server.shows("Power", 120.5)  # so that what it said of users has been read
    assert {"user": "ems", "known": True} in server.users


@pytest.mark.parametrize(
    ("value", "status", "expected"),
    [
        (7.5, "UncertainSensorNotAccurate", (7.5, Quality.SUSPECT)),
        (7.5, "BadSensorFailure", (None, Quality.BAD)),
        (7.5, "Good", (7.5, Quality.GOOD)),
    ],
)
async def test_quality_follows_the_status(site: Site, server: Turbine, value: float, status: str, expected: Any) -> None:
    driver = site.driver()
    await driver.connect()
    await server.shows("Flow", value, status)
    await until(driver, lambda shown: shown["flow_m3s"] == expected and shown["level_m"][1] is Quality.GOOD)
    await driver.close()


async def test_a_wrong_password_and_no_user_are_refused(site: Site, server: Turbine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMS_OPCUA_PASSWORD", "guess")
    driver = site.driver()
    with pytest.raises(ConnectionLost, match="BadUserAccessDenied|BadIdentityToken"):
        await driver.connect()
    monkeypatch.delenv("EMS_OPCUA_USER")
    with pytest.raises(ConnectionLost, match="BadIdentityToken"):
        await site.driver().connect()
    await driver.close()


async def test_sessions_are_closed_even_where_two_are_all(site: Site, server: Turbine) -> None:
    for _ in range(4):
        driver = site.driver()
        await driver.connect()
        await driver.close()
    holders = [site.driver(), site.driver()]
    await asyncio.gather(*(holder.connect() for holder in holders))
    late = site.driver()
    with pytest.raises(ConnectionLost, match="TooManySessions"):
        await late.connect()
    with pytest.raises(ConnectionLost, match="waiting for old ones"):
        await late.connect()  # not before the old ones must be gone
    await asyncio.gather(*(d.close() for d in (*holders, late)))


async def test_what_is_less_safe_is_refused_before_anything_is_told(site: Site, server: Turbine) -> None:
    await server.shows("Power", 120.5)
    before = len(server.users)
    with pytest.raises(ConnectionLost, match=r"as safe.*Basic256Sha256 SignAndEncrypt"):
        await site.driver(policy="Aes128_Sha256_RsaOaep").connect()
    with pytest.raises(BadInput, match="without encryption"):
        site.driver(mode="Sign")
    await server.shows("Power", 120.5)
    assert len(server.users) == before


async def test_an_impostor_with_the_servers_name_is_refused_and_hears_no_password(site: Site, both: tuple[Turbine, Turbine]) -> None:
    driver = site.driver(site.impostor_port)
    with pytest.raises(ConnectionLost, match="not trusted"):
        await driver.connect()
    await both[1].shows("Power", 1.0)  # so that what it said of users has been read
    assert both[1].users == []
    await driver.close()


async def test_a_server_that_restarts_is_found_again_and_its_zeros_are_not_believed(site: Site, server: Turbine) -> None:
    """The last test with this server: it is killed."""
    driver = site.driver()
    believed: list[float | None] = []

    def noted(shown: Shown) -> bool:
        believed.append(shown["power_kw"][0])
        return True

    await server.shows("Power", 120.5)
    await server.shows("Running", True)
    await until(driver, lambda shown: noted(shown) and shown["power_kw"][0] == 120.5 and shown["running"][0] == 1.0)
    await server.kill()
    async with site.server(site.port, site.theirs) as second:  # with zeros, and status Good
        shown = await until(driver, lambda shown: noted(shown) and shown["fault"] == (0.0, Quality.GOOD))
        assert (shown["power_kw"], shown["running"]) == ((None, Quality.BAD), (None, Quality.BAD))  # what is as before counts, what is not waits
        for _ in range(20):
            await until(driver, noted)
        await second.shows("Power", 118.0)
        await until(driver, lambda shown: noted(shown) and shown["power_kw"] == (118.0, Quality.GOOD))
    await driver.close()
    assert 0.0 not in believed
