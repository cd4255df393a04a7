"""A first profile of a SunSpec device: the shipped profile that fits it best, with the models that it really has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from api.draft import SILENCE, Draft, one_line, slug
from api.scan import FoundModel, SunSpecMap
from drivers.sunspec_map import references
from drivers.sunspec_models import MODELS, family
from ems.config.load import shipped_profile
from ems.config.profile import Command, Point, Profile

PATTERNS: Mapping[str, tuple[str, ...]] = {
    "solar": ("sunspec-der-inverter", "sunspec-inverter"),
    "inverter": ("sunspec-der-storage", "sunspec-storage"),
    "battery": ("sunspec-der-battery", "sunspec-battery"),
    "meter": ("sunspec-meter",),
    "load": ("sunspec-meter",),
}
"""Shipped profiles that a draft follows, by kind; of two that give as many points the first."""
STORAGE, METERS, INVERTERS, STRINGS = (124, 713, 802), family(201), (*family(101), 701), 160


def readable(models: Sequence[FoundModel]) -> tuple[int, ...]:
    """Return the models that can be read: those known here, with a length that fits, each once."""
    return tuple(dict.fromkeys(m.id for m in models if m.id in MODELS and MODELS[m.id].fits(m.length)))


def sunspec_draft(found: SunSpecMap, kind: str | None) -> Draft:
    """Return the profile of a SunSpec inverter, battery or meter."""
    have = readable(found.models)
    strange = [m for m in found.models if m.id not in have]
    notes = [f"model {m.id} of length {m.length} is not known here: it is stepped over" for m in strange]
    drafted = kind or kind_of(have)
    if drafted is None or drafted not in PATTERNS:
        return Draft(None, (*notes, f"no profile can be drafted: none of the models {', '.join(map(str, have)) or '(none)'} makes a {drafted or 'device'}"))
    pattern = max((shipped_profile(name) for name in PATTERNS[drafted]), key=lambda p: len(_points(p, have)))
    points, commands = _points(pattern, have), _commands(pattern, have)
    if not points:
        return Draft(None, (*notes, f"no profile can be drafted: a {drafted} needs one of the models {', '.join(map(str, _models(drafted)))}"))
    strings = _strings(found.models) if drafted in ("solar", "inverter") and STRINGS in have else {}
    used = {1, *(int(r.partition(".")[0]) for r in references(pattern.model_copy(update={"points": {**points, **strings}, "commands": commands})))}
    maker, model = found.texts.get("maker", ""), found.texts.get("model", "")
    text = [
        f"# Drafted by `ems scan` from {one_line(maker)} {one_line(model)}. Compare every value with the device's display before it is trusted.",
        f"profile: {json.dumps(slug(f'{maker} {model}').replace('_', '-') or 'scanned')}",
        f"kind: {drafted}",
        "protocol: sunspec",
        f"base: {found.base}",
        f"models: [{', '.join(str(m) for m in have if m in used)}]",
        "points:",
        *(f"  {name}: {_row(point)}" for name, point in {**points, **strings}.items()),
        *(["commands:"] if commands else []),
        *(f"  {name}: {_row(command)}" for name, command in commands.items()),
        SILENCE,
    ]
    if not commands:
        notes.append("no command is drafted: the device can be read only")
    if drafted == "inverter" and set(STORAGE) & set(have):
        notes.append("the battery behind it is in the same map: draft it with --kind battery, and give it the same url and unit")
    return Draft("\n".join(text) + "\n", tuple(notes))


def kind_of(have: Sequence[int]) -> str | None:
    """Return what a chain of models most likely is, None where it does not tell."""
    inverter = any(m in have for m in INVERTERS)
    if any(m in have for m in STORAGE):
        return "inverter" if inverter else "battery"
    if inverter:
        return "solar"
    return "meter" if any(m in have for m in METERS) else None


def _models(kind: str) -> list[int]:
    return sorted({m for name in PATTERNS[kind] for m in shipped_profile(name).models if m != 1})


def _here(reference: str | None, have: Sequence[int]) -> str | None:
    """Return the reference in the device's own model of the family, None where it has none or the point is not in it."""
    model, _, name = (reference or "").partition(".")
    number = next((m for m in family(int(model or 0)) if m in have), None)
    return f"{number}.{name}" if number is not None and MODELS[number].point(name) is not None else None


def _points(pattern: Profile, have: Sequence[int]) -> dict[str, Point]:
    placed = {name: _here(point.point, have) for name, point in pattern.points.items()}
    return {name: pattern.points[name].model_copy(update={"point": at}) for name, at in placed.items() if at is not None}


def _commands(pattern: Profile, have: Sequence[int]) -> dict[str, Command]:
    """Return the commands whose every register is there."""
    return {
        name: command
        for name, command in pattern.commands.items()
        if all(_here(r, have) == r for r in (command.point, command.enable, command.revert_s, command.mirror, *command.also) if r is not None)
    }


def _strings(models: Sequence[FoundModel]) -> dict[str, Point]:
    """Return the power of each tracker."""
    length = next(m.length for m in models if m.id == STRINGS)
    times = (length - MODELS[STRINGS].length) // MODELS[STRINGS].repeat
    return {f"string_{k}_kw": Point(point=f"{STRINGS}.DCW_{k}") for k in range(1, times + 1)}


def _row(place: Point | Command) -> str:
    """Return a place as YAML in one line: what differs from the defaults, codes as plain keys."""
    return _flow(place.model_dump(exclude_defaults=True))


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str) and value.replace(".", "").replace("_", "").isalnum() and value not in ("off", "on", "true", "false", "null"):
        return value
    return json.dumps(value, ensure_ascii=False)


def rows_of(found: SunSpecMap) -> list[Mapping[str, object]]:
    """Return the chain as rows."""
    have = readable(found.models)
    return [{"id": m.id, "name": m.name, "length": m.length, "address": m.address, "readable": m.id in have} for m in found.models]
