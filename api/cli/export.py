"""`ems export`: history or ledger of a site as one table."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import typer

from api.cli.output import document, example
from drivers.store.file import iso, micros
from drivers.store.history import HistoryReader
from drivers.store.ledger import LedgerReader
from ems.errors import BadInput, Failed

ROWS = 500
Row = tuple[int, Mapping[str, Any]]
"""Time [us since 1970] and the columns of one row."""


def register(app: typer.Typer) -> None:
    """Add `ems export`."""
    app.command("export", epilog=example("ems export data --format csv --out history.csv", "ems export data --table energy --format csv --out energy.csv"))(
        export
    )


def export(
    data: Path = typer.Argument(..., metavar="DIR", help="The site's data folder."),
    kind: Literal["csv", "parquet"] = typer.Option(..., "--format", help="csv, or parquet where pyarrow is installed."),
    out: Path = typer.Option(..., "--out", metavar="FILE", help="The file to write; an old one is replaced when the new one is whole."),
    table: Literal["minutes", "energy"] = typer.Option("minutes", "--table", help="minutes: means of all points; energy: fuel, CO2 and kWh of the ledger."),
    begin: str | None = typer.Option(None, "--from", metavar="ISO", help="First minute [UTC]."),
    end: str | None = typer.Option(None, "--to", metavar="ISO", help="First minute not to take [UTC]."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Write one-minute history, or the ledger's energy, as a table; what is missing is an empty cell."""
    source = {"minutes": ("history.db", minutes), "energy": ("ledger.db", energy)}[table]
    if not (data / source[0]).exists():
        raise BadInput(f"no {source[0]} in this folder", str(data), "a data folder that `ems run` has written")
    if kind == "parquet" and find_spec("pyarrow") is None:
        raise Failed("parquet needs the package pyarrow, which is not installed here", "--format", "--format csv, or an installation with pyarrow")
    first, last = at_us(begin, "--from"), at_us(end, "--to")

    def rows() -> Iterator[Row]:
        for time, row in source[1](data / source[0]):
            if (first is None or time >= first) and (last is None or time < last):
                yield time, row

    columns = sorted({name for _, row in rows() for name in row})
    draft = out.with_name(f".{out.name}.part")
    try:
        count = (to_csv if kind == "csv" else to_parquet)(draft, columns, rows)
        os.replace(draft, out)
    except OSError as error:
        raise Failed(f"cannot write: {error}", str(out), "a folder that can be written") from error
    finally:
        draft.unlink(missing_ok=True)
    if as_json:
        document({"out": str(out), "table": table, "rows": count, "columns": ["time", *columns]})
    else:
        typer.echo(f"{count} rows, {len(columns) + 1} columns -> {out}")


def at_us(text: str | None, option: str) -> int | None:
    """Return an ISO stamp as microseconds since 1970; one without a zone is UTC."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no time", option, "ISO 8601, as 2026-03-01 or 2026-03-01T12:00Z") from None
    return micros(at if at.tzinfo is not None else at.replace(tzinfo=UTC))


def minutes(path: Path) -> Iterator[Row]:
    """Yield the minutes of a history, a few hundred at a look."""
    seq, reader = 0, HistoryReader(path)
    while found := reader.minutes_after(seq, ROWS):
        yield from ((time, points) for _, time, points in found)
        seq = found[-1][0]


def energy(path: Path) -> Iterator[Row]:
    """Yield the rows of a ledger, flat: `pv1.kwh`, `dg1.counter_l`, `total_fuel_l`; gaps and clock steps by their `kind`."""
    seq, reader = 0, LedgerReader(path)
    while found := reader.after(seq, ROWS):
        yield from ((time, flat(row)) for _, time, row in found)
        seq = found[-1][0]


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ledger row with its parts as columns of their own."""
    found = {name: value for name, value in row.items() if not isinstance(value, Mapping) and name != "at"}
    for part in ("assets", "meters", "fuel"):
        found |= {f"{asset}.{name}": value for asset, values in row.get(part, {}).items() for name, value in values.items()}
    return found | {f"total_{name}": value for name, value in row.get("totals", {}).items()}


def to_csv(path: Path, columns: list[str], rows: Callable[[], Iterator[Row]]) -> int:
    """Write a CSV file and return how many rows it has."""
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *columns])
        for time, row in rows():
            writer.writerow([iso(time), *("" if row.get(name) is None else row[name] for name in columns)])
            count += 1
    return count


def to_parquet(path: Path, columns: list[str], rows: Callable[[], Iterator[Row]]) -> int:
    """Write a Parquet file and return how many rows it has."""
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    found = list(rows())
    held = {"time": arrow.array([time for time, _ in found], arrow.timestamp("us", tz="UTC"))}
    held |= {name: arrow.array([row.get(name) for _, row in found]) for name in columns}
    parquet.write_table(arrow.table(held), path)
    return len(found)
