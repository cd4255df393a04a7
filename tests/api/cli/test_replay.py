"""`ems replay` from outside: documents, files, options and their errors."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api.cli.main import run

SITE = """
site: {id: islet}
assets:
  - {id: town, kind: load, peak_kw: 300}
  - {id: pv1, kind: solar, rated_kw: 200}
  - {id: dg1, kind: diesel, rated_kw: 300}
  - {id: dg2, kind: diesel, rated_kw: 300}
  - {id: inv1, kind: inverter, rated_kw: 200, forming: droop}
  - {id: bess1, kind: battery, behind: inv1, capacity_kwh: 1200, charge_kw: 200, discharge_kw: 200}
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    site, series = tmp_path / "site.yaml", tmp_path / "series.csv"
    site.write_text(SITE, encoding="utf-8")
    at = datetime(2026, 3, 1, tzinfo=UTC)
    lines = ["time,load_kw,pv1.available_kw"]
    for k in range(48):
        sun = max(0.0, 180 * math.sin((k % 24 - 6) / 12 * math.pi))
        lines.append(f"{at + timedelta(hours=k):%Y-%m-%dT%H:%M:%SZ},{150 + 40 * math.sin(k / 24 * 2 * math.pi):.1f},{sun:.1f}")
    series.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return site, series


def ems(capsys: pytest.CaptureFixture[str], arguments: Sequence[object]) -> tuple[int, str, str]:
    code = run([str(a) for a in arguments])
    seen = capsys.readouterr()
    return code, seen.out, seen.err


def test_document_and_files_say_the_same(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site, series = files
    out = tmp_path / "out"
    code, stdout, _ = ems(capsys, ["replay", site, "--series", series, "--policy", "load-following,diesel-only", "--out", out, "--json"])
    assert code == 0
    found = json.loads(stdout)
    assert [s["policy"] for s in found] == ["load-following", "diesel-only"]
    assert json.loads((out / "summary.json").read_text()) == found
    for summary in found:
        assert (summary["steps"], summary["step_s"], summary["start"]) == (192, 900, "2026-03-01T00:00:00Z")
        assert summary["site_sha256"] == hashlib.sha256(site.read_bytes()).hexdigest()
        assert summary["series_sha256"] == hashlib.sha256(series.read_bytes()).hexdigest()
        assert {k: v["count"] for k, v in summary["violations"].items()} == dict.fromkeys(("balance", "soc", "rating", "min_loading", "reserve"), 0)
        with (out / f"{summary['policy']}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 192
        assert sum(float(r["load_kw"]) for r in rows) / 4 == pytest.approx(summary["load_kwh"], abs=0.1)
    assert found[0]["baseline_diesel_l"] == found[1]["diesel_l"] > found[0]["diesel_l"]


def test_the_same_command_gives_the_same_document_but_for_time(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["replay", files[0], "--series", files[1], "--policy", "cycle-charging", "--days", "1", "--json"]
    first, second = (json.loads(ems(capsys, arguments)[1])[0] for _ in range(2))
    for summary in (first, second):
        del summary["wall_s"], summary["plan_s"]
    assert first == second
    assert first["steps"] == 96


def test_table_without_json(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, stdout, stderr = ems(capsys, ["replay", files[0], "--series", files[1], "--policy", "load-following,cycle-charging", "--days", "1"])
    assert code == 0
    assert stderr == ""
    assert "load-following" in stdout
    assert "diesel_l_soc_corrected [L]" in stdout
    assert "violations" in stdout


@pytest.mark.parametrize(
    ("more", "key", "value"),
    [
        (["--start", "2026-03-02", "--step", "1h"], "steps", 24),
        (["--start", "2026-03-01T06:00:00Z", "--days", "0.5"], "steps", 48),
        (["--soc", "0.8", "--days", "1"], "soc_start", 0.8),
        (["--scale", "pv1.available_kw=0", "--days", "1"], "solar_available_kwh", 0),
        (["--step", "30m", "--days", "1"], "step_s", 1800),
    ],
)
def test_options(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], more: list[str], key: str, value: Any) -> None:
    code, stdout, _ = ems(capsys, ["replay", files[0], "--series", files[1], "--policy", "load-following", "--json", *more])
    assert code == 0
    assert json.loads(stdout)[0][key] == value


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--policy", "mpc,magic"], "magic"),
        (["--forecast", "oracle"], "oracle"),
        (["--forecast", "file"], "--forecast-file"),
        (["--forecast", "blend", "--forecast-file", "x.csv"], "--forecast-file"),
        (["--step", "10"], "--step"),
        (["--step", "7s", "--days", "1"], "--step"),
        (["--step", "7m", "--days", "1"], "--step"),
        (["--step", "5h"], "--step"),
        (["--replan", "60"], "--replan"),
        (["--soc", "1.5"], "--soc"),
        (["--days", "-1"], "--days"),
        (["--days", "9"], "--days"),
        (["--start", "2027-01-01"], "--start"),
        (["--start", "monday"], "monday"),
        (["--scale", "pv1.available_kw"], "--scale"),
        (["--scale", "pv9.available_kw=2"], "pv9.available_kw"),
        (["--fill", "guess"], "guess"),
        (["--ignore-columns", "pv1.available_kw"], "pv1.available_kw"),
        (["--series", "/nowhere.csv"], "/nowhere.csv"),
        (["--days", "0.001", "--step", "1h"], "--step"),
    ],
)
def test_wrong_options_are_named_and_exit_2(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], more: list[str], word: str) -> None:
    code, stdout, stderr = ems(capsys, ["replay", files[0], "--series", files[1], "--json", *more])
    assert code == 2
    assert set(json.loads(stdout)) == {"error", "where", "expected"}
    assert word in stderr.splitlines()[-1]


@pytest.mark.timeout(240)  # three processes that import everything
def test_months_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site, series = tmp_path / "site.yaml", tmp_path / "series.csv"
    site.write_text(SITE, encoding="utf-8")
    at = datetime(2026, 3, 31, tzinfo=UTC)
    series.write_text(
        "time,load_kw,pv1.available_kw\n" + "".join(f"{at + timedelta(hours=k):%Y-%m-%dT%H:%M:%SZ},{150 + k},20\n" for k in range(48)), encoding="utf-8"
    )
    arguments = ["replay", site, "--series", series, "--policy", "mpc,load-following,diesel-only", "--start", "2026-03-31T18:00:00Z", "--days", "0.5"]
    code, stdout, stderr = ems(capsys, [*arguments, "--step", "1h", "--replan", "3h", "--workers", "2", "--json", "--out", tmp_path / "out"])
    assert (code, stderr) == (0, "")
    planned, following, alone = json.loads(stdout)
    assert planned["parts"]["count"] == 2
    assert planned["plans"] == 2 + 4  # the second part lives the first one again as its lead
    assert "parts" not in following
    for summary in (planned, following, alone):
        assert [(m["month"], m["hours"]) for m in summary["months"]] == [("2026-03", 6.0), ("2026-04", 6.0)]
        assert sum(m["diesel_l_soc_corrected"] for m in summary["months"]) == pytest.approx(summary["diesel_l_soc_corrected"], abs=1e-5)
    assert alone["diesel_l"] == planned["baseline_diesel_l"]
    assert len((tmp_path / "out" / "mpc.csv").read_text("utf-8").splitlines()) == 13
    code, stdout, _ = ems(capsys, [*arguments[:4], "--policy", "load-following", "--start", "2026-03-31T18:00:00Z", "--days", "0.5"])
    assert code == 0
    assert "by month (UTC)" in stdout
    assert "2026-04" in stdout
    assert ems(capsys, [*arguments, "--workers", "0"])[0] == 2


def test_a_series_is_needed_and_recordings_are_for_later(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ems(capsys, ["replay", files[0]])[0] == 2
    code, _, stderr = ems(capsys, ["replay", "--recorded", tmp_path])
    assert code == 1
    assert "--recorded" in stderr


def test_a_site_without_diesels_has_no_baseline(tmp_path: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "green.yaml"
    site.write_text("\n".join(line for line in SITE.splitlines() if "diesel" not in line).replace("1200,", "9000,") + "\n", encoding="utf-8")
    arguments = ["replay", site, "--series", files[1], "--policy", "load-following", "--days", "1", "--json"]
    code, stdout, _ = ems(capsys, arguments)
    assert code == 0
    assert json.loads(stdout)[0]["baseline_diesel_l"] is None
    assert json.loads(stdout)[0]["diesel_l"] == 0
    assert ems(capsys, ["replay", site, "--series", files[1], "--policy", "diesel-only"])[0] == 2


def test_planned_policies_follow_their_plans(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["replay", files[0], "--series", files[1], "--policy", "mpc,perfect-foresight", "--forecast", "seasonal"]
    code, stdout, _ = ems(capsys, [*arguments, "--start", "2026-03-02", "--days", "0.25", "--step", "30m", "--replan", "3h", "--json"])
    assert code == 0
    rolling, whole = json.loads(stdout)
    assert (rolling["forecast"], whole["forecast"]) == ("seasonal", "perfect")
    assert (rolling["plans"], whole["plans"]) == (2, 1)
    assert rolling["fallback_steps"] == whole["fallback_steps"] == 0
    assert rolling["plan_s"]["p50"] <= rolling["plan_s"]["max"]
    assert whole["bound_l"] <= whole["diesel_l_soc_corrected"] + 0.5
    assert whole["diesel_l_soc_corrected"] <= rolling["diesel_l_soc_corrected"] + 0.5
    assert "bound_l" not in rolling


@pytest.mark.parametrize("forecast", ["persistence", "clearsky", "blend", "file"])
def test_each_forecast_can_be_chosen(tmp_path: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], forecast: str) -> None:
    site = tmp_path / "placed.yaml"
    site.write_text(files[0].read_text("utf-8").replace("site: {", "site: {latitude: 34.0, longitude: 139.0, ", 1), encoding="utf-8")
    more = ["--forecast-file", files[1]] if forecast == "file" else []
    arguments = ["replay", site, "--series", files[1], "--policy", "mpc", "--forecast", forecast, *more]
    code, stdout, stderr = ems(capsys, [*arguments, "--start", "2026-03-02", "--days", "0.25", "--step", "30m", "--replan", "3h", "--json"])
    assert code == 0, stderr
    (found,) = json.loads(stdout)
    assert (found["forecast"], found["plans"], found["fallback_steps"]) == (forecast, 2, 0)


def test_clearsky_without_a_place_is_refused(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, stderr = ems(capsys, ["replay", files[0], "--series", files[1], "--policy", "mpc", "--forecast", "clearsky", "--days", "0.25"])
    assert code == 2
    assert "latitude and longitude" in stderr
