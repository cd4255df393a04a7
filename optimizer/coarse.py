"""The planning problem in few numbers: one battery, one sun under a few skies, and what is neither diesel nor battery as the relaxation has it.

What the sketch (`sketch.py`) looks at. Read from the parameters of a filled problem, so that history, limits, promises and what a
search has narrowed are in it by construction; rivers and deferrables are read from the relaxation's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ems.config.site import Diesel
from optimizer.assets.diesel import OVERDUE, DieselBlock, fuel_lines, full_l_per_h
from optimizer.assets.inverter import InverterBlock, charge_lines
from optimizer.frame import MW, Array, Frame
from optimizer.problem import PlanProblem
from optimizer.skies import changes_of

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Store:
    """All batteries as one [MW, MWh]; by row of the sketch and by step.

    Attributes
    ----------
    energy_0 : float
        Stored at the beginning.
    err : float
        The error of its state of charge.
    lost_l : Array
        Price of what is stored above `bright` [L/MWh/h], shape (n_steps,).
    unsure : Array
        What the forecast may be off by the end of each step, shape (n_steps,).
    floor, top, path, roof, bright : Array
        The band; what a bad day wants stored, and the most that it wants stored; where a bright day has room for all, shape (n_steps + 1,).
    to_bus, into : float
        Power at the busbar per power out of the battery; power into the battery per power taken from the busbar.
    discharge, charge, reach : Array
        Limits of what is converted, and of power at the busbar, shape (n_rows, n_steps).
    curve : list[tuple[float, float]]
        Lines over stored energy below which the charge stays [MW, MW/MWh]; none where it does not fall.
    largest, instant : float
        Share of the largest inverter, and of those that add something at once.
    end : list[tuple[float, float]]
        Width [MWh] and value [L/MWh] of what is left at the end, the dearest first.
    wear : float
        Price of each way [L/MWh].
    """

    energy_0: float
    err: float
    lost_l: Array
    bright: Array
    unsure: Array
    floor: Array
    top: Array
    path: Array
    roof: Array
    to_bus: float
    into: float
    discharge: Array
    charge: Array
    reach: Array
    curve: list[tuple[float, float]]
    largest: float
    instant: float
    end: list[tuple[float, float]]
    wear: float


@dataclass(frozen=True, slots=True)
class Coarse:
    """One question in few numbers [MW, MWh, L]; shape (n_rows, n_steps) but where said. A row is a set under a sky.

    Attributes
    ----------
    n_sets : int
        So many rows are of the first sky, that which is expected; as many of each other one follow.
    changes : Array
        Chance of each sky in the next step by the sky of this one, shape (n_steps, n_skies, n_skies).
    rows : NDArray[intp]
        The sets of the frame that may hold in some step, once for each sky, shape (n_rows,).
    allowed : Flags
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
    demand : Array
        What diesels, battery and sun are to give.
    sun, sun_lost : Array
        What the sun offers; the largest share of it that one fault takes, shape (n_steps,).
    river : Array
        The largest turbine, shape (n_steps,).
    idle, live, excused : Array
        Inverters' own need; whether the bus is live; whether the loss of an inverter is accepted.
    hold_h : Array
    need, added, risen, fed, fallen : Array
        Reserve: upwards whatever is lost, beside a loss by shares of the load and by what was learned; downwards, shape (n_steps,).
    sun_share : float
        Of the sun so much is asked beside a loss.
    unserved_l_per_kwh : float
        Of the tier that goes first.
    """

    frame: Frame
    n_sets: int
    changes: Array
    rows: npt.NDArray[np.intp]
    allowed: Flags
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
    demand: Array
    sun: Array
    sun_lost: Array
    river: Array
    idle: Array
    live: Array
    excused: Array
    hold_h: Array
    need: Array
    added: Array
    risen: Array
    sun_share: float
    unserved_l_per_kwh: float
    fed: Array
    fallen: Array
    store: Store | None


def coarse(problem: PlanProblem) -> Coarse:
    """Return a filled problem in few numbers; with rivers or deferrables its variables hold its relaxation's answer."""
    frame, diesels, reserve = problem.frame, problem.diesels, problem.reserve
    rolling = frame.purpose == "plan"  # a bound counts litres alone, and asks for no reserve downwards
    allowed = frame.allowed.value > 0.5
    allowed[bare_rows(frame)] &= frame.formed.value > 0.5
    allowed[0] &= ~np.any([d.on_min.value > 0.5 for d in diesels], axis=0)  # what must run is not on a dead bus
    if allowed[1:].any(axis=0).all():
        allowed[0] = False  # nobody is left in the dark where somebody can be there
    sets, skies = np.flatnonzero(allowed.any(axis=1)), problem.skies
    rows, off = np.tile(sets, len(skies)), np.repeat(skies, len(sets), axis=0)
    members = np.array([[d.diesel.id in frame.sets[k] for d in diesels] for k in rows], dtype=bool).reshape(len(rows), len(diesels))
    live = frame.live[rows]
    lows, highs = by_set(diesels, rows, frame, "power_min"), by_set(diesels, rows, frame, "power_max")
    n, none = frame.n, np.zeros(frame.n)
    given = sum((np.maximum(0.0, h.power.value.sum(axis=0)) for h in problem.hydros), none)
    drawn = sum((np.maximum(0.0, x.power.value) for x in problem.deferrables), none)
    suns = [s.available.value[0] for s in problem.solars]
    sun = sum(suns, none)
    idle = np.outer(live, np.full(n, sum(i.inverter.no_load_kw for i in problem.inverters) * MW))
    load = problem.load.load.value[0]
    stores = [i for i in problem.inverters if i.store is not None and (i.discharge_max.value + i.charge_max.value).any()]
    rule = frame.site.reserve
    excused = np.outer(live, none)
    off = off * live[:, None]
    if len(stores) == 1:
        excused = (stores[0].excused.value > 0.0)[rows] & np.isin(rows, bare_rows(frame))[:, None]
    rated = np.array([d.diesel.rated_kw for d in diesels])
    largest = np.max(members * rated, axis=1, initial=0.0) / np.maximum(1e-9, members @ rated)
    accepted = np.array([any(d.excused_in(int(k)).any() for d in diesels) for k in rows])
    spared = np.zeros((frame.n_sets, n))
    spared[reserve.manned] = reserve.spared.value if len(reserve.manned) else 0.0
    fixed = sum((np.outer(members[:, k], running_l(d)) for k, d in enumerate(diesels)), np.zeros((len(rows), n)))
    return Coarse(
        frame=frame,
        n_sets=len(sets),
        changes=changes_of(skies, np.array(frame.step_s)),
        rows=rows,
        allowed=allowed[rows],
        members=members,
        before=np.array([d.on_before.value > 0.5 for d in diesels], dtype=bool),
        low=sum(lows, np.zeros((len(rows), n))),
        high=sum(highs, np.zeros((len(rows), n))),
        capacity=reserve.capacity.value[rows],
        spared=spared[rows],
        quick=members @ np.array([d.block_kw * MW * d.reacts for d in diesels]) if diesels else np.zeros(len(rows)),
        share=np.where(accepted, 0.0, largest),
        lines=merit(diesels, lows, highs, members),
        fixed_l=fixed,
        start_l=np.array([d.diesel.start_l + d.diesel.start_wear_l * rolling for d in diesels]),
        up_s=np.array([d.diesel.min_up_s for d in diesels]),
        down_s=np.array([d.diesel.min_down_s for d in diesels]),
        demand=load + drawn + idle - np.outer(live, given + sun) + off,
        sun=np.maximum(0.0, np.outer(live, sun) - off) * (sun > 0.0),
        sun_lost=np.max(suns, axis=0) / np.maximum(1e-9, sun) if suns else none,
        river=np.max([h.power.value.sum(axis=0) for h in problem.hydros], axis=0, initial=0.0) if problem.hydros else none,
        idle=idle,
        live=live,
        excused=excused,
        hold_h=frame.hold_h.value[rows],
        need=reserve.need.value[0] + rule.load_fraction * drawn,
        added=rule.load_fraction * (problem.load.peak.value[0] + drawn) * (rule.combine == "sum"),
        risen=reserve.risen.value[0] * (rule.combine == "sum"),
        sun_share=rule.solar_fraction * (rule.combine == "sum"),
        unserved_l_per_kwh=frame.prices.tier_l_per_kwh(len(problem.load.shares) - 1),
        fed=reserve.fed.value * rolling,
        fallen=reserve.fallen.value * rolling,
        store=store_of(stores, rows, live[:, None]) if stores else None,
    )


def bare_rows(frame: Frame) -> npt.NDArray[np.intp]:
    """Return the live sets that no diesel holds: they need another former."""
    formers = {d.id for d in frame.site.of(Diesel) if d.forming != "never"}
    return np.array([k for k, members in enumerate(frame.sets) if k > 0 and not formers & set(members)], dtype=np.intp)


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


def store_of(inverters: Sequence[InverterBlock], rows: npt.NDArray[np.intp], live: Array) -> Store:
    """Return all batteries that can be used as one: sums of energies and limits, efficiencies in proportion to the energy; on a dead bus they rest."""
    pairs = [(i, i.store) for i in inverters if i.store is not None]
    stores = [b for _, b in pairs]
    weight = np.array([b.capacity for b in stores]) / sum(b.capacity for b in stores)
    reach = [i.reach.value for i, _ in pairs]
    ratings = np.array([i.inverter.rated_kw for i, _ in pairs])
    first, b = pairs[0]
    most = b.battery.charge_kw * MW / first.inverter.efficiency
    # The mean charge of several says little about the limit of each: of those it is left to the problem itself.
    lines = [(most * at_empty, most * rise / b.capacity) for at_empty, rise in charge_lines(b.battery)] if len(pairs) == 1 else []
    return Store(
        energy_0=sum(float(b.stored_0.value) for b in stores),
        err=sum(b.battery.soc_error * b.capacity for b in stores),
        lost_l=np.max([b.lost_l.value for b in stores], axis=0) / first.frame.dt_h,
        bright=np.sum([b.bright.value for b in stores], axis=0),
        unsure=np.sum([b.unsure.value for b in stores], axis=0),
        floor=np.sum([b.floor.value for b in stores], axis=0),
        top=np.sum([b.top.value for b in stores], axis=0),
        path=np.sum([b.path.value for b in stores], axis=0),
        roof=np.sum([b.capacity - b.clear.value for b in stores], axis=0),
        to_bus=float(weight @ [b.to_bus for b in stores]),
        into=float(weight @ [b.into for b in stores]),
        discharge=np.sum([i.discharge_max.value for i, _ in pairs], axis=0)[rows] * live,
        charge=np.sum([i.charge_max.value for i, _ in pairs], axis=0)[rows] * live,
        reach=np.sum(reach, axis=0)[rows],
        curve=lines,
        largest=float(ratings.max() / ratings.sum()),
        instant=float(sum(i.inverter.rated_kw for i, _ in pairs if i.reacts) / ratings.sum()),
        end=sorted((piece for b in stores for piece in b.end_pieces()), key=lambda x: -x[1]),
        wear=float(weight @ [b.wear.each_way_l_per_kwh for b in stores]) / MW,
    )
