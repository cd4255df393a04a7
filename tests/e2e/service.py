"""Runs `ems simulate` and `ems run` for the tests that look at whole processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.ports import free_port

EMS = str(Path(sys.executable).with_name("ems"))
SITE = """\
site: {id: e2e}
control: {cycle_s: 0.5, stage: control, start_timeout_s: 10}
assets:
  - {id: town, kind: load, peak_kw: 400}
  - {id: pv1, kind: solar, rated_kw: 300, ramp_up_kw_per_s: 50}
  - {id: dg1, kind: diesel, rated_kw: 300, forming: isochronous, start_s: 2, warmup_s: 1, sync_s: 1, ramp_kw_per_s: 50}
  - {id: dg2, kind: diesel, rated_kw: 300, forming: droop, start_s: 2, warmup_s: 1, sync_s: 1, ramp_kw_per_s: 50}
  - {id: inv1, kind: inverter, rated_kw: 200, forming: droop, primary_response: true}
  - {id: bess1, kind: battery, behind: inv1, capacity_kwh: 400, charge_kw: 200, discharge_kw: 200}
"""
SERIES = "time,load_kw,pv1.available_kw\n" + "".join(f"2026-03-01T{h:02d}:00:00Z,300.0,250.0\n" for h in range(24))


def until(holds: Callable[[], Any], limit_s: float = 60.0) -> Any:
    """Wait for something to be true, and return it."""
    end = time.monotonic() + limit_s
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come true in time"
        threading.Event().wait(0.05)
    return found


def children(pid: int) -> dict[str, int]:
    """Return the children of a process by what they are: control, web, uplink, plant, planner."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) if entry.name.isdigit() else 0
            words = (entry / "cmdline").read_text().split("\0") if parent == pid else []
        except (FileNotFoundError, ProcessLookupError):
            continue
        for word in words:
            if word.startswith("api.processes."):
                found[word.rpartition(".")[2]] = int(entry.name)
            elif "spawn_main" in word:
                found["planner"] = int(entry.name)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Command:
    """One `ems` command as a process, its output in files."""

    port = 0

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.out, self.err = folder / f"{arguments[0]}.out", folder / f"{arguments[0]}.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            inherited = {k: v for k, v in os.environ.items() if not k.startswith("EMS_")}
            self.process = subprocess.Popen([EMS, *arguments], cwd=folder, stdout=out, stderr=err, env={**inherited, **environment})

    @property
    def pid(self) -> int:
        return self.process.pid

    def first_line(self) -> str:
        """Return the first line on stdout once it is there."""
        until(lambda: "\n" in self.out.read_text() or self.process.poll() is not None)
        return self.out.read_text().partition("\n")[0]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)

    def kill(self) -> None:
        """Leave nothing behind, whatever the test did."""
        left = [*children(self.pid).values()]
        left += [grandchild for child in left for grandchild in children(child).values()]
        self.process.kill()
        self.process.wait()
        for pid in left:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)

    def get(self, path: str) -> tuple[int, Any]:
        """Return status and body of a GET; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None
        except OSError:
            return 0, None

    def post(self, path: str, body: dict[str, Any], token: str = "") -> tuple[int, Any]:
        """Return status and body of a POST to the API."""
        head = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/v1/{path}", json.dumps(body).encode(), head)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None

    def state(self) -> dict[str, Any]:
        status, found = self.get("/api/v1/state")
        assert status == 200
        state: dict[str, Any] = found
        return state

    def ready(self) -> bool:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.err.read_text()}"
        return self.get("/readyz")[0] == 200


class Service(Command):
    """`ems run` on a simulated site."""

    def __init__(self, folder: Path, site: str, port: int | None = None, data: str = "data") -> None:
        self.port = port or free_port()
        super().__init__(folder, "run", site, "--data", data, "--port", str(self.port))
