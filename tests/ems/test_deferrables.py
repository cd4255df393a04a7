"""Loads that may wait: counted by the local day, on with surplus, late in their window, by plan or by order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ems.controller import Controller
from ems.deferrables import Deferrables
from ems.image import ImageBuilder
from ems.memory import Manual, Memory, UnitMemory
from ems.model import Image, Limits
from ems.plan import Target
from ems.terms import Mode, Phase
from tests.ems.island import diesel, inverter, points, site, telemetry

# 40 kW, 200 kWh a day between 06:00 and 16:00 local, which is UTC + 9: 5 h of its 10 h window.
DESAL = {"id": "desal", "kind": "deferrable", "rated_kw": 40.0, "daily_kwh": 200.0, "window": ["06:00", "16:00"]}


def palau() -> Any:
    made = site(DESAL)
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
    kwh, day = ITEMS.counted(image(at(23.9), 360.0, power_kw=40.0), Memory(done_kwh={"desal": 100.0}, day="2026-03-02"))
    assert (kwh, day) == ({"desal": pytest.approx(104.0)}, "2026-03-02")
    kwh, day = ITEMS.counted(image(at(24.0), 360.0, power_kw=40.0), Memory(done_kwh=kwh, day=day))
    assert (kwh, day) == ({"desal": pytest.approx(4.0)}, "2026-03-03")
    kwh, _ = ITEMS.counted(image(at(24.1), 360.0, power_kw=None), Memory(done_kwh=kwh, day=day))
    assert kwh == {"desal": pytest.approx(4.0)}, "what is not seen is not counted"


def test_a_site_without_any_counts_nothing() -> None:
    memory = Memory(done_kwh={"old": 3.0}, day="2026-03-01")
    assert Deferrables(site()).counted(ImageBuilder(site()).build(telemetry(), memory), memory) == (memory.done_kwh, memory.day)


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
