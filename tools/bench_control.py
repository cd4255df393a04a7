"""Speed of the decision: simulated time in CPU time at both levels, and how a step grows with the number of assets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ems.config.site import Hydro, Load, Site, Solar
from ems.controller import Controller
from ems.memory import Memory
from ems.model import Quality, Reading, Telemetry
from ems.terms import Mode, Stage
from simulator.dynamics import DynamicPlant
from simulator.plant import Conditions, Plant
from tools.figures import table

START = datetime.fromisoformat("2016-06-06T12:00:00+00:00")
MISSING = Reading(None, Quality.BAD)
ALONE_S, LOOP_S = 3000, 1500
STEPS = 300


def weather(site: Site) -> Callable[[int], Conditions]:
    """Return load, sun and river by the second: always on the move, so that nothing is spared by standing still."""
    loads, suns = [a.id for a in site.of(Load)], {a.id: a.rated_kw for a in site.of(Solar)}
    rivers, base_kw = {a.id: 1.0 for a in site.of(Hydro)}, 0.4 * site.peak_kw

    def outside(second: int) -> Conditions:
        load_kw, sun = (base_kw + second % 60) / len(loads), 0.3 + (second % 90) / 300.0
        return Conditions(dict.fromkeys(loads, load_kw), {s: sun * rated_kw for s, rated_kw in suns.items()}, rivers)

    return outside


def lived(site: Site, plant: Plant, seconds: int) -> list[float]:
    """Let plant and controller go on for some seconds; return the CPU time of each controller's step [s]."""
    controller, memory, steps = Controller(site, policy="load-following"), Memory(mode=Mode.AUTO, stage=Stage.CONTROL), list[float]()
    outside = weather(site)
    for k in range(seconds):
        conditions = outside(k)
        shown = plant.observe(conditions)
        readings = {a: {n: MISSING if v is None else Reading(v) for n, v in points.items()} for a, points in shown.items()}
        telemetry = Telemetry(k, START + timedelta(seconds=k), float(k), 1.0, readings)
        began = time.process_time()
        _, decision = controller.step(telemetry, (), None, memory)
        steps.append(time.process_time() - began)
        for write in decision.writes:
            plant.command(write.asset, write.command, write.value)
        plant.step(1.0, conditions)
        memory = decision.memory
    return steps


def bench_plant(site: Site) -> None:
    """Simulated seconds in a second of CPU at both levels: the plant alone, and with the controller at one second, without history."""
    speeds: dict[str, tuple[float, float]] = {}
    for level, made in (("energy", Plant), ("dynamic", DynamicPlant)):
        plant, outside, began = made(site), weather(site), time.process_time()
        for k in range(ALONE_S):
            plant.step(1.0, outside(k))
        alone, began = ALONE_S / (time.process_time() - began), time.process_time()
        lived(site, made(site), LOOP_S)
        speeds[level] = alone, LOOP_S / (time.process_time() - began)
    rows: list[list[object]] = [[level, *both] for level, both in speeds.items()]
    rows.append(["dynamic / energy", *(d / e for d, e in zip(speeds["dynamic"], speeds["energy"], strict=True))])
    table("Speed of the plant, river", "make bench (plant)", ("level", "alone [x real time, CPU]", "with the controller [x real time, CPU]"), rows)


def bench_step(crowd: Callable[[int], Mapping[str, Any]]) -> None:
    """CPU of one decision for 10 to 100 assets."""
    rows: list[list[object]] = []
    for assets in (10, 25, 50, 100):
        site = Site.model_validate(crowd(assets))
        steps = lived(site, Plant(site), STEPS)
        median = 1000.0 * statistics.median(steps)
        rows.append([len(site.assets), median, 1000.0 * sorted(steps)[int(0.99 * STEPS)], median / 3.0, 1000.0 * median / len(site.assets)])
    table(
        "One decision",
        "make bench (step)",
        ("assets", "median [CPU ms]", "p99 [CPU ms]", "median / 3 ms", "median per asset [CPU us]"),
        rows,
    )
