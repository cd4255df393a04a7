"""What `ems run` refuses before anything runs."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from api.cli.main import run
from api.cli.run import listen, loopback, say_who_may_sign_in, settings_of
from api.web.auth import Role, Users
from ems.config.load import load_site
from ems.errors import Failed

DEVICE = ', device: {profile: generic-%s, url: "tcp://127.0.0.1:1502", unit: %d}'
SITE = """\
site: {id: isle}
assets:
  - {id: town, kind: load, peak_kw: 400%s}
  - {id: dg1, kind: diesel, rated_kw: 500, forming: isochronous%s}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE % (DEVICE % ("load", 1), DEVICE % ("diesel", 2)), encoding="utf-8")
    return path


def test_an_asset_without_a_device_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(SITE % (DEVICE % ("load", 1), ""), encoding="utf-8")
    assert run(["run", str(path), "--data", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no device: dg1" in said
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "gateway.local"])
def test_beyond_loopback_needs_users_and_tls(site: Path, tmp_path: Path, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    assert run(["run", str(site), "--data", str(data), "--host", host]) == 2
    assert "add a user first" in capsys.readouterr().err
    Users(data).add("hanako", Role.OPERATOR, "a long password")
    assert run(["run", str(site), "--data", str(data), "--host", host]) == 2
    assert "in the clear" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--speed", "0"), ("--speed", "nan"), ("--stage", "auto"), ("--port", "70000")])
def test_what_makes_no_sense_is_refused(site: Path, tmp_path: Path, option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", str(site), "--data", str(tmp_path / "data"), *option]) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "only_here"), [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("isle", False)]
)
def test_what_counts_as_loopback(host: str, only_here: bool) -> None:
    assert loopback(host) is only_here


def test_processes_are_told_one_clock_and_whole_paths(site: Path, tmp_path: Path) -> None:
    loaded = load_site(site)
    with socket.create_server(("127.0.0.1", 0)) as door:
        plain, quick = settings_of(loaded, tmp_path, "shadow", door), settings_of(loaded, tmp_path, "control", door, 24.0)
        port = door.getsockname()[1]
    assert (plain.url, plain.public, plain.stage, plain.origin) == (f"http://127.0.0.1:{port}", False, "shadow", None)
    assert Path(plain.site).is_absolute() and Path(plain.data).is_absolute()
    assert quick.origin is not None
    assert quick.start is not None


def test_a_busy_port_is_said_in_our_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door, pytest.raises(Failed) as told:
        listen("127.0.0.1", door.getsockname()[1])
    assert told.value.where == "--port"
    assert "in use by another program" in told.value.error
    with pytest.raises(Failed) as told:
        listen("203.0.113.1", 0)  # for documentation only: no machine has it
    assert told.value.where == "--host"


def test_who_has_no_users_is_told_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say_who_may_sign_in(tmp_path)
    assert capsys.readouterr().err == f"no users yet: ems user add NAME --role operator --data {tmp_path}\n"
    Users(tmp_path).add("hanako", Role.OPERATOR, "a long password")
    say_who_may_sign_in(tmp_path)
    assert capsys.readouterr().err == ""
