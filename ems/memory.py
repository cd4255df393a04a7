"""What one cycle hands to the next: sequences, orders, references, what is counted, what is doubted.

All of it is frozen and picklable, and is recorded, so that a day can be run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime

from ems.doubt_memory import DoubtMemory
from ems.frozen import frozen
from ems.model import NOTHING, Limits
from ems.plan import Target
from ems.terms import Alarm, Explanation, Mode, Phase, Reason, Stage


@frozen
class UnitMemory:
    """One diesel's sequence: its phase and when that began.

    Attributes
    ----------
    since_s : float
        When the phase began [s of `now_s`].
    started_s : float | None
        When it came on the bus [s].
    called_s : float | None
        When the start that is under way was commanded [s].
    unloaded_s : float | None
        On its way off: since when it has been unloaded [s].
    held_until_s : float | None
        Its unloading failed or it was called back: it is not tried again before this time [s].
    failed_starts : int
        In a row, those that ended in a trip soon after included.
    starts : tuple[float, ...]
        Start commands of the last hour [s].
    locked : bool
        It is locked out and runs because a person started it: when it leaves, its phase is `locked` again.
    """

    phase: Phase
    since_s: float
    started_s: float | None = None
    called_s: float | None = None
    unloaded_s: float | None = None
    held_until_s: float | None = None
    failed_starts: int = 0
    starts: tuple[float, ...] = ()
    why: Explanation = Explanation(Reason.NOT_NEEDED)
    locked: bool = False

    @property
    def barred(self) -> bool:
        """Whether it is locked out, running or not: only a person releases it."""
        return self.locked or self.phase is Phase.LOCKED


@frozen
class Engine:
    """One engine's low load since it was last burnt clean, and how long the burn under way has lasted [s]."""

    low_s: float = 0.0
    burnt_s: float = 0.0


@frozen
class RuleChoice:
    """What the rules chose and from what: kept for a while, so that sets do not change from second to second.

    Attributes
    ----------
    usable, on, must : frozenset[str]
        Diesels that could run, that ran, and that could not leave when it was made.
    wanted : bool
        Their hysteresis: whether they called for a diesel.
    at_s : float
        When it was made [s of `now_s`].
    """

    target: Target
    policy: str
    usable: frozenset[str]
    on: frozenset[str]
    must: frozenset[str]
    wanted: bool
    at_s: float


@frozen
class FeederMemory:
    """One feeder that can be switched: who opened it, and how long its people have sat in the dark.

    Attributes
    ----------
    since_s : float
        When it was opened or closed [s of `now_s`].
    opened_by : str | None
        `relay | operator | ems | local`; None while it is closed.
    outage_s : float
        All the time it was open, what fair rotation compares [s].
    drawn_kw : float | None
        What it last drew while closed [kW].
    order : bool | None
        A breaker command of ours that is not in effect yet: close or open.
    ordered_s, stuck_s : float | None
        When that was given, and when the breaker was last found not to obey [s of `now_s`].
    restored_s : float | None
        When it was last closed again; retrips within a while of that are counted.
    locked : bool
        It tripped again and again: closed only by a person.
    why : Explanation
        Why it was opened.
    """

    since_s: float
    opened_by: str | None = None
    outage_s: float = 0.0
    drawn_kw: float | None = None
    order: bool | None = None
    ordered_s: float | None = None
    stuck_s: float | None = None
    restored_s: float | None = None
    retrips: int = 0
    locked: bool = False
    why: Explanation = Explanation(Reason.SUPPLIED)


@frozen
class BlackStart:
    """A black start: who brings up the bus, how far it is, and what it failed at.

    Attributes
    ----------
    step : str
        `isolate | energise | prove | auxiliaries | feeders | solar | roll_back | failed`.
    since_s : float
        When the step began [s of `now_s`].
    by : str
        Who ordered it.
    live_s : float
        When the bus came alive [s of `now_s`].
    failed_at, cause, detail : str
        The step that failed, why, and what it was about; empty while nothing has.
    """

    former: str
    step: str
    since_s: float
    by: str
    live_s: float = 0.0
    failed_at: str = ""
    cause: str = ""
    detail: str = ""


@frozen
class Duty:
    """One deferrable load: whether it runs, and how often it has been begun.

    Attributes
    ----------
    since_s : float
        When its run began, or the last one ended [s of `now_s`].
    starts : int
        Since local midnight, by whomever; found running, it was begun.
    """

    running: bool
    since_s: float
    starts: int = 0


@frozen
class Manual:
    """What an operator ordered for one asset or feeder, in force until it is released.

    Attributes
    ----------
    run : bool | None
        Run or stop, closed or shed; None where only a power was ordered.
    power_kw : float | None
        Ordered setpoint [kW]; None where only a start or stop was ordered.
    """

    run: bool | None = None
    power_kw: float | None = None


@frozen
class Pending:
    """An accepted command whose effect has not been seen yet."""

    asset: str
    action: str
    until_s: float


@frozen
class Expected:
    """What the leader was expected to give [kW], and what has been learned from it not doing so.

    Attributes
    ----------
    since_s : float
        Since when this unit leads [s of `now_s`].
    bias_kw : float
        By how much more than measured the island is taken to ask for: followers that give more than thought, a sun
        that is measured wrongly [kW].
    against_s : float | None
        Since when it has been doing the opposite of what the frequency asks of whoever leads [s of `now_s`].
    """

    leader: str
    power_kw: float
    since_s: float
    bias_kw: float = 0.0
    against_s: float | None = None


@frozen
class Memory:
    """All that one cycle hands to the next; recorded, so that a day can be run again.

    Attributes
    ----------
    mode_since_s : float
        When the mode began [s of `now_s`].
    stage : Stage
        The last accepted request; the stage in force is the lowest of this, site file and command line.
    stages : Mapping[str, Stage]
        Assets that stand below the site's stage: they are looked at and not commanded.
    in_band_s, volts_off_s : float | None
        Since when frequency and voltage have been in band, and the voltage out of it [s of `now_s`].
    rule : RuleChoice | None
        What the rules chose last.
    units : Mapping[str, UnitMemory]
        By diesel.
    engines : Mapping[str, Engine]
        By diesel: low load, which makes a clean-out burn due.
    setpoints : Mapping[str, float]
        What was last decided, by asset [kW]; ramps start from here.
    references : Mapping[str, float]
        What was last written to each unit that takes a power, the leader's expected residual included [kW].
    astray : Mapping[str, float]
        Since when a unit's power has not been where its setpoint is [s of `now_s`].
    unled : Mapping[str, float]
        Units that led and did the opposite of what the frequency asked, and since when they are let alone for it [s of `now_s`].
    diesel_wanted : bool
        The rules' hysteresis: whether they called for a diesel last time.
    done_kwh : Mapping[str, float]
        What each deferrable has had since local midnight [kWh].
    duties : Mapping[str, Duty]
        By deferrable: its run and its starts, as far as it has been seen.
    alarms : Mapping[str, tuple[Alarm, float]]
        Active alarms by code and asset, and when the cause of each was last seen [s of `now_s`].
    expected : Expected | None
        What the unit that carries the residual was expected to give.
    doubt : DoubtMemory
        What is not believed, and the counted charge.
    feeders : Mapping[str, FeederMemory]
        Those that can be switched.
    overload_s, thin_s : float
        How long demand has been beyond what can be carried, and stored energy too little for what is to come [s].
    black_start : BlackStart | None
        The one under way, or the last one that failed.
    estops : frozenset[str]
        Devices whose emergency stop is pressed.
    answered_seq : int
        Orders up to this one the process before has seen: what it did not take it has refused, without being able to write that down.
    seen_at, stepped_s : datetime | None, float | None
        The clock of the last cycle, and when it was last found to have been set [s of `now_s`].
    relief_s : float | None
        When demand was last beyond what can be carried: deferrable loads stay off for a while [s of `now_s`].
    """

    mode: Mode = Mode.START
    mode_since_s: float = 0.0
    stage: Stage = Stage.CONTROL
    stages: Mapping[str, Stage] = field(default_factory=lambda: NOTHING)
    in_band_s: float | None = None
    volts_off_s: float | None = None
    rule: RuleChoice | None = None
    units: Mapping[str, UnitMemory] = field(default_factory=lambda: NOTHING)
    limits: Mapping[str, Limits] = field(default_factory=lambda: NOTHING)
    manual: Mapping[str, Manual] = field(default_factory=lambda: NOTHING)
    pending: Mapping[int, Pending] = field(default_factory=dict)
    engines: Mapping[str, Engine] = field(default_factory=lambda: NOTHING)
    setpoints: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    references: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    astray: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    unled: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    load_kw: float | None = None
    diesel_wanted: bool = False
    done_kwh: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    duties: Mapping[str, Duty] = field(default_factory=lambda: NOTHING)
    day: str = ""
    feeders: Mapping[str, FeederMemory] = field(default_factory=lambda: NOTHING)
    overload_s: float = 0.0
    thin_s: float = 0.0
    relief_s: float | None = None
    black_start: BlackStart | None = None
    estops: frozenset[str] = frozenset()
    all_manual: bool = False
    stopped: bool = False
    taken_seq: int = 0
    answered_seq: int = 0
    seen_at: datetime | None = None
    stepped_s: float | None = None
    alarms: Mapping[str, tuple[Alarm, float]] = field(default_factory=lambda: NOTHING)
    expected: Expected | None = None
    doubt: DoubtMemory = field(default_factory=DoubtMemory)

    @property
    def told(self) -> dict[str, float]:
        """The power that each unit was last told to give, but for the leader's, which is a result [kW]."""
        leader = None if self.expected is None else self.expected.leader
        return {u: kw for u, kw in self.references.items() if u != leader}
