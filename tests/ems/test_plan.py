"""The plan's grid, and what a plan wants just now."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ems.plan import Grid, Plan, Target, overlap, target_at
from tests.ems.island import START

GRID = Grid(START, (300.0, 300.0, 900.0, 3600.0))


def after(seconds: float):
    return START + timedelta(seconds=seconds)


def plan(**changes: object) -> Plan:
    given: dict[str, object] = {
        "id": "p1", "made_at": START, "valid_until": GRID.end, "source": "mpc", "grid": GRID,
        "power_kw": {"dg1": (100.0, 100.0, 0.0, 0.0), "inv1": (30.0, 60.0, 90.0, -20.0), "pv1": (50.0, 80.0, 80.0, 0.0), "desal": (0.0, 40.0, 40.0, 0.0)},
        "on": {"dg1": (True, True, False, False), "desal": (False, True, True, False)},
        "soc": {}, "load_kw": (180.0,) * 4, "unserved_kw": (0.0,) * 4,
        "deferrables": ("desal",),
        "available_kw": {"pv1": (50.0, 120.0, 80.05, 0.0)},
    }  # fmt: skip
    return Plan(**{**given, **changes})  # type: ignore[arg-type]


def test_a_grid_knows_its_ends_and_steps() -> None:
    assert (GRID.n_steps, GRID.end) == (4, after(5100))
    assert GRID.starts() == [after(s) for s in (0, 300, 600, 1500)]


@pytest.mark.parametrize(("seconds", "step"), [(-0.1, None), (0, 0), (299.9, 0), (300, 1), (600, 2), (1499.9, 2), (1500, 3), (5099.9, 3), (5100, None)])
def test_which_step(seconds: float, step: int | None) -> None:
    assert GRID.index(after(seconds)) == step


@pytest.mark.parametrize(
    ("at_s", "seconds", "shares"),
    [
        (0, 300, {0: 300}),
        (150, 300, {0: 150, 1: 150}),
        (590, 1, {1: 1}),
        (200, 1400, {0: 100, 1: 300, 2: 900, 3: 100}),
        (-100, 200, {0: 100}),
        (5000, 900, {3: 100}),
        (5100, 60, {}),
        (-60, 60, {}),
    ],
)
def test_overlap_shares_every_second_once(at_s: float, seconds: float, shares: dict[int, float]) -> None:
    assert overlap(GRID, after(at_s), seconds) == shares


@pytest.mark.parametrize(
    ("at_s", "seconds", "expected"),
    [
        (0, 1, Target(frozenset({"dg1"}), {"dg1": 100.0, "inv1": 30.0}, "mpc", {"desal": 0.0})),
        (300, 1, Target(frozenset({"dg1"}), {"dg1": 100.0, "inv1": 60.0}, "mpc", {"desal": 40.0})),
        (700, 1, Target(frozenset(), {"dg1": 0.0, "inv1": 90.0}, "mpc", {"desal": 40.0})),
        (0, 1500, Target(frozenset(), {"dg1": 40.0, "inv1": 72.0}, "mpc", {"desal": 32.0})),
        (5100, 1, None),
        (-10, 1, None),
    ],
)
def test_what_is_wanted_now(at_s: float, seconds: float, expected: Target | None) -> None:
    found = target_at(plan(), after(at_s), seconds)
    assert found == expected


def test_half_of_the_time_is_on() -> None:
    assert target_at(plan(), after(300), 600).on == {"dg1"}  # type: ignore[union-attr]
    assert target_at(plan(), after(301), 600).on == frozenset()  # type: ignore[union-attr]
