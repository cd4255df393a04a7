"""What `ems scan --record` keeps of a real device, and `ems simulate --dump` serves again: registers or nodes, as they stood.

A dump is JSON (which YAML 1.2 reads): blocks of registers as hex words, or nodes with their type and value. It stands
still: nothing in it follows the simulated plant, and what is written to it stays as it was written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from drivers.opcua_values import INTEGERS
from ems.config.profile import Profile
from ems.config.strict import Strict, Text, wrong
from ems.config.yaml import read_yaml, validated
from ems.errors import BadInput, Failed

Table = Literal["holding", "input", "coil", "discrete"]
Held = Literal["Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String"]


class RegisterBlock(Strict):
    """Neighbouring registers of one table; bits are 0000 and 0001."""

    table: Table
    address: Annotated[int, Field(ge=0, le=65535)]
    words: str

    @model_validator(mode="after")
    def _whole(self) -> RegisterBlock:
        parts = self.words.split(" ")
        if any(len(p) != 4 or not set(p) <= set("0123456789abcdef") for p in parts):
            raise wrong("words", "these are no registers", "four lower-case hex digits each, with one space between: 0001 ffff")
        if self.address + len(parts) > 65536:
            raise wrong("address", "the registers reach beyond the last address", f"at most {65536 - len(parts)}")
        return self

    def values(self) -> dict[int, int]:
        """Return the words by address."""
        return {self.address + k: int(word, 16) for k, word in enumerate(self.words.split(" "))}


class RecordedNode(Strict):
    """One OPC UA variable: its id, the names on the way to it, its type and what it held."""

    node: Text
    path: tuple[Text, ...]
    type: Held
    value: bool | int | float | str | None = None
    writable: bool = False

    @model_validator(mode="after")
    def _of_its_type(self) -> RecordedNode:
        value, kind = self.value, self.type
        if kind == "Boolean":
            fits = isinstance(value, bool)
        elif kind == "String":
            fits = isinstance(value, str)
        elif kind in ("Float", "Double"):
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            low, high = INTEGERS[kind]
            fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        if value is not None and not fits:
            raise wrong("value", f"{value!r} is no {kind}", "a value of the node's type, or null where it held none")
        return self


class Dump(Strict):
    """One device, as it stood.

    Attributes
    ----------
    format : Literal[1]
        Of this file.
    protocol : Literal["modbus", "opcua"]
        SunSpec is Modbus.
    url : str
        Where it was recorded.
    unit : int
        Modbus unit there.
    recorded_at : str
        ISO 8601 [UTC].
    device : Mapping[str, str]
        Texts by which it names itself.
    """

    format: Literal[1]
    protocol: Literal["modbus", "opcua"]
    url: Text
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    recorded_at: Text
    device: dict[str, str] = Field(default_factory=dict)
    registers: tuple[RegisterBlock, ...] = ()
    nodes: tuple[RecordedNode, ...] = ()

    @model_validator(mode="after")
    def _something(self) -> Dump:
        field, held = ("registers", self.registers) if self.protocol == "modbus" else ("nodes", self.nodes)
        if not held:
            raise wrong(field, f"a {self.protocol} dump without {field} is of no device", f"at least one of {field}")
        taken: set[tuple[str, int]] = set()
        for n, block in enumerate(self.registers):
            here = {(block.table, address) for address in block.values()}
            if here & taken:
                raise wrong(("registers", n), "registers that are in another block already", "each register once")
            taken |= here
        return self

    def words(self) -> dict[str, dict[int, int]]:
        """Return every register by table and address."""
        found: dict[str, dict[int, int]] = {}
        for block in self.registers:
            found.setdefault(block.table, {}).update(block.values())
        return found


def read_dump(path: Path) -> Dump:
    """Return the dump in a file.

    Raises
    ------
    BadInput
        With the file, the line and the path of the first mistake.
    """
    return validated(Dump, read_yaml(path))


def write_dump(path: Path, dump: Dump) -> None:
    """Write a dump into a new file; one that is there is left as it is."""
    data = dump.model_dump(mode="json", exclude_defaults=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, indent=1)
            file.write("\n")
    except FileExistsError:
        raise BadInput("the file is there already and is left as it is", str(path), "a name that is free") from None
    except OSError as error:
        raise Failed(f"the file cannot be written: {error.strerror}", str(path), "a folder that can be written") from error


def blocks_of(words: Mapping[int, int], table: Table) -> list[RegisterBlock]:
    """Return registers as blocks of neighbours."""
    found: list[list[int]] = []
    for address in sorted(words):
        if found and found[-1][-1] == address - 1:
            found[-1].append(address)
        else:
            found.append([address])
    return [RegisterBlock(table=table, address=group[0], words=" ".join(f"{words[a]:04x}" for a in group)) for group in found]


def check_fits(dump: Dump, profile: Profile, asset: str, where: str) -> None:
    """Refuse a dump that the asset's profile could not be read from."""
    wanted = "opcua" if profile.protocol == "opcua" else "modbus"
    if dump.protocol != wanted:
        raise BadInput(f"{asset} is read by {profile.protocol}, and this is a dump of {dump.protocol}", where, f"a dump of {wanted}")
