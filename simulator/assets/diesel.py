"""A diesel generator: start and stop as its own controller does them, fuel by its curve."""

from __future__ import annotations

from ems.config.site import Diesel
from ems.physics import fuel_l_per_h
from simulator.assets.source import DROOP, FIXED, SHORT_STEP_S, SLACK, Source, moved

OPEN_AT = 0.05
"""Unloading ends and the breaker opens at this share of the rating."""
OVERCRANK = 3.0
"""Fault code of an engine that did not fire; the texts of the codes are in the profile."""


class DieselUnit(Source):
    """One set.

    Attributes
    ----------
    wanted : bool
        The run command in force.
    on : bool
        Its breaker is closed on a live bus.
    ref_kw : float | None
        Power reference; None until one is written and again when it leaves the bus: it then shares the
        load with the other free units in proportion to rating [kW].
    left_s, cooling_s : float
        Until it can close its breaker, and until the engine stops after opening it [s].
    fault : float
        Its fault code; cleared by a stop command, as on a real panel.
    failing_starts : int
        So many of the next starts fail: it cranks, does not fire, and shows `OVERCRANK`.
    start_delay_s : float
        How much longer than declared its starts take [s].
    stuck : bool
        Its breaker neither opens nor closes on command; a trip opens it.
    """

    __slots__ = (
        "asset",
        "can_form",
        "start_s",
        "wanted",
        "on",
        "ref_kw",
        "follow_kw",
        "left_s",
        "cooling_s",
        "fault",
        "fuel_l",
        "run_s",
        "starts",
        "starved",
        "failing_starts",
        "start_delay_s",
        "stuck",
    )

    def __init__(self, asset: Diesel, running: bool) -> None:
        super().__init__(asset.id, asset.rated_kw)
        self.asset = asset
        self.can_form = asset.forming != "never"
        self.start_s = asset.start_s + asset.warmup_s + asset.sync_s
        self.wanted = self.on = running
        self.ref_kw: float | None = None
        self.follow_kw = 0.0
        self.left_s = 0.0 if running else self.start_s
        self.cooling_s = 0.0
        self.fault = 0.0
        self.fuel_l = self.run_s = 0.0
        self.starts = 0
        self.starved = self.stuck = False
        self.failing_starts = 0
        self.start_delay_s = 0.0

    def command(self, name: str, value: float) -> None:
        """Take `running` or `power_kw`."""
        if self.deaf:
            return
        if name == "running":
            self.wanted = value >= 0.5
            if not self.wanted:
                self.fault = 0.0
        else:
            self.ref_kw = value

    def begin(self, dt_s: float, alone: bool, dead: bool) -> float:
        """Start, stop or unload at the start of a step; return the litres a start took [L].

        Parameters
        ----------
        dt_s : float
            Length of the step [s].
        alone : bool
            Whether no other unit holds the bus: then a stop opens the breaker at once.
        dead : bool
            Whether the bus is dead: only a set that can form may close on it.
        """
        if self.on:
            if self.starved or self.fault or self.estop:
                self.trip(self.fault)
            elif self.wanted:
                self.follow_kw = self._reference(dt_s)
            elif not self.stuck and (dt_s >= SHORT_STEP_S or alone or self.power_kw <= OPEN_AT * self.rated_kw):
                self.open()
            else:
                self.follow_kw = max(0.0, self.power_kw - self.asset.ramp_kw_per_s * dt_s)
            return 0.0
        if not self.started(dt_s) or self.stuck or (dead and not self.can_form):
            return 0.0
        self.follow_kw = self.ref_kw or 0.0
        return self.close()

    def started(self, dt_s: float) -> bool:
        """Let the time of a start, or of a rest, pass; return whether the set could close its breaker within `dt_s` [s]."""
        if not self.wanted or self.fault or self.starved or self.estop:
            self.cooling_s = max(0.0, self.cooling_s - dt_s)
            self.left_s = self.asset.sync_s if self.cooling_s > 0.0 else self.start_s + self.start_delay_s
            return False
        self.left_s -= dt_s
        if self.failing_starts and self.cooling_s <= 0.0 and self.left_s <= self.start_s - self.asset.start_s:
            self.failing_starts -= 1
            self.fault = OVERCRANK
            self.left_s = self.start_s + self.start_delay_s
            return False
        if self.left_s > 0.0:
            return False
        self.left_s = 0.0
        return True

    def close(self) -> float:
        """Close the breaker; return the litres the start took [L]."""
        self.on = True
        self.starts += 1
        self.cooling_s = 0.0
        return self.asset.start_l

    def _reference(self, dt_s: float) -> float:
        target = self.ref_kw or 0.0
        return target if dt_s >= SHORT_STEP_S else moved(self.power_kw, target, self.asset.ramp_kw_per_s * dt_s)

    def open(self) -> None:
        """Open the breaker; the engine cools down."""
        self.on = False
        self.ref_kw = None
        self.cooling_s = self.asset.cooldown_s
        self.left_s = self.asset.sync_s if self.cooling_s > 0.0 else self.start_s + self.start_delay_s
        self.rest()

    def trip(self, fault: float) -> None:
        """Open the breaker now, whatever is commanded."""
        self.fault = fault
        if self.on:
            self.open()

    def prepare(self) -> None:
        """Set range, reference and tier for the balance."""
        self.forming = self.on and self.can_form
        if not self.on:
            self.rest()
            return
        self.lo_kw, self.hi_kw = 0.0, self.rated_kw  # a governor knows no minimum loading: that is for the EMS to keep
        if not self.wanted:
            self.tier, self.power_kw = FIXED, self.follow_kw
            return
        if self.asset.forming == "isochronous" or self.ref_kw is None:
            self.tier, self.power_kw = SLACK, 0.0
        else:
            self.tier = DROOP if self.can_form else FIXED
            self.power_kw = min(max(self.follow_kw, 0.0), self.rated_kw)

    def integrate(self, dt_s: float) -> float:
        """Let time pass at the present power; return the litres burnt on the bus [L]."""
        if not self.on:
            return 0.0
        self.run_s += dt_s
        return fuel_l_per_h(self.asset.fuel, self.power_kw) * dt_s / 3600.0

    @property
    def turning(self) -> bool:
        """Whether the engine turns: on the bus, warming up, or cooling down."""
        fired = self.left_s <= self.start_s - self.asset.start_s
        return self.on or (self.cooling_s > 0.0 and not self.estop) or (self.wanted and not self.fault and not self.estop and fired)

    def points(self, frequency_hz: float, voltage_v: float) -> dict[str, float | None]:
        """Return what its panel shows."""
        turning = 1.0 if self.turning else 0.0
        on = 1.0 if self.on else 0.0
        ready = self.asset_ready
        return {
            "power_kw": self.power_kw,
            "reactive_kvar": 0.0,
            "running": turning,
            "synchronised": on,
            "breaker_closed": on,
            "frequency_hz": frequency_hz if self.on else turning * frequency_hz,
            "voltage_v": voltage_v if self.on else turning * voltage_v,
            "fuel_l": self.fuel_l,
            "run_h": self.run_s / 3600.0,
            "fault": self.fault,
            "remote": 0.0 if self.local else 1.0,
            "ready": 1.0 if ready else 0.0,
            "estop": 1.0 if self.estop else 0.0,
        }

    @property
    def asset_ready(self) -> bool:
        """Whether a start command would be taken."""
        return not self.fault and not self.starved and not self.estop
