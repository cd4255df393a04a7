"""What follows from an image: writes with their reasons, events, alarms, reserve, and the memory for the next cycle.

All of them are frozen and picklable, like the values in `ems.model`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ems.frozen import frozen
from ems.memory import Memory
from ems.model import Outcome
from ems.terms import Alarm, Explanation, Mode, Stage, lower


@frozen
class Write:
    """One command for one device: `command` is a name of its profile, `value` in the house unit."""

    asset: str
    command: str
    value: float


@frozen
class Event:
    """Something that changed, with its reason; the store numbers and stamps it."""

    kind: str
    asset: str | None
    reason: str
    by: str = "ems"


@frozen
class Reserve:
    """Spinning reserve in one situation.

    Attributes
    ----------
    required_kw, available_kw : float
        For the binding contingency [kW].
    down_kw : float
        How much the units can take back at once [kW].
    down_required_kw : float
        The largest feeder: what they must take back if it trips [kW].
    hold_s : float
        How long it must last [s].
    energy_kwh : float
        Usable stored energy above the floors, at the busbar [kWh].
    time_to_empty_s : float | None
        At the present discharge; None while not discharging [s].
    contingency : str
        `loss of ID | load | solar | forecast | none`; `sole former ID` is an accepted risk.
    """

    required_kw: float
    available_kw: float
    down_kw: float
    hold_s: float
    energy_kwh: float
    time_to_empty_s: float | None
    contingency: str
    down_required_kw: float = 0.0

    @property
    def short_kw(self) -> float:
        """By how much it is short [kW], 0 where it is held."""
        short = self.required_kw - self.available_kw
        return short if short > 1e-6 else 0.0


@frozen
class AssetDecision:
    """What was decided for one asset in this cycle.

    Attributes
    ----------
    setpoint_kw : float | None
        None for the unit whose power is the residual, and for what takes no setpoint [kW].
    run : bool | None
        Whether it shall run; None where it cannot be switched.
    why : Explanation
    """

    setpoint_kw: float | None
    run: bool | None
    why: Explanation


@frozen
class Decision:
    """Everything that follows from one image: what to write, why, and the next memory."""

    mode: Mode
    stage: Stage
    formers: tuple[str, ...]
    leader: str | None
    assets: Mapping[str, AssetDecision]
    writes: tuple[Write, ...]
    heartbeat: bool
    reserve: Reserve
    plan_id: str | None
    plan_source: str
    alarms: tuple[Alarm, ...]
    events: tuple[Event, ...]
    outcomes: tuple[Outcome, ...]
    memory: Memory


def stage_of(decision: Decision, asset: str) -> Stage:
    """Return the stage in force for one asset: the lower of the site's and its own."""
    return lower(decision.stage, decision.memory.stages.get(asset, Stage.CONTROL))
