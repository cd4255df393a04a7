"""What physics or the control rules forbid, counted against the plant's truth and not against what the controller believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ems.config.site import Diesel, Hydro, Inverter, Site, Solar
from ems.decision import Reserve
from ems.physics import ac_kw, charge_room_kw
from ems.reserve import ReserveRule, Supply, storages
from simulator.plant import Flows

KINDS = ("balance", "soc", "rating", "min_loading", "reserve")
BALANCE_KW = 1e-3
SOC = 1e-3
RATING = 1e-3
"""Share of a rating by which a unit may be beyond it."""
LOW_LOAD = 0.005
"""Share of its rating by which a diesel may be under its minimum loading."""
RESERVE_KW = 0.5
SPENT_KW = 0.5
"""What is within this of its limit has nothing left to give [kW]."""


@dataclass(slots=True)
class Count:
    """How often, for how long, and how much of one kind."""

    count: int = 0
    minutes: float = 0.0
    kwh: float = 0.0

    def add(self, hours: float, kw: float) -> None:
        """Count one step."""
        self.count += 1
        self.minutes += hours * 60.0
        self.kwh += kw * hours

    def document(self) -> dict[str, float]:
        """Return it as the summary shows it."""
        return {"count": self.count, "minutes": round(self.minutes, 3), "kwh": round(self.kwh, 6)}


@dataclass(slots=True)
class Broken:
    """What was broken: counts by kind, and the hours of low load that had to be accepted [h]."""

    counts: dict[str, Count] = field(default_factory=lambda: {k: Count() for k in KINDS})
    low_load_h: float = 0.0


class Violations:
    """Counts by kind for one run, and the hours of low load that had to be accepted.

    Parameters
    ----------
    site : Site
        The fleet that was run.
    soc : Mapping[str, float]
        At the start: a battery that starts outside its band is only watched for going further out.
    """

    def __init__(self, site: Site, soc: Mapping[str, float]) -> None:
        self.broken = Broken()
        self.counts = self.broken.counts
        self._rule = ReserveRule(site)
        self._pairs = storages(site)
        self._diesels = site.of(Diesel)
        self._hydros = site.of(Hydro)
        self._solars = site.of(Solar)
        self._rated = {a.id: a.rated_kw for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter)}
        self._inverters = [i.id for i in site.of(Inverter)]
        self._band = {p.battery.id: (min(p.battery.soc_min, soc[p.battery.id]), max(p.battery.soc_max, soc[p.battery.id])) for p in self._pairs}

    @property
    def low_load_h(self) -> float:
        """Hours of low load that had to be accepted [h]."""
        return self.broken.low_load_h

    def add(self, flows: Flows, before: Mapping[str, float], hours: float) -> Reserve:
        """Judge one step.

        Parameters
        ----------
        flows : Flows
        before : Mapping[str, float]
            SoC at the start of the step, by battery.
        hours : float
            Length of the step [h].

        Returns
        -------
        Reserve
            What was really there.
        """
        powers = {a: flows.power_kw[a] for a in self._rated}
        residual = abs(sum(powers.values()) + flows.unserved_kw - flows.load_kw - flows.station_kw)
        if residual > BALANCE_KW:
            self.counts["balance"].add(hours, residual)
        for asset, rated in self._rated.items():
            over = abs(powers[asset]) - rated
            if over > RATING * rated:
                self.counts["rating"].add(hours, over)
        self._stored(flows, hours)
        self._low(flows, powers, before, hours)
        return self._reserve(flows, powers, before, hours)

    def _stored(self, flows: Flows, hours: float) -> None:
        for pair in self._pairs:
            low, high = self._band[pair.battery.id]
            soc = flows.soc[pair.battery.id]
            self._band[pair.battery.id] = (min(pair.battery.soc_min, max(low, soc)), max(pair.battery.soc_max, min(high, soc)))
            beyond = max(low - soc, soc - high)
            if beyond > SOC:
                self.counts["soc"].add(hours, beyond * pair.battery.capacity_kwh / hours)

    def _low(self, flows: Flows, powers: Mapping[str, float], before: Mapping[str, float], hours: float) -> None:
        """Low load is a violation as long as the surplus could have gone somewhere, else it is accepted and counted in hours."""
        for diesel in self._diesels:
            under = diesel.min_kw - LOW_LOAD * diesel.rated_kw - powers[diesel.id]
            if not flows.running[diesel.id] or under <= 0.0:
                continue
            self.broken.low_load_h += hours
            if not self._spent(powers, before, hours):
                self.counts["min_loading"].add(hours, under)

    def _spent(self, powers: Mapping[str, float], before: Mapping[str, float], hours: float) -> bool:
        """Whether nothing is left to do against a surplus: batteries take no more, PV is at zero, hydro at its minimum."""
        for pair in self._pairs:
            room = charge_room_kw(pair.battery, before[pair.battery.id], pair.battery.soc_max, hours)
            if powers[pair.inverter.id] > max(-pair.inverter.rated_kw, ac_kw(pair.inverter, -room)) + SPENT_KW:
                return False
        if any(powers[s.id] > SPENT_KW for s in self._solars):
            return False
        return all(h.mode == "fixed" or powers[h.id] <= h.min_kw + SPENT_KW for h in self._hydros)

    def _reserve(self, flows: Flows, powers: Mapping[str, float], before: Mapping[str, float], hours: float) -> Reserve:
        """Reserve by the rules of the site with the SoC on which the step was decided; its end is judged as the start of the next one.

        With nobody forming everything is short.
        """
        idle = {i for i in self._inverters if i not in flows.formers}
        running = [h.id for h in self._hydros if powers[h.id] > 0.0]
        supply = Supply(
            powers,
            frozenset((*(d for d, on in flows.running.items() if on), *running, *(p.inverter.id for p in self._pairs if not flows.blackout))),
            before,
            not_forming=frozenset(idle),
        )
        reserve = self._rule.assess(supply, flows.load_kw + flows.station_kw)
        if flows.blackout:
            self.counts["reserve"].add(hours, flows.unserved_kw)
        elif reserve.short_kw > RESERVE_KW:
            self.counts["reserve"].add(hours, reserve.short_kw)
        return reserve
