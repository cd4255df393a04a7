"""`ems check`: the resolved site in words and in JSON, and the points of a plant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from api.cli.check import lines, verdict
from api.cli.main import run
from ems.config.load import load_site

SITE = """\
site: {id: test, name: {en: Test, ja: 試験}}
assets:
  - {id: town, kind: load, peak_kw: 200}
  - {id: dg1, kind: diesel, rated_kw: 300, device: {profile: generic-diesel, url: "tcp://10.0.0.1:502", unit: 7}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE, "utf-8")
    return path


def test_json_is_the_resolved_site(site: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["check", str(site), "--json"]) == 0
    out, err = capsys.readouterr()
    resolved = json.loads(out)
    gone = resolved.pop("if_ems_gone")
    assert [(s["formers"], s["holds"], s["text"]) for s in gone["states"]] == [
        (["dg1"], True, "if the EMS is gone while dg1 holds the busbar: dg1 goes on; dg1 holds")
    ]
    assert resolved["assets"][1]["fuel"] == {"no_load_l_per_h": pytest.approx(6.3), "slope_l_per_kwh": 0.249, "points": []}
    assert resolved["site"]["name"]["ja"] == "試験"
    assert err == ""
    site.write_text(json.dumps(resolved), "utf-8")  # JSON is YAML: what is resolved is a site file again
    assert load_site(site).site.model_dump(mode="json", by_alias=True) == resolved


def test_text_has_units(site: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["check", str(site)]) == 0
    out = capsys.readouterr().out
    assert "control: cycle 1 s, stage shadow, start timeout 30 s" in out
    assert "dg1  diesel: rated 300 kW, rated 375 kVA" in out
    assert "fuel {no load 6.3 L/h, slope 0.249 L/kWh}" in out
    assert "generic-diesel at tcp://10.0.0.1:502 unit 7" in out
    assert "town-f1  feeder: priority 1, share 1; simulated only" in out
    assert "dg1  device: gives measurements, counts energy, fuel or hours, tells its faults," in out
    assert "town  device" not in out


def test_every_number_with_a_unit_in_its_name_is_shown_with_it():
    shown = list(lines({"x": {"slope_l_per_kwh": 1, "density_kg_per_l": 2, "ramp_kw_per_s": 3, "flow_m3s": 4, "on": True, "none": None, "empty": []}}))
    assert shown == ["x: slope 1 L/kWh, density 2 kg/L, ramp 3 kW/s, flow 4 m3/s, on yes"]


def test_a_mistake_is_one_line_and_one_document(site: Path, capsys: pytest.CaptureFixture[str]):
    site.write_text(SITE.replace("rated_kw: 300", "rated_kw: -300"), "utf-8")
    assert run(["check", str(site)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"ems: {site}:4 assets[1].rated_kw: rated_kw cannot be -300 (expected greater than 0)"]
    assert run(["check", "--json", str(site)]) == 2
    assert json.loads(capsys.readouterr().out) == {"error": "rated_kw cannot be -300", "where": f"{site}:4 assets[1].rated_kw", "expected": "greater than 0"}


@pytest.mark.parametrize(("quality", "code"), [("good", 0), ("bad", 1)])
def test_probe_fails_when_a_point_does_not_answer(site: Path, quality: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    row: dict[str, Any] = {"asset": "dg1", "point": "power_kw", "value": 12.5 if quality == "good" else None, "unit": "kW", "quality": quality}
    row |= {"age_s": 0.021, "on_silence": {"after_s": 30.0, "does": "start", "value": None}} | ({"cause": "no answer"} if code else {})
    probe = ModuleType("api.probe")
    probe.probe_points = lambda loaded: [row]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "api.probe", probe)
    assert run(["check", str(site), "--probe", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["probe"] == [row]
    assert run(["check", str(site), "--probe"]) == code
    head, probed, last = capsys.readouterr().out.splitlines()[-3:]
    assert ("1 of 1 points could not be read" in last) is (quality == "bad")
    assert head.split() == ["point", "value", "unit", "quality", "age", "on", "silence"]
    shown = (
        "dg1.power_kw  12.5   kW    good     0.02 s  start after 30 s"
        if code == 0
        else "dg1.power_kw  no value  kW    bad: no answer  0.02 s  start after 30 s"
    )
    assert probed == shown


@pytest.mark.parametrize(
    ("devices", "last"),
    [
        (("d", "d"), "a.yaml is valid"),
        (("d", None), "a.yaml is valid; 1 asset has no device: ems simulate a.yaml, or give each a device"),
        ((None, None), "a.yaml is valid; 2 assets have no device: ems simulate a.yaml, or give each a device"),
    ],
)
def test_the_last_line_is_a_verdict(devices: tuple[str | None, ...], last: str):
    assert verdict("a.yaml", {"assets": [{"device": device} for device in devices]}) == last


def test_the_text_ends_with_the_verdict(site: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["check", str(site)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{site} is valid; 1 asset has no device")


SUN = """\
profile: sun
kind: solar
protocol: sunspec
models: [1, 103, 123]
points:
  power_kw: {point: 103.W}
commands:
  limit_kw: {point: 123.WMaxLimPct, unit: pct, of: rated_kw, enable: 123.WMaxLim_Ena}
"""


@pytest.mark.parametrize(
    ("old", "new", "where", "error"),
    [
        ("103.W}", "103.Wx}", ":6 points.power_kw.point", "SunSpec model 103 has no point Wx"),
        ("103.W}", "203.W}", ":6 points.power_kw.point", "203.W is in none of the profile's models"),
        ("[1, 103, 123]", "[1, 103, 123, 9]", ":4 models[3]", "SunSpec model 9 is not known here"),
        ("123.WMaxLim_Ena", "123.Ena", ":8 commands.limit_kw.enable", "SunSpec model 123 has no point Ena"),
        ("enable:", "also: {123.Conn2: 1}, enable:", ":8 commands.limit_kw.also", "SunSpec model 123 has no point Conn2"),
        ("models: [1, 103, 123]", "models: []", ":4 models", "the SunSpec models of the device are not named"),
    ],
)
def test_what_sunspec_does_not_have_is_told_by_file_and_line(tmp_path: Path, old: str, new: str, where: str, error: str, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "sun.yaml").write_text(SUN.replace(old, new, 1), "utf-8")
    site = tmp_path / "site.yaml"
    device = 'device: {profile: sun.yaml, url: "tcp://10.0.0.1:502", unit: 7}'
    site.write_text(SITE + f"  - {{id: pv1, kind: solar, rated_kw: 90, {device}}}\n", "utf-8")
    assert run(["check", str(site), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["error"], told["where"]) == (error, f"{tmp_path / 'sun.yaml'}{where}")
