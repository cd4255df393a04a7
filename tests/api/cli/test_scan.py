"""`ems scan` against devices with known maps: what is listed, what is drafted, and what a dead address says."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.server.server import Server
from cryptography.x509.oid import ExtendedKeyUsageOID

from api.cli.main import run
from api.draft import named, opcua_draft, slug
from api.draft_sunspec import readable, sunspec_draft
from api.scan import FoundModel, FoundNode, SunSpecMap
from drivers.modbus import ModbusLink
from drivers.sunspec import SunSpecDriver
from ems.config.load import load_profile, load_site
from ems.config.profile import Profile
from simulator.plant import Conditions, Plant
from simulator.registers import Unit, serve
from simulator.servers import PlantServers

SITE = """\
site: {id: isle}
assets:
  - {id: town, kind: load, peak_kw: 400, device: {profile: generic-load, url: "tcp://10.0.0.11:502", unit: 8}}
  - {id: pv1, kind: solar, rated_kw: 900, device: {profile: sunspec-inverter, url: "tcp://10.0.0.11:502", unit: 7}}
  - {id: dg1, kind: diesel, rated_kw: 600, device: {profile: generic-diesel, url: "tcp://10.0.0.11:502", unit: 9}}
"""
Read = pytest.CaptureFixture[str]


async def ems(*arguments: str) -> int:
    """Run a command as a person would, beside the servers of this test."""
    return await asyncio.to_thread(run, arguments)


def profile_of(text: str, folder: Path) -> Profile:
    path = folder / "draft.yaml"
    path.write_text(text, "utf-8")
    return load_profile(path)


# ------------------------------------------------------------------ SunSpec
@asynccontextmanager
async def plant(folder: Path) -> AsyncIterator[str]:
    (folder / "site.yaml").write_text(SITE, "utf-8")
    loaded = load_site(folder / "site.yaml")
    servers = PlantServers(loaded, Plant(loaded.site))
    try:
        await servers.start(Conditions({"town": 250.0}, {"pv1": 120.0}, {}))
        yield servers.addresses["pv1"].url
    finally:
        await servers.stop()


async def test_the_simulated_pv(tmp_path: Path, capsys: Read):
    async with plant(tmp_path) as url:
        assert await ems("scan", url, "--unit", "7", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["base"], told["unit"], told["url"]) == (40000, 7, url)
        assert told["device"] == {"maker": "Shima", "model": "simulated", "version": "1", "serial": "pv1"}
        # the marker takes two words, each header two: 40002 + 2 + 66 = 40070, + 2 + 50 = 40122
        assert [(m["id"], m["name"], m["length"], m["address"]) for m in told["models"]] == [
            (1, "common", 66, 40002),
            (103, "inverter, three phases", 50, 40070),
            (123, "immediate controls", 24, 40122),
        ]
        assert told["values"]["power_kw"] == pytest.approx(120.0, abs=0.5)
        drafted = profile_of(told["draft"], tmp_path)
        assert (drafted.kind, drafted.protocol, drafted.models) == ("solar", "sunspec", (1, 103, 123))
        assert drafted.commands["limit_kw"].enable == "123.WMaxLim_Ena"

        assert await ems("scan", url, "--unit", "7", "--out", str(tmp_path / "pv.yaml")) == 0
        out = capsys.readouterr().out
        assert "  103  inverter, three phases" in out
        assert "serial   pv1" in out
        assert load_profile(tmp_path / "pv.yaml") == drafted
        assert await ems("scan", url, "--unit", "7", "--out", str(tmp_path / "pv.yaml")) == 2  # never overwritten


async def test_devices_without_a_map_and_units_that_nobody_has(tmp_path: Path, capsys: Read):
    async with plant(tmp_path) as url:
        assert await ems("scan", url, "--unit", "9") == 1
        assert "unit 9 answers, but shows no SunSpec map at 40000, 50000, 0" in capsys.readouterr().err
        assert await ems("scan", url, "--unit", "99", "--json") == 1
        assert "no answer behind the gateway" in json.loads(capsys.readouterr().out)["error"]


@asynccontextmanager
async def mapped(words: Mapping[int, Sequence[int]]) -> AsyncIterator[str]:
    """Serve unit 1 with these holding registers."""
    unit = Unit({"holding": {a + k for a, some in words.items() for k in range(len(some))}}, set(), 0)
    for address, some in words.items():
        unit.put("holding", address, some)
    server, port = await serve({1: unit}, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        await server.shutdown()


async def test_a_chain_at_another_base_with_a_strange_model(tmp_path: Path, capsys: Read):
    """A meter at 50000: common with 66 words, meter 203 with 105, then model 64001 and the end."""
    words = [0x5375, 0x6E53, 1, 66, *[0] * 66, 203, 105, *[0] * 105, 64001, 3, 7, 7, 7, 0xFFFF, 0]
    async with mapped({50000: words}) as url:
        assert await ems("scan", url, "--json") == 0
        told = json.loads(capsys.readouterr().out)
    assert told["base"] == 50000
    assert [(m["id"], m["name"], m["address"], m["readable"]) for m in told["models"]] == [
        (1, "common", 50002, True),
        (203, "meter, three phases, wye", 50070, True),
        (64001, "vendor's own", 50177, False),
    ]
    drafted = profile_of(told["draft"], tmp_path)
    assert (drafted.kind, drafted.base, drafted.models, drafted.commands) == ("meter", 50000, (1, 203), {})
    assert "64001" in told["notes"][0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([0x5375, 0x6E53, 1, 66, *[0] * 66], "refused with exception 2"),  # the map ends without an end
        ([0x5375, 0x6E53, 120, 0, 0, 0], "the chain of models does not end"),
    ],
)
async def test_a_broken_chain_is_one_line(words: list[int], told: str, capsys: Read):
    async with mapped({0: words}) as url:
        assert await ems("scan", url) == 1
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("scheme", ["tcp", "opc.tcp"])
def test_nobody_there_is_one_line(scheme: str, capsys: Read):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening
        url = f"{scheme}://127.0.0.1:{taken.getsockname()[1]}"
        assert run(["scan", url, "--timeout", "1s"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert url in err
    assert len(err.splitlines()) == 1


async def test_a_device_that_says_nothing_is_given_up(capsys: Read):
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    door = await asyncio.start_server(swallow, "127.0.0.1", 0)
    assert await ems("scan", f"tcp://127.0.0.1:{door.sockets[0].getsockname()[1]}", "--timeout", "0.2s") == 1
    assert "no answer in time" in capsys.readouterr().err
    door.close()


@pytest.mark.parametrize(
    "arguments",
    [["10.0.0.1:502"], ["mqtt://10.0.0.1:1883"], ["tcp://10.0.0.1"], ["tcp://10.0.0.1:0"], ["tcp://10.0.0.1:70000"], ["tcp://u:p@10.0.0.1:502"]]
    + [["tcp://10.0.0.1:502", *more] for more in (["--unit", "256"], ["--kind", "wind"], ["--timeout", "2"])]
    + [["opc.tcp://10.0.0.1:4840", "--certificate", "no-such.der"]],
)  # fmt: skip
def test_bad_input(arguments: list[str]):
    assert run(["scan", *arguments]) == 2


# ------------------------------------------------------------------ drafts
def chain(*models: tuple[int, int]) -> SunSpecMap:
    return SunSpecMap(40000, tuple(FoundModel(number, length, 0) for number, length in models), {"maker": "ACME\n# x", "model": 'PV "9"'})


@pytest.mark.parametrize(
    ("models", "kind", "drafted", "used", "commands", "some"),
    [
        ([(1, 66), (103, 50)], None, "solar", (1, 103), set(), {"power_kw": "103.W"}),
        ([(1, 66), (103, 50), (122, 44), (123, 24)], None, "solar", (1, 103, 123), {"limit_kw"}, {"state": "103.St"}),
        ([(1, 65), (64001, 9), (101, 50), (123, 24)], None, "solar", (1, 101, 123), {"limit_kw"}, {"power_kw": "101.W"}),
        ([(1, 66), (103, 51), (701, 153), (704, 65)], None, "solar", (1, 701, 704), {"limit_kw"}, {"power_kw": "701.W"}),
        ([(1, 66), (103, 50), (160, 48)], None, "solar", (1, 103, 160), set(), {"string_1_kw": "160.DCW_1", "string_2_kw": "160.DCW_2"}),
        ([(1, 66), (201, 105)], None, "meter", (1, 201), set(), {"energy_export_kwh": "201.TotWhExp"}),
        ([(1, 66), (103, 50), (123, 24), (124, 24)], None, "inverter", (1, 103, 123, 124), {"power_kw", "running"}, {"power_kw": "103.W"}),
        ([(1, 66), (103, 50), (123, 24), (124, 24)], "battery", "battery", (1, 124), set(), {"soc": "124.ChaState"}),
        ([(1, 66), (701, 153), (703, 17), (704, 65), (713, 7)], None, "inverter", (1, 701, 703, 704), {"power_kw", "running"}, {"power_kw": "701.W"}),
        ([(1, 66), (713, 7), (802, 62)], None, "battery", (1, 713, 802), set(), {"soc": "802.SoC", "available_kwh": "713.WHAvail"}),
        ([(1, 66), (103, 50), (103, 50)], None, "solar", (1, 103), set(), {}),
        ([(1, 66), (204, 105)], "load", "load", (1, 204), set(), {"power_kw": "204.W"}),  # the meter in the main feeder
    ],
)  # fmt: skip
def test_what_can_be_drafted_from_a_chain(
    models: list[tuple[int, int]], kind: str | None, drafted: str, used: tuple[int, ...], commands: set[str], some: dict[str, str], tmp_path: Path
):
    draft = sunspec_draft(chain(*models), kind)
    assert draft.text is not None
    profile = profile_of(draft.text, tmp_path)
    assert (profile.profile, profile.kind, profile.models, set(profile.commands)) == ("acme-x-pv-9", drafted, used, commands)
    assert {name: profile.points[name].point for name in some} == some
    SunSpecDriver("x", profile, 1, ModbusLink("127.0.0.1", 1, 1.0), 1.0, {"rated_kw": 1.0})  # every reference is one that the driver knows


@pytest.mark.parametrize(
    ("models", "kind", "told"),
    [
        ([(1, 66), (120, 26)], None, "none of the models 1, 120 makes a device"),
        ([(103, 51)], None, "none of the models (none) makes a device"),
        ([(1, 66), (103, 50)], "battery", "a battery needs one of the models 124, 713, 802"),
        ([(1, 66), (103, 50)], "diesel", "none of the models 1, 103 makes a diesel"),
    ],
)
def test_what_cannot_be_drafted_says_why(models: list[tuple[int, int]], kind: str | None, told: str):
    draft = sunspec_draft(chain(*models), kind)
    assert draft.text is None
    assert told in draft.notes[-1]


def test_models_that_are_not_known_are_named():
    found = chain((1, 66), (103, 52), (64001, 3), (203, 105))
    assert readable(found.models) == (1, 203)
    assert [note[:24] for note in sunspec_draft(found, None).notes[:2]] == ["model 103 of length 52 i", "model 64001 of length 3 "]


def node(path: str, kind: str = "Double", value: Any = 1.0, writable: bool = False, unit: str | None = None) -> FoundNode:
    return FoundNode(f"ns=2;s={path}", tuple(path.split("/")), kind, value, writable, unit)


def test_names_are_as_short_as_they_can_be():
    nodes = [node("P/h1/Power"), node("P/h2/Power"), node("P/h2/Level"), node("P/h2/Wasser Stand"), node("電力"), node("電流")]
    assert list(named(nodes)) == ["h1_power", "h2_power", "level", "wasser_stand", "point", "point_"]
    assert [slug(t) for t in ("ActivePower", "active power [kW]", "SoC", "L1")] == ["active_power", "active_power_k_w", "so_c", "l1"]


def test_a_tree_becomes_points_and_commands(tmp_path: Path):
    nodes = [
        node("h/power_kw", unit="W"),
        node("h/level_m", "Float", 1.5),
        node("h/soc", value=55.0),
        node("h/true", "Boolean", True),
        node("h/name", "String", "x"),
        node("h/list", "Double array", None),
        node("h/2nd", "Int16", 3),
        node("h/command power_kw", writable=True, unit="m"),
        node("h/command running", "Boolean", True, writable=True),
        node("h/other", writable=True),
    ]
    hydro = opcua_draft(nodes, "hydro")
    assert hydro.text is not None
    drafted = profile_of(hydro.text, tmp_path)
    assert {n: p.unit for n, p in drafted.points.items()} == {"power_kw": "W", "level_m": "m", "soc": "pct", "true": None, "2nd": None}
    assert {n: c.unit for n, c in drafted.commands.items()} == {"power_kw": "kW", "running": None}  # metres are no power: the name decides
    assert '#  other: {node: "ns=2;s=h/other"' in hydro.text

    unknown = opcua_draft(nodes, None)
    assert unknown.text is not None
    drafted = profile_of(unknown.text, tmp_path)
    assert (drafted.kind, drafted.commands) == ("meter", {})
    assert {"other", "command_running"} <= drafted.points.keys()
    assert opcua_draft([node("h/name", "String", "x")], None).text is None


# ------------------------------------------------------------------ OPC UA
async def turbine(server: Server) -> Server:
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    await server.register_namespace("urn:test")
    folder = await (await server.nodes.objects.add_folder(2, "Plant")).add_folder(2, "hydro1")
    power = await folder.add_variable(ua.NodeId.from_string("ns=2;s=H.Power"), "2:power_kw", 120.5, ua.VariantType.Double)
    unit = ua.EUInformation(NamespaceUri="urn:units", UnitId=0, DisplayName=ua.LocalizedText("kW"), Description=ua.LocalizedText("kilowatt"))
    await power.add_property(2, "EngineeringUnits", unit)
    await folder.add_variable(ua.NodeId.from_string("ns=2;s=H.Level"), "2:level_m", 1.25, ua.VariantType.Float)
    run_node = await folder.add_variable(ua.NodeId.from_string("ns=2;s=H.Run"), "2:running", False, ua.VariantType.Boolean)
    await run_node.set_writable()
    await server.nodes.objects.add_variable(ua.NodeId.from_string("ns=2;s=Clock"), "2:clock", [1, 2], ua.VariantType.Int32)
    return server


@pytest_asyncio.fixture
async def address() -> AsyncIterator[str]:
    server = await turbine(Server())
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.start()
    assert server.bserver is not None
    yield f"opc.tcp://127.0.0.1:{server.bserver.port}"
    await server.stop()


async def test_the_tree_of_a_server(address: str, tmp_path: Path, capsys: Read):
    assert await ems("scan", address, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    found = {n["path"]: (n["node"], n["type"], n["value"], n["writable"], n["unit"]) for n in told["nodes"]}
    assert found == {
        "Plant/hydro1/power_kw": ("ns=2;s=H.Power", "Double", 120.5, False, "kW"),
        "Plant/hydro1/level_m": ("ns=2;s=H.Level", "Float", 1.25, False, None),
        "Plant/hydro1/running": ("ns=2;s=H.Run", "Boolean", False, True, None),
        "clock": ("ns=2;s=Clock", "Int32 array", None, False, None),
    }
    assert profile_of(told["draft"], tmp_path).kind == "meter"

    assert await ems("scan", address, "--under", "Plant/hydro1", "--kind", "hydro") == 0
    out = capsys.readouterr().out
    assert "ns=2;s=H.Power" in out
    assert "clock" not in out
    drafted = profile_of(out[out.index("# Drafted") :], tmp_path)
    assert (set(drafted.points), set(drafted.commands)) == ({"power_kw", "level_m"}, {"running"})

    assert await ems("scan", address, "--under", "Plant/hydro9") == 2
    assert "hydro1" in capsys.readouterr().err


async def test_an_encrypted_server(tmp_path: Path, capsys: Read):
    files = {}
    for name, usage in (("server", ExtendedKeyUsageOID.SERVER_AUTH), ("ems", ExtendedKeyUsageOID.CLIENT_AUTH)):
        files[name] = (tmp_path / f"{name}.key.pem", tmp_path / name / f"{name}.der")
        files[name][1].parent.mkdir()
        await setup_self_signed_certificate(*files[name], f"urn:test:{name}", "localhost", [usage], {"organizationName": "test"})
    server = await turbine(Server())
    await server.set_application_uri("urn:test:server")
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    await server.load_certificate(files["server"][1])
    await server.load_private_key(files["server"][0])
    await server.start()
    assert server.bserver is not None
    address = f"opc.tcp://127.0.0.1:{server.bserver.port}"
    own = ["--private-key", str(files["ems"][0]), "--certificate", str(files["ems"][1])]
    try:
        assert await ems("scan", address) == 1  # it does not talk in plain
        capsys.readouterr()
        assert await ems("scan", address, *own, "--trust", str(files["ems"][1].parent)) == 1  # a stranger to us
        capsys.readouterr()
        assert await ems("scan", address, *own, "--trust", str(files["server"][1].parent), "--json") == 0
        assert len(json.loads(capsys.readouterr().out)["nodes"]) == 4
    finally:
        await server.stop()


def test_a_maker_s_names_become_ours_where_they_are_clear(tmp_path: Path):
    nodes = [
        node("T1/ActivePower", value=120.5),
        node("T1/Water-Level", "Float", 1.2),
        node("T1/IsRunning", "Boolean", True),
        node("T1/Freq", value=50.0),
        node("T1/Ready", "Boolean", True),
        node("T1/a/Flow", value=0.4),
        node("T1/b/Flow", value=0.1),  # which of the two is meant is for a person to say
        node("T1/Oil Pressure", value=3.1),
        node("T1/ActivePowerSetpoint", value=100.0, writable=True),
        node("T1/Command Run", "Boolean", False, writable=True),
    ]
    draft = opcua_draft(nodes, "hydro")
    assert draft.text is not None
    drafted = profile_of(draft.text, tmp_path)
    assert {name: point.node for name, point in drafted.points.items()} == {
        "power_kw": "ns=2;s=T1/ActivePower", "level_m": "ns=2;s=T1/Water-Level", "running": "ns=2;s=T1/IsRunning", "frequency_hz": "ns=2;s=T1/Freq",
        "ready": "ns=2;s=T1/Ready", "a_flow": "ns=2;s=T1/a/Flow", "b_flow": "ns=2;s=T1/b/Flow", "oil_pressure": "ns=2;s=T1/Oil Pressure",
    }  # fmt: skip
    assert {name: command.node for name, command in drafted.commands.items()} == {
        "power_kw": "ns=2;s=T1/ActivePowerSetpoint",
        "running": "ns=2;s=T1/Command Run",
    }
    battery = opcua_draft([node("B/SoC", value=55.0), node("B/MaxCharge", value=90.0)], "battery")
    assert battery.text is not None
    assert {n: p.unit for n, p in profile_of(battery.text, tmp_path).points.items()} == {"soc": "pct", "charge_limit_kw": "kW"}
