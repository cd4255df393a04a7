"""The alphabet of faults: what can go wrong with what, for how long, and which alarm it must bring.

A fault is a value, and a schedule is a tuple of them, so that a run can be written down, cut short and run again.
Left out are faults that exist only on a socket or a disk: duplicated, reordered, dripping or wrongly numbered frames all
reach the EMS as an answer that the driver refused (`lossy`) or that never came (`silent`); certificates, counters of
energy, files and processes are tried where they are at home, not in virtual time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ems.config.site import Feeder, Site
from ems.errors import BadInput

CLASSES = ("link", "value", "plant", "command", "solver", "time")
PLANNER, CLOCK, SITE = "planner", "clock", "site"
"""Targets that are no assets."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    kind, klass : str
        A name of `KINDS`, and its class.
    target : str
        An asset or feeder, a point of one (`bess1.soc`), or `planner`, `clock`, `site`.
    onset_s, duration_s : float
        From the start of the run; infinite where it never heals [s].
    severity : float
        0 to 1; what it means depends on the kind.
    """

    kind: str
    klass: str
    target: str
    onset_s: float
    duration_s: float
    severity: float

    @property
    def end_s(self) -> float:
        """When it heals [s]."""
        return self.onset_s + self.duration_s

    @property
    def asset(self) -> str:
        """The target without its point."""
        return self.target.partition(".")[0]

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it; what never heals has no duration."""
        return {**asdict(self), "duration_s": None if math.isinf(self.duration_s) else self.duration_s}


@dataclass(frozen=True, slots=True)
class Kind:
    """One letter of the alphabet.

    Attributes
    ----------
    on : tuple[str, ...]
        Kinds of assets it can befall, with the point after a dot where it is about one; or one of `planner`, `clock`, `site`.
    lasts_s : tuple[float, float]
        Shortest and longest duration that is drawn [s].
    alarms : tuple[str, ...]
        One of these must be active while it lasts; empty where none is due.
    within_s : float
        How soon [s].
    lasting : bool
        Whether it can be drawn as permanent: what is over in a moment cannot.
    """

    name: str
    klass: str
    on: tuple[str, ...]
    lasts_s: tuple[float, float]
    alarms: tuple[str, ...] = ()
    within_s: float = 10.0
    lasting: bool = True


DEVICES = ("load", "solar", "hydro", "diesel", "inverter", "battery", "deferrable", "tank")
LEVELS = ("load.power_kw", "solar.power_kw", "solar.available_kw", "hydro.power_kw", "diesel.power_kw", "inverter.power_kw", "battery.soc")
MAIN = ("load.power_kw", "solar.power_kw", "hydro.power_kw", "diesel.power_kw", "inverter.power_kw", "battery.soc")
SWITCHES = ("diesel.breaker_closed", "inverter.forming", "hydro.running")
TAKERS = ("solar", "hydro", "diesel", "inverter", "deferrable")
NOT_SEEN = ("silent", "soc_unknown", "load_unknown", "doubt", "doubt_soc")
DOUBTED = ("doubt", "doubt_soc", "balance", "silent", "soc_unknown")

KINDS: Mapping[str, Kind] = {
    k.name: k
    for k in (
        # ---------------------------------------------------------------- link: what does not arrive, or late
        Kind("silent", "link", DEVICES, (5.0, 300.0), NOT_SEEN),
        Kind("flap", "link", DEVICES, (40.0, 300.0)),
        Kind("lossy", "link", DEVICES, (20.0, 300.0)),
        Kind("late", "link", DEVICES, (20.0, 300.0)),
        Kind("heavy_tail", "link", DEVICES, (20.0, 300.0)),
        Kind("partial", "link", DEVICES, (10.0, 300.0)),
        Kind("all_silent", "link", (SITE,), (2.0, 60.0), NOT_SEEN, lasting=False),
        # ---------------------------------------------------------------- value: what arrives and is not true
        Kind("nan", "value", MAIN, (5.0, 300.0), NOT_SEEN),
        Kind("inf", "value", MAIN, (5.0, 300.0), NOT_SEEN),
        Kind("sentinel", "value", MAIN, (5.0, 300.0), NOT_SEEN),
        Kind("missing", "value", MAIN, (5.0, 300.0), NOT_SEEN),
        Kind("bad_status", "value", MAIN, (5.0, 300.0), NOT_SEEN),
        Kind("uncertain", "value", MAIN, (5.0, 300.0)),
        Kind("old_stamp", "value", MAIN, (5.0, 300.0), NOT_SEEN),
        Kind("future_stamp", "value", LEVELS, (5.0, 300.0)),
        Kind("zeroed", "value", LEVELS, (5.0, 120.0)),
        Kind("frozen", "value", LEVELS, (60.0, 300.0)),
        Kind("spike", "value", LEVELS, (20.0, 300.0)),
        Kind("drift", "value", LEVELS, (120.0, 300.0)),
        Kind("bias", "value", LEVELS, (20.0, 300.0)),
        Kind("noise", "value", LEVELS, (20.0, 300.0)),
        Kind("scaled", "value", LEVELS, (10.0, 300.0)),
        Kind("flipped", "value", LEVELS, (10.0, 300.0)),
        Kind("swapped", "value", LEVELS, (10.0, 300.0)),
        Kind("wrong_switch", "value", SWITCHES, (5.0, 120.0)),
        # ---------------------------------------------------------------- plant: what really happens
        Kind("trip", "plant", ("diesel", "hydro", "inverter"), (10.0, 600.0), ("fault", "locked"), 5.0),
        Kind("fail_start", "plant", ("diesel",), (120.0, 600.0)),
        Kind("slow_start", "plant", ("diesel",), (120.0, 600.0)),
        Kind("stuck", "plant", ("diesel",), (120.0, 600.0)),
        Kind("local", "plant", TAKERS, (30.0, 600.0)),
        Kind("estop", "plant", TAKERS, (30.0, 600.0), ("estop",), 5.0),
        Kind("derate", "plant", ("battery",), (30.0, 600.0)),
        Kind("soc_drop", "plant", ("battery",), (1.0, 1.0), lasting=False),
        Kind("pv_drop", "plant", ("solar",), (20.0, 600.0)),
        Kind("load_step", "plant", ("load",), (20.0, 600.0)),
        Kind("dry_river", "plant", ("hydro",), (60.0, 900.0)),
        Kind("tank_low", "plant", ("tank",), (120.0, 600.0), lasting=False),
        # ---------------------------------------------------------------- command: what does not become of an order
        Kind("refused", "command", TAKERS, (10.0, 300.0)),
        Kind("ignored", "command", TAKERS, (10.0, 300.0)),
        Kind("delayed", "command", TAKERS, (10.0, 300.0)),
        Kind("twice", "command", TAKERS, (10.0, 300.0)),
        Kind("by_hand", "command", ("solar", "diesel", "deferrable"), (1.0, 1.0), lasting=False),
        # ---------------------------------------------------------------- solver: what a planner answers
        Kind("hang", "solver", (PLANNER,), (300.0, 1500.0), ("no_plan",), 900.0),
        Kind("slow", "solver", (PLANNER,), (300.0, 1500.0)),
        Kind("crash", "solver", (PLANNER,), (300.0, 1500.0), ("no_plan",), 900.0),
        Kind("zeros", "solver", (PLANNER,), (300.0, 1500.0), ("no_plan",), 900.0),
        Kind("not_finite", "solver", (PLANNER,), (300.0, 1500.0), ("no_plan",), 900.0),
        Kind("infeasible", "solver", (PLANNER,), (300.0, 1500.0), ("no_plan",), 900.0),
        Kind("cost_blind", "solver", (PLANNER,), (300.0, 1500.0)),
        Kind("beyond_limits", "solver", (PLANNER,), (300.0, 1500.0), ("no_plan",), 900.0),
        Kind("wrong_question", "solver", (PLANNER,), (300.0, 1500.0), ("no_plan",), 900.0),
        # ---------------------------------------------------------------- time: what the clock and the cycle do
        Kind("clock_step", "time", (CLOCK,), (5.0, 600.0)),
        Kind("clock_1970", "time", (CLOCK,), (5.0, 600.0)),
        Kind("slew", "time", (CLOCK,), (60.0, 600.0)),
        Kind("stall", "time", (CLOCK,), (1.0, 60.0)),
        Kind("jitter", "time", (CLOCK,), (10.0, 120.0)),
        Kind("hurried", "time", (CLOCK,), (1.0, 20.0)),
    )
}
"""Every kind by its name; the order is that of the classes."""

LIES = frozenset(
    {"uncertain", "future_stamp", "zeroed", "frozen", "spike", "drift", "bias", "noise", "scaled", "flipped", "swapped", "sentinel", "wrong_switch"}
)
"""Values that look good and are not: only doubt can find them."""
DEAF = frozenset({"silent", "flap", "lossy", "all_silent", "local", "estop", "refused", "ignored", "delayed", "twice", "by_hand", "stuck"})
"""While one of these lasts a unit may not do what it is told."""


def targets(site: Site, kind: Kind) -> list[str]:
    """Return everything at a site that a kind can befall, in the order of the file."""
    found: list[str] = []
    for place in kind.on:
        if place in (PLANNER, CLOCK, SITE):
            found.append(place)
            continue
        name, _, point = place.partition(".")
        found += [f"{a.id}.{point}" if point else a.id for a in (*site.assets, *site.of(Feeder)) if a.kind == name]
    return found


def in_force(faults: Sequence[Fault], at_s: float) -> list[Fault]:
    """Return the faults that are in force at a moment."""
    return [f for f in faults if f.onset_s <= at_s < f.end_s]


def read_fault(content: object, where: str, site: Site) -> Fault:
    """Return a fault from its JSON, or say what is wrong with it.

    Parameters
    ----------
    where : str
        Its place in the document, for the error.
    """
    if not isinstance(content, dict):
        raise BadInput("a fault is no object", where, "kind, target, onset_s, duration_s, severity")
    kind = KINDS.get(str(content.get("kind")))
    if kind is None:
        raise BadInput(f"unknown kind of fault {content.get('kind')!r}", f"{where}.kind", ", ".join(KINDS))
    if content.get("klass", kind.klass) != kind.klass:
        raise BadInput(f"{kind.name} is no fault of class {content['klass']!r}", f"{where}.klass", kind.klass)
    known = targets(site, kind)
    if content.get("target") not in known:
        raise BadInput(f"{kind.name} cannot befall {content.get('target')!r}", f"{where}.target", ", ".join(known) or "another site")
    numbers = {}
    for name, low, high in (("onset_s", 0.0, math.inf), ("duration_s", 0.0, math.inf), ("severity", 0.0, 1.0)):
        value = content.get(name)
        if name == "duration_s" and value is None and name in content:
            value = math.inf
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or (name == "onset_s" and math.isinf(value)):
            raise BadInput(f"{name} is {value!r}", f"{where}.{name}", "a number from 0 to 1" if high == 1.0 else "a number of seconds, 0 or more")
        numbers[name] = float(value)
    return Fault(kind.name, kind.klass, content["target"], numbers["onset_s"], numbers["duration_s"], numbers["severity"])
