"""A first device profile from what a scan found: right in where things are, to be finished by a person in what they mean.

The draft is written as text, because its comments are half of it. `load_profile` accepts it as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from api.draft_names import command_name, house_names
from api.scan import FoundNode
from ems.config.profile import NODE_TYPES, TAKES, UNITS, house_unit

SILENCE = "# on_silence: {after_s: 30, does: hold}   What the device does by itself when we are gone; ask the maker, and try it."
NO_NAMES = ("true", "false", "null")
"""What YAML would not read as text."""
DEFAULT_KIND = "meter"
"""The kind of a tree that does not say what it is: it takes no commands."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A profile's text (None where nothing can be drafted), and what the person who finishes it has to know."""

    text: str | None
    notes: tuple[str, ...] = ()


def opcua_draft(found: Sequence[FoundNode], kind: str | None) -> Draft:
    """Return the profile of the variables of a tree; what can be written becomes a command only where its name is one of the kind's."""
    drafted = kind or DEFAULT_KIND
    usable = [n for n in found if n.type in NODE_TYPES and n.type != "String"]
    taken = commands_of(usable, drafted)
    points = [n for n in usable if n.node not in {t.node for t in taken.values()} and not (n.writable and kind is not None)]
    if not points:
        return Draft(None, ("no profile can be drafted: no node that is only read holds a number or a switch",))
    left = [n for n in usable if n not in points and n.node not in {t.node for t in taken.values()}]
    text = [
        "# Drafted by `ems scan`. Names and units that the server does not tell are guesses: give each point the EMS's name (docs/nomenclature.md)",
        "# and its true unit, and drop the rest.",
        "profile: scanned",
        f"kind: {drafted}" + ("" if kind else f"   # {' | '.join(TAKES)}"),
        "protocol: opcua",
        "points:",
        *(_node_row(name, node, "") for name, node in _house_named(named(points), kind).items()),
        *(["commands:"] if taken else []),
        *(_node_row(name, node, "") for name, node in taken.items()),
        *(["# can be written too:"] if left else []),
        *(_node_row(name, node, "#") for name, node in named(left).items()),
        SILENCE,
    ]
    notes = [] if kind else [f"a tree does not tell what it is: the draft is a {DEFAULT_KIND} without commands; give --kind for another"]
    return Draft("\n".join(text) + "\n", tuple(notes))


def _house_named(nodes: Mapping[str, FoundNode], kind: str | None) -> dict[str, FoundNode]:
    return dict(nodes) if kind is None else house_names(nodes, {name: node.path[-1] for name, node in nodes.items()}, kind)


def commands_of(nodes: Iterable[FoundNode], kind: str) -> dict[str, FoundNode]:
    """Return the writable nodes that are called like a command of the kind, one for each command."""
    taken: dict[str, FoundNode] = {}
    for node in nodes:
        command = command_name(node.path[-1], TAKES[kind])
        if node.writable and command is not None:
            taken.setdefault(command, node)
    return taken


def named(nodes: Sequence[FoundNode]) -> dict[str, FoundNode]:
    """Return the nodes by a name each: the last of its path, and as much of the path as it takes to be told from the others."""
    found: dict[str, FoundNode] = {}
    for node in nodes:
        length = next((k for k in range(1, len(node.path)) if [_tail(n, k) for n in nodes].count(_tail(node, k)) == 1), len(node.path))
        name = _tail(node, length)
        while name in found:
            name += "_"
        found[name] = node
    return found


def _tail(node: FoundNode, length: int) -> str:
    return slug(" ".join(node.path[-length:])) or "point"


def _node_row(name: str, node: FoundNode, comment: str) -> str:
    unit, told = unit_of(name, node)
    key = json.dumps(name) if name[0].isdigit() or name in NO_NAMES else name
    shown = f", unit: {json.dumps(unit)}" if unit else ""
    guess = "" if told or unit is None else "; the unit is a guess"
    return f"{comment}  {key}: {{node: {json.dumps(node.node, ensure_ascii=False)}, type: {node.type}{shown}}}   # now {value_text(node)}{guess}"


def unit_of(name: str, node: FoundNode) -> tuple[str | None, bool]:
    """Return the unit of a node and whether the server told it; else the one that the name asks for."""
    house = house_unit(name)
    if node.unit in UNITS and (house is None or UNITS[node.unit][0] == house):
        return node.unit, True
    if house == "ratio" and isinstance(node.value, float | int) and abs(node.value) > 1.5:
        return "pct", False
    return next((unit for unit, (of, factor) in UNITS.items() if of == house and factor == 1.0), None), False


def value_text(node: FoundNode) -> str:
    """Return what a node holds, on one line."""
    return f"{node.value:.6g}" if isinstance(node.value, float) else "without value" if node.value is None else one_line(str(node.value))


def slug(text: str) -> str:
    """Return a name in the style of the house: `ActivePower` becomes `active_power`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def one_line(text: str) -> str:
    """Return a device's text as it may stand in a comment: on one line, without what does not print."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
