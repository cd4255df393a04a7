"""SunSpec over Modbus: points named `model.point`, read where the device's own map keeps them.

Before the first value is believed or written, the map is walked and every model of the profile found with a
length that fits (`drivers/sunspec_map.py`); after a fault it is walked again, because a device may come back
with another map. Scale factors are read in the same breath as their values: a device may move them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from drivers.codec import address_of, blocks, decode, encode, to_raw
from drivers.modbus import BEHIND_GATEWAY, ModbusDriver, ModbusLink, Refused, Words, command_of, judge
from drivers.sunspec_map import Layout, companions, declared, discovered, mirrored, on_wire, placed, register_of, scale_of
from drivers.sunspec_models import ZERO_BLANK
from ems.config.profile import Command, Place, Point, Profile
from ems.errors import ConnectionLost
from ems.model import Reading
from ems.ports import WriteResult

DEFAULT_REVERT_S = 60
"""How long a command lasts at the device where neither silence nor refresh is declared [s]."""


class SunSpecDriver(ModbusDriver):
    """One SunSpec device; the parameters are those of `ModbusDriver`."""

    def __init__(self, asset: str, profile: Profile, unit: int, link: ModbusLink, timeout_s: float, of: Mapping[str, float]) -> None:
        self.named = profile
        self._layout: Layout = declared(profile)
        super().__init__(asset, on_wire(profile, self._layout), unit, link, timeout_s, of)
        self._places = {name: self._registers(command) for name, command in profile.commands.items()}
        self._proved = False
        self._blocks = blocks(self.profile.points, self.profile.defaults)

    async def read(self) -> Mapping[str, Reading]:
        """Read every point with its scale factor; those of a refused block are bad, any other fault spoils the whole read."""
        async with self._proved_turn():
            words = await self.words(self._blocks)
        return words.readings({name: self._value(name, point, words) for name, point in self.named.points.items()})

    async def write(self, command: str, value: float) -> WriteResult:
        """Write the value, what goes with it, how long it lasts, then its switch, each once, and read all of them back."""
        target = command_of(self.named, command, self.asset)
        to_raw(value, placed(target, self.named, self._layout), self.of)  # refuses a value out of range before anything is sent
        try:
            async with self._proved_turn():
                places = self._places[command]
                words = await self.words(blocks({"scale": places["scale"]} if "scale" in places else {}, self.profile.defaults))
                exponent = self._exponent(words, "scale") if "scale" in places else 0.0
                if exponent is None:
                    return WriteResult(False, None, f"no scale factor {scale_of(target, self.named)}")
                numbers = {name: placed(place, self.named, self._layout, exponent) for name, place in numbers_of(target).items()}
                for place in numbers.values():
                    await self._put(place, encode(value, place, self.profile, self.of))
                codes = {name: code for name, code in self._codes(target).items() if name in places}
                for name, code in codes.items():
                    await self._put(places[name], encode(float(code), places[name], self.profile, self.of))
                words = await self.words(blocks({name: places[name] for name in (*numbers, *codes)}, self.profile.defaults))
        except Refused as refusal:
            return WriteResult(False, None, str(refusal))
        for name, place in reversed(numbers.items()):  # the value itself comes last, and is what is told
            result = judge(value, decode(words.of[name], place, self.profile, self.of), place, self.of)
            if not result.ok:
                return result
        for name, code in codes.items():
            if not self._confirms(name, code, places[name], words.of[name]):
                return WriteResult(False, result.read_back, f"{name}: wrote {code}, read back {list(words.of[name]) or 'nothing'}")
        return result

    async def beat(self, count: int) -> None:
        """Toggle the heartbeat, where the device's map has been found to keep it."""
        if self.named.heartbeat is not None and self._proved:
            await super().beat(count)

    async def heartbeat(self) -> float | None:
        """Read the heartbeat back, once it is known where it is."""
        return await super().heartbeat() if self._proved else None

    # ------------------------------------------------------------------ where things are
    @asynccontextmanager
    async def _proved_turn(self) -> AsyncIterator[None]:
        """A turn on a device whose map is known; after a fault it is walked again."""
        try:
            if not self._proved:
                await self._find()
            async with self.link.turn(self.unit, self.timeout_s):
                yield
        except Refused as refusal:
            if refusal.code in BEHIND_GATEWAY:
                raise ConnectionLost(refusal.error, refusal.where) from refusal
            raise
        except BaseException:
            self._proved = False
            raise

    async def _find(self) -> None:
        """Walk the map, one turn for each look, so that a long chain takes nothing from its neighbours."""
        self._layout = await discovered(self.named, self._ask, f"{self.link} unit {self.unit} holding")
        self.profile = on_wire(self.named, self._layout)
        self._blocks = blocks(self.profile.points, self.profile.defaults)
        self._places = {name: self._registers(command) for name, command in self.named.commands.items()}
        self._proved = True

    async def _ask(self, address: int, count: int) -> list[int] | None:
        try:
            async with self.link.turn(self.unit, self.timeout_s):
                return await self.link.read(self.unit, "holding", address, count)
        except Refused as refusal:
            if refusal.code in BEHIND_GATEWAY:
                raise
            return None

    def _registers(self, command: Command) -> dict[str, Point]:
        """Return the registers of a command: its value or values, their scale factor, and what goes with them."""
        named = {name: Point(point=place.point) for name, place in numbers_of(command).items()}
        scale = scale_of(command, self.named)
        if scale is not None:
            named["scale"] = Point(point=scale)
        return {name: placed(p, self.named, self._layout) for name, p in named.items()} | companions(command, self.named, self._layout)

    # ------------------------------------------------------------------ what they mean
    def _codes(self, command: Command) -> dict[str, int]:
        """Return what is written beside the value, in its order: the codes that go with it, its time, its switch."""
        return {**command.also, "revert_s": self._revert_s(command), "enable": 1}

    def _revert_s(self, command: Command) -> int:
        """Return how long the command lasts at the device [s]: the declared silence, else three refreshes."""
        if self.named.on_silence is not None and self.named.on_silence.after_s >= 1:
            return round(self.named.on_silence.after_s)
        return DEFAULT_REVERT_S if command.refresh_s is None else round(3 * command.refresh_s)

    async def _put(self, place: Place, words: list[int]) -> None:
        await self.link.write(self.unit, "holding", address_of(place), words)

    def _confirms(self, name: str, wanted: int, place: Point, words: Sequence[int]) -> bool:
        """Whether a companion took its code; some devices count the time down in place."""
        found = decode(words, place, self.profile, {})
        return found is not None and (found == wanted or (name == "revert_s" and 0 < found < wanted))

    def _value(self, name: str, point: Point, words: Words) -> float | None:
        _, register = register_of(point.point, self.named)
        if register.kind in ZERO_BLANK and not any(words.of[name]):
            return None  # the standard's "not accumulated"
        scale = scale_of(point, self.named)
        exponent = 0.0 if scale is None else self._exponent(words, scale)
        return None if exponent is None else decode(words.of[name], placed(point, self.named, self._layout, exponent), self.profile, self.of)

    def _exponent(self, words: Words, name: str) -> float | None:
        """Return a power of ten, or None for one that the standard does not allow."""
        exponent = decode(words.of[name], Point(type="int16"), self.profile, {})
        return exponent if exponent is not None and abs(exponent) <= 10 else None


def numbers_of(command: Command) -> dict[str, Command]:
    """Return the places that take the command's number, scaled alike."""
    return {"value": command} if command.mirror is None else {"value": command, "mirror": mirrored(command)}
