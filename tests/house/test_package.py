"""What a site installs: the wheel holds every data file of the rooms, not only the code."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tools.bootstrap import ROOT

SHIPPED = ("ems", "drivers", "optimizer", "mrv", "simulator", "api", "configs")


def test_the_wheel_holds_every_file_of_the_rooms(tmp_path: Path):
    source = tmp_path / "source"
    for room in SHIPPED:  # a copy: a build leaves traces where it runs
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("shima_ems-*.whl"))) as wheel:
        held = set(wheel.namelist())
    wanted = {path.relative_to(source).as_posix() for room in SHIPPED for path in (source / room).rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert wanted - held == set()
    assert not any(path.startswith(("tests/", "tools/")) for path in held)
