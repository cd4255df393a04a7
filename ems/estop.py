"""Emergency stops at the devices: each press and each release is one event; what is pressed is never started."""

from __future__ import annotations

from ems.decision import Event
from ems.frozen import changed
from ems.memory import Memory
from ems.model import Image


def noticed(image: Image, memory: Memory) -> tuple[Memory, tuple[Event, ...]]:
    """Return the memory with the emergency stops that are pressed now, and an event for each that has changed.

    A device that does not answer keeps what it last showed.
    """
    shown = {a: switch for a, unit in image.assets.items() if (switch := unit.points.get("estop")) is not None}
    pressed = frozenset([a for a, switch in shown.items() if switch >= 0.5] + [a for a in memory.estops if a not in shown])
    if pressed == memory.estops:
        return memory, ()
    events = [Event("estop", a, "its emergency stop is pressed") for a in sorted(pressed - memory.estops)]
    events += [Event("estop", a, "its emergency stop is released") for a in sorted(memory.estops - pressed)]
    return changed(memory, estops=pressed), tuple(events)
