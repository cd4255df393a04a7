"""The bench sites and what their campaign makes of its runs: lines that survive a stop, tables, targets that were missed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ems.config.site import Battery, Diesel, Hydro, Load, Solar
from tools.tune import points
from tools.year import SERIES, SITES, cases, files, keys
from tools.year_lines import Key, code_sha256, end_torn_line, line_of, lines
from tools.year_report import RULES, report

SHA = ("site", "series")
WEEK = Key("pv60", "ouessant_2016_1h", "weeks", "spring", "mpc", "perfect")


def summary(litres: float, policy: str = "mpc", **more: Any) -> dict[str, Any]:
    engines = {"diesel_l": litres, "diesel_l_soc_corrected": litres, "diesel_starts": 10, "diesel_run_h": 100.0}
    rest = {"diesel_off_h": 5.0, "curtailed_kwh": 0.0, "battery_discharge_kwh": 8000.0, "unserved_kwh": 0.0, "load_kwh": 1.0, "wall_s": 60.0}
    rest |= {"plans": 0 if policy in RULES else 744, "plans_refused": 0 if policy in RULES else 2}
    shas = {"site_sha256": SHA[0], "series_sha256": SHA[1]}
    violations = {k: {"count": 0} for k in ("soc", "reserve")}
    return {"policy": policy, **engines, **rest, **shas, "violations": violations, "months": [month(litres)], **more}


def month(litres: float, hours: float = 744.0) -> dict[str, Any]:
    return {"month": "2016-01", "hours": hours, "diesel_l_soc_corrected": litres, "diesel_starts": 7, "diesel_run_h": 90.0}


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize(("site", "share"), [(site, share) for site, share in zip(SITES, (0.2, 0.6, 1.2), strict=True)])
def test_bench_sites_are_what_they_say(site: str, share: float, series: str) -> None:
    loaded, table = files(site, series)
    made = loaded.site
    whole = table.intervals(table.start, table.span_s, 1)[0]
    assert sum(whole.available_kw.values()) / sum(whole.load_kw.values()) == pytest.approx(share, rel=0.005)
    sets = sorted(d.rated_kw for d in made.of(Diesel))
    assert sum(sets[:-1]) >= sum(x.peak_kw for x in made.of(Load))  # firm without the largest set
    assert min(d.min_kw for d in made.of(Diesel)) <= 294.0  # the series' lowest load
    assert bool(made.of(Hydro)) == (series == "composite_2016_1h")
    assert len(made.of(Battery)) == len(made.of(Solar)) == 1


def test_what_there_is_to_do() -> None:
    wanted = list(keys(["weeks", "year"], ["pv20"], ["ouessant_2016_1h"], ["spring", "autumn"]))
    assert len(wanted) == len(set(wanted)) == 2 * 5 + 12 + 2
    loaded, table = files("pv20", "ouessant_2016_1h")
    steps = [cases(k, loaded, table).steps for k in wanted if k.what == "year" and k.policy == "mpc"]
    assert (steps[1], sum(steps)) == (29 * 96, 8760 * 4)
    assert {cases(k, loaded, table).steps for k in wanted if k.what == "weeks"} == {14 * 96}
    diesel, may = loaded.site.of(Diesel)[0], datetime(2016, 5, 2, tzinfo=UTC)
    assert {cases(k, loaded, table).site.worn_l(diesel, may) for k in wanted if k.what == "weeks"} == {(0.0, 0.0)}  # nor does the bound count any wear
    assert {cases(k, loaded, table).site.worn_l(diesel, may) for k in wanted if k.what == "year"} == {(diesel.start_wear_l, diesel.hour_wear_l)}
    assert all(p.stop_soc > p.start_soc for p in points("pv20", "ouessant_2016_1h", ["load-following"], 7.0))


def test_lines_survive_a_stop_and_count_as_long_as_nothing_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert lines(path, "now", lambda key: SHA) == {}
    other = Key("pv60", "ouessant_2016_1h", "weeks", "spring", "mpc", "blend")
    path.write_text(line_of(WEEK, "old", summary(1.0)) + line_of(WEEK, "now", summary(2.0)) + line_of(other, "old", summary(3.0)) + '{"key": {"si', "utf-8")
    assert lines(path, "now", lambda key: SHA) == {WEEK: summary(2.0)}
    assert set(lines(path, "now", lambda key: SHA, keep=True)) == {WEEK, other}
    assert lines(path, "now", lambda key: ("another", SHA[1])) == {}


def test_a_record_after_a_torn_line_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    end_torn_line(path)
    assert not path.exists()
    path.write_text('{"key": {"si', "utf-8")
    for _ in range(2):
        end_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(line_of(WEEK, "now", summary(2.0)))
    assert lines(path, "now", lambda key: SHA) == {WEEK: summary(2.0)}
    assert path.read_text("utf-8").count("\n") == 2


def test_code_that_changes_is_other_code(tmp_path: Path) -> None:
    (tmp_path / "ems").mkdir()
    (tmp_path / "ems" / "a.py").write_text("x = 1\n")
    before = code_sha256(tmp_path)
    (tmp_path / "ems" / "a.py").write_text("x = 2\n")
    assert code_sha256(tmp_path) != before


def weeks(perfect: dict[str, Any], own: dict[str, Any], gap: float = 0.001) -> dict[Key, dict[str, Any]]:
    def key(policy: str, forecast: str) -> Key:
        return Key("pv60", "ouessant_2016_1h", "weeks", "spring", policy, forecast)

    return {
        key("perfect-foresight", "perfect"): summary(1001.0, bound_l=1000.0, bound_gap=gap),
        key("mpc", "perfect"): perfect,
        key("mpc", "blend"): own,
        key("load-following", "none"): summary(1050.0, "load-following"),
    }


@pytest.mark.parametrize(
    ("perfect", "own", "gap", "missed"),
    [
        (summary(1009.0), summary(1019.0), 0.001, ()),
        (summary(1011.0), summary(1019.0), 0.001, ("perfect forecast: 1.0110",)),
        (summary(1009.0), summary(1021.0), 0.001, ("blend forecast: 1.0210",)),
        (summary(1009.0), summary(1019.0), 0.006, ("open by 0.60 %",)),
        (summary(1009.0), summary(1019.0, unserved_kwh=0.2), 0.001, ("0.2 kWh unserved",)),
        (summary(1009.0), summary(1019.0, violations={"soc": {"count": 3}}), 0.001, ("soc 3",)),
    ],
)
def test_weeks_against_the_bound(perfect: dict[str, Any], own: dict[str, Any], gap: float, missed: tuple[str, ...]) -> None:
    text, found = report(weeks(perfect, own, gap))
    assert len(found) == len(missed)
    assert all(any(word in f for f in found) for word in missed)
    assert "| pv60 | ouessant_2016_1h | spring | 1,000 |" in text
    assert ("All targets met." in text) == (not missed)


@pytest.mark.parametrize(("burnt_l", "missed"), [(48.5, ()), (60.0, ("perfect forecast: 60 L burnt for 48", "blend forecast: 60 L"))])
def test_where_the_bound_is_what_more_is_stored_the_litres_burnt_are_judged(burnt_l: float, missed: tuple[str, ...]) -> None:
    """In summer with much sun nobody starts a diesel, and the bound is below nothing: a share of it says nothing of anybody."""
    none = {"diesel_l": 48.0, "diesel_starts": 0, "diesel_run_h": 0.25, "bound_l": -120.0, "diesel_l_soc_corrected": -110.0}
    runs = {k: s | none | ({"diesel_l": burnt_l} if k.policy == "mpc" else {}) for k, s in weeks(summary(0.0), summary(0.0)).items()}
    text, found = report(runs)
    assert len(found) == len(missed) and all(word in f for word, f in zip(missed, found, strict=True))
    assert "| -120 | 0.10 % | -110 L | 0 / 0 | -110 L | 0 / 0 | -110 L | 0 / 0 |" in text


def year(**mpc: Any) -> dict[Key, dict[str, Any]]:
    def key(part: str, policy: str) -> Key:
        return Key("pv60", "ouessant_2016_1h", "year", part, policy, "none")

    return {
        key("2016-01", "mpc"): summary(970.0, **{"diesel_starts": 7, "diesel_run_h": 90.0, **mpc}),
        key("year", "load-following"): summary(1000.0, "load-following"),
        key("year", "cycle-charging"): summary(1010.0, "cycle-charging", diesel_starts=30),
    }


@pytest.mark.parametrize(
    ("mpc", "missed"),
    [
        ({}, ()),
        ({"diesel_l_soc_corrected": 995.0}, ("diesel_l_soc_corrected 0.995 of load-following, wanted 0.99",)),
        ({"diesel_starts": 8}, ("diesel_starts 0.800 of load-following",)),
        ({"diesel_run_h": 91.0}, ("diesel_run_h 0.910",)),
        ({"months": [month(1002.0)]}, ("2016-01: mpc burns 2 L more than the better rule's 1,000",)),
        ({"months": [month(1000.9)]}, ()),
        ({"violations": {"soc": {"count": 0}, "reserve": {"count": 1}}}, ("reserve 1",)),
    ],
)
def test_years_against_the_better_rule(mpc: dict[str, Any], missed: tuple[str, ...]) -> None:
    text, found = report(year(**mpc))
    assert len(found) == len(missed)
    assert all(any(word in f for f in found) for word in missed)
    assert "| 2016-01 |" in text


def test_a_year_with_months_missing_is_not_judged() -> None:
    short = year(months=[month(970.0, hours=700.0)], diesel_starts=99)
    text, found = report(short)
    assert found == []
    assert "| mpc |" not in text


def test_months_without_a_rule_beside_them_are_no_year_yet() -> None:
    month_alone = {key: run for key, run in year().items() if key.policy == "mpc"}
    text, missed = report(month_alone)
    assert (text.strip(), missed) == ("All targets met.", [])
