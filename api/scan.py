"""What is at an address: the chain of SunSpec models of a Modbus unit, or the tree of an OPC UA server. It only reads."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError

from drivers.modbus import BEHIND_GATEWAY, ModbusLink, Refused
from drivers.opcua import CLOSE_S, CONNECT_S, secure, told
from drivers.sunspec_map import BASES, MARKER
from ems.config.profile import NODE_TYPES
from ems.config.site import Security
from ems.errors import BadAnswer, BadInput, ConnectionLost, Failed

COMMON, END = 1, 0xFFFF
MOST_MODELS = 100
TEXTS = {"maker": (0, 16), "model": (16, 16), "version": (40, 8), "serial": (48, 16)}
"""Where the common model keeps its texts: first word after the length, and how many."""
MODEL_NAMES = {
    1: "common", 11: "Ethernet link", 12: "IPv4", 13: "IPv6", 101: "inverter, one phase", 102: "inverter, split phase", 103: "inverter, three phases",
    111: "inverter, one phase, float", 112: "inverter, split phase, float", 113: "inverter, three phases, float", 120: "nameplate", 121: "basic settings",
    122: "measurements and status", 123: "immediate controls", 124: "storage controls", 126: "static volt-var", 127: "frequency-watt parameters",
    128: "dynamic reactive current", 131: "watt-power factor", 132: "volt-watt", 160: "several MPP trackers", 201: "meter, one phase",
    202: "meter, split phase", 203: "meter, three phases, wye", 204: "meter, three phases, delta", 211: "meter, one phase, float",
    212: "meter, split phase, float", 213: "meter, three phases, wye, float", 214: "meter, three phases, delta, float", 302: "irradiance",
    303: "module temperature", 307: "weather", 403: "string combiner", 501: "solar module", 502: "solar module, float", 701: "DER measurements",
    702: "DER capacity", 703: "DER enter service", 704: "DER controls", 705: "DER volt-var", 706: "DER volt-watt", 707: "DER low voltage trip",
    708: "DER high voltage trip", 709: "DER low frequency trip", 710: "DER high frequency trip", 711: "DER frequency droop", 712: "DER watt-var",
    713: "DER storage capacity", 714: "DER DC measurements", 801: "battery (old)", 802: "battery", 803: "lithium-ion bank", 804: "lithium-ion string",
    805: "lithium-ion module",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model of a chain: where its id stands, and how many words follow its length."""

    id: int
    length: int
    address: int

    @property
    def name(self) -> str:
        """What the standard calls it, in short."""
        return MODEL_NAMES.get(self.id, "vendor's own" if self.id >= 64000 else "unknown")


@dataclass(frozen=True, slots=True)
class SunSpecMap:
    """A unit's whole map; the texts are those of its common model."""

    base: int
    models: tuple[FoundModel, ...]
    texts: dict[str, str]


async def scan_sunspec(link: ModbusLink, unit: int, timeout_s: float) -> SunSpecMap:
    """Find the map of a unit and walk its chain.

    Raises
    ------
    ConnectionLost
        Nobody answers.
    Failed
        The unit answers, but shows no SunSpec map.
    """
    silent: ConnectionLost | None = None
    for base in BASES:
        try:
            words = await _words(link, unit, timeout_s, base, len(MARKER))
        except Refused:
            continue
        except ConnectionLost as lost:
            silent = lost  # some devices keep silent about registers that they do not have
            continue
        if words == MARKER:
            return await _chain(link, unit, timeout_s, base)
    if silent is not None:
        raise silent
    bases = ", ".join(map(str, BASES))
    hint = "a SunSpec device; others need a profile from the maker's list, and --registers to record them"
    raise Failed(f"unit {unit} answers, but shows no SunSpec map at {bases}", str(link), hint)


async def _chain(link: ModbusLink, unit: int, timeout_s: float, base: int) -> SunSpecMap:
    models: list[FoundModel] = []
    texts: dict[str, str] = {}
    address = base + len(MARKER)
    while address < 0xFFFF and len(models) < MOST_MODELS:
        number, length = await _words(link, unit, timeout_s, address, 2)
        if number == END:
            return SunSpecMap(base, tuple(models), texts)
        models.append(FoundModel(number, length, address))
        if number == COMMON and not texts and length >= 64:
            words = await _words(link, unit, timeout_s, address + 2, 64)
            texts = {name: text_of(words[first : first + count]) for name, (first, count) in TEXTS.items()}
        if length == 0:
            break
        address += 2 + length
    raise BadAnswer("the chain of models does not end", f"{link} unit {unit} holding {address}", "the end model 65535")


async def _words(link: ModbusLink, unit: int, timeout_s: float, address: int, count: int) -> list[int]:
    try:
        async with link.turn(unit, timeout_s):
            return await link.read(unit, "holding", address, count)
    except Refused as refusal:
        if refusal.code in BEHIND_GATEWAY:
            raise ConnectionLost(refusal.error, refusal.where) from refusal
        raise


def text_of(words: Sequence[int]) -> str:
    """Return the text in registers, two characters to each."""
    data = b"".join(word.to_bytes(2, "big") for word in words)
    return data.split(b"\0")[0].decode("utf-8", "replace").strip()


# ------------------------------------------------------------------ OPC UA
OBJECTS = ua.NodeId.from_string("i=85")
SERVER = ua.NodeId.from_string("i=2253")
"""The server's own description, which is no plant."""
PROPERTY = ua.NodeId.from_string("i=68")
DEPTH, MOST_NODES = 6, 1000
BATCH = 100
WRITABLE = 2
UNIT_PROPERTY = "EngineeringUnits"


@dataclass(frozen=True, slots=True)
class FoundNode:
    """One variable: its node id, the names on the way to it, and what it holds."""

    node: str
    path: tuple[str, ...]
    type: str
    value: float | bool | str | None
    writable: bool
    unit: str | None = None


@dataclass(slots=True)
class _Tree:
    """What has been browsed so far."""

    variables: list[tuple[ua.NodeId, tuple[str, ...]]] = field(default_factory=list)
    units: dict[tuple[str, ...], ua.NodeId] = field(default_factory=dict)
    cut: bool = False


async def scan_opcua(url: str, under: str | None, security: Security | None, timeout_s: float) -> tuple[list[FoundNode], bool]:
    """Return the variables below a folder, and whether the tree was cut off at its limits.

    Parameters
    ----------
    under : str | None
        A node id, or the names on the way from Objects, as `Plant/hydro1`; None: all.
    timeout_s : float
        Of each request [s].
    """
    client = Client(url, timeout=timeout_s, auto_reconnect=False)
    try:
        async with asyncio.timeout(max(CONNECT_S, timeout_s)):
            if security is not None:
                await secure(client, security)
            await client.connect()
    except (OSError, TimeoutError, UaError, AssertionError) as error:
        await _end(client)
        raise ConnectionLost(f"no OPC UA session ({told(error)})", url) from error
    try:
        start, path = await _start(client, under)
        tree = await _browse(client, start, path)
        return await _read(client, tree), tree.cut
    except (OSError, TimeoutError, UaError) as error:
        raise ConnectionLost(f"the session is gone ({told(error)})", url) from error
    finally:
        await _end(client)


async def _end(client: Client) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await client.disconnect()
    except (OSError, TimeoutError, UaError):
        return
    finally:
        client.disconnect_socket()


async def _start(client: Client, under: str | None) -> tuple[ua.NodeId, tuple[str, ...]]:
    if under is None:
        return OBJECTS, ()
    if "=" in under:
        try:
            return ua.NodeId.from_string(under), ()
        except (UaError, ValueError, TypeError) as error:
            raise BadInput(f"{under!r} is no OPC UA node", "--under", "a node id as ns=2;s=Hydro, or names as Plant/hydro1") from error
    here, names = OBJECTS, tuple(under.strip("/").split("/"))
    for name in names:
        found = {child.BrowseName.Name: child.NodeId for child in await _children(client, here)}
        if name not in found:
            raise BadInput(f"there is no {name!r}", "--under", " | ".join(found))
        here = found[name]
    return here, names


async def _children(client: Client, node: ua.NodeId) -> list[Any]:
    return list(await client.get_node(node).get_children_descriptions())


async def _browse(client: Client, start: ua.NodeId, path: tuple[str, ...]) -> _Tree:
    """Walk the tree breadth first; a node that is reached twice is taken once."""
    tree, seen = _Tree(), {start, SERVER}
    level = [(start, path, False)]
    for _ in range(DEPTH):
        below = []
        for node, names, of_variable in level:
            for child in await _children(client, node):
                name, variable = child.BrowseName.Name, child.NodeClass == ua.NodeClass.Variable
                if child.NodeId in seen or not (variable or child.NodeClass == ua.NodeClass.Object):
                    continue
                seen.add(child.NodeId)
                if of_variable and name == UNIT_PROPERTY:
                    tree.units[names] = child.NodeId
                elif not (of_variable and child.TypeDefinition == PROPERTY):  # what describes a variable is no value of the plant
                    if variable and child.NodeId.NamespaceIndex != 0:  # namespace 0 is the standard's own
                        tree.variables.append((child.NodeId, (*names, name)))
                    below.append((child.NodeId, (*names, name), variable))
                if len(seen) > MOST_NODES:
                    tree.cut = True
                    return tree
        level = below
    tree.cut = bool(level)
    return tree


async def _read(client: Client, tree: _Tree) -> list[FoundNode]:
    units = await _attributes(client, list(tree.units.values()), AttributeIds.Value)
    named = {path: _unit_text(answer) for path, answer in zip(tree.units, units, strict=True)}
    nodes = [node for node, _ in tree.variables]
    values = await _attributes(client, nodes, AttributeIds.Value)
    access = await _attributes(client, nodes, AttributeIds.UserAccessLevel)
    found = []
    for (node, path), answer, level in zip(tree.variables, values, access, strict=True):
        kind, value = shown(answer)
        may_write = level.Value is not None and isinstance(level.Value.Value, int) and bool(level.Value.Value & WRITABLE)
        found.append(FoundNode(node.to_string(), path, kind, value, may_write, named.get(path)))
    return found


async def _attributes(client: Client, nodes: Sequence[ua.NodeId], attribute: AttributeIds) -> list[ua.DataValue]:
    found: list[ua.DataValue] = []
    for first in range(0, len(nodes), BATCH):
        found += await client.uaclient.read_attributes(list(nodes[first : first + BATCH]), attribute)
    return found


def shown(answer: ua.DataValue) -> tuple[str, float | bool | str | None]:
    """Return the type and the value of a node as they are shown; only numbers, switches and texts have a value."""
    variant = answer.Value
    if variant is None or variant.VariantType is None or variant.VariantType == ua.VariantType.Null:
        return "no value", None
    kind = variant.VariantType.name
    if variant.is_array:
        return f"{kind} array", None
    value = variant.Value
    if kind not in NODE_TYPES or value is None or (isinstance(value, float) and not math.isfinite(value)):
        return kind, None
    return kind, value


def _unit_text(answer: ua.DataValue) -> str | None:
    information = None if answer.Value is None else answer.Value.Value
    text = getattr(getattr(information, "DisplayName", None), "Text", None)
    return re.sub(r"\s", "", text) if isinstance(text, str) and text else None
