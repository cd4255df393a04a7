from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from api.cli.export import register
from drivers.store.history import History
from drivers.store.ledger import LedgerStore
from ems.errors import BadInput, Failed

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    history = History(tmp_path / "history.db")
    for n in range(8):
        at = NOON + timedelta(seconds=20 * n)
        history.append(n + 1, at, {"load_kw": 300.0 + n, "assets": {"pv1": {"power_kw": None if n < 3 else 5.0}}}, b"")
    history.close()
    ledger = LedgerStore(tmp_path / "ledger.db")
    for minute in (0, 1, 5):
        row = {"seconds": 60.0, "fuel_l": 1.5, "assets": {"pv1": {"kwh": 2.0}}, "fuel": {"dg1": {"counter_l": None}}, "totals": {"fuel_l": 3.0}}
        ledger.minute(NOON + timedelta(minutes=minute), row)
    ledger.close()
    return tmp_path


def run(*arguments: object) -> Any:
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_minutes_as_csv_with_empty_cells_for_what_is_missing(data: Path) -> None:
    out = data / "history.csv"
    run(data, "--format", "csv", "--out", out)
    assert table(out) == [
        ["time", "load_kw", "pv1.power_kw"],
        ["2026-03-01T12:00:00Z", "301.0", ""],
        ["2026-03-01T12:01:00Z", "304.0", "5.0"],
    ]
    assert not list(data.glob("*.part")) + list(data.glob(".*.part"))


def test_the_ledger_as_csv_shows_its_gap(data: Path) -> None:
    out = data / "energy.csv"
    said = run(data, "--format", "csv", "--table", "energy", "--out", out, "--from", "2026-03-01T12:01", "--json")
    assert json.loads(said.stdout)["rows"] == 3
    head, *rows = table(out)
    assert [dict(zip(head, row, strict=True))["kind"] for row in rows] == ["energy", "gap", "energy"]
    assert [dict(zip(head, row, strict=True))["pv1.kwh"] for row in rows] == ["2.0", "", "2.0"]


def test_a_folder_without_history_and_a_wrong_time_are_bad_input(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="history.db"):
        run(tmp_path / "empty", "--format", "csv", "--out", tmp_path / "x.csv")
    with pytest.raises(BadInput, match="no time"):
        run(data, "--format", "csv", "--out", tmp_path / "x.csv", "--from", "yesterday")


def test_a_file_that_cannot_be_written_fails_and_leaves_nothing(data: Path) -> None:
    with pytest.raises(Failed, match="cannot write"):
        run(data, "--format", "csv", "--out", data / "no" / "x.csv")


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_parquet_without_pyarrow_says_what_is_missing(data: Path) -> None:
    with pytest.raises(Failed, match="pyarrow"):
        run(data, "--format", "parquet", "--out", data / "x.parquet")
