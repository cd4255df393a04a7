"""A run-of-river turbine with its intake pond: ecological flow first, then the turbine, then the spillway."""

from __future__ import annotations

from ems.config.site import Hydro
from ems.physics import hydro_flow_m3s, hydro_kw
from simulator.assets.source import DROOP, FIXED, RESPONSE, SHORT_STEP_S, SLACK, Source, moved

POND_DEPTH_M = 2.0
"""Level of a full pond above its lowest usable level [m]; level and volume are proportional."""


class HydroUnit(Source):
    """One turbine.

    Attributes
    ----------
    running : bool
        The run command in force.
    ref_kw : float | None
        Setpoint in mode `power`, else a ceiling; None follows the river [kW].
    pond_m3, inflow_m3s, spill_m3s : float
    """

    __slots__ = (
        "asset",
        "running",
        "ref_kw",
        "follow_kw",
        "pond_m3",
        "inflow_m3s",
        "ecological_m3s",
        "spill_m3s",
        "fault",
        "flow_max_m3s",
        "river_m3s",
    )

    def __init__(self, asset: Hydro, filled: float) -> None:
        super().__init__(asset.id, asset.rated_kw)
        self.asset = asset
        self.running = True
        self.ref_kw: float | None = None
        self.follow_kw = 0.0
        self.pond_m3 = filled * asset.pond_m3
        self.inflow_m3s = self.ecological_m3s = self.river_m3s = self.spill_m3s = 0.0
        self.fault = 0.0
        self.flow_max_m3s = min(asset.design_flow_m3s, hydro_flow_m3s(asset, asset.rated_kw))

    @property
    def turbine_m3s(self) -> float:
        """What the turbine draws at its present power [m3/s]."""
        return hydro_flow_m3s(self.asset, self.power_kw)

    def command(self, name: str, value: float) -> None:
        """Take `running` or `power_kw`."""
        if self.deaf:
            return
        if name == "power_kw":
            self.ref_kw = max(0.0, value)
        else:
            self.running = value >= 0.5
            if not self.running:
                self.fault = 0.0

    def trip(self, fault: float) -> None:
        """Close the guide vanes now; it stays off until it is told to run again."""
        self.fault, self.running = fault, False
        self.rest()

    def begin(self, dt_s: float) -> None:
        """Follow the reference, at short steps along the ramp."""
        target = self.rated_kw if self.ref_kw is None else self.ref_kw
        self.follow_kw = target if dt_s >= SHORT_STEP_S else moved(self.power_kw, target, self.asset.ramp_kw_per_s * dt_s)

    def prepare(self, inflow_m3s: float, dt_s: float) -> None:
        """Set range, reference and tier for the balance.

        Parameters
        ----------
        inflow_m3s : float
            Water arriving at the intake [m3/s].
        dt_s : float
            How long the pond must last [s].
        """
        asset = self.asset
        self.inflow_m3s = inflow_m3s
        self.ecological_m3s = min(inflow_m3s, asset.ecological_flow_m3s)
        self.river_m3s = river = inflow_m3s - self.ecological_m3s
        if not self.running or self.estop:
            self.rest()
            self.forming = False
            return
        reach = hydro_kw(asset, min(self.flow_max_m3s, river + self.pond_m3 / dt_s))
        if reach < asset.min_kw or reach <= 0.0:  # too little water to turn: it stands, and the pond fills
            self.rest()
            self.forming = False
            return
        self.hi_kw, self.lo_kw = reach, asset.min_kw
        wish = self.follow_kw
        if self.ref_kw is None or asset.mode != "power":
            natural = hydro_kw(asset, min(self.flow_max_m3s, river))
            wish = natural if asset.mode == "fixed" else min(natural, wish)
        self.power_kw = min(max(wish, self.lo_kw), self.hi_kw)
        if asset.mode == "fixed":  # must run: nobody asks it to move
            self.lo_kw = self.hi_kw = self.power_kw
        self.forming = asset.forming != "never"
        if self.forming:
            self.tier = SLACK if asset.forming == "isochronous" else DROOP
        else:
            self.tier = RESPONSE if asset.primary_response else FIXED

    def integrate(self, dt_s: float) -> float:
        """Let water flow at the present power; return the power that the spilled water could have given [kW].

        `inflow = ecological + turbine + spill + change of pond`, exactly.
        """
        turbine = self.turbine_m3s
        pond = self.pond_m3 + (self.river_m3s - turbine) * dt_s
        over = max(0.0, pond - self.asset.pond_m3)
        self.pond_m3 = max(0.0, pond - over)
        self.spill_m3s = over / dt_s
        return max(0.0, hydro_kw(self.asset, min(turbine + self.spill_m3s, self.flow_max_m3s)) - self.power_kw)

    def points(self) -> dict[str, float | None]:
        """Return what its controller reports; `flow_m3s` is the inflow at the intake."""
        full = self.asset.pond_m3
        return {
            "power_kw": self.power_kw,
            "running": 1.0 if self.running and not self.estop else 0.0,
            "flow_m3s": self.inflow_m3s,
            "level_m": POND_DEPTH_M * self.pond_m3 / full if full > 0.0 else 0.0,
            "fault": self.fault,
            "remote": 0.0 if self.local else 1.0,
            "ready": 0.0 if self.fault or self.estop else 1.0,
            "estop": 1.0 if self.estop else 0.0,
        }
