"""How a site becomes drivers, stores and a loop, and what a probe shows of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api import assembly
from api.assembly import Control, clock_info, control_parts, counter_ends, once, open_drivers, pushed, ratings, site_clock, takes
from api.probe import probe_points, unit_of
from drivers.modbus import ModbusDriver
from drivers.mqtt import MqttDriver
from drivers.opcua import OpcUaDriver
from drivers.store.history import History
from drivers.store.ledger import LedgerReader, LedgerStore
from drivers.store.requests import RequestStore
from drivers.sunspec import SunSpecDriver
from ems.clock import ScaledClock, WallClock, epoch_s
from ems.config.load import LoadedSite, load_site, shipped_profile
from ems.config.profile import Command
from ems.config.site import Site
from ems.errors import BadInput
from ems.memory import Memory
from ems.model import UNNUMBERED, Limits, Outcome, Quality, Request, Status
from ems.record import ClockInfo
from ems.terms import Mode, Stage
from tests.ports import free_port

SITE = """\
site: {{id: isle}}
assets:
  - id: town
    kind: load
    peak_kw: 400
    device: {{profile: generic-load, url: "tcp://127.0.0.1:{port}", unit: 1}}
    feeders:
      - {{id: f1, share: 0.4, device: {{profile: generic-feeder, url: "tcp://127.0.0.1:{port}", unit: 2, timeout_s: 2}}}}
      - {{id: f2, share: 0.6}}
  - {{id: pv1, kind: solar, rated_kw: 300, device: {{profile: sunspec-inverter, url: "tcp://localhost:{port}", unit: 1}}}}
  - {{id: dg1, kind: diesel, rated_kw: 400, forming: isochronous, device: {{profile: generic-diesel, url: "tcp://127.0.0.1:{port}", unit: 3}}}}
  - {{id: inv1, kind: inverter, rated_kw: 200, forming: droop, device: {{profile: generic-inverter, url: "opc.tcp://127.0.0.1:{port}"}}}}
  - {{id: bess1, kind: battery, behind: inv1, capacity_kwh: 400, charge_kw: 200, discharge_kw: 200}}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedSite:
    """A site whose devices nobody serves."""
    path = tmp_path / "site.yaml"
    path.write_text(SITE.format(port=free_port()), encoding="utf-8")
    return load_site(path)


def test_every_device_has_the_driver_of_its_protocol(loaded: LoadedSite) -> None:
    drivers = open_drivers(loaded)
    assert {asset: type(driver) for asset, driver in drivers.items()} == {
        "town": ModbusDriver,
        "f1": ModbusDriver,
        "pv1": SunSpecDriver,
        "dg1": ModbusDriver,
        "inv1": OpcUaDriver,
    }  # bess1 and f2 have no device
    town, feeder, pv, dg = (drivers[a] for a in ("town", "f1", "pv1", "dg1"))
    assert isinstance(town, ModbusDriver) and isinstance(feeder, ModbusDriver) and isinstance(pv, ModbusDriver) and isinstance(dg, ModbusDriver)
    assert town.link is feeder.link is dg.link  # one connection for one url
    assert pv.link is not town.link
    assert (town.link.timeout_s, pv.link.timeout_s) == (2.0, 0.5)  # the longest of its devices
    assert (town.unit, feeder.unit, dg.unit) == (1, 2, 3)
    assert dg.of["rated_kw"] == 400.0


def test_devices_of_one_server_share_a_session_unless_their_security_differs(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    servers = {
        "inv1": ("inverter", "rated_kw: 200, forming: never", "generic-inverter", "opc.tcp://127.0.0.1:4840", ""),
        "inv2": ("inverter", "rated_kw: 200, forming: never", "generic-inverter", "opc.tcp://127.0.0.1:4840", ""),
        "inv3": ("inverter", "rated_kw: 200, forming: never", "generic-inverter", "opc.tcp://127.0.0.1:4840", ", security: {policy: none}"),
        "m1": ("meter", "measures: inv1", "mqtt-meter", "mqtt://127.0.0.1:1883", ""),
        "m2": ("meter", "measures: inv2", "mqtt-meter", "mqtt://127.0.0.1:1883", ""),
    }
    lines = [
        f'  - {{id: {i}, kind: {kind}, {more}, device: {{profile: {profile}, url: "{url}"{security}}}}}'
        for i, (kind, more, profile, url, security) in servers.items()
    ]
    fixed = "site: {id: isle}\nassets:\n  - {id: town, kind: load, peak_kw: 400}\n  - {id: dg1, kind: diesel, rated_kw: 500}\n"
    path.write_text(fixed + "\n".join(lines) + "\n", encoding="utf-8")
    drivers: dict[str, Any] = open_drivers(load_site(path))
    assert {asset: type(driver) for asset, driver in drivers.items()} == dict.fromkeys(("inv1", "inv2", "inv3"), OpcUaDriver) | dict.fromkeys(
        ("m1", "m2"), MqttDriver
    )
    assert drivers["inv1"].link is drivers["inv2"].link
    assert drivers["inv1"].link is not drivers["inv3"].link
    assert drivers["m1"].link is drivers["m2"].link


def test_percentages_may_refer_to_any_number_of_an_asset(loaded: LoadedSite) -> None:
    found = ratings(loaded.site.asset("dg1"))
    assert (found["rated_kw"], found["min_loading"]) == (400.0, 0.3)
    assert all(isinstance(value, float) for value in found.values())


@pytest.mark.parametrize(
    ("profile", "command", "again_s"),
    [
        ("generic-diesel", "power_kw", 10.0),  # as it says
        ("generic-diesel", "running", None),
        ("generic-hydro", "power_kw", 10.0),  # no heartbeat: after 30 s without a write it goes its own way
        ("sunspec-inverter", "limit_kw", 20.0),  # reverts after 60 s
    ],
)
def test_what_expires_is_refreshed_at_a_third_of_its_time(profile: str, command: str, again_s: float | None) -> None:
    assert takes(shipped_profile(profile))[command] == again_s


def test_a_pulse_is_given_the_time_of_a_start_to_show_its_effect(loaded: LoadedSite) -> None:
    diesel, feeder = loaded.site.asset("dg1"), loaded.site.asset("f1")
    assert once(shipped_profile("genset-controller"), diesel) == {"running": pytest.approx(1.5 * 65.0)}
    assert once(shipped_profile("genset-controller"), diesel, speed=24.0) == {"running": 6.0}, "the pulse and five seconds to settle, of real time"
    assert once(shipped_profile("generic-diesel"), diesel) == {}
    pulsed = shipped_profile("generic-feeder").model_copy(update={"commands": {"breaker": Command(address=1, pulse_s=2.0, settle_s=3.0)}})
    assert once(pulsed, feeder) == {"breaker": 5.0}


def test_a_counter_wraps_where_its_profile_or_its_type_says(loaded: LoadedSite) -> None:
    ends = counter_ends(loaded)
    assert ends["dg1.fuel_l"] == pytest.approx(2**32 * 0.1)
    assert "pv1.energy_kwh" not in ends, "nothing is guessed of a SunSpec accumulator"
    said = shipped_profile("genset-paralleling")
    assert counter_ends(replace(loaded, profiles={**loaded.profiles, "dg1": said}))["dg1.fuel_l"] == 99999999.9


def test_the_link_follows_the_url(loaded: LoadedSite) -> None:
    def url(text: str) -> LoadedSite:
        data = loaded.site.model_dump(mode="json", by_alias=True)
        data["assets"][2]["device"] = {"profile": "generic-diesel", "url": text, "unit": 3, "timeout_s": 1.0}
        return replace(loaded, site=Site.model_validate(data))

    made = {text: open_drivers(url(text))["dg1"] for text in ("tcp://h:502", "rtu+tcp://h:4001", "rtu:///dev/ttyS0?baud=19200&parity=E")}
    assert [str(d.link) for d in made.values() if isinstance(d, ModbusDriver)] == ["tcp://h:502", "rtu+tcp://h:4001", "rtu:///dev/ttyS0"]
    gap_s = 3.5 * 11 / 19200
    assert [d.link.gap_s for d in made.values() if isinstance(d, ModbusDriver)] == [0.0, 0.0, pytest.approx(gap_s)]


# ------------------------------------------------------------------ time
@pytest.mark.parametrize(("kernel", "speed", "synced"), [(0, 1.0, True), (5, 1.0, False), (None, 1.0, None), (0, 24.0, None)])
def test_the_clock_is_trusted_as_the_kernel_says(kernel: int | None, speed: float, synced: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "kernel_clock", lambda: kernel)
    assert clock_info(speed) == ClockInfo(synced, None)


def test_at_the_speed_of_the_sun_the_clock_is_the_walls() -> None:
    assert isinstance(site_clock(1.0), WallClock)


def test_processes_with_one_origin_show_one_time_in_utc() -> None:
    origin = epoch_s() - 100.0
    one, two = (site_clock(24.0, origin, "2026-03-01T06:00:00+01:00") for _ in range(2))
    assert isinstance(one, ScaledClock)
    assert one.now().tzinfo is UTC
    assert one.now() - datetime(2026, 3, 1, 5, 40, tzinfo=UTC) < timedelta(minutes=5)
    assert abs(one.now_s() - two.now_s()) < 24.0


# ------------------------------------------------------------------ control
def parts(loaded: LoadedSite, data: Path, told: list[dict[str, Any]], cycle: int = 0) -> Control:
    return control_parts(loaded, data, WallClock(), Stage.SHADOW, cycle, told.append, tuple)


async def closed(control: Control) -> None:
    control.keeper.close()
    await control.fieldbus.close()
    control.history.close()
    control.ledger.close()


async def test_control_goes_on_where_it_stopped(loaded: LoadedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "kernel_clock", lambda: 0)
    ledger = LedgerStore(tmp_path / "ledger.db")
    ledger.commit(datetime(2026, 3, 1, tzinfo=UTC), (), Memory(mode=Mode.AUTO, limits={"pv1": Limits(max_kw=40.0)}, taken_seq=1), 70)
    ledger.close()
    requests = RequestStore(tmp_path / "site.db")
    for number in (1, 2):
        requests.append("limits", "pv1", {"max_kw": 50.0 * number, "reason": "test"}, "hanako", WallClock().now())
    requests.close()
    told: list[dict[str, Any]] = []
    control = parts(loaded, tmp_path, told, cycle=75)
    try:
        assert control.loop.memory.mode is Mode.START
        assert control.loop.memory.limits["pv1"].max_kw == 40.0
        await control.loop.cycle()
        await control.loop.cycle()
    finally:
        await closed(control)
    assert [beat["cycle"] for beat in told] == [76, 77]
    assert control.loop.memory.limits["pv1"].max_kw == 100.0  # the second request; the first had been taken
    assert told[0]["state"]["stage"] == "shadow"
    assert told[0]["state"]["clock"] == {"synced": True, "offset_s": None}
    assert all(counts["opened"] == counts["answered"] == 0 for counts in told[0]["links"].values()), "counted by link, and nobody listens"
    assert len(told[0]["links"]) == 2
    assert told[0]["state"]["assets"]["dg1"]["quality"] == "bad"  # nobody serves it, and it stays in the picture

    again = parts(loaded, tmp_path, told)
    try:
        assert again.loop.completed == 77  # the stores know it too
    finally:
        again.keeper.close()
        again.history.close()
        again.ledger.close()


async def test_what_the_process_before_has_refused_stays_refused(loaded: LoadedSite, tmp_path: Path) -> None:
    """It lived until its last recorded cycle, and could write no refusal down: the ledger was dead. What came after its end is taken."""
    now = WallClock().now()
    ledger, history, requests = LedgerStore(tmp_path / "ledger.db"), History(tmp_path / "history.db"), RequestStore(tmp_path / "site.db")
    ledger.commit(now - timedelta(hours=2), (), Memory(mode=Mode.AUTO), 70)
    refused = requests.append("limits", "pv1", {"max_kw": 50.0, "reason": "test"}, "hanako", now - timedelta(hours=1))
    history.append(90, now - timedelta(minutes=30), {}, b"")
    later = requests.append("limits", "dg1", {"max_kw": 70.0, "reason": "test"}, "hanako", now - timedelta(minutes=20))
    for store in (ledger, history, requests):
        store.close()
    control = parts(loaded, tmp_path, [])
    try:
        await control.loop.cycle()
        assert {a: limits.max_kw for a, limits in control.loop.memory.limits.items()} == {"dg1": 70.0}
        said = LedgerReader(tmp_path / "ledger.db").outcomes([refused.seq, later.seq])
        assert {seq: (row["status"], row["cause"]) for seq, row in said.items()} == {refused.seq: ("rejected", "ledger_dead"), later.seq: ("done", None)}
    finally:
        await closed(control)


async def test_a_pushed_forecast_outlives_a_restart_while_it_is_fresh(loaded: LoadedSite, tmp_path: Path) -> None:
    now = WallClock().now()
    body = {"start": now.replace(minute=0, second=0, microsecond=0).isoformat(), "step_s": 3600, "load_kw": [100.0] * 24, "reason": "test"}
    requests, ledger = RequestStore(tmp_path / "site.db"), LedgerStore(tmp_path / "ledger.db")
    good = requests.append("forecast", None, body, "hanako", now)
    refused = requests.append("forecast", None, {**body, "load_kw": [200.0] * 24}, "hanako", now)
    ledger.commit(now, [Outcome(good.seq, Status.DONE), Outcome(refused.seq, Status.REJECTED, "ledger_dead")], Memory(), 1)
    requests.close()
    ledger.close()
    found = pushed(tmp_path, now + timedelta(hours=1))
    assert found is not None
    assert found.load_kw == (100.0,) * 24
    assert pushed(tmp_path, now + timedelta(hours=25)) is None
    assert pushed(tmp_path / "nowhere", now) is None


async def test_a_storm_warning_outlives_a_restart_until_the_storm_has_passed_or_another_forecast_came(loaded: LoadedSite, tmp_path: Path) -> None:
    now = WallClock().now()
    begin, end = now + timedelta(hours=61), now + timedelta(hours=80)
    body = {"start": now.replace(minute=0, second=0, microsecond=0).isoformat(), "step_s": 3600, "reason": "test"}
    requests, ledger = RequestStore(tmp_path / "site.db"), LedgerStore(tmp_path / "ledger.db")
    storm = requests.append("forecast", None, {**body, "storm": {"start": begin.isoformat(), "until": end.isoformat()}}, "hanako", now)
    ledger.commit(now, [Outcome(storm.seq, Status.DONE)], Memory(), 1)
    found = pushed(tmp_path, now + timedelta(hours=79))
    assert found is not None and found.storm is not None and found.storm.until == end
    assert pushed(tmp_path, end) is None
    later = requests.append("forecast", None, {**body, "load_kw": [100.0] * 24}, "hanako", now + timedelta(hours=1))
    ledger.commit(now, [Outcome(later.seq, Status.DONE)], Memory(), 2)
    requests.close()
    ledger.close()
    found = pushed(tmp_path, now + timedelta(hours=2))
    assert found is not None and found.storm is None
    assert pushed(tmp_path, now + timedelta(hours=30)) is None


async def test_a_stop_past_the_store_is_obeyed_in_the_next_cycle(loaded: LoadedSite, tmp_path: Path) -> None:
    (tmp_path / "site.db").write_bytes(b"not a database" * 1000)
    told: list[dict[str, Any]] = []
    control = parts(loaded, tmp_path, told)
    try:
        await control.loop.cycle()
        control.door.let_in(Request(UNNUMBERED, "x", "stop", None, {"reason": "fire"}, "hanako", WallClock().now()))
        await control.loop.cycle()
        await control.loop.cycle()
    finally:
        await closed(control)
    assert [beat["state"]["mode"] for beat in told] == ["start", "safe", "safe"]
    kept = LedgerStore(tmp_path / "ledger.db").load_memory()
    assert kept is not None and kept[0].stopped, "and it outlives a restart"


async def test_a_damaged_ledger_is_put_aside_and_said(loaded: LoadedSite, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database" * 1000)
    control = parts(loaded, tmp_path, [])
    try:
        assert [alarm.code for alarm in control.notices()] == ["ledger_renewed"]
    finally:
        control.keeper.close()
        control.history.close()
        control.ledger.close()


# ------------------------------------------------------------------ probe
def test_a_probe_shows_every_point_of_every_device_also_of_silent_ones(loaded: LoadedSite) -> None:
    rows = probe_points(loaded)
    assert {row["asset"] for row in rows} == {"town", "f1", "pv1", "dg1", "inv1"}
    assert {row["point"] for row in rows if row["asset"] == "dg1"} == set(loaded.profiles["dg1"].points)
    assert all(row["quality"] == Quality.BAD and row["value"] is None and row["cause"] for row in rows)
    power = next(row for row in rows if (row["asset"], row["point"]) == ("dg1", "power_kw"))
    assert power["unit"] == "kW"
    assert power["on_silence"]["does"] == "start"


def test_a_site_without_devices_cannot_be_probed(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("site: {id: isle}\nassets:\n  - {id: town, kind: load, peak_kw: 400}\n  - {id: dg1, kind: diesel, rated_kw: 500}\n", encoding="utf-8")
    with pytest.raises(BadInput, match="no asset has a device"):
        probe_points(load_site(path))


@pytest.mark.parametrize(
    ("profile", "point", "unit"),
    [
        ("generic-diesel", "power_kw", "kW"),
        ("generic-diesel", "fuel_l", "L"),
        ("generic-diesel", "running", None),
        ("generic-battery", "soc", "1"),
        ("generic-hydro", "flow_m3s", "m3/s"),
        ("generic-weather", "ghi_wm2", "W/m2"),
        ("sunspec-inverter", "power_kw", "kW"),
    ],
)
def test_a_probe_shows_house_units(profile: str, point: str, unit: str | None) -> None:
    assert unit_of(point, shipped_profile(profile).points[point]) == unit
