"""What was measured, on the mean: intervals that ended, and how things stand now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ems.config.site import Solar
from ems.controller import Controller
from ems.decision import Decision
from ems.memory import Memory
from ems.model import Image, Reading
from ems.observing import FRESH_S, OBSERVE_S, Observer, sun_kw
from ems.plan import Observation
from ems.terms import Mode
from tests.ems.island import START, points, site, telemetry

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
    seen(observer, 10 - known, 60.0, first=known, hydro1=points(power_kw=40.0))
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
    ],
)
def test_what_the_sun_offered(readings: dict[str, Reading], limit_kw: float | None, offered: float | None) -> None:
    (solar,) = SITE.of(Solar)
    assert sun_kw(solar, *cycle(0, 1.0, limit_kw, pv1=readings)) == offered
