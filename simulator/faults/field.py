"""The field bus in virtual time: readings with age and quality out of the plant, writes into it, with faults on the way.

Without a fault it does what `ems.fieldbus` does over real links: a device that fails keeps its last values with their
growing age and is asked again after a pause, and a setpoint that has not moved is not written again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ems.config.site import Battery, Deferrable, Diesel, Feeder, Hydro, Inverter, Load, Site, Solar, Tank
from ems.decision import Write
from ems.fieldbus import BACKOFF_S, DEADBAND_KW, REFRESH_S, SETPOINTS
from ems.model import Quality, Reading
from simulator.faults.live import Live
from simulator.faults.values import TWISTS, twisted
from simulator.plant import Plant

Points = Mapping[str, Reading]
MISSING = Reading(None, Quality.BAD)
LATE_S, TAIL_S = 8.0, 2.0
"""A late link is up to so late; a heavy tail has this mean delay [s]."""
FLAP_S = 20.0
"""A flapping link is this long away at most, and as long there [s]."""
DELAYED_S, TWICE_S = 20.0, 5.0
"""A delayed command is carried out after up to this time; one that is carried out twice, again after up to this time [s]."""


@dataclass(slots=True)
class Line:
    """What is known of one device between cycles, as `ems.fieldbus` knows it."""

    shown: Mapping[str, float | None] = field(default_factory=dict)
    points: dict[str, Reading] = field(default_factory=dict)
    before: dict[str, Reading] = field(default_factory=dict)
    held: Points = field(default_factory=dict)
    at_s: float = 0.0
    failures: int = 0
    quiet_until_s: float = -math.inf
    past: deque[tuple[float, Points]] = field(default_factory=lambda: deque(maxlen=64))
    sent: dict[str, tuple[float, float]] = field(default_factory=dict)


class Field:
    """Reads and writes one plant through the link, value and command faults in force."""

    def __init__(self, site: Site, plant: Plant) -> None:
        self._plant = plant
        self._lines: dict[str, Line] = {}
        self._scales = full_scales(site)
        self._takes = {a.id for a in (*site.assets, *site.of(Feeder)) if isinstance(a, Solar | Hydro | Diesel | Inverter | Deferrable | Load | Feeder)}
        self._waiting: list[tuple[float, Write]] = []
        self._away: set[str] = set()
        self._read_s = 0.0

    # ------------------------------------------------------------------ reading
    def read(self, now_s: float, shown: Mapping[str, Mapping[str, float | None]], lives: Sequence[Live]) -> dict[str, Points]:
        """Return every device's readings as the driver would deliver them now.

        Parameters
        ----------
        shown : Mapping[str, Mapping[str, float | None]]
            What the devices show, `Plant.observe`.
        lives : Sequence[Live]
            Link and value faults in force.
        """
        found = {asset: self._honest(asset, points) for asset, points in shown.items()}
        faulty = {asset for live in lives for asset in (found if live.kind == "all_silent" else (live.asset,)) if live.fault.klass in ("link", "value")}
        for asset in faulty | self._away:
            found[asset] = self._through(asset, found[asset], now_s, [x for x in lives if x.asset == asset or x.kind == "all_silent"])
        self._read_s = now_s
        return found

    def _honest(self, asset: str, points: Mapping[str, float | None]) -> Points:
        """Return what an undisturbed device delivers; a reading that is as before is the same object."""
        line = self._lines.get(asset)
        if line is None:
            line = self._lines[asset] = Line()
        line.before = before = line.points
        if points == line.shown:
            return before
        line.shown = points
        line.points = found = {
            name: last if (last := before.get(name)) is not None and last.value == value else MISSING if value is None else Reading(value)
            for name, value in points.items()
        }
        return found

    def _through(self, asset: str, honest: Points, now_s: float, lives: Sequence[Live]) -> Points:
        """Return what comes through the faults of one device: first what is wrong with the values, then with the link."""
        line, told = self._lines[asset], dict(honest)
        for live in lives:
            if live.kind in TWISTS and live.point in told:
                told[live.point] = twisted(live, told[live.point], self._scales.get(live.target, 1.0), now_s - live.fault.onset_s)
            elif live.kind == "partial":
                self._cut(live, told)
        lost = [x for x in lives if x.kind in LOSSES and LOSSES[x.kind](x, now_s)]
        if now_s < line.quiet_until_s or lost:
            if now_s >= line.quiet_until_s:
                line.failures += 1
                line.quiet_until_s = now_s + BACKOFF_S[min(line.failures, len(BACKOFF_S)) - 1]
                line.sent.clear()
            if not line.held:  # it was well until now: the last cycle's readings stay
                line.at_s, line.held = line.past[-1] if line.past and line.past[-1][0] >= self._read_s else (self._read_s, line.before)
            for live in lost:
                live.touched += 1
            self._away.add(asset)
            return aged(line.held, now_s - line.at_s)
        line.failures, line.held = 0, {}
        self._away.discard(asset)
        line.past.append((now_s, told))
        for live in lives:
            delay_s = DELAYS[live.kind](live) if live.kind in DELAYS else 0.0
            if delay_s > 0.0:
                self._away.add(asset)
                at, then = next(((t, p) for t, p in reversed(line.past) if now_s - t >= delay_s), line.past[0])
                live.touched += now_s > at
                return aged(then, now_s - at)
        return told

    def _cut(self, live: Live, told: dict[str, Reading]) -> None:
        """Leave out half of the points: one of the device's register blocks does not answer."""
        names = live.memo.setdefault("names", sorted(live.chance.sample(sorted(told), (len(told) + 1) // 2)))
        for name in names:
            live.touched += told[name].value is not None
            told[name] = MISSING

    # ------------------------------------------------------------------ writing
    def write(self, now_s: float, writes: Sequence[Write], lives: Sequence[Live]) -> None:
        """Carry out what is due, as far as faults let it through; the EMS hears of a refusal only."""
        by_asset: dict[str, list[Live]] = {}
        for live in lives:
            if live.fault.klass in ("link", "command"):
                by_asset.setdefault(live.asset, []).append(live)
        everywhere = by_asset.get("site", [])
        for write in writes:
            line = self._lines.get(write.asset)
            if line is None or write.asset not in self._takes or not due(line, write, now_s):
                continue
            here = [*by_asset.get(write.asset, ()), *everywhere] if by_asset else ()
            stopped = [x for x in here if x.kind == "refused" or x.kind in LOSSES and LOSSES[x.kind](x, now_s)]
            for live in stopped:
                live.touched += 1
            if stopped:
                line.sent.pop(write.command, None)
                continue
            if write.command in SETPOINTS:
                line.sent[write.command] = (write.value, now_s)
            self._carry_out(now_s, write, here)

    def _carry_out(self, now_s: float, write: Write, lives: Iterable[Live]) -> None:
        for live in lives:
            if live.kind in ("ignored", "delayed", "twice"):
                live.touched += 1
            if live.kind == "ignored":
                return
            if live.kind == "delayed":
                self._waiting.append((now_s + 1.0 + DELAYED_S * live.severity, write))
                return
            if live.kind == "twice":
                self._waiting.append((now_s + 1.0 + TWICE_S * live.severity, write))
        self._plant.command(write.asset, write.command, write.value)

    def deliver(self, now_s: float) -> None:
        """Carry out delayed and repeated commands whose time has come."""
        if not self._waiting:
            return
        ready = [w for at, w in self._waiting if at <= now_s]
        self._waiting = [(at, w) for at, w in self._waiting if at > now_s]
        for write in ready:
            self._plant.command(write.asset, write.command, write.value)


def due(line: Line, write: Write, now_s: float) -> bool:
    """Whether a write goes out: an order always, a setpoint when it has moved or is to be refreshed."""
    if write.command not in SETPOINTS or write.command not in line.sent:
        return True
    value, at = line.sent[write.command]
    # What is not finite goes out: a guard that lets it pass shall be found.
    return not abs(value - write.value) <= DEADBAND_KW or now_s - at >= REFRESH_S


def aged(points: Points, by_s: float) -> Points:
    """Return readings that are so much older [s]."""
    return {name: Reading(r.value, r.quality, r.age_s + by_s) for name, r in points.items()}


def full_scales(site: Site) -> dict[str, float]:
    """Return the full scale of every point that value faults befall, in its unit."""
    found: dict[str, float] = {}
    for a in site.assets:
        if isinstance(a, Load):
            found[f"{a.id}.power_kw"] = a.peak_kw
        elif isinstance(a, Solar | Hydro | Diesel | Inverter):
            found[f"{a.id}.power_kw"] = found[f"{a.id}.available_kw"] = a.rated_kw
        elif isinstance(a, Tank):
            found[f"{a.id}.level_l"] = a.capacity_l
        elif isinstance(a, Battery):
            found[f"{a.id}.soc"] = 1.0
    return found


def _flapped(live: Live, now_s: float) -> bool:
    period = 2.0 * (5.0 + (FLAP_S - 5.0) * live.severity)
    return (now_s - live.fault.onset_s) % period < period / 2.0


def _lost(live: Live, now_s: float) -> bool:
    at, lost = live.memo.get("lost", (None, False))
    if at != now_s:  # one throw a cycle, for readings and writes alike
        lost = live.chance.random() < 0.2 + 0.7 * live.severity
        live.memo["lost"] = (now_s, lost)
    return bool(lost)


LOSSES = {"silent": lambda live, now_s: True, "all_silent": lambda live, now_s: True, "flap": _flapped, "lossy": _lost}
"""Whether a link is dead in this cycle."""
DELAYS = {
    "late": lambda live: 0.5 + LATE_S * live.severity,
    "heavy_tail": lambda live: live.chance.expovariate(1.0 / (TAIL_S * (0.2 + live.severity))),
}
"""How old the newest answer is [s]."""
