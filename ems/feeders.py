"""Shedding and restoring by feeder: the least important first, fairly in turn, one by one on the way back.

Relays at the feeders act on their own within 200 ms and are never in the way of this, nor this of them.
What an operator has opened or holds, and what stands in local, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ems.breakers import SUPPLIED, noticed
from ems.bus import Finding
from ems.config.site import Feeder, Load, Site
from ems.decision import AssetDecision, Event, Write
from ems.frozen import changed, frozen
from ems.memory import FeederMemory, Memory
from ems.model import Image
from ems.strain import Endurance, Strain
from ems.terms import Explanation, Reason

OVERLOAD_CYCLES = 3.0
"""Shortage beyond this many cycles is shed: shorter is a meter or a load step that governors take."""
THIN_S = 10.0
"""Too little stored energy for this long [s] is believed."""
LASTING = 1.1
"""Energy is shed for, and restored on, so many times what is needed; shedding begins at 1.0."""
LAST_S, AGAIN = 3600.0, 2.0
"""The most important feeder is the last to go for energy, when less is stored than it draws in this time beside what stands by until relief [s].
It comes back alone on so many times that: a night that cannot be bridged is no reason to sit in the dark beside a charged battery."""
IN_BAND_S = 60.0
"""Frequency and voltage must be in band this long before a feeder is restored [s]."""
SETTLE_S = 30.0
"""... and this long since the last feeder was closed [s]: motors have started, governors have settled."""
TURN_S = 600.0
"""While a more important feeder waits for room, a smaller one that fits goes first only after this long [s]."""
SWAP_S = 1800.0
"""After this long in the dark a feeder changes places with one of its own priority [s]."""
COLD, COLDEST, COLD_S = 1.5, 2.0, 3600.0
"""Room asked for as a multiple of a feeder's load: right after opening, and after this long [s] or more."""
REPEAT_S, STUCK_S, STUCK_REST_S = 5.0, 30.0, 300.0
"""A breaker command is repeated, given up, and tried again after these times [s]."""
RELIEF_S = 600.0
"""Deferrable loads stay off this long after a shortage [s]."""


@frozen
class Moved:
    """Feeders after one cycle: their memory, what to write, what happened."""

    memory: Memory
    writes: tuple[Write, ...] = ()
    events: tuple[Event, ...] = ()


@frozen
class _Place:
    """A switchable feeder and the load it belongs to."""

    feeder: Feeder
    load: Load


class Feeders:
    """The switchable feeders of one site."""

    def __init__(self, site: Site) -> None:
        self._places = {f.id: _Place(f, load) for load in site.of(Load) for f in load.feeders if f.device is not None}
        self._priority = {f.id: f.priority for load in site.of(Load) for f in load.feeders}
        self._all = list(self._priority)
        self._patience_s = OVERLOAD_CYCLES * site.control.cycle_s

    def seen(self, image: Image, bus: Finding, memory: Memory) -> Moved:
        """Return the memory with what breakers show: who opened what, and how long people have sat in the dark."""
        if not self._places:
            return Moved(memory)
        known, events = noticed(self._places, image, bus, memory)
        return Moved(known, events=events)

    # ------------------------------------------------------------------ what others ask
    def waiting_kw(self, image: Image, memory: Memory) -> float:
        """Return the load for which capacity must be on line so that every waiting feeder can come back [kW]."""
        waiting = self.waiting(image, memory)
        if not waiting:
            return 0.0
        powers = [self.expected_kw(f, image, memory) for f in waiting]
        return sum(powers) + powers[0] * (cold(memory.feeders[waiting[0]], image.now_s) - 1.0)

    def relief(self, image: Image, memory: Memory) -> bool:
        """Whether deferrable loads stay off: for a while after a shortage, and while feeders wait to come back."""
        recent = memory.relief_s is not None and image.now_s - memory.relief_s < RELIEF_S
        return recent or bool(self.waiting(image, memory))

    def expected_kw(self, f: str, image: Image, memory: Memory) -> float:
        """Return what a feeder draws, or will draw when it is closed [kW]; where nothing is known, its share of the peak.

        Right after opening that is what it drew last, the longer ago the less; never under its share of what the others draw now.
        """
        place, mine = self._places[f], memory.feeders.get(f)
        unit = image.assets[f]
        if unit.seen and unit.flag("breaker_closed") and unit.power_kw is not None:
            return unit.power_kw
        last = None if mine is None else mine.drawn_kw
        load = image.assets[place.load.id].power_kw
        closed = sum(x.share for x in place.load.feeders if x.id not in image.assets or image.assets[x.id].flag("breaker_closed") is not False)
        alike = min(place.load.peak_kw, load / closed) * place.feeder.share if load is not None and load > 0.0 and closed > 0.0 else None
        if mine is None or last is None or alike is None:
            return next((x for x in (last, alike) if x is not None), place.load.peak_kw * place.feeder.share)
        age = min(1.0, (image.now_s - mine.since_s) / COLD_S)
        return max(alike, (1.0 - age) * last + age * alike)

    # ------------------------------------------------------------------ what we do
    def decide(self, image: Image, memory: Memory, strain: Strain, in_band_s: float = IN_BAND_S) -> Moved:
        """Shed what has to be shed, or restore one feeder, or let two change places.

        Parameters
        ----------
        strain : Strain
            With deferrable loads off already.
        in_band_s : float
            How long frequency and voltage must have been in band for a restoration [s].
        """
        over = memory.overload_s + image.dt_s if strain.short_kw > 0.1 else 0.0
        thin = memory.thin_s + image.dt_s if strain.endurance.excess_kw(1.0) > 0.1 else 0.0
        relief = image.now_s if over or thin else memory.relief_s
        if (over, thin, relief) != (memory.overload_s, memory.thin_s, memory.relief_s):
            memory = changed(memory, overload_s=over, thin_s=thin, relief_s=relief)
        if not self._places:
            return Moved(memory)
        memory, writes, events = self._repeated(image, memory)
        memory, ordered = self._ordered(image, memory)
        writes += ordered
        made: tuple[Mapping[str, Explanation], str] | None = None
        if over > self._patience_s and (chosen := self._chosen(image, memory, strain.short_kw)):
            memory = changed(memory, overload_s=0.0)
            made = dict.fromkeys(chosen, Explanation(Reason.SHED, ("overload",), {"short_kw": round(strain.short_kw, 1)})), "shed"
        elif thin > THIN_S and (chosen := self._thinned(image, memory, strain.endurance)):
            memory = changed(memory, thin_s=0.0)
            made = dict.fromkeys(chosen, Explanation(Reason.SHED, ("energy",), _energy_numbers(strain.endurance))), "shed"
        elif not over and not thin:
            return self._back(image, memory, strain, in_band_s, writes, events)
        if made is None:
            return Moved(memory, tuple(writes), tuple(events))
        return self._opening(image, memory, made[0], made[1], writes, events)

    def _opening(self, image: Image, memory: Memory, why: Mapping[str, Explanation], kind: str, writes: list[Write], events: list[Event]) -> Moved:
        feeders = dict(memory.feeders)
        for f, cause in why.items():
            kw = self.expected_kw(f, image, memory)
            cause = changed(cause, numbers={"power_kw": round(kw, 1), **cause.numbers})
            feeders[f] = changed(feeders[f], order=False, ordered_s=image.now_s, why=cause)
            writes.append(Write(f, "breaker", 0.0))
            events.append(Event(kind, f, f"{cause.limited_by[0]}: {kw:.0f} kW"))
        return Moved(changed(memory, feeders=feeders), tuple(writes), tuple(events))

    def _repeated(self, image: Image, memory: Memory) -> tuple[Memory, list[Write], list[Event]]:
        """Give a command again that is not in effect yet; give it up where the breaker does not obey."""
        feeders, writes, events = dict(memory.feeders), list[Write](), list[Event]()
        for f, mine in memory.feeders.items():
            if mine.order is None or mine.ordered_s is None or f not in self._places:
                continue
            waited = image.now_s - mine.ordered_s
            if waited >= STUCK_S:
                feeders[f] = changed(mine, order=None, stuck_s=image.now_s, why=SUPPLIED if mine.opened_by is None else mine.why)
                events.append(Event("breaker_stuck", f, f"the command to {'close' if mine.order else 'open'} was not obeyed in {STUCK_S:g} s"))
            elif waited > 0.0 and int(waited / REPEAT_S) != int((waited - image.dt_s) / REPEAT_S) and self._ours(f, image, memory):
                writes.append(Write(f, "breaker", float(mine.order)))
        return (changed(memory, feeders=feeders) if events else memory), writes, events

    def _ordered(self, image: Image, memory: Memory) -> tuple[Memory, list[Write]]:
        """Carry out what operators ordered; a closing order is given once, so that it does not fight the feeder's relay."""
        feeders, writes = dict(memory.feeders), list[Write]()
        restores = {p.asset for p in memory.pending.values() if p.action == "restore"}
        for f, manual in memory.manual.items():
            mine = memory.feeders.get(f)
            if mine is None or f not in self._places or manual.run is None or mine.order is manual.run or self._rests(mine, image):
                continue
            closed = mine.opened_by is None
            if closed is manual.run or not self._ours(f, image, memory) or (manual.run and f not in restores):
                continue
            feeders[f] = changed(mine, order=manual.run, ordered_s=image.now_s)
            writes.append(Write(f, "breaker", float(manual.run)))
        return (changed(memory, feeders=feeders) if writes else memory), writes

    def isolate(self, image: Image, memory: Memory) -> Moved:
        """Open every feeder that we may switch, for a black start."""
        memory, writes, events = self._repeated(image, memory)
        again = Explanation(Reason.SHED, ("black_start",))
        feeders = dict(memory.feeders)
        for f in self.closed(image):
            mine = feeders.get(f, FeederMemory(image.now_s))
            if mine.order is not False:
                feeders[f] = changed(mine, order=False, ordered_s=image.now_s, why=again)
                writes.append(Write(f, "breaker", 0.0))
        return Moved(changed(memory, feeders=feeders), tuple(writes), tuple(events))

    def closed(self, image: Image) -> list[str]:
        """Return the feeders that are closed and that we may open."""
        return [f for f in self._places if image.assets[f].seen and image.assets[f].remote and image.assets[f].flag("breaker_closed")]

    def stays(self, image: Image) -> list[str]:
        """Return the feeders that stay as they are because we cannot switch them."""
        return [f for f in self._all if f not in self._places or not (image.assets[f].seen and image.assets[f].remote)]

    # ------------------------------------------------------------------ shedding
    def _chosen(self, image: Image, memory: Memory, need_kw: float) -> list[str]:
        """Return which feeders to open: the least important first, within one priority the one least in the dark, and none too many."""
        powers = {f: kw for f in self._sheddable(image, memory) if (kw := self.expected_kw(f, image, memory)) > 0.1}
        chosen: list[str] = []
        for f in sorted(powers, key=lambda f: (-self._places[f].feeder.priority, memory.feeders[f].outage_s, f)):
            if sum(powers[c] for c in chosen) >= need_kw - 0.1:
                break
            chosen.append(f)
        for f in reversed(chosen):
            if sum(powers[c] for c in chosen) - powers[f] >= need_kw - 0.1:
                chosen.remove(f)
        return chosen

    def _thinned(self, image: Image, memory: Memory, endurance: Endurance) -> list[str]:
        """Return which feeders to open for energy: not the most important one while it is the last, and its own reserve is there."""
        chosen = self._chosen(image, memory, endurance.excess_kw(LASTING))
        if not chosen:
            return chosen
        last = min(chosen, key=lambda f: (self._places[f].feeder.priority, -memory.feeders[f].outage_s, f))
        spared = self._alone(last, chosen, image, memory) and self._bears(last, image, memory, endurance, 1.0)
        return [f for f in chosen if f != last] if spared else chosen

    def _supplied(self, image: Image, memory: Memory) -> list[str]:
        """Return the switchable feeders that are closed and stay so."""
        return [f for f in self._places if (m := memory.feeders.get(f)) is not None and m.opened_by is None and m.order is not False]

    def _alone(self, f: str, besides: Iterable[str], image: Image, memory: Memory) -> bool:
        """Whether nobody as important as a feeder is supplied, those `besides` it left out; what has no breaker of its own is."""
        supplied = {*self._supplied(image, memory), *(x for x in self._priority if x not in self._places)}
        return all(self._priority[x] > self._priority[f] for x in supplied.difference(besides, (f,)))

    def _bears(self, f: str, image: Image, memory: Memory, endurance: Endurance, times: float) -> bool:
        """Whether so many times a feeder's own reserve is stored: `LAST_S` of its load, beside what stands by.

        Without any feeder that must last until relief, since a battery that has run empty starts no island; for that it may go under its floor.
        """
        if endurance.energy_kwh is None:
            return False
        standby_kw = max(0.0, endurance.deficit_kw - sum([self.expected_kw(x, image, memory) for x in self._supplied(image, memory)]))
        last_h, hold_h = min(LAST_S, endurance.hold_s) / 3600.0, endurance.hold_s / 3600.0
        own_kwh = times * self.expected_kw(f, image, memory) * last_h
        return endurance.energy_kwh >= own_kwh + max(standby_kw * last_h, standby_kw * hold_h - endurance.spare_kwh)

    def _sheddable(self, image: Image, memory: Memory) -> list[str]:
        return [
            f
            for f in self._places
            if f in memory.feeders
            and memory.feeders[f].opened_by is None
            and memory.feeders[f].order is None
            and not self._rests(memory.feeders[f], image)
            and f not in memory.manual
            and self._ours(f, image, memory)
        ]

    def _ours(self, f: str, image: Image, memory: Memory) -> bool:
        return image.assets[f].seen and image.assets[f].remote and not image.assets[f].flag("estop")

    def _rests(self, mine: FeederMemory, image: Image) -> bool:
        return mine.stuck_s is not None and image.now_s - mine.stuck_s < STUCK_REST_S

    # ------------------------------------------------------------------ restoring
    def waiting(self, image: Image, memory: Memory) -> list[str]:
        """Return the feeders that wait to be restored: the most important first, then the one longest in the dark."""
        found = [
            f
            for f in self._places
            if f in memory.feeders
            and memory.feeders[f].opened_by in ("ems", "relay")
            and not memory.feeders[f].locked
            and f not in memory.manual
            and self._ours(f, image, memory)
        ]
        return sorted(found, key=lambda f: (self._places[f].feeder.priority, -memory.feeders[f].outage_s, f))

    def _back(self, image: Image, memory: Memory, strain: Strain, in_band_s: float, writes: list[Write], events: list[Event]) -> Moved:
        waiting = self.waiting(image, memory)
        quiet_s = self.quiet_s(image, memory)
        if not waiting or quiet_s < min(SETTLE_S, in_band_s) or self._steady_s(image, memory) < in_band_s:
            return Moved(memory, tuple(writes), tuple(events))
        for f in waiting[: None if quiet_s >= TURN_S else 1]:
            if not self._rests(memory.feeders[f], image) and self.fits(f, image, memory, strain):
                mine = memory.feeders[f]
                feeders = {**memory.feeders, f: changed(mine, order=True, ordered_s=image.now_s)}
                told = f"{self.expected_kw(f, image, memory):.0f} kW, {strain.room_kw:.0f} kW can be added"
                return Moved(changed(memory, feeders=feeders), (*writes, Write(f, "breaker", 1.0)), (*events, Event("restore", f, told)))
        pair = self._swap(waiting, image, memory, strain)
        if pair is None:
            return Moved(memory, tuple(writes), tuple(events))
        why = Explanation(Reason.SHED, ("turn",), {"instead": pair[0]})
        return self._opening(image, memory, {pair[1]: why}, "shed", writes, events)

    def quiet_s(self, image: Image, memory: Memory) -> float:
        """Return for how long no breaker has moved and none has been told to [s]."""
        if any(m.order is not None for m in memory.feeders.values()):
            return 0.0
        return min((image.now_s - m.since_s + image.dt_s for m in memory.feeders.values()), default=0.0)

    def _steady_s(self, image: Image, memory: Memory) -> float:
        """Return for how long frequency and voltage have been in band, this cycle included [s].

        A relay that has opened saw what lies between two of our readings.
        """
        if memory.in_band_s is None:
            return 0.0
        tripped = [m.since_s for m in memory.feeders.values() if m.opened_by == "relay"]
        return image.now_s - max(memory.in_band_s, *tripped) + image.dt_s if tripped else image.now_s - memory.in_band_s + image.dt_s

    def fits(self, f: str, image: Image, memory: Memory, strain: Strain, freed_kw: float = 0.0) -> bool:
        """Whether a feeder can be restored: room for its cold load, regulating reserve after it, and energy that lasts."""
        kw = self.expected_kw(f, image, memory)
        room = strain.room_kw + freed_kw
        factor = cold(memory.feeders[f], image.now_s)
        roomy = strain.short_kw <= 0.1 and room >= factor * kw and room - kw >= strain.regulating_kw
        return roomy and self._lasts(f, kw - freed_kw, image, memory, strain.endurance)

    def _lasts(self, f: str, more_kw: float, image: Image, memory: Memory, endurance: Endurance) -> bool:
        """Whether energy lasts with this much more load, or with the most important feeder alone for a while."""
        if endurance.holds(more_kw, LASTING):
            return True
        return self._alone(f, (), image, memory) and self._bears(f, image, memory, endurance, AGAIN)

    def _swap(self, waiting: Iterable[str], image: Image, memory: Memory, strain: Strain) -> tuple[str, str] | None:
        """Return who comes back and who goes instead: equals that have not sat in the dark for as long."""
        for f in waiting:
            mine, place = memory.feeders[f], self._places[f]
            if mine.opened_by != "ems" or image.now_s - mine.since_s < SWAP_S or self._rests(mine, image):
                continue
            others = [
                x
                for x in self._sheddable(image, memory)
                if self._places[x].feeder.priority == place.feeder.priority and memory.feeders[x].outage_s < mine.outage_s
            ]
            for x in sorted(others, key=lambda x: (memory.feeders[x].outage_s, x)):
                if self.fits(f, image, memory, strain, self.expected_kw(x, image, memory)):
                    return f, x
        return None

    # ------------------------------------------------------------------ what is said
    def decisions(self, image: Image, memory: Memory, strain: Strain | None) -> dict[str, AssetDecision]:
        """Return the decision for every switchable feeder; `strain` says what a waiting one waits for."""
        return {f: self._decision(f, image, memory, strain) for f in self._places}

    def _decision(self, f: str, image: Image, memory: Memory, strain: Strain | None) -> AssetDecision:
        unit, mine, manual = image.assets[f], memory.feeders.get(f), memory.manual.get(f)
        closed = mine is None or (mine.opened_by is None and mine.order is not False)
        if not unit.seen or mine is None:
            return AssetDecision(None, closed, Explanation(Reason.UNSEEN))
        if manual is not None:
            return AssetDecision(None, closed if mine.order is None else mine.order, Explanation(Reason.OPERATOR))
        if unit.local or mine.opened_by == "local":
            return AssetDecision(None, closed, Explanation(Reason.LOCAL))
        if closed:
            return AssetDecision(None, True, SUPPLIED)
        if mine.locked:
            return AssetDecision(None, False, Explanation(Reason.SHED, ("locked_out",)))
        waits = self._waits(f, image, memory, strain) if strain is not None and mine.opened_by is not None else None
        if waits is None:
            return AssetDecision(None, False, mine.why)
        return AssetDecision(None, mine.order is True, changed(mine.why, limited_by=(*mine.why.limited_by, waits[0]), numbers={**mine.why.numbers, **waits[1]}))

    def _waits(self, f: str, image: Image, memory: Memory, strain: Strain) -> tuple[str, dict[str, float | str]]:
        kw, mine = self.expected_kw(f, image, memory), memory.feeders[f]
        if self._steady_s(image, memory) < IN_BAND_S:
            return "waits_in_band", {"band_s": IN_BAND_S}
        asked = max(cold(mine, image.now_s) * kw, kw + strain.regulating_kw)
        if strain.room_kw < asked:
            return "waits_reserve", {"asked_kw": round(asked, 1), "room_kw": round(strain.room_kw, 1)}
        if not self._lasts(f, kw, image, memory, strain.endurance):
            return "waits_energy", _energy_numbers(strain.endurance)
        return "waits_turn", {}


def _energy_numbers(endurance: Endurance) -> dict[str, float | str]:
    lasts = endurance.lasts_s
    return {
        "lasts_min": "?" if lasts is None else float(round(lasts / 60.0)),
        "needed_min": float(round(endurance.hold_s / 60.0)),
        "waits_for": endurance.waits_for,
    }


def cold(mine: FeederMemory, now_s: float) -> float:
    """Return how many times its load a feeder needs as room: after a long outage everything starts at once."""
    dark_s = now_s - mine.since_s if mine.opened_by is not None else 0.0
    return COLD + (COLDEST - COLD) * min(1.0, dark_s / COLD_S)
