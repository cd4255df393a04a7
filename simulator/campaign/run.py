"""One run: the real controller and plan keeper, a plant in virtual time, faults between them, invariants at every step.

Everything is an argument, and all chance comes from the case: the same case gives the same log, line by line.
"""

from __future__ import annotations

import hashlib
import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ems.clock import cpu_s
from ems.config.site import Site
from ems.controller import Controller
from ems.memory import Memory
from ems.model import Request, Telemetry
from ems.plan_keeper import PlanKeeper
from simulator.campaign.case import Case
from simulator.campaign.conduct import AlarmDue, AlarmStorm, Commands, Data, Recovery
from simulator.campaign.hand import SETTLE_S, Hand
from simulator.campaign.invariants import Balance, Charge, Former, Invariant, MinimumLoading, Rating, Reserve, Service, Starts
from simulator.campaign.states import States
from simulator.campaign.truth import Step, Truth
from simulator.closed_loop import controlled
from simulator.dynamics import DynamicPlant
from simulator.faults.alphabet import Fault
from simulator.faults.clock import cycle_s, wall
from simulator.faults.field import Field
from simulator.faults.live import Live
from simulator.faults.outside import Outside
from simulator.faults.planner import RollOutPlanner
from simulator.plant import Conditions, Flows, Plant
from simulator.scenario import Scenario, synthetic

ORIGIN_S = 1000.0
"""The timer that never steps back shows this at the start: nothing may count from zero [s]."""
HELD_S = 10.0
"""Made weather is asked for this often [s]."""
SUBSTEP_S = 1.0
"""A stalled cycle lets the plant go on in steps of at most this [s]."""
LOGGED_S = 60.0
BLACK_START_S, DARK_S = 120.0, 1200.0
"""A person orders a black start after so long in the dark, and again; after so long the run ends [s]."""
RELEASE_S = 60.0
"""A person releases a lock-out this long after its cause is gone [s]."""
EXCEPTION = "I14"


@dataclass(frozen=True, slots=True)
class Violation:
    """One invariant that was broken: the first time in a run, for one subject."""

    invariant: str
    name: str
    subject: str
    at_s: float
    text: str
    faults: tuple[Fault, ...]

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same violation in another run."""
        return self.invariant, self.subject


@dataclass(frozen=True, slots=True)
class Befallen:
    """One fault of a schedule and what came of it.

    Attributes
    ----------
    touched : int
        How often it changed a value or an effect; 0 is not injected.
    verdict : str
        `survived | degraded | violated`; empty where it was not injected.
    """

    fault: Fault
    touched: int
    verdict: str


@dataclass(slots=True)
class Outcome:
    """What came of one run."""

    case: Case
    violations: list[Violation] = field(default_factory=list)
    befallen: list[Befallen] = field(default_factory=list)
    states: set[str] = field(default_factory=set)
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    unserved_kwh: float = 0.0
    dark_at_s: float | None = None
    log: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Hash of the log: the same case has the same one."""
        return hashlib.sha256("\n".join(self.log).encode()).hexdigest()[:16]


def plant_of(site: Site, case: Case) -> Plant:
    """Return the plant of a case at its level."""
    return (Plant if case.level == "energy" else DynamicPlant)(site, case.soc, case.running)


def held(scenario: Scenario, start: datetime) -> Callable[[float], Conditions]:
    """Return a scenario by the seconds of a run, asked for anew every few seconds."""
    last: tuple[int, Conditions] | None = None

    def at(now_s: float) -> Conditions:
        nonlocal last
        k = int(now_s // HELD_S)
        if last is None or last[0] != k:
            last = k, scenario(start + timedelta(seconds=k * HELD_S), HELD_S)
        return last[1]

    return at


def run(site: Site, case: Case, until: tuple[str, str] | None = None) -> Outcome:
    """Run one case.

    Parameters
    ----------
    until : tuple[str, str] | None
        Stop at this violation (invariant and subject): what a shrinking wants to know.
    """
    began = cpu_s()
    life = _Life(controlled(site, "mpc", site.planner.replan_s), case)
    while life.at_s < case.length_s and not life.over:
        life.cycle()
        if until is not None and life.outcome.violations and any(v.key == until for v in life.outcome.violations):
            break
    outcome = life.finished()
    outcome.cpu_s = cpu_s() - began
    return outcome


class _Life:
    """One island from the start of a run to its end."""

    def __init__(self, site: Site, case: Case) -> None:
        self.outcome = Outcome(case)
        self.at_s, self.over = 0.0, False
        self._site, self._case = site, case
        self._plant = plant_of(site, case)
        scenario = synthetic(site, case.seed)
        self._base = held(scenario, case.start)
        self._outside = Outside(self._plant)
        self._field = Field(site, self._plant)
        self._planner = RollOutPlanner(site, scenario)
        self._keeper = PlanKeeper(site, self._planner)
        self._controller = Controller(site)
        self._memory = Memory(mode_since_s=ORIGIN_S)
        self._hand = Hand(site)
        self._truth = Truth(site, self._plant, self._hand)
        self._states = States()
        self._invariants = watched(site, case)
        self._waiting = list(case.faults)
        self._lives: list[Live] = []
        self._of_class: dict[str, list[Live]] = {}
        self._passed: list[Live] = []
        self._hurt: list[float] = []
        self._broken: set[tuple[str, str]] = set()
        self._locked: dict[str, float] = {}
        self._seq = self._k = 0
        self._dark_s: float | None = None
        self._asked_s = 0.0
        self._declared_s = site.control.cycle_s
        self._elapsed_s = self._declared_s
        self._soc = {b.id: b.soc for b in self._plant.batteries.values()}
        self._alarms: frozenset[tuple[str, str | None]] = frozenset()
        self._logged_s = -math.inf

    def cycle(self) -> None:
        """One cycle: faults come and go, devices are read, the controller decides, the plant goes on, invariants look."""
        at, plant = self.at_s, self._plant
        self._turn(at)
        of = self._of_class
        conditions = self._base(at)
        plant_lives = of.get("plant", ())
        if plant_lives:
            for live in plant_lives:
                self._outside.hold(live)
            conditions = self._outside.conditions(conditions, at, plant_lives)
        self._field.deliver(at)
        shown = plant.observe(conditions)
        readings = self._field.read(at, shown, self._lives)
        true_time = self._case.start + timedelta(seconds=at)
        clock = of.get("time", ())
        time = wall(true_time, at, clock) if clock else true_time
        telemetry = Telemetry(self._k, time, ORIGIN_S + at, self._elapsed_s, readings)
        self._planner.at(at, true_time - (time - true_time) if clock else true_time, of.get("solver", ()))
        try:
            plan = self._keeper.current(time)
            image, decision = self._controller.step(telemetry, self._orders(time), plan, self._memory)
            events, _ = self._keeper.tick(image, decision)
        except Exception as fault:  # noqa: BLE001 - whatever the EMS raises is a violation with a schedule, and ends the run
            self._raised(fault)
            return
        self._field.write(at, decision.writes, self._lives)
        dt_s = cycle_s(self._declared_s, clock) if clock else self._declared_s
        flows = self._pass(dt_s, conditions)
        step = Step(at, dt_s, conditions, readings, image, decision, flows, self._soc, self._lives)
        self._judge(step)
        self._states.add(step, self._truth)
        self._states.reached.update(e.kind for e in events if e.kind in ("plan_refused", "plan_failed"))
        self._log(step, [f"{e.kind} {e.asset or ''} {e.reason}" for e in (*decision.events, *events)])
        self._memory, self._soc, self._elapsed_s = decision.memory, flows.soc, dt_s
        self._k += 1
        self.at_s = at + dt_s

    def _turn(self, at_s: float) -> None:
        """Let faults end whose time is over, and begin whose time has come."""
        gone = [x for x in self._lives if x.fault.end_s <= at_s]
        come = []
        while self._waiting and self._waiting[0].onset_s <= at_s:
            come.append(Live(self._waiting.pop(0), self._case.seed))
        if not gone and not come:
            return
        for live in gone:
            if live.fault.klass in ("plant", "command"):
                self._outside.end(live)
            self.outcome.log.append(f"{at_s:.1f} end {live.kind} {live.target}")
        self._passed += gone
        self._lives = [x for x in self._lives if x not in gone] + come
        for live in come:
            self._hand.begin(live.fault)
            self.outcome.log.append(f"{at_s:.1f} begin {live.kind} {live.target}")
            if live.fault.klass in ("plant", "command"):
                self._outside.begin(live)
        self._of_class = {}
        for live in self._lives:
            self._of_class.setdefault(live.fault.klass, []).append(live)

    def _pass(self, dt_s: float, conditions: Conditions) -> Flows:
        """Let the plant go on; in a long cycle step by step, and return the last step with what was unserved in any."""
        left, flows = dt_s, None
        while left > 1e-9:
            part = min(SUBSTEP_S, left)
            flows = self._plant.step(part, conditions)
            self.outcome.unserved_kwh += flows.unserved_kw * part / 3600.0
            left -= part
        assert flows is not None
        return flows

    def _orders(self, time: datetime) -> Sequence[Request]:
        """Return what a person orders: a lock-out is released some time after its cause is gone, a dead bus is started again."""
        if not self._memory.units:
            return ()
        orders = []
        if self._dark_s is not None and self.at_s - self._asked_s >= BLACK_START_S:
            self._asked_s = self.at_s
            self._seq += 1
            orders.append(Request(self._seq, f"r{self._seq}", "mode", None, {"mode": "black_start", "reason": "the bus is dead"}, "keeper", time))
        for unit, memory in self._memory.units.items():
            if not memory.barred:
                self._locked.pop(unit, None)
                continue
            if any(x.asset == unit for x in self._lives):
                self._locked[unit] = self.at_s
            elif self.at_s - self._locked.setdefault(unit, self.at_s) >= RELEASE_S:
                self._seq += 1
                self._locked.pop(unit)
                self._states.reached.add("released")
                body = {"action": "release", "reason": "repaired"}
                orders.append(Request(self._seq, f"r{self._seq}", "command", unit, body, "keeper", time, time + timedelta(minutes=10)))
        return orders

    def _judge(self, step: Step) -> None:
        for invariant in self._invariants:
            for subject, text in invariant.check(step, self._truth):
                self._break(invariant.id, invariant.name, subject, text)
        if step.flows.unserved_kw > 0.01 * self._truth.peak_kw or step.flows.blackout:
            self._hurt.append(step.at_s)
        if not step.flows.blackout:
            self._dark_s = None
        elif self._dark_s is None:
            self._dark_s = self._asked_s = step.at_s
            self.outcome.dark_at_s = step.at_s if self.outcome.dark_at_s is None else self.outcome.dark_at_s
        else:
            self.over = step.at_s - self._dark_s > DARK_S  # what comes after is for people at the site

    def _break(self, invariant: str, name: str, subject: str, text: str) -> None:
        if (invariant, subject) in self._broken:
            return
        self._broken.add((invariant, subject))
        near = [x.fault for x in (*self._passed, *self._lives) if x.touched and x.fault.end_s + SETTLE_S > self.at_s]
        self.outcome.violations.append(Violation(invariant, name, subject, self.at_s, text, tuple(near)))
        self.outcome.log.append(f"{self.at_s:.1f} VIOLATION {invariant} {subject} {text}")

    def _raised(self, fault: Exception) -> None:
        where = traceback.extract_tb(fault.__traceback__)[-1]
        file = where.filename.replace("\\", "/").rsplit("/ems/", 1)[-1]
        self._break(EXCEPTION, "no exception", file, f"{type(fault).__name__}: {fault} (line {where.lineno} of {file})")
        self.over = True

    def _log(self, step: Step, events: Sequence[str]) -> None:
        log, at = self.outcome.log, step.at_s
        for event in events:
            log.append(f"{at:.1f} {event}")
        alarms = step.decision.alarms
        if alarms or self._alarms:
            now = frozenset((a.code, a.asset) for a in alarms)
            if now != self._alarms:
                log.extend(f"{at:.1f} raised {c} {a or ''}" for c, a in sorted(now - self._alarms, key=str))
                log.extend(f"{at:.1f} cleared {c} {a or ''}" for c, a in sorted(self._alarms - now, key=str))
                self._alarms = now
        if at - self._logged_s >= LOGGED_S:
            self._logged_s = at
            powers = " ".join(f"{a}={kw:.3f}" for a, kw in step.flows.power_kw.items())
            socs = " ".join(f"{b}={soc:.5f}" for b, soc in step.flows.soc.items())
            log.append(f"{at:.1f} {step.decision.mode.value} {powers} {socs}")

    def finished(self) -> Outcome:
        """Return the outcome, with a verdict on every fault."""
        outcome = self.outcome
        outcome.simulated_s = self.at_s
        outcome.states = self._states.reached
        begun = [*self._passed, *self._lives]
        outcome.befallen = [Befallen(x.fault, x.touched, self._verdict(x)) for x in begun] + [Befallen(f, 0, "") for f in self._waiting]
        return outcome

    def _verdict(self, live: Live) -> str:
        if not live.touched:
            return ""
        if any(live.fault in v.faults for v in self.outcome.violations):
            return "violated"
        return "degraded" if any(live.fault.onset_s <= at <= live.fault.end_s + SETTLE_S for at in self._hurt) else "survived"


def watched(site: Site, case: Case) -> list[Invariant]:
    """Return the invariants of a case, fresh."""
    ends = [f.end_s for f in case.faults]
    found: list[Invariant] = [
        Balance(), Charge(), Rating(), MinimumLoading(), Former(), Reserve(site), Service(), Starts(),
        Commands(site), Data(site), AlarmDue(), AlarmStorm(),
    ]  # fmt: skip
    if not any(math.isinf(end) for end in ends):
        found.append(Recovery(max(ends, default=0.0)))
    return found
