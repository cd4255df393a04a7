"""What the feeders' breakers show: who opened what, and how long people have sat in the dark."""

from __future__ import annotations

from collections.abc import Collection

from ems.bus import BusState, Finding
from ems.decision import Event
from ems.frozen import changed
from ems.memory import FeederMemory, Memory
from ems.model import AssetImage, Image
from ems.terms import Explanation, Reason

RETRIP_S, RETRIPS = 600.0, 3
"""A relay that opens again so soon after closing [s], so many times in a row, locks its feeder out."""
SUPPLIED = Explanation(Reason.SUPPLIED)


def noticed(feeders: Collection[str], image: Image, bus: Finding, memory: Memory) -> tuple[Memory, tuple[Event, ...]]:
    """Return the memory with what breakers show, and what has changed.

    Parameters
    ----------
    feeders : Collection[str]
        Those with a device of their own.
    bus : Finding
        A breaker that lets go because the bus has died is its relay's doing, and what is drawn is only known on a live bus.
    """
    found, events = dict(memory.feeders), list[Event]()
    for f in feeders:
        unit = image.assets[f]
        closed = unit.flag("breaker_closed") if unit.seen else None
        if closed is None:
            continue
        before = memory.feeders.get(f)
        if before is None:
            opener = None if closed else _opener(f, unit, None, bus, memory)
            found[f] = FeederMemory(image.now_s, opener, why=why_opened(opener) if opener else SUPPLIED)
        elif closed:
            found[f], told = _closed(f, before, unit, image, bus)
            events.extend(told)
        else:
            found[f], told = _open(f, before, unit, image, bus, memory)
            events.extend(told)
    return (memory if found == memory.feeders else changed(memory, feeders=found)), tuple(events)


def _closed(f: str, before: FeederMemory, unit: AssetImage, image: Image, bus: Finding) -> tuple[FeederMemory, list[Event]]:
    live = bus.state is BusState.LIVE
    drawn = unit.power_kw if live and unit.power_kw is not None else before.drawn_kw
    if before.opened_by is None:
        calm = before.retrips and before.restored_s is not None and image.now_s - before.restored_s > RETRIP_S
        done = before.order is True
        if drawn == before.drawn_kw and not calm and not done:
            return before, []
        return changed(before, drawn_kw=drawn, retrips=0 if calm else before.retrips, order=None if done else before.order), []
    dark = f"after {(image.now_s - before.since_s) / 60.0:.0f} min"
    back = changed(before, since_s=image.now_s, restored_s=image.now_s, opened_by=None, order=None, stuck_s=None, drawn_kw=drawn, why=SUPPLIED)
    return back, [Event("feeder_closed", f, dark)]


def _open(f: str, before: FeederMemory, unit: AssetImage, image: Image, bus: Finding, memory: Memory) -> tuple[FeederMemory, list[Event]]:
    if before.opened_by is not None:
        opener = _opener(f, unit, before, bus, memory)
        why = before.why if opener == before.opened_by else why_opened(opener)
        return changed(before, opened_by=opener, outage_s=before.outage_s + image.dt_s, why=why), []
    opener = _opener(f, unit, before, bus, memory)
    ours = before.order is False
    opened = changed(before, since_s=image.now_s, opened_by=opener, order=None, stuck_s=None, why=before.why if ours else why_opened(opener))
    if ours:
        return opened, []
    events = [Event("feeder_opened", f, opener)]
    if not (opener == "relay" and unit.flag("ufls_tripped")):
        return opened, events
    again = before.restored_s is not None and image.now_s - before.restored_s <= RETRIP_S
    opened = changed(opened, retrips=before.retrips + 1 if again else 0)
    if opened.retrips >= RETRIPS:
        opened = changed(opened, locked=True)
        events.append(Event("feeder_locked", f, f"its relay opened again {RETRIPS} times after it was restored"))
    return opened, events


def _opener(f: str, unit: AssetImage, before: FeederMemory | None, bus: Finding, memory: Memory) -> str:
    """Return who has opened a feeder: its relay, an operator, we, or somebody on the spot."""
    manual = memory.manual.get(f)
    if manual is not None and manual.run is False:
        return "operator"
    if before is not None and before.opened_by is not None:
        given_back = before.opened_by == "operator"
        return "ems" if given_back else "relay" if unit.flag("ufls_tripped") else before.opened_by
    if before is not None and before.order is False:
        return "ems"
    # A breaker that lets go because the bus has died is its relay's doing, too.
    return "relay" if unit.flag("ufls_tripped") or (bus.state is BusState.DEAD and unit.remote) else "local"


def why_opened(opener: str) -> Explanation:
    """Return the reason that stands for who opened a feeder."""
    return Explanation(Reason.SHED, (opener,)) if opener in ("relay", "ems") else Explanation(Reason.OPERATOR if opener == "operator" else Reason.LOCAL)
