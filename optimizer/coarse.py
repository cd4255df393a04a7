"""The planning problem in few numbers: one battery, one sun under a few skies, and what is neither diesel nor battery as the relaxation has it.

What the sketch (`sketch.py`) looks at. Read from the parameters of a filled problem, so that history, limits, promises and what a
search has narrowed are in it by construction; ponds and deferrables are read from the relaxation's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ems.config.site import Diesel
from ems.tiers import tier_l_per_kwh
from optimizer.assets.inverter import InverterBlock, charge_lines
from optimizer.fleet import Flags, Fleet, fleet_of
from optimizer.frame import MW, Array, Frame
from optimizer.problem import PlanProblem
from optimizer.skies import changes_of


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
    fleet : Fleet
    demand : Array
        What diesels, battery and sun are to give.
    sun, sun_lost : Array
        What the sun offers; the largest share of it that one fault takes, shape (n_steps,).
    river : Array
        The largest turbine, shape (n_steps,).
    spilled : Array
        What turbines at a river without a pond need not give.
    idle, live, excused : Array
        Inverters' own need; whether the bus is live, shape (n_rows,); whether the loss of an inverter is accepted.
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
    fleet: Fleet
    demand: Array
    sun: Array
    sun_lost: Array
    river: Array
    spilled: Array
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

    @property
    def n_skies(self) -> int:
        """How often each set has a row."""
        return int(self.changes.shape[1])


def coarse(problem: PlanProblem) -> Coarse:
    """Return a filled problem in few numbers; with ponds or deferrables its variables hold its relaxation's answer."""
    frame, reserve, rule, skies = problem.frame, problem.reserve, problem.frame.site.reserve, problem.skies
    rolling = frame.purpose == "plan"  # a bound asks for no reserve downwards
    both = rule.combine == "sum"
    allowed = allowed_in(problem)
    sets, none = np.flatnonzero(allowed.any(axis=1)), np.zeros(frame.n)
    rows = np.tile(sets, len(skies))
    live = frame.live[rows]
    rivers = [h.top_kw * MW if h.pond is None else h.power.value.sum(axis=0) for h in problem.hydros]
    given = sum((np.maximum(0.0, power) for power in rivers), none)
    drawn = sum((np.maximum(0.0, x.power.value) for x in problem.deferrables), none)
    suns = [s.under(skies) for s in problem.solars]
    sun = sum(suns, np.zeros(skies.shape))
    seen = np.repeat(sun, len(sets), axis=0) * live[:, None]
    idle = np.outer(live, np.full(frame.n, sum(i.inverter.no_load_kw for i in problem.inverters) * MW))
    stores = [i for i in problem.inverters if i.store is not None and (i.discharge_max.value + i.charge_max.value).any()]
    sole = (stores[0].excused.value > 0.0)[rows] & np.isin(rows, bare_rows(frame))[:, None] if len(stores) == 1 else np.outer(live, none)
    return Coarse(
        frame=frame,
        n_sets=len(sets),
        changes=changes_of(sun, np.array(frame.step_s)),
        rows=rows,
        allowed=allowed[rows],
        fleet=fleet_of(problem, rows),
        demand=problem.load.load.value[0] + drawn + idle - np.outer(live, given) - seen,
        sun=seen,
        sun_lost=np.max([s[0] for s in suns], axis=0) / np.maximum(1e-9, sun[0]) if suns else none,
        river=np.max(rivers, axis=0, initial=0.0) if rivers else none,
        spilled=np.outer(live, sum(((h.top_kw - h.must_kw) * MW for h in problem.hydros if h.pond is None), none)),
        idle=idle,
        live=live,
        excused=sole,
        hold_h=frame.hold_h.value[rows],
        need=reserve.need.value[0] + rule.load_fraction * drawn,
        added=rule.load_fraction * (problem.load.peak.value[0] + drawn) * both,
        risen=reserve.risen.value[0] * both,
        sun_share=rule.solar_fraction * both,
        unserved_l_per_kwh=tier_l_per_kwh(len(problem.load.shares) - 1),
        fed=reserve.fed.value * rolling,
        fallen=reserve.fallen.value * rolling,
        store=store_of(stores, rows, live[:, None]) if stores else None,
    )


def allowed_in(problem: PlanProblem) -> Flags:
    """Return which sets of the frame may hold in each step, shape (n_sets of the frame, n_steps)."""
    frame = problem.frame
    allowed = np.asarray(frame.allowed.value > 0.5)
    allowed[bare_rows(frame)] &= frame.formed.value > 0.5
    allowed[0] &= ~np.any([d.on_min.value > 0.5 for d in problem.diesels], axis=0)  # what must run is not on a dead bus
    if allowed[1:].any(axis=0).all():
        allowed[0] = False  # nobody is left in the dark where somebody can be there
    return allowed


def bare_rows(frame: Frame) -> npt.NDArray[np.intp]:
    """Return the live sets that no diesel holds: they need another former."""
    formers = {d.id for d in frame.site.of(Diesel) if d.forming != "never"}
    return np.array([k for k, members in enumerate(frame.sets) if k > 0 and not formers & set(members)], dtype=np.intp)


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
