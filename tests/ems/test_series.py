"""Series CSV: what is refused and by which words, exact means, repetition, and the perfect forecast."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ems.config.site import Site
from ems.errors import BadInput
from ems.plan import Grid
from ems.series import SeriesTable, read_series

START = datetime(2026, 3, 1, tzinfo=UTC)
SITE = Site.model_validate(
    {
        "site": {"id": "test"},
        "assets": [
            {"id": "town", "kind": "load", "peak_kw": 300},
            {"id": "port", "kind": "load", "peak_kw": 100},
            {"id": "pv1", "kind": "solar", "rated_kw": 90},
            {"id": "h1", "kind": "hydro", "rated_kw": 100, "head_m": 50, "design_flow_m3s": 0.3},
            {"id": "dg1", "kind": "diesel", "rated_kw": 400},
        ],
    }
)
HEADER = "time,load_kw,pv1.available_kw,river.inflow_m3s,air_temp_c"


def rows(count: int = 8) -> list[str]:
    """Rows of 15 min: load 100, 101, ...; sun 0, 10, ...; river 0.1; air -1."""
    return [f"{START + timedelta(minutes=15 * k):%Y-%m-%dT%H:%M:%SZ},{100 + k},{10 * k},0.1,-1.0" for k in range(count)]


def written(tmp_path: Path, lines: list[str], header: str = HEADER) -> Path:
    path = tmp_path / "series.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def with_cell(column: int, text: str, row: int = 3) -> list[str]:
    lines = rows()
    cells = lines[row].split(",")
    cells[column] = text
    lines[row] = ",".join(cells)
    return lines


def test_reads_what_is_there(tmp_path: Path) -> None:
    path = written(tmp_path, rows())
    table = read_series(path, SITE)
    assert (table.start, table.end, table.step_s) == (START, START + timedelta(hours=2), 900)
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    third = table.conditions(START + timedelta(minutes=30), 900)
    assert third.load_kw == {"town": 76.5, "port": 25.5}  # shared by peak
    assert third.available_kw == {"pv1": 20}
    assert third.inflow_m3s == {"h1": 0.1}
    assert (third.ghi_wm2, third.air_temp_c) == (None, -1.0)


def test_sun_is_at_most_the_rating_and_scale_comes_first(tmp_path: Path) -> None:
    table = read_series(written(tmp_path, rows()), SITE, scale={"pv1.available_kw": 5, "load_kw": 0.5})
    seen = table.intervals(START, 900, 8)
    assert [i.available_kw["pv1"] for i in seen] == [0, 50, 90, 90, 90, 90, 90, 90]
    assert sum(seen[0].load_kw.values()) == 50


def test_columns_of_single_loads_and_own_rivers(tmp_path: Path) -> None:
    header = "time,town.load_kw,port.load_kw,pv1.available_kw,h1.inflow_m3s,ghi_wm2"
    lines = [f"{START + timedelta(hours=k):%Y-%m-%dT%H:%M:%SZ},70,30,5,0.2,-3" for k in range(3)]
    seen = read_series(written(tmp_path, lines, header), SITE).conditions(START, 3600)
    assert (seen.load_kw, seen.inflow_m3s, seen.ghi_wm2) == ({"town": 70, "port": 30}, {"h1": 0.2}, -3)


DROP = rows()
REFUSED = {
    "gap": (DROP[:3] + DROP[4:], ["row 5", "2026-03-01T01:00:00Z", "2026-03-01T00:45:00Z"]),
    "two gaps": (DROP[:3] + DROP[5:], ["row 5", "2026-03-01T01:15:00Z"]),
    "duplicate": (DROP[:4] + DROP[3:], ["row 6", "2026-03-01T00:45:00Z", "twice"]),
    "unsorted": ([*DROP[:3], DROP[4], DROP[3], *DROP[5:]], ["row 5"]),
    "only backwards": (DROP[::-1], ["row 3", "sorted"]),
    "off the grid": ([*DROP[:4], DROP[4].replace("01:00:00", "01:01:00"), *DROP[5:]], ["row 6", "01:01:00"]),
    "other zone": ([line.replace("Z,", "+09:00,") for line in DROP], ["row 2", "2026-03-01T00:00:00+09:00", "UTC"]),
    "no zone": ([line.replace("Z,", ",") for line in DROP], ["row 2", "zone"]),
    "no time": (with_cell(0, "yesterday"), ["row 5", "yesterday"]),
    "negative load": (with_cell(1, "-3"), ["row 5", "load_kw", "2026-03-01T00:45:00Z"]),
    "negative sun": (with_cell(2, "-0.1"), ["row 5", "pv1.available_kw"]),
    "text": (with_cell(2, "n/a"), ["row 5", "pv1.available_kw", "n/a"]),
    "nan": (with_cell(2, "nan"), ["row 5", "pv1.available_kw", "finite"]),
    "infinite": (with_cell(3, "1e999"), ["row 5", "river.inflow_m3s", "finite"]),
    "empty cell": (with_cell(1, ""), ["row 5", "load_kw", "2026-03-01T00:45:00Z"]),
    "short row": ([*DROP[:3], "2026-03-01T00:45:00Z,1", *DROP[4:]], ["row 5", "2 cells"]),
    "one row": (DROP[:1], ["two rows"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_rows_are_refused_by_name(tmp_path: Path, name: str) -> None:
    lines, words = REFUSED[name]
    with pytest.raises(BadInput) as caught:
        read_series(written(tmp_path, lines), SITE)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("header", "word"),
    [
        (HEADER.replace("load_kw", "load_mw"), "load_mw"),
        (HEADER.replace("load_kw", "wind_speed_ms"), "'load_kw' is missing"),
        (HEADER.replace("pv1.available_kw", "wind_speed_ms"), "'pv1.available_kw' is missing"),
        (HEADER.replace("pv1.", "pv9."), "pv9.available_kw"),
        (HEADER.replace("river.inflow_m3s", "ghi_wm2"), "'h1.inflow_m3s' is missing"),
        (HEADER.replace("air_temp_c", "load_kw"), "2 times"),
        (HEADER.replace("air_temp_c", "town.load_kw"), "both 'load_kw'"),
        (HEADER.replace("time", "stamp"), "stamp"),
    ],
)
def test_bad_headers_are_refused_by_name(tmp_path: Path, header: str, word: str) -> None:
    with pytest.raises(BadInput, match="row 1") as caught:
        read_series(written(tmp_path, rows(), header), SITE)
    assert word in str(caught.value)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_series(tmp_path / "none.csv", SITE)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00time")
    with pytest.raises(BadInput, match="no CSV text"):
        read_series(tmp_path / "bytes.csv", SITE)


@pytest.mark.parametrize(("options", "word"), [({"fill": "guess"}, "guess"), ({"scale": {"x": 1.0}}, "'x'"), ({"scale": {"load_kw": math.nan}}, "load_kw")])
def test_bad_options_are_refused_by_name(tmp_path: Path, options: dict[str, object], word: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_series(written(tmp_path, rows()), SITE, **options)  # type: ignore[arg-type]
    assert word in str(caught.value)


@pytest.mark.parametrize(("fill", "expected"), [("hold", [102, 102, 104]), ("linear", [102, 103, 104])])
def test_fill_is_a_stated_rule_for_gaps_and_empty_cells(tmp_path: Path, fill: str, expected: list[float]) -> None:
    for lines in (DROP[:3] + DROP[4:], with_cell(1, "")):
        table = read_series(written(tmp_path, lines), SITE, fill=fill)
        assert [sum(i.load_kw.values()) for i in table.intervals(START + timedelta(minutes=30), 900, 3)] == expected
    with pytest.raises(BadInput):
        read_series(written(tmp_path, DROP[:4] + DROP[3:]), SITE, fill=fill)


def test_ignored_columns_may_hold_anything(tmp_path: Path) -> None:
    lines = [f"{line},x" for line in rows()]
    assert read_series(written(tmp_path, lines, f"{HEADER},note"), SITE, ignore_columns=["note"]).n_rows == 8
    with pytest.raises(BadInput, match="remark"):
        read_series(written(tmp_path, lines, f"{HEADER},note"), SITE, ignore_columns=["note", "remark"])


def hourly(hours: int) -> SeriesTable:
    load = np.arange(hours, dtype=float)
    columns = {"load_kw": load, "pv1.available_kw": np.zeros(hours), "river.inflow_m3s": np.full(hours, 0.1)}
    return SeriesTable(SITE, START, 3600.0, columns)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(0, 47 * 3600), st.integers(1, 40 * 3600))
def test_means_are_exact_on_any_interval(begin_s: int, seconds: int) -> None:
    table = hourly(96)
    exact = sum(k * max(0, min(begin_s + seconds, (k + 1) * 3600) - max(begin_s, k * 3600)) for k in range(96)) / seconds
    seen = table.conditions(START + timedelta(seconds=begin_s), seconds)
    assert sum(seen.load_kw.values()) == pytest.approx(exact, abs=2e-6)


def test_outside_its_span_it_repeats_at_the_same_hour_of_the_day() -> None:
    table = hourly(44)  # 1 day 20 h: the period is two days, and its last four hours are those of the day before
    load = [sum(i.load_kw.values()) for i in table.intervals(START - timedelta(hours=48), 3600, 5 * 24)]
    period = [*range(44), 20, 21, 22, 23]
    assert load == pytest.approx((period * 3)[: 5 * 24])


def test_perfect_forecast_has_means_and_peaks_on_a_mixed_grid() -> None:
    table = hourly(48)
    grid = Grid(START + timedelta(hours=1), (900.0, 900.0, 1800.0, 7200.0))
    forecast = table.forecast(grid)
    assert forecast.load_kw == pytest.approx((1, 1, 1, 2.5))
    assert forecast.load_peak_kw == (1, 1, 1, 3)
    assert forecast.available_kw == {"pv1": (0, 0, 0, 0)}
    assert forecast.inflow_m3s["h1"] == pytest.approx((0.1,) * 4)
    assert forecast.source == {"load": "perfect", "pv1": "perfect", "h1": "perfect"}
    beyond = table.forecast(Grid(START + timedelta(hours=47), (7200.0,)))
    assert beyond.load_kw == pytest.approx((23.5,))
    assert beyond.load_peak_kw == (47,)
