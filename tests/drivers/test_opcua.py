"""The OPC UA driver against an OPC UA server with known nodes, every point read each time: quality, types, read-back, loss, sessions."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Server, ua
from asyncua.common.utils import ServiceError

from drivers.opcua import CLOSE_S, OpcUaDriver, OpcUaLink, variant_of
from ems.config.profile import Command, Profile
from ems.config.site import Device
from ems.errors import BadAnswer, BadInput, ConnectionLost
from ems.model import Quality
from ems.ports import WriteResult

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROFILE = Profile.model_validate(
    {
        "profile": "turbine",
        "kind": "hydro",
        "protocol": "opcua",
        "points": {
            "power_kw": {"node": "ns=2;s={id}.Power", "type": "Double", "unit": "W"},
            "running": {"node": "ns=2;s={id}.Running", "type": "Boolean"},
            "level_m": {"node": "ns=2;s={id}.Level", "type": "Float", "unit": "m"},
            "fault": {"node": "ns=2;s={id}.Fault", "type": "Int16", "none": 0},
            "gate": {"node": "ns=2;i=7", "type": "UInt16", "unit": "pct"},
        },
        "commands": {
            "power_kw": {"node": "ns=2;s={id}.Set", "type": "Double", "unit": "W", "min": 0, "max": 250},
            "running": {"node": "ns=2;s={id}.Run", "type": "Boolean"},
        },
        "heartbeat": {"node": "ns=2;s={id}.Beat", "type": "UInt16"},
    }
)
NODES = {  # name: what the server holds at first
    "hydro1.Power": (120_500.0, ua.VariantType.Double),
    "hydro1.Running": (True, ua.VariantType.Boolean),
    "hydro1.Level": (1.5, ua.VariantType.Float),
    "hydro1.Fault": (0, ua.VariantType.Int16),
    "hydro1.Set": (0.0, ua.VariantType.Double),
    "hydro1.Run": (False, ua.VariantType.Boolean),
    "hydro1.Beat": (0, ua.VariantType.UInt16),
}


async def made_server(server: Server) -> Server:
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.register_namespace("urn:test")
    for name, (value, kind) in NODES.items():
        await (await server.nodes.objects.add_variable(ua.NodeId(name, 2), name, value, kind)).set_writable()
    await server.nodes.objects.add_variable(ua.NodeId(7, 2), "gate", 40, ua.VariantType.UInt16)
    return server


def url_of(server: Server) -> str:
    assert server.bserver is not None
    return f"opc.tcp://127.0.0.1:{server.bserver.port}"


def driver_for(url: str, profile: Profile = PROFILE, timeout_s: float = 2.0, **device: Any) -> OpcUaDriver:
    at = Device.model_validate({"profile": "x", "url": url, **device})
    return OpcUaDriver("hydro1", profile, at, timeout_s, {"rated_kw": 250.0}, OpcUaLink(at, subscribe=False))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started() -> AsyncIterator[Server]:
    made = await made_server(Server())
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def server(started: Server) -> Server:
    """The one server, as every test finds it: what the test before left in its nodes is gone."""
    for name, (value, kind) in NODES.items():
        await started.write_attribute_value(ua.NodeId(name, 2), ua.DataValue(ua.Variant(value, kind)))
    return started


@pytest_asyncio.fixture(loop_scope="module")
async def driver(server: Server) -> AsyncIterator[OpcUaDriver]:
    made = driver_for(url_of(server))
    await made.connect()
    yield made
    await made.close()


async def test_reads_every_point_in_house_units(driver: OpcUaDriver) -> None:
    readings = await driver.read()
    assert {n: r.value for n, r in readings.items()} == {"power_kw": 120.5, "running": 1.0, "level_m": 1.5, "fault": 0.0, "gate": 0.4}
    assert all(r.quality is Quality.GOOD and 0 <= r.age_s < 2 for r in readings.values())


@pytest.mark.parametrize(
    ("answer", "value", "quality"),
    [
        (ua.DataValue(ua.Variant(7000.0, ua.VariantType.Double)), 7.0, Quality.GOOD),
        (ua.DataValue(ua.Variant(7000.0, ua.VariantType.Double), StatusCode=ua.StatusCode(ua.StatusCodes.UncertainLastUsableValue)), 7.0, Quality.SUSPECT),
        (ua.DataValue(ua.Variant(7000.0, ua.VariantType.Double), StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure)), None, Quality.BAD),
        (ua.DataValue(ua.Variant(math.nan, ua.VariantType.Double)), None, Quality.BAD),
        (ua.DataValue(ua.Variant(-math.inf, ua.VariantType.Double)), None, Quality.BAD),
        (ua.DataValue(), None, Quality.BAD),
    ],
    ids=["good", "uncertain", "bad", "nan", "inf", "empty"],
)
async def test_quality_follows_the_status(server: Server, driver: OpcUaDriver, answer: ua.DataValue, value: float | None, quality: Quality) -> None:
    server.iserver.aspace[ua.NodeId("hydro1.Power", 2)].attributes[ua.AttributeIds.Value].value = answer
    reading = (await driver.read())["power_kw"]
    assert (reading.value, reading.quality) == (value, quality)
    assert (await driver.read())["level_m"].quality is Quality.GOOD


async def test_a_value_older_than_the_one_before_is_suspect(server: Server, driver: OpcUaDriver) -> None:
    seen = []
    for seconds in (0, 10, 5, 11):
        stamp = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        await server.write_attribute_value(ua.NodeId("hydro1.Power", 2), ua.DataValue(ua.Variant(1.0, ua.VariantType.Double), SourceTimestamp=stamp))
        seen.append((await driver.read())["power_kw"].quality)
    assert seen == [Quality.GOOD, Quality.GOOD, Quality.SUSPECT, Quality.GOOD]


async def test_a_write_is_typed_and_read_back(server: Server, driver: OpcUaDriver) -> None:
    assert await driver.write("power_kw", 90.25) == WriteResult(True, 90.25)
    held = server.read_attribute_value(ua.NodeId("hydro1.Set", 2)).Value
    assert (held.Value, held.VariantType) == (90_250.0, ua.VariantType.Double)
    assert await driver.write("running", 1.0) == WriteResult(True, 1.0)
    assert server.read_attribute_value(ua.NodeId("hydro1.Run", 2)).Value.Value is True


async def test_a_device_that_bounds_the_value_is_told(server: Server, driver: OpcUaDriver) -> None:
    def bounded(node: Any, attribute: Any, answer: ua.DataValue) -> None:
        node.attributes[attribute].value = ua.DataValue(ua.Variant(min(answer.Value.Value, 50_000.0), ua.VariantType.Double))

    server.set_attribute_value_setter(ua.NodeId("hydro1.Set", 2), bounded)
    try:
        result = await driver.write("power_kw", 90.0)
    finally:
        server.iserver.aspace[ua.NodeId("hydro1.Set", 2)].attributes[ua.AttributeIds.Value].value_setter = None
    assert (result.ok, result.read_back) == (False, 50.0)
    assert "90" in result.cause and "50" in result.cause


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 251.0])
async def test_what_a_command_may_not_be_is_never_sent(server: Server, driver: OpcUaDriver, value: float) -> None:
    with pytest.raises(BadInput):
        await driver.write("power_kw", value)
    assert server.read_attribute_value(ua.NodeId("hydro1.Set", 2)).Value.Value == 0.0


async def test_an_unknown_command_is_refused(driver: OpcUaDriver) -> None:
    with pytest.raises(BadInput, match="forming"):
        await driver.write("forming", 1.0)


async def test_the_heartbeat_toggles(server: Server, driver: OpcUaDriver) -> None:
    seen = []
    for count in (7, 8, 9):
        await driver.beat(count)
        seen.append(server.read_attribute_value(ua.NodeId("hydro1.Beat", 2)).Value.Value)
    assert seen == [1, 0, 1]


def changed(part: str, name: str, **fields: Any) -> Profile:
    data = PROFILE.model_dump()
    data[part][name] |= fields
    return Profile.model_validate(data)


@pytest.mark.parametrize(
    ("profile", "named"),
    [(changed("points", "level_m", node="ns=2;s=hydro1.Nowhere"), "hydro1.Nowhere"), (changed("points", "level_m", type="Double"), "hydro1.Level")],
    ids=["no such node", "another type"],
)
async def test_a_wrong_mapping_names_the_node(server: Server, profile: Profile, named: str) -> None:
    driver = driver_for(url_of(server), profile)
    await driver.connect()
    with pytest.raises(BadAnswer) as caught:
        await driver.read()
    assert named in caught.value.where
    await driver.close()


@pytest.mark.parametrize(
    ("profile", "named"),
    [(changed("commands", "power_kw", type="Float"), "hydro1.Set"), (changed("commands", "power_kw", node="ns=2;i=7", type="UInt16"), "i=7")],
    ids=["another type", "not writable"],
)
async def test_a_refused_write_names_the_node_and_keeps_the_session(server: Server, profile: Profile, named: str) -> None:
    driver = driver_for(url_of(server), profile)
    await driver.connect()
    with pytest.raises(BadAnswer) as caught:
        await driver.write("power_kw", 40.0)
    assert named in caught.value.where
    assert (await driver.read())["power_kw"].value is not None
    await driver.close()


@pytest.mark.parametrize(
    ("value", "place", "raw"),
    [
        (0.5, {"type": "Int16", "unit": "pct", "scale": 0.1}, 500),
        (-1.0, {"type": "Int32", "unit": "kW", "scale": -0.1}, 10),
        (1.0, {"type": "UInt16", "on": 2, "off": 1}, 2),
        (0.0, {"type": "UInt16", "on": 2, "off": 1}, 1),
        (0.5, {"type": "UInt16", "unit": "pct", "of": "rated_kw"}, 0),
        (125.0, {"type": "UInt16", "unit": "pct", "of": "rated_kw"}, 50),
        (1.0, {"type": "Boolean"}, True),
    ],
)
async def test_house_values_become_raw_ones(value: float, place: dict[str, Any], raw: float) -> None:
    variant = variant_of(value, Command.model_validate({"node": "ns=2;i=1", **place}), {"rated_kw": 250.0})
    assert (variant.Value, variant.VariantType.name) == (raw, place["type"])


@pytest.mark.parametrize(("value", "kind"), [(40.0, "Int16"), (-1.0, "UInt16"), (0.3, "Byte")])
async def test_what_does_not_fit_the_type_is_refused(value: float, kind: str) -> None:
    with pytest.raises(BadInput, match=kind):
        variant_of(value, Command.model_validate({"node": "ns=2;i=1", "type": kind, "unit": "W"}), {})


async def test_a_server_that_is_away_is_a_lost_connection() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        driver = driver_for(f"opc.tcp://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConnectionLost):
            await driver.connect()
        with pytest.raises(ConnectionLost):
            await driver.read()
        await driver.close()


@pytest.mark.parametrize(
    "answer", [b"\x00" * 64, b"ACKF\x08\x00\x00\x00" * 4, b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["zeros", "cut off", "a web server", "nothing"]
)
async def test_a_server_that_answers_nonsense_is_a_lost_connection(answer: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    driver = driver_for(f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(ConnectionLost, match="no OPC UA session"):
        await driver.connect()
    await driver.close()
    server.close()


async def test_a_server_that_goes_silent_is_given_up_in_time(server: Server) -> None:
    """A relay in front of the server stops passing anything on, as a dead radio link does."""
    silent = asyncio.Event()
    tasks = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not silent.is_set():
                writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(url_of(server).rpartition(":")[2]))
        tasks.add(asyncio.create_task(pump(reader, far_writer)))
        await pump(far_reader, writer)

    front = await asyncio.start_server(relay, "127.0.0.1", 0)
    driver = driver_for(f"opc.tcp://127.0.0.1:{front.sockets[0].getsockname()[1]}", timeout_s=0.3)
    await driver.connect()
    assert (await driver.read())["gate"].value == 0.4
    silent.set()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ConnectionLost, match=r"0\.3 s"):
        await driver.read()
    assert loop.time() - began < 0.3 + CLOSE_S / 2  # closing the dead session does not count
    with pytest.raises(ConnectionLost, match="not connected"):
        await driver.read()
    silent.clear()
    await driver.connect()  # a new client, a new session
    assert (await driver.read())["gate"].value == 0.4
    await driver.close()
    front.close()
    await asyncio.gather(*tasks)


async def test_sessions_end_with_the_driver(server: Server) -> None:
    before = set(server.iserver._external_sessions)
    driver = driver_for(url_of(server))
    await driver.connect()
    await driver.connect()
    own = set(server.iserver._external_sessions) - before
    assert len(own) == 1
    await driver.close()
    assert not own & set(server.iserver._external_sessions)


async def test_a_full_server_is_left_in_peace(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(*_: Any, **__: Any) -> Any:
        asked.append(1)
        raise ServiceError(ua.StatusCodes.BadTooManySessions)

    monkeypatch.setattr(server.iserver, "create_session", refuse)  # the server's own limit is for a whole process
    driver = driver_for(url_of(server))
    with pytest.raises(ConnectionLost, match="TooManySessions"):
        await driver.connect()
    with pytest.raises(ConnectionLost, match="waiting"):
        await driver.connect()
    assert len(asked) == 1
    await driver.close()
