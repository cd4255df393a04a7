"""The plant's physics as pure functions, one source for controller, plan check and simulator.

Efficiencies are ratios; powers of inverters and batteries are positive when discharging.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from ems.config.site import Battery, Diesel, Fuel, Hydro, Inverter

GRAVITY_KW = 9.81
"""Power of 1 m3/s of water falling 1 m [kW]: density 1000 kg/m3 x g / 1000."""


def interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    """Return the value at `x` on straight lines between `points`, flat beyond both ends."""
    if x <= points[0][0]:
        return points[0][1]
    if x >= points[-1][0]:
        return points[-1][1]
    k = bisect_right([p[0] for p in points], x)
    (x0, y0), (x1, y1) = points[k - 1], points[k]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def fuel_l_per_h(fuel: Fuel, power_kw: float) -> float:
    """Return the fuel rate of a running diesel [L/h] at its electrical power [kW].

    Affine `no_load + slope * power`, or straight lines between the curve's points, the last one prolonged.
    """
    if fuel.points:
        last, before = fuel.points[-1], fuel.points[-2]
        if power_kw > last[0]:
            return last[1] + (last[1] - before[1]) / (last[0] - before[0]) * (power_kw - last[0])
        return interpolate(fuel.points, power_kw)
    return fuel.no_load_l_per_h + fuel.slope_l_per_kwh * max(0.0, power_kw)


def fuel_l(diesel: Diesel, power_kw: float, hours: float) -> float:
    """Return the litres burnt by a running diesel at constant power [kW] over `hours` [h]."""
    return fuel_l_per_h(diesel.fuel, power_kw) * hours


def dc_kw(inverter: Inverter, power_kw: float) -> float:
    """Return the power on the DC side [kW] for the busbar power of a running inverter [kW].

    The no-load power is drawn at the busbar: conversion = power + no_load; conversion losses apply to it.
    """
    converted = power_kw + inverter.no_load_kw
    return converted / inverter.efficiency if converted > 0 else converted * inverter.efficiency


def ac_kw(inverter: Inverter, power_dc_kw: float) -> float:
    """Return the busbar power [kW] for a DC power [kW]: the inverse of `dc_kw`."""
    converted = power_dc_kw * inverter.efficiency if power_dc_kw > 0 else power_dc_kw / inverter.efficiency
    return converted - inverter.no_load_kw


def storage_step(battery: Battery, soc: float, power_dc_kw: float, hours: float) -> float:
    """Return the SoC after `hours` at a DC power [kW]; not clipped, so that a caller sees an overrun.

    `E' = E - P * dt / discharge_efficiency` discharging, `E' = E - P * dt * charge_efficiency` charging.
    """
    inner = power_dc_kw / battery.discharge_efficiency if power_dc_kw > 0 else power_dc_kw * battery.charge_efficiency
    return soc - inner * hours / battery.capacity_kwh


def charge_limit_kw(battery: Battery, soc: float) -> float:
    """Return the charge power [kW DC] that the battery takes at this SoC."""
    share = interpolate(battery.charge_limit_curve, soc) if battery.charge_limit_curve else 1.0
    return battery.charge_kw * share


def charge_room_kw(battery: Battery, soc: float, soc_max: float, hours: float) -> float:
    """Return the DC power [kW] that can be charged for `hours` without passing `soc_max`."""
    room = max(0.0, (soc_max - soc) * battery.capacity_kwh / (battery.charge_efficiency * hours))
    return min(charge_limit_kw(battery, soc), room)


def discharge_room_kw(battery: Battery, soc: float, soc_min: float, hours: float) -> float:
    """Return the DC power [kW] that can be discharged for `hours` without passing `soc_min`."""
    room = max(0.0, (soc - soc_min) * battery.capacity_kwh * battery.discharge_efficiency / hours)
    return min(battery.discharge_kw, room)


def hydro_kw(hydro: Hydro, flow_m3s: float) -> float:
    """Return the electrical power [kW] at a turbine flow [m3/s]: `9.81 * Q * H * efficiency`, at most rated."""
    return min(hydro.rated_kw, GRAVITY_KW * max(0.0, flow_m3s) * hydro.head_m * hydro.efficiency)


def hydro_flow_m3s(hydro: Hydro, power_kw: float) -> float:
    """Return the turbine flow [m3/s] that gives a power [kW]: the inverse of `hydro_kw`."""
    return max(0.0, power_kw) / (GRAVITY_KW * hydro.head_m * hydro.efficiency)


def kwh_per_m3(hydro: Hydro) -> float:
    """Return the electrical energy in a cubic metre of pond water [kWh/m3]."""
    return GRAVITY_KW * hydro.head_m * hydro.efficiency / 3600.0


def best_slope_l_per_kwh(diesels: Sequence[Diesel]) -> float:
    """Return the lowest marginal fuel use of the diesels [L/kWh], 0 where there are none."""
    slopes = [d.fuel.slope_l_per_kwh for d in diesels]
    return min(slopes, default=0.0)
