"""Who is not believed, when, and what is used instead: tables of cycles on meters with noise and whole kilowatts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import count
from random import Random

import pytest

from ems.charge import surely_stored
from ems.doubt import Doubter
from ems.doubt_memory import DoubtMemory
from ems.image import ImageBuilder
from ems.memory import Memory
from ems.model import Doubt, Flaw, Image, Reading
from ems.record import pack, unpack
from tests.ems.island import diesel, inverter, points, site, telemetry

SITE = site()
Lie = Callable[[float], float]
FAULT_S = 100
"""The lies begin in this second."""
BATTERY_KW = 45.0


def truth(k: int) -> dict[str, float]:
    """The island's powers in second `k`: a town that swells and ebbs, some sun, a battery that gives the same all day, and dg1 with the rest."""
    town = 210.0 + 45.0 * math.sin(k / 25.0)
    sun = 60.0 + 10.0 * math.sin(k / 40.0)
    return {"town": town, "pv1": sun, "inv1": BATTERY_KW, "dg1": town - sun - BATTERY_KW}


def night(k: int) -> dict[str, float]:
    """The same without the sun: dg1 carries the rest."""
    powers = truth(k)
    return {**powers, "pv1": 0.0, "dg1": powers["dg1"] + powers["pv1"]}


def watched(
    seconds: int,
    lies: Mapping[str, Lie] | None = None,
    until_s: int = 10**6,
    gone: Mapping[str, dict[str, Reading]] | None = None,
    really: Callable[[int], dict[str, float]] = truth,
    seed: int = 1,
    dt_s: float = 1.0,
    hz: float = 50.0,
    told: Callable[[int], Mapping[str, float]] | None = None,
) -> list[Image]:
    """Let doubt watch the island; from `FAULT_S` to `until_s` some meters lie, and some devices show other readings altogether."""
    random, builder, doubter, memory = Random(seed), ImageBuilder(SITE), Doubter(SITE), DoubtMemory()
    rated = {"town": 400.0, "pv1": 300.0, "inv1": 250.0, "dg1": 300.0}
    found, shown, soc = [], dict[str, float](), 0.8
    for k in range(seconds):
        lying = FAULT_S <= k < until_s
        now = {a: round(p + 0.005 * rated[a] * random.uniform(-1.0, 1.0)) for a, p in really(k).items()}
        shown = {a: lies[a](p) if lying and lies and a in lies else float(p) for a, p in now.items()}
        readings = {
            "town": points(power_kw=shown["town"]),
            "pv1": points(power_kw=shown["pv1"], remote=1.0),
            "inv1": inverter(shown["inv1"], frequency_hz=hz),
            "dg1": diesel(shown["dg1"], frequency_hz=hz),
            "bess1": points(soc=soc, charge_limit_kw=250.0, discharge_limit_kw=240.0),
        }
        readings |= dict(gone or {}) if lying else {}
        soc -= (now["inv1"] + 2.0) / 0.975 / 0.96 / 500.0 / 3600.0
        image, memory = doubter.judge(builder.build(telemetry(k, dt_s, **readings), Memory()), memory, told(k) if told else {})
        found.append(image)
    assert unpack(DoubtMemory, pack(memory)) == memory
    return found


def first(images: list[Image], asset: str | None) -> tuple[int, Doubt]:
    """Return how many seconds after the fault somebody was doubted, and how."""
    for k, image in enumerate(images):
        for doubt in image.doubts:
            if doubt.asset == asset:
                return k - FAULT_S, doubt
    raise AssertionError(f"{asset} was never doubted: {[(k, d) for k, i in enumerate(images) for d in i.doubts][:5]}")


def held_at() -> Lie:
    kept: dict[str, float] = {}
    return lambda power: kept.setdefault("power", power)


LIES: list[tuple[str, Callable[[], Lie], Flaw, int]] = [
    ("town", lambda: lambda p: 10.0 * p, Flaw.RANGE, 0),
    ("town", lambda: lambda p: p / 10.0, Flaw.SCALED_DOWN, 10),
    ("town", lambda: lambda p: -p, Flaw.RANGE, 0),
    ("town", lambda: lambda p: p + 150.0, Flaw.JUMP, 15),
    ("town", lambda: lambda p: 0.0, Flaw.ZEROED, 10),
    ("town", lambda: held_at(), Flaw.FROZEN, 60),
    ("pv1", lambda: lambda p: 10.0 * p, Flaw.RANGE, 2),
    ("pv1", lambda: lambda p: -p, Flaw.RANGE, 0),
    ("pv1", lambda: lambda p: p / 10.0, Flaw.SCALED_DOWN, 10),
    ("pv1", lambda: lambda p: 0.0, Flaw.ZEROED, 10),
    ("pv1", lambda: lambda p: p + 90.0, Flaw.JUMP, 15),
    ("dg1", lambda: lambda p: 10.0 * p, Flaw.RANGE, 0),
    ("dg1", lambda: lambda p: -p, Flaw.RANGE, 0),
    ("dg1", lambda: lambda p: p / 10.0, Flaw.SCALED_DOWN, 10),
    ("dg1", lambda: held_at(), Flaw.FROZEN, 60),
    ("inv1", lambda: lambda p: 10.0 * p, Flaw.RANGE, 0),
    ("inv1", lambda: lambda p: -p, Flaw.SIGN, 10),
    ("inv1", lambda: lambda p: p / 10.0, Flaw.SCALED_DOWN, 10),
    ("inv1", lambda: lambda p: -3.1e11, Flaw.RANGE, 0),  # a float with its words swapped
    ("inv1", lambda: lambda p: math.nan, Flaw.RANGE, 0),
]


@pytest.mark.parametrize(("asset", "lie", "flaw", "within_s"), LIES, ids=[f"{a}-{f.value}-{k}" for k, (a, _, f, _) in enumerate(LIES)])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_meter_that_lies_is_found_replaced_and_believed_again(asset: str, lie: Callable[[], Lie], flaw: Flaw, within_s: int, seed: int) -> None:
    until_s = FAULT_S + 120
    images = watched(until_s + 30, {asset: lie()}, until_s, seed=seed)
    after_s, doubt = first(images, asset)
    assert 0 <= after_s <= within_s
    assert (doubt.point, doubt.flaw, doubt.source) == ("power_kw", flaw, "balance")
    assert {d.asset for i in images for d in i.doubts} <= {asset, None}  # nobody else is accused
    for k in range(FAULT_S + after_s, until_s):
        image, real = images[k], truth(k)
        assert [d.asset for d in image.doubts] == [asset]  # one cause, one alarm, without a break
        unit = image.assets[asset]
        assert unit.power_kw == pytest.approx(real[asset], abs=8.0)  # the errors of the other meters
        assert (unit.quality.value, unit.suspect) == ("bad" if flaw is Flaw.ZEROED and asset == "town" else "suspect", ("power_kw",))
        assert image.load_kw == pytest.approx(real["town"], abs=8.0)
        assert 5.0 < image.uncertain_kw < 30.0
    assert images[until_s + 15].doubts == ()
    assert images[until_s + 15].uncertain_kw == 0.0
    assert images[until_s + 15].assets[asset].suspect == ()


def test_an_open_balance_that_nobody_can_be_blamed_for_replaces_nobody_but_is_said_and_reserved_for() -> None:
    """A load that no meter sees grows to 90 kW in a minute; dg1 carries it, and says so rightly."""

    def hidden(k: int) -> dict[str, float]:
        real = truth(k)
        return {**real, "dg1": real["dg1"] + min(90.0, max(0.0, 1.5 * (k - FAULT_S)))}

    images = watched(FAULT_S + 200, really=hidden)
    after_s, doubt = first(images, None)
    assert 10 <= after_s <= 60
    assert (doubt.flaw, doubt.used, doubt.source) == (Flaw.BALANCE, None, "none")
    assert {d.asset for i in images for d in i.doubts} == {None}
    last = images[-1]
    assert last.uncertain_kw == pytest.approx(90.0, abs=8.0)
    assert all(unit.suspect == () for unit in last.assets.values())


@pytest.mark.parametrize("obeys", [True, False])
def test_who_shows_what_it_was_told_is_not_frozen_while_another_drifts(obeys: bool) -> None:
    """The town's meter creeps away; the inverter shows the same bits, because it was told to give just that."""
    crept = count()
    lies: dict[str, Lie] = {"town": lambda p: p + 0.5 * next(crept), "inv1": lambda p: BATTERY_KW}
    images = watched(FAULT_S + 200, lies, really=night, told=lambda k: {"inv1": BATTERY_KW} if obeys else {})
    accused = {(d.asset, d.flaw) for i in images for d in i.doubts if d.asset is not None}
    assert accused == ({("town", Flaw.DRIFT)} if obeys else {("inv1", Flaw.FROZEN)})


def test_a_meter_that_stands_still_is_found_by_what_its_unit_was_told() -> None:
    """The inverter's meter died at nothing while it gave next to nothing, so the balance stayed closed. Told to take over, it does.

    The leader goes down to nothing for that: the only one that is seen to move, and to zero, as a dead meter would.
    """
    over_s = FAULT_S + 60

    def handed(k: int) -> dict[str, float]:
        battery = 4.0 if k < over_s else 150.0
        return {"town": 210.0, "pv1": 60.0, "inv1": battery, "dg1": 210.0 - 60.0 - battery}

    lies: dict[str, Lie] = {"inv1": lambda p: 0.0, "dg1": lambda p: p if p > 3.0 else 0.0}
    images = watched(over_s + 60, lies, really=handed, told=lambda k: {"inv1": 4.0 if k < over_s else 150.0})
    after_s, doubt = first(images, "inv1")
    assert after_s - 60 <= 10
    assert doubt.flaw is Flaw.ZEROED
    assert {d.asset for i in images for d in i.doubts} == {"inv1"}
    assert images[-1].assets["inv1"].power_kw == pytest.approx(150.0, abs=8.0)


def test_a_unit_that_does_not_do_as_told_is_no_liar() -> None:
    """It stays where it was, and its meter says so: the balance closes, and nobody is blamed."""
    images = watched(FAULT_S + 60, {"inv1": held_at()}, told=lambda k: {"inv1": BATTERY_KW if k < FAULT_S else 150.0})
    assert {d for i in images for d in i.doubts} == set()


def test_a_frozen_meter_that_shows_the_right_thing_is_left_alone() -> None:
    still = {**truth(0), "dg1": truth(0)["town"] - truth(0)["pv1"] - BATTERY_KW}
    images = watched(400, {"dg1": held_at()}, really=lambda k: still)
    assert all(i.doubts == () for i in images)


def test_steps_and_trips_that_the_others_answer_are_believed() -> None:
    """A block of load, then the sun goes, then the battery trips: real, however quick, because the balance closes."""

    def rough(k: int) -> dict[str, float]:
        town, sun, battery = 260.0 + 120.0 * (k > 50), 120.0 if k < 120 else 20.0, 80.0 if k < 200 else 0.0
        return {"town": town, "pv1": sun, "inv1": battery, "dg1": town - sun - battery}

    assert {d for i in watched(300, really=rough) for d in i.doubts} == set()


def test_a_short_busbar_proves_nothing() -> None:
    """What loads want is not what they get while frequency is low: the balance is not held against anybody."""
    assert all(i.doubts == () for i in watched(FAULT_S + 60, {"town": lambda p: p + 150.0}, hz=47.0))


def test_long_steps_pass_through() -> None:
    images = watched(FAULT_S + 20, {"inv1": lambda p: -p}, dt_s=900.0)
    assert all(i.doubts == () and i.assets["inv1"].suspect == () for i in images)


def test_two_liars_leave_the_last_known_for_a_minute_and_then_nothing() -> None:
    images = watched(FAULT_S + 100, {"pv1": lambda p: -p, "dg1": lambda p: 1e9})
    assert {d.asset: d.source for d in images[FAULT_S].doubts} == {"pv1": "last", "dg1": "last"}
    known = truth(FAULT_S - 1)
    for asset in ("pv1", "dg1"):
        assert images[FAULT_S + 60].assets[asset].power_kw == pytest.approx(known[asset], abs=3.0)
        assert not images[FAULT_S + 62].assets[asset].seen
    assert images[FAULT_S].uncertain_kw == pytest.approx(0.25 * 600.0)
    assert images[-1].load_kw == pytest.approx(truth(FAULT_S + 99)["town"], abs=2.0)


# ------------------------------------------------------------------ devices that were away
ZEROS = {
    "inv1": points(power_kw=0.0, running=0.0, forming=0.0, frequency_hz=0.0, voltage_v=0.0, remote=0.0),
    "dg1": points(power_kw=0.0, running=0.0, synchronised=0.0, breaker_closed=0.0, frequency_hz=0.0, remote=0.0, ready=0.0, fault=0.0),
    "pv1": points(power_kw=0.0, remote=0.0),
    "town": points(power_kw=0.0),
}


@pytest.mark.parametrize("asset", ZEROS)
def test_a_device_full_of_zeros_is_as_good_as_silent(asset: str) -> None:
    images = watched(FAULT_S + 90, gone={asset: ZEROS[asset]}, until_s=FAULT_S + 80)
    after_s, doubt = first(images, asset)
    assert (after_s, doubt.flaw) == (0, Flaw.ZEROED)
    last = images[FAULT_S + 79]
    unit = last.assets[asset]
    assert (unit.seen, unit.silent_s) == (False, 79.0)
    assert last.load_kw == pytest.approx(truth(FAULT_S + 79)["town"], abs=8.0)
    assert unit.power_kw == pytest.approx(truth(FAULT_S + 79)[asset], abs=8.0)
    if asset == "inv1":
        assert (unit.flag("running"), unit.flag("forming")) == (True, True)
    else:
        assert unit.flag("running") is None  # a diesel is not taken for stopped, nor for running
    assert images[FAULT_S + 81].doubts == ()
    assert images[FAULT_S + 81].assets[asset].silent_s == 0.0


def test_zeros_that_the_balance_confirms_are_a_trip() -> None:
    def tripped(k: int) -> dict[str, float]:
        real = truth(k)
        return real if k < FAULT_S else {**real, "dg1": 0.0, "inv1": real["inv1"] + real["dg1"]}

    images = watched(FAULT_S + 10, gone={"dg1": ZEROS["dg1"]}, really=tripped)
    assert [bool(i.doubts) for i in images[FAULT_S : FAULT_S + 5]] == [True, True, True, False, False]
    assert images[-1].assets["dg1"].flag("running") is False


def test_a_bms_full_of_zeros_leaves_the_count_and_its_last_limits() -> None:
    zeros = points(soc=0.0, charge_limit_kw=0.0, discharge_limit_kw=0.0)
    images = watched(FAULT_S + 600, gone={"bess1": zeros})
    last = images[-1]
    assert [(d.asset, d.point, d.flaw, d.source) for d in last.doubts] == [("bess1", "soc", Flaw.ZEROED, "counted")]
    battery = last.assets["bess1"]
    assert battery.get("soc") == pytest.approx(0.8 - 699 * (BATTERY_KW + 2.0) / 0.975 / 0.96 / 500.0 / 3600.0, abs=0.001)
    assert battery.get("soc_band") == pytest.approx(0.01, abs=0.0005)
    assert (battery.get("charge_limit_kw"), battery.get("discharge_limit_kw")) == (250.0, 240.0)


def test_a_jumped_soc_is_clamped_to_the_count_at_once() -> None:
    images = watched(FAULT_S + 60, gone={"bess1": points(soc=0.55)})
    after_s, doubt = first(images, "bess1")
    assert (after_s, doubt.flaw, doubt.shown, doubt.source) == (0, Flaw.JUMP, 0.55, "counted")
    battery = images[-1].assets["bess1"]
    assert battery.get("soc") == pytest.approx(0.8 - 159 * (BATTERY_KW + 2.0) / 0.975 / 0.96 / 500.0 / 3600.0, abs=0.001)
    assert (battery.quality.value, battery.suspect) == ("suspect", ("soc", "soc_band"))
    assert surely_stored(battery) == pytest.approx(0.55)  # the meter may be right: reserve and the floor count on no more


def test_a_soc_that_jumps_up_is_not_counted_on() -> None:
    battery = watched(FAULT_S + 60, gone={"bess1": points(soc=0.95)})[-1].assets["bess1"]
    assert surely_stored(battery) == pytest.approx(0.8 - 159 * (BATTERY_KW + 2.0) / 0.975 / 0.96 / 500.0 / 3600.0, abs=0.003)
