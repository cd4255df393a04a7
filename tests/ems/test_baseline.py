from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.baseline import DieselOnly, factor_of, fuel_factor_kg_per_l, reserve_held
from ems.config.site import Diesel, Site
from ems.physics import fuel_l_per_h


def site(*diesels: dict[str, Any], baseline: list[str] | None = None, **rules: Any) -> Site:
    found = [{"kind": "diesel", "min_loading": 0.3, "block_load_kw": d["rated_kw"], **d} for d in diesels]
    more = {} if baseline is None else {"baseline": {"assets": baseline}}
    return Site.model_validate({"site": {"id": "isle"}, "reserve": rules, "assets": [{"id": "town", "kind": "load", "peak_kw": 500}, *found], **more})


def line(no_load: float, slope: float) -> dict[str, float]:
    return {"no_load_l_per_h": no_load, "slope_l_per_kwh": slope}


BIG = {"id": "big", "rated_kw": 600, "fuel": line(12.0, 0.25)}
SMALL = {"id": "small", "rated_kw": 200, "fuel": line(4.0, 0.26)}
TWIN = {"id": "twin", "rated_kw": 600, "fuel": line(12.0, 0.25)}


@pytest.mark.parametrize(
    ("what", "plant", "load_kw", "l_per_h", "units", "kept"),
    [
        ("the only set", site(BIG), 400.0, 12.0 + 100.0, ["big"], True),
        ("nothing served, nothing burnt", site(BIG), 0.0, 0.0, [], True),
        ("the small one where it is enough: 180 x 1.1 < 200", site(BIG, SMALL), 180.0, 4.0 + 46.8, ["small"], True),
        ("the load's own swing needs more than 200", site(BIG, SMALL), 190.0, 12.0 + 47.5, ["big"], True),
        ("a sole former is refused: two, each able to take over", site(BIG, TWIN, single_former="refuse"), 400.0, 24.0 + 100.0, ["big", "twin"], True),
        ("what cannot take over leaves reserve short", site(BIG, SMALL), 580.0, 12.0 + 145.0, ["big"], False),
        ("below minimum loading, where nothing smaller stands", site(BIG), 60.0, 12.0 + 15.0, ["big"], False),
        ("all at full power where the fleet is too small", site(BIG, SMALL), 900.0, 12.0 + 150.0 + 4.0 + 52.0, ["big", "small"], False),
        ("only the declared fleet", site(BIG, SMALL, baseline=["big"]), 200.0, 12.0 + 50.0, ["big"], True),
    ],
)
def test_the_cheapest_set_that_keeps_the_rules(what: str, plant: Site, load_kw: float, l_per_h: float, units: list[str], kept: bool) -> None:
    served = DieselOnly(plant).serve(load_kw)
    assert served is not None
    assert served.l_per_h == pytest.approx(l_per_h), what
    assert (sorted(served.units), served.kept) == (sorted(units), kept), what


def test_half_an_hour_takes_half_the_litres() -> None:
    assert DieselOnly(site(BIG)).litres(400.0, 0.5) == pytest.approx(56.0)


def test_without_a_diesel_there_is_nothing_to_compare_with() -> None:
    isle = {"site": {"id": "isle"}, "assets": [{"id": "town", "kind": "load", "peak_kw": 50}]}
    assert DieselOnly(Site.model_validate(isle)).serve(10.0) is None


def test_what_a_unit_takes_at_once_bounds_the_reserve() -> None:
    strong = site(BIG, TWIN, single_former="refuse")
    weak = site({**BIG, "block_load_kw": 100}, {**TWIN, "block_load_kw": 100}, single_former="refuse")
    held = [reserve_held(plant.of(Diesel), [200.0, 200.0], 400.0, plant.reserve) for plant in (strong, weak)]
    assert held == [True, False]


@given(st.floats(20.0, 1300.0), st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_no_shared_load_that_keeps_the_rules_is_cheaper_by_more_than_the_search_is_coarse(load_kw: float, picks: list[int]) -> None:
    kinds = [BIG, SMALL, TWIN, {"id": "mid", "rated_kw": 350, "fuel": line(8.0, 0.255)}]
    plant = site(*({**kinds[k], "id": f"d{n}"} for n, k in enumerate(picks)))
    served = DieselOnly(plant).serve(load_kw)
    assert served is not None
    cheapest = min((rate for rate in brute(plant, load_kw)), default=None)
    if served.kept:
        assert cheapest is None or served.l_per_h <= cheapest * 1.02
    else:
        assert cheapest is None


def brute(plant: Site, load_kw: float) -> list[float]:
    """Fuel of every set at every share of the load on a coarse grid that keeps the rules."""
    found = []
    fleet = plant.of(Diesel)
    for n in range(1, len(fleet) + 1):
        for units in combinations(fleet, n):
            for shares in product((0.0, 0.25, 0.5, 0.75, 1.0), repeat=n - 1):
                powers = [d.min_kw + s * (d.rated_kw - d.min_kw) for d, s in zip(units[1:], shares, strict=True)]
                powers.insert(0, load_kw - sum(powers))
                inside = all(d.min_kw <= p <= d.rated_kw for d, p in zip(units, powers, strict=True))
                if inside and reserve_held(units, powers, load_kw, plant.reserve):
                    found.append(sum(fuel_l_per_h(d.fuel, p) for d, p in zip(units, powers, strict=True)))
    return found


@pytest.mark.parametrize(
    ("measured_l", "modelled_l", "value", "band"),
    [
        (0.0, 0.0, 1.0, 0.20),
        (30.0, 49.0, 1.0, 0.20),
        (1010.0, 1000.0, 1.01, 0.02),
        (1080.0, 1000.0, 1.08, 0.08),
        (940.0, 1000.0, 0.94, 0.06),
        (500.0, 1000.0, 1.0, 0.50),
    ],
)
def test_the_factor_comes_with_its_band(measured_l: float, modelled_l: float, value: float, band: float) -> None:
    found = factor_of(measured_l, modelled_l)
    assert (found.value, found.band) == (pytest.approx(value), pytest.approx(band))


def test_a_litre_of_diesel_is_2_676_kg_of_co2_by_the_usual_constants() -> None:
    assert fuel_factor_kg_per_l(site(BIG)) == pytest.approx(0.84 * 43.0 * 74.1 / 1000.0)
    assert fuel_factor_kg_per_l(site(BIG)) == pytest.approx(2.676, abs=0.001)
