"""Loading a site: every kind of mistake is refused with file, line, path and what was expected."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.config.load import load_site
from ems.config.site import Diesel
from ems.config.yaml import written
from ems.errors import BadInput

ROOT = Path(__file__).parents[3]
GOOD = """\
site: {id: test, timezone: Asia/Tokyo, latitude: 35.0}
control: {stage: shadow}
planner: {grid: [[5, 12], [15, 12]]}
baseline: {assets: [dg1]}
assets:
  - {id: town, kind: load, peak_kw: 200, feeders: [{id: f1, share: 0.4}, {id: f2, share: 0.6}]}
  - {id: dg1, kind: diesel, rated_kw: 300, forming: isochronous}
  - {id: dg2, kind: diesel, rated_kw: 300, forming: droop}
  - {id: inv1, kind: inverter, rated_kw: 200}
  - {id: bess1, kind: battery, behind: inv1, capacity_kwh: 400, charge_kw: 200, discharge_kw: 200}
  - {id: hydro1, kind: hydro, rated_kw: 100, head_m: 40, design_flow_m3s: 0.32}
  - {id: pump1, kind: deferrable, rated_kw: 20, daily_kwh: 100}
  - {id: tank1, kind: tank, capacity_l: 5000}
  - {id: m1, kind: meter, measures: dg1}
"""
DEVICE = 'forming: droop, device: {profile: generic-diesel, url: "tcp://10.0.0.1:502", unit: 2}'
MISTAKES = [  # what stands in the good file, what instead, the path, the line
    ("timezone: Asia/Tokyo", "timezone: Asia/Atlantis", "site.timezone", 1),
    ("latitude: 35.0", "latitude: 95", "site.latitude", 1),
    ("latitude: 35.0", "nominal_hz: 55", "site.nominal_hz", 1),
    ("latitude: 35.0", "name: Test", "site.name", 1),
    ("stage: shadow", "stage: live", "control.stage", 2),
    ("stage: shadow", "cycle_s: 0", "control.cycle_s", 2),
    ("control:", "contrl:", "contrl", 2),
    ("[5, 12]", "[30, 12]", "planner.grid", 3),
    ("planner: {", "planner: {forecast: clearsky, ", "planner.forecast", 3),  # it has no longitude
    ("planner: {", "planner: {forecast: tea-leaves, ", "planner.forecast", 3),
    ("[5, 12]", "[5, 1.5]", "planner.grid[0][1]", 3),
    ("[5, 12]", "[5]", "planner.grid[0][1]", 3),
    ("planner: {", "rules: {diesel_stop_soc: 0.2} #", "rules.diesel_stop_soc", 3),
    ("baseline: {assets: [dg1]}", "baseline: {assets: [dg7]}", "baseline.assets[0]", 4),
    ("baseline: {assets: [dg1]}", "baseline: {assets: [inv1]}", "baseline.assets[0]", 4),
    ("rated_kw: 300, forming: isochronous", "rated_kw: 210, forming: isochronous", "baseline.assets", 4),
    ("baseline: {assets: [dg1]}", "economics: {discount_rate: 0.05, years: 20, capex: {pv9: 1}}", "economics.capex.pv9", 4),
    ("baseline: {assets: [dg1]}", "mrv: {methodology: X, start: 2026-01-01, project_assets: [dg1, pv9], reference_t_per_mwh: 0.5}", "mrv.project_assets[1]", 4),
    ("peak_kw: 200", "peak_kw: 200, power_factor: 85", "assets[0].power_factor", 6),
    ("share: 0.6", "share: 0.5", "assets[0].feeders", 6),
    ("id: f2", "id: dg1", "assets[1].id", 7),
    ("id: dg2", "id: dg1", "assets[2].id", 8),
    ("rated_kw: 300, forming: iso", "rated_kw: -300, forming: iso", "assets[1].rated_kw", 7),
    ("rated_kw: 300, forming: iso", 'rated_kw: "300", forming: iso', "assets[1].rated_kw", 7),
    ("rated_kw: 300, forming: iso", "rated_kw: yes, forming: iso", "assets[1].rated_kw", 7),
    ("rated_kw: 300, forming: iso", "rated_kw: true, forming: iso", "assets[1].rated_kw", 7),
    ("rated_kw: 300, forming: iso", "rated_kw: .nan, forming: iso", "assets[1].rated_kw", 7),
    ("rated_kw: 300, forming: iso", "rated_kw: .inf, forming: iso", "assets[1].rated_kw", 7),
    ("rated_kw: 300, forming: iso", "rated_kw: , forming: iso", "assets[1].rated_kw", 7),
    ("rated_kw: 300, forming: iso", "forming: iso", "assets[1].rated_kw", 7),
    ("forming: droop", "forming: isochronous", "assets[2].forming", 8),
    ("forming: droop", "min_loading: 30", "assets[2].min_loading", 8),
    ("forming: droop", "min_loadng: 0.3", "assets[2].min_loadng", 8),
    ("forming: droop", "rated_kva: 250", "assets[2].rated_kw", 8),
    ("forming: droop", "fuel: {points: [[100, 30], [50, 40]]}", "assets[2].fuel.points", 8),
    ("forming: droop", "fuel: {slope_l_per_kwh: 0}", "assets[2].fuel.slope_l_per_kwh", 8),
    ("forming: droop", "device: {profile: no-such-maker, url: 'tcp://10.0.0.1:502'}", "assets[2].device.profile", 8),
    ("forming: droop", "device: {profile: beside.yaml, url: 'tcp://10.0.0.1:502'}", "assets[2].device.profile", 8),
    ("forming: droop", "device: {profile: generic-solar, url: 'tcp://10.0.0.1:502'}", "assets[2].device.profile", 8),
    ("forming: droop", "device: {profile: generic-diesel}", "assets[2].device.url", 8),
    ("forming: droop", "device: {profile: generic-diesel, url: 10.0.0.1}", "assets[2].device.url", 8),
    ("forming: droop", "device: {profile: generic-diesel, url: 'opc.tcp://10.0.0.1:4840'}", "assets[2].device.url", 8),
    ("forming: droop", "device: {profile: generic-diesel, url: 'tcp://10.0.0.1:502', password: x}", "assets[2].device.password", 8),
    ("rated_kw: 200}", "rated_kw: 200, efficiency: 1.2}", "assets[3].efficiency", 9),
    ("rated_kw: 200}", "rated_kw: 0.1, rated_kva: 200}", "assets[3].rated_kw", 9),
    ("rated_kw: 200}", "rated_kw: 200000}", "assets[3].rated_kw", 9),
    ("rated_kw: 200}", "rated_kw: 200, device: {profile: generic-inverter, url: 'opc.tcp://10.0.0.1:4840'}}", "assets[3].device.security", 9),
    ("behind: inv1, ", "", "assets[4].behind", 10),
    ("behind: inv1", "behind: inv2", "assets[4].behind", 10),
    ("behind: inv1", "behind: dg1", "assets[4].behind", 10),
    ("capacity_kwh: 400", "capacity_kwh: 400, soc_max: 95", "assets[4].soc_max", 10),
    ("capacity_kwh: 400", "capacity_kwh: 400, soc_min: 0.95", "assets[4].soc_max", 10),
    ("capacity_kwh: 400", "capacity_kwh: 400, charge_limit_curve: [[1.0, 0.2], [0.9, 1.0]]", "assets[4].charge_limit_curve", 10),
    ("capacity_kwh: 400", "capacity_kwh: 400, cycle_life: [[0.0, 9000], [0.8, 3000]]", "assets[4].cycle_life", 10),
    ("capacity_kwh: 400", "capacity_kwh: 400, cycle_life: [[0.5, 0], [0.8, 0]]", "assets[4].cycle_life", 10),
    ("capacity_kwh: 400", "capacity_kwh: 400, cycle_life: [[0.5, 3000], [0.8, 9000]]", "assets[4].cycle_life", 10),
    ("capacity_kwh: 400", "capacity_kwh: 400000", "assets[4].capacity_kwh", 10),
    ("design_flow_m3s: 0.32", "design_flow_m3s: 0.2", "assets[5].design_flow_m3s", 11),
    ("head_m: 40", "head_m: 40, efficiency_curve: [[0.8, 1.02], [0.4, 0.8], [1.0, 1.0]]", "assets[5].efficiency_curve", 11),
    ("head_m: 40", "head_m: 40, efficiency_curve: [[1.0, 1.0]]", "assets[5].efficiency_curve", 11),
    ("head_m: 40", "head_m: 40, efficiency_curve: [[0.4, 0.8], [0.9, 1.0]]", "assets[5].efficiency_curve", 11),
    ("head_m: 40", "head_m: 40, efficiency_curve: [[0.4, 0.8], [1.0, 0.98]]", "assets[5].efficiency_curve", 11),
    ("head_m: 40", "head_m: 40, efficiency_curve: [[0.0, 0.8], [1.0, 1.0]]", "assets[5].efficiency_curve", 11),
    ("head_m: 40", "head_m: 40, efficiency_curve: [[0.4, 80], [1.0, 1.0]]", "assets[5].efficiency_curve", 11),
    ("head_m: 40", "head_m: 40, efficiency_curve: [[0.98, 1.04], [1.0, 1.0]]", "assets[5].efficiency_curve", 11),
    ("head_m: 40", "head_m: 35, efficiency_curve: [[0.8, 1.05], [1.0, 1.0]]", "assets[5].efficiency_curve", 11),
    ("head_m: 40", "min_kw: 120, head_m: 40", "assets[5].min_kw", 11),
    ("daily_kwh: 100", "daily_kwh: 500", "assets[6].daily_kwh", 12),
    ("daily_kwh: 100", 'window: ["22:00", "06:00"]', "assets[6].window", 12),
    ("daily_kwh: 100", 'window: ["6", "22:00"]', "assets[6].window[0]", 12),
    ("capacity_l: 5000", "capacity_l: 5000, unusable_l: 6000", "assets[7].unusable_l", 13),
    ("capacity_l: 5000", "capacity_l: 5000, feeds: [dg1, dg9]", "assets[7].feeds[1]", 13),
    ("capacity_l: 5000", "capacity_l: 5000, deliveries: [{date: tomorrow, litres: 100}]", "assets[7].deliveries[0].date", 13),
    ("measures: dg1", "measures: pv9", "assets[8].measures", 14),
    ("measures: dg1", "measures: dg1, calibrated_from: 2026-01-01, calibrated_until: 2025-01-01", "assets[8].calibrated_until", 14),
    ("kind: meter", "kind: metre", "assets[8].kind", 14),
    ("kind: meter, ", "", "assets[8].kind", 14),
]


def write(folder: Path, text: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(text, "utf-8")
    return path


def refused(folder: Path, text: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        load_site(write(folder, text))
    return caught.value


def test_a_good_site_is_taken(tmp_path: Path):
    loaded = load_site(write(tmp_path, GOOD))
    assert loaded.lines["assets[1].rated_kw"] == 7
    assert len(loaded.sha256) == 64
    assert loaded.profiles["f1"].kind == "feeder"
    assert loaded.profiles["hydro1"].points["power_kw"].node == "ns=2;s=hydro1.Power"
    assert set(loaded.profiles) == set(loaded.site.ids)


@pytest.mark.parametrize(("old", "new", "path", "line"), MISTAKES)
def test_a_mistake_is_named_with_its_path_and_line(tmp_path: Path, old: str, new: str, path: str, line: int):
    assert old in GOOD
    error = refused(tmp_path, GOOD.replace(old, new, 1))
    assert error.where == f"{tmp_path / 'site.yaml'}:{line} {path}"
    assert error.expected


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        (GOOD.replace("kind: meter,", "kind: meter, kind: meter,"), 14, "duplicate"),
        (GOOD.replace("[[5, 12], [15, 12]]", "[[5, 12], [15, 12]"), 3, "expected"),
        (GOOD + "control: {stage: shadow}\n", 15, "duplicate"),
        (GOOD + "\tx: 1\n", 15, "token"),
        ("just text\n", 1, "mapping"),
        ("- a list\n", 1, "mapping"),
        ("1: {id: x}\n", 1, "not a name"),
    ],
)
def test_what_is_no_yaml_mapping_names_the_line(tmp_path: Path, text: str, line: int, word: str):
    error = refused(tmp_path, text)
    assert error.where.startswith(f"{tmp_path / 'site.yaml'}:{line}")
    assert word in error.error


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(BadInput, match="No such file"):
        load_site(tmp_path / "nothing.yaml")
    assert "empty" in refused(tmp_path, "# nothing\n").error
    (tmp_path / "site.yaml").write_bytes(b"site: {id: \xff}")
    with pytest.raises(BadInput, match="UTF-8"):
        load_site(tmp_path / "site.yaml")
    with pytest.raises(BadInput, match="cannot read"):
        load_site(tmp_path)


def test_an_alias_that_contains_itself_is_refused(tmp_path: Path):
    assert "contains itself" in refused(tmp_path, "site: &a {id: test, name: *a}\nassets: []\n").error


def test_an_error_in_another_unit_suggests_it(tmp_path: Path):
    assert "if it is in MW write 150" in refused(tmp_path, GOOD.replace("rated_kw: 200}", "rated_kw: 0.15}")).error
    assert "if it is in W write 200" in refused(tmp_path, GOOD.replace("rated_kw: 200}", "rated_kw: 200000}")).error
    assert "95 % is 0.95" in refused(tmp_path, GOOD.replace("capacity_kwh: 400", "capacity_kwh: 400, soc_max: 95")).expected
    assert "min_loading?" in refused(tmp_path, GOOD.replace("forming: droop", "min_loadng: 0.3")).expected


def test_a_site_that_nobody_can_hold(tmp_path: Path):
    lame = "site: {id: test}\nassets:\n  - {id: town, kind: load, peak_kw: 200}\n"
    for asset in (
        "{id: pv1, kind: solar, rated_kw: 100}",
        "{id: dg1, kind: diesel, rated_kw: 300, forming: never}",
        "{id: i1, kind: inverter, rated_kw: 200, forming: droop}",
    ):
        error = refused(tmp_path, f"{lame}  - {asset}\n")
        assert error.where.endswith(":2 assets")
        assert "can form" in error.error


def test_two_devices_at_one_address(tmp_path: Path):
    both = GOOD.replace("forming: isochronous", DEVICE.replace("droop", "isochronous")).replace("forming: droop}", DEVICE + "}")
    error = refused(tmp_path, both)
    assert error.where.endswith(":8 assets[2].device")
    assert "'dg1'" in error.error
    load_site(write(tmp_path, both.replace("unit: 2", "unit: 3", 1)))  # another unit behind the same gateway
    load_site(write(tmp_path, both.replace("10.0.0.1", "10.0.0.2", 1)))


SHARED = GOOD.replace("rated_kw: 200}", 'rated_kw: 200, device: {profile: battery-pcs, url: "tcp://10.0.0.1:502", unit: 2}}').replace(
    "discharge_kw: 200}", 'discharge_kw: 200, device: {profile: PROFILE, url: "tcp://10.0.0.1:502", unit: 2}}'
)


@pytest.mark.parametrize(
    ("points", "commands", "clash"),
    [
        ("soc: {address: 305, type: uint16, unit: pct}", "", None),
        ("soc: {address: 303, type: uint16, unit: pct}", "", "unit 2 holding 303"),
        ("soc: {address: 302, type: float32, unit: pct}", "", "unit 2 holding 302"),
        ("soc: {address: 303, table: input, type: uint16, unit: pct}", "", None),
        ("fault: {address: 310, type: uint16, bit: 9}", "", None),
        ("fault: {address: 310, type: uint16, bit: 5}", "", "unit 2 holding 310"),
        ("soc: {address: 400, type: uint16, unit: pct}", "", None),  # what is only read where the inverter is written
        ("soc: {address: 305, type: uint16, unit: pct}", "heartbeat: {address: 499, type: uint16}", "unit 2 holding 499"),
    ],
)
def test_a_battery_in_the_modbus_unit_of_its_inverter(tmp_path: Path, points: str, commands: str, clash: str | None):
    """An integrated storage unit is two assets in one register map: what the one occupies is not the other's."""
    (tmp_path / "mine.yaml").write_text(f"profile: mine\nkind: battery\nprotocol: modbus\npoints:\n  {points}\n{commands}\n", "utf-8")
    site = SHARED.replace("PROFILE", "mine.yaml")
    if clash is None:
        assert load_site(write(tmp_path, site)).profiles["bess1"].profile == "mine"
        return
    error = refused(tmp_path, site)
    assert error.where.endswith(":10 assets[4].device")
    assert "'inv1'" in error.error and clash in error.error


def test_two_assets_on_one_opcua_server(tmp_path: Path):
    two = """\
site: {id: test}
assets:
  - {id: town, kind: load, peak_kw: 200}
  - {id: dg1, kind: diesel, rated_kw: 300}
  - {id: h1, kind: hydro, rated_kw: 100, device: {profile: PROFILE, url: "opc.tcp://127.0.0.1:4840"}}
  - {id: h2, kind: hydro, rated_kw: 100, device: {profile: PROFILE, url: "opc.tcp://127.0.0.1:4840"}}
"""
    load_site(write(tmp_path, two.replace("PROFILE", "generic-hydro")))  # its nodes carry the asset's id
    fixed = (ROOT / "configs/profiles/generic-hydro.yaml").read_text("utf-8").replace("{id}", "Hydro")
    (tmp_path / "fixed.yaml").write_text(fixed, "utf-8")
    assert refused(tmp_path, two.replace("PROFILE", "fixed.yaml")).where.endswith(":6 assets[3].device")


def test_two_batteries_behind_one_inverter_and_two_tanks_for_one_diesel(tmp_path: Path):
    second = "  - {id: bess2, kind: battery, behind: inv1, capacity_kwh: 400, charge_kw: 200, discharge_kw: 200}\n"
    assert refused(tmp_path, GOOD + second).where.endswith(":10 assets[4].behind")
    tanks = GOOD.replace("capacity_l: 5000", "capacity_l: 5000, feeds: [dg1]") + "  - {id: tank2, kind: tank, capacity_l: 100, feeds: [dg1]}\n"
    assert refused(tmp_path, tanks).where.endswith(":15 assets[9].feeds[0]")


def test_a_mistake_in_a_profile_names_the_profile(tmp_path: Path):
    (tmp_path / "beside.yaml").write_text(
        "profile: beside\nkind: diesel\nprotocol: modbus\npoints:\n  power_kw: {address: 1, type: int16, unit: hp}\n", "utf-8"
    )
    error = refused(tmp_path, GOOD.replace("forming: droop", "device: {profile: beside.yaml, url: 'tcp://10.0.0.1:502'}"))
    assert error.where == f"{tmp_path / 'beside.yaml'}:5 points.power_kw.unit"


@given(text=st.text(max_size=60))
def test_no_text_ends_in_anything_but_a_clear_error(text: str, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("fuzz") / "site.yaml"
    path.write_text(text, "utf-8", errors="replace")
    with pytest.raises(BadInput) as caught:
        load_site(path)
    assert caught.value.error
    assert caught.value.where


def test_paths_are_written_from_the_root():
    assert written(("assets", 2, "fuel", "points", 0)) == "assets[2].fuel.points[0]"


@pytest.mark.parametrize(
    ("name", "series", "peak_kw", "column"),
    [("ouessant", "ouessant_2016_1h", 1707, None), ("river", "composite_2016_1h", 1707, "river.inflow_m3s"), ("village", "village_1h", 120, None)],
)
def test_a_shipped_site_fits_its_series(name: str, series: str, peak_kw: float, column: str | None):
    site = load_site(ROOT / "configs" / "sites" / f"{name}.yaml").site
    with (ROOT / "configs" / "series" / f"{series}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert max(float(r["load_kw"]) for r in rows) == peak_kw
    assert peak_kw <= site.peak_kw <= 1.01 * peak_kw
    assert all(c.endswith(("load_kw", "air_temp_c", "wind_speed_ms")) or c in ("time", column) or c.split(".")[0] in site.ids for c in rows[0])
    assert max(float(r["pv1.available_kw"]) for r in rows) <= site.asset("pv1").rated_kw  # type: ignore[union-attr]
    fleet = [d.rated_kw for d in site.of(Diesel)]
    assert sum(fleet) - (max(fleet) if len(fleet) > 1 else 0) >= site.peak_kw  # firm without the largest set


def test_the_village_is_the_island_made_small():
    tables = []
    for series in ("composite_2016_1h", "village_1h"):
        with (ROOT / "configs" / "series" / f"{series}.csv").open(encoding="utf-8") as file:
            tables.append({r["time"]: float(r["load_kw"]) for r in csv.DictReader(file)})
    island, village = tables
    assert village == {t: pytest.approx(load * 120 / 1707, abs=0.0051) for t, load in island.items()}


@pytest.mark.parametrize(
    ("control", "text", "words"),
    [
        ("{stage: control, cycle_s: 35}", GOOD, ("'town'", "35 s", "30 s", "generic-load", "at most 10")),
        ("{stage: control, cycle_s: 11}", GOOD, ("11 s", "30 s")),
        ("{stage: control, cycle_s: 10}", GOOD, ()),
        ("{stage: control}", GOOD, ()),
        ("{stage: advise, cycle_s: 35}", GOOD, ()),  # nothing is written, no heartbeat is missed
        ("{stage: control, cycle_s: 5}", GOOD.replace("forming: droop", DEVICE.replace("generic-diesel", "genset-command-word")), ("'dg2'", "10 s", "3.33")),
    ],
)
def test_a_cycle_longer_than_a_third_of_the_devices_silence_is_refused(tmp_path: Path, control: str, text: str, words: tuple[str, ...]):
    text = text.replace("{stage: shadow}", control)
    if not words:
        load_site(write(tmp_path, text))
        return
    error = refused(tmp_path, text)
    assert error.where == f"{tmp_path / 'site.yaml'}:2 control.cycle_s"
    assert [word for word in words if word not in f"{error.error} {error.expected}"] == []
