"""What a replay's plans start from of a deferrable load: its run, its starts and its energy up to now, as at a site."""

from __future__ import annotations

import pytest

from ems.memory import Memory
from ems.model import Image
from ems.plan import DeferrableStart, Observation, Plan, PlantStart
from ems.plan_start import plant_start
from simulator.closed_loop import run
from tests.simulator.test_closed_loop import case_of, site_of

# 100 kWh in one hour: it has to run from 02:00 to 03:00.
SITE = site_of({"id": "ice", "kind": "deferrable", "rated_kw": 100, "daily_kwh": 100, "window": ["02:00", "03:00"]})


class Asked:
    """No plan, so that the rules run the load; what one would have started from is kept."""

    def __init__(self) -> None:
        self.starts: list[PlantStart] = []

    def observe(self, observation: Observation) -> None:
        """Nothing is learned."""

    def plan(self, image: Image, memory: Memory) -> Plan | None:
        self.starts.append(plant_start(SITE, image, memory))
        return None


def test_a_plan_of_a_replay_starts_from_what_has_been_drawn_and_begun_by_then() -> None:
    asked = Asked()
    run(case_of(SITE, hours=25), "mpc", asked)
    found = {k: (s.deferrables["ice"], s.done_kwh["ice"]) for k, s in enumerate(asked.starts)}
    assert found[8] == (DeferrableStart(False, 8 * 900.0 + 900.0, 0), 0.0)  # as long as anybody knows
    assert found[9] == (DeferrableStart(True, 900.0, 1), pytest.approx(25.0))
    assert found[12] == (DeferrableStart(True, 3600.0, 1), pytest.approx(100.0))
    assert found[13] == (DeferrableStart(False, 900.0, 1), pytest.approx(100.0))
    assert found[95] == (DeferrableStart(False, 83 * 900.0, 1), pytest.approx(100.0))
    assert found[96] == (DeferrableStart(False, 84 * 900.0, 0), 0.0)  # another day
