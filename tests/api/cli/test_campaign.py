"""`ems campaign` from outside: its document, its files, a schedule that is run again, and its errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
  - {id: inv1, kind: inverter, rated_kw: 250, forming: droop}
  - {id: bess1, kind: battery, behind: inv1, capacity_kwh: 600, charge_kw: 200, discharge_kw: 250}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE, "utf-8")
    return path


def ems(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run(["campaign", *(str(a) for a in arguments)])
    seen = capsys.readouterr()
    return code, seen.out, seen.err


def test_document_and_file_say_the_same_and_the_seed_repeats(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: Sequence[Any] = (site, "--seeds", 2, "--hours", 0.05, "--seed-from", 8, "--json", "--no-shrink")
    code, out, _ = ems(capsys, *asked, "--out", tmp_path / "out")
    report = json.loads(out)
    assert code == (1 if report["violations"] else 0)
    assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8")) == report
    assert (report["site"], report["seeds"], report["seed_from"], report["hours"]) == ("islet", 2, 8, 0.05)
    again = json.loads(ems(capsys, *asked)[1])
    assert again["digest"] == report["digest"]


def test_a_schedule_of_ones_own_is_run(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = tmp_path / "mine.json"
    trip = {"kind": "trip", "target": "dg1", "onset_s": 60, "duration_s": 30, "severity": 1}
    schedule.write_text(json.dumps({"length_s": 200, "soc": 0.7, "running": ["dg1"], "faults": [trip]}), "utf-8")
    code, out, _ = ems(capsys, site, "--schedule", schedule, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["classes"]["plant"] | {"wilson95": None} == {
        "planned": 1, "injected": 1, "survived": 1, "degraded": 0, "violated": 0, "survived_share": 1.0, "wilson95": None, "failure_bound95": 3.0,
    }  # fmt: skip
    assert "tripped" in report["states"]["reached"]
    code, out, _ = ems(capsys, site, "--schedule", schedule)
    assert "| plant | 1 | 1 | 1 | 0 | 0 | 100.00 % |" in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--seeds", "0"], "--seeds"),
        (["--seed-from", "-1"], "--seed-from"),
        (["--workers", "0"], "--workers"),
        (["--hours", "0"], "--hours"),
        (["--hours", "nan"], "--hours"),
        (["--level", "molecular"], "molecular"),
        (["--schedule", "nowhere.json"], "nowhere.json"),
    ],
)
def test_bad_input_is_one_line(site: Path, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ems(capsys, site, *arguments)
    assert (code, out) == (2, "")
    assert word in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("{", "mine.json"),
        ("[]", "no schedule"),
        ('{"faults": [], "extra": 1}', "'extra'"),
        ('{"faults": [{"kind": "trip", "target": "dg7", "onset_s": 1, "duration_s": 1, "severity": 1}]}', "faults[0].target"),
        ('{"faults": [], "seed": -1}', "seed"),
        ('{"faults": [], "length_s": "long"}', "length_s"),
        ('{"faults": [], "soc": 2}', "soc"),
        ('{"faults": [], "level": "atomic"}', "level"),
        ('{"faults": [], "running": ["pv1"]}', "running"),
        ('{"faults": [], "start": "yesterday"}', "start"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(site: Path, tmp_path: Path, content: str, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = tmp_path / "mine.json"
    schedule.write_text(content, "utf-8")
    code, out, err = ems(capsys, site, "--schedule", schedule)
    assert (code, out) == (2, "")
    assert place in err
