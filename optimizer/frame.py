"""What all assets of one planning problem share: steps, commitment sets, balance and reserve.

A *commitment set* is one choice of diesels on the bus. Every power has one copy per set, and exactly
one set holds in each step, so that the relaxation cannot mix "all off" with "all at full load" without
paying for the battery between them: the linear bound is nearly the optimum (see formulation.md).
Inside the problem power is in MW, energy in MWh, fuel in L.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations
from typing import Literal

import cvxpy as cp
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ems.config.site import Diesel, Inverter, Load, Site
from ems.model import Limits
from ems.physics import best_average_l_per_kwh, best_slope_l_per_kwh
from ems.plan import Forecast, Grid, Plan, PlantStart, Storm
from ems.plan_choice import Promise
from ems.reserve import hold_s
from optimizer.prices import Prices

MW = 1e-3
"""kW to MW, kWh to MWh."""
DAY_H = 24.0
"""The last day of a plan says what the day after it lacks, and what it fills [h]."""
NO_ROOM_L_PER_KWH = 0.02
"""What stored energy, or water, is worth at the end where the next surplus would fill its place: next to nothing."""
MAX_DIESELS = 8
"""More diesels make more than 256 sets, too many to write down for every step."""
MAX_BOUND_DIESELS = 7
"""Of a bound no set may be left out."""
Array = npt.NDArray[np.float64]


Purpose = Literal["plan", "bound", "window", "part"]
"""A rolling plan; a whole period for litres alone; a part of it that ends where the relaxation of the whole does, or between two prices of what is stored."""


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that one solve depends on.

    Attributes
    ----------
    previous : Plan | None
        The plan that is followed, None where there is none.
    promise : Mapping[str, tuple]
        What it has promised of each diesel by step (`ems.plan_choice`): a price is on what is other.
    keep : bool
        Whether that must be kept.
    """

    at: datetime
    grid: Grid
    start: PlantStart
    forecast: Forecast
    limits: dict[str, Limits]
    previous: Plan | None = None
    promise: Mapping[str, Promise] = field(default_factory=dict)
    keep: bool = False

    @property
    def storm(self) -> Storm | None:
        """The warning that the forecast was made under."""
        return self.forecast.storm

    def ceiling(self, asset: str, limit: str, default: float) -> Array:
        """Return an operator's limit of an asset by step, the default where none is in force, shape (n_steps,)."""
        values = np.full(self.grid.n_steps, default)
        found = self.limits.get(asset)
        value = None if found is None else getattr(found, limit)
        if value is not None:
            values[self.in_force(asset)] = value
        return values

    def in_force(self, asset: str) -> npt.NDArray[np.bool_]:
        """Return in which steps the operator's limits of an asset hold, shape (n_steps,)."""
        found = self.limits.get(asset)
        if found is None:
            return np.zeros(self.grid.n_steps, dtype=bool)
        until = found.expires_at
        return np.array([until is None or begin < until for begin in self.grid.starts()])

    def in_service(self, asset: str) -> npt.NDArray[np.bool_]:
        """Return in which steps an asset may be used, shape (n_steps,)."""
        found = self.limits.get(asset)
        away = self.in_force(asset) if found is not None and found.out_of_service else np.zeros(self.grid.n_steps, dtype=bool)
        return ~away & self.start.usable.get(asset, True)

    def stores(self, inverter: str, battery: str) -> npt.NDArray[np.bool_]:
        """Return in which steps an inverter may draw on its battery, shape (n_steps,): both in service, and it is known what is in it."""
        return self.in_service(inverter) & self.in_service(battery) & (battery in self.start.soc)


def end_l_per_kwh(diesels: Sequence[Diesel]) -> tuple[float, float, float]:
    """Return what is left at the end is worth in three pieces [L/kWh]: needed before the next surplus, useful later, where that surplus has no room."""
    return best_average_l_per_kwh(diesels) or 0.3, best_slope_l_per_kwh(diesels) or 0.2, NO_ROOM_L_PER_KWH


def each(values: Array, rows: int) -> Array:
    """Return values by step once for each set, shape (rows, n_steps): cvxpy takes no broadcast parameter for DPP."""
    return np.tile(values, (rows, 1))


@dataclass(frozen=True, slots=True)
class Trip:
    """One source that may be lost: its power by set, and what it is excused as sole former [MW]."""

    unit: str
    power: cp.Expression
    excused: cp.Expression = None


Bounds = Mapping[str, tuple[Array, Array]]
"""Lowest and highest of an on/off by asset, shape (n_steps,)."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One on/off of the problem and its limits by step: where something must run, low is 1; where it may not, high is 0."""

    asset: str
    on: cp.Variable
    low: cp.Parameter
    high: cp.Parameter


@dataclass
class Frame:
    """One problem under construction.

    Attributes
    ----------
    step_s : tuple[float, ...]
    purpose : Purpose
        What is asked: it decides on prices and on the value of what is stored at the end.
    relaxed : bool
        Whether what is on or off may be anything between: then the answer comes with the duals of its constraints.
    sets : tuple[tuple[str, ...], ...]
        Row 0 is the dead bus; then nobody but inverters and hydro; then every choice of diesels.
    w : cp.Variable
        Which set holds, shape (n_sets, n_steps).
    supply, draw : list[cp.Expression]
        Into and out of the busbar by set [MW].
    allowed : cp.Parameter
        Which sets may hold, shape (n_sets, n_steps); all that are useful unless a search narrows it.
    useful : Array
        Which sets a question needs: all, but of many diesels only those of `ranking`, shape (n_sets,).
    switches : list[Switch]
        Everything that is on or off.
    live_w, bare_w : cp.Expression
        `w` of the sets whose bus is live; of those that no diesel holds.
    held : dict[str, cp.Expression]
        What an inverter can add and hold, by set [MW]; of diesels it is what they leave of their ceiling.
    instant : dict[str, cp.Expression]
        What an inverter can add at once, by step [MW].
    lower : list[cp.Expression]
        What units can take back, by step [MW].
    saved : cp.Variable | None
        Energy that was not served up to the beginning of each step [MWh], shape (n_steps + 1,).
    """

    site: Site
    step_s: tuple[float, ...]
    prices: Prices
    purpose: Purpose = "plan"
    relaxed: bool = False
    sets: tuple[tuple[str, ...], ...] = ()
    supply: list[cp.Expression] = field(default_factory=list)
    draw: list[cp.Expression] = field(default_factory=list)
    solar: list[cp.Expression] = field(default_factory=list)
    held: dict[str, cp.Expression] = field(default_factory=dict)
    instant: dict[str, cp.Expression] = field(default_factory=dict)
    lower: list[cp.Expression] = field(default_factory=list)
    trips: list[Trip] = field(default_factory=list)
    saved: cp.Variable | None = None
    switches: list[Switch] = field(default_factory=list)
    constraints: list[cp.Constraint] = field(default_factory=list)
    cost: list[cp.Expression] = field(default_factory=list)
    fuel: dict[str, cp.Expression] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = [d.id for d in self.site.of(Diesel)]
        choices = [c for k in range(len(ids) + 1) for c in combinations(ids, k)]
        self.sets = ((), *choices)
        self.n = len(self.step_s)
        self.n_sets = len(self.sets)
        self.dt_h, self.elapsed_s = np.array(self.step_s) / 3600.0, elapsed(self.step_s)
        # Only a rolling plan is asked for while its first step is under way; to a bound of weeks so many parameters would be a burden.
        self.hours: cp.Parameter | Array = cp.Parameter(self.n, nonneg=True, value=self.dt_h, name="hours") if self.purpose == "plan" else self.dt_h
        self.first_lags: dict[float, cp.Parameter] = {}
        self.last_day: npt.NDArray[np.bool_] = np.cumsum(self.dt_h[::-1])[::-1] <= DAY_H + 1e-6  # it stands for the day after the plan
        self.live: Array = np.array([0.0] + [1.0] * len(choices))
        self.useful: Array = np.ones(self.n_sets)
        self.w = cp.Variable((self.n_sets, self.n), bounds=[0, 1], name="w")
        # A row each, which presolve turns into a bound: DPP takes no parameter times a variable with parametric bounds.
        self.allowed = cp.Parameter((self.n_sets, self.n), nonneg=True, value=np.ones((self.n_sets, self.n)), name="allowed")
        self.constraints += [cp.sum(self.w, axis=0) == 1, self.w <= self.allowed]
        formers = {d.id for d in self.site.of(Diesel) if d.forming != "never"}
        bare: Array = np.array([float(k > 0 and not formers & set(members)) for k, members in enumerate(self.sets)])
        # Sets without a forming diesel need another former. Not a bound of `w`: DPP takes no parameter times a variable with parametric bounds.
        rows = np.flatnonzero(bare)
        self.formed = cp.Parameter((len(rows), self.n), nonneg=True, name="formed")
        self.constraints.append(self.pick(rows) @ self.w <= self.formed)
        self.upright: Array = np.ones((self.n_sets, self.n))
        self.hold_h = cp.Parameter((self.n_sets, self.n), nonneg=True, name="hold_h")
        wide = np.ones((1, self.n))
        self.live_w = cp.multiply(self.live[:, None] * wide, self.w)
        self.bare_w = cp.multiply(bare[:, None] * wide, self.w)

    def rows_with(self, diesel: str) -> npt.NDArray[np.intp]:
        """Return the sets that a diesel is in."""
        return np.array([k for k, members in enumerate(self.sets) if diesel in members])

    def pick(self, rows: npt.NDArray[np.intp]) -> sp.csr_array:
        """Return the matrix that takes these rows out of (n_sets, n_steps)."""
        return sp.csr_array((np.ones(len(rows)), (np.arange(len(rows)), rows)), shape=(len(rows), self.n_sets))

    def power(self, name: str, *, both: bool = False) -> cp.Variable:
        """Return a power by set [MW], 0 on the dead bus, shape (n_sets, n_steps); `both` lets it be negative."""
        roof = np.where(self.live[:, None] > 0, 1e3, 0.0) * np.ones((1, self.n))
        return cp.Variable((self.n_sets, self.n), bounds=[-roof if both else 0, roof], name=name)

    def whole(self, asset: str, low: cp.Parameter, high: cp.Parameter, *, by_rows: bool = False) -> cp.Variable:
        """Return an on/off by step, shape (n_steps,); an integer, not a boolean: cvxpy 1.9 drops the bounds of a boolean variable.

        `by_rows` keeps its limits as constraints, for one that is multiplied with a parameter (not DPP with parametric bounds).
        """
        on = cp.Variable(self.n, integer=not self.relaxed, bounds=[0, 1] if by_rows else [low, high], name=f"{asset}.on")
        if by_rows:
            self.constraints += [on >= low, on <= high]
        self.switches.append(Switch(asset, on, low, high))
        return on

    def narrow(self, bounds: Bounds) -> None:
        """Allow each on/off less than `fill` did, and only the sets that agree.

        Where both contradict each other, `fill` holds: what must or may not run is no matter of taste.
        """
        for switch in self.switches:
            low, high = bounds.get(switch.asset, (np.zeros(self.n), np.ones(self.n)))
            least, most = switch.low.value, switch.high.value
            switch.low.value, switch.high.value = np.clip(low, least, most), np.clip(high, least, most)
        allowed = self.useful[:, None] * np.ones((1, self.n))
        for switch in self.switches:
            rows = self.rows_with(switch.asset)
            if rows.size:
                without = np.setdiff1d(np.arange(1, self.n_sets), rows)  # on the dead bus nothing is on
                allowed[rows] *= switch.high.value
                allowed[without] *= 1.0 - switch.low.value
        self.allowed.value = allowed

    def fill(self, question: Question) -> None:
        """Set how long each step is, the first what is left of it, and how long reserve must last in each set.

        That is until one of the diesels that are not in it, and may be started, really runs.
        """
        self._begin(question.grid.step_s)
        able = {d.id for d in self.site.of(Diesel) if (s := question.start.diesels.get(d.id)) is not None and s.usable and question.in_service(d.id)[0]}
        hours = [hold_s(self.site, able - set(members) or None) / 3600.0 for members in self.sets]
        self.upright = self._upright(question)
        self.hold_h.value = np.tile(np.array(hours)[:, None], (1, self.n))

    def _begin(self, step_s: tuple[float, ...]) -> None:
        """Take the lengths of a question's steps: those after the first are what they always were."""
        if len(step_s) != self.n or step_s[1:] != self.step_s[1:]:
            raise ValueError(f"a problem of {self.n} steps was asked about another grid")
        self.step_s, self.dt_h, self.elapsed_s = step_s, np.array(step_s) / 3600.0, elapsed(step_s)
        if isinstance(self.hours, cp.Parameter):
            self.hours.value = self.dt_h
        for seconds, first in self.first_lags.items():
            first.value = self.lag(seconds)[:, [0]].toarray().ravel()

    def _upright(self, question: Question) -> Array:
        """Return which part of its kVA each unit has for real power, by set, shape (n_sets, n_steps).

        Diesels and inverters on the bus share the loads' reactive power in proportion to their kVA, so each is left
        `sqrt(1 - r^2)` with r = kvar / kVA of all. Never less than the loads' own power factor: where r is above its sine the set cannot carry the load anyway.
        """
        loads = self.site.of(Load)
        tan_phi = sum(x.peak_kw * math.tan(math.acos(x.power_factor)) for x in loads) / self.site.peak_kw
        kvar = np.maximum(0.0, np.asarray(question.forecast.load_kw)) * tan_phi
        converters = np.zeros(self.n)
        for i in self.site.of(Inverter):
            battery = self.site.battery_behind(i.id)
            if i.forming != "never":
                converters += i.rated_kva * (question.in_service(i.id) if battery is None else question.stores(i.id, battery.id))
        kva = {d.id: d.rated_kva for d in self.site.of(Diesel)}
        by_set = np.array([converters + sum(kva[d] for d in members) for members in self.sets])
        most = math.sin(math.atan(tan_phi))
        share = np.minimum(np.divide(kvar[None, :], by_set, out=np.ones_like(by_set), where=by_set > 0.0), most)
        return np.asarray(np.sqrt(1.0 - share**2))

    def ramp_kw(self, kw_per_s: float) -> Array:
        """Return by how much the mean power of each step may differ from that of the one before [kW], shape (n_steps,)."""
        steps = np.array(self.step_s)
        return np.asarray(kw_per_s * 0.5 * (steps + np.concatenate([steps[:1], steps[:-1]])))

    def slow_steps(self, kw_per_s: float, rated_kw: float) -> npt.NDArray[np.intp]:
        """Return the steps, but for the first, in which a ramp may be in the way of going from nothing to the rating, however little is left of the first."""
        steps = np.array((0.0, *self.step_s[1:]))
        return np.flatnonzero(kw_per_s * 0.5 * (steps[1:] + steps[:-1]) < rated_kw) + 1

    def loosened_kw(self, rated_kw: float) -> float:
        """Return what frees the sole former from having its loss covered [kW]: no more than needed, since the relaxation mixes sets."""
        return rated_kw if self.site.reserve.combine == "max" else rated_kw + sum(getattr(a, "rated_kw", 0.0) for a in self.site.assets) + self.site.peak_kw

    def total(self, by_set: cp.Expression) -> cp.Expression:
        """Return the power in whichever set holds [MW], shape (n_steps,)."""
        return cp.sum(by_set, axis=0)

    def energy_price(self, power: cp.Expression, l_per_kwh: float) -> None:
        """Add a price on a power by step [MW], shape (n_steps,)."""
        if l_per_kwh:
            self.cost.append(cp.sum(cp.multiply(power, self.hours)) * (l_per_kwh / MW))

    def lagged(self, starts: cp.Expression, seconds: float) -> cp.Expression:
        """Return how many of these starts, by step, came less than `seconds` before each step, itself included, shape (n_steps,)."""
        lag = self.lag(seconds)
        if self.purpose != "plan":
            return lag @ starts
        first = self.first_lags.setdefault(seconds, cp.Parameter(self.n, nonneg=True, value=lag[:, [0]].toarray().ravel()))
        return lag[:, 1:] @ starts[1:] + first * starts[0] if self.n > 1 else first * starts[0]

    def lag(self, seconds: float) -> sp.csr_array:
        """Return the matrix that says which earlier steps began less than `seconds` before one, itself included."""
        age = self.elapsed_s[:, None] - self.elapsed_s[None, :]
        return sp.csr_array(((age >= 0) & ((age < seconds) | (age == 0))).astype(float))


def elapsed(step_s: Sequence[float]) -> Array:
    """Return when each step begins after the first [s], shape (n_steps,)."""
    return np.concatenate([[0.0], np.cumsum(step_s)[:-1]])


def other_formers(unit: str, firm: dict[str, Array], n: int) -> Array:
    """Return how many inverters besides `unit` hold the bus in each step, shape (n_steps,)."""
    return np.asarray(sum((forms for a, forms in firm.items() if a != unit), np.zeros(n)))
