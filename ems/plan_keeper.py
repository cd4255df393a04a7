"""When to ask for a plan, which to believe, and what to do without one.

The ladder: a checked plan, the last plan until it is no longer valid, the rules (mode FALLBACK). SAFE is no rung
of it: only an emergency stop leads there. Every answer is
checked by `ems.plan_check` before it is used; what is refused leaves its reason. The cycle never waits:
while there is a plan to follow, the check of the next takes a few milliseconds in each of some cycles.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import datetime

from ems.charge import surely_stored
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Site, Tank
from ems.decision import Decision, Event
from ems.engines import CLEAN, burn_left_s
from ems.memory import Memory
from ems.model import Image, Limits
from ems.observing import Observer
from ems.plan import DeferrableStart, DieselStart, Given, Observation, Plan, PlanOutcome, PlanRequest, PlantStart
from ems.plan_check import PlanCheck
from ems.plan_verdict import Verdict, judged
from ems.ports import Planner
from ems.rotation import service_in_h
from ems.sequencer import COMING
from ems.terms import Phase

PATIENCE = 10.0
"""A planner that gives no answer at all is asked again after so many times the usual interval."""
IN_LOCAL = {"solar": True, "hydro": True, "inverter": False, "deferrable": False}
"""Kinds that a plan uses beside diesels, and whether it reckons with one in local: sun and river go on giving, what a battery does there nobody foretells."""
EVENT_REPLAN_S = 30.0
"""After an event a new plan is asked for, at most this often [s]."""
NEWS = frozenset({"tripped", "locked", "limits", "limit_expired", "mode"})
"""Events that call for a new plan; what the old one promised is worth nothing after them."""
POND_DEPTH_M = 2.0
"""Depth that a full pond's level gauge shows [m]."""


class PlanKeeper:
    """Keeps the plan of one site.

    Parameters
    ----------
    site : Site
    planner : Planner
    pause_s : float
        Shortest site time between two questions [s]; longer than `replan_s` where time is scaled.
    """

    def __init__(self, site: Site, planner: Planner, pause_s: float = 0.0) -> None:
        self._site = site
        self._planner = planner
        self._every_s = max(site.planner.replan_s, pause_s)
        self._event_s = max(EVENT_REPLAN_S, pause_s)
        self._check = PlanCheck(site)
        self._observer = Observer(site)
        self._asked_s: float | None = None
        self._eventful = False
        self._news_s = self._known_s = -math.inf  # when something happened last, and up to when the plan that is followed knows of it
        self._asked = 0
        self._pending: PlanRequest | None = None
        self._parts: Generator[None, None, Verdict] | None = None  # what is left to be looked at of `outcome`
        self._observed: list[Observation] = []
        self._given: Given | None = None
        self.plan: Plan | None = None
        self.outcome: PlanOutcome | None = None

    def current(self, at: datetime) -> Plan | None:
        """Return the plan to follow, or None once the last one is no longer valid."""
        if self.plan is not None and at >= min(self.plan.valid_until, self.plan.grid.end):
            self.plan = None
        return self.plan

    def tick(self, image: Image, decision: Decision) -> tuple[list[Event], PlanOutcome | None]:
        """Take an answer if there is one, and ask again when it is time.

        Returns
        -------
        events : list[Event]
        outcome : PlanOutcome | None
            An answer that has just been taken into use, for the store.
        """
        ended = self._observer.look(image, decision)
        if ended is not None:
            self._observed.append(ended)
        events, taken = self._collect(image.time)
        if self._due(image.now_s, decision.events):
            self._ask(image, decision)
        return events, taken

    def give(self, given: Given) -> None:
        """Hand a forecast from outside on with every question; a newer one replaces it."""
        self._given = given
        self._eventful = True

    def close(self) -> None:
        """End the planner."""
        self._planner.close()

    def _due(self, now_s: float, events: Sequence[Event]) -> bool:
        if self._asked_s is None:
            return True
        since = now_s - self._asked_s
        if any(e.kind in NEWS for e in events):
            self._eventful, self._news_s = True, now_s
        if self._pending is not None and since < PATIENCE * self._every_s:
            return False  # one question at a time: its answer is checked against the state it was asked from
        return since >= self._every_s or (self._eventful and since >= self._event_s)

    def _ask(self, image: Image, decision: Decision) -> None:
        self._asked_s, self._eventful = image.now_s, False
        self._asked += 1
        request = PlanRequest(
            id=f"{image.time:%Y%m%dT%H%M%SZ}-{self._asked}",
            at=image.time,
            start=plant_start(self._site, image, decision.memory),
            limits=planned_limits(self._site, image, decision.memory),
            observations=tuple(self._observed),
            given=self._given,
            previous=self.current(image.time) if self._known_s >= self._news_s else None,
            now=self._observer.now(),
        )
        self._observed = []
        self._pending, self._parts = request, None
        self._planner.submit(request)

    def _collect(self, at: datetime) -> tuple[list[Event], PlanOutcome | None]:
        """Take an answer if there is one, look at a part of it in each cycle, and believe it if nothing is wrong."""
        if self._parts is None:
            outcome, request = self._planner.take(), self._pending
            if outcome is None:
                return [], None
            if request is None or request.id != outcome.request_id:
                return [Event("plan_refused", None, "it answers a question that was given up")], None
            self.outcome, self._parts = outcome, judged(self._check, request, outcome, at)
        hurry = self.current(at) is None  # without a plan to follow, being without one is worse than a long cycle
        try:
            next(self._parts)
            while hurry:
                next(self._parts)
        except StopIteration as done:
            verdict: Verdict = done.value
        else:
            return [], None
        self._parts, self._pending = None, None
        return self._settled(verdict)

    def _settled(self, verdict: Verdict) -> tuple[list[Event], PlanOutcome | None]:
        outcome, faults, choice = self.outcome, verdict.faults, verdict.choice
        if outcome is None or outcome.plan is None:
            return [Event("plan_failed", None, "; ".join(faults))], None
        if faults:
            return [Event("plan_refused", None, "; ".join(faults[:3]))], None
        self.plan, self._known_s = verdict.plan, self._asked_s or 0.0
        events = [Event("plan_kept", None, choice.why)] if choice is not None and choice.kept else []
        return events, replace(outcome, plan=verdict.plan)


def plant_start(site: Site, image: Image, memory: Memory) -> PlantStart:
    """Return the true state from which a plan starts; `memory` has counted this image already."""
    soc = {b.id: s for b in site.of(Battery) if (s := surely_stored(image.assets[b.id])) is not None}
    diesels = {}
    for d in site.of(Diesel):
        unit = memory.units.get(d.id)
        if unit is None:
            diesels[d.id] = DieselStart(False, 0.0, usable=False)
            continue
        on = unit.phase in (*COMING, Phase.ONLINE)
        manual = memory.manual.get(d.id)
        ordered_off = manual is not None and manual.run is False
        # One out of service may be so for an hour only: that is a limit, which a plan sees end.
        usable = (image.assets[d.id].ready or on) and unit.phase is not Phase.LOCKED and not ordered_off
        local = not (image.assets[d.id].seen and image.assets[d.id].remote)
        # What a set ran before this start is no part of its minimum up time.
        since = 0.0 if unit.phase in COMING else image.now_s - (unit.started_s if on and unit.started_s is not None else unit.since_s)
        run_h = image.assets[d.id].get("run_h")
        diesels[d.id] = DieselStart(
            on,
            max(0.0, since),
            usable,
            frozen=unit.phase in (*COMING, Phase.UNLOADING),
            held=(manual is not None and manual.run is True) or (on and local),
            run_h=run_h,
            service_in_h=None if run_h is None else service_in_h(d, run_h),
            burn_s=burn_left_s(memory.engines.get(d.id, CLEAN)),
        )
    # A gauge may read a little under its zero.
    depth = {h.id: level for h in site.of(Hydro) if (level := image.assets[h.id].get("level_m")) is not None}
    pond = {h.id: min(1.0, max(0.0, depth[h.id] / POND_DEPTH_M)) * h.pond_m3 for h in site.of(Hydro) if h.pond_m3 > 0 and h.id in depth}
    tank = {t.id: max(0.0, level) for t in site.of(Tank) if (level := image.assets[t.id].get("level_l")) is not None}
    done = {d.id: memory.done_kwh.get(d.id, 0.0) for d in site.of(Deferrable)}
    unusable = {a: False for a, i in image.assets.items() if i.kind in IN_LOCAL and (not i.seen or i.fault or not (i.remote or IN_LOCAL[i.kind]))}
    duties = {
        d.id: DeferrableStart(duty.running, max(0.0, image.now_s - duty.since_s), duty.starts)
        for d in site.of(Deferrable)
        if (duty := memory.duties.get(d.id)) is not None
    }
    return PlantStart(soc, diesels, pond, tank, done, unusable, duties)


def planned_limits(site: Site, image: Image, memory: Memory) -> dict[str, Limits]:
    """Return the operator's limits; a turbine that its own panel runs is held at what it gives: must-run (CONTROL 1.6), as far as the river goes."""
    found = dict(memory.limits)
    for h in site.of(Hydro):
        seen = image.assets[h.id]
        if seen.seen and not seen.remote and seen.power_kw is not None:
            given_kw = seen.power_kw if seen.power_kw >= h.min_kw else 0.0  # less does not turn it: that is its meter's noise
            found[h.id] = replace(found.get(h.id, Limits()), max_kw=given_kw, min_kw=given_kw, out_of_service=False, expires_at=None)
    return found
