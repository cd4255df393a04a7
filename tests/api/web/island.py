"""A plausible day on the river site: states, a plan, alarms and reasons, without a plant or a controller behind them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from drivers.store.history import History
from drivers.store.ledger import LedgerStore
from ems.config.load import LoadedSite, load_site
from ems.plan import Forecast, Grid, Plan, Unmet

SITE = Path(__file__).parents[3] / "configs" / "sites" / "river.yaml"
NOW = datetime(2026, 6, 14, 12, 32, 8, tzinfo=UTC)
SHARES = {"harbour": 0.25, "lampaul": 0.45, "hamlets": 0.30}
WHY = {
    "pv1": (
        "surplus", ["soc_full"],
        "pv1 is at 736 kW because of surplus; 85 kW are left unused (held by the battery is full)",
        "pv1 は余剰のため 736 kW です（85 kW を抑制、蓄電池が満充電による）",
    ),
    "hydro1": ("follows_river", [], "hydro1 takes what the river gives", "hydro1 は河川流量に従っています"),
    "dg1": ("not_needed", [], "dg1 is not needed", "dg1 は必要ありません"),
    "dg2": ("not_needed", [], "dg2 is not needed", "dg2 は必要ありません"),
    "dg3": ("unseen", [], "dg3 does not answer: nothing is assumed of it", "dg3 は応答がないため当てにしません"),
    "inv1": ("forming", [], "inv1 holds the bus: its power is what the others leave over", "inv1 が母線を形成しています。出力は残りの需要で決まります"),
    "desal1": ("plan", [], "desal1 follows the plan: 73 kW", "desal1 は計画に従っています: 73 kW"),
}  # fmt: skip


def loaded() -> LoadedSite:
    return load_site(SITE)


def hour(at: datetime) -> float:
    local = at + timedelta(hours=2)
    return local.hour + local.minute / 60.0 + local.second / 3600.0


def flows(at: datetime, soc: float) -> dict[str, float]:
    """Power of everything at a time of day [kW]: sun by day, a battery that helps in the evening, a diesel when it is low."""
    h = hour(at)
    load = 520 + 190 * math.exp(-((h - 20) ** 2) / 9) + 90 * math.exp(-((h - 8) ** 2) / 8) + 9 * math.sin(h * 11)
    sun = max(0.0, math.sin((h - 6) / 13 * math.pi)) * 880 if 6 <= h <= 19 else 0.0
    sun *= 0.8 + 0.2 * math.cos(h * 9) if 9 < h < 12 else 1.0
    hydro, desal = 150 + 20 * math.sin(h / 7), 73.0 if 10 < h < 18 else 0.0
    rest = load + desal - hydro - sun
    battery = max(-300.0, min(420.0, rest))
    if (soc < 0.30 and battery > 0) or (soc > 0.93 and battery < 0):
        battery = 0.0
    diesel = max(0.0, rest - battery)
    diesel = max(300.0, diesel) if diesel > 20 else 0.0
    pv = sun if rest - battery - diesel >= -0.01 else max(0.0, load + desal - hydro - battery - diesel)
    return {"load": load + desal, "pv1": pv, "free": sun, "hydro1": hydro, "dg1": diesel, "inv1": load + desal - hydro - diesel - pv, "desal1": desal}


def asset(kind: str, power: float | None, setpoint: float | None, reason: str | None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": kind, "power_kw": power, "setpoint_kw": setpoint, "quality": "good", "age_s": 0.12, "reason": reason, "limited_by": []}
    return found | {"control": "remote", "ready": True, "follows": True} | more


def state(cycle: int = 4711, at: datetime = NOW, soc: float = 0.93, jitter: float = 0.0) -> dict[str, Any]:
    """The REST state of one cycle."""
    f = {name: value * (1.0 + jitter * math.sin(cycle * 1.7 + k)) for k, (name, value) in enumerate(flows(at, soc).items())}
    town = f["load"] - f["desal1"]
    dark = {"quality": "bad", "age_s": 734.2, "ready": False}
    assets = {
        "town": asset("load", town, None, None),
        "pv1": asset("solar", f["pv1"], f["pv1"], "surplus", available_kw=f["pv1"] + 85, limited_by=["soc_full"], rated_kw=1000.0),
        "hydro1": asset("hydro", f["hydro1"], f["hydro1"], "follows_river", running=True, level_m=2.1, rated_kw=330.0),
        "dg1": asset("diesel", f["dg1"], 0.0, "not_needed", running=False, state="off", fuel_l=812345.0, rated_kw=1000.0),
        "dg2": asset("diesel", 0.0, 0.0, "not_needed", running=False, state="off", fuel_l=790001.0, rated_kw=1000.0),
        "dg3": asset("diesel", None, None, "unseen", running=None, state="off", rated_kw=800.0) | dark,
        "inv1": asset("inverter", f["inv1"], None, "forming", forming=True, rated_kw=1000.0),
        "bess1": asset("battery", f["inv1"] * 0.97, None, None, soc=soc),
        "desal1": asset("deferrable", f["desal1"], f["desal1"], "plan", running=True, rated_kw=120.0),
        "tank1": asset("tank", None, None, None, level_l=86200.0),
        "m1": asset("meter", None, None, None),
        "sky": asset("weather", None, None, None),
    }
    return {
        "cycle": cycle,
        "time": at.isoformat().replace("+00:00", "Z"),
        "mode": "auto",
        "stage": "control",
        "load_kw": f["load"],
        "load_known": True,
        "frequency_hz": 49.98 + jitter * math.sin(cycle),
        "voltage_v": 401.0,
        "unserved_kw": 0.0,
        "renewable_fraction": 1.0,
        "formers": ["inv1"],
        "reserve": {
            "required_kw": 305.4, "available_kw": 655.1 + jitter * cycle, "down_kw": 340.0, "hold_s": 900.0, "energy_kwh": 1480.0,
            "time_to_empty_s": None, "contingency": "loss of pv1",
        },
        "plan": {"id": "plan-17", "age_s": 128.0 + cycle - 4711, "valid_until": "2026-06-14T14:30:00Z", "source": "mpc"},
        "co2": {"displaced_kg_today": 3412.6, "displaced_t_total": 612.44},
        "alarms": {"active": 2},
        "clock": {"synced": True, "offset_s": 0.01},
        "feeders": {name: {"closed": True, "shed_by": None, "power_kw": town * share} for name, share in SHARES.items()},
        "assets": assets,
    }  # fmt: skip


def alarms() -> list[dict[str, Any]]:
    return [
        {
            "id": "no_answer:dg3:1781439594000000", "code": "no_answer", "severity": "major", "asset": "dg3",
            "raised_at": "2026-06-14T12:19:54Z", "cleared_at": None, "acked_by": None,
            "text": {"en": "dg3 has not answered for 12 min; it leaves plan and reserve", "ja": "dg3 が 12 分間応答していません。計画と予備力から除外しました"},
        },
        {
            "id": "level_frozen:hydro1:1781439000000000", "code": "level_frozen", "severity": "warning", "asset": "hydro1",
            "raised_at": "2026-06-14T12:10:00Z", "cleared_at": None, "acked_by": "hanako",
            "text": {"en": "the level sensor of hydro1 stands still; check the float", "ja": "hydro1 の水位計が固着しています。フロートを確認してください"},
        },
    ]  # fmt: skip


def explain() -> list[dict[str, Any]]:
    return [{"asset": a, "reason": r, "limited_by": g, "text": {"en": en, "ja": ja}, "numbers": {}} for a, (r, g, en, ja) in WHY.items()]


def beat(cycle: int = 4711, at: datetime = NOW, jitter: float = 0.0) -> dict[str, Any]:
    return {"cycle": cycle, "state": state(cycle, at, jitter=jitter), "alarms": alarms(), "explain": explain()}


def remember(data: Path, now: datetime = NOW) -> None:
    """Fill history and ledger of a data folder with the day before `now`, and a plan for the day after."""
    history, soc = History(data / "history.db"), 0.62
    for k in range(144):
        at = now.replace(minute=2, second=0) - timedelta(minutes=10 * (144 - k) - 30)
        if at >= now:
            break
        f = flows(at, soc)
        history.append(k + 1, at, state(k + 1, at, soc), b"{}")
        soc = max(0.1, min(0.95, soc - f["inv1"] / 6 / 2000))
    history.plan(now - timedelta(seconds=128), plan(now, 0.93), forecast(now))
    history.close()
    ledger = LedgerStore(data / "ledger.db")
    row = {"seconds": 60.0, "load_kwh": 9.0, "fuel_l": 214.2, "displaced_co2_kg": 3412.6, "displaced_low_kg": 2730.0, "displaced_high_kg": 4095.0}
    ledger.minute(now.replace(hour=6, minute=0, second=0), {**row, "method": "diesel-only baseline, same rules, model", "totals": {"displaced_kg": 612440.0}})
    ledger.close()


def grid(now: datetime) -> Grid:
    return Grid(now.replace(minute=30, second=0), (900.0,) * 12 + (3600.0,) * 22)


def plan(now: datetime, soc: float) -> Plan:
    steps = grid(now)
    powers: dict[str, list[float]] = {a: [] for a in ("pv1", "hydro1", "dg1", "dg2", "dg3", "inv1", "desal1")}
    socs, loads = [soc], []
    for at, seconds in zip(steps.starts(), steps.step_s, strict=True):
        f = flows(at + timedelta(seconds=seconds / 2), socs[-1])
        for a, values in powers.items():
            values.append(f.get(a, 0.0))
        loads.append(f["load"])
        socs.append(max(0.1, min(0.95, socs[-1] - f["inv1"] * seconds / 3600 / 2000)))
    on = {a: tuple(p > 1 for p in powers[a]) for a in ("dg1", "dg2", "dg3", "desal1")}
    unmet = (
        Unmet(
            "soc_floor",
            now,
            40.0,
            "kWh",
            "Tomorrow at 05:00 the battery is 40 kWh under the wished floor.",
            "明日 05:00 に蓄電池が目標下限を 40 kWh 下回ります。",
        ),
    )
    kept = {a: tuple(values) for a, values in powers.items()}
    return Plan(
        "plan-17",
        now,
        now + timedelta(hours=2),
        "mpc",
        steps,
        kept,
        on,
        {"bess1": tuple(socs)},
        tuple(loads),
        (0.0,) * steps.n_steps,
        unmet=unmet,
        deferrables=("desal1",),
    )


def forecast(now: datetime) -> Forecast:
    steps = grid(now)
    return Forecast(steps, tuple(flows(at, 0.5)["load"] for at in steps.starts()), {"pv1": tuple(flows(at, 0.5)["free"] for at in steps.starts())}, {})


def wire(events: list[tuple[str, Any]]) -> int:
    """Bytes that these events take on the stream."""
    return sum(len(f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()) for name, data in events)
