"""What an operator takes from the unit that carries the island goes when others carry it; nobody is shed for an order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ems.explain import sentence
from tests.ems.hamlets import site
from tests.stories.life import Cycle, Life, alarms, events

HYDRO = {"id": "hydro1", "kind": "hydro", "rated_kw": 250.0, "min_kw": 25.0, "forming": "droop", "mode": "power", "head_m": 50.0, "design_flow_m3s": 0.62}
NO_DISCHARGE = {"bess1": {"discharge_limit_kw": 0.0, "charge_limit_kw": 200.0}}
START_S = 65.0
"""A set that is called now is on the bus after 65 s at the latest."""
STOP, OUT = {"action": "stop"}, {"out_of_service": True}


def ask(life: Life, asset: str, body: dict[str, Any]) -> Sequence[Any]:
    return [life.ask("command" if "action" in body else "limits", asset, **body)]


def waits(cycles: Sequence[Cycle], asset: str) -> list[float]:
    """Return how long after the order it was last told to wait [s], cycle by cycle."""
    return [c.now_s - cycles[0].now_s for c in cycles if any(d.startswith("order_waits") for d in c.decision.assets[asset].why.limited_by)]


def written(cycle: Cycle) -> dict[tuple[str, str], float]:
    return {(w.asset, w.command): w.value for w in cycle.decision.writes}


@pytest.mark.parametrize(
    ("body", "missing_kw", "left_kw"),
    [
        ({"action": "set", "power_kw": -100.0}, 304, -100.0),  # 200 kW of load, 4 of the station, 100 to charge
        ({"action": "set", "power_kw": 100.0}, 104, 100.0),
        (OUT, 206, -2.0),  # 2 kW of its own standby use
        ({"max_kw": 50.0}, 154, -2.0),
    ],
)
def test_an_order_on_the_battery_that_carries_the_island_waits_for_the_diesels(body: dict[str, Any], missing_kw: int, left_kw: float) -> None:
    life = Life(site(), soc=0.6, running=())
    life.live(30, 200.0)
    cycles = life.live(180, 200.0, asked=ask(life, "inv1", body))
    assert ("start", "dg1") in events(cycles[:1])  # the order is a wish at once
    assert waits(cycles, "inv1") == [float(k) for k in range(65)]
    assert not {kind for kind, _ in events(cycles)} & {"shed", "restore"}
    text = sentence("inv1", cycles[5].decision.assets["inv1"], "en")
    assert text == f"inv1 holds the bus: its power is what the others leave over; an operator's order waits until others carry its {missing_kw} kW"
    told = next(a for a in cycles[5].decision.alarms if a.code == "order_waits")
    assert (told.asset, told.severity) == ("inv1", "warning")
    assert told.en == f"the order for inv1 waits: nobody else can carry {missing_kw} kW of the load now; it is obeyed as soon as others can do that"
    assert cycles[-1].flows.power_kw["inv1"] == pytest.approx(left_kw, abs=1.0)
    assert ("order_waits", "inv1") not in alarms(cycles[-1:])


def test_with_no_diesel_to_come_the_battery_goes_on_and_the_order_is_told_to_wait() -> None:
    life = Life(site(drop=("dg1", "dg2")), soc=0.6, running=())
    life.live(30, 50.0)
    cycles = life.live(900, 50.0, asked=ask(life, "inv1", {"max_kw": 20.0}))
    assert not {kind for kind, _ in events(cycles)} & {"shed"}
    assert alarms(cycles[-1:]) >= {("order_waits", "inv1")}


@pytest.mark.parametrize(
    ("soc", "load_kw", "body", "left_kw"),
    [
        (0.10, 200.0, {"action": "set", "power_kw": 120.0}, 120.0),  # the second set takes 86
        (0.30, 150.0, OUT, 0.0),  # ... takes all 156, and the battery holds the reserve
        (0.10, 200.0, OUT, 123.6),  # ... has 200, and 206 are needed: the first stays, with its 3/5
    ],
)
def test_an_order_on_the_diesel_that_carries_the_island_waits_for_the_other(soc: float, load_kw: float, body: dict[str, Any], left_kw: float) -> None:
    life = Life(site(), soc=soc, running=("dg1",))
    life.live(20, load_kw)
    cycles = life.live(400, load_kw, asked=ask(life, "dg1", body))
    assert not {kind for kind, _ in events(cycles)} & {"shed", "restore"}
    assert cycles[-1].flows.power_kw["dg1"] == pytest.approx(left_kw, abs=2.0)
    assert (("order_waits", "dg1") in alarms(cycles[-1:])) is (left_kw > 120.0)


@pytest.mark.parametrize("body", [STOP, OUT])
@pytest.mark.parametrize(("soc", "shown", "cause"), [(0.045, {}, "former"), (0.11, {}, "reserve"), (0.5, NO_DISCHARGE, "load")])
def test_a_turbine_is_stopped_when_others_can_do_without(body: dict[str, Any], soc: float, shown: dict[str, dict[str, float | None]], cause: str) -> None:
    life = Life(site(HYDRO), soc=soc, running=(), dark=True)
    life.live(20, 150.0, inflow_m3s=0.62)
    cycles = life.live(150, 150.0, inflow_m3s=0.62, shown=shown, asked=ask(life, "hydro1", body))
    coming = [c for c in cycles if c.now_s < 60.0]
    assert all(written(c).get(("hydro1", "running")) != 0.0 for c in coming)
    assert coming[3].decision.assets["hydro1"].why.limited_by[-1:] == (f"order_waits_{cause}",)
    assert all(c.flows.power_kw["hydro1"] > 150.0 for c in coming)
    assert "shed" not in {kind for kind, _ in events(cycles)}
    assert cycles[-1].flows.power_kw["hydro1"] == 0.0
    assert cycles[-1].flows.unserved_kw == 0.0


def test_the_sun_that_carries_the_island_is_not_taken_out_of_service_under_it() -> None:
    life = Life(site(), soc=0.5, running=())
    life.live(2, 150.0, 250.0, shown=NO_DISCHARGE)
    cycles = life.live(150, 150.0, 250.0, shown=NO_DISCHARGE, asked=ask(life, "pv1", OUT))
    first = next(k for k, c in enumerate(cycles) if written(c).get(("pv1", "limit_kw")) == 0.0)
    assert any(c.flows.running["dg1"] or c.flows.running["dg2"] for c in cycles[: first + 1])
    assert cycles[-1].flows.power_kw["pv1"] == 0.0
    assert "shed" not in {kind for kind, _ in events(cycles)}


@pytest.mark.parametrize(("asset", "soc"), [("pv1", 0.10), ("inv1", 0.60)])
def test_who_stands_still_by_an_order_stays_so_when_load_is_missing(asset: str, soc: float) -> None:
    """Somebody may be working on the plant: a clinic in the dark is no reason to bring it back."""
    life = Life(site(drop=("dg2",)), soc=soc, running=("dg1",), dark=True)
    life.live(60, 200.0, 250.0 if asset == "pv1" else 0.0, asked=ask(life, asset, OUT))
    cycles = life.live(60, 350.0, 250.0 if asset == "pv1" else 0.0)
    assert all(written(c).get((asset, "limit_kw" if asset == "pv1" else "power_kw"), 0.0) <= 0.0 for c in cycles)
    assert "shed" in {kind for kind, _ in events(cycles)}


def test_a_limit_on_the_sun_gives_way_by_what_is_missing_and_no_more() -> None:
    """350 + 4 kW of load and 2 of an idle inverter, 300 of the set: of 200 kW of sun 56 are needed, 40 are allowed."""
    life = Life(site(drop=("dg2",)), soc=0.10, running=("dg1",))
    life.live(60, 250.0, 200.0, asked=ask(life, "pv1", {"max_kw": 40.0}))
    assert life.cycles[-1].flows.power_kw["pv1"] == pytest.approx(40.0)
    cycles = life.live(60, lambda s: 250.0 + min(100.0, 2.0 * s), 200.0)
    assert cycles[-1].flows.power_kw["pv1"] == pytest.approx(56.0, abs=3.0)
    assert ("order_waits", "pv1") in alarms(cycles[-1:])
    eased = life.live(60, 250.0, 200.0)
    assert eased[-1].flows.power_kw["pv1"] == pytest.approx(40.0)
    assert ("order_waits", "pv1") not in alarms(eased[-1:])


def test_by_the_second_and_the_hertz_no_relay_opens_when_the_order_is_obeyed_at_last() -> None:
    life = Life(site(), soc=0.6, running=(), level="dynamic", dark=True)
    life.live(30, 200.0)
    cycles = life.live(240, 200.0, asked=ask(life, "inv1", {"action": "set", "power_kw": -100.0}))
    assert not any(m.opened_by for c in cycles for m in c.decision.memory.feeders.values())
    assert not any(c.flows.blackout for c in cycles)
    assert cycles[-1].flows.power_kw["inv1"] == pytest.approx(-100.0, abs=15.0)
