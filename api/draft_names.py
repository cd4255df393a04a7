"""What makers call things, and what the EMS calls them: for drafts, which a person reads before anything is believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Thing = TypeVar("Thing")

POINTS: Mapping[str, tuple[str, ...]] = {
    "power_kw": ("power", "activepower", "realpower", "outputpower", "p", "kw", "watt", "watts"),
    "reactive_kvar": ("reactive", "reactivepower", "q", "kvar", "var"),
    "frequency_hz": ("frequency", "freq", "f", "hz"),
    "voltage_v": ("voltage", "linevoltage", "u", "volt"),
    "soc": ("soc", "stateofcharge", "chargelevel"),
    "soh": ("soh", "stateofhealth"),
    "charge_limit_kw": ("chargelimit", "maxcharge", "maxchargepower", "chargepowerlimit"),
    "discharge_limit_kw": ("dischargelimit", "maxdischarge", "maxdischargepower", "dischargepowerlimit"),
    "cell_temp_max_c": ("celltemperaturemax", "maxcelltemperature", "celltempmax", "maxcelltemp"),
    "contactor_closed": ("contactorclosed", "contactor"),
    "running": ("running", "run", "isrunning", "inoperation"),
    "synchronised": ("synchronised", "synchronized", "insync", "sync"),
    "breaker_closed": ("breakerclosed", "breaker", "cbclosed", "cb"),
    "forming": ("forming", "gridforming"),
    "remote": ("remote", "remotemode", "inremote"),
    "ready": ("ready", "readytostart"),
    "estop": ("estop", "emergencystop"),
    "fault": ("fault", "faultcode", "alarmcode"),
    "available_kw": ("availablepower", "available"),
    "flow_m3s": ("flow", "discharge", "waterflow"),
    "level_m": ("level", "waterlevel", "pondlevel", "headwater"),
    "fuel_l": ("fuel", "fueltotal", "fuelconsumed"),
    "run_h": ("runhours", "hours", "operatinghours", "enginehours"),
    "energy_export_kwh": ("energy", "energyexport", "exportedenergy", "totalenergy", "kwh"),
    "energy_import_kwh": ("energyimport", "importedenergy"),
    "level_l": ("volume", "tanklevel", "tankvolume"),
    "ghi_wm2": ("ghi", "irradiance", "globalirradiance"),
    "temperature_c": ("temperature", "airtemperature", "ambienttemperature"),
}
"""By point: how it is called elsewhere, in lower case without separators."""
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "power_kw": ("power", "powersetpoint", "activepowersetpoint", "setpoint", "powerreference", "commandpower", "pset"),
    "limit_kw": ("limit", "powerlimit", "activepowerlimit", "maxpower", "commandlimit"),
    "running": ("running", "run", "startstop", "runcommand", "commandrunning", "commandrun"),
    "forming": ("forming", "gridforming", "commandforming"),
    "breaker": ("breaker", "breakercommand", "commandbreaker"),
}
ENGINE, SWITCHES = ("power_kw", "reactive_kvar", "frequency_hz", "voltage_v"), ("remote", "ready", "estop", "fault")
READS: Mapping[str, tuple[str, ...]] = {
    "load": (*ENGINE, "breaker_closed"),
    "feeder": ("power_kw", "reactive_kvar", "breaker_closed", *SWITCHES),
    "solar": (*ENGINE, "available_kw", "energy_export_kwh", *SWITCHES),
    "hydro": (*ENGINE, "running", "flow_m3s", "level_m", *SWITCHES),
    "diesel": (*ENGINE, "running", "synchronised", "breaker_closed", "fuel_l", "run_h", *SWITCHES),
    "battery": ("soc", "soh", "charge_limit_kw", "discharge_limit_kw", "cell_temp_max_c", "contactor_closed", "voltage_v", "fault"),
    "inverter": (*ENGINE, "running", "forming", "breaker_closed", *SWITCHES),
    "deferrable": ("power_kw", "running", *SWITCHES),
    "tank": ("level_l",),
    "meter": ("energy_export_kwh", "energy_import_kwh", *ENGINE),
    "weather": ("ghi_wm2", "temperature_c"),
}
"""By kind: the points that the EMS uses."""


def house_names(things: Mapping[str, Thing], last_names: Mapping[str, str], kind: str) -> dict[str, Thing]:
    """Return things under the EMS's names where exactly one of them is called so, and under their own where not.

    Parameters
    ----------
    things : Mapping[str, Thing]
        By the name that they have in the draft so far.
    last_names : Mapping[str, str]
        By the same: what the device calls each, as `ActivePower`.
    """
    renamed: dict[str, str] = {}
    for point in READS[kind]:
        meant = [name for name in things if squeezed(last_names[name]) in (squeezed(point), *POINTS[point]) and name not in renamed]
        if point not in things and len(meant) == 1:
            renamed[meant[0]] = point
    return {renamed.get(name, name): thing for name, thing in things.items()}


def command_name(last_name: str, commands: Iterable[str]) -> str | None:
    """Return which of a kind's commands a name means, None for none."""
    short = squeezed(last_name)
    return next((c for c in commands if short.endswith(squeezed(c)) or short in COMMANDS[c]), None)


def squeezed(name: str) -> str:
    """Return a name in lower case without separators."""
    return "".join(c for c in name.lower() if c.isalnum())
