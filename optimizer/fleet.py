"""The diesels of a sketch: of each set its limits, its least fuel, and what changing to it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimizer.assets.diesel import OVERDUE, DieselBlock, fuel_lines, full_l_per_h
from optimizer.frame import MW, Array, Frame
from optimizer.problem import PlanProblem

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The diesels by row [MW, L], a set under a sky; shape (n_rows, n_steps) but where said.

    Attributes
    ----------
    members : Flags
        Which diesels each set has, shape (n_rows, n_diesels).
    before : Flags
        Which of them were on before the first step, shape (n_diesels,).
    low, high, capacity, spared, quick : Array
        Power of the set's diesels; their ceilings, all and without the largest; what they add at once (shape (n_rows,)).
    share : Array
        Share of the largest diesel, 0 where its loss is excused, shape (n_rows,).
    lines : list[tuple[Array, float]]
        Fuel rate of a set at least cost is the maximum of (at nothing [L/h], slope [L/MWh]).
    fixed_l : Array
        What a step costs in this set whatever its power: promises, wear, hours.
    start_l : Array
        Of each diesel, shape (n_diesels,).
    up_s, down_s : Array
        Shortest time on and off of each, shape (n_diesels,).
    """

    members: Flags
    before: Flags
    low: Array
    high: Array
    capacity: Array
    spared: Array
    quick: Array
    share: Array
    lines: list[tuple[Array, float]]
    fixed_l: Array
    start_l: Array
    up_s: Array
    down_s: Array


def fleet_of(problem: PlanProblem, rows: npt.NDArray[np.intp]) -> Fleet:
    """Return the diesels of a filled problem in these sets of its frame, shape (n_rows,)."""
    frame, diesels, reserve = problem.frame, problem.diesels, problem.reserve
    rolling = frame.purpose == "plan"  # a bound counts litres alone
    none = np.zeros((len(rows), frame.n))
    members = np.array([[d.diesel.id in frame.sets[k] for d in diesels] for k in rows], dtype=bool).reshape(len(rows), len(diesels))
    lows, highs = by_set(diesels, rows, frame, "power_min"), by_set(diesels, rows, frame, "power_max")
    rated = np.array([d.diesel.rated_kw for d in diesels])
    largest = np.max(members * rated, axis=1, initial=0.0) / np.maximum(1e-9, members @ rated)
    accepted = np.array([any(d.excused_in(int(k)).any() for d in diesels) for k in rows])
    spared = np.zeros((frame.n_sets, frame.n))
    spared[reserve.manned] = reserve.spared.value if len(reserve.manned) else 0.0
    return Fleet(
        members=members,
        before=np.array([d.on_before.value > 0.5 for d in diesels], dtype=bool),
        low=sum(lows, none),
        high=sum(highs, none),
        capacity=reserve.capacity.value[rows],
        spared=spared[rows],
        quick=members @ np.array([d.block_kw * MW * d.reacts for d in diesels]) if diesels else np.zeros(len(rows)),
        share=np.where(accepted, 0.0, largest),
        lines=merit(diesels, lows, highs, members),
        fixed_l=sum((np.outer(members[:, k], running_l(d)) for k, d in enumerate(diesels)), none),
        start_l=np.array([d.diesel.start_l + (d.start_price.value if rolling else 0.0) for d in diesels]),
        up_s=np.array([d.diesel.min_up_s for d in diesels]),
        down_s=np.array([d.diesel.min_down_s for d in diesels]),
    )


def by_set(diesels: Sequence[DieselBlock], rows: npt.NDArray[np.intp], frame: Frame, limit: str) -> list[Array]:
    """Return a limit of each diesel's power in the sets that it is in, 0 in the others, each of shape (n_rows, n_steps)."""
    found = []
    for d in diesels:
        whole = np.zeros((frame.n_sets, frame.n))
        whole[d.rows] = getattr(d, limit).value
        found.append(whole[rows])
    return found


def merit(diesels: Sequence[DieselBlock], lows: Sequence[Array], highs: Sequence[Array], members: Flags) -> list[tuple[Array, float]]:
    """Return the lines whose maximum is the least fuel rate of each set: (at nothing [L/h], slope [L/MWh]).

    The cheapest split of a power is the infimal convolution of the engines' convex curves, and its conjugate the sum of
    theirs: at each slope of the fleet an engine gives what is cheapest at this price, which is a limit or a knot of its own.
    """
    curves = [fuel_lines(d.diesel) for d in diesels]
    slopes = sorted({round(slope, 9) for lines in curves for _, slope in lines})
    found = []
    for price in slopes:
        total: Array = np.zeros(lows[0].shape)
        for k, lines in enumerate(curves):
            knots = [(a[0] - b[0]) / (b[1] - a[1]) * MW for a, b in zip(lines, lines[1:], strict=False)]
            points = [lows[k], highs[k], *(np.clip(x, lows[k], highs[k]) for x in knots)]
            rates = [np.max([none + slope / MW * p for none, slope in lines], axis=0) - price / MW * p for p in points]
            total = total + members[:, k : k + 1] * np.min(rates, axis=0)
        found.append((total, price / MW))
    return found


def running_l(block: DieselBlock) -> Array:
    """Return what an engine costs in each step that it runs, beside fuel: promise and rank, its hours, those past a service [L], shape (n_steps,)."""
    frame, d = block.frame, block.diesel
    if frame.purpose != "plan":
        return np.zeros(frame.n)
    overdue = OVERDUE * full_l_per_h(d) * (block.service_left.value <= 0.0)
    return np.asarray(block.on_price.value + frame.dt_h * overdue)
