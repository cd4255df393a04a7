"""A plant with fake devices and stores in one process, for the tests of the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ems.clock import SimClock
from ems.config.site import Site
from ems.controller import Controller
from ems.decision import Event
from ems.errors import ConnectionLost, StoreError
from ems.fieldbus import Fieldbus, Wire
from ems.loop import UNKNOWN_CLOCK, Loop, Stores
from ems.memory import Memory
from ems.minutes import MinuteBook
from ems.model import Outcome, Quality, Reading, Request
from ems.orders import answered
from ems.plan import Forecast, Plan, PlanOutcome, PlanRequest
from ems.plan_keeper import PlanKeeper
from ems.ports import Planner, WriteResult
from ems.record import ClockInfo, Record, unpack
from ems.terms import Alarm, Stage
from simulator.plant import Conditions, Plant
from tests.ems.island import START


class World:
    """A plant, its devices, the stores and the order in which all of it was touched."""

    def __init__(self, isle: Site, load_kw: float = 200.0, sun_kw: float = 150.0) -> None:
        self.site = isle
        self.clock = SimClock(START)
        self.plant = Plant(isle)
        self.conditions = Conditions({"town": load_kw}, {"pv1": sun_kw}, {})
        self.trace: list[str] = []
        self.lost: set[str] = set()
        self.refusing: set[str] = set()
        self.beats: list[dict[str, Any]] = []
        self.history, self.ledger, self.log = FakeHistory(self), FakeLedger(self), FakeLog()

    def loop(
        self,
        memory: Memory | None = None,
        cycle: int = 0,
        stage: Stage = Stage.CONTROL,
        outside: Sequence[Alarm] = (),
        tell: Callable[[dict[str, Any]], None] | None = None,
        controller: Controller | None = None,
        clock_info: Callable[[], ClockInfo] = lambda: UNKNOWN_CLOCK,
        planner: Planner | None = None,
    ) -> Loop:
        points = self.plant.observe(self.conditions)
        return Loop(
            site=self.site,
            controller=controller or Controller(self.site, stage),
            fieldbus=Fieldbus({a: Wire(Device(self, a), dict.fromkeys(("power_kw", "limit_kw", "running", "forming"))) for a in points}, 1.0),
            keeper=PlanKeeper(self.site, planner or NoPlanner()),
            book=MinuteBook(self.site),
            stores=Stores(self.history, self.ledger, self.log),
            clock=self.clock,
            memory=Memory() if memory is None else replace(memory, answered_seq=answered(self.log.after(memory.taken_seq), self.history.last_at)),
            cycle=cycle,
            tell=tell or self.beats.append,
            outside=lambda: outside,
            clock_info=clock_info,
        )

    async def live(self, loop: Loop, cycles: int) -> dict[str, Any]:
        """Let plant and loop go on for some cycles of one second; return the last state."""
        for _ in range(cycles):
            self.clock.advance(1.0)
            self.plant.step(1.0, self.conditions)
            self.trace.clear()
            await loop.cycle()
        state: dict[str, Any] = self.beats[-1]["state"]
        return state

    def codes(self) -> set[str]:
        """Codes of the alarms in the last beat."""
        return {alarm["code"] for alarm in self.beats[-1]["alarms"]}

    def happened(self, kind: str) -> list[tuple[str | None, str]]:
        return [(e.asset, e.reason) for e in self.history.all_events if e.kind == kind]


class Device:
    """One asset of the plant as a driver."""

    def __init__(self, world: World, asset: str) -> None:
        self.world, self.asset = world, asset

    async def connect(self) -> None:
        if self.asset in self.world.lost:
            raise ConnectionLost("no answer", self.asset)

    async def read(self) -> Mapping[str, Reading]:
        points = self.world.plant.observe(self.world.conditions)[self.asset]
        return {name: Reading(value, Quality.BAD if value is None else Quality.GOOD) for name, value in points.items()}

    async def write(self, command: str, value: float) -> WriteResult:
        self.world.trace.append(f"write {self.asset}.{command}")
        if self.asset in self.world.refusing:
            return WriteResult(False, None, "illegal address")
        self.world.plant.command(self.asset, command, value)
        return WriteResult(True, value)

    async def beat(self, count: int) -> None:
        self.world.trace.append("beat")

    async def heartbeat(self) -> float | None:
        return None

    async def close(self) -> None:
        return


class NoPlanner:
    """Never has an answer: the rules run the island."""

    def submit(self, request: PlanRequest) -> None:
        return

    def take(self) -> PlanOutcome | None:
        return None

    def close(self) -> None:
        return


class FakeHistory:
    def __init__(self, world: World) -> None:
        self.world = world
        self.broken = False
        self.all_events: list[Event] = []
        self.cycles: list[int] = []
        self.records: list[Record] = []
        self.alarms = FakeAlarms(self)

    def check(self) -> None:
        if self.broken:
            raise StoreError("disk full", "history.db")

    @property
    def last_at(self) -> datetime | None:
        return self.records[-1].telemetry.time if self.records else None

    def append(self, cycle: int, time: datetime, state: Mapping[str, Any], record: bytes) -> None:
        self.check()
        self.world.trace.append("append")
        self.cycles.append(cycle)
        self.records.append(unpack(Record, record))

    def events(self, time: datetime, events: Sequence[Event]) -> None:
        self.check()
        self.all_events += events

    def plan(self, time: datetime, plan: Plan, forecast: Forecast | None) -> None:
        self.check()


class FakeAlarms:
    """Right in memory even where the file is not, as the port promises."""

    def __init__(self, history: FakeHistory) -> None:
        self.history = history
        self.active: Sequence[Alarm] = ()
        self.acked: list[tuple[str, str]] = []

    def update(self, time: datetime, alarms: Sequence[Alarm]) -> None:
        self.active = alarms
        self.history.check()

    def ack(self, alarm_id: str, by: str) -> bool:
        self.acked.append((alarm_id, by))
        return True

    def documents(self) -> list[dict[str, Any]]:
        return [{"code": alarm.code, "asset": alarm.asset, "severity": alarm.severity} for alarm in self.active]


class FakeLedger:
    def __init__(self, world: World) -> None:
        self.world = world
        self.broken = False
        self.outcomes: list[Outcome] = []
        self.minutes: list[datetime] = []
        self.memory: tuple[Memory, int] | None = None
        self.saves = 0

    def check(self) -> None:
        if self.broken:
            raise StoreError("read-only", "ledger.db")

    def commit(self, time: datetime, outcomes: Sequence[Outcome], memory: Memory, cycle: int) -> None:
        self.check()
        self.world.trace.append("commit")
        self.outcomes += outcomes
        self.memory, self.saves = (memory, cycle), self.saves + 1

    def minute(self, time: datetime, row: Mapping[str, Any]) -> None:
        self.check()
        self.minutes.append(time)

    def last(self, seq: int) -> Outcome:
        return [o for o in self.outcomes if o.seq == seq][-1]


class FakeLog:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.broken = False
        self.now: Callable[[], datetime] = lambda: START

    def put(self, kind: str, asset: str | None = None, **body: Any) -> int:
        seq = len(self.requests) + 1
        at = self.now()
        self.requests.append(Request(seq, f"r{seq}", kind, asset, {**body, "reason": "test"}, "hanako", at, at + timedelta(minutes=10)))
        return seq

    def after(self, seq: int) -> Sequence[Request]:
        if self.broken:
            raise StoreError("cannot read", "site.db")
        return [r for r in self.requests if r.seq > seq]
