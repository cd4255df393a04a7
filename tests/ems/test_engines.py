"""Low load is counted by engine, and burnt clean after enough of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.controller import Controller
from ems.engines import BURN_LOADING, CLEAN, CLEAN_S, DUE_S, Engines
from ems.image import ImageBuilder
from ems.memory import Engine, Memory, UnitMemory
from ems.terms import Mode, Phase
from tests.ems.island import diesel, inverter, points, site, telemetry

SITE = site()
RESTED = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, started_s=-9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}
AUTO = Memory(mode=Mode.AUTO, units=RESTED, setpoints={"pv1": 300.0, "inv1": -2.0})


@pytest.mark.parametrize(
    ("power_kw", "before", "after"),
    [
        (80.0, CLEAN, Engine(1.0, 0.0)),  # dg1: 300 kW, minimum loading 90 kW
        (89.0, CLEAN, CLEAN),  # within what a meter errs
        (150.0, Engine(500.0, 0.0), Engine(500.0, 0.0)),  # neither low nor hard
        (215.0, Engine(500.0, 60.0), Engine(500.0, 61.0)),
        (80.0, Engine(500.0, 60.0), Engine(501.0, 0.0)),  # a burn that is broken off begins again
        (215.0, Engine(500.0, CLEAN_S - 1.0), CLEAN),
        (None, Engine(500.0, 60.0), Engine(500.0, 60.0)),  # off
    ],
)
def test_counting(power_kw: float | None, before: Engine, after: Engine) -> None:
    memory = replace(AUTO, engines={"dg1": before})
    image = ImageBuilder(SITE).build(telemetry(1, dg1=diesel(power_kw)), memory)
    assert Engines(SITE).counted(image, memory)["dg1"] == after


def test_a_burn_that_is_due_loads_the_engine_into_the_battery() -> None:
    memory = replace(AUTO, engines={"dg1": Engine(DUE_S, 0.0)})
    told = telemetry(20, town=points(power_kw=120.0), dg1=diesel(122.0), bess1=points(soc=0.6))
    decision = Controller(SITE, policy="load-following").step(told, (), None, memory)[1]
    assert decision.memory.units["dg1"].phase is Phase.ONLINE
    written = next(w.value for w in decision.writes if (w.asset, w.command) == ("inv1", "power_kw"))
    assert 120.0 - written == pytest.approx(BURN_LOADING * 300.0, abs=1.0)
    assert ("wet_stacking", "dg1") in {(a.code, a.asset) for a in decision.alarms}


def test_without_room_in_the_battery_it_waits() -> None:
    memory = replace(AUTO, engines={"dg1": Engine(DUE_S, 0.0)})
    told = telemetry(20, town=points(power_kw=120.0), dg1=diesel(122.0), bess1=points(soc=0.95), inv1=inverter())
    decision = Controller(SITE, policy="load-following").step(told, (), None, memory)[1]
    written = next(w.value for w in decision.writes if (w.asset, w.command) == ("inv1", "power_kw"))
    assert written >= -10.0
