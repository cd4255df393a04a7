"""The seams of the kernel: what it needs from outside, and nothing about who provides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ems.decision import Event
from ems.memory import Memory
from ems.model import Outcome, Reading, Request
from ems.plan import Forecast, Plan, PlanOutcome, PlanRequest
from ems.terms import Alarm


class Clock(Protocol):
    """The site's time; real time is `ems.clock.real_s`."""

    @property
    def speed(self) -> float:
        """How many site seconds pass in a real one."""

    def now(self) -> datetime:
        """Return the stamp [UTC]."""

    def now_s(self) -> float:
        """Return site seconds that never step back [s]."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write did: the value read back, or None where the device offers no read-back.

    Attributes
    ----------
    ok : bool
        Sent, acknowledged, and read back within tolerance.
    read_back : float | None
        In the house unit.
    cause : str
        Empty when ok.
    """

    ok: bool
    read_back: float | None = None
    cause: str = ""


class Driver(Protocol):
    """One device. Every call has its own deadline; a fault is `ConnectionLost` or `BadAnswer`."""

    async def connect(self) -> None:
        """Open the link; calling it while open does nothing."""

    async def read(self) -> Mapping[str, Reading]:
        """Read every point of the profile once; a point without a value has `value=None`, quality bad."""

    async def write(self, command: str, value: float) -> WriteResult:
        """Write one command [house unit] and read it back; what is not idempotent is sent once."""

    async def beat(self, count: int) -> None:
        """Write the heartbeat, derived from completed cycles; without one in the profile do nothing."""

    async def heartbeat(self) -> float | None:
        """Read the heartbeat back; None without one in the profile, or where the device does not show it."""

    async def close(self) -> None:
        """Close the link; never raises for a link that is already gone."""


class Planner(Protocol):
    """Plans on the side: `submit` and `take` never block."""

    def submit(self, request: PlanRequest) -> None:
        """Ask; a newer question replaces one that has not been started."""

    def take(self) -> PlanOutcome | None:
        """Return an answer once, or None while there is none."""

    def close(self) -> None:
        """End whatever works in the background."""


class AlarmBook(Protocol):
    """Which alarms are active, since when, and who has seen them."""

    def update(self, time: datetime, alarms: Sequence[Alarm]) -> None:
        """Take over which alarms are active; right in memory even where storing them fails."""

    def ack(self, alarm_id: str, by: str) -> bool:
        """Note who has seen an active alarm; False where it is not active."""

    def documents(self) -> list[dict[str, Any]]:
        """Return the active alarms as REST shows them."""


class Historian(Protocol):
    """Every cycle, for charts, for re-running and for the uplink."""

    def append(self, cycle: int, time: datetime, state: Mapping[str, Any], record: bytes) -> None:
        """Store one cycle durably: the REST state and the packed record."""

    def events(self, time: datetime, events: Sequence[Event]) -> None:
        """Store events in order."""

    def plan(self, time: datetime, plan: Plan, forecast: Forecast | None) -> None:
        """Store a plan that was taken into use, with the forecast behind it."""

    @property
    def alarms(self) -> AlarmBook:
        """The alarm list."""


class Ledger(Protocol):
    """What must never be lost: outcomes and metered energy."""

    def commit(self, time: datetime, outcomes: Sequence[Outcome], memory: Memory, cycle: int) -> None:
        """Commit outcomes and what the next start needs in one step; returns once both are durable."""

    def minute(self, time: datetime, row: Mapping[str, Any]) -> None:
        """Commit one minute of energy, fuel and CO2."""


class RequestLog(Protocol):
    """The one door, seen from inside."""

    def after(self, seq: int) -> Sequence[Request]:
        """Return the requests that came after `seq`, in order; never blocks long."""
