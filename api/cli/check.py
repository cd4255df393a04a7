"""`ems check`: is a site file right, and what does it mean with every default resolved."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from api.cli.output import document, example

if TYPE_CHECKING:
    from ems.config.load import LoadedSite
    from ems.config.silence import Aftermath

UNITS = {
    "_kw_per_s": "kW/s", "_l_per_h": "L/h", "_l_per_kwh": "L/kWh", "_per_kwh": "per kWh", "_kg_per_l": "kg/L", "_per_l": "per L", "_per_h": "per h",
    "_t_per_mwh": "t/MWh", "_tj_per_gg": "TJ/Gg", "_t_per_tj": "t/TJ", "_kwh": "kWh", "_kva": "kVA", "_kw": "kW", "_m3s": "m3/s", "_m3": "m3",
    "_hz": "Hz", "_s": "s", "_l_start": "L", "_l": "L", "_m": "m", "_v": "V",
}  # fmt: skip
"""By the end of a field's name: the unit it is shown in; longer endings first."""


def register(app: typer.Typer) -> None:
    """Add `ems check`."""
    app.command("check", epilog=example("ems check site.yaml", "ems check site.yaml --probe --json", "ems check site.yaml --probe --sheet commissioning.xlsx"))(
        check
    )


def check(
    site: Path = typer.Argument(..., metavar="SITE.yaml", help="The site file."),
    probe: bool = typer.Option(False, "--probe", help="Read every point of every device once."),
    sheet: Path | None = typer.Option(None, "--sheet", metavar="FILE.xlsx", help="Write the commissioning sheet: every point, its test, a place to sign."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document: the resolved site."),
) -> None:
    """Validate a site file and its device profiles, and show the site with every default, and what happens when the EMS is gone."""
    from ems.config.load import load_site
    from ems.config.silence import followers, walk

    loaded = load_site(site)
    _refuse_unknown(loaded)
    rows = _probe(loaded) if probe else None
    written = None if sheet is None else _sheet(sheet, loaded, rows)
    resolved = loaded.site.model_dump(mode="json", by_alias=True)
    states, others = walk(loaded.site, loaded.profiles), followers(loaded.site, loaded.profiles)
    if as_json:
        gone = {"states": [state.document() for state in states], "followers": others}
        more = {} if rows is None else {"probe": rows}
        document({**resolved, "if_ems_gone": gone, **more, **({} if written is None else {"sheet": {"file": str(sheet), "lines": written}})})
    else:
        sys.stdout.write("\n".join(lines(resolved)) + "\n")
        sys.stdout.writelines(f"{line}\n" for line in abilities(loaded))
        sys.stdout.writelines(f"{line}\n" for line in (*gone_lines(states, others), *probe_lines(rows or ())))
        sys.stdout.write(f"{sheet}: {written} lines to try and to sign\n" if written is not None else "")
        sys.stdout.write(verdict(str(site), resolved, rows) + "\n")
    if rows is not None and any(row["quality"] == "bad" for row in rows):
        raise typer.Exit(1)


def _refuse_unknown(loaded: LoadedSite) -> None:
    """Refuse here and not at the site what a protocol does not know; a driver that is made connects to nobody."""
    equipment = [asset for asset in map(loaded.site.asset, loaded.profiles) if asset.device is not None]
    if not equipment:
        return
    from api.assembly import open_drivers
    from drivers.sunspec_map import mistakes
    from ems.config.yaml import read_yaml

    for asset in equipment:
        profile = loaded.profiles[asset.id]
        wrong = next(mistakes(profile), None) if profile.protocol == "sunspec" else None
        if wrong is not None and asset.device is not None and asset.device.profile.endswith(".yaml"):
            path, error = wrong
            raise read_yaml(loaded.path.parent / asset.device.profile).bad(path, error.error, error.expected)
    open_drivers(loaded)


def _sheet(path: Path, loaded: LoadedSite, rows: Sequence[Mapping[str, Any]] | None) -> int:
    from api.sheet import write_sheet

    return write_sheet(path, loaded, rows)


def gone_lines(states: Sequence[Aftermath], others: Sequence[str]) -> list[str]:
    """Return what becomes of the busbar without us: each sole former, and of several together only where it goes dark."""
    told = [state.sentence() for state in states if len(state.formers) == 1 or state.dark_at_s is not None]
    held = len(states) - len(told)
    more = [f"the busbar is held from all {held} states with more formers"] if held else []
    return [*told, *more, *(f"if the EMS is gone {other}" for other in others)]


def verdict(path: str, resolved: Mapping[str, Any], rows: Sequence[Mapping[str, object]] | None = None) -> str:
    """Return the last line: the file is valid, what the probe could not read, and what is missing to run it."""
    bare = sum(asset["device"] is None for asset in resolved["assets"])
    bad = sum(row["quality"] == "bad" for row in rows or ())
    unread = f"; {bad} of {len(rows or ())} points could not be read" if bad else ""
    have = "1 asset has" if bare == 1 else f"{bare} assets have"
    missing = f"; {have} no device: ems simulate {path}, or give each a device" if bare else ""
    return f"{path} is valid{unread}{missing}"


def _probe(loaded: LoadedSite) -> list[dict[str, object]]:
    from api.probe import probe_points

    rows: list[dict[str, object]] = probe_points(loaded)
    return rows


COLUMNS = ("point", "value", "unit", "quality", "age", "on silence")


def probe_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what was read as a table: value, unit, quality, age, and what the device does on silence."""
    if not rows:
        return []
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    value = row["value"]
    text = row.get("text")
    shown = (text["en"] if text else "no value") if value is None else f"{value:.6g}" + (f" ({text['en']})" if text else "")
    silence = row.get("on_silence")
    preset = "" if silence is None or silence["value"] is None else f" {silence['value']:g}"
    told = "not declared" if silence is None else f"{silence['does']}{preset} after {silence['after_s']:g} s"
    age = row.get("age_s")
    cause = f"bad: {row['cause']}" if row.get("cause") else str(row["quality"])
    return (f"{row['asset']}.{row['point']}", shown, row["unit"] or "", cause, "" if age is None else f"{age:.2f} s", told)


def abilities(loaded: LoadedSite) -> Iterator[str]:
    """Give one line for each device: what its profile says that it can do."""
    from ems.config.checks import devices
    from ems.config.profile_checks import CAPABILITIES, capabilities

    for _, asset in devices(loaded.site):
        if asset.device is not None:
            yield f"{asset.id}  device: {', '.join(CAPABILITIES[name] for name in capabilities(loaded.profiles[asset.id]))}"


def lines(resolved: Mapping[str, Any]) -> Iterator[str]:
    """Give the resolved site as text, one line for each section and each asset, with units."""
    for section, content in resolved.items():
        if section != "assets" and content is not None:
            yield f"{section}: {_fields(content)}"
    for asset in resolved.get("assets", ()):
        rest = {k: v for k, v in asset.items() if k not in ("id", "kind", "device", "feeders")}
        yield f"{asset['id']}  {asset['kind']}: {_fields(rest)}{_device(asset)}"
        for feeder in asset.get("feeders", ()):
            yield f"  {feeder['id']}  feeder: priority {feeder['priority']}, share {_value('share', feeder['share'])}{_device(feeder)}"


def _device(asset: Mapping[str, Any]) -> str:
    device = asset["device"]
    return "; simulated only" if device is None else f"; {device['profile']} at {device['url']} unit {device['unit']}"


def _fields(content: Mapping[str, Any]) -> str:
    return ", ".join(f"{_label(k)} {_value(k, v)}" for k, v in content.items() if v is not None and v != [])


def _label(name: str) -> str:
    return name.removesuffix(_ending(name)).replace("_", " ")


def _ending(name: str) -> str:
    return next((end for end in UNITS if name.endswith(end)), "")


def _value(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + _fields(value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value("", v) for v in value) + "]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:.10g} {UNITS.get(_ending(name), '')}".rstrip()
    return str(value)
