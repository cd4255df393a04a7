"""What holds the busbar when the EMS is gone: a walk over every state of formers, by what every device does on silence.

A former state is which formers are on the busbar, and whether the batteries are charged or at their floor. From each
the time without us is played through: who leaves, whose battery ends, who comes by itself, and whether at every moment
somebody forms. In the end a former with energy must remain. A device that does not say what it does is taken to trip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ems.config.checks import Mistake
from ems.config.profile import OnSilence, Profile
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Site, Solar

Former = Diesel | Hydro | Inverter
BY_ITSELF = ("start", "local_auto")
"""Ways of a device to come, or to go on, without us: a genset controller that starts on silence, low SoC or under-frequency."""
MOST_FORMERS = 8
"""With more formers only states of one, of two and of all are walked: more of them on the busbar never make it worse."""
NEEDED = "stage shadow or advise, or a diesel whose controller goes on or starts by itself (on_silence: start)"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens after we are gone: `goes_on | may_trip | trips | runs_empty | comes`, and when [s]."""

    at_s: float
    unit: str
    does: str


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What becomes of one former state without us.

    Attributes
    ----------
    formers : tuple[str, ...]
        On the busbar when we go.
    low : bool
        Whether their batteries are at `soc_min`.
    steps : tuple[Step, ...]
        In the order of time.
    remains : tuple[str, ...]
        Formers with energy that are there in the end; none: dark.
    dark_at_s : float | None
        When nobody forms any more [s]; infinite where a charged battery ends some time.
    carries_kw, peak_kw : float
        What those that remain can give together, and what the loads may ask for [kW].
    """

    formers: tuple[str, ...]
    low: bool
    steps: tuple[Step, ...]
    remains: tuple[str, ...]
    dark_at_s: float | None
    carries_kw: float
    peak_kw: float

    def document(self) -> dict[str, object]:
        """Return it as JSON values, with its sentence."""
        finite = None if self.dark_at_s is None or math.isinf(self.dark_at_s) else self.dark_at_s
        steps = [{"at_s": None if math.isinf(s.at_s) else s.at_s, "unit": s.unit, "does": s.does} for s in self.steps]
        return {
            "formers": list(self.formers),
            "battery_low": self.low,
            "holds": self.dark_at_s is None,
            "remains": list(self.remains),
            "dark_at_s": finite,
            "carries_kw": self.carries_kw,
            "peak_kw": self.peak_kw,
            "steps": steps,
            "text": self.sentence(),
        }

    def sentence(self) -> str:
        """Return it in words."""
        charge = ", its battery at the floor," if self.low else ""
        holds = "holds" if len(self.formers) == 1 else "hold"
        told = ", ".join(_told(step) for step in self.steps)
        end = f"{' and '.join(self.remains)} {'holds' if len(self.remains) == 1 else 'hold'}"
        if self.carries_kw < self.peak_kw:
            end += f", with {self.carries_kw:g} kW for a peak of {self.peak_kw:g} kW: the relays shed the rest"
        if self.dark_at_s is not None:
            end = "nobody is left: the island goes dark" + ("" if math.isinf(self.dark_at_s) else f" after {self.dark_at_s:.0f} s")
        return f"if the EMS is gone while {' and '.join(self.formers)}{charge} {holds} the busbar: {told}; {end}"


@dataclass(frozen=True, slots=True)
class _Stay:
    """From when to when a unit is on the busbar [s], whether it has energy for ever, and the step that is told of it."""

    unit: str
    begin_s: float
    end_s: float
    lasting: bool
    step: Step


def silence_mistakes(site: Site, profiles: Mapping[str, Profile]) -> Iterator[Mistake]:
    """Find the former states from which the island would go dark if the EMS were gone; below `control` nothing is missed.

    A sole former is the worst case: with several on the busbar all that one leaves behind is there as well.
    """
    if site.control.stage != "control":
        return
    dark: set[tuple[str, ...]] = set()
    for state in walk(site, profiles):
        if state.dark_at_s is not None and len(state.formers) == 1 and state.formers not in dark:
            dark.add(state.formers)
            yield Mistake(("control", "stage"), _reason(state), NEEDED)


def _reason(state: Aftermath) -> str:
    (former,) = state.formers
    charge = " with its battery at the floor" if state.low else ""
    fate = next((_why(s) for s in state.steps if s.unit == former and s.does != "goes_on"), "it has no energy")
    return f"if the EMS is gone while {former!r} alone holds the busbar{charge}, {fate}, and no other unit comes by itself before"


def walk(site: Site, profiles: Mapping[str, Profile]) -> list[Aftermath]:
    """Return what becomes of every former state: the sole formers first, each with its battery charged and at the floor."""
    units = formers_of(site)
    sizes = range(1, len(units) + 1) if len(units) <= MOST_FORMERS else (1, 2, len(units))
    states = [group for size in sizes for group in combinations(units, size)]
    found = []
    for group in states:
        for low in (False, True) if any(isinstance(u, Inverter) for u in group) else (False,):
            found.append(_aftermath(site, profiles, group, units, low))
    return found


def formers_of(site: Site) -> tuple[Former, ...]:
    """Return the units that can hold the busbar alone; an inverter needs a battery."""
    units: list[Former] = [*site.of(Diesel), *site.of(Hydro), *site.of(Inverter)]
    return tuple(u for u in units if u.forming != "never" and (not isinstance(u, Inverter) or site.battery_behind(u.id) is not None))


def _aftermath(site: Site, profiles: Mapping[str, Profile], on: Sequence[Former], units: Sequence[Former], low: bool) -> Aftermath:
    stays = [_staying(site, u, profiles[u.id].on_silence, low) for u in on]
    stays += [stay for u in units if u not in on and (stay := _coming(u, profiles[u.id].on_silence)) is not None]
    dark_at_s = _dark_at_s(stays)
    lasting = [s for s in stays if s.lasting and math.isinf(s.end_s)]
    steps = sorted((s.step for s in stays if dark_at_s is None or s.begin_s <= dark_at_s), key=lambda step: step.at_s)
    remains = () if dark_at_s is not None else tuple(s.unit for s in lasting)
    carries_kw = sum(u.rated_kw for u in units if u.id in remains)
    return Aftermath(tuple(u.id for u in on), low, tuple(steps), remains, dark_at_s, carries_kw, site.peak_kw)


def _dark_at_s(stays: Sequence[_Stay]) -> float | None:
    """Return when nobody is on the busbar any more [s], None if somebody with energy stays for ever."""
    at_s = 0.0
    while True:
        here = [s for s in stays if s.begin_s <= at_s < s.end_s]
        if any(s.lasting and math.isinf(s.end_s) for s in here):
            return None
        until_s = max((s.end_s for s in here), default=at_s)
        if until_s == at_s:
            return at_s
        if math.isinf(until_s):  # a charged battery, which lasts until somebody comes, if anybody does
            return None if any(s.lasting and math.isinf(s.end_s) for s in stays) else math.inf
        at_s = until_s


def _staying(site: Site, unit: Former, silence: OnSilence | None, low: bool) -> _Stay:
    """Return how long a unit that is on the busbar stays."""
    battery = site.battery_behind(unit.id) if isinstance(unit, Inverter) else None
    if silence is None:
        return _Stay(unit.id, 0.0, 0.0, False, Step(0.0, unit.id, "may_trip"))
    lasts_s = math.inf if battery is None or not low else _floor_s(site, unit, battery)
    if silence.does == "trip" and silence.after_s <= lasts_s:
        return _Stay(unit.id, 0.0, silence.after_s, False, Step(silence.after_s, unit.id, "trips"))
    if battery is not None:
        return _Stay(unit.id, 0.0, lasts_s, False, Step(lasts_s, unit.id, "runs_empty"))
    return _Stay(unit.id, 0.0, math.inf, True, Step(0.0, unit.id, "goes_on"))


def _floor_s(site: Site, unit: Former, battery: Battery) -> float:
    """Return how long a battery at `soc_min` still carries the peak, down to the least that holds a busbar [s]."""
    energy_kwh = (battery.soc_min - battery.holding_soc) * battery.capacity_kwh * battery.discharge_efficiency
    power_kw = min(unit.rated_kw, battery.discharge_kw, site.peak_kw or math.inf)
    return 3600.0 * energy_kwh / power_kw


def _coming(unit: Former, silence: OnSilence | None) -> _Stay | None:
    """Return when a unit that stands comes by itself after we are gone, None for never."""
    if silence is None or silence.does not in BY_ITSELF or isinstance(unit, Inverter):
        return None
    at_s = silence.after_s + (unit.start_s + unit.warmup_s + unit.sync_s if isinstance(unit, Diesel) else 0.0)
    return _Stay(unit.id, at_s, math.inf, True, Step(at_s, unit.id, "comes"))


def _told(step: Step) -> str:
    match step.does:
        case "goes_on":
            return f"{step.unit} goes on"
        case "comes":
            return f"{step.unit} comes by itself after {step.at_s:.0f} s"
        case "runs_empty" if math.isinf(step.at_s):
            return f"{step.unit} goes on until its battery is empty"
        case "runs_empty":
            return f"the battery of {step.unit} is empty after {step.at_s:.0f} s at full load"
        case "trips":
            return f"{step.unit} trips after {step.at_s:.0f} s"
        case _:
            return f"{step.unit} may trip at once, because its profile does not say what it does"


def _why(step: Step) -> str:
    match step.does:
        case "runs_empty":
            return "its battery runs empty" if math.isinf(step.at_s) else f"its battery is empty after {step.at_s:.0f} s"
        case "trips":
            return f"it trips after {step.at_s:g} s"
        case _:
            return "it may trip (its profile does not say what it does on silence)"


FOLLOWS = {
    "hold": "keeps what it was told",
    "preset": "goes to its preset value of {value:g}",
    "trip": "stops",
    "start": "starts or runs on",
    "local_auto": "is left to its own control, and no limit of ours is in force",
}


def followers(site: Site, profiles: Mapping[str, Profile]) -> list[str]:
    """Return in words what each unit that does not form does without us."""
    formers = {u.id for u in formers_of(site)}
    found = []
    units: list[Solar | Former | Deferrable] = [*site.of(Solar), *site.of(Hydro), *site.of(Inverter), *site.of(Diesel), *site.of(Deferrable)]
    for unit in units:
        if unit.id in formers:
            continue
        silence = profiles[unit.id].on_silence
        told = "does not say what it does" if silence is None else FOLLOWS[silence.does].format(value=silence.value or 0.0) + f" after {silence.after_s:g} s"
        loose = isinstance(unit, Solar) and (silence is None or silence.does in ("hold", "local_auto", "start"))
        surplus = f"; nobody cuts its {unit.rated_kw:g} kW when there is surplus: over-frequency must" if loose else ""
        found.append(f"{unit.id} {told}{surplus}")
    return found
