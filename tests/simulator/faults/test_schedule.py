"""Seeded schedules: the same for the same seed, of their regime, and clean at the end."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.faults.alphabet import KINDS, in_force, targets
from simulator.faults.schedule import AT_ONCE, CLEAN_SHARE, QUIET_S, REGIMES, every_single, schedule
from tests.simulator.faults.bench import island

SITE = island()
SEEDS = st.integers(0, 10_000)
LENGTHS = st.sampled_from([900.0, 1800.0, 7200.0])


@given(SEEDS, LENGTHS)
def test_the_same_seed_gives_the_same_schedule(seed: int, length_s: float) -> None:
    assert schedule(SITE, seed, length_s) == schedule(SITE, seed, length_s)


@given(SEEDS, LENGTHS)
def test_every_fault_is_possible_and_the_end_is_clean(seed: int, length_s: float) -> None:
    made = schedule(SITE, seed, length_s)
    assert made.regime == REGIMES[seed % 4]
    assert list(made.faults) == sorted(made.faults, key=lambda f: (f.onset_s, f.kind, f.target))
    for one in made.faults:
        kind = KINDS[one.kind]
        assert one.klass == kind.klass
        assert one.target in targets(SITE, kind)
        assert one.onset_s >= QUIET_S
        assert 0.0 <= one.severity <= 1.0
        if made.regime == "permanent":
            assert math.isinf(one.duration_s)
            assert kind.lasting
        else:
            assert one.end_s <= length_s * (1.0 - CLEAN_SHARE) + 1.0


@given(SEEDS)
def test_a_regime_has_as_many_at_once_as_it_says(seed: int) -> None:
    made = schedule(SITE, seed, 7200.0)
    most = max((len(in_force(made.faults, f.onset_s)) for f in made.faults), default=0)
    assert most <= {"single": 1, "pair": 2, "storm": AT_ONCE, "permanent": 3}[made.regime]


def test_the_singles_go_through_every_kind_and_target() -> None:
    wanted = {(k.name, t) for k, t in every_single(SITE)}
    found = {(f.kind, f.target) for seed in range(0, 4 * 60, 4) for f in schedule(SITE, seed, 7200.0).faults}
    assert found == wanted


def test_storms_differ_in_what_they_draw_from() -> None:
    drawn = [{f.kind for f in schedule(SITE, seed, 20000.0).faults} for seed in (2, 6, 10)]
    assert all(len(kinds) <= len(KINDS) // 2 for kinds in drawn)
    assert drawn[0] != drawn[1] != drawn[2]


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_short_run_has_faults_too(seed: int) -> None:
    assert schedule(SITE, seed, 900.0).faults
