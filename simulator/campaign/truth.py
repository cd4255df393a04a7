"""What was true in one cycle, beside what the EMS saw and decided: the matter that invariants judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ems.config.site import Diesel, Hydro, Inverter, Load, Site, Solar
from ems.decision import Decision
from ems.model import Image, Reading
from ems.physics import ac_kw
from ems.reserve import storages
from ems.sequencer import total_start_s
from ems.terms import Stage
from simulator.campaign.hand import Hand
from simulator.faults.live import Live
from simulator.plant import Conditions, Flows, Plant


@dataclass(slots=True)
class Step:
    """One cycle.

    Attributes
    ----------
    at_s : float
        Its start, from the start of the run [s].
    dt_s : float
        Its length [s].
    readings : Mapping[str, Mapping[str, Reading]]
        What the EMS was given.
    flows : Flows
        What happened after the decision.
    soc : Mapping[str, float]
        True SoC before it.
    lives : Sequence[Live]
        Faults in force.
    """

    at_s: float
    dt_s: float
    conditions: Conditions
    readings: Mapping[str, Mapping[str, Reading]]
    image: Image
    decision: Decision
    flows: Flows
    soc: Mapping[str, float]
    lives: Sequence[Live]


class Truth:
    """One plant as it is, for what invariants ask about it; worked out only where somebody asks."""

    def __init__(self, site: Site, plant: Plant, hand: Hand) -> None:
        self.site, self.plant, self.hand = site, plant, hand
        self.pairs = storages(site)
        self.peak_kw = site.peak_kw
        self.rated = {a.id: a.rated_kw for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter)}
        self.start_s = max((total_start_s(d) for d in site.of(Diesel)), default=0.0)
        self.critical = [(f.id, load.id, f.share) for load in site.of(Load) for f in load.feeders if f.priority == min(x.priority for x in load.feeders)]

    def able(self, step: Step) -> list[str]:
        """Return the diesels that run, or that the EMS could have started: healthy, fuelled, in its hand and not locked out."""
        found = []
        for unit in self.plant.diesels:
            memory = step.decision.memory.units.get(unit.id)
            locked = memory is not None and memory.barred
            if unit.on or not (unit.fault or unit.starved or unit.estop or unit.local or locked or self.hand.out(unit.id, step.at_s)):
                found.append(unit.id)
        return found

    def capacity_kw(self, step: Step) -> float:
        """Return what sun, river, batteries and able diesels could give [kW]."""
        able = set(self.able(step))
        diesel = sum(d.rated_kw for d in self.plant.diesels if d.id in able)
        sun = sum(step.flows.available_kw.values())
        river = sum(step.flows.power_kw[h.id] for h in self.plant.hydros)
        return diesel + sun + river + self.battery_kw()

    def battery_kw(self) -> float:
        """Return what inverters that run could give within the EMS's own band [kW]."""
        total = 0.0
        for inverter in self.plant.inverters:
            battery = inverter.battery
            if battery is not None and inverter.running and not inverter.estop and battery.soc > battery.asset.soc_min:
                total += min(inverter.rated_kw, ac_kw(inverter.asset, battery.discharge_kw(0.0)))
        return total

    def spent(self, step: Step) -> bool:
        """Whether nothing is left to do against a surplus: batteries take no more, PV is at zero, hydro at its minimum."""
        power = step.flows.power_kw
        for inverter in self.plant.inverters:
            battery = inverter.battery
            if battery is None or not inverter.running:
                continue
            room = 0.0 if battery.soc >= battery.asset.soc_max - 0.004 else battery.charge_kw(0.0)
            if power[inverter.id] > max(-inverter.rated_kw, ac_kw(inverter.asset, -room)) + 0.02 * inverter.rated_kw:
                return False
        if any(power[s.id] > 0.01 * s.rated_kw + 0.5 for s in self.plant.solars):
            return False
        return all(h.asset.mode == "fixed" or power[h.id] <= h.asset.min_kw + 0.5 for h in self.plant.hydros)


def below_control(decision: Decision) -> bool:
    """Whether nothing may be written."""
    return decision.stage is not Stage.CONTROL
