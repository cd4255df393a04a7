"""The skies of a sketch: how far off the forecast they are, when they show, and what a plan does for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ems.model import Limits
from optimizer.coarse import coarse
from optimizer.frame import Question
from optimizer.sketch import of_skies
from optimizer.skies import CHANCES, LASTS_S, SHOWN, changes_of, skies_of
from tests.optimizer.cases import BESS1, DG1, HOUR, INV1, LOAD, PV1, forecast, hybrid, question, site, start
from tests.optimizer.test_sketch import QUARTER, drawn, relaxed


def asked(sun: float, up_kw: float, down_kw: float, *, steps: tuple[float, ...] = (HOUR,) * 6, soc: float = 0.9) -> Question:
    """Return a question whose net load may be so much above and below its forecast for want of sun, or with more of it."""
    of, n = hybrid(), len(steps)
    found = question(of, steps, 80.0, start(of, soc=soc), sun=sun)
    return replace(found, forecast=replace(found.forecast, floor_up_kw=(up_kw,) * n, floor_down_kw=(down_kw,) * n))


def test_a_dark_a_bright_and_the_expected_sky() -> None:
    """No more sun is lost than there is, none is more than that of a bright day, or twice what is expected, and the load of a night is what it is."""
    for sun, expected in ((50.0, [1.0, 0.4, 1.4]), (20.0, [1.0, 0.0, 2.0]), (5.0, [1.0, 0.0, 2.0])):
        assert skies_of(asked(sun, 30.0, 20.0).forecast)[:, 0] == pytest.approx(expected)
    assert skies_of(asked(0.0, 30.0, 20.0).forecast).tolist() == [[1.0] * 6]
    day = replace(asked(50.0, 30.0, 20.0).forecast, bright_kw=(58.0,) * 6)
    assert skies_of(day)[:, 0] == pytest.approx([1.0, 0.4, 58.0 / 50.0])
    assert CHANCES.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("errors", [{}, {"floor_up_kw": (0.0,) * 6, "floor_down_kw": (0.0,) * 6}])
def test_where_nothing_errs_there_is_one_sky(errors: dict[str, tuple[float, ...]]) -> None:
    perfect = replace(forecast(hybrid(), asked(50.0, 0.0, 0.0).grid, 80.0), **errors)
    skies = skies_of(perfect)
    assert skies.tolist() == [[1.0] * 6]
    assert changes_of(skies, np.full(6, HOUR)).tolist() == [[[1.0]]] * 6


def test_half_of_what_is_open_shows_after_the_first_hour_of_sun_and_then_a_sky_lasts() -> None:
    """Quarters of an hour, then hours: nothing changes before the fourth ends."""
    changes = changes_of(np.zeros((3, 8)), np.array([QUARTER] * 4 + [HOUR] * 4))
    assert changes.sum(axis=2) == pytest.approx(np.ones((8, 3)))
    assert changes[:3] == pytest.approx(np.tile(np.eye(3), (3, 1, 1)))
    assert changes[3, 0] == pytest.approx([1.0 - SHOWN * 0.6, SHOWN * 0.3, SHOWN * 0.3])
    assert changes_of(np.zeros((3, 2)), np.array([QUARTER] * 2)) == pytest.approx(np.tile(np.eye(3), (2, 1, 1)))  # it ends before
    again = 1.0 - np.exp(-HOUR / LASTS_S)
    by_night = changes_of(np.array([[0.0] * 6 + [50.0, 60.0]] * 3), np.array([QUARTER] * 4 + [HOUR] * 4))
    assert by_night[:6] == pytest.approx(np.tile(np.eye(3), (6, 1, 1)))  # what the day will be shows when its first hour with sun is over
    assert by_night[6, 0] == pytest.approx([1.0 - SHOWN * 0.6, SHOWN * 0.3, SHOWN * 0.3])
    assert changes[5, 1] == pytest.approx([0.4 * again, 1.0 - 0.7 * again, 0.3 * again])


def test_each_set_has_a_row_under_each_sky_and_what_it_lacks_of_sun_is_asked_of_others() -> None:
    """50 kW of sun: 30 less or 20 more of it. 20 kW of sun: a dark sky has none."""
    for sun, suns, demands in ((50.0, (50, 20, 70), (30, 60, 10)), (20.0, (20, 0, 40), (60, 80, 40))):
        of = coarse(relaxed(hybrid(), asked(sun, 30.0, 20.0)))
        assert len(of.rows) == 3 * of.n_sets
        live = [k for k in range(3 * of.n_sets) if of.live[k] > 0.0]
        by_sky = np.split(of.sun[live, 0] * 1e3, 3), np.split((of.demand - of.idle)[live, 0] * 1e3, 3)
        for k in range(3):
            assert by_sky[0][k] == pytest.approx(suns[k])
            assert by_sky[1][k] == pytest.approx(demands[k])
            assert (of.fleet.members[k * of.n_sets : (k + 1) * of.n_sets] == of.fleet.members[: of.n_sets]).all()


@pytest.mark.parametrize(
    ("limit", "suns"),
    [
        (None, (140, 60, 150)),  # the rating
        (Limits(max_kw=50.0), (50, 50, 50)),
        (Limits(max_kw=100.0), (100, 60, 100)),
        (Limits(out_of_service=True), (0, 0, 0)),
    ],
)
def test_no_sky_has_more_than_the_plant_may_give(limit: Limits | None, suns: tuple[float, ...]) -> None:
    of = coarse(relaxed(hybrid(), replace(asked(140.0, 80.0, 30.0), limits={} if limit is None else {"pv1": limit})))
    live = [k for k in range(3 * of.n_sets) if of.live[k] > 0.0]
    assert [set(x.round(6)) for x in np.split(of.sun[live, 0] * 1e3, 3)] == [{float(s)} for s in suns]


def test_what_follows_is_the_mean_over_the_skies_that_may_come() -> None:
    of = coarse(relaxed(hybrid(), asked(50.0, 30.0, 20.0)))
    costs = np.repeat([10.0, 100.0, 0.0], of.n_sets)[:, None] * np.ones((1, 5))
    found = of_skies(of, 0, costs)
    assert found.shape == costs.shape
    assert found[0, 0] == pytest.approx(10.0 + SHOWN * (0.3 * 90.0 - 0.3 * 10.0))


def edge(up_kw: float, wear_l: float) -> str:
    """Return when a set runs that is on, the battery just above its floor: the sun that comes in an hour would do, if it comes."""
    isle = site(LOAD, PV1, {**DG1, "start_wear_l": wear_l}, INV1, BESS1)
    begin = start(isle, soc=0.25, on=["dg1"])
    sun = [20.0] * 4 + [105.0] * 5
    found = question(isle, (QUARTER,) * 4 + (HOUR,) * 5, 90.0, begin, sun=sun)
    errors = (0.0,) * 4 + (up_kw,) * 5
    found = replace(found, forecast=replace(found.forecast, floor_up_kw=errors, floor_down_kw=(0.0,) * 9))
    return drawn(isle, found)["dg1"]


@pytest.mark.parametrize(("up_kw", "wear_l", "expected"), [(0.0, 15.0, "110000000"), (80.0, 15.0, "111100000"), (80.0, 0.0, "110000000")])
def test_a_set_does_not_stop_for_a_sun_that_may_not_come(up_kw: float, wear_l: float, expected: str) -> None:
    """Where a dark sky would have it start again it goes on until that shows; where a start wears nothing, or nothing errs, it stops as soon as it may."""
    assert edge(up_kw, wear_l) == expected
