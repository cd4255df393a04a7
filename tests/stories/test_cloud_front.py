"""Clouds: eight tenths of the sun go within ten seconds, once and again and again."""

from __future__ import annotations

import pytest

from ems.config.site import Solar
from tests.stories.life import Life, alarms, shipped, starts, switchings

BRIGHT = {"ouessant": (800.0, 700.0, 0.0), "river": (700.0, 600.0, 0.8), "village": (60.0, 50.0, 0.0)}


@pytest.mark.parametrize("running", [None, ()])
@pytest.mark.parametrize("name", BRIGHT)
def test_a_cloud_front_is_carried_by_what_is_on_the_bus(name: str, running: tuple[str, ...] | None) -> None:
    load, sun, river = BRIGHT[name]
    life = Life(shipped(name), soc=0.6, running=running)
    life.live(150, load, sun, river)
    # The first minute is what was on the bus before: no start is quicker than that.
    online = [d for d, on in life.cycles[-1].flows.running.items() if on]
    front = life.live(60, load, lambda s: sun * max(0.2, 1.0 - 0.08 * s), river)
    assert all(c.flows.unserved_kw == 0.0 for c in front)
    assert all(front[-1].flows.running[d] for d in online)
    after = life.live(400, load, 0.2 * sun, river)
    assert alarms(after) <= {("reserve_short", None)}
    assert all(n <= 1 for n in starts(after).values())
    assert after[-1].decision.reserve.short_kw == 0.0


def test_broken_clouds_do_not_start_and_stop_diesels() -> None:
    load, sun, river = BRIGHT["ouessant"]
    life = Life(shipped("ouessant"), soc=0.6)
    life.live(300, load, sun, river)
    cycles = life.live(1200, load, lambda s: sun if s % 300 < 150 else 0.25 * sun, river)
    assert all(n <= 2 for n in switchings(cycles).values()), switchings(cycles)


@pytest.mark.parametrize("name", BRIGHT)
def test_curtailed_sun_comes_back_along_its_ramp(name: str) -> None:
    """A limit of an operator holds the sun back; released, it rises no faster than declared."""
    load, sun, river = BRIGHT[name]
    life = Life(shipped(name), soc=0.6)
    limited = life.live(100, load, sun, river, asked=[life.ask("limits", "pv1", max_kw=0.1 * sun)])
    assert limited[-1].flows.power_kw["pv1"] == pytest.approx(0.1 * sun)
    assert max(c.flows.power_kw["pv1"] for c in limited[1:]) <= 0.1 * sun + 1e-6
    freed = life.live(100, load, sun, river, asked=[life.ask("limits", "pv1")])
    ramp = next(s for s in life.site.of(Solar)).ramp_up_kw_per_s
    powers = [c.flows.power_kw["pv1"] for c in freed]
    assert all(b - a <= ramp + 1e-6 for a, b in zip(powers, powers[1:], strict=False))
    assert powers[-1] == pytest.approx(sun, rel=0.01)


def test_surplus_fills_the_battery_then_curtails_and_never_overcharges() -> None:
    life = Life(shipped("ouessant"), soc=0.93, running=())
    cycles = life.live(900, 350.0, 950.0)
    top = max(c.flows.soc["bess1"] for c in cycles)
    assert 0.94 <= top <= 0.95 + 1e-3
    last = cycles[-1]
    assert last.flows.curtailed_kw > 500.0
    assert last.flows.pushed_kw == 0.0, "curtailed by us, not by over-frequency"
    assert last.decision.assets["pv1"].why.reason.value == "surplus"


@pytest.mark.parametrize("mode", ["level", "flow", "power"])
def test_a_river_with_surplus_is_lowered_without_hunting(mode: str) -> None:
    river = shipped("river")
    assets = tuple(a.model_copy(update={"mode": mode}) if a.id == "hydro1" else a for a in river.assets)
    life = Life(river.model_copy(update={"assets": assets}), soc=0.95, running=())
    life.live(100, 290.0, 0.0, 1.4)
    cycles = life.live(400, 290.0, 250.0, 1.4)
    flows = [c.flows.power_kw["hydro1"] for c in cycles[-100:]]
    assert max(flows) - min(flows) <= 10.0, (min(flows), max(flows))
    assert all(c.flows.pushed_kw <= 1.0 for c in cycles[-100:])
