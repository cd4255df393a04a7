"""Payloads of MQTT and the profiles that name them: what is a number, and what is refused before anything is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.mqtt import number_in, tls_context
from ems.config.load import load_profile, load_site
from ems.config.profile import Point
from ems.config.site import Device
from ems.errors import BadInput

PROFILE = """\
profile: gateway
kind: meter
protocol: mqtt
points:
  power_kw: {topic: "meters/{id}", json: power.0.w, unit: W, scale: 1, every_s: 10}
  closed: {topic: "meters/{id}/closed", type: Boolean}
"""


def place(**fields: Any) -> Point:
    return Point.model_validate({"topic": "t", "type": "Double", **fields})


@pytest.mark.parametrize(
    ("payload", "fields", "number"),
    [
        (b"12.5", {}, 12.5),
        (b" -3e2\n", {}, -300.0),
        (b"0", {}, 0.0),
        (b'{"a": {"b": [1, 2.5]}}', {"json": "a.b.1"}, 2.5),
        (b'{"a": "7"}', {"json": "a"}, 7.0),
        (b"on", {"type": "Boolean"}, 1.0),
        (b"FALSE", {"type": "Boolean"}, 0.0),
        (b'{"on": true}', {"json": "on", "type": "Boolean"}, 1.0),
        (b'{"on": 0}', {"json": "on", "type": "Boolean"}, 0.0),
    ],
)
def test_payloads_are_numbers(payload: bytes, fields: dict[str, Any], number: float):
    assert number_in(payload, place(**fields)) == number


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        (b"", {}),
        (b"offline", {}),
        (b"nan", {}),
        (b"-inf", {}),
        (b"1e999", {}),
        (b"\xff\xfe", {}),
        (b"true", {"json": "a"}),
        (b'{"a": true}', {"json": "a"}),
        (b'{"a": null}', {"json": "a"}),
        (b'{"a": {}}', {"json": "a"}),
        (b'{"a": NaN}', {"json": "a"}),
        (b'{"b": 1}', {"json": "a"}),
        (b'{"a": [1]}', {"json": "a.1"}),
        (b'{"a": [1]}', {"json": "a.x"}),
        (b'{"a": 1', {"json": "a"}),
        (b"[" * 50_000, {"json": "a"}),
        (b'{"a": 1' + b"0" * 400 + b"}", {"json": "a"}),
        (b"2", {"type": "Boolean"}),
        (b"open", {"type": "Boolean"}),
        (b'{"a": 0.5}', {"json": "a", "type": "Boolean"}),
    ],
    ids=repr,
)
def test_what_is_no_number_is_missing_and_never_zero(payload: bytes, fields: dict[str, Any]):
    assert number_in(payload, place(**fields)) is None


@given(st.binary(max_size=60), st.sampled_from(["Double", "Boolean"]), st.sampled_from([None, "a", "0.b"]))
def test_no_payload_raises(payload: bytes, kind: str, path: str | None):
    number = number_in(payload, place(type=kind, **({"json": path} if path else {})))
    assert number is None or abs(number) < float("inf")


def written(folder: Path, text: str) -> Path:
    path = folder / "gateway.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_point_is_a_number_unless_it_says_otherwise(tmp_path: Path):
    profile = load_profile(written(tmp_path, PROFILE)).for_asset("m7")
    assert {n: (p.topic, p.json_path, p.type) for n, p in profile.points.items()} == {
        "power_kw": ("meters/m7", "power.0.w", "Double"),
        "closed": ("meters/m7/closed", None, "Boolean"),
    }


@pytest.mark.parametrize(
    ("old", "new", "path", "line"),
    [
        ("meters/{id}/closed", "meters/+/closed", "points.closed.topic", 6),
        ("meters/{id}/closed", "meters/#", "points.closed.topic", 6),
        ("type: Boolean", "type: uint16", "points.closed.type", 6),
        ("power.0.w", "power..w", "points.power_kw.json", 5),
        ("unit: W, ", "", "points.power_kw.unit", 5),
        ("every_s: 10", "every_s: -1", "points.power_kw.every_s", 5),
        ('topic: "meters/{id}", ', "", "points.power_kw.topic", 5),
        ("protocol: mqtt", "protocol: opcua", "points.power_kw.node", 5),
        ("type: Boolean}", "type: Boolean}\nheartbeat: {topic: beat}", "heartbeat", 7),
        ("type: Boolean}", 'type: Boolean}\ncommands:\n  breaker: {topic: "c", on: 1, off: 0}', "commands.breaker", 8),
    ],
)
def test_a_mistake_is_named_with_its_path_and_line(tmp_path: Path, old: str, new: str, path: str, line: int):
    assert old in PROFILE
    with pytest.raises(BadInput) as caught:
        load_profile(written(tmp_path, PROFILE.replace(old, new, 1)))
    assert caught.value.where == f"{tmp_path / 'gateway.yaml'}:{line} {path}"
    assert caught.value.expected


def test_fields_of_mqtt_are_refused_elsewhere(tmp_path: Path):
    text = 'profile: p\nkind: meter\nprotocol: opcua\npoints:\n  x: {node: "ns=2;i=1", type: Double, every_s: 5}\n'
    with pytest.raises(BadInput, match="no such field"):
        load_profile(written(tmp_path, text))


SITE = """\
site: {id: isle}
assets:
  - {id: town, kind: load, peak_kw: 400}
  - {id: dg1, kind: diesel, rated_kw: 400}
  - {id: m1, kind: meter, measures: dg1, device: {profile: mqtt-meter, DEVICE}}
  - {id: m2, kind: meter, measures: dg1, device: {profile: PROFILE, DEVICE}}
"""


@pytest.mark.parametrize(
    ("device", "path", "says"),
    [
        ('url: "mqtt://10.0.0.9:1883"', "assets[2].device.security", "without TLS"),
        ('url: "tcp://10.0.0.9:1883"', "assets[2].device.url", "mqtt is not reached by"),
        ('url: "mqtt://10.0.0.9:1883", security: {policy: none, trust: ca.pem}', "assets[2].device.url", "without TLS"),
        ('url: "mqtts://10.0.0.9:8883", security: {mode: Sign}', "assets[2].device.security.mode", "of OPC UA"),
        ('url: "mqtts://10.0.0.9:8883", security: {policy: Basic256Sha256}', "assets[2].device.security.policy", "of OPC UA"),
        ('url: "mqtts://10.0.0.9:8883", security: {certificate: a.pem}', "assets[2].device.security", "belong together"),
    ],
)
def test_an_endpoint_that_is_wrong_is_refused_at_load(tmp_path: Path, device: str, path: str, says: str):
    site = tmp_path / "site.yaml"
    site.write_text(SITE.replace("DEVICE", device).replace("PROFILE", "mqtt-meter"), "utf-8")
    with pytest.raises(BadInput, match=says) as caught:
        load_site(site)
    assert caught.value.where.endswith(path)


def test_meters_may_share_a_topic_but_not_a_place_in_it(tmp_path: Path):
    site = tmp_path / "site.yaml"
    shared = "profile: mqtt-meter\nkind: meter\nprotocol: mqtt\npoints:\n  energy_export_kwh: {topic: all, json: KEY, unit: Wh}\n"
    for name, key in (("one", "m1"), ("two", "m2")):
        (tmp_path / f"{name}.yaml").write_text(shared.replace("KEY", key), "utf-8")
    text = SITE.replace("DEVICE", 'url: "mqtt://127.0.0.1:1883"').replace("mqtt-meter", "one.yaml")
    site.write_text(text.replace("PROFILE", "two.yaml"), "utf-8")
    assert load_site(site).profiles["m2"].points["energy_export_kwh"].json_path == "m2"
    site.write_text(text.replace("PROFILE", "one.yaml"), "utf-8")
    with pytest.raises(BadInput, match="one address"):
        load_site(site)


@pytest.mark.parametrize("security", [{"trust": "nowhere.pem"}, {"certificate": "nowhere.pem", "private_key": "nowhere.key"}], ids=["trust", "certificate"])
def test_files_that_cannot_be_used_are_refused_before_anything_is_opened(security: dict[str, str]):
    with pytest.raises(BadInput, match="cannot be"):
        tls_context(Device.model_validate({"profile": "x", "url": "mqtts://127.0.0.1:8883", "security": security}))
