"""Where a SunSpec device keeps the models that a profile needs: found by walking its chain, never assumed.

A map begins with the marker "SunS" at one of three addresses; then comes model after model, each with its id and
length, until the end model. What a profile does not need is stepped over. Points named `model.point` become
plain registers as soon as the place of each model is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from drivers.sunspec_models import BLANK, HEAD, KINDS, MODELS, Model, Register, family
from ems.config.profile import Command, Place, Point, Profile
from ems.errors import BadAnswer, BadInput

MARKER = [0x5375, 0x6E53]
"""The text "SunS" at the base address."""
BASES = (40000, 50000, 0)
"""Where a map may begin, in the order of the standard."""
END, MOST_MODELS = 0xFFFF, 100
P = TypeVar("P", bound=Place)
Ask = Callable[[int, int], Awaitable[list[int] | None]]
"""Reads `count` words at an address; None where the device refuses them."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A model where it stands: its own id (of the family that the profile named), address of the id, and length."""

    id: int
    address: int
    length: int


Layout = Mapping[int, Standing]
"""By the model's number in the profile."""


def declared(profile: Profile) -> dict[int, Standing]:
    """Return the layout of a device that has the profile's models and no others, in their order: a simulated one."""
    found: dict[int, Standing] = {}
    address = profile.base + len(MARKER)
    for number in profile.models:
        model = _known(number, profile)
        length = model.length + model.repeat * _repetitions(number, profile)
        found[number] = Standing(number, address, length)
        address += HEAD + length
    return found


async def discovered(profile: Profile, ask: Ask, where: str) -> dict[int, Standing]:
    """Walk a device's chain until every model of the profile is found.

    Raises
    ------
    BadAnswer
        No map, a chain that does not end, a model of another length, or one that is missing.
    """
    for base in dict.fromkeys((profile.base, *BASES)):
        if await ask(base, len(MARKER)) == MARKER:
            return await _walked(profile, ask, base, where)
    raise BadAnswer("no SunSpec marker", f"{where} {profile.base}", f"{MARKER} there or at {', '.join(map(str, BASES))}")


async def _walked(profile: Profile, ask: Ask, base: int, where: str) -> dict[int, Standing]:
    found: dict[int, Standing] = {}
    address, seen = base + len(MARKER), list[int]()
    while len(seen) < MOST_MODELS and len(found) < len(profile.models):
        head = await ask(address, HEAD) if address <= 0xFFFF - HEAD else None
        if head is None or (head[0] != END and head[1] == 0):
            raise BadAnswer("the chain of models does not end", f"{where} {address}", "the end model 65535")
        if head[0] == END:
            break
        number = next((n for n in profile.models if n not in found and head[0] in family(n)), None)
        if number is not None:
            found[number] = _checked(number, Standing(head[0], address, head[1]), profile, where)
        seen.append(head[0])
        address += HEAD + head[1]
    missing = [str(n) for n in profile.models if n not in found]
    if missing:
        raise BadAnswer(f"model {', '.join(missing)} is not there but {', '.join(map(str, seen)) or 'none'}", f"{where} {base}", f"models {profile.models}")
    return found


def _checked(number: int, standing: Standing, profile: Profile, where: str) -> Standing:
    model = MODELS[standing.id]
    if not model.fits(standing.length):
        raise BadAnswer(f"model {standing.id} of length {standing.length}", f"{where} {standing.address}", f"length {model.length}")
    least = model.length + model.repeat * (_named_repetitions(number, profile) if model.repeat else 0)
    if model.repeat and standing.length < least:
        times = (standing.length - model.length) // model.repeat
        raise BadAnswer(f"model {standing.id} repeats {times} times", f"{where} {standing.address}", "as often as the profile's points say")
    return standing


def _known(number: int, profile: Profile) -> Model:
    if number not in MODELS:
        raise BadInput(f"SunSpec model {number} is not known here", f"profile {profile.profile}: models", " | ".join(map(str, sorted(MODELS))))
    return MODELS[number]


def _named_repetitions(number: int, profile: Profile) -> int:
    """Return how often a model must repeat for the points that the profile names in it."""
    model, most = MODELS[number], 0
    for reference in references(profile):
        of, _, name = reference.partition(".")
        if of == str(number) and name not in model.points and model.point(name) is not None:
            most = max(most, int(name.rpartition("_")[2]))
    return most


def _repetitions(number: int, profile: Profile) -> int:
    return max(1, _named_repetitions(number, profile)) if MODELS[number].repeat else 0


def references(profile: Profile) -> list[str]:
    """Return every reference to a point that a profile makes."""
    places: list[Place] = [*profile.points.values(), *profile.commands.values(), *((profile.heartbeat,) if profile.heartbeat else ())]
    found = [p.point for p in places] + [r for c in profile.commands.values() for r in (c.enable, c.revert_s, c.mirror, *c.also)]
    return [reference for reference in found if reference is not None]


def mistakes(profile: Profile) -> Iterator[tuple[tuple[str | int, ...], BadInput]]:
    """Give what the standard's tables do not have, each with its path in the profile."""
    named: list[tuple[tuple[str | int, ...], str | None]] = [(("points", name, "point"), point.point) for name, point in profile.points.items()]
    for name, command in profile.commands.items():
        named += [(("commands", name, field), getattr(command, field)) for field in ("point", "enable", "revert_s", "mirror")]
        named += [(("commands", name, "also"), reference) for reference in command.also]
    named += [(("heartbeat", "point"), profile.heartbeat.point)] if profile.heartbeat else []
    for n, number in enumerate(profile.models):
        try:
            _known(number, profile)
        except BadInput as error:
            yield ("models", n), error
    for path, reference in named:
        try:
            if reference is not None:
                register_of(reference, profile)
        except BadInput as error:
            yield path, error


def register_of(reference: str | None, profile: Profile) -> tuple[int, Register]:
    """Return the model and the register that a reference like `103.W` names."""
    model, _, name = (reference or "").partition(".")
    number = int(model) if model.isdigit() else 0
    if number not in profile.models:
        raise BadInput(f"{reference} is in none of the profile's models", f"profile {profile.profile}", " | ".join(map(str, profile.models)))
    known = _known(number, profile)
    register = known.point(name)
    if register is None:
        raise BadInput(f"SunSpec model {number} has no point {name}", f"profile {profile.profile}", " | ".join(known.names()))
    return number, register


def placed(place: P, profile: Profile, layout: Layout, exponent: float = 0) -> P:
    """Return the place with address, type, unit and scale of its register; the profile's scale and unit go on top."""
    model, register = register_of(place.point, profile)
    return place.model_copy(
        update={
            "address": layout[model].address + register.offset,
            "table": "holding",
            "type": KINDS[register.kind],
            "length": register.size if register.kind == "string" else None,
            "word_order": "big",
            "byte_order": "big",
            "unit": place.unit or register.unit,
            "scale": place.scale * 10.0**exponent,
        }
    )


def scale_of(place: Place, profile: Profile) -> str | None:
    """Return the reference of the point's scale factor, or None where it has none."""
    model, register = register_of(place.point, profile)
    return None if register.scale is None else f"{model}.{register.scale}"


def on_wire(profile: Profile, layout: Layout) -> Profile:
    """Return the profile as plain registers: every point, and every scale factor under its own reference."""
    points: dict[str, Point] = {name: placed(point, profile, layout) for name, point in profile.points.items()}
    for place in (*profile.points.values(), *profile.commands.values()):
        reference = scale_of(place, profile)
        if reference is not None:
            points[reference] = placed(Point(point=reference), profile, layout)
    beat = placed(profile.heartbeat, profile, layout) if profile.heartbeat else None
    return profile.model_copy(update={"points": points, "missing": BLANK, "heartbeat": beat})


def mirrored(command: Command) -> Command:
    """Return the place that takes the negative of a command: model 124 wants the rate of charge beside that of discharge."""
    return command.model_copy(update={"point": command.mirror, "scale": -command.scale, "min": None, "max": None})


def companions(command: Command, profile: Profile, layout: Layout) -> dict[str, Point]:
    """Return the registers that a command needs beside its value: how long it lasts, its switch, and codes that go with it."""
    named: Sequence[tuple[str, str | None]] = [*((r, r) for r in command.also), ("revert_s", command.revert_s), ("enable", command.enable)]
    places = {name: placed(Point(point=reference), profile, layout) for name, reference in named if reference is not None}
    return {name: place.model_copy(update={"unit": None}) for name, place in places.items()}  # codes and seconds go as they are
