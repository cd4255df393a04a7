"""The planner's process: killed when it hangs, started again when it dies, gone with its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from ems.plan import Observation, PlanOutcome, PlanRequest
from optimizer.worker import RESTARTS, SPENT, WorkerPlanner
from tests.optimizer.cases import NOON, hybrid, start
from tests.optimizer.makers import Odd

PATIENCE_S = 45.0
T = TypeVar("T")


def ask(name: str, minutes: int = 0, observed: int = 0) -> PlanRequest:
    seen = tuple(Observation(NOON + timedelta(minutes=minutes + k), 60.0, 1.0, {}, {}) for k in range(observed))
    return PlanRequest(name, NOON, start(hybrid()), observations=seen)


@contextmanager
def worker(factory: Odd, deadline_s: float = 20.0, start_s: float = 30.0, pause_s: float = 0.01) -> Iterator[WorkerPlanner]:
    planner = WorkerPlanner(hybrid(), "persistence", deadline_s, factory, start_s, pause_s=pause_s)
    try:
        yield planner
    finally:
        planner.close()


def wait_for(look: Callable[[], T | None]) -> T:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.01)
    raise AssertionError("nothing came")


def answer(planner: WorkerPlanner) -> PlanOutcome:
    return wait_for(planner.take)


def test_a_question_is_answered_once_and_asking_does_not_wait() -> None:
    with worker(Odd(compile_s=0.5)) as planner:
        began = time.monotonic()
        planner.submit(ask("a"))
        assert planner.take() is None
        assert time.monotonic() - began < 0.5
        assert answer(planner).request_id == "a"
        assert planner.take() is None


def test_a_newer_question_replaces_one_not_started_but_its_observations_are_kept() -> None:
    with worker(Odd(compile_s=0.3)) as planner:
        planner.submit(ask("old", observed=1))
        planner.submit(ask("new", minutes=15, observed=1))
        outcome = answer(planner)
        assert (outcome.request_id, outcome.cause) == ("new", "12:00,12:15")
        assert planner.take() is None


@pytest.mark.parametrize(
    ("name", "cause", "deadline_s"), [("hang", "deadline", 1.0), ("crash", "code 7", 20.0), ("glutton", "out of memory: a search took more than 300 MB", 20.0)]
)
def test_a_child_that_hangs_crashes_or_takes_too_much_memory_is_replaced_and_taught_again(name: str, cause: str, deadline_s: float) -> None:
    with worker(Odd(), deadline_s) as planner:
        planner.submit(ask(name, observed=2))
        first = planner.pid
        outcome = answer(planner)
        assert (outcome.request_id, outcome.status) == (name, "failed")
        assert cause in outcome.cause
        planner.submit(ask("after", minutes=15, observed=1))
        again = answer(planner)
        assert (again.request_id, again.status, again.cause) == ("after", "ok", "12:00,12:01,12:15")
        assert planner.pid != first
        assert first is not None
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)


def test_a_killed_child_fails_its_question_and_the_next_is_answered() -> None:
    with worker(Odd()) as planner:
        planner.submit(ask("a"))
        answer(planner)
        planner.submit(ask("hang"))
        assert planner.pid is not None
        os.kill(planner.pid, signal.SIGKILL)
        outcome = answer(planner)
        assert (outcome.request_id, outcome.status) == ("hang", "failed")
        planner.submit(ask("b"))
        assert answer(planner).request_id == "b"


def test_a_child_that_never_gets_ready_uses_up_the_budget() -> None:
    with worker(Odd(broken=True)) as planner:
        planner.submit(ask("a"))
        outcome = answer(planner)
        assert (outcome.status, outcome.cause) == ("failed", SPENT)
        planner.submit(ask("b"))
        assert answer(planner).cause == SPENT
        assert planner.pid is None
        assert len(planner._restarts) == RESTARTS + 1  # noqa: SLF001 - the first start and five more, no child for the second question


def test_a_site_that_cannot_be_planned_for_is_one_cause_and_no_restart() -> None:
    with worker(Odd(refused="9 diesels are too many to plan with")) as planner:
        for name in ("a", "b"):
            planner.submit(ask(name))
            outcome = answer(planner)
            assert (outcome.request_id, outcome.status) == (name, "failed")
            assert "9 diesels are too many to plan with" in outcome.cause and "at most 8" in outcome.cause
        assert len(planner._restarts) == 1  # noqa: SLF001 - the first start alone


def test_restarts_pause_longer_each_time_and_a_question_waits_meanwhile() -> None:
    with worker(Odd(broken=True), pause_s=600.0) as planner:
        first = planner.pid
        planner.submit(ask("a"))

        def other() -> int | None:
            assert planner.take() is None
            return planner.pid if planner.pid not in (None, first) else None

        second = wait_for(other)  # the first restart comes at once

        def away() -> bool | None:
            assert planner.take() is None
            return True if planner.pid is None else None

        wait_for(away)
        assert all(planner.take() is None and planner.pid is None for _ in range(50))
        assert second != first


def test_a_machine_without_room_for_a_child_is_told_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory or no process table entry left: control goes on, and the question has its answer."""

    tried: list[object] = []

    def refused(process: object) -> None:
        tried.append(process)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", refused)
    with worker(Odd(), pause_s=0.0) as planner:
        assert planner.pid is None
        planner.submit(ask("a"))
        outcome = answer(planner)
        assert (outcome.request_id, outcome.status, outcome.cause) == ("a", "failed", SPENT)
        assert len(tried) == RESTARTS + 1  # the first start is no restart


def test_looking_at_a_planner_never_waits_for_a_child_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that cannot be killed at once (it waits for a disk) does not hold up a cycle: nothing joins it until the end."""
    with worker(Odd(), deadline_s=0.2) as planner:
        monkeypatch.setattr(multiprocessing.context.SpawnProcess, "join", lambda child, timeout=None: pytest.fail("a cycle waited for a child"))
        planner.submit(ask("hang"))
        assert "deadline" in answer(planner).cause
        monkeypatch.undo()


def test_close_ends_the_child() -> None:
    planner = WorkerPlanner(hybrid(), "persistence", 20.0, Odd())
    pid = planner.pid
    assert pid is not None
    planner.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    planner.submit(ask("late"))
    assert planner.take() is None
    planner.close()


PARENT = """
import sys, time
sys.path.insert(0, {root!r})
from tests.optimizer.test_worker import Odd, WorkerPlanner, ask, hybrid, wait_for
if __name__ == "__main__":
    planner = WorkerPlanner(hybrid(), "persistence", 60.0, Odd())
    planner.submit(ask("a"))
    wait_for(planner.take)
    planner.submit(ask("hang"))
    print(planner.pid, flush=True)
    time.sleep(600)
"""


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """Even in the middle of a solve that never ends."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(root=str(Path(__file__).parents[2])))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()

    def gone() -> bool | None:
        status = Path(f"/proc/{child}/stat")
        return True if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z" else None

    assert wait_for(gone)


def test_the_site_s_own_planner_answers_from_its_process() -> None:
    grid = hybrid().planner.model_copy(update={"grid": ((15.0, 4),)})
    small = hybrid().model_copy(update={"planner": grid})
    planner = WorkerPlanner(small, "seasonal", 30.0)
    try:
        planner.submit(PlanRequest("real", NOON, start(small, on=["dg1"])))
        outcome = answer(planner)
    finally:
        planner.close()
    assert (outcome.status, outcome.cause) == ("ok", "")
    assert outcome.plan is not None
    assert outcome.forecast is not None
    assert outcome.forecast.source["load"].startswith("fallback")
    assert multiprocessing.active_children() == []
