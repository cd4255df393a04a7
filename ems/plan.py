"""The plan and what is asked of a planner: plain values that cross a process border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ems.bands import ErrorBands, Series
from ems.model import NOTHING, Limits


@dataclass(frozen=True, slots=True)
class Grid:
    """The plan's time grid: constant structure, fine first, coarse later.

    Attributes
    ----------
    start : datetime
        Start of step 0 [UTC].
    step_s : tuple[float, ...]
        Length of each step [s], shape (n_steps,).
    """

    start: datetime
    step_s: Series

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return len(self.step_s)

    @property
    def end(self) -> datetime:
        """End of the last step [UTC]."""
        return self.start + timedelta(seconds=sum(self.step_s))

    def starts(self) -> list[datetime]:
        """Return the start of every step [UTC], shape (n_steps,)."""
        found, at = [], self.start
        for step in self.step_s:
            found.append(at)
            at += timedelta(seconds=step)
        return found

    def index(self, at: datetime) -> int | None:
        """Return the step that contains `at`, or None outside the horizon."""
        left = (at - self.start).total_seconds()
        if left < 0:
            return None
        for k, step in enumerate(self.step_s):
            left -= step
            if left < 0:
                return k
        return None


@dataclass(frozen=True, slots=True)
class Storm:
    """A warning: from when to when the sun, and the boat with the fuel, are not to be counted on [UTC]."""

    start: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Given:
    """A forecast from outside: pushed by a person or a service, or read from a file.

    Attributes
    ----------
    start : datetime
        Start of its first interval [UTC].
    step_s : float
        Length of each interval [s].
    load_kw : tuple[float, ...]
        Empty where the load is not part of it.
    storm : Storm | None
        A warning that came with it.
    until, warned_until : datetime | None
        After this its values (its warning) are not used any more [UTC]; None: never (as long as the storm lasts).
    """

    start: datetime
    step_s: float
    load_kw: Series = ()
    available_kw: Mapping[str, Series] = field(default_factory=lambda: NOTHING)
    inflow_m3s: Mapping[str, Series] = field(default_factory=lambda: NOTHING)
    until: datetime | None = None
    storm: Storm | None = None
    warned_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected on a grid; power means over each step.

    Attributes
    ----------
    load_kw : tuple[float, ...]
        Without deferrables [kW], shape (n_steps,).
    available_kw : Mapping[str, tuple[float, ...]]
        Uncurtailed AC power of each solar asset [kW].
    inflow_m3s : Mapping[str, tuple[float, ...]]
        Water at the intake of each hydro asset [m3/s].
    source : Mapping[str, str]
        Which method gave each quantity, `load`, ids; `fallback:...` where the wanted one could not.
    load_peak_kw : tuple[float, ...]
        Highest expected load within each step, for reserve [kW].
    bands : ErrorBands | None
        How wrong it may be; None for the perfect forecast.
    floor_up_kw, floor_down_kw : tuple[float, ...]
        For a path of the SoC's floor and ceiling: mean net load (load - sun - river) of each step above (below) forecast that is exceeded with 10 %
        probability, scaled so that its energy over the first 24 h is that of the bands [kW], both >= 0, shape (n_steps,); empty without bands.
    storm : Storm | None
        The warning that it was made under: what it takes of the sun is left out already.
    bright_kw : tuple[float, ...]
        Sun of a bright day, of all solar assets together [kW], shape (n_steps,); empty where none was seen.
    error_up_kw, error_down_kw : tuple[float, ...]
        How much each step's net load may rise above (fall below) what was expected shortly before, P98 and P02, until new capacity runs [kW], >= 0, likewise.
    """

    grid: Grid
    load_kw: Series
    available_kw: Mapping[str, Series]
    inflow_m3s: Mapping[str, Series]
    source: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    load_peak_kw: Series = ()
    bands: ErrorBands | None = None
    floor_up_kw: Series = ()
    floor_down_kw: Series = ()
    error_up_kw: Series = ()
    error_down_kw: Series = ()
    bright_kw: Series = ()
    storm: Storm | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """Measured means over one interval that has passed: what forecasts learn from; a load that is None was not seen, or not all of it was served."""

    start: datetime
    seconds: float
    load_kw: float | None
    available_kw: Mapping[str, float]
    inflow_m3s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DieselStart:
    """A diesel at the start of a plan: on or off, since when [s], and whether it may be used.

    Attributes
    ----------
    frozen : bool
        Its sequence is under way: the first step can change nothing.
    held : bool
        A person, or its own panel, runs it: it stays on as far as a plan looks.
    run_h : float | None
        Its run hours [h].
    service_in_h : float | None
        Run hours that are left until its next service [h]; less than 0 where it is overdue.
    burn_s : float
        Clean-out burn that is due, or still to be run of the one under way [s]; 0 where there was little low load.
    """

    on: bool
    since_s: float
    usable: bool = True
    frozen: bool = False
    held: bool = False
    run_h: float | None = None
    service_in_h: float | None = None
    burn_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DeferrableStart:
    """A deferrable load at the start of a plan: running or not, since when [s], and how often it was begun since local midnight."""

    on: bool = False
    since_s: float = 0.0
    starts_today: int = 0


@dataclass(frozen=True, slots=True)
class PlantStart:
    """The plant's true state at the start of a plan.

    Attributes
    ----------
    soc : Mapping[str, float]
        By battery; the true value, even outside its band. One that is not here is of unknown charge: no plan uses it.
    diesels : Mapping[str, DieselStart]
    pond_m3 : Mapping[str, float]
        By hydro asset [m3].
    tank_l : Mapping[str, float]
        By tank [L].
    done_kwh : Mapping[str, float]
        Energy each deferrable has had since local midnight [kWh].
    usable : Mapping[str, bool]
        Other assets that cannot be used now: False.
    deferrables : Mapping[str, DeferrableStart]
        What is absent is off and was not begun today.
    """

    soc: Mapping[str, float]
    diesels: Mapping[str, DieselStart]
    pond_m3: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    tank_l: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    done_kwh: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    usable: Mapping[str, bool] = field(default_factory=lambda: NOTHING)
    deferrables: Mapping[str, DeferrableStart] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """One question to a planner.

    Attributes
    ----------
    given : Given | None
        The forecast that was last pushed in, if there is one.
    previous : Plan | None
        The plan that is followed now: where the search begins, and what changes are counted against.
    now : Observation | None
        What is measured now, or was on the mean of the last minutes: where forecasts begin.
    """

    id: str
    at: datetime
    start: PlantStart
    limits: Mapping[str, Limits] = field(default_factory=lambda: NOTHING)
    observations: tuple[Observation, ...] = ()
    given: Given | None = None
    previous: Plan | None = None
    now: Observation | None = None


@dataclass(frozen=True, slots=True)
class Unmet:
    """A wish that the plan could not meet, in operator words."""

    limit: str
    at: datetime
    amount: float
    unit: str
    en: str
    ja: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do over the horizon.

    Attributes
    ----------
    made_at, valid_until : datetime
    source : str
        `mpc | load-following | cycle-charging`.
    power_kw : Mapping[str, tuple[float, ...]]
        Busbar power of solar, hydro, diesel and inverter; what deferrables draw [kW].
    on : Mapping[str, tuple[bool, ...]]
        Diesels and deferrables.
    soc : Mapping[str, tuple[float, ...]]
        By battery whose charge was known at the start, shape (n_steps + 1,).
    pond_m3 : Mapping[str, tuple[float, ...]]
        By hydro asset with a pond [m3], shape (n_steps + 1,).
    load_kw, unserved_kw : tuple[float, ...]
        Forecast load with deferrables, and what of it cannot be served [kW].
    objective_l : float | None
        The planner's own price of it [litre-equivalents].
    gap : float | None
        Relative gap that the solver proved.
    bound_l : float | None
        Dual bound of the SoC-corrected litres (perfect foresight only).
    deferrables : tuple[str, ...]
        Which ids of `power_kw` and `on` are deferrables.
    available_kw : Mapping[str, tuple[float, ...]]
        Uncurtailed solar power that was forecast: what is below it is curtailed by plan.
    error_up_kw : tuple[float, ...]
        By how much the net load of each step may rise above forecast (P98) until new capacity runs, as learned [kW]: reserve
        covers it; empty until it is learned, when the site's own fractions stand alone.
    """

    id: str
    made_at: datetime
    valid_until: datetime
    source: str
    grid: Grid
    power_kw: Mapping[str, Series]
    on: Mapping[str, tuple[bool, ...]]
    soc: Mapping[str, Series]
    load_kw: Series
    unserved_kw: Series
    pond_m3: Mapping[str, Series] = field(default_factory=lambda: NOTHING)
    objective_l: float | None = None
    gap: float | None = None
    bound_l: float | None = None
    unmet: tuple[Unmet, ...] = ()
    deferrables: tuple[str, ...] = ()
    available_kw: Mapping[str, Series] = field(default_factory=lambda: NOTHING)
    error_up_kw: Series = ()


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """A planner's answer: a plan or the reason why there is none, never an exception.

    Attributes
    ----------
    status : str
        `ok | failed`.
    cause : str
        Empty when ok; else what went wrong: solver, deadline, crash, forecast.
    solve_s, total_s : float
        CPU time in the solver and in all of it [s].
    limit_hit : bool
        Whether the solver stopped at a limit instead of at the gap.
    kept : Plan | None
        The best plan that starts and stops no engine otherwise than the plan that is followed has it for the next two hours;
        None where `plan` is that itself, or where nothing can.
    hurried : bool
        Whether there was no time to look for `kept`: nothing is known of it then.
    """

    request_id: str
    status: str
    cause: str
    plan: Plan | None
    forecast: Forecast | None
    solve_s: float = 0.0
    total_s: float = 0.0
    limit_hit: bool = False
    kept: Plan | None = None
    hurried: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """What a plan or a rule wants just now, before bounds and reserve have their say.

    Attributes
    ----------
    on : frozenset[str]
        Diesels that shall be on the bus.
    power_kw : Mapping[str, float]
        Wished busbar power of inverters, diesels and hydro; what is absent is free [kW].
    deferrable_kw : Mapping[str, float]
        What deferrables shall draw [kW]; 0 is off.
    loading : float | None
        Loading at which running diesels shall be held by charging (cycle charging), else None.
    source : str
        `mpc | load-following | cycle-charging | operator`.
    """

    on: frozenset[str]
    power_kw: Mapping[str, float]
    source: str
    deferrable_kw: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    loading: float | None = None


def target_at(plan: Plan, at: datetime, seconds: float) -> Target | None:
    """Return what a plan wants from `at` on for `seconds`, or None outside its horizon.

    Powers are means over the plan's steps in that time; a unit is on if it is for at least half of it.
    The sun is given no ceiling, even where the plan leaves some of what was forecast unused: what really comes is other, and
    whatever it is the battery takes it first and only the rest is curtailed (CONTROL 3.5).
    """
    available_kw = plan.available_kw
    weights = overlap(plan.grid, at, seconds)
    total = sum(weights.values())
    if total <= 0.0:
        return None

    def mean(values: Sequence[float]) -> float:
        return sum(values[k] * w for k, w in weights.items()) / total

    on = frozenset(a for a, values in plan.on.items() if mean(values) >= 0.5)
    power = {a: mean(values) for a, values in plan.power_kw.items()}
    drawn = {a: power.pop(a) * (a in on) for a in plan.on if a in plan.deferrables}
    for a in available_kw:
        power.pop(a, None)
    return Target(on - set(plan.deferrables), power, plan.source, drawn)


def overlap(grid: Grid, at: datetime, seconds: float) -> dict[int, float]:
    """Return the seconds that each step of a grid shares with the `seconds` from `at` on."""
    begin = (at - grid.start).total_seconds()
    end, left, found = begin + seconds, 0.0, {}
    for k, step in enumerate(grid.step_s):
        shared = min(end, left + step) - max(begin, left)
        if shared > 0.0:
            found[k] = shared
        left += step
        if left >= end:
            break
    return found
