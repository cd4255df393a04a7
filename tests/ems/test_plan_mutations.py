"""Good plans pass the check; each of a thousand, broken in one of many ways, is refused with words that name what is broken."""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import timedelta
from functools import cache

import pytest

from ems.config.site import Diesel, Site
from ems.plan_check import PlanCheck
from tests.ems.mutations import MUTATIONS
from tests.ems.plans import SITES, Good, good, with_pond


@cache
def sample(name: str, seed: int) -> Good:
    case = good(name, seed)
    return with_pond(case) if name == "river" else case


def faults(case: Good) -> list[str]:
    return PlanCheck(case.site).faults(case.plan, case.start, case.forecast, case.limits, case.plan.grid.start + timedelta(seconds=2))


def broken(kind: str, chance: random.Random) -> Good:
    """Return a good plan of a random site and situation, broken in this way."""
    for _ in range(400):
        found = MUTATIONS[kind][0](sample(chance.choice(sorted(SITES)), chance.randrange(40)), chance)
        if found is not None:
            return found
    raise AssertionError(f"no plan lends itself to {kind}")


@pytest.mark.parametrize("name", SITES)
def test_no_false_alarm(name: str) -> None:
    for seed in range(70):
        assert faults(sample(name, seed) if seed < 40 else good(name, seed)) == [], f"seed {seed}"


@pytest.mark.parametrize("kind", MUTATIONS)
def test_every_kind_of_fault_is_named(kind: str) -> None:
    chance = random.Random(kind)
    for _ in range(3):
        found = faults(broken(kind, chance))
        assert any(re.search(MUTATIONS[kind][1], f) for f in found), found


def test_a_thousand_seeded_mutations_are_refused() -> None:
    chance, seen = random.Random(5), Counter[str]()
    for _ in range(1000):
        kind = chance.choice(sorted(MUTATIONS))
        found = faults(broken(kind, chance))
        assert any(re.search(MUTATIONS[kind][1], f) for f in found), (kind, found)
        seen[kind] += 1
    assert len(seen) == len(MUTATIONS) >= 20


def test_the_samples_are_not_all_alike() -> None:
    of: Site = SITES["river"]
    sets = {tuple(d.id for d in of.of(Diesel) if any(sample("river", k).plan.on[d.id])) for k in range(40)}
    assert len(sets) >= 3
