"""Series CSV: load, sun and river as measured or made, read strictly and averaged exactly.

`time` is UTC and labels the start of an interval; values are means over it. What is wrong is an error
that names row (line of the file), column and stamp; nothing is repaired but by a stated rule.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ems.config.site import Hydro, Load, Site, Solar
from ems.errors import BadInput
from ems.plan import Forecast, Grid

DAY_S = 86400.0
FILLS = ("hold", "linear")
"""`hold` repeats the last value, `linear` draws a line; both only across gaps and empty cells."""
EXTRAS = ("ghi_wm2", "air_temp_c", "wind_speed_ms")
SIGNED = ("ghi_wm2", "air_temp_c")
"""Columns that may be below zero: a pyranometer cools at night."""
RIVER = "river.inflow_m3s"

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """Means over one interval: load by load asset, sun by solar asset, water by hydro asset."""

    load_kw: Mapping[str, float]
    available_kw: Mapping[str, float]
    inflow_m3s: Mapping[str, float]
    ghi_wm2: float | None = None
    air_temp_c: float | None = None


class SeriesTable:
    """A series on its even grid, integrated once so that every mean is exact.

    Outside its span it repeats with a period of whole days, so that the hour of the day stays; the hours
    that are missing in the last day are those of the day before.

    Parameters
    ----------
    site : Site
    start : datetime
        Start of the first interval [UTC].
    step_s : float
        Length of each interval [s].
    columns : Mapping[str, NDArray]
        By CSV column, shape (n_rows,).
    sha256 : str
        Of the file's bytes; empty for a made series.
    """

    def __init__(self, site: Site, start: datetime, step_s: float, columns: Mapping[str, Values], sha256: str = "") -> None:
        self.start = start
        self.step_s = step_s
        self.sha256 = sha256
        self._loads = [load.id for load in site.of(Load)]
        self._solars = [s.id for s in site.of(Solar)]
        self._hydros = [h.id for h in site.of(Hydro)]
        self._skies = [c for c in SIGNED if c in columns]
        rows = np.column_stack([*by_asset(site, columns), *(columns[c] for c in self._skies)])
        self.n_rows = len(rows)
        self.span_s = self.n_rows * step_s
        self.period_s = math.ceil(self.span_s / DAY_S) * DAY_S if self.span_s >= DAY_S else self.span_s
        self._sum = np.vstack([np.zeros(rows.shape[1]), np.cumsum(rows * step_s, axis=0)])
        self._total_kw = rows[:, : len(self._loads)].sum(axis=1)

    @property
    def end(self) -> datetime:
        """End of the last interval [UTC]."""
        return self.start + timedelta(seconds=self.span_s)

    def intervals(self, start: datetime, step_s: float, count: int) -> list[Interval]:
        """Return the means over `count` intervals of `step_s` [s] from `start` on."""
        begin = (start - self.start).total_seconds() + step_s * np.arange(count, dtype=np.float64)
        n, m, k = len(self._loads), len(self._solars), len(self._hydros)
        found = []
        for row in self._means(begin, np.full(count, step_s)).tolist():
            sky = dict(zip(self._skies, row[n + m + k :], strict=True))
            found.append(
                Interval(
                    dict(zip(self._loads, row[:n], strict=True)),
                    dict(zip(self._solars, row[n : n + m], strict=True)),
                    dict(zip(self._hydros, row[n + m : n + m + k], strict=True)),
                    sky.get("ghi_wm2"),
                    sky.get("air_temp_c"),
                )
            )
        return found

    def conditions(self, at: datetime, seconds: float) -> Interval:
        """Return the means over the `seconds` from `at` on."""
        return self.intervals(at, seconds, 1)[0]

    def forecast(self, grid: Grid) -> Forecast:
        """Return the perfect forecast on any grid: exact means, and the highest row of each step as its peak."""
        steps = np.array(grid.step_s)
        begin = (grid.start - self.start).total_seconds() + np.concatenate([[0.0], np.cumsum(steps)[:-1]])
        means = self._means(begin, steps)
        n, m = len(self._loads), len(self._solars)
        ids = ("load", *self._solars, *self._hydros)
        return Forecast(
            grid,
            tuple(means[:, :n].sum(axis=1).tolist()),
            {s: tuple(means[:, n + j].tolist()) for j, s in enumerate(self._solars)},
            {h: tuple(means[:, n + m + j].tolist()) for j, h in enumerate(self._hydros)},
            dict.fromkeys(ids, "perfect"),
            tuple(self._peak_kw(b, s) for b, s in zip(begin.tolist(), steps.tolist(), strict=True)),
        )

    def _means(self, begin_s: Values, seconds: Values) -> Values:
        """Return exact means over [begin_s, begin_s + seconds), shape (n, n_columns); `begin_s` from the series' start [s]."""
        edges = np.concatenate([begin_s, begin_s + seconds])
        whole = np.floor(edges / self.period_s)
        integral = self._integral(edges - whole * self.period_s) + whole[:, None] * self._integral(np.array([self.period_s]))
        n = len(begin_s)
        # one rounding to a milliwatt takes out what the long sum left: a night of 1e-12 kW is no sun
        means: Values = np.round((integral[n:] - integral[:n]) / seconds[:, None], 6) + 0.0
        return means

    def _integral(self, at_s: Values) -> Values:
        """Return the integral of every column up to `at_s` inside one period [unit x s]."""
        again = self.span_s - DAY_S
        return self._up_to(np.minimum(at_s, self.span_s)) + self._up_to(np.maximum(at_s - DAY_S, again)) - self._up_to(np.array([again]))

    def _up_to(self, at_s: Values) -> Values:
        row = np.clip(at_s / self.step_s, 0.0, self.n_rows)
        below = np.minimum(row.astype(np.int64), self.n_rows - 1)
        found: Values = self._sum[below] + (row - below)[:, None] * (self._sum[below + 1] - self._sum[below])
        return found

    def _peak_kw(self, begin_s: float, seconds: float) -> float:
        """Return the highest load of the rows that an interval touches [kW]."""
        first = math.floor(begin_s / self.step_s + 1e-9)
        last = max(first + 1, math.ceil((begin_s + seconds) / self.step_s - 1e-9))
        if first >= 0 and last <= self.n_rows:
            return float(self._total_kw[first:last].max())
        per_period, per_day = round(self.period_s / self.step_s), round(DAY_S / self.step_s)
        inside = [k % per_period for k in range(first, last)]
        return max(float(self._total_kw[k if k < self.n_rows else k - per_day]) for k in inside)


def by_asset(site: Site, columns: Mapping[str, Values]) -> list[Values]:
    """Return one column for each load, solar and hydro asset: shared load by peak, sun at most the rating, the common river."""
    peak = site.peak_kw
    found = [columns[f"{a.id}.load_kw"] if f"{a.id}.load_kw" in columns else columns["load_kw"] * (a.peak_kw / peak) for a in site.of(Load)]
    found += [np.minimum(columns[f"{s.id}.available_kw"], s.rated_kw) for s in site.of(Solar)]
    return found + [columns[c] if (c := f"{h.id}.inflow_m3s") in columns else columns[RIVER] for h in site.of(Hydro)]


def read_series(path: Path, site: Site, fill: str | None = None, ignore_columns: Sequence[str] = (), scale: Mapping[str, float] | None = None) -> SeriesTable:
    """Read a series CSV for a site; whatever is not as it should be is a `BadInput`.

    Parameters
    ----------
    path : Path
    site : Site
        Says which columns must and may be there.
    fill : str | None
        `hold` or `linear`: how missing rows and empty cells are filled; None refuses them.
    ignore_columns : Sequence[str]
        Columns to leave out.
    scale : Mapping[str, float] | None
        Factor by column.
    """
    if fill is not None and fill not in FILLS:
        raise BadInput(f"unknown fill rule {fill!r}", "--fill", " or ".join(FILLS))
    try:
        raw = path.read_bytes()
        rows = list(numbered(raw.decode("utf-8-sig")))
    except OSError as fault:
        raise BadInput(f"the series cannot be read: {fault.strerror}", str(path), "a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as fault:
        raise BadInput(f"the series is no CSV text: {fault}", str(path), "a CSV file in UTF-8") from None
    if len(rows) < 3:
        raise BadInput("the series has fewer than two rows", str(path), "a header and at least two rows, so that the step is known")
    header = [name.strip() for name in rows[0][1]]
    used = known_columns(header, site, ignore_columns, path)
    factors = scale_factors(scale or {}, used)
    stamps = [stamp(line, cells, header, path) for line, cells in rows[1:]]
    lines = [line for line, _ in rows[1:]]
    step_s = check_stamps(stamps, lines, fill, path)
    places = [round((at - stamps[0]).total_seconds() / step_s) for at in stamps]
    columns = {}
    for name in used:
        k = header.index(name)
        cells = [number(row[k], name, line, at, fill, path) for (line, row), at in zip(rows[1:], stamps, strict=True)]
        columns[name] = filled(places, cells, fill, name, path) * factors.get(name, 1.0)
    return SeriesTable(site, stamps[0], step_s, columns, hashlib.sha256(raw).hexdigest())


def numbered(text: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV text with the line of the file on which each ends; empty lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    return [(reader.line_num, row) for row in reader if row]


def known_columns(header: Sequence[str], site: Site, ignore: Sequence[str], path: Path) -> list[str]:
    """Return the columns to read; unknown, doubled and missing ones are refused."""
    where = f"{path}: row 1"
    loads = [f"{load.id}.load_kw" for load in site.of(Load)]
    suns = [f"{s.id}.available_kw" for s in site.of(Solar)]
    rivers = [f"{h.id}.inflow_m3s" for h in site.of(Hydro)]
    allowed = ["load_kw", *loads, *suns, *rivers, RIVER, *EXTRAS]
    for name, times in Counter(header).items():
        if times > 1:
            raise BadInput(f"column {name!r} is there {times} times", where, "each column once")
        if name != "time" and name not in allowed and name not in ignore:
            raise BadInput(f"unknown column {name!r}", where, f"one of {', '.join(allowed)}; or --ignore-columns {name}")
    absent = [name for name in ignore if name not in header]
    if absent:
        raise BadInput(f"there is no column {absent[0]!r} to ignore", where, "columns of the file")
    there = [name for name in header if name not in ignore]
    if "time" not in there:
        raise BadInput("column 'time' is missing", where, "time, ISO 8601 in UTC")
    if "load_kw" in there and any(name in there for name in loads):
        raise BadInput("both 'load_kw' and columns of single loads are there", where, f"load_kw, or {' and '.join(loads)}")
    needed = [] if "load_kw" in there else loads if any(name in there for name in loads) else ["load_kw"]
    needed += suns + [name for name in rivers if RIVER not in there]
    for name in needed:
        if name not in there:
            also = f" (or {RIVER})" if name in rivers else ""
            raise BadInput(f"column {name!r} is missing{also}", where, "a column for every load, solar and hydro asset of the site")
    return [name for name in there if name != "time"]


def scale_factors(scale: Mapping[str, float], used: Sequence[str]) -> Mapping[str, float]:
    """Return the factors as given; a column that is not read or a factor that makes no sense is refused."""
    for name, factor in scale.items():
        if name not in used:
            raise BadInput(f"there is no column {name!r} to scale", "--scale", f"one of {', '.join(used)}")
        if not (math.isfinite(factor) and factor >= 0.0):
            raise BadInput(f"column {name!r} cannot be scaled by {factor}", "--scale", "a finite factor of at least 0")
    return scale


def stamp(line: int, cells: Sequence[str], header: Sequence[str], path: Path) -> datetime:
    """Return a row's time; a row of another length, another zone or none is refused."""
    if len(cells) != len(header):
        raise BadInput(f"{len(cells)} cells in a row of {len(header)} columns", f"{path}: row {line}", f"{len(header)} cells")
    text = cells[header.index("time")].strip()
    expected = "ISO 8601 in UTC, as 2026-03-01T00:15:00Z"
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no time", f"{path}: row {line}, column time", expected) from None
    if at.utcoffset() is None:
        raise BadInput(f"{text} names no zone", f"{path}: row {line}, column time", expected)
    if at.utcoffset() != timedelta(0):
        raise BadInput(f"{text} is not UTC", f"{path}: row {line}, column time", expected)
    return at.astimezone(UTC)


def check_stamps(stamps: Sequence[datetime], lines: Sequence[int], fill: str | None, path: Path) -> float:
    """Return the step [s], the most frequent distance; what is doubled, unsorted, missing or off the grid is refused."""
    apart = [(b - a).total_seconds() for a, b in zip(stamps, stamps[1:], strict=False)]
    step_s = Counter(a for a in apart if a > 0).most_common(1)[0][0] if any(a > 0 for a in apart) else 0.0
    for k, seconds in enumerate(apart, start=1):
        where = f"{path}: row {lines[k]}, column time"
        text = f"{stamps[k]:%Y-%m-%dT%H:%M:%SZ}"
        due = f"{stamps[k - 1] + timedelta(seconds=step_s):%Y-%m-%dT%H:%M:%SZ}"
        if seconds == 0.0:
            raise BadInput(f"{text} is there twice", where, due)
        if seconds < 0.0:
            raise BadInput(f"{text} is earlier than the row before: the rows are not sorted", where, due)
        if seconds % step_s:
            raise BadInput(f"{text} is off the grid of {step_s:g} s", where, due)
        if seconds > step_s and fill is None:
            raise BadInput(f"a gap: {text} comes where {due} is due", where, f"{due}, or --fill {' | '.join(FILLS)}")
    return step_s


def number(text: str, name: str, line: int, at: datetime, fill: str | None, path: Path) -> float:
    """Return a cell as a finite number, NaN for an empty one that may be filled."""
    where = f"{path}: row {line} ({at:%Y-%m-%dT%H:%M:%SZ}), column {name}"
    text = text.strip()
    if not text:
        if fill is None:
            raise BadInput("an empty cell", where, f"a number, or --fill {' | '.join(FILLS)}")
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"{text!r} is no number", where, "a finite number") from None
    if not math.isfinite(value):
        raise BadInput(f"{text} is not finite", where, "a finite number")
    if value < 0.0 and name not in SIGNED:
        raise BadInput(f"{text} is negative", where, "a number of at least 0")
    return value


def filled(places: Sequence[int], cells: Sequence[float], fill: str | None, name: str, path: Path) -> Values:
    """Return a column on the even grid, shape (n_rows,), gaps filled by the stated rule."""
    values = np.full(places[-1] + 1, np.nan)
    values[list(places)] = cells
    there = np.flatnonzero(~np.isnan(values))
    if len(there) == len(values):
        return values
    if len(there) == 0 or there[0] != 0:
        raise BadInput("the first row cannot be filled", f"{path}: column {name}", "a value in the first row")
    index = np.arange(len(values))
    if fill == "linear":
        line: Values = np.interp(index, there, values[there])
        return line
    held: Values = values[there[np.searchsorted(there, index, side="right") - 1]]
    return held
