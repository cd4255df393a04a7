"""Value faults: what arrives in time and is not what the device measured."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping

from ems.model import Quality, Reading
from simulator.faults.live import Live

SENTINELS = (-32768.0, 65535.0, 2147483648.0, 1e38)
"""Words that mean "no value" in one device family or another, decoded as if they were numbers."""
DRIFT_PER_S = 0.005 / 60.0
"""Half a per cent of the full scale a minute."""

MATERIAL = 0.15
"""A value that is off by more than this share of its full scale has to be doubted."""

Twist = Callable[[Live, Reading, float, float], Reading]
"""From a fault, the honest reading, the point's full scale and seconds since the onset to what is read."""


def _number(change: Callable[[Live, float, float, float], float]) -> Twist:
    """Return a twist of the number alone; what has no value keeps none."""

    def twist(live: Live, honest: Reading, scale: float, since_s: float) -> Reading:
        return honest if honest.value is None else Reading(change(live, honest.value, scale, since_s), honest.quality, honest.age_s)

    return twist


def _frozen(live: Live, honest: Reading, scale: float, since_s: float) -> Reading:
    first: Reading = live.memo.setdefault("frozen", honest)
    return Reading(first.value, honest.quality, honest.age_s)


def _future(live: Live, honest: Reading, scale: float, since_s: float) -> Reading:
    first: Reading = live.memo.setdefault("frozen", honest)
    return Reading(first.value, honest.quality, -60.0 * (1.0 + 59.0 * live.severity))


def _uncertain(live: Live, honest: Reading, scale: float, since_s: float) -> Reading:
    return Reading(None if honest.value is None else honest.value + 0.02 * scale, Quality.SUSPECT, honest.age_s)


def _sign(live: Live) -> float:
    sign: float = live.memo.setdefault("sign", live.chance.choice((-1.0, 1.0)))
    return sign


def _drifted(live: Live, value: float, scale: float, since_s: float) -> float:
    return value + _sign(live) * scale * DRIFT_PER_S * since_s * (1.0 + 4.0 * live.severity)


def _biased(live: Live, value: float, scale: float, since_s: float) -> float:
    return value + _sign(live) * 0.2 * live.severity * scale


def _spiked(live: Live, value: float, scale: float, since_s: float) -> float:
    return value + _sign(live) * scale if live.chance.random() < 0.05 + 0.1 * live.severity else value


def _noisy(live: Live, value: float, scale: float, since_s: float) -> float:
    return value + live.chance.gauss(0.0, 0.1 * live.severity * scale)


def _scaled(live: Live, value: float, scale: float, since_s: float) -> float:
    factor: float = live.memo.setdefault("factor", live.chance.choice((10.0, 0.1)))
    return value * factor


def _swapped(live: Live, value: float, scale: float, since_s: float) -> float:
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    found: float = struct.unpack(">f", struct.pack(">HH", low, high))[0]
    return found


def _sentinel(live: Live, value: float, scale: float, since_s: float) -> float:
    found: float = live.memo.setdefault("sentinel", live.chance.choice(SENTINELS))
    return found


def _infinite(live: Live, value: float, scale: float, since_s: float) -> float:
    return _sign(live) * math.inf


TWISTS: Mapping[str, Twist] = {
    "nan": _number(lambda live, value, scale, since_s: math.nan),
    "inf": _number(_infinite),
    "sentinel": _number(_sentinel),
    "missing": lambda live, honest, scale, since_s: Reading(None, Quality.BAD, honest.age_s),
    "bad_status": lambda live, honest, scale, since_s: Reading(honest.value, Quality.BAD, honest.age_s),
    "uncertain": _uncertain,
    "old_stamp": lambda live, honest, scale, since_s: Reading(honest.value, honest.quality, honest.age_s + 10.0 + 3600.0 * live.severity),
    "future_stamp": _future,
    "zeroed": _number(lambda live, value, scale, since_s: 0.0),
    "frozen": _frozen,
    "spike": _number(_spiked),
    "drift": _number(_drifted),
    "bias": _number(_biased),
    "noise": _number(_noisy),
    "scaled": _number(_scaled),
    "flipped": _number(lambda live, value, scale, since_s: -value),
    "swapped": _number(_swapped),
    "wrong_switch": _number(lambda live, value, scale, since_s: 1.0 - value),
}


def twisted(live: Live, honest: Reading, scale: float, since_s: float) -> Reading:
    """Return what is read in place of an honest reading, and count it where the two differ.

    Parameters
    ----------
    scale : float
        Full scale of the point, in its unit.
    since_s : float
        Since the onset of the fault [s].
    """
    read = TWISTS[live.kind](live, honest, scale, since_s)
    far = read.value is not None and honest.value is not None and not abs(read.value - honest.value) <= MATERIAL * scale
    live.memo["far"] = live.memo.get("far", 0) + 1 if far else 0
    if read != honest:
        live.touched += 1
    return read
