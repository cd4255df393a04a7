"""Who may bring up a dead bus, and who does it where nobody is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.black_start import BlackStarts, under_way
from ems.bus import Bus
from ems.decision import Write
from ems.feeders import Feeders
from ems.guards import Bound
from ems.image import ImageBuilder
from ems.loop import resumed
from ems.memory import BlackStart, FeederMemory, Manual, Memory, UnitMemory
from ems.model import Image, Limits, Reading
from ems.terms import Mode, Phase, Stage
from tests.ems.hamlets import site
from tests.ems.island import diesel, inverter, points, telemetry

HYDRO = {"id": "h1", "kind": "hydro", "rated_kw": 80.0, "min_kw": 10.0}
SITE = site(HYDRO)
STARTS = BlackStarts(SITE, Stage.CONTROL, Feeders(SITE))
OFF = diesel(frequency_hz=0.0)
DARK = {
    "town": points(power_kw=0.0, frequency_hz=0.0, voltage_v=0.0),
    "dg1": OFF,
    "dg2": OFF,
    "h1": points(power_kw=0.0, running=0.0),
    "inv1": inverter(0.0, running=0.0, forming=0.0, frequency_hz=0.0, voltage_v=0.0),
}
RESTED = Memory(mode=Mode.START, units={d: UnitMemory(Phase.OFF, -9000.0) for d in ("dg1", "dg2")})


def image(**shown: dict[str, Reading]) -> Image:
    return ImageBuilder(SITE).build(telemetry(0, **{**DARK, **shown}), Memory())


@pytest.mark.parametrize(
    ("shown", "memory", "best"),
    [
        ({}, {}, "inv1"),
        ({"bess1": points(soc=0.06)}, {}, "inv1"),
        ({"bess1": points(soc=0.05)}, {}, "dg1"),  # at the black-start charge itself
        ({"bess1": points(soc=None)}, {}, "dg1"),
        ({"inv1": inverter(0.0, running=0.0, frequency_hz=0.0, voltage_v=0.0, fault=3.0)}, {}, "dg1"),
        ({"bess1": points(soc=0.01), "dg1": diesel(remote=0.0)}, {}, "dg2"),
        ({"bess1": points(soc=0.01)}, {"limits": {"dg1": Limits(out_of_service=True)}}, "dg2"),
        ({"bess1": points(soc=0.01)}, {"units": {"dg1": UnitMemory(Phase.LOCKED, 0.0), "dg2": UnitMemory(Phase.OFF, 0.0)}}, "dg2"),
        ({"bess1": points(soc=0.01), "dg1": diesel(estop=1.0), "dg2": {}}, {}, None),
    ],
)
def test_who_brings_it_up_where_nobody_is_named(shown: dict[str, dict[str, Reading]], memory: dict[str, object], best: str | None) -> None:
    known = replace(RESTED, **memory)  # type: ignore[arg-type]
    assert STARTS.best(image(**shown), known) == best
    assert (STARTS.refusal(image(**shown), known, None) is None) is (best is not None)


@pytest.mark.parametrize(
    ("shown", "memory", "former", "cause"),
    [
        ({"bess1": points(soc=None)}, {}, "inv1", "its charge is unknown"),
        ({}, {"units": {"dg1": UnitMemory(Phase.LOCKED, 0.0)}}, "dg1", "it is locked out; release it first"),
        ({"dg1": {}}, {}, "dg1", "its device does not answer"),
        ({}, {}, "h1", "it cannot form the bus"),
        ({"pv1": points(power_kw=40.0)}, {}, "inv1", "the bus is alive"),
        ({"inv1": inverter(0.0, breaker_closed=0.0), "pv1": points(power_kw=0.0, voltage_v=0.0)}, {}, "inv1", None),  # it idles behind its open breaker
        ({"town": points(power_kw=0.0)}, {}, "inv1", "the bus is not found dead by two measurements"),
        ({}, {"stopped": True}, "inv1", "the emergency stop is in force"),
        ({}, {"stage": Stage.SHADOW}, "inv1", "the site is not in stage control"),
        ({}, {"black_start": BlackStart("dg1", "prove", 0.0, "kim")}, "inv1", "a black start is under way"),
        ({}, {"black_start": BlackStart("dg1", "failed", 0.0, "kim", cause="lost")}, "inv1", None),
    ],
)
def test_why_it_may_not_begin(shown: dict[str, dict[str, Reading]], memory: dict[str, object], former: str, cause: str | None) -> None:
    assert STARTS.refusal(image(**shown), replace(RESTED, **memory), former) == cause  # type: ignore[arg-type]


def test_below_stage_control_on_the_command_line_it_is_refused() -> None:
    assert BlackStarts(SITE, Stage.ADVISE, Feeders(SITE)).refusal(image(), RESTED, "inv1") == "the site is not in stage control"


def test_a_feeder_that_an_operator_held_closed_is_let_go_and_one_that_he_opened_is_not() -> None:
    manual = {"north": Manual(run=True), "south": Manual(run=False), "dg2": Manual(run=True)}
    known = replace(RESTED, manual=manual, feeders={f: FeederMemory(0.0) for f in ("north", "south")})
    begun = STARTS.ordered(image(), known, None, "kim")
    assert under_way(begun)
    assert begun.black_start is not None
    assert (begun.black_start.former, begun.black_start.step, begun.black_start.by) == ("inv1", "isolate", "kim")
    assert set(begun.manual) == {"south", "dg2"}


@pytest.mark.parametrize(("down_kw", "hydro"), [(9.0, (0.0, 0.0)), (11.0, (10.0, 80.0))])
def test_no_pv_yet_and_no_turbine_that_the_others_cannot_take_back(down_kw: float, hydro: tuple[float, float]) -> None:
    rising = replace(RESTED, black_start=BlackStart("inv1", "feeders", 0.0, "kim"))
    found = STARTS.bounds({"pv1": Bound(0.0, 300.0), "h1": Bound(10.0, 80.0)}, rising, down_kw)
    assert (found["pv1"].lo_kw, found["pv1"].hi_kw, found["pv1"].hi_by) == (0.0, 0.0, "black_start")
    assert (found["h1"].lo_kw, found["h1"].hi_kw) == hydro


def test_a_restart_ends_what_was_under_way() -> None:
    after = resumed(replace(RESTED, black_start=BlackStart("inv1", "energise", 5.0, "kim")), 9.0)
    assert not under_way(after)
    assert after.black_start is not None
    assert (after.black_start.failed_at, after.black_start.cause) == ("energise", "restart")


def test_an_inverter_that_idles_behind_its_breaker_is_told_to_close_it_and_holds_nothing_until_it_has() -> None:
    """It says forming and running all the while; only its breaker tells whether the bus is its own."""
    begun = replace(RESTED, mode=Mode.BLACKSTART, black_start=BlackStart("inv1", "energise", 0.0, "kim"))
    idle = image(inv1=inverter(0.0, breaker_closed=0.0), pv1=points(power_kw=0.0, voltage_v=0.0))
    stepped = STARTS.early(replace(idle, now_s=1.0), Bus(SITE).found(idle), begun)
    assert Write("inv1", "running", 1.0) in stepped.writes
    assert stepped.memory.black_start is not None and stepped.memory.black_start.step == "energise"
    up = image(inv1=inverter(0.0, breaker_closed=1.0), town=points(power_kw=0.0))
    stepped = STARTS.early(replace(up, now_s=5.0), Bus(SITE).found(up), begun)
    assert stepped.memory.black_start is not None and stepped.memory.black_start.step == "prove"
