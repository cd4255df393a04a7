"""The supervisor with small stand-ins for its children: who is started again, who is killed, who is told."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from api.processes.supervisor import Patience, Settings, Supervisor, lock_folder
from ems.errors import Failed

HEAD = """
import json, os, sys, threading
given, wait = json.loads(sys.argv[1]), threading.Event().wait
def until_eof():
    for line in sys.stdin:
        with open(given["data"] + "/" + given["name"] + ".heard", "a") as file:
            file.write(line)
    os._exit(0)
"""
LISTEN = "threading.Thread(target=until_eof, daemon=True).start()\n"
IDLE = HEAD + "until_eof()\n"
CRASH = HEAD + "sys.exit(3)\n"
WEB = HEAD + "print(json.dumps({'ready': given['url']}), flush=True)\nuntil_eof()\n"
TELLS = HEAD + "print(json.dumps({'control': {'notice': 'site.db was damaged'}}), flush=True)\nuntil_eof()\n"
DEAF = HEAD + "print(json.dumps({'ready': given['url']}), flush=True)\nwait(600)\n"
CONTROL = (
    HEAD
    + LISTEN
    + """
for n in range(given["cycle"] + 1, 10**9):
    print(json.dumps({"beat": {"cycle": n, "state": {"more": "x" * 20000}}}), flush=True)
    wait(0.02)
"""
)
STOPS = HEAD + "print(json.dumps({'control': {'stop': {'id': 'x'}}}), flush=True)\nuntil_eof()\n"
SAFE = CONTROL.replace('"more"', '"mode": "safe", "more"')
FALLS_SILENT = (
    HEAD
    + LISTEN
    + """
print(json.dumps({"beat": {"cycle": given["cycle"] + 1, "state": {}}}), flush=True)
wait(600)
"""
)
QUICK = Patience(restarts=2, pause_s=0.01, silent_cycles=3, silence_s=0.3, first_beat_s=20.0)


class Stage:
    """Where the stand-ins play: starts scripts instead of processes, and counts."""

    def __init__(self, folder: Path, **scripts: str) -> None:
        self.folder = folder
        self.scripts = {"control": CONTROL, "web": WEB, "uplink": IDLE, **scripts}
        self.started: Counter[str] = Counter()
        self.given: dict[str, list[Mapping[str, Any]]] = {}
        self.urls: list[str] = []
        self.processes: list[asyncio.subprocess.Process] = []
        door = socket.create_server(("127.0.0.1", 0))
        self.lock = lock_folder(folder, 0.0)
        settings = Settings("site.yaml", "isle", str(folder), "control", "http://there", False, 0.05)
        self.door = door
        self.supervisor = Supervisor(settings, door, self.lock, self.urls.append, self.start, QUICK)

    async def start(self, name: str, given: Mapping[str, Any], fds: tuple[int, ...]) -> asyncio.subprocess.Process:
        self.started[name] += 1
        self.given.setdefault(name, []).append(given)
        argument = json.dumps({**given, "name": name})
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", self.scripts[name], argument, stdin=pipe, stdout=pipe, limit=10**7)
        self.processes.append(process)
        return process

    def heard(self, name: str) -> list[dict[str, Any]]:
        """What a child was told."""
        path = self.folder / f"{name}.heard"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110 - other processes set no event of ours
                await asyncio.sleep(0.02)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(**scripts: str) -> Stage:
        made.append(Stage(tmp_path, **scripts))
        return made[-1]

    yield make
    for each in made:
        each.door.close()
        os.close(each.lock)


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[asyncio.Task[int]]:
    """Run the supervisor, and leave no child whatever the test did."""
    task = asyncio.create_task(stage.supervisor.run())
    try:
        yield task
    finally:
        stage.supervisor.stop.set()
        async with asyncio.timeout(20):
            await task
        assert all(p.returncode is not None for p in stage.processes)


async def test_beats_go_on_to_web_and_the_address_is_told_once(stage: Callable[..., Stage]) -> None:
    at = stage()
    async with running(at) as task:
        await at.until(lambda: len(at.heard("web")) > 5)
        at.processes[1].kill()
        await at.until(lambda: at.started["web"] == 2)
        before = len(at.heard("web"))
        await at.until(lambda: len(at.heard("web")) > before + 5)
        at.supervisor.stop.set()
        assert await task == 0
    assert at.urls == ["http://there"]
    assert at.started["control"] == 1  # control did not notice
    cycles = [line["beat"]["cycle"] for line in at.heard("web")]
    assert cycles == sorted(set(cycles))


async def test_control_that_falls_silent_is_killed_and_goes_on_with_its_numbers(stage: Callable[..., Stage]) -> None:
    at = stage(control=FALLS_SILENT)
    async with running(at):
        await at.until(lambda: at.started["control"] == 3)
    assert [given["cycle"] for given in at.given["control"]] == [0, 1, 2]
    assert at.processes[0].returncode == -9


async def test_a_spent_budget_of_control_ends_all(stage: Callable[..., Stage]) -> None:
    at = stage(control=CRASH)
    async with running(at) as task:
        async with asyncio.timeout(20):
            assert await task == 1
    assert at.started["control"] == 1 + QUICK.restarts


@pytest.mark.parametrize("name", ["web", "uplink"])
async def test_a_spent_budget_of_another_is_told_to_control(stage: Callable[..., Stage], name: str) -> None:
    at = stage(**{name: CRASH})
    async with running(at) as task:
        await at.until(lambda: {"dead": [name]} in at.heard("control"))
        assert not task.done()
    assert at.started == {"control": 1, "web": 1, "uplink": 1} | {name: 1 + QUICK.restarts}


async def test_what_web_found_of_its_store_is_told_to_control_and_to_the_next_one(stage: Callable[..., Stage]) -> None:
    at, notice = stage(web=TELLS), {"notice": "site.db was damaged"}
    async with running(at):
        await at.until(lambda: notice in at.heard("control"))
        at.processes[0].kill()
        await at.until(lambda: at.heard("control").count(notice) == 2)
    assert at.heard("control") == [{"dead": []}, notice] * 2


@pytest.mark.parametrize(("control", "times"), [(CONTROL, 2), (SAFE, 1)], ids=["not in force yet", "in force"])
async def test_a_stop_past_the_store_is_told_to_the_next_control_until_it_is_in_force(stage: Callable[..., Stage], control: str, times: int) -> None:
    at = stage(web=STOPS, control=control)
    async with running(at):
        await at.until(lambda: {"stop": {"id": "x"}} in at.heard("control"))
        seen = at.supervisor.cycle
        await at.until(lambda: at.supervisor.cycle > seen + 3)
        at.processes[0].kill()
        await at.until(lambda: at.started["control"] == 2 and at.heard("control").count({"dead": []}) == 2)
        seen = at.supervisor.cycle
        await at.until(lambda: at.supervisor.cycle > seen + 3)
    assert at.heard("control").count({"stop": {"id": "x"}}) == times


async def test_a_web_that_does_not_read_holds_nobody_up(stage: Callable[..., Stage]) -> None:
    at = stage(web=DEAF)
    async with running(at):
        await at.until(lambda: at.supervisor.cycle > 60)  # 1.2 MB of beats: many times what a pipe holds
        assert at.started["control"] == 1
        at.supervisor.stop.set()
        at.processes[1].kill()  # it would not see its pipe close either


def test_a_folder_has_one_service(tmp_path: Path) -> None:
    held = lock_folder(tmp_path, 0.0)
    with pytest.raises(Failed, match=f"in use by another service \\(process {os.getpid()}\\)"):
        lock_folder(tmp_path, 0.1)
    os.close(held)
    os.close(lock_folder(tmp_path, 0.0))
