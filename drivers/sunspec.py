"""SunSpec: points named `model.point` become registers of a chain of models at a fixed base address.

The chain is the profile's `models` with the standard lengths. Before the first value is believed or written,
the marker "SunS" and the id and length of every model are read from the device and compared. Scale factors
are read in the same breath as their values: a device may move them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from drivers.codec import address_of, blocks, decode, encode, to_raw
from drivers.modbus import BEHIND_GATEWAY, ModbusDriver, ModbusLink, Refused, Words, command_of, judge
from ems.config.profile import Command, Place, Point, Profile, Unit
from ems.errors import BadAnswer, BadInput, ConnectionLost
from ems.model import Reading
from ems.ports import WriteResult

MARKER = [0x5375, 0x6E53]
"""The text "SunS" at the base address."""

MISSING: dict[str, int] = {"int16": 0x8000, "uint16": 0xFFFF, "int32": 0x80000000, "uint32": 0xFFFFFFFF}
"""Raw words of a point that the device does not implement; an accumulator (`acc32`) says it with 0."""

KINDS = {"int16": "int16", "uint16": "uint16", "enum16": "uint16", "sunssf": "int16", "bitfield32": "uint32", "acc32": "uint32"}
"""Register type of each SunSpec type."""

DEFAULT_REVERT_S = 60
"""How long a command lasts at the device where neither silence nor refresh is declared [s]."""


@dataclass(frozen=True, slots=True)
class Register:
    """A point of a model: words after the model's id, type, unit, and the point that scales it."""

    offset: int
    kind: str
    unit: Unit | None = None
    scale: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model's standard length (words after id and length) and its points."""

    length: int
    points: Mapping[str, Register]


def _scaled(kind: str, unit: Unit | None, scale: str, **offsets: int) -> dict[str, Register]:
    return {name: Register(offset, kind, unit, scale) for name, offset in offsets.items()}


def _plain(kind: str, unit: Unit | None = None, **offsets: int) -> dict[str, Register]:
    return {name: Register(offset, kind, unit) for name, offset in offsets.items()}


INVERTER = Model(
    50,
    {
        **_scaled("uint16", "A", "A_SF", A=2, AphA=3, AphB=4, AphC=5),
        **_scaled("uint16", "V", "V_SF", PPVphAB=7, PPVphBC=8, PPVphCA=9, PhVphA=10, PhVphB=11, PhVphC=12),
        **_scaled("int16", "W", "W_SF", W=14),
        **_scaled("uint16", "Hz", "Hz_SF", Hz=16),
        **_scaled("int16", None, "VA_SF", VA=18),
        **_scaled("int16", "var", "VAr_SF", VAr=20),
        **_scaled("int16", "pct", "PF_SF", PF=22),
        **_scaled("acc32", "Wh", "WH_SF", WH=24),
        **_scaled("uint16", "A", "DCA_SF", DCA=27),
        **_scaled("uint16", "V", "DCV_SF", DCV=29),
        **_scaled("int16", "W", "DCW_SF", DCW=31),
        **_scaled("int16", "degC", "Tmp_SF", TmpCab=33, TmpSnk=34, TmpTrns=35, TmpOt=36),
        **_plain("enum16", St=38, StVnd=39),
        **_plain("bitfield32", Evt1=40, Evt2=42, EvtVnd1=44, EvtVnd2=46, EvtVnd3=48, EvtVnd4=50),
        **_plain("sunssf", A_SF=6, V_SF=13, W_SF=15, Hz_SF=17, VA_SF=19, VAr_SF=21, PF_SF=23, WH_SF=26, DCA_SF=28, DCV_SF=30, DCW_SF=32, Tmp_SF=37),
    },
)

METER = Model(
    105,
    {
        **_scaled("int16", "A", "A_SF", A=2, AphA=3, AphB=4, AphC=5),
        **_scaled("int16", "V", "V_SF", PhV=7, PhVphA=8, PhVphB=9, PhVphC=10, PPV=11, PhVphAB=12, PhVphBC=13, PhVphCA=14),
        **_scaled("int16", "Hz", "Hz_SF", Hz=16),
        **_scaled("int16", "W", "W_SF", W=18, WphA=19, WphB=20, WphC=21),
        **_scaled("int16", None, "VA_SF", VA=23, VAphA=24, VAphB=25, VAphC=26),
        **_scaled("int16", "var", "VAR_SF", VAR=28, VARphA=29, VARphB=30, VARphC=31),
        **_scaled("int16", "pct", "PF_SF", PF=33, PFphA=34, PFphB=35, PFphC=36),
        **_scaled("acc32", "Wh", "TotWh_SF", TotWhExp=38, TotWhExpPhA=40, TotWhExpPhB=42, TotWhExpPhC=44),
        **_scaled("acc32", "Wh", "TotWh_SF", TotWhImp=46, TotWhImpPhA=48, TotWhImpPhB=50, TotWhImpPhC=52),
        **_plain("sunssf", A_SF=6, V_SF=15, Hz_SF=17, W_SF=22, VA_SF=27, VAR_SF=32, PF_SF=37, TotWh_SF=54),
        **_plain("bitfield32", Evt=105),
    },
)

NAMEPLATE = Model(
    26,
    {
        **_plain("enum16", DERTyp=2),
        **_scaled("uint16", "W", "WRtg_SF", WRtg=3),
        **_scaled("uint16", None, "VARtg_SF", VARtg=5),
        **_scaled("uint16", "A", "ARtg_SF", ARtg=12),
        **_scaled("uint16", "Wh", "WHRtg_SF", WHRtg=19),
        **_scaled("uint16", "W", "MaxChaRte_SF", MaxChaRte=23),
        **_scaled("uint16", "W", "MaxDisChaRte_SF", MaxDisChaRte=25),
        **_plain("sunssf", WRtg_SF=4, VARtg_SF=6, ARtg_SF=13, WHRtg_SF=20, MaxChaRte_SF=24, MaxDisChaRte_SF=26),
    },
)

SETTINGS = Model(
    30,
    {
        **_scaled("uint16", "W", "WMax_SF", WMax=2),
        **_scaled("uint16", "V", "VRef_SF", VRef=3),
        **_scaled("uint16", None, "VAMax_SF", VAMax=7),
        **_scaled("uint16", "pct", "WGra_SF", WGra=12),
        **_plain("sunssf", WMax_SF=22, VRef_SF=23, VAMax_SF=26, WGra_SF=28),
    },
)

CONTROLS = Model(
    24,
    {
        **_plain("uint16", "s", Conn_WinTms=2, Conn_RvrtTms=3, WMaxLimPct_WinTms=6, WMaxLimPct_RvrtTms=7, WMaxLimPct_RmpTms=8),
        **_plain("enum16", Conn=4, WMaxLim_Ena=9, OutPFSet_Ena=14, VArPct_Ena=22),
        **_scaled("uint16", "pct", "WMaxLimPct_SF", WMaxLimPct=5),
        **_scaled("int16", None, "OutPFSet_SF", OutPFSet=10),
        **_scaled("int16", "pct", "VArPct_SF", VArWMaxPct=15, VArMaxPct=16, VArAvalPct=17),
        **_plain("sunssf", WMaxLimPct_SF=23, OutPFSet_SF=24, VArPct_SF=25),
    },
)

MODELS: dict[int, Model] = {1: Model(66, {}), 120: NAMEPLATE, 121: SETTINGS, 123: CONTROLS}
MODELS |= dict.fromkeys((101, 102, 103), INVERTER) | dict.fromkeys((201, 202, 203, 204), METER)

P = TypeVar("P", bound=Place)


def chain(profile: Profile) -> dict[int, int]:
    """Return where each model's id stands, by model, in the order of the map."""
    found: dict[int, int] = {}
    address = profile.base + len(MARKER)
    for model in profile.models:
        if model not in MODELS:
            raise BadInput(f"SunSpec model {model} is not known here", f"profile {profile.profile}: models", " | ".join(map(str, sorted(MODELS))))
        found[model] = address
        address += 2 + MODELS[model].length
    return found


def register_of(reference: str | None, profile: Profile) -> tuple[int, Register]:
    """Return the model and the register that a reference like `103.W` names."""
    model, _, name = (reference or "").partition(".")
    number = int(model) if model.isdigit() else 0
    if number not in profile.models or number not in MODELS:
        raise BadInput(f"{reference} is in none of the profile's models", f"profile {profile.profile}", " | ".join(map(str, profile.models)))
    points = MODELS[number].points
    if name not in points:
        raise BadInput(f"SunSpec model {number} has no point {name}", f"profile {profile.profile}", " | ".join(points))
    return number, points[name]


def placed(place: P, profile: Profile, exponent: float = 0) -> P:
    """Return the place with address, type, unit and scale of its register; the profile's scale and unit go on top."""
    model, register = register_of(place.point, profile)
    return place.model_copy(
        update={
            "address": chain(profile)[model] + register.offset,
            "table": "holding",
            "type": KINDS[register.kind],
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


def on_wire(profile: Profile) -> Profile:
    """Return the profile as plain registers: every point, and every scale factor under its own reference."""
    points: dict[str, Point] = {name: placed(point, profile) for name, point in profile.points.items()}
    for place in (*profile.points.values(), *profile.commands.values()):
        reference = scale_of(place, profile)
        if reference is not None:
            points[reference] = placed(Point(point=reference), profile)
    beat = placed(profile.heartbeat, profile) if profile.heartbeat else None
    return profile.model_copy(update={"points": points, "missing": MISSING, "heartbeat": beat})


class SunSpecDriver(ModbusDriver):
    """One SunSpec device; the parameters are those of `ModbusDriver`."""

    def __init__(self, asset: str, profile: Profile, unit: int, link: ModbusLink, timeout_s: float, of: Mapping[str, float]) -> None:
        super().__init__(asset, on_wire(profile), unit, link, timeout_s, of)
        self.named = profile
        self._proved = False
        self._blocks = blocks(self.profile.points, self.profile.defaults)
        self._backs = {name: self._places(command) for name, command in profile.commands.items()}

    async def read(self) -> Mapping[str, Reading]:
        """Read every point with its scale factor; those of a refused block are bad, any other fault spoils the whole read."""
        async with self._proved_turn():
            words = await self.words(self._blocks)
        return words.readings({name: self._value(name, point, words) for name, point in self.named.points.items()})

    async def write(self, command: str, value: float) -> WriteResult:
        """Write the value, then how long it lasts, then its enabling, each once, and read all of them back."""
        target = command_of(self.named, command, self.asset)
        to_raw(value, placed(target, self.named), self.of)  # refuses a value out of range before anything is sent
        places = self._backs[command]
        try:
            async with self._proved_turn():
                words = await self.words(blocks({"scale": places["scale"]} if "scale" in places else {}, self.profile.defaults))
                exponent = self._exponent(words, "scale") if "scale" in places else 0.0
                if exponent is None:
                    return WriteResult(False, None, f"no scale factor {scale_of(target, self.named)}")
                scaled = placed(target, self.named, exponent)
                await self._put(scaled, encode(value, scaled, self.profile, self.of))
                wanted = {name: word for name, word in (("revert_s", self._revert_s(target)), ("enable", 1)) if name in places}
                for name, word in wanted.items():
                    await self._put(places[name], [word])
                words = await self.words(blocks({name: places[name] for name in ("value", *wanted)}, self.profile.defaults))
        except Refused as refusal:
            return WriteResult(False, None, str(refusal))
        result = judge(value, decode(words.of["value"], scaled, self.profile, self.of), scaled, self.of)
        for name, word in wanted.items():
            if not _confirms(name, word, words.of[name]):
                return WriteResult(False, result.read_back, f"{name}: wrote {word}, read back {list(words.of[name]) or 'nothing'}")
        return result

    def _places(self, command: Command) -> dict[str, Point]:
        """Return the registers that a command needs: value, and where it has them scale, revert_s and enable."""
        references = {"value": command.point, "scale": scale_of(command, self.named), "revert_s": command.revert_s, "enable": command.enable}
        return {name: placed(Point(point=reference), self.named) for name, reference in references.items() if reference is not None}

    def _revert_s(self, command: Command) -> int:
        """Return how long the command lasts at the device [s]: the declared silence, else three refreshes."""
        if self.named.on_silence is not None and self.named.on_silence.after_s >= 1:
            return round(self.named.on_silence.after_s)
        return DEFAULT_REVERT_S if command.refresh_s is None else round(3 * command.refresh_s)

    async def _put(self, place: Place, words: list[int]) -> None:
        await self.link.write(self.unit, "holding", address_of(place), words)

    @asynccontextmanager
    async def _proved_turn(self) -> AsyncIterator[None]:
        """A turn on a device whose map is known to be the profile's; after a fault it is looked at again."""
        try:
            async with self.link.turn(self.unit, self.timeout_s):
                if not self._proved:
                    await self._prove()
                yield
        except Refused as refusal:
            if refusal.code in BEHIND_GATEWAY:
                raise ConnectionLost(refusal.error, refusal.where) from refusal
            raise
        except BaseException:
            self._proved = False
            raise

    async def _prove(self) -> None:
        """Compare marker, ids and lengths with the profile's chain."""
        where = f"{self.link} unit {self.unit} holding"
        marker = await self.link.read(self.unit, "holding", self.named.base, len(MARKER))
        if marker != MARKER:
            raise BadAnswer(f"no SunSpec marker but {marker}", f"{where} {self.named.base}", str(MARKER))
        for model, address in chain(self.named).items():
            found = await self.link.read(self.unit, "holding", address, 2)
            due = [model, MODELS[model].length]
            if found != due:
                raise BadAnswer(f"model {found[0]} of length {found[1]}", f"{where} {address}", f"model {due[0]} of length {due[1]}")
        self._proved = True

    def _value(self, name: str, point: Point, words: Words) -> float | None:
        _, register = register_of(point.point, self.named)
        if register.kind == "acc32" and not any(words.of[name]):
            return None  # the standard's "not accumulated"
        scale = scale_of(point, self.named)
        exponent = 0.0 if scale is None else self._exponent(words, scale)
        return None if exponent is None else decode(words.of[name], placed(point, self.named, exponent), self.profile, self.of)

    def _exponent(self, words: Words, name: str) -> float | None:
        """Return a power of ten, or None for one that the standard does not allow."""
        exponent = decode(words.of[name], Point(type="int16"), self.profile, {})
        return exponent if exponent is not None and abs(exponent) <= 10 else None


def _confirms(name: str, wanted: int, words: Sequence[int]) -> bool:
    """Whether the companion register took its value; some devices count the time down in place."""
    return len(words) == 1 and (words[0] == wanted or (name == "revert_s" and 0 < words[0] < wanted))
