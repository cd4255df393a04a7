"""What everything that feeds the busbar has in common for the power balance."""

from __future__ import annotations

from enum import IntEnum

SHORT_STEP_S = 60.0
"""From this step on, ramps, unloading and hand-overs are over within one step [s]."""


class Tier(IntEnum):
    """Who takes what the references leave over, first to last."""

    SLACK = 0
    DROOP = 1
    RESPONSE = 2
    FIXED = 3


SLACK, DROOP, RESPONSE, FIXED = Tier
"""By plain names for the units: a member looked up in its class takes ten times as long, and every unit asks in every step."""


class Source:
    """One unit on the busbar: its range, its power, and when it is asked to take the residual.

    Attributes
    ----------
    lo_kw, hi_kw : float
        What it can give in this step [kW].
    power_kw : float
        Its reference inside that range, then what the balance gave it [kW].
    tier : Tier
    local, estop, ignores : bool
        Faults from outside: switched to local at its panel, emergency stop pressed, commands acknowledged and not carried out.
    """

    __slots__ = ("id", "rated_kw", "lo_kw", "hi_kw", "power_kw", "tier", "forming", "local", "estop", "ignores")

    def __init__(self, asset: str, rated_kw: float) -> None:
        self.id = asset
        self.rated_kw = rated_kw
        self.lo_kw = self.hi_kw = self.power_kw = 0.0
        self.tier = FIXED
        self.forming = False
        self.local = self.estop = self.ignores = False

    @property
    def deaf(self) -> bool:
        """Whether commands over the wire have no effect."""
        return self.local or self.estop or self.ignores

    def rest(self) -> None:
        """Give nothing: it is off, or the bus is dead."""
        self.lo_kw = self.hi_kw = self.power_kw = 0.0
        self.tier = FIXED


def moved(now: float, target: float, step: float) -> float:
    """Return `now` moved towards `target` by at most `step`."""
    return max(target, now - step) if target < now else min(target, now + step)
