"""Modbus: a device read and written by its profile, over a link that it may share.

Whether an answer fits its question is decided in `drivers/frames.py`, who may ask when in `drivers/link.py`. Here points become
blocks, blocks become readings, and a command is written once and read back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from drivers.codec import Block, address_of, blocks, decode, encode, encode_raw, rescaled, table_of, text, to_raw, within_tolerance
from drivers.decoder import Decoder, ReadyBlock
from drivers.frames import BEHIND_GATEWAY, Refused, RtuFrames
from drivers.link import ModbusLink
from drivers.serial_line import SerialLink
from ems.clock import real_s
from ems.config.endpoint import Endpoint
from ems.config.profile import Command, Profile
from ems.errors import BadInput, ConnectionLost, Failed
from ems.model import Quality, Reading
from ems.ports import WriteResult

__all__ = ["BEHIND_GATEWAY", "ModbusDriver", "ModbusLink", "Refused", "SerialLink", "Words", "command_of", "judge", "line_s", "link_to"]

FRAME_CHARACTERS = 8 + 5
"""What a serial read costs beside its data: the question, and the answer's unit, function, count and check."""


def link_to(line: Endpoint, timeout_s: float) -> ModbusLink:
    """Return the link to a device url; nothing is opened yet."""
    if line.scheme == "rtu":
        return SerialLink(line, timeout_s)
    return ModbusLink(line.host, line.port, timeout_s, RtuFrames() if line.serial else None)


def line_s(profile: Profile, line: Endpoint) -> float:
    """Return how long one read of all points takes on a serial line, the device's own time not counted [s]."""
    wanted = blocks(profile.points, profile.defaults)
    bits = {"coil", "discrete"}
    characters = sum(FRAME_CHARACTERS + (-(-b.count // 8) if b.table in bits else 2 * b.count) for b in wanted)
    return characters * line.character_s


@dataclass(frozen=True, slots=True)
class Words:
    """What came back, by point: its words (none where refused) and when they were asked for."""

    of: dict[str, Sequence[int]]
    sent_s: dict[str, float]

    def readings(self, values: Mapping[str, float | None]) -> dict[str, Reading]:
        """Return the values with quality and age."""
        now_s = real_s()
        return {name: Reading(value, Quality.BAD if value is None else Quality.GOOD, now_s - self.sent_s[name]) for name, value in values.items()}


class ModbusDriver:
    """One unit, read and written as its profile says.

    Parameters
    ----------
    asset : str
        Id, for messages.
    profile : Profile
    unit : int
        Modbus unit id.
    link : ModbusLink
        Shared with the other units of the same url.
    timeout_s : float
        For one read or one write once its turn has come [s].
    of : Mapping[str, float]
        Ratings that percentages refer to.
    """

    def __init__(self, asset: str, profile: Profile, unit: int, link: ModbusLink, timeout_s: float, of: Mapping[str, float]) -> None:
        self.asset, self.profile, self.unit, self.link, self.timeout_s, self.of = asset, profile, unit, link, timeout_s, of
        self._decoder = Decoder(profile, of)
        self._pressed: dict[str, float] = {}
        link.join()

    async def connect(self) -> None:
        """Open the shared connection; while it is open do nothing."""
        if not self.link.open:
            async with self.link.turn(self.unit, self.timeout_s):
                return

    async def read(self) -> Mapping[str, Reading]:
        """Read every point; those of a refused block are bad, any other fault spoils the whole read."""
        found: dict[str, float | None] = {}
        sent: list[tuple[ReadyBlock, float]] = []
        try:
            async with self.link.turn(self.unit, self.timeout_s):
                if self._pressed:
                    await self._release()
                for block in self._decoder.blocks:
                    sent.append((block, real_s()))
                    try:
                        block.values(await self.link.ask(self.unit, block.question), found)
                    except Refused as refusal:
                        if refusal.code in BEHIND_GATEWAY:
                            raise
                        found.update(dict.fromkeys(block.names))
        except Refused as refusal:
            raise ConnectionLost(refusal.error, refusal.where) from refusal
        self._decoder.scale(found)
        good, bad, now_s = Quality.GOOD, Quality.BAD, real_s()
        readings: dict[str, Reading] = {}
        for block, sent_s in sent:
            age_s = now_s - sent_s
            for name in block.names:
                value = found[name]
                readings[name] = Reading(value, bad if value is None else good, age_s)
        return readings

    async def texts(self) -> Mapping[str, str]:
        """Read the points that are text: serial numbers and the like, which no cycle needs; empty where refused."""
        points = {name: point for name, point in self.profile.points.items() if point.type == "string"}
        async with self.link.turn(self.unit, self.timeout_s):
            words = await self.words(blocks(points, self.profile.defaults))
        return {name: text(words.of[name], point.byte_order or self.profile.defaults.byte_order) for name, point in points.items()}

    async def words(self, wanted: Sequence[Block]) -> Words:
        """Ask for blocks inside a turn; a gateway's word that nobody is behind it is raised, other refusals leave gaps."""
        words = Words({}, {})
        for block in wanted:
            sent_s = real_s()
            try:
                got = await self.link.read(self.unit, block.table, block.address, block.count)
            except Refused as refusal:
                if refusal.code in BEHIND_GATEWAY:
                    raise
                got = []
            for name, point in block.points:
                words.of[name] = block.words_of(point, got)
                words.sent_s[name] = sent_s
        return words

    async def write(self, command: str, value: float) -> WriteResult:
        """Write one command once and read it back where the profile says where; a pulse is not read back: its effect is."""
        target = command_of(self.profile, command, self.asset)
        to_raw(value, target, self.of)  # refuses a value out of range before anything is sent
        table = table_of(target, self.profile.defaults)
        try:
            async with self.link.turn(self.unit, self.timeout_s, first=True):
                scaled = await self._scaled(target)
                if scaled is None:
                    return WriteResult(False, None, f"no scale factor {target.scale_point}")
                words = encode(value, scaled, self.profile, self.of)
                if target.release is not None:
                    self._pressed[command] = real_s() + target.pulse_s  # noted first: the answer may be lost, the pulse not
                await self.link.write(self.unit, table, address_of(target), words)
                if not isinstance(target.read_back, int) or target.pulse_s > 0:
                    return WriteResult(True)
                words = await self.link.read(self.unit, table, target.read_back, target.words)
        except Refused as refusal:
            self._pressed.pop(command, None)
            return WriteResult(False, None, str(refusal))
        return judge(value, decode(words, scaled, self.profile, self.of), scaled, self.of)

    async def _scaled(self, target: Command) -> Command | None:
        """Return the command with the scale that its scale factor says now; a device may move it."""
        if target.scale_point is None:
            return target
        point = self.profile.points[target.scale_point]
        words = await self.link.read(self.unit, table_of(point, self.profile.defaults), address_of(point), point.words)
        return rescaled(target, decode(words, point, self.profile, self.of))

    async def _release(self) -> None:
        """Clear the pulses whose time is over; inside a turn. One whose clearing is not acknowledged is cleared again."""
        for command in [name for name, until_s in self._pressed.items() if real_s() >= until_s]:
            target = self.profile.commands[command]
            assert target.release is not None
            words = encode_raw(target.release, target, self.profile)
            try:
                await self.link.write(self.unit, table_of(target, self.profile.defaults), address_of(target), words)
            except Refused as refusal:
                if refusal.code in BEHIND_GATEWAY:
                    raise
            self._pressed.pop(command, None)

    async def beat(self, count: int) -> None:
        """Toggle the heartbeat: the device watches for change, not for a number."""
        beat = self.profile.heartbeat
        if beat is None:
            return
        async with self.link.turn(self.unit, self.timeout_s, first=True):
            await self.link.write(self.unit, table_of(beat, self.profile.defaults), address_of(beat), encode(float(count % 2), beat, self.profile, self.of))

    async def heartbeat(self) -> float | None:
        """Read the heartbeat back; a register that can only be written shows nothing."""
        beat = self.profile.heartbeat
        if beat is None:
            return None
        try:
            async with self.link.turn(self.unit, self.timeout_s):
                words = await self.link.read(self.unit, table_of(beat, self.profile.defaults), address_of(beat), beat.words)
        except Refused as refusal:
            if refusal.code in BEHIND_GATEWAY:
                raise ConnectionLost(refusal.error, refusal.where) from refusal
            return None
        return decode(words, beat, self.profile, self.of)

    async def close(self) -> None:
        """Clear what is still pressed and close the shared connection; another unit's next turn opens it again."""
        if self._pressed and self.link.open:
            self._pressed = dict.fromkeys(self._pressed, 0.0)
            with suppress(Failed):
                async with self.link.turn(self.unit, self.timeout_s, first=True):
                    await self._release()
        await self.link.close()


def command_of(profile: Profile, command: str, asset: str) -> Command:
    """Return a command of the profile."""
    if command not in profile.commands:
        raise BadInput(f"{asset} takes no command {command}", f"profile {profile.profile}", " | ".join(profile.commands) or "no command at all")
    return profile.commands[command]


def judge(wanted: float, actual: float | None, target: Command, of: Mapping[str, float]) -> WriteResult:
    """Compare what was read back with what was written."""
    if within_tolerance(wanted, actual, target, of):
        return WriteResult(True, actual)
    return WriteResult(False, actual, f"wrote {wanted:g}, read back {'nothing' if actual is None else format(actual, 'g')}")
