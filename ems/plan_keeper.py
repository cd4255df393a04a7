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

from ems.config.site import Site
from ems.decision import Decision, Event
from ems.model import Image
from ems.observing import Observer
from ems.plan import Given, Observation, Plan, PlanOutcome, PlanRequest
from ems.plan_check import PlanCheck
from ems.plan_start import planned_limits, plant_start
from ems.plan_verdict import Verdict, judged
from ems.ports import Planner

PATIENCE = 10.0
"""A planner that gives no answer at all is asked again after so many times the usual interval."""
EVENT_REPLAN_S = 30.0
"""After an event a new plan is asked for, at most this often [s]."""
NEWS = frozenset({"tripped", "locked", "limits", "limit_expired", "mode"})
"""Events that call for a new plan; what the old one promised is worth nothing after them."""


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
