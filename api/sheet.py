"""The commissioning sheet: an xlsx with every point of every device, its test, and a place to sign.

A cover, what happens when the EMS is gone, and one sheet for each device; headings and tests in English and Japanese.
The tests are sentences for the person in front of the device: nothing here is ticked off by a program.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpyxl import Workbook
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from api.expected import expected_of, test_of
from api.probe import unit_of
from drivers.codec import table_of
from ems.config.load import LoadedSite
from ems.config.profile import Place, Profile
from ems.config.silence import followers, walk
from ems.config.site import AnyAsset, Device, Feeder, SiteInfo
from ems.errors import BadInput, Failed

HEADINGS = (
    ("Asset", "機器", 10),
    ("Point", "測点", 20),
    ("Register or node", "レジスタ／ノード", 26),
    ("Type", "型", 10),
    ("Unit", "単位", 8),
    ("Raw step", "生値の単位", 16),
    ("Expected", "想定範囲", 18),
    ("Read", "読取値", 12),
    ("Quality", "品質", 9),
    ("Test to do", "試験内容", 56),
    ("Result", "結果", 14),
    ("Name", "氏名", 12),
    ("Date", "日付", 12),
    ("Signature", "署名", 14),
)
"""English, Japanese, width [characters]."""
STEPS = (
    ("Site file and profiles checked (ems check)", "サイト定義とプロファイルの確認（ems check）"),
    ("Every point compared with the device (ems check --probe)", "全測点を機器の表示と照合（ems check --probe）"),
    ("Silence of every device tried: network cable pulled", "全機器の通信断試験：LAN ケーブルを抜く"),
    ("Local/remote switch of every device tried", "全機器の遠方／現場切替試験"),
    ("Shadow: balance closes, explanations are sensible", "シャドー運転：需給が一致し、説明が妥当"),
    ("Advise: compared with the operators", "助言運転：運転員の判断と比較"),
    ("Control: each setpoint, start and stop; trip of each source by hand", "制御運転：各指令値・起動・停止、各電源の手動トリップ"),
    ("Emergency stop from the page and back", "画面からの非常停止と復帰"),
)
GREY, LINE = PatternFill("solid", fgColor="E6E6E6"), Side(style="thin", color="999999")
BOX = Border(left=LINE, right=LINE, top=LINE, bottom=LINE)
LINE_PT = 14.0
"""Height of one line [points]."""
WRAP = Alignment(wrap_text=True, vertical="top")


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a device's sheet, in the order of the headings up to the test."""

    asset: str
    point: str
    place: str
    type: str
    unit: str
    scale: str
    expected: str
    read: float | str | None
    quality: str
    test: str


def write_sheet(path: Path, loaded: LoadedSite, rows: Sequence[Mapping[str, Any]] | None) -> int:
    """Write the commissioning sheet into a new file and return how many points it has.

    Parameters
    ----------
    rows : Sequence[Mapping[str, Any]] | None
        What the probe read; None where it was not asked.

    Raises
    ------
    BadInput
        No asset has a device, or the file is there already.
    """
    devices = [asset for asset in _equipment(loaded) if asset.device is not None]
    if not devices:
        raise BadInput("no asset has a device to commission", str(loaded.path), "a `device` in the site file")
    if path.suffix != ".xlsx":
        raise BadInput("a commissioning sheet is an xlsx file", str(path), "a name that ends in .xlsx")
    book = Workbook()
    cover = book.active
    gone = book.create_sheet("EMS gone 通信断")
    pages = {asset.id: book.create_sheet(asset.id[:31]) for asset in devices}
    lines = {asset.id: list(lines_of(loaded.site.site, asset, loaded.profiles[asset.id], rows)) for asset in devices}
    _cover(cover, loaded, devices, {a: (pages[a].title, len(held)) for a, held in lines.items()}, rows is not None)
    _gone(gone, loaded)
    for asset in devices:
        _device(pages[asset.id], asset, lines[asset.id])
    try:
        with path.open("xb") as file:
            book.save(file)
    except FileExistsError:
        raise BadInput("the file is there already and is left as it is: it may be signed", str(path), "a name that is free") from None
    except OSError as error:
        raise Failed(f"the file cannot be written: {error.strerror}", str(path), "a folder that can be written") from error
    return sum(len(held) for held in lines.values())


def _equipment(loaded: LoadedSite) -> Iterator[AnyAsset | Feeder]:
    for asset in loaded.site.assets:
        yield asset
        yield from getattr(asset, "feeders", ())


def lines_of(site: SiteInfo, asset: AnyAsset | Feeder, profile: Profile, rows: Sequence[Mapping[str, Any]] | None) -> Iterator[Line]:
    """Give a line for every point, every command, the heartbeat, the silence and the switch of a device."""
    read = {row["point"]: row for row in rows or () if row["asset"] == asset.id}

    def line(name: str, place: Place, what: str, shown: float | str | None = None, quality: str = "") -> Line:
        told = f"command {name}" if what == "command" else name
        where, unit = place_of(place, profile), unit_of(name, place) or ""
        expected = expected_of(site, asset, name, place)
        return Line(asset.id, told, where, kind_of(place), unit, scale_of(name, place), expected, shown, quality, test_of(name, what))

    for name, point in profile.points.items():
        row = read.get(name, {})
        value = row.get("value")
        told = row.get("cause") or row.get("text", {}).get("en")  # a point may be a text, as a serial number is
        yield line(name, point, "point", told if value is None else _rounded(value), str(row.get("quality", "")))
    for name, command in profile.commands.items():
        yield line(name, command, "command")
    if profile.heartbeat is not None:
        beat = profile.heartbeat
        yield Line(asset.id, "heartbeat", place_of(beat, profile), kind_of(beat), "", "", "0 | 1", None, "", test_of("heartbeat", "heartbeat"))
    silence = profile.on_silence
    told = "not declared 未定義" if silence is None else f"{silence.does}{'' if silence.value is None else f' {silence.value:g}'} after {silence.after_s:g} s"
    yield Line(asset.id, "on_silence", "", "", "", "", told, None, "", test_of("on_silence", "silence"))


def place_of(place: Place, profile: Profile) -> str:
    """Return where a value is: the zero-based address with its table, the node, the model point, or the topic."""
    if place.address is None:
        return place.node or place.point or place.topic or ""
    bit = getattr(place, "bit", None)
    return f"{table_of(place, profile.defaults)} {place.address}" + ("" if bit is None else f" bit {bit}")


def kind_of(place: Place) -> str:
    """Return its type on the wire; that of a SunSpec point follows from its model."""
    return "SunSpec" if place.point is not None else place.type


def scale_of(name: str, place: Place) -> str:
    """Return what one raw step is worth on the device's side, where that is not one of the unit shown."""
    if place.scale == 1.0 and place.unit in (None, unit_of(name, place)):
        return ""
    return f"{place.scale:g} {place.unit or ''}".strip() + ("" if place.of is None else f" of {place.of}")


def _rounded(value: Any) -> float | None:
    return round(value, 3) if isinstance(value, int | float) and math.isfinite(value) else None


# ------------------------------------------------------------------ pages
def _head(page: Worksheet, row: int, headings: Sequence[tuple[str, str]]) -> None:
    for column, (en, ja) in enumerate(headings, 1):
        cell = page.cell(row, column, f"{en}\n{ja}")
        cell.font, cell.fill, cell.border, cell.alignment = Font(bold=True), GREY, BOX, Alignment(wrap_text=True, vertical="center")
    page.row_dimensions[row].height = 32


def _row(page: Worksheet, row: int, values: Sequence[object]) -> None:
    for column, value in enumerate(values, 1):
        cell = page.cell(row, column)
        cell.border, cell.alignment = BOX, WRAP
        if isinstance(value, str):
            cell.value, cell.data_type = value, "s"  # never a formula, whatever a device calls itself
        else:
            cell.value = value


def _heights(page: Worksheet, first: int, widths: Sequence[float]) -> None:
    """Give every row the height that its longest cell needs: programs that print do not all find it by themselves."""
    for row in page.iter_rows(min_row=first):
        needed = 1
        for cell, width in zip(row, widths, strict=False):
            parts = str(cell.value or "").split("\n")
            needed = max(needed, sum(max(1, math.ceil(_width(part) / width)) for part in parts))
        page.row_dimensions[row[0].row].height = LINE_PT * needed + 3


def _width(text: str) -> int:
    """Return how many characters wide a text is; those of Japanese are two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _paper(page: Worksheet, widths: Sequence[float], title_row: int | None = None) -> None:
    for column, width in enumerate(widths, 1):
        page.column_dimensions[get_column_letter(column)].width = width
    page.page_setup.orientation, page.page_setup.paperSize = "landscape", page.PAPERSIZE_A4
    page.page_setup.fitToWidth, page.page_setup.fitToHeight = 1, 0
    page.sheet_properties.pageSetUpPr.fitToPage = True
    if title_row is not None:
        page.print_title_rows = f"{title_row}:{title_row}"


def _cover(page: Worksheet, loaded: LoadedSite, devices: Sequence[AnyAsset | Feeder], pages: Mapping[str, tuple[str, int]], probed: bool) -> None:
    site = loaded.site.site
    page.title = "Cover 表紙"
    page["A1"] = f"Commissioning sheet 試運転記録  {site.name.en} / {site.name.ja}"
    page["A1"].font = Font(bold=True, size=16)
    facts = (
        ("Site file サイト定義", loaded.path.name),
        ("SHA-256", loaded.sha256),
        ("Stage 段階", loaded.site.control.stage),
        ("Values read 読取値", "yes, by ems check --probe あり" if probed else "no なし"),
        ("Result 結果", "write OK, or what is wrong 「良」または不具合の内容を記入"),
    )
    for row, (label, value) in enumerate(facts, 3):
        page.cell(row, 1, label).font = Font(bold=True)
        cell = page.cell(row, 2)
        cell.value, cell.data_type = value, "s"
    row = 9
    _head(page, row, (("Device", "機器"), ("Kind", "種別"), ("Profile", "プロファイル"), ("Address", "アドレス"), ("Lines", "項目数")))
    for asset in devices:
        row += 1
        device = _device_of(asset)
        unit = f" unit {device.unit}" if device.url.startswith("tcp") else ""
        _row(page, row, (asset.id, asset.kind, device.profile, device.url + unit, pages[asset.id][1]))
        page.cell(row, 1).hyperlink = f"#'{pages[asset.id][0]}'!A1"
    row += 2
    _head(page, row, (("Step", "手順"), ("Result", "結果"), ("Name", "氏名"), ("Date", "日付"), ("Signature", "署名")))
    for en, ja in STEPS:
        row += 1
        _row(page, row, (f"{en}\n{ja}", "", "", "", ""))
        page.row_dimensions[row].height = 32
    _paper(page, (58, 24, 24, 34, 20))


def _device_of(asset: AnyAsset | Feeder) -> Device:
    if asset.device is None:
        raise BadInput(f"{asset.id} has no device", asset.id, "a device")
    return asset.device


def _gone(page: Worksheet, loaded: LoadedSite) -> None:
    """The walk over every former state, and what the others do."""
    _head(page, 1, (("If the EMS is gone", "EMS が停止したとき"), ("Holds", "母線維持"), ("Tried: result", "試験結果"), ("Name, date", "氏名・日付")))
    row = 1
    for state in walk(loaded.site, loaded.profiles):
        row += 1
        _row(page, row, (state.sentence(), "yes 可" if state.dark_at_s is None else "NO 不可", "", ""))
    for told in followers(loaded.site, loaded.profiles):
        row += 1
        _row(page, row, (told, "", "", ""))
    widths = (110, 12, 24, 24)
    _heights(page, 2, widths)
    _paper(page, widths, 1)


def _device(page: Worksheet, asset: AnyAsset | Feeder, lines: Sequence[Line]) -> None:
    device = _device_of(asset)
    title = page.cell(1, 1)
    title.value, title.data_type, title.font = f"{asset.id}  {asset.kind}  {device.profile}  {device.url} unit {device.unit}", "s", Font(bold=True, size=13)
    _head(page, 3, [(en, ja) for en, ja, _ in HEADINGS])
    for row, line in enumerate(lines, 4):
        told = (line.asset, line.point, line.place, line.type, line.unit, line.scale, line.expected, line.read, line.quality, line.test)
        _row(page, row, (*told, "", "", "", ""))
    page.freeze_panes = "C4"
    widths = [width for _, _, width in HEADINGS]
    _heights(page, 4, widths)
    _paper(page, widths, 3)
