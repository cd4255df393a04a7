"""Black start: a dead bus is brought up by one unit, step by step, on an operator's order and never without one.

isolate -> energise -> prove -> auxiliaries -> feeders -> solar. The first four act here, on a bus without
load; from `feeders` on the island is controlled as ever, only that PV waits, turbines come when the others can take back
what they give, and feeders are restored in quick succession. Each step has a time limit; one that fails is rolled back to
a dead bus with open feeders, and an alarm says what failed and asks the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ems.bus import Bus, BusState, Finding, cut_off
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Site, Solar
from ems.decision import Event, Write
from ems.feeders import REPEAT_S, Feeders
from ems.frozen import frozen
from ems.guards import Bound
from ems.memory import BlackStart, Memory
from ems.model import Image
from ems.sequencer import COMING, CRANK_REST_S, START_GRACE, on_bus, startable, total_start_s
from ems.terms import Phase, Stage, lower

EARLY = ("isolate", "energise", "prove", "auxiliaries", "roll_back")
"""Steps in which nothing is dispatched."""
FAILED = "failed"
ISOLATE_S = 30.0
"""All feeders must be open in this time [s]."""
INVERTER_S = 60.0
"""An inverter must hold the bus this long after it is told to [s]; a diesel has the time of its starts."""
PROVE_S, PROVEN_S = 60.0, 10.0
"""Within the first time frequency and voltage must be in band, and stay so for the second [s]."""
AUXILIARIES_S = 5.0
"""The station's own load is on the bus with it; it has this long to start [s]."""
FEEDER_BAND_S = 10.0
"""Frequency and voltage are in band this long between two feeders [s]."""
PATIENCE_S = 300.0
"""When no feeder has come back for this long the rest is left to ordinary restoration [s]."""
SOLAR_S = 60.0
"""PV comes when frequency and voltage have been in band this long [s]."""
ROLL_BACK_S = 15.0
"""The way back is tried for this long [s]."""


def under_way(memory: Memory) -> bool:
    """Whether a black start is being carried out, its way back included."""
    return memory.black_start is not None and memory.black_start.step != FAILED


@frozen
class Stepped:
    """A black start after one cycle; `wanted` is the diesel that shall run, None where no sequence is to move."""

    memory: Memory
    writes: tuple[Write, ...] = ()
    events: tuple[Event, ...] = ()
    wanted: frozenset[str] | None = None


class BlackStarts:
    """Black starts of one site.

    Parameters
    ----------
    stage : Stage
        The highest that site file and command line allow.
    """

    def __init__(self, site: Site, stage: Stage, feeders: Feeders) -> None:
        self._stage = stage
        self._feeders = feeders
        self._bus = Bus(site)
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._inverters = {i.id: i for i in site.of(Inverter)}
        self._batteries: Mapping[str, Battery] = {i: b for i in self._inverters if (b := site.battery_behind(i)) is not None}
        self._solars = [s.id for s in site.of(Solar)]
        self._hydros = {h.id: h for h in site.of(Hydro)}
        self._deferrables = [d.id for d in site.of(Deferrable)]

    # ------------------------------------------------------------------ the order
    def refusal(self, image: Image, memory: Memory, former: object) -> str | None:
        """Return why a black start may not begin now, or None."""
        if lower(self._stage, memory.stage) is not Stage.CONTROL:
            return "the site is not in stage control"
        if memory.stopped:
            return "the emergency stop is in force"
        if under_way(memory):
            return "a black start is under way"
        state = self._bus.found(image).state
        if state is BusState.LIVE:
            return "the bus is alive"
        if state is BusState.UNKNOWN:
            return "the bus is not found dead by two measurements"
        if former is not None:
            return self._unfit(str(former), image, memory)
        return None if self.best(image, memory) is not None else "no unit is ready to form the bus"

    def _unfit(self, former: str, image: Image, memory: Memory) -> str | None:
        """Return why a unit cannot bring up the bus, or None."""
        unit = self._diesels.get(former) or self._inverters.get(former)
        if unit is None or unit.forming == "never":
            return "it cannot form the bus"
        seen, phase = image.assets[former], memory.units.get(former)
        limits = memory.limits.get(former)
        if not seen.seen:
            return "its device does not answer"
        if not seen.remote:
            return "it is under local control"
        if not seen.ready or (limits is not None and limits.out_of_service):
            return "it is not ready"
        if former in self._diesels:
            return "it is locked out; release it first" if phase is not None and phase.phase is Phase.LOCKED else None
        battery = self._batteries.get(former)
        soc = None if battery is None or not image.assets[battery.id].seen else image.assets[battery.id].get("soc")
        if battery is None or soc is None:
            return "its charge is unknown"
        return None if soc > battery.black_start_soc else "its charge is too low for a black start"

    def best(self, image: Image, memory: Memory) -> str | None:
        """Return who brings up the bus where nobody is named: the fullest battery, else the isochronous or largest diesel."""
        inverters = [i for i in self._inverters if self._unfit(i, image, memory) is None]
        if inverters:
            return max(inverters, key=lambda i: (image.assets[self._batteries[i].id].get("soc") or 0.0) * self._batteries[i].capacity_kwh)
        diesels = [d for d in self._diesels.values() if self._unfit(d.id, image, memory) is None]
        return min(diesels, key=lambda d: (d.forming != "isochronous", -d.rated_kw)).id if diesels else None

    def ordered(self, image: Image, memory: Memory, former: object, by: str) -> Memory:
        """Return the memory with a black start that begins now; who held a feeder closed lets it go."""
        chosen = str(former) if former is not None else self.best(image, memory) or ""
        manual = {a: m for a, m in memory.manual.items() if not (a in memory.feeders and m.run)}
        return replace(memory, black_start=BlackStart(chosen, "isolate", image.now_s, by), manual=manual)

    def withdrawn(self, memory: Memory, image: Image) -> Memory:
        """Return the memory when a person calls it off: back where the bus was not up yet, else on as ever."""
        start = memory.black_start
        if start is None or not under_way(memory) or start.step == "roll_back":
            return memory
        if start.step in EARLY:
            return replace(memory, black_start=self._failed(start, "operator", "", image.now_s))
        return replace(memory, black_start=None)

    # ------------------------------------------------------------------ the steps on an empty bus
    def early(self, image: Image, bus: Finding, memory: Memory) -> Stepped:
        """Carry out one cycle of isolate, energise, prove, auxiliaries or the way back."""
        start = memory.black_start
        assert start is not None
        match start.step:
            case "isolate":
                return self._isolate(image, bus, memory, start)
            case "energise":
                return self._energise(image, bus, memory, start)
            case "prove" | "auxiliaries":
                return self._proving(image, bus, memory, start)
        return self._roll_back(image, memory, start)

    def _isolate(self, image: Image, bus: Finding, memory: Memory, start: BlackStart) -> Stepped:
        if bus.state is BusState.LIVE:
            return self._alive_already(memory, start)
        opened = self._feeders.isolate(image, memory)
        writes, events = (*opened.writes, *self._quiet(image)), opened.events
        closed = self._feeders.closed(image)
        if not closed:
            stays = self._feeders.stays(image)
            told = "all feeders are open" if not stays else f"open but for {', '.join(stays)}, which cannot be switched"
            return Stepped(self._at(opened.memory, start, "energise", image), writes, (*events, Event("black_start", start.former, told, start.by)))
        if image.now_s - start.since_s >= ISOLATE_S:
            return self._fail(opened.memory, start, "breakers", ", ".join(closed), image)
        return Stepped(opened.memory, writes, events)

    def _energise(self, image: Image, bus: Finding, memory: Memory, start: BlackStart) -> Stepped:
        f, unit = start.former, image.assets[start.former]
        if f in self._diesels:
            ours, limit_s = bool(on_bus(unit)), self._start_limit_s(self._diesels[f])
        else:
            ours = bool(unit.flag("forming")) and unit.flag("running") is not False and not cut_off(unit, self._inverters[f].rated_kw)
            limit_s = INVERTER_S
        if bus.state is BusState.LIVE:
            if not ours:
                return self._alive_already(memory, start)
            told = Event("black_start", f, f"{f} holds the bus", start.by)
            return Stepped(self._at(memory, replace(start, live_s=image.now_s), "prove", image), self._quiet(image), (told,), self._wanted(f, image, memory))
        phase = memory.units.get(f)
        if phase is not None and phase.phase is Phase.LOCKED:
            return self._fail(memory, start, "locked", f, image)
        if (unit.fault and f in self._inverters) or not unit.remote or image.now_s - start.since_s >= limit_s:
            return self._fail(memory, start, "energise", f, image)
        return Stepped(memory, (*self._quiet(image), *self._forming(f, image, start)), wanted=self._wanted(f, image, memory))

    def _proving(self, image: Image, bus: Finding, memory: Memory, start: BlackStart) -> Stepped:
        f, since = start.former, start.since_s
        if bus.state is BusState.DEAD or (f in self._diesels and on_bus(image.assets[f]) is False):
            return self._fail(memory, start, "lost", f, image)
        steady = memory.in_band_s is not None and image.now_s - max(memory.in_band_s, since)
        needed = PROVEN_S if start.step == "prove" else AUXILIARIES_S
        if steady is not False and steady >= needed:
            after = "auxiliaries" if start.step == "prove" else "feeders"
            told = "frequency and voltage are in band" if start.step == "prove" else "the auxiliaries are fed"
            return Stepped(
                self._at(memory, start, after, image), self._quiet(image), (Event("black_start", f, told, start.by),), self._wanted(f, image, memory)
            )
        if image.now_s - since >= PROVE_S:
            return self._fail(memory, start, "unsteady", f, image)
        return Stepped(memory, self._quiet(image), wanted=self._wanted(f, image, memory))

    def _roll_back(self, image: Image, memory: Memory, start: BlackStart) -> Stepped:
        """Open what was closed and stop what was started, until that is read back."""
        opened = self._feeders.isolate(image, memory)
        writes = list(opened.writes)
        for i in self._inverters:
            unit = image.assets[i]
            if i == start.former and unit.seen and unit.remote and (unit.flag("running") or unit.flag("forming")):
                writes += [Write(i, "running", 0.0), Write(i, "forming", 0.0)]
        for d in self._diesels:
            unit, phase = image.assets[d], memory.units.get(d)
            begun = d == start.former or (phase is not None and phase.phase not in (Phase.OFF, Phase.LOCKED, Phase.COOLDOWN))
            first = image.now_s - start.since_s < image.dt_s
            if begun and unit.seen and unit.remote and (first or on_bus(unit)):
                writes.append(Write(d, "running", 0.0))
        left = len(writes) > len(opened.writes) or bool(self._feeders.closed(image))
        if left and image.now_s - start.since_s < ROLL_BACK_S:
            return Stepped(opened.memory, tuple(writes), opened.events)
        ended = replace(opened.memory, black_start=replace(start, step=FAILED, since_s=image.now_s))
        return Stepped(ended, tuple(writes), (*opened.events, Event("black_start", start.former, "rolled back: the bus waits for an operator")))

    # ------------------------------------------------------------------ the steps under load
    def bounds(self, bounds: Mapping[str, Bound], memory: Memory, down_kw: float) -> dict[str, Bound]:
        """Return the bounds under a black start: no PV yet, and no turbine whose least power the others could not take back."""
        found = dict(bounds)
        for s in self._solars:
            found[s] = found[s].narrowed(0.0, 0.0, "black_start")
        for h, hydro in self._hydros.items():
            if down_kw < hydro.min_kw and h != (memory.black_start.former if memory.black_start else None):
                found[h] = found[h].narrowed(0.0, 0.0, "black_start")
        return found

    def late(self, image: Image, bus: Finding, memory: Memory, before: Memory) -> Stepped:
        """Return how the steps `feeders` and `solar` go on after the island was controlled for this cycle.

        Parameters
        ----------
        before : Memory
            Of the beginning of this cycle.
        """
        start = before.black_start
        assert start is not None
        if bus.state is BusState.DEAD:
            return self._fail(memory, start, "dead_again", "", image)
        joins = tuple(
            Write(i, "running", 1.0)
            for i in self._inverters
            if i in self._batteries and image.assets[i].flag("running") is False and image.assets[i].ready and image.assets[i].remote
        )
        if start.step == "feeders":
            waiting, quiet_s = self._feeders.waiting(image, memory), self._feeders.quiet_s(image, memory)
            if waiting and (quiet_s < PATIENCE_S or image.now_s - start.since_s < PATIENCE_S):
                return Stepped(memory, joins)
            told = "all feeders are back" if not waiting else f"{', '.join(waiting)} will be restored when there is room"
            return Stepped(self._at(memory, start, "solar", image), joins, (Event("black_start", start.former, told, start.by),))
        if memory.in_band_s is None or image.now_s - max(memory.in_band_s, start.live_s) < SOLAR_S:
            return Stepped(memory, joins)
        return Stepped(replace(memory, black_start=None), joins, (Event("black_start", start.former, "done: PV is let in", start.by),))

    # ------------------------------------------------------------------ parts
    def _forming(self, former: str, image: Image, start: BlackStart) -> tuple[Write, ...]:
        """Return what tells an inverter to hold the bus: forming first, then run; a diesel is started by its sequence."""
        unit = image.assets[former]
        if former in self._diesels or (image.now_s - start.since_s - image.dt_s) % REPEAT_S >= image.dt_s:
            return ()
        found = [Write(former, "power_kw", 0.0)]
        if unit.flag("forming") is not True:
            found.append(Write(former, "forming", 1.0))
        # One that idles behind its open breaker closes it when it is told to run.
        if unit.flag("running") is not True or unit.flag("breaker_closed") is False:
            found.append(Write(former, "running", 1.0))
        return tuple(found)

    def _quiet(self, image: Image) -> tuple[Write, ...]:
        """Return what keeps PV and deferrable loads off a bus that is just coming up."""
        ours = {a: image.assets[a] for a in (*self._solars, *self._deferrables) if image.assets[a].seen and image.assets[a].remote}
        limits = tuple(Write(s, "limit_kw", 0.0) for s in self._solars if s in ours)
        return limits + tuple(Write(d, "running", 0.0) for d in self._deferrables if d in ours and ours[d].flag("running"))

    def _wanted(self, former: str, image: Image, memory: Memory) -> frozenset[str] | None:
        """Return the former where it is a diesel that may be started now: a starter motor rests after a failed start."""
        unit = memory.units.get(former)
        if former not in self._diesels or unit is None:
            return None
        able = unit.phase in COMING or startable(self._diesels[former], unit, image.assets[former], image.now_s, economic=False)
        return frozenset({former}) if able else frozenset()

    def _start_limit_s(self, diesel: Diesel) -> float:
        return (1 + diesel.retries) * (START_GRACE * total_start_s(diesel) + CRANK_REST_S)

    def _at(self, memory: Memory, start: BlackStart, step: str, image: Image) -> Memory:
        return replace(memory, black_start=replace(start, step=step, since_s=image.now_s))

    def _failed(self, start: BlackStart, cause: str, detail: str, now_s: float) -> BlackStart:
        return replace(start, step="roll_back", since_s=now_s, failed_at=start.step, cause=cause, detail=detail)

    def _fail(self, memory: Memory, start: BlackStart, cause: str, detail: str, image: Image) -> Stepped:
        failed = self._failed(start, cause, detail, image.now_s)
        return Stepped(replace(memory, black_start=failed), events=(Event("black_start_failed", start.former, f"{start.step}: {cause} {detail}".rstrip()),))

    def _alive_already(self, memory: Memory, start: BlackStart) -> Stepped:
        """Somebody else has brought the bus up: nothing is energised against it."""
        ended = replace(memory, black_start=replace(start, step=FAILED, failed_at=start.step, cause="alive", detail=""))
        return Stepped(ended, events=(Event("black_start", start.former, "ended: the bus was brought up by others"),))
