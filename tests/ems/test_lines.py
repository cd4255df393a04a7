"""Hulls of curves, against points on them."""

from __future__ import annotations

import pytest

from ems.lines import concave_lines, convex_lines

CONVEX = [
    ([(0.0, 1.0), (1.0, 2.0), (2.0, 4.0)], [(1.0, 1.0), (0.0, 2.0)]),
    ([(0.0, 0.0), (1.0, 2.0), (2.0, 2.0)], [(0.0, 1.0)]),  # the middle lies above the hull
    ([(1.0, 3.0), (3.0, 5.0)], [(2.0, 1.0)]),
]


@pytest.mark.parametrize(("points", "expected"), CONVEX)
def test_convex_lines(points: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    assert [x for line in convex_lines(points) for x in line] == pytest.approx([x for line in expected for x in line])


def test_concave_lines_bound_from_above() -> None:
    lines = concave_lines([(0.0, 1.0), (0.9, 1.0), (1.0, 0.2)])
    assert min(a + b * 0.5 for a, b in lines) == pytest.approx(1.0)
    assert min(a + b * 0.95 for a, b in lines) == pytest.approx(0.6)
