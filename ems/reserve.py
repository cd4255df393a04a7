"""Spinning reserve: what the others can add at once if a source trips, in kW and in kWh.

What counts is in `docs/decisions/0003-what-counts-as-reserve.md`. The plan check and the controller use this; the optimiser writes its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ems.config.site import Battery, Diesel, Hydro, Inverter, Site, Solar
from ems.decision import Reserve
from ems.model import NOTHING, Limits
from ems.physics import ac_kw


@dataclass(frozen=True, slots=True)
class Storage:
    """An inverter with the battery behind it."""

    inverter: Inverter
    battery: Battery


def storages(site: Site) -> tuple[Storage, ...]:
    """Return every inverter that has a battery behind it."""
    pairs = ((i, site.battery_behind(i.id)) for i in site.of(Inverter))
    return tuple(Storage(i, b) for i, b in pairs if b is not None)


def hold_s(site: Site) -> float:
    """Return how long reserve must last [s]: until a diesel really runs, one failed start included."""
    totals = sorted(d.start_s + d.warmup_s + d.sync_s for d in site.of(Diesel))
    if not totals:
        return site.reserve.hold_s
    retries = min(d.retries for d in site.of(Diesel))
    following = totals[1] if len(totals) > 1 else totals[0]
    return max(site.reserve.hold_s, (1 + retries) * totals[0] + following)


def usable_kwh(pair: Storage, soc: float, soc_min: float | None = None) -> float:
    """Return stored energy above the floor as it arrives at the busbar [kWh], SoC error deducted."""
    battery = pair.battery
    floor = battery.soc_min if soc_min is None else soc_min
    above = max(0.0, soc - battery.soc_error - floor) * battery.capacity_kwh
    return above * battery.discharge_efficiency * pair.inverter.efficiency


@dataclass(frozen=True, slots=True)
class Supply:
    """Who feeds the busbar, and with what, in one situation.

    Attributes
    ----------
    power_kw : Mapping[str, float]
        Busbar power of every source [kW].
    online : Collection[str]
        Diesels on the bus, running hydro, running inverters: whoever can react.
    soc : Mapping[str, float | None]
        By battery; None where it is unknown, which counts as nothing.
    not_forming : Collection[str]
        Inverters that could hold the bus but say that they do not.
    """

    power_kw: Mapping[str, float]
    online: Collection[str]
    soc: Mapping[str, float | None]
    discharge_limit_kw: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    charge_limit_kw: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    limits: Mapping[str, Limits] = field(default_factory=lambda: NOTHING)
    not_forming: Collection[str] = ()


class ReserveRule:
    """The reserve a site asks for, with all that is constant worked out once."""

    def __init__(self, site: Site) -> None:
        self._rule = site.reserve
        self._diesels = site.of(Diesel)
        self._hydros = site.of(Hydro)
        self._rivers = {h.id for h in self._hydros}
        self._solars = site.of(Solar)
        self._pairs = storages(site)
        self.hold_s = hold_s(site)

    def headroom_kw(self, supply: Supply) -> dict[str, float]:
        """Return what each unit on line can add at once [kW] and hold for `hold_s`."""
        room: dict[str, float] = {}
        for d in self._diesels:
            if d.id in supply.online:
                left = ceiling_kw(d.rated_kw, supply.limits.get(d.id)) - supply.power_kw.get(d.id, 0.0)
                room[d.id] = max(0.0, min(left, d.block_load_kw))
        for pair in self._pairs:
            inverter = pair.inverter
            soc = supply.soc.get(pair.battery.id)
            if soc is None or inverter.id not in supply.online or not (inverter.primary_response or inverter.forming != "never"):
                continue
            power = supply.power_kw.get(inverter.id, 0.0)
            limit_dc = min(pair.battery.discharge_kw, supply.discharge_limit_kw.get(pair.battery.id, pair.battery.discharge_kw))
            ceiling = min(ceiling_kw(inverter.rated_kw, supply.limits.get(inverter.id)), ac_kw(inverter, limit_dc))
            energy = usable_kwh(pair, soc, floor_soc(supply.limits.get(pair.battery.id))) * 3600.0 / self.hold_s
            room[inverter.id] = max(0.0, min(ceiling - power, energy))
        return room

    def formers(self, supply: Supply) -> tuple[str, ...]:
        """Return who holds the bus: diesels and hydro on line that may form, inverters with energy to do it."""
        found = [d.id for d in self._diesels if d.forming != "never" and d.id in supply.online]
        found += [h.id for h in self._hydros if h.forming != "never" and h.id in supply.online]
        for pair in self._pairs:
            soc = supply.soc.get(pair.battery.id)
            able = pair.inverter.forming != "never" and pair.inverter.id in supply.online and pair.inverter.id not in supply.not_forming
            if able and soc is not None and soc > pair.battery.black_start_soc:
                found.append(pair.inverter.id)
        return tuple(found)

    def assess(self, supply: Supply, load_kw: float) -> Reserve:
        """Return required against available reserve for the contingency that is shortest.

        Parameters
        ----------
        supply : Supply
        load_kw : float
            Load with deferrables [kW].
        """
        room = self.headroom_kw(supply)
        total = sum(room.values())
        solar = sum(supply.power_kw.get(s.id, 0.0) for s in self._solars)
        shares = (self._rule.load_fraction * load_kw, self._rule.solar_fraction * solar)
        added = sum(shares) if self._rule.combine == "sum" else 0.0
        cases = [(max(shares), total, "load" if shares[0] >= shares[1] else "solar")]
        # Hydro holds a bus but cannot take up anybody's load: beside it alone, a former is still the sole one.
        firm = [f for f in self.formers(supply) if f not in self._rivers]
        accepted = ""
        if self._rule.largest_unit:
            for unit, power in supply.power_kw.items():
                if power <= 0.0:
                    continue
                if firm == [unit] and self._rule.single_former == "allow":
                    accepted = f"sole former {unit}"
                    continue
                cases.append((power + added, total - room.get(unit, 0.0), f"loss of {unit}"))
        required, available, contingency = max(cases, key=lambda c: (c[0] - c[1], c[0]))
        if accepted and required <= available:
            contingency = accepted
        energy = sum(usable_kwh(p, soc) for p in self._pairs if (soc := supply.soc.get(p.battery.id)) is not None)
        discharging = sum(max(0.0, supply.power_kw.get(p.inverter.id, 0.0)) for p in self._pairs)
        return Reserve(
            required_kw=required,
            available_kw=available,
            down_kw=self._down_kw(supply),
            hold_s=self.hold_s,
            energy_kwh=energy,
            time_to_empty_s=energy / discharging * 3600.0 if discharging > 0 else None,
            contingency=contingency,
        )

    def _down_kw(self, supply: Supply) -> float:
        """Return what the units on line can take back at once [kW]: diesels to minimum loading, batteries to full charge."""
        down = sum(max(0.0, supply.power_kw.get(d.id, 0.0) - d.min_loading * d.rated_kw) for d in self._diesels if d.id in supply.online)
        for pair in self._pairs:
            soc = supply.soc.get(pair.battery.id)
            if soc is None or pair.inverter.id not in supply.online:
                continue
            room_kwh = max(0.0, pair.battery.soc_max - soc) * pair.battery.capacity_kwh / pair.battery.charge_efficiency
            charge_dc = min(pair.battery.charge_kw, supply.charge_limit_kw.get(pair.battery.id, pair.battery.charge_kw), room_kwh * 3600.0 / self.hold_s)
            down += max(0.0, supply.power_kw.get(pair.inverter.id, 0.0) - max(-pair.inverter.rated_kw, ac_kw(pair.inverter, -charge_dc)))
        return down


def ceiling_kw(rated_kw: float, limits: Limits | None) -> float:
    """Return the highest power that rating and operator allow [kW]."""
    if limits is None:
        return rated_kw
    if limits.out_of_service:
        return 0.0
    return rated_kw if limits.max_kw is None else min(rated_kw, limits.max_kw)


def floor_soc(limits: Limits | None) -> float | None:
    """Return an operator's SoC floor, or None where the site file's holds."""
    return None if limits is None else limits.soc_min
