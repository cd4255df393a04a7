"""A quiet day of `river` at both levels of the plant, second by second under the controller: does every source give the same energy?

Prints Markdown; ends with 1 where a source differs by more than 0.5 % of the day's load. Diesels are judged together: which set serves is
the controller's choice at thresholds, which a few kW of a transient shift. Part of `make campaign`: it takes minutes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from ems.config.load import load_site
from ems.config.site import Diesel, Hydro, Load, Site, Solar
from ems.controller import Controller
from ems.memory import Memory
from ems.model import Quality, Reading, Telemetry
from ems.terms import Mode, Stage
from simulator.dynamics import DynamicPlant
from simulator.plant import Conditions, Plant

ROOT = Path(__file__).resolve().parent.parent
START = datetime.fromisoformat("2016-06-06T00:00:00+00:00")
WITHIN = 0.005
MISSING = Reading(None, Quality.BAD)
TOGETHER = "all diesels"


def quiet(site: Site, second: float) -> Conditions:
    """Return a day without clouds: an evening peak, a sun from six to eighteen, a steady river."""
    hour = second / 3600.0
    load = site.peak_kw * (0.42 + 0.10 * math.sin((hour - 9.0) / 12.0 * math.pi) + 0.08 * math.exp(-((hour - 19.0) ** 2) / 4.0))
    sun = max(0.0, math.sin((hour - 6.0) / 12.0 * math.pi)) if 6.0 < hour < 18.0 else 0.0
    loads = site.of(Load)
    return Conditions({a.id: load / len(loads) for a in loads}, {a.id: 0.8 * sun * a.rated_kw for a in site.of(Solar)}, {h.id: 1.0 for h in site.of(Hydro)})


def energies(site: Site, plant: Plant, seconds: int) -> dict[str, float]:
    """Return what each source gave and the load took [kWh]; what an inverter gives and takes is added up apart."""
    controller, memory, found = Controller(site, policy="load-following"), Memory(mode=Mode.AUTO, stage=Stage.CONTROL), dict[str, float]()
    for k in range(seconds):
        conditions = quiet(site, float(k))
        shown = plant.observe(conditions)
        readings = {a: {n: MISSING if v is None else Reading(v) for n, v in points.items()} for a, points in shown.items()}
        _, decision = controller.step(Telemetry(k, START + timedelta(seconds=k), float(k), 1.0, readings), (), None, memory)
        for write in decision.writes:
            plant.command(write.asset, write.command, write.value)
        memory, flows = decision.memory, plant.step(1.0, conditions)
        for asset, power in flows.power_kw.items():
            name = f"{asset} {'charging' if power < 0.0 else 'discharging'}" if asset.startswith("inv") else asset
            found[name] = found.get(name, 0.0) + abs(power) / 3600.0
        found["unserved"] = found.get("unserved", 0.0) + flows.unserved_kw / 3600.0
    found[TOGETHER] = sum(found[d.id] for d in site.of(Diesel))
    return found


def main() -> int:
    """Compare both levels and return 1 where they differ by too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    hours = parser.parse_args().hours
    site = load_site(ROOT / "configs/sites/river.yaml").site
    both: list[Mapping[str, float]] = [energies(site, made(site, 0.6), round(3600.0 * hours)) for made in (Plant, DynamicPlant)]
    load_kwh = sum(both[0][a.id] for a in site.of(Load))
    apart = {d.id for d in site.of(Diesel)}
    worst = 0.0
    sys.stdout.write("| source | energy level [kWh] | dynamic level [kWh] | difference / load |\n|---|---|---|---|\n")
    for name in both[0]:
        off = (both[1].get(name, 0.0) - both[0][name]) / load_kwh
        worst = worst if name in apart else max(worst, abs(off))
        sys.stdout.write(f"| {name} | {both[0][name]:.1f} | {both[1].get(name, 0.0):.1f} | {off:+.3%} |\n")
    return int(worst > WITHIN)


if __name__ == "__main__":
    sys.exit(main())
