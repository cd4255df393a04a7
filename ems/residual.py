"""The leader's power is a result: when it stays off what was expected, the others are led by what is learned from that.

Droop units give more or less than their reference while the frequency is off nominal; a sensor may tell too much sun.
Both push the leader, a diesel under its minimum loading or a battery past its band, and no single value is
wrong enough to be doubted. So the difference is integrated slowly and taken for demand, as the secondary control of a grid does.
"""

from __future__ import annotations

from collections.abc import Mapping

from ems import sequencer
from ems.config.site import Diesel, Hydro, Inverter, Site
from ems.frozen import changed
from ems.memory import Expected, Memory
from ems.model import SUSPECT, Image
from ems.terms import Phase

INTEGRAL_S = 10.0
"""Time constant: slower than governors and reference trims; a meter that drifts by 0.5 kW/s leaves the leader 5 kW off, which is within tolerance [s]."""
SETTLED_S = 10.0
"""A unit that has just taken the lead, or has been called back to it, is given this long, and one on its way off its ramp besides [s]."""
FORGET_S = 4.0
CONTRARY_SHARE = 0.02
"""What was learned while others were still on their way is forgotten this fast [s], once the leader is so far off the other way [of rated]."""
MOST_SHARE = 0.30
"""No more than this share of the leader's rating is learned: by then doubt has found a load meter that creeps away."""
SUDDEN_SHARE = 0.20
"""A difference beyond this share of the rating is a load step or a trip on its way, not an error [of rated]."""
OFF_NOMINAL_HZ = 0.05
"""So far off nominal, whoever leads has to give more (less) than expected: governors leave less than that."""
AGAINST_S = 30.0
"""A leader that does the opposite for this long is led by somebody else: its panel, its fuel, its derating [s]."""
AGAIN_S = 300.0
"""After this time it may lead again [s]."""


class Residual:
    """What is learned at one site."""

    def __init__(self, site: Site) -> None:
        units: tuple[Diesel | Hydro | Inverter, ...] = (*site.of(Diesel), *site.of(Hydro), *site.of(Inverter))
        self._rated = {u.id: u.rated_kw for u in units}
        self._down_s = {d.id: d.rated_kw / d.ramp_kw_per_s for d in site.of(Diesel) if d.forming != "isochronous"}
        self._nominal_hz = float(site.site.nominal_hz)

    def learned(self, image: Image, memory: Memory) -> Expected | None:
        """Return the expectation of the last cycle with what this image teaches about it."""
        before = memory.expected
        if before is None:
            return None
        power, rated = image.assets[before.leader].power_kw, self._rated[before.leader]
        off = None if power is None else power - before.power_kw
        if off is None:  # what cannot be seen goes against nobody: once it is seen again its time begins anew
            return before if before.against_s is None else changed(before, against_s=None)
        if image.dt_s >= SETTLED_S or image.now_s - before.since_s < SETTLED_S or self._moving(before.leader, image, memory):
            return before
        if off * before.bias_kw < 0.0 and abs(off) > CONTRARY_SHARE * rated:
            less = before.bias_kw + off * min(1.0, image.dt_s / FORGET_S)
            return changed(before, bias_kw=less if less * before.bias_kw > 0.0 else 0.0, against_s=None)
        if abs(off) > SUDDEN_SHARE * rated:
            low_hz = 0.0 if image.frequency_hz is None else self._nominal_hz - image.frequency_hz
            against = abs(low_hz) > OFF_NOMINAL_HZ and off * low_hz < 0.0
            since = (image.now_s if before.against_s is None else before.against_s) if against else None
            return changed(before, against_s=since)
        if _unsure(image, before.leader):
            # Nothing is learned from it, and what was learned fades.
            return changed(before, bias_kw=before.bias_kw * max(0.0, 1.0 - image.dt_s / INTEGRAL_S))
        bias = before.bias_kw + off * image.dt_s / INTEGRAL_S
        return Expected(before.leader, before.power_kw, before.since_s, max(-MOST_SHARE * rated, min(MOST_SHARE * rated, bias)))

    def _moving(self, leader: str, image: Image, memory: Memory) -> bool:
        """Whether a leader is on its way down or back up along its ramp: its lag behind its reference is no demand.

        One without a reference has no ramp of its own: what it keeps, the others have left to it.
        """
        unit, down_s = memory.units.get(leader), self._down_s.get(leader)
        if unit is None or down_s is None:
            return False
        return image.now_s - unit.since_s < SETTLED_S + (down_s if unit.phase is Phase.UNLOADING else 0.0)

    def unled(self, image: Image, memory: Memory, expected: Expected | None) -> Mapping[str, float]:
        """Return who is not led by us though it should be, and since when [s of `now_s`]; it counts as fixed and somebody else leads."""
        online = sequencer.online(memory.units)
        found = {u: at for u, at in memory.unled.items() if image.now_s - at < AGAIN_S and (u not in memory.units or u in online)}
        if expected is not None and expected.against_s is not None and image.now_s - expected.against_s >= AGAINST_S:
            found[expected.leader] = image.now_s
        return found

    def expecting(self, leader: str | None, power_kw: float | None, image: Image, before: Expected | None) -> Expected | None:
        """Return what is expected of the leader from now on; another leader begins without a bias."""
        if leader is None or power_kw is None:
            return None
        if before is None or before.leader != leader:
            return Expected(leader, power_kw, image.now_s)
        return Expected(leader, power_kw, before.since_s, before.bias_kw, before.against_s)


def _unsure(image: Image, leader: str) -> bool:
    """Whether a leader's power is one that its own device doubts, or only the last that was believed.

    What the balance implies in the place of a meter that lies teaches as well as a good meter: it follows what the others give.
    """
    unit = image.assets[leader]
    if "power_kw" not in unit.suspect:
        return unit.quality is SUSPECT
    return any(d.asset == leader and d.point == "power_kw" and d.source == "last" for d in image.doubts)
