"""SoC counted from power: by hand, and held against a meter that jumps, freezes, says nothing, or is merely coarse."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ems.charge import Counter, surely_stored
from ems.config.site import Battery, Inverter
from ems.doubt_memory import Charge
from ems.model import AssetImage, Flaw, Quality
from tests.ems.island import site

SITE = site()  # 500 kWh behind an inverter of 250 kW with 2 kW no-load and 0.975; 0.96 each way
INVERTER, BATTERY = SITE.of(Inverter)[0], SITE.of(Battery)[0]
COUNTER = Counter(BATTERY, INVERTER)
PER_S = (100.0 + 2.0) / 0.975 / 0.96 / 500.0 / 3600.0
"""What 100 kW at the busbar take out in a second: conversion and no-load, then the cells."""


def counted(
    seconds: int, meter: Callable[[int, float], float | None], power_kw: float | None = 100.0, true: float = 0.6, capacity: float = 1.0
) -> list[Charge]:
    """Count for so long beside a meter, given the second and the true SoC; the true battery has `capacity` times its rating."""
    charge: Charge | None = Charge(true, shown=true, power_kw=power_kw or 0.0)
    found = []
    for k in range(1, seconds + 1):
        true -= (PER_S if power_kw else 0.0) / capacity
        charge = COUNTER.count(charge, meter(k, true), power_kw, True, float(k), 1.0)
        assert charge is not None
        found.append(charge)
    return found


def test_an_hour_by_hand() -> None:
    last = counted(3600, lambda k, true: None)[-1]
    assert last.soc == pytest.approx(0.6 - (102.0 / 0.975 / 0.96) / 500.0)
    assert last.band == pytest.approx(0.06)  # 1 % in 10 min


@pytest.mark.parametrize(
    ("name", "meter", "found_s", "flaw"),
    [
        ("jumps up", lambda k, true: true + (0.2 if k >= 30 else 0.0), (30, 30), Flaw.JUMP),
        ("jumps down", lambda k, true: true - (0.2 if k >= 30 else 0.0), (30, 30), Flaw.JUMP),
        ("a tenth", lambda k, true: true / (10.0 if k >= 30 else 1.0), (30, 30), Flaw.JUMP),
        ("zero", lambda k, true: true if k < 30 else 0.0, (30, 30), Flaw.JUMP),
        # 3 % at 0.006 % a second, and the error of the count: some eight minutes, whatever the rate, until 3 % are gone.
        ("frozen", lambda k, true: 0.6, (480, 640), Flaw.FROZEN),
    ],
)
def test_a_meter_that_leaves_the_count_is_not_believed(name: str, meter: Callable[[int, float], float], found_s: tuple[int, int], flaw: Flaw) -> None:
    charges = counted(900, meter)
    first = next(k for k, c in enumerate(charges, 1) if c.doubted_s is not None)
    assert found_s[0] <= first <= found_s[1]
    assert charges[first - 1].flaw is flaw
    last = charges[-1]
    assert last.doubted_s == first
    assert last.soc == pytest.approx(0.6 - 900 * PER_S, abs=0.002)
    assert last.band == pytest.approx((900 - first) / 60000.0, abs=0.001)


@pytest.mark.parametrize(
    ("name", "meter", "capacity"),
    [
        ("exact", lambda k, true: true, 1.0),
        ("whole per cent", lambda k, true: round(true, 2), 1.0),
        ("a fifth of the capacity gone", lambda k, true: true, 0.8),
        ("that, in whole per cent", lambda k, true: round(true, 2), 0.8),
    ],
)
def test_a_healthy_meter_is_never_doubted(name: str, meter: Callable[[int, float], float], capacity: float) -> None:
    assert not any(c.doubted_s for c in counted(7200, meter, true=0.9, capacity=capacity))


def test_an_idle_battery_that_shows_the_same_all_night_is_not_frozen() -> None:
    charge: Charge | None = Charge(0.6, shown=0.6, power_kw=-2.0)
    for k in range(1, 8 * 360):
        charge = COUNTER.count(charge, 0.6, -2.0, True, 10.0 * k, 10.0)
        assert charge is not None and charge.doubted_s is None


def test_a_meter_that_comes_back_is_believed_after_ten_seconds() -> None:
    charges = counted(200, lambda k, true: true + (0.2 if 30 <= k < 100 else 0.0))
    doubted = [k for k, c in enumerate(charges, 1) if c.doubted_s is not None]
    assert (doubted[0], doubted[-1]) == (30, 109)


def test_a_recalibrated_meter_is_believed_when_the_band_has_reached_it_and_both_stay_inside() -> None:
    """5 % away: 3 % are tolerated, the rest grows in; then the band covers what was counted, and fades."""
    charges = counted(2400, lambda k, true: true + (0.05 if k >= 30 else 0.0), power_kw=None)
    back = next(k for k, c in enumerate(charges, 1) if k > 30 and c.doubted_s is None)
    assert 120 < back < 1300
    at_once, later = charges[back - 1], charges[-1]
    assert at_once.soc - at_once.band <= 0.6 + 1e-6
    assert later.band < at_once.band


def test_without_power_the_band_grows_as_fast_as_the_battery_could_empty_until_nothing_is_known() -> None:
    charge: Charge | None = Charge(0.6, shown=0.6)
    for k in range(1, 1800):
        charge = COUNTER.count(charge, None, None, True, float(k), 1.0)
        if charge is None:
            break
    assert k == pytest.approx(0.25 / (250.0 / 500.0 / 3600.0), abs=2)
    assert COUNTER.count(None, None, 100.0, True, 1.0, 1.0) is None


def test_a_standing_inverter_takes_nothing() -> None:
    charge = COUNTER.count(Charge(0.6, power_kw=0.0), None, 0.0, False, 1.0, 1.0)
    assert charge is not None and charge.soc == 0.6


@pytest.mark.parametrize(("points", "least"), [({}, None), ({"soc": None, "soc_band": 0.1}, None), ({"soc": 0.5}, 0.5), ({"soc": 0.5, "soc_band": 0.02}, 0.48)])
def test_what_is_surely_stored(points: dict[str, float | None], least: float | None) -> None:
    assert surely_stored(AssetImage("bess1", "battery", points, Quality.GOOD, 0.0)) == least
