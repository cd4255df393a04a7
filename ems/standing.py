"""What is decided while nothing is dispatched: in START and SAFE, on a dead bus, and in the first steps of a black start."""

from __future__ import annotations

from ems import sequencer
from ems.black_start import BlackStarts
from ems.bus import Finding
from ems.decision import AssetDecision, Decision, Event, Write
from ems.feeders import Feeders
from ems.frozen import changed
from ems.memory import Memory
from ems.model import NOTHING, Image
from ems.outlook import Outlooks
from ems.reserve import Supply
from ems.sequences import Sequences
from ems.setpoints import Setpoints
from ems.terms import Explanation, Mode, Reason, Stage


class Standing:
    """The decisions of one site in those modes."""

    def __init__(self, outlooks: Outlooks, setpoints: Setpoints, sequences: Sequences, feeders: Feeders, black_starts: BlackStarts) -> None:
        self._outlooks, self._setpoints, self._sequences = outlooks, setpoints, sequences
        self._feeders, self._black_starts = feeders, black_starts

    def holding(self, image: Image, memory: Memory, supply: Supply, formers: tuple[str, ...], stage: Stage) -> Decision:
        """START and SAFE: nothing is written; SAFE also stops the heartbeats, so that devices do what they declare."""
        mode, entered = memory.mode, memory.mode_since_s == image.now_s
        why = Explanation(Reason.SAFE if mode is Mode.SAFE else Reason.SEQUENCE, (mode.value,))
        assets = {a: AssetDecision(None, image.assets[a].flag("running"), why) for a in image.assets}
        return Decision(
            mode=mode,
            stage=stage,
            formers=formers,
            leader=self._outlooks.dispatch.leader(formers, sequencer.online(memory.units)),
            assets=assets,
            writes=self._setpoints.safe_values(image) if mode is Mode.SAFE and entered and stage is Stage.CONTROL else (),
            heartbeat=mode is Mode.START and stage is Stage.CONTROL,
            reserve=self._outlooks.reserve.assess(supply, image.load_kw),
            plan_id=None,
            plan_source="none",
            alarms=(),
            events=(),
            outcomes=(),
            memory=changed(memory, setpoints=NOTHING, astray=NOTHING),
        )

    def called_off(self, image: Image, memory: Memory, decision: Decision) -> Decision:
        """The bus has just died: who was on the way would close on it with everybody's load, so the start is called off."""
        coming = [d for d, u in memory.units.items() if u.phase in sequencer.COMING and image.assets[d].remote and not sequencer.on_bus(image.assets[d])]
        if not coming or decision.stage is not Stage.CONTROL:
            return decision
        writes = tuple(Write(d, "running", 0.0) for d in coming)
        told = tuple(Event("start_cancelled", d, "the bus has died") for d in coming)
        return changed(decision, writes=(*decision.writes, *writes), events=(*decision.events, *told))

    def black_starting(self, image: Image, bus: Finding, memory: Memory, supply: Supply, formers: tuple[str, ...], stage: Stage) -> Decision:
        """The steps of a black start in which nothing is dispatched: only its own writes, and the sequence of the diesel that it starts."""
        stepped = self._black_starts.early(image, bus, memory)
        why = Explanation(Reason.BLACK_START, (), {"step": memory.black_start.step if memory.black_start is not None else ""})
        online = sequencer.online(memory.units)
        units, writes, events = stepped.memory.units, list[Write](), list[Event]()
        if stepped.wanted is not None:
            units, writes, events = self._sequences.advanced(image, stepped.memory, stepped.wanted, dict.fromkeys(stepped.wanted, why), online)
        assets = {a: AssetDecision(None, i.flag("running"), why) for a, i in image.assets.items()}
        assets |= self._feeders.decisions(image, stepped.memory, None)
        return Decision(
            mode=memory.mode,
            stage=stage,
            formers=formers,
            leader=self._outlooks.dispatch.leader(formers, online),
            assets=assets,
            writes=(*stepped.writes, *writes) if stage is Stage.CONTROL else (),
            heartbeat=stage is Stage.CONTROL,
            reserve=self._outlooks.reserve.assess(supply, image.load_kw),
            plan_id=None,
            plan_source="none",
            alarms=(),
            events=(*stepped.events, *events),
            outcomes=(),
            memory=changed(stepped.memory, units=units, setpoints=NOTHING, astray=NOTHING),
        )
