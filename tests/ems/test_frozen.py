"""Values: compared by their fields, changed only into new ones, and left alone by the decision."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import field, fields, replace
from pathlib import Path

import pytest

from ems.controller import Controller
from ems.decision import Reserve, Write
from ems.frozen import changed, frozen
from ems.memory import Memory
from ems.model import NOTHING, AssetImage, Quality, Reading
from ems.terms import Mode, Stage
from simulator.plant import Conditions, Plant
from tests.ems.island import site, telemetry


@frozen
class One:
    """A value of a single field."""

    kw: float = 1.0


@frozen
class Made:
    """A value whose default is made anew."""

    kw: float
    names: list[str] = field(default_factory=list)


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (Memory(), {"mode": Mode.AUTO, "load_kw": 120.0, "taken_seq": 3}),
        (Reserve(1.0, 2.0, 3.0, 900.0, 5.0, None, "load"), {"down_required_kw": 7.0, "required_kw": 0.0}),
        (AssetImage("dg1", "diesel", {"power_kw": 2.0}, Quality.GOOD, 0.5), {"points": NOTHING, "silent_s": 3.0}),
        (One(), {"kw": 2.0}),
        (Made(1.0), {"names": ["a"]}),
        (Write("pv1", "limit_kw", 3.0), {}),
    ],
)
def test_changed_is_replace(value: Memory, other: dict[str, object]) -> None:
    before = {f.name: getattr(value, f.name) for f in fields(value)}
    after = changed(value, **other)  # type: ignore[arg-type]
    assert after == replace(value, **other)  # type: ignore[arg-type]
    assert type(after) is type(value)
    assert {f.name: getattr(value, f.name) for f in fields(value)} == before


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(KeyError):
        changed(One(), kvar=1.0)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        One().kvar = 1.0  # type: ignore[attr-defined]


def test_values_are_compared_hashed_and_pickled_by_their_fields() -> None:
    one, same = Write("dg1", "power_kw", 100.0), Write("dg1", "power_kw", 100.0)
    assert one == same and hash(one) == hash(same) and len({one, same, Write("dg1", "power_kw", 101.0)}) == 2
    assert pickle.loads(pickle.dumps(one)) == one
    assert Made(1.0).names is not Made(1.0).names


MISUSE = """
from ems.decision import Write
from ems.frozen import changed

write = Write("pv1", "limit_kw", 3.0)
write.value = 4.0
changed(write, value="four")
changed(write, kw=4.0)
"""


def test_the_type_checker_refuses_assignments_and_changes_that_do_not_fit(tmp_path: Path) -> None:
    misuse = tmp_path / "misuse.py"
    misuse.write_text(MISUSE)
    argv = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "--no-pretty", str(misuse)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    refused = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [line.split(":")[1] for line in refused] == ["6", "7", "8"], done.stdout + done.stderr
    assert "read-only" in refused[0]


def test_a_decision_changes_nothing_that_it_was_handed() -> None:
    isle = site()
    plant, controller = Plant(isle), Controller(isle, policy="load-following")
    memory = Memory(mode=Mode.AUTO, stage=Stage.CONTROL)
    for k in range(60):
        load_kw = 100.0 + 5.0 * (k % 20)
        conditions = Conditions({"town": load_kw}, {"pv1": 10.0 * (k % 30)}, {})
        shown = {a: {n: Reading(v, Quality.BAD if v is None else Quality.GOOD) for n, v in points.items()} for a, points in plant.observe(conditions).items()}
        told = telemetry(k, **shown)
        handed = pickle.dumps((told, memory))
        _, decision = controller.step(told, (), None, memory)
        assert pickle.dumps((told, memory)) == handed
        for write in decision.writes:
            plant.command(write.asset, write.command, write.value)
        plant.step(1.0, conditions)
        memory = decision.memory
