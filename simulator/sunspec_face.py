"""Simulated devices that speak SunSpec: a whole register map, from the marker over every model's header to the end model."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping

from drivers.codec import address_of, decode, encode
from drivers.sunspec import numbers_of
from drivers.sunspec_map import MARKER, Layout, Standing, companions, declared, on_wire, placed, register_of
from drivers.sunspec_models import BLANK, HEAD, KINDS, MODELS, ZERO_BLANK, Model, Register
from ems.clock import real_s
from ems.config.profile import Command, Heartbeat, Place, Point, Profile
from ems.errors import BadInput
from simulator.faces import Taken, coded
from simulator.registers import Unit

log = logging.getLogger(__name__)

END_MODEL = [0xFFFF, 0]
EXPONENTS = {"Hz": -2, "V": -1, "degC": -1, "pct": -2, "A": 0}
"""Scale factor by unit; that of powers and energies follows from the rating where a register is short."""
IDENTITY = {"Mn": "Shima", "Md": "simulated", "Vr": "1"}
"""Texts of the common model; the serial number is the asset's id."""
UNRATED = 1000.0
"""What the short registers of a meter, which has no rating, are made for [kW, kWh]."""
RATINGS = {
    120: {"WRtg": "rated_kw"}, 121: {"WMax": "rated_kw"}, 124: {"WChaMax": "rated_kw"}, 702: {"WMaxRtg": "rated_kw", "WMax": "rated_kw"},
    713: {"WHRtg": "capacity_kwh"}, 802: {"WHRtg": "capacity_kwh", "WChaRteMax": "charge_kw", "WDisChaRteMax": "discharge_kw"},
}  # fmt: skip
"""Points that show a rating of the asset."""


class SunSpecFace:
    """An asset as one SunSpec device: a command counts while it is enabled, and reverts by itself when its time is over."""

    def __init__(self, asset: str, profile: Profile, of: Mapping[str, float], taken: Taken, beside: SunSpecFace | None = None) -> None:
        self.asset, self.profile, self.of, self.taken = asset, profile, of, taken
        self.heard_s: float | None = None
        self._layout: Layout = declared(profile) if beside is None else beside.extended(profile)
        self._wire = on_wire(profile, self._layout)
        self._reverts: dict[str, asyncio.TimerHandle] = {}
        before: Layout = {} if beside is None else beside.layout
        end = _end_of({**before, **self._layout})
        words = dict.fromkeys(range(profile.base, end + len(END_MODEL)), 0)
        self.unit: Unit = Unit({"holding": set(words)}, set(), 0) if beside is None else beside.unit
        self.unit.words["holding"] = {**words, **self.unit.words["holding"]}
        self.unit.put("holding", profile.base, MARKER)
        self.unit.put("holding", end, END_MODEL)
        for number, standing in self._layout.items():
            if standing not in before.values():
                self.unit.put("holding", standing.address, [standing.id, standing.length])
                self._fill(number, MODELS[standing.id], standing.address, standing.length)
        self._companions = {name: companions(command, profile, self._layout) for name, command in profile.commands.items()}
        self._values = {name: {n: self._scaled(p) for n, p in numbers_of(c).items()} for name, c in profile.commands.items()}
        taking: list[Place] = [p for places in self._companions.values() for p in places.values()] + [p for v in self._values.values() for p in v.values()]
        taking += [] if self._wire.heartbeat is None else [self._wire.heartbeat]
        self.unit.writable |= {("holding", address_of(place) + k) for place in taking for k in range(place.words)}
        self._beat = self._beats()
        self._told = self.unit.on_write  # who was here before is told as well
        self.unit.on_write = self._written

    @property
    def layout(self) -> Layout:
        """Where its models stand."""
        return self._layout

    def extended(self, profile: Profile) -> dict[int, Standing]:
        """Return the layout of a second asset in the same unit: it shares models, and its own come behind."""
        end = _end_of(self._layout)
        found = dict[int, Standing]()
        for number, standing in declared(profile).items():
            found[number] = self._layout.get(number) or Standing(number, end, standing.length)
            end += 0 if number in self._layout else HEAD + standing.length
        return found

    # ------------------------------------------------------------------ what it shows
    def _fill(self, number: int, model: Model, start: int, length: int) -> None:
        """Write the marks of what is not implemented, then scale factors, texts and ratings."""
        times = (length - model.length) // model.repeat if model.repeat else 0
        registers = {**model.points}
        for name in model.repeated:
            registers |= {f"{name}_{k}": r for k in range(1, times + 1) if (r := model.point(f"{name}_{k}")) is not None}
        for name, register in registers.items():
            self.unit.put("holding", start + register.offset, [times] if register.kind == "count" else _blank(register))
            text = {**IDENTITY, "SN": self.asset}.get(name) if number == 1 else None
            if text is not None:
                data = text.encode()[: 2 * register.size].ljust(2 * register.size, b"\0")
                self.unit.put("holding", start + register.offset, [int.from_bytes(data[k : k + 2], "big") for k in range(0, len(data), 2)])
        for register in registers.values():
            if register.scale is not None:
                self.unit.put("holding", start + model.points[register.scale].offset, [self._exponent(register) % 0x10000])
        for name, rating in RATINGS.get(number, {}).items():
            self._show(self._scaled(Point(point=f"{number}.{name}")), self.of.get(rating))

    def _exponent(self, register: Register) -> int:
        if register.unit in EXPONENTS or register.size > 1:
            return EXPONENTS.get(register.unit or "", 0)
        rated = max(self.of.get(r, 0.0) for r in (("capacity_kwh",) if register.unit == "Wh" else ("rated_kw", "charge_kw", "discharge_kw")))
        return max(0, math.ceil(math.log10(1.5 * 1000.0 * (rated or UNRATED) / 0x7FFF)))

    async def begin(self, points: Mapping[str, float | None]) -> None:
        """Fill the points; no command is enabled."""
        for point in self._wire.points.values():
            if point.bit is not None:
                self.unit.put("holding", address_of(point), [0])
        for name, places in self._values.items():
            for place in places.values():
                self._show(place, self.of.get("rated_kw") if name == "limit_kw" else points.get(name))
            for companion in self._companions[name].values():
                self._show(companion, 0.0)
        if self._wire.heartbeat is not None:
            self._show(self._wire.heartbeat, 0.0)
        await self.publish(points)

    async def publish(self, points: Mapping[str, float | None]) -> None:
        """Encode every point into its registers."""
        for name, place in self.profile.points.items():
            self._show(self._scaled(place), coded(name, points.get(name), place))

    def _scaled(self, place: Place) -> Place:
        """Return the place with the scale factor that stands in its model."""
        number, register = register_of(place.point, self.profile)
        if register.scale is None:
            return placed(place, self.profile, self._layout)
        (word,) = self.unit.get("holding", self._layout[number].address + MODELS[number].points[register.scale].offset, 1)
        return placed(place, self.profile, self._layout, word - 0x10000 if word & 0x8000 else word)

    def _show(self, place: Place, value: float | None) -> None:
        """Put a value, or the mark of a missing one, into its registers; texts stay as they were filled."""
        if isinstance(place, Point) and place.bit is not None:
            self.unit.put_bit("holding", address_of(place), place.bit, bool(value))
            return
        for shown in () if place.type == "string" else (value, None):
            try:
                self.unit.put("holding", address_of(place), encode(shown, place, self._wire, self.of))
                return
            except BadInput as error:
                log.debug("%s cannot show %s: %s", self.asset, shown, error)

    # ------------------------------------------------------------------ what it takes
    def _beats(self) -> list[int]:
        beat: Heartbeat | None = self._wire.heartbeat
        return [] if beat is None else self.unit.get("holding", address_of(beat), beat.words)

    def _written(self, table: str, address: int, count: int) -> None:
        self._told(table, address, count)
        if self._wire.heartbeat is None or self._beats() != self._beat:
            self.heard_s, self._beat = real_s(), self._beats()
        for name in self.profile.commands:
            places = (*self._companions[name].values(), *self._values[name].values())
            if any(address <= address_of(place) + k < address + count for place in places for k in range(place.words)):
                self._command(name, self.profile.commands[name])

    def _command(self, name: str, command: Command) -> None:
        """Take a command if all that goes with it is in place, and set the clock that ends it."""
        old = self._reverts.pop(name, None)
        if old is not None:
            old.cancel()
        value = self._now(self._values[name]["value"])
        codes = {c: self._now(place) for c, place in self._companions[name].items()}
        enabled = all(codes[c] == due for c, due in {**command.also, "enable": 1}.items() if c in codes)
        if not enabled or value is None:
            self._release(name)
            return
        lasts_s = codes.get("revert_s") or 0.0
        if lasts_s:
            self._reverts[name] = asyncio.get_running_loop().call_later(lasts_s, self._end, name)
        self.taken(name, value)

    def _now(self, place: Place) -> float | None:
        return decode(self.unit.get("holding", address_of(place), place.words), place, self._wire, self.of)

    def _end(self, name: str) -> None:
        """The time is over: the device takes its own switches back, and goes on as if nobody had written."""
        for companion, place in self._companions[name].items():
            if companion != "revert_s":
                self._show(place, 0.0)
        self._release(name)

    def _release(self, name: str) -> None:
        if name in ("limit_kw", "power_kw"):
            self.taken(name, self.of["rated_kw"] if name == "limit_kw" else 0.0)


def _end_of(layout: Layout) -> int:
    return max(s.address + HEAD + s.length for s in layout.values())


def _blank(register: Register) -> list[int]:
    """Return how a point says that it is not implemented."""
    mark = 0 if register.kind in ZERO_BLANK else BLANK[KINDS[register.kind]]
    return [mark >> 16 * k & 0xFFFF for k in reversed(range(register.size))]
