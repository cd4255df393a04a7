"""Simulated devices that speak SunSpec: a whole register map, from the marker over every model's header to the end model."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping

from drivers.codec import address_of, decode, encode
from drivers.sunspec import MARKER, MODELS, chain, on_wire, placed, register_of
from ems.clock import real_s
from ems.config.profile import Command, Place, Point, Profile
from ems.errors import BadInput
from simulator.faces import Taken, coded
from simulator.registers import Unit

log = logging.getLogger(__name__)

END_MODEL = [0xFFFF, 0]
EXPONENTS = {"Hz": -2, "V": -1, "degC": -1, "pct": -2, "A": 0, "Wh": 0}
"""Scale factor by unit; that of powers follows from the rating."""

BLANK = {"int16": [0x8000], "uint16": [0xFFFF], "enum16": [0xFFFF], "sunssf": [0x8000], "count": [0], "bitfield32": [0xFFFF, 0xFFFF], "acc32": [0, 0]}
"""How a point of each type says that it is not implemented."""

IDENTITY = ((2, 16, "Shima"), (18, 16, "simulated"), (42, 8, "1"))
"""Text of the common model: offset, registers, manufacturer, model and version; the serial number is the asset's id."""


class SunSpecFace:
    """An asset as one SunSpec device: a limit counts while it is enabled, and reverts by itself when its time is over."""

    def __init__(self, asset: str, profile: Profile, of: Mapping[str, float], taken: Taken) -> None:
        self.asset, self.profile, self.of, self.taken = asset, profile, of, taken
        self.heard_s: float | None = None
        self._wire = on_wire(profile)
        self._models = chain(profile)
        self._reverts: dict[str, asyncio.TimerHandle] = {}
        last = max(start + 2 + MODELS[model].length for model, start in self._models.items())
        mapped = set(range(profile.base, last + len(END_MODEL)))
        self._companions = {name: self._registers(command) for name, command in profile.commands.items()}
        writable = {("holding", address) for places in self._companions.values() for address in places.values()}
        self.unit = Unit({"holding": mapped}, writable, 0)
        self.unit.put("holding", profile.base, MARKER)
        self.unit.put("holding", last, END_MODEL)
        for model, start in self._models.items():
            self._fill(model, start)
        self.unit.on_write = self._written

    def _registers(self, command: Command) -> dict[str, int]:
        """Return the addresses of a command's value, switch and time."""
        references = {"value": command.point, "enable": command.enable, "revert_s": command.revert_s}
        return {name: address_of(placed(Point(point=reference), self.profile)) for name, reference in references.items() if reference is not None}

    def _fill(self, model: int, start: int) -> None:
        """Write a model's header, its scale factors, and the marks of what is not implemented."""
        self.unit.put("holding", start, [model, MODELS[model].length])
        if model == 1:
            for offset, words, text in (*IDENTITY, (50, 16, self.asset)):
                data = text.encode()[: 2 * words].ljust(2 * words, b"\0")
                self.unit.put("holding", start + offset, [int.from_bytes(data[k : k + 2], "big") for k in range(0, len(data), 2)])
        for register in MODELS[model].points.values():
            self.unit.put("holding", start + register.offset, BLANK[register.kind])
        for register in MODELS[model].points.values():
            if register.scale is not None:
                scale = MODELS[model].points[register.scale]
                self.unit.put("holding", start + scale.offset, [self._exponent(register.unit) % 0x10000])

    def _exponent(self, unit: str | None) -> int:
        rated_w = 1000.0 * self.of.get("rated_kw", 1.0)
        return EXPONENTS.get(unit or "", max(0, math.ceil(math.log10(1.5 * rated_w / 0x7FFF))))

    async def begin(self, points: Mapping[str, float | None]) -> None:
        """Fill the points; no limit is enabled."""
        for name, places in self._companions.items():
            value = self.of.get("rated_kw") if name == "limit_kw" else points.get(name)
            self._show(self.profile.commands[name], value)
            for companion in ("enable", "revert_s"):
                if companion in places:
                    self.unit.put("holding", places[companion], [0])
        await self.publish(points)

    async def publish(self, points: Mapping[str, float | None]) -> None:
        """Encode every point into its registers."""
        for name, place in self.profile.points.items():
            self._show(place, coded(name, points.get(name), place))

    def _scaled(self, place: Place) -> Place:
        _, register = register_of(place.point, self.profile)
        return placed(place, self.profile, 0 if register.scale is None else self._exponent(register.unit))

    def _show(self, place: Place, value: float | None) -> None:
        scaled = self._scaled(place)
        for shown in (value, None):
            try:
                self.unit.put("holding", address_of(scaled), encode(shown, scaled, self._wire, self.of))
                return
            except BadInput as error:
                log.debug("%s cannot show %s: %s", self.asset, shown, error)

    def _written(self, table: str, address: int, count: int) -> None:
        self.heard_s = real_s()
        for name, places in self._companions.items():
            if any(address <= place < address + count for place in places.values()):
                self._command(name, places)

    def _command(self, name: str, places: Mapping[str, int]) -> None:
        """Take a command if it is enabled, and set the clock that ends it."""
        old = self._reverts.pop(name, None)
        if old is not None:
            old.cancel()
        scaled = self._scaled(self.profile.commands[name])
        value = decode(self.unit.get("holding", places["value"], scaled.words), scaled, self._wire, self.of)
        enabled = "enable" not in places or self.unit.get("holding", places["enable"], 1) == [1]
        if not enabled or value is None:
            self._release(name)
            return
        lasts_s = self.unit.get("holding", places["revert_s"], 1)[0] if "revert_s" in places else 0
        if lasts_s:
            self._reverts[name] = asyncio.get_running_loop().call_later(lasts_s, self._end, name, places)
        self.taken(name, value)

    def _end(self, name: str, places: Mapping[str, int]) -> None:
        if "enable" in places:
            self.unit.put("holding", places["enable"], [0])
        self._release(name)

    def _release(self, name: str) -> None:
        if name == "limit_kw":
            self.taken(name, self.of["rated_kw"])
