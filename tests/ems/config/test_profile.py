"""Device profiles: what is accepted, what is refused and where, and that those we ship are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ems.config.load import load_profile, shipped_profile, shipped_profiles
from ems.config.profile import TAKES, UNITS, Profile, house_unit
from ems.config.profile_checks import capabilities
from ems.errors import BadInput

MODBUS = """\
profile: test
kind: diesel
protocol: modbus
missing: {int16: 0x8000, float32: nan}
points:
  power_kw: {address: 100, type: int16, unit: W, scale: 100}
  running: {address: 110, type: uint16, bit: 0}
commands:
  running: {address: 200, type: uint16, on: 1, off: 0}
  power_kw: {address: 201, type: int16, unit: kW, min: 0, max: 600, read_back: 201}
heartbeat: {address: 299, type: uint16, period_s: 1}
on_silence: {after_s: 30, does: hold, value: null}
"""
READS = {
    "load": "power_kw reactive_kvar breaker_closed ufls_tripped",
    "feeder": "power_kw reactive_kvar breaker_closed ufls_tripped",
    "solar": "power_kw state available_kw remote ready estop",
    "hydro": "power_kw running flow_m3s level_m remote ready estop",
    "diesel": "power_kw reactive_kvar running synchronised breaker_closed frequency_hz voltage_v fuel_l run_h fault remote ready estop",
    "battery": "soc charge_limit_kw discharge_limit_kw cell_temp_max_c soh contactor_closed fault",
    "inverter": "power_kw reactive_kvar frequency_hz voltage_v forming breaker_closed fault remote ready estop",
    "meter": "energy_export_kwh energy_import_kwh",
    "deferrable": "power_kw running fault remote ready estop",
    "weather": "ghi_wm2 temperature_c",
    "tank": "level_l",
}


def write(folder: Path, text: str) -> Path:
    path = folder / "profile.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_good_profile(tmp_path: Path):
    profile = load_profile(write(tmp_path, MODBUS))
    assert profile.defaults.max_block == 100
    assert profile.missing == {"int16": 0x8000, "float32": "nan"}
    assert profile.points["power_kw"].scale == 100
    assert profile.commands["running"].idempotent
    assert profile.commands["power_kw"].max == 600
    assert profile.on_silence is not None
    assert profile.on_silence.does == "hold"


@pytest.mark.parametrize(
    ("old", "new", "path", "line"),
    [
        ("int16, unit: W, scale: 100", "int17, unit: W, scale: 100", "points.power_kw.type", 6),
        ("unit: W,", "unit: horsepower,", "points.power_kw.unit", 6),
        ("unit: W,", "unit: V,", "points.power_kw.unit", 6),
        ("int16, unit: W, scale: 100", "int16", "points.power_kw.unit", 6),
        ("scale: 100", "scale: 0", "points.power_kw.scale", 6),
        ("scale: 100", "scale: .nan", "points.power_kw.scale", 6),
        ("{address: 100,", "{adress: 100,", "points.power_kw.adress", 6),
        ("{address: 100,", "{", "points.power_kw.address", 6),
        ("address: 100", "address: 65536", "points.power_kw.address", 6),
        ("address: 100, type: int16", "address: 65535, type: float32", "points.power_kw.address", 6),
        ("address: 100, type: int16", "address: 100, type: Double", "points.power_kw.type", 6),
        ("address: 100, type: int16", "address: 100, type: string", "points.power_kw.type", 6),
        ("address: 100, type: int16", "address: 109, type: float32", "points.running", 7),
        ("bit: 0", "bit: 16", "points.running.bit", 7),
        ("address: 110, type: uint16, bit: 0", "address: 110, table: coil, type: uint16", "points.running.type", 7),
        ("on: 1, off: 0", "on: 1", "commands.running.off", 9),
        ("on: 1, off: 0", "on: 1, off: 1", "commands.running.off", 9),
        ("on: 1, off: 0", "on: 1, off: 0, pulse_s: 1, idempotent: true", "commands.running.idempotent", 9),
        ("on: 1, off: 0", "table: input, on: 1, off: 0", "commands.running.table", 9),
        ("min: 0, max: 600", "min: 600, max: 0", "commands.power_kw.min", 10),
        ("address: 201, type: int16", "address: 200, type: int16", "commands.power_kw", 10),
        ("  power_kw: {address: 201", "  limit_kw: {address: 201", "commands.limit_kw", 10),
        ("address: 299", "address: 201", "heartbeat", 11),
        ("does: hold", "does: pray", "on_silence.does", 12),
        ("does: hold", "does: preset", "on_silence.value", 12),
        ("int16: 0x8000", "int17: 0x8000", "missing.int17", 4),
        ("protocol: modbus", "protocol: canbus", "protocol", 3),
        ("kind: diesel", "kind: wind", "kind", 2),
        ("protocol: modbus", "protocol: opcua", "points.power_kw.node", 6),
        ("protocol: modbus", "protocol: sunspec", "points.power_kw.point", 6),
    ],
)
def test_a_mistake_is_named_with_its_path_and_line(tmp_path: Path, old: str, new: str, path: str, line: int):
    assert old in MODBUS
    with pytest.raises(BadInput) as caught:
        load_profile(write(tmp_path, MODBUS.replace(old, new, 1)))
    assert caught.value.where == f"{tmp_path / 'profile.yaml'}:{line} {path}"
    assert caught.value.expected


WHOLE = """\
profile: whole
kind: inverter
protocol: modbus
defaults: {max_block: 4}
missing: {int16: 0x8000, uint16: [0xFFFF, 0xFFFE]}
capabilities: [measure, setpoint, faults]
points:
  power_kw: {address: 10, type: int16, unit: W, scale_point: power_sf}
  power_sf: {address: 11, type: int16, missing: 0x8000}
  state: {address: 12, type: uint16, mask: 0x00F0, text: {1: {en: on, ja: 運転}}}
  running: {address: 12, type: uint16, bit: 3, invert: true}
  fault: {address: 13, type: uint16, none: 0, text: {3: {en: hot, ja: 温度高}}}
  ready: {address: 14, type: uint16, on: [2, 3]}
  energy_kwh: {address: 20, type: uint32, unit: kWh, counter: true, wraps_at: 99999999}
  serial: {address: 30, type: string(4)}
commands:
  power_kw: {address: 40, type: int16, unit: W, scale: 100, min: -800, max: 800, read_back: 40}
  running: {address: 41, type: uint16, on: 1, off: 2, pulse_s: 0.5, release: 0}
heartbeat: {address: 49, type: uint16, period_s: 1}
on_silence: {after_s: 30, does: preset, value: 0}
"""


def test_a_profile_with_all_there_is(tmp_path: Path):
    profile = load_profile(write(tmp_path, WHOLE))
    assert profile.missing["uint16"] == (0xFFFF, 0xFFFE)
    assert profile.points["ready"].on == (2, 3)
    assert profile.commands["running"].idempotent is False
    assert capabilities(profile) == ("measure", "counters", "faults", "start_stop", "setpoint", "read_back", "heartbeat", "on_silence")


@pytest.mark.parametrize(
    ("old", "new", "path", "line"),
    [
        ("scale_point: power_sf", "scale_point: nothing", "points.power_kw.scale_point", 8),
        ("scale_point: power_sf", "scale_point: power_kw", "points.power_kw.scale_point", 8),
        ("scale_point: power_sf", "scale_point: serial", "points.power_kw.scale_point", 8),
        ("scale_point: power_sf", "scale_point: running", "points.power_kw.scale_point", 8),
        ("none: 0, text: {3", "scale_point: power_sf, text: {3", "points.fault.scale_point", 12),
        ("missing: 0x8000}", "missing: 0x18000}", "points.power_sf.missing", 9),
        ("type: string(4)", "type: string(4), missing: 0", "points.serial.missing", 15),
        ("mask: 0x00F0", "mask: 0x00F5", "points.state.mask", 10),
        ("mask: 0x00F0", "mask: 0x1F000", "points.state.mask", 10),
        ("mask: 0x00F0", "mask: 0x00F8", "points.running", 11),
        ("mask: 0x00F0", "mask: 0x00F0, bit: 4", "points.state.mask", 10),
        ("bit: 3, invert: true", "bit: 17", "points.running.bit", 11),
        ("bit: 3, invert: true", "bit: 3, byte_order: little", "points.running", 11),
        ("address: 14, type: uint16, on: [2, 3]", "address: 14, type: uint16, invert: true", "points.ready.invert", 13),
        ("on: [2, 3]", "on: [2, 70000]", "points.ready.on", 13),
        ("on: [2, 3]", "on: 2, none: 0", "points.ready.on", 13),
        ("address: 13, type: uint16, none: 0", "address: 13, type: uint16, none: -1", "points.fault.none", 12),
        ("text: {3: {en: hot", "text: {-3: {en: hot", "points.fault.text[-3]", 12),
        ("text: {3: {en: hot", "text: {hot: {en: hot", "points.fault.text.hot", 12),
        ("counter: true, wraps_at", "wraps_at", "points.energy_kwh.wraps_at", 14),
        ("wraps_at: 99999999", "wraps_at: 0", "points.energy_kwh.wraps_at", 14),
        ("type: uint16, bit: 3, invert: true", "type: uint16, bit: 3, counter: true", "points.running.counter", 11),
        ("max_block: 4", "max_block: 1", "points.energy_kwh.type", 14),
        ("scale: 100, min", "scale: 1, min", "commands.power_kw.min", 17),
        ("min: -800, max: 800, read_back: 40", "min: -800, read_back: none", "commands.power_kw.read_back", 17),
        ("address: 40, type: int16", "address: 60, type: string(2)", "commands.power_kw.type", 17),
        ("on: 1, off: 2", "on: 1, off: 70000", "commands.running.off", 18),
        ("release: 0", "release: -1", "commands.running.release", 18),
        ("pulse_s: 0.5, release: 0", "release: 0", "commands.running.release", 18),
        ("pulse_s: 0.5, release: 0", "enable: 123.WMaxLim_Ena", "commands.running.enable", 18),
        ("address: 40,", "address: 40, node: ns=2;s=P,", "commands.power_kw.node", 17),
        ("period_s: 1}", "period_s: 30}", "heartbeat.period_s", 19),
        ("period_s: 1}", "period_s: 0}", "heartbeat.period_s", 19),
        ("value: 0", "value: 900", "on_silence.value", 20),
        ("does: preset, value: 0", "does: start", "on_silence.does", 20),
        ("int16: 0x8000, uint16", "int16: nan, uint16", "missing.int16", 5),
        ("int16: 0x8000, uint16", "int16: 0x80000, uint16", "missing.int16", 5),
        ("faults]", "limit]", "capabilities[2]", 6),
        ("faults]", "flying]", "capabilities[2]", 6),
        ("protocol: modbus", "protocol: modbus\nbase: 40000", "base", 4),
    ],
)
def test_what_would_not_work_is_refused_with_path_line_and_reason(tmp_path: Path, old: str, new: str, path: str, line: int):
    text = WHOLE if "does: start" not in new else WHOLE.replace("running", "forming")
    assert old in text
    with pytest.raises(BadInput) as caught:
        load_profile(write(tmp_path, text.replace(old, new, 1)))
    assert caught.value.where == f"{tmp_path / 'profile.yaml'}:{line} {path}", caught.value
    assert caught.value.expected
    assert caught.value.error


def test_bits_share_a_register_and_whole_values_do_not(tmp_path: Path):
    shared = MODBUS.replace("bit: 0}", "bit: 0}\n  ready: {address: 110, type: uint16, bit: 1}")
    assert load_profile(write(tmp_path, shared)).points["ready"].bit == 1
    with pytest.raises(BadInput, match="same holding register 110"):
        load_profile(write(tmp_path, shared.replace("bit: 1", "bit: 0")))
    other_table = MODBUS.replace("bit: 0}", "bit: 0}\n  ready: {address: 110, table: input, type: uint16}")
    assert load_profile(write(tmp_path, other_table)).points["ready"].words == 1


def test_text_says_its_length(tmp_path: Path):
    serial = MODBUS.replace("bit: 0}", "bit: 0}\n  serial: {address: 300, type: string(8)}")
    point = load_profile(write(tmp_path, serial)).points["serial"]
    assert (point.type, point.words) == ("string", 8)


def test_a_pulse_is_not_idempotent_unless_said():
    command = Profile.model_validate(
        {
            "profile": "p",
            "kind": "diesel",
            "protocol": "modbus",
            "points": {"running": {"address": 0, "type": "uint16"}},
            "commands": {"running": {"address": 1, "type": "uint16", "on": 1, "off": 0, "pulse_s": 2}},
        }
    ).commands["running"]
    assert command.idempotent is False


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_is_valid_and_bears_its_name(name: str):
    profile = shipped_profile(name)
    assert profile.profile == name
    assert profile.for_asset("x1") == profile.for_asset("x1").for_asset("x2")  # no placeholder is left


@pytest.mark.parametrize("kind", list(TAKES))
def test_the_generic_profile_of_a_kind_has_all_that_the_kind_reads_and_takes(kind: str):
    profile = shipped_profile(f"generic-{kind}")
    assert profile.kind == kind
    assert set(READS[kind].split()) <= set(profile.points)
    assert set(profile.commands) == set(TAKES[kind])
    silent = {"battery", "meter", "tank", "weather"}
    assert (profile.on_silence is None) == (kind in silent)


def test_placeholders_become_the_asset():
    profile: Any = shipped_profile("generic-inverter").for_asset("inv7")
    assert profile.points["power_kw"].node == "ns=2;s=inv7.Power"
    assert profile.commands["power_kw"].node == "ns=2;s=inv7.Command.Power"
    assert profile.heartbeat.node == "ns=2;s=inv7.Heartbeat"


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("power_kw", "kw"),
        ("fuel_l", "l"),
        ("fuel_l_per_h", "l_per_h"),
        ("flow_m3s", "m3s"),
        ("soc", "ratio"),
        ("cell_temp_max_c", "c"),
        ("ghi_wm2", "wm2"),
        ("state", None),
        ("ramp_kw_per_s", None),
    ],
)
def test_names_tell_their_unit(name: str, unit: str | None):
    assert house_unit(name) == unit


def test_units_by_hand():
    assert [UNITS[u] for u in ("MW", "Wh", "m3", "pct", "min")] == [("kw", 1000.0), ("kwh", 0.001), ("l", 1000.0), ("ratio", 0.01), ("s", 60.0)]
