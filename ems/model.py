"""The values that walk through the house: what was read, what is true, what was decided.

All of them are frozen and picklable, so that a recorded cycle can be run again. Units are in the
names; power is positive into the busbar; missing is `None`, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

NOTHING: Mapping[str, Any] = {}
"""An empty mapping to share: typed read-only, and picklable, which a mapping proxy is not."""


class Quality(StrEnum):
    """How far a value can be believed."""

    GOOD = "good"
    SUSPECT = "suspect"
    BAD = "bad"


class Stage(StrEnum):
    """The commissioning ladder; nothing but the last write differs between its rungs."""

    SHADOW = "shadow"
    ADVISE = "advise"
    CONTROL = "control"

    @property
    def rank(self) -> int:
        """0 for shadow, 1 for advise, 2 for control: the lowest of several is in force."""
        return list(Stage).index(self)


class Mode(StrEnum):
    """What the controller is doing as a whole."""

    START = "start"
    AUTO = "auto"
    MANUAL = "manual"
    FALLBACK = "fallback"
    SAFE = "safe"


class Phase(StrEnum):
    """Where a diesel is in its sequence."""

    OFF = "off"
    STARTING = "starting"
    ONLINE = "online"
    UNLOADING = "unloading"
    COOLDOWN = "cooldown"
    LOCKED = "locked"


class Reason(StrEnum):
    """Why a setpoint is what it is: one for each setpoint."""

    PLAN = "plan"
    RULES = "rules"
    FORMING = "forming"
    FORMER_NEEDED = "former_needed"
    RESERVE = "reserve"
    SURPLUS = "surplus"
    LIMIT = "limit"
    SEQUENCE = "sequence"
    OPERATOR = "operator"
    NOT_NEEDED = "not_needed"
    FOLLOWS_RIVER = "follows_river"
    FOLLOWS_SUN = "follows_sun"
    FAULT = "fault"
    LOCAL = "local"
    UNSEEN = "unseen"
    SAFE = "safe"


@dataclass(frozen=True, slots=True)
class Reading:
    """One point as a driver delivered it.

    Attributes
    ----------
    value : float | None
        In the house unit; switches are 0.0 or 1.0. None where the device gave no value.
    quality : Quality
    age_s : float
        Real seconds since the request for it was *first* sent.
    """

    value: float | None
    quality: Quality = Quality.GOOD
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """All that was read in one cycle, with the site's time.

    Attributes
    ----------
    cycle : int
        Number of this cycle, growing by one.
    time : datetime
        Site clock [UTC].
    now_s : float
        Site clock that never steps back; timers and deadlines count on it [s].
    dt_s : float
        Site time since the last cycle [s].
    readings : Mapping[str, Mapping[str, Reading]]
        By asset (or feeder) id, then by point name.
    """

    cycle: int
    time: datetime
    now_s: float
    dt_s: float
    readings: Mapping[str, Mapping[str, Reading]]


@dataclass(frozen=True, slots=True)
class AssetImage:
    """One asset as the decision sees it: points frozen, quality and age of the whole."""

    id: str
    kind: str
    points: Mapping[str, float | None]
    quality: Quality
    age_s: float | None
    follows: bool = True

    def get(self, point: str) -> float | None:
        """Return the value of a point in its house unit, or None where it is missing."""
        return self.points.get(point)

    def flag(self, point: str) -> bool | None:
        """Return a switch point as True or False, or None where it is missing."""
        value = self.points.get(point)
        return None if value is None else value >= 0.5

    @property
    def power_kw(self) -> float | None:
        """Power into the busbar [kW]; of a load or deferrable what it draws."""
        return self.points.get("power_kw")

    @property
    def seen(self) -> bool:
        """Whether its values can be used."""
        return self.quality is not Quality.BAD

    @property
    def remote(self) -> bool:
        """Whether we may command it; a device without the switch is always remote."""
        return self.flag("remote") is not False

    @property
    def ready(self) -> bool:
        """Whether it could be started: seen, ready, no fault, no emergency stop."""
        return self.seen and self.flag("ready") is not False and not self.fault and not self.flag("estop")

    @property
    def fault(self) -> bool:
        """Whether it reports a fault."""
        return bool(self.points.get("fault"))


@dataclass(frozen=True, slots=True)
class Image:
    """The process image: what is true now, frozen for one decision."""

    cycle: int
    time: datetime
    now_s: float
    dt_s: float
    assets: Mapping[str, AssetImage]
    load_kw: float
    load_known: bool
    frequency_hz: float | None
    voltage_v: float | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator has set for one asset; None where the site file's rating holds."""

    max_kw: float | None = None
    min_kw: float | None = None
    soc_min: float | None = None
    soc_max: float | None = None
    out_of_service: bool = False
    expires_at: datetime | None = None
    reason: str = ""
    by: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One row of the request log: the only way in for a change of state.

    Attributes
    ----------
    seq : int
        Number in the log; also its order.
    kind : str
        `limits | command | mode | stage | stop | ack | forecast | accept`.
    asset : str | None
    body : Mapping[str, Any]
        What the REST handler accepted, already checked for shape and range.
    by : str
        User name.
    at, expires_at : datetime
        Server time [UTC] of acceptance, and until when it may be taken up.
    """

    seq: int
    id: str
    kind: str
    asset: str | None
    body: Mapping[str, Any]
    by: str
    at: datetime
    expires_at: datetime | None = None


class Status(StrEnum):
    """What became of a request."""

    QUEUED = "queued"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DONE = "done"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request, committed before the first field write."""

    seq: int
    status: Status
    cause: str | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """One command for one device: `command` is a name of its profile, `value` in the house unit."""

    asset: str
    command: str
    value: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed, with its reason; the store numbers and stamps it."""

    kind: str
    asset: str | None
    reason: str
    by: str = "ems"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One active cause for a person's attention; `code` and `asset` together identify it."""

    code: str
    severity: str
    asset: str | None
    en: str
    ja: str


@dataclass(frozen=True, slots=True)
class Reserve:
    """Spinning reserve in one situation.

    Attributes
    ----------
    required_kw, available_kw : float
        For the binding contingency [kW].
    down_kw : float
        How much the units can take back at once [kW].
    hold_s : float
        How long it must last [s].
    energy_kwh : float
        Usable stored energy above the floors, at the busbar [kWh].
    time_to_empty_s : float | None
        At the present discharge; None while not discharging [s].
    contingency : str
        `loss of ID | load | solar | none`; `sole former ID` is an accepted risk.
    """

    required_kw: float
    available_kw: float
    down_kw: float
    hold_s: float
    energy_kwh: float
    time_to_empty_s: float | None
    contingency: str

    @property
    def short_kw(self) -> float:
        """By how much it is short [kW], 0 where it is held."""
        short = self.required_kw - self.available_kw
        return short if short > 1e-6 else 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an asset's setpoint is what it is, with the numbers the sentence needs."""

    reason: Reason
    limited_by: tuple[str, ...] = ()
    numbers: Mapping[str, float | str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class AssetDecision:
    """What was decided for one asset in this cycle.

    Attributes
    ----------
    setpoint_kw : float | None
        None for the unit whose power is the residual, and for what takes no setpoint [kW].
    run : bool | None
        Whether it shall run; None where it cannot be switched.
    why : Explanation
    """

    setpoint_kw: float | None
    run: bool | None
    why: Explanation


@dataclass(frozen=True, slots=True)
class UnitMemory:
    """One diesel's sequence: its phase and when that began [s of `now_s`]."""

    phase: Phase
    since_s: float
    started_s: float | None = None
    failed_starts: int = 0
    starts: tuple[float, ...] = ()
    why: Explanation = Explanation(Reason.NOT_NEEDED)


@dataclass(frozen=True, slots=True)
class Manual:
    """What an operator ordered for one asset or feeder, in force until it is released.

    Attributes
    ----------
    run : bool | None
        Run or stop, closed or shed; None where only a power was ordered.
    power_kw : float | None
        Ordered setpoint [kW]; None where only a start or stop was ordered.
    """

    run: bool | None = None
    power_kw: float | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """An accepted command whose effect has not been seen yet."""

    asset: str
    action: str
    until_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """All that one cycle hands to the next; recorded, so that a day can be run again.

    Attributes
    ----------
    mode_since_s : float
        When the mode began [s of `now_s`].
    stage : Stage
        The last accepted request; the stage in force is the lowest of this, site file and command line.
    units : Mapping[str, UnitMemory]
        By diesel.
    setpoints : Mapping[str, float]
        What was last decided, by asset [kW]; ramps start from here.
    astray : Mapping[str, float]
        Since when a unit's power has not been where its setpoint is [s of `now_s`].
    diesel_wanted : bool
        The rules' hysteresis: whether they called for a diesel last time.
    done_kwh : Mapping[str, float]
        What each deferrable has had since local midnight [kWh].
    """

    mode: Mode = Mode.START
    mode_since_s: float = 0.0
    stage: Stage = Stage.CONTROL
    units: Mapping[str, UnitMemory] = field(default_factory=lambda: NOTHING)
    limits: Mapping[str, Limits] = field(default_factory=lambda: NOTHING)
    manual: Mapping[str, Manual] = field(default_factory=lambda: NOTHING)
    pending: Mapping[int, Pending] = field(default_factory=dict)
    setpoints: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    astray: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    load_kw: float | None = None
    diesel_wanted: bool = False
    done_kwh: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    day: str = ""
    all_manual: bool = False
    stopped: bool = False
    taken_seq: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything that follows from one image: what to write, why, and the next memory."""

    mode: Mode
    stage: Stage
    formers: tuple[str, ...]
    leader: str | None
    assets: Mapping[str, AssetDecision]
    writes: tuple[Write, ...]
    heartbeat: bool
    reserve: Reserve
    plan_id: str | None
    plan_source: str
    alarms: tuple[Alarm, ...]
    events: tuple[Event, ...]
    outcomes: tuple[Outcome, ...]
    memory: Memory
