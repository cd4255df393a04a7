"""The plant at the energy level: quasi-steady balance, fuel, stored energy and water, step by step.

It stands in for what is outside: `command` is what a device takes, `observe` what devices show, and
`step` lets time pass. Steps are 1 s to 1 h. What is physics is here; what is a wish of the EMS (SoC
band, minimum up times, reserve) is not. A start, stop or hand-over shorter than the step is over at its start.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Load, Meter, Site, Solar, Tank, Weather
from simulator.assets.battery import BatteryUnit
from simulator.assets.deferrable import DeferrableUnit
from simulator.assets.diesel import DieselUnit
from simulator.assets.hydro import HydroUnit
from simulator.assets.inverter import InverterUnit
from simulator.assets.load import LoadUnit
from simulator.assets.solar import SolarUnit
from simulator.assets.source import Source
from simulator.assets.tank import TankUnit
from simulator.balance import EPSILON_KW, Balance
from simulator.flows import Conditions as Conditions
from simulator.flows import Flows as Flows

DROOP = 0.004
"""Share of nominal frequency by which droop units at their full rating off reference pull it (the rest is secondary control)."""
POND_FILLED = 0.5
"""How full a pond is at first."""


class Taker(Protocol):
    """Whatever takes commands by the names of its profile."""

    id: str

    def command(self, name: str, value: float) -> None:
        """Take one command."""


class Plant:
    """One site, alive.

    Parameters
    ----------
    site : Site
    soc : float
        Of every battery at the beginning.
    running : Collection[str] | None
        Diesels on the bus at the beginning; by default the first ones of the file that carry half of the peak.
    """

    def __init__(self, site: Site, soc: float = 0.5, running: Collection[str] | None = None) -> None:
        self.site = site
        self.time_s = 0.0
        self.events: list[tuple[float, str]] = []
        on = first_running(site, 0.5 * site.peak_kw) if running is None else running
        self.solars = [SolarUnit(s) for s in site.of(Solar)]
        self.hydros = [HydroUnit(h, POND_FILLED) for h in site.of(Hydro)]
        self.diesels = [DieselUnit(d, d.id in on) for d in site.of(Diesel)]
        self.batteries = {b.id: BatteryUnit(b, soc) for b in site.of(Battery)}
        behind = {b.asset.behind: b for b in self.batteries.values()}
        self.inverters = [InverterUnit(i, behind.get(i.id), forming=not on) for i in site.of(Inverter)]
        self.loads = [LoadUnit(a) for a in site.of(Load)]
        self.deferrables = [DeferrableUnit(a) for a in site.of(Deferrable)]
        self.tanks = {t.id: TankUnit(t) for t in site.of(Tank)}
        self._tank_of = {d: t for t in self.tanks.values() for d in t.asset.feeds}
        self._skies = [w.id for w in site.of(Weather)]
        self._breakers = {b: load for load in self.loads for b in (load.id, *load.closed)}
        self._units: dict[str, Source] = {u.id: u for u in (*self.solars, *self.hydros, *self.diesels, *self.inverters)}
        self._sources = tuple(self._units.values())
        takers: tuple[Taker, ...] = (*self.solars, *self.hydros, *self.diesels, *self.inverters, *self.deferrables)
        self._takers = {t.id: t.command for t in takers}
        self._meters = [(m.id, m.measures) for m in site.of(Meter)]
        self._energy_kwh = {m: [0.0, 0.0] for m, _ in self._meters}
        self._balance = Balance(self.solars, self.hydros, self.diesels, self.inverters)
        self._station_kw = site.station_kw
        self._dt_s = 1.0
        self._strain = self._stress = self._pushed_kw = 0.0
        self.blackout = False
        for inverter in self.inverters:
            inverter.begin(dead=False)
        self._live = True

    def command(self, asset: str, command: str, value: float) -> None:
        """Take a command as the device would: `command` is a name of its profile, `value` in the house unit."""
        taker = self._takers.get(asset)
        if taker is None:
            self._breakers[asset].switch(asset, value >= 0.5)
        else:
            taker(command, value)

    def trip(self, asset: str, fault: float = 1.0) -> None:
        """Let a diesel, hydro or inverter trip with a fault code."""
        unit = self._units[asset]
        if not isinstance(unit, DieselUnit | HydroUnit | InverterUnit):
            raise KeyError(asset)
        unit.trip(fault)

    def deliver(self, tank: str, litres: float) -> None:
        """Fill a tank [L]."""
        self.tanks[tank].deliver(litres)

    def observe(self, conditions: Conditions) -> dict[str, dict[str, float | None]]:
        """Return every point of every asset and feeder, settled under these conditions; no time passes.

        Loads show what is wanted behind closed feeders: a shortage shows as low frequency.
        """
        self._settle(conditions, 0.0)
        live = self._live
        hz = self.site.site.nominal_hz * (1.0 - DROOP * self._strain + self._stress) if live else 0.0
        return self._shown(conditions, hz, self.site.site.nominal_v if live else 0.0)

    def _shown(self, conditions: Conditions, hz: float, volts: float) -> dict[str, dict[str, float | None]]:
        """Return every point at this frequency and voltage of the busbar."""
        live = self._live
        shown: dict[str, dict[str, float | None]] = {}
        for solar in self.solars:
            shown[solar.id] = solar.points()
        for hydro in self.hydros:
            shown[hydro.id] = hydro.points()
        for diesel in self.diesels:
            shown[diesel.id] = diesel.points(hz or self.site.site.nominal_hz, volts or self.site.site.nominal_v)
        for inverter in self.inverters:
            shown[inverter.id] = inverter.points(hz, volts)
        for battery in self.batteries.values():
            shown[battery.id] = battery.points()
        for load in self.loads:
            shown[load.id] = load.points(live, hz, volts)
            shown.update(load.feeder_points(live))
        for deferrable in self.deferrables:
            shown[deferrable.id] = deferrable.points()
        for tank in self.tanks.values():
            shown[tank.id] = tank.points()
        for meter, _ in self._meters:
            shown[meter] = {"energy_export_kwh": self._energy_kwh[meter][0], "energy_import_kwh": self._energy_kwh[meter][1]}
        for sky in self._skies:
            shown[sky] = {"ghi_wm2": conditions.ghi_wm2, "temperature_c": conditions.air_temp_c}
        if live:
            self._spread_kvar(shown)
        return shown

    def step(self, dt_s: float, conditions: Conditions) -> Flows:
        """Let `dt_s` pass [s] under the commands in force and return what happened."""
        hours = dt_s / 3600.0
        self._dt_s = dt_s
        started = [d.starts for d in self.diesels]
        litres = self._begin(dt_s)
        short = self._settle(conditions, hours)
        if not self._live and not self.blackout:
            self._go_dark()
        spilled, lost = self._integrate(dt_s, hours, litres)
        power = {u.id: u.power_kw for u in self._sources}
        for battery in self.batteries.values():
            power[battery.id] = battery.power_kw
        wanted, drawn, station, unserved = self._demand(power, short)
        available = {s.id: s.available_kw for s in self.solars}
        used = 0.0
        for solar in self.solars:
            used += solar.power_kw
        for meter, measured in self._meters:
            kwh = power.get(measured, 0.0) * hours
            self._energy_kwh[meter][0 if kwh > 0.0 else 1] += abs(kwh)
        self.time_s += dt_s
        return Flows(
            power_kw=power,
            load_kw=wanted + drawn,
            served_kw=wanted + drawn - unserved,
            unserved_kw=unserved,
            station_kw=station,
            available_kw=available,
            curtailed_kw=sum(available.values()) - used,
            spilled_kw=spilled,
            pushed_kw=self._pushed_kw,
            fuel_l={d.id: x for d, x in zip(self.diesels, litres, strict=True)},
            running={d.id: d.on for d in self.diesels},
            starts={d.id: d.starts - n for d, n in zip(self.diesels, started, strict=True)},
            losses_kw=lost / hours,
            soc={b.id: b.soc for b in self.batteries.values()},
            pond_m3={h.id: h.pond_m3 for h in self.hydros},
            formers=tuple([u.id for u in self._sources if u.forming]),
            blackout=self.blackout,
        )

    def _begin(self, dt_s: float) -> list[float]:
        """Carry out commands at the start of a step; return the litres of completed starts by diesel [L]."""
        dead = self.blackout
        for solar in self.solars:
            solar.begin(dt_s)
        for hydro in self.hydros:
            hydro.begin(dt_s)
        holders = 0
        for inverter in self.inverters:
            inverter.begin(dead)
            holders += inverter.forming
        holders += sum(h.forming for h in self.hydros)
        for diesel in self.diesels:
            holders += diesel.on and diesel.wanted and diesel.can_form
            tank = self._tank_of.get(diesel.id)
            diesel.starved = tank is not None and tank.dry
        litres = [d.begin(dt_s, holders == 0, dead) for d in self.diesels]
        if dead:
            alive = [d.id for d in self.diesels if d.on] + [i.id for i in self.inverters if i.forming]
            if alive:
                self.blackout = False
                self.events.append((self.time_s, f"{', '.join(alive)} closed on the dead bus: it is alive again"))
        return litres

    def _settle(self, conditions: Conditions, hours: float) -> float:
        """Give every source its power under these conditions; return what nobody could give [kW]."""
        need = self._station_kw
        for load in self.loads:
            load.demand_kw = conditions.load_kw[load.id]
            need += load.demand_kw * load.share
        for solar in self.solars:
            solar.prepare(conditions.available_kw[solar.id])
        holders = 0
        for hydro in self.hydros:
            hydro.prepare(conditions.inflow_m3s[hydro.id], self._dt_s)
            holders += hydro.forming
        for diesel in self.diesels:
            diesel.prepare()
            holders += diesel.forming
        for inverter in self.inverters:
            inverter.prepare(hours)
            holders += inverter.forming
        self._live = holders > 0 and not self.blackout
        self._pushed_kw = 0.0
        if not self._live:
            return self._dark(need)
        drawn = 0.0
        for deferrable in self.deferrables:
            deferrable.power_kw = deferrable.draws_kw()
            drawn += deferrable.power_kw
        short, self._pushed_kw, self._strain = self._balance.settle(need + drawn)
        if short > need + drawn + EPSILON_KW:
            # Not even the inverters' own losses are met: whoever forms has nothing left to form with.
            self._live, self._pushed_kw = False, 0.0
            return self._dark(need)
        self._stress = -0.06 if short > 0.0 else 0.02 if self._pushed_kw > 0.0 else 0.0
        return short

    def _dark(self, need_kw: float) -> float:
        """Leave everything off: nobody holds the bus; return all that is wanted as unserved [kW]."""
        for unit in self._sources:
            unit.rest()
            unit.forming = False
        for deferrable in self.deferrables:
            deferrable.power_kw = 0.0
        return need_kw

    def _integrate(self, dt_s: float, hours: float, litres: list[float]) -> tuple[float, float]:
        """Let time pass in every asset; return spilled hydro power [kW] and the energy that became heat [kWh]."""
        for k, diesel in enumerate(self.diesels):
            burnt = litres[k] + diesel.integrate(dt_s)
            litres[k] = burnt
            diesel.fuel_l += burnt
            if burnt and diesel.id in self._tank_of:
                self._tank_of[diesel.id].level_l -= burnt
        spilled = lost = 0.0
        for hydro in self.hydros:
            spilled += hydro.integrate(dt_s)
        for inverter in self.inverters:
            lost += inverter.integrate(hours, self._live)
        return spilled, lost

    def _demand(self, power: dict[str, float], short_kw: float) -> tuple[float, float, float, float]:
        """Enter what loads drew into `power`; return load, deferrables, station use and what of it was unserved [kW].

        A shortage goes to deferrables first, then to loads pro rata, and only then to station use.
        """
        wanted = closed = drawn = 0.0
        for load in self.loads:
            wanted += load.demand_kw
            power[load.id] = served = load.demand_kw * load.share
            closed += served
        for deferrable in self.deferrables:
            drawn += deferrable.power_kw
            power[deferrable.id] = deferrable.power_kw
        if short_kw <= 0.0:
            return wanted, drawn, self._station_kw, wanted - closed
        dropped = min(drawn, short_kw)
        for deferrable in self.deferrables:
            deferrable.power_kw *= 1.0 - dropped / drawn if drawn > 0.0 else 0.0
            power[deferrable.id] = deferrable.power_kw
        dark = min(closed, short_kw - dropped)
        for load in self.loads:
            power[load.id] *= 1.0 - dark / closed if closed > 0.0 else 0.0
        station = self._station_kw - (short_kw - dropped - dark)
        return wanted, drawn, max(0.0, station), wanted - closed + dropped + dark

    def _go_dark(self) -> None:
        """Nobody holds the bus any more: everything trips and waits to be told."""
        self.blackout = True
        self.events.append((self.time_s, "blackout: no unit holds the bus"))
        for diesel in self.diesels:
            if diesel.on:
                diesel.trip(diesel.fault)
                diesel.wanted = False
        for inverter in self.inverters:
            inverter.trip(inverter.fault)
        for hydro in self.hydros:
            hydro.trip(hydro.fault)
        for deferrable in self.deferrables:
            deferrable.running = False

    def _spread_kvar(self, shown: dict[str, dict[str, float | None]]) -> None:
        """Share the loads' reactive power among the units that hold the voltage, in proportion to kVA."""
        kvar = sum(load.demand_kw * load.share * load.tan_phi for load in self.loads)
        holding = {d.id: d.asset.rated_kva for d in self.diesels if d.on}
        holding |= {i.id: i.asset.rated_kva for i in self.inverters if i.forming}
        for unit, kva in holding.items():
            shown[unit]["reactive_kvar"] = kvar * kva / sum(holding.values())


def first_running(site: Site, need_kw: float) -> tuple[str, ...]:
    """Return the first diesels of the site file that together carry `need_kw` [kW]; none where nothing is needed."""
    chosen: list[str] = []
    for diesel in site.of(Diesel):
        if need_kw <= 0.0:
            break
        chosen.append(diesel.id)
        need_kw -= diesel.rated_kw
    return tuple(chosen)
