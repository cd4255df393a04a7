"""Everything behind `make`: set up `.venv` from the lock, then run the demo, the tests or the checks in it.

Standard library only, because it runs before anything is installed. It also has to start on a Python that is too old, to say so.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "locks"
VENV = ROOT / ".venv"
LOG = ROOT / ".venv.log"
STAMP = "ems-stamp.json"
OLDEST = (3, 11)
EXTRAS = {"dev": ["build", "dev"], "edge": ["build"]}
MARK = "# dependency-tables: "
CHECKS = (
    ("format", ["ruff", "format", "--check", "."]),
    ("lint", ["ruff", "check", "."]),
    ("types", ["mypy"]),
    ("imports", ["lint-imports", "--no-logo"]),
    ("dependencies", ["deptry", "."]),
)


class Stop(Exception):
    """What a person has to know, in one line."""


# ------------------------------------------------------------------ set-up
def refuse_old_python(version: tuple[int, int], has_ensurepip: bool) -> None:
    """Say what is missing before anything is made."""
    if version < OLDEST:
        raise Stop(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {version[0]}.{version[1]}; name another one with `make PYTHON=python3.12 ...`")
    if not has_ensurepip:  # Debian splits it off: `venv` imports, and then fails half-way
        raise Stop("Python's ensurepip is missing; on Debian or Ubuntu: sudo apt install python3-venv")


def stamp(lock: Path, pyproject: Path) -> dict[str, str]:
    """Return what a finished `.venv` was made from: its packages, and the project's own installation."""
    packages = hashlib.sha256(lock.read_bytes() + f"{sys.version} {sys.base_prefix} {ROOT}".encode())
    import tomllib  # not at the top: an old Python must reach its message

    project = tomllib.loads(pyproject.read_text("utf-8"))
    own = {"project": project["project"], "setuptools": project["tool"]["setuptools"]}
    return {"packages": packages.hexdigest(), "project": hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()}


def read_stamp(venv: Path) -> dict[str, str]:
    """Return the stamp of a `.venv`; empty when there is none, or when it was cut off."""
    try:
        found = json.loads((venv / STAMP).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_stamp(venv: Path, wanted: dict[str, str]) -> None:
    """Write the stamp whole or not at all."""
    part = venv / f"{STAMP}.part"
    part.write_text(json.dumps(wanted), "utf-8")
    part.replace(venv / STAMP)


def logged(command: list[str], doing: str) -> None:
    """Run a command into the log; when it fails, its last error is the one line."""
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        lines = LOG.read_text("utf-8", "replace").splitlines()
        cause = next((line for line in reversed(lines) if line.lower().startswith("error")), lines[-1])
        raise Stop(f"{doing} failed: {cause} (all of it: {LOG.name})")


def install_project(python: Path) -> None:
    """Install the checkout itself, as a path entry and the console script `ems`."""
    logged([str(python), "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-input", "-e", "."], "installing the project")


def rename_inside(venv: Path, final: str) -> None:
    """Console scripts and prompts name the folder they were made in; make them name the one they will live in."""
    for path in [venv / "pyvenv.cfg", *(venv / "bin").iterdir()]:
        if path.is_file() and not path.is_symlink():
            text = path.read_bytes()
            if venv.name.encode() in text:
                path.write_bytes(text.replace(venv.name.encode(), final.encode()))


def make_venv(lock: Path, wanted: dict[str, str]) -> None:
    """Make `.venv` beside the old one and swap it in only when it is whole."""
    new, old = ROOT / f".venv.new-{os.getpid()}", ROOT / f".venv.old-{os.getpid()}"
    print(f"setup: installing {lock.relative_to(ROOT)} into .venv (once, a minute or two)", flush=True)
    try:
        logged([sys.executable, "-m", "venv", str(new)], "making .venv")
        python = new / "bin" / "python"
        logged([str(python), "-m", "pip", "install", "--require-hashes", "--only-binary", ":all:", "--no-input", "-r", str(lock)], "installing the packages")
        install_project(python)
        rename_inside(new, VENV.name)
        write_stamp(new, wanted)
        if VENV.exists():
            VENV.rename(old)
        new.rename(VENV)
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the lock file, so that two `make` at once set up one after the other."""
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def setup() -> None:
    """Make or refresh `.venv`; does nothing when it is already what the lock says."""
    refuse_old_python(sys.version_info[:2], importlib.util.find_spec("ensurepip") is not None)
    lock = LOCKS / "dev.txt"
    with alone(lock):
        for left in [*ROOT.glob(".venv.new-*"), *ROOT.glob(".venv.old-*")]:  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        wanted, found = stamp(lock, ROOT / "pyproject.toml"), read_stamp(VENV)
        if found == wanted:
            return
        LOG.write_text("", "utf-8")
        if found.get("packages") != wanted["packages"]:
            make_venv(lock, wanted)
        else:
            install_project(VENV / "bin" / "python")
            write_stamp(VENV, wanted)


# ------------------------------------------------------------------ locks
def tables_sha256(pyproject: str) -> str:
    """Return the hash of everything in pyproject.toml that a lock depends on."""
    import tomllib  # see `stamp`

    whole = tomllib.loads(pyproject)
    project = whole["project"]
    tables = [whole["build-system"]["requires"], project["requires-python"], project["dependencies"], project.get("optional-dependencies", {})]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def lock_faults(lock: str, tables: str) -> list[str]:
    """Return what is wrong with a lock, without network: stale, unhashed, or tied to one machine."""
    faults = []
    if not lock.startswith(f"{MARK}{tables}\n"):
        faults.append("is older than the dependencies in pyproject.toml; run `make lock`")
    pins = re.split(r"\n(?=[A-Za-z0-9])", "\n" + lock)[1:]
    faults += [f"{pin.split()[0]} has no hash" for pin in pins if "--hash=sha256:" not in pin]
    faults += [
        f"names a place: {line.strip()}"
        for line in lock.splitlines()
        if "://" in line or line.lstrip().startswith(("-i ", "-f ", "--index", "--extra-index", "--find"))
    ]
    return faults


def check_locks() -> list[str]:
    """Return the faults of all locks, each with the name of its file."""
    tables = tables_sha256((ROOT / "pyproject.toml").read_text("utf-8"))
    return [f"{path.relative_to(ROOT)} {fault}" for path in sorted(LOCKS.glob("*.txt")) for fault in lock_faults(path.read_text("utf-8"), tables)]


def find_uv() -> str:
    """Return uv: from PATH, or from a folder of its own that is never part of `.venv`."""
    found = shutil.which("uv")
    if found:
        return found
    place = ROOT / ".uv"
    uv = place / "bin" / "uv"
    if not uv.exists():
        print("lock: installing uv into .uv", flush=True)
        LOG.write_text("", "utf-8")
        logged([sys.executable, "-m", "venv", str(place)], "making .uv")
        logged([str(place / "bin" / "python"), "-m", "pip", "install", "uv"], "installing uv")
    return str(uv)


def make_locks(arguments: list[str]) -> None:
    """Resolve all locks again; pins stay as they are where the ranges allow it (`ARGS=--upgrade` moves them)."""
    uv = find_uv()
    # The public index and nothing of this machine: hashes have to cover every platform, and the file must not name a place.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_"))}
    flags = ["--no-config", "--universal", "--python-version", "3.11", "--generate-hashes"]
    flags += ["--no-emit-index-url", "--no-emit-find-links", "--no-header", "--quiet"]
    tables = tables_sha256((ROOT / "pyproject.toml").read_text("utf-8"))
    for name, extras in EXTRAS.items():
        target, part = LOCKS / f"{name}.txt", LOCKS / f"{name}.part"
        seed = LOCKS / "dev.txt"  # uv prefers the pins it finds in its output: what ships is then what was tested
        part.write_text(seed.read_text("utf-8") if seed.exists() else "", "utf-8")
        extra = [flag for each in extras for flag in ("--extra", each)]
        try:
            command = [uv, "pip", "compile", *flags, *extra, *(arguments if name == "dev" else []), "-o", str(part.relative_to(ROOT)), "pyproject.toml"]
            if subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, check=False).returncode:
                raise Stop(f"uv could not resolve {target.name}")
            part.write_text(f"{MARK}{tables}\n# Made by `make lock`; not by hand.\n{part.read_text('utf-8')}", "utf-8")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        print(f"lock: {target.relative_to(ROOT)}")


# ------------------------------------------------------------------ tasks
def tool(name: str) -> str:
    """Return the path of a program in `.venv`."""
    return str(VENV / "bin" / name)


def check() -> int:
    """Run every check, also after one has failed, and name those that failed."""
    failed = []
    for name, (program, *rest) in CHECKS:
        print(f"check: {name}", flush=True)
        if subprocess.run([tool(program), *rest], cwd=ROOT, check=False).returncode:
            failed.append(name)
    print("check: locks", flush=True)
    faults = check_locks()
    for fault in faults:
        print(fault)
    failed += ["locks"] if faults else []
    print(f"check: failed: {', '.join(failed)}" if failed else "check: all good")
    return 1 if failed else 0


def become(command: list[str]) -> None:
    """Go on as that program, so that Ctrl-C and its exit code are its own."""
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execv(command[0], command)


def run(task: str, arguments: list[str]) -> int:
    """Do one task; returns its exit code."""
    if task == "lock":
        refuse_old_python(sys.version_info[:2], importlib.util.find_spec("ensurepip") is not None)
        make_locks(arguments)
        return 0
    setup()
    if task == "check":
        return check()
    commands = {
        "demo": [tool("ems"), "demo"],
        "test": [tool("python"), "-m", "pytest", "-n", "2", "--dist", "loadgroup"],
        "bench": [tool("python"), "-m", "tools.bench"],
        "campaign": [tool("python"), "-m", "tools.campaign"],
    }
    if task in commands:
        become([*commands[task], *arguments])
    return 0


def main() -> int:
    """Read the command line and turn every expected failure into one line."""
    parser = argparse.ArgumentParser(description="Set up and run Shima EMS from a checkout.")
    parser.add_argument("task", choices=["setup", "demo", "test", "check", "bench", "campaign", "lock"])
    task, arguments = parser.parse_known_args()
    try:
        return run(task.task, arguments)
    except Stop as stop:
        print(f"{task.task}: {stop}", file=sys.stderr)
    except OSError as error:
        print(f"{task.task}: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
