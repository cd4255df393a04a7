"""One sequence per diesel: off, starting, warming, synchronising, on line, unloading, cool-down, locked.

The set's own controller cranks, warms up, synchronises and cools down; this follows it by what is read
back, gives each state its time limit and its way back, and hands the bus over only when it is steady.
A unit found running or stopped against its sequence is adopted with an event, never fought:
somebody at the set had a reason. A step that is longer than a whole start or stop completes it inside the step, so that
the same code runs a year in quarter hours.
"""

from __future__ import annotations

from collections.abc import Mapping

from ems.config.site import Diesel
from ems.decision import Event, Write
from ems.frozen import changed, frozen
from ems.memory import UnitMemory
from ems.model import AssetImage
from ems.terms import Explanation, Phase, Reason

START_GRACE = 1.5
"""A state of a start has failed when it takes this many times its declared duration: cold engines crank longer."""
SPARE_S = 2.0
"""So much longer for what is read and written in between [s]."""
CRANK_REST_S = 30.0
"""The starter motor rests this long after a failed start [s]."""
UNLOADED = 0.10
"""Share of its rating down to which a unit is unloaded before its breaker opens."""
MAY_OPEN = 0.15
"""Under this share it counts as unloaded: references and meters differ by a few per cent."""
UNLOAD_TIMEOUT_S, UNLOAD_SPARE_S = 120.0, 30.0
"""A unit that does not unload within its ramp and the second time, at most the first [s], is taken off all the same: low load is bad for it, and its
meter may be wrong. The last one is loaded again instead."""
SETTLE_S = 10.0
"""The last diesel leaves when the bus has been in band for this long [s] while it stood unloaded beside the unit that takes over."""
PROVEN_S = 60.0
"""A start has succeeded when its set has been on the bus this long [s]: one that trips sooner, time after time, is as good as one that does not start."""
HELD_S = 300.0
"""A stop that was rolled back, because the unit was wanted again or did not unload, is not tried again before this time [s]."""

COMING = (Phase.STARTING, Phase.WARMING, Phase.SYNCHRONISING)
"""A start is under way."""
ON_LINE = (Phase.ONLINE, Phase.UNLOADING)
"""On the bus."""
RESTING = (Phase.OFF, Phase.COOLDOWN)
RUNNING = (*COMING, *ON_LINE)
"""Called to the bus, or on it."""
OFF, LOCKED, UNLOADING = Phase.OFF, Phase.LOCKED, Phase.UNLOADING


@frozen
class Moment:
    """What a sequence needs to know of one cycle besides its unit.

    Attributes
    ----------
    now_s, dt_s : float
        Site time and length of the cycle [s].
    steady_s : float | None
        For how long frequency and voltage have been in band [s]; None where they are not; infinite where neither is measured.
    last : bool
        Whether no diesel that may form stays on the bus when this one leaves: the bus is then handed over.
    """

    now_s: float
    dt_s: float
    steady_s: float | None = float("inf")
    last: bool = False


@frozen
class Advance:
    """One diesel after one cycle: its memory, what to write, what happened."""

    memory: UnitMemory
    writes: tuple[Write, ...] = ()
    events: tuple[Event, ...] = ()


def total_start_s(diesel: Diesel) -> float:
    """Return the time from the start command to the closed breaker [s]."""
    return diesel.start_s + diesel.warmup_s + diesel.sync_s


ON_BUS_POINTS = ("breaker_closed", "synchronised", "running")
"""What tells whether a set feeds the busbar, the surest first."""


def on_bus(image: AssetImage) -> bool | None:
    """Return whether a diesel feeds the busbar, or None where that cannot be seen."""
    if not image.seen:
        return None
    points = image.points
    for point in ON_BUS_POINTS:
        switch = points.get(point)
        if switch is not None:
            return switch >= 0.5
    power = points.get("power_kw")
    return None if power is None else power > 0.0


ADOPTED = Explanation(Reason.SEQUENCE, ("adopted",))
"""Why a set that was found running runs."""


def adopt(diesel: Diesel, image: AssetImage, now_s: float, locked: bool = False) -> UnitMemory:
    """Return the memory of a unit met for the first time, or met again while others run it; minimum up time counts from now.

    Parameters
    ----------
    locked : bool
        Whether it is locked out: found running, a person has started it, and it is taken as it is; the lock-out comes back when it leaves.
    """
    if on_bus(image):
        return UnitMemory(Phase.ONLINE, now_s, started_s=now_s, why=ADOPTED, locked=locked)
    return UnitMemory(Phase.LOCKED, now_s, why=Explanation(Reason.FAULT)) if locked else UnitMemory(Phase.OFF, now_s - diesel.min_down_s)


def rebuilt(
    diesels: Mapping[str, Diesel], units: Mapping[str, UnitMemory], images: Mapping[str, AssetImage], now_s: float, watch: bool
) -> dict[str, UnitMemory]:
    """Return the sequences with every diesel that is met for the first time taken as it is.

    Parameters
    ----------
    watch : bool
        While nothing is commanded (START, SAFE, below stage `control`) also those that have changed: others run them.
    """
    found = {}
    for d, diesel in diesels.items():
        unit, on = units.get(d), on_bus(images[d])
        watched = watch or not images[d].ours
        if on is not None and (unit is None or watched and (unit.phase in COMING or on is not (d in online({d: unit})))):
            unit = adopt(diesel, images[d], now_s, unit is not None and unit.barred)
        if unit is not None:
            found[d] = unit
    return found


def arrived(diesel: Diesel, memory: UnitMemory, image: AssetImage, now_s: float, dt_s: float) -> UnitMemory | None:
    """Return the memory of a unit whose start has brought it to the bus, None where none has; a start that fits into one step counts from its beginning."""
    if memory.phase not in COMING or not on_bus(image):
        return None
    return adopt_running(memory, memory.since_s if dt_s >= total_start_s(diesel) else now_s)


def startable(diesel: Diesel, memory: UnitMemory, image: AssetImage, now_s: float, economic: bool) -> bool:
    """Whether a start may be commanded.

    Minimum down time and starts per hour are economic limits: reserve and operators override them.
    Lock-out, emergency stop, local, a fault and crank rest refuse every start.
    """
    if memory.phase is LOCKED or not image.ready or not image.remote:
        return False
    if memory.phase in RUNNING:
        return True
    if memory.locked:
        return False
    if memory.failed_starts and now_s - memory.since_s < CRANK_REST_S:
        return False
    return not economic or rested(diesel, memory, now_s)


def rested(diesel: Diesel, memory: UnitMemory, now_s: float) -> bool:
    """Whether a set that may be started may be for economy alone: it runs, or minimum down time and starts per hour allow it."""
    if memory.phase in RUNNING:
        return True
    down = memory.phase is Phase.COOLDOWN or now_s - memory.since_s >= diesel.min_down_s
    return down and len([at for at in memory.starts if now_s - at < 3600.0]) < diesel.max_starts_per_h


def must_stay(diesel: Diesel, memory: UnitMemory, image: AssetImage, now_s: float) -> bool:
    """Whether an economic stop has to wait: a start under way, minimum up time, a hand-over that failed just now; a fault overrides it."""
    if memory.phase in COMING:
        return not image.fault
    if memory.phase is not Phase.ONLINE or image.fault:
        return False
    if memory.held_until_s is not None and now_s < memory.held_until_s:
        return True
    return memory.started_s is not None and now_s - memory.started_s < diesel.min_up_s


def advance(diesel: Diesel, memory: UnitMemory, image: AssetImage, wanted: bool, why: Explanation, moment: Moment) -> Advance:
    """Take one diesel one cycle further.

    Parameters
    ----------
    diesel : Diesel
    memory : UnitMemory
        After `arrived`: a set that a start has brought to the bus is on line already.
    image : AssetImage
    wanted : bool
        Whether it shall be on the bus; every rule about that has been applied before.
    why : Explanation
        Why it is wanted or not.
    moment : Moment
    """
    seen_on = on_bus(image)
    if seen_on is None:
        return Advance(memory)
    phase = memory.phase
    if phase in RESTING:
        return _from_rest(diesel, memory, seen_on, wanted, why, moment.now_s)
    if phase in ON_LINE:
        return _on_line(diesel, memory, image, seen_on, wanted, why, moment)
    if phase is LOCKED:
        # A person has started it: it is taken as it is, and stays locked out for us.
        return _from_rest(diesel, changed(memory, locked=True), seen_on, False, why, moment.now_s) if seen_on else Advance(memory)
    return _coming(diesel, memory, image, wanted, moment)


def _from_rest(diesel: Diesel, memory: UnitMemory, seen_on: bool, wanted: bool, why: Explanation, now_s: float) -> Advance:
    leaving = memory.phase is Phase.COOLDOWN and now_s - memory.since_s < UNLOAD_TIMEOUT_S
    if seen_on and leaving and not wanted:
        return Advance(memory)
    if seen_on and leaving:
        again = changed(memory, phase=Phase.ONLINE, since_s=now_s, why=why)
        return Advance(again, (Write(diesel.id, "running", 1.0),), (Event("stop_cancelled", diesel.id, why.reason.value),))
    if seen_on:
        found = changed(adopt_running(memory, now_s), why=ADOPTED)
        return Advance(found, events=(Event("adopted", diesel.id, f"{diesel.id} was found running and is taken over as it is"),))
    if memory.locked:
        return Advance(changed(memory, phase=Phase.LOCKED, since_s=now_s, why=Explanation(Reason.FAULT)))
    if wanted:
        # From its cool-down an engine turns already: it only has to synchronise again.
        phase = Phase.SYNCHRONISING if memory.phase is Phase.COOLDOWN else Phase.STARTING
        starts = (*(at for at in memory.starts if now_s - at < 3600.0), now_s)
        begun = changed(memory, phase=phase, since_s=now_s, called_s=now_s, starts=starts, why=why)
        return Advance(begun, (Write(diesel.id, "running", 1.0),), (Event("start", diesel.id, why.reason.value),))
    if memory.phase is Phase.COOLDOWN and now_s - memory.since_s >= diesel.cooldown_s:
        return Advance(changed(memory, phase=Phase.OFF))
    return Advance(memory)


def _coming(diesel: Diesel, memory: UnitMemory, image: AssetImage, wanted: bool, moment: Moment) -> Advance:
    now_s = moment.now_s
    if not wanted and not image.fault:
        rest = changed(memory, phase=Phase.OFF, since_s=now_s, why=Explanation(Reason.NOT_NEEDED))
        return Advance(rest, (Write(diesel.id, "running", 0.0),), (Event("start_cancelled", diesel.id, "no longer needed"),))
    moved = _further(diesel, memory, image, now_s)
    late = _late(diesel, moved, image, now_s)
    if not late and not image.fault:
        return Advance(moved)
    failed = memory.failed_starts + 1
    stop = (Write(diesel.id, "running", 0.0),)
    cause = "it reports a fault" if image.fault else late
    if failed > diesel.retries:
        locked = changed(moved, phase=Phase.LOCKED, since_s=now_s, failed_starts=failed, why=Explanation(Reason.FAULT))
        return Advance(locked, stop, (Event("locked", diesel.id, f"{failed} starts failed, the last one: {cause}"),))
    resting = changed(moved, phase=Phase.OFF, since_s=now_s, failed_starts=failed, why=Explanation(Reason.FAULT))
    return Advance(resting, stop, (Event("start_failed", diesel.id, f"start {failed} of {diesel.retries + 1} failed: {cause}"),))


def _further(diesel: Diesel, memory: UnitMemory, image: AssetImage, now_s: float) -> UnitMemory:
    """Return the start's next state: cranked when the engine is seen to turn, warm after its time."""
    if memory.phase is Phase.STARTING and _cranking_shows(image) and image.flag("running"):
        return changed(memory, phase=Phase.WARMING, since_s=now_s)
    if memory.phase is Phase.WARMING and now_s - memory.since_s >= diesel.warmup_s:
        return changed(memory, phase=Phase.SYNCHRONISING, since_s=now_s)
    return memory


def _late(diesel: Diesel, memory: UnitMemory, image: AssetImage, now_s: float) -> str:
    """Return what took too long, or an empty string.

    An engine that is not seen to turn by 1.5 times its start time has failed (CONTROL 3.3); where only the
    breaker can be seen, the whole start is waited for.
    """
    called_s = memory.called_s if memory.called_s is not None else memory.since_s
    if memory.phase is Phase.STARTING and _cranking_shows(image) and image.flag("running") is False:
        return "the engine does not run" if now_s - memory.since_s > START_GRACE * diesel.start_s + SPARE_S else ""
    if memory.phase is Phase.SYNCHRONISING and now_s - called_s > START_GRACE * total_start_s(diesel) + SPARE_S:
        return "it does not synchronise"
    return "it is not on the bus in time" if now_s - called_s > START_GRACE * total_start_s(diesel) + SPARE_S else ""


def _cranking_shows(image: AssetImage) -> bool:
    """Whether a device tells a turning engine from a closed breaker."""
    return image.flag("running") is not None and (image.flag("breaker_closed") is not None or image.flag("synchronised") is not None)


def _on_line(diesel: Diesel, memory: UnitMemory, image: AssetImage, seen_on: bool, wanted: bool, why: Explanation, moment: Moment) -> Advance:
    now_s = moment.now_s
    if not seen_on:
        if memory.phase is Phase.UNLOADING:
            gone = changed(memory, phase=Phase.COOLDOWN, since_s=now_s, unloaded_s=None)
            return Advance(gone, events=(Event("off_line", diesel.id, memory.why.reason.value),))
        return _lost(diesel, memory, image, now_s)
    if memory.failed_starts and _proven(memory, now_s):
        memory = changed(memory, failed_starts=0)
    if wanted:
        back = memory.phase is Phase.UNLOADING
        if back:
            # What called it back is near its threshold: without a hold it would leave and return by turns, under its minimum loading all the while.
            memory = changed(memory, phase=Phase.ONLINE, since_s=now_s, unloaded_s=None, held_until_s=now_s + HELD_S, why=why)
        elif memory.why != why:
            memory = changed(memory, why=why)
        return Advance(memory, events=(Event("hand_over_given_up", diesel.id, why.reason.value),) if back and moment.last else ())
    return _leaving(diesel, memory, image, why, moment)


def _proven(memory: UnitMemory, now_s: float) -> bool:
    """Whether a set has been on the bus for long enough; one that we have not started has nothing to prove."""
    return not memory.starts or memory.started_s is None or now_s - memory.started_s >= PROVEN_S


def _lost(diesel: Diesel, memory: UnitMemory, image: AssetImage, now_s: float) -> Advance:
    """It has left the bus without our command: locked out with a fault, and where its starts end like that again and again."""
    failed = 0 if _proven(memory, now_s) else memory.failed_starts + 1
    spent = failed > diesel.retries
    phase = Phase.LOCKED if image.fault or memory.locked or spent else Phase.OFF
    why = Explanation(Reason.FAULT if failed or phase is LOCKED else Reason.SEQUENCE)
    events: tuple[Event, ...] = (Event("tripped", diesel.id, f"{diesel.id} left the bus without our command"),)
    if spent:
        events += (Event("locked", diesel.id, f"{failed} starts failed, the last one: it tripped within {PROVEN_S:.0f} s"),)
    return Advance(UnitMemory(phase, now_s, failed_starts=failed, starts=memory.starts, why=why), events=events)


def _leaving(diesel: Diesel, memory: UnitMemory, image: AssetImage, why: Explanation, moment: Moment) -> Advance:
    """Unload, wait for a steady bus where it is handed over, then stop: the stop command is the point of no return."""
    now_s = moment.now_s
    begun = memory if memory.phase is Phase.UNLOADING else changed(memory, phase=Phase.UNLOADING, since_s=now_s, unloaded_s=None, why=why)
    unloaded = (image.power_kw or 0.0) <= MAY_OPEN * diesel.rated_kw
    if not unloaded:
        begun = begun if begun.unloaded_s is None else changed(begun, unloaded_s=None)
    elif begun.unloaded_s is None:
        begun = changed(begun, unloaded_s=now_s)
    waited_s = now_s - begun.since_s
    settled_s = min(max(now_s - begun.unloaded_s, moment.dt_s), moment.steady_s or 0.0) if begun.unloaded_s is not None else 0.0
    patience_s = min(UNLOAD_TIMEOUT_S, diesel.rated_kw / diesel.ramp_kw_per_s + UNLOAD_SPARE_S)
    ready = settled_s >= SETTLE_S if moment.last else unloaded or waited_s >= patience_s
    if ready or moment.dt_s >= total_start_s(diesel):
        cooling = changed(begun, phase=Phase.COOLDOWN, since_s=now_s, unloaded_s=None)
        return Advance(cooling, (Write(diesel.id, "running", 0.0),), (Event("stop", diesel.id, why.reason.value),))
    if waited_s >= patience_s:
        held = changed(
            begun, phase=Phase.ONLINE, since_s=now_s, unloaded_s=None, held_until_s=now_s + HELD_S, why=Explanation(Reason.SEQUENCE, ("hand_over_failed",))
        )
        cause = "the bus is not steady" if unloaded else f"{diesel.id} does not unload"
        return Advance(held, events=(Event("hand_over_failed", diesel.id, f"{cause}: it takes the load back"),))
    return Advance(begun)


def adopt_running(memory: UnitMemory, now_s: float) -> UnitMemory:
    """Return the memory of a unit that is on the bus since `now_s`."""
    return changed(memory, phase=Phase.ONLINE, since_s=now_s, started_s=now_s, called_s=None, unloaded_s=None, held_until_s=None)


def unloading_kw(diesel: Diesel, memory: UnitMemory, image: AssetImage, ahead_s: float) -> float:
    """Return the power a unit on its way off may still have when the next references are given [kW]: down its ramp to `UNLOADED`."""
    power = image.power_kw if image.power_kw is not None else diesel.rated_kw
    return max(UNLOADED * diesel.rated_kw, power - diesel.ramp_kw_per_s * ahead_s) if memory.phase is Phase.UNLOADING else diesel.rated_kw


def online(units: Mapping[str, UnitMemory]) -> frozenset[str]:
    """Return the diesels on the bus, those on their way off included."""
    return frozenset([d for d, u in units.items() if u.phase in ON_LINE])
