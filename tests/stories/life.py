"""The pure controller against the real plant, cycle by cycle, with what must hold at every moment.

A story says what happens outside (load, sun, river), what goes wrong, and what people order; `live`
lets time pass and checks the plant's truth: nobody sits in the dark, somebody holds the bus, charge stays
in its band, no diesel runs under its minimum loading for more than a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ems.config.load import load_site
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar
from ems.controller import Controller
from ems.decision import Decision, Write
from ems.memory import Memory
from ems.model import Image, Quality, Reading, Request, Telemetry
from ems.plan import Plan
from ems.terms import Stage
from simulator.dynamics import DynamicPlant
from simulator.plant import Conditions, Flows, Plant
from tests.ems.island import START

SITES = Path(__file__).parents[2] / "configs" / "sites"
SPARED_S = 60.0
"""A transient may last this long [s]: a start, an unloading, a PV ramp."""
BAND = 0.002
"""How far SoC may be beyond its band: one cycle, one measuring error."""

Sky = Callable[[float], float]
Points = Mapping[str, Mapping[str, float | None]]


def shipped(name: str) -> Site:
    """Return a site that comes with the EMS."""
    return load_site(SITES / f"{name}.yaml").site


@dataclass(frozen=True, slots=True)
class Cycle:
    """What was seen, decided and, in truth, happened in one cycle."""

    now_s: float
    image: Image
    decision: Decision
    flows: Flows


@dataclass
class Life:
    """One island, living.

    Attributes
    ----------
    dark : bool
        Whether this story may leave load unserved: only then is that not checked.
    level : str
        Of the plant: "energy", or "dynamic" where seconds and frequency matter.
    meters : Callable
        What the field bus makes of the plant's points, from the time and the truth.
    """

    site: Site
    soc: float = 0.5
    running: Collection[str] | None = None
    policy: str = "load-following"
    stage: Stage = Stage.CONTROL
    dt_s: float = 1.0
    start: datetime = START
    dark: bool = False
    plan: Callable[[Image, Memory], Plan | None] = lambda image, memory: None
    level: str = "energy"
    meters: Callable[[float, Points], Points] = lambda now_s, seen: seen
    memory: Memory = field(default_factory=Memory)
    cycles: list[Cycle] = field(default_factory=list)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.plant = (DynamicPlant if self.level == "dynamic" else Plant)(self.site, self.soc, self.running)
        self.controller = Controller(self.site, self.stage, self.policy)
        self._low_s = dict.fromkeys((d.id for d in self.site.of(Diesel)), 0.0)
        self._last: Image | None = None
        self._seq = 0

    def live(
        self,
        seconds: float,
        load_kw: float | Sky,
        sun_kw: float | Sky = 0.0,
        inflow_m3s: float | Sky = 0.0,
        lost: Collection[str] = (),
        shown: Mapping[str, Mapping[str, float | None]] | None = None,
        asked: Sequence[Request] = (),
    ) -> list[Cycle]:
        """Let time pass and return its cycles.

        Parameters
        ----------
        seconds : float
        load_kw, sun_kw, inflow_m3s : float | Sky
            Of each load, solar and hydro; a function of the seconds since this call.
        lost : Collection[str]
            Devices that do not answer.
        shown : Mapping[str, Mapping[str, float | None]] | None
            Points that read otherwise than they are; None is missing.
        asked : Sequence[Request]
            Orders that come in the first of these cycles.
        """
        first, began = len(self.cycles), self.now_s
        for k in range(round(seconds / self.dt_s)):
            now = [x(self.now_s - began) if callable(x) else x for x in (load_kw, sun_kw, inflow_m3s)]
            conditions = Conditions(
                {a.id: now[0] for a in self.site.of(Load)},
                {a.id: now[1] for a in self.site.of(Solar)},
                {a.id: now[2] for a in self.site.of(Hydro)},
                ghi_wm2=400.0,
                air_temp_c=20.0,
            )
            self._cycle(conditions, lost, shown or {}, asked if k == 0 else ())
        return self.cycles[first:]

    def ask(self, kind: str, asset: str | None = None, **body: Any) -> Request:
        """Return an order of now."""
        self._seq += 1
        at = self.start + timedelta(seconds=self.now_s)
        return Request(
            self._seq, f"r{self._seq}", kind, asset, {"reason": "story", **body}, "keeper", at, at + timedelta(hours=1) if kind == "command" else None
        )

    def _cycle(self, conditions: Conditions, lost: Collection[str], shown: Mapping[str, Mapping[str, float | None]], asked: Sequence[Request]) -> None:
        seen = self.meters(self.now_s, self.plant.observe(conditions))
        readings = {
            a: {p: Reading(v) if v is not None else Reading(None, Quality.BAD) for p, v in {**points, **shown.get(a, {})}.items()}
            for a, points in seen.items()
            if a not in lost
        }
        at = self.start + timedelta(seconds=self.now_s)
        telemetry = Telemetry(len(self.cycles), at, self.now_s, self.dt_s, readings)
        plan = self.plan(self._last, self.memory) if self._last is not None else None
        image, decision = self.controller.step(telemetry, asked, plan, self.memory)
        assert decision.stage is Stage.CONTROL or not decision.writes
        for write in decision.writes:
            self._check_write(write)
            self.plant.command(write.asset, write.command, write.value)
        flows = self.plant.step(self.dt_s, conditions)
        self.cycles.append(Cycle(self.now_s, image, decision, flows))
        self._check(flows, lost)
        self.memory, self._last = decision.memory, image
        self.now_s += self.dt_s

    def _check_write(self, write: Write) -> None:
        item = self.site.asset(write.asset)
        if write.command in ("power_kw", "limit_kw"):
            assert isinstance(item, Solar | Hydro | Diesel | Inverter | Deferrable)
            assert -item.rated_kw * isinstance(item, Inverter) <= write.value <= item.rated_kw, f"{self.now_s} s: {write}"

    def _check(self, flows: Flows, lost: Collection[str]) -> None:
        told = f"{self.now_s} s: {flows}"
        if not self.dark:
            assert not flows.blackout, told
            assert flows.formers, told
            assert flows.unserved_kw <= 1e-6, told
        for battery in self.site.of(Battery):
            low, high = min(battery.soc_min, self.soc), max(battery.soc_max, self.soc)
            assert low - BAND <= flows.soc[battery.id] <= high + BAND, told
        for diesel in self.site.of(Diesel):
            if lost or self.dark:  # what does not answer cannot be steered, and what is shed may leave too little load
                continue
            low_load = flows.running[diesel.id] and flows.power_kw[diesel.id] < 0.98 * diesel.min_kw
            self._low_s[diesel.id] = self._low_s[diesel.id] + self.dt_s if low_load else 0.0
            assert self._low_s[diesel.id] <= max(SPARED_S, self.dt_s), told


def starts(cycles: Sequence[Cycle]) -> dict[str, int]:
    """Return how often each diesel came on the bus."""
    return {d: sum(c.flows.starts[d] for c in cycles) for d in cycles[0].flows.starts}


def switchings(cycles: Sequence[Cycle]) -> dict[str, int]:
    """Return how often each diesel came on the bus or left it."""
    return {d: sum(a.flows.running[d] is not b.flows.running[d] for a, b in zip(cycles, cycles[1:], strict=False)) for d in cycles[0].flows.running}


def alarms(cycles: Sequence[Cycle]) -> set[tuple[str, str | None]]:
    """Return every cause that was active in these cycles."""
    return {(a.code, a.asset) for c in cycles for a in c.decision.alarms}


def events(cycles: Sequence[Cycle]) -> list[tuple[str, str | None]]:
    """Return what happened, in order."""
    return [(e.kind, e.asset) for c in cycles for e in c.decision.events]
