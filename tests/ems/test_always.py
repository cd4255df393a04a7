"""What must hold in any situation, however odd: random sites, readings, memories, plans and orders."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from ems.config.site import Deferrable, Diesel, Feeder, Hydro, Inverter, Site, Solar
from ems.controller import Controller
from ems.explain import sentence
from ems.guards import Bound
from ems.memory import Manual, Memory, Pending, UnitMemory
from ems.model import LONG_STEP_S, Limits, Quality, Reading, Request, Telemetry
from ems.plan import Grid, Plan
from ems.sequencer import on_bus
from ems.terms import Mode, Phase, Stage
from tests.ems.island import START

ODD = (math.nan, math.inf, -math.inf, 1e9, -1e9)
POWERED = (Solar, Hydro, Diesel, Inverter, Deferrable)
FLAGS = {"running": 0.7, "synchronised": 0.7, "breaker_closed": 0.7, "forming": 0.8, "remote": 0.9, "ready": 0.9, "estop": 0.03}
POINTS = {
    "load": ("power_kw",),
    "solar": ("power_kw", "available_kw", "reactive_kvar", "remote", "ready", "estop"),
    "hydro": ("power_kw", "running", "flow_m3s", "level_m", "fault", "remote", "ready"),
    "diesel": ("power_kw", "reactive_kvar", "running", "synchronised", "breaker_closed", "frequency_hz", "fault", "remote", "ready", "estop"),
    "inverter": ("power_kw", "reactive_kvar", "running", "forming", "frequency_hz", "voltage_v", "fault", "remote", "ready"),
    "battery": ("soc", "power_kw", "charge_limit_kw", "discharge_limit_kw", "fault"),
    "deferrable": ("power_kw", "running", "remote"),
    "tank": ("level_l",),
    "meter": ("energy_export_kwh",),
    "weather": ("ghi_wm2",),
    "feeder": ("power_kw", "breaker_closed", "remote"),
}


def some_site(chance: random.Random) -> Site:
    pick = chance.choice
    device = {"profile": "generic-feeder", "url": "tcp://127.0.0.1:502"}
    feeders = [{"id": "f1", "share": 0.4, "device": device}, {"id": "f2", "share": 0.6}]
    assets: list[dict[str, Any]] = [{"id": "town", "kind": "load", "peak_kw": 400.0, "station_kw": pick([0.0, 5.0]), "feeders": feeders}]
    assets += [{"id": f"pv{k}", "kind": "solar", "rated_kw": pick([50.0, 300.0])} for k in range(chance.randrange(3))]
    assets += [
        {"id": f"dg{k}", "kind": "diesel", "rated_kw": pick([100.0, 300.0]), "forming": pick(["droop", "never"]) if k else "isochronous", "retries": k}
        for k in range(chance.randrange(4))
    ]
    for k in range(chance.randrange(1, 3)):
        assets.append({"id": f"inv{k}", "kind": "inverter", "rated_kw": pick([100.0, 250.0]), "forming": pick(["droop", "droop", "never"])})
        if chance.random() < 0.8:
            assets.append({"id": f"bess{k}", "kind": "battery", "behind": f"inv{k}", "capacity_kwh": 400.0, "charge_kw": 200.0, "discharge_kw": 250.0})
    if chance.random() < 0.5:
        mode, forming = pick(["power", "level", "flow", "fixed"]), pick(["never", "droop"])
        assets.append({"id": "h1", "kind": "hydro", "rated_kw": 80.0, "mode": mode, "forming": forming, "pond_m3": pick([0.0, 4000.0])})
    if chance.random() < 0.5:
        assets.append({"id": "desal", "kind": "deferrable", "rated_kw": 40.0, "modulating": chance.random() < 0.5, "daily_kwh": 200.0})
    assets += [{"id": "sky", "kind": "weather"}, {"id": "tank1", "kind": "tank", "capacity_l": 9000.0}]
    control = {"stage": "control", "start_timeout_s": 10.0}
    reserve = {"combine": pick(["max", "sum"]), "single_former": pick(["allow", "refuse"])}
    return Site.model_validate({"site": {"id": "isle"}, "control": control, "reserve": reserve, "assets": assets})


def some_value(chance: random.Random, point: str, rated_kw: float) -> float:
    if point in FLAGS:
        return float(chance.random() < FLAGS[point])
    match point:
        case "fault":
            return float(chance.random() < 0.08) * 7.0
        case "soc":
            return chance.choice([0.0, 0.04, 0.1, 0.13, 0.2, 0.5, 0.8, 0.95, 1.0])
        case "frequency_hz":
            return chance.choice([0.0, 49.8, 50.0])
        case "power_kw":
            return chance.choice([0.0, chance.uniform(-0.2, 1.0) * rated_kw, rated_kw])
        case _:
            return chance.uniform(0.0, rated_kw)


def some_reading(chance: random.Random, point: str, rated_kw: float) -> Reading:
    odd = chance.random()
    if odd < 0.05:
        return Reading(None, Quality.BAD)
    value = chance.choice(ODD) if odd < 0.07 else some_value(chance, point, rated_kw)
    return Reading(value, Quality.SUSPECT if odd > 0.97 else Quality.GOOD, 10.0 if odd > 0.995 else chance.uniform(0.0, 1.0))


def some_telemetry(chance: random.Random, site: Site) -> Telemetry:
    readings: dict[str, dict[str, Reading]] = {}
    for item in (*site.assets, *site.of(Feeder)):
        if chance.random() < 0.08:
            continue
        rated = getattr(item, "rated_kw", 300.0)
        readings[item.id] = {p: some_reading(chance, p, rated) for p in POINTS[item.kind] if chance.random() > 0.03}
    dt = chance.choice([1.0, 1.0, 1.0, 24.0, 900.0])
    now = chance.uniform(0.0, 90_000.0)
    return Telemetry(chance.randrange(9999), START + timedelta(seconds=now), now, dt, readings)


def some_memory(chance: random.Random, site: Site, now_s: float) -> Memory:
    units = {}
    for d in site.of(Diesel):
        if chance.random() < 0.9:
            since = now_s - chance.choice([0.0, 20.0, 200.0, 5000.0])
            units[d.id] = UnitMemory(
                chance.choice(list(Phase)), since, since, failed_starts=chance.randrange(3), starts=tuple(now_s - 60.0 * k for k in range(chance.randrange(5)))
            )
    powered = [a for a in site.assets if isinstance(a, POWERED)]
    ids = [a.id for a in (*powered, *site.of(Feeder))]
    setpoints = {a.id: chance.uniform(0.0, a.rated_kw) for a in powered if chance.random() < 0.6}
    soc_min = {b.id: Limits(soc_min=0.4) for b in site.assets if b.kind == "battery" and chance.random() < 0.1}
    limits = {a: Limits(max_kw=chance.choice([None, 0.0, 60.0]), min_kw=chance.choice([None, 20.0]), out_of_service=chance.random() < 0.3) for a in ids}
    return Memory(
        mode=chance.choice(list(Mode)),
        mode_since_s=now_s - chance.choice([0.0, 30.0]),
        stage=chance.choice([Stage.CONTROL, Stage.CONTROL, Stage.SHADOW]),
        stages={a: chance.choice([Stage.SHADOW, Stage.ADVISE]) for a in ids if chance.random() < 0.1},
        in_band_s=chance.choice([None, now_s - 90.0]),
        units=units,
        limits=soc_min | {a: x for a, x in limits.items() if chance.random() < 0.15},
        manual={a: Manual(chance.choice([None, True, False]), chance.choice([None, 0.0, 30.0])) for a in ids if chance.random() < 0.15},
        pending={k: Pending(chance.choice(ids), chance.choice(["start", "stop", "shed"]), now_s + chance.choice([-1.0, 60.0])) for k in range(2)},
        setpoints=setpoints,
        astray={a: now_s - chance.choice([1.0, 60.0]) for a in setpoints if chance.random() < 0.2},
        load_kw=chance.choice([None, 150.0]),
        diesel_wanted=chance.random() < 0.5,
        done_kwh={"desal": chance.uniform(0.0, 250.0)},
        day=START.date().isoformat(),
        all_manual=chance.random() < 0.1,
        stopped=chance.random() < 0.1,
    )


def some_plan(chance: random.Random, site: Site, telemetry: Telemetry) -> Plan | None:
    if chance.random() < 0.4:
        return None
    grid = Grid(telemetry.time - timedelta(seconds=chance.choice([0.0, 500.0, 9000.0])), (900.0, 900.0, 3600.0))
    n = grid.n_steps
    row = lambda lo, hi: tuple(chance.uniform(lo, hi) for _ in range(n))  # noqa: E731
    drawn = tuple(d.id for d in site.of(Deferrable))
    power = {a.id: row(-a.rated_kw if isinstance(a, Inverter) else 0.0, a.rated_kw) for a in site.assets if isinstance(a, POWERED)}
    switched = [*drawn, *(d.id for d in site.of(Diesel))]
    return Plan(
        id="p1",
        made_at=grid.start,
        valid_until=grid.end,
        source=chance.choice(["mpc", "load-following"]),
        grid=grid,
        power_kw=power,
        on={a: tuple(chance.random() < 0.5 for _ in range(n)) for a in switched},
        soc={},
        load_kw=row(100.0, 300.0),
        unserved_kw=(0.0,) * n,
        deferrables=drawn,
        available_kw={s.id: row(0.0, s.rated_kw) for s in site.of(Solar)},
    )


def some_requests(chance: random.Random, site: Site, telemetry: Telemetry) -> Sequence[Request]:
    ids = [*site.ids, "nowhere"]
    bodies: dict[str, list[dict[str, Any]]] = {
        "command": [{"action": a} for a in ("start", "stop", "shed", "restore", "release", "dance")]
        + [{"action": "set", "power_kw": p} for p in (0, 50, 5000, None)],
        "mode": [{"mode": "manual"}, {"mode": "auto"}],
        "limits": [{"max_kw": 40.0}, {"out_of_service": True}, {"soc_min": 0.3}],
        "stage": [{"stage": s.value} for s in Stage],
        "stop": [{}],
        "ack": [{"alarm": "x"}],
    }
    found = []
    for seq in range(1, chance.randrange(1, 4)):
        kind = chance.choice(["command", "command", "mode", "limits", "stage", "stop", "ack"])
        asset = chance.choice(ids) if kind in ("command", "limits") or (kind in ("mode", "stage") and chance.random() < 0.7) else None
        until = telemetry.time + timedelta(seconds=chance.choice([-1.0, 300.0]))
        found.append(Request(seq, f"r{seq}", kind, asset, {**chance.choice(bodies[kind]), "reason": "test"}, "keeper", telemetry.time, until))
    return found


def holding(site: Site, telemetry: Telemetry, image: Any) -> set[str]:
    """Who is seen to hold the bus, worked out from the image alone."""
    found = set()
    for item in site.assets:
        if not isinstance(item, Diesel | Inverter | Hydro) or item.forming == "never":
            continue
        unit = image.assets[item.id]
        runs = unit.seen and unit.flag("running") is not False and not unit.fault
        holds = on_bus(unit) is True if isinstance(item, Diesel) else runs
        if isinstance(item, Inverter):
            battery = site.battery_behind(item.id)
            soc = image.assets[battery.id].get("soc") if battery is not None else None
            # A hand-over lies inside a long step.
            holds = holds and battery is not None and soc is not None and soc > battery.holding_soc
            holds = holds and (unit.flag("forming") is not False or telemetry.dt_s >= LONG_STEP_S)
        if holds:
            found.add(item.id)
    return found


@pytest.mark.parametrize("block", range(6))
def test_any_situation_has_a_safe_decision(block: int) -> None:
    for seed in range(50 * block, 50 * block + 50):
        chance = random.Random(seed)
        site = some_site(chance)
        telemetry = some_telemetry(chance, site)
        memory, plan = some_memory(chance, site, telemetry.now_s), some_plan(chance, site, telemetry)
        requests = some_requests(chance, site, telemetry)
        policy = chance.choice(["mpc", "load-following", "cycle-charging", "diesel-only"])
        image, decision = Controller(site, policy=policy).step(telemetry, requests, plan, memory)

        told = f"seed {seed}"
        for write in decision.writes:
            item = site.asset(write.asset)
            assert math.isfinite(write.value), told
            if write.command in ("running", "forming", "breaker"):
                assert write.value in (0.0, 1.0), told
            else:
                assert isinstance(item, POWERED), told
                low = -item.rated_kw if isinstance(item, Inverter) else 0.0
                assert Bound(low, item.rated_kw).clip(write.value) == pytest.approx(write.value, abs=1e-6), told
            unit = image.assets[write.asset]
            assert unit.seen and unit.remote, f"{told}: {write} to a unit that is not ours"
        stopped = {w.asset for w in decision.writes if w.command in ("running", "forming") and w.value == 0.0}
        holders = holding(site, telemetry, image)
        assert not holders or holders - stopped, f"{told}: {stopped} of {holders} stopped"
        assert decision.stage is Stage.CONTROL or not decision.writes, told
        assert [e for e in decision.events if e.kind == "write_refused"] == [], told
        assert len(decision.outcomes) >= len(requests), told

        again = Controller(site, policy=policy).step(*pickle.loads(pickle.dumps((telemetry, requests, plan, memory))))
        assert again == (image, decision), told
        assert pickle.loads(pickle.dumps(decision)) == decision, told
        for asset, decided in decision.assets.items():
            said = [sentence(asset, decided, lang) for lang in ("en", "ja")]
            assert all(asset in s and "{" not in s for s in said), told
        assert all(a.en and a.ja for a in decision.alarms), told
