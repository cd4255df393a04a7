"""The rules of the house that no linter knows: names, sizes, time, places, imports of the control process, and the README."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bootstrap import ROOT

ROOMS = ("ems", "drivers", "optimizer", "mrv", "simulator", "api")
NOT_OURS = {".git", ".uv", ".hypothesis", "build", "dist", "data"}  # at the top of the checkout
LONGEST = 400
ASK_THE_TIME = {f"time.{call}" for call in ("time", "time_ns", "sleep")} | {
    f"datetime.{call}" for call in ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")
}
ALSO_MONOTONIC = {"time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.process_time"}
MAY_ASK_THE_TIME = {"ems/clock.py"}
HEAVY = ("cvxpy", "pandas", "pvlib", "fastapi", "starlette", "uvicorn", "highspy", "scipy", "typer", "rich")
VAGUE = ("manager", "handler", "helper", "utils")


def ours(*parts: str) -> Iterator[Path]:
    """Return every file of the checkout below `parts` that is kept."""
    for path in sorted((ROOT.joinpath(*parts)).rglob("*")):
        inside = path.relative_to(ROOT).parts
        made = (
            inside[0] in NOT_OURS
            or inside[0].startswith(".venv")
            or any(part in ("__pycache__", "node_modules") or part.endswith(("_cache", ".egg-info")) for part in inside)
        )
        if path.is_file() and not made:
            yield path


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python_files(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in ours(room) if path.suffix == ".py"]


# ------------------------------------------------------------------ names and sizes
def vague(path: str) -> bool:
    stem = Path(path).stem.lower()
    return stem in ("base", "util") or any(word in stem for word in VAGUE)


def test_no_file_has_a_name_that_says_nothing():
    assert vague("drivers/device_manager.py")
    assert vague("ems/utils.py")
    assert not vague("ems/baseline.py")
    assert [name(path) for path in python_files(*ROOMS, "tools", "tests") if vague(name(path))] == []


def test_no_file_is_too_long_to_read():
    sizes = {name(path): len(path.read_text("utf-8").splitlines()) for path in python_files(*ROOMS, "tools", "tests")}
    assert {path: size for path, size in sizes.items() if size > LONGEST} == {}


# ------------------------------------------------------------------ time
def asks_the_time(source: str, forbidden: set[str]) -> list[str]:
    """Return what in `source` asks the time; sees through `import time as t` and `from time import time`."""
    tree = ast.parse(source)
    meant: dict[str, str] = {}  # what a local name stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            meant |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            meant |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, *rest = ast.unparse(node).split(".")
            if ".".join([meant.get(first, ""), *rest]) in forbidden:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize(
    ("source", "asks"),
    [
        ("import time\ntime.time()", True),
        ("import time as t\nt.sleep(1)", True),
        ("from time import time as clock\nclock()", True),
        ("from datetime import datetime\ndatetime.now()", True),
        ("from datetime import UTC, datetime as dt\ndt.now(UTC)", True),
        ("import datetime\ndatetime.datetime.utcnow()", True),
        ("from datetime import date\ndate.today()", True),
        ("import datetime\ndatetime.date.today()", True),
        ("default = time.time\nimport time", True),
        ("from datetime import datetime\ndatetime.fromisoformat('2026-01-01')", False),
        ("def f(clock, row):\n    return clock.now(), row.time, row.time.time", False),
    ],
)
def test_the_time_rule_sees_every_way_to_ask(source: str, asks: bool):
    assert bool(asks_the_time(source, ASK_THE_TIME)) is asks


def test_only_the_clock_asks_the_time():
    found = {}
    for path in python_files(*ROOMS):
        forbidden = ASK_THE_TIME | (ALSO_MONOTONIC if name(path).startswith("ems/") else set())
        if name(path) not in MAY_ASK_THE_TIME and (lines := asks_the_time(path.read_text("utf-8"), forbidden)):
            found[name(path)] = lines
    assert found == {}


# ------------------------------------------------------------------ imports
def loads(*modules: str) -> set[str]:
    """Return which heavy packages a fresh process holds after importing `modules`."""
    code = f"import importlib, sys\nfor each in {modules!r}: importlib.import_module(each)\nprint(*({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_import_probe_sees_what_is_loaded():
    assert {"fastapi", "starlette"} <= loads("fastapi")


def test_control_and_the_kernel_load_nothing_heavy():
    modules = [name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in python_files("ems")]
    assert "ems.model" in modules
    control = ["api.processes.control"] if (ROOT / "api/processes/control.py").exists() else []
    assert loads(*modules, *control) == set()


# ------------------------------------------------------------------ places
PLACES = re.compile("|".join(("/wo" + "rk/", "/ro" + "ot/", "/opt/" + "pypi", "/opt/" + "wheels", "/home/" + r"\w+/")))


def test_no_file_names_a_place_on_somebodys_machine():
    assert PLACES.search("see /wo" + "rk/main")
    found = []
    for path in ours():
        content = path.read_bytes()
        if b"\0" not in content[:4096] and (hit := PLACES.search(content.decode("utf-8", "replace"))):
            found.append(f"{name(path)}: {hit.group()}")
    assert found == []


# ------------------------------------------------------------------ README
def commands(markdown: str, program: str) -> set[str]:
    """Return the first words after `program` in the code of a page: fenced lines and inline spans."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", markdown)
    code = "\n".join([*fenced, *inline])
    return set(re.findall(rf"(?:^|[\s/$])(?<![-.]){program} ([a-z]+)\b", code, re.MULTILINE))


def test_commands_are_found_in_fences_and_spans():
    page = "Type `make demo`, not make love.\n```sh\n$ make test\n.venv/bin/ems check a.yaml\n```\n"
    assert commands(page, "make") == {"demo", "test"}
    assert commands(page, "ems") == {"check"}


def test_the_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[0].split())
    named = commands((ROOT / "README.md").read_text("utf-8"), "make")
    assert {"demo", "test"} <= named
    assert named - targets == set()


def test_the_ems_commands_of_the_readme_exist():
    ems = Path(sys.executable).with_name("ems")
    for command in sorted(commands((ROOT / "README.md").read_text("utf-8"), "ems")):
        done = subprocess.run([ems, command, "--help"], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, f"ems {command}: {done.stderr}"
