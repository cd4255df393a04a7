"""Plant faults: what really happens to units, weather, load and fuel, by small hooks on the simulated assets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simulator.assets.deferrable import DeferrableUnit
from simulator.assets.diesel import DieselUnit
from simulator.assets.hydro import HydroUnit
from simulator.assets.inverter import InverterUnit
from simulator.assets.solar import SolarUnit
from simulator.faults.live import Live
from simulator.plant import Conditions, Plant

TRIPPED = 7.0
"""Fault code of an injected trip."""
FRONT_S = 10.0
"""A cloud front comes and goes within this time [s]."""
PV_LOST, LOAD_STEP, SOC_LOST, DERATED = 0.8, 0.3, 0.3, 0.9
"""At severity 1: share of the sun that is lost, of the load that is added or lost, SoC that was never there, share of the battery's limits that is lost."""
LAST_L = 2.0
"""Fuel above what cannot be used, in a tank that runs out [L]."""

Unit = DieselUnit | HydroUnit | InverterUnit | SolarUnit | DeferrableUnit


class Outside:
    """Carries plant faults out on one plant."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        units: tuple[Unit, ...] = (*plant.diesels, *plant.hydros, *plant.inverters, *plant.solars, *plant.deferrables)
        self._units = {u.id: u for u in units}

    def begin(self, live: Live) -> None:
        """Let a fault begin."""
        plant, unit = self._plant, self._units.get(live.asset)
        match live.kind:
            case "trip" if isinstance(unit, DieselUnit | HydroUnit | InverterUnit):
                live.touched += unit.on if isinstance(unit, DieselUnit) else unit.running
                plant.trip(live.asset, TRIPPED)
            case "fail_start" if isinstance(unit, DieselUnit):
                live.memo["left"] = unit.failing_starts = 1 + round(2.0 * live.severity)
            case "slow_start" if isinstance(unit, DieselUnit):
                unit.start_delay_s = 120.0 * live.severity
            case "stuck" if isinstance(unit, DieselUnit):
                unit.stuck = True
            case "local" if unit is not None:
                unit.local = True
                live.touched += 1
            case "estop" if unit is not None:
                unit.estop = True
                if isinstance(unit, DieselUnit):
                    unit.wanted = False  # a set that is released does not start by itself
                live.touched += 1
            case "by_hand" if unit is not None:
                self._by_hand(live, unit)
            case "derate":
                plant.batteries[live.asset].derate = 1.0 - DERATED * live.severity
                live.touched += 1
            case "soc_drop":
                battery = plant.batteries[live.asset]
                battery.soc = max(min(battery.soc, battery.floor), battery.soc - SOC_LOST * live.severity)
                live.touched += 1
            case "tank_low":
                tank = plant.tanks[live.asset]
                live.memo["level_l"] = tank.level_l
                tank.level_l = min(tank.level_l, tank.asset.unusable_l + LAST_L)
                live.touched += 1
            case _:
                return  # weather and load are changed by `conditions`

    def hold(self, live: Live) -> None:
        """Keep a fault up for one more cycle, and see whether it had an effect."""
        unit = self._units.get(live.asset)
        if live.kind == "trip" and isinstance(unit, DieselUnit | HydroUnit | InverterUnit):
            if not unit.fault:  # a stop command has cleared it, and its cause is still there
                self._plant.trip(live.asset, TRIPPED)
        elif isinstance(unit, DieselUnit):
            if live.kind == "fail_start":
                live.touched += unit.failing_starts < live.memo["left"]
                live.memo["left"] = unit.failing_starts
            elif live.kind == "slow_start":
                live.touched += unit.wanted and not unit.on
            elif live.kind == "stuck":
                live.touched += unit.on and (not unit.wanted or unit.fault > 0.0)

    def end(self, live: Live) -> None:
        """Let a fault end: somebody has reset, repaired or refuelled."""
        unit = self._units.get(live.asset)
        match live.kind:
            case "trip" if isinstance(unit, DieselUnit | HydroUnit | InverterUnit):
                unit.fault = 0.0
                if isinstance(unit, InverterUnit):
                    unit.running = True  # a PCS comes back by itself, following
            case "fail_start" if isinstance(unit, DieselUnit):
                unit.failing_starts = 0
            case "slow_start" if isinstance(unit, DieselUnit):
                unit.start_delay_s = 0.0
            case "stuck" if isinstance(unit, DieselUnit):
                unit.stuck = False
            case "local" if unit is not None:
                unit.local = False
            case "estop" if unit is not None:
                unit.estop = False
            case "derate":
                self._plant.batteries[live.asset].derate = 1.0
            case "tank_low":
                self._plant.deliver(live.asset, max(0.0, live.memo["level_l"] - self._plant.tanks[live.asset].level_l))
            case _:
                return

    def _by_hand(self, live: Live, unit: Unit) -> None:
        """Somebody at the unit does the opposite of what is commanded, with the switch on remote."""
        live.touched += 1
        if isinstance(unit, SolarUnit):
            self._plant.command(unit.id, "limit_kw", 0.3 * unit.rated_kw)
        elif isinstance(unit, DieselUnit):
            self._plant.command(unit.id, "running", 0.0 if unit.wanted else 1.0)
        elif isinstance(unit, DeferrableUnit):
            self._plant.command(unit.id, "running", 0.0 if unit.running else 1.0)

    def conditions(self, base: Conditions, now_s: float, lives: Sequence[Live]) -> Conditions:
        """Return the outside world with the faults in weather, load and river that are in force, or passing by."""
        for live in lives:
            if live.kind == "pv_drop":
                left = 1.0 - PV_LOST * live.severity * _front(live, now_s)
                free = base.available_kw[live.asset]
                live.touched += free > 1.0 and left < 0.99
                base = replace(base, available_kw={**base.available_kw, live.asset: free * left})
            elif live.kind == "load_step":
                sign = live.memo.setdefault("sign", live.chance.choice((-1.0, 1.0)))
                live.touched += 1
                base = replace(base, load_kw={**base.load_kw, live.asset: base.load_kw[live.asset] * (1.0 + sign * LOAD_STEP * live.severity)})
            elif live.kind == "dry_river":
                live.touched += base.inflow_m3s[live.asset] > 0.0
                base = replace(base, inflow_m3s={**base.inflow_m3s, live.asset: base.inflow_m3s[live.asset] * (1.0 - live.severity)})
        return base


def _front(live: Live, now_s: float) -> float:
    """Return how far a cloud front is over the plant, 0 to 1: it comes and goes along a ramp."""
    return max(0.0, min(1.0, (now_s - live.fault.onset_s) / FRONT_S, (live.fault.end_s - now_s) / FRONT_S))
