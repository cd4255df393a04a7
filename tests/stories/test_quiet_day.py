"""Nothing happens: the island is carried, quietly, by whoever is cheapest, and nothing flaps."""

from __future__ import annotations

import math

import pytest

from ems.loop import resumed
from ems.terms import Mode, Stage
from tests.ems.island import site as isle
from tests.stories.life import Life, alarms, events, shipped, starts, switchings

QUIET = {"ouessant": (800.0, 300.0, 0.0), "river": (700.0, 300.0, 1.0), "village": (50.0, 20.0, 0.0)}


def day_load_kw(peak_kw: float):
    """Return a day's load: lowest at night, a peak in the evening; the story begins at 06:00."""
    return lambda s: peak_kw * (0.45 + 0.2 * math.sin(2 * math.pi * (s / 86400 - 0.05)) + 0.15 * max(0.0, math.sin(2 * math.pi * (s / 86400 - 0.4))))


def day_sun_kw(rated_kw: float):
    return lambda s: max(0.0, 0.85 * rated_kw * math.sin(math.pi * (s % 86400) / 43200)) if s % 86400 < 43200 else 0.0


@pytest.mark.parametrize("name", QUIET)
def test_a_quiet_hour_has_no_alarm_and_each_diesel_changes_at_most_once_each_way(name: str) -> None:
    life = Life(shipped(name))
    cycles = life.live(2000, *QUIET[name])
    assert alarms(cycles) == set()
    assert all(n <= 2 for n in switchings(cycles).values())
    assert all(n <= 1 for n in starts(cycles).values())
    assert [kind for kind, asset in events(cycles) if asset is None] == ["mode"]


@pytest.mark.parametrize("name", QUIET)
def test_a_restarted_controller_moves_nothing_with_its_first_writes(name: str) -> None:
    life = Life(shipped(name))
    before = life.live(200, *QUIET[name])[-1].flows.power_kw
    life.memory = resumed(life.memory, life.now_s)
    first, second = life.live(2, *QUIET[name])
    assert first.decision.mode is Mode.AUTO
    assert {w.asset for w in first.decision.writes if w.command == "running" and w.value != before[w.asset] > 0} == set()
    assert first.flows.power_kw == pytest.approx(before, abs=1.0)
    # What follows is bounded by ramps and the 5 s of the trim, never a jump of more than a tenth.
    for unit in life.plant.site.assets:
        if unit.kind in ("solar", "hydro", "diesel"):
            assert abs(second.flows.power_kw[unit.id] - before[unit.id]) <= 0.1 * unit.rated_kw, unit.id


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.ADVISE])
def test_below_control_the_island_is_left_alone_and_nothing_is_held_against_it(stage: Stage) -> None:
    """Alone, the plant keeps one diesel on; the controller would start a second one, and only says so."""
    life = Life(shipped("ouessant"), stage=stage)
    cycles = life.live(400, 1050.0, 0.0)  # more than dg1 can carry alone
    assert all(c.decision.writes == () and not c.decision.heartbeat for c in cycles)
    assert {tuple(d for d, on in c.flows.running.items() if on) for c in cycles} == {("dg1",)}
    last = cycles[-1].decision
    assert any(last.assets[d].run is True for d in ("dg2", "dg3"))
    assert "start" not in {kind for kind, _ in events(cycles)}
    assert {code for code, _ in alarms(cycles)} & {"locked", "astray"} == set()


def test_from_shadow_into_control_without_a_bump() -> None:
    life = Life(isle())
    life.live(5, 200.0, 60.0, asked=[life.ask("stage", stage="shadow")])
    before = life.live(300, 200.0, 60.0)[-1]
    after = life.live(1, 200.0, 60.0, asked=[life.ask("stage", stage="control")])[-1]
    assert before.decision.writes == () and after.decision.writes
    assert after.flows.power_kw == pytest.approx(before.flows.power_kw, abs=1.0)


@pytest.mark.parametrize(
    ("name", "policy"),
    [("ouessant", "load-following"), ("river", "cycle-charging"), ("village", "load-following")],
)
def test_a_day_and_a_night(name: str, policy: str) -> None:
    site = shipped(name)
    sun = next(a for a in site.assets if a.kind == "solar").rated_kw
    life = Life(site, policy=policy, dt_s=30.0)
    cycles = life.live(86400, day_load_kw(site.peak_kw), day_sun_kw(sun), 0.8)
    assert {code for code, _ in alarms(cycles)} <= {"reserve_short"}
    short_s = sum(life.dt_s for c in cycles if c.decision.reserve.short_kw > 0.1)
    assert short_s <= 900 or len(life.plant.diesels) == 1, "reserve may only be short while a diesel starts, where there is one to start"
    assert all(n <= 6 for n in starts(cycles).values()), starts(cycles)
    for diesel in life.plant.diesels:
        flags = [c.flows.running[diesel.id] for c in cycles]
        changes = [k for k in range(1, len(flags)) if flags[k] is not flags[k - 1]]
        runs = [(a, b) for a, b in zip(changes, changes[1:], strict=False) if flags[a]]
        assert all((b - a) * life.dt_s >= diesel.asset.min_up_s - life.dt_s for a, b in runs), diesel.id
