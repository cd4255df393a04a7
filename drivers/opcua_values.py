"""What OPC UA nodes hold and take: node names, types, and raw values both ways."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError

from drivers.codec import factor, is_switch, to_raw
from ems.config.profile import NODE_TYPES, Command, Place
from ems.errors import BadAnswer, BadInput

VARIANTS = {name: getattr(ua.VariantType, name) for name in NODE_TYPES}
BITS = {"SByte": 8, "Byte": 8, "Int16": 16, "UInt16": 16, "Int32": 32, "UInt32": 32, "Int64": 64, "UInt64": 64}
INTEGERS = {name: (0, 2**bits - 1) if name[0] in "UB" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for name, bits in BITS.items()}
"""Lowest and highest raw value by type."""

WRONG_NODE = (StatusCodes.BadNodeIdUnknown, StatusCodes.BadNodeIdInvalid, StatusCodes.BadAttributeIdInvalid)


def node_of(place: Place) -> ua.NodeId:
    """Return the node that a profile names."""
    return node_named(place.node or "")


def node_named(name: str) -> ua.NodeId:
    """Return the node of a name as `ns=2;s=Hydro.Power`."""
    try:
        return ua.NodeId.from_string(name)
    except (UaError, ValueError, TypeError) as error:
        raise BadInput(f"{name!r} is no OPC UA node", expected="as ns=2;s=Hydro.Power or ns=2;i=1001") from error


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


def raw_of(answer: ua.DataValue, place: Place, url: str, node: ua.NodeId) -> float | None:
    """Return the number that a node holds, None where it has none now.

    Raises
    ------
    BadAnswer
        There is no such node, or it holds another type than the profile says: a wrong mapping.
    """
    status = answer.StatusCode
    if status is not None and status.value in WRONG_NODE:
        raise BadAnswer(f"no such node ({status.name})", f"{url} {node.to_string()}")
    if answer.Value is None or answer.Value.Value is None or (status is not None and status.is_bad()):
        return None
    if answer.Value.VariantType is not VARIANTS[place.type] or answer.Value.is_array:
        held = f"{answer.Value.VariantType.name}{' array' if answer.Value.is_array else ''}"
        raise BadAnswer(f"the node holds {held}", f"{url} {node.to_string()}", place.type)
    return None if place.type == "String" else float(answer.Value.Value)


def confirms(wanted: float, actual: float | None, target: Command, of: Mapping[str, float]) -> bool:
    """Whether a read-back value confirms what was written; one raw step of a whole number is always allowed."""
    if actual is None:
        return False
    step = abs(target.scale * factor(target, of)) if target.type in INTEGERS and not is_switch(target) else 0.0
    return abs(actual - wanted) <= max(target.tolerance * abs(wanted), step) * (1 + 1e-6) + 1e-9


def count_in(answer: ua.DataValue, most: int) -> int:
    """Return the limit that a server tells, `most` where it tells none (which 0 means, too) or a higher one."""
    value = None if answer.Value is None else answer.Value.Value
    return min(value, most) if isinstance(value, int) and value > 0 else most


def time_in(answer: ua.DataValue) -> datetime | None:
    """Return the time that a node holds."""
    value = None if answer.Value is None else answer.Value.Value
    return value if isinstance(value, datetime) else None
