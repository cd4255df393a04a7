from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.config.site import Site
from ems.decision import AssetDecision, Decision, Event, Reserve, Write
from ems.memory import BlackStart, FeederMemory, Manual, Memory, Pending, RuleChoice, UnitMemory
from ems.model import AssetImage, Image, Limits, Outcome, Quality, Reading, Request, Status, Telemetry
from ems.plan import Forecast, Grid, Plan, Target, Unmet
from ems.record import ClockInfo, Record, explain_document, pack, record, state_document, unpack
from ems.terms import Alarm, Explanation, Mode, Phase, Reason, Stage

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
SITE = Site.model_validate(
    {
        "site": {"id": "isle"},
        "assets": [
            {"id": "town", "kind": "load", "peak_kw": 600, "feeders": [{"id": "f1", "share": 0.75}, {"id": "f2", "share": 0.25}]},
            {"id": "pv1", "kind": "solar", "rated_kw": 300},
            {"id": "dg1", "kind": "diesel", "rated_kw": 500},
            {"id": "inv1", "kind": "inverter", "rated_kw": 300, "forming": "droop"},
            {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 600, "charge_kw": 300, "discharge_kw": 300},
        ],
    }
)
STATE = [
    "cycle",
    "time",
    "mode",
    "stage",
    "load_kw",
    "frequency_hz",
    "voltage_v",
    "unserved_kw",
    "renewable_fraction",
    "formers",
    "reserve",
    "plan",
    "co2",
    "alarms",
    "clock",
    "feeders",
    "assets",
]
PARTS = {
    "reserve": ["required_kw", "available_kw", "down_kw", "hold_s", "energy_kwh", "time_to_empty_s", "contingency"],
    "plan": ["id", "age_s", "valid_until", "source"],
    "co2": ["displaced_kg_today", "displaced_t_total"],
    "alarms": ["active"],
    "clock": ["synced", "offset_s"],
}
ASSET = ["kind", "power_kw", "setpoint_kw", "quality", "age_s", "reason", "limited_by", "control", "ready", "follows"]

POINTS: dict[str, dict[str, float | None]] = {
    "town": {"power_kw": 400.0},
    "f1": {"power_kw": 300.0, "breaker_closed": 1.0},
    "f2": {"power_kw": 100.0, "breaker_closed": 1.0},
    "pv1": {"power_kw": 150.0, "available_kw": 180.0},
    "dg1": {"power_kw": 200.0, "running": 1.0, "remote": 0.0},
    "inv1": {"power_kw": 50.0, "forming": 0.0, "ready": 1.0},
    "bess1": {"power_kw": 52.0, "soc": 0.6},
}
KINDS = {"town": "load", "f1": "feeder", "f2": "feeder", "pv1": "solar", "dg1": "diesel", "inv1": "inverter", "bess1": "battery"}
PLAN = Plan("p7", NOW - timedelta(seconds=90), NOW + timedelta(hours=1), "mpc", Grid(NOW, (300.0,)), {"dg1": (200.0,)}, {"dg1": (True,)}, {}, (400.0,), (0.0,))


def image(**points: dict[str, float | None]) -> Image:
    merged = {a: {**found, **points.get(a, {})} for a, found in POINTS.items()}
    assets = {a: AssetImage(a, KINDS[a], values, Quality.GOOD, 0.2) for a, values in merged.items()}
    return Image(41, NOW, 100.0, 1.0, assets, merged["town"]["power_kw"] or 0.0, True, 50.01, 401.0)


def decision(**changed: object) -> Decision:
    plain = Decision(
        mode=Mode.AUTO,
        stage=Stage.CONTROL,
        formers=("dg1",),
        leader="dg1",
        assets={
            "pv1": AssetDecision(150.0, None, Explanation(Reason.PLAN, ("surplus",), {"free_kw": 30.0, "former": "dg1"})),
            "dg1": AssetDecision(200.0, True, Explanation(Reason.FORMING)),
            "inv1": AssetDecision(50.0, True, Explanation(Reason.RULES)),
        },
        writes=(Write("pv1", "limit_kw", 150.0),),
        heartbeat=True,
        reserve=Reserve(150.0, 250.0, 100.0, 900.0, 300.0, None, "loss of pv1"),
        plan_id="p7",
        plan_source="mpc",
        alarms=(Alarm("silent", "major", "pv1", "silent", "応答なし"), Alarm("note", "info", None, "a", "b")),
        events=(Event("mode", None, "start -> auto"),),
        outcomes=(Outcome(3, Status.DONE, None, "in force"),),
        memory=Memory(units={"dg1": UnitMemory(Phase.ONLINE, 10.0)}),
    )
    return replace(plain, **changed)  # type: ignore[arg-type]


def state(seen: Image, decided: Decision | None = None, plan: Plan | None = PLAN) -> dict[str, object]:
    totals = {"displaced_kg_today": 12.5, "displaced_t_total": 3.25}
    return state_document(SITE, seen, decided or decision(), plan, totals, ClockInfo(True, 0.001))


def test_the_state_has_every_key_of_the_contract_and_is_json() -> None:
    found = json.loads(json.dumps(state(image()), allow_nan=False))
    assert set(STATE) <= set(found)
    for part, names in PARTS.items():
        assert set(names) <= set(found[part]), part
    assert set(found["assets"]) == {"town", "pv1", "dg1", "inv1", "bess1"}
    for asset, values in found["assets"].items():
        assert set(ASSET) <= set(values), asset
    assert set(found["feeders"]) == {"f1", "f2"}


def test_the_state_says_what_was_measured_and_decided() -> None:
    found = json.loads(json.dumps(state(image())))
    assert (found["cycle"], found["time"], found["mode"], found["stage"]) == (41, "2026-03-01T12:00:00.123456Z", "auto", "control")
    assert (found["load_kw"], found["unserved_kw"], found["formers"]) == (400.0, 0.0, ["dg1"])
    assert found["renewable_fraction"] == pytest.approx(0.5)
    assert found["plan"] == {"id": "p7", "age_s": 90.0, "valid_until": "2026-03-01T13:00:00.123456Z", "source": "mpc"}
    assert found["alarms"] == {"active": 1}
    dg1, pv1, bess1 = (found["assets"][a] for a in ("dg1", "pv1", "bess1"))
    assert (dg1["setpoint_kw"], dg1["control"], dg1["running"], dg1["state"], dg1["rated_kw"]) == (None, "local", True, "online", 500.0)
    assert (pv1["setpoint_kw"], pv1["available_kw"], pv1["reason"], pv1["limited_by"]) == (150.0, 180.0, "plan", ["surplus"])
    assert (bess1["soc"], bess1["reason"], bess1["limited_by"]) == (0.6, None, [])


def test_a_plan_that_was_not_followed_is_not_shown() -> None:
    found = state(image(), decision(plan_id=None, plan_source="load-following"))
    assert found["plan"] == {"id": None, "age_s": None, "valid_until": None, "source": "load-following"}


def test_what_cannot_be_seen_stays_in_the_picture_without_a_number() -> None:
    seen = image()
    blind = {**seen.assets, "dg1": AssetImage("dg1", "diesel", {}, Quality.BAD, None)}
    del blind["pv1"]
    found = json.loads(json.dumps(state(replace(seen, assets=blind))))
    assert (found["assets"]["dg1"]["power_kw"], found["assets"]["dg1"]["quality"], found["assets"]["dg1"]["ready"]) == (None, "bad", False)
    assert (found["assets"]["pv1"]["power_kw"], found["assets"]["pv1"]["quality"]) == (None, "bad")
    assert found["renewable_fraction"] is None


@pytest.mark.parametrize(
    ("f2", "known", "shed_by"),
    [
        ({"breaker_closed": 1.0}, FeederMemory(0.0), None),
        ({"breaker_closed": 0.0}, FeederMemory(0.0, "relay"), "relay"),
        ({"breaker_closed": 0.0}, FeederMemory(0.0, "local"), "local"),
        ({"breaker_closed": 0.0}, FeederMemory(0.0, "operator"), "operator"),
        ({"breaker_closed": 0.0}, FeederMemory(0.0, "ems"), "ems"),
        ({"breaker_closed": 0.0}, None, "local"),  # not one of ours to switch
        ({"breaker_closed": None}, FeederMemory(0.0, "ems"), None),
    ],
)
def test_an_open_feeder_says_who_opened_it(f2: dict[str, float | None], known: FeederMemory | None, shed_by: str | None) -> None:
    memory = replace(decision().memory, feeders={} if known is None else {"f2": known})
    found = json.loads(json.dumps(state(image(f2=f2), decision(memory=memory))))
    assert found["feeders"]["f2"]["shed_by"] == shed_by


def test_unserved_load_is_judged_by_the_shares_and_closes_the_balance() -> None:
    seen = image(town={"power_kw": 300.0}, f2={"power_kw": 0.0, "breaker_closed": 0.0}, dg1={"power_kw": 100.0})
    found = json.loads(json.dumps(state(seen)))
    assert found["unserved_kw"] == pytest.approx(100.0)  # 300 kW is three quarters
    supply = sum(found["assets"][a]["power_kw"] for a in ("pv1", "dg1", "inv1"))
    assert supply + found["unserved_kw"] == pytest.approx(found["load_kw"])


def test_with_every_feeder_open_nobody_knows_what_is_unserved() -> None:
    opened: dict[str, float | None] = {"power_kw": 0.0, "breaker_closed": 0.0}
    assert state(image(town={"power_kw": 0.0}, f1=opened, f2=opened))["unserved_kw"] is None


def test_every_decided_asset_is_explained_in_both_languages() -> None:
    found = explain_document(SITE, decision())
    assert [row["asset"] for row in found] == ["pv1", "dg1", "inv1"]
    assert found[0]["numbers"] == {"free_kw": 30.0, "former": "dg1"}
    assert all(row["text"]["en"] and row["text"]["ja"] and row["text"]["en"] != row["text"]["ja"] for row in found)


MEMORY = Memory(
    mode=Mode.MANUAL,
    mode_since_s=3.5,
    stage=Stage.ADVISE,
    stages={"pv1": Stage.SHADOW},
    rule=RuleChoice(Target(frozenset({"dg1"}), {}, "load-following", loading=0.8), "load-following", frozenset({"dg1"}), frozenset(), frozenset(), True, 5.0),
    units={"dg1": UnitMemory(Phase.STARTING, 1.0, 2.0, 3.0, None, 4.0, 1, (0.5, 1.5), Explanation(Reason.RESERVE, ("x",), {"short_kw": 85.0, "unit": "pv1"}))},
    feeders={"f1": FeederMemory(3.0, "relay", 60.0, 12.5, True, 2.0, 1.0, 0.5, 2, True, Explanation(Reason.SHED, ("energy",), {"lasts_min": 3.0}))},
    in_band_s=12.0,
    overload_s=2.0,
    relief_s=1.0,
    black_start=BlackStart("dg1", "roll_back", 2.0, "kim", 1.0, "energise", "locked", "dg1"),
    estops=frozenset({"dg2"}),
    limits={"pv1": Limits(max_kw=100.0, expires_at=NOW, reason="wind", by="kim", version=9)},
    manual={"dg1": Manual(True, None)},
    pending={12: Pending("dg1", "start", 700.0)},
    setpoints={"pv1": 0.1 + 0.2},
    load_kw=400.0,
    taken_seq=12,
)
TELEMETRY = Telemetry(7, NOW, 1.25, 1.0, {"pv1": {"power_kw": Reading(150.25, Quality.SUSPECT, 0.125), "state": Reading(None, Quality.BAD, 3.0)}, "dg1": {}})
REQUEST = Request(12, "ab", "command", "dg1", {"action": "start", "power_kw": None, "nested": {"a": [1, 2.5, "x", True]}}, "kim", NOW, NOW)
FORECAST = Forecast(Grid(NOW, (300.0, 900.0)), (400.0, 410.0), {"pv1": (1.0, 2.0)}, {}, {"load": "seasonal"}, (420.0, 430.0))


@pytest.mark.parametrize(
    "value",
    [
        TELEMETRY,
        MEMORY,
        Memory(),
        decision(memory=MEMORY),
        PLAN,
        replace(PLAN, unmet=(Unmet("soc", NOW, 3.0, "kWh", "short", "不足"),), objective_l=12.0),
        FORECAST,
        Record(TELEMETRY, (REQUEST,), "p7", "mpc", MEMORY, decision(memory=Memory())),
        Record(TELEMETRY, (), None, "load-following", None, decision(memory=Memory())),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_packed_comes_back_unchanged(value: object) -> None:
    assert unpack(type(value), pack(value)) == value


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text(max_size=4), st.dictionaries(st.text(max_size=4), st.builds(Reading, st.none() | NUMBERS, st.sampled_from(Quality), NUMBERS))))
def test_any_telemetry_comes_back_unchanged(readings: dict[str, dict[str, Reading]]) -> None:
    value = Telemetry(1, NOW, 0.0, 1.0, readings)
    assert unpack(Telemetry, pack(value)) == value


def test_a_record_keeps_the_memory_it_was_handed_and_not_the_one_it_made() -> None:
    found = unpack(Record, record(TELEMETRY, (REQUEST,), "p7", "mpc", MEMORY, decision(memory=MEMORY)))
    assert found.before == MEMORY
    assert found.decision == decision(memory=Memory())


def test_damaged_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="Telemetry"):
        unpack(Telemetry, pack(TELEMETRY)[:-5])
