"""A device that speaks OPC UA: points by subscription or in one read, typed writes, every write read back.

What the server says is taken with its status (uncertain is suspect, bad is missing), its age and its restarts
(`drivers/opcua_sightings.py`); the session is shared with the other devices of the server (`drivers/opcua_link.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds

from drivers.codec import from_raw
from drivers.opcua_link import OpcUaLink
from drivers.opcua_security import secure, told
from drivers.opcua_sessions import CLOSE_S, CONNECT_S
from drivers.opcua_sightings import Seen, Sightings, age_s
from drivers.opcua_values import VARIANTS, confirms, node_named, node_of, raw_of, variant_of
from ems.clock import real_s
from ems.config.profile import Point, Profile
from ems.config.site import Device
from ems.errors import BadAnswer, BadInput
from ems.model import Quality, Reading
from ems.ports import WriteResult

__all__ = ["CLOSE_S", "CONNECT_S", "VARIANTS", "OpcUaDriver", "OpcUaLink", "node_of", "secure", "told", "variant_of"]


class OpcUaDriver:
    """One asset behind an OPC UA server; implements `ems.ports.Driver`.

    Parameters
    ----------
    asset : str
        Its id; `{id}` in the profile's node names stands for it.
    profile : Profile
        Points, commands and heartbeat by node.
    device : Device
        Address and security; user and password come from the environment.
    timeout_s : float
        Deadline of each call [s].
    of : Mapping[str, float]
        Ratings that percentages refer to.
    link : OpcUaLink | None
        The session that the devices of one server share; one of its own where not given.
    """

    def __init__(self, asset: str, profile: Profile, device: Device, timeout_s: float, of: Mapping[str, float], link: OpcUaLink | None = None) -> None:
        self.asset = asset
        self.profile = profile.for_asset(asset)
        self.timeout_s = timeout_s
        self.of = of
        self.link = OpcUaLink(device) if link is None else link
        self._points = {name: node_of(point) for name, point in self.profile.points.items()}
        self._commands = {name: node_of(command) for name, command in self.profile.commands.items()}
        self._back = {name: node_named(c.read_back) if isinstance(c.read_back, str) else self._commands[name] for name, c in self.profile.commands.items()}
        self._beat = None if self.profile.heartbeat is None else node_of(self.profile.heartbeat)
        self._known = Sightings(self._points.values(), [*self._commands.values(), *([self._beat] if self._beat is not None else [])])
        self.link.add(self._known)

    async def connect(self) -> None:
        """Open the shared session, unless it is open.

        Raises
        ------
        ConnectionLost
            The server is away, refuses us, or is not one that we trust.
        """
        await self.link.connect()

    async def read(self) -> Mapping[str, Reading]:
        """Return every point of the profile as it was last told or, without a subscription, as it is read now.

        Raises
        ------
        ConnectionLost
            The server is silent or away; the session is given up.
        BadAnswer
            A node does not exist or holds another type than the profile says.
        """
        await self.link.refresh(self._known, self.timeout_s)
        now_s, confirmed_s, frozen_s = real_s(), self.link.confirmed_s, self._known.frozen_since_s()
        readings = {}
        for name, node in self._points.items():
            seen = self._known.seen[node]
            age = age_s(seen, now_s, 0.0 if self.link.is_read(node) else confirmed_s, frozen_s)
            readings[name] = self._reading(self.profile.points[name], node, seen, age, now_s)
        return readings

    def _reading(self, point: Point, node: ua.NodeId, seen: Seen, age: float, now_s: float) -> Reading:
        raw = None if seen.answer is None else raw_of(seen.answer, point, self.link.url, node)
        value = None if raw is None else from_raw(raw, point, self.of)
        if value is None or not self._known.counts(node, now_s):
            return Reading(None, Quality.BAD, age)
        return Reading(value, Quality.SUSPECT if self._doubtful(seen) else Quality.GOOD, age)

    def _doubtful(self, seen: Seen) -> bool:
        """Whether a value is uncertain by its status, older than the one before it, or of a server that does not run."""
        status = None if seen.answer is None else seen.answer.StatusCode
        return (status is not None and not status.is_good()) or seen.turned_back or not self.link.running

    async def write(self, command: str, value: float) -> WriteResult:
        """Write one command once as the type of its node, and read it back; a pulse clears itself and is not read back."""
        target = self.profile.commands.get(command)
        if target is None:
            raise BadInput(
                f"{self.asset} takes no command {command}", f"profile {self.profile.profile}", " | ".join(self.profile.commands) or "no command at all"
            )
        variant, back = variant_of(value, target, self.of), self._back[command]
        async with self.link.exchange(self.timeout_s) as client:
            await self._put(self._commands[command], variant, client)
            if target.pulse_s > 0:
                return WriteResult(True)
            (answer,) = await self.link.ask(client, [back])
        raw = raw_of(answer, target, self.link.url, back)
        actual = None if raw is None else from_raw(raw, target, self.of)
        if confirms(value, actual, target, self.of):
            return WriteResult(True, actual)
        return WriteResult(False, actual, f"wrote {value:g}, read back {'nothing' if actual is None else format(actual, 'g')}")

    async def beat(self, count: int) -> None:
        """Toggle the heartbeat: the device watches for change, not for a number."""
        beat = self.profile.heartbeat
        if beat is not None and self._beat is not None:
            async with self.link.exchange(self.timeout_s) as client:
                await self._put(self._beat, variant_of(float(count % 2), beat, self.of), client)

    async def heartbeat(self) -> float | None:
        """Read the heartbeat back; None where the server shows none."""
        beat = self.profile.heartbeat
        if beat is None or self._beat is None:
            return None
        async with self.link.exchange(self.timeout_s) as client:
            (answer,) = await self.link.ask(client, [self._beat])
        raw = raw_of(answer, beat, self.link.url, self._beat)
        return None if raw is None else from_raw(raw, beat, self.of)

    async def _put(self, node: ua.NodeId, variant: ua.Variant, client: Client) -> None:
        # a bare DataValue: some PLCs refuse a write that brings its own timestamps
        (status,) = await client.uaclient.write_attributes([node], [ua.DataValue(variant)], AttributeIds.Value)
        if not status.is_good():
            raise BadAnswer(f"the write was refused ({status.name})", f"{self.link.url} {node.to_string()}", f"a writable {variant.VariantType.name}")

    async def close(self) -> None:
        """End the shared session; another device's next cycle opens it again."""
        await self.link.close()
