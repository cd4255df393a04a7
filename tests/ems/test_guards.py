"""Each guard alone: it can only narrow, it names itself, and without its input it closes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.config.site import Battery, Diesel, Inverter, Solar
from ems.guards import GUARDS, Bound, Powered, Seat, guards_of, narrow, rating, refuse
from ems.model import AssetImage, Limits, Quality
from tests.ems.island import site

SITE = site()
INVERTER, BATTERY = SITE.of(Inverter)[0], SITE.of(Battery)[0]
PV, DIESEL = SITE.of(Solar)[0], SITE.of(Diesel)[0]


def image(asset: str, quality: Quality = Quality.GOOD, **points: float | None) -> AssetImage:
    return AssetImage(asset, "any", points, quality, 0.0)


def bounded(unit: Powered, seat: Seat) -> Bound:
    return narrow(rating(unit), unit, seat, guards_of(unit.kind))


def storage(soc: float | None = 0.5, dt_s: float = 1.0, limits: Limits | None = None, battery_limits: Limits | None = None, **bms: float | None) -> Seat:
    return Seat(image("inv1"), limits, dt_s, BATTERY, image("bess1", soc=soc, **bms), battery_limits)


@pytest.mark.parametrize(
    ("name", "seat", "low", "high", "names"),
    [
        ("rating", storage(), -250.0, 241.75, ("", "")),
        ("full", storage(0.95), -2.0, 241.75, ("soc_full", "")),
        ("empty", storage(0.10), -250.0, -2.0, ("", "soc_empty")),
        ("nearly empty for a minute", storage(0.101), -250.0, 0.5 * 0.96 * 60 * 0.975 - 2.0, ("", "soc_empty")),
        ("nearly empty for a quarter hour", storage(0.101, dt_s=900.0), -250.0, 0.5 * 0.96 * 4 * 0.975 - 2.0, ("", "soc_empty")),
        ("unknown", storage(None), -2.0, -2.0, ("soc_unknown", "soc_unknown")),
        ("no battery", Seat(image("inv1"), None, 1.0), -2.0, -2.0, ("no_battery", "no_battery")),
        ("bms", storage(charge_limit_kw=50.0, discharge_limit_kw=0.0), -50.0 / 0.975 - 2.0, -2.0, ("bms", "bms")),
        ("operator", storage(limits=Limits(max_kw=80.0)), -80.0, 80.0, ("operator_limit", "operator_limit")),
        ("operator's floor", storage(0.4, battery_limits=Limits(soc_min=0.4)), -250.0, -2.0, ("", "soc_empty")),
        ("out of service", storage(limits=Limits(out_of_service=True)), -2.0, -2.0, ("out_of_service", "out_of_service")),
    ],
)
def test_inverter_bounds(name: str, seat: Seat, low: float, high: float, names: tuple[str, str]) -> None:
    bound = bounded(INVERTER, seat)
    assert (bound.lo_kw, bound.hi_kw) == (pytest.approx(low), pytest.approx(high)), name
    for expected, by in zip(names, (bound.lo_by, bound.hi_by), strict=True):
        assert not expected or by == expected, name


def test_reactive_power_takes_from_real_power() -> None:
    bound = bounded(DIESEL, Seat(image("dg1", reactive_kvar=300.0), None, 1.0))
    assert bound.hi_kw == pytest.approx(math.sqrt(375.0**2 - 300.0**2))
    assert bound.hi_by == "kva"


def test_minimum_loading_is_named() -> None:
    assert bounded(DIESEL, Seat(image("dg1"), None, 1.0)).names(90.0) == ("min_loading",)


@given(
    soc=st.one_of(st.none(), st.floats(0, 1)),
    charge=st.one_of(st.none(), st.floats(0, 500)),
    most=st.one_of(st.none(), st.floats(0, 400)),
    kvar=st.one_of(st.none(), st.floats(-400, 400)),
)
def test_no_guard_ever_widens(soc: float | None, charge: float | None, most: float | None, kvar: float | None) -> None:
    seat = Seat(image("inv1", reactive_kvar=kvar), Limits(max_kw=most), 1.0, BATTERY, image("bess1", soc=soc, charge_limit_kw=charge))
    for name, guard, _ in GUARDS:
        said = guard(INVERTER, seat)
        if said is None:
            continue
        before = rating(INVERTER)
        after = before.narrowed(*said, name)
        assert before.lo_kw <= after.lo_kw <= after.hi_kw <= before.hi_kw


def test_bounds_that_do_not_meet_leave_the_end_nearer_to_zero() -> None:
    assert Bound(90.0, 300.0).narrowed(-math.inf, 50.0, "operator_limit") == Bound(50.0, 50.0, "operator_limit", "operator_limit")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 301.0, -1.0])
def test_the_last_look_refuses(value: float) -> None:
    assert refuse(value, (0.0, 300.0)) is not None


@pytest.mark.parametrize("value", [0.0, 300.0, 300.2, 150.0])
def test_the_last_look_lets_pass(value: float) -> None:
    assert refuse(value, (0.0, 300.0)) is None


def test_nobody_orders_the_sun_to_shine() -> None:
    """A least power asked of PV is no sun: a battery that counts on 50 kW of it at night leaves 50 kW to nobody."""
    seat = Seat(image("pv1", power_kw=0.0), Limits(min_kw=50.0, max_kw=200.0), 1.0)
    assert bounded(PV, seat) == Bound(0.0, 200.0, "rating", "operator_limit")
