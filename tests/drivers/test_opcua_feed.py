"""What a server tells by itself: changes, keep-alives and silence, one session for all its devices, and never more than two."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Server, ua
from asyncua.common.utils import ServiceError

from drivers.opcua import OpcUaDriver, OpcUaLink
from drivers.opcua_feed import Feed
from ems.config.profile import Profile
from ems.config.site import Device
from ems.errors import BadAnswer, ConnectionLost
from ems.model import Quality

pytestmark = pytest.mark.asyncio(loop_scope="module")

PERIOD_S = 0.2
PROFILE = Profile.model_validate(
    {
        "profile": "turbine",
        "kind": "hydro",
        "protocol": "opcua",
        "points": {"power_kw": {"node": "ns=2;s={id}.Power", "type": "Double", "unit": "kW"}, "running": {"node": "ns=2;s={id}.Running", "type": "Boolean"}},
        "commands": {"running": {"node": "ns=2;s={id}.Run", "type": "Boolean"}},
    }
)
ASSETS = ("hydro1", "hydro2")
STARTED = ua.NodeId.from_string("i=2257")
POWER = ua.NodeId.from_string("ns=2;s=hydro1.Power")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started() -> AsyncIterator[Server]:
    made = Server()
    await made.init()
    made.set_endpoint("opc.tcp://127.0.0.1:0")
    made.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await made.register_namespace("urn:test")
    for asset in ASSETS:
        for name, value in (("Power", 120.5), ("Running", True), ("Run", False)):
            await (await made.nodes.objects.add_variable(ua.NodeId.from_string(f"ns=2;s={asset}.{name}"), name, value)).set_writable()
    async with made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def server(started: Server) -> Server:
    """The one server, as every test finds it: what the test before showed is gone."""
    await show(started, 120.5)
    return started


def port_of(server: Server) -> int:
    assert server.bserver is not None
    return int(server.bserver.port)


def link_to(port: int, **options: Any) -> OpcUaLink:
    return OpcUaLink(Device(profile="x", url=f"opc.tcp://127.0.0.1:{port}"), PERIOD_S, **options)


def driver_on(link: OpcUaLink, asset: str = "hydro1", timeout_s: float = 2.0, profile: Profile = PROFILE) -> OpcUaDriver:
    return OpcUaDriver(asset, profile, Device(profile="x", url=link.url), timeout_s, {}, link)


@pytest_asyncio.fixture(loop_scope="module")
async def driver(server: Server) -> AsyncIterator[OpcUaDriver]:
    made = driver_on(link_to(port_of(server)))
    await made.connect()
    yield made
    await made.close()


async def show(server: Server, value: Any, status: int = 0) -> None:
    await server.write_attribute_value(POWER, ua.DataValue(ua.Variant(value, ua.VariantType.Double), StatusCode=ua.StatusCode(ua.UInt32(status))))


async def forget(server: Server, feed: Feed) -> None:
    assert feed._id is not None
    await server.iserver.subscription_service.delete_subscriptions([feed._id])


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(600):
        if await holds():
            return
        await asyncio.sleep(PERIOD_S / 2)
    raise AssertionError("it never came")


async def until_power(driver: OpcUaDriver, value: float | None, quality: Quality) -> None:
    async def shown() -> bool:
        reading = (await driver.read())["power_kw"]
        return (reading.value, reading.quality) == (value, quality)

    await until(shown)


@pytest.mark.parametrize(
    ("value", "status", "expected"),
    [
        (90.0, 0, (90.0, Quality.GOOD)),
        (91.0, ua.StatusCodes.UncertainLastUsableValue, (91.0, Quality.SUSPECT)),
        (92.0, ua.StatusCodes.BadSensorFailure, (None, Quality.BAD)),
        (math.nan, 0, (None, Quality.BAD)),
        (math.inf, 0, (None, Quality.BAD)),
        (0.0, 0, (0.0, Quality.GOOD)),
    ],
    ids=["good", "uncertain", "bad", "nan", "inf", "zero"],
)
async def test_changes_come_with_their_quality(server: Server, driver: OpcUaDriver, value: float, status: int, expected: Any) -> None:
    await show(server, value, status)
    await until_power(driver, *expected)
    other = (await driver.read())["running"]
    assert (other.value, other.quality) == (1.0, Quality.GOOD)


async def test_what_does_not_change_is_confirmed_and_not_read(server: Server, driver: OpcUaDriver) -> None:
    feed = driver.link.feed
    assert feed is not None
    taken_s = driver._known.seen[POWER].at_s
    first = feed.heard_s

    async def spoken() -> bool:
        return feed.heard_s > first + 5 * PERIOD_S

    await until(spoken)
    reading = (await driver.read())["power_kw"]
    assert driver._known.seen[POWER].at_s == taken_s  # the value itself came once
    assert reading.quality is Quality.GOOD
    assert reading.age_s < feed.heard_s - taken_s


async def test_a_silent_subscription_is_made_anew_and_its_loss_costs_no_value(server: Server, driver: OpcUaDriver) -> None:
    feed = driver.link.feed
    assert feed is not None
    await forget(server, feed)  # the server forgets it, as after a fault of its own
    await show(server, 77.0)

    async def renewed() -> bool:
        await driver.read()
        return driver.link.feed not in (feed, None)

    await until(renewed)
    assert (await driver.read())["power_kw"].value == 77.0  # read before the new one spoke
    await show(server, 78.0)
    await until_power(driver, 78.0, Quality.GOOD)


async def test_one_that_falls_silent_again_and_again_is_read_instead(server: Server, driver: OpcUaDriver) -> None:
    async def polled() -> bool:
        await driver.read()
        if driver.link.feed is not None and not driver.link.feed.ended:
            await forget(server, driver.link.feed)
        return driver.link.feed is None

    await until(polled)
    await show(server, 79.0)
    assert (await driver.read())["power_kw"].value == 79.0


async def test_a_server_without_subscriptions_is_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise ServiceError(ua.StatusCodes.BadServiceUnsupported)

    monkeypatch.setattr(server.iserver.subscription_service, "create_subscription", refuse)
    driver = driver_on(link_to(port_of(server)))
    await driver.connect()
    assert driver.link.feed is None
    for value in (81.0, 82.0):
        await show(server, value)
        assert (await driver.read())["power_kw"].value == value
    await driver.close()


async def test_a_server_that_speaks_too_seldom_is_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    create = server.iserver.subscription_service.create_subscription

    async def slow(params: ua.CreateSubscriptionParameters, *args: Any, **kwargs: Any) -> Any:
        params.RequestedPublishingInterval = 5000.0
        return await create(params, *args, **kwargs)

    monkeypatch.setattr(server.iserver.subscription_service, "create_subscription", slow)
    driver = driver_on(link_to(port_of(server)))
    await driver.connect()
    assert driver.link.feed is None
    await show(server, 83.0)
    assert (await driver.read())["power_kw"].value == 83.0
    await driver.close()


async def test_zeros_of_a_server_that_restarted_are_missing_until_they_change(server: Server) -> None:
    await show(server, 120.5)
    driver = driver_on(link_to(port_of(server)))
    await driver.connect()
    await driver.close()
    await show(server, 0.0)
    await driver.connect()  # only the link was lost
    assert (await driver.read())["power_kw"].value == 0.0
    await show(server, 120.5)
    await until_power(driver, 120.5, Quality.GOOD)
    await driver.close()
    await server.write_attribute_value(STARTED, ua.DataValue(ua.Variant(datetime.now(UTC) + timedelta(hours=1), ua.VariantType.DateTime)))
    await show(server, 0.0)
    await driver.connect()
    readings = await driver.read()
    assert (readings["power_kw"].value, readings["power_kw"].quality) == (None, Quality.BAD)
    assert (readings["running"].value, readings["running"].quality) == (1.0, Quality.GOOD)  # as before
    await show(server, 118.0)
    await until_power(driver, 118.0, Quality.GOOD)
    await show(server, 0.0)
    await until_power(driver, 0.0, Quality.GOOD)
    await driver.close()


async def test_what_a_server_shows_that_does_not_run_is_suspect(server: Server) -> None:
    await show(server, 120.5)
    state = ua.NodeId.from_string("i=2259")
    await server.write_attribute_value(state, ua.DataValue(ua.Variant(int(ua.ServerState.Test), ua.VariantType.Int32)))
    driver = driver_on(link_to(port_of(server)))
    await driver.connect()
    assert (await driver.read())["power_kw"].quality is Quality.SUSPECT
    await driver.close()
    await server.write_attribute_value(state, ua.DataValue(ua.Variant(int(ua.ServerState.Running), ua.VariantType.Int32)))


async def test_a_wrong_node_spoils_its_own_device_only(server: Server) -> None:
    link = link_to(port_of(server))
    data = PROFILE.model_dump()
    data["points"]["running"]["node"] = "ns=2;s=Nowhere"
    good, wrong = driver_on(link), driver_on(link, "hydro2", profile=Profile.model_validate(data))
    await asyncio.gather(good.connect(), wrong.connect())
    with pytest.raises(BadAnswer) as caught:
        await wrong.read()
    assert "Nowhere" in caught.value.where
    assert {r.quality for r in (await good.read()).values()} == {Quality.GOOD}
    await link.close()


async def test_a_slow_answer_to_one_device_costs_the_others_nothing(server: Server) -> None:
    link = link_to(port_of(server))
    patient, hasty = driver_on(link), driver_on(link, "hydro2", timeout_s=1e-6)
    await patient.connect()
    with pytest.raises(ConnectionLost, match="no answer"):
        await hasty.write("running", 1.0)
    assert link.open
    assert (await patient.read())["running"].value == 1.0
    assert (await patient.write("running", 1.0)).ok
    await link.close()


async def test_devices_of_one_server_share_a_session(server: Server) -> None:
    before = set(server.iserver._external_sessions)
    link = link_to(port_of(server))
    drivers = [driver_on(link, asset) for asset in ASSETS]
    await asyncio.gather(*(driver.connect() for driver in drivers))
    assert len(set(server.iserver._external_sessions) - before) == 1
    assert [(await driver.read())["running"].value for driver in drivers] == [1.0, 1.0]
    await link.close()
    assert set(server.iserver._external_sessions) == before


async def test_a_server_that_may_still_keep_two_of_our_sessions_is_left_in_peace(server: Server) -> None:
    """A relay in front of the server cuts the line, so that no session can be ended."""
    lines: list[asyncio.StreamWriter] = []
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        lines.extend((writer, far_writer))
        pumps.add(asyncio.create_task(pump(far_reader, writer)))
        await pump(reader, far_writer)

    front = await asyncio.start_server(relay, "127.0.0.1", 0)
    driver = driver_on(link_to(front.sockets[0].getsockname()[1]))
    for _ in range(2):
        await driver.connect()
        assert (await driver.read())["running"].value == 1.0
        for line in lines:
            line.transport.abort()

        async def lost() -> bool:
            try:
                await driver.read()
            except ConnectionLost:
                return True
            return False

        await until(lost)
        assert not driver.link.open
    with pytest.raises(ConnectionLost, match="waiting for old ones"):
        await driver.connect()
    await driver.close()
    front.close()
    await asyncio.gather(*pumps, return_exceptions=True)
