"""The whole service on the real wire: what may fail alone fails alone, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from drivers.store.history import HistoryReader
from tests.e2e.service import EMS, SERIES, SITE, Command, Service, alive, children, until

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A simulated island on the wire; gives the folder with its as-simulated.yaml."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "site.yaml").write_text(SITE, encoding="utf-8")
    (folder / "day.csv").write_text(SERIES, encoding="utf-8")
    simulate = Command(folder, "simulate", "site.yaml", "--series", "day.csv", "--data", ".")
    try:
        assert simulate.first_line() == str(folder / "as-simulated.yaml"), simulate.err.read_text()
        yield folder
        assert simulate.end() == 0
    finally:
        simulate.kill()


@pytest.fixture(scope="module")
def service(plant: Path) -> Iterator[Service]:
    """One service for all tests that leave it running; it is ended by the last of them."""
    service = Service(plant, "as-simulated.yaml")
    try:
        assert service.first_line() == f"http://127.0.0.1:{service.port}", service.err.read_text()
        until(service.ready)
        yield service
    finally:
        service.kill()


def cycles(folder: Path) -> list[int]:
    """Return the numbers of all cycles that were stored."""
    with closing(sqlite3.connect(f"file:{folder / 'data' / 'history.db'}?mode=ro", uri=True)) as db:
        return [number for (number,) in db.execute("SELECT cycle FROM cycles ORDER BY rowid")]


def last_cycle(folder: Path, data: str = "data") -> int:
    return HistoryReader(folder / data / "history.db").last_cycle()


def test_the_island_is_run_over_the_wire(plant: Path, service: Service) -> None:
    def settled() -> bool:
        state = service.state()
        supply = sum(state["assets"][a]["power_kw"] or 0.0 for a in ("pv1", "dg1", "dg2", "inv1")) + state["unserved_kw"]
        return bool(state["mode"] in ("auto", "fallback") and abs(supply - state["load_kw"]) < 10 and state["assets"]["pv1"]["power_kw"] > 50)

    until(settled)
    assert service.state()["load_kw"] == pytest.approx(300, abs=10)
    assert service.get("/api/v1/explain")[1]


def test_every_point_can_be_probed(plant: Path, service: Service) -> None:
    done = subprocess.run([EMS, "check", "as-simulated.yaml", "--probe"], cwd=plant, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith(("bess1.", "pv1.", "dg1."))}
    assert "good" in told["bess1.soc"] and 0.0 < float(told["bess1.soc"][0]) < 1.0
    assert " bad " not in done.stdout


def test_web_is_killed_and_control_does_not_notice(plant: Path, service: Service) -> None:
    before = children(service.pid)
    at = last_cycle(plant)
    os.kill(before["web"], signal.SIGKILL)
    until(lambda: children(service.pid).get("web", before["web"]) != before["web"])
    until(service.ready)
    after = children(service.pid)
    assert (after["control"], after["uplink"]) == (before["control"], before["uplink"])
    until(lambda: last_cycle(plant) >= at + 3)
    stored = [n for n in cycles(plant) if n >= at]
    assert stored == list(range(at, at + len(stored)))  # not one is missing


def test_the_planner_is_killed_and_control_goes_on(plant: Path, service: Service) -> None:
    control = children(service.pid)["control"]
    planner = until(lambda: children(control).get("planner"))
    at = last_cycle(plant)
    os.kill(planner, signal.SIGKILL)
    until(lambda: children(control).get("planner", planner) != planner)  # a new one is there
    until(lambda: last_cycle(plant) >= at + 3)
    stored = [n for n in cycles(plant) if n >= at]
    assert stored == list(range(at, at + len(stored)))
    assert children(service.pid)["control"] == control


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_control_is_started_again_and_its_numbers_do_not_go_back(plant: Path, service: Service, number: int) -> None:
    before, at = children(service.pid), last_cycle(plant)
    planner = until(lambda: children(before["control"]).get("planner"))
    os.kill(before["control"], number)
    until(lambda: children(service.pid).get("control", before["control"]) != before["control"])
    until(lambda: last_cycle(plant) >= at + 3)
    stored = cycles(plant)
    assert stored == sorted(set(stored))
    assert children(service.pid)["web"] == before["web"]
    until(service.ready)
    assert service.state()["cycle"] > at
    until(lambda: not alive(planner))  # it went with its parent


def test_an_emergency_stop_is_obeyed_while_nothing_can_be_stored(plant: Path, service: Service) -> None:
    password = {**os.environ, "EMS_PASSWORD": "correct horse"}
    subprocess.run([EMS, "user", "add", "olga", "--role", "operator", "--data", "data"], cwd=plant, env=password, check=True, timeout=60)
    with closing(sqlite3.connect(plant / "data" / "site.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")  # another one that writes there, and does not end
        _, login = service.post("auth/token", {"username": "olga", "password": "correct horse"})
        token = login["access_token"]
        assert service.post("mode", {"mode": "manual", "reason": "test"}, token)[0] == 503
        status, sent = service.post("stop", {"reason": "test"}, token)
        assert status == 202
        until(lambda: service.state()["mode"] == "safe")
        assert service.get(f"/api/v1/commands/{sent['id']}")[1]["result"] == "in force"
        db.execute("ROLLBACK")
    until(lambda: service.post("mode", {"mode": "auto", "reason": "test"}, token)[0] == 202)
    until(lambda: service.state()["mode"] in ("auto", "fallback"))


def test_a_second_service_on_the_same_data_is_refused(plant: Path, service: Service) -> None:
    done = subprocess.run(
        [EMS, "run", "as-simulated.yaml", "--data", "data", "--port", "0"], cwd=plant, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"in use by another service (process {service.pid})" in done.stderr
    assert done.stdout == ""
    assert service.ready()


def test_a_busy_port_is_one_clear_line(plant: Path, service: Service) -> None:
    command = [EMS, "run", "as-simulated.yaml", "--data", "other", "--port", str(service.port)]
    done = subprocess.run(command, cwd=plant, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"port {service.port} is in use" in done.stderr


def test_sigterm_ends_all_with_streams_open(plant: Path, service: Service) -> None:
    """The last test of this service."""
    family = children(service.pid)
    everyone = [*family.values(), *children(family["control"]).values()]
    assert len(everyone) == 4
    streams = [socket.create_connection(("127.0.0.1", service.port), timeout=10) for _ in range(5)]
    for stream in streams:
        stream.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stream.recv(1000).startswith(b"HTTP/1.1 200")
    assert service.end() == 0, service.err.read_text()
    assert [pid for pid in everyone if alive(pid)] == []
    for stream in streams:
        stream.close()
    assert "Traceback" not in service.err.read_text()
    assert service.out.read_text().count("\n") == 1  # the address, and nothing else


def test_children_of_a_killed_supervisor_end_and_the_next_one_goes_on(plant: Path) -> None:
    first = Service(plant, "as-simulated.yaml", data="left")
    try:
        until(first.ready)
        family = children(first.pid)
        everyone = [*family.values(), *children(family["control"]).values()]
        at = last_cycle(plant, "left")
        first.end(signal.SIGKILL)
        second = Service(plant, "as-simulated.yaml", data="left")
        try:
            until(second.ready)
            assert [pid for pid in everyone if alive(pid)] == []
            assert second.state()["cycle"] > at
            assert second.end(signal.SIGINT) == 0
        finally:
            second.kill()
    finally:
        first.kill()
