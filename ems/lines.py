"""Curves as straight lines: the convex hull of points, for what is minimised, and the concave one, for what limits."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]


def slope(a: Point, b: Point) -> float:
    """Return the rise from one point of a curve to the next."""
    return (b[1] - a[1]) / (b[0] - a[0])


def lower_hull(points: Sequence[Point]) -> list[Point]:
    """Return the points that the lower convex hull of points with rising x goes through."""
    hull: list[Point] = []
    for point in points:
        while len(hull) > 1 and slope(hull[-2], hull[-1]) >= slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def convex_lines(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Return (value at 0, slope) of the lines whose maximum is the lower convex hull of points with rising x."""
    hull = lower_hull(points)
    return [(a[1] - slope(a, b) * a[0], slope(a, b)) for a, b in zip(hull, hull[1:], strict=False)]


def concave_lines(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Return (value at 0, slope) of the lines whose minimum is the upper concave hull of points with rising x."""
    return [(-at_0, -rise) for at_0, rise in convex_lines([(x, -y) for x, y in points])]
