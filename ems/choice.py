"""What may be done with each diesel in one cycle: who must stay, who may be started, who may not."""

from __future__ import annotations

from ems import sequencer
from ems.config.site import Diesel, Site
from ems.frozen import frozen
from ems.memory import Memory
from ems.model import Image


@frozen
class Choice:
    """What may be done with each diesel in this cycle.

    Attributes
    ----------
    online : frozenset[str]
        On the bus now; in a long step also those that get there inside it.
    must : frozenset[str]
        May not be stopped: minimum up time, local, ordered by an operator.
    economic, forced : frozenset[str]
        May be started because it is cheaper; because reserve or an operator needs it.
    prompt : frozenset[str]
        Would be on the bus within this step if started now.
    banned : frozenset[str]
        Stopped by an operator or out of service; kept only where the island would go dark.
    """

    online: frozenset[str]
    must: frozenset[str]
    economic: frozenset[str]
    forced: frozenset[str]
    banned: frozenset[str]
    prompt: frozenset[str] = frozenset()


class Choices:
    """The choices of one site."""

    def __init__(self, site: Site) -> None:
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._start_s = {d.id: sequencer.total_start_s(d) for d in site.of(Diesel)}
        self._quickest_s = min(self._start_s.values(), default=float("inf"))

    def reached(self, image: Image, memory: Memory, online: frozenset[str]) -> frozenset[str]:
        """Return the diesels on the bus, with those whose start fits into this step."""
        if image.dt_s < self._quickest_s:
            return online
        # One that is started again out of its cool-down only has to synchronise.
        fits = [d for d, u in memory.units.items() if u.phase in sequencer.COMING and image.dt_s >= self._start_s[d] and image.assets[d].seen]
        return online.union(fits) if fits else online

    def of(self, image: Image, memory: Memory, online: frozenset[str]) -> Choice:
        """Return what may be done with each diesel; `online` are those on the bus in this step."""
        must, economic, forced, banned = set(), set(), set(), set()
        blind = any(not image.assets[d].seen for d in online)  # nobody is taken off on the word of a unit that is not seen
        for d, diesel in self._diesels.items():
            unit, seen = memory.units.get(d), image.assets[d]
            if unit is None:
                continue
            if d in online and not (seen.seen and seen.remote):
                must.add(d)
                continue
            manual, limits = memory.manual.get(d), memory.limits.get(d)
            if (manual is not None and manual.run is False) or (limits is not None and limits.out_of_service):
                banned.add(d)
                continue
            ordered = manual is not None and manual.run is True
            if sequencer.startable(diesel, unit, seen, image.now_s, economic=False):
                forced.add(d)
                if sequencer.rested(diesel, unit, image.now_s):
                    economic.add(d)
            if sequencer.must_stay(diesel, unit, seen, image.now_s) or (blind and d in online) or (ordered and d in forced):
                must.add(d)
        prompt = frozenset([d for d in forced if image.dt_s >= self._start_s[d]])
        return Choice(online, frozenset(must), frozenset(economic), frozenset(forced), frozenset(banned), prompt)
