"""A night with an empty battery, and the hand-over from battery to diesel on the way there."""

from __future__ import annotations

import pytest

from tests.ems.island import site as isle
from tests.stories.life import Life, events, shipped, starts, switchings

NIGHT = {"ouessant": 700.0, "river": 600.0, "village": 60.0}


@pytest.mark.parametrize("policy", ["load-following", "cycle-charging"])
@pytest.mark.parametrize("name", NIGHT)
def test_an_empty_battery_is_spared_and_diesels_carry(name: str, policy: str) -> None:
    site = shipped(name)
    life = Life(site, soc=0.10, policy=policy)
    cycles = life.live(500, NIGHT[name], 0.0, 0.4)
    assert any(cycles[-1].flows.running.values())
    assert min(c.flows.soc["bess1"] for c in cycles) >= 0.099
    assert cycles[-1].decision.reserve.short_kw == 0.0 or len(life.plant.diesels) == 1
    assert all(n <= 1 for n in starts(cycles).values())


@pytest.mark.parametrize("name", ["ouessant", "village"])
def test_the_battery_hands_over_above_its_floor_without_a_bump(name: str) -> None:
    """Alone at first; at the start charge of the rules, or before it for reserve, a diesel comes and stays."""
    life = Life(shipped(name), soc=0.30, running=())
    cycles = life.live(2400, 0.55 * NIGHT[name])
    assert life.cycles[0].decision.leader == "inv1"
    assert cycles[-1].decision.leader is not None and cycles[-1].decision.leader.startswith("dg")
    assert min(c.flows.soc["bess1"] for c in cycles) > 0.15
    assert all(n <= 1 for n in switchings(cycles).values())
    assert "tripped" not in {kind for kind, _ in events(cycles)}
    for d in life.plant.diesels:
        powers = [c.flows.power_kw[d.id] for c in cycles]
        assert all(p >= 0.98 * d.asset.min_kw for c, p in zip(cycles, powers, strict=True) if c.flows.running[d.id] and c.now_s > 2000)


@pytest.mark.parametrize("level", ["energy", "dynamic"])
def test_the_diesel_hands_over_to_a_full_battery_in_sequence(level: str) -> None:
    """Formers at every step: the inverter forms before the diesel unloads, and it unloads before its breaker opens."""
    life = Life(isle(), soc=0.8, running=("dg1",), level=level)
    cycles = life.live(1900, 140.0)
    stops = [k for k, c in enumerate(cycles) if ("stop", "dg1") in events([c])]
    assert len(stops) == 1
    at = stops[0]
    assert cycles[at - 1].image.assets["inv1"].flag("forming") is True
    assert (cycles[at].image.assets["dg1"].power_kw or 0.0) <= 0.16 * 300.0
    assert cycles[-1].decision.leader == "inv1"
    assert cycles[-1].flows.power_kw["inv1"] == pytest.approx(140.0, abs=0.2)
    assert all((c.flows.frequency_min_hz or 50.0) > 49.7 for c in cycles)


def test_at_the_floor_the_morning_sun_charges_first() -> None:
    life = Life(shipped("ouessant"), soc=0.10)
    life.live(200, 500.0)
    cycles = life.live(600, 500.0, lambda s: min(600.0, 2.0 * s))
    assert cycles[-1].flows.soc["bess1"] > 0.12
    assert cycles[-1].flows.curtailed_kw <= 5.0
    assert any(cycles[-1].flows.running.values())
