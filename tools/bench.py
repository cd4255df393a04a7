"""`make bench`: how fast and how good, as figures of one run on one machine.

Every claim is a ratio of two things measured side by side, because machines are shared and noisy; the
absolute figures are printed beside them. Prints Markdown; `docs/benchmarks.md` keeps one such run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ems.clock import real_s
from tools.bench_opcua import opcua_rows
from tools.figures import percentile, table

ROOT = Path(__file__).resolve().parent.parent
SITES, SERIES = ROOT / "configs/sites", ROOT / "configs/series"
CYCLES = 120
"""Seconds of the plant alone, and with the controller."""


# ------------------------------------------------------------------ cycle
def crowd(devices: int) -> dict[str, Any]:
    """Return a site file with so many devices: diesels, an inverter with battery, a load, and the rest PV."""
    suns = devices - 6
    assets: list[dict[str, Any]] = [
        {"id": "town", "kind": "load", "peak_kw": 1000.0},
        *({"id": f"dg{k}", "kind": "diesel", "rated_kw": 500.0} for k in (1, 2, 3)),
        {"id": "inv1", "kind": "inverter", "rated_kw": 800.0, "forming": "droop"},
        {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 1600.0, "charge_kw": 800.0, "discharge_kw": 800.0},
        *({"id": f"pv{k}", "kind": "solar", "rated_kw": round(1000.0 / suns, 1)} for k in range(suns)),
    ]
    return {"site": {"id": f"crowd{devices}"}, "control": {"stage": "control"}, "assets": assets}


async def cycles(as_simulated: Path, data: Path) -> tuple[list[float], int]:
    """Run cycles of the real loop on the wire, a plan being solved all the time; return each one's time [s] and the plans that came."""
    from api.assembly import control_parts, site_clock
    from ems.config.load import load_site
    from ems.terms import Stage

    loaded = load_site(as_simulated)
    control = control_parts(loaded, data, site_clock(1.0), Stage.CONTROL, 0, lambda beat: None, tuple)
    keeper, taken, plans = control.keeper, [], 0
    try:
        for k in range(CYCLES + 5):
            if keeper._pending is None:
                keeper._asked_s = None  # ask again at once: there shall always be a plan in the making
            before, began = keeper.outcome, real_s()
            await control.loop.cycle()
            if k >= 5:
                taken.append(real_s() - began)
            plans += keeper.outcome is not before
            await asyncio.sleep(max(0.0, 0.25 - (real_s() - began)))
    finally:
        keeper.close()
        await control.fieldbus.close()
        control.history.close()
        control.ledger.close()
    return taken, plans


def bench_cycle() -> None:
    """Cycle time at 10 and 50 devices over real Modbus TCP and OPC UA."""
    from ruamel.yaml import YAML

    rows: list[list[object]] = []
    for devices in (10, 50):
        with tempfile.TemporaryDirectory() as folder:
            site = Path(folder) / "site.yaml"
            YAML().dump(crowd(devices), site)
            argv = [sys.executable, "-c", "from api.cli.main import main; main()", "simulate", str(site), "--listen", "127.0.0.1:0", "--data", folder]
            plant = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
            try:
                assert plant.stdout is not None
                ready = plant.stdout.readline().strip()
                taken, plans = asyncio.run(cycles(Path(ready), Path(folder)))
            finally:
                plant.terminate()
                plant.wait(10)
            rows.append([devices, len(taken), plans, 1000 * percentile(taken, 0.5), 1000 * percentile(taken, 0.99), percentile(taken, 0.99) / 0.3])
    table(
        "Cycle time while plans are being solved",
        "make bench (cycle)",
        ("devices", "cycles", "plans meanwhile", "p50 [ms]", "p99 [ms]", "p99 / 0.3 s"),
        rows,
    )


# ------------------------------------------------------------------ plan
def bench_plan() -> None:
    """Plan time of three ways over a day of each site."""
    from tools.bench_plan import bench_ways

    bench_ways()


def bench_deadline() -> None:
    """What is there at a site's deadline."""
    from tools import bench_plan

    bench_plan.bench_deadline()


def bench_growth() -> None:
    """Plan time by diesels, batteries and horizon."""
    from tools import bench_plan

    bench_plan.bench_growth()


def bench_peers() -> None:
    """The same horizon in linopy and PyPSA; needs the extra `bench`."""
    from importlib.util import find_spec

    from tools import bench_peers

    if find_spec("pypsa") is None:
        print("\n## One plan in linopy and PyPSA\n\nleft out: pip install 'shima-ems[bench]'")
        return
    bench_peers.bench_peers()


# ------------------------------------------------------------------ dispatch
def replayed(*options: str) -> list[dict[str, Any]]:
    """Return the summaries of `ems replay --json` with these options."""
    argv = [sys.executable, "-c", "from api.cli.main import main; main()", "replay", *options, "--json"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def bench_dispatch() -> None:
    """Diesel of `mpc` with perfect forecast against the bound and the better rule, two weeks of `ouessant`."""
    options = (str(SITES / "ouessant.yaml"), "--series", str(SERIES / "ouessant_2016_1h.csv"), "--start", "2016-05-02", "--days", "14")
    policies = "mpc,load-following,cycle-charging,perfect-foresight,diesel-only"
    found = {s["policy"]: s for s in replayed(*options, "--policy", policies, "--forecast", "perfect")}
    bound = found["perfect-foresight"]["bound_l"]
    better = min(found[p]["diesel_l_soc_corrected"] for p in ("load-following", "cycle-charging"))
    rows = [
        [
            p,
            round(s["diesel_l_soc_corrected"]),
            s["diesel_l_soc_corrected"] / bound,
            s["diesel_l_soc_corrected"] / better,
            s["diesel_starts"],
            round(s["diesel_run_h"]),
            s["unserved_kwh"],
            sum(v["count"] for v in s["violations"].values()),
            s["wall_s"],
        ]
        for p, s in found.items()
    ]
    rows.append(["bound", round(bound), 1.0, bound / better, "", "", "", "", ""])
    table(
        "Diesel, two weeks of ouessant from 2016-05-02, perfect forecast",
        f"ems replay ouessant.yaml --series ouessant_2016_1h.csv --start 2016-05-02 --days 14 --policy {policies}",
        ("policy", "SoC-corrected [L]", "against the bound", "against the better rule", "starts", "engine h", "unserved kWh", "violations", "wall s"),
        rows,
    )


def bench_replay() -> None:
    """Steps per second of the replay with the rules: the real controller on the plant."""
    rows: list[list[object]] = []
    for site, series in (("ouessant", "ouessant_2016_1h"), ("river", "composite_2016_1h")):
        for policy in ("load-following", "diesel-only"):
            options = (str(SITES / f"{site}.yaml"), "--series", str(SERIES / f"{series}.csv"), "--days", "28", "--policy", policy)
            s = replayed(*options)[0]
            rows.append([site, policy, s["steps"], s["steps"] / s["wall_s"], 900.0 * s["steps"] / s["wall_s"]])
    table("Replay with rules", "make bench (replay)", ("site", "policy", "steps", "steps/s", "site seconds per second"), rows)


def bench_plant() -> None:
    """Simulated seconds in a second of CPU, at both levels."""
    from ems.config.load import load_site
    from tools import bench_control

    bench_control.bench_plant(load_site(SITES / "river.yaml").site)


def bench_step() -> None:
    """CPU of one decision, by the number of assets."""
    from tools import bench_control

    bench_control.bench_step(crowd)


# ------------------------------------------------------------------ campaign
def bench_campaign() -> None:
    """Simulated seconds per second of CPU of the fault campaign on `river`: controller, plan keeper, plant, faults and every invariant, no history."""
    from ems.config.load import load_site
    from simulator.campaign.case import drawn
    from simulator.campaign.run import run

    site = load_site(SITES / "river.yaml").site
    rows: list[list[object]] = []
    for level, hours in (("energy", 1.0), ("dynamic", 0.25)):
        outcomes = [run(site, drawn(site, seed, 3600.0 * hours, level)) for seed in range(4)]
        speeds = [o.simulated_s / o.cpu_s for o in outcomes]
        total = sum(o.simulated_s for o in outcomes) / sum(o.cpu_s for o in outcomes)
        rows.append([level, len(outcomes), sum(o.simulated_s for o in outcomes) / 3600.0, total, min(speeds), max(speeds)])
    head = ("level", "runs", "simulated h", "simulated s per CPU s", "slowest", "quickest")
    table("Fault campaign on river, one run of each regime", "make bench (campaign)", head, rows)


def bench_opcua() -> None:
    """CPU of 1,000 OPC UA points, by subscription against batched reads of the same server."""
    table(
        "1,000 OPC UA points, each changing once a second",
        "make bench (opcua)",
        ("way", "points", "devices", "changes seen /s", "CPU [ms/s]", "CPU / 50 ms", "CPU / subscription", "oldest value [s]"),
        opcua_rows(),
    )


def bench_field() -> None:
    """Modbus against bare pymodbus."""
    from tools.bench_modbus import bench_modbus

    bench_modbus()


def bench_forecast() -> None:
    """Skill of the blend against persistence by lead, calibration of its quantiles, and its cost: a year, learning only from the past."""
    import numpy as np

    from ems.config.load import load_site
    from ems.series import read_series
    from tools.skill import LEADS_H, walk

    skills: list[list[object]] = []
    shares: list[list[object]] = []
    for site_name, series in (("ouessant", "ouessant_2016_1h"), ("river", "composite_2016_1h")):
        site = load_site(SITES / f"{site_name}.yaml").site
        found = walk(site, read_series(SERIES / f"{series}.csv", site))
        for name, kinds in found.errors.items():
            mae = {kind: np.abs(rows).mean(axis=0) for kind, rows in kinds.items()}
            for k, lead in enumerate(LEADS_H):
                simple = min(mae["latest"][k], mae["yesterday"][k])
                skills.append([series, name, lead, *(float(mae[m][k]) for m in ("blend", "latest", "yesterday")), float(1.0 - mae["blend"][k] / simple)])
        for k, lead in enumerate(LEADS_H):
            shares.append([series, lead, float(100 * found.beyond[k]), float(100 * found.below[k]), "", ""])
        shares[-1][4:] = [100 * found.day_above, 100 * found.day_below]
        print(f"\n{series}: a forecast of 96 steps takes {1000 * found.forecast_s:.1f} ms of CPU, learning an hour {1000 * found.learn_s:.1f} ms")
    command = "python -m tools.bench forecast"
    head = ("series", "quantity", "lead [h]", "MAE blend", "MAE latest value", "MAE yesterday", "skill against the better")
    table("Forecast skill by lead (kW, river m3/s), every five hours from day 28 on", command, head, skills)
    columns = ("series", "lead [h]", "above P98 [%]", "below P02 [%]", "day's energy above P90 [%]", "below P10 [%]")
    table("Calibration of the net load's error quantiles", command, columns, shares)


PARTS: dict[str, Callable[[], None]] = {
    "replay": bench_replay,
    "modbus": bench_field,
    "cycle": bench_cycle,
    "plan": bench_plan,
    "deadline": bench_deadline,
    "growth": bench_growth,
    "peers": bench_peers,
    "forecast": bench_forecast,
    "dispatch": bench_dispatch,
    "plant": bench_plant,
    "step": bench_step,
    "campaign": bench_campaign,
    "opcua": bench_opcua,
}


def main() -> None:
    """Run all parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Example: python -m tools.bench plan cycle")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    for part in parser.parse_args().parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
