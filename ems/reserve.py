"""Spinning reserve: what the others can add at once if a source trips, in kW and in kWh.

What counts is in `docs/decisions/0003-what-counts-as-reserve.md`. The plan check and the controller use this; the optimiser writes its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field

from ems.config.site import Battery, Diesel, Hydro, Inverter, Load, Site, Solar
from ems.decision import Reserve
from ems.frozen import frozen
from ems.model import NOTHING, Limits
from ems.physics import ac_kw

DOWN_HOLD_S = 300.0
"""Room to charge counts as reserve downwards when it lasts this long [s]: the controller lowers PV and hydro within seconds, people act within minutes."""


@frozen
class Storage:
    """An inverter with the battery behind it."""

    inverter: Inverter
    battery: Battery


def storages(site: Site) -> tuple[Storage, ...]:
    """Return every inverter that has a battery behind it."""
    pairs = ((i, site.battery_behind(i.id)) for i in site.of(Inverter))
    return tuple(Storage(i, b) for i, b in pairs if b is not None)


def hold_s(site: Site, startable: Collection[str] | None = None) -> float:
    """Return how long reserve must last [s]: until a diesel really runs, failed starts included.

    `max(hold_s, (1 + retries) x (start + warm-up + sync) + the next unit's start)` (CONTROL 3.2), of the quickest diesels.

    Parameters
    ----------
    site : Site
    startable : Collection[str] | None
        Diesels that could be started; None takes all.
    """
    able = sorted((d for d in site.of(Diesel) if startable is None or d.id in startable), key=lambda d: d.start_s + d.warmup_s + d.sync_s)
    if not able:
        return site.reserve.hold_s
    totals = [d.start_s + d.warmup_s + d.sync_s for d in able]
    following = totals[1] if len(totals) > 1 else totals[0]
    return max(site.reserve.hold_s, (1 + able[0].retries) * totals[0] + following)


def largest_feeder(site: Site) -> float:
    """Return the largest feeder's share of the site's load."""
    return max((f.share * load.peak_kw / site.peak_kw for load in site.of(Load) for f in load.feeders), default=0.0)


def usable_kwh(pair: Storage, soc: float, soc_min: float | None = None) -> float:
    """Return stored energy above the floor as it arrives at the busbar [kWh], SoC error deducted."""
    battery = pair.battery
    floor = battery.soc_min if soc_min is None else soc_min
    above = max(0.0, soc - battery.soc_error - floor) * battery.capacity_kwh
    return above * battery.discharge_efficiency * pair.inverter.efficiency


@frozen
class Supply:
    """Who feeds the busbar, and with what, in one situation.

    Attributes
    ----------
    power_kw : Mapping[str, float]
        Busbar power of every source [kW].
    online : Collection[str]
        Diesels on the bus, running hydro, running inverters: whoever can react.
    soc : Mapping[str, float | None]
        By battery, what is there at least; None where it is unknown, which counts as nothing.
    not_forming : Collection[str]
        Inverters that could hold the bus but say that they do not.
    hold_s : float | None
        How long reserve must last, where that differs from the site's own figure [s].
    uncertain_kw : float
        Power that doubtful values leave open [kW]: as much more reserve is required.
    local : Collection[str]
        Units that take no command from us: they count only as far as they react by themselves.
    mute : Collection[str]
        Diesels that are on the bus as far as anybody knows, and not seen: they hold it, and add nothing.
    learned_kw : float
        By how much the net load may rise above forecast until new capacity runs, as forecasts have learned [kW].
    astray : Collection[str]
        Units that do not do as they are told: they hold what they hold, and add nothing.
    soc_spread : Mapping[str, float]
        By battery, how much more than `soc` may be there where it is counted, not shown.
    """

    power_kw: Mapping[str, float]
    online: Collection[str]
    soc: Mapping[str, float | None]
    discharge_limit_kw: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    charge_limit_kw: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    limits: Mapping[str, Limits] = field(default_factory=lambda: NOTHING)
    not_forming: Collection[str] = ()
    hold_s: float | None = None
    uncertain_kw: float = 0.0
    local: Collection[str] = ()
    mute: Collection[str] = ()
    learned_kw: float = 0.0
    soc_spread: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    astray: Collection[str] = ()

    def changed(self, power_kw: Mapping[str, float], online: Collection[str]) -> Supply:
        """Return it with other powers and others on line; `dataclasses.replace` takes five times as long, and a cycle does this often."""
        limits = self.discharge_limit_kw, self.charge_limit_kw, self.limits
        hold_s, doubt_kw, spread = self.hold_s, self.uncertain_kw, self.soc_spread
        return Supply(power_kw, online, self.soc, *limits, self.not_forming, hold_s, doubt_kw, self.local, self.mute, self.learned_kw, spread, self.astray)


@frozen
class _Set:
    """What reserve asks of a diesel."""

    id: str
    rated_kw: float
    min_kw: float
    block_load_kw: float
    primary_response: bool
    may_form: bool


class ReserveRule:
    """The reserve a site asks for, with all that is constant worked out once."""

    def __init__(self, site: Site) -> None:
        self._rule = site.reserve
        self._diesels = [_Set(d.id, d.rated_kw, d.min_kw, d.block_load_kw, d.primary_response, d.forming != "never") for d in site.of(Diesel)]
        self._rivers = {h.id for h in site.of(Hydro)}
        sets: tuple[Diesel | Hydro, ...] = (*site.of(Diesel), *site.of(Hydro))
        self._forming = [u.id for u in sets if u.forming != "never"]
        self._solars = [s.id for s in site.of(Solar)]
        self._pairs = storages(site)
        self._largest_feeder = largest_feeder(site)
        self.hold_s = hold_s(site)

    def headroom_kw(self, supply: Supply) -> tuple[dict[str, float], dict[str, float]]:
        """Return what each unit on line can add at once [kW], and what it can add and hold for the hold time [kW].

        At once: formers and units with primary response, a diesel up to its block load. Held: a diesel up to its
        rating, an inverter up to what its battery's energy carries for that long, less what it gives already: charging that
        ends takes nothing out of the battery, discharging that goes on does (CONTROL 3.1, decision 0003).
        """
        instant: dict[str, float] = {}
        held: dict[str, float] = {}
        online, powers, limits, hours = supply.online, supply.power_kw, supply.limits, (supply.hold_s or self.hold_s) / 3600.0
        astray = supply.astray
        for d in self._diesels:
            if d.id in online and d.id not in supply.mute and d.id not in astray and (d.primary_response or d.id not in supply.local):
                left = max(0.0, ceiling_kw(d.rated_kw, limits.get(d.id)) - powers.get(d.id, 0.0))
                held[d.id] = left
                if d.primary_response or d.may_form:
                    instant[d.id] = min(left, d.block_load_kw)
        for pair in self._pairs:
            inverter, battery = pair.inverter, pair.battery
            soc = supply.soc.get(battery.id)
            if soc is None or inverter.id not in online or inverter.id in astray or (inverter.id in supply.local and not inverter.primary_response):
                continue
            limit_dc = min(battery.discharge_kw, supply.discharge_limit_kw.get(battery.id, battery.discharge_kw))
            ceiling = min(ceiling_kw(inverter.rated_kw, limits.get(inverter.id)), ac_kw(inverter, limit_dc))
            power = powers.get(inverter.id, 0.0)
            energy_kw = usable_kwh(pair, soc, floor_soc(battery, limits.get(battery.id))) / hours
            held[inverter.id] = max(0.0, min(ceiling, energy_kw - inverter.no_load_kw) - power)
            if inverter.primary_response or inverter.forming != "never":
                instant[inverter.id] = max(0.0, ceiling - power) if energy_kw > 0.0 else 0.0
        return instant, held

    def formers(self, supply: Supply) -> tuple[str, ...]:
        """Return who holds the bus: diesels and hydro on line that may form, inverters with energy to do it."""
        online = supply.online
        found = [u for u in self._forming if u in online]
        for pair in self._pairs:
            inverter = pair.inverter
            if inverter.id in online and inverter.forming != "never" and inverter.id not in supply.not_forming:
                soc = supply.soc.get(pair.battery.id)
                if soc is not None and soc > pair.battery.holding_soc:
                    found.append(inverter.id)
        return tuple(found)

    def assess(self, supply: Supply, load_kw: float, leaving: Collection[str] = ()) -> Reserve:
        """Return required against available reserve for the contingency that is shortest.

        For each source what the others can add at once, and what they can hold, must both cover its power.

        Parameters
        ----------
        supply : Supply
        load_kw : float
            Load with deferrables [kW].
        leaving : Collection[str]
            Diesels on their way off the bus: they were let go because the others do without them, so they are judged as gone.
        """
        return self.assessed(supply, load_kw, leaving, self.formers(supply), *self.headroom_kw(supply))

    def assessed(
        self, supply: Supply, load_kw: float, leaving: Collection[str], formers: Collection[str], instant: Mapping[str, float], held: Mapping[str, float]
    ) -> Reserve:
        """Return the same where it is known who holds the bus, and what each unit can add at once and hold [kW]."""
        if leaving:
            instant, held = ({u: kw for u, kw in room.items() if u not in leaving} for room in (instant, held))
        all_instant, all_held = sum(instant.values()), sum(held.values())
        powers, rule = supply.power_kw, self._rule
        solar = sum([powers.get(s, 0.0) for s in self._solars])
        load_part, solar_part = rule.load_fraction * load_kw, rule.solar_fraction * solar
        doubt, learned = supply.uncertain_kw, supply.learned_kw
        # The learned error is that of load and sun as one: with `sum` it stands beside the trip in the place of both.
        added = (max(load_part + solar_part, learned) if rule.combine == "sum" else 0.0) + doubt
        required, available = max(load_part, solar_part, learned) + doubt, min(all_instant, all_held)
        contingency = "forecast" if learned > max(load_part, solar_part) else "load" if load_part >= solar_part else "solar"
        accepted = ""
        if rule.largest_unit:
            # Hydro holds a bus but cannot take up anybody's load: beside it alone, a former is still the sole one.
            firm = [f for f in formers if f not in self._rivers and f not in leaving]
            for unit, power in powers.items():
                if power <= 0.0:
                    continue
                if firm == [unit] and rule.single_former == "allow":
                    accepted = f"sole former {unit}"
                    continue
                need, rest = power + added, min(all_instant - instant.get(unit, 0.0), all_held - held.get(unit, 0.0))
                if (need - rest, need) > (required - available, required):
                    required, available, contingency = need, rest, f"loss of {unit}"
        if accepted and required <= available:
            contingency = accepted
        energy = sum([usable_kwh(p, soc) for p in self._pairs if (soc := supply.soc.get(p.battery.id)) is not None])
        discharging = sum([max(0.0, powers.get(p.inverter.id, 0.0)) for p in self._pairs])
        return Reserve(
            required_kw=required,
            available_kw=available,
            down_kw=self._down_kw(supply),
            hold_s=supply.hold_s or self.hold_s,
            energy_kwh=energy,
            time_to_empty_s=energy / discharging * 3600.0 if discharging > 0 else None,
            contingency=contingency,
            down_required_kw=self._largest_feeder * load_kw,
        )

    def _down_kw(self, supply: Supply) -> float:
        """Return what the units on line can take back at once [kW]: diesels to minimum loading, batteries to full charge.

        A battery counts as far as its room lasts `DOWN_HOLD_S`: a forming battery that may not charge trips the island on over-frequency.
        An operator's limits bound the inverter and the room, and a counted charge may be the upper end of its band, as `ems/guards.py` has it.
        """
        powers, online = supply.power_kw, supply.online
        down = 0.0
        for d in self._diesels:
            if d.id in online and d.id not in supply.astray and (above := powers.get(d.id, 0.0) - d.min_kw) > 0.0:
                down += above
        for pair in self._pairs:
            inverter, battery = pair.inverter, pair.battery
            soc = supply.soc.get(battery.id)
            if soc is None or inverter.id not in online or inverter.id in supply.astray:
                continue
            top = ceiling_soc(battery, supply.limits.get(battery.id))
            room_kwh = max(0.0, top - soc - supply.soc_spread.get(battery.id, 0.0)) * battery.capacity_kwh / battery.charge_efficiency
            charge_dc = min(battery.charge_kw, supply.charge_limit_kw.get(battery.id, battery.charge_kw), room_kwh * 3600.0 / DOWN_HOLD_S)
            lowest = lowest_kw(inverter, supply.limits.get(inverter.id))
            down += max(0.0, powers.get(inverter.id, 0.0) - max(lowest, ac_kw(inverter, -charge_dc)))
        return down


def ceiling_kw(rated_kw: float, limits: Limits | None) -> float:
    """Return the highest power that rating and operator allow [kW]."""
    if limits is None:
        return rated_kw
    if limits.out_of_service:
        return 0.0
    return rated_kw if limits.max_kw is None else min(rated_kw, limits.max_kw)


def lowest_kw(inverter: Inverter, limits: Limits | None) -> float:
    """Return the lowest power of an inverter that rating and operator allow [kW], negative where it may charge.

    An operator's `max_kw` bounds both directions, his `min_kw` this one.
    """
    if limits is None or limits.min_kw is None or limits.out_of_service:
        return -ceiling_kw(inverter.rated_kw, limits)
    return max(-inverter.rated_kw, limits.min_kw)


def floor_soc(battery: Battery, limits: Limits | None) -> float:
    """Return the lowest state of charge that the operator, or else the site file, allows."""
    return battery.soc_min if limits is None or limits.soc_min is None else limits.soc_min


def ceiling_soc(battery: Battery, limits: Limits | None) -> float:
    """Return the highest state of charge that the operator, or else the site file, allows."""
    return battery.soc_max if limits is None or limits.soc_max is None else limits.soc_max
