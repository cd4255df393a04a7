"""With the EMS gone, something with energy must hold the busbar from every former state."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ems.config.load import shipped_profile
from ems.config.profile import OnSilence, Profile
from ems.config.silence import silence_mistakes
from ems.config.site import Site

DIESEL = {"kind": "diesel", "rated_kw": 300}  # 20 + 30 + 15 s from silence to the busbar
INVERTER = {"kind": "inverter", "rated_kw": 200, "forming": "droop"}
BATTERY = {"kind": "battery", "behind": "inv1", "capacity_kwh": 400, "charge_kw": 200, "discharge_kw": 200}
HYDRO = {"kind": "hydro", "rated_kw": 100, "forming": "droop"}


def dark(units: Mapping[str, tuple[dict[str, object], str | None, float]], stage: str = "control") -> list[str]:
    """Return the errors for units given as (asset, what it does on silence, after how many seconds)."""
    assets = [{"id": "town", "kind": "load", "peak_kw": 200}, *({"id": i, **u[0]} for i, u in units.items())]
    if "inv1" in units:
        assets.append({"id": "bess1", **BATTERY})
    site = Site.model_validate({"site": {"id": "test"}, "control": {"stage": stage}, "assets": assets})
    profiles: dict[str, Profile] = {}
    for name, (asset, does, after_s) in units.items():
        silence = None if does is None else OnSilence.model_validate({"after_s": after_s, "does": does, "value": 0.0})
        profiles[name] = shipped_profile(f"generic-{asset['kind']}").model_copy(update={"on_silence": silence})
    return [m.error for m in silence_mistakes(site, profiles)]


@pytest.mark.parametrize("does", ["hold", "preset", "start", "local_auto"])
def test_a_diesel_that_goes_on_holds_the_bus(does: str):
    assert dark({"dg1": (DIESEL, does, 30)}) == []


def test_a_sole_former_that_trips_is_refused():
    assert "'dg1'" in dark({"dg1": (DIESEL, "trip", 30)})[0]
    assert "does not say" in dark({"dg1": (DIESEL, None, 30)})[0]
    assert dark({"dg1": (DIESEL, "trip", 30)}, stage="advise") == []  # nothing is written, so nothing is missed


def test_an_inverter_needs_a_diesel_that_comes_by_itself():
    assert "runs empty" in dark({"dg1": (DIESEL, "hold", 30), "inv1": (INVERTER, "hold", 30)})[0]
    assert dark({"dg1": (DIESEL, "start", 30), "inv1": (INVERTER, "hold", 30)}) == []
    assert dark({"dg1": (DIESEL, "local_auto", 30), "inv1": (INVERTER, "hold", 30)}) == []
    assert dark({"dg1": ({**DIESEL, "forming": "never"}, "start", 30), "inv1": (INVERTER, "hold", 30)}) != []


def test_a_former_that_trips_must_be_replaced_in_time():
    """The diesel is there 30 + 65 s after silence."""
    assert len(dark({"dg1": (DIESEL, "start", 30), "inv1": (INVERTER, "trip", 94)})) == 1
    assert dark({"dg1": (DIESEL, "start", 30), "inv1": (INVERTER, "trip", 95)}) == []


def test_every_former_is_asked():
    first, second = dark({"dg1": (DIESEL, "trip", 30), "dg2": (DIESEL, "trip", 30), "hydro1": (HYDRO, "hold", 30)})
    assert "'dg1'" in first
    assert "'dg2'" in second
    assert dark({"dg1": (DIESEL, "trip", 30), "hydro1": (HYDRO, "local_auto", 10)}) == []
