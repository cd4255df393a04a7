"""A device that speaks OPC UA: all points in one read, typed writes, every write read back.

asyncua's own reconnection blocks requests for up to a minute and a client that lost its server may hang for
good, so each loss ends in a new `Client`, and every call has our own short deadline.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies
from asyncua.crypto.truststore import TrustStore
from asyncua.crypto.uacrypto import load_certificate
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography import x509

from drivers.codec import factor, from_raw, is_switch, to_raw
from ems.clock import real_s
from ems.config.profile import NODE_TYPES, Command, Place, Profile
from ems.config.site import Device, Security
from ems.errors import BadAnswer, BadInput, ConnectionLost
from ems.model import Quality, Reading
from ems.ports import WriteResult

SESSION_S = 30.0  # a server keeps the session of a lost client this long, and most servers allow few sessions
CONNECT_S = 5.0  # endpoints, channel, RSA and session are some ten round trips; a read is one
CLOSE_S = 1.0

VARIANTS = {name: getattr(ua.VariantType, name) for name in NODE_TYPES}
BITS = {"SByte": 8, "Byte": 8, "Int16": 16, "UInt16": 16, "Int32": 32, "UInt32": 32, "Int64": 64, "UInt64": 64}
INTEGERS = {name: (0, 2**bits - 1) if name[0] in "UB" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for name, bits in BITS.items()}
"""Lowest and highest raw value by type."""

WRONG_NODE = (StatusCodes.BadNodeIdUnknown, StatusCodes.BadNodeIdInvalid, StatusCodes.BadAttributeIdInvalid)
# asyncua tells a refused certificate by a bare AssertionError, an empty trust list by a ValueError
NO_SESSION = (OSError, TimeoutError, UaError, AssertionError, ValueError, x509.ExtensionNotFound)
TRUSTED_SERVER = CertificateValidatorOptions.TRUSTED_VALIDATION | CertificateValidatorOptions.PEER_SERVER

# asyncua logs a traceback for each call that fails; the loss is told once, by whoever catches our ConnectionLost
logging.getLogger("asyncua").setLevel(logging.CRITICAL)


class OpcUaDriver:
    """One asset behind an OPC UA server; implements `ems.ports.Driver`.

    Parameters
    ----------
    asset : str
        Its id; `{id}` in the profile's node names stands for it.
    profile : Profile
        Points, commands and heartbeat by node.
    device : Device
        Address and security; user and password come from EMS_OPCUA_USER and EMS_OPCUA_PASSWORD.
    timeout_s : float
        Deadline of each call [s].
    of : Mapping[str, float]
        Ratings that percentages refer to.
    """

    def __init__(self, asset: str, profile: Profile, device: Device, timeout_s: float, of: Mapping[str, float]) -> None:
        self.asset = asset
        self.profile = profile.for_asset(asset)
        self.device = device
        self.timeout_s = timeout_s
        self.of = of
        self._client: Client | None = None
        self._not_before_s = 0.0
        self._stamps: dict[str, datetime] = {}
        self._points = {name: node_of(point) for name, point in self.profile.points.items()}
        self._ending: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Open a session, unless one is open.

        Raises
        ------
        ConnectionLost
            The server is away, refuses us, or shows a certificate that is not trusted.
        """
        if self._client is not None:
            return
        if real_s() < self._not_before_s:
            raise ConnectionLost("the server has no session left; waiting for old ones to end", self.device.url)
        client = Client(self.device.url, timeout=CONNECT_S, watchdog_intervall=SESSION_S / 3, auto_reconnect=False)
        client.session_timeout = int(SESSION_S * 1000)
        try:
            async with asyncio.timeout(CONNECT_S):
                if self.device.security is not None and self.device.security.policy != "none":
                    await secure(client, self.device.security)
                await client.connect()
            self._client = client
        except NO_SESSION as error:
            if isinstance(error, UaStatusCodeError) and error.code == StatusCodes.BadTooManySessions:
                self._not_before_s = real_s() + SESSION_S
            raise ConnectionLost(f"no OPC UA session ({told(error)})", self.device.url) from error
        finally:
            if self._client is not client:
                self._drop(client)

    async def read(self) -> Mapping[str, Reading]:
        """Read every point of the profile in one call.

        Raises
        ------
        ConnectionLost
            The server is silent or away; the session is given up.
        BadAnswer
            A node does not exist or holds another type than the profile says.
        """
        sent_s = real_s()
        nodes = list(self._points.values())
        async with self._session() as client:
            values = await client.uaclient.read_attributes(nodes, AttributeIds.Value)
        if len(values) != len(nodes):
            raise BadAnswer(f"{len(values)} values came for a question about {len(nodes)} nodes", self.device.url)
        age_s = real_s() - sent_s
        return {name: self._reading(name, value, age_s) for name, value in zip(self._points, values, strict=True)}

    async def write(self, command: str, value: float) -> WriteResult:
        """Write one command once as the type of its node, and read it back; a pulse clears itself and is not read back."""
        target = self.profile.commands.get(command)
        if target is None:
            raise BadInput(
                f"{self.asset} takes no command {command}", f"profile {self.profile.profile}", " | ".join(self.profile.commands) or "no command at all"
            )
        variant = variant_of(value, target, self.of)
        node = node_of(target)
        back = ua.NodeId.from_string(target.read_back) if isinstance(target.read_back, str) else node
        async with self._session() as client:
            await self._put(client, node, variant)
            if target.pulse_s > 0:
                return WriteResult(True)
            (answer,) = await client.uaclient.read_attributes([back], AttributeIds.Value)
        raw = self._raw(answer, target, back)
        actual = None if raw is None else from_raw(raw, target, self.of)
        if confirms(value, actual, target, self.of):
            return WriteResult(True, actual)
        return WriteResult(False, actual, f"wrote {value:g}, read back {'nothing' if actual is None else format(actual, 'g')}")

    async def beat(self, count: int) -> None:
        """Toggle the heartbeat: the device watches for change, not for a number."""
        beat = self.profile.heartbeat
        if beat is not None:
            async with self._session() as client:
                await self._put(client, node_of(beat), variant_of(float(count % 2), beat, self.of))

    async def heartbeat(self) -> float | None:
        """Read the heartbeat back; None where the server shows none."""
        beat = self.profile.heartbeat
        if beat is None:
            return None
        async with self._session() as client:
            (answer,) = await client.uaclient.read_attributes([node_of(beat)], AttributeIds.Value)
        raw = self._raw(answer, beat, node_of(beat))
        return None if raw is None else from_raw(raw, beat, self.of)

    async def close(self) -> None:
        """End the session, so that the server need not wait for its timeout."""
        if self._client is not None:
            self._drop(self._client)
        await asyncio.gather(*self._ending)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Client]:
        """Give the open client for one exchange within `timeout_s`; any fault of the transport ends it."""
        client = self._client
        if client is None:
            raise ConnectionLost("not connected", self.device.url)
        try:
            async with asyncio.timeout(self.timeout_s):
                yield client
        except TimeoutError as error:
            self._drop(client)
            raise ConnectionLost(f"no answer within {self.timeout_s:g} s", self.device.url) from error
        except (OSError, UaError) as error:
            self._drop(client)
            raise ConnectionLost(f"the session is gone ({told(error)})", self.device.url) from error
        except asyncio.CancelledError:
            self._drop(client)
            raise

    def _drop(self, client: Client) -> None:
        """Let go of a client at once and end its session beside us, so that a dead server delays nobody."""
        self._client = None
        task = asyncio.create_task(_end(client))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _put(self, client: Client, node: ua.NodeId, variant: ua.Variant) -> None:
        # a bare DataValue: some PLCs refuse a write that brings its own timestamps
        (status,) = await client.uaclient.write_attributes([node], [ua.DataValue(variant)], AttributeIds.Value)
        if not status.is_good():
            raise BadAnswer(f"the write was refused ({status.name})", f"{self.device.url} {node.to_string()}", f"a writable {variant.VariantType.name}")

    def _raw(self, answer: ua.DataValue, place: Place, node: ua.NodeId) -> float | None:
        """Return the number that a node holds, None where it has none now; another type than the profile's is a wrong mapping."""
        where = f"{self.device.url} {node.to_string()}"
        status = answer.StatusCode
        if status is not None and status.value in WRONG_NODE:
            raise BadAnswer(f"no such node ({status.name})", where)
        if answer.Value is None or answer.Value.Value is None or (status is not None and status.is_bad()):
            return None
        if answer.Value.VariantType is not VARIANTS[place.type] or answer.Value.is_array:
            raise BadAnswer(f"the node holds {answer.Value.VariantType.name}{' array' if answer.Value.is_array else ''}", where, place.type)
        return None if place.type == "String" else float(answer.Value.Value)

    def _reading(self, name: str, answer: ua.DataValue, age_s: float) -> Reading:
        point = self.profile.points[name]
        raw = self._raw(answer, point, self._points[name])
        value = None if raw is None else from_raw(raw, point, self.of)
        if value is None:
            return Reading(None, Quality.BAD, age_s)
        uncertain = answer.StatusCode is not None and not answer.StatusCode.is_good()
        stamp, before = answer.SourceTimestamp, self._stamps.get(name)
        if stamp is not None:
            self._stamps[name] = stamp
        # a value older than the one before it comes from a restarted server or a buffer, not from the plant
        turned_back = stamp is not None and before is not None and stamp < before
        return Reading(value, Quality.SUSPECT if uncertain or turned_back else Quality.GOOD, age_s)


def node_of(place: Place) -> ua.NodeId:
    """Return the node that a profile names."""
    try:
        return ua.NodeId.from_string(place.node or "")
    except (UaError, ValueError, TypeError) as error:
        raise BadInput(f"{place.node!r} is no OPC UA node", expected="as ns=2;s=Hydro.Power or ns=2;i=1001") from error


def variant_of(value: float, place: Place, of: Mapping[str, float]) -> ua.Variant:
    """Return what to write into a node of the profile's type.

    Raises
    ------
    BadInput
        The value is not finite, outside the command's range, or does not fit the type.
    """
    raw = to_raw(value, place, of)
    if place.type == "Boolean":
        return ua.Variant(raw >= 0.5, VARIANTS[place.type])
    if place.type in INTEGERS:
        raw = round(raw)
        low, high = INTEGERS[place.type]
        if not low <= raw <= high:
            raise BadInput(f"{value:g} does not fit {place.type}", str(place.node), f"a raw value from {low} to {high}")
    return ua.Variant(raw, VARIANTS[place.type])


def confirms(wanted: float, actual: float | None, target: Command, of: Mapping[str, float]) -> bool:
    """Whether a read-back value confirms what was written; one raw step of a whole number is always allowed."""
    if actual is None:
        return False
    step = abs(target.scale * factor(target, of)) if target.type in INTEGERS and not is_switch(target) else 0.0
    return abs(actual - wanted) <= max(target.tolerance * abs(wanted), step) * (1 + 1e-6) + 1e-9


async def secure(client: Client, security: Security) -> None:
    """Set encryption and the list of servers that we trust; without such a list asyncua would trust any.

    User and password go over a secured channel only.
    """
    if security.certificate is None or security.private_key is None or security.trust is None:
        raise ValueError("certificate, private_key and trust are all needed")
    certificate = await load_certificate(Path(security.certificate))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
    client.application_uri = names[0] if names else client.application_uri  # servers refuse a client whose uri is not that of its certificate
    trusted = TrustStore([Path(security.trust)], [])
    await trusted.load()
    client.certificate_validator = CertificateValidator(TRUSTED_SERVER, trusted)
    await client.set_security(
        getattr(security_policies, f"SecurityPolicy{security.policy}"),
        certificate=Path(security.certificate),
        private_key=Path(security.private_key),
        mode=getattr(ua.MessageSecurityMode, "None_" if security.mode == "None" else security.mode),
    )
    user = os.environ.get("EMS_OPCUA_USER")
    if user:
        client.set_user(user)
        client.set_password(os.environ.get("EMS_OPCUA_PASSWORD", ""))


def told(error: BaseException) -> str:
    """Return an error's own words, or its name where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


async def _end(client: Client) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await client.disconnect()
    except (OSError, TimeoutError, UaError):
        return  # gone already: the server ends the session after SESSION_S
    finally:
        client.disconnect_socket()
