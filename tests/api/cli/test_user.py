"""`ems user`: nobody without a password, nothing secret in what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.cli.main import run

PASSWORD = "a long enough one"


def ems(*words: object) -> int:
    return run([str(word) for word in words])


def test_add_list_and_revoke(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    data = tmp_path / "site"
    monkeypatch.setenv("EMS_PASSWORD", PASSWORD)
    assert ems("user", "add", "hanako", "--role", "operator", "--data", data) == 0
    assert ems("user", "add", "taro", "--data", data) == 0
    capsys.readouterr()
    assert ems("user", "list", "--data", data) == 0
    assert capsys.readouterr().out == "hanako  operator\ntaro  viewer\n"
    assert ems("user", "revoke", "taro", "--data", data, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"name": "taro", "revoked": True}
    assert ems("user", "list", "--data", data, "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "hanako", "role": "operator"}]
    assert PASSWORD not in (data / "users.json").read_text()
    assert (data / "users.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("words", "password", "names"),
    [
        (("add", "hanako"), None, "EMS_PASSWORD"),
        (("add", "hanako"), "short", "at least 8"),
        (("add", "../hanako"), PASSWORD, "../hanako"),
        (("add", "hanako", "--role", "king"), PASSWORD, "king"),
        (("revoke", "nobody"), None, "nobody"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], password: str | None, names: str
):
    monkeypatch.delenv("EMS_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    if password is not None:
        monkeypatch.setenv("EMS_PASSWORD", password)
    assert ems("user", *words, "--data", tmp_path) == 2
    assert names in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "users.json").exists()
