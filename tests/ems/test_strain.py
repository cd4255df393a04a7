"""Strain by hand: what is missing now, and whether what is stored lasts until relief is there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ems.dispatch import Shares, Situation
from ems.guards import Bound
from ems.image import ImageBuilder
from ems.memory import Manual, Memory, UnitMemory
from ems.model import Limits, Telemetry
from ems.outlook import Prospect
from ems.plan import Grid, Plan
from ems.reserve import ReserveRule, Supply
from ems.strain import Endurance, Strain, Strains
from ems.terms import Phase
from tests.ems.hamlets import site
from tests.ems.island import diesel, inverter, points, telemetry

SITE = site()
NIGHT = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
OFF = {"dg1": UnitMemory(Phase.OFF, -9000.0), "dg2": UnitMemory(Phase.OFF, -9000.0)}
LOCKED = {d: UnitMemory(Phase.LOCKED, 0.0) for d in OFF}


def strain(
    demand_kw: float = 100.0,
    soc: float | None = 0.5,
    units: dict[str, UnitMemory] = OFF,
    on: tuple[str, ...] = (),
    leader: str | None = "inv1",
    plan: Plan | None = None,
    told: Telemetry | None = None,
    short_kw: float = 0.0,
    hi_by: str = "rating",
    inverter_hi_kw: float = 250.0,
    ordered_kw: float | None = None,
    dg1: Bound | None = None,
    **memory: object,
) -> Strain:
    told = told or telemetry(0, time=NIGHT, bess1=points(soc=soc), dg1=diesel())
    image = ImageBuilder(SITE).build(told, Memory())
    bounds = {"dg1": dg1 or Bound(90.0, 300.0), "dg2": Bound(60.0, 200.0), "pv1": Bound(0.0, 300.0), "inv1": Bound(-250.0, inverter_hi_kw, hi_by=hi_by)}
    situation = Situation(demand_kw, {"pv1": 0.0}, {}, {}, bounds, ("inv1",), {})
    shares = Shares({"pv1": 0.0, "inv1": demand_kw, **dict.fromkeys(on, 0.0)}, 0.0, short_kw, 0.0)
    supply = Supply(shares.power_kw, ("inv1", *on), {"bess1": soc})
    rule = ReserveRule(SITE)
    room_kw = min(sum(kw.values()) for kw in rule.headroom_kw(supply))
    prospect = Prospect(shares, supply, rule.formers(supply), rule.assess(supply, demand_kw), room_kw)
    ordered = None if ordered_kw is None else {**bounds, "inv1": Bound(-250.0, ordered_kw, hi_by="operator_limit")}
    known = replace(Memory(units=units), **memory)  # type: ignore[arg-type]
    return Strains(SITE, rule).of(image, known, situation, prospect, leader, on, plan, ordered)


def night(load_kw: float, sun_kw: tuple[float, ...]) -> Plan:
    n = len(sun_kw)
    grid = Grid(NIGHT, (3600.0,) * n)
    return Plan("p", NIGHT, grid.end, "mpc", grid, {}, {}, {}, (load_kw,) * n, (0.0,) * n, available_kw={"pv1": sun_kw})


def test_a_diesel_that_can_be_started_is_the_relief() -> None:
    """65 s x 1.5 of 100 kW and 2 kW for the inverter itself; above black-start charge and error: (0.5 - 0.08) x 500 x 0.96 x 0.975."""
    found = strain().endurance
    assert (found.waits_for, found.hold_s) == ("dg1", pytest.approx(97.5))
    assert found.deficit_kw == pytest.approx(102.0)
    assert found.need_kwh == pytest.approx(102.0 * 97.5 / 3600)
    assert found.energy_kwh == pytest.approx(0.42 * 500 * 0.936)
    assert found.excess_kw(1.0) == 0.0


@pytest.mark.parametrize(
    ("units", "memory", "waits_for", "hold_s"),
    [
        ({**OFF, "dg1": UnitMemory(Phase.STARTING, -60.0)}, {}, "dg1", 37.5),
        ({**OFF, "dg1": UnitMemory(Phase.STARTING, -200.0)}, {}, "dg1", 10.0),
        ({**OFF, "dg1": UnitMemory(Phase.OFF, -10.0, failed_starts=1), "dg2": LOCKED["dg2"]}, {}, "dg1", 117.5),  # 20 s of crank rest are left
        ({**OFF, "dg1": LOCKED["dg1"]}, {}, "dg2", 97.5),
        ({**OFF, "dg1": LOCKED["dg1"]}, {"manual": {"dg2": Manual(run=False)}}, "sun", 39600.0),  # 22:00 to 8:00, and an hour
        ({**OFF, "dg1": LOCKED["dg1"]}, {"limits": {"dg2": Limits(out_of_service=True)}}, "sun", 39600.0),
        (LOCKED, {}, "sun", 39600.0),
    ],
)
def test_who_comes_next_and_when(units: dict[str, UnitMemory], memory: dict[str, object], waits_for: str, hold_s: float) -> None:
    found = strain(units=units, **memory).endurance  # type: ignore[arg-type]
    assert (found.waits_for, found.hold_s) == (waits_for, pytest.approx(hold_s))


def test_with_no_diesel_the_energy_lasts_to_the_forecast_surplus() -> None:
    """100 + 4 kW against 0, 40 and then 150 kW of sun: one hour as measured, one of 64 kW, then others carry."""
    found = strain(units=LOCKED, plan=night(100.0, (0.0, 40.0, 150.0, 0.0))).endurance
    assert found.hold_s == 7200.0
    assert found.need_kwh == pytest.approx(102.0 + 64.0)
    assert found.energy_kwh == pytest.approx((0.5 - 0.03 - 0.10) * 500 * 0.936)
    assert found.spare_kwh == pytest.approx((0.10 - 0.05) * 500 * 0.936)


def test_how_much_must_go_so_that_it_lasts() -> None:
    """100 kWh for 2 h of 80 kW: at a margin of 1.0 50 kW can stay, at 1.25 only 40."""
    found = Endurance(80.0, 100.0, 160.0, 7200.0, "sun")
    assert found.excess_kw(1.0) == pytest.approx(30.0)
    assert found.excess_kw(1.25) == pytest.approx(40.0)
    assert found.lasts_s == pytest.approx(4500.0)
    assert not found.holds(0.0, 1.0)
    assert replace(found, deficit_kw=50.0, need_kwh=100.0).holds(0.0, 1.0)
    assert not replace(found, deficit_kw=40.0, need_kwh=80.0).holds(10.0, 1.1)
    assert replace(found, deficit_kw=40.0, need_kwh=80.0).holds(10.0, 1.0)


@pytest.mark.parametrize("deficit_kw", [0.0, -50.0])
def test_while_others_carry_nothing_has_to_last(deficit_kw: float) -> None:
    found = Endurance(deficit_kw, 0.0, 0.0, 7200.0, "sun")
    assert found.excess_kw(1.0) == 0.0
    assert found.lasts_s is None
    assert found.holds(-deficit_kw, 1.1)
    assert not found.holds(1.0 - deficit_kw, 1.1)


def test_an_unknown_charge_sheds_nobody_and_restores_nobody() -> None:
    found = strain(soc=None, units=LOCKED).endurance
    assert found.energy_kwh is None
    assert found.excess_kw(1.0) == 0.0
    assert not found.holds(1.0, 1.0)


def test_what_nobody_can_carry_is_missing_and_so_is_a_leaders_overload() -> None:
    assert strain(short_kw=40.0).short_kw == 40.0
    assert strain(short_kw=40.0, leader=None).short_kw == 0.0
    over = telemetry(0, time=NIGHT, dg1=diesel(330.0))
    assert strain(330.0, on=("dg1",), leader="dg1", told=over, short_kw=12.0).short_kw == pytest.approx(30.0)
    assert strain(303.0, on=("dg1",), leader="dg1", told=telemetry(0, time=NIGHT, dg1=diesel(303.0))).short_kw == 0.0


def test_a_battery_at_its_floor_is_no_overload_while_a_diesel_is_on_its_way() -> None:
    floored = {"short_kw": 100.0, "hi_by": "soc_empty", "inverter_hi_kw": 0.0}
    assert strain(soc=0.10, **floored).short_kw == 0.0  # type: ignore[arg-type]
    assert strain(soc=0.082, **floored).short_kw == 100.0  # type: ignore[arg-type]
    assert strain(soc=0.10, units=LOCKED, **floored).short_kw == 100.0  # type: ignore[arg-type]


@pytest.mark.parametrize("hi_by", ["operator", "operator_limit", "out_of_service"])
def test_what_an_operator_allows_a_leader_is_no_overload(hi_by: str) -> None:
    """200 kW from an inverter that may give 50 by an order, and 250 by itself; 50 by its battery's own limit are another matter."""
    told = telemetry(0, time=NIGHT, inv1=inverter(200.0), dg1=diesel(), town=points(power_kw=196.0))
    assert strain(200.0, told=told, hi_by=hi_by, inverter_hi_kw=50.0).short_kw == 0.0
    assert strain(200.0, told=told, hi_by="bms", inverter_hi_kw=50.0).short_kw == pytest.approx(150.0)


def test_a_set_that_an_operator_holds_down_carries_its_share_before_anybody_is_shed_for_energy() -> None:
    """102 kW are within the 300 of a set that was ordered to nothing: the battery has not to last."""
    told = telemetry(0, time=NIGHT, dg1=diesel(0.0))
    units = {**OFF, "dg1": UnitMemory(Phase.ONLINE, -90.0)}
    found = strain(told=told, units=units, on=("dg1",), leader="dg1", limits={"dg1": Limits(out_of_service=True)}, dg1=Bound(0.0, 0.0, hi_by="out_of_service"))
    assert found.endurance.deficit_kw == pytest.approx(102.0 - 300.0)


@pytest.mark.parametrize(("hi_kw", "ordered_kw", "room_kw"), [(250.0, None, 141.75), (120.0, None, 20.0), (250.0, 120.0, 20.0), (250.0, 50.0, 0.0)])
def test_nobody_is_restored_on_what_a_bound_or_an_order_takes(hi_kw: float, ordered_kw: float | None, room_kw: float) -> None:
    """The inverter gives 100 kW: what it may give more is the room, at most 250 kW DC x 0.975 less 2 of its own."""
    assert strain(soc=0.9, inverter_hi_kw=hi_kw, hi_by="bms", ordered_kw=ordered_kw).room_kw == pytest.approx(room_kw)
