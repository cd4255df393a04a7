"""One sequence per diesel: off, starting, on line, unloading, cool-down, locked.

A unit found running or stopped against its sequence is adopted with an event, never fought:
somebody at the set had a reason. A step that is longer than a whole start or stop completes it inside the step, so that
the same code runs a year in quarter hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ems.config.site import Diesel
from ems.decision import Event, Explanation, Phase, Reason, UnitMemory, Write
from ems.model import AssetImage

START_GRACE = 1.5
"""A start counts as failed when it takes this many times its declared duration: cold engines crank longer."""
CRANK_REST_S = 30.0
"""The starter motor rests this long after a failed start [s]."""
UNLOADED = 0.10
"""Share of its rating down to which a unit is unloaded before its breaker opens."""
UNLOAD_TIMEOUT_S = 120.0
"""A unit that does not unload in this time [s] is taken off all the same."""


@dataclass(frozen=True, slots=True)
class Advance:
    """One diesel after one cycle: its memory, what to write, what happened."""

    memory: UnitMemory
    writes: tuple[Write, ...] = ()
    events: tuple[Event, ...] = ()


def total_start_s(diesel: Diesel) -> float:
    """Return the time from the start command to the closed breaker [s]."""
    return diesel.start_s + diesel.warmup_s + diesel.sync_s


def on_bus(image: AssetImage) -> bool | None:
    """Return whether a diesel feeds the busbar, or None where that cannot be seen."""
    if not image.seen:
        return None
    for point in ("breaker_closed", "synchronised", "running"):
        flag = image.flag(point)
        if flag is not None:
            return flag
    power = image.power_kw
    return None if power is None else power > 0.0


def adopt(diesel: Diesel, image: AssetImage, now_s: float) -> UnitMemory:
    """Return the memory of a unit met for the first time; minimum up time counts from now."""
    if on_bus(image):
        return UnitMemory(Phase.ONLINE, now_s, started_s=now_s, why=Explanation(Reason.SEQUENCE, ("adopted",)))
    return UnitMemory(Phase.OFF, now_s - diesel.min_down_s)


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
        if on is not None and (
            unit is None or watch and unit.phase is not Phase.LOCKED and (unit.phase is Phase.STARTING or on is not (d in online({d: unit})))
        ):
            unit = adopt(diesel, images[d], now_s)
        if unit is not None:
            found[d] = unit
    return found


def startable(diesel: Diesel, memory: UnitMemory, image: AssetImage, now_s: float, economic: bool) -> bool:
    """Whether a start may be commanded.

    Minimum down time and starts per hour are economic limits: reserve and operators override them.
    Lock-out, emergency stop, local, a fault and crank rest refuse every start.
    """
    if memory.phase is Phase.LOCKED or not image.ready or not image.remote:
        return False
    if memory.phase in (Phase.STARTING, Phase.ONLINE, Phase.UNLOADING):
        return True
    if memory.failed_starts and now_s - memory.since_s < CRANK_REST_S:
        return False
    if not economic:
        return True
    rested = memory.phase is Phase.COOLDOWN or now_s - memory.since_s >= diesel.min_down_s
    return rested and sum(1 for at in memory.starts if now_s - at < 3600.0) < diesel.max_starts_per_h


def must_stay(diesel: Diesel, memory: UnitMemory, image: AssetImage, now_s: float) -> bool:
    """Whether an economic stop has to wait: minimum up time not met; a fault overrides it."""
    if memory.phase is Phase.STARTING:
        return not image.fault
    if memory.phase is not Phase.ONLINE or image.fault:
        return False
    return memory.started_s is not None and now_s - memory.started_s < diesel.min_up_s


def advance(diesel: Diesel, memory: UnitMemory, image: AssetImage, wanted: bool, why: Explanation, now_s: float, dt_s: float) -> Advance:
    """Take one diesel one cycle further.

    Parameters
    ----------
    diesel : Diesel
    memory : UnitMemory
    image : AssetImage
    wanted : bool
        Whether it shall be on the bus; every rule about that has been applied before.
    why : Explanation
        Why it is wanted or not.
    now_s, dt_s : float
        Site time and cycle length [s].
    """
    seen_on = on_bus(image)
    if seen_on is None:
        return Advance(memory)
    match memory.phase:
        case Phase.OFF | Phase.COOLDOWN:
            return _from_rest(diesel, memory, seen_on, wanted, why, now_s)
        case Phase.STARTING:
            return _starting(diesel, memory, image, seen_on, wanted, now_s, dt_s)
        case Phase.ONLINE | Phase.UNLOADING:
            return _on_line(diesel, memory, image, seen_on, wanted, why, now_s, dt_s)
        case Phase.LOCKED:
            return Advance(memory)


def _from_rest(diesel: Diesel, memory: UnitMemory, seen_on: bool, wanted: bool, why: Explanation, now_s: float) -> Advance:
    leaving = memory.phase is Phase.COOLDOWN and now_s - memory.since_s < UNLOAD_TIMEOUT_S
    if seen_on and leaving and not wanted:
        return Advance(memory)
    if seen_on and leaving:
        again = replace(memory, phase=Phase.ONLINE, since_s=now_s, why=why)
        return Advance(again, (Write(diesel.id, "running", 1.0),), (Event("stop_cancelled", diesel.id, why.reason.value),))
    if seen_on:
        found = replace(adopt_running(memory, now_s), why=Explanation(Reason.SEQUENCE, ("adopted",)))
        return Advance(found, events=(Event("adopted", diesel.id, f"{diesel.id} was found running and is taken over as it is"),))
    if wanted:
        starts = (*(at for at in memory.starts if now_s - at < 3600.0), now_s)
        begun = replace(memory, phase=Phase.STARTING, since_s=now_s, starts=starts, why=why)
        return Advance(begun, (Write(diesel.id, "running", 1.0),), (Event("start", diesel.id, why.reason.value),))
    if memory.phase is Phase.COOLDOWN and now_s - memory.since_s >= diesel.cooldown_s:
        return Advance(replace(memory, phase=Phase.OFF))
    return Advance(memory)


def _starting(diesel: Diesel, memory: UnitMemory, image: AssetImage, seen_on: bool, wanted: bool, now_s: float, dt_s: float) -> Advance:
    if seen_on:
        # A start that fits into one step counts from that step's beginning.
        since = memory.since_s if dt_s >= total_start_s(diesel) else now_s
        running = replace(adopt_running(memory, since), failed_starts=0, why=memory.why)
        return Advance(running, events=(Event("on_line", diesel.id, memory.why.reason.value),))
    if not wanted and not image.fault:
        rest = replace(memory, phase=Phase.OFF, since_s=now_s, why=Explanation(Reason.NOT_NEEDED))
        return Advance(rest, (Write(diesel.id, "running", 0.0),), (Event("start_cancelled", diesel.id, "no longer needed"),))
    late = now_s - memory.since_s > START_GRACE * total_start_s(diesel) + 2.0
    if not late and not image.fault:
        return Advance(memory)
    failed = memory.failed_starts + 1
    stop = (Write(diesel.id, "running", 0.0),)
    if failed > diesel.retries:
        locked = replace(memory, phase=Phase.LOCKED, since_s=now_s, failed_starts=failed, why=Explanation(Reason.FAULT))
        return Advance(locked, stop, (Event("locked", diesel.id, f"{failed} starts failed"),))
    resting = replace(memory, phase=Phase.OFF, since_s=now_s, failed_starts=failed, why=Explanation(Reason.FAULT))
    return Advance(resting, stop, (Event("start_failed", diesel.id, f"start {failed} of {diesel.retries + 1} failed"),))


def _on_line(diesel: Diesel, memory: UnitMemory, image: AssetImage, seen_on: bool, wanted: bool, why: Explanation, now_s: float, dt_s: float) -> Advance:
    if not seen_on:
        if memory.phase is Phase.UNLOADING:
            return Advance(replace(memory, phase=Phase.COOLDOWN, since_s=now_s), events=(Event("off_line", diesel.id, memory.why.reason.value),))
        phase = Phase.LOCKED if image.fault else Phase.OFF
        gone = UnitMemory(phase, now_s, starts=memory.starts, why=Explanation(Reason.FAULT if image.fault else Reason.SEQUENCE))
        return Advance(gone, events=(Event("tripped", diesel.id, f"{diesel.id} left the bus without our command"),))
    if wanted:
        back = replace(memory, phase=Phase.ONLINE, why=why)
        return Advance(back if memory.phase is Phase.UNLOADING or memory.why != why else memory)
    begun = memory if memory.phase is Phase.UNLOADING else replace(memory, phase=Phase.UNLOADING, since_s=now_s, why=why)
    unloaded = (image.power_kw or 0.0) <= 1.5 * UNLOADED * diesel.rated_kw
    if unloaded or dt_s >= total_start_s(diesel) or now_s - begun.since_s >= UNLOAD_TIMEOUT_S:
        cooling = replace(begun, phase=Phase.COOLDOWN, since_s=now_s)
        return Advance(cooling, (Write(diesel.id, "running", 0.0),), (Event("stop", diesel.id, why.reason.value),))
    return Advance(begun)


def adopt_running(memory: UnitMemory, now_s: float) -> UnitMemory:
    """Return the memory of a unit that is on the bus since `now_s`."""
    return replace(memory, phase=Phase.ONLINE, since_s=now_s, started_s=now_s)


def unloading_kw(diesel: Diesel, memory: UnitMemory, image: AssetImage, dt_s: float) -> float:
    """Return the power a unit on its way off may still have in this cycle [kW]: down its ramp to `UNLOADED`."""
    power = image.power_kw if image.power_kw is not None else diesel.rated_kw
    return max(UNLOADED * diesel.rated_kw, power - diesel.ramp_kw_per_s * dt_s) if memory.phase is Phase.UNLOADING else diesel.rated_kw


def online(units: Mapping[str, UnitMemory]) -> frozenset[str]:
    """Return the diesels on the bus, those on their way off included."""
    return frozenset(d for d, u in units.items() if u.phase in (Phase.ONLINE, Phase.UNLOADING))
