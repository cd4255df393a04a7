"""The sequences of all diesels of a site: who is kept because the bus may not be handed over, and each taken one step further."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ems import sequencer
from ems.commitment import Commitment
from ems.config.site import Diesel, Site
from ems.decision import Event, Write
from ems.frozen import changed
from ems.handover import HandOver
from ems.memory import Memory, UnitMemory
from ems.model import Image
from ems.outlook import Outlook
from ems.setpoints import TRIM_S
from ems.terms import Explanation, Mode, Phase, Reason

NOT_NEEDED = Explanation(Reason.NOT_NEEDED)


class Sequences:
    """The sequences of one site."""

    def __init__(self, site: Site) -> None:
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._hand_over = HandOver(site)

    def adopted(self, image: Image, memory: Memory, commanding: bool) -> Memory:
        """Return the memory with a sequence for every diesel; one met for the first time is taken as it is.

        Parameters
        ----------
        commanding : bool
            Whether we command at all: while we do not, those that change are followed.
        """
        watch = memory.mode in (Mode.START, Mode.SAFE) or not commanding
        if len(memory.units) == len(self._diesels) and not watch:
            return memory
        return changed(memory, units=sequencer.rebuilt(self._diesels, memory.units, image.assets, image.now_s, watch))

    def arrived(self, image: Image, memory: Memory) -> tuple[Memory, list[Event]]:
        """Return the memory with the sets that a start has brought to the bus on line, and what is to be told: whoever decides now counts them."""
        found = {d: a for d, u in memory.units.items() if (a := sequencer.arrived(self._diesels[d], u, image.assets[d], image.now_s, image.dt_s)) is not None}
        if not found:
            return memory, []
        return changed(memory, units={**memory.units, **found}), [Event("on_line", d, u.why.reason.value) for d, u in found.items()]

    def kept(self, image: Image, memory: Memory, outlook: Outlook, commitment: Commitment, online: Collection[str]) -> Commitment:
        """Return the commitment with the last diesels kept where the bus may not be handed to anybody else now."""
        leaving = [d for d in online if d not in commitment.wanted and memory.units[d].phase is not Phase.COOLDOWN]
        if not leaving or not self._hand_over.last(online, commitment.wanted):
            return commitment
        staying = commitment.wanted.intersection(online)
        refusal = self._hand_over.refusal(image, memory, outlook.prospect(staying, commitment.target))
        if refusal is None:
            return commitment
        kept = dict.fromkeys(leaving, Explanation(Reason.SEQUENCE, (refusal,)))
        return Commitment(commitment.wanted | frozenset(leaving), {**commitment.why, **kept}, commitment.target)

    def advanced(
        self, image: Image, memory: Memory, wanted: Collection[str], why: Mapping[str, Explanation], online: Collection[str]
    ) -> tuple[Mapping[str, UnitMemory], list[Write], list[Event]]:
        """Return every diesel's memory after this cycle (the same mapping where none has moved), what is written to them, and what happened.

        Parameters
        ----------
        wanted : Collection[str]
            Diesels that shall be on the bus.
        why : Mapping[str, Explanation]
            Why each is wanted, or kept.
        online : Collection[str]
            Diesels on the bus now.
        """
        units, still = dict[str, UnitMemory](), True
        writes, events = list[Write](), list[Event]()
        measured = image.frequency_hz is not None or image.voltage_v is not None
        steady_s = float("inf") if not measured else None if memory.in_band_s is None else image.now_s - memory.in_band_s
        moment = sequencer.Moment(image.now_s, image.dt_s, steady_s, self._hand_over.last(online, wanted))
        for d, unit in memory.units.items():
            cause = why.get(d, NOT_NEEDED)
            moved = sequencer.advance(self._diesels[d], unit, image.assets[d], d in wanted, cause, moment)
            units[d] = moved.memory
            still = still and moved.memory is unit
            if moved.writes and image.assets[d].remote:
                writes.extend(moved.writes)
            events.extend(moved.events)
        return memory.units if still else units, writes, events

    def unloading(self, image: Image, units: Mapping[str, UnitMemory]) -> dict[str, float]:
        """Return the diesels on their way off the bus, with the power each may still have [kW]."""
        ahead_s = max(image.dt_s, TRIM_S)  # references move in steps of this length
        return {d: sequencer.unloading_kw(self._diesels[d], u, image.assets[d], ahead_s) for d, u in units.items() if u.phase is sequencer.UNLOADING}
