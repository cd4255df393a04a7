"""`ems init`: every starter is a valid site, and no file is ever overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from api.cli.init import Kind, starter
from api.cli.main import run
from ems.config.load import load_site
from ems.config.site import Deferrable, Diesel, Hydro
from tools.bootstrap import ROOT


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_starter_passes_ems_check_as_it_is(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "mine.yaml"
    assert run(["init", str(path), "--kind", kind]) == 0
    assert f"ems check {path}" in capsys.readouterr().out
    assert run(["check", str(path)]) == 0
    site = load_site(path).site
    assert site.control.stage == "shadow"  # nothing is written before somebody says so
    assert path.read_text("utf-8") == starter(kind)


def test_the_kinds_are_what_they_say(tmp_path: Path):
    found = {}
    for kind in get_args(Kind):
        run(["init", str(tmp_path / f"{kind}.yaml"), "--kind", kind])
        site = load_site(tmp_path / f"{kind}.yaml").site
        found[kind] = (len(site.of(Diesel)), len(site.of(Hydro)), len(site.of(Deferrable)))
    assert found == {"small": (1, 0, 0), "hydro": (2, 1, 0), "large": (3, 0, 1)}


def test_every_starter_that_is_shipped_can_be_asked_for():
    assert {path.stem for path in (ROOT / "configs" / "starters").iterdir()} == set(get_args(Kind))


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "site.yaml"
    path.write_text("mine", "utf-8")
    assert run(["init", str(path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["where"] == str(path)
    assert path.read_text("utf-8") == "mine"


def test_without_a_name_it_is_site_yaml_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    assert run(["init", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": "site.yaml", "kind": "small"}
    assert (tmp_path / "site.yaml").is_file()


@pytest.mark.parametrize("arguments", [["nowhere/site.yaml"], ["."], ["site.yaml", "--kind", "huge"]])
def test_bad_input(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert run(["init", *arguments]) == 2
    assert list(tmp_path.iterdir()) == []
