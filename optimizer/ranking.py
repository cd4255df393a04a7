"""Which commitment sets are worth a thought where there are many diesels.

Of engines of nearly one size, which one runs next is no matter of litres: those that run go on, then those that can be
started, in the order of the file. Only sets that take each size in this order are kept: 8 engines of one size make 9
of them instead of 256. What must run is always among the first, so that a plan exists in every state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ems.config.site import Diesel, Site
from ems.rotation import SPREAD_H
from optimizer.frame import Array, Question

ALL_UP_TO = 4
"""Up to so many diesels every set is thought of: 16 sets cost little."""
ALIKE = 0.15
"""Engines whose ratings differ by less than this share are of one size."""


def useful_sets(site: Site, sets: Sequence[tuple[str, ...]], question: Question) -> Array:
    """Return 1 for every set that is to be thought of, else 0, shape (n_sets,); the dead bus always is."""
    diesels = site.of(Diesel)
    if len(diesels) <= ALL_UP_TO:
        return np.ones(len(sets))
    orders = [ranked(size, question) for size in sizes(diesels)]
    return np.array([float(k == 0 or all(first(order, members) for order in orders)) for k, members in enumerate(sets)])


def sizes(diesels: Sequence[Diesel]) -> list[list[Diesel]]:
    """Return the diesels by size, the largest first; one that never forms is no replacement for one that does."""
    found: list[list[Diesel]] = []
    for diesel in sorted(diesels, key=lambda d: -d.rated_kw):
        alike = next((g for g in found if g[0].rated_kw * (1.0 - ALIKE) <= diesel.rated_kw and (g[0].forming == "never") == (diesel.forming == "never")), None)
        if alike is None:
            found.append([diesel])
        else:
            alike.append(diesel)
    return found


def ranked(size: Sequence[Diesel], question: Question) -> list[str]:
    """Return the engines of one size in the order in which they are taken: running, startable, resting, broken, each by run hours."""

    def rank(diesel: Diesel) -> tuple[bool, bool, bool, int]:
        state = question.start.diesels.get(diesel.id)
        if state is None or not state.usable or not question.in_service(diesel.id).all():
            return True, True, True, 0
        return False, not state.on, not state.on and (state.frozen or state.since_s < diesel.min_down_s), round((state.run_h or 0.0) / SPREAD_H)

    return [d.id for d in sorted(size, key=rank)]  # a stable sort: the file's order tells equals apart


def first(order: Sequence[str], members: tuple[str, ...]) -> bool:
    """Return whether a set takes its engines of one size from the beginning of the order."""
    taken = sum(name in members for name in order)
    return all(name in members for name in order[:taken])
