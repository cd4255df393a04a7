"""Runs of the campaign: the same case twice is the same run; a small share of the whole campaign holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ems.config.load import load_site
from ems.errors import Failed
from simulator.campaign.case import drawn
from simulator.campaign.many import Campaign, cases
from simulator.campaign.run import run
from simulator.campaign.states import STATES
from simulator.faults.alphabet import CLASSES
from tests.simulator.faults.bench import fault, island

SITE = island()
RIVER = load_site(Path(__file__).parents[3] / "configs" / "sites" / "river.yaml").site
SAFETY = {"I1", "I2", "I3", "I4", "I5", "I9", "I14"}
"""Balance, charge, rating, minimum loading, a former, commands, no exception: nothing of these may ever be broken."""


@pytest.mark.parametrize("seed", [2, 7])
def test_the_same_case_is_the_same_run(seed: int) -> None:
    first, second = (run(SITE, drawn(SITE, seed, 250.0, "energy")) for _ in range(2))
    assert first.log == second.log
    assert first.digest == second.digest
    assert first.befallen == second.befallen
    assert len(first.log) > 10


def test_taking_a_fault_out_does_not_change_the_chance_of_the_others() -> None:
    noise, later = fault("noise", "pv1.power_kw", 20.0, 100.0), fault("trip", "dg2", 300.0, 10.0)
    case = replace(drawn(SITE, 3, 250.0, "energy"), faults=(noise, later))
    logs = [run(SITE, c).log for c in (case, case.with_faults([noise]))]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("seed", range(4))
def test_a_share_of_the_campaign_keeps_the_island_safe(seed: int) -> None:
    outcome = run(RIVER, drawn(RIVER, 1000 + seed, 700.0, "energy"))
    assert [v for v in outcome.violations if v.invariant in SAFETY] == []
    assert outcome.simulated_s >= 700.0
    assert any(b.touched for b in outcome.befallen)
    assert outcome.states <= set(STATES)


def test_an_exception_of_the_controller_is_a_violation_and_not_an_end() -> None:
    broken = replace(drawn(SITE, 5, 60.0, "energy"), faults=())
    from simulator.campaign import run as module

    life = module._Life(SITE, broken)
    life._memory = replace(life._memory, units={"dg1": "lost"})  # type: ignore[dict-item]  # a memory that no controller can work with
    while not life.over:
        life.cycle()
    (violation,) = life.finished().violations
    assert violation.invariant == module.EXCEPTION
    assert "line" in violation.text


def test_a_locked_set_is_released_by_a_person_once_its_cause_is_gone() -> None:
    case = replace(drawn(SITE, 5, 500.0, "energy"), faults=(fault("trip", "dg1", 100.0, 60.0),), running=("dg1",), soc=0.8)
    outcome = run(SITE, case)
    assert {"tripped", "locked", "released"} <= outcome.states
    assert outcome.befallen[0].verdict == "survived"


def test_a_dead_bus_is_started_again_on_a_persons_order() -> None:
    taken = [fault("estop", unit, 60.0, 60.0) for unit in ("dg1", "dg2", "inv1")]
    case = replace(drawn(SITE, 5, 700.0, "energy"), faults=tuple(taken), running=("dg1",), soc=0.6)
    outcome = run(SITE, case)
    assert outcome.dark_at_s == 60.0
    assert {"blackout", "black_start"} <= outcome.states
    assert [v for v in outcome.violations if v.invariant == "I5"] == [], "the plant itself took every holder away"
    assert {b.verdict for b in outcome.befallen} == {"degraded"}
    assert outcome.simulated_s >= 700.0


def test_the_report_adds_up_and_names_what_was_not_reached() -> None:
    report = Campaign(SITE, "isle.yaml", cases(SITE, 0, 3, 0.06, "energy"), 0.06, tries=0).run()
    assert (report["seeds"], report["level"], report["simulated_h"]) == (3, "energy", pytest.approx(0.18, rel=0.1))
    totals = report["classes"]["all"]
    for count in ("planned", "injected", "survived", "degraded", "violated"):
        assert totals[count] == sum(report["classes"][c][count] for c in CLASSES)
    assert totals["injected"] == totals["survived"] + totals["degraded"] + totals["violated"]
    assert set(report["states"]["reached"]) | set(report["states"]["missed"]) == set(STATES)


def test_workers_find_what_one_process_finds() -> None:
    made = cases(SITE, 4, 2, 0.03, "energy")
    alone, together = (Campaign(SITE, "isle.yaml", made, 0.03, workers=n, tries=0).run() for n in (1, 2))
    assert alone["digest"] == together["digest"]
    assert alone["classes"] == together["classes"]


def test_a_level_that_is_not_there_is_said() -> None:
    from importlib.util import find_spec

    if find_spec("simulator.dynamics") is None:
        with pytest.raises(Failed, match="dynamic plant"):
            run(SITE, drawn(SITE, 0, 10.0, "dynamic"))
    else:
        assert run(SITE, drawn(SITE, 0, 10.0, "dynamic")).simulated_s >= 10.0
