"""What is named as a limit holds the setpoint: without it the setpoint is another one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from ems.binding import BLIND, Binding, Cycle
from ems.config.site import Site
from ems.controller import Controller
from ems.decision import AssetDecision, Decision
from ems.guards import Bound, Guards
from ems.memory import Memory, UnitMemory
from ems.model import Image, Limits, Telemetry
from ems.terms import Mode, Phase, Stage
from tests.ems.island import diesel, inverter, points, site, telemetry
from tests.ems.test_always import some_memory, some_plan, some_site, some_telemetry

SITE = site()
RESTED = {"dg1": UnitMemory(Phase.ONLINE, -9000.0, started_s=-9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}
AUTO = Memory(mode=Mode.AUTO, units=RESTED, setpoints={"pv1": 300.0, "inv1": -2.0})


def decide(told: Telemetry, memory: Memory = AUTO) -> Decision:
    controller = Controller(SITE, policy="load-following")
    return Binding(controller).kept(Cycle(told, (), None, memory), controller.step(told, (), None, memory)[1])


@pytest.mark.parametrize(
    ("told", "memory", "unit", "named"),
    [
        # A full battery that idles because nobody needs it is not held by its ceiling; one that would take surplus is.
        (telemetry(bess1=points(soc=0.95)), AUTO, "inv1", ()),
        (
            telemetry(bess1=points(soc=0.95), pv1=points(power_kw=280.0, available_kw=280.0), dg1=diesel(90.0), town=points(power_kw=200.0)),
            AUTO,
            "inv1",
            ("soc_full",),
        ),
        # A limit of 100 kW holds PV only while there is more sun than that.
        (
            telemetry(pv1=points(power_kw=100.0, available_kw=250.0), dg1=diesel(102.0)),
            replace(AUTO, limits={"pv1": Limits(max_kw=100.0)}),
            "pv1",
            ("operator_limit",),
        ),
        (telemetry(inv1=inverter(), bess1=points(soc=None)), AUTO, "inv1", ("soc_unknown",)),
    ],
)
def test_what_holds(told: Telemetry, memory: Memory, unit: str, named: tuple[str, ...]) -> None:
    assert decide(told, memory).assets[unit].why.limited_by == named


@pytest.mark.parametrize("block", range(5))
def test_relaxing_all_that_is_named_changes_the_setpoint(block: int) -> None:
    """1,000 random situations in all: the same cycle is decided once more without the named limits of one unit."""
    tried = dropped = 0
    for seed in range(200 * block, 200 * block + 200):
        chance = random.Random(seed)
        isle = some_site(chance)
        told = some_telemetry(chance, isle)
        memory = replace(some_memory(chance, isle, told.now_s), mode=Mode.AUTO, stage=Stage.CONTROL, stages={}, stopped=False, all_manual=False)
        cycle = Cycle(told, (), some_plan(chance, isle, told), memory)
        controller = Controller(isle, policy=chance.choice(["mpc", "load-following", "cycle-charging"]))
        decision = controller.step(told, (), cycle.plan, memory)[1]
        kept, names = Binding(controller).kept(cycle, decision), Guards(isle).names_of
        dropped += sum(len(decision.assets[u].why.limited_by) - len(d.why.limited_by) for u, d in kept.assets.items())
        for unit, decided in kept.assets.items():
            named = {n for n in decided.why.limited_by if n in names(unit)} - set(BLIND)
            if not named:
                continue
            tried += 1
            free = Controller(isle, policy=controller.policy, guards=Without(isle, unit, named)).step(told, (), cycle.plan, memory)[1].assets[unit]
            assert says(free) != says(decided), f"seed {seed}, {unit}: {named} {says(free)}"
    assert tried > 20, "situations in which nothing is held prove nothing"
    assert dropped > 5, "and neither do those in which all that is touched holds"


def says(decided: AssetDecision) -> tuple[object, ...]:
    """Return what a unit is told, and what is expected of the one that carries the residual."""
    return decided.setpoint_kw, decided.run, decided.why.numbers.get("power_kw")


class Without(Guards):
    """The guards of a site, of which one unit's named ones are gone."""

    def __init__(self, isle: Site, unit: str, names: set[str]) -> None:
        super().__init__(isle)
        self._unit, self._gone = unit, names

    def bounds(self, image: Image, memory: Memory) -> Mapping[str, Bound]:
        return {**super().bounds(image, memory), self._unit: self.bound(self._unit, image, memory, self._gone)}
