"""A small island with one of everything, and what its devices show, for the tests of faults."""

from __future__ import annotations

from collections.abc import Sequence

from ems.config.site import Site
from simulator.faults.alphabet import KINDS, Fault
from simulator.faults.field import Field, Points
from simulator.faults.live import Live
from simulator.faults.outside import Outside
from simulator.plant import Conditions, Plant

CONDITIONS = Conditions({"town": 300.0}, {"pv1": 120.0}, {"hydro1": 0.3}, 500.0, 25.0)


def island() -> Site:
    device = {"profile": "generic-feeder", "url": "tcp://127.0.0.1:502"}
    feeders = [{"id": "f1", "share": 0.4, "priority": 1, "device": device}, {"id": "f2", "share": 0.6, "priority": 2}]
    return Site.model_validate(
        {
            "site": {"id": "isle"},
            "control": {"stage": "control", "start_timeout_s": 10.0},
            "assets": [
                {"id": "town", "kind": "load", "peak_kw": 400.0, "feeders": feeders},
                {"id": "pv1", "kind": "solar", "rated_kw": 200.0},
                {"id": "hydro1", "kind": "hydro", "rated_kw": 60.0, "pond_m3": 2000.0},
                {"id": "dg1", "kind": "diesel", "rated_kw": 300.0, "forming": "isochronous"},
                {"id": "dg2", "kind": "diesel", "rated_kw": 200.0},
                {"id": "inv1", "kind": "inverter", "rated_kw": 250.0, "forming": "droop"},
                {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 500.0, "charge_kw": 250.0, "discharge_kw": 250.0},
                {"id": "desal", "kind": "deferrable", "rated_kw": 30.0, "daily_kwh": 100.0},
                {"id": "tank1", "kind": "tank", "feeds": ["dg1", "dg2"], "capacity_l": 5000.0, "unusable_l": 100.0},
            ],
        }
    )  # fmt: skip


def fault(kind: str, target: str, onset_s: float = 0.0, duration_s: float = 600.0, severity: float = 0.5) -> Fault:
    return Fault(kind, KINDS[kind].klass, target, onset_s, duration_s, severity)


class Bench:
    """A plant behind a field, cycle by cycle."""

    def __init__(self, *faults: Fault, running: Sequence[str] = ("dg1",)) -> None:
        self.site = island()
        self.plant = Plant(self.site, 0.6, running)
        self.field = Field(self.site, self.plant)
        self.outside = Outside(self.plant)
        self.waiting = list(faults)
        self.lives: list[Live] = []
        self.now_s = 0.0
        self.honest: dict[str, dict[str, float | None]] = {}

    def cycle(self, load_kw: float = 300.0, dt_s: float = 1.0) -> dict[str, Points]:
        """Let one cycle pass and return its readings."""
        for one in [x for x in self.lives if x.fault.end_s <= self.now_s]:
            self.outside.end(one)
            self.lives.remove(one)
        for begun in [f for f in self.waiting if f.onset_s <= self.now_s]:
            self.waiting.remove(begun)
            self.lives.append(live := Live(begun, 1))
            self.outside.begin(live)
        for live in self.lives:
            self.outside.hold(live)
        base = Conditions({"town": load_kw}, CONDITIONS.available_kw, CONDITIONS.inflow_m3s, 500.0, 25.0)
        self.conditions = self.outside.conditions(base, self.now_s, [x for x in self.lives if x.fault.klass == "plant"])
        self.field.deliver(self.now_s)
        self.honest = self.plant.observe(self.conditions)
        seen = self.field.read(self.now_s, self.honest, self.lives)
        self.flows = self.plant.step(dt_s, self.conditions)
        self.now_s += dt_s
        return seen

    def cycles(self, count: int) -> list[dict[str, Points]]:
        return [self.cycle(300.0 + k) for k in range(count)]
