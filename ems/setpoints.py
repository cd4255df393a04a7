"""From shares to setpoints, their reasons, and the writes that carry them.

The last look stands here: a value that is not finite or not inside what its unit may do is dropped,
never clipped, and told as an event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ems.config.site import Deferrable, Diesel, Hydro, Inverter, Site, Solar
from ems.decision import AssetDecision, Event, Write
from ems.dispatch import Shares, Situation
from ems.frozen import changed
from ems.guards import refuse
from ems.memory import Memory
from ems.model import LONG_STEP_S, Image
from ems.outlook import Prospect
from ems.plan import Target
from ems.sequencer import OFF, RUNNING
from ems.terms import Explanation, Mode, Reason
from ems.water import asked_kw

AT_CEILING = 0.05
"""A solar unit is held by the room of the others when its ceiling is within this share of its rating above its power."""
CURTAILED = 0.995
"""A solar unit counts as curtailed when it shall give less than this share of what it could."""
TRIM_S = 5.0
"""Power references of droop units are trimmed at most this often [s]: droop shares the load between trims, and devices are not written each cycle."""
POWERS = ("power_kw", "limit_kw")
"""Commands whose value is a power."""
FOLLOWS_RIVER, FOLLOWS_SUN, FORMING, NOT_NEEDED, BY_RULE, OUT = (
    Explanation(r) for r in (Reason.FOLLOWS_RIVER, Reason.FOLLOWS_SUN, Reason.FORMING, Reason.NOT_NEEDED, Reason.RULES, Reason.FAULT)
)
"""What needs no numbers is said in the same words every time."""
READ_ONLY = AssetDecision(None, None, BY_RULE)


def trim_due(image: Image) -> bool:
    """Whether references of droop units may be trimmed in this cycle."""
    return image.dt_s >= TRIM_S or int(image.now_s / TRIM_S) != int((image.now_s - image.dt_s) / TRIM_S)


def as_measured(decision: AssetDecision, power_kw: float | None) -> AssetDecision:
    """Return the decision with the measured power as its setpoint: the first values after a start move nothing."""
    if decision.setpoint_kw is None or power_kw is None:
        return decision
    return changed(decision, setpoint_kw=power_kw)


def bumpless(image: Image, memory: Memory) -> bool:
    """Whether this is a first cycle, in which every setpoint is what is measured."""
    return not memory.setpoints and image.dt_s < LONG_STEP_S


def last_look(writes: Sequence[Write], allowed_kw: Mapping[str, tuple[float, float]]) -> tuple[tuple[Write, ...], tuple[Event, ...]]:
    """Return the writes that may go out, and an event for each power that may not."""
    refused = {w: why for w in writes if w.command in POWERS and (why := refuse(w.value, allowed_kw[w.asset])) is not None}
    if not refused:
        return tuple(writes), ()
    events = tuple(Event("write_refused", w.asset, f"{w.command} {w.value:g}: {why}") for w, why in refused.items())
    return tuple(w for w in writes if w not in refused), events


class Setpoints:
    """Setpoints and writes of one site."""

    def __init__(self, site: Site) -> None:
        self._solars = {a.id: a for a in site.of(Solar)}
        self._sun_kw = sum(a.rated_kw for a in self._solars.values())
        self._hydros = {a.id: a for a in site.of(Hydro)}
        self._diesels = {a.id: a for a in site.of(Diesel)}
        self._inverters = {a.id: a for a in site.of(Inverter)}
        self._deferrables = {a.id: a for a in site.of(Deferrable)}
        self._droop = {a.id for units in (self._hydros, self._diesels, self._inverters) for a in units.values() if a.forming == "droop"}
        self._others = [a.id for a in site.assets if a.kind in ("load", "battery", "tank", "meter", "weather")]
        commanded = (self._solars, self._hydros, self._diesels, self._deferrables)
        self._ratings = {a.id: (0.0, a.rated_kw) for units in commanded for a in units.values()}
        self._ratings |= {i.id: (-i.rated_kw, i.rated_kw) for i in self._inverters.values()}

    def decide(
        self,
        image: Image,
        memory: Memory,
        situation: Situation,
        prospect: Prospect,
        target: Target,
        leader: str | None,
        on: Collection[str],
        why: Mapping[str, Explanation],
        drawn: Mapping[str, float],
    ) -> dict[str, AssetDecision]:
        """Return the decision for every asset, with one reason each.

        Parameters
        ----------
        prospect : Prospect
            Power of every source, and the reserve with it.
        leader : str | None
            The unit whose power is the residual: it gets no setpoint.
        on : Collection[str]
            Diesels on the bus.
        why : Mapping[str, Explanation]
            Why diesels run.
        drawn : Mapping[str, float]
            What deferrables shall draw [kW].
        """
        planned = Reason.PLAN if target.source == "mpc" else Reason.OPERATOR if memory.mode is Mode.MANUAL else Reason.RULES
        found: dict[str, AssetDecision] = {}
        shares = prospect.shares
        for s in self._solars:
            found[s] = self._solar(s, image, memory, situation, prospect)
        for h in self._hydros:
            found[h] = self._hydro(h, image, memory, situation, shares, leader, planned if h in target.power_kw else Reason.FOLLOWS_RIVER)
        for d in self._diesels:
            found[d] = self._diesel(d, image, memory, situation, shares, leader, on, why)
        for i in self._inverters:
            found[i] = self._inverter(i, image, memory, situation, shares, leader, planned)
        for x, kw in drawn.items():
            reason = Reason.OPERATOR if x in memory.manual else planned if x in target.deferrable_kw else Reason.SURPLUS if kw > 0 else Reason.NOT_NEEDED
            found[x] = AssetDecision(kw, kw > 0.0, self._seen(x, image, Explanation(reason)))
        for a in self._others:
            found[a] = READ_ONLY if (cause := self._seen(a, image, BY_RULE)) is BY_RULE else AssetDecision(None, None, cause)
        return {a: as_measured(d, self._measured_kw(a, image)) for a, d in found.items()} if bumpless(image, memory) else found

    def _measured_kw(self, asset: str, image: Image) -> float | None:
        """Return the measured power as a setpoint: only an inverter takes one below zero, PV at night draws a little [kW]."""
        power = image.assets[asset].power_kw
        return power if power is None or asset in self._inverters else max(0.0, power)

    def _seen(self, asset: str, image: Image, why: Explanation) -> Explanation:
        """Return why, or that a unit is out of our hands."""
        unit = image.assets[asset]
        if not unit.seen:
            return Explanation(Reason.UNSEEN, why.limited_by, why.numbers)
        return why if unit.remote else Explanation(Reason.LOCAL, why.limited_by, why.numbers)

    def _solar(self, s: str, image: Image, memory: Memory, situation: Situation, prospect: Prospect) -> AssetDecision:
        if s not in situation.solar_kw:
            return AssetDecision(None, None, self._seen(s, image, FOLLOWS_SUN))
        bound, free, power = situation.bounds[s], situation.solar_kw[s], prospect.shares.power_kw[s]
        held_by = ""
        if power < free - 0.05:
            reason, limit = Reason.SURPLUS, power
        else:
            # What may follow the sun is released to its bound, at most by its ramp from where it was held.
            held = memory.setpoints.get(s, bound.hi_kw)
            limit = min(bound.hi_kw, max(held, image.assets[s].power_kw or 0.0) + self._solars[s].ramp_up_kw_per_s * image.dt_s)
            room = (image.assets[s].power_kw or 0.0) + self._room_kw(s, prospect)
            if room < limit and image.dt_s < LONG_STEP_S:
                limit = max(power, room)
                # A ceiling far above what the sun gives holds nothing back.
                held_by = "headroom" if limit - power < AT_CEILING * self._solars[s].rated_kw and power > 0.0 else ""
            reason = Reason.LIMIT if bound.hi_by == "operator_limit" and free > CURTAILED * bound.hi_kw else Reason.FOLLOWS_SUN
        numbers: dict[str, float | str] = {"setpoint_kw": round(limit, 1), "curtailed_kw": round(max(0.0, free - power), 1)}
        names = bound.names(limit)
        return AssetDecision(limit, None, Explanation(reason, (*names, held_by) if held_by else names, numbers))

    def _room_kw(self, s: str, prospect: Prospect) -> float:
        """Return by how much one solar unit may rise before the next look [kW]: its share of what the others can take back beside the largest feeder.

        A cloud that goes may bring all of a plant's power in seconds; a battery that is full cannot take it (CONTROL 3.1).
        """
        reserve = prospect.reserve
        return max(0.0, reserve.down_kw - reserve.down_required_kw) * self._solars[s].rated_kw / self._sun_kw

    def _hydro(self, h: str, image: Image, memory: Memory, situation: Situation, shares: Shares, leader: str | None, reason: Reason) -> AssetDecision:
        if h not in situation.hydro_kw:
            return AssetDecision(None, None, self._seen(h, image, FOLLOWS_RIVER))
        power, free = shares.power_kw.get(h, 0.0), situation.hydro_kw[h]
        manual, lowered = memory.manual.get(h), power < free - 0.05
        stopped = lowered or situation.bounds[h].hi_kw <= 0.0 or (manual is not None and manual.run is False)
        asked = None if stopped else asked_kw(self._hydros[h], image.assets[h])
        run = free > 0.0 or asked is not None
        if h == leader:
            return AssetDecision(None, run, FORMING)
        if lowered and reason is Reason.FOLLOWS_RIVER:
            reason = Reason.SURPLUS
        # Units that run on level or flow take a ceiling only: it is lowered when there is surplus.
        setpoint = (asked or power) if self._hydros[h].mode == "power" or lowered else situation.bounds[h].hi_kw
        setpoint = situation.bounds[h].clip(self._trimmed(h, image, memory, situation, self._ramped(h, image, memory, setpoint))) if run else setpoint
        numbers: dict[str, float | str] = {"setpoint_kw": round(setpoint, 1), "river_kw": round(free, 1)}
        return AssetDecision(setpoint, run, Explanation(reason, situation.bounds[h].names(setpoint), numbers))

    def _diesel(
        self,
        d: str,
        image: Image,
        memory: Memory,
        situation: Situation,
        shares: Shares,
        leader: str | None,
        on: Collection[str],
        why: Mapping[str, Explanation],
    ) -> AssetDecision:
        unit = memory.units.get(d)
        cause = why.get(d) or (unit.why if unit is not None and unit.phase is not OFF else NOT_NEEDED)
        cause = self._seen(d, image, cause)
        run = unit is not None and unit.phase in RUNNING
        if d not in on:
            return AssetDecision(0.0 if unit is not None and not run else None, run, cause)
        if d in situation.fixed_kw or d == leader:
            return AssetDecision(None, run, cause)
        power = self._trimmed(d, image, memory, situation, shares.power_kw[d])
        names = situation.bounds[d].names(power)
        return AssetDecision(power, run, changed(cause, limited_by=(*cause.limited_by, *names)) if names else cause)

    def _inverter(self, i: str, image: Image, memory: Memory, situation: Situation, shares: Shares, leader: str | None, planned: Reason) -> AssetDecision:
        if i not in situation.inverters:
            return AssetDecision(None, image.assets[i].flag("running"), self._seen(i, image, OUT))
        power = shares.power_kw[i]
        numbers: dict[str, float | str] = {"power_kw": round(power, 1)}
        if i == leader:
            return AssetDecision(None, True, Explanation(Reason.FORMING, situation.bounds[i].names(power), numbers))
        limited = situation.bounds[i].names(power)
        manual = memory.manual.get(i)
        reason = Reason.OPERATOR if manual is not None else planned
        held = self._trimmed(i, image, memory, situation, power)
        return AssetDecision(held, True, Explanation(reason, limited, {**numbers, "setpoint_kw": round(held, 1)}))

    def _trimmed(self, unit: str, image: Image, memory: Memory, situation: Situation, power_kw: float) -> float:
        """Return a droop unit's reference: the last one for up to `TRIM_S`, as long as its bound allows [kW]."""
        before = memory.references.get(unit)
        if before is None or trim_due(image) or unit not in self._droop:
            return power_kw
        return before if unit in situation.unloading else situation.bounds[unit].clip(before)

    def _ramped(self, h: str, image: Image, memory: Memory, power_kw: float) -> float:
        """Return a turbine's setpoint no further from the last one than its ramp goes until the next: penstock and river (CONTROL 3.8) [kW]."""
        before = memory.setpoints.get(h, image.assets[h].power_kw)
        if before is None or image.dt_s >= LONG_STEP_S:
            return power_kw
        step = self._hydros[h].ramp_kw_per_s * (max(image.dt_s, TRIM_S) if h in self._droop else image.dt_s)
        return min(max(power_kw, before - step), before + step)

    def writes(
        self, image: Image, memory: Memory, situation: Situation, decided: Mapping[str, AssetDecision], leader: str | None, shares: Shares
    ) -> tuple[tuple[Write, ...], tuple[Event, ...]]:
        """Return every write of this cycle, and an event for each that was refused; the field bus leaves out what the device already has."""
        found: list[Write] = []
        for s in situation.solar_kw:
            found.append(Write(s, "limit_kw", decided[s].setpoint_kw or 0.0))
        for h in situation.hydro_kw:
            found.extend(self._hydro_writes(h, image, decided[h]))
        for d, diesel in self._diesels.items():
            unit = image.assets[d]
            if not decided[d].run or diesel.forming == "isochronous" or not unit.seen or not unit.remote:
                continue  # the isochronous unit takes no reference; a droop leader's is the residual that is expected of it
            reference = decided[d].setpoint_kw if d != leader else self._expected_kw(d, image, memory, situation, shares)
            if reference is not None:
                found.append(Write(d, "power_kw", reference))
        for i in situation.inverters:
            found.extend(self._inverter_writes(i, image, memory, situation, decided[i], leader, shares))
        for x in self._deferrables:
            unit = image.assets[x]
            if unit.seen and unit.remote and x in decided:
                found.append(Write(x, "running", float(bool(decided[x].run))))
                if decided[x].run:
                    found.append(Write(x, "power_kw", decided[x].setpoint_kw or 0.0))
        return last_look(found, self._allowed_kw(image, memory, situation, leader))

    def _allowed_kw(self, image: Image, memory: Memory, situation: Situation, leader: str | None) -> dict[str, tuple[float, float]]:
        """Return what may be written to each unit: its bound where it follows, else its rating [kW].

        What is measured in a first cycle, the residual that is expected of a leader, and a diesel on its way
        off may lie outside a bound. A ceiling, and a share of too little load, may lie under a lower end.
        """
        found = dict(self._ratings)
        if bumpless(image, memory):
            return found
        for u, b in situation.bounds.items():
            if u != leader and u not in situation.unloading:
                found[u] = (b.lo_kw if u in self._inverters else 0.0, b.hi_kw)
        return found

    def _hydro_writes(self, h: str, image: Image, decision: AssetDecision) -> list[Write]:
        found = []
        if image.assets[h].flag("running") is not decision.run and image.assets[h].ready:
            found.append(Write(h, "running", float(bool(decision.run))))
        if decision.setpoint_kw is not None and decision.run:
            found.append(Write(h, "power_kw", decision.setpoint_kw))
        return found

    def _expected_kw(self, unit: str, image: Image, memory: Memory, situation: Situation, shares: Shares) -> float | None:
        """Return the reference of a droop leader: the residual that is expected of it, at first what it gives [kW]."""
        expected = shares.power_kw.get(unit)
        if expected is None:
            return None
        measured = self._measured_kw(unit, image)
        return measured if bumpless(image, memory) and measured is not None else self._trimmed(unit, image, memory, situation, expected)

    def _inverter_writes(
        self, i: str, image: Image, memory: Memory, situation: Situation, decision: AssetDecision, leader: str | None, shares: Shares
    ) -> list[Write]:
        inverter, unit = self._inverters[i], image.assets[i]
        found = []
        # One that must stop to change its role is told so only by people (`handover: break`).
        if inverter.forming != "never" and unit.flag("forming") is False and inverter.handover == "seamless":
            found.append(Write(i, "forming", 1.0))
        reference = decision.setpoint_kw if i != leader else self._expected_kw(i, image, memory, situation, shares)
        if reference is not None and not (i == leader and inverter.forming == "isochronous"):
            found.append(Write(i, "power_kw", reference))
        return found

    def safe_values(self, image: Image) -> tuple[Write, ...]:
        """Return what SAFE writes once: nothing that stops a running former or takes its load away."""
        return tuple(Write(d, "running", 0.0) for d in self._deferrables if image.assets[d].seen and image.assets[d].remote and image.assets[d].flag("running"))
