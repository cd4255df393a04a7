"""The corridor: one cycle after the other, from the readings to the writes and into the memory.

read -> requests -> decide -> commit outcomes -> write -> beat -> record. Outcomes are durable before the
first write; everything after the writes may fail without harm to control. The cadence is real time,
whatever the site's clock does: ticks that come too late are skipped and counted, never queued.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ems.binding import Binding, Cycle
from ems.black_start import FAILED
from ems.clock import real_s
from ems.config.site import Site
from ems.controller import Controller
from ems.decision import Decision, Event, stage_of
from ems.errors import StoreError
from ems.explain import sentence
from ems.fieldbus import Fieldbus, Sent
from ems.memory import BlackStart, FeederMemory, Memory, UnitMemory
from ems.minutes import MinuteBook
from ems.model import Image, Outcome, Request, Status, Telemetry
from ems.orders import EFFECT_TIMEOUT_S, takes_control
from ems.plan import Plan, PlanOutcome
from ems.plan_keeper import PlanKeeper
from ems.ports import Clock, Historian, Ledger, RequestLog
from ems.pushed import given_of
from ems.record import ClockInfo, explain_document, record, state_document
from ems.terms import Alarm, Mode, Phase, Stage

SAVE_S = 60.0
"""The memory is saved at least this often [s, real]."""
REFUSED_WRITES = 3
"""A command that failed so often in a row is an alarm."""
WAITING_MINUTES = 24 * 60
"""So many minutes wait in memory for a ledger that cannot be written; the oldest go first."""
UNKNOWN_CLOCK = ClockInfo(None, None)
STORE_ALARMS = {
    "ledger": (
        "ledger_dead",
        "the ledger cannot be written: orders are refused, automatic control goes on",
        "台帳に書き込めません。操作指令は拒否し、自動制御は続けます",
    ),
    "history": ("history_dead", "the history cannot be written; control goes on", "履歴を保存できません。制御は続きます"),
    "requests": ("requests_dead", "orders cannot be read; control goes on", "操作指令を読み出せません。制御は続きます"),
}


@dataclass(frozen=True, slots=True)
class Stores:
    """Where a cycle leaves its traces, and where orders come from."""

    historian: Historian
    ledger: Ledger
    requests: RequestLog


@dataclass(slots=True)
class _Troubles:
    """What went wrong at the last try, and is an alarm until it goes right."""

    stores: dict[str, str] = field(default_factory=dict)
    writes: dict[tuple[str, str], int] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    rivals: frozenset[str] = frozenset()
    refused: frozenset[str | None] = frozenset()

    def alarms(self) -> list[Alarm]:
        found = [Alarm(code, "major", None, f"{en} ({self.stores[store]})", ja) for store, (code, en, ja) in STORE_ALARMS.items() if store in self.stores]
        refused: dict[str, list[str]] = {}
        for (asset, command), times in self.writes.items():
            if times >= REFUSED_WRITES:
                refused.setdefault(asset, []).append(command)
        for asset, commands in refused.items():
            names = ", ".join(commands)
            found.append(Alarm("unwritable", "major", asset, f"{asset} does not take {names}", f"{asset} が指令 {names} を受け付けません"))
        return found


class Loop:
    """The cycles of one site.

    Parameters
    ----------
    memory : Memory
        What the first cycle starts from; after a restart `resumed(...)`.
    cycle : int
        Number of the last completed cycle; it only grows.
    tell : Callable[[dict[str, Any]], object]
        Takes each cycle's beat; must not block.
    outside : Callable[[], Sequence[Alarm]]
        Alarms that others raise: the supervisor, the stores.
    clock_info : Callable[[], ClockInfo]
        How far the site's clock can be trusted now; must not block.
    """

    def __init__(
        self,
        site: Site,
        controller: Controller,
        fieldbus: Fieldbus,
        keeper: PlanKeeper,
        book: MinuteBook,
        stores: Stores,
        clock: Clock,
        memory: Memory,
        cycle: int = 0,
        tell: Callable[[dict[str, Any]], object] = lambda beat: None,
        outside: Callable[[], Sequence[Alarm]] = tuple,
        clock_info: Callable[[], ClockInfo] = lambda: UNKNOWN_CLOCK,
    ) -> None:
        self.memory = memory
        self.completed = cycle
        self.skipped = 0
        self._site = site
        self._controller = controller
        self._binding = Binding(controller)
        self._fieldbus = fieldbus
        self._keeper = keeper
        self._book = book
        self._stores = stores
        self._clock = clock
        self._tell = tell
        self._outside = outside
        self._clock_info = clock_info
        self._last_s: float | None = None
        self._minute: datetime | None = None
        self._saved = Memory()
        self._saved_s = -SAVE_S
        self._owed: tuple[Outcome, ...] = ()
        self._unbooked: deque[tuple[datetime, dict[str, Any]]] = deque(maxlen=WAITING_MINUTES)
        self._troubles = _Troubles()

    async def run(self, stop: asyncio.Event) -> None:
        """Run cycles until `stop` is set; nothing is written after that."""
        cycle_s = self._site.control.cycle_s
        due = real_s()
        while not stop.is_set():
            await self.cycle()
            due += cycle_s
            late = real_s() - due
            if late > 0:
                missed = int(late // cycle_s) + 1
                self.skipped += missed
                due += missed * cycle_s
            try:
                await asyncio.wait_for(stop.wait(), max(0.0, due - real_s()))
            except TimeoutError:
                continue

    async def cycle(self) -> Decision:
        """Run one cycle and return what was decided."""
        readings = await self._fieldbus.read()
        now_s = self._clock.now_s()
        dt_s = self._site.control.cycle_s * self._clock.speed if self._last_s is None else now_s - self._last_s
        self._last_s = now_s
        bus = self._fieldbus
        telemetry = Telemetry(self.completed + 1, self._clock.now(), now_s, dt_s, readings, bus.rivals(), bus.watched, bus.unwatched())
        requests = self._new_requests()
        plan = self._keeper.current(telemetry.time)
        before = self.memory
        image, decision, requests, refusals = self._decide(telemetry, requests, plan)
        self.memory = decision.memory
        if telemetry.rivals and takes_control(requests, decision.outcomes):
            self._fieldbus.watch_anew()  # a person says that the other one is off
        events = [*self._news(decision.events), *refusals, *self._links(), *self._rivals(telemetry)]
        events += self._written(await self._fieldbus.write(decision.writes, late=decision.heartbeat))
        if decision.heartbeat:
            await self._fieldbus.beat(telemetry.cycle)
        self.completed = telemetry.cycle
        for request in requests:
            if request.kind == "forecast":
                self._keeper.give(given_of(request))
        decision = self._binding.kept(Cycle(telemetry, requests, plan, before), decision)
        planned, taken = self._keeper.tick(image, decision)
        decision = replace(decision, alarms=(*decision.alarms, *self._troubles.alarms(), *self._outside()))
        self._keep_minutes(image)
        events += self._book.news()
        state = state_document(self._site, image, decision, plan, self._book.state_totals(), self._clock_info()) | {
            "skipped": self.skipped,
            "withheld": self._fieldbus.withheld,
        }
        first = (minute := telemetry.time.replace(second=0, microsecond=0)) != self._minute
        self._minute = minute
        packed = record(telemetry, requests, plan.id if plan is not None else None, self._controller.policy, before if first else None, decision)
        self._keep_history(telemetry, state, packed, [*events, *planned], decision.alarms, requests, taken)
        self._tell(self._beat(telemetry.cycle, state, decision))
        return decision

    # ------------------------------------------------------------------ deciding
    def _new_requests(self) -> tuple[Request, ...]:
        """Return the orders that came since the last cycle; none while they cannot be read."""
        try:
            found = tuple(self._stores.requests.after(self.memory.taken_seq))
        except StoreError as fault:
            self._troubles.stores["requests"] = str(fault)
            return ()
        self._troubles.stores.pop("requests", None)
        return found

    def _decide(self, telemetry: Telemetry, requests: tuple[Request, ...], plan: Plan | None) -> tuple[Image, Decision, tuple[Request, ...], list[Event]]:
        """Decide, and commit what was decided about orders before anything is written.

        While the ledger cannot be written the same cycle is decided once more without the orders (it is
        pure): they are refused, but an emergency stop is obeyed; what is owed to the ledger is kept.
        """
        image, decision = self._controller.step(telemetry, requests, plan, self.memory)
        if self._committed(telemetry, decision):
            return image, decision, requests, []
        refused = tuple(r for r in requests if r.kind != "stop")
        if refused:
            requests = tuple(r for r in requests if r.kind == "stop")
            image, decision = self._controller.step(telemetry, requests, plan, self.memory)
            taken = max(r.seq for r in (*refused, *requests))
            decision = replace(decision, memory=replace(decision.memory, taken_seq=taken))
        rejected = tuple(Outcome(r.seq, Status.REJECTED, "ledger_dead") for r in refused)
        self._owed = (*self._owed, *rejected, *decision.outcomes)
        return image, decision, requests, [Event("refused", r.asset, f"{r.kind}: ledger_dead", r.by) for r in refused]

    def _committed(self, telemetry: Telemetry, decision: Decision) -> bool:
        """Make outcomes and memory durable where there is something new; False where the ledger fails."""
        outcomes = (*self._owed, *decision.outcomes)
        changed = durable(decision.memory) != durable(self._saved)
        if not outcomes and not changed and "ledger" not in self._troubles.stores and real_s() - self._saved_s < SAVE_S:
            return True
        try:
            self._stores.ledger.commit(telemetry.time, outcomes, decision.memory, telemetry.cycle)
        except StoreError as fault:
            self._troubles.stores["ledger"] = str(fault)
            return False
        self._troubles.stores.pop("ledger", None)
        self._owed, self._saved, self._saved_s = (), decision.memory, real_s()
        return True

    # ------------------------------------------------------------------ after the writes
    def _written(self, sent: Sequence[Sent]) -> list[Event]:
        """Count writes that fail in a row; the first of a row is an event."""
        events = []
        for one in sent:
            key = (one.write.asset, one.write.command)
            if one.result.ok:
                self._troubles.writes.pop(key, None)
                continue
            self._troubles.writes[key] = self._troubles.writes.get(key, 0) + 1
            if self._troubles.writes[key] == 1:
                events.append(Event("write_failed", one.write.asset, f"{one.write.command} {one.write.value:g}: {one.result.cause}"))
        return events

    def _news(self, events: Sequence[Event]) -> list[Event]:
        """Return the events without the refused writes of units that had one in the last cycle, too."""
        before, self._troubles.refused = self._troubles.refused, frozenset(e.asset for e in events if e.kind == "write_refused")
        return [e for e in events if e.kind != "write_refused" or e.asset not in before]

    def _links(self) -> list[Event]:
        """Return an event for each device that was lost, and for each that is back."""
        faults = self._fieldbus.faults()
        before, self._troubles.silent = self._troubles.silent, frozenset(faults)
        lost = [Event("device_lost", asset, cause) for asset, cause in faults.items() if asset not in before]
        return lost + [Event("device_back", asset, "it answers again") for asset in sorted(before - faults.keys())]

    def _rivals(self, telemetry: Telemetry) -> list[Event]:
        """Return an event for each device on which another controller is met for the first time."""
        before, self._troubles.rivals = self._troubles.rivals, frozenset(telemetry.rivals)
        return [Event("second_controller", asset, how) for asset, how in telemetry.rivals.items() if asset not in before]

    def _keep_minutes(self, image: Image) -> None:
        """Book the minutes that are over; what the ledger does not take waits, in order."""
        self._unbooked.extend(self._book.add(image))
        try:
            while self._unbooked:
                self._stores.ledger.minute(*self._unbooked[0])
                self._unbooked.popleft()
        except StoreError as fault:
            self._troubles.stores["ledger"] = str(fault)

    def _keep_history(
        self,
        telemetry: Telemetry,
        state: Mapping[str, Any],
        packed: bytes,
        events: Sequence[Event],
        alarms: Sequence[Alarm],
        requests: Sequence[Request],
        taken: PlanOutcome | None,
    ) -> None:
        """Store the cycle; each part is tried for itself, and a store that fails stops nothing."""
        historian, time = self._stores.historian, telemetry.time
        parts: list[Callable[[], object]] = [
            lambda: historian.alarms.update(time, alarms),
            *(_acknowledging(historian, r) for r in requests if r.kind == "ack"),
            lambda: historian.events(time, events),
            lambda: historian.append(telemetry.cycle, time, state, packed),
        ]
        if taken is not None and taken.plan is not None:
            parts.append(_planned(historian, time, taken.plan, taken))
        self._troubles.stores.pop("history", None)
        for part in parts:
            try:
                part()
            except StoreError as fault:
                self._troubles.stores["history"] = str(fault)

    def _beat(self, cycle: int, state: dict[str, Any], decision: Decision) -> dict[str, Any]:
        return {
            "cycle": cycle,
            "state": state,
            "alarms": self._stores.historian.alarms.documents(),
            "explain": explain_document(self._site, decision),
            "advice": advice_document(decision),
        }


def _acknowledging(historian: Historian, request: Request) -> Callable[[], object]:
    return lambda: historian.alarms.ack(str(request.body.get("alarm")), request.by)


def _planned(historian: Historian, time: datetime, plan: Plan, outcome: PlanOutcome) -> Callable[[], object]:
    return lambda: historian.plan(time, plan, outcome.forecast)


def advice_document(decision: Decision) -> list[dict[str, Any]]:
    """Return what would be written in stage `control`, one piece of advice for each asset in stage `advise` that takes a command."""
    return [
        {
            "id": f"{asset}:{'' if decided.run is None else decided.run}:{'' if decided.setpoint_kw is None else round(decided.setpoint_kw)}",
            "asset": asset,
            "run": decided.run,
            "setpoint_kw": decided.setpoint_kw,
            "text": {lang: sentence(asset, decided, lang) for lang in ("en", "ja")},
        }
        for asset, decided in decision.assets.items()
        if stage_of(decision, asset) is Stage.ADVISE and (decided.run is not None or decided.setpoint_kw is not None)
    ]


def durable(memory: Memory) -> tuple[object, ...]:
    """Return the part of a memory that a restart must not lose: orders, limits, lock-outs, who opened a feeder, starts of the day.

    How long people have sat in the dark grows every cycle: it is saved with the rest, at the latest after `SAVE_S`.
    """
    return (
        memory.limits,
        memory.manual,
        memory.stage,
        memory.stages,
        memory.all_manual,
        memory.stopped,
        memory.pending,
        memory.taken_seq,
        frozenset(d for d, unit in memory.units.items() if unit.barred),
        tuple((f, m.opened_by, m.locked, m.order) for f, m in memory.feeders.items()),
        tuple((d, duty.starts) for d, duty in memory.duties.items() if duty.starts),
        memory.black_start,
    )


def resumed(memory: Memory, now_s: float, answered_seq: int = 0) -> Memory:
    """Return the memory of a new start: through START again, with what people ordered and who is locked out.

    All times of the old process mean nothing in the new one: sequences are rebuilt from what is read, and
    an accepted command is closed by its effect, never carried out again; nor is what was refused (`answered_seq`).
    """
    return Memory(
        mode=Mode.START,
        mode_since_s=now_s,
        stage=memory.stage,
        stages=memory.stages,
        units={d: UnitMemory(Phase.LOCKED, now_s, why=unit.why) for d, unit in memory.units.items() if unit.barred},
        limits=memory.limits,
        manual=memory.manual,
        pending={seq: replace(pending, until_s=now_s + EFFECT_TIMEOUT_S) for seq, pending in memory.pending.items()},
        load_kw=memory.load_kw,
        done_kwh=memory.done_kwh,
        duties={d: replace(duty, since_s=now_s) for d, duty in memory.duties.items()},  # a minimum run counts as not met
        day=memory.day,
        black_start=given_up(memory.black_start),
        engines=memory.engines,
        feeders={f: resumed_feeder(m, now_s) for f, m in memory.feeders.items()},
        all_manual=memory.all_manual,
        stopped=memory.stopped,
        taken_seq=memory.taken_seq,
        answered_seq=answered_seq,
    )


def resumed_feeder(feeder: FeederMemory, now_s: float) -> FeederMemory:
    """Return a feeder's memory in a new process: who opened it and what fair rotation has counted; an order under way counts as given."""
    opened_by = "ems" if feeder.order is False and feeder.opened_by is None else feeder.opened_by
    return FeederMemory(now_s, opened_by, feeder.outage_s, feeder.drawn_kw, retrips=feeder.retrips, locked=feeder.locked, why=feeder.why)


def given_up(start: BlackStart | None) -> BlackStart | None:
    """Return a black start in a new process: what was under way has ended, and waits for an operator's word."""
    return start if start is None or start.step == FAILED else replace(start, step=FAILED, failed_at=start.failed_at or start.step, cause="restart")
