"""Which commitment sets are worth a thought where some diesels are as good as others.

Of twins, which one runs next is no matter of litres, but a search that may choose goes through every exchange of them.
So only sets that take twins in order are kept: 8 engines of one kind make 9 of them instead of 256. There are two orders:
those that run go on, first those that must for longest, and those that are least worn come first, so that a plan may change twins where
they are due. What must run is always among the first, so that a plan exists in every state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ems.config.site import Diesel, Site
from ems.plan import DieselStart, Plan
from ems.rotation import SPREAD_H
from optimizer.frame import Array, Question

EXACT_UP_TO = 4
"""Up to so many diesels only true twins are put in order: 16 sets cost little."""
ALIKE = 0.15
"""Among more, engines whose ratings differ by less than this share count as of one kind."""
OWN = {"id", "name", "device", "profile", "forming", "inertia_s", "droop", "cooldown_s", "retries", "max_starts_per_h", "hours_between_service"}
"""What twins may differ in: a plan does not look at it."""
Rank = Callable[[Diesel], tuple[bool, bool, float, int]]


def useful_sets(site: Site, sets: Sequence[tuple[str, ...]], question: Question, *, kept: bool) -> Array:
    """Return 1 for every set that is to be thought of, else 0, shape (n_sets,); the dead bus always is.

    Parameters
    ----------
    site : Site
    sets : Sequence[tuple[str, ...]]
    question : Question
    kept : bool
        Whether what the plan before had must stay possible.
    """
    kinds = alike(site.of(Diesel), question)
    orders = [[[d.id for d in sorted(kind, key=rank)] for kind in kinds] for rank in (by_state(question), by_wear(question))]
    before = planned(question.previous) if kept else frozenset()
    return np.array([float(k == 0 or frozenset(s) in before or any(all(first(o, s) for o in order) for order in orders)) for k, s in enumerate(sets)])


def alike(diesels: Sequence[Diesel], question: Question) -> list[list[Diesel]]:
    """Return the diesels by kind, the largest first; one that never forms, or that an operator has limited, is no replacement for one that is free."""
    found: list[list[Diesel]] = []
    exact = len(diesels) <= EXACT_UP_TO
    for diesel in sorted(diesels, key=lambda d: -d.rated_kw):
        kind = next((kind for kind in found if free(kind[0], question) and free(diesel, question) and same(kind[0], diesel, exact=exact)), None)
        if kind is None:
            found.append([diesel])
        else:
            kind.append(diesel)
    return found


def same(one: Diesel, other: Diesel, *, exact: bool) -> bool:
    """Whether a plan makes no difference between two engines."""
    if (one.forming == "never") != (other.forming == "never"):
        return False
    return one.model_dump(exclude=OWN) == other.model_dump(exclude=OWN) if exact else one.rated_kw * (1.0 - ALIKE) <= other.rated_kw


def free(diesel: Diesel, question: Question) -> bool:
    """Whether no limit of an operator holds for its power; out of service it is only the last of its kind."""
    limit = question.limits.get(diesel.id)
    return limit is None or (limit.max_kw is None and limit.min_kw is None)


def by_state(question: Question) -> Rank:
    """Return the order running, startable, broken, by how long they may not stop or start, then by wear: shape of a sort key."""

    def rank(diesel: Diesel) -> tuple[bool, bool, float, int]:
        state = question.start.diesels.get(diesel.id)
        if state is None or not serves(diesel, state, question):
            return True, True, 0.0, 0
        if state.held:
            return False, False, -math.inf, 0
        if state.on:  # who may not stop for longest comes first, or others would have to stay with it
            return False, False, -max(diesel.min_up_s - state.since_s, state.burn_s, float(state.frozen), 0.0), worn(state)
        return False, True, max(diesel.min_down_s - state.since_s, float(state.frozen), 0.0), worn(state)

    return rank


def by_wear(question: Question) -> Rank:
    """Return the order of those that can serve by what is left to their service and by hours, whether they run or not."""
    horizon_h = sum(question.grid.step_s) / 3600.0

    def rank(diesel: Diesel) -> tuple[bool, bool, float, int]:
        state = question.start.diesels.get(diesel.id)
        if state is None or not serves(diesel, state, question):
            return True, True, 0.0, 0
        if state.held:
            return False, False, -math.inf, 0
        return False, state.service_in_h is not None and state.service_in_h < horizon_h, 0.0, worn(state)

    return rank


def serves(diesel: Diesel, state: DieselStart, question: Question) -> bool:
    """Whether an engine may run throughout the horizon."""
    return bool(state.usable and question.in_service(diesel.id).all())


def worn(state: DieselStart) -> int:
    """Return the run hours in steps that are worth a change of engines; a stable sort takes equals in the order of the file."""
    return round((state.run_h or 0.0) / SPREAD_H)


def planned(plan: Plan | None) -> frozenset[frozenset[str]]:
    """Return the sets that a plan had on line; none without a plan."""
    if plan is None:
        return frozenset()
    diesels = [d for d in plan.on if d not in plan.deferrables]
    return frozenset(frozenset(d for d in diesels if plan.on[d][k]) for k in range(plan.grid.n_steps))


def first(order: Sequence[str], members: tuple[str, ...]) -> bool:
    """Return whether a set takes its engines of one kind from the beginning of the order."""
    taken = sum(name in members for name in order)
    return all(name in members for name in order[:taken])
