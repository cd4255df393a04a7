"""The ten stories of a control engineer on a plant that can fall over: rotors, governors, relays, second by second.

Each story says what happens outside and what goes wrong; `Life` checks that nobody sits in the dark, that somebody
holds the bus and that charge stays in its band. What a relay does by itself (under-frequency shedding) counts as dark.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ems.terms import Phase
from tests.ems.island import site as isle
from tests.stories.life import Cycle, Life, alarms, events, shipped, starts

NADIR_HZ = 49.0
"""Above the first under-frequency stage of 48.8 Hz, with a margin."""


def dynamic(name: str, soc: float, running: tuple[str, ...] | None = None, **more: object) -> Life:
    return Life(shipped(name), soc=soc, running=running, level="dynamic", **more)  # type: ignore[arg-type]


def nadir(cycles: Sequence[Cycle]) -> float:
    """Return the lowest frequency within these cycles [Hz]."""
    return min(c.flows.frequency_min_hz or 0.0 for c in cycles)


@pytest.mark.parametrize("running", [("dg1",), ()])
@pytest.mark.parametrize(("name", "load", "sun", "river"), [("river", 800.0, 600.0, 0.8), ("ouessant", 800.0, 600.0, 0.0), ("village", 60.0, 50.0, 0.0)])
def test_cloud_front(name: str, load: float, sun: float, river: float, running: tuple[str, ...]) -> None:
    """Eight tenths of the sun go in ten seconds: carried without a relay, reserve is there again within minutes."""
    life = dynamic(name, 0.6, running)
    life.live(60, load, sun, river)
    front = life.live(60, load, lambda s: sun * max(0.2, 1.0 - 0.08 * s), river)
    assert nadir(front) > NADIR_HZ
    after = life.live(150, load, 0.2 * sun, river)
    assert after[-1].decision.reserve.short_kw == 0.0
    assert all(n <= 1 for n in starts(front + after).values())


def test_the_largest_diesel_trips() -> None:
    life = dynamic("river", 0.6, ("dg1", "dg3"))
    life.live(60, 1400.0, 0.0, 0.8)
    life.plant.trip("dg1")
    cycles = life.live(150, 1400.0, 0.0, 0.8)
    assert nadir(cycles) > NADIR_HZ
    assert ("tripped", "dg1") in events(cycles)
    called = next(k for k, c in enumerate(cycles) if any(e.kind == "start" for e in c.decision.events))
    assert called <= 3, "a diesel is called within three cycles"
    assert cycles[-1].flows.running["dg2"]
    assert cycles[-1].decision.reserve.short_kw == 0.0


def test_the_forming_inverter_trips_beside_a_river_that_can_hold_the_bus() -> None:
    """No diesel runs and the battery gives little: the turbine takes the frequency, and a diesel is called at once."""
    life = dynamic("river", 0.8, ())
    life.live(60, 290.0, 0.0, 1.6)
    assert life.cycles[-1].decision.leader == "inv1"
    life.plant.trip("inv1")
    cycles = life.live(150, 290.0, 0.0, 1.6)
    assert nadir(cycles) > NADIR_HZ
    assert "start" in [kind for kind, _ in events(cycles[:4])]
    assert any(cycles[-1].flows.running.values())
    assert ("fault", "inv1") in alarms(cycles)


@pytest.mark.parametrize("lost", [("bess1",), ("inv1",), ("inv1", "bess1")])
@pytest.mark.parametrize("running", [("dg1",), ()])
def test_the_battery_link_goes_silent(lost: tuple[str, ...], running: tuple[str, ...]) -> None:
    """The link is not the battery: the bus is held on, nothing is written blind, and a diesel comes when it lasts."""
    life = dynamic("ouessant", 0.7, running)
    life.live(60, 500.0, 100.0)
    cycles = life.live(240, 500.0, 100.0, lost=lost)
    assert all(w.asset not in lost for c in cycles for w in c.decision.writes)
    # The management's silence alone is no reason: its charge is counted on. The former's is, after two minutes.
    assert any(cycles[-1].flows.running.values()) or lost == ("bess1",)
    assert sum(1 for kind, _ in events(cycles) if kind == "start") <= 2
    back = life.live(60, 500.0, 100.0)
    assert not {a for a in alarms(back[-5:]) if a[1] in lost}


def test_the_last_diesel_asked_to_stop_on_a_low_battery_stays() -> None:
    life = dynamic("village", 0.11, ("dg1",))
    life.live(30, 60.0)
    cycles = life.live(120, 60.0, asked=[life.ask("command", "dg1", action="stop")])
    assert all(c.flows.running["dg1"] for c in cycles)
    assert not [w for c in cycles for w in c.decision.writes if (w.asset, w.command, w.value) == ("dg1", "running", 0.0)]
    why = cycles[-1].decision.assets["dg1"].why
    assert why.reason.value in ("former_needed", "reserve", "operator")


def test_hydro_is_lost_in_a_flood() -> None:
    """Full river, diesel off; the intake clogs: the battery takes it over at once, a diesel where reserve asks for one."""
    life = dynamic("river", 0.6, ())
    life.live(60, 600.0, 0.0, 2.5)
    assert life.cycles[-1].flows.power_kw["hydro1"] > 200.0
    life.plant.trip("hydro1")
    cycles = life.live(200, 600.0, 0.0, 2.5)
    assert nadir(cycles) > NADIR_HZ
    assert {("fault", "hydro1")} <= alarms(cycles)
    assert cycles[-1].decision.reserve.short_kw == 0.0


@pytest.mark.parametrize("running", [("dg1",), ()])
def test_a_load_step_of_three_tenths(running: tuple[str, ...]) -> None:
    life = dynamic("river", 0.6, running)
    life.live(60, 700.0, 200.0, 0.8)
    cycles = life.live(120, 910.0, 200.0, 0.8)
    assert nadir(cycles) > NADIR_HZ
    assert cycles[-1].decision.reserve.short_kw == 0.0


def test_two_failed_starts_call_the_other_set_and_lock_nobody_too_early() -> None:
    life = dynamic("river", 0.5, ())
    unit = {d.id: d for d in life.plant.diesels}
    life.live(30, 700.0, 0.0, 0.3)
    for d in life.plant.diesels:
        d.failing_starts = 0
    # Whoever is called first does not fire, twice.
    step = life.live(3, 940.0, 0.0, 0.3)
    called = [a for kind, a in events(step) if kind == "start"]
    assert called, "the step takes more than the battery can hold"
    first = called[0]
    assert first is not None
    unit[first].failing_starts = 2
    cycles = life.live(400, 940.0, 0.0, 0.3)
    failed = [k for k, c in enumerate(cycles) if ("start_failed", first) in events([c])]
    assert failed
    others = [k for k, c in enumerate(cycles) for kind, a in events([c]) if kind == "start" and a != first]
    assert others and others[0] <= failed[0] + 3, "the next set is called when the first has failed, not after its retries"
    assert life.memory.units[first].phase is not Phase.LOCKED
    assert any(cycles[-1].flows.running.values())


def test_a_night_with_an_empty_battery() -> None:
    life = dynamic("village", 0.12, ("dg1",))
    cycles = life.live(600, 60.0)
    assert all(c.flows.running["dg1"] for c in cycles)
    assert min(c.flows.soc["bess1"] for c in cycles) > 0.09


def test_the_only_former_trips_and_nobody_darkens_the_feeder_by_guessing() -> None:
    """Alone on the bus, the inverter trips: the island is dark, and no set is started on a dead bus without a person."""
    life = Life(isle(), soc=0.7, running=(), level="dynamic", dark=True)
    life.live(60, 120.0)
    life.plant.trip("inv1")
    cycles = life.live(60, 120.0)
    assert cycles[-1].flows.blackout
    assert not any(c.flows.running["dg1"] or c.flows.running["dg2"] for c in cycles[5:])
