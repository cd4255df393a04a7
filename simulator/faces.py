"""What one simulated asset shows on the wire and what it takes: its profile, seen from the device's side."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from drivers.codec import INTEGERS, decode, encode, factor, field_mask, put_field, rescaled, table_of
from ems.clock import real_s
from ems.config.profile import Command, Place, Point, Profile, registers
from ems.errors import BadInput
from simulator.registers import Unit

log = logging.getLogger(__name__)

Taken = Callable[[str, float], None]
"""Called with the name of a command and its value in the house unit, when a client has written it."""

P = TypeVar("P", bound=Place)

STATES = {0.0: ("off", "sleeping", "standby"), 1.0: ("running",), 2.0: ("limited", "throttled")}
"""How profiles call what the plant knows as night, running and curtailed."""

SHOWN_BY = {"breaker": "breaker_closed"}
"""Points that show a command's state under another name."""


def exponents(profile: Profile, of: Mapping[str, float]) -> dict[str, float]:
    """Return what the device's scale factors show, by the point that gives them: the finest that every value it could have still fits."""
    largest = 1.2 * max(of.values(), default=1000.0)
    found: dict[str, float] = {}
    for place in (*profile.points.values(), *profile.commands.values()):
        if place.scale_point is not None and place.type in INTEGERS:
            needed = largest / abs(place.scale * factor(place, of)) / 2.0 ** (16 * place.words - 1)
            found[place.scale_point] = max(found.get(place.scale_point, -3.0), math.ceil(math.log10(needed)))
    return found


class Face(Protocol):
    """One asset on the wire.

    Attributes
    ----------
    heard_s : float | None
        Real time of the heartbeat's last change or, without one, of the last write; None before the first [s].
    """

    asset: str
    profile: Profile
    heard_s: float | None

    async def begin(self, points: Mapping[str, float | None]) -> None:
        """Show these points, and in the commands what is in force before anyone has written."""

    async def publish(self, points: Mapping[str, float | None]) -> None:
        """Show these points [house units]; missing ones as the device marks them."""


def coded(name: str, value: float | None, place: Place) -> float | None:
    """Return the value that goes to the wire: a state in the device's own codes, all else as it is."""
    if value is None or name != "state" or not isinstance(place, Point):
        return value
    return next((float(code) for code, text in place.text.items() if text.en in STATES.get(value, ())), value)


def in_force(name: str, points: Mapping[str, float | None], of: Mapping[str, float]) -> float | None:
    """Return the value of a command before anyone has written it."""
    return of.get("rated_kw") if name == "limit_kw" else points.get(SHOWN_BY.get(name, name))


class ModbusFace:
    """An asset in a Modbus unit, by itself or beside another: a pulse clears itself, and what is read back elsewhere shows there at once."""

    def __init__(self, asset: str, profile: Profile, of: Mapping[str, float], taken: Taken, beside: Unit | None = None) -> None:
        self.asset, self.profile, self.of, self.taken = asset, profile, of, taken
        self.heard_s: float | None = None
        self._unmarked: set[str] = set()
        self._beat = [0] * (profile.heartbeat.words if profile.heartbeat else 0)
        mapped: dict[str, set[int]] = {}
        writable: set[tuple[str, int]] = set()
        for place in (*profile.points.values(), *profile.commands.values(), *((profile.heartbeat,) if profile.heartbeat else ())):
            words = registers(place, profile.defaults)
            writable |= set() if isinstance(place, Point) else set(words)
            if isinstance(place, Command) and isinstance(place.read_back, int):
                words += [(words[0][0], place.read_back + k) for k in range(place.words)]
            for table, address in words:
                mapped.setdefault(table, set()).add(address)
        self.unit = Unit({}, set(), 0) if beside is None else beside
        self.unit.extend(mapped, writable, profile.defaults.max_gap)
        self._told = self.unit.on_write  # who was here before is told as well
        self.unit.on_write = self._written
        self._exponents = exponents(profile, of)

    async def begin(self, points: Mapping[str, float | None]) -> None:
        """Fill points and commands."""
        for name, command in self.profile.commands.items():
            value = in_force(name, points, self.of)
            if value is not None and command.pulse_s == 0:
                self._show(name, command, value)
                self._mirror(command)
        await self.publish(points)

    async def publish(self, points: Mapping[str, float | None]) -> None:
        """Encode every point into its registers."""
        for name, place in self.profile.points.items():
            value = self._exponents.get(name, coded(name, points.get(name), place))
            self._show(name, place, value)

    def _show(self, name: str, place: Place, value: float | None) -> None:
        table, address = registers(place, self.profile.defaults)[0]
        if place.type == "string":
            return
        if field_mask(place) is not None and value is None:
            value = 0.0  # bits cannot say that they are missing
        scaled = self._scaled(place)
        for shown in (value, None):
            try:
                words = encode(shown, scaled, self.profile, self.of)
                self.unit.put(table, address, put_field(self._words(place), words, place, self.profile.defaults))
                return
            except BadInput as error:
                if name not in self._unmarked and shown is None:
                    log.warning("%s.%s cannot show a missing value: %s", self.asset, name, error)
                    self._unmarked.add(name)

    def _scaled(self, place: P) -> P:
        """Return the place with the scale factor that this device shows."""
        return place if place.scale_point is None else rescaled(place, self._exponents[place.scale_point]) or place

    def _words(self, place: Place) -> list[int]:
        table, address = registers(place, self.profile.defaults)[0]
        return self.unit.get(table, address, place.words)

    def _mirror(self, command: Command) -> None:
        if isinstance(command.read_back, int):
            self.unit.put(table_of(command, self.profile.defaults), command.read_back, self._words(command))

    def _written(self, table: str, address: int, count: int) -> None:
        self._told(table, address, count)
        touched = {(table, address + k) for k in range(count)}
        beat = self.profile.heartbeat
        if beat is None or self._words(beat) != self._beat:
            self.heard_s = real_s()
            self._beat = [] if beat is None else self._words(beat)
        for name, command in self.profile.commands.items():
            if not touched & set(registers(command, self.profile.defaults)):
                continue
            value = decode(self._words(command), self._scaled(command), self.profile, self.of)
            self._mirror(command)
            if command.pulse_s > 0 and command.release is None:
                first = registers(command, self.profile.defaults)[0]
                asyncio.get_running_loop().call_later(command.pulse_s, self.unit.put, *first, [0] * command.words)
            if value is not None:
                self.taken(name, value)
