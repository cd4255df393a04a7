"""Shrinking: down to the faults that matter, shorter and milder, within its tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ems.config.site import Site
from simulator.campaign.case import Case, drawn
from simulator.campaign.run import Outcome, Violation
from simulator.campaign.shrink import AFTER_S, Budget, fewest, milder, shrunk
from simulator.faults.alphabet import Fault
from tests.simulator.faults.bench import fault, island

MANY = [fault("silent", "dg1", float(k), 100.0) for k in range(24)]


@given(st.sets(st.integers(0, 23), min_size=1, max_size=5))
def test_only_what_matters_is_left(guilty: set[int]) -> None:
    wanted = {MANY[k] for k in guilty}
    assert set(fewest(MANY, lambda faults: wanted <= set(faults))) == wanted


def test_what_fails_without_any_fault_needs_none() -> None:
    assert fewest(MANY, lambda faults: True) == []


def test_a_spent_budget_keeps_what_was_found() -> None:
    asked: list[int] = []

    def fails(faults: Sequence[Fault]) -> bool:
        asked.append(len(faults))
        return MANY[3] in faults

    found = fewest(MANY, Budget(fails, 4))
    assert len(asked) == 4
    assert MANY[3] in found and len(found) < len(MANY)


def test_faults_become_as_short_and_mild_as_they_may() -> None:
    def fails(faults: Sequence[Fault]) -> bool:
        return faults[0].duration_s >= 20.0 and faults[0].severity >= 0.2

    (found,) = milder([fault("silent", "dg1", 10.0, 160.0, 0.8)], fails, 500.0)
    assert (found.duration_s, found.severity) == (20.0, 0.2)


def runner(guilty: Sequence[Fault]) -> Callable[[Site, Case, tuple[str, str] | None], Outcome]:
    """Return what stands for runs: they break I2 thirty seconds after the last of the guilty faults, if all are there."""

    def run(site: Site, case: Case, until: tuple[str, str] | None) -> Outcome:
        kinds = {(f.kind, f.target): f for f in case.faults}
        met = [kinds[key] for f in guilty if (key := (f.kind, f.target)) in kinds]
        at_s = max((f.onset_s for f in met), default=0.0) + 30.0
        broken = len(met) == len(guilty) and at_s <= case.length_s
        return Outcome(case, [Violation("I2", "state of charge", "bess1", at_s, "too low", tuple(case.faults))] if broken else [])

    return run


def test_a_case_is_cut_down_to_what_breaks_the_same_invariant() -> None:
    site = island()
    guilty = [fault("frozen", "bess1.soc", 100.0, 300.0, 0.8), fault("silent", "pv1", 150.0, 300.0, 0.8)]
    others = [fault("late", "dg1", 10.0 * k, 50.0) for k in range(20)] + [fault("trip", "dg2", 900.0)]
    case = replace(drawn(site, 5, 7200.0, "energy"), faults=tuple(sorted([*guilty, *others], key=lambda f: f.onset_s)))
    run = runner(guilty)
    (violation,) = run(site, case, None).violations
    small = shrunk(site, case, violation, run=run)
    assert [(f.kind, f.target) for f in small.faults] == [("frozen", "bess1.soc"), ("silent", "pv1")]
    assert small.length_s == 180.0 + AFTER_S
    assert all(f.duration_s <= 85.0 and f.severity <= 0.2 for f in small.faults)
    assert run(site, small, None).violations[0].key == violation.key
    assert (small.seed, small.start, small.soc, small.running) == (case.seed, case.start, case.soc, case.running)
