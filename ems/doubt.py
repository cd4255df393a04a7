"""What of an image can be believed: powers held against the balance, SoC against counted charge, devices against silence.

A value that is not believed is replaced by what the balance implies, by what was counted, or for a short time by
the last one that was believed; the image says so (`Doubt`, `suspect`, `uncertain_kw`). One unit at a time can be
told from the balance: with two it is known that something is wrong, not what (`docs/decisions/0014-doubt.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ems.balance import BalanceSheet
from ems.charge import WIDEST, Counter
from ems.config.site import Battery, Inverter, Site
from ems.culprit import IDLE, UNCLOSED_S, accuse, crept, dead, opened, paces, suspected
from ems.doubt_memory import Charge, Doubted, DoubtMemory, Onset, Pace
from ems.frozen import changed, frozen
from ems.model import BAD, LONG_STEP_S, NOTHING, SUSPECT, AssetImage, Doubt, Flaw, Image

HOLD_S = 60.0
"""The last believed power is used for at most this long where the balance tells nothing [s]."""
FINE_S = 10.0
"""A power is believed again when it has been plausible for this long [s]."""
ZERO_S = 3.0
"""A device that shows nothing but zeros is believed when the balance has implied zero for this long [s] ..."""
ZERO_BLIND_S = 60.0
"""... or after this long where the balance tells nothing [s]."""
FELL_SHARE = 0.05
"""Only a device that had more than this share of its rating (or SoC) before is doubted for showing nothing but zeros."""
UNKNOWN_SHARE = 0.25
"""A power that is only held from before may have moved by this share of the rating: a cloud, a block of load."""
LIVE_HZ = 0.9
"""A busbar with more than this share of its nominal frequency is alive."""
SOUND_HZ = 0.96
"""Under this share of its nominal frequency a busbar is short, and what loads want is not what they get: nothing is held against that."""
INFERRED_FLAGS = ("running", "forming", "breaker_closed")
HELD_LIMITS = ("charge_limit_kw", "discharge_limit_kw")

NOTHING_DOUBTED = DoubtMemory()


@dataclass(slots=True)
class _Found:
    """What a cycle finds as it goes: changed assets, doubts, and how far powers may be off [kW]."""

    changed: dict[str, AssetImage]
    doubts: list[Doubt]
    uncertain_kw: float


@frozen
class _Powers:
    """The powers of a cycle: as shown, which of them are doubted, and what is remembered.

    `residual_kw` is None where it cannot be told; `waiting` has just moved as a typical fault does, and is not used yet.
    """

    shown: dict[str, float]
    doubted: Mapping[str, Doubted]
    onset: Onset | None
    balanced: Mapping[str, float]
    pace: Mapping[str, Pace]
    lag_kw: float
    residual_kw: float | None
    waiting: str | None = None


class Doubter:
    """Judges the images of one site."""

    def __init__(self, site: Site) -> None:
        self._sheet = BalanceSheet(site)
        self._batteries = {b.id: b for b in site.of(Battery)}
        inverters = {i.id: i for i in site.of(Inverter)}
        self._inverters = inverters
        self._counters = {b.id: (b.behind, Counter(b, inverters[b.behind])) for b in site.of(Battery) if b.behind in inverters}
        self._sound_hz = SOUND_HZ * site.site.nominal_hz
        self._live_hz = LIVE_HZ * site.site.nominal_hz
        self._peak_kw = site.peak_kw

    def judge(self, image: Image, memory: DoubtMemory, told: Mapping[str, float] = NOTHING) -> tuple[Image, DoubtMemory]:
        """Return the image with what can be believed, and the memory for the next cycle.

        Parameters
        ----------
        image : Image
        memory : DoubtMemory
        told : Mapping[str, float]
            The power that each unit was last told to give, but for the leader's [kW].
        """
        if image.dt_s >= LONG_STEP_S:
            return image, NOTHING_DOUBTED
        zeroed = self._zeroed(image, memory)
        silent = self._silent(image, memory, zeroed)
        last = {a: u.points for a, u in image.assets.items()}
        for a in silent:
            last[a] = memory.last.get(a, last[a])
        powers = self._powers(image, memory, silent, told)
        found = _Found({}, [], 0.0)
        used = self._used(image, powers, found)
        if powers.onset is not None and powers.residual_kw is not None and image.now_s - powers.onset.since_s >= UNCLOSED_S:
            found.doubts.append(Doubt(None, "power_kw", Flaw.BALANCE, powers.onset.since_s + UNCLOSED_S, powers.residual_kw, None, "none"))
            found.uncertain_kw += abs(powers.residual_kw)
        for a, since in silent.items():
            found.changed[a] = self._inferred(image, a, image.now_s - since, last[a], used.get(a))
            if a in zeroed and self._sheet.flow(a) is not None:
                found.uncertain_kw += self._sheet.tolerance_kw(used)
                found.doubts.append(Doubt(a, "power_kw", Flaw.ZEROED, since, 0.0, used.get(a), "balance" if a in used else "none"))
        charge = self._charge(image, memory, silent, zeroed, used, found)
        after = DoubtMemory(last, silent, zeroed, powers.balanced, powers.lag_kw, powers.pace, powers.onset, powers.doubted, charge)
        return (self._image(image, used, found) if found.changed or found.doubts else image), after

    # ------------------------------------------------------------------ devices
    def _zeroed(self, image: Image, memory: DoubtMemory) -> dict[str, float]:
        """Return since when a device that had something to say shows nothing but zeros [s of `now_s`]."""
        found: dict[str, float] = {}
        for a, unit in image.assets.items():
            if unit.quality is BAD:
                continue
            for value in unit.points.values():
                if value:
                    break
            else:
                if a in memory.zeroed:
                    found[a] = memory.zeroed[a]
                elif self._had_something(a, memory.last.get(a, NOTHING)):
                    found[a] = image.now_s
        return found

    def _had_something(self, asset: str, points: Mapping[str, float | None]) -> bool:
        if asset in self._batteries:
            return (points.get("soc") or 0.0) > FELL_SHARE
        flow = self._sheet.flow(asset)
        return flow is not None and abs(points.get("power_kw") or 0.0) > FELL_SHARE * flow.rated_kw

    def _silent(self, image: Image, memory: DoubtMemory, zeroed: Mapping[str, float]) -> dict[str, float]:
        """Return since when a device has not been heard of [s of `now_s`]; zeros that nobody confirms are not heard."""
        found: dict[str, float] = {}
        now_s = image.now_s
        for a, unit in image.assets.items():
            if a in zeroed:
                if not self._zero_confirmed(image, a, now_s - zeroed[a], zeroed):
                    found[a] = memory.silent.get(a, now_s)
            elif unit.quality is BAD and not unit.refused and all(v is None for p, v in unit.points.items() if p != "power_kw"):
                found[a] = memory.silent.get(a, now_s)
        return found

    def _zero_confirmed(self, image: Image, asset: str, for_s: float, zeroed: Mapping[str, float]) -> bool:
        if asset in self._batteries:
            return False  # even an empty battery has a temperature, a state of health and room to charge
        powers = self._sheet.shown(image.assets, zeroed)
        implied = None if self._sheet.flow(asset) is None else self._sheet.implied_kw(powers, asset)
        if implied is None:
            return for_s >= ZERO_BLIND_S
        return for_s >= ZERO_S and abs(implied) <= self._sheet.tolerance_kw(powers)

    def _inferred(self, image: Image, asset: str, silent_s: float, last: Mapping[str, float | None], power_kw: float | None) -> AssetImage:
        """Return a silent device with how long it has been so, and of an inverter and its battery what others tell about it."""
        points: dict[str, float | None] = {} if power_kw is None else {"power_kw": power_kw}
        if asset in self._inverters and self._alive(image):
            dropped = power_kw is not None and self._dropped_out(image, asset, power_kw, last)
            points |= {f: 0.0 if dropped else v for f in INFERRED_FLAGS if (v := last.get(f)) is not None}
        if asset in self._batteries:
            points |= {p: v for p in HELD_LIMITS if (v := last.get(p)) is not None}
        unit = image.assets[asset]
        return AssetImage(asset, unit.kind, points, BAD, unit.age_s, unit.follows, unit.ours, unit.refused, tuple(points), silent_s)

    def _alive(self, image: Image) -> bool:
        """Whether the busbar is alive, as others see it: by its frequency, or by a load that draws."""
        if image.frequency_hz:
            return image.frequency_hz >= self._live_hz
        drawn = sum(unit.power_kw or 0.0 for unit in image.assets.values() if unit.kind == "load" and unit.seen)
        return drawn > 0.01 * self._peak_kw

    def _dropped_out(self, image: Image, asset: str, power_kw: float, last: Mapping[str, float | None]) -> bool:
        """Whether a silent inverter has left the bus: it carried something, the balance now gives it nothing, and others hold the bus."""
        tolerance = self._sheet.tolerance_kw(NOTHING)
        carried = abs(last.get("power_kw") or 0.0) > 2.0 * tolerance and abs(power_kw) <= tolerance
        return carried and any(u.flag("synchronised") or u.flag("forming") for a, u in image.assets.items() if a != asset and u.seen)

    # ------------------------------------------------------------------ powers
    def _powers(self, image: Image, memory: DoubtMemory, silent: Mapping[str, float], told: Mapping[str, float]) -> _Powers:
        """Hold the powers against their ranges and against the balance."""
        now_s = image.now_s
        shown = self._sheet.shown(image.assets, silent)
        doubted = dict(memory.powers)
        for f in self._sheet.flows:
            refused = image.assets[f.id].refused
            if refused and "power_kw" in refused:
                before = doubted.get(f.id)
                doubted[f.id] = Doubted(Flaw.RANGE, now_s, memory.last.get(f.id, NOTHING).get("power_kw")) if before is None else changed(before, fine_s=None)
        sound = image.frequency_hz is None or image.frequency_hz >= self._sound_hz
        residual = self._sheet.residual_kw(shown) if sound else None
        pace, lag = paces(self._sheet, memory.pace, shown, residual, memory.lag_kw, now_s, image.dt_s)
        if residual is None:
            blind = {a: self._recovering(d, now_s, a in shown and d.flaw is Flaw.RANGE) for a, d in doubted.items()}
            return _Powers(shown, _kept(blind, now_s), None, memory.balanced, pace, lag, None)
        least = self._sheet.tolerance_kw(shown)
        tolerance = least + lag
        closes = abs(residual) <= tolerance
        if doubted:
            fine = {a: self._recovering(d, now_s, closes and (d.flaw is not Flaw.FROZEN or pace[a].since_s > d.since_s)) for a, d in doubted.items()}
            return _Powers(shown, _kept(fine, now_s), None, memory.balanced, pace, lag, residual)
        obeying = self._obeying(shown, told)
        stuck = dead(self._sheet, shown, pace, residual, tolerance, now_s, obeying)
        if stuck is not None:
            doubted[stuck] = Doubted(Flaw.FROZEN, now_s, memory.balanced.get(stuck))
            return _Powers(shown, doubted, None, memory.balanced, pace, lag, residual)
        onset = self._closing(memory.onset, now_s) if closes else memory.onset
        if abs(residual) > least and (onset is None or onset.closed_s is None or not closes):
            onset = opened(self._sheet, onset if onset is not None else memory.onset, memory.pace, shown, residual, now_s)
        if onset is None:
            return _Powers(shown, doubted, None, shown, pace, lag, residual)
        waiting = suspected(self._sheet, onset, shown, pace, least, now_s, told)
        if closes:
            # It may be the readings' delay, or the first second of a fault: who moved is kept until it shows.
            onset = onset if onset.closed_s is not None else changed(onset, since_s=now_s)
            return _Powers(shown, doubted, onset, memory.balanced if waiting else shown, pace, lag, residual, waiting)
        onset, flaw = accuse(self._sheet, onset, shown, pace, tolerance, now_s, obeying, told)
        if flaw is not None and onset.accused is not None:
            doubted[onset.accused] = Doubted(flaw, now_s, memory.balanced.get(onset.accused))
            return _Powers(shown, doubted, None, memory.balanced, pace, lag, residual)
        load = crept(self._sheet, onset, shown, now_s, obeying)
        if load is not None:
            doubted[load] = Doubted(Flaw.DRIFT, now_s, memory.balanced.get(load))
            return _Powers(shown, doubted, None, memory.balanced, pace, lag, residual)
        return _Powers(shown, doubted, onset, memory.balanced, pace, lag, residual, waiting)

    def _obeying(self, shown: Mapping[str, float], told: Mapping[str, float]) -> frozenset[str]:
        """Return the units that show what they were told to give."""
        return frozenset([f.id for f in self._sheet.flows if f.id in told and abs(shown[f.id] - told[f.id]) <= max(f.noise_kw, IDLE * f.rated_kw)])

    def _closing(self, onset: Onset | None, now_s: float) -> Onset | None:
        """Return the onset of a balance that closes again: forgotten at once where it was never alarmed, else after a while."""
        if onset is None:
            return None
        closed_s = now_s if onset.closed_s is None else onset.closed_s
        if closed_s - onset.since_s < UNCLOSED_S or now_s - closed_s >= FINE_S:
            return None
        return onset if onset.closed_s is not None else changed(onset, closed_s=closed_s)

    def _recovering(self, doubted: Doubted, now_s: float, fine: bool) -> Doubted:
        fine_s = (now_s if doubted.fine_s is None else doubted.fine_s) if fine else None
        return doubted if fine_s == doubted.fine_s else changed(doubted, fine_s=fine_s)

    def _used(self, image: Image, powers: _Powers, found: _Found) -> Mapping[str, float]:
        """Return the powers that are used [kW], and note what of them is not measured."""
        if powers.waiting is not None:
            return self._without(image, powers.shown, powers.waiting, found)
        if not powers.doubted and len(powers.shown) == len(self._sheet.flows):
            return powers.shown
        used = {a: p for a, p in powers.shown.items() if a not in powers.doubted}
        implied = {a: self._sheet.implied_kw(used, a) for a in powers.doubted} if image.frequency_hz != 0.0 else {}
        for a, doubt in powers.doubted.items():
            flow, power, source = self._sheet.flow(a), implied.get(a), "balance"
            if power is None:
                # The last known load goes on for as long as it must: no load at all would be the worst guess.
                held = image.now_s - doubt.since_s <= HOLD_S or (flow is not None and flow.sign < 0.0)
                power, source = (doubt.trusted_kw, "last") if held else (None, "none")
            if power is None:
                source = "none"
            else:
                used[a] = power
            known = self._sheet.tolerance_kw(used)
            found.uncertain_kw += known if source == "balance" or flow is None else max(known, UNKNOWN_SHARE * flow.rated_kw)
            found.doubts.append(Doubt(a, "power_kw", doubt.flaw, doubt.since_s, powers.shown.get(a), power, source))
            unit = image.assets[a]
            quality = BAD if power is None else SUSPECT
            found.changed[a] = changed(
                unit, points={**unit.points, "power_kw": power}, quality=quality, suspect=tuple(dict.fromkeys((*unit.suspect, "power_kw")))
            )
        gaps = [f for f in self._sheet.flows if f.id not in used and f.id not in powers.doubted]
        if len(gaps) == 1 and (power := self._sheet.implied_kw(used, gaps[0].id)) is not None:
            gap = gaps[0].id
            used[gap] = power
            if gaps[0].sign > 0.0:
                unit = image.assets[gap]
                found.changed[gap] = changed(unit, points={**unit.points, "power_kw": power}, suspect=tuple(dict.fromkeys((*unit.suspect, "power_kw"))))
        return used

    def _without(self, image: Image, shown: Mapping[str, float], waiting: str, found: _Found) -> Mapping[str, float]:
        """Return the powers with what the balance implies for the one that waits to be judged [kW]."""
        used = {a: p for a, p in shown.items() if a != waiting}
        implied = self._sheet.implied_kw(used, waiting)
        if implied is None:
            return shown
        unit = image.assets[waiting]
        found.changed[waiting] = changed(
            unit, points={**unit.points, "power_kw": implied}, quality=SUSPECT, suspect=tuple(dict.fromkeys((*unit.suspect, "power_kw")))
        )
        return {**used, waiting: implied}

    # ------------------------------------------------------------------ charge
    def _charge(
        self, image: Image, memory: DoubtMemory, silent: Mapping[str, float], zeroed: Mapping[str, float], used: Mapping[str, float], found: _Found
    ) -> dict[str, Charge]:
        """Count every battery's SoC on, and put it in place of a meter that is silent or not believed."""
        charges = {}
        for b, (inverter, counter) in self._counters.items():
            unit = found.changed.get(b) or image.assets[b]
            shown = None if b in silent else unit.points.get("soc")
            runs = image.assets[inverter].flag("running") is not False and image.frequency_hz != 0.0
            charge = counter.count(memory.charge.get(b), shown, used.get(inverter), runs, image.now_s, image.dt_s, "soc" in unit.refused)
            if charge is None:
                continue
            charges[b] = charge
            counted = shown is None or charge.doubted_s is not None
            soc = charge.soc if charge.band < WIDEST else None
            source = "none" if soc is None else "counted"
            if b in zeroed:
                found.doubts.append(Doubt(b, "soc", Flaw.ZEROED, zeroed[b], 0.0, soc, source))
            elif charge.doubted_s is not None and b not in silent:
                found.doubts.append(Doubt(b, "soc", charge.flaw, charge.doubted_s, shown, soc, source))
            if counted or charge.band > 0.0:
                found.changed[b] = _with_charge(unit, charge, counted, b in silent, b in zeroed)
        return charges

    def _image(self, image: Image, used: Mapping[str, float], found: _Found) -> Image:
        load_kw = self._sheet.load_kw(used)
        return changed(
            image,
            assets={**image.assets, **found.changed},
            load_kw=image.load_kw if load_kw is None else load_kw,
            load_known=load_kw is not None,
            uncertain_kw=found.uncertain_kw,
            doubts=tuple(found.doubts),
        )


def _kept(doubted: Mapping[str, Doubted], now_s: float) -> dict[str, Doubted]:
    return {a: d for a, d in doubted.items() if d.fine_s is None or now_s - d.fine_s < FINE_S}


def _with_charge(unit: AssetImage, charge: Charge, counted: bool, silent: bool, zeroed: bool) -> AssetImage:
    """Return a battery with its SoC and the band around it; `counted` puts the count in the meter's place.

    A meter that fell without reason may be right, and the cells empty: until somebody has looked, the band reaches down to it.
    """
    band = charge.band
    if counted and not silent and not zeroed and charge.doubted_s is not None and charge.flaw is Flaw.JUMP and charge.shown is not None:
        band = max(band, charge.soc - charge.shown)
    points = {**unit.points, "soc_band": band}
    if not counted:
        return changed(unit, points=points)
    points["soc"] = charge.soc if charge.band < WIDEST else None
    quality = BAD if silent or points["soc"] is None else SUSPECT
    return changed(unit, points=points, quality=quality, suspect=(*unit.suspect, "soc", "soc_band"))
