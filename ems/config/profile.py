"""The device profile as values: which register, node or model point means what. A new device is one YAML and no code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ems.config.site import Names
from ems.config.strict import JSON_PATH, REFERENCE, NotNegative, Positive, Strict, Text, wrong

Kind = Literal["load", "feeder", "solar", "hydro", "diesel", "battery", "inverter", "deferrable", "tank", "meter", "weather"]
Protocol = Literal["modbus", "opcua", "sunspec", "mqtt"]
Table = Literal["holding", "input", "coil", "discrete"]
Order = Literal["big", "little"]
Unit = Literal[
    "W", "kW", "MW", "var", "kvar", "Wh", "kWh", "MWh", "L", "m3", "L/h", "pct", "1", "V", "kV", "A", "Hz", "degC", "s", "min", "h", "m", "m3/s", "W/m2"
]  # fmt: skip
Type = Literal[
    "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "string", "bool",
    "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String",
]  # fmt: skip
Address = Annotated[int, Field(ge=0, le=65535)]
Reference = Annotated[str, Field(pattern=REFERENCE)]

UNITS: dict[str, tuple[str, float]] = {
    "W": ("kw", 1e-3), "kW": ("kw", 1.0), "MW": ("kw", 1e3), "var": ("kvar", 1e-3), "kvar": ("kvar", 1.0),
    "Wh": ("kwh", 1e-3), "kWh": ("kwh", 1.0), "MWh": ("kwh", 1e3), "L": ("l", 1.0), "m3": ("l", 1e3), "L/h": ("l_per_h", 1.0),
    "pct": ("ratio", 0.01), "1": ("ratio", 1.0), "V": ("v", 1.0), "kV": ("v", 1e3), "A": ("a", 1.0), "Hz": ("hz", 1.0), "degC": ("c", 1.0),
    "s": ("s", 1.0), "min": ("s", 60.0), "h": ("h", 1.0), "m": ("m", 1.0), "m3/s": ("m3s", 1.0), "W/m2": ("wm2", 1.0),
}  # fmt: skip
"""By a profile's unit: the house unit, as names end, and house units per unit."""

NEEDS_UNIT = ("l_per_h", "m3s", "wm2", "kvar", "kwh", "kw", "hz", "v", "c", "l", "m", "h", "s", "a")
RATIOS = ("soc", "soh")
WORDS = {"bool": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "int64": 4, "uint64": 4, "float64": 4}
NODE_TYPES = ("Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String")
TAKES: Mapping[str, tuple[str, ...]] = {
    "load": ("breaker",),
    "feeder": ("breaker",),
    "solar": ("limit_kw",),
    "hydro": ("running", "power_kw"),
    "diesel": ("running", "power_kw"),
    "inverter": ("power_kw", "running", "forming"),
    "deferrable": ("running", "power_kw"),
    "battery": (),
    "tank": (),
    "meter": (),
    "weather": (),
}
"""The commands that each kind takes."""
MQTT_TYPES = ("Double", "Boolean")


class Defaults(Strict):
    table: Table = "holding"
    word_order: Order = "big"
    byte_order: Order = "big"
    max_block: Annotated[int, Field(ge=1, le=125)] = 100
    max_gap: Annotated[int, Field(ge=0, le=124)] = 8


class Place(Strict):
    """Where a value is on the wire and how it is coded there; which fields apply depends on the protocol."""

    address: Address | None = None
    table: Table | None = None
    type: Type = "bool"  # of coils and discrete inputs, which have no other
    word_order: Order | None = None
    byte_order: Order | None = None
    length: Annotated[int, Field(ge=1, le=60)] | None = None
    node: Text | None = None
    point: Reference | None = None
    topic: Text | None = None
    json_path: Annotated[str, Field(pattern=JSON_PATH)] | None = Field(default=None, alias="json")
    every_s: NotNegative = 0.0
    unit: Unit | None = None
    scale: float = 1.0
    offset: float = 0.0
    of: str | None = None
    scale_point: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _text_length(cls, data: Any) -> Any:
        """`string(8)` is text in eight registers."""
        found = re.fullmatch(r"string\((\d{1,2})\)", str(data.get("type"))) if isinstance(data, dict) else None
        return {**data, "type": "string", "length": int(found[1])} if found else data

    @model_validator(mode="after")
    def _sound(self) -> Place:
        if self.scale == 0:
            raise wrong("scale", "a scale of 0 loses the value", "a number other than 0")
        if self.type == "string" and self.length is None:
            raise wrong("type", "text needs a length", "string(8) for text in eight registers")
        if self.of is not None and self.unit != "pct":
            raise wrong("of", "only a percentage can be of something", "unit: pct")
        return self

    @property
    def words(self) -> int:
        """How many registers it takes."""
        return self.length or WORDS.get(self.type, 1)


class Point(Place):
    """One value that the device gives.

    `missing` are raw words that mean "no value" at this point alone, `wraps_at` is in the house unit. A point with `on` is a
    switch: on at this code, or these, and off at all others.
    """

    bit: Annotated[int, Field(ge=0, le=63)] | None = None
    on: int | tuple[int, ...] | None = None
    mask: Annotated[int, Field(gt=0)] | None = None
    invert: bool = False
    counter: bool = False
    wraps_at: Positive | None = None
    none: int | None = None
    missing: int | tuple[int, ...] | None = None
    text: dict[int, Names] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_value(self) -> Point:
        if self.bit is not None and self.mask is not None:
            raise wrong("mask", "a point is one bit or a field of bits", "bit or mask")
        if self.mask is not None and "0" in bin(self.mask)[2:].rstrip("0"):
            raise wrong("mask", f"the bits of {self.mask:#x} do not stand together", "neighbouring bits, as 0x00F0")
        if self.on is not None and (self.bit is not None or self.none is not None or self.counter):
            raise wrong("on", "a point is one bit, a switch by code, a fault or a counter", "bit, on, none or counter")
        if self.invert and self.bit is None and self.type not in ("bool", "Boolean"):
            raise wrong("invert", "only a switch can be inverted; a number has a negative scale", "a bit, a coil or a discrete input")
        if self.wraps_at is not None and not self.counter:
            raise wrong("wraps_at", "only a counter wraps", "counter: true")
        return self


class Command(Place):
    """One value that the device takes.

    `min` and `max` are in the house unit. A pulse clears itself at the device, or with `release` is cleared by us.
    `read_back` is an address of the same type, or a node; None
    where the device does not give back what it was told, or (OPC UA) where the node itself is read.
    SunSpec: `enable` takes 1 and `revert_s` how long it lasts; `mirror` takes the negative of the value,
    and each point of `also` its raw code.
    """

    min: float | None = None
    max: float | None = None
    on: int | None = None
    off: int | None = None
    pulse_s: NotNegative = 0.0
    release: int | None = None
    idempotent: bool = Field(default_factory=lambda data: data["pulse_s"] == 0)
    read_back: Address | Text | None = None
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.02
    settle_s: NotNegative = 5.0
    refresh_s: Positive | None = None
    enable: Reference | None = None
    revert_s: Reference | None = None
    mirror: Reference | None = None
    also: dict[Reference, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _range(self) -> Command:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise wrong("min", f"min {self.min:g} is above max {self.max:g}", f"at most {self.max:g}")
        if (self.on is None) != (self.off is None):
            raise wrong("off" if self.off is None else "on", "a switch needs both codes", "on and off")
        if self.on is not None and self.on == self.off:
            raise wrong("off", f"on and off are both {self.on}", "two different codes")
        if self.pulse_s > 0 and self.idempotent:
            raise wrong("idempotent", "a pulse is not idempotent: sent twice it may act twice", "idempotent: false, or pulse_s: 0")
        if self.release is not None and self.pulse_s == 0:
            raise wrong("release", "nothing to release: the command is no pulse", "pulse_s above 0")
        return self


class Heartbeat(Place):
    """What is toggled from completed cycles, so that the device notices when we are gone."""

    period_s: Positive = 1.0


class OnSilence(Strict):
    """What the device does by itself after `after_s` without us; `value` is in the house unit."""

    after_s: NotNegative
    does: Literal["hold", "preset", "trip", "start", "local_auto"]
    value: float | None = None

    @model_validator(mode="after")
    def _preset(self) -> OnSilence:
        if self.does == "preset" and self.value is None:
            raise wrong("value", "a preset needs its value", "a number in the house unit")
        return self


class Profile(Strict):
    """One kind of device."""

    profile: Text
    kind: Kind
    protocol: Protocol
    defaults: Defaults = Defaults()
    missing: dict[str, int | tuple[int, ...] | Literal["nan"]] = Field(default_factory=dict)
    base: Address = 40000
    models: tuple[Annotated[int, Field(ge=1, le=65534)], ...] = ()
    points: dict[str, Point] = Field(min_length=1)
    commands: dict[str, Command] = Field(default_factory=dict)
    heartbeat: Heartbeat | None = None
    on_silence: OnSilence | None = None
    capabilities: tuple[str, ...] = ()

    @field_validator("missing", mode="before")
    @classmethod
    def _several_marks(cls, marks: Any) -> Any:
        return {kind: tuple(mark) if isinstance(mark, list) else mark for kind, mark in marks.items()} if isinstance(marks, dict) else marks

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, data: Any) -> Any:
        """MQTT carries numbers, unless a point says that it is a switch."""
        if not isinstance(data, dict) or data.get("protocol") != "mqtt" or not isinstance(data.get("points"), dict):
            return data
        return {**data, "points": {n: {"type": "Double", **p} if isinstance(p, dict) else p for n, p in data["points"].items()}}

    @model_validator(mode="after")
    def _whole(self) -> Profile:
        for path, place in self._places():
            _check_place(path, place, self.protocol, self.defaults)
            _check_unit(path, place, self.protocol)
        for name in self.commands:
            if name not in TAKES[self.kind]:
                raise wrong(("commands", name), f"a {self.kind} takes no command {name!r}", " | ".join(TAKES[self.kind]) or "no commands")
        for kind in self.missing:
            if kind not in WORDS:
                raise wrong(("missing", kind), f"unknown register type {kind!r}", " | ".join(WORDS))
        if self.protocol == "sunspec" and not self.models:
            raise wrong("models", "the SunSpec models of the device are not named", "their numbers in the order of the map, as [1, 103, 123]")
        if self.protocol == "modbus":
            self._check_overlap((("points", n), p) for n, p in self.points.items())
            taking = [(("commands", n), c) for n, c in self.commands.items()]
            self._check_overlap(taking + ([(("heartbeat",), self.heartbeat)] if self.heartbeat else []))
        return self

    def _places(self) -> list[tuple[tuple[str, ...], Place]]:
        found: list[tuple[tuple[str, ...], Place]] = [(("points", n), p) for n, p in self.points.items()]
        found += [(("commands", n), c) for n, c in self.commands.items()]
        return found + ([(("heartbeat",), self.heartbeat)] if self.heartbeat else [])

    def _check_overlap(self, places: Iterable[tuple[tuple[str, ...], Place]]) -> None:
        """Refuse two values in the same words, unless both name bits of them."""
        taken: dict[tuple[str, int], tuple[tuple[str, ...], Place]] = {}
        for path, place in places:
            for word in registers(place, self.defaults):
                other_path, other = taken.setdefault(word, (path, place))
                if other is place:
                    continue
                if not apart(place, other):
                    text = f"{'.'.join(path)} and {'.'.join(other_path)} are in the same {word[0]} register {word[1]}"
                    raise wrong(path, text, "registers of its own, or different bits of one register")

    def for_asset(self, asset_id: str) -> Profile:
        """Return the profile with `{id}` in its nodes and topics replaced, so that several assets can live on one server."""

        def named(place: dict[str, Any]) -> dict[str, Any]:
            return {k: v.replace("{id}", asset_id) if k in ("node", "topic", "read_back") and isinstance(v, str) else v for k, v in place.items()}

        data = self.model_dump()
        for part in ("points", "commands"):
            data[part] = {name: named(place) for name, place in data[part].items()}
        if data["heartbeat"] is not None:
            data["heartbeat"] = named(data["heartbeat"])
        return Profile.model_validate(data)


def registers(place: Place, defaults: Defaults) -> list[tuple[str, int]]:
    """Return every word of a Modbus value as (table, address)."""
    if place.address is None:
        return []
    return [(place.table or defaults.table, place.address + k) for k in range(place.words)]


def apart(a: Place, b: Place) -> bool:
    """Whether two values can share words: fields of bits of one register, read in one way, with no bit in common."""
    fields = [(p.mask if p.bit is None else 1 << p.bit) if isinstance(p, Point) else None for p in (a, b)]
    if fields[0] is None or fields[1] is None or fields[0] & fields[1]:
        return False
    return (a.address, a.type, a.word_order, a.byte_order) == (b.address, b.type, b.word_order, b.byte_order)


def house_unit(name: str) -> str | None:
    """Return the house unit that a name ends in, as `kw` for `power_kw`; None where it has none."""
    if name in RATIOS:
        return "ratio"
    if "_per_" in name and not name.endswith("_l_per_h"):
        return None  # a rate of something else, as ramp_kw_per_s
    return next((u for u in NEEDS_UNIT if name.endswith("_" + u)), None)


def _check_place(path: tuple[str, ...], place: Place, protocol: Protocol, defaults: Defaults) -> None:
    """Refuse a value that its protocol could not find."""
    field = {"modbus": "address", "opcua": "node", "sunspec": "point", "mqtt": "topic"}[protocol]
    if getattr(place, field) is None:
        raise wrong((*path, field), f"a {protocol} value needs {field}", {"address": "a zero-based address from 0 to 65535"}.get(field, f"its {field}"))
    if protocol == "opcua" and place.type not in NODE_TYPES:
        raise wrong((*path, "type"), f"{place.type} is no OPC UA type", " | ".join(NODE_TYPES))
    if protocol == "mqtt":
        _check_topic(path, place)
    elif place.json_path is not None or place.every_s:
        raise wrong((*path, "json" if place.json_path is not None else "every_s"), f"a {protocol} value has no such field", "mqtt")
    if protocol != "modbus":
        return
    table = place.table or defaults.table
    if (table in ("coil", "discrete")) != (place.type == "bool"):
        one_bit = table in ("coil", "discrete")
        raise wrong((*path, "type"), f"{place.type} does not fit the {table} table", "no type" if one_bit else " | ".join(t for t in WORDS if t != "bool"))
    if place.type not in WORDS and place.type != "string":
        raise wrong((*path, "type"), f"{place.type} is no Modbus type", " | ".join(WORDS))
    if path[0] != "points" and table in ("input", "discrete"):
        raise wrong((*path, "table"), f"the {table} table cannot be written", "holding | coil")
    if registers(place, defaults)[-1][1] > 65535:
        raise wrong((*path, "address"), "the value reaches beyond the last address", f"at most {65536 - place.words}")


def _check_topic(path: tuple[str, ...], place: Place) -> None:
    """Refuse what MQTT does not have: commands, wildcards in a point's topic, other types than numbers and switches."""
    if path[0] != "points":
        raise wrong(path, "an MQTT device is read only", "no commands and no heartbeat: what a broker takes, nobody confirms")
    if place.type not in MQTT_TYPES:
        raise wrong((*path, "type"), f"{place.type} is no MQTT type", " | ".join(MQTT_TYPES))
    if not place.topic or any(mark in place.topic for mark in "#+\0") or len(place.topic) > 200:
        raise wrong((*path, "topic"), f"{place.topic!r} is no topic of one value", "a topic without the wildcards # and +")


def _check_unit(path: tuple[str, ...], place: Place, protocol: Protocol) -> None:
    """Refuse a unit that cannot become the one its name ends in; SunSpec models bring their own units."""
    house = house_unit(path[-1])
    if house is None or place.of is not None:
        return
    fitting = " | ".join(u for u, (name, _) in UNITS.items() if name == house)
    if place.unit is None and protocol != "sunspec":
        raise wrong((*path, "unit"), f"{path[-1]} without a unit", fitting)
    if place.unit is not None and UNITS[place.unit][0] != house:
        raise wrong((*path, "unit"), f"{place.unit} cannot become {path[-1]}", fitting)
