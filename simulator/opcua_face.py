"""Simulated devices that speak OPC UA: one asyncua server for each address, one folder of nodes for each asset."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, Protocol

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from drivers.codec import from_raw
from drivers.opcua import VARIANTS, node_of, variant_of
from ems.clock import epoch_s, real_s
from ems.config.profile import Command, Place, Profile
from ems.errors import BadInput, Failed
from simulator.faces import Taken, coded, in_force

NO_VALUE = ua.DataValue(ua.Variant(None, ua.VariantType.Null), StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadNoData)))
NOTHING = {"Boolean": False, "String": ""}
"""What a node of each type holds before its first value; of the others 0."""

# asyncua tells of missing certificates and of every refused write; here both are meant
logging.getLogger("asyncua").setLevel(logging.CRITICAL)


class NodeFace(Protocol):
    """What puts nodes on a server, with the highest namespace that it needs."""

    spaces: int

    async def build(self, server: Server) -> None:
        """Add its nodes."""


class OpcUaFace:
    """An asset as nodes of a server: a point without a value is Bad, a command is taken as it is written."""

    def __init__(self, asset: str, profile: Profile, of: Mapping[str, float], taken: Taken) -> None:
        self.asset, self.profile, self.of, self.taken = asset, profile, of, taken
        self.heard_s: float | None = None
        self._shown: dict[str, float | None] = {}
        self._server: Server | None = None
        self._taking = {c.node for c in profile.commands.values()}
        self.spaces: int = max(node_of(p).NamespaceIndex for p in (*profile.points.values(), *profile.commands.values()))

    async def build(self, server: Server) -> None:
        """Add the nodes of this asset to a server."""
        self._server = server
        folder = await server.nodes.objects.add_folder(2, self.asset)
        for name, point in self.profile.points.items():
            await self._add(folder, name, point)
        for name, command in self.profile.commands.items():
            node = await self._add(folder, f"command {name}", command)
            await node.set_writable()
            server.set_attribute_value_setter(node.nodeid, self._setter(name, command))
        beat = self.profile.heartbeat
        if beat is not None:
            node = await self._add(folder, "heartbeat", beat)
            await node.set_writable()
            server.set_attribute_value_setter(node.nodeid, self._beats)

    async def _add(self, folder: Any, name: str, place: Place) -> Any:
        """Add the node of a point or command, or return it where the two are one node."""
        if self._server is not None and node_of(place) in self._server.iserver.aspace:
            return self._server.get_node(node_of(place))
        nothing = NOTHING.get(place.type, 0.0 if place.type in ("Float", "Double") else 0)
        return await folder.add_variable(node_of(place), f"2:{name}", nothing, VARIANTS[place.type])

    async def begin(self, points: Mapping[str, float | None]) -> None:
        """Fill points and commands."""
        for name, command in self.profile.commands.items():
            value = in_force(name, points, self.of)
            if value is not None and command.pulse_s == 0:
                await self._put(command, value)
        await self.publish(points)

    async def publish(self, points: Mapping[str, float | None]) -> None:
        """Write every point that has changed."""
        for name, place in self.profile.points.items():
            value = points.get(name)
            if name not in self._shown or value != self._shown[name]:
                self._shown[name] = value
                await self._put(place, coded(name, value, place))

    async def _put(self, place: Place, value: float | None) -> None:
        """Write a node from inside the device."""
        if self._server is None:
            raise Failed("the nodes are not built yet", self.asset)
        answer = NO_VALUE
        if value is not None:
            try:
                answer = ua.DataValue(variant_of(value, place, self.of), SourceTimestamp=ua.DateTime.fromtimestamp(epoch_s(), UTC))
            except BadInput:  # beyond what its type can show: a device shows nothing either
                answer = NO_VALUE
        if place.node in self._taking:  # past the setter, which listens to clients
            self._server.iserver.aspace[node_of(place)].attributes[AttributeIds.Value].value = answer
        else:
            await self._server.write_attribute_value(node_of(place), answer)

    def _setter(self, name: str, command: Command) -> Any:
        def set_value(node: Any, attribute: AttributeIds, answer: ua.DataValue) -> None:
            node.attributes[attribute].value = answer
            if self.profile.heartbeat is None:
                self.heard_s = real_s()
            raw = None if answer.Value is None or answer.Value.Value is None else float(answer.Value.Value)
            value = None if raw is None else from_raw(raw, command, self.of)
            if command.pulse_s > 0:
                off = ua.DataValue(ua.Variant(NOTHING.get(command.type, 0), VARIANTS[command.type]))
                asyncio.get_running_loop().call_later(command.pulse_s, setattr, node.attributes[attribute], "value", off)
            if value is not None:
                self.taken(name, value)

        return set_value

    def _beats(self, node: Any, attribute: AttributeIds, answer: ua.DataValue) -> None:
        before = node.attributes[attribute].value
        node.attributes[attribute].value = answer
        if answer.Value != before.Value:
            self.heard_s = real_s()


async def serve(faces: Sequence[NodeFace], host: str) -> tuple[Server, int]:
    """Listen on a free port with the nodes of these assets, anonymous and plain: for this machine and for test networks."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://{host}:0")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    for n in range(2, max(2, *(face.spaces for face in faces)) + 1):
        await server.register_namespace(f"urn:ems:simulated:{n}")
    for face in faces:
        await face.build(server)
    try:
        await server.start()
    except OSError as error:
        raise Failed(f"cannot listen for OPC UA ({error.strerror})", host, "an address of this machine") from error
    if server.bserver is None:
        raise Failed("the OPC UA server did not start", host)
    return server, server.bserver.port
