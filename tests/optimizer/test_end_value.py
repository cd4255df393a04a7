"""What is left in a battery is worth: as much as diesels burn for it where it is needed, next to nothing where the next surplus fills it anyway."""

from __future__ import annotations

import numpy as np
import pytest

from ems.physics import kwh_per_m3
from optimizer.problem import PlanProblem
from tests.optimizer.cases import BESS1, DG1, HOUR, INV1, LOAD, PV1, question, site, start

RIVER = {"id": "river", "kind": "hydro", "rated_kw": 50.0, "head_m": 20.0, "design_flow_m3s": 0.4}
BAND_MWH = 0.85 * 0.4
INTO, TO_BUS = 0.975 * 0.96, 0.975 * 0.96


@pytest.mark.parametrize(
    ("load", "sun", "water", "needed", "no_room"),
    [
        (10.0, 0.0, 0.0, 0.24 / TO_BUS, 0.0),  # 240 kWh lack in a day
        (60.0, 0.0, 0.4, 0.24 / TO_BUS, 0.0),  # with 50 kW of river the same
        (100.0, 0.0, 0.0, BAND_MWH, 0.0),  # more lacks than the band holds
        (10.0, 15.0, 0.0, 0.0, 0.12 * INTO),  # 120 kWh are too much
        (60.0, 15.0, 0.4, 0.0, 0.12 * INTO),
        (55.0, 100.0, 0.4, 0.0, BAND_MWH),
    ],
)
def test_the_last_day_stands_for_the_next(load: float, sun: float, water: float, needed: float, no_room: float) -> None:
    of, steps = site(LOAD, PV1, DG1, INV1, BESS1, RIVER), (HOUR,) * 30
    problem = PlanProblem(of, steps)
    problem.fill(question(of, steps, load, start(of), sun=sun, water=water))
    (widths,) = (np.array([w for w, _ in i.store.end_pieces()]) for i in problem.inverters if i.store is not None)
    assert widths == pytest.approx([needed, BAND_MWH - needed - no_room, no_room])


def test_two_batteries_share_what_lacks() -> None:
    second = {**BESS1, "id": "bess2", "behind": "inv2", "capacity_kwh": 1200.0}
    of, steps = site(LOAD, DG1, INV1, BESS1, {**INV1, "id": "inv2"}, second), (HOUR,) * 24
    problem = PlanProblem(of, steps)
    problem.fill(question(of, steps, 10.0, start(of)))
    needed = [i.store.end_pieces()[0][0] for i in problem.inverters if i.store is not None]
    assert needed == pytest.approx([0.06 / TO_BUS, 0.18 / TO_BUS])


POND = {**RIVER, "pond_m3": 6000.0}


@pytest.mark.parametrize(
    ("load", "sun", "inflow", "needed", "no_room"),
    [
        (60.0, 0.0, 0.4, 0.0, 0.0),  # 240 kWh lack beside the river, and the battery keeps them
        (65.0, 0.0, 0.4, "lacking", 0.0),  # 360 kWh lack, of which the battery has no more than its band
        (100.0, 0.0, 0.5, 0.0, 6.0),  # the river brings 0.1 m3/s more than the turbine takes, 8640 m3 a day: more than the pond holds
        (40.0, 100.0, 0.4, 0.0, 6.0),  # while there is surplus all day the turbine stands
        (60.0, 0.0, 0.0, 6.0, 0.0),  # no river: the pond is the evening's, all of it
    ],
)
def test_water_is_worth_what_it_will_spare(load: float, sun: float, inflow: float, needed: float | str, no_room: float) -> None:
    """Widths of the pond's pieces [1000 m3]: what lacks and no battery keeps, the rest, and the room that tomorrow's water needs."""
    of, steps = site(LOAD, PV1, DG1, INV1, BESS1, POND), (HOUR,) * 30
    problem = PlanProblem(of, steps)
    problem.fill(question(of, steps, load, start(of), sun=sun, water=inflow))
    (hydro,), (battery,) = problem.hydros, [i.store for i in problem.inverters if i.store is not None]
    assert hydro.width is not None
    if needed == "lacking":
        river = float(hydro.natural_kw(question(of, steps, load, start(of), water=inflow))[0])
        needed = ((load - river) * 24.0 - battery.kept_kwh) / kwh_per_m3(hydro.hydro) * 1e-3
        assert 0.0 < needed < 6.0
    assert list(hydro.width.value) == pytest.approx([needed, 6.0 - needed - no_room, no_room], abs=1e-3)
