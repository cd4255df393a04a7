"""The values that walk through the house: what was read, what is true, what was decided.

All of them are frozen and picklable, so that a recorded cycle can be run again. Units are in the
names; power is positive into the busbar; missing is `None`, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Any

from ems.frozen import frozen

NOTHING: Mapping[str, Any] = {}
"""An empty mapping to share: typed read-only, and picklable, which a mapping proxy is not."""
LONG_STEP_S = 60.0
"""From this length of a step on (replay) powers are means: ramps, hand-overs and the bumpless first cycle lie inside it, and none is held against another."""
OF_POWER = 0.98
"""What is told to be free of the sun may be this share of what it gives: meters err."""


class Quality(StrEnum):
    """How far a value can be believed."""

    GOOD = "good"
    SUSPECT = "suspect"
    BAD = "bad"


GOOD, SUSPECT, BAD = Quality.GOOD, Quality.SUSPECT, Quality.BAD
"""By plain names for what looks at every point of every cycle: a member looked up in its class takes ten times as long."""


@frozen
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


@frozen
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
    rivals : Mapping[str, str]
        Devices on which another controller was met, and how; not empty: nothing may be written.
    watched : bool
        Whether every heartbeat has been watched long enough to know that there is none.
    unwatched : frozenset[str]
        Devices of which that is not known yet; a late one is left alone while the others are controlled.
    """

    cycle: int
    time: datetime
    now_s: float
    dt_s: float
    readings: Mapping[str, Mapping[str, Reading]]
    rivals: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    watched: bool = True
    unwatched: frozenset[str] = frozenset()


@frozen
class AssetImage:
    """One asset as the decision sees it: points frozen, quality and age of the whole.

    Attributes
    ----------
    follows : bool
        Whether it does what it is told.
    ours : bool
        Whether its stage lets us command it.
    refused : tuple[str, ...]
        Points whose reading cannot be: not a finite number, or beyond what the asset can do. Their value is None.
    suspect : tuple[str, ...]
        Points whose value here is not what the device says now: inferred from the balance, counted, or last seen.
    silent_s : float
        How long the device has not been heard of [s]: it does not answer, or answers with nothing but zeros since it
        came back. 0 while it is seen. A silent device is `bad`; its suspect points tell what is inferred of it:
        of an inverter `power_kw`, `running` and `forming`, of a battery `soc` (with `soc_band`) and its last limits.
    """

    id: str
    kind: str
    points: Mapping[str, float | None]
    quality: Quality
    age_s: float | None
    follows: bool = True
    ours: bool = True
    refused: tuple[str, ...] = ()
    suspect: tuple[str, ...] = ()
    silent_s: float = 0.0

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
    def free_kw(self) -> float | None:
        """What the sun offers a solar unit as its device tells [kW]; None where it tells nothing, or less than it gives by more than meters err."""
        free, power = self.points.get("available_kw"), self.power_kw
        return None if free is None or (power is not None and free < OF_POWER * power) else free

    @property
    def seen(self) -> bool:
        """Whether its values can be used."""
        return self.quality is not BAD

    @property
    def remote(self) -> bool:
        """Whether we may command it: its stage allows it, and its switch stands on remote (or there is none)."""
        switch = self.points.get("remote")
        return self.ours and (switch is None or switch >= 0.5)

    @property
    def local(self) -> bool:
        """Whether its switch stands on local."""
        return self.flag("remote") is False

    @property
    def ready(self) -> bool:
        """Whether it could be started: seen, ready, no fault, no emergency stop."""
        get = self.points.get
        ready, stop = get("ready"), get("estop")
        return self.quality is not BAD and (ready is None or ready >= 0.5) and not get("fault") and not (stop is not None and stop >= 0.5)

    @property
    def fault(self) -> bool:
        """Whether it reports a fault."""
        return bool(self.points.get("fault"))


class Flaw(StrEnum):
    """What is wrong with a value that is not believed."""

    RANGE = "range"
    SIGN = "sign"
    SCALED_UP = "scaled_up"
    SCALED_DOWN = "scaled_down"
    JUMP = "jump"
    FROZEN = "frozen"
    DRIFT = "drift"
    ZEROED = "zeroed"
    BALANCE = "balance"


@frozen
class Doubt:
    """One cause for not believing what a device says.

    Attributes
    ----------
    asset : str | None
        None where the balance does not close and nobody can be blamed for it (`BALANCE`).
    point : str
    flaw : Flaw
    since_s : float
        When it was found [s of `now_s`].
    shown : float | None
        What the device says, in the point's unit; of `BALANCE` the residual [kW].
    used : float | None
        What is used instead; None where there is nothing to use.
    source : str
        Where that comes from: `balance | counted | last | none`.
    """

    asset: str | None
    point: str
    flaw: Flaw
    since_s: float
    shown: float | None
    used: float | None
    source: str


@frozen
class Image:
    """The process image: what is true now, frozen for one decision.

    Attributes
    ----------
    uncertain_kw : float
        How far the powers in use may be off because some are not measured but doubted [kW]: reserve is to be wider by it.
    doubts : tuple[Doubt, ...]
        What is not believed in this cycle, one per cause.
    """

    cycle: int
    time: datetime
    now_s: float
    dt_s: float
    assets: Mapping[str, AssetImage]
    load_kw: float
    load_known: bool
    frequency_hz: float | None
    voltage_v: float | None
    uncertain_kw: float = 0.0
    doubts: tuple[Doubt, ...] = ()
    rivals: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    watched: bool = True

    @property
    def alone(self) -> bool:
        """Whether it is known that no other controller writes to this plant."""
        return self.watched and not self.rivals


@frozen
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

    def holds(self, at: datetime) -> bool:
        """Whether it has not expired at a time."""
        return self.expires_at is None or at < self.expires_at


UNNUMBERED = 0
"""Number of an emergency stop that came past the log, because it could not be stored there."""


@frozen
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


@frozen
class Outcome:
    """What became of one request, committed before the first field write."""

    seq: int
    status: Status
    cause: str | None = None
    result: str | None = None
