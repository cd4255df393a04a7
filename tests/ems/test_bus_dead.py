"""Dead or alive: by two devices, contradicted by none; a set with an open breaker says nothing."""

from __future__ import annotations

import pytest

from ems.bus import Bus, BusState
from ems.image import ImageBuilder
from ems.memory import Memory
from ems.model import Reading
from tests.ems.island import diesel, inverter, points, site, telemetry

SITE = site()
OFF = diesel(frequency_hz=0.0, voltage_v=0.0)
STOPPED = inverter(0.0, running=0.0, forming=0.0, frequency_hz=0.0, voltage_v=0.0, breaker_closed=0.0)
DARK = {
    "town": points(power_kw=0.0, frequency_hz=0.0, voltage_v=0.0),
    "pv1": points(power_kw=0.0),
    "dg1": OFF,
    "dg2": OFF,
    "inv1": inverter(0.0, running=0.0, forming=0.0, frequency_hz=0.0, voltage_v=0.0),
}


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        ({}, BusState.DEAD),
        ({"town": points(power_kw=0.0)}, BusState.UNKNOWN),  # one measurement is not enough, and off sets say nothing
        ({"town": points(power_kw=None), "inv1": {}}, BusState.UNKNOWN),
        ({"inv1": inverter(0.0, frequency_hz=50.0, voltage_v=0.0)}, BusState.LIVE),  # contradicted by one
        ({"inv1": inverter(0.0, frequency_hz=20.0, voltage_v=100.0)}, BusState.UNKNOWN),  # collapsing is not dead
        ({"pv1": points(power_kw=30.0)}, BusState.LIVE),  # power flows
        ({"dg2": diesel(frequency_hz=50.0, voltage_v=400.0, running=1.0)}, BusState.DEAD),  # warming up behind its open breaker
        ({"dg2": diesel(20.0, frequency_hz=50.0, voltage_v=400.0)}, BusState.LIVE),
        ({"dg2": diesel(0.0, frequency_hz=50.0, voltage_v=400.0)}, BusState.LIVE),  # closed on the bus
        ({"town": points(power_kw=0.0), "pv1": points(power_kw=0.0, voltage_v=0.0)}, BusState.DEAD),  # PV measures the grid side
        ({"inv1": inverter(0.0, breaker_closed=0.0), "pv1": points(power_kw=0.0, voltage_v=0.0)}, BusState.DEAD),  # it idles behind its open breaker
        ({"inv1": inverter(0.0, breaker_closed=0.0)}, BusState.UNKNOWN),  # only the town is left
        ({"inv1": STOPPED}, BusState.DEAD),  # it bears the town out
        ({"inv1": STOPPED, "town": {}}, BusState.UNKNOWN),
        ({"inv1": inverter(90.0, breaker_closed=0.0)}, BusState.LIVE),  # what gives 90 kW stands behind no open breaker
    ],
)
def test_what_the_measurements_say_together(shown: dict[str, dict[str, Reading]], state: BusState) -> None:
    found = Bus(SITE).found(ImageBuilder(SITE).build(telemetry(0, **{**DARK, **shown}), Memory()))
    assert found.state is state
    assert (len(found.dead) >= 2) or state is not BusState.DEAD


def test_inverters_behind_their_open_breakers_find_no_bus_dead_by_themselves() -> None:
    """dg1 carries the island, but its gateway, which is the town's too, is silent; both inverters were stopped by hand."""
    second = {"id": "inv2", "kind": "inverter", "rated_kw": 100.0}
    shown = {"town": {}, "dg1": {}, "inv1": STOPPED, "inv2": STOPPED}
    found = Bus(site(second)).found(ImageBuilder(site(second)).build(telemetry(0, **shown), Memory()))
    assert found.state is BusState.UNKNOWN
