"""The set-up: what it refuses, when it starts again, and which locks it calls stale."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import bootstrap
from tools.bootstrap import Stop, lock_faults, read_stamp, refuse_old_python, rename_inside, stamp, tables_sha256, write_stamp

PYPROJECT = """
[build-system]
requires = ["setuptools"]
[project]
name = "x"
requires-python = ">=3.11"
dependencies = ["numpy>=2"]
[project.optional-dependencies]
dev = ["pytest"]
[tool.setuptools]
package-dir = { "" = "." }
[tool.ruff]
line-length = 160
"""
PIN = "numpy==2.4.6 \\\n    --hash=sha256:00\n    # via x\n"


@pytest.mark.parametrize(
    ("version", "ensurepip", "says"),
    [((3, 9), True, "Python 3.11 or newer is needed, this is 3.9"), ((3, 11), False, "apt install python3-venv")],
)
def test_refuses_in_one_line_what_it_cannot_run_on(version, ensurepip, says):
    with pytest.raises(Stop, match=says) as caught:
        refuse_old_python(version, ensurepip)
    assert "\n" not in str(caught.value)


def test_runs_on_the_oldest_python_we_promise():
    refuse_old_python((3, 11), has_ensurepip=True)


@pytest.mark.parametrize(
    ("old", "new", "moves"),
    [("numpy>=2", "numpy>=2.1", True), ("pytest", "pytest>=9", True), (">=3.11", ">=3.12", True), ('["setuptools"]', '["flit"]', True), ("160", "120", False)],
)
def test_a_lock_is_stale_when_a_dependency_table_changed(old, new, moves):
    assert (tables_sha256(PYPROJECT) != tables_sha256(PYPROJECT.replace(old, new))) is moves


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        (f"# dependency-tables: abc\n{PIN}", None),
        (f"# dependency-tables: abd\n{PIN}", "older than the dependencies"),
        (PIN, "older than the dependencies"),
        ("# dependency-tables: abc\nnumpy==2.4.6\n", "numpy==2.4.6 has no hash"),
        (f"# dependency-tables: abc\n--find-links /somewhere\n{PIN}", "names a place"),
        (f"# dependency-tables: abc\n{PIN}--extra-index-url x\n", "names a place"),
        ("# dependency-tables: abc\nnumpy @ https://example.org/numpy.whl --hash=sha256:00\n", "names a place"),
    ],
)
def test_faults_of_a_lock(lock, fault):
    faults = lock_faults(lock, "abc")
    assert not faults if fault is None else any(fault in each for each in faults)


def test_the_locks_of_this_repository_are_in_step():
    assert bootstrap.check_locks() == []


def test_what_ships_is_what_was_tested():
    edge, dev = ({line for line in (bootstrap.LOCKS / name).read_text("utf-8").splitlines() if "==" in line} for name in ("edge.txt", "dev.txt"))
    assert edge - dev == set()
    assert any(line.startswith("setuptools==") for line in edge)


def test_a_stamp_says_what_has_to_be_done_again(tmp_path: Path):
    lock, pyproject = tmp_path / "dev.txt", tmp_path / "pyproject.toml"
    lock.write_text(PIN)
    pyproject.write_text(PYPROJECT)
    first = stamp(lock, pyproject)
    pyproject.write_text(PYPROJECT.replace("160", "120"))
    assert stamp(lock, pyproject) == first
    pyproject.write_text(PYPROJECT.replace('name = "x"', 'name = "y"'))
    own = stamp(lock, pyproject)
    assert (own["packages"], own["project"] == first["project"]) == (first["packages"], False)
    lock.write_text(PIN.replace("00", "01"))
    assert stamp(lock, pyproject)["packages"] != first["packages"]


@pytest.mark.parametrize("content", [None, "", '{"packages": "a', "[]"])
def test_a_cut_off_stamp_is_no_stamp(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / bootstrap.STAMP).write_text(content)
    assert read_stamp(tmp_path) == {}


def test_a_stamp_reads_back(tmp_path: Path):
    write_stamp(tmp_path, {"packages": "a"})
    assert read_stamp(tmp_path) == {"packages": "a"}
    assert [path.name for path in tmp_path.iterdir()] == [bootstrap.STAMP]


def test_scripts_name_the_folder_they_will_live_in(tmp_path: Path):
    venv = tmp_path / ".venv.new-17"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(f"command = python3 -m venv {venv}\n")
    (venv / "bin" / "ems").write_text(f"#!{venv}/bin/python\n")
    (venv / "bin" / "python").symlink_to("/nowhere")
    rename_inside(venv, ".venv")
    assert (venv / "bin" / "ems").read_text() == f"#!{tmp_path}/.venv/bin/python\n"
    assert ".new" not in (venv / "pyvenv.cfg").read_text().replace(str(tmp_path), "")
