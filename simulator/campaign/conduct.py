"""What must hold at every step about what the EMS saw, wrote and told: I9 to I13."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from ems.config.profile import TAKES
from ems.config.site import Deferrable, Diesel, Feeder, Hydro, Inverter, Site, Solar
from ems.decision import Write
from ems.image import STALE_CYCLES
from ems.model import Quality, Reading
from simulator.campaign.hand import DOUBT_S, SETTLE_S
from simulator.campaign.truth import Step, Truth, below_control
from simulator.faults.alphabet import DOUBTED, KINDS, LIES, NOT_SEEN
from simulator.faults.live import Live
from simulator.faults.outside import Unit

LEVELS = ("power_kw", "limit_kw")
LIMIT_SLACK = 0.002
LOCAL_CYCLES = 3
"""A switch to local is seen after so many cycles."""
LOAD_SHARE = 0.5
"""A load that is not measured is taken as at least this share of what it is."""
RESTORED_S = 1200.0
"""After a dead bus people need this time [s]."""
RAISES, RAISES_S = 6, 60.0
"""One cause is raised at most so often in this time [s]."""


class Commands:
    """I9: every write is finite, inside the limits of its unit, for a unit that takes it, is seen and is not local; below stage control there is none.

    A switch to local counts from the third cycle in which it could be read.
    """

    id, name = "I9", "commands"

    def __init__(self, site: Site) -> None:
        self._takes = {a.id: TAKES[a.kind] for a in (*site.assets, *site.of(Feeder))}
        powered = [a for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter | Deferrable)]
        self._span = {a.id: (-a.rated_kw if isinstance(a, Inverter) else 0.0, a.rated_kw) for a in powered}
        self._local: dict[str, int] = {}

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Judge every write of the cycle."""
        decision = step.decision
        if step.lives or self._local:
            self._switches(truth)
        if decision.writes and below_control(decision):
            yield decision.stage.value, f"{len(decision.writes)} writes in stage {decision.stage.value}"
        for write in decision.writes:
            for fault in self._faults(write, step, truth):
                yield write.asset, f"{write.asset}.{write.command} = {write.value:g}: {fault}"

    def _faults(self, write: Write, step: Step, truth: Truth) -> Iterator[str]:
        asset, value = write.asset, write.value
        if write.command not in self._takes.get(asset, ()):
            yield "it takes no such command"
            return
        unit = step.image.assets[asset]
        if not (unit.seen and unit.remote):
            yield "it is local" if unit.seen else "it is not seen"
        if self._local and self._local.get(asset, 0) > LOCAL_CYCLES and not truth.hand.unseen(asset, step.at_s):
            yield f"it has been local for {self._local[asset]} cycles"
        if not math.isfinite(value):
            yield "not a finite number"
        elif write.command in LEVELS:
            low, high = self._span[asset]
            limits = step.decision.memory.limits.get(asset)
            if limits is not None and limits.max_kw is not None:
                high = min(high, limits.max_kw)
            slack = LIMIT_SLACK * max(abs(low), abs(high))
            if not low - slack <= value <= high + slack:
                yield f"outside {low:g} to {high:g} kW"
        elif value not in (0.0, 1.0):
            yield "a switch is 0 or 1"

    def _switches(self, truth: Truth) -> None:
        plant = truth.plant
        units: tuple[Unit, ...] = (*plant.diesels, *plant.hydros, *plant.inverters, *plant.solars, *plant.deferrables)
        for unit in units:
            if unit.local:
                self._local[unit.id] = self._local.get(unit.id, 0) + 1
            elif unit.id in self._local:
                del self._local[unit.id]


class Data:
    """I10: nothing stale, bad or not finite is in the image, and nothing missing is read as zero.

    Judged for the devices that a link or value fault has to do with; the load while it cannot be measured.
    """

    id, name = "I10", "use of data"

    def __init__(self, site: Site) -> None:
        self._stale_s = STALE_CYCLES * site.control.cycle_s
        self._loads = {a.id for a in site.assets if a.kind == "load"}

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Judge the image against the readings it was made of."""
        faulty = {x.asset for x in step.lives if x.fault.klass in ("link", "value")}
        if not faulty:
            return
        if "site" in faulty:
            faulty = set(step.readings)
        for asset in faulty & step.image.assets.keys():
            unit, readings = step.image.assets[asset], step.readings[asset]
            for name, reading in readings.items():
                value = unit.points.get(name)
                inferred = name in unit.suspect  # what the balance, a count or the time before tells of it
                if value is not None and not inferred and self._unusable(reading):
                    yield asset, f"{asset}.{name} is {value:g} in the image from {said(reading)}"
                if value is not None and not math.isfinite(value):
                    yield asset, f"{asset}.{name} is {value} in the image"
        if faulty & self._loads and step.image.load_kw < LOAD_SHARE * (sum(x.demand_kw * x.share for x in truth.plant.loads) - step.flows.unserved_kw):
            blind = any(self._unusable(r) for a in self._loads for n, r in step.readings[a].items() if n == "power_kw")
            # While a source lies as well, and cannot have been found yet, the balance cannot tell the load.
            if blind and not step.flows.blackout and not any(truth.hand.lying(u, step.at_s) for u in truth.rated):
                yield "load", f"the load is taken as {step.image.load_kw:.0f} kW while it cannot be seen"

    def _unusable(self, reading: Reading) -> bool:
        value = reading.value
        return value is None or reading.quality is Quality.BAD or reading.age_s > self._stale_s or not math.isfinite(value)


def said(reading: Reading) -> str:
    """Return a reading in words."""
    return f"{reading.value} ({reading.quality.value}, {reading.age_s:.1f} s old)"


class AlarmDue:
    """I11: a fault brings its alarm within its bound, where one is due.

    A device that is not seen at all may be told as silent instead; what ends before its bound owes nothing. A value that
    has been far off for `DOUBT_S` without a break is to be doubted, or the balance that it opens is to be told.
    """

    id, name = "I11", "alarm due"

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._cycles: dict[int, int] = {}

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Look for each alarm that is due."""
        codes = None
        for live in step.lives:
            kind, key = KINDS[live.kind], id(live)
            if key in self._seen or not (kind.alarms or live.kind in LIES):
                continue
            codes = codes if codes is not None else {(a.code, a.asset) for a in step.decision.alarms}
            if any(self._about(live, code, asset) for code, asset in codes):
                self._seen.add(key)
                continue
            if live.kind in LIES:
                if live.memo.get("far", 0) > DOUBT_S and live.point in ("power_kw", "soc"):
                    self._seen.add(key)
                    yield live.asset, f"{live.kind} of {live.target}: far off for {DOUBT_S:.0f} s and not doubted"
                continue
            self._cycles[key] = self._cycles.get(key, 0) + 1
            late_s = step.at_s - live.fault.onset_s
            if late_s > kind.within_s and self._cycles[key] > kind.within_s / 2.0 and live.touched and step.decision.mode.value != "start":
                self._seen.add(key)
                yield live.asset, f"{live.kind} of {live.target} for {late_s:.0f} s without an alarm ({', '.join(kind.alarms)})"

    def _about(self, live: Live, code: str, asset: str | None) -> bool:
        known = KINDS[live.kind].alarms
        if live.kind in LIES and code in DOUBTED:
            return True  # whom it blames is not asked here
        return (code in known or code in NOT_SEEN) and (asset is None or asset == live.asset or live.asset in ("planner", "site"))


class AlarmStorm:
    """I12: one cause is one alarm, however long it lasts: it is not raised again and again."""

    id, name = "I12", "alarm storm"

    def __init__(self) -> None:
        self._active: frozenset[tuple[str, str | None]] = frozenset()
        self._raised: dict[tuple[str, str | None], deque[float]] = {}

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Count what is raised anew."""
        alarms = step.decision.alarms
        if not alarms and not self._active:
            return
        now = frozenset((a.code, a.asset) for a in alarms)
        for cause in now - self._active:
            times = self._raised.setdefault(cause, deque(maxlen=RAISES + 1))
            times.append(step.at_s)
            if len(times) > RAISES and times[-1] - times[0] <= RAISES_S:
                yield cause[1] or "", f"{cause[0]} was raised {len(times)} times in {times[-1] - times[0]:.0f} s"
        self._active = now


class Recovery:
    """I13: a minute after the last fault every device is seen and the EMS is in AUTO or FALLBACK.

    After a blackout that the plant itself forced, a person has to act; what never heals is not waited for.
    """

    id, name = "I13", "recovery"

    def __init__(self, last_end_s: float) -> None:
        self._due_s = last_end_s + SETTLE_S

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Judge mode and links from a minute after the last fault on."""
        if step.flows.blackout:
            self._due_s = max(self._due_s, step.at_s + RESTORED_S)
        if step.at_s < self._due_s:
            return
        if step.decision.mode.value not in ("auto", "fallback"):
            yield "mode", f"the mode is {step.decision.mode.value} {step.at_s - self._due_s + SETTLE_S:.0f} s after the last fault"
        unseen = [a for a, unit in step.image.assets.items() if not unit.seen]
        if unseen:
            yield unseen[0], f"{', '.join(unseen)} not seen {step.at_s - self._due_s + SETTLE_S:.0f} s after the last fault"
