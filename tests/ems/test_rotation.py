"""Like engines share the hours; one that is due for service is spared."""

from __future__ import annotations

import pytest

from ems.config.site import Diesel
from ems.model import AssetImage, Quality
from ems.rotation import HOURS_WEAR, SERVICE_WEAR, service_in_h, wear
from ems.rules import Rules
from tests.ems.island import site
from tests.ems.test_rules import rules_case

FUEL = {"no_load_l_per_h": 4.0, "slope_l_per_kwh": 0.25}
TWINS = site({"id": "dg3", "kind": "diesel", "rated_kw": 200.0, "forming": "droop", "fuel": FUEL}, drop=("dg1",))
DG2, DG3 = TWINS.of(Diesel)


def images(**run_h: float | None) -> dict[str, AssetImage]:
    return {d: AssetImage(d, "diesel", {"run_h": h}, Quality.GOOD, 0.0) for d, h in run_h.items()}


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ({"dg2": 100.0, "dg3": 100.0}, {"dg2": 0.0, "dg3": 0.0}),
        ({"dg2": 112.0, "dg3": 100.0}, {"dg2": HOURS_WEAR / 2, "dg3": 0.0}),
        ({"dg2": 300.0, "dg3": 100.0}, {"dg2": HOURS_WEAR, "dg3": 0.0}),
        ({"dg2": 490.0, "dg3": 490.0}, {"dg2": SERVICE_WEAR, "dg3": SERVICE_WEAR}),
        ({"dg2": None, "dg3": 100.0}, {"dg3": 0.0}),  # unknown hours say nothing
    ],
)
def test_wear(hours: dict[str, float | None], expected: dict[str, float]) -> None:
    assert wear((DG2, DG3), images(**hours)) == pytest.approx(expected)


def test_service_comes_in_equal_intervals() -> None:
    assert [service_in_h(DG2, h) for h in (0.0, 10.0, 499.0, 1200.0)] == [500.0, 490.0, 1.0, 300.0]


@pytest.mark.parametrize(("run_h", "left_h"), [(500.0, 0.0), (500.5, -0.5), (524.0, -24.0), (525.0, 475.0), (1010.0, -10.0)])
def test_a_service_that_is_overdue_is_not_forgotten_at_once(run_h: float, left_h: float) -> None:
    assert service_in_h(DG2, run_h) == left_h
    assert wear((DG2,), images(dg2=run_h))["dg2"] == (SERVICE_WEAR if left_h <= 0.0 else 0.0)


def test_a_short_interval_is_not_always_overdue() -> None:
    often = DG2.model_copy(update={"hours_between_service": 20.0})
    assert [service_in_h(often, h) for h in (29.0, 31.0)] == [-9.0, 9.0]


@pytest.mark.parametrize(
    ("on", "worn", "expected"),
    [
        (frozenset(), {"dg2": HOURS_WEAR, "dg3": 0.0}, {"dg3"}),  # the fresher one starts
        (frozenset(), {"dg2": 0.0, "dg3": HOURS_WEAR}, {"dg2"}),
        ({"dg2"}, {"dg2": HOURS_WEAR / 2, "dg3": 0.0}, {"dg2"}),  # no swap for a little
        ({"dg2"}, {"dg2": HOURS_WEAR, "dg3": 0.0}, {"dg3"}),  # 24 h apart: its twin takes over
        ({"dg2"}, {"dg2": SERVICE_WEAR, "dg3": 0.0}, {"dg3"}),
    ],
)
def test_who_runs_next(on: frozenset[str], worn: dict[str, float], expected: set[str]) -> None:
    rules = Rules(TWINS)
    outlook = rules_case(rules, TWINS, load_kw=100.0)
    assert rules.target("load-following", outlook, ("dg2", "dg3"), on, True, worn)[0].on == expected


def test_wear_never_outweighs_a_smaller_engine() -> None:
    rules = Rules(site())
    outlook = rules_case(rules, site(), load_kw=100.0)
    assert rules.target("load-following", outlook, ("dg1", "dg2"), (), True, {"dg2": HOURS_WEAR + SERVICE_WEAR})[0].on == {"dg2"}
