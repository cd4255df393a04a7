"""What the EMS sees of every link and value fault, and what becomes of its commands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from ems.decision import Write
from ems.model import Quality, Reading
from simulator.faults.alphabet import KINDS
from tests.simulator.faults.bench import Bench, fault

Seen = Sequence[Reading]


def ages(seen: Seen) -> list[float]:
    return [r.age_s for r in seen]


def values(seen: Seen) -> list[float | None]:
    return [r.value for r in seen]


# Each kind on the town's load, which is 300 kW and grows by 1 kW a cycle, from cycle 5 on: what the eight cycles after show.
TABLE: dict[str, Callable[[Seen], bool]] = {
    "silent": lambda s: ages(s) == [1, 2, 3, 4, 5, 6, 7, 8] and set(values(s)) == {304.0},
    "late": lambda s: max(ages(s)) == 5.0 and values(s)[-1] == 312.0 - 5.0,
    "nan": lambda s: all(math.isnan(r.value or 0.0) for r in s),
    "inf": lambda s: all(math.isinf(r.value or 0.0) for r in s),
    "sentinel": lambda s: len(set(values(s))) == 1 and abs(values(s)[0] or 0.0) > 30000.0,
    "missing": lambda s: all(r.value is None and r.quality is Quality.BAD for r in s),
    "bad_status": lambda s: all(r.quality is Quality.BAD for r in s) and values(s)[0] == 305.0,
    "uncertain": lambda s: all(r.quality is Quality.SUSPECT for r in s) and values(s)[0] == 305.0 + 8.0,
    "old_stamp": lambda s: min(ages(s)) > 10.0 and values(s)[0] == 305.0,
    "future_stamp": lambda s: max(ages(s)) < 0.0 and set(values(s)) == {305.0},
    "zeroed": lambda s: set(values(s)) == {0.0} and set(ages(s)) == {0.0},
    "frozen": lambda s: set(values(s)) == {305.0} and set(ages(s)) == {0.0},
    "drift": lambda s: 0.0 < abs((values(s)[7] or 0.0) - 312.0) < 2.0,
    "bias": lambda s: [round(abs((v or 0.0) - 305.0 - k), 6) for k, v in enumerate(values(s))] == [40.0] * 8,
    "noise": lambda s: len({round((v or 0.0) - k, 3) for k, v in enumerate(values(s))}) > 5,
    "scaled": lambda s: values(s)[0] in (3050.0, 30.5),
    "flipped": lambda s: values(s)[0] == -305.0,
    "swapped": lambda s: all(v != 305.0 + k for k, v in enumerate(values(s))),
}


@pytest.mark.parametrize("kind", TABLE)
def test_what_is_read_of_the_load(kind: str) -> None:
    target = "town.power_kw" if KINDS[kind].klass == "value" else "town"
    bench = Bench(fault(kind, target, 5.0))
    before = [x["town"]["power_kw"] for x in bench.cycles(5)]
    assert before == [Reading(300.0 + k) for k in range(5)]
    seen = [bench.cycle(305.0 + k)["town"]["power_kw"] for k in range(8)]
    assert TABLE[kind](seen), seen
    assert bench.lives[0].touched > 0


@pytest.mark.parametrize("kind", ["flap", "lossy", "heavy_tail"])
def test_an_unsteady_link_comes_and_goes(kind: str) -> None:
    bench = Bench(fault(kind, "town", 5.0, severity=0.4))
    seen = ages([x["town"]["power_kw"] for x in bench.cycles(200)])
    assert set(seen[:5]) == {0.0}
    assert 20 < sum(age > 0.0 for age in seen) < 195
    assert max(seen) > 1.0


def test_a_part_of_the_points_does_not_come() -> None:
    bench = Bench(fault("partial", "dg1", 1.0))
    bench.cycle()
    seen = bench.cycle()["dg1"]
    missing = {name for name, r in seen.items() if r.value is None}
    assert len(missing) == (len(seen) + 1) // 2
    assert {name for name, r in bench.cycle()["dg1"].items() if r.value is None} == missing


def test_a_spike_is_one_of_many() -> None:
    bench = Bench(fault("spike", "town.power_kw", 0.0, severity=0.5))
    off = [abs((x["town"]["power_kw"].value or 0.0) - 300.0 - k) > 1.0 for k, x in enumerate(bench.cycles(200))]
    assert 5 < sum(off) < 60


def test_a_switch_reads_as_its_opposite() -> None:
    bench = Bench(fault("wrong_switch", "dg1.breaker_closed", 1.0))
    assert [bench.cycle()["dg1"]["breaker_closed"].value for _ in range(3)] == [1.0, 0.0, 0.0]


def test_all_devices_fall_silent_together_and_come_back_after_their_pause() -> None:
    bench = Bench(fault("all_silent", "site", 3.0, 10.0))
    seen = bench.cycles(40)
    assert all(r.age_s > 2.0 for points in seen[8].values() for r in points.values())
    assert all(r.age_s == 0.0 for points in seen[39].values() for r in points.values())
    assert any(r.age_s > 0.0 for r in seen[13]["town"].values()), "a device that failed is not asked again at once"


def test_the_other_devices_are_left_alone() -> None:
    bench = Bench(fault("silent", "town", 2.0))
    seen = bench.cycles(8)[-1]
    assert {a for a, points in seen.items() if any(r.age_s > 0.0 for r in points.values())} == {"town"}


def test_a_fault_that_changes_nothing_is_not_injected() -> None:
    bench = Bench(fault("zeroed", "dg2.power_kw", 0.0))
    bench.cycles(5)
    assert bench.lives[0].touched == 0


def written(bench: Bench, *writes: Write) -> None:
    bench.field.write(bench.now_s, writes, bench.lives)


@pytest.mark.parametrize(
    ("kind", "after_cycles"),
    [
        ("refused", {0: 100.0, 25: 100.0}),
        ("ignored", {0: 100.0, 25: 100.0}),
        ("silent", {0: 100.0, 25: 100.0}),
        ("delayed", {0: 100.0, 25: 50.0}),
        ("twice", {0: 50.0}),
    ],
)
def test_what_becomes_of_a_setpoint(kind: str, after_cycles: dict[int, float]) -> None:
    bench = Bench(fault(kind, "pv1", 2.0))
    bench.cycles(2)
    written(bench, Write("pv1", "limit_kw", 100.0))
    bench.cycle()
    written(bench, Write("pv1", "limit_kw", 50.0))
    for cycles, limit_kw in after_cycles.items():
        bench.cycles(cycles)
        assert bench.plant.solars[0].limit_kw == limit_kw
    assert bench.lives[0].touched > 0


def test_a_command_that_is_carried_out_twice_undoes_what_came_between() -> None:
    bench = Bench(fault("twice", "dg2", 0.0, severity=1.0), running=("dg1", "dg2"))
    bench.cycle()
    written(bench, Write("dg2", "running", 0.0))
    assert not bench.plant.diesels[1].wanted
    bench.plant.command("dg2", "running", 1.0)
    bench.cycles(10)
    assert not bench.plant.diesels[1].wanted


def test_a_setpoint_that_does_not_move_is_written_once_a_minute() -> None:
    bench = Bench()
    bench.cycle()
    for _ in range(50):
        written(bench, Write("pv1", "limit_kw", 100.0))
        bench.plant.solars[0].limit_kw = 77.0
        bench.cycle()
    assert bench.plant.solars[0].limit_kw == 77.0
    bench.cycles(15)
    written(bench, Write("pv1", "limit_kw", 100.0))
    assert bench.plant.solars[0].limit_kw == 100.0
    written(bench, Write("pv1", "limit_kw", math.nan))
    assert bench.plant.solars[0].limit_kw != 100.0, "what is not finite is not held back here"
