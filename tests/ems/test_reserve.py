"""Reserve: what the others can add if one trips, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.model import Limits
from ems.physics import dc_kw, storage_step
from ems.reserve import ReserveRule, Supply, hold_s, storages
from tests.ems.island import site

SITE = site()
RULE = ReserveRule(SITE)


def supply(soc: float | None = 0.5, online: tuple[str, ...] = ("dg1", "inv1"), **power: float) -> Supply:
    return Supply(power, online, {"bess1": soc})


def test_hold_covers_failed_starts() -> None:
    assert hold_s(SITE) == 900.0
    slow = site({"id": "dg3", "kind": "diesel", "rated_kw": 100.0, "start_s": 600.0}, drop=("dg1", "dg2"), baseline=None)
    assert hold_s(slow) == (1 + 2) * 645.0 + 645.0


@pytest.mark.parametrize(
    ("case", "load", "required", "available", "contingency"),
    [
        # inverter: 250 kW DC limit gives 241.75 kW at the busbar
        (supply(dg1=200.0, inv1=-2.0), 198.0, 200.0, 243.75, "loss of dg1"),
        (supply(online=("dg1", "dg2", "inv1"), dg1=150.0, dg2=50.0, inv1=-2.0), 198.0, 150.0, 100.0 + 243.75, "loss of dg1"),
        # the diesel has 240 kW left to its rating, but takes only its block load of 150 kW at once
        (supply(dg1=60.0, inv1=138.0), 198.0, 138.0, 150.0, "loss of inv1"),
        (supply(online=("inv1",), inv1=198.0), 198.0, 19.8, 43.75, "sole former inv1"),
        (supply(online=("inv1",), pv1=100.0, inv1=98.0), 198.0, 100.0, 143.75, "sole former inv1"),
        (supply(online=("inv1",), pv1=170.0, inv1=28.0), 198.0, 170.0, 213.75, "sole former inv1"),
        # dg2 gives 70 kW whatever it is told: its 130 are nobody's, and what the inverter adds is all there is
        (replace(supply(online=("dg1", "dg2", "inv1"), dg1=252.0, dg2=70.0, inv1=-2.0), astray=("dg2",)), 320.0, 252.0, 243.75, "loss of dg1"),
        (replace(supply(online=("dg1", "dg2", "inv1"), dg1=258.0, dg2=122.0, inv1=-60.0), astray=("inv1",)), 320.0, 258.0, 78.0, "loss of dg1"),
        (supply(soc=None, online=("dg1", "inv1"), dg1=200.0), 198.0, 19.8, 100.0, "sole former dg1"),
        # without the sun the battery gives 130 kW, and its energy carries 129.04
        (supply(soc=0.2, online=("inv1",), pv1=230.0, inv1=-100.0), 130.0, 230.0, 229.04, "loss of pv1"),
    ],
)
def test_binding_contingency(case: Supply, load: float, required: float, available: float, contingency: str) -> None:
    found = RULE.assess(case, load)
    assert (found.required_kw, found.available_kw, found.contingency) == (pytest.approx(required), pytest.approx(available), contingency)


@pytest.mark.parametrize(
    ("battery", "soc", "holds"),
    [
        ({}, 0.06, True),  # under its floor of 0.1, above what a black start takes: enough for the minutes until a diesel is there
        ({}, 0.05, False),
        ({"black_start_soc": 0.3}, 0.11, True),  # a live busbar takes no black start
        ({"black_start_soc": 0.3}, 0.1, False),
    ],
)
def test_down_to_which_charge_an_inverter_holds_the_busbar(battery: dict[str, float], soc: float, holds: bool) -> None:
    stored = {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 500.0, "charge_kw": 250.0, "discharge_kw": 250.0, **battery}
    of = site(stored, drop=("bess1",), stage="shadow")
    assert (ReserveRule(of).formers(supply(soc=soc, online=("inv1",))) == ("inv1",)) is holds


@pytest.mark.parametrize(
    ("limits", "down"),
    [
        ({}, 110.0 + 20.0 + 250.0),  # dg1 to its minimum, the inverter from 20 kW to its rating the other way
        ({"inv1": Limits(max_kw=80.0)}, 110.0 + 20.0 + 80.0),  # it bounds both directions
        ({"inv1": Limits(max_kw=80.0, min_kw=-30.0)}, 110.0 + 20.0 + 30.0),
        ({"inv1": Limits(min_kw=0.0)}, 110.0 + 20.0),  # it may not charge
        ({"bess1": Limits(soc_max=0.5)}, 110.0 + 20.0 + 2.0),  # full: nothing but its own need
        ({"bess1": Limits(soc_max=0.4)}, 110.0 + 20.0 + 2.0),
    ],
)
def test_room_downwards_ends_where_the_operator_lets_charging_end(limits: dict[str, Limits], down: float) -> None:
    case = Supply({"dg1": 200.0, "inv1": 20.0}, ("dg1", "inv1"), {"bess1": 0.5}, limits=limits)
    assert RULE.assess(case, 220.0).down_kw == pytest.approx(down)


def test_who_does_not_do_as_told_takes_nothing_back_either() -> None:
    """110 kW of dg1 down to its minimum, 60 of dg2, 270 of an inverter that could charge: each only while it follows."""
    both = Supply({"dg1": 200.0, "dg2": 120.0, "inv1": 20.0}, ("dg1", "dg2", "inv1"), {"bess1": 0.5})
    for astray, down in (((), 110.0 + 60.0 + 270.0), (("dg2",), 110.0 + 270.0), (("inv1",), 110.0 + 60.0)):
        assert RULE.assess(replace(both, astray=astray), 340.0).down_kw == pytest.approx(down)


def test_a_counted_charge_may_be_the_upper_end_of_its_band() -> None:
    """0.86 at least, up to 0.90 of 500 kWh, the top at 0.90: there may be no room at all."""
    counted = Supply({"dg1": 200.0, "inv1": 20.0}, ("dg1", "inv1"), {"bess1": 0.86}, limits={"bess1": Limits(soc_max=0.9)}, soc_spread={"bess1": 0.04})
    assert RULE.assess(counted, 220.0).down_kw == pytest.approx(110.0 + 20.0 + 2.0)
    assert RULE.assess(replace(counted, soc_spread={}), 220.0).down_kw > 300.0


@pytest.mark.parametrize(
    ("combine", "learned", "required", "contingency"),
    [
        ("max", 19.0, 50.0, "solar"),  # 0.10 x 198 of load, 0.25 x 200 of sun
        ("max", 90.0, 90.0, "forecast"),
        ("max", 250.0, 250.0, "forecast"),
        ("sum", 19.0, 200.0 + 69.8, "loss of pv1"),  # the trip with both fractions
        ("sum", 90.0, 200.0 + 90.0, "loss of pv1"),  # the learned error is that of both
    ],
)
def test_the_learned_error_is_required_too(combine: str, learned: float, required: float, contingency: str) -> None:
    rule = ReserveRule(site(reserve={"combine": combine, "largest_unit": combine == "sum"}))
    case = Supply({"pv1": 200.0, "inv1": -2.0}, ("inv1",), {"bess1": 0.5}, learned_kw=learned)
    found = rule.assess(case, 198.0)
    assert (found.required_kw, found.contingency) == (pytest.approx(required), contingency)
    assert rule.assess(case.changed({"pv1": 200.0}, ("inv1",)), 198.0).required_kw == pytest.approx(required)


def test_a_diesel_on_its_way_off_is_judged_as_gone() -> None:
    """The battery was allowed to hold the bus alone before the last diesel unloads: it is so while it unloads, too."""
    case = supply(online=("dg1", "inv1"), dg1=20.0, inv1=178.0)
    staying, leaving = RULE.assess(case, 198.0), RULE.assess(case, 198.0, ("dg1",))
    assert (staying.contingency, staying.short_kw) == ("loss of inv1", pytest.approx(178.0 - 150.0))
    assert (leaving.contingency, leaving.short_kw) == ("sole former inv1", 0.0)
    assert leaving.available_kw == pytest.approx(241.75 - 178.0)


def test_energy_bounds_what_the_battery_can_hold() -> None:
    # soc 0.2: (0.2 - 0.03 - 0.10) x 500 x 0.96 x 0.975 = 32.76 kWh; held for 900 s: 131 kW
    found = RULE.assess(supply(soc=0.2, dg1=200.0, inv1=-2.0), 198.0)
    assert found.available_kw == pytest.approx(32.76 * 4)
    assert found.short_kw == pytest.approx(200 - 131.04)


@pytest.mark.parametrize(
    ("soc", "power", "hold_s", "at_once", "held"),
    [
        # 32.76 kWh at 0.2 are 131.04 kW for 900 s, and the inverter itself takes 2 of them; the battery's 250 kW are 241.75 at the busbar
        (0.2, -2.0, None, 243.75, 131.04),  # idle
        (0.2, -100.0, None, 341.75, 229.04),  # charging that ends takes nothing out of the battery
        (0.2, -200.0, None, 441.75, 329.04),
        (0.2, 60.0, None, 181.75, 69.04),  # discharging that goes on does
        (0.2, 129.04, None, 112.71, 0.0),
        (0.2, 200.0, None, 41.75, 0.0),  # more than it can go on with: it holds nothing beyond, and that is not counted against others
        (0.2, 60.0, 1800.0, 181.75, 3.52),  # half as much for twice as long
        (0.2, -100.0, 1800.0, 341.75, 163.52),
        (0.5, -100.0, None, 341.75, 341.75),  # energy for 692 kW: here the battery's power is less
        (0.5, 200.0, None, 41.75, 41.75),
        (0.13, -100.0, None, 0.0, 98.0),  # nothing above floor and error: the charge can end, no more
    ],
)
def test_a_battery_holds_what_its_energy_carries_less_what_it_gives(soc: float, power: float, hold_s: float | None, at_once: float, held: float) -> None:
    case = Supply({"inv1": power}, ("inv1",), {"bess1": soc}, hold_s=hold_s)
    assert [room["inv1"] for room in RULE.headroom_kw(case)] == pytest.approx([at_once, held], abs=1e-9)


@pytest.mark.parametrize("soc", [0.15, 0.2, 0.3, 0.6])
@pytest.mark.parametrize("hold_s", [900.0, 2700.0])
def test_asked_for_all_that_it_holds_a_battery_ends_at_its_floor(soc: float, hold_s: float) -> None:
    """Or gives all that it can; whatever it does now."""
    pair = storages(SITE)[0]
    for power in range(-240, 240, 20):
        held = RULE.headroom_kw(Supply({"inv1": float(power)}, ("inv1",), {"bess1": soc}, hold_s=hold_s))[1]["inv1"]
        if held > 0.0:
            end = storage_step(pair.battery, soc, dc_kw(pair.inverter, power + held), hold_s / 3600.0)
            assert end == pytest.approx(pair.battery.soc_min + pair.battery.soc_error) or power + held == pytest.approx(241.75)


def test_operator_limits_count() -> None:
    limited = Supply({"dg1": 150.0}, ("dg1", "inv1"), {"bess1": 0.5}, limits={"inv1": Limits(max_kw=50.0)})
    assert RULE.headroom_kw(limited)[0]["inv1"] == pytest.approx(50.0)
    out = Supply({"dg1": 150.0}, ("dg1", "inv1"), {"bess1": 0.5}, limits={"inv1": Limits(out_of_service=True)})
    assert RULE.headroom_kw(out)[0]["inv1"] == 0.0


def test_an_inverter_that_does_not_form_is_no_former() -> None:
    following = Supply({}, ("inv1",), {"bess1": 0.5}, not_forming=("inv1",))
    assert RULE.formers(following) == ()
    assert RULE.formers(supply(online=("inv1", "dg2"))) == ("dg2", "inv1")


def test_hydro_beside_the_battery_is_no_cover() -> None:
    rule = ReserveRule(site({"id": "h1", "kind": "hydro", "rated_kw": 100.0, "forming": "droop"}))
    alone = rule.assess(Supply({"h1": 80.0, "inv1": 100.0}, ("h1", "inv1"), {"bess1": 0.5}), 180.0)
    assert alone.contingency == "sole former inv1"
    assert alone.short_kw == 0.0


def test_a_site_may_refuse_the_sole_former() -> None:
    strict = ReserveRule(site(reserve={"single_former": "refuse"}))
    assert strict.assess(supply(online=("inv1",), inv1=198.0), 198.0).short_kw == pytest.approx(198.0)
