"""`ems demo` as a new user meets it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.request
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.e2e.service import EMS, Command, alive, children, until
from tests.ports import free_port

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.timeout(240)]


class Demo(Command):
    def __init__(self, folder: Path, port: int, *more: str) -> None:
        self.port = port
        super().__init__(folder, "demo", "--port", str(port), *more, TMPDIR=str(folder))

    def family(self) -> list[int]:
        found = children(self.pid)
        return [*found.values(), *children(found.get("control", 0)).values()]


def test_the_demo_shows_an_island_in_the_morning_and_leaves_nothing(tmp_path: Path) -> None:
    demo = Demo(tmp_path, free_port())
    try:
        assert f"http://127.0.0.1:{demo.port}" in demo.first_line(), demo.err.read_text()
        until(demo.ready)
        assert len(demo.family()) == 5  # plant, control with its planner, web, uplink
        until(lambda: demo.state()["mode"] in ("auto", "fallback"))
        state = demo.state()
        at = datetime.fromisoformat(state["time"])
        assert state["time"].endswith("Z")
        assert (at.astimezone(ZoneInfo("Europe/Paris")).hour, state["stage"]) == (6, "control")
        assert state["formers"]
        assert state["load_kw"] > 100

        found = re.search(r"sign in as (\w+) with (\S+)", demo.out.read_text())
        assert found is not None
        body = json.dumps({"username": found[1], "password": found[2]}).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{demo.port}/api/v1/auth/token", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            assert json.loads(answer.read())["access_token"]

        family = demo.family()
        assert demo.end(signal.SIGINT) == 0, demo.err.read_text()
        assert [pid for pid in family if alive(pid)] == []
        said = demo.err.read_text().splitlines()
        assert not any("Traceback" in line for line in said)
        assert (said[0], said[-1]) == ("starting the simulated island ...", "the demo has ended; its data is gone with it")
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []  # its data went with it
    finally:
        demo.kill()


def test_the_demo_ends_by_itself(tmp_path: Path) -> None:
    demo = Demo(tmp_path, free_port(), "--site", "village", "--for", "3s")
    try:
        assert demo.process.wait(30) == 0, demo.err.read_text()
        assert "Traceback" not in demo.err.read_text()
    finally:
        demo.kill()


def test_a_busy_port_is_one_clear_line_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([EMS, "demo", "--port", str(port)], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"port {port} is in use" in done.stderr


@pytest.mark.parametrize(("option", "value"), [("--for", "10"), ("--speed", "0"), ("--site", "atlantis")])
def test_what_cannot_be_shown_is_refused(tmp_path: Path, option: str, value: str) -> None:
    done = subprocess.run([EMS, "demo", option, value], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert value in done.stderr.splitlines()[-1]
