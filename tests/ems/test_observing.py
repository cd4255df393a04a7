"""What was measured, on the mean: intervals that ended, and how things stand now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ems.config.site import Hydro, Solar
from ems.controller import Controller
from ems.decision import Decision
from ems.memory import FeederMemory, Memory
from ems.model import Image, Reading
from ems.observing import FRESH_S, OBSERVE_S, Observer, inflow_m3s, sun_kw
from ems.plan import Grid, Observation, Plan
from ems.terms import Mode
from tests.ems.island import START, diesel, inverter, points, site, telemetry

RIVER = {"id": "hydro1", "kind": "hydro", "rated_kw": 80.0, "head_m": 50.0, "design_flow_m3s": 0.2, "forming": "never"}
SITE = site(RIVER)
CONTROLLER = Controller(SITE, policy="load-following")


def cycle(k: int, dt_s: float, limit_kw: float | None = None, **assets: dict[str, Reading]) -> tuple[Image, Decision]:
    told = replace(telemetry(k, **assets), now_s=k * dt_s, time=START + timedelta(seconds=k * dt_s), dt_s=dt_s)
    image, decision = CONTROLLER.step(told, (), None, Memory(mode=Mode.AUTO))
    setpoints = {} if limit_kw is None else {"pv1": limit_kw}
    return image, replace(decision, memory=replace(decision.memory, setpoints=setpoints))


def town(kw: float | None) -> dict[str, Reading]:
    return points(power_kw=kw)


def seen(observer: Observer, count: int, dt_s: float, first: int = 0, **assets: dict[str, Reading]) -> list[Observation]:
    found = [observer.look(*cycle(k, dt_s, **assets)) for k in range(first, first + count)]
    return [o for o in found if o is not None]


def test_nothing_is_known_before_a_minute_is_over() -> None:
    observer = Observer(SITE)
    assert observer.now() is None
    assert seen(observer, 5, 10.0) == []
    assert observer.now() is None
    observer.look(*cycle(5, 10.0))
    now = observer.now()
    assert now is not None
    assert (now.start, now.seconds, now.load_kw) == (START, FRESH_S, 200.0)


def test_now_is_the_mean_of_the_interval_under_way_and_just_after_its_end_that_of_the_one_before() -> None:
    """Ten minutes of 200 kW and five of 260 are 220; then 300 kW, which count alone from the second minute on."""
    observer = Observer(SITE)
    seen(observer, 10, 60.0, town=town(200.0))
    now = observer.now()
    assert now is not None and now.load_kw == pytest.approx(200.0)
    ended = seen(observer, 5, 60.0, first=10, town=town(260.0))
    assert [(o.start, o.seconds, o.load_kw) for o in ended] == [(START, OBSERVE_S, pytest.approx(220.0))]
    assert observer.now() == ended[0]
    later = Observer(SITE)
    assert len(seen(later, 45, 20.0, town=town(220.0))) == 1
    seen(later, 2, 20.0, first=45, town=town(300.0))
    now = later.now()
    assert now is not None and (now.start, now.load_kw) == (START, pytest.approx(220.0))
    seen(later, 1, 20.0, first=47, town=town(300.0))
    now = later.now()
    assert now is not None and (now.start, now.seconds, now.load_kw) == (START + timedelta(seconds=900), 60.0, pytest.approx(300.0))


def test_a_load_that_nobody_measures_is_none_and_not_the_one_of_a_while_ago() -> None:
    observer = Observer(SITE)
    assert len(seen(observer, 15, 60.0)) == 1
    assert seen(observer, 15, 60.0, first=15, town={}, pv1={}, hydro1={}, dg1={}, inv1={}) == []
    assert observer.now() is None


@pytest.mark.parametrize(("known", "told"), [(5, True), (4, False)])
def test_a_mean_needs_half_of_its_time(known: int, told: bool) -> None:
    """Ten minutes of the river, of which so many were measured."""
    observer = Observer(SITE)
    seen(observer, known, 60.0, hydro1=points(power_kw=40.0, flow_m3s=0.1))
    seen(observer, 10 - known, 60.0, first=known, hydro1=points(power_kw=40.0, flow_m3s=None))
    now = observer.now()
    assert now is not None
    assert now.inflow_m3s == ({"hydro1": pytest.approx(0.1)} if told else {})


@pytest.mark.parametrize(
    ("readings", "limit_kw", "offered"),
    [
        (points(power_kw=100.0, available_kw=160.0), 100.0, 160.0),  # measured is measured
        (points(power_kw=100.0, available_kw=40.0), None, 100.0),  # no sun gives more than it has: it is as if nothing was told
        (points(power_kw=100.0, available_kw=40.0), 100.0, None),
        (points(power_kw=100.0), None, 100.0),
        (points(power_kw=100.0), 300.0, 100.0),  # a limit at the rating holds nothing back
        (points(power_kw=100.0), 150.0, 100.0),  # far below its limit: that was the sun
        (points(power_kw=100.0), 100.0, None),  # at its limit: it could be any sun
        (points(power_kw=95.0), 100.0, None),  # within 2 % of the rating of it
        (points(), None, None),
        (points(power_kw=-0.05), None, 0.0),  # at night it draws a little for itself
        (points(power_kw=0.0, fault=1.0), None, None),  # dark is the unit, not the day
        (points(power_kw=0.0, available_kw=0.0, ready=0.0), None, None),
        (points(power_kw=0.0, available_kw=120.0, fault=1.0), None, 120.0),  # its own gauge sees the sun
        (points(power_kw=50.0, fault=1.0), None, 50.0),  # it reports one, and gives
        (points(power_kw=0.0, ready=1.0), None, 0.0),
        (points(power_kw=0.0), None, 0.0),  # no word of being ready is none against it
    ],
)
def test_what_the_sun_offered(readings: dict[str, Reading], limit_kw: float | None, offered: float | None) -> None:
    (solar,) = SITE.of(Solar)
    assert sun_kw(solar, *cycle(0, 1.0, limit_kw, pv1=readings)) == offered


def dark(**more: dict[str, Reading]) -> dict[str, dict[str, Reading]]:
    off = diesel(frequency_hz=0.0, voltage_v=0.0)
    return {
        "town": points(power_kw=0.0, frequency_hz=0.0, voltage_v=0.0),
        "dg1": off,
        "dg2": off,
        "inv1": inverter(0.0, running=0.0, forming=0.0, frequency_hz=0.0, voltage_v=0.0),
        **more,
    }


def test_a_dead_bus_tells_nothing_of_load_and_sun() -> None:
    """Fifteen minutes without a bus: the river is seen, what people would draw is not zero but unknown."""
    observer = Observer(SITE)
    (ended,) = seen(observer, 15, 60.0, **dark(pv1=points(power_kw=0.0, available_kw=0.0), hydro1=points(power_kw=0.0, flow_m3s=0.1)))
    assert (ended.load_kw, dict(ended.available_kw), dict(ended.inflow_m3s)) == (None, {}, {"hydro1": pytest.approx(0.1)})
    assert seen(observer, 15, 60.0, first=15, **dark(hydro1=points(power_kw=0.0))) == []
    (back,) = seen(observer, 15, 60.0, first=30, hydro1=points(power_kw=0.0, flow_m3s=0.1))
    assert (back.load_kw, back.available_kw) == (200.0, {"pv1": 0.0})


def test_of_an_interval_half_in_the_dark_the_half_that_was_served_counts() -> None:
    observer = Observer(SITE)
    seen(observer, 7, 60.0, **dark())
    (ended,) = seen(observer, 8, 60.0, first=7, town=town(210.0))
    assert ended.load_kw == pytest.approx(210.0)


@pytest.mark.parametrize(
    ("feeder", "load_kw"),
    [
        (FeederMemory(0.0), 120.0),
        (FeederMemory(0.0, "ems"), None),
        (FeederMemory(0.0, "relay"), None),
        (FeederMemory(0.0, "relay", locked=True), 120.0),  # until a person closes it that is the load
        (FeederMemory(0.0, "operator"), 120.0),
        (FeederMemory(0.0, "local"), 120.0),
    ],
)
def test_what_is_served_while_feeders_wait_in_the_dark_is_not_the_load(feeder: FeederMemory, load_kw: float | None) -> None:
    observer = Observer(SITE)
    found = []
    for k in range(15):
        image, decision = cycle(k, 60.0, town=town(120.0), pv1=points(power_kw=30.0, available_kw=30.0))
        found.append(observer.look(image, replace(decision, memory=replace(decision.memory, feeders={"f1": feeder}))))
    assert found[-1] is not None
    assert (found[-1].load_kw, found[-1].available_kw) == (load_kw, {"pv1": pytest.approx(30.0)})


BLIND = Hydro.model_validate({**RIVER, "ecological_flow_m3s": 0.05})


@pytest.mark.parametrize(
    ("readings", "limit_kw", "leads", "inflow"),
    [
        (points(power_kw=40.0), None, False, 0.15),  # half of 0.2 m3/s at half of 80 kW, and 0.05 that the river keeps
        (points(power_kw=40.0), 44.0, False, 0.15),  # told a little more than it gives: the river is what ends it
        (points(power_kw=40.0), 40.0, False, None),  # at its limit: the river may bring more
        (points(power_kw=80.0), 80.0, False, 0.25),  # a limit at the rating holds nothing back
        (points(power_kw=40.0), None, True, None),  # the residual is not the river
        (points(power_kw=0.0), None, False, None),  # it stands
        (points(), None, False, None),
        (points(power_kw=40.0, flow_m3s=0.12), 40.0, True, 0.12),  # measured is measured
        (points(power_kw=40.0, flow_m3s=None), None, False, None),  # a gauge that is silent
    ],
)
def test_without_a_gauge_the_turbine_tells_what_the_river_brings(
    readings: dict[str, Reading], limit_kw: float | None, leads: bool, inflow: float | None
) -> None:
    image, decision = cycle(0, 1.0, hydro1=readings)
    setpoints = {} if limit_kw is None else {"hydro1": limit_kw}
    decision = replace(decision, leader="hydro1" if leads else "dg1", memory=replace(decision.memory, setpoints=setpoints))
    assert inflow_m3s(BLIND, image, decision) == (None if inflow is None else pytest.approx(inflow))


def test_a_turbine_without_a_gauge_finds_its_river_from_standstill_whatever_a_plan_says_of_it() -> None:
    """A river of 40 kW: the plan knows nothing of it and says 0, the turbine is told 8 kW to turn at, and 4 kW more than it gives from then on."""
    memory, given, told = Memory(mode=Mode.AUTO), 0.0, []
    grid = Grid(START, (3600.0,))
    flat = {"dg1": (202.0,), "hydro1": (0.0,), "inv1": (-2.0,)}
    plan = Plan("p1", START, grid.end, "mpc", grid, flat, {"dg1": (True,), "dg2": (False,)}, {"bess1": (0.5, 0.5)}, (200.0,), (0.0,))
    for k in range(30):
        _, decision = CONTROLLER.step(telemetry(k, hydro1=points(power_kw=given, remote=1.0, ready=1.0)), (), plan, memory)
        memory = decision.memory
        told.append(decision.assets["hydro1"].setpoint_kw or 0.0)
        given = min(40.0, told[-1])
    assert told[1:3] == [8.0, pytest.approx(8.0 + 80.0 / 30.0)]  # its ramp is 1/30 of the rating each second
    assert given == 40.0
    assert max(told) <= 44.0 + 1e-6
