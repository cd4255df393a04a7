"""With the EMS gone, something with energy must hold the busbar from every former state."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ems.config.load import shipped_profile
from ems.config.profile import OnSilence, Profile
from ems.config.silence import Aftermath, followers, silence_mistakes, walk
from ems.config.site import Site

DIESEL = {"kind": "diesel", "rated_kw": 300}  # 20 + 30 + 15 s from silence to the busbar
INVERTER = {"kind": "inverter", "rated_kw": 200, "forming": "droop"}
BATTERY = {"kind": "battery", "behind": "inv1", "capacity_kwh": 400, "charge_kw": 200, "discharge_kw": 200}
HYDRO = {"kind": "hydro", "rated_kw": 100, "forming": "droop"}


def island(units: Mapping[str, tuple[dict[str, object], str | None, float]], stage: str = "control", **battery: float) -> tuple[Site, dict[str, Profile]]:
    """Return a site and its profiles for units given as (asset, what it does on silence, after how many seconds)."""
    assets = [{"id": "town", "kind": "load", "peak_kw": 200}, *({"id": i, **u[0]} for i, u in units.items())]
    if "inv1" in units:
        assets.append({"id": "bess1", **BATTERY, **battery})
    site = Site.model_validate({"site": {"id": "test"}, "control": {"stage": stage}, "assets": assets})
    profiles: dict[str, Profile] = {}
    for name, (asset, does, after_s) in units.items():
        silence = None if does is None else OnSilence.model_validate({"after_s": after_s, "does": does, "value": 0.0})
        profiles[name] = shipped_profile(f"generic-{asset['kind']}").model_copy(update={"on_silence": silence})
    return site, profiles


def dark(units: Mapping[str, tuple[dict[str, object], str | None, float]], stage: str = "control", **battery: float) -> list[str]:
    """Return the errors."""
    return [m.error for m in silence_mistakes(*island(units, stage, **battery))]


def walked(units: Mapping[str, tuple[dict[str, object], str | None, float]], **battery: float) -> dict[tuple[tuple[str, ...], bool], Aftermath]:
    """Return what becomes of each former state, by its formers and whether the batteries are low."""
    return {(a.formers, a.low): a for a in walk(*island(units, "shadow", **battery))}


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


# ------------------------------------------------------------------ the walk
MIXED = {"dg1": (DIESEL, "start", 30.0), "dg2": (DIESEL, "trip", 20.0), "inv1": (INVERTER, "hold", 30.0)}


def test_every_former_state_is_walked():
    """Three formers are 7 sets of them, and the 4 with the inverter once more with its battery at the floor."""
    states = walked(MIXED)
    assert len(states) == 7 + 4
    assert {formers for formers, _ in states} == {("dg1",), ("dg2",), ("inv1",), ("dg1", "dg2"), ("dg1", "inv1"), ("dg2", "inv1"), ("dg1", "dg2", "inv1")}


def test_what_happens_in_each_state():
    """dg1 would come at 30 + 20 + 30 + 15 = 95 s; the battery at its floor has 0.05 x 400 x 0.96 = 19.2 kWh for 200 kW: 345.6 s."""
    states = walked(MIXED)
    told = {key: ([(s.at_s, s.unit, s.does) for s in a.steps], a.remains, a.dark_at_s) for key, a in states.items()}
    assert told[("dg1",), False] == ([(0.0, "dg1", "goes_on")], ("dg1",), None)
    assert told[("dg2",), False] == ([(20.0, "dg2", "trips")], (), 20.0)
    inf = float("inf")
    assert told[("inv1",), False] == ([(95.0, "dg1", "comes"), (inf, "inv1", "runs_empty")], ("dg1",), None)
    assert told[("inv1",), True] == ([(95.0, "dg1", "comes"), (pytest.approx(345.6), "inv1", "runs_empty")], ("dg1",), None)
    assert told[("dg1", "dg2"), False] == ([(0.0, "dg1", "goes_on"), (20.0, "dg2", "trips")], ("dg1",), None)
    # the inverter bridges from the trip of dg2 until dg1 is there
    assert told[("dg2", "inv1"), True][1:] == (("dg1",), None)


def test_a_battery_at_its_floor_is_a_state_of_its_own():
    """Charged it lasts until dg1 comes after 95 s; with 0.01 x 400 x 0.96 = 3.84 kWh for 200 kW it lasts 69 s."""
    units = {"dg1": (DIESEL, "start", 30.0), "inv1": (INVERTER, "hold", 30.0)}
    states = walked(units, soc_min=0.06, black_start_soc=0.05)
    assert states[("inv1",), False].dark_at_s is None
    assert states[("inv1",), True].dark_at_s == pytest.approx(69.12)
    (error,) = dark(units, soc_min=0.06, black_start_soc=0.05)
    assert "'inv1'" in error
    assert "battery at the floor" in error
    assert dark(units, soc_min=0.07, black_start_soc=0.05) == []
    assert walked(units, soc_min=0.05, black_start_soc=0.05)[("inv1",), True].dark_at_s == 0.0


def test_more_formers_on_the_busbar_are_never_worse():
    for does in ("hold", "trip", "start", None):
        units: dict[str, tuple[dict[str, object], str | None, float]] = {
            "dg1": (DIESEL, does, 30.0),
            "dg2": (DIESEL, "trip", 10.0),
            "hydro1": (HYDRO, "local_auto", 5.0),
            "inv1": (INVERTER, "hold", 30.0),
        }
        states = walked(units)
        for (formers, low), after in states.items():
            parts = [a for (f, is_low), a in states.items() if is_low == low and len(f) == 1 and f[0] in formers]
            assert after.dark_at_s is None or all(a.dark_at_s is not None and a.dark_at_s <= after.dark_at_s for a in parts)


def test_it_is_told_in_words():
    small = walked({"dg1": ({**DIESEL, "rated_kw": 150}, "hold", 30.0), "dg2": (DIESEL, None, 0.0), "inv1": (INVERTER, "trip", 12.0)})
    assert small[("dg1",), False].sentence() == (
        "if the EMS is gone while dg1 holds the busbar: dg1 goes on; dg1 holds, with 150 kW for a peak of 200 kW: the relays shed the rest"
    )
    assert (
        "dg2 may trip at once, because its profile does not say what it does; nobody is left: the island goes dark after 0 s"
        in small[("dg2",), False].sentence()
    )
    assert small[("dg2", "inv1"), True].sentence().startswith("if the EMS is gone while dg2 and inv1, its battery at the floor, hold the busbar: ")
    alone = walked({"inv1": (INVERTER, "hold", 30.0)})[("inv1",), False]
    assert alone.sentence().endswith("inv1 goes on until its battery is empty; nobody is left: the island goes dark")
    assert alone.document() | {"text": ""} == {
        "formers": ["inv1"], "battery_low": False, "holds": False, "remains": [], "dark_at_s": None, "carries_kw": 0.0, "peak_kw": 200.0,
        "steps": [{"at_s": None, "unit": "inv1", "does": "runs_empty"}], "text": "",
    }  # fmt: skip


def test_a_large_fleet_is_walked_in_reasonable_time():
    fleet = {f"dg{k}": (DIESEL, "start", 30.0) for k in range(12)}
    assert len(walked(fleet)) == 12 + 66 + 1


def test_what_the_others_do_is_told():
    units: dict[str, tuple[dict[str, object], str | None, float]] = {
        "pv1": ({"kind": "solar", "rated_kw": 90}, "hold", 30.0),
        "pv2": ({"kind": "solar", "rated_kw": 50}, "preset", 60.0),
        "dg1": (DIESEL, "hold", 30.0),
    }
    units["inv2"] = ({"kind": "inverter", "rated_kw": 50}, None, 0.0)
    assert followers(*island(units)) == [
        "pv1 keeps what it was told after 30 s; nobody cuts its 90 kW when there is surplus: over-frequency must",
        "pv2 goes to its preset value of 0 after 60 s",
        "inv2 does not say what it does",
    ]
