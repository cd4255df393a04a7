"""Shipped OPC UA profiles by hand: what a governor's nodes mean, and what is written into them."""

from __future__ import annotations

from typing import Any

import pytest
from asyncua import ua

from drivers.codec import from_raw
from drivers.opcua_values import VARIANTS, count_in, node_named, node_of, raw_of, time_in, variant_of
from ems.config.load import shipped_profile, shipped_profiles
from ems.errors import BadAnswer, BadInput

GOVERNOR = shipped_profile("hydro-governor").for_asset("hydro1")
OPCUA = [name for name in shipped_profiles() if shipped_profile(name).protocol == "opcua"]


def answer(raw: Any, kind: str) -> ua.DataValue:
    return ua.DataValue(ua.Variant(raw, VARIANTS[kind]))


@pytest.mark.parametrize(
    ("point", "node", "raw", "value"),
    [
        ("power_kw", "ns=3;s=hydro1.Generator.ActivePower", 0.2435, 243.5),
        ("reactive_kvar", "ns=3;s=hydro1.Generator.ReactivePower", 0.04, 40.0),
        ("voltage_v", "ns=3;s=hydro1.Generator.Voltage", 0.415, 415.0),
        ("gate", "ns=3;s=hydro1.Turbine.GatePosition", 455, 0.455),
        ("running", "ns=3;s=hydro1.Generator.BreakerClosed", True, 1.0),
        ("fault", "ns=3;s=hydro1.Alarm.TripCode", 2, 2.0),
        ("fault", "ns=3;s=hydro1.Alarm.TripCode", 0, 0.0),
        ("energy_export_kwh", "ns=3;s=hydro1.Meter.EnergyExport", 4_000_000_000, 4e9),
    ],
)
def test_what_a_governor_shows(point: str, node: str, raw: Any, value: float):
    place = GOVERNOR.points[point]
    assert node_of(place).to_string() == node
    found = raw_of(answer(raw, place.type), place, "url", node_of(place))
    assert found is not None
    assert from_raw(found, place, {}) == pytest.approx(value)


@pytest.mark.parametrize(
    ("command", "value", "raw", "kind"),
    [("power_kw", 180.0, 0.18, "Float"), ("power_kw", 0.0, 0.0, "Float"), ("running", 1.0, 1, "Int16"), ("running", 0.0, 2, "Int16")],
)
def test_what_a_governor_is_told(command: str, value: float, raw: float, kind: str):
    variant = variant_of(value, GOVERNOR.commands[command], {})
    assert (variant.Value, variant.VariantType.name) == (pytest.approx(raw), kind)


@pytest.mark.parametrize("name", OPCUA)
def test_every_node_of_a_shipped_profile_is_one(name: str):
    profile = shipped_profile(name).for_asset("x1")
    for place in (*profile.points.values(), *profile.commands.values(), *([profile.heartbeat] if profile.heartbeat else [])):
        assert "{" not in node_of(place).to_string()
        if isinstance(back := getattr(place, "read_back", None), str):
            node_named(back)


@pytest.mark.parametrize("name", ["Power", "ns=x;i=1", "ns=2;i=power", ""])
def test_what_is_no_node_is_refused(name: str):
    with pytest.raises(BadInput, match="no OPC UA node"):
        node_named(name)


def test_another_type_names_the_node_and_both_types():
    place = GOVERNOR.points["power_kw"]
    with pytest.raises(BadAnswer) as caught:
        raw_of(answer(1.0, "Double"), place, "opc.tcp://x:1", node_of(place))
    assert str(caught.value) == "opc.tcp://x:1 ns=3;s=hydro1.Generator.ActivePower: the node holds Double (expected Float)"


@pytest.mark.parametrize(("told", "used"), [(6, 6), (0, 500), (None, 500), ("many", 500), (100_000, 500)])
def test_limits_of_a_server(told: Any, used: int):
    assert count_in(ua.DataValue(ua.Variant(told)), 500) == used
    assert time_in(ua.DataValue(ua.Variant(told))) is None
