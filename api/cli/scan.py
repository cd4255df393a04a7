"""`ems scan`: what is at an address, and a draft profile for it."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from api.cli.output import document, example
from api.duration import duration_s
from ems.errors import BadInput, Failed

if TYPE_CHECKING:
    from api.draft import Draft
    from ems.config.site import Security
    from simulator.dump import Dump, RegisterBlock


def register(app: typer.Typer) -> None:
    """Add `ems scan`."""
    shown = example(
        "ems scan tcp://10.0.0.11:502 --unit 1 --out pv.yaml",
        "ems scan opc.tcp://10.0.0.31:4840 --under Plant/hydro1 --kind hydro",
        "ems scan tcp://10.0.0.12:502 --unit 3 --registers input:1024-1040,discrete:16-21 --record dg2.json",
    )
    app.command("scan", epilog=shown)(scan)


def scan(
    url: str = typer.Argument(..., metavar="URL", help="tcp://HOST:PORT for SunSpec over Modbus TCP, opc.tcp://HOST:PORT for OPC UA."),
    unit: int = typer.Option(1, "--unit", metavar="N", min=0, max=255, help="Modbus unit id."),
    under: str | None = typer.Option(None, "--under", metavar="NODE", help="OPC UA: only below this node; its id, or its names as Plant/hydro1."),
    kind: str | None = typer.Option(None, "--kind", help="Kind of asset that the draft is for, as hydro; by default what the device tells."),
    timeout: str = typer.Option("2s", "--timeout", metavar="DURATION", help="Wait so long for each answer."),
    certificate: Path | None = typer.Option(None, "--certificate", help="OPC UA: our certificate; with --private-key and --trust the session is encrypted."),
    private_key: Path | None = typer.Option(None, "--private-key", help="OPC UA: the key of our certificate."),
    trust: Path | None = typer.Option(None, "--trust", metavar="DIR", help="OPC UA: folder of the server certificates that we trust."),
    out: Path | None = typer.Option(None, "--out", metavar="FILE", help="Write the draft here; a file that is there is never touched."),
    record: Path | None = typer.Option(
        None, "--record", metavar="FILE", help="Write what the device holds into this new file; ems simulate --dump ASSET=FILE serves it again."
    ),
    registers: str | None = typer.Option(
        None, "--registers", metavar="RANGES", help="Modbus without SunSpec: record these registers, as holding:0-99,input:1000-1040."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document: what was found, and the draft."),
) -> None:
    """Look what a device has to tell, and draft a profile for it. Nothing is written to the device.

    User and password of an OPC UA server come from EMS_OPCUA_USER and EMS_OPCUA_PASSWORD, and are sent over an encrypted session only.
    """
    if not re.fullmatch(r"(tcp|opc\.tcp)://[^/\s:@]+:\d{1,5}(/\S*)?", url):
        raise BadInput(f"{url!r} is no address that can be scanned", "URL", "tcp://HOST:PORT or opc.tcp://HOST:PORT")
    check_kind(kind)
    timeout_s = duration_s(timeout, "--timeout")
    told = look(url, unit, under, kind, security_of(certificate, private_key, trust), timeout_s, record, registers)
    draft = told.draft
    if out is not None:
        save(out, draft)
    if told.dump is not None and record is not None:
        from simulator.dump import write_dump

        write_dump(record, told.dump)
    if as_json:
        document({"url": url, **told.found, "draft": draft.text, "notes": list(draft.notes), "record": None if record is None else str(record)})
        return
    tail = [] if record is None else [f"what it holds is in {record}: ems simulate SITE.yaml --dump ASSET={record}"]
    tail += [f"the draft is in {out}"] if out is not None else ["", draft.text.rstrip()] if draft.text is not None else []
    sys.stdout.write("\n".join([*told.lines, *(f"note: {note}" for note in draft.notes), *tail]) + "\n")


@dataclass(frozen=True, slots=True)
class Told:
    """What a device told: the JSON document, the draft, the lines to show, and what it holds."""

    found: dict[str, Any]
    draft: Draft
    lines: list[str]
    dump: Dump | None = None


def look(
    url: str, unit: int, under: str | None, kind: str | None, security: Security | None, timeout_s: float, record: Path | None, registers: str | None
) -> Told:
    """Scan what stands at an address."""
    if record is not None and record.exists():
        raise BadInput("the file is there already and is left as it is", str(record), "a name that is free")
    if registers is None:
        recording = record is not None
        return sunspec(url, unit, kind, timeout_s, recording) if url.startswith("tcp://") else opcua(url, under, kind, security, timeout_s, recording)
    if not url.startswith("tcp://") or record is None:
        raise BadInput("registers are recorded from a Modbus device, into a file", "--registers", "a tcp:// address, and --record FILE")
    return raw(url, unit, registers, timeout_s)


def raw(url: str, unit: int, registers: str, timeout_s: float) -> Told:
    """Record registers of a Modbus unit that has no map of its own."""
    from api.draft import Draft
    from api.recording import asking, modbus_dump, ranges_of, registers_of
    from drivers.modbus import ModbusLink

    ranges, address = ranges_of(registers), urlsplit(url)
    link = ModbusLink(address.hostname or "", port_of(url), timeout_s)

    async def read() -> tuple[RegisterBlock, ...]:
        try:
            return await registers_of(asking(link, unit, timeout_s), ranges)
        finally:
            await link.close()

    dump = modbus_dump(url, unit, asyncio.run(read()), {})
    rows = [{"table": b.table, "address": b.address, "count": len(b.values())} for b in dump.registers]
    lines = [f"{url} unit {unit}: {sum(len(b.values()) for b in dump.registers)} registers"]
    lines += [f"  {b.table:8} {b.address:>5} to {b.address + len(b.values()) - 1}" for b in dump.registers]
    note = "registers do not tell what they mean: write the profile from the maker's list, after a pattern in configs/profiles"
    return Told({"protocol": "modbus", "unit": unit, "registers": rows}, Draft(None, (note,)), lines, dump)


def check_kind(kind: str | None) -> None:
    """Refuse a kind that there is not."""
    from ems.config.profile import TAKES

    if kind is not None and kind not in TAKES:
        raise BadInput(f"unknown kind {kind!r}", "--kind", " | ".join(TAKES))


def security_of(certificate: Path | None, private_key: Path | None, trust: Path | None) -> Security | None:
    """Return how the session is encrypted, or None for a plain one."""
    from ems.config.site import Security

    given = (certificate, private_key, trust)
    if all(path is None for path in given):
        return None
    for path in given:
        if path is None or not path.exists():
            raise BadInput(
                f"{path} is not there" if path is not None else "one of three is missing", "--certificate --private-key --trust", "all three, or none"
            )
    return Security(certificate=str(certificate), private_key=str(private_key), trust=str(trust))


def save(out: Path, draft: Draft) -> None:
    """Write the draft into a new file."""
    if draft.text is None:
        raise Failed("; ".join(draft.notes), str(out), "a device of which a profile can be drafted")
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(draft.text)
    except FileExistsError:
        raise BadInput("the file is there already and is left as it is", str(out), "a name that is free") from None
    except OSError as error:
        raise Failed(f"the file cannot be written: {error.strerror}", str(out), "a folder that can be written") from error


def sunspec(url: str, unit: int, kind: str | None, timeout_s: float, recording: bool) -> Told:
    """Scan one Modbus unit for SunSpec."""
    from api.draft import Draft, one_line
    from api.draft_sunspec import rows_of, sunspec_draft
    from api.recording import asking, map_ranges, modbus_dump, registers_of
    from drivers.modbus import ModbusLink

    address = urlsplit(url)
    link = ModbusLink(address.hostname or "", port_of(url), timeout_s)

    async def look() -> tuple[Any, Draft, dict[str, float | None], tuple[RegisterBlock, ...]]:
        from api.scan import scan_sunspec

        try:
            found = await scan_sunspec(link, unit, timeout_s)
            draft = sunspec_draft(found, kind)
            held = await registers_of(asking(link, unit, timeout_s), map_ranges(found)) if recording else ()
            try:
                return found, draft, {} if draft.text is None else await read_now(link, unit, timeout_s, draft.text), held
            except Failed as fault:
                return found, Draft(draft.text, (*draft.notes, f"the draft cannot be read yet: {fault}")), {}, held
        finally:
            await link.close()

    found, draft, values, held = asyncio.run(look())
    rows = rows_of(found)
    lines = [f"{url} unit {unit}: SunSpec map at {found.base}"]
    lines += [f"  {row['id']:>5}  {row['name']:32} {row['length']:>4} words at {row['address']}" for row in rows]
    lines += [f"{name:8} {one_line(text)}" for name, text in found.texts.items()]
    lines += [f"{name}: {'no value' if value is None else format(value, 'g')}" for name, value in values.items()]
    told = {"protocol": "sunspec", "unit": unit, "base": found.base, "device": found.texts, "models": rows, "values": values}
    return Told(told, draft, lines, modbus_dump(url, unit, held, found.texts) if recording else None)


async def read_now(link: Any, unit: int, timeout_s: float, text: str) -> dict[str, float | None]:
    """Read the points of a draft once, with the driver that will read them later."""
    from ruamel.yaml import YAML

    from drivers.sunspec import SunSpecDriver
    from ems.config.profile import Profile

    profile = Profile.model_validate(YAML(typ="safe", pure=True).load(text))
    readings = await SunSpecDriver("scan", profile, unit, link, timeout_s, {}).read()
    return {name: reading.value for name, reading in readings.items()}


def opcua(url: str, under: str | None, kind: str | None, security: Security | None, timeout_s: float, recording: bool) -> Told:
    """Scan an OPC UA server."""
    from api.draft import Draft, one_line, opcua_draft, value_text
    from api.recording import opcua_dump
    from api.scan import scan_opcua

    port_of(url)
    found, cut = asyncio.run(scan_opcua(url, under, security, timeout_s))
    if not found:
        raise Failed("the server's tree has no variables there", f"{url} {under or ''}".strip(), "another --under")
    draft = opcua_draft(found, kind)
    if cut:
        draft = Draft(draft.text, ("the tree is larger than what was looked at; narrow it with --under", *draft.notes))
    rows = [{**asdict(node), "path": "/".join(node.path)} for node in found]
    lines = [f"{url}: {len(found)} variables"]
    lines += [f"  {n.node:40} {one_line('/'.join(n.path)):32} {n.type:8} {value_text(n)}{'  writable' if n.writable else ''}" for n in found]
    return Told({"protocol": "opcua", "nodes": rows}, draft, lines, opcua_dump(url, found) if recording else None)


def port_of(url: str) -> int:
    """Return the port of an address; one beyond the last is refused."""
    try:
        port = urlsplit(url).port
    except ValueError:
        port = None
    if not port:
        raise BadInput(f"{url!r} has no port that there is", "URL", "a port from 1 to 65535")
    return port
