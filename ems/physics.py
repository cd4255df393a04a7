"""The plant's physics as pure functions, one source for controller, plan check and simulator.

Efficiencies are ratios; powers of inverters and batteries are positive when discharging.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from ems.config.site import Battery, Diesel, Fuel, Hydro, Inverter
from ems.lines import convex_lines

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
    """Return the electrical power [kW] at a turbine flow [m3/s]: `9.81 * Q * H * efficiency`, at most rated.

    With an `efficiency_curve` power lies on straight lines over flow between its points, see `turbine_line`.
    """
    if hydro.efficiency_curve:
        return hydro.rated_kw * interpolate(turbine_line(hydro), flow_m3s / hydro.design_flow_m3s)
    return min(hydro.rated_kw, GRAVITY_KW * max(0.0, flow_m3s) * hydro.head_m * hydro.efficiency)


def river_kw(hydro: Hydro, inflow_m3s: float) -> float:
    """Return what the river alone gives [kW] at an inflow [m3/s], the ecological flow deducted; nothing under the power at which the turbine stands."""
    power_kw = hydro_kw(hydro, min(max(0.0, inflow_m3s - hydro.ecological_flow_m3s), hydro.design_flow_m3s))
    return power_kw if power_kw >= hydro.min_kw else 0.0


def hydro_flow_m3s(hydro: Hydro, power_kw: float) -> float:
    """Return the turbine flow [m3/s] that gives a power [kW]: the inverse of `hydro_kw`; at no power it stands, and draws nothing."""
    share = power_kw / hydro.rated_kw
    if hydro.efficiency_curve and 0.0 < share < 1.0:
        return hydro.design_flow_m3s * interpolate([(p, q) for q, p in turbine_line(hydro)], share)
    return max(0.0, power_kw) / (GRAVITY_KW * hydro.head_m * hydro.efficiency)


def turbine_line(hydro: Hydro) -> list[tuple[float, float]]:
    """Return the knots (share of design flow, share of rated power) of a turbine with an `efficiency_curve`.

    Below the first point its line goes on down to no power: what it then still draws is the no-load flow.
    A first line that would meet no power only below no flow ends at the origin.
    """
    knots = [(flow, flow * share) for flow, share in hydro.efficiency_curve]
    (q0, p0), (q1, p1) = knots[:2]
    return [(max(0.0, q0 - p0 * (q1 - q0) / (p1 - p0)), 0.0), *knots]


def flow_lines(hydro: Hydro) -> list[tuple[float, float]]:
    """Return (flow at no power [m3/s], flow per power [m3/s per kW]) of lines whose maximum is what a planner draws for a power.

    They are the lower convex hull of flow over power from `min_kw` to rated; one line through the origin without a curve.
    """
    if not hydro.efficiency_curve:
        return [(0.0, hydro_flow_m3s(hydro, 1.0))]
    low, rated, q = hydro.min_kw, hydro.rated_kw, hydro.design_flow_m3s
    above = [(p * rated, flow * q) for flow, p in turbine_line(hydro) if low < p * rated]
    first = hydro_flow_m3s(hydro, low) if low > 0 else turbine_line(hydro)[0][0] * q
    return convex_lines([(low, first), *above]) or [(0.0, q / rated)]


def hull_flow_m3s(hydro: Hydro, power_kw: float) -> float:
    """Return the flow [m3/s] that a planner draws for a power [kW]: never above `hydro_flow_m3s`, equal to it where the curve is convex."""
    return max(0.0, *(none + per_kw * power_kw for none, per_kw in flow_lines(hydro))) if power_kw > 0 else 0.0


def kwh_per_m3(hydro: Hydro) -> float:
    """Return the electrical energy in a cubic metre of pond water at the design point [kWh/m3]."""
    return GRAVITY_KW * hydro.head_m * hydro.efficiency / 3600.0


def best_kwh_per_m3(hydro: Hydro) -> float:
    """Return the most that a cubic metre of water can give, at the best point of the curve [kWh/m3]."""
    return kwh_per_m3(hydro) * max((share for _, share in hydro.efficiency_curve), default=1.0)


def best_slope_l_per_kwh(diesels: Sequence[Diesel]) -> float:
    """Return the lowest marginal fuel use of the diesels [L/kWh], 0 where there are none."""
    slopes = [d.fuel.slope_l_per_kwh for d in diesels]
    return min(slopes, default=0.0)


def best_average_l_per_kwh(diesels: Sequence[Diesel]) -> float:
    """Return the lowest fuel use at full load, no-load included [L/kWh], 0 where there are no diesels."""
    averages = [d.fuel.slope_l_per_kwh + d.fuel.no_load_l_per_h / d.rated_kw for d in diesels]
    return min(averages, default=0.0)
