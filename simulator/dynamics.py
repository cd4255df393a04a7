"""The plant at the dynamic level: rotors, governors, inverters and relays in substeps of 20 to 50 ms.

It has the calls of `simulator.plant.Plant` and its units, so that it can stand behind the same wire and
the same controller. What is replaced is the quasi-steady balance: `simulator/swing.py` gives the bus its frequency,
`simulator/drives.py` and `simulator/converters.py` each source its power, `simulator/protection.py` what trips by itself. Slow things (charge, water,
fuel, sun, what people want) move once a tick of at most a second, with the means of its substeps.

Powers of `Flows` are means over the step at the terminals: what a rotor takes up or gives back is inside its machine, so the
sources meet load and station use exactly at every substep. Load is what people's appliances draw at the frequency of the moment
(less at low frequency, more after an outage); what an open feeder or a low voltage keeps from them is unserved.
"""

from __future__ import annotations

from collections.abc import Collection
from math import ceil, hypot

from ems.config.site import Site
from ems.physics import dc_kw, fuel_l_per_h
from simulator.assets.source import SHORT_STEP_S, Tier
from simulator.converters import PV_RECONNECT_S, SolarDrive, StorageDrive
from simulator.drives import Drive, SetDrive, TurbineDrive
from simulator.plant import Conditions, Flows, Plant
from simulator.protection import BRIM, BRIM_S, FAULTS, IN_BAND_HZ, IN_BAND_V, SAG, SAG_S, FrequencyRelays, SetRelays, Shedding, warm
from simulator.swing import Bus
from simulator.tally import Tally

TICK_S = 1.0
"""Limits and slow states are taken anew at least this often [s]."""
WEAK_KVA = 1.5
"""Generators hold the voltage up to this many times the rated apparent power on the bus: what their excitation can force."""


class DynamicPlant(Plant):
    """One site, second by second.

    Parameters
    ----------
    site : Site
    soc : float
        Of every battery at the beginning.
    running : Collection[str] | None
        Diesels on the bus at the beginning; by default the first ones of the file that carry half of the peak.
    substep_s : float
        Length of a substep [s].
    """

    def __init__(self, site: Site, soc: float = 0.5, running: Collection[str] | None = None, substep_s: float = 0.05) -> None:
        super().__init__(site, soc, running)
        self.substep_s = substep_s
        hz = site.site.nominal_hz
        self._sets = [SetDrive(d, hz) for d in self.diesels]
        self._turbines = [TurbineDrive(h, hz) for h in self.hydros]
        self._storages = [StorageDrive(i, hz) for i in self.inverters]
        self._suns = [SolarDrive(s, hz) for s in self.solars]
        self._drives: list[Drive] = [*self._suns, *self._turbines, *self._sets, *self._storages]
        self._bus = Bus(hz)
        self._set_relays = [SetRelays(d.rated_kw) for d in self.diesels]
        self._relays = FrequencyRelays(hz)
        self._shedding = Shedding(site, self.loads)
        self._tally = Tally(self.loads, self.deferrables, self.diesels, tuple(self.batteries.values()))
        self._begun = False

    @property
    def frequency_hz(self) -> float:
        """Of the busbar now; 0 when it is dead [Hz]."""
        return self._bus.hz if self._live else 0.0

    def observe(self, conditions: Conditions) -> dict[str, dict[str, float | None]]:
        """Return every point of every asset and feeder as it is at this moment; no time passes."""
        self._begin_with(conditions)
        return self._shown(conditions, self.frequency_hz, self._bus.voltage * self.site.site.nominal_v if self._live else 0.0)

    def step(self, dt_s: float, conditions: Conditions) -> Flows:
        """Let `dt_s` pass [s] under the commands in force and return what happened."""
        self._begin_with(conditions)
        began_s = self.time_s
        self._tally.begin()
        ticks = max(1, ceil(dt_s / TICK_S - 1e-9))
        for _ in range(ticks):
            self._tick(dt_s / ticks, conditions)
        self.time_s = began_s + dt_s
        return self._flows(dt_s)

    def _flows(self, dt_s: float) -> Flows:
        """Return the means of the step."""
        tally, live = self._tally, self._live
        power = {u.id: tally.given_kws.get(u.id, 0.0) / dt_s for u in self._sources}
        power |= {a: kws / dt_s for a, kws in tally.given_kws.items()}
        available = {s.id: s.available_kw for s in self.solars}
        for meter, measured in self._meters:
            kwh = power.get(measured, 0.0) * dt_s / 3600.0
            self._energy_kwh[meter][0 if kwh > 0.0 else 1] += abs(kwh)
        seen = tally.highest_hz > 0.0
        return Flows(
            power_kw=power,
            load_kw=tally.load_kws / dt_s,
            served_kw=(tally.load_kws - tally.unserved_kws) / dt_s,
            unserved_kw=tally.unserved_kws / dt_s,
            station_kw=tally.station_kws / dt_s,
            available_kw=available,
            curtailed_kw=sum(available.values()) - sum(power[s.id] for s in self.solars),
            spilled_kw=tally.spilled_kws / dt_s,
            pushed_kw=tally.pushed_kws / dt_s,
            fuel_l={d.id: x for d, x in zip(self.diesels, tally.fuel_l, strict=True)},
            running={d.id: d.on for d in self.diesels},
            starts=tally.starts(),
            losses_kw=tally.lost_kwh / dt_s * 3600.0,
            soc={b.id: b.soc for b in self.batteries.values()},
            pond_m3={h.id: h.pond_m3 for h in self.hydros},
            formers=tuple(u.id for u in self._sources if u.forming),
            blackout=self.blackout,
            frequency_hz=self.frequency_hz,
            frequency_min_hz=tally.lowest_hz if seen and live else 0.0,
            frequency_max_hz=tally.highest_hz,
            rocof_hz_per_s=tally.steepest,
            voltage_v=tally.voltage * self.site.site.nominal_v if live else 0.0,
        )

    # ------------------------------------------------------------------ slow
    def _begin_with(self, conditions: Conditions) -> None:
        """Stand, at first, as the energy level would: everything at rest in a balance."""
        if self._begun:
            return
        self._begun = True
        for hydro in self.hydros:
            hydro.begin(SHORT_STEP_S)
        self._settle(conditions, 0.0)
        if not self._live:
            self._dim()
            return
        slack = [u for u in (*self.diesels, *self.inverters) if u.tier is Tier.SLACK]
        common = sum(u.power_kw for u in slack) / sum(u.rated_kw for u in slack) if slack else 0.0
        self._bus.common = common
        for sun in self._suns:
            sun.shaft_kw = sun.power_kw = sun.unit.power_kw
        for turbine in self._turbines:
            turbine.join(turbine.unit.power_kw)
        for drive in self._sets:
            if drive.unit.on:
                drive.join(drive.unit.power_kw, 1.0)
                if drive.unit.tier is not Tier.SLACK:
                    drive.follow_kw = min(max(drive.unit.ref_kw or 0.0, 0.0), drive.unit.rated_kw)
        for storage in self._storages:
            storage.shaft_kw = storage.power_kw = storage.unit.power_kw
        self._ready(TICK_S, conditions)
        if not slack:
            forming = [(s.gain, s.power_kw - s.ref_kw) for s in self._storages if s.unit.forming]
            forming += [(t.gain, t.power_kw - t.wish_kw) for t in self._turbines if t.unit.forming]
            forming += [(d.gain, d.power_kw - d.follow_kw) for d in self._sets if d.unit.forming]
            low_hz = sum(off for _, off in forming) / sum(gain for gain, _ in forming)
            self._bus.hz -= low_hz
            for turbine in self._turbines:
                turbine.memory_hz = low_hz

    def _tick(self, tick_s: float, conditions: Conditions) -> None:
        """Let at most a second pass."""
        in_band = self._in_band()
        for feeder in self._shedding.restore(in_band, tick_s):
            self._tell(f"{feeder} is restored by its own relay")
        warm(self.loads, self._live, tick_s)
        for sun in self._suns:
            sun.wait_s = max(0.0, sun.wait_s - tick_s) if in_band or sun.wait_s <= 0.0 else PV_RECONNECT_S
        self._ready(tick_s, conditions)
        n = max(1, round(tick_s / self.substep_s))
        h = tick_s / n
        for _ in range(n):
            self._substep(h)
            self.time_s += h
        self._tally.flush()
        self._pass(tick_s)
        bus = self._bus
        factor = (bus.drawn_kw - bus.steady_kw - bus.missing_kw) / bus.load_kw if bus.load_kw > 0.0 else 1.0
        for load in self.loads:
            load.factor = factor

    def _ready(self, tick_s: float, conditions: Conditions) -> None:
        """Take the outside world, the commands, and what has been done to units since the last tick."""
        for load in self.loads:
            load.demand_kw = conditions.load_kw[load.id]
        dead = self.blackout
        for diesel in self.diesels:
            tank = self._tank_of.get(diesel.id)
            diesel.starved = tank is not None and tank.dry
        kvar = self._kvar_per_kva() if self._live else 0.0
        for storage in self._storages:
            unit = storage.unit
            storage.ready(kvar * unit.asset.rated_kva if unit.forming else 0.0, tick_s, dead)
        for turbine in self._turbines:
            turbine.ready(conditions.inflow_m3s[turbine.id], tick_s)
            if dead:
                turbine.on = turbine.unit.forming = False
                turbine.rest()
        for sun in self._suns:
            sun.ready(conditions.available_kw[sun.id], tick_s)
        if dead and any(s.unit.forming for s in self._storages):
            self._revive([s.id for s in self._storages if s.unit.forming])
        self._connect()

    def _pass(self, tick_s: float) -> None:
        """Burn, store and let water flow at the means of this tick."""
        tally = self._tally
        for k, drive in enumerate(self._sets):
            if drive.on_s > 0.0:
                unit = drive.unit
                unit.run_s += drive.on_s
                self._burn(k, fuel_l_per_h(unit.asset.fuel, max(0.0, drive.shaft_kws / drive.on_s)) * drive.on_s / 3600.0)
        for turbine in self._turbines:
            hydro = turbine.unit
            hydro.power_kw = turbine.shaft_kws / tick_s
            tally.spilled_kws += hydro.integrate(tick_s) * tick_s
        for storage in self._storages:
            battery, given = storage.unit.battery, storage.given_kws
            if battery is None:
                tally.lost_kwh -= given / 3600.0
                continue
            dc = dc_kw(storage.unit.asset, given / storage.on_s) if storage.on_s > 0.0 else 0.0
            hours = storage.on_s / 3600.0
            tally.lost_kwh += battery.integrate(dc, hours) - given / 3600.0
            tally.given_kws[battery.id] += dc * storage.on_s
        tally.take([(d.id, d.given_kws) for d in self._drives], self._suns)
        for one, source in zip(self._drives, self._sources, strict=True):
            source.power_kw = one.power_kw
            one.clear()

    def _burn(self, k: int, litres: float) -> None:
        """Take fuel for a diesel out of its tank [L]."""
        diesel = self.diesels[k]
        self._tally.fuel_l[k] += litres
        diesel.fuel_l += litres
        if diesel.id in self._tank_of:
            self._tank_of[diesel.id].level_l -= litres

    def _kvar_per_kva(self) -> float:
        """Return the reactive load by the apparent power of what holds the voltage."""
        kvar = sum(load.demand_kw * load.share * load.tan_phi for load in self.loads)
        kva = sum(d.asset.rated_kva for d in self.diesels if d.on) + sum(i.asset.rated_kva for i in self.inverters if i.forming)
        return kvar / kva if kva > 0.0 else 0.0

    # ------------------------------------------------------------------ fast
    def _substep(self, h: float) -> None:
        self._sequence(h)
        if not self._live:
            self._tally.dark_s += h
            return
        bus = self._bus
        bus.substep(h)
        self._tally.count(bus, h)
        relay = self._relays.see(bus.hz, h)
        if relay is not None:
            self._tell(f"{relay} relays trip every unit at {bus.hz:.2f} Hz")
            self._all_off(FAULTS[relay])
            return
        for drive, relays in zip(self._sets, self._set_relays, strict=True):
            if drive.on and (relay := relays.see(drive.power_kw, h)) is not None:
                self._off(drive, relay, f"{drive.power_kw:.0f} kW")
        for storage in self._storages:
            if storage.unit.forming:
                self._watch(storage, h)
        for feeder, load in self._shedding.see(bus.hz, h):
            self._tally.flush()
            load.relay(feeder)
            self._tell(f"{feeder} is shed by its under-frequency relay at {bus.hz:.2f} Hz")
            self._count_load()

    def _sequence(self, h: float) -> None:
        """Take every set one substep further: crank, warm up, synchronise and close; unload and open."""
        for drive in self._sets:
            unit = drive.unit
            if not drive.on:
                if not unit.on and unit.started(h) and not unit.stuck and (unit.can_form if not self._live else self._in_band()):
                    self._close(drive)
            elif not unit.on or unit.fault or unit.estop:
                unit.trip(unit.fault)
                self._leave(drive)
            elif not unit.wanted and not unit.stuck and (drive.unloaded or self._alone()):
                unit.open()
                self._leave(drive)

    def _close(self, drive: SetDrive) -> None:
        if not self._live:
            self._revive([drive.id])
        self._tally.flush()
        self._burn(self._sets.index(drive), drive.unit.close())
        drive.join(0.0, 0.0)
        self._connect()

    def _leave(self, drive: SetDrive) -> None:
        drive.leave()
        self._connect()

    def _off(self, drive: SetDrive | StorageDrive, relay: str, told: str) -> None:
        """Let a relay trip a unit."""
        self._tell(f"{drive.id}: {relay} relay trips at {told}")
        drive.unit.trip(FAULTS[relay])
        if isinstance(drive, SetDrive):
            self._leave(drive)
        else:
            drive.on = False
            drive.rest()
            self._connect()

    def _watch(self, storage: StorageDrive, h: float) -> None:
        """Trip a former that the bus asks for more than it or its battery can do."""
        sagged = self._bus.voltage < SAG
        storage.sag_s = storage.sag_s + h if sagged else 0.0
        storage.brim_s = storage.brim_s + h if storage.power_kw < storage.lo_kw - BRIM * storage.unit.rated_kw else 0.0
        if storage.sag_s >= SAG_S - 1e-9:
            self._off(storage, "overload", f"{self._bus.voltage:.0%} of the voltage")
        elif storage.brim_s >= BRIM_S - 1e-9:
            self._off(storage, "DC over-voltage", f"{storage.power_kw:.0f} kW into a battery that takes {-storage.lo_kw:.0f} kW")

    def _all_off(self, fault: float) -> None:
        """Trip everything."""
        for diesel in self.diesels:
            diesel.fault = fault if diesel.on else diesel.fault
        for inverter in self.inverters:
            inverter.fault = fault if inverter.running else inverter.fault
        for hydro in self.hydros:
            hydro.fault = fault if hydro.running else hydro.fault
        self._dim()

    # ------------------------------------------------------------------ the bus lives and dies
    def _connect(self) -> None:
        """Take stock of who is on the bus, after any change; without a former it is dead."""
        for drive in self._sets:
            drive.unit.forming = drive.on and drive.unit.can_form
        for turbine in self._turbines:
            turbine.unit.forming = turbine.on and turbine.unit.asset.forming != "never" and turbine.top_kw > 0.0
        self._live = not self.blackout and any(u.forming for u in self._sources)
        if not self._live:
            if not self.blackout:
                self._dim()
            return
        self._bus.connect(self._drives)
        self._count_load()

    def _count_load(self) -> None:
        """Work out what is connected."""
        steady = self._station_kw
        for deferrable in self.deferrables:
            deferrable.power_kw = deferrable.draws_kw()
            steady += deferrable.power_kw
        self._bus.steady_kw = steady
        self._bus.load_kw = sum(load.demand_kw * load.share for load in self.loads)
        kva = sum(d.asset.rated_kva for d in self.diesels if d.on) + sum(i.asset.rated_kva for i in self.inverters if i.forming)
        kva += sum(h.asset.rated_kw for h in self.hydros if h.forming)
        apparent = hypot(self._bus.load_kw + steady, self._kvar_per_kva() * kva)
        self._bus.weak = min(1.0, WEAK_KVA * kva / apparent) if apparent > 0.0 else 1.0

    def _alone(self) -> bool:
        """Whether nobody would hold the bus if the sets that are told to stop left it."""
        return not any(u.forming for u in (*self.inverters, *self.hydros)) and not any(d.forming and d.wanted for d in self.diesels)

    def _in_band(self) -> bool:
        """Whether the bus is healthy enough to close on."""
        bus, hz = self._bus, self.site.site.nominal_hz
        return self._live and abs(bus.hz - hz) <= IN_BAND_HZ * hz and abs(bus.voltage - 1.0) <= IN_BAND_V

    def _dim(self) -> None:
        """Let the bus die."""
        self._tally.flush()
        if not self.blackout:
            self._go_dark()
        self._live = False
        self._dark(0.0)
        for drive in self._sets:
            drive.leave()
        for other in (*self._turbines, *self._storages, *self._suns):
            other.on = isinstance(other, SolarDrive)
            other.rest()
        for sun in self._suns:
            sun.wait_s = PV_RECONNECT_S

    def _revive(self, units: list[str]) -> None:
        """Let a unit close on the dead bus."""
        self._tally.flush()
        self.blackout, self._live = False, True
        self.events.append((self.time_s, f"{', '.join(units)} closed on the dead bus: it is alive again"))
        hz = self.site.site.nominal_hz
        self._bus = Bus(hz)
        self._relays = FrequencyRelays(hz)

    def _tell(self, text: str) -> None:
        self.events.append((self.time_s, text))
