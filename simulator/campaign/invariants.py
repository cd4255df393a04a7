"""What must hold at every step, whatever goes wrong, judged against the plant's truth: I1 to I7, about the plant.

Each invariant says what physics itself forces and does not count that; what is left is the EMS's. The others, about what it
saw, wrote and told, are in `simulator.campaign.conduct`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from ems.config.site import Battery, Site
from ems.reserve import ReserveRule, Supply
from ems.sequencer import COMING, startable
from ems.terms import Phase
from simulator.campaign.hand import SETTLE_S
from simulator.campaign.truth import Step, Truth

BALANCE = 0.005
"""Share of the peak load by which the balance may be off."""
RATING = 0.001
OVERLOAD = 0.5
"""Share of its rating by which a unit may be overloaded in a transient: above this its own protection trips within two seconds."""
SOC = 0.005
"""How far SoC may be beyond its band: one cycle of full power, and the last look's own slack."""
LOW_LOAD = 0.02
"""Share of the minimum load by which a diesel may be under it."""
TRANSIENT_S = 60.0
PATIENCE_CYCLES = 3
STARTS_WINDOW_S = 3600.0
ALL_STARTS = 3
"""Starts of all kinds, forced ones too, may be so many times those that economy allows in an hour."""
SHED_S = 900.0
"""Shed feeders are back after this time once there is capacity: band, reserve, one by one [s]."""
LEAK = 0.02
"""Share of an inverter's rating that it may be off: held at nothing, it gives or takes a little as the frequency moves."""
FOLLOW_S = 10.0
"""A forming inverter carries what a lost source gave, or what two that swap leave open, until references of the others have moved [s]."""
HIDDEN = 0.05
"""Share of the peak load by which reserve may really be shorter than the EMS thinks."""
HIDDEN_EVERY = 20
"""What is really held is worked out in every so many cycles."""


class Invariant(Protocol):
    """One rule; `check` gives what it is about and what was wrong, once for every cycle in which it is broken."""

    id: str
    name: str

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Judge one cycle."""


class Balance:
    """I1: what is generated is what is used, in every step and in sum."""

    id, name = "I1", "energy balance"

    def __init__(self) -> None:
        self._sum_kwh = self._load_kwh = 0.0

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Physics forces nothing here: it is a rule about the plant, so that the others can trust it."""
        flows = step.flows
        gap = sum(flows.power_kw[a] for a in truth.rated) + flows.unserved_kw - flows.load_kw - flows.station_kw
        hours = step.dt_s / 3600.0
        self._sum_kwh += gap * hours
        self._load_kwh += flows.load_kw * hours
        if abs(gap) > BALANCE * truth.peak_kw:
            yield "", f"the balance is off by {gap:.1f} kW"
        if abs(self._sum_kwh) > BALANCE * max(self._load_kwh, truth.peak_kw / 60.0):
            yield "sum", f"the balance is off by {self._sum_kwh:.2f} kWh in sum"


class Charge:
    """I2: SoC stays in its band and inside what the BMS allows; nobody charges and discharges at once.

    Below the band a battery may go only while nothing else can serve the load, or where a fault took the charge; above it only
    while what pushes the charge in does not listen. While its own reading lies it may be beyond by the error that the site declares.
    """

    id, name = "I2", "state of charge"

    def __init__(self) -> None:
        self._helpless_s = -1e9
        self._draining_s: dict[str, float] = {}

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Judge every battery; one that starts outside its band is only watched for going further out."""
        flows, hand, at = step.flows, truth.hand, step.at_s
        for pair in truth.pairs:
            battery, now, before = pair.battery, flows.soc[pair.battery.id], step.soc[pair.battery.id]
            unit = truth.plant.batteries[battery.id]
            if now < unit.floor - SOC or now > unit.top + SOC:
                yield battery.id, f"SoC {now:.4f} is beyond the BMS's own {unit.floor:.2f} to {unit.top:.2f}"
            dc, ac = flows.power_kw[battery.id], flows.power_kw[pair.inverter.id]
            if dc * ac < 0.0 and abs(ac) > 2.0 * pair.inverter.no_load_kw + 1.0:
                yield battery.id, f"it charges and discharges at once: {dc:.1f} kW DC, {ac:.1f} kW AC"
            if battery.soc_min - SOC <= now <= battery.soc_max + SOC:
                continue
            slack = SOC + (battery.soc_error if hand.lying(battery.id, at) or hand.unseen(battery.id, at) else 0.0)
            low = now < battery.soc_min - slack and now < before and ac > LEAK * pair.inverter.rated_kw
            draining_s = self._draining_s.get(battery.id, 0.0) + step.dt_s if low else 0.0
            self._draining_s[battery.id] = draining_s
            if low and not self._may_be_low(battery, step, truth) and draining_s > FOLLOW_S:
                yield battery.id, f"SoC {now:.4f} goes below {battery.soc_min:.2f}"
            if now > battery.soc_max + slack and now > before and not self._may_be_high(pair.inverter.id, step, truth):
                yield battery.id, f"SoC {now:.4f} goes above {battery.soc_max:.2f}"

    def _may_be_low(self, battery: Battery, step: Step, truth: Truth) -> bool:
        """Whether nobody else could serve: no diesel is able, or has been for no longer than a start takes."""
        others = [d for d in truth.able(step) if not truth.hand.out(d, step.at_s)]
        free_kw = sum(d.rated_kw for d in truth.plant.diesels if d.id in others)
        if free_kw < step.flows.load_kw - sum(step.flows.power_kw[h.id] for h in truth.plant.hydros) or truth.hand.out(battery.id, step.at_s):
            self._helpless_s = step.at_s
        return step.at_s - self._helpless_s <= 2.0 * truth.start_s + SETTLE_S

    def _may_be_high(self, inverter: str, step: Step, truth: Truth) -> bool:
        pushing = [*truth.plant.solars, *truth.plant.hydros]
        return truth.hand.out(inverter, step.at_s) or any(truth.hand.out(u.id, step.at_s) for u in pushing if step.flows.power_kw[u.id] > 1.0)


class Rating:
    """I3: nobody gives or takes more than its rating, but for a transient: what a governor takes up until others have followed."""

    id, name = "I3", "rating"

    def __init__(self) -> None:
        self._over_s: dict[str, float] = {}

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Judge every source; an overload may last `TRANSIENT_S` up to `OVERLOAD` at the dynamic level, and does not exist at the energy level."""
        for asset, rated in truth.rated.items():
            power = abs(step.flows.power_kw[asset])
            if power <= rated * (1.0 + RATING):
                if self._over_s:
                    self._over_s.pop(asset, None)
                continue
            self._over_s[asset] = self._over_s.get(asset, 0.0) + step.dt_s
            if step.flows.frequency_hz is None or power > rated * (1.0 + OVERLOAD) or self._over_s[asset] > TRANSIENT_S:
                yield asset, f"{power:.1f} kW of a rating of {rated:.1f} kW for {self._over_s[asset]:.0f} s"


class MinimumLoading:
    """I4: no diesel runs under its minimum loading for longer than a transient.

    Accepted where nothing is left to do against the surplus, and while any unit does not do as told or is not seen as it is.
    """

    id, name = "I4", "minimum loading"

    def __init__(self) -> None:
        self._low_s: dict[str, float] = {}

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Judge every diesel on the bus."""
        for unit in truth.plant.diesels:
            low = step.flows.running[unit.id] and step.flows.power_kw[unit.id] < (1.0 - LOW_LOAD) * unit.asset.min_kw - 0.5
            if not low or not truth.hand.steering(step.at_s) or truth.hand.broken(unit.id, step.at_s) or truth.spent(step):
                self._low_s[unit.id] = 0.0
                continue
            self._low_s[unit.id] = self._low_s.get(unit.id, 0.0) + step.dt_s
            if self._low_s[unit.id] > TRANSIENT_S:
                yield unit.id, f"{step.flows.power_kw[unit.id]:.1f} kW for {self._low_s[unit.id]:.0f} s, minimum {unit.asset.min_kw:.1f} kW"


class Former:
    """I5: somebody holds the bus.

    Accepted where every unit that held it was taken away by the plant itself, or was a battery that ran empty while no diesel was able.
    """

    id, name = "I5", "a unit that holds the bus"

    def __init__(self) -> None:
        self._held: tuple[str, ...] = ()

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Judge the bus."""
        if step.flows.formers and not step.flows.blackout:
            self._held = step.flows.formers
            return
        mine = [f for f in self._held if not truth.hand.broken(f, step.at_s) and not self._ran_empty(f, step, truth)]
        self._held = ()  # judged once: how long it stays dark is for people
        if mine:
            yield "", f"nobody holds the bus; {', '.join(mine)} did and was not taken away by the plant"

    def _ran_empty(self, former: str, step: Step, truth: Truth) -> bool:
        empty = any(i.id == former and i.battery is not None and i.battery.empty for i in truth.plant.inverters)
        return empty and not truth.able(step)


class Reserve:
    """I6: reserve that is short brings an alarm and a remedy within three cycles; the EMS does not think it holds what it does not.

    No remedy is asked for where no diesel can be started. A hidden shortage counts only while every reading is what it should be.
    """

    id, name = "I6", "reserve"

    def __init__(self, site: Site) -> None:
        self._rule = ReserveRule(site)
        self._short = self._waited = self._hidden = self._count = 0

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Judge what the EMS says, and now and then what is true."""
        decision = step.decision
        if decision.mode.value not in ("auto", "fallback"):
            return
        self._short = self._short + 1 if decision.reserve.short_kw > 1.0 else 0
        idle = self._idle(step, truth) if self._short > 0 else []
        self._waited = self._waited + 1 if idle else 0  # a start that has just failed gives the EMS its cycles again
        if self._waited > PATIENCE_CYCLES:
            yield "remedy", f"reserve is short by {decision.reserve.short_kw:.0f} kW ({decision.reserve.contingency}) and {', '.join(idle)} is not started"
        if self._short > PATIENCE_CYCLES and not any(a.code == "reserve_short" for a in decision.alarms):
            yield "alarm", f"reserve is short by {decision.reserve.short_kw:.0f} kW without an alarm"
        self._count += 1
        if self._count % HIDDEN_EVERY == 0:
            yield from self._hidden_shortage(step, truth)

    def _idle(self, step: Step, truth: Truth) -> list[str]:
        """Return the diesels that could be started now, if none is on its way."""
        units = step.decision.memory.units
        if any(u.phase in COMING for u in units.values()):
            return []
        orders, limits = step.decision.memory.manual, step.decision.memory.limits
        found = []
        for diesel in truth.plant.diesels:
            memory, image = units.get(diesel.id), step.image.assets[diesel.id]
            if memory is None or memory.phase not in (Phase.OFF, Phase.COOLDOWN) or diesel.id in orders or diesel.id in limits or diesel.on:
                continue
            if startable(diesel.asset, memory, image, step.image.now_s, economic=False):
                found.append(diesel.id)
        return found

    def _hidden_shortage(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        flows = step.flows
        if not truth.hand.steering(step.at_s) or step.at_s < truth.hand.rough_until_s or flows.blackout:
            self._hidden = 0
            return
        running = [i.id for i in truth.plant.inverters if i.running and not i.estop] + [h.id for h in truth.plant.hydros if flows.power_kw[h.id] > 0.0]
        supply = Supply(
            {a: flows.power_kw[a] for a in truth.rated},
            frozenset((*(d for d, on in flows.running.items() if on), *running)),
            flows.soc,
            discharge_limit_kw={b.id: b.discharge_kw(0.0) for b in truth.plant.batteries.values()},
            limits=step.decision.memory.limits,
            not_forming=frozenset(
                i.id for i in truth.plant.inverters if not i.forming or (i.battery is not None and self._near_empty(i.battery.asset, flows.soc))
            ),
            hold_s=step.decision.reserve.hold_s,
        )
        leaving = [d for d, u in step.decision.memory.units.items() if u.phase is Phase.UNLOADING]
        true = self._rule.assess(supply, flows.load_kw + flows.station_kw, leaving)
        hidden = true.short_kw - step.decision.reserve.short_kw
        starting = any(u.phase in COMING for u in step.decision.memory.units.values())
        self._hidden = self._hidden + 1 if hidden > HIDDEN * truth.peak_kw and not starting and step.decision.reserve.short_kw <= 1.0 else 0
        if self._hidden * HIDDEN_EVERY * step.dt_s > TRANSIENT_S:
            yield "hidden", f"reserve is really short by {true.short_kw:.0f} kW ({true.contingency}), the EMS thinks {step.decision.reserve.short_kw:.0f} kW"

    @staticmethod
    def _near_empty(battery: Battery, soc: Mapping[str, float]) -> bool:
        """Whether a battery may or may not hold the bus: what its meter is allowed to be wrong by decides."""
        return soc[battery.id] <= battery.holding_soc + battery.soc_error


class Service:
    """I7: load is served while somebody could serve it; no critical kWh is lost by a single trip.

    Time for starts is allowed, and for feeders that were shed to come back one by one. A trip is single when no other plant fault is near it.
    """

    id, name = "I7", "service"

    def __init__(self) -> None:
        self._short_s = 0.0

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Judge what is not served."""
        flows = step.flows
        if flows.unserved_kw <= 0.01 * truth.peak_kw or flows.blackout:
            self._short_s = 0.0
            return
        if self._single_trip(step, truth) and (lost := self._critical_kw(step, truth)) > 0.1:
            yield "critical", f"{lost:.1f} kW of the critical feeders are lost by a single trip"
        shed = any(not closed for load in truth.plant.loads for closed in load.closed.values())
        if truth.capacity_kw(step) < flows.load_kw * 1.02 or not truth.hand.steering(step.at_s):
            self._short_s = 0.0
            return
        self._short_s += step.dt_s
        allowed_s = SHED_S if shed else 3.0 * truth.start_s + SETTLE_S
        if self._short_s > allowed_s:
            yield "", f"{flows.unserved_kw:.1f} kW are not served for {self._short_s:.0f} s though {truth.capacity_kw(step):.0f} kW could be there"

    def _single_trip(self, step: Step, truth: Truth) -> bool:
        faults = [x.fault for x in step.lives]
        trips = [f for f in faults if f.kind == "trip"]
        alone = len(trips) == 1 and all(f.klass not in ("plant", "command", "link", "value") for f in faults if f is not trips[0])
        before = truth.hand.steering(step.at_s) and not any(truth.hand.broken(u, step.at_s) for u in truth.rated if u != trips[0].asset) if alone else False
        return alone and before and "sole former" not in step.decision.reserve.contingency

    def _critical_kw(self, step: Step, truth: Truth) -> float:
        """Return what of the critical feeders is dark, if relays drop the others first [kW]."""
        dark = others = 0.0
        critical = {feeder for feeder, _, _ in truth.critical}
        for load in truth.plant.loads:
            for feeder in load.asset.feeders:
                kw = load.demand_kw * feeder.share
                if feeder.id in critical:
                    dark += 0.0 if load.closed[feeder.id] else kw
                elif load.closed[feeder.id]:
                    others += kw
        open_kw = sum(load.demand_kw * (1.0 - load.share) for load in truth.plant.loads)
        return dark + max(0.0, step.flows.unserved_kw - open_kw - others)


class Starts:
    """I8: starts per hour are bounded, forced ones too, and so are the tries of a set that does not start."""

    id, name = "I8", "starts"

    def __init__(self) -> None:
        self._at: dict[str, list[tuple[float, bool]]] = {}

    def check(self, step: Step, truth: Truth) -> Iterator[tuple[str, str]]:
        """Count start commands; those for reserve, for a former or by order are forced."""
        for event in step.decision.events:
            if event.kind != "start" or event.asset is None:
                continue
            book = self._at.setdefault(event.asset, [])
            book.append((step.at_s, event.reason not in ("plan", "rules")))
            book[:] = [(at, forced) for at, forced in book if step.at_s - at < STARTS_WINDOW_S]
            most = next(d.asset.max_starts_per_h for d in truth.plant.diesels if d.id == event.asset)
            if sum(not forced for _, forced in book) > most:
                yield event.asset, f"more than {most} economic starts in an hour"
            if len(book) > ALL_STARTS * most:
                yield event.asset, f"more than {ALL_STARTS * most} starts in an hour"
