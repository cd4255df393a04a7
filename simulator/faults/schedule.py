"""Seeded schedules of faults, in four regimes; the same seed gives the same schedule.

`single` goes through every kind and target in turn, clean before and after. `pair` has two at once, through all pairs of
classes. `storm` has up to six at once. `permanent` has one to three that never heal, with which the island must live.
Except in `permanent` the last fifth of a run is without faults: life must return.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

from ems.config.site import Site
from simulator.faults.alphabet import CLASSES, KINDS, Fault, Kind, in_force, targets

REGIMES = ("single", "pair", "storm", "permanent")
QUIET_S = 90.0
"""A run begins without faults: the controller has its first scan and its first plan [s]."""
CLEAN_SHARE = 0.2
"""The last part of a run has no faults."""
SLOT_S = 600.0
"""Time for one single fault with its clean time, and for one pair [s]."""
AT_ONCE = 6


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run's faults."""

    regime: str
    faults: tuple[Fault, ...]


def every_single(site: Site) -> list[tuple[Kind, str]]:
    """Return every kind with every target, in a fixed order that mixes the classes."""
    found = [(kind, target) for kind in KINDS.values() for target in targets(site, kind)]
    random.Random("every single fault").shuffle(found)
    return found


def schedule(site: Site, seed: int, length_s: float) -> Schedule:
    """Return the schedule of a seed.

    Parameters
    ----------
    length_s : float
        Length of the run [s].
    """
    chance = random.Random(seed)
    regime = REGIMES[seed % len(REGIMES)]
    open_s = (QUIET_S, max(QUIET_S, length_s * (1.0 - CLEAN_SHARE)))
    if regime == "single":
        faults = _singles(site, seed // len(REGIMES), open_s, chance)
    elif regime == "pair":
        faults = _pairs(site, seed // len(REGIMES), open_s, chance)
    elif regime == "storm":
        faults = _storm(site, open_s, chance)
    else:
        faults = _permanent(site, length_s, chance)
    return Schedule(regime, tuple(sorted(faults, key=lambda f: (f.onset_s, f.kind, f.target))))


def _slots(open_s: tuple[float, float]) -> tuple[int, float]:
    """Return how many slots fit, and how long each is [s]."""
    count = max(1, int((open_s[1] - open_s[0]) / SLOT_S))
    return count, (open_s[1] - open_s[0]) / count


def _singles(site: Site, turn: int, open_s: tuple[float, float], chance: random.Random) -> list[Fault]:
    every = every_single(site)
    count, slot_s = _slots(open_s)
    found = []
    for k in range(count):
        kind, target = every[(turn * count + k) % len(every)]
        onset = open_s[0] + k * slot_s + chance.uniform(0.0, 0.1) * slot_s
        found.append(_fault(kind, target, onset, min(_duration(kind, chance), 0.6 * slot_s), chance))
    return found


def _pairs(site: Site, turn: int, open_s: tuple[float, float], chance: random.Random) -> list[Fault]:
    allowed = _swarm(site, chance)
    classes = list(combinations_with_replacement(CLASSES, 2))
    count, slot_s = _slots(open_s)
    found: list[Fault] = []
    for k in range(count):
        onset = open_s[0] + k * slot_s
        for klass in classes[(turn * count + k) % len(classes)]:
            choice = [x for x in allowed if x[0].klass == klass]
            if choice:
                kind, target = chance.choice(choice)
                found.append(_fault(kind, target, onset + chance.uniform(0.0, 0.15) * slot_s, min(_duration(kind, chance), 0.5 * slot_s), chance))
    return found


def _storm(site: Site, open_s: tuple[float, float], chance: random.Random) -> list[Fault]:
    allowed, found = _swarm(site, chance), list[Fault]()
    pause_s = chance.uniform(10.0, 90.0)
    at = open_s[0]
    while allowed:
        at += chance.expovariate(1.0 / pause_s)
        if at >= open_s[1]:
            break
        kind, target = chance.choice(allowed)
        lasts = min(_duration(kind, chance), chance.uniform(2.0, 120.0), open_s[1] - at)
        if len(in_force(found, at)) < AT_ONCE:
            found.append(_fault(kind, target, at, lasts, chance))
    return found


def _permanent(site: Site, length_s: float, chance: random.Random) -> list[Fault]:
    allowed = [(k, t) for k, t in _swarm(site, chance) if k.lasting]
    found = []
    for _ in range(chance.randint(1, 3)):
        if allowed:
            kind, target = chance.choice(allowed)
            found.append(_fault(kind, target, QUIET_S + chance.uniform(0.0, 0.3) * max(0.0, length_s - QUIET_S), math.inf, chance))
    return found


def _swarm(site: Site, chance: random.Random) -> Sequence[tuple[Kind, str]]:
    """Return what a seed may draw: a random half of the alphabet is off, so that rare mixes appear."""
    kinds = list(KINDS.values())
    on = set(chance.sample([k.name for k in kinds], len(kinds) // 2))
    return [(k, t) for k in kinds if k.name in on for t in targets(site, k)]


def _duration(kind: Kind, chance: random.Random) -> float:
    low, high = kind.lasts_s
    return low * math.exp(chance.random() * math.log(high / low))


def _fault(kind: Kind, target: str, onset_s: float, duration_s: float, chance: random.Random) -> Fault:
    lasts = duration_s if math.isinf(duration_s) else round(duration_s, 1)
    return Fault(kind.name, kind.klass, target, round(onset_s, 1), lasts, round(chance.uniform(0.1, 1.0), 3))
