"""In whose hand each unit is: what faults take away from the EMS, so that invariants ask only what could be done.

A fault excuses nothing by being there. It excuses an invariant only for the unit that it befalls, while it lasts and for
`SETTLE_S` after it; a value that lies only for `DOUBT_S`, in which doubt has to find it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ems.config.site import Inverter, Site, Tank
from simulator.faults.alphabet import DEAF, LIES, SITE, Fault

SETTLE_S = 60.0
"""A transient may last this long [s]: what comes back is found and taken in hand again."""
DOUBT_S = 60.0
"""A lie that looks good has to be found in this time [s]."""
BREAKING = frozenset({"trip", "estop", "stuck", "by_hand", "fail_start", "slow_start", "local", "derate", "soc_drop", "tank_low", "dry_river"})
"""Plant faults that take a unit, or part of what it can do, away."""


class Hand:
    """Until when which unit is out of hand, and why [s of the run]."""

    def __init__(self, site: Site) -> None:
        self._all = [a.id for a in site.assets]
        self._fed = {t.id: t.feeds for t in site.of(Tank)}
        self._behind = {b.id: i.id for i in site.of(Inverter) if (b := site.battery_behind(i.id)) is not None}
        self._deaf: dict[str, float] = {}
        self._unseen: dict[str, float] = {}
        self._lying: dict[str, float] = {}
        self._broken: dict[str, float] = {}
        self.steering_until_s = -math.inf
        """Until when any unit may not do as told, or shows what is not so [s]."""
        self.rough_until_s = -math.inf
        """Until when cycles are late or hurried [s]."""

    def begin(self, fault: Fault) -> None:
        """Note what a fault takes away, and until when."""
        assets = self._all if fault.asset == SITE else [fault.asset]
        until = fault.end_s + SETTLE_S
        lie = fault.kind in LIES
        if fault.kind in DEAF:
            self._note(self._deaf, assets, until)
        if fault.klass == "link" or fault.klass == "value" and not lie:
            self._note(self._unseen, assets, until)
        if lie:
            until = min(until, fault.onset_s + DOUBT_S)
            self._note(self._lying, assets, until)
        if fault.kind in BREAKING:
            self._note(self._broken, [d for a in assets for d in (a, *self._fed.get(a, ()))], until)
        if fault.klass == "time":
            self.rough_until_s = max(self.rough_until_s, until)
        if fault.klass in ("link", "value", "command") or fault.kind in DEAF:
            self.steering_until_s = max(self.steering_until_s, until)

    def _note(self, book: dict[str, float], assets: Iterable[str], until_s: float) -> None:
        for asset in assets:
            for each in (asset, self._behind.get(asset)):
                if each is not None:
                    book[each] = max(book.get(each, -math.inf), until_s)

    def deaf(self, asset: str, now_s: float) -> bool:
        """Whether a unit may not do what it is told."""
        return now_s < self._deaf.get(asset, -math.inf)

    def unseen(self, asset: str, now_s: float) -> bool:
        """Whether a unit's readings may be missing or late."""
        return now_s < self._unseen.get(asset, -math.inf)

    def lying(self, asset: str, now_s: float) -> bool:
        """Whether a unit shows what is not so, and cannot have been found yet."""
        return now_s < self._lying.get(asset, -math.inf)

    def broken(self, asset: str, now_s: float) -> bool:
        """Whether the plant itself has taken a unit away, or part of it."""
        return now_s < self._broken.get(asset, -math.inf)

    def out(self, asset: str, now_s: float) -> bool:
        """Whether a unit is out of hand for any of these reasons."""
        return self.deaf(asset, now_s) or self.unseen(asset, now_s) or self.lying(asset, now_s) or self.broken(asset, now_s)

    def steering(self, now_s: float) -> bool:
        """Whether all units do as told and show what is so."""
        return now_s >= self.steering_until_s
