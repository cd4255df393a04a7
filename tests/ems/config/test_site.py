"""Defaults are resolved, nothing is repaired, and a site is a value."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ems.config.site import Battery, Deferrable, Diesel, Feeder, Hydro, Inverter, Load, Meter, Site, Solar, Tank
from ems.physics import hydro_kw


def site(*assets: dict[str, Any], **sections: Any) -> Site:
    town = {"id": "town", "kind": "load", "peak_kw": 200}
    return Site.model_validate({"site": {"id": "test"}, "assets": [town, *assets], **sections})


def asset(kind: str, **fields: Any) -> Any:
    return site({"id": "x", "kind": kind, **fields}).assets[1]


def test_the_shortest_site_has_every_default():
    shortest = site({"id": "dg1", "kind": "diesel", "rated_kw": 300})
    assert (shortest.site.name.en, shortest.site.name.ja) == ("test", "test")
    assert str(shortest.tz) == "UTC"
    assert shortest.control.stage == "shadow"  # nothing is written before somebody says so
    assert shortest.planner.grid == ((5.0, 12), (15.0, 12), (60.0, 32))
    assert shortest.peak_kw == 200
    assert shortest.ids == ("town", "dg1", "town-f1")
    assert shortest.of(Feeder) == (Feeder(id="town-f1", priority=1, share=1.0),)
    assert shortest.baseline is None
    assert shortest.fuel_constants.co2_kg_per_l == pytest.approx(2.6765, abs=1e-4)


def test_a_diesel_of_300_kw():
    diesel = asset("diesel", rated_kw=300)
    assert isinstance(diesel, Diesel)
    assert diesel.forming == "isochronous"
    assert diesel.fuel.no_load_l_per_h == pytest.approx(6.3)
    assert (diesel.fuel.slope_l_per_kwh, diesel.min_kw) == (0.249, 90.0)
    assert (diesel.rated_kva, diesel.block_load_kw, diesel.ramp_kw_per_s) == (375.0, 150.0, 15.0)
    assert diesel.start_l == pytest.approx(0.9)
    assert diesel.om_per_h == pytest.approx(6.0)


def test_what_a_fuel_entry_leaves_open_is_filled_in():
    assert asset("diesel", rated_kw=200, fuel={"slope_l_per_kwh": 0.26}).fuel.no_load_l_per_h == pytest.approx(4.2)
    assert asset("diesel", rated_kw=200, fuel={"no_load_l_per_h": 5}).fuel.slope_l_per_kwh == 0.249
    by_curve = asset("diesel", rated_kw=200, fuel={"points": [[50, 17], [100, 29], [200, 55]]}).fuel
    assert by_curve.slope_l_per_kwh == pytest.approx(38 / 150)
    assert by_curve.no_load_l_per_h == pytest.approx(17 - 50 * 38 / 150)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([{}, {}, {}], ["isochronous", "droop", "droop"]),
        ([{"forming": "droop"}, {}, {}], ["droop", "droop", "droop"]),
        ([{}, {"forming": "isochronous"}], ["droop", "isochronous"]),
        ([{"forming": "never"}, {}], ["never", "droop"]),
    ],
)
def test_the_first_diesel_is_isochronous_unless_somebody_is(others: list[dict[str, Any]], expected: list[str]):
    diesels = [{"id": f"dg{n}", "kind": "diesel", "rated_kw": 300, **fields} for n, fields in enumerate(others)]
    assert [d.forming for d in site(*diesels).of(Diesel)] == expected


@given(rated=st.floats(1, 5000), head=st.floats(2, 500))
def test_a_hydro_gives_its_rating_at_its_design_flow(rated: float, head: float):
    by_head = asset("hydro", rated_kw=rated, head_m=head)
    by_flow = asset("hydro", rated_kw=rated, design_flow_m3s=head / 10)
    for hydro in (by_head, by_flow, asset("hydro", rated_kw=rated)):
        assert isinstance(hydro, Hydro)
        assert hydro.efficiency == pytest.approx(0.8)
        assert hydro_kw(hydro, hydro.design_flow_m3s) == pytest.approx(rated)
    assert asset("hydro", rated_kw=250, head_m=62, design_flow_m3s=0.52).efficiency == pytest.approx(0.7904, abs=1e-4)


def test_the_other_kinds():
    solar = asset("solar", rated_kw=90)
    assert isinstance(solar, Solar)
    assert solar.rated_kva == 90
    assert solar.ramp_up_kw_per_s == pytest.approx(3)
    follower, former = asset("inverter", rated_kw=200), asset("inverter", rated_kw=200, forming="droop")
    assert isinstance(follower, Inverter)
    assert (follower.forming, follower.primary_response, follower.no_load_kw) == ("never", False, 1.5)
    assert former.primary_response is True
    battery = asset("battery", behind="i", capacity_kwh=100, charge_kw=50, discharge_kw=50)
    assert isinstance(battery, Battery)
    assert (battery.soc_min, battery.soc_max, battery.charge_limit_curve) == (0.10, 0.95, ())
    onoff, modulating = asset("deferrable", rated_kw=100), asset("deferrable", rated_kw=100, modulating=True)
    assert isinstance(onoff, Deferrable)
    assert (onoff.min_kw, modulating.min_kw, onoff.window_s) == (100, 30, (0, 86400))
    meter = asset("meter", measures="town", **{"class": "0.5S"})
    assert isinstance(meter, Meter)
    assert meter.accuracy_class == "0.5S"
    assert meter.model_dump(by_alias=True)["class"] == "0.5S"


def test_the_only_tank_feeds_every_diesel():
    diesels = [{"id": f"dg{n}", "kind": "diesel", "rated_kw": 300} for n in (1, 2)]
    alone = site(*diesels, {"id": "t1", "kind": "tank", "capacity_l": 1000})
    assert alone.of(Tank)[0].feeds == ("dg1", "dg2")
    assert alone.of(Tank)[0].level_l_start == 1000
    two = site(*diesels, {"id": "t1", "kind": "tank", "capacity_l": 1000}, {"id": "t2", "kind": "tank", "capacity_l": 1000})
    assert [t.feeds for t in two.of(Tank)] == [(), ()]


def test_assets_are_found_by_kind_and_id():
    here = site(
        {"id": "i1", "kind": "inverter", "rated_kw": 100},
        {"id": "i2", "kind": "inverter", "rated_kw": 100},
        {"id": "b1", "kind": "battery", "behind": "i2", "capacity_kwh": 100, "charge_kw": 50, "discharge_kw": 50},
    )
    behind = here.battery_behind("i2")
    assert behind is not None
    assert behind.id == "b1"
    assert here.battery_behind("i1") is None
    assert [i.id for i in here.of(Inverter)] == ["i1", "i2"]
    assert isinstance(here.asset("town"), Load)
    assert here.asset("town-f1").kind == "feeder"
    with pytest.raises(KeyError):
        here.asset("nobody")


def test_wear_counts_by_its_share_of_the_month_that_the_site_lives_in():
    """At 23:30 UTC on 31 October it is November in Tokyo."""
    named = {"id": "test", "timezone": "Asia/Tokyo"}
    isle = site({"id": "dg1", "kind": "diesel", "rated_kw": 100, "start_wear_l": 4, "hour_wear_l": 2}, site=named, planner={"wear_share": {11: 0.5}})
    (diesel,), eve = isle.of(Diesel), datetime(2026, 10, 31, 23, 30, tzinfo=UTC)
    assert isle.worn_l(diesel, eve) == (2.0, 1.0)
    assert isle.worn_l(diesel, eve - timedelta(days=1)) == (4.0, 2.0)


@pytest.mark.parametrize("share", [{13: 0.5}, {0: 1.0}, {"november": 0.5}, {11: -0.1}, {11: "half"}])
def test_a_share_of_wear_is_of_a_month(share: dict[Any, Any]):
    with pytest.raises(ValidationError, match="wear_share"):
        site(planner={"wear_share": share})


def test_a_site_is_a_value():
    one, other = (site({"id": "dg1", "kind": "diesel", "rated_kw": 300}) for _ in range(2))
    assert one == other
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(ValidationError):
        one.control.stage = "control"  # type: ignore[misc]


@given(value=st.one_of(st.booleans(), st.text(max_size=5), st.none(), st.just(float("nan")), st.just(float("inf")), st.floats(max_value=0)))
def test_no_rating_is_repaired(value: object):
    with pytest.raises(ValidationError):
        asset("diesel", rated_kw=value)


@given(shares=st.lists(st.integers(1, 1000), min_size=1, max_size=12))
def test_shares_that_add_up_are_taken_and_others_refused(shares: list[int]):
    feeders = [{"id": f"f{n}", "share": s / sum(shares)} for n, s in enumerate(shares)]
    assert len(asset("load", peak_kw=10, feeders=feeders).feeders) == len(shares)
    feeders[0] = {"id": "f0", "share": shares[0] / sum(shares) * 0.9}
    with pytest.raises(ValidationError, match="add up"):
        asset("load", peak_kw=10, feeders=feeders)
