"""The commissioning sheet, opened as a spreadsheet: every point, every command, its test, and room to sign."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from openpyxl import load_workbook
from openpyxl.worksheet.worksheet import Worksheet

from api.cli.main import run
from ems.config.load import load_site
from simulator.as_simulated import write_as_simulated
from simulator.plant import Conditions, Plant
from simulator.servers import PlantServers

SITE = """\
site: {id: isle, name: {en: Isle, ja: 離島}, nominal_hz: 60, nominal_v: 415}
control: {stage: control}
assets:
  - {id: town, kind: load, peak_kw: 400, device: {profile: generic-load, url: "tcp://10.0.0.1:502", unit: 8}}
  - {id: pv1, kind: solar, rated_kw: 900, device: {profile: sunspec-inverter, url: "tcp://10.0.0.1:502", unit: 7}}
  - {id: dg1, kind: diesel, rated_kw: 600, device: {profile: genset-controller, url: "tcp://10.0.0.1:502", unit: 9}}
"""
EN = ["Asset", "Point", "Register or node", "Type", "Unit", "Raw step", "Expected", "Read", "Quality", "Test to do", "Result", "Name", "Date", "Signature"]
Read = pytest.CaptureFixture[str]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE, "utf-8")
    return path


def rows_of(page: Worksheet) -> dict[str, list[object]]:
    """Return the lines under the headings by point."""
    head = next(r for r in range(1, 10) if str(page.cell(r, 1).value).startswith("Asset\n"))
    return {str(row[1].value): [cell.value for cell in row] for row in page.iter_rows(min_row=head + 1) if row[1].value}


def test_every_point_has_a_line_its_test_and_room_to_sign(site: Path, capsys: Read) -> None:
    out = site.parent / "sheet.xlsx"
    assert run(["check", str(site), "--sheet", str(out)]) == 0
    # town: 6 points, a command, its silence; pv1: 5, 1, 1; dg1: 13, 1, its heartbeat and its silence
    assert f"{out}: 31 lines to try and to sign" in capsys.readouterr().out
    book = load_workbook(out)
    assert book.sheetnames == ["Cover 表紙", "EMS gone 通信断", "town", "pv1", "dg1"]
    profiles = load_site(site).profiles
    for asset in ("town", "pv1", "dg1"):
        page, profile = book[asset], profiles[asset]
        heads = [str(cell.value).split("\n") for cell in page[3]]
        assert [en for en, _ in heads] == EN
        assert all(ja for _, ja in heads)
        lines = rows_of(page)
        beat = {"heartbeat"} if profile.heartbeat else set()
        assert set(lines) == {*profile.points, *(f"command {name}" for name in profile.commands), *beat, "on_silence"}
        for line in lines.values():
            assert line[0] == asset
            assert str(line[9]).count("\n") == 1  # the test in both languages
            assert line[7] is None and line[10:] == [None] * 4  # nothing was read, and nothing is signed
        assert all((page.row_dimensions[4 + k].height or 0) >= 2 * 14 for k in range(len(lines)))  # both languages of a test can be read
    genset = rows_of(book["dg1"])
    assert genset["power_kw"][2:7] == ["input 1024", "int16", "kW", "100 W", "0 to 600"]
    assert genset["running"][2:7] == ["discrete 16", "bool", None, None, "0 | 1"]
    assert genset["frequency_hz"][6] == "54 to 66"
    assert genset["voltage_v"][6] == "373.5 to 456.5"
    assert genset["command running"][2:4] == ["holding 4104", "uint16"]
    assert genset["on_silence"][6] == "local_auto after 20 s"
    assert rows_of(book["pv1"])["command limit_kw"][2:7] == ["123.WMaxLimPct", "SunSpec", "kW", "1 pct of rated_kw", "0 to 900"]


def test_the_cover_says_what_it_is_of(site: Path) -> None:
    out = site.parent / "sheet.xlsx"
    assert run(["check", str(site), "--sheet", str(out)]) == 0
    book = load_workbook(out)
    cover = {str(cell.value) for row in book["Cover 表紙"].iter_rows() for cell in row if cell.value is not None}
    assert {"Commissioning sheet 試運転記録  Isle / 離島", load_site(site).sha256, "genset-controller", "tcp://10.0.0.1:502 unit 9"} <= cover
    gone = [row[0].value for row in book["EMS gone 通信断"].iter_rows(min_row=2)]
    assert gone[0] == "if the EMS is gone while dg1 holds the busbar: dg1 goes on; dg1 holds"
    assert any(str(told).startswith("pv1 is left to its own control") for told in gone)


async def test_what_was_read_is_in_the_sheet(site: Path, capsys: Read) -> None:
    loaded = load_site(site)
    servers = PlantServers(loaded, Plant(loaded.site))
    try:
        await servers.start(Conditions({"town": 250.0}, {"pv1": 120.0}, {}))
        real = site.parent / "as-simulated.yaml"
        write_as_simulated(loaded, real, servers.addresses)
        out = site.parent / "sheet.xlsx"
        assert await asyncio.to_thread(run, ["check", str(real), "--probe", "--sheet", str(out), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["sheet"]["file"] == str(out)
        lines = {f"{line[0]}.{name}": line for page in load_workbook(out).worksheets[2:] for name, line in rows_of(page).items()}
        for row in told["probe"]:
            line = lines[f"{row['asset']}.{row['point']}"]
            assert (line[7], line[8]) == (pytest.approx(row["value"], abs=0.001), "good")
    finally:
        await servers.stop()


def test_a_device_that_does_not_answer_says_so_in_the_sheet(site: Path, capsys: Read) -> None:
    site.write_text(SITE.replace("10.0.0.1:502", "127.0.0.1:1"), "utf-8")
    out = site.parent / "sheet.xlsx"
    assert run(["check", str(site), "--probe", "--sheet", str(out)]) == 1
    line = rows_of(load_workbook(out)["dg1"])["power_kw"]
    assert "127.0.0.1:1" in str(line[7])
    assert line[8] == "bad"


def test_nothing_in_it_is_a_formula(site: Path) -> None:
    (site.parent / "odd.yaml").write_text(
        'profile: "=1+1"\nkind: diesel\nprotocol: modbus\npoints: {"=cmd()": {address: 0, type: int16}, power_kw: {address: 1, type: int16, unit: kW}}\n',
        "utf-8",
    )
    site.write_text(SITE.replace("genset-controller", "odd.yaml").replace("stage: control", "stage: shadow"), "utf-8")
    out = site.parent / "sheet.xlsx"
    assert run(["check", str(site), "--sheet", str(out)]) == 0
    cells = [cell for page in load_workbook(out).worksheets for row in page.iter_rows() for cell in row]
    assert "=cmd()" in {cell.value for cell in cells}
    assert [cell.coordinate for cell in cells if cell.data_type == "f"] == []


@pytest.mark.parametrize("name", ["sheet.csv", "taken.xlsx"])
def test_where_it_cannot_go_is_bad_input(name: str, site: Path, capsys: Read) -> None:
    (site.parent / "taken.xlsx").write_bytes(b"signed")
    assert run(["check", str(site), "--sheet", str(site.parent / name), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["where"] == str(site.parent / name)
    assert (site.parent / "taken.xlsx").read_bytes() == b"signed"


def test_without_devices_there_is_nothing_to_sign(site: Path, capsys: Read) -> None:
    site.write_text("site: {id: a}\nassets: [{id: town, kind: load, peak_kw: 10}, {id: dg1, kind: diesel, rated_kw: 20}]\n", "utf-8")
    assert run(["check", str(site), "--sheet", str(site.parent / "s.xlsx")]) == 2
    assert run(["check", str(site), "--sheet", str(site.parent / "no" / "s.xlsx")]) == 2
