"""The frame of the command line: help with examples, one line for every misuse, exit codes, durations."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.later import LATER
from api.cli.main import run
from api.duration import duration_s
from ems.errors import BadInput

CONTRACT = (
    "demo", "run", "simulate", "check", "scan", "replay", "campaign", "sweep", "mrv report", "mrv verify",
    "user add", "user list", "user revoke", "export", "monitor", "init", "doctor",
)  # fmt: skip
NOT_YET = ("sweep", "mrv report", "mrv verify", "monitor")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert [c for c in CONTRACT if not re.search(rf"^  {c.split()[0]}\b", out, re.MULTILINE)] == []


@pytest.mark.parametrize("command", CONTRACT)
def test_every_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]):
    assert run([*command.split(), "--help"]) == 0
    _, shown = re.split("Examples?:", capsys.readouterr().out)
    assert f"ems {command.split()[0]}" in shown


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["chekc", "site.yaml"], "chekc"),
        (["check", "site.yaml", "--no-such-option"], "--no-such-option"),
        (["check"], "SITE.yaml"),
        (["check", "no-such-file.yaml"], "no-such-file.yaml"),
        (["check", "site.yaml", "another.yaml"], "another.yaml"),
        (["mrv", "reprot"], "reprot"),
        ([], "no command"),
    ],
)
def test_misuse_is_told_in_the_last_line_and_as_one_document(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert word in err.splitlines()[-1]
    assert out == ""
    if arguments:
        assert run([*arguments, "--json"]) == 2
        told = json.loads(capsys.readouterr().out)
        assert set(told) == {"error", "where", "expected"}
        assert word in " ".join(told.values())


@pytest.mark.parametrize("command", NOT_YET)
def test_what_is_not_built_says_so_and_fails(command: str, capsys: pytest.CaptureFixture[str]):
    assert run([*command.split(), "anything", "--seeds", "3"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"ems: `ems {command}` is not in this version (expected another command of `ems --help`)"]


def test_later_knows_exactly_what_is_not_built_and_its_help_says_so(capsys: pytest.CaptureFixture[str]):
    assert {name for name, _, _ in LATER} == set(NOT_YET)
    run(["--help"])
    marked = re.findall(r"^  (\w+) +\(not yet\) ", capsys.readouterr().out, re.MULTILINE)
    assert set(marked) == {name.split()[0] for name in NOT_YET}


def test_the_version(capsys: pytest.CaptureFixture[str]):
    assert run(["--version"]) == 0
    assert re.fullmatch(r"ems \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_wrong_choice_names_the_right_ones(capsys: pytest.CaptureFixture[str]):
    assert run(["run", "site.yaml", "--stage", "auto"]) == 2
    assert capsys.readouterr().err == "ems run: Invalid value for '--stage': 'auto' is unknown (expected shadow, advise, control)\n"


@pytest.mark.parametrize(
    ("arguments", "where", "expected"),
    [
        (["demo", "--for", "5"], "--for", "90s 15m"),
        (["demo", "--site", "nowhere"], "--site", "a file, or river, ouessant, village"),
        (["user", "list", "--data", "no-such-folder"], "--data", "data folder"),
    ],
)
def test_an_error_names_its_option(arguments: list[str], where: str, expected: str, capsys: pytest.CaptureFixture[str]):
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ems: {where}: ")
    assert expected in said.partition("(expected ")[2]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("6h", 21600), ("2d", 172800), ("1.5h", 5400), (" 1s ", 1)])
def test_durations(text: str, seconds: float):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["10", "", "s", "-5s", "0s", "5 s", "1e3s", "5w", "nan", "infs", "1h30m", "٣s"])
def test_what_is_no_duration(text: str):
    with pytest.raises(BadInput, match=re.escape(repr(text))):
        duration_s(text)


@given(st.text(max_size=8))
def test_a_duration_is_positive_or_refused(text: str):
    try:
        assert 0 < duration_s(text) < float("inf")
    except BadInput as error:
        assert error.exit_code == 2


def test_help_loads_nothing_heavy():
    heavy = {"cvxpy", "numpy", "fastapi", "pymodbus", "asyncua", "ruamel.yaml"}
    code = f"import sys; from api.cli.main import run; run(['check', '--help']); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
