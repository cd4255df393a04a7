"""The decision: one image in, one decision out. Synchronous and pure: no clock, no I/O, no chance.

Order: image -> requests, arrivals -> bounds -> mode -> what plan or rules want -> which diesels -> their
sequences -> dispatch inside the bounds -> the last look -> writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ems import sequencer
from ems.alarms import Alarms
from ems.black_start import EARLY, FAILED, FEEDER_BAND_S, BlackStarts
from ems.bus import Bus, BusState
from ems.choice import Choices
from ems.commitment import Committer, relieved
from ems.config.site import Diesel, Site
from ems.cycle import Chosen, Look, Met, Shared
from ems.decision import AssetDecision, Decision, Event
from ems.deferrables import Deferrables
from ems.dispatch import Situation
from ems.doubt import Doubter
from ems.doubt_memory import DoubtMemory
from ems.engines import Engines
from ems.estop import noticed
from ems.feeders import IN_BAND_S, Feeders
from ems.frozen import changed
from ems.guards import Guards, keep_a_former
from ems.image import ImageBuilder
from ems.memory import Expected, Memory
from ems.model import NOTHING, Image, Request, Telemetry
from ems.modes import next_mode
from ems.orders import Orders, stepped_s
from ems.outlook import Outlook, Prospect
from ems.plan import Plan, target_at
from ems.residual import Residual
from ems.rules import Rules
from ems.sequences import Sequences
from ems.setpoints import Setpoints
from ems.situation import Situations
from ems.standing import Standing
from ems.strain import Strains
from ems.supply import Supplies
from ems.terms import Explanation, Mode, Reason, Stage, lower
from ems.waiting import Waiting, helps, told
from ems.wishes import RULE_POLICIES, Wishes, learned_kw

CONTROL = Stage.CONTROL


class Controller:
    """The pure controller of one site.

    Parameters
    ----------
    site : Site
    stage : Stage
        The command line's stage; the lowest of this, the site file and the last request is in force.
    policy : str
        `mpc` follows a plan and falls back to the site's rules; a rule policy needs no plan.
    guards : Guards | None
        Other guards than the site's own, to see what each of them holds back (`ems.binding`).

    Site, stage and policy can be read as attributes.
    """

    def __init__(self, site: Site, stage: Stage = Stage.CONTROL, policy: str = "mpc", guards: Guards | None = None) -> None:
        self.site = self._site = site
        self.stage = self._stage = lower(stage, Stage(site.control.stage))
        self.policy = policy
        self._start_timeout_s = site.control.start_timeout_s
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._image = ImageBuilder(site)
        self._doubter = Doubter(site)
        self._feeders = Feeders(site)
        self._black_starts = BlackStarts(site, self._stage, self._feeders)
        self._orders = Orders(site, self._black_starts)
        self._guards = guards or Guards(site)
        self._situations = Situations(site)
        self._rules = Rules(site)
        self._outlooks = self._rules.outlooks
        self._supplies = Supplies(site)
        self._choices = Choices(site)
        self._committer = Committer(self._rules)
        self._sequences = Sequences(site)
        self._wishes = Wishes(site, policy, self._rules)
        self._bus = Bus(site)
        self._engines = Engines(site)
        self._deferrables = Deferrables(site)
        self._residual = Residual(site)
        self._strains = Strains(site, self._outlooks.reserve)
        self._waiting = Waiting(site, self._guards)
        self._setpoints = Setpoints(site)
        self._standing = Standing(self._outlooks, self._setpoints, self._sequences, self._feeders, self._black_starts)
        self._alarms = Alarms(site)

    def step(self, telemetry: Telemetry, requests: Sequence[Request], plan: Plan | None, memory: Memory) -> tuple[Image, Decision]:
        """Return the image and what follows from it."""
        image, doubt = self._doubter.judge(self._image.build(telemetry, memory), memory.doubt, memory.told)
        met = self._met(image, requests, memory)
        image = met.image
        bounds = self._guards.bounds(image, met.memory)
        planned = self._situations.planned(image, target_at(plan, image.time, image.dt_s)) if plan is not None else None
        supply = self._supplies.of(image, met.memory, learned_kw(plan, planned, image.time))
        formers = self._outlooks.reserve.formers(supply)
        memory, turns = self._entered(met, doubt, formers, planned is not None or self.policy in RULE_POLICIES)
        decision = self._decided(Look(image, memory, bounds, supply, formers, planned, plan), met)
        alarms, last_seen = self._alarms.held(self._alarms.active(image, decision), memory.alarms, image)
        return image, changed(
            decision,
            memory=decision.memory if last_seen is decision.memory.alarms else changed(decision.memory, alarms=last_seen),
            plan_id=plan.id if plan is not None and planned is not None else None,
            outcomes=met.outcomes,
            events=(*met.events, *turns, *decision.events),
            alarms=alarms,
        )

    def _met(self, image: Image, requests: Sequence[Request], memory: Memory) -> Met:
        """Work in what people ordered, and what bus, breakers and emergency stops show."""
        taken = self._orders.take(image, memory, requests)
        memory, arrivals = self._sequences.arrived(image, self._sequences.adopted(image, taken.memory, self._stage_of(image, taken.memory) is CONTROL))
        effects = self._orders.effects(image, memory)
        if not image.alone and lower(self._stage, effects.memory.stage) is not CONTROL:
            image = changed(image, rivals=NOTHING, watched=True)  # who only watches may well watch another controller
        bus = self._bus.found(image)
        feeders = self._feeders.seen(image, bus, effects.memory)
        memory, stops = noticed(image, feeders.memory)
        start = memory.black_start
        if start is not None and start.step == FAILED and bus.state is BusState.LIVE and memory.mode is not Mode.BLACKSTART:
            memory = changed(memory, black_start=None)
        return Met(image, memory, bus, taken.accepted, (*taken.outcomes, *effects.outcomes), (*taken.events, *arrivals, *feeders.events, *stops))

    def _entered(self, met: Met, doubt: DoubtMemory, formers: tuple[str, ...], planned: bool) -> tuple[Memory, tuple[Event, ...]]:
        """Return the memory with the mode of this cycle and all that is counted, and what is to be told of the mode."""
        image, memory = met.image, met.memory
        mode, cause = next_mode(memory, image, formers, planned, self._start_timeout_s, met.bus.state is BusState.DEAD)
        turned = mode is not memory.mode
        in_band_s, volts_off_s = self._bus.since(image, memory)
        entered = changed(
            self._deferrables.counted(image, memory),
            mode=mode,
            mode_since_s=image.now_s if turned else memory.mode_since_s,
            seen_at=image.time,
            stepped_s=stepped_s(image, memory),
            load_kw=image.load_kw,
            in_band_s=in_band_s,
            volts_off_s=volts_off_s,
            engines=self._engines.counted(image, memory),
            doubt=doubt,
        )
        return entered, (Event("mode", None, f"{memory.mode.value} -> {mode.value}: {cause}"),) if turned else ()

    def _decided(self, look: Look, met: Met) -> Decision:
        """Return the decision that the mode allows: wait, bring up a dead bus, or share power."""
        image, memory = look.image, look.memory
        if memory.mode in (Mode.START, Mode.SAFE):
            decision = self._standing.holding(image, memory, look.supply, look.formers, self._stage_of(image, memory))
            just_died = met.bus.state is BusState.DEAD and memory.mode_since_s == image.now_s
            return self._standing.called_off(image, memory, decision) if just_died else decision
        start = memory.black_start if look.rising else None
        if start is not None and start.step in EARLY:
            return self._standing.black_starting(image, met.bus, memory, look.supply, look.formers, self._stage_of(image, memory))
        if start is not None:
            return self._rising(look, met)
        decision = self._deciding(look, met.accepted)
        return self._with_advice(look, decision, met.accepted) if memory.stages else decision

    def _rising(self, look: Look, met: Met) -> Decision:
        """Return the decision of the last steps of a black start: power is shared, without a plan and under narrower bounds."""
        image, memory = look.image, look.memory
        down_kw = self._outlooks.reserve.assess(look.supply, image.load_kw).down_kw
        narrower = changed(look, bounds=self._black_starts.bounds(look.bounds, memory, down_kw), planned=None)
        decision = self._deciding(narrower, met.accepted)
        moved = self._black_starts.late(image, met.bus, decision.memory, memory)
        return changed(decision, memory=moved.memory, writes=(*decision.writes, *moved.writes), events=(*decision.events, *moved.events))

    def _deciding(self, look: Look, accepted: Collection[str]) -> Decision:
        """Return the decision of a cycle in which power is dispatched: choose diesels, share power, tell."""
        chosen = self._chosen(look)
        return self._told(look, chosen, self._shared(look, chosen), accepted)

    def _chosen(self, look: Look) -> Chosen:
        """Choose the diesels, and take each one step along its sequence."""
        image, memory = look.image, look.memory
        online = self._choices.reached(image, memory, sequencer.online(memory.units))
        relief = look.rising or self._feeders.relief(image, memory)
        drawn = self._deferrables.powers(image, memory, look.planned, self._situations.curtailed(image, memory, look.bounds), relief)
        expected = self._residual.learned(image, memory)
        situation = self._situation(look, drawn, expected)
        # Whoever waits in the dark counts as demand where diesels are chosen, not where power is shared.
        waiting_kw = self._feeders.waiting_kw(image, memory)
        outlook = self._outlooks.of(changed(situation, demand_kw=situation.demand_kw + waiting_kw) if waiting_kw else situation, look.supply)
        choice = self._choices.of(image, memory, online)
        wants = self._wishes.of(image, memory, outlook, look.planned, choice)
        commitment = self._sequences.kept(image, memory, outlook, self._committer.decide(outlook, wants.target, choice), online)
        ordered = {d: Explanation(Reason.OPERATOR) for d, m in memory.manual.items() if m.run is not None and d in self._diesels}
        why = {**commitment.why, **ordered}
        units, writes, events = self._sequences.advanced(image, memory, commitment.wanted, why, online)
        steady = units is memory.units and wants.rule is memory.rule and wants.diesel_wanted is memory.diesel_wanted
        after = memory if steady else changed(memory, units=units, diesel_wanted=wants.diesel_wanted, rule=wants.rule)
        unloading = self._sequences.unloading(image, units)
        if unloading or waiting_kw:
            situation = changed(situation, unloading=unloading)
            outlook = self._outlooks.of(situation, look.supply)
        return Chosen(after, commitment.target, why, writes, events, situation, outlook, drawn, expected, wants.target.source)

    def _situation(self, look: Look, drawn: Mapping[str, float], expected: Expected | None) -> Situation:
        """Return what dispatch has to work with, with what the leader has taught about the demand."""
        situation = self._situations.build(look.image, look.memory, look.bounds, look.planned, drawn)
        bias_kw = 0.0 if expected is None else expected.bias_kw
        return changed(situation, demand_kw=max(0.0, situation.demand_kw + bias_kw)) if bias_kw else situation

    def _shared(self, look: Look, chosen: Chosen) -> Shared:
        """Share the demand; where it is beyond what can be carried, deferrable loads go in the same cycle."""
        shared = self._sharing(look, chosen, chosen.situation, chosen.outlook)
        return self._waited(look, chosen, shared) if shared.final.short_kw > 0.0 else shared

    def _waited(self, look: Look, chosen: Chosen, obeyed: Shared) -> Shared:
        """Return the sharing in which those orders wait that would leave demand unmet, or a unit's leaving the reserve short."""
        units = self._waiting.ordered(look)
        if not units:
            return obeyed
        best, freed = obeyed, look
        leader = self._outlooks.dispatch.leader(look.formers, obeyed.on, obeyed.situation.fixed_kw, obeyed.situation.astray)
        coming = any([u.phase in sequencer.COMING for u in chosen.memory.units.values()])
        for bounds, for_reserve in self._waiting.steps(look, units, leader, obeyed, coming):
            if not bounds:
                continue
            other = self._waiting.freed(freed, bounds)
            situation = changed(self._situation(other, chosen.drawn, chosen.expected), unloading=chosen.situation.unloading)
            shared = self._sharing(other, chosen, situation, self._outlooks.of(situation, look.supply))
            if helps(best.final, shared.final, for_reserve):
                best, freed = shared, other
        return best if freed is look else changed(best, waiting=self._waiting.waits(look, units, freed, obeyed.final, best.final))

    def _sharing(self, look: Look, chosen: Chosen, situation: Situation, outlook: Outlook) -> Shared:
        on = self._choices.reached(look.image, chosen.memory, sequencer.online(chosen.memory.units))
        target = relieved(outlook, on, chosen.target)
        final, drawn = outlook.prospect(on, target), chosen.drawn
        if final.shares.short_kw > 0.0 and any(drawn.values()):
            drawn = self._deferrables.powers(look.image, chosen.memory, look.planned, False, relief=True)
            situation = changed(self._situation(look, drawn, chosen.expected), unloading=situation.unloading)
            final = self._outlooks.of(situation, look.supply).prospect(on, target)
        leader = self._outlooks.dispatch.leader(final.formers, on, situation.fixed_kw, situation.astray)
        return Shared(on, target, final, situation, drawn, leader, look.memory.manual)

    def _told(self, look: Look, chosen: Chosen, shared: Shared, accepted: Collection[str]) -> Decision:
        """Make setpoints, breaker commands and writes of it, take the last look, and hand on the memory."""
        image, final, leader = look.image, shared.final, shared.leader
        hoped, decided = self._asked(look, chosen, shared)
        decided |= told(decided, shared.waiting)
        strain = self._strains.of(image, chosen.memory, shared.situation, final, leader, shared.on, look.plan, look.bounds)
        moved = self._feeders.decide(image, chosen.memory, strain, FEEDER_BAND_S if look.rising else IN_BAND_S)
        decided |= self._feeders.decisions(image, moved.memory, strain)
        stage = self._stage_of(image, look.memory)
        levels, refused = self._setpoints.writes(image, moved.memory, hoped, decided, leader, final.shares)
        writes = keep_a_former((*chosen.writes, *moved.writes, *levels), self._holding_now(look))
        dropped = {e.asset for e in refused}
        setpoints = {u: d.setpoint_kw for u, d in decided.items() if d.setpoint_kw is not None and u not in dropped}
        references = {w.asset: w.value for w in levels if w.command == "power_kw"}
        unled = self._residual.unled(image, moved.memory, chosen.expected)
        if stage is CONTROL:
            expected = self._residual.expecting(leader, final.shares.power_kw.get(leader or ""), image, chosen.expected)
            astray = self._image.astray(image, look.memory, setpoints)
            memory = changed(moved.memory, setpoints=setpoints, references=references, unled=unled, expected=expected, astray=astray)
            events = (*chosen.events, *moved.events, *refused)
        else:
            # Nothing was commanded: no sequence has begun, nobody can be off a setpoint, and nothing is learned from it.
            known = changed(moved.memory, units=look.memory.units, feeders=look.memory.feeders)
            memory = changed(known, setpoints=setpoints, references=references, unled=unled, expected=None, astray=NOTHING)
            events = refused
        return Decision(
            mode=memory.mode,
            stage=stage,
            formers=final.formers,
            leader=leader,
            assets=decided,
            writes=writes if stage is CONTROL else tuple([w for w in writes if stage is Stage.ADVISE and w.asset in accepted]),
            heartbeat=stage is CONTROL,
            reserve=final.reserve,
            plan_id=None,
            plan_source=chosen.source,
            alarms=(),
            events=events,
            outcomes=(),
            memory=memory,
        )

    def _asked(self, look: Look, chosen: Chosen, shared: Shared) -> tuple[Situation, dict[str, AssetDecision]]:
        """Return what every asset is told, and the situation that goes with it.

        Who does not follow goes on being told what would be its share if it did: so it is seen when it follows again, and nothing is upset by it.
        """
        decided = self._settled(look.image, chosen, shared, shared.situation, shared.final)
        astray = shared.situation.astray
        if not astray:
            return shared.situation, decided
        trusting = changed(look.image, assets={a: changed(i, follows=True) if a in astray else i for a, i in look.image.assets.items()})
        hoped = changed(
            self._situation(changed(look, image=trusting, bounds=shared.situation.bounds), shared.drawn, chosen.expected), unloading=shared.situation.unloading
        )
        asked = self._settled(trusting, chosen, shared, hoped, self._outlooks.of(hoped, look.supply).prospect(shared.on, shared.target))
        return hoped, decided | {u: asked[u] for u in astray}

    def _settled(self, image: Image, chosen: Chosen, shared: Shared, situation: Situation, final: Prospect) -> dict[str, AssetDecision]:
        # An order that waits is not in force yet.
        known = chosen.memory if shared.manual is chosen.memory.manual else changed(chosen.memory, manual=shared.manual)
        return self._setpoints.decide(image, known, situation, final, shared.target, shared.leader, shared.on, chosen.why, shared.drawn)

    def _holding_now(self, look: Look) -> list[str]:
        """Return who is seen to hold the bus and is not on its way off."""
        assets = look.image.assets
        return [f for f in look.formers if assets[f].seen and (f not in self._diesels or sequencer.on_bus(assets[f]))]

    def _with_advice(self, look: Look, decision: Decision, accepted: Collection[str]) -> Decision:
        """Return the decision with what would be done with the assets that stand below stage `control`.

        They are must-run in the decision itself, since they do what they want; what they would be told is
        looked at as if all were ours, and is written for those whose advice a person has just accepted.
        """
        image, memory = look.image, look.memory
        below = {a: s for a, s in memory.stages.items() if s is not Stage.CONTROL and a in image.assets}
        ours = changed(image, assets={a: changed(i, ours=True) if a in below else i for a, i in image.assets.items()})
        supply = self._supplies.of(ours, memory, learned_kw(look.plan, look.planned, image.time))
        formers = self._outlooks.reserve.formers(supply)
        would = self._deciding(Look(ours, memory, self._guards.bounds(ours, memory), supply, formers, look.planned, look.plan), below)
        advised = {a: d for a, d in would.assets.items() if a in below}
        writes = [w for w in would.writes if w.asset in accepted and below.get(w.asset) is Stage.ADVISE]
        return changed(decision, assets={**decision.assets, **advised}, writes=(*decision.writes, *writes))

    def _stage_of(self, image: Image, memory: Memory) -> Stage:
        """Return the stage in force: the lowest that was asked for, and not control while somebody else is met.

        What has not been watched yet keeps the site in START, and later only its own device from being written:
        one link that comes and goes must not take the heartbeats from all others.
        """
        return lower(lower(self._stage, memory.stage), Stage.ADVISE if image.rivals else CONTROL)
