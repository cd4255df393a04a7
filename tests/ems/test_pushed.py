"""A forecast that was pushed in: what is refused, how long it holds, and the words for it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ems.config.site import Site
from ems.model import Request
from ems.orders import said
from ems.plan import Given, Storm
from ems.pushed import FRESH, given_of, holds, refusals, warning

NOW = datetime(2026, 3, 2, 6, 10, tzinfo=UTC)
START = datetime(2026, 3, 2, 6, tzinfo=UTC)
SITE = Site.model_validate(
    {
        "site": {"id": "isle"},
        "assets": [
            {"id": "town", "kind": "load", "peak_kw": 200.0},
            {"id": "pv1", "kind": "solar", "rated_kw": 150.0},
            {"id": "hydro1", "kind": "hydro", "rated_kw": 50.0, "head_m": 30.0, "design_flow_m3s": 0.2},
            {"id": "dg1", "kind": "diesel", "rated_kw": 200.0},
        ],
    }
)


def given(**changed: Any) -> Given:
    return Given(**{"start": START, "step_s": 3600.0, "load_kw": (100.0,) * 24, "available_kw": {"pv1": (80.0,) * 24}, "inflow_m3s": {}, **changed})


def test_a_good_one_has_nothing_against_it() -> None:
    assert list(refusals(SITE, given(), NOW)) == []
    assert list(refusals(SITE, given(load_kw=(), inflow_m3s={"hydro1": (0.2,) * 24}), NOW)) == []
    assert list(refusals(SITE, given(load_kw=(0.0,) * 12 + (8.0,) * 12), NOW)) == []  # a mean of 2 % is a night on a small isle
    assert list(refusals(SITE, given(step_s=900.0, load_kw=(100.0,) * 672, available_kw={}), NOW)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"step_s": 700.0}, "step_s: 700 is not one of"),
        ({"start": START + timedelta(minutes=5)}, "off the grid of 3600 s"),
        ({"load_kw": (), "available_kw": {}}, "nothing is forecast"),
        ({"available_kw": {"pv9": (1.0,) * 24}}, "available_kw.pv9: there is no solar asset"),
        ({"available_kw": {"hydro1": (1.0,) * 24}}, "there is no solar asset 'hydro1'"),
        ({"inflow_m3s": {"pv1": (1.0,) * 24}}, "there is no hydro asset 'pv1'"),
        ({"available_kw": {"pv1": (80.0,) * 23}}, "available_kw.pv1: 23 values where load_kw has 24"),
        ({"available_kw": {"pv1": ()}}, "available_kw.pv1: 0 values"),
        ({"load_kw": (100.0, math.nan) + (100.0,) * 22}, "load_kw[1]: nan is outside"),
        ({"load_kw": (100.0, math.inf) + (100.0,) * 22}, "load_kw[1]: inf is outside"),
        ({"load_kw": (-1.0,) + (100.0,) * 23}, "load_kw[0]: -1 is outside 0 to 300"),
        ({"load_kw": (100e3,) * 24}, "load_kw[0]: 100000 is outside"),  # watts
        ({"load_kw": (0.0,) * 24}, "load_kw: a mean of 0 kW is under 2% of the site's peak of 200 kW; the load is given in kW"),
        ({"load_kw": (0.1,) * 23 + (3.9,)}, "load_kw: a mean of 0.258333 kW is under 2%"),  # megawatts
        ({"available_kw": {"pv1": (200.0,) * 24}}, "available_kw.pv1[0]: 200 is outside 0 to 195"),
        ({"start": START - timedelta(days=1)}, "which has passed"),
        ({"load_kw": (100.0,) * 169, "available_kw": {}}, "more than 7 days"),
        ({"start": START + timedelta(days=7), "available_kw": {}}, "more than 7 days"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(changed: dict[str, Any], said: str) -> None:
    assert said in "; ".join(refusals(SITE, given(**changed), NOW))


def request(expires_at: datetime | None = None) -> Request:
    body = {"start": "2026-03-02T06:00:00Z", "step_s": 3600, "load_kw": [100.0, 110.0], "available_kw": {"pv1": [1.0, 2.0]}, "inflow_m3s": {}, "reason": "met"}
    return Request(7, "r7", "forecast", None, body, "olga", NOW, expires_at)


def test_it_is_read_from_its_row_and_holds_a_day_unless_it_says_otherwise() -> None:
    found = given_of(request())
    assert (found.start, found.step_s, found.load_kw, dict(found.available_kw)) == (START, 3600.0, (100.0, 110.0), {"pv1": (1.0, 2.0)})
    assert found.until == NOW + FRESH
    assert given_of(request(NOW + timedelta(hours=3))).until == NOW + timedelta(hours=3)


def warned(expires_at: datetime | None = None) -> Given:
    """Pushed on 2 March at 06:10; the storm is from 4 March 18:00 to 5 March 12:00."""
    body = {"start": "2026-03-02T06:00:00Z", "step_s": 3600, "storm": {"start": "2026-03-04T18:00:00Z", "until": "2026-03-05T12:00:00Z"}}
    return given_of(Request(7, "r7", "forecast", None, body, "olga", NOW, expires_at))


@pytest.mark.parametrize(
    ("expires_h", "after_h", "still"),
    [(None, 1.0, True), (None, 60.0, True), (None, 77.8, True), (None, 77.9, False), (12.0, 11.9, True), (12.0, 12.0, False)],
)
def test_a_warning_holds_until_its_storm_has_passed_or_as_it_says(expires_h: float | None, after_h: float, still: bool) -> None:
    """From 06:10 to 12:00 three days later there are 77.83 h; its values would be stale after 24."""
    given = warned(None if expires_h is None else NOW + timedelta(hours=expires_h))
    at = NOW + timedelta(hours=after_h)
    assert warning(given, at) == (given.storm if still else None)
    assert holds(given, at) is still


def test_values_hold_by_themselves() -> None:
    assert holds(given_of(request()), NOW + timedelta(hours=23))
    assert not holds(given_of(request()), NOW + FRESH)


def test_the_event_names_what_was_given_without_all_its_numbers() -> None:
    assert said(request()) == "load, pv1 from 2026-03-02T06:00:00Z (met)"


STORMS = [
    (1.0, 5.0, None),
    (-2.0, 5.0, None),
    (5.0, 1.0, "is not after"),
    (-5.0, -1.0, "has passed"),
    (1.0, 200.0, "7 days ahead"),
]


@pytest.mark.parametrize(("begins_h", "ends_h", "said_of_it"), STORMS)
def test_a_warning_may_come_alone_and_must_make_sense(begins_h: float, ends_h: float, said_of_it: str | None) -> None:
    warned = Given(START, 3600.0, storm=Storm(NOW + timedelta(hours=begins_h), NOW + timedelta(hours=ends_h)))
    found = list(refusals(SITE, warned, NOW))
    assert len(found) == (said_of_it is not None)
    assert said_of_it is None or said_of_it in found[0]
