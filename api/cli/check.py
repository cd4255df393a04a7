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

UNITS = {
    "_kw_per_s": "kW/s", "_l_per_h": "L/h", "_l_per_kwh": "L/kWh", "_per_kwh": "per kWh", "_kg_per_l": "kg/L", "_per_l": "per L", "_per_h": "per h",
    "_t_per_mwh": "t/MWh", "_tj_per_gg": "TJ/Gg", "_t_per_tj": "t/TJ", "_kwh": "kWh", "_kva": "kVA", "_kw": "kW", "_m3s": "m3/s", "_m3": "m3",
    "_hz": "Hz", "_s": "s", "_l_start": "L", "_l": "L", "_m": "m", "_v": "V",
}  # fmt: skip
"""By the end of a field's name: the unit it is shown in; longer endings first."""


def register(app: typer.Typer) -> None:
    """Add `ems check`."""
    app.command("check", epilog=example("ems check site.yaml", "ems check site.yaml --probe --json"))(check)


def check(
    site: Path = typer.Argument(..., metavar="SITE.yaml", help="The site file."),
    probe: bool = typer.Option(False, "--probe", help="Read every point of every device once."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document: the resolved site."),
) -> None:
    """Validate a site file and its device profiles, and show the site with every default."""
    from ems.config.load import load_site

    loaded = load_site(site)
    rows = _probe(loaded) if probe else None
    resolved = loaded.site.model_dump(mode="json", by_alias=True)
    if as_json:
        document(resolved if rows is None else {**resolved, "probe": rows})
    else:
        sys.stdout.write("\n".join(lines(resolved)) + "\n")
        sys.stdout.writelines(f"{line}\n" for line in abilities(loaded))
        sys.stdout.writelines(f"{_probe_line(row)}\n" for row in rows or ())
        sys.stdout.write(verdict(str(site), resolved, rows) + "\n")
    if rows is not None and any(row["quality"] == "bad" for row in rows):
        raise typer.Exit(1)


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


def _probe_line(row: Mapping[str, object]) -> str:
    value = "no value" if row["value"] is None else f"{row['value']} {row['unit'] or ''}".rstrip()
    return f"probe  {row['asset']}.{row['point']}: {value}, {row['quality']}"


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
