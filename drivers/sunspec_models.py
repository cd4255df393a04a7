"""The SunSpec models that are known here: which point stands at which word, in what type and unit.

The tables are in `sunspec_models.txt`, one line a point in the order of the map: offsets follow from the sizes,
so none can be mistyped. A new model is some lines there and no code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import cast

from ems.config.profile import UNITS, Unit

HEAD = 2
"""Words of a model's id and length, which come before its points."""
SIZES = {"string": 0, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "int64": 4, "uint64": 4}
KINDS = {
    **{name: name for name in SIZES},
    "enum16": "uint16", "bitfield16": "uint16", "count": "uint16", "pad": "uint16", "acc16": "uint16", "sunssf": "int16",
    "enum32": "uint32", "bitfield32": "uint32", "acc32": "uint32", "bitfield64": "uint64", "acc64": "uint64",
}  # fmt: skip
"""Register type of each SunSpec type."""
BLANK = {"int16": 0x8000, "uint16": 0xFFFF, "int32": 0x8000_0000, "uint32": 0xFFFF_FFFF, "int64": 1 << 63, "uint64": (1 << 64) - 1}
"""What a register type holds where the device does not implement the point."""
ZERO_BLANK = ("acc16", "acc32", "acc64", "count", "pad", "string")
"""Types that say it with 0."""
FAMILIES = ((101, 102, 103), (201, 202, 203, 204))
"""Models of one layout, which differ in the phases they serve: what a profile says of one holds for each."""


@dataclass(frozen=True, slots=True)
class Register:
    """A point of a model.

    Attributes
    ----------
    offset : int
        Words from the model's id.
    kind : str
        SunSpec type.
    size : int
        Words.
    unit : Unit | None
    scale : str | None
        The point of the same model that gives its power of ten.
    """

    offset: int
    kind: str
    size: int
    unit: Unit | None = None
    scale: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model: its name, its standard length, its points, and those of a part that repeats.

    Attributes
    ----------
    length : int
        Words after id and length, without the part that repeats.
    repeat : int
        Words of one repetition, 0 where nothing repeats.
    repeated : Mapping[str, Register]
        Points of the first repetition.
    """

    name: str
    length: int
    points: Mapping[str, Register]
    repeat: int = 0
    repeated: Mapping[str, Register] = field(default_factory=dict)

    def fits(self, length: int) -> bool:
        """Whether a device may say this length of it; the pad at an end is left out by some."""
        if length == self.length or (length == self.length - 1 and "Pad" in self.points and not self.repeat):
            return True
        return self.repeat > 0 and length > self.length and (length - self.length) % self.repeat == 0

    def point(self, name: str) -> Register | None:
        """Return a point by its name, None where there is none; `DCW_2` is the second `DCW` of a part that repeats."""
        if name in self.points:
            return self.points[name]
        stem, _, number = name.rpartition("_")
        if stem not in self.repeated or not number.isdigit() or not 1 <= int(number) <= 99:
            return None
        first = self.repeated[stem]
        return Register(first.offset + (int(number) - 1) * self.repeat, first.kind, first.size, first.unit, first.scale)

    def names(self) -> tuple[str, ...]:
        """Return the names of its points, of a part that repeats those of the first."""
        return (*self.points, *(f"{name}_1" for name in self.repeated))


def family(model: int) -> tuple[int, ...]:
    """Return the models that may stand where a profile says this one."""
    return next((f for f in FAMILIES if model in f), (model,))


def parsed(lines: Iterable[str]) -> dict[int, Model]:
    """Return the models of a table; a line that is none of it is a fault of the installation, told by its number."""
    found: dict[int, Model] = {}
    numbers: tuple[int, ...] = ()
    name, parts, offset = "", [dict[str, Register]()], HEAD

    def close() -> None:
        points, repeated = parts[0], parts[1] if len(parts) > 1 else {}
        length = sum(r.size for r in points.values())
        model = Model(name, length, points, sum(r.size for r in repeated.values()), repeated)
        found.update(dict.fromkeys(numbers, model))

    for at, line in enumerate(lines, 1):
        if (head := re.fullmatch(r"model ((?:\d+ ?)+): (.+)", line)) is not None:
            close()
            numbers, name, parts, offset = tuple(int(n) for n in head[1].split()), head[2], [{}], HEAD
        elif line == "repeat:":
            parts.append({})
        elif line and not line.startswith("#"):
            register = _register(line, offset, at)
            parts[-1][line.split()[0]] = register
            offset += register.size
    close()
    return found


def _register(line: str, offset: int, at: int) -> Register:
    _, kind, scale, unit = (*line.split(), "-", "-")[:4]
    text = re.fullmatch(r"string\((\d+)\)", kind)
    kind = "string" if text else kind
    if kind not in KINDS or (unit != "-" and unit not in UNITS):
        raise ValueError(f"sunspec_models.txt:{at}: {line!r} is no point")
    size = int(text[1]) if text else SIZES[KINDS[kind]]
    return Register(offset, kind, size, None if unit == "-" else cast(Unit, unit), None if scale == "-" else scale)


MODELS: Mapping[int, Model] = parsed(resources.files("drivers").joinpath("sunspec_models.txt").read_text("utf-8").splitlines())
"""Every model that is known, by its number."""
