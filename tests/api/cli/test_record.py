"""A device recorded at the site and served again in the office: the same values, through the same profile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from api.assembly import open_drivers
from api.cli.main import run
from api.cli.simulate import dumps_of
from api.recording import ranges_of, registers_of
from ems.config.load import LoadedSite, load_site
from ems.errors import BadInput
from simulator.as_simulated import write_as_simulated
from simulator.dump import Dump, read_dump
from simulator.plant import Conditions, Plant
from simulator.servers import PlantServers

SITE = """\
site: {id: isle}
assets:
  - {id: town, kind: load, peak_kw: 400}
  - {id: pv1, kind: solar, rated_kw: 900, device: {profile: sunspec-inverter, url: "tcp://10.0.0.1:502", unit: 7}}
  - {id: dg1, kind: diesel, rated_kw: 300, device: {profile: genset-controller, url: "tcp://10.0.0.2:502", unit: 3}}
  - {id: hydro1, kind: hydro, rated_kw: 60, device: {profile: generic-hydro, url: "opc.tcp://127.0.0.1:4840"}}
"""
Read = pytest.CaptureFixture[str]
OUTSIDE = Conditions({"town": 150.0}, {"pv1": 120.0}, {"hydro1": 0.3})


async def ems(*arguments: str) -> int:
    return await asyncio.to_thread(run, arguments)


def site_in(folder: Path, without: str = "nothing") -> LoadedSite:
    (folder / "site.yaml").write_text("".join(line for line in SITE.splitlines(keepends=True) if without not in line), "utf-8")
    return load_site(folder / "site.yaml")


@asynccontextmanager
async def served(loaded: LoadedSite, folder: Path, conditions: Conditions, dumps: Mapping[str, Dump]) -> AsyncIterator[PlantServers]:
    """Serve a site, and write where to `as-simulated.yaml`."""
    servers = PlantServers(loaded, Plant(loaded.site), dumps=dumps)
    try:
        await servers.start(conditions)
        write_as_simulated(loaded, folder / "as-simulated.yaml", servers.addresses)
        yield servers
    finally:
        await servers.stop()


async def probed(folder: Path, capsys: Read) -> dict[tuple[str, str], Any]:
    capsys.readouterr()
    await ems("check", str(folder / "as-simulated.yaml"), "--probe", "--json")
    return {(r["asset"], r["point"]): r["value"] for r in json.loads(capsys.readouterr().out)["probe"]}


async def test_what_was_recorded_at_the_site_is_read_in_the_office(tmp_path: Path, capsys: Read) -> None:
    loaded = site_in(tmp_path)
    files = {asset: tmp_path / f"{asset}.json" for asset in ("pv1", "dg1", "hydro1")}
    async with served(loaded, tmp_path, OUTSIDE, {}) as site:
        at = site.addresses
        assert await ems("scan", at["pv1"].url, "--unit", "7", "--record", str(files["pv1"])) == 0
        assert f"--dump ASSET={files['pv1']}" in capsys.readouterr().out
        ranges = "input:1000-1100,discrete:0-40,holding:4100-4110"
        assert await ems("scan", at["dg1"].url, "--unit", "3", "--registers", ranges, "--record", str(files["dg1"]), "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["protocol"], told["draft"], told["record"]) == ("modbus", None, str(files["dg1"]))
        assert {(r["table"], r["address"], r["count"]) for r in told["registers"]} >= {
            ("input", 1024, 10),
            ("input", 1040, 1),
            ("holding", 4104, 1),
            ("holding", 4110, 1),
        }
        assert await ems("scan", at["hydro1"].url, "--under", "hydro1", "--kind", "hydro", "--record", str(files["hydro1"])) == 0
        there = await probed(tmp_path, capsys)
        assert await ems("scan", at["pv1"].url, "--unit", "7", "--record", str(files["pv1"])) == 2  # never overwritten

    dumps = dumps_of(loaded, [f"{asset}={file}" for asset, file in files.items()])
    night = Conditions({"town": 20.0}, {"pv1": 0.0}, {"hydro1": 0.0})
    async with served(loaded, tmp_path, night, dumps) as office:
        here = await probed(tmp_path, capsys)
        assert {k: v for k, v in here.items() if k[0] in files} == {k: v for k, v in there.items() if k[0] in files}
        assert here["pv1", "power_kw"] == pytest.approx(120.0, abs=0.1)
        assert there["town", "power_kw"] != here["town", "power_kw"]  # what is no dump is the plant
        again = tmp_path / "again.json"
        assert await ems("scan", office.addresses["pv1"].url, "--unit", "7", "--record", str(again)) == 0
    assert read_dump(again).registers == read_dump(files["pv1"]).registers
    assert read_dump(files["pv1"]).device["serial"] == "pv1"


async def test_a_dump_takes_what_is_written_and_stands_still(tmp_path: Path, capsys: Read) -> None:
    """A limit is written, and read back by the driver as it was written; what the dump shows as power does not move."""
    loaded = site_in(tmp_path, without="hydro1")  # an OPC UA server takes seconds to build
    async with served(loaded, tmp_path, OUTSIDE, {}) as site:
        file = tmp_path / "pv1.json"
        assert await ems("scan", site.addresses["pv1"].url, "--unit", "7", "--record", str(file)) == 0
    async with served(loaded, tmp_path, OUTSIDE, {"pv1": read_dump(file)}) as office:
        driver = open_drivers(load_site(tmp_path / "as-simulated.yaml"))["pv1"]
        await driver.connect()
        result = await driver.write("limit_kw", 90.0)
        assert (result.ok, result.read_back) == (True, pytest.approx(90.0))
        await office.publish(Conditions({"town": 150.0}, {"pv1": 5.0}, {"hydro1": 0.3}))
        assert (await driver.read())["power_kw"].value == pytest.approx(120.0, abs=0.1)
        await driver.close()


async def test_a_device_that_refuses_a_block_is_asked_register_by_register() -> None:
    """It has all of 60 but one, and refuses every request that touches that one: 59 in a dozen requests."""
    there, asked = {*range(60)} - {33}, []

    async def ask(table: str, address: int, count: int) -> list[int] | None:
        asked.append((address, count))
        wanted = range(address, address + count)
        return [1000 + a for a in wanted] if set(wanted) <= there else None

    blocks = await registers_of(ask, ranges_of("holding:0-59"))
    assert [(b.address, b.values()) for b in blocks] == [(0, {a: 1000 + a for a in range(33)}), (34, {a: 1000 + a for a in range(34, 60)})]
    assert len(asked) < 14


GOOD = {"format": 1, "protocol": "modbus", "url": "tcp://10.0.0.1:502", "recorded_at": "2026-01-01T00:00:00Z"}
BLOCK = {"table": "holding", "address": 10, "words": "0001 ffff"}
NODE = {"node": "ns=2;s=x", "path": ["x"], "type": "Double", "value": 1.5}


@pytest.mark.parametrize(
    ("dump", "told"),
    [
        ({**GOOD, "registers": [{**BLOCK, "words": "0001 fff"}]}, "registers[0].words"),
        ({**GOOD, "registers": [{**BLOCK, "words": "0001  ffff"}]}, "registers[0].words"),
        ({**GOOD, "registers": [{**BLOCK, "words": ""}]}, "registers[0].words"),
        ({**GOOD, "registers": [{**BLOCK, "address": 65535}]}, "registers[0].address"),
        ({**GOOD, "registers": [BLOCK, {**BLOCK, "address": 11}]}, "registers[1]"),
        ({**GOOD, "registers": [{**BLOCK, "table": "coils"}]}, "registers[0].table"),
        ({**GOOD, "registers": []}, "registers"),
        ({**GOOD, "format": 2, "registers": [BLOCK]}, "format"),
        ({**GOOD, "sum": 1, "registers": [BLOCK]}, "sum"),
        ({**GOOD, "protocol": "opcua", "nodes": [{**NODE, "value": "x"}]}, "nodes[0].value"),
        ({**GOOD, "protocol": "opcua", "nodes": [{**NODE, "type": "Byte", "value": 300}]}, "nodes[0].value"),
        ({**GOOD, "protocol": "opcua", "nodes": [{**NODE, "type": "Boolean"}]}, "nodes[0].value"),
        ({**GOOD, "protocol": "opcua", "nodes": [NODE]}, "is a dump of opcua"),
        ([1], "the file is not a mapping"),
        ("", "not a mapping"),
    ],
)
def test_a_broken_dump_is_one_line(dump: object, told: str, tmp_path: Path, capsys: Read) -> None:
    site_in(tmp_path)
    file = tmp_path / "pv1.json"
    file.write_text(json.dumps(dump), "utf-8")
    assert run(["simulate", str(tmp_path / "site.yaml"), "--dump", f"pv1={file}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert told in err and str(file) in err


@pytest.mark.parametrize("given", [["pv1"], ["pv1="], ["pv9=x.json"], ["pv1=no-such.json"], ["pv1=a.json", "pv1=a.json"], ["=a.json"]])
def test_a_wrong_dump_option_is_bad_input(given: list[str], tmp_path: Path, capsys: Read) -> None:
    loaded = site_in(tmp_path)
    good = tmp_path / "a.json"
    good.write_text(json.dumps({**GOOD, "registers": [BLOCK]}), "utf-8")
    with pytest.raises(BadInput):
        dumps_of(loaded, [g.replace("a.json", str(good)) for g in given])


@pytest.mark.parametrize("ranges", ["", "holding", "holding:5-3", "holding:0-65536", "coils:0-3", "holding:0-9;input:1", "holding:0-65535"])
def test_wrong_ranges_are_bad_input(ranges: str, tmp_path: Path, capsys: Read) -> None:
    assert run(["scan", "tcp://127.0.0.1:1", "--registers", ranges, "--record", str(tmp_path / "x.json"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["where"] == "--registers"


@pytest.mark.parametrize("options", [["--registers", "holding:0-9"], ["--record", "."]])
def test_what_does_not_go_together_is_bad_input(options: list[str], capsys: Read) -> None:
    assert run(["scan", "tcp://127.0.0.1:1", *options]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
