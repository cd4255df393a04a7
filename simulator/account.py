"""What a replay adds up over its intervals, whole and by calendar month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar
from ems.decision import Decision, Reserve
from ems.series import Interval
from simulator.plant import Flows, Plant
from simulator.tallies import Deferred, River, mean_soc
from simulator.violations import Violations

SUMS = (
    "load_kwh", "served_kwh", "unserved_kwh", "station_kwh", "curtailed_kwh", "spilled_kwh", "pushed_kwh", "losses_kwh", "solar_available_kwh", "solar_kwh",
    "hydro_available_kwh", "hydro_kwh", "battery_charge_kwh", "battery_discharge_kwh", "diesel_l", "diesel_kwh", "diesel_off_h",
)  # fmt: skip
MONTHLY = ("load_kwh", "unserved_kwh", "curtailed_kwh", "diesel_l", "diesel_kwh", "diesel_off_h")
"""Sums that are kept by month too."""


@dataclass(frozen=True, slots=True)
class Month:
    """One calendar month (UTC) of a run, or as much of it as lies in the period.

    Attributes
    ----------
    name : str
        As 2016-05.
    hours : float
        How much of it was run [h].
    sums : Mapping[str, float]
        By name in `MONTHLY` [kWh, L, h].
    run_h, low_load_h : float
        Engine hours of all diesels, and those under minimum loading [h].
    starts : int
    violations : Mapping[str, int]
        Steps by kind.
    soc_start, soc_end : Mapping[str, float]
        By battery.
    """

    name: str
    hours: float
    sums: Mapping[str, float]
    run_h: float
    low_load_h: float
    starts: int
    violations: Mapping[str, int]
    soc_start: Mapping[str, float]
    soc_end: Mapping[str, float]


class Account:
    """The sums of one run from one interval on.

    Parameters
    ----------
    site : Site
        As it is run.
    plant : Plant
        In its state before the first interval that counts.
    soc : Mapping[str, float]
        By battery, before the first interval.
    step_s : float
        Length of an interval [s].
    """

    def __init__(self, site: Site, plant: Plant, soc: Mapping[str, float], step_s: float) -> None:
        self.site = site
        self.soc_start, self.soc = dict(soc), dict(soc)
        self.violations = Violations(site, soc)
        self.sums = dict.fromkeys(SUMS, 0.0)
        self.run_h = dict.fromkeys((d.id for d in site.of(Diesel)), 0.0)
        self.starts = dict.fromkeys(self.run_h, 0)
        self.changes = self.fallback = self.blackouts = 0
        self.deferred = Deferred(site)
        self.rows: list[tuple[Any, ...]] = []
        self._capacity = {b.id: b.capacity_kwh for b in site.of(Battery)}
        self.lowest = mean_soc(soc, self._capacity) if soc else None
        self._on = {d: d in {x.id for x in plant.diesels if x.on} for d in self.run_h}
        self._step_s, self._hours = step_s, step_s / 3600.0
        self._rivers = {h.id: River(h, plant.hydros[k].pond_m3) for k, h in enumerate(site.of(Hydro))}
        self._solars, self._inverters = [s.id for s in site.of(Solar)], [i.id for i in site.of(Inverter)]
        self._months: list[Month] = []
        self._month, self._before, self._before_soc = "", self._totals(), dict(soc)
        self._steps = 0

    def add(self, at: datetime, interval: Interval, flows: Flows, decision: Decision, *, fallback: bool) -> None:
        """Add one interval; `fallback` says that there was no plan where one was to be followed."""
        if (name := f"{at:%Y-%m}") != self._month:
            self._close()
            self._month = name
        reserve = self.violations.add(flows, self.soc, self._hours)
        self._energy(interval, flows)
        self._engines(flows)
        if self.lowest is not None:
            self.lowest = min(self.lowest, mean_soc(flows.soc, self._capacity))
        self.blackouts += flows.blackout
        self.fallback += fallback
        self.deferred.add(at, self._step_s, flows.power_kw)
        self.rows.append(row(at, flows, reserve, decision))
        self.soc = dict(flows.soc)
        self._steps += 1

    def months(self) -> tuple[Month, ...]:
        """Return the months so far; the last one is closed."""
        self._close()
        return tuple(self._months)

    def _energy(self, interval: Interval, flows: Flows) -> None:
        sums, hours, power = self.sums, self._hours, flows.power_kw
        sums["load_kwh"] += flows.load_kw * hours
        sums["served_kwh"] += flows.served_kw * hours
        sums["unserved_kwh"] += flows.unserved_kw * hours
        sums["station_kwh"] += flows.station_kw * hours
        sums["curtailed_kwh"] += flows.curtailed_kw * hours
        sums["spilled_kwh"] += flows.spilled_kw * hours
        sums["pushed_kwh"] += flows.pushed_kw * hours
        sums["losses_kwh"] += flows.losses_kw * hours
        sums["solar_available_kwh"] += sum(flows.available_kw.values()) * hours
        sums["solar_kwh"] += sum(power[s] for s in self._solars) * hours
        for river in self._rivers.values():
            sums["hydro_available_kwh"] += river.reach_kwh(interval.inflow_m3s[river.id], self._step_s)
            sums["hydro_kwh"] += power[river.id] * hours
        for inverter in self._inverters:
            kwh = power[inverter] * hours
            sums["battery_discharge_kwh" if kwh > 0.0 else "battery_charge_kwh"] += abs(kwh)

    def _engines(self, flows: Flows) -> None:
        sums, hours = self.sums, self._hours
        for d, litres in flows.fuel_l.items():
            on = flows.running[d]
            sums["diesel_l"] += litres
            sums["diesel_kwh"] += flows.power_kw[d] * hours
            self.run_h[d] += hours if on else 0.0
            self.starts[d] += flows.starts[d]
            self.changes += on is not self._on[d]
            self._on[d] = on
        sums["diesel_off_h"] += 0.0 if any(flows.running.values()) else hours

    def _totals(self) -> dict[str, float]:
        """Return what a month is the difference of."""
        found = {name: self.sums[name] for name in MONTHLY}
        found |= {"run_h": sum(self.run_h.values()), "low_load_h": self.violations.low_load_h, "starts": float(sum(self.starts.values()))}
        return found | {f"violations/{k}": float(c.count) for k, c in self.violations.counts.items()}

    def _close(self) -> None:
        """Close the month that has been added up."""
        if not self._steps:
            return
        now = self._totals()
        new = {k: v - self._before[k] for k, v in now.items()}
        self._months.append(
            Month(
                name=self._month,
                hours=self._steps * self._hours,
                sums={k: new[k] for k in MONTHLY},
                run_h=new["run_h"],
                low_load_h=new["low_load_h"],
                starts=round(new["starts"]),
                violations={k: round(new[f"violations/{k}"]) for k in self.violations.counts},
                soc_start=self._before_soc,
                soc_end=self.soc,
            )
        )
        self._before, self._before_soc, self._steps = now, self.soc, 0


def row(at: datetime, flows: Flows, reserve: Reserve, decision: Decision) -> tuple[Any, ...]:
    """Return an interval as a row of the policy's CSV, in the order of `columns`."""
    power = flows.power_kw
    return (
        f"{at:%Y-%m-%dT%H:%M:%SZ}",
        *(round(x, 4) for x in (flows.load_kw, flows.served_kw, flows.unserved_kw)),
        *(round(power[a], 4) for a in power),
        *(round(s, 6) for s in flows.soc.values()),
        *(round(p, 2) for p in flows.pond_m3.values()),
        *(int(on) for on in flows.running.values()),
        *(round(x, 4) for x in (sum(flows.fuel_l.values()), flows.curtailed_kw, flows.spilled_kw, reserve.required_kw, reserve.available_kw)),
        decision.mode.value,
        decision.plan_source,
    )


def columns(site: Site) -> tuple[str, ...]:
    """Return the header of a run's rows; the order of assets is that of the plant's flows."""
    order = (Solar, Hydro, Diesel, Inverter, Battery, Load, Deferrable)
    powers = [a.id for kind in order for a in site.of(kind)]
    return (
        "time", "load_kw", "served_kw", "unserved_kw",
        *(f"{a}.power_kw" for a in powers),
        *(f"{b.id}.soc" for b in site.of(Battery)),
        *(f"{h.id}.pond_m3" for h in site.of(Hydro)),
        *(f"{d.id}.on" for d in site.of(Diesel)),
        "fuel_l", "curtailed_kw", "spilled_kw", "reserve_required_kw", "reserve_available_kw", "mode", "source",
    )  # fmt: skip
