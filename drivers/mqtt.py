"""Meters that speak MQTT and nothing else: read only, one connection for all devices of a broker.

A broker hands over what was published; nobody can be asked. So a value is as old as its message, a broker that is
lost takes no value away but lets them age, and a message that the broker had kept (*retained*) is suspect until a
live one follows: nobody knows when it was sent. A device that publishes every 30 s says so by `every_s: 30`, and
its values begin to age after that. A payload that cannot be understood is a missing value, never an old one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiomqtt import Client

from drivers.codec import from_raw
from drivers.credentials import user_and_password
from ems.clock import real_s
from ems.config.checks import LOOPBACK
from ems.config.profile import Point, Profile
from ems.config.site import Device, Security
from ems.errors import BadInput, ConnectionLost
from ems.model import Quality, Reading
from ems.ports import WriteResult

logging.getLogger("mqtt").setLevel(logging.CRITICAL)  # what it would log, we raise
CONNECT_S = 5.0
KEEP_ALIVE_S = 10  # a broker that is silent for one and a half of these is gone
MOST_BYTES = 65_536
"""A longer payload is no meter's."""
MOST_QUEUED = 10_000
SWITCHES = {"true": 1.0, "on": 1.0, "1": 1.0, "false": 0.0, "off": 0.0, "0": 0.0}
"""What a switch says, in any case of letters."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a topic held last: payload, when it came [s, monotonic], and whether the broker had kept it."""

    payload: bytes
    at_s: float
    retained: bool


class MqttLink:
    """The connection to one broker.

    Parameters
    ----------
    device : Device
        Address and security; user and password come from the environment, and go over TLS or on this machine only.
    """

    def __init__(self, device: Device) -> None:
        self.url, self.security = device.url, device.security
        self.topics: dict[str, Message | None] = {}
        self.connected_s = 0.0
        self._at = urlsplit(device.url)
        self._tls = tls_context(device) if self._at.scheme == "mqtts" else None
        self._work: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._arrived = asyncio.Event()
        self._lost = "not connected to the broker"

    def add(self, topic: str) -> None:
        """Subscribe to one more topic; before the connection is opened."""
        self.topics[topic] = None

    async def connect(self) -> None:
        """Open the connection and subscribe, unless that is done; whoever asks meanwhile waits for the same attempt.

        Raises
        ------
        ConnectionLost
            The broker is away or refuses us.
        """
        if self._work is None or self._work.done():
            self._ready = asyncio.get_running_loop().create_future()
            self._ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
            self._work = asyncio.create_task(self._run(self._ready))
        assert self._ready is not None
        await asyncio.shield(self._ready)

    async def _run(self, ready: asyncio.Future[None]) -> None:
        """Listen until the connection is lost; the next `connect` begins anew, with a new client."""
        user = self._user()
        try:
            client = Client(
                self._at.hostname or "",
                self._at.port or 0,
                username=user[0] if user else None,
                password=user[1] if user else None,
                tls_context=self._tls,
                timeout=CONNECT_S,
                keepalive=KEEP_ALIVE_S,
                max_queued_incoming_messages=MOST_QUEUED,
            )
            async with client:
                if self.topics:
                    await client.subscribe([(topic, 1) for topic in self.topics])
                self.connected_s = real_s()
                ready.set_result(None)
                async for message in client.messages:
                    self._take(message.topic.value, message.payload, message.retain)
        except Exception as error:  # noqa: BLE001 - whatever ends the listening is a lost connection: refused, cut, or nonsense for the library's parser
            self._lost = f"no connection to the broker ({error}){self._hint()}"
            if not ready.done():
                ready.set_exception(ConnectionLost(self._lost, self.url))
        finally:
            if not ready.done():
                ready.set_exception(ConnectionLost("the connection to the broker was given up", self.url))

    def _take(self, topic: str, payload: Any, retained: bool) -> None:
        if topic in self.topics:
            sound = payload if isinstance(payload, bytes) and len(payload) <= MOST_BYTES else b""
            self.topics[topic] = Message(sound, real_s(), retained)
            self._arrived.set()

    def _user(self) -> tuple[str, str] | None:
        return user_and_password("mqtt", None if self.security is None else self.security.credentials) if self._safe() else None

    def _safe(self) -> bool:
        return self._tls is not None or self._at.hostname in LOOPBACK

    def _hint(self) -> str:
        return "" if self._safe() else "; user and password go over mqtts:// only"

    def heard(self) -> None:
        """Raise `ConnectionLost` where nobody listens any more."""
        if self._work is None or self._work.done():
            raise ConnectionLost(self._lost, self.url)

    async def arrival(self, limit_s: float) -> None:
        """Wait until a message comes, but not beyond a limit [s]."""
        self._arrived.clear()
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                await self._arrived.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Say goodbye to the broker."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            self._work = None


def tls_context(device: Device) -> ssl.SSLContext:
    """Return what checks the broker's certificate and name: against `trust` alone where it is given, else against what the machine trusts."""
    security = device.security or Security(policy="none")
    context = ssl.create_default_context()
    where = f"{device.url} security"
    if security.trust is not None:
        trust = Path(security.trust)
        files = sorted(f for f in trust.iterdir() if f.suffix.lower() in (".pem", ".crt", ".cer")) if trust.is_dir() else [trust]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            for file in files:
                context.load_verify_locations(cafile=file)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(f"{trust} cannot be trusted ({error})", f"{where}.trust", "a certificate in PEM, or a folder of them") from error
        if not files:
            raise BadInput(f"no certificate in {trust}", f"{where}.trust", "a certificate in PEM, or a folder of them")
    if security.certificate is not None:
        try:
            context.load_cert_chain(security.certificate, security.private_key)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(f"our certificate cannot be used ({error})", f"{where}.certificate", "certificate and private_key in PEM") from error
    return context


class MqttDriver:
    """One asset whose values come over MQTT; implements `ems.ports.Driver`, and takes no command.

    Parameters
    ----------
    asset : str
        Its id; `{id}` in the profile's topics stands for it.
    profile : Profile
    link : MqttLink
        Shared with the other devices of the broker.
    timeout_s : float
        How long the first reading waits for messages that the broker has kept [s].
    of : Mapping[str, float]
        Ratings that percentages refer to.
    """

    def __init__(self, asset: str, profile: Profile, link: MqttLink, timeout_s: float, of: Mapping[str, float]) -> None:
        self.asset, self.profile, self.link, self.timeout_s, self.of = asset, profile.for_asset(asset), link, timeout_s, of
        self._topics = {name: topic_of(point) for name, point in self.profile.points.items()}
        for topic in self._topics.values():
            link.add(topic)

    async def connect(self) -> None:
        """Open the shared connection, unless it is open."""
        await self.link.connect()

    async def read(self) -> Mapping[str, Reading]:
        """Return what was published last, each value as old as its message."""
        self.link.heard()
        end_s = self.link.connected_s + self.timeout_s
        while real_s() < end_s and any(self.link.topics[topic] is None for topic in self._topics.values()):
            await self.link.arrival(end_s - real_s())
        now_s = real_s()
        return {name: self._reading(name, point, now_s) for name, point in self.profile.points.items()}

    def _reading(self, name: str, point: Point, now_s: float) -> Reading:
        message = self.link.topics[self._topics[name]]
        if message is None:
            return Reading(None, Quality.BAD, now_s - self.link.connected_s)
        age_s = max(0.0, now_s - message.at_s - point.every_s)
        raw = number_in(message.payload, point)
        value = None if raw is None else from_raw(raw, point, self.of)
        if value is None:
            return Reading(None, Quality.BAD, age_s)
        return Reading(value, Quality.SUSPECT if message.retained else Quality.GOOD, age_s)

    async def write(self, command: str, value: float) -> WriteResult:
        """Refuse: what a broker takes, nobody has confirmed."""
        raise BadInput(f"{self.asset} takes no command {command}", f"profile {self.profile.profile}", "a device that is read only")

    async def beat(self, count: int) -> None:
        """Do nothing: there is nobody to tell."""

    async def heartbeat(self) -> float | None:
        """There is none to read: nothing is written over MQTT."""
        return None

    async def close(self) -> None:
        """Close the shared connection; another device's next cycle opens it again."""
        await self.link.close()


def topic_of(point: Point) -> str:
    """Return the topic, which every value of MQTT has."""
    if point.topic is None:
        raise BadInput("an MQTT value without a topic", expected="a topic without wildcards")
    return point.topic


def number_in(payload: bytes, point: Point) -> float | None:
    """Return the number that a payload carries at the point's place, None where there is none.

    Parameters
    ----------
    payload : bytes
        A number or a switch as text or, with `json`, an object.
    """
    try:
        found: Any = payload.decode("utf-8").strip()
        if point.json_path is not None:
            found = json.loads(found)
            for step in point.json_path.split("."):
                found = found[int(step)] if isinstance(found, list) else found[step]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    if point.type == "Boolean":
        return SWITCHES.get(str(found).lower()) if isinstance(found, str | bool | int) else None
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    try:
        number = float(found)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
