"""Devices served from a dump: what was recorded at a site, on real Modbus or OPC UA, standing still."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError

from drivers.opcua import VARIANTS
from ems.clock import epoch_s
from ems.config.profile import Profile, registers
from ems.errors import BadInput
from simulator.dump import Dump, RecordedNode
from simulator.registers import Unit

NO_VALUE = ua.DataValue(ua.Variant(None, ua.VariantType.Null), StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadNoData)))
FIRST = {"Boolean": False, "String": ""}
"""What a node of each type is made with, before what was recorded goes in; of the others 0."""


class ModbusDumpFace:
    """One unit as it was recorded; every holding register and coil takes a write, because a dump does not tell which do.

    What a profile writes and nobody could read (a key code, a heartbeat) is there as well, and holds 0 at first.
    """

    def __init__(self, asset: str, profile: Profile, dump: Dump, beside: ModbusDumpFace | None = None) -> None:
        self.asset, self.profile = asset, profile
        self.heard_s: float | None = None
        words = dump.words()
        taking = [*profile.commands.values(), *((profile.heartbeat,) if profile.heartbeat else ())]
        extra = {place for item in taking for place in registers(item, profile.defaults)}
        for table, address in extra:
            words.setdefault(table, {}).setdefault(address, 0)
        writable = {(table, address) for table in ("holding", "coil") for address in words.get(table, {})}
        self.unit: Unit = Unit({}, set(), 0) if beside is None else beside.unit
        shown = {table: set(held) for table, held in self.unit.words.items()}  # by the asset beside it
        self.unit.extend({table: set(held) for table, held in words.items()}, writable, 0)
        for table, held in words.items():
            self.unit.words[table].update({address: word for address, word in held.items() if address not in shown[table]})

    async def begin(self, points: Mapping[str, float | None]) -> None:
        """Show what was recorded, whatever the plant does."""

    async def publish(self, points: Mapping[str, float | None]) -> None:
        """Show what was recorded, whatever the plant does."""


class OpcUaDumpFace:
    """The nodes of one server as they were recorded, in folders of the same names."""

    def __init__(self, asset: str, profile: Profile, dump: Dump, where: str) -> None:
        self.asset, self.profile = asset, profile
        self.heard_s: float | None = None
        self._nodes = [(_id(node, f"{where} nodes[{n}].node"), node) for n, node in enumerate(dump.nodes)]
        self.spaces: int = max(node.NamespaceIndex for node, _ in self._nodes)

    async def build(self, server: Server) -> None:
        """Add the nodes to a server; what another asset has brought already stays."""
        folders: dict[tuple[str, ...], Any] = {(): server.nodes.objects}
        for number, node in self._nodes:
            if number in server.iserver.aspace:
                continue
            for depth in range(1, len(node.path)):
                names = node.path[:depth]
                if names not in folders:
                    known = {child.BrowseName.Name: child.NodeId for child in await folders[names[:-1]].get_children_descriptions()}
                    folders[names] = server.get_node(known[names[-1]]) if names[-1] in known else await folders[names[:-1]].add_folder(2, names[-1])
            first = FIRST.get(node.type, 0.0 if node.type in ("Float", "Double") else 0)
            made = await folders[node.path[:-1]].add_variable(number, f"2:{node.path[-1] if node.path else node.node}", first, VARIANTS[node.type])
            if node.writable:
                await made.set_writable()
            await server.write_attribute_value(number, _held(node))

    async def begin(self, points: Mapping[str, float | None]) -> None:
        """Show what was recorded, whatever the plant does."""

    async def publish(self, points: Mapping[str, float | None]) -> None:
        """Show what was recorded, whatever the plant does."""


def _id(node: RecordedNode, where: str) -> ua.NodeId:
    try:
        return ua.NodeId.from_string(node.node)
    except (UaError, ValueError, TypeError) as error:
        raise BadInput(f"{node.node!r} is no OPC UA node", where, "as ns=2;s=Hydro.Power or ns=2;i=1001") from error


def _held(node: RecordedNode) -> ua.DataValue:
    if node.value is None:
        return NO_VALUE
    value = float(node.value) if node.type in ("Float", "Double") else node.value
    return ua.DataValue(ua.Variant(value, VARIANTS[node.type]), SourceTimestamp=ua.DateTime.fromtimestamp(epoch_s(), UTC))
