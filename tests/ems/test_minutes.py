from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ems.config.site import Site
from ems.minutes import MinuteBook, Totals
from ems.model import AssetImage, Image, Quality

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KG = 0.84 * 43.0 * 74.1 / 1000.0
SITE = Site.model_validate(
    {
        "site": {"id": "isle", "timezone": "Asia/Tokyo"},
        "assets": [
            {"id": "town", "kind": "load", "peak_kw": 400},
            {"id": "pv1", "kind": "solar", "rated_kw": 300},
            {"id": "dg1", "kind": "diesel", "rated_kw": 500, "start_l": 2.0, "fuel": {"no_load_l_per_h": 12.0, "slope_l_per_kwh": 0.25}},
            {"id": "inv1", "kind": "inverter", "rated_kw": 300, "forming": "droop"},
            {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 600, "charge_kw": 300, "discharge_kw": 300},
            {"id": "m1", "kind": "meter", "measures": "pv1", "register_max": 1000.0},
        ],
    }
)
KINDS = {a.id: a.kind for a in SITE.assets}
PLAIN: dict[str, dict[str, float | None]] = {
    "town": {"power_kw": 300.0},
    "pv1": {"power_kw": 120.0},
    "dg1": {"power_kw": 240.0, "running": 1.0},
    "inv1": {"power_kw": -60.0},
    "m1": {},
}


def image(at_s: float, dt_s: float = 1.0, bad: Iterable[str] = (), known: bool = True, **points: dict[str, float | None]) -> Image:
    assets = {a: AssetImage(a, KINDS[a], {**values, **points.get(a, {})}, Quality.SUSPECT if a in bad else Quality.GOOD, 0.1) for a, values in PLAIN.items()}
    return Image(1, NOON + timedelta(seconds=at_s), 1000.0 + at_s, dt_s, assets, 300.0, known, 50.0, 400.0)


def run(images: Iterable[Image], totals: Totals | None = None, pause_s: float | None = None) -> list[tuple[datetime, dict[str, Any]]]:
    book = MinuteBook(SITE, totals, pause_s)
    return [row for seen in images for row in book.add(seen)]


def one(images: Iterable[Image], totals: Totals | None = None) -> dict[str, Any]:
    rows = run(images, totals)
    assert len(rows) == 1
    json.dumps(rows[0][1], allow_nan=False)
    return rows[0][1]


def test_a_minute_of_constant_power() -> None:
    ((at, row),) = run(image(s) for s in range(61))
    assert at == NOON
    assert (row["seconds"], row["load_kwh"]) == (60.0, 5.0)
    assert row["assets"]["pv1"] == {"kwh": 2.0, "in_kwh": 0.0, "known_s": 60.0, "method": "integrated power"}
    assert row["assets"]["inv1"]["in_kwh"] == 1.0
    # by the curve: (12 + 0.25 x 240) / 60; diesel alone for 300 kW: (12 + 0.25 x 300) / 60
    assert (row["fuel_l"], row["fuel_method"], row["baseline_l"]) == (1.2, "model", 1.45)
    assert row["co2_kg"] == pytest.approx(1.2 * KG, abs=1e-5)
    assert row["displaced_co2_kg"] == pytest.approx(0.25 * KG, abs=1e-5)
    assert row["displaced_low_kg"] == pytest.approx((1.45 * 0.8 - 1.2) * KG, abs=1e-5)
    assert row["displaced_high_kg"] == pytest.approx((1.45 * 1.2 - 1.2) * KG, abs=1e-5)
    assert row["method"] == "diesel-only baseline, same rules, model"


def test_minutes_are_cut_at_the_minute_and_not_at_the_cycle() -> None:
    rows = run((image(s, 24.0) for s in (30.0, 54.0, 78.0, 102.0, 126.0)), pause_s=120.0)
    assert [(at, row["seconds"]) for at, row in rows] == [(NOON + timedelta(seconds=30), 30.0), (NOON + timedelta(seconds=60), 60.0)]
    assert sum(row["load_kwh"] for _, row in rows) == pytest.approx(300.0 * 90 / 3600)


def test_a_day_has_1440_minutes_and_every_kwh() -> None:
    rows = run((image(s, 30.0) for s in range(0, 86_401, 30)), pause_s=60.0)
    assert len(rows) == 1440
    assert sum(row["load_kwh"] for _, row in rows) == pytest.approx(300.0 * 24)
    assert len({at for at, _ in rows}) == 1440


def test_today_begins_at_the_sites_midnight() -> None:
    # midnight in Tokyo is 15:00 UTC: three hours after noon
    book = MinuteBook(SITE, pause_s=60.0)
    rows = [row for s in range(0, 3 * 3600 + 121, 30) for _, row in book.add(image(s, 30.0))]
    days = [row["totals"]["day"] for row in rows]
    assert (days[0], days[-1]) == ("2026-03-01", "2026-03-02")
    assert rows[179]["totals"]["today_kg"] == pytest.approx(180 * 0.25 * KG, abs=1e-3)
    assert rows[-1]["totals"]["today_kg"] == pytest.approx(2 * 0.25 * KG, abs=1e-3)
    assert rows[-1]["totals"]["displaced_kg"] == pytest.approx(182 * 0.25 * KG, abs=1e-3)
    assert book.state_totals() == {
        "displaced_kg_today": pytest.approx(2 * 0.25 * KG, abs=1e-3),
        "displaced_t_total": pytest.approx(182 * 0.25 * KG / 1000, abs=1e-6),
    }


def test_totals_go_on_from_the_newest_row() -> None:
    row = one(image(s) for s in range(61))
    again = one((image(s) for s in range(61)), Totals.of(row))
    assert again["totals"]["fuel_l"] == pytest.approx(2.4)
    assert again["totals"]["displaced_kg"] == pytest.approx(2 * row["displaced_co2_kg"], abs=1e-5)
    assert Totals.of(None) == Totals()


def test_a_counter_counts_and_the_curve_is_only_compared() -> None:
    row = one(image(s, dg1={"fuel_l": 5000.0 + 1.25 * s / 60}) for s in range(61))
    assert (row["fuel_l"], row["fuel_method"]) == (1.25, "counter")
    assert row["fuel"]["dg1"] == {"counter_l": 1.25, "model_l": 1.2, "counter_start": 5000.0, "counter_end": 5001.25}
    assert (row["totals"]["measured_l"], row["totals"]["modelled_l"]) == (1.25, 1.2)


def test_the_baseline_is_scaled_by_what_the_meter_says_of_the_curve() -> None:
    row = one((image(s, dg1={"fuel_l": 1.26 * s / 60}) for s in range(61)), Totals(measured_l=1050.0, modelled_l=1000.0))
    assert row["baseline_factor"] == pytest.approx(1.05, abs=1e-4)
    assert row["baseline_band"] == pytest.approx(0.05, abs=1e-4)
    assert row["baseline_l"] == pytest.approx(1.45 * 1.05, abs=1e-3)


@pytest.mark.parametrize("jump", [-4000.0, 9000.0])
def test_a_counter_that_falls_or_leaps_is_not_booked(jump: float) -> None:
    row = one(image(s, dg1={"fuel_l": 5000.0 + (jump if s > 30 else 0.0)}) for s in range(61))
    assert (row["fuel_l"], row["fuel_method"]) == (1.2, "model")


def test_a_start_costs_its_litres() -> None:
    off: dict[str, float | None] = {"power_kw": 0.0, "running": 0.0}
    row = one(image(s, dg1=off if s <= 30 else {}) for s in range(61))
    assert row["fuel_l"] == pytest.approx(0.6 + 2.0)


def test_what_was_not_measured_is_missing_and_not_zero() -> None:
    row = one(image(s, bad=["dg1"], known=False) for s in range(61))
    assert row["assets"]["dg1"] == {"kwh": None, "in_kwh": None, "known_s": 0.0, "method": "integrated power"}
    missing = ("load_kwh", "fuel_l", "co2_kg", "baseline_l", "displaced_co2_kg", "displaced_low_kg", "displaced_high_kg")
    assert [row[name] for name in missing] == [None] * len(missing)
    assert row["totals"]["displaced_kg"] == 0.0


def test_a_short_doubt_leaves_the_rest_of_the_minute() -> None:
    row = one(image(s, bad=["pv1"] if s <= 3 else []) for s in range(61))
    assert (row["assets"]["pv1"]["known_s"], row["assets"]["pv1"]["kwh"]) == (57.0, pytest.approx(1.9))


@pytest.mark.parametrize(
    ("start", "end", "kwh"),
    [(500.0, 502.5, 2.5), (999.0, 1.0, 2.0), (500.0, 100.0, None), (None, 502.5, None)],
    ids=["counts", "wraps", "falls: a new meter", "not seen at both ends"],
)
def test_a_register_gives_energy_only_from_both_ends_and_never_a_negative_one(start: float | None, end: float, kwh: float | None) -> None:
    row = one(image(s, m1={"energy_export_kwh": start if s == 0 else end}) for s in range(61))
    assert row["meters"]["m1"]["export_kwh"] == (None if kwh is None else pytest.approx(kwh))
    assert (row["meters"]["m1"]["export_start"], row["meters"]["m1"]["export_end"], row["meters"]["m1"]["method"]) == (start, end, "register")


def test_a_pause_ends_the_minute_and_is_not_integrated() -> None:
    rows = run([*(image(s) for s in range(31)), *(image(s, 1.0) for s in range(45, 122))])
    assert [(at, row["seconds"]) for at, row in rows] == [
        (NOON, 30.0),
        (NOON + timedelta(seconds=45), 15.0),
        (NOON + timedelta(seconds=60), 60.0),
    ]


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, -1e9])
def test_a_step_of_the_clock_books_no_energy(step_s: float) -> None:
    images = [image(s) for s in range(31)]
    images += [replace(image(s), time=NOON + timedelta(seconds=s + step_s)) for s in range(31, 121)]
    rows = run(images)
    assert sum(row["seconds"] for _, row in rows) <= 120.0
    assert all(row["seconds"] <= 60.0 for _, row in rows)
    assert sum(row["load_kwh"] for _, row in rows) == pytest.approx(300.0 / 3600 * sum(row["seconds"] for _, row in rows))


def test_a_site_without_diesels_claims_nothing() -> None:
    isle = Site.model_validate({"site": {"id": "isle"}, "assets": [{"id": "town", "kind": "load", "peak_kw": 400}]})
    book = MinuteBook(isle)
    rows = [row for s in range(61) for _, row in book.add(image(s))]
    assert (rows[0]["baseline_l"], rows[0]["displaced_co2_kg"], rows[0]["fuel_method"]) == (None, None, "no diesel")
    assert book.state_totals() == {"displaced_kg_today": None, "displaced_t_total": None}


@pytest.mark.parametrize(
    ("first", "last", "litres", "events"),
    [
        (100.0, 101.0, 1.0, 0),
        (9999.5, 0.5, 1.0, 0),  # over its end, at 10,000 L
        (5000.0, 0.0, None, 1),  # another meter, or one that was reset
        (9999.5, 5000.0, None, 1),
    ],
    ids=["counts", "wraps", "reset", "replaced"],
)
def test_a_fuel_counter_that_falls_is_an_event_and_never_negative(first: float, last: float, litres: float | None, events: int) -> None:
    book = MinuteBook(SITE, ends={"dg1.fuel_l": 10_000.0})
    rows = [row for s in range(61) for row in book.add(image(s, dg1={"fuel_l": first if s < 30 else last}))]
    assert rows[0][1]["fuel"]["dg1"]["counter_l"] == litres
    assert rows[0][1]["fuel_l"] == (1.0 if litres is not None else 1.2), "without the counter by the curve"
    news = book.news()
    assert [(e.kind, e.asset) for e in news] == [("counter_replaced", "dg1")] * events
    assert book.news() == []


def test_a_replaced_meter_is_an_event_and_goes_on_from_where_it_is() -> None:
    book = MinuteBook(SITE)
    reads = [{"energy_export_kwh": 500.0 if s < 30 else 20.0 + s / 60} for s in range(121)]
    rows = [row for s in range(121) for row in book.add(image(s, m1=reads[s]))]
    assert rows[0][1]["meters"]["m1"]["export_kwh"] is None
    assert rows[1][1]["meters"]["m1"]["export_kwh"] == pytest.approx(1.0)
    assert ["m1" in e.asset and "500" in e.reason for e in book.news()] == [True]
