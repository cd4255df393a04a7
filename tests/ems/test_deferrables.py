"""Loads that may wait: counted by the local day, on with surplus, late in their window, by plan or by order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ems.controller import Controller
from ems.deferrables import Deferrables
from ems.image import ImageBuilder
from ems.memory import Duty, Manual, Memory, UnitMemory
from ems.model import Image, Limits
from ems.plan import Target
from ems.terms import Mode, Phase
from tests.ems.island import diesel, inverter, points, site, telemetry

# 40 kW, 200 kWh a day between 06:00 and 16:00 local, which is UTC + 9: 5 h of its 10 h window.
DESAL = {"id": "desal", "kind": "deferrable", "rated_kw": 40.0, "daily_kwh": 200.0, "window": ["06:00", "16:00"]}


def palau(**changes: Any) -> Any:
    made = site({**DESAL, **changes})
    return made.model_copy(update={"site": made.site.model_copy(update={"timezone": "Pacific/Palau"})})


ISLAND = palau()
ITEMS = Deferrables(ISLAND)


def at(local_hour: float) -> datetime:
    """Return a time of 2 March in Palau, as UTC."""
    return datetime(2026, 3, 1, 15, tzinfo=UTC) + timedelta(hours=local_hour)


def image(time: datetime, dt_s: float = 60.0, **reading: float | None) -> Image:
    told = telemetry(0, dt_s, time, desal=points(**{"power_kw": 0.0, "running": 0.0, **reading}))
    return ImageBuilder(ISLAND).build(told, Memory())


@pytest.mark.parametrize(
    ("hour", "done_kwh", "surplus", "running", "expected"),
    [
        (8.0, 0.0, False, False, 0.0),
        (8.0, 0.0, True, False, 40.0),
        (8.0, 0.0, False, True, 40.0),  # begun is gone on with
        (8.0, 200.0, True, True, 0.0),  # had its day
        (5.9, 0.0, True, False, 0.0),  # before its window
        (16.0, 0.0, True, True, 0.0),  # after it
        (10.9, 0.0, False, False, 40.0),  # 5.1 h left of which 5 h are needed, with 5 % to spare: now
        (10.5, 0.0, False, False, 0.0),
        (13.0, 150.0, False, False, 0.0),  # 50 kWh need 1.25 h of 3 h
        (14.7, 150.0, False, False, 40.0),
    ],
)
def test_without_a_plan(hour: float, done_kwh: float, surplus: bool, running: bool, expected: float) -> None:
    memory = Memory(done_kwh={"desal": done_kwh})
    seen = image(at(hour), running=float(running), power_kw=40.0 * running)
    assert ITEMS.powers(seen, memory, None, surplus) == {"desal": expected}


@pytest.mark.parametrize(
    ("memory", "reading", "expected"),
    [
        (Memory(), {}, 25.0),  # the plan's wish
        (Memory(manual={"desal": Manual(run=False)}), {}, 0.0),
        (Memory(manual={"desal": Manual(run=True)}), {}, 40.0),
        (Memory(manual={"desal": Manual(power_kw=30.0)}), {}, 30.0),
        (Memory(limits={"desal": Limits(out_of_service=True)}, manual={"desal": Manual(run=True)}), {}, 0.0),
        (Memory(manual={"desal": Manual(run=False)}), {"remote": 0.0, "power_kw": 33.0}, 33.0),  # local: what it draws
        (Memory(), {"power_kw": None}, 0.0),
    ],
)
def test_who_decides(memory: Memory, reading: dict[str, float | None], expected: float) -> None:
    target = Target(frozenset(), {}, "mpc", deferrable_kw={"desal": 25.0})
    assert ITEMS.powers(image(at(8.0), **reading), memory, target, False) == {"desal": expected}


def test_energy_is_counted_until_local_midnight() -> None:
    memory = ITEMS.counted(image(at(23.9), 360.0, power_kw=40.0), Memory(done_kwh={"desal": 100.0}, day="2026-03-02"))
    assert (memory.done_kwh, memory.day) == ({"desal": pytest.approx(104.0)}, "2026-03-02")
    memory = ITEMS.counted(image(at(24.0), 360.0, power_kw=40.0), memory)
    assert (memory.done_kwh, memory.day) == ({"desal": pytest.approx(4.0)}, "2026-03-03")
    memory = ITEMS.counted(image(at(24.1), 360.0, power_kw=None), memory)
    assert memory.done_kwh == {"desal": pytest.approx(4.0)}, "what is not seen is not counted"


def test_starts_are_counted_until_local_midnight_and_a_run_goes_on_over_it() -> None:
    """By the minute: off, on at 23:50, off at 23:52, on at 23:55, over midnight, unseen for a while, off at 00:10."""
    seen = [(23 * 60 + 49, 0.0), (23 * 60 + 50, 1.0), (23 * 60 + 51, 1.0), (23 * 60 + 52, 0.0), (23 * 60 + 55, 1.0)]
    memory, found = Memory(), []
    for minute, running in (*seen, (24 * 60, 1.0), (24 * 60 + 5, None), (24 * 60 + 10, 0.0)):
        memory = ITEMS.counted(replace(image(at(minute / 60.0), running=running), now_s=60.0 * minute), memory)
        found.append((memory.duties["desal"].running, memory.duties["desal"].since_s / 60.0 - 23 * 60, memory.duties["desal"].starts))
    # It began, or ended, in the minute before it was seen.
    assert found == [(False, 48, 0), (True, 49, 1), (True, 49, 1), (False, 51, 1), (True, 54, 2), (True, 54, 0), (True, 54, 0), (False, 69, 0)]


def test_what_is_found_running_was_begun_and_what_is_not_seen_is_not_known() -> None:
    assert ITEMS.counted(image(at(9.0), running=None), Memory()).duties == {}
    assert ITEMS.counted(image(at(9.0), running=1.0), Memory()).duties == {"desal": Duty(True, -60.0, 1)}


@pytest.mark.parametrize(
    ("changes", "duty", "running", "done_kwh", "expected"),
    [
        ({}, Duty(True, -1790.0, 1), True, 200.0, 40.0),  # its day is had, its minimum run is not
        ({}, Duty(True, -1800.0, 1), True, 200.0, 0.0),
        ({}, Duty(True, -9000.0, 1), True, 199.0, 40.0),  # begun is gone on with
        ({}, Duty(False, -9000.0, 3), False, 0.0, 40.0),  # the fourth start of four
        ({}, Duty(False, -9000.0, 4), False, 0.0, 0.0),
        ({}, Duty(True, -9000.0, 9), True, 0.0, 40.0),  # what runs needs no start
        ({"interruptible": False}, Duty(False, -9000.0, 0), False, 0.0, 40.0),
        ({"interruptible": False}, Duty(False, -9000.0, 1), False, 100.0, 0.0),  # begun once, and ended
        ({"interruptible": False}, Duty(True, -9000.0, 1), True, 100.0, 40.0),
    ],
)
def test_without_a_plan_runs_last_and_starts_are_counted(changes: dict[str, Any], duty: Duty, running: bool, done_kwh: float, expected: float) -> None:
    """At 12:00 with a surplus; `now_s` is 0."""
    items = Deferrables(palau(**changes))
    seen = image(at(12.0), running=float(running), power_kw=40.0 * running)
    memory = Memory(done_kwh={"desal": done_kwh}, duties={"desal": duty})
    assert items.powers(seen, memory, None, True) == {"desal": expected}
    assert items.powers(seen, memory, None, True, relief=True) == {"desal": 0.0}, "the island goes first"
    assert items.powers(seen, replace(memory, limits={"desal": Limits(out_of_service=True)}), None, True) == {"desal": 0.0}
    assert items.powers(seen, replace(memory, manual={"desal": Manual(run=False)}), None, True) == {"desal": 0.0}
    assert items.powers(seen, replace(memory, manual={"desal": Manual(run=True)}), None, True) == {"desal": 40.0}


MODULATING = {"modulating": True, "min_kw": 12.0}


@pytest.mark.parametrize(
    ("changes", "limits", "by_plan", "by_rule", "by_hand"),
    [
        (MODULATING, Limits(), 25.0, 40.0, 30.0),
        (MODULATING, Limits(max_kw=20.0), 20.0, 20.0, 20.0),
        (MODULATING, Limits(max_kw=12.0), 12.0, 12.0, 12.0),
        (MODULATING, Limits(max_kw=10.0), 0.0, 0.0, 0.0),  # under its minimum it cannot run
        (MODULATING, Limits(min_kw=35.0), 35.0, 40.0, 35.0),
        (MODULATING, Limits(min_kw=35.0, max_kw=20.0), 20.0, 20.0, 20.0),
        ({}, Limits(max_kw=39.0), 0.0, 0.0, 0.0),  # it is all or nothing
    ],
)
def test_what_an_operator_allows_bounds_plan_rule_and_order(changes: dict[str, Any], limits: Limits, by_plan: float, by_rule: float, by_hand: float) -> None:
    items, seen = Deferrables(palau(**changes)), image(at(8.0))
    memory = Memory(limits={"desal": limits})
    off = Target(frozenset(), {}, "mpc", deferrable_kw={"desal": 0.0})
    assert items.powers(seen, memory, replace(off, deferrable_kw={"desal": 25.0}), False) == {"desal": by_plan}
    assert items.powers(seen, memory, None, True) == {"desal": by_rule}
    assert items.powers(seen, replace(memory, manual={"desal": Manual(power_kw=30.0)}), None, False) == {"desal": by_hand}
    assert items.powers(seen, memory, off, False) == {"desal": 0.0}, "a floor is no order to run"


def test_held_to_half_its_power_a_day_is_begun_earlier() -> None:
    """At 20 of 40 kW 200 kWh take 10 h: from 06:00 on, without any surplus."""
    items = Deferrables(palau(**MODULATING))
    assert items.powers(image(at(6.0)), Memory(limits={"desal": Limits(max_kw=20.0)}), None, False) == {"desal": 20.0}
    assert items.powers(image(at(6.0)), Memory(), None, False) == {"desal": 0.0}


def test_a_site_without_any_counts_nothing() -> None:
    memory = Memory(done_kwh={"old": 3.0}, day="2026-03-01")
    assert Deferrables(site()).counted(ImageBuilder(site()).build(telemetry(), memory), memory) is memory


@pytest.mark.parametrize(
    ("limit_kw", "sun", "runs"),
    [
        (100.0, {"power_kw": 100.0, "available_kw": 180.0}, True),  # held back
        (100.0, {"power_kw": 100.0, "available_kw": 100.0}, False),  # all there is
        (100.0, {"power_kw": 100.0}, True),  # no measured offer: it stands at its limit
        (100.0, {"power_kw": 40.0}, False),
        (0.0, {"power_kw": 0.0}, False),  # night
        (300.0, {"power_kw": 290.0}, False),
    ],
)
def test_surplus_is_sun_that_is_held_back(limit_kw: float, sun: dict[str, float], runs: bool) -> None:
    units = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, -9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}
    memory = Memory(mode=Mode.AUTO, units=units, setpoints={"pv1": limit_kw, "inv1": -2.0})
    told = replace(telemetry(pv1=points(**sun), dg1=diesel(202.0 - sun["power_kw"]), inv1=inverter(), desal=points(power_kw=0.0, running=0.0)), time=at(8.0))
    decision = Controller(ISLAND, policy="load-following").step(told, (), None, memory)[1]
    assert decision.assets["desal"].run is runs
