"""Wear of a battery by depth: what a cycle of some depth takes of its life, as prices on segments of stored energy.

The life that a cycle of depth d takes is 1 / cycles(d). Cut into segments of depth it is a convex, piecewise linear cost, which an
LP takes without binaries: B. Xu, J. Zhao, T. Zheng, E. Litvinov, D. S. Kirschen, "Factoring the Cycle Aging Cost of Batteries
Participating in Electricity Markets", IEEE Transactions on Power Systems 33(2), 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cvxpy as cp
import numpy as np

from ems.config.site import Battery
from ems.config.strict import Curve
from ems.lines import Point, lower_hull, slope
from optimizer.frame import MW, Array, Frame

SEGMENTS = 4
"""More would follow the curve better than anybody knows it, and each is a row in every step."""
SAME_L_PER_KWH = 1e-6
"""Prices nearer than this are one."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the battery's band of charge, the shallowest first.

    Attributes
    ----------
    width : float
        Share of the capacity.
    l_per_kwh : float
        Litre-equivalents of each kWh that is discharged out of it.
    """

    width: float
    l_per_kwh: float


def life(curve: Curve, depth: float) -> float:
    """Return the share of life that one cycle of a depth takes: 1 / cycles, a power law between the points of `cycle_life` and beyond.

    A curve of a single point says the same throughput at every depth.
    """
    if depth <= 0.0:
        return 0.0
    points = [(math.log(d), -math.log(n)) for d, n in curve]
    if len(points) == 1:
        points.append((points[0][0] + 1.0, points[0][1] + 1.0))
    at = math.log(depth)
    after = next((k for k in range(1, len(points)) if at <= points[k][0]), len(points) - 1)
    a, b = points[after - 1], points[after]
    return math.exp(a[1] + slope(a, b) * (at - a[0]))


def segments(battery: Battery, mean_l_per_kwh: float) -> list[Segment]:
    """Return the segments of a battery's band; prices rise with depth, and a cycle through the whole band costs the mean price.

    Neighbours at one price are one segment; a part of the curve that falls (less wear by deeper cycles) is bridged by its convex hull.
    """
    band = battery.soc_max - battery.soc_min
    depths = [band * k / SEGMENTS for k in range(SEGMENTS + 1)]
    whole = life(battery.cycle_life, band)
    cost: list[Point] = [(d, mean_l_per_kwh * band * life(battery.cycle_life, d) / whole) for d in depths]
    hull = lower_hull(cost)
    found: list[Segment] = []
    for a, b in zip(hull, hull[1:], strict=False):
        price, width = slope(a, b), b[0] - a[0]
        if found and price - found[-1].l_per_kwh < SAME_L_PER_KWH:
            price, width = found[-1].l_per_kwh, width + found.pop().width
        found.append(Segment(width, price))
    return found


class WearBlock:
    """What one battery's wear costs by depth, beyond a price each way that all its energy pays.

    The energy in each segment but the shallowest, which has what is left, is a variable. Nothing says which segment is charged or discharged
    first: the shallow ones are cheaper, so they are used first, and filled first to be used again.
    """

    def __init__(self, frame: Frame, battery: Battery, stored: cp.Variable, to_bus: float) -> None:
        self.battery = battery
        self.capacity = battery.capacity_kwh * MW
        self.each_way_l_per_kwh = frame.prices.wear_l_per_kwh
        self.segments: list[Segment] = []
        if frame.prices.storage_l_per_kwh is not None and battery.cycle_life:
            self.segments = segments(battery, frame.prices.storage_l_per_kwh)
            self.each_way_l_per_kwh = max(frame.prices.least_wear_l_per_kwh, self.segments[0].l_per_kwh / 2.0)
        self.held_0 = cp.Parameter(max(1, len(self.segments) - 1), nonneg=True)
        if len(self.segments) > 1:
            self._deep(frame, stored, to_bus)

    def _deep(self, frame: Frame, stored: cp.Variable, to_bus: float) -> None:
        n, deep = frame.n, self.segments[1:]
        outside = 1.0 - sum(s.width for s in self.segments)  # of the band; it counts to the deepest, which is the last to be emptied or filled
        widths = np.array([s.width for s in deep[:-1]] + [deep[-1].width + outside]) * self.capacity
        extra = np.array([max(0.0, s.l_per_kwh - 2.0 * self.each_way_l_per_kwh) for s in deep])
        held = cp.Variable((len(deep), n + 1), bounds=[0, np.tile(widths[:, None], (1, n + 1))], name=f"{self.battery.id}.held")
        worn = cp.Variable((len(deep), n), nonneg=True, name=f"{self.battery.id}.worn")
        left = stored - cp.sum(held, axis=0)
        frame.constraints += [held[:, 0] == self.held_0, worn >= held[:, :n] - held[:, 1:], left >= 0, left <= self.segments[0].width * self.capacity]
        frame.cost.append(cp.sum((extra * to_bus / MW) @ worn))

    def fill(self, soc: float) -> None:
        """Set what each deep segment holds where a plan begins: a battery is thought to have come down from its full charge, so the deep ones are full."""
        if len(self.segments) > 1:
            self.held_0.value = self.held(soc) * self.capacity

    def held(self, soc: float) -> Array:
        """Return what each segment but the shallowest holds at a SoC, as shares of the capacity, shape (n_segments - 1,)."""
        b, soc = self.battery, min(max(soc, 0.0), 1.0)
        inside = min(max(soc, b.soc_min), b.soc_max) - b.soc_min
        found, rest = [], min(inside, soc)
        for segment in reversed(self.segments[1:]):
            found.append(min(rest, segment.width))
            rest -= found[-1]
        found[0] += soc - min(inside, soc)
        return np.array(found[::-1])
