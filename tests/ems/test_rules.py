"""The rule policies: who carries the island at which charge, and the roll-out that every plan is compared with."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from ems.config.site import Diesel, Site, Solar
from ems.dispatch import Situation
from ems.guards import Bound, rating
from ems.model import Limits
from ems.outlook import Outlook
from ems.physics import ac_kw, charge_room_kw, dc_kw, discharge_room_kw, storage_step
from ems.plan import DieselStart, Forecast, Grid, PlantStart, Target
from ems.reserve import Supply, storages
from ems.rules import Rules, limited
from tests.ems.island import START, site

SITE = site()
RULES = Rules(SITE)
BOTH = frozenset({"dg1", "dg2"})


def looked(soc: float | None, load_kw: float = 150.0, sun_kw: float = 0.0, rules: Rules = RULES) -> Outlook:
    """Return the outlook of the island at a charge, a load and a sun."""
    pair = storages(SITE)[0]
    bounds = {u.id: rating(u) for u in SITE.assets if u.kind in ("solar", "diesel", "inverter")}  # type: ignore[arg-type]
    room = (0.0, 0.0) if soc is None else (charge_room_kw(pair.battery, soc, 0.95, 1 / 60), discharge_room_kw(pair.battery, soc, 0.10, 1 / 60))
    bounds["inv1"] = Bound(ac_kw(pair.inverter, -room[0]), ac_kw(pair.inverter, room[1]))
    situation = Situation(load_kw, {"pv1": sun_kw}, {}, {}, bounds, ("inv1",), {})
    return rules.outlooks.of(situation, Supply({}, frozenset({"inv1"}), {"bess1": soc}))


def wanted(
    policy: str, soc: float | None, load_kw: float = 150.0, sun_kw: float = 0.0, before: bool = False, usable: frozenset[str] = BOTH
) -> tuple[Target, bool]:
    return RULES.target(policy, looked(soc, load_kw, sun_kw), usable, frozenset[str](), before)


def rules_case(rules: Rules, isle: Site, load_kw: float) -> Outlook:
    """Return the outlook of an island whose battery stands idle at 20 %."""
    bounds = {u.id: rating(u) for u in isle.assets if u.kind in ("solar", "diesel", "inverter")}  # type: ignore[arg-type]
    bounds["inv1"] = Bound(-2.0, -2.0)
    situation = Situation(load_kw, {"pv1": 0.0}, {}, {}, bounds, ("inv1",), {})
    return rules.outlooks.of(situation, Supply({}, frozenset({"inv1"}), {"bess1": 0.2}))


@pytest.mark.parametrize(
    ("policy", "soc", "before", "alone"),
    [
        ("load-following", 0.70, False, True),
        ("load-following", 0.24, False, False),
        ("load-following", 0.44, True, False),  # hysteresis: called for, it stays until 0.45
        ("load-following", 0.46, True, True),
        ("cycle-charging", 0.84, True, False),
        ("cycle-charging", 0.86, True, True),
        ("cycle-charging", 0.84, False, True),
        ("load-following", None, False, False),  # an unknown charge carries nobody
        ("diesel-only", 0.90, False, False),
    ],
)
def test_when_the_battery_may_carry_alone(policy: str, soc: float | None, before: bool, alone: bool) -> None:
    target, calls = wanted(policy, soc, load_kw=100.0, before=before)
    assert (target.on == frozenset(), calls) == (alone, not alone)
    assert target.source == policy


def test_a_load_that_the_battery_cannot_carry_needs_a_diesel_at_any_charge() -> None:
    assert wanted("load-following", 0.9, load_kw=300.0)[0].on != frozenset()
    assert wanted("load-following", 0.9, load_kw=200.0)[0].on == frozenset()


@pytest.mark.parametrize(
    ("load_kw", "sun_kw", "on"),
    [(80.0, 0.0, {"dg2"}), (150.0, 0.0, {"dg2"}), (280.0, 0.0, {"dg1"}), (450.0, 0.0, {"dg1", "dg2"}), (450.0, 250.0, {"dg1"})],
)
def test_the_set_that_burns_least_and_holds_reserve(load_kw: float, sun_kw: float, on: set[str]) -> None:
    assert wanted("diesel-only", 0.6, load_kw, sun_kw)[0].on >= on


def test_only_usable_diesels_are_asked_for() -> None:
    assert wanted("load-following", 0.2, usable=frozenset({"dg2"}))[0].on == {"dg2"}
    assert wanted("load-following", 0.2, usable=frozenset())[0].on == frozenset()


def test_cycle_charging_charges_until_nearly_full_and_load_following_never() -> None:
    assert wanted("cycle-charging", 0.5, before=True)[0].loading == SITE.rules.cycle_loading
    assert wanted("cycle-charging", 0.9, load_kw=300.0, before=True)[0].loading is None
    assert wanted("load-following", 0.2)[0].loading is None


def test_a_low_battery_is_charged_only_as_hard_as_the_reserve_allows() -> None:
    """At 12 % the battery adds nothing: at 0.8 the loss of dg1 leaves more to dg2 than its headroom, at 0.4 it does not.

    Above the floor it is no matter: what is charged more is given up again by who charges.
    """
    assert RULES.target("cycle-charging", looked(0.2), BOTH, frozenset[str](), False)[0].loading == SITE.rules.cycle_loading
    rules = Rules(site({"id": "dg2", "kind": "diesel", "rated_kw": 200.0, "block_load_kw": 200.0, "forming": "droop"}, drop=("dg2",)))
    outlook = looked(0.12, rules=rules)
    target, _ = rules.target("cycle-charging", outlook, BOTH, frozenset[str](), False)
    assert 0.3 <= (target.loading or 0.0) < SITE.rules.cycle_loading
    assert outlook.prospect(target.on, target).short_kw <= 0.0
    assert outlook.prospect(target.on, replace(target, loading=SITE.rules.cycle_loading)).short_kw > 0.0


@pytest.mark.parametrize("policy", ["load-following", "cycle-charging"])
@pytest.mark.parametrize(("soc", "sun_kw", "alone"), [(0.30, 110.0, True), (0.30, 90.0, False), (0.26, 110.0, False)])
def test_under_a_surplus_of_sun_a_diesel_stops_early(policy: str, soc: float, sun_kw: float, alone: bool) -> None:
    assert (wanted(policy, soc, load_kw=100.0, sun_kw=sun_kw, before=True)[0].on == frozenset()) is alone


def test_in_a_tie_the_one_that_runs_stays() -> None:
    fuel = {"no_load_l_per_h": 4.0, "slope_l_per_kwh": 0.25}
    twins = site({"id": "dg3", "kind": "diesel", "rated_kw": 200.0, "forming": "droop", "fuel": fuel}, drop=("dg1",))
    rules = Rules(twins)
    for running in ("dg2", "dg3"):
        assert rules.target("load-following", rules_case(rules, twins, 100.0), ("dg2", "dg3"), {running}, True)[0].on == {running}


@pytest.mark.parametrize(
    ("limit", "hi_kw"),
    [(None, 300.0), (Limits(max_kw=80.0), 80.0), (Limits(max_kw=900.0), 300.0), (Limits(out_of_service=True), 0.0), (Limits(min_kw=50.0), 300.0)],
)
def test_an_operators_limit_holds_in_a_roll_out(limit: Limits | None, hi_kw: float) -> None:
    pv1 = Solar(id="pv1", kind="solar", rated_kw=300.0)
    found = limited(Bound(0.0, 300.0), pv1, {} if limit is None else {"pv1": limit})
    assert (found.lo_kw, found.hi_kw) == (0.0, hi_kw)  # nobody can ask for more sun


@pytest.mark.parametrize(("limit", "lo_kw"), [(Limits(min_kw=450.0), 450.0), (Limits(min_kw=450.0, max_kw=400.0), 400.0), (Limits(max_kw=400.0), 180.0)])
def test_a_diesel_gives_what_an_operator_asks_for_in_a_roll_out_too(limit: Limits, lo_kw: float) -> None:
    """Else every plan that obeys him burns more than the rules beside it, and is refused as long as the limit holds."""
    dg1 = Diesel(id="dg1", kind="diesel", rated_kw=600.0, forming="isochronous")
    assert limited(Bound(180.0, 600.0), dg1, {"dg1": limit}).lo_kw == lo_kw


# ------------------------------------------------------------------ roll-out
GRID = Grid(START, (900.0,) * 16 + (3600.0,) * 20)
LOAD = tuple(160.0 + 60.0 * (k % 7) / 6 for k in range(GRID.n_steps))
SUN = tuple(max(0.0, 240.0 - 18.0 * abs(k - 14)) for k in range(GRID.n_steps))
FORECAST = Forecast(GRID, LOAD, {"pv1": SUN}, {})
FROM = PlantStart({"bess1": 0.6}, {"dg1": DieselStart(False, 9000.0), "dg2": DieselStart(False, 9000.0)})


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        (DieselStart(True, 9000.0), 0),
        (DieselStart(True, 0.0), 2),  # half an hour at least
        (DieselStart(True, 1000.0), 1),
        (DieselStart(True, 9000.0, burn_s=2000.0), 3),
        (DieselStart(True, 0.0, usable=False), 0),
        (DieselStart(False, 0.0), 0),
    ],
)
def test_a_set_that_may_not_stop_yet_stays_in_a_roll_out(state: DieselStart, steps: int) -> None:
    """100 kW under 200 kW of sun: the battery carries that alone."""
    begin = PlantStart({"bess1": 0.8}, {"dg1": state, "dg2": FROM.diesels["dg2"]})
    forecast = Forecast(GRID, (100.0,) * GRID.n_steps, {"pv1": (200.0,) * GRID.n_steps}, {})
    plan = RULES.rollout(begin, forecast, "load-following", "p", START)
    assert plan.on["dg1"] == (True,) * steps + (False,) * (GRID.n_steps - steps)
    assert not any(plan.on["dg2"])


@pytest.mark.parametrize("policy", ["load-following", "cycle-charging"])
def test_a_roll_out_is_balanced_and_its_charge_follows_its_power(policy: str) -> None:
    plan = RULES.rollout(FROM, FORECAST, policy, "p1", START)
    pair = storages(SITE)[0]
    for k, step_s in enumerate(GRID.step_s):
        assert sum(p[k] for p in plan.power_kw.values()) + plan.unserved_kw[k] == pytest.approx(LOAD[k], abs=1e-6)
        assert plan.soc["bess1"][k + 1] == pytest.approx(
            storage_step(pair.battery, plan.soc["bess1"][k], dc_kw(pair.inverter, plan.power_kw["inv1"][k]), step_s / 3600.0)
        )
        assert 0.10 - 1e-9 <= plan.soc["bess1"][k + 1] <= 0.95 + 1e-9
        assert 0.0 <= plan.power_kw["pv1"][k] <= SUN[k] + 1e-9
        for d, least in (("dg1", 90.0), ("dg2", 60.0)):
            power = plan.power_kw[d][k]
            assert power >= least - 1e-6 if plan.on[d][k] else power == 0.0
    assert sum(plan.unserved_kw) == 0.0
    assert (plan.source, plan.id, plan.grid) == (policy, "p1", GRID)
    assert any(plan.on["dg1"]) or any(plan.on["dg2"])


def test_cycle_charging_runs_diesels_less_often_than_load_following_but_harder() -> None:
    def runs(policy: str) -> tuple[int, float]:
        plan = RULES.rollout(FROM, FORECAST, policy, "p1", START)
        on = [plan.on["dg1"][k] or plan.on["dg2"][k] for k in range(GRID.n_steps)]
        return sum(b and not a for a, b in pairwise([False, *on])), max(max(plan.power_kw["dg1"]), max(plan.power_kw["dg2"]))

    (_, following_kw), (_, cycling_kw) = runs("load-following"), runs("cycle-charging")
    assert cycling_kw >= following_kw


def test_a_locked_diesel_is_not_in_the_roll_out_and_limits_are() -> None:
    locked = PlantStart({"bess1": 0.6}, {"dg1": DieselStart(False, 9000.0, usable=False), "dg2": DieselStart(False, 9000.0)})
    plan = RULES.rollout(locked, FORECAST, "load-following", "p1", START, {"pv1": Limits(max_kw=50.0), "bess1": Limits(soc_min=0.4)})
    assert not any(plan.on["dg1"])
    assert max(plan.power_kw["pv1"]) <= 50.0
    assert min(plan.soc["bess1"]) >= 0.4 - 1e-9


def test_a_limit_holds_in_the_roll_out_until_it_expires() -> None:
    free = RULES.rollout(FROM, FORECAST, "load-following", "p1", START)
    k = next(k for k, kw in enumerate(free.power_kw["pv1"]) if kw > 60.0) + 2
    limits = {"pv1": Limits(max_kw=50.0, expires_at=GRID.starts()[k]), "dg1": Limits(out_of_service=True, expires_at=GRID.starts()[k])}
    plan = RULES.rollout(FROM, FORECAST, "load-following", "p1", START, limits)
    assert max(plan.power_kw["pv1"][:k]) <= 50.0 < max(plan.power_kw["pv1"][k:])
    assert not any(plan.on["dg1"][:k]) and any(plan.on["dg1"][k:])


def test_without_any_source_the_load_is_unserved_and_said_so() -> None:
    nobody = PlantStart({"bess1": 0.10}, {d: DieselStart(False, 9000.0, usable=False) for d in ("dg1", "dg2")})
    plan = RULES.rollout(nobody, Forecast(GRID, LOAD, {"pv1": (0.0,) * GRID.n_steps}, {}), "load-following", "p1", START)
    assert plan.unserved_kw[0] == pytest.approx(LOAD[0] + 2.0, abs=3.0)


def test_a_turbine_without_water_holds_nothing() -> None:
    wet = site({"id": "h1", "kind": "hydro", "rated_kw": 80.0, "forming": "droop"})
    rules = Rules(wet)
    bounds = {u.id: rating(u) for u in wet.assets if u.kind in ("solar", "diesel", "inverter", "hydro")}  # type: ignore[arg-type]
    supply = Supply({}, frozenset({"h1", "inv1"}), {"bess1": None})
    for river_kw, formers in ((40.0, ("h1",)), (0.0, ())):
        situation = Situation(40.0, {"pv1": 0.0}, {"h1": river_kw}, {}, bounds, (), {})
        assert rules.outlooks.of(situation, supply).prospect((), Target(frozenset(), {}, "load-following")).formers == formers
