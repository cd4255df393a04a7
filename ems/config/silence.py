"""What holds the busbar when the EMS is gone, by what every device does on silence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ems.config.checks import Mistake
from ems.config.profile import OnSilence, Profile
from ems.config.site import Diesel, Hydro, Inverter, Site

Former = Diesel | Hydro | Inverter
BY_ITSELF = ("start", "local_auto")
"""Ways of a device to come, or to go on, without us: a genset controller that starts on silence, low SoC or under-frequency."""


def silence_mistakes(site: Site, profiles: Mapping[str, Profile]) -> Iterator[Mistake]:
    """Find the former states from which the island would go dark if the EMS were gone.

    One former alone is the worst case: with several on the busbar all that one leaves behind is there as
    well. So each unit that can form is taken as the sole former, and asked who holds the busbar after.
    A device that does not say what it does is taken to trip.
    """
    if site.control.stage != "control":
        return
    units: list[Former] = [*site.of(Diesel), *site.of(Hydro), *site.of(Inverter)]
    formers = [u for u in units if _can_form(site, u)]
    silences = {u.id: profiles[u.id].on_silence for u in formers}
    for former in formers:
        fate = _fate(former, silences[former.id])
        if fate is None:
            continue
        ends_s = _lasts_s(silences[former.id])
        others = [_comes_s(u, silences[u.id]) for u in formers if u.id != former.id]
        if not any(comes_s is not None and comes_s <= ends_s for comes_s in others):
            text = f"if the EMS is gone while {former.id!r} alone holds the busbar, {fate}, and no other unit comes by itself before"
            yield Mistake(("control", "stage"), text, "stage shadow or advise, or a diesel whose controller goes on or starts by itself (on_silence: start)")


def _can_form(site: Site, unit: Former) -> bool:
    return unit.forming != "never" and (not isinstance(unit, Inverter) or site.battery_behind(unit.id) is not None)


def _fate(former: Former, silence: OnSilence | None) -> str | None:
    """Return how a sole former ends, or None if it goes on with energy."""
    if silence is None:
        return "it may trip (its profile does not say what it does on silence)"
    if silence.does == "trip":
        return f"it trips after {silence.after_s:g} s"
    return "its battery runs empty" if isinstance(former, Inverter) else None


def _lasts_s(silence: OnSilence | None) -> float:
    """Return how long a former that ends still holds the busbar [s]; a battery is taken to last until a diesel is there."""
    if silence is None:
        return 0.0
    return silence.after_s if silence.does == "trip" else math.inf


def _comes_s(unit: Former, silence: OnSilence | None) -> float | None:
    """Return when a unit that stands is on the busbar by itself after we are gone [s], None for never."""
    if silence is None or silence.does not in BY_ITSELF or isinstance(unit, Inverter):
        return None
    return silence.after_s + (unit.start_s + unit.warmup_s + unit.sync_s if isinstance(unit, Diesel) else 0.0)
