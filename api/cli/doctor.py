"""`ems doctor`: what keeps this machine from running the service, and what would make it run badly."""

from __future__ import annotations

import errno
import fcntl
import importlib
import json
import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from api.cli.output import document, example
from api.kernel_clock import TIME_ERROR, kernel_clock

Status = Literal["ok", "warning", "wrong", "unknown"]
PACKAGES = {
    "anyio": "anyio", "pydantic-core": "pydantic_core", "scipy": "scipy", "starlette": "starlette", "urllib3": "urllib3",
    "argon2-cffi": "argon2", "asyncua": "asyncua", "cryptography": "cryptography", "cvxpy": "cvxpy", "fastapi": "fastapi", "highspy": "highspy",
    "influxdb-client": "influxdb_client", "msgpack": "msgpack", "numpy": "numpy", "prometheus-client": "prometheus_client", "pydantic": "pydantic",
    "PyJWT": "jwt", "pymodbus": "pymodbus", "pyserial": "serial", "rich": "rich", "ruamel.yaml": "ruamel.yaml", "typer": "typer", "tzdata": "tzdata",
    "uvicorn": "uvicorn", "aiomqtt": "aiomqtt", "openpyxl": "openpyxl", "pandas": "pandas", "pvlib": "pvlib",
}  # fmt: skip
"""What the edge service needs: name on the index, and what is imported."""
STORES = ("history.db", "ledger.db", "site.db", "uplink.db")
PRIVATE = ("users.json", "secret", "revoked.json")
READ = {
    "users.json": "a copy of it, or delete it and add the users again",
    "revoked.json": "nothing: the service puts it aside at its start, and everybody has to sign in again",
}
"""What is parsed, with what to do where that fails."""
OLDEST = (3, 11)
MB = 1_000_000
DISK_MB, DISK_TIGHT_MB = 200, 2000
"""Under the first the stores soon fail; under the second a month of raw cycles may not fit [MB]."""
MEMORY_MB = 700
"""What all processes together may take [MB]."""
CHECK_S = 5.0
"""The longest look at one database [s]."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    status: Status
    found: str
    advice: str = ""


def register(app: typer.Typer) -> None:
    """Add `ems doctor`."""
    app.command("doctor", epilog=example("ems doctor", "ems doctor --data /var/lib/ems --port 8080 --json"))(doctor)


def doctor(
    data: Path = typer.Option(Path("data"), "--data", metavar="DIR", help="The site's data folder."),
    port: int = typer.Option(8080, "--port", envvar="EMS_PORT", min=1, max=65535, help="Port that page and API shall have."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document: every check with its status."),
) -> None:
    """Look for what keeps this machine from running the service. Exit 1 if something is wrong; a warning is not."""
    findings = examine(data, port)
    wrong = any(f.status == "wrong" for f in findings)
    if as_json:
        document({"ok": not wrong, "checks": [asdict(f) for f in findings]})
    else:
        sys.stdout.writelines(f"{line(f)}\n" for f in findings)
    if wrong:
        raise typer.Exit(1)


def line(finding: Finding) -> str:
    """Return one row of the table."""
    advice = f" -> {finding.advice}" if finding.advice else ""
    return f"{finding.status:8} {finding.check:18} {finding.found}{advice}"


def examine(data: Path, port: int) -> list[Finding]:
    """Look at everything; only reads, but for one file that is made and removed to see whether the folder can be written."""
    served = owner(data)
    found = [python(), *packages(PACKAGES), time_zones(), clock(), memory(), disk(data), folder(data, served)]
    found += [database(data / name) for name in STORES if (data / name).exists()]
    found += [private(data / name) for name in PRIVATE if (data / name).exists()]
    found += [readable(data / name, advice) for name, advice in READ.items() if (data / name).exists()]
    return [*found, free_port(port, served)]


def python() -> Finding:
    """Look at the interpreter."""
    have = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", have) if sys.version_info[:2] >= OLDEST else Finding("python", "wrong", have, "Python 3.11 or newer")


def packages(wanted: Mapping[str, str]) -> list[Finding]:
    """Import every package: one that is there but broken fails here and not at night."""
    found = []
    for name, module in wanted.items():
        try:
            importlib.import_module(module)
            found.append(Finding(name, "ok", version(name)))
        except PackageNotFoundError:
            found.append(Finding(name, "unknown", "imported, but its version is not recorded"))
        except Exception as error:  # noqa: BLE001  a broken package may raise anything, and it is told, not hidden
            found.append(Finding(name, "wrong", f"cannot be imported: {error}", "install again from the lock file"))
    return found


def time_zones() -> Finding:
    """Look for the time zones that sites are in."""
    try:
        ZoneInfo("Asia/Tokyo"), ZoneInfo("Pacific/Palau")
    except ZoneInfoNotFoundError as error:
        return Finding("time zones", "wrong", f"not found: {error}", "install tzdata")
    return Finding("time zones", "ok", "found")


def clock() -> Finding:
    """Ask the kernel whether something keeps the clock right; stamps, expiry and the ledger depend on it."""
    answer = kernel_clock()
    if answer is None:
        return Finding("clock", "unknown", "the kernel does not tell whether the clock is synchronised", "see to it that NTP or GPS time is set up")
    if answer == TIME_ERROR:
        return Finding("clock", "warning", "not synchronised", "set up NTP (chrony, systemd-timesyncd) or GPS time")
    return Finding("clock", "ok", "synchronised")


def memory() -> Finding:
    """Look at what is left of the memory."""
    try:
        rows = dict(row.split(":", 1) for row in Path("/proc/meminfo").read_text("ascii").splitlines())
        total, free = (int(rows[name].split()[0]) * 1024 // MB for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return Finding("memory", "unknown", "not told by this system", f"{MEMORY_MB} MB are needed")
    told = f"{free} MB free of {total} MB"
    if total < MEMORY_MB:
        return Finding("memory", "wrong", told, f"at least {MEMORY_MB} MB")
    return Finding("memory", "ok", told) if free >= MEMORY_MB else Finding("memory", "warning", told, f"{MEMORY_MB} MB free before the start")


def disk(data: Path) -> Finding:
    """Look at the room where the stores grow."""
    place = next(p for p in (data.absolute(), *data.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free // MB
    status: Status = "wrong" if free < DISK_MB else "warning" if free < DISK_TIGHT_MB else "ok"
    return Finding("disk", status, f"{free} MB free", "" if status == "ok" else f"{DISK_TIGHT_MB} MB")


def folder(data: Path, served: str | None) -> Finding:
    """See whether files can be made in the data folder, or the folder itself."""
    place = data if data.is_dir() else data.absolute().parent
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".ems-doctor-"):
            pass
    except OSError as error:
        return Finding("data folder", "wrong", f"{place} cannot be written: {error.strerror}", "a folder that belongs to who runs the service")
    told = str(data) if data.is_dir() else f"{data} will be made"
    return Finding("data folder", "ok", told if served is None else f"{told}, in use by process {served}")


def owner(data: Path) -> str | None:
    """Return the process that holds the data folder, or None where no service runs on it."""
    try:
        with (data / "lock").open("rb") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return held.read(20).decode(errors="replace").strip() or "unknown"
    except OSError:
        return None
    return None


def database(path: Path) -> Finding:
    """Look for damage in a store, for a few seconds at most."""
    from drivers.store.file import check, reader
    from ems.errors import StoreError

    size = path.stat().st_size / MB
    try:
        with reader(path, CHECK_S) as db:
            check(db)
    except StoreError as error:
        return Finding(path.name, "wrong", error.error, "keep a copy; the service puts a damaged file aside at its start and begins a new one")
    return Finding(path.name, "ok", f"{size:.1f} MB, no damage found")


def private(path: Path) -> Finding:
    """See that nobody else can read a file with secrets."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding(path.name, "wrong", f"others may read it (mode {mode:o})", f"chmod 600 {path}")
    return Finding(path.name, "ok", f"mode {mode:o}")


def readable(path: Path, advice: str) -> Finding:
    """See whether a file can be understood that the page reads at its start."""
    try:
        json.loads(path.read_text("utf-8")).items()
    except (OSError, ValueError, AttributeError) as error:
        return Finding(f"{path.name} text", "wrong", f"cannot be understood: {error}", advice)
    return Finding(f"{path.name} text", "ok", "can be understood")


def free_port(port: int, served: str | None) -> Finding:
    """See whether the page can have its port."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE and served is not None:
            return Finding("port", "ok", f"{port} is in use, and a service runs on this data folder (process {served})")
        return Finding("port", "wrong", f"{port}: {os.strerror(error.errno or 0)}", "another --port")
    return Finding("port", "ok", f"{port} is free")
