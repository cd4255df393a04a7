"""Feeders as tables of cycles: what breakers show and how strained the island is, and who is shed, restored or left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from ems.bus import BusState, Finding
from ems.decision import Event, Write
from ems.explain import sentence
from ems.feeders import Feeders, _energy_numbers, cold
from ems.image import ImageBuilder
from ems.loop import durable, resumed
from ems.memory import FeederMemory, Manual, Memory
from ems.model import Image, Reading
from ems.strain import Endurance, Strain
from ems.terms import Reason
from tests.ems.hamlets import FEEDERS, feeder, site
from tests.ems.island import points, telemetry

CALM = Strain(0.0, 1000.0, 20.0, Endurance(-100.0, 100.0, 0.0, 100.0, "dg1"))
GOOD = Finding(BusState.LIVE)
DEAD = Finding(BusState.DEAD, ("inv1", "town"))


def short(kw: float) -> Strain:
    return replace(CALM, short_kw=kw)


@dataclass
class Bench:
    """Four breakers that obey, at 80, 120, 100 and 100 kW, and the kernel's feeders in front of them."""

    fixed: tuple[str, ...] = ()
    memory: Memory = field(default_factory=Memory)
    now_s: float = 0.0
    dt_s: float = 1.0
    obey: bool = True
    closed: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(FEEDERS, True))
    shown: dict[str, dict[str, float | None]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.site = site(fixed=self.fixed)
        self.feeders = Feeders(self.site)
        self.live(CALM, 1)

    def image(self) -> Image:
        powers = {f: 400.0 * share for f, (_, share) in FEEDERS.items()}
        shown: dict[str, dict[str, Reading]] = {
            f: feeder(**{"power_kw": p, "closed": self.closed[f], **self.shown.get(f, {})}) for f, p in powers.items() if self.shown.get(f) != {"silent": 1.0}
        }
        total = sum(p for f, p in powers.items() if self.closed[f])
        told = telemetry(round(self.now_s), time=None, town=points(power_kw=total), **shown)
        return ImageBuilder(self.site).build(replace(told, now_s=self.now_s, dt_s=self.dt_s), self.memory)

    def live(self, strain: Strain | Callable[[Bench], Strain], cycles: int, bus: Finding = GOOD, steady: bool = True) -> Bench:
        for _ in range(cycles):
            since = self.now_s if self.memory.in_band_s is None else self.memory.in_band_s
            self.memory = replace(self.memory, in_band_s=since if steady else None)
            image = self.image()
            seen = self.feeders.seen(image, bus, self.memory)
            moved = self.feeders.decide(image, seen.memory, strain(self) if callable(strain) else strain)
            self.memory = moved.memory
            self.events += [*seen.events, *moved.events]
            self.writes += moved.writes
            for write in moved.writes if self.obey else ():
                self.closed[write.asset] = bool(write.value)
            self.now_s += self.dt_s
        return self

    def dark(self) -> list[str]:
        return [f for f, closed in self.closed.items() if not closed]

    def said(self, f: str, lang: str = "en", strain: Strain = CALM) -> str:
        return sentence(f, self.feeders.decisions(self.image(), self.memory, strain)[f], lang)

    def happened(self) -> list[tuple[str, str | None]]:
        return [(e.kind, e.asset) for e in self.events]


# ------------------------------------------------------------------ shedding
@pytest.mark.parametrize(
    ("need_kw", "outage_s", "dark"),
    [
        (0.05, {}, []),
        (60.0, {}, ["north"]),  # equals: by name, then by who has had less
        (60.0, {"north": 100.0}, ["south"]),
        (150.0, {}, ["north", "south"]),
        (210.0, {}, ["village", "north"]),  # 220 kW: with the village, the south need not go
        (210.0, {"north": 100.0}, ["village", "south"]),
        (310.0, {}, ["village", "north", "south"]),
        (399.0, {}, ["clinic", "village", "north", "south"]),
        (900.0, {}, ["clinic", "village", "north", "south"]),
    ],
)
def test_the_least_important_go_first_and_none_too_many(need_kw: float, outage_s: dict[str, float], dark: list[str]) -> None:
    bench = Bench()
    feeders = {f: replace(m, outage_s=outage_s.get(f, 0.0)) for f, m in bench.memory.feeders.items()}
    bench.memory = replace(bench.memory, feeders=feeders)
    assert bench.live(short(need_kw), 3).dark() == []  # three cycles are left to governors
    assert bench.live(short(need_kw), 1).dark() == dark


def test_a_shortage_that_comes_and_goes_sheds_nobody() -> None:
    bench = Bench()
    for _ in range(5):
        bench.live(short(100.0), 3).live(CALM, 1)
    assert bench.dark() == []
    assert not bench.writes


def test_what_is_short_after_shedding_is_shed_after_three_more_cycles() -> None:
    bench = Bench().live(short(60.0), 4)
    assert bench.live(short(60.0), 3).dark() == ["north"]
    assert bench.live(short(60.0), 1).dark() == ["north", "south"]


@pytest.mark.parametrize(
    ("shown", "manual"),
    [
        ({"remote": 0.0}, {}),
        ({"silent": 1.0}, {}),
        ({"estop": 1.0}, {}),
        ({"power_kw": 0.0}, {}),  # gains nothing
        ({}, {"north": Manual(run=True)}),  # held by an operator
    ],
)
def test_hands_off(shown: dict[str, float | None], manual: dict[str, Manual]) -> None:
    bench = Bench(memory=Memory(manual=manual))
    bench.shown["north"] = shown
    assert bench.live(short(60.0), 4).dark() == ["south"]


def test_a_feeder_without_its_own_breaker_is_never_switched() -> None:
    bench = Bench(fixed=("north", "south"))
    assert bench.live(short(60.0), 4).dark() == ["village"]
    assert set(bench.memory.feeders) == {"clinic", "village"}


def test_energy_that_will_not_last_is_shed_for_after_ten_seconds() -> None:
    """10 h of 300 kW from 2500 kWh: with a margin of a tenth 227 kW can stay, so 73 kW go."""
    thin = replace(CALM, endurance=Endurance(300.0, 2500.0, 3000.0, 36000.0, "sun"))
    bench = Bench().live(thin, 10)
    assert bench.dark() == []
    assert bench.live(thin, 1).dark() == ["north"]
    assert (
        bench.live(CALM, 2).said("north").startswith("north is shed because stored energy would last 500 min and has to last 600 min, until the sun is there")
    )
    assert "日射" in bench.said("north", "ja")
    assert bench.memory.relief_s is not None


@pytest.mark.parametrize(
    ("energy_kwh", "spare_kwh", "fixed", "held", "dark"),
    [
        (190.0, 0.0, (), {}, ["village", "north", "south"]),  # an hour of the clinic's 80 kW and ten of 10 kW that stand by: 180 kWh
        (170.0, 0.0, (), {}, ["clinic", "village", "north", "south"]),
        (110.0, 80.0, (), {}, ["village", "north", "south"]),  # 80 of the 100 are under the floor
        (95.0, 80.0, (), {}, ["clinic", "village", "north", "south"]),
        (95.0, 120.0, (), {}, ["village", "north", "south"]),  # an hour of standing by is above the floor in any case
        (85.0, 120.0, (), {}, ["clinic", "village", "north", "south"]),
        (900.0, 0.0, ("clinic",), {}, ["village", "north", "south"]),  # the clinic has no breaker: nobody else's light is worth its energy
        (900.0, 0.0, (), {"clinic": Manual(run=True)}, ["village", "north", "south"]),  # ... or an operator holds it
        (2290.0, 0.0, ("north", "south"), {}, ["village"]),  # those that cannot be switched are less important, and stand by with 200 kW: 80 + 2100 kWh
        (2170.0, 0.0, ("north", "south"), {}, ["clinic", "village"]),
    ],
)
def test_the_most_important_one_keeps_its_light_while_its_own_reserve_is_there(
    energy_kwh: float, spare_kwh: float, fixed: tuple[str, ...], held: dict[str, Manual], dark: list[str]
) -> None:
    """Ten hours of 400 kW and 10 that stand by cannot be bridged: all would have to go."""

    def thin(bench: Bench) -> Strain:
        deficit_kw = 10.0 + sum(400.0 * share for f, (_, share) in FEEDERS.items() if bench.closed[f])
        return replace(CALM, endurance=Endurance(deficit_kw, energy_kwh, 10.0 * deficit_kw, 36000.0, "sun", spare_kwh))

    bench = Bench(fixed=fixed, memory=Memory(manual=held)).live(thin, 11)
    assert bench.dark() == dark
    assert bench.live(thin, 40).dark() == dark


@pytest.mark.parametrize(("energy_kwh", "lit"), [(255.0, []), (265.0, ["clinic"])])
def test_the_most_important_one_comes_back_alone_on_twice_its_own_reserve(energy_kwh: float, lit: list[str]) -> None:
    """All are dark and the night cannot be bridged: two hours of 80 kW and ten of 10 kW that stand by are 260 kWh."""
    bench = Bench().live(short(399.0), 4)
    assert len(bench.dark()) == 4
    calm = replace(CALM, endurance=Endurance(10.0, energy_kwh, 100.0, 36000.0, "sun"))
    bench.live(calm, 100)
    assert [f for f in FEEDERS if f not in bench.dark()] == lit
    assert "waits_energy" in bench.feeders.decisions(bench.image(), bench.memory, calm)["village"].why.limited_by


# ------------------------------------------------------------------ restoring
def test_they_come_back_one_by_one_the_important_first() -> None:
    bench = Bench().live(short(310.0), 4)
    assert bench.dark() == ["village", "north", "south"]
    bench.live(CALM, 5, steady=False)
    bench.live(CALM, 59)
    assert len(bench.dark()) == 3  # in band for 59 s
    assert bench.live(CALM, 1).dark() == ["north", "south"]
    assert bench.live(CALM, 29).dark() == ["north", "south"]
    assert bench.live(CALM, 2).dark() == ["south"]
    assert bench.live(CALM, 31).dark() == []
    assert bench.happened()[3:] == [
        ("restore", "village"),
        ("feeder_closed", "village"),
        ("restore", "north"),
        ("feeder_closed", "north"),
        ("restore", "south"),
        ("feeder_closed", "south"),
    ]
    back = [w for w in bench.writes if w.value]
    assert back == [Write(f, "breaker", 1.0) for f in ("village", "north", "south")]


@pytest.mark.parametrize(
    ("room_kw", "dark_s", "back"),
    [(145.0, 0.0, False), (155.0, 0.0, True), (155.0, 3600.0, False), (195.0, 4000.0, False), (205.0, 4000.0, True)],
)
def test_room_for_a_cold_load_grows_with_the_time_in_the_dark(room_kw: float, dark_s: float, back: bool) -> None:
    bench = Bench().live(short(60.0), 5)
    bench.now_s += dark_s
    bench.live(replace(CALM, room_kw=0.0), 1).live(replace(CALM, room_kw=room_kw), 61)
    assert (bench.dark() == []) is back


def test_the_numbers_of_an_explanation_are_packed_as_what_they_are() -> None:
    """A whole number among them was packed with a warning, since numbers are floats: 100 kWh last 30 min, and an hour is needed."""
    numbers = _energy_numbers(Endurance(100.0, 50.0, 1800.0, 3600.0, "sun"))
    assert numbers == {"lasts_min": 30.0, "needed_min": 60.0, "waits_for": "sun"}
    assert [type(n) for n in numbers.values()] == [float, float, str]


@pytest.mark.parametrize("strain", [replace(CALM, regulating_kw=901.0), replace(CALM, endurance=Endurance(50.0, 100.0, 50.0, 3600.0, "sun")), short(1.0)])
def test_nobody_comes_back_into_the_next_shortage(strain: Strain) -> None:
    bench = Bench().live(short(60.0), 4)
    assert "north" in bench.live(strain, 200).dark()


def test_a_smaller_one_waits_its_turn_behind_an_important_one_but_not_for_ever() -> None:
    bench = Bench().live(short(310.0), 4)
    tight = replace(CALM, room_kw=170.0)  # for a hundred, not for the village's 120
    assert len(bench.live(tight, 500).dark()) == 3
    assert bench.live(tight, 120).dark() == ["village", "south"]


def test_equals_change_places_after_half_an_hour_and_sit_in_the_dark_alike() -> None:

    def full(bench: Bench) -> Strain:
        """A second one has room only when the first is gone."""
        return replace(CALM, room_kw=100.0 * len(bench.dark()))

    bench = Bench().live(short(60.0), 4).live(full, 1790)
    assert bench.dark() == ["north"]
    bench.live(full, 60)
    assert bench.dark() == ["south"]
    assert ("shed", "south") in bench.happened()
    assert bench.said("south").startswith("south is shed in turn, and north comes back instead")
    bench.dt_s = 10.0
    bench.live(full, 6 * 360)
    outage = {f: m.outage_s for f, m in bench.memory.feeders.items()}
    assert abs(outage["north"] - outage["south"]) <= 1900.0
    assert outage["village"] == outage["clinic"] == 0.0


def test_those_that_wait_count_as_demand_with_the_next_ones_cold_load() -> None:
    bench = Bench().live(short(210.0), 5)
    assert bench.feeders.waiting_kw(bench.image(), bench.memory) == pytest.approx(220.0 + 0.5 * 120.0, rel=0.01)
    assert bench.feeders.relief(bench.image(), bench.memory)
    assert Bench().feeders.waiting_kw(bench.image(), Memory()) == 0.0


@pytest.mark.parametrize(("dark_s", "factor"), [(0.0, 1.5), (1800.0, 1.75), (3600.0, 2.0), (9000.0, 2.0)])
def test_cold_load(dark_s: float, factor: float) -> None:
    assert cold(FeederMemory(0.0, "ems"), dark_s) == pytest.approx(factor)


# ------------------------------------------------------------------ who opened it
def trip(bench: Bench, f: str, **shown: float) -> Bench:
    bench.closed[f] = False
    bench.shown[f] = {"ufls_tripped": 1.0, **shown}
    bench.live(CALM, 1)
    bench.shown.pop(f)
    return bench


@pytest.mark.parametrize(
    ("shown", "manual", "bus", "opened_by", "back"),
    [
        ({"ufls_tripped": 1.0}, {}, GOOD, "relay", True),
        ({}, {}, GOOD, "local", False),
        ({"remote": 0.0}, {}, GOOD, "local", False),
        ({}, {}, DEAD, "relay", True),  # it let go with the bus
        ({}, {"north": Manual(run=False)}, GOOD, "operator", False),
    ],
)
def test_who_opened_it_decides_whether_it_is_restored(shown: dict[str, float], manual: dict[str, Manual], bus: Finding, opened_by: str, back: bool) -> None:
    bench = Bench(memory=Memory(manual=manual))
    bench.closed["north"], bench.shown["north"] = False, dict(shown)
    bench.live(CALM, 1, bus)
    assert bench.memory.feeders["north"].opened_by == opened_by
    bench.shown.pop("north")
    assert ("north" not in bench.live(CALM, 200).dark()) is back
    assert any(w.value for w in bench.writes) is back


def test_a_relay_that_opens_three_times_after_restoring_locks_its_feeder_out() -> None:
    bench = trip(Bench(), "north")
    for _ in range(3):
        assert bench.live(CALM, 100).dark() == []
        trip(bench, "north")
    assert ("feeder_locked", "north") in bench.happened()
    bench.dt_s = 10.0
    assert bench.live(CALM, 200).dark() == ["north"]
    assert bench.said("north") == "north is shed: its relay opened it again and again, and a person must restore it"
    assert not bench.feeders.relief(bench.image(), bench.memory)


def test_a_relay_that_opens_now_and_then_is_not_locked_out() -> None:
    bench = trip(Bench(), "north")
    bench.dt_s = 10.0
    for _ in range(5):
        assert bench.live(CALM, 70).dark() == []
        trip(bench, "north")
    assert not bench.memory.feeders["north"].locked


def test_a_breaker_that_does_not_obey_is_given_up_and_another_one_is_taken() -> None:
    bench = Bench(obey=False).live(short(60.0), 4)
    assert [w.asset for w in bench.writes] == ["north"]
    bench.live(CALM, 40)
    assert [w.asset for w in bench.writes] == ["north"] * 6  # again every 5 s, for 30 s
    assert ("breaker_stuck", "north") in bench.happened()
    bench.obey = True
    assert bench.live(short(60.0), 4).dark() == ["south"]


def test_a_restart_keeps_who_opened_it_and_for_how_long_people_sat_in_the_dark() -> None:
    bench = trip(Bench().live(short(60.0), 4), "village").live(CALM, 40)
    before = bench.memory
    bench.memory = resumed(before, bench.now_s + 100.0)
    bench.now_s += 100.0
    bench.live(CALM, 1)
    kept = {f: (m.opened_by, m.outage_s) for f, m in bench.memory.feeders.items()}
    assert kept["north"] == ("ems", pytest.approx(before.feeders["north"].outage_s + 1.0))
    assert kept["village"][0] == "relay"
    assert bench.live(CALM, 120).dark() == []


def test_what_a_restart_must_not_lose_is_saved_at_once_and_seconds_in_the_dark_are_not() -> None:
    bench = Bench()
    calm = durable(bench.memory)
    assert durable(bench.live(CALM, 5).memory) == calm
    shed = durable(bench.live(short(60.0), 5).memory)
    assert shed != calm
    assert durable(bench.live(CALM, 20).memory) == shed


def test_every_open_feeder_says_why_and_what_it_waits_for() -> None:
    bench = Bench().live(short(60.0), 5)
    assert bench.memory.feeders["north"].why.reason is Reason.SHED
    assert bench.live(CALM, 1, steady=False).said("north") == ("north is shed because 60 kW are missing; frequency and voltage must be in band for 60 s first")
    bench.live(replace(CALM, room_kw=90.0), 100)
    assert bench.said("north", "en", replace(CALM, room_kw=90.0)).endswith("it comes back when 151 kW can be added, now 90 kW")
    assert bench.said("north", "ja", replace(CALM, room_kw=90.0)) == "north は遮断中です：60 kW 不足しています。余力 151 kW で復電します（現在 90 kW）"
    assert bench.said("village") == "village is supplied"
