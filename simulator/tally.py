"""What the dynamic plant adds up over one step, and the flows that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simulator.assets.battery import BatteryUnit
from simulator.assets.deferrable import DeferrableUnit
from simulator.assets.diesel import DieselUnit
from simulator.assets.load import LoadUnit
from simulator.swing import Bus

if TYPE_CHECKING:
    from simulator.converters import SolarDrive


class Tally:
    """Sums of one step.

    Attributes
    ----------
    given_kws : dict[str, float]
        Energy at the terminals of everything that has a power [kW s]; of a battery on its DC side.
    fuel_l : list[float]
        By diesel, starts included.
    dark_s : float
        Time on a dead bus since the last `flush` [s].
    spilled_kws, lost_kwh : float
        Energy in spilled water [kW s]; heat in inverters and batteries [kWh].
    """

    __slots__ = (
        "given_kws", "fuel_l", "dark_s", "spilled_kws", "lost_kwh", "pushed_kws", "station_kws", "lowest_hz", "highest_hz", "steepest", "voltage",
        "_loads", "_deferrables", "_diesels", "_batteries", "_starts", "_live_s", "_drawn_kws", "_steady_kws", "_missing_kws", "_wanted_kws", "_unserved_kws",
    )  # fmt: skip

    def __init__(
        self, loads: Sequence[LoadUnit], deferrables: Sequence[DeferrableUnit], diesels: Sequence[DieselUnit], batteries: Sequence[BatteryUnit]
    ) -> None:
        self._loads, self._deferrables, self._diesels, self._batteries = loads, deferrables, diesels, batteries
        self.dark_s = self._live_s = self._drawn_kws = self._steady_kws = self._missing_kws = 0.0
        self.begin()

    def begin(self) -> None:
        """Begin a step."""
        self.given_kws = dict.fromkeys([*(b.id for b in self._batteries), *(x.id for x in self._loads), *(x.id for x in self._deferrables)], 0.0)
        self.fuel_l = [0.0] * len(self._diesels)
        self._starts = [d.starts for d in self._diesels]
        self.spilled_kws = self.lost_kwh = self.pushed_kws = self.station_kws = 0.0
        self._wanted_kws = self._unserved_kws = 0.0
        self.lowest_hz, self.highest_hz, self.steepest, self.voltage = 1e9, 0.0, 0.0, 1.0

    def count(self, bus: Bus, h: float) -> None:
        """Add a substep of a bus that is alive."""
        self._live_s += h
        self._drawn_kws += bus.drawn_kw * h
        self._steady_kws += bus.steady_kw * h
        self._missing_kws += bus.missing_kw * h
        hz, rocof = bus.hz, bus.rocof
        if hz < self.lowest_hz:
            self.lowest_hz = hz
        if hz > self.highest_hz:
            self.highest_hz = hz
        if rocof * rocof > self.steepest * self.steepest:
            self.steepest = rocof
        if bus.voltage < self.voltage:
            self.voltage = bus.voltage

    def flush(self) -> None:
        """Enter what loads drew since the last time, under what is connected now; call it before that changes.

        What the voltage did not allow is missing to loads and deferrables pro rata, and only then to station use.
        """
        live, dark = self._live_s, self.dark_s
        given = self.given_kws
        if live > 0.0:
            running = sum(d.power_kw for d in self._deferrables) * live
            houses, station, missing = self._drawn_kws - self._steady_kws, self._steady_kws - running, self._missing_kws
            lost = min(missing, houses + running)
            part = 1.0 - lost / (houses + running) if lost > 0.0 else 1.0
            closed = sum(load.demand_kw * load.share for load in self._loads)
            for load in self._loads:
                if closed > 0.0:
                    given[load.id] += houses * part * load.demand_kw * load.share / closed
                self._unserved_kws += load.shed_kw * live
                self._wanted_kws += load.shed_kw * live
            for deferrable in self._deferrables:
                given[deferrable.id] += deferrable.power_kw * live * part
            self.station_kws += station - (missing - lost)
            self._wanted_kws += houses + running
            self._unserved_kws += lost
        if dark > 0.0:
            wanted = sum(load.demand_kw for load in self._loads) * dark
            self._wanted_kws += wanted
            self._unserved_kws += wanted
        self._live_s = self.dark_s = self._drawn_kws = self._steady_kws = self._missing_kws = 0.0

    @property
    def load_kws(self) -> float:
        """What was wanted, with deferrables [kW s]."""
        return self._wanted_kws

    @property
    def unserved_kws(self) -> float:
        """What of it was not served [kW s]."""
        return self._unserved_kws

    def take(self, drives: Sequence[tuple[str, float]], suns: Sequence[SolarDrive]) -> None:
        """Add the energy of each source in a tick [kW s]."""
        given = self.given_kws
        for source, kws in drives:
            given[source] = given.get(source, 0.0) + kws
        for sun in suns:
            self.pushed_kws += sun.pushed_kws

    def starts(self) -> dict[str, int]:
        """Return how often each diesel came on the bus."""
        return {d.id: d.starts - n for d, n in zip(self._diesels, self._starts, strict=True)}
