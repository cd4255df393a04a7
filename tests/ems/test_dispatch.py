"""Sharing: tables worked out by hand, and what must hold for any situation."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.dispatch import Dispatch, Situation, lowered, spread
from ems.guards import Bound
from ems.plan import Target
from tests.ems.island import site

DISPATCH = Dispatch(site())
BOUNDS = {"pv1": Bound(0, 300), "dg1": Bound(90, 300), "dg2": Bound(60, 200), "inv1": Bound(-200, 200)}


def situation(demand: float, sun: float = 0.0, bounds: Mapping[str, Bound] | None = None, unloading: Mapping[str, float] | None = None) -> Situation:
    return Situation(demand, {"pv1": sun}, {}, {}, {**BOUNDS, **(bounds or {})}, ("inv1",), unloading or {})


def wish(on: tuple[str, ...] = (), loading: float | None = None, **power: float) -> Target:
    return Target(frozenset(on), power, "test", loading=loading)


@pytest.mark.parametrize(
    ("name", "case", "target", "on", "expected", "curtailed", "short", "low"),
    [
        ("the battery carries the island alone", situation(150), wish(), (), {"inv1": 150, "pv1": 0}, 0, 0, 0),
        ("surplus is charged", situation(100, 250), wish(), (), {"inv1": -150, "pv1": 250}, 0, 0, 0),
        ("what cannot be charged is curtailed", situation(50, 290), wish(), (), {"inv1": -200, "pv1": 250}, 40, 0, 0),
        ("more than the battery can is short", situation(260), wish(), (), {"inv1": 200}, 0, 60, 0),
        ("a diesel follows, the battery idles", situation(200), wish(), ("dg1",), {"dg1": 202, "inv1": -2}, 0, 0, 0),
        ("a planned battery is kept", situation(200), wish(inv1=50), ("dg1",), {"dg1": 150, "inv1": 50}, 0, 0, 0),
        ("unless the diesel came under its minimum", situation(200), wish(inv1=150), ("dg1",), {"dg1": 90, "inv1": 110}, 0, 0, 0),
        ("the battery helps an overloaded diesel", situation(350), wish(), ("dg1",), {"dg1": 300, "inv1": 50}, 0, 0, 0),
        ("minimum loading charges before it curtails", situation(100, 150), wish(), ("dg1",), {"dg1": 90, "inv1": -140, "pv1": 150}, 0, 0, 0),
        ("then curtails", situation(20, 200), wish(), ("dg1",), {"dg1": 90, "inv1": -200, "pv1": 130}, 70, 0, 0),
        ("and accepts low load last", situation(20, 0, {"inv1": Bound(-2, 200)}), wish(), ("dg1",), {"dg1": 22, "inv1": -2}, 0, 0, 68),
        ("diesels share by rating", situation(248), wish(), ("dg1", "dg2"), {"dg1": 150, "dg2": 100}, 0, 0, 0),
        ("or as planned", situation(248), wish(dg1=90, dg2=160), ("dg1", "dg2"), {"dg1": 90, "dg2": 160}, 0, 0, 0),
        ("cycle charging holds the loading", situation(100), wish(loading=0.8), ("dg1",), {"dg1": 240, "inv1": -140}, 0, 0, 0),
        ("a unit on its way off gives the load away", situation(180, unloading={"dg1": 30}), wish(), ("dg1",), {"dg1": 30, "inv1": 150}, 0, 0, 0),
    ],
)
def test_share(
    name: str, case: Situation, target: Target, on: tuple[str, ...], expected: Mapping[str, float], curtailed: float, short: float, low: float
) -> None:
    found = DISPATCH.share(case, on, target)
    assert {u: round(found.power_kw[u], 6) for u in expected} == expected, name
    assert (found.curtailed_kw, found.short_kw, found.low_load_kw) == pytest.approx((curtailed, short, low)), name


@given(
    demand=st.floats(0, 900),
    sun=st.floats(0, 300),
    low=st.floats(-250, 0),
    high=st.floats(0, 250),
    on=st.sampled_from([(), ("dg1",), ("dg2",), ("dg1", "dg2")]),
    power=st.floats(-300, 300),
)
def test_any_sharing_balances_inside_the_bounds(demand: float, sun: float, low: float, high: float, on: tuple[str, ...], power: float) -> None:
    case = situation(demand, sun, {"inv1": Bound(low, high)})
    found = DISPATCH.share(case, on, wish(inv1=power))
    given_kw = sum(found.power_kw.values())
    assert given_kw + found.short_kw >= demand - 1e-6
    if on or low < 0.0:
        assert given_kw + found.short_kw == pytest.approx(demand, abs=1e-6) or (not on and found.power_kw["inv1"] == pytest.approx(low))
    assert low - 1e-6 <= found.power_kw["inv1"] <= high + 1e-6
    assert -1e-6 <= found.power_kw["pv1"] <= sun + 1e-6
    for d in on:
        assert found.power_kw[d] <= BOUNDS[d].hi_kw + found.short_kw + 1e-6
        assert found.low_load_kw > 0 or found.power_kw[d] >= BOUNDS[d].lo_kw - 1e-6


@given(total=st.floats(-100, 700), wishes=st.lists(st.floats(-50, 400), min_size=2, max_size=4))
def test_spread_never_passes_a_bound(total: float, wishes: list[float]) -> None:
    names = [f"u{k}" for k in range(len(wishes))]
    bounds = {n: (10.0, 150.0) for n in names}
    powers = spread(total, dict(zip(names, wishes, strict=True)), bounds)
    assert all(10.0 - 1e-9 <= p <= 150.0 + 1e-9 for p in powers.values())
    assert sum(powers.values()) == pytest.approx(min(max(total, 10.0 * len(names)), 150.0 * len(names)))


def test_lowered_takes_pro_rata_above_the_floor() -> None:
    assert lowered({"a": 100.0, "b": 50.0}, {"a": 0.0, "b": 0.0}, 30.0) == ({"a": 80.0, "b": 40.0}, 30.0)
    assert lowered({"a": 100.0}, {"a": 80.0}, 50.0) == ({"a": 80.0}, 20.0)


@pytest.mark.parametrize(
    ("formers", "on", "leader"),
    [
        (("dg1", "inv1"), ("dg1",), "dg1"),
        (("dg2", "inv1"), ("dg2",), "dg2"),
        (("dg1", "dg2", "inv1"), ("dg1", "dg2"), "dg1"),
        (("inv1",), (), "inv1"),
        (("dg1", "inv1"), (), "inv1"),
        ((), (), None),
    ],
)
def test_who_leads(formers: tuple[str, ...], on: tuple[str, ...], leader: str | None) -> None:
    assert DISPATCH.leader(formers, on) == leader


@pytest.mark.parametrize(
    ("fixed", "astray", "leader"),
    [
        ((), (), "dg1"),
        (("dg1",), (), "dg2"),
        (("dg1", "dg2"), (), "inv1"),
        (("dg1", "dg2", "inv1"), (), "dg1"),  # nobody obeys: as ever
        (("dg1", "dg2", "inv1"), ("inv1",), "inv1"),  # it gives other than told, so it may well be it that carries the residual
        (("dg1", "dg2", "inv1"), ("dg2", "inv1"), "dg2"),
        (("dg1", "inv1"), ("inv1",), "dg2"),
    ],
)
def test_who_leads_where_some_do_not_do_as_told(fixed: tuple[str, ...], astray: tuple[str, ...], leader: str) -> None:
    assert DISPATCH.leader(("dg1", "dg2", "inv1"), ("dg1", "dg2"), fixed, astray) == leader


@pytest.mark.parametrize(("on", "powers"), [(("dg1", "dg2"), {"dg1": 252.0, "dg2": 70.0}), (("dg1",), {"dg1": 300.0, "inv1": 20.0})])
def test_a_set_that_does_not_follow_gives_what_it_gives_until_it_is_off(on: tuple[str, ...], powers: dict[str, float]) -> None:
    """320 kW, and dg2 stands at 70: beside it dg1 has 250 and the 2 of the inverter; without it dg1 is full and the battery gives the rest."""
    case = Situation(320.0, {"pv1": 0.0}, {}, {"dg2": 70.0}, BOUNDS, ("inv1",), {}, frozenset({"dg2"}))
    found = DISPATCH.share(case, on, wish())
    assert {u: found.power_kw[u] for u in powers} == pytest.approx(powers)
    assert ("dg2" in found.power_kw) is ("dg2" in on)


@pytest.mark.parametrize(("river_kw", "asked_kw", "given_kw"), [(0.0, 50.0, 0.0), (20.0, 50.0, 20.0), (80.0, 50.0, 30.0), (80.0, 0.0, 10.0)])
def test_an_operator_has_no_more_of_a_river_than_it_brings(river_kw: float, asked_kw: float, given_kw: float) -> None:
    """A plan wants 10 kW of the turbine; what an operator asks for at least is taken as far as it is there, never counted on beyond."""
    wet = Dispatch(site({"id": "h1", "kind": "hydro", "rated_kw": 100.0, "min_kw": 5.0}))
    bounds = {**BOUNDS, "h1": Bound(max(5.0, asked_kw - 20.0), 100.0)}
    case = Situation(200.0, {"pv1": 0.0}, {"h1": river_kw}, {}, bounds, ("inv1",), {})
    found = wet.share(case, (), wish(h1=10.0))
    assert found.power_kw["h1"] == given_kw
    assert found.power_kw["inv1"] == 200.0 - given_kw
