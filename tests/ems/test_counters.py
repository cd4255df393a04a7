"""Counters and registers across bad words, unseen minutes, pauses and restarts: the total is as measured, and nothing is made up.

The set burns 1.25 L a minute by its counter and 1.2 by its curve; the sun's register gains 2 kWh a minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ems.config.site import Site
from ems.minutes import MinuteBook, Totals
from ems.model import Quality
from tests.ems.test_minutes import NOON, SITE, image

Point = Callable[[int], float | None]


def litres(s: int) -> float:
    return 5000.0 + 1.25 * s / 60


def energy(s: int) -> float:
    return 100.0 + 2.0 * s / 60


def lived(book: MinuteBook, seconds: Iterable[int], fuel: Point = litres, kwh: Point = energy, bad: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of some seconds, as the ledger keeps them."""
    rows = [row for s in seconds for row in book.add(image(s, bad=bad, dg1={"fuel_l": fuel(s)}, m1={"energy_export_kwh": kwh(s)}))]
    return [json.loads(json.dumps({**row, "at": at.isoformat()}, allow_nan=False)) for at, row in rows]


def burnt(rows: list[dict[str, Any]]) -> float:
    return float(sum(row["fuel_l"] for row in rows))


def metered(rows: list[dict[str, Any]]) -> float:
    return float(sum(row["meters"]["m1"]["export_kwh"] or 0.0 for row in rows))


def test_what_was_burnt_while_we_were_away_is_in_the_first_minute_after() -> None:
    """Killed at 90 s, back at 1890 s: the row at noon has the counter at 60 s, 5001.25 L; at 1920 s it is 5040 L."""
    first = lived(MinuteBook(SITE), range(91))
    second = lived(MinuteBook(SITE, Totals.of(first[-1])), range(1890, 1981))
    assert (burnt(first), len(second)) == (1.25, 2)
    dg1 = second[0]["fuel"]["dg1"]
    assert (dg1["counter_l"], dg1["counter_start"], dg1["counter_end"]) == (None, 5001.25, 5040.0)
    # 38.75 L in 31 minutes: by the curve 0.6 L of them in the half minute that was seen
    assert (dg1["model_l"], dg1["gap_l"], second[0]["gap_l"]) == (0.6, pytest.approx(38.15), pytest.approx(38.15))
    assert dg1["counter_since"] == (NOON + timedelta(seconds=60)).isoformat()
    assert (second[0]["fuel_l"], second[0]["fuel_method"]) == (38.75, "counter")
    # the gap displaces nothing: 0.725 L by diesels alone, less 0.6
    assert second[0]["displaced_co2_kg"] == pytest.approx((0.725 - 0.6) * second[0]["co2_kg_per_l"], abs=1e-5)
    assert second[1]["fuel"]["dg1"]["counter_l"] == 1.25
    assert burnt(first + second) == pytest.approx(litres(1980) - litres(0))
    m1 = second[0]["meters"]["m1"]
    assert (m1["export_kwh"], m1["method"]) == (pytest.approx(62.0), "register over a gap, its split estimated")
    assert metered(first + second) == pytest.approx(energy(1980) - energy(0))
    assert second[1]["meters"]["m1"]["method"] == "register"


@pytest.mark.parametrize("pause_s", [0, 590, 3600])
def test_a_pause_moves_no_factor_and_loses_nothing(pause_s: int) -> None:
    """An hour of minutes, a pause in the middle of the next, and an hour more: 0.96 is 1.2 of the counter's 1.25, whatever the pause."""
    book = MinuteBook(SITE)
    rows = lived(book, [*range(3631), *range(3631 + pause_s, 3631 + pause_s + 3630)])
    assert book.totals.measured_l / book.totals.modelled_l == pytest.approx(1.25 / 1.2, rel=2e-3)
    end = (3631 + pause_s + 3629) // 60 * 60
    assert burnt(rows) == pytest.approx(litres(end) - litres(0), abs=1e-5)
    assert metered(rows) == pytest.approx(energy(end) - energy(0), abs=1e-5)
    cut = [row for row in rows if row["seconds"] < 60.0 and row["fuel"]["dg1"]["counter_l"] is not None]
    assert [(row["seconds"], row["fuel"]["dg1"]["counter_l"]) for row in cut] == ([(30.0, 0.625)] if pause_s else [])


def test_a_bad_second_at_the_end_of_a_minute_costs_nothing() -> None:
    rows = lived(MinuteBook(SITE), range(181), fuel=lambda s: None if s == 120 else litres(s))
    assert [row["fuel"]["dg1"]["counter_l"] for row in rows] == [1.25, pytest.approx(1.25 * 59 / 60, abs=1e-6), pytest.approx(1.25 * 61 / 60, abs=1e-6)]


@pytest.mark.parametrize("restart", [False, True])
def test_unseen_minutes_are_booked_by_the_curve_and_set_right_by_the_counter(restart: bool) -> None:
    """Three minutes of 1.2 L by the curve, then 5 L by the counter since: 1.4 are left, 1.2 of them for the minute itself."""
    book, silent = MinuteBook(SITE), range(61, 241)
    rows = lived(book, range(241), fuel=lambda s: None if s in silent else litres(s))
    assert [row["fuel_l"] for row in rows] == [1.25, 1.2, 1.2, 1.2]
    assert rows[3]["fuel"]["dg1"] == {
        "counter_l": None, "model_l": 1.2, "counter_start": 5001.25, "counter_end": None, "ahead_l": 3.6,
        "counter_since": (NOON + timedelta(seconds=60)).isoformat(),
    }  # fmt: skip
    book = MinuteBook(SITE, Totals.of(rows[-1])) if restart else book
    rows += lived(book, range(241 - restart, 301))
    assert (rows[4]["fuel"]["dg1"]["gap_l"], rows[4]["fuel_l"]) == (pytest.approx(0.2), pytest.approx(1.4))
    assert burnt(rows) == pytest.approx(5 * 1.25)
    assert book.totals.measured_l == 1.25, "what was seen at one end only compares nothing"


def test_a_row_without_litres_leaves_them_to_the_next() -> None:
    """dg2 is not seen for a minute and has no counter: its fuel is unknown, and so is that row's; dg1's 1.25 L are booked after it."""
    two = Site.model_validate({"site": {"id": "isle"}, "assets": [*(a.model_dump() for a in SITE.assets), {"id": "dg2", "kind": "diesel", "rated_kw": 100.0}]})
    book, rows = MinuteBook(two), list[dict[str, Any]]()
    for s in range(181):
        seen = image(s, dg1={"fuel_l": litres(s)})
        dg2 = replace(seen.assets["dg1"], id="dg2", points={"power_kw": 0.0, "running": 0.0}, quality=Quality.BAD if 60 < s <= 120 else Quality.GOOD)
        rows += [row for _, row in book.add(replace(seen, assets={**seen.assets, "dg2": dg2}))]
    assert [row["fuel_l"] for row in rows] == [1.25, None, pytest.approx(2.5)]
    assert (rows[1]["fuel"]["dg1"]["counter_l"], rows[2]["gap_l"]) == (1.25, pytest.approx(1.25))
    assert book.totals.fuel_l == pytest.approx(3.75)


# ------------------------------------------------------------------ what cannot be
@pytest.mark.parametrize("at_s", [75, 120], ids=["within a minute", "at its end"])
@pytest.mark.parametrize("word", [65536.0, -65536.0, -50.0])
def test_a_bad_word_is_refused_and_costs_nothing(at_s: int, word: float) -> None:
    book = MinuteBook(SITE)
    rows = lived(book, range(241), kwh=lambda s: energy(s) + (word if s == at_s else 0.0))
    assert metered(rows) == pytest.approx(8.0)
    assert max(row["meters"]["m1"]["export_kwh"] for row in rows) < 2.1
    assert rows[1]["meters"]["m1"]["method"] == "register, an impossible reading refused"
    assert rows[3]["meters"]["m1"]["method"] == "register"
    assert [(e.kind, e.asset) for e in book.news()] == [("counter_refused", "m1")]


def test_another_meter_that_shows_more_is_found_and_not_booked() -> None:
    """From 70 s on it shows 40,000 kWh more; ten seconds later that is taken for another meter, and it counts on from there."""
    book = MinuteBook(
        Site.model_validate({**SITE.model_dump(), "assets": [{**a.model_dump(), "register_max": 99999.9} if a.id == "m1" else a for a in SITE.assets]})
    )
    rows = lived(book, range(181), kwh=lambda s: energy(s) + (40_000.0 if s >= 70 else 0.0))
    assert [row["meters"]["m1"]["export_kwh"] for row in rows] == [2.0, None, pytest.approx(2.0)]
    news = book.news()
    assert [(e.kind, e.asset) for e in news] == [("counter_replaced", "m1")]
    assert "leapt" in news[0].reason


def test_a_register_of_large_steps_loses_nothing() -> None:
    """Steps of 20 kWh, one in ten minutes; 6 kWh is the most of a minute of a 300 kW plant, so each is waited for: three minutes at most."""
    book = MinuteBook(SITE)
    rows = lived(book, range(0, 3901), kwh=lambda s: energy(s) // 20.0 * 20.0)
    assert metered(rows) == pytest.approx(120.0)
    assert book.news() == []


def test_a_register_over_a_long_gap_may_not_exceed_its_rating_either() -> None:
    """300 kW x 1.2 x 0.5 h is 180 kWh, with the step of a minute 186, and 546 an hour later."""
    first = lived(MinuteBook(SITE), range(91))
    book = MinuteBook(SITE, Totals.of(first[-1]))
    # 360 kWh could be within an hour: they are waited for, and nothing is booked before
    rows = lived(book, range(1890, 2041), kwh=lambda s: energy(s) + 300.0)
    assert [row["meters"]["m1"]["export_kwh"] for row in rows] == [None, None, None]
    # 760 could not: another meter, found after ten seconds
    book = MinuteBook(SITE, Totals.of(first[-1]))
    rows = lived(book, range(1890, 2041), kwh=lambda s: energy(s) + 700.0)
    assert [row["meters"]["m1"]["export_kwh"] for row in rows] == [None, pytest.approx(2.0), pytest.approx(2.0)]


# ------------------------------------------------------------------ the load
@pytest.mark.parametrize(("bad_s", "load_kwh"), [(60, None), (30, None), (5, 5.0 * 55 / 60)])
def test_a_load_that_is_inferred_is_no_load_served(bad_s: int, load_kwh: float | None) -> None:
    """Its meter is doubted or silent and the balance says what it is: that controls the island, and proves nothing."""
    book = MinuteBook(SITE)
    ((_, row),) = [r for s in range(61) for r in book.add(image(s, bad=["town"] if 0 < s <= bad_s else []))]
    assert row["load_kwh"] == (None if load_kwh is None else pytest.approx(load_kwh, abs=1e-6))
    assert (row["baseline_l"] is None, row["displaced_co2_kg"] is None) == (load_kwh is None, load_kwh is None)
