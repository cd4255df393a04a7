"""What must hold inside a device profile beyond the form of each value: codes that fit their type, ranges that can be written, times that fit together.

`ems/config/profile.py` refuses what cannot be a profile; here is refused what can be one and would not work.
"""

from __future__ import annotations

from collections.abc import Iterator

from ems.config.checks import Mistake, Steps
from ems.config.profile import UNITS, WORDS, Command, Place, Point, Profile

INTEGERS = {"int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64}
"""Bits of each integer type of Modbus."""
WHOLE_FLOAT = {"float32": 3.4e38, "float64": 1.7e308}
FOREIGN = {
    "node": ("opcua",),
    "topic": ("mqtt",),
    "point": ("sunspec",),
    "address": ("modbus",),
    "table": ("modbus",),
    "word_order": ("modbus",),
    "byte_order": ("modbus",),
    "length": ("modbus",),
    "scale_point": ("modbus",),
    "mask": ("modbus",),
    "enable": ("sunspec",),
    "revert_s": ("sunspec",),
    "release": ("modbus",),
}
"""Fields that only some protocols know."""
CAPABILITIES: dict[str, str] = {
    "measure": "gives measurements",
    "counters": "counts energy, fuel or hours",
    "faults": "tells its faults",
    "local_switch": "tells whether it is in remote",
    "start_stop": "starts and stops on command",
    "setpoint": "takes a power setpoint",
    "limit": "takes a ceiling",
    "forming": "changes between forming and following",
    "breaker": "switches its breaker on command",
    "read_back": "every level that is written can be read back",
    "heartbeat": "watches our heartbeat",
    "on_silence": "says what it does when we are gone",
}
"""What a device can do, by the name that a profile may declare it under."""


def capabilities(profile: Profile) -> tuple[str, ...]:
    """Return what the profile can do, in the order of `CAPABILITIES`; it follows from points and commands."""
    points, commands = profile.points, profile.commands
    levels = [c for c in commands.values() if c.pulse_s == 0]
    has = {
        "measure": any(not p.counter and (p.unit is not None or profile.protocol == "sunspec") for p in points.values()),
        "counters": any(p.counter for p in points.values()),
        "faults": "fault" in points,
        "local_switch": "remote" in points,
        "start_stop": "running" in commands,
        "setpoint": "power_kw" in commands,
        "limit": "limit_kw" in commands,
        "forming": "forming" in commands,
        "breaker": "breaker" in commands,
        "read_back": bool(levels) and (profile.protocol != "modbus" or all(c.read_back is not None for c in levels)),
        "heartbeat": profile.heartbeat is not None,
        "on_silence": profile.on_silence is not None,
    }
    return tuple(name for name in CAPABILITIES if has[name])


def profile_mistakes(profile: Profile) -> Iterator[Mistake]:
    """Find what is wrong inside a profile."""
    places: list[tuple[Steps, Place]] = [(("points", n), p) for n, p in profile.points.items()]
    places += [(("commands", n), c) for n, c in profile.commands.items()]
    places += [(("heartbeat",), profile.heartbeat)] if profile.heartbeat else []
    for path, place in places:
        yield from _foreign(path, place, profile)
        if profile.protocol == "modbus":
            yield from _codes(path, place, profile)
    for name, point in profile.points.items():
        yield from _scale_point(("points", name), point, profile)
    for name, command in profile.commands.items():
        yield from _scale_point(("commands", name), command, profile)
        yield from _command(("commands", name), command, profile)
    yield from _whole(profile)


def _foreign(path: Steps, place: Place, profile: Profile) -> Iterator[Mistake]:
    """Find fields of another protocol: whoever wrote them expects something of them."""
    for field, protocols in FOREIGN.items():
        if field in place.model_fields_set and profile.protocol not in protocols and not (field == "length" and place.type == "string"):
            yield Mistake(
                (*path, field), f"{field} means nothing to a {profile.protocol} device", f"a field of {profile.protocol}, or protocol: {protocols[0]}"
            )


def _fits(number: int, kind: str) -> bool:
    """Whether a raw number can be a value of an integer type; negative ones of signed types alone."""
    bits = INTEGERS[kind]
    return -(1 << bits - 1) <= number < 1 << bits - 1 if kind.startswith("int") else 0 <= number < 1 << bits


def _codes(path: Steps, place: Place, profile: Profile) -> Iterator[Mistake]:
    """Find bits, codes and marks that the type cannot carry."""
    wide = 16 * place.words
    if place.words > profile.defaults.max_block:
        yield Mistake(
            (*path, "type"), f"{place.type} takes {place.words} registers, a block {profile.defaults.max_block}", f"max_block of at least {place.words}"
        )
    codes: list[tuple[str, int]] = []
    if isinstance(place, Point):
        if place.counter and (place.bit is not None or place.type in ("bool", "string")):
            yield Mistake((*path, "counter"), "a switch or text does not count", "a number")
        for field, top in (("bit", place.bit), ("mask", None if place.mask is None else place.mask.bit_length() - 1)):
            if top is not None and place.type not in INTEGERS:
                yield Mistake((*path, field), f"{place.type} has no bits to name", " | ".join(INTEGERS))
            elif top is not None and top >= wide:
                yield Mistake((*path, field), f"{place.type} has no bit {top}", f"bits 0 to {wide - 1}")
        if place.text and place.type not in INTEGERS:
            yield Mistake((*path, "text"), f"texts for codes of {place.type}", "an integer type")
        codes += [] if place.none is None else [("none", place.none)]
        codes += [("on", code) for code in (place.on if isinstance(place.on, tuple) else () if place.on is None else (place.on,))]
        codes += [("text", code) for code in place.text]
        marks = place.missing if isinstance(place.missing, tuple) else () if place.missing is None else (place.missing,)
        if marks and place.type not in WORDS:
            yield Mistake((*path, "missing"), f"{place.type} has no mark for a missing value", "a type of numbers")
        for mark in marks:
            if not -(1 << wide - 1) <= mark < 1 << wide:
                yield Mistake((*path, "missing"), f"{mark:#x} is no raw word of {place.type}", f"{wide} bits")
    if isinstance(place, Command):
        codes += [(f, c) for f, c in (("on", place.on), ("off", place.off), ("release", place.release)) if c is not None]
    for field, code in codes:
        at = (*path, "text", code) if field == "text" else (*path, field)
        kind = "uint16" if place.type == "bool" else place.type
        if kind not in INTEGERS:
            yield Mistake(at, f"a code in {place.type}", " | ".join(INTEGERS))
        elif not _fits(code, kind) or (place.type == "bool" and code > 1):
            yield Mistake(at, f"{code} does not fit into {place.type}", "0 or 1" if place.type == "bool" else f"a code of {wide} bits")


def _scale_point(path: Steps, place: Place, profile: Profile) -> Iterator[Mistake]:
    if place.scale_point is None:
        return
    at, scale = (*path, "scale_point"), profile.points.get(place.scale_point)
    if scale is None:
        yield Mistake(at, f"there is no point {place.scale_point!r}", " | ".join(n for n in profile.points if n != path[-1]) or "a point of this profile")
    elif scale is place or scale.scale_point is not None or scale.bit is not None or scale.type not in INTEGERS:
        yield Mistake(at, f"{place.scale_point!r} is no scale factor", "an integer point of its own, as int16, that no other scales")
    elif (
        place.type == "string"
        or place.type == "bool"
        or (isinstance(place, Point) and (place.bit is not None or place.on is not None or place.none is not None or place.text))
    ):
        yield Mistake(at, "only numbers are scaled", "a point without bit, on, none and text")


def _command(path: Steps, command: Command, profile: Profile) -> Iterator[Mistake]:
    """Find commands that could never be written, or would not last."""
    if profile.protocol == "modbus" and command.type == "string":
        yield Mistake((*path, "type"), "text cannot be commanded", "a type of numbers")
        return
    if command.on is None and command.scale_point is None and command.of is None and profile.protocol == "modbus":
        unit = abs(command.scale) * (UNITS[command.unit][1] if command.unit else 1.0)
        for field, bound in (("min", command.min), ("max", command.max)):
            if bound is None:
                continue
            raw = bound / unit * (1 if command.scale > 0 else -1)
            fits = abs(raw) <= WHOLE_FLOAT.get(command.type, -1.0) or (command.type in INTEGERS and _fits(round(raw), command.type))
            if command.type != "bool" and not fits:
                yield Mistake((*path, field), f"{bound:g} is {raw:.6g} on the wire, which does not fit into {command.type}", "another type, scale or bound")
    if profile.protocol == "modbus" and isinstance(command.read_back, str):
        yield Mistake((*path, "read_back"), f"{command.read_back!r} is no address", "a zero-based address from 0 to 65535")
    if profile.protocol == "modbus" and isinstance(command.read_back, int) and command.read_back + command.words > 65536:
        yield Mistake((*path, "read_back"), "the value reaches beyond the last address", f"at most {65536 - command.words}")


def _whole(profile: Profile) -> Iterator[Mistake]:
    """Find what does not fit together in the profile as a whole."""
    rule, beat = profile.on_silence, profile.heartbeat
    if rule is not None and beat is not None and 0 < rule.after_s <= beat.period_s:
        yield Mistake(
            ("heartbeat", "period_s"), f"a beat each {beat.period_s:g} s, while silence begins after {rule.after_s:g} s", f"less than {rule.after_s:g}"
        )
    if beat is not None and profile.protocol == "modbus" and beat.type == "string":
        yield Mistake(("heartbeat", "type"), "text does not beat", "a type of numbers")
    if rule is not None and rule.does == "preset" and rule.value is not None:
        for name in ("limit_kw", "power_kw"):
            command = profile.commands.get(name)
            low, high = (None, None) if command is None else (command.min, command.max)
            if (low is not None and rule.value < low) or (high is not None and rule.value > high):
                yield Mistake(("on_silence", "value"), f"{rule.value:g} is outside the range of {name}", f"{low} to {high}, in the house unit")
    if rule is not None and rule.does in ("start",) and "running" not in (*profile.commands, *profile.points):
        yield Mistake(("on_silence", "does"), "it would start by itself, and has nothing that runs", "hold | preset | trip | local_auto, or a point running")
    for kind, marks in profile.missing.items():
        for mark in marks if isinstance(marks, tuple) else (marks,):
            if mark == "nan" and not kind.startswith("float"):
                yield Mistake(("missing", kind), f"nan is no {kind}", "the raw word, as 0x8000")
            elif isinstance(mark, int) and not -(1 << 16 * WORDS[kind] - 1) <= mark < 1 << 16 * WORDS[kind]:
                yield Mistake(("missing", kind), f"{mark:#x} is no raw word of {kind}", f"{16 * WORDS[kind]} bits")
    for field in ("base", "models"):
        if field in profile.model_fields_set and profile.protocol != "sunspec":
            yield Mistake((field,), f"{field} belongs to SunSpec", "protocol: sunspec, or without it")
    able = capabilities(profile)
    for n, name in enumerate(profile.capabilities):
        if name not in CAPABILITIES:
            yield Mistake(("capabilities", n), f"unknown capability {name!r}", " | ".join(CAPABILITIES))
        elif name not in able:
            yield Mistake(("capabilities", n), f"nothing in this profile {CAPABILITIES[name]}", " | ".join(able))
