"""A replay cut at the months: where it is cut, what a lead is for, and that the parts add up to the whole."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from ems.config.site import Site
from ems.series import SeriesTable
from simulator.closed_loop import Case, Run, run
from simulator.jobs import Job, carried_out
from simulator.parts import joined, joints, parts_of, solves_joined
from simulator.plans import Solves
from simulator.summary import month_document, stored_l, summarise

ASSETS: tuple[dict[str, Any], ...] = (
    {"id": "town", "kind": "load", "peak_kw": 900},
    {"id": "pv1", "kind": "solar", "rated_kw": 900},
    {"id": "dg1", "kind": "diesel", "rated_kw": 600, "forming": "isochronous"},
    {"id": "dg2", "kind": "diesel", "rated_kw": 600},
    {"id": "inv1", "kind": "inverter", "rated_kw": 800, "forming": "droop"},
    {"id": "bess1", "kind": "battery", "behind": "inv1", "capacity_kwh": 2400, "charge_kw": 800, "discharge_kw": 800},
    {"id": "ice1", "kind": "deferrable", "rated_kw": 40, "daily_kwh": 200, "window": ["08:00", "18:00"]},
)
SITE = Site.model_validate({"site": {"id": "test"}, "assets": ASSETS})
DAYS = 16
FIRST = datetime(2026, 3, 22, tzinfo=UTC)


def case() -> Case:
    t = np.arange(24 * DAYS)
    load = 450 + 130 * np.sin((t - 14) / 24 * 2 * math.pi) + 40 * np.sin(t / 17.0)
    sun = 800 * np.maximum(0.0, np.sin((t % 24 - 6) / 12 * math.pi)) * (0.6 + 0.4 * np.sin(t / 31.0))
    return Case(SITE, SeriesTable(SITE, FIRST, 3600.0, {"load_kw": load, "pv1.available_kw": sun}), FIRST, 900.0, 3600.0, 96 * DAYS)


@pytest.mark.parametrize(
    ("start", "days", "found"),
    [
        (datetime(2026, 3, 22, tzinfo=UTC), 16, [(0, 10, 0), (10, 6, 4)]),
        (datetime(2026, 3, 30, tzinfo=UTC), 6, [(0, 2, 0), (2, 4, 2)]),  # a lead reaches back to the begin of the case at most
        (datetime(2026, 4, 1, tzinfo=UTC), 6, [(0, 6, 0)]),
        (datetime(2026, 3, 25, tzinfo=UTC), 7, [(0, 7, 0)]),
        (datetime(2026, 12, 1, tzinfo=UTC), 62, [(0, 31, 0), (31, 31, 4)]),
    ],
)
def test_cuts_are_at_months_and_leads_before_them(start: datetime, days: int, found: list[tuple[int, int, int]]) -> None:
    whole = replace(case(), start=start, steps=96 * days)
    parts = parts_of(whole)
    assert [((p.start - start).days, p.steps // 96, p.lead_steps // 96) for p in parts] == found
    assert parts[-1].end == whole.end
    assert all(p.begin == p.start - timedelta(days=p.lead_steps / 96) for p in parts)


@pytest.fixture(scope="module")
def whole() -> Run:
    return run(case(), "load-following")


@pytest.fixture(scope="module")
def parts() -> list[Run]:
    return [carried_out(Job("load-following", p, "load-following")).run for p in parts_of(case())]


def test_months_of_a_run_add_up_to_it(whole: Run) -> None:
    assert [(m.name, m.hours) for m in whole.months] == [("2026-03", 240.0), ("2026-04", 144.0)]
    for key, total in (("diesel_l", whole.sums["diesel_l"]), ("load_kwh", whole.sums["load_kwh"]), ("diesel_off_h", whole.sums["diesel_off_h"])):
        assert sum(m.sums[key] for m in whole.months) == pytest.approx(total)
    assert sum(m.starts for m in whole.months) == sum(whole.starts.values())
    assert sum(m.run_h for m in whole.months) == pytest.approx(sum(whole.run_h.values()))
    assert (whole.months[0].soc_start, whole.months[0].soc_end, whole.months[1].soc_end) == ({"bess1": 0.5}, whole.months[1].soc_start, whole.soc_end)


def test_parts_agree_with_the_run_in_one_piece(whole: Run, parts: list[Run]) -> None:
    made = joined(parts)
    assert (made.start, made.end, len(made.rows)) == (whole.start, whole.end, len(whole.rows))
    assert [r[0] for r in made.rows] == [r[0] for r in whole.rows]
    for key in ("load_kwh", "served_kwh", "solar_available_kwh"):
        assert made.sums[key] == pytest.approx(whole.sums[key])
    assert made.sums["diesel_l"] + stored_l(SITE, made) == pytest.approx(whole.sums["diesel_l"] + stored_l(SITE, whole), rel=1e-3)
    assert made.deferrable_unmet_kwh == pytest.approx(whole.deferrable_unmet_kwh, abs=1e-6)
    assert joints(parts)["count"] == 2
    assert joints(parts)["soc_gap_max"] <= 0.02


def test_a_part_without_lead_begins_where_the_case_does(parts: list[Run]) -> None:
    cold = run(replace(parts_of(case())[1], lead_steps=0), "load-following")
    assert cold.soc_start == {"bess1": 0.5} != parts[1].soc_start
    assert joints([parts[0], cold])["soc_gap_max"] == pytest.approx(abs(parts[0].soc_end["bess1"] - 0.5))


def test_energy_between_two_parts_is_neither_won_nor_lost(parts: list[Run]) -> None:
    """A second part that begins fuller by 240 kWh than the first one ended has that deducted, at the litres of the best set."""
    first = replace(parts[0].months[0], soc_start={"bess1": 0.5}, soc_end={"bess1": 0.4})
    second = replace(parts[1].months[0], soc_start={"bess1": 0.5}, soc_end={"bess1": 0.5})
    made = replace(joined(parts), months=(first, second))
    assert stored_l(SITE, made) == pytest.approx(0.1 * 2400 * 0.96 * 0.975 * 0.249)


def test_the_summary_has_the_months(whole: Run) -> None:
    summary = summarise(case(), whole, Solves(), None, "none", ("", ""))
    assert [m["month"] for m in summary["months"]] == ["2026-03", "2026-04"]
    assert sum(m["diesel_l_soc_corrected"] for m in summary["months"]) == pytest.approx(summary["diesel_l_soc_corrected"], abs=1e-3)
    assert summary["months"][0] == month_document(SITE, whole.months[0])


def test_plans_of_parts_are_counted_together() -> None:
    found = solves_joined([Solves([1.0], [0.1], 1, 2, ["a"]), Solves([2.0, 3.0], [0.2], 0, 1, [])])
    assert found.kept == 3
    assert (found.total_s, found.gaps, found.limit_hits, found.refused, found.bound_l) == ([1.0, 2.0, 3.0], [0.1, 0.2], 1, ["a"], None)
    assert solves_joined([Solves(bound_l=7.0)]).bound_l == 7.0
