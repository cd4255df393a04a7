"""`ems doctor`: what is sound is ok, what is broken is named with what to do, and only that fails."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import socket
import sqlite3
import tomllib
from pathlib import Path

import pytest

from api.cli import doctor
from api.cli.doctor import PACKAGES, STORES, Finding, examine, packages
from api.cli.main import run
from drivers.store.ledger import LedgerStore
from tools.bootstrap import ROOT


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    """Import one package, not all: that takes seconds."""
    monkeypatch.setattr(doctor, "PACKAGES", {"numpy": "numpy"})


def by_check(data: Path, port: int) -> dict[str, Finding]:
    return {f.check: f for f in examine(data, port)}


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def test_the_packages_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(PACKAGES) == {re.split(r"[<>=]", wanted)[0] for wanted in project["dependencies"]}


def test_a_sound_machine(tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]):
    LedgerStore(tmp_path / "ledger.db").close()
    assert run(["doctor", "--data", str(tmp_path), "--port", str(port), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    status = {row["check"]: row["status"] for row in told["checks"]}
    assert told["ok"] is True
    assert {name: status[name] for name in ("python", "numpy", "time zones", "data folder", "ledger.db", "port")} == dict.fromkeys(
        ("python", "numpy", "time zones", "data folder", "ledger.db", "port"), "ok"
    )
    assert {"clock", "memory", "disk"} <= status.keys()
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("ledger.db")) == []  # nothing is left behind


def test_a_folder_that_is_not_there_will_be_made(tmp_path: Path, port: int):
    assert by_check(tmp_path / "data", port)["data folder"] == Finding("data folder", "ok", f"{tmp_path / 'data'} will be made")
    assert not (tmp_path / "data").exists()
    assert by_check(tmp_path / "no" / "data", port)["data folder"].status == "wrong"


def test_damage_in_a_database_is_found(tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]):
    for name in STORES[:2]:
        with sqlite3.connect(tmp_path / name) as db:
            db.execute("CREATE TABLE t(x)")
            db.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
        db.close()
    whole = (tmp_path / STORES[0]).read_bytes()
    (tmp_path / STORES[0]).write_bytes(whole[:4096] + b"\x5a" * (len(whole) - 4096))
    found = by_check(tmp_path, port)
    assert (found[STORES[0]].status, found[STORES[1]].status) == ("wrong", "ok")
    assert run(["doctor", "--data", str(tmp_path), "--port", str(port)]) == 1
    assert f"wrong    {STORES[0]}" in capsys.readouterr().out


def test_a_package_that_cannot_be_imported_is_wrong():
    (missing,) = packages({"no-such": "no_such_package_at_all"})
    assert (missing.check, missing.status) == ("no-such", "wrong")


def test_a_busy_port_is_wrong_unless_a_service_runs_here(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = int(door.getsockname()[1])
        assert by_check(tmp_path, port)["port"].status == "wrong"
        (tmp_path / "lock").write_text("4711\n")
        assert by_check(tmp_path, port)["port"].status == "wrong"  # a file alone is no service
        with (tmp_path / "lock").open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            found = by_check(tmp_path, port)
    assert found["port"].status == "ok"
    assert "4711" in found["data folder"].found


@pytest.mark.parametrize(("state", "status"), [(None, "unknown"), (0, "ok"), (1, "ok"), (5, "warning")])
def test_the_clock(state: int | None, status: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "kernel_clock", lambda: state)
    assert doctor.clock().status == status


@pytest.mark.parametrize(("free_mb", "status"), [(100, "wrong"), (1000, "warning"), (5000, "ok")])
def test_the_disk(free_mb: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: type("Usage", (), {"free": free_mb * 1_000_000})())
    assert doctor.disk(tmp_path / "not" / "yet").status == status


@pytest.mark.parametrize(("mode", "status"), [(0o600, "ok"), (0o640, "wrong"), (0o604, "wrong")])
def test_secrets_that_others_can_read(mode: int, status: str, tmp_path: Path, port: int):
    (tmp_path / "users.json").write_text("{}")
    (tmp_path / "users.json").chmod(mode)
    assert by_check(tmp_path, port)["users.json"].status == status


@pytest.mark.parametrize("name", ["users.json", "revoked.json"])
@pytest.mark.parametrize(("text", "status"), [("{}", "ok"), ("", "wrong"), ("[]", "wrong"), ('{"a": ', "wrong")])
def test_files_that_the_page_reads_at_its_start_are_read(tmp_path: Path, port: int, name: str, text: str, status: str):
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(0o600)
    found = by_check(tmp_path, port)
    assert (found[name].status, found[f"{name} text"].status) == ("ok", status)
    assert bool(found[f"{name} text"].advice) is (status == "wrong")
