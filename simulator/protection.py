"""What trips by itself: relays of the bus, of each set and inverter, and load shedding by frequency.

Frequencies are shares of nominal. A relay picks up when its quantity has been beyond its setting for its whole delay, and
resets at once when it comes back.
"""

from __future__ import annotations

from ems.config.site import Site
from simulator.assets.load import LoadUnit

UNDER = 47.0 / 50.0
UNDER_S = 0.5
STALL = 45.0 / 50.0
OVER = 52.0 / 50.0
OVER_S = 0.2
"""Under- and over-frequency of every unit (81U, 81O): below the last shedding stage, and well under overspeed (115 %).
Under `STALL` there is no delay."""
REVERSE = 0.05
REVERSE_S = 5.0
"""Reverse power of a set (32): less than it takes to motor the engine, longer than synchronising swings."""
OVERLOADS = ((1.10, 60.0), (1.50, 2.0))
"""Overload of a set (51): share of its rating, and for how long [s]."""
SAG = 0.9
SAG_S = 1.0
"""A forming inverter in its current limit with the voltage below this trips after this time [s]."""
BRIM = 0.05
BRIM_S = 2.0
"""A forming inverter that is charged beyond what its battery may take, by this share of its rating, trips on DC over-voltage after this time [s]."""
SHED = (48.8 / 50.0, 48.4 / 50.0, 48.0 / 50.0)
SHED_S = 0.2
"""Stages of load shedding; those after the last stage shed with it."""
IN_BAND_HZ = 0.01
IN_BAND_V = 0.1
"""In band for closing, reconnecting and restoring: within 0.5 Hz (at 50) and 10 % of the voltage."""
RESTORE_S = 300.0
"""A feeder without a device of its own closes again by its own relay after this time in band [s]."""
COLD = 0.5
COOL_S = 900.0
WARM_S = 180.0
"""Cold load: after an outage of more than `COOL_S` or so a feeder draws half as much again, which fades with `WARM_S` [s]:
heating, cooling and motors that have lost their diversity all start at once."""

FAULTS = {
    "overload": 6.0,
    "under-frequency": 7.0,
    "over-frequency": 8.0,
    "reverse power": 5.0,
    "DC over-voltage": 2.0,
}
"""The fault code that a relay leaves; the texts are in the profiles."""


class Delay:
    """How long something has been beyond its setting."""

    __slots__ = ("limit_s", "held_s")

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.held_s = 0.0

    def over(self, beyond: bool, h: float) -> bool:
        """Let `h` pass [s]; return whether the delay is over."""
        self.held_s = self.held_s + h if beyond else 0.0
        return self.held_s >= self.limit_s - 1e-9


class SetRelays:
    """Reverse power and overload of one set."""

    __slots__ = ("_overloads", "_reverse", "_reverse_kw")

    def __init__(self, rated_kw: float) -> None:
        self._reverse_kw, self._reverse = -REVERSE * rated_kw, Delay(REVERSE_S)
        self._overloads = [(share * rated_kw, Delay(seconds)) for share, seconds in OVERLOADS]

    def see(self, power_kw: float, h: float) -> str | None:
        """Return the relay that trips at this power [kW]."""
        if self._reverse.over(power_kw < self._reverse_kw, h):
            return "reverse power"
        tripped = None
        for limit_kw, delay in self._overloads:
            if delay.over(power_kw > limit_kw, h):
                tripped = "overload"
        return tripped


class FrequencyRelays:
    """Under- and over-frequency, the same setting at every unit on the bus."""

    __slots__ = ("_over", "_over_hz", "_stall_hz", "_under", "_under_hz")

    def __init__(self, nominal_hz: float) -> None:
        self._stall_hz = STALL * nominal_hz
        self._under_hz, self._under = UNDER * nominal_hz, Delay(UNDER_S)
        self._over_hz, self._over = OVER * nominal_hz, Delay(OVER_S)

    def see(self, hz: float, h: float) -> str | None:
        """Return the relay that trips at this frequency [Hz]."""
        if self._under.over(hz < self._under_hz, h) or hz < self._stall_hz:
            return "under-frequency"
        return "over-frequency" if self._over.over(hz > self._over_hz, h) else None


class Shedding:
    """Under-frequency relays of the feeders, and what they do afterwards.

    Largest priority number first, one stage for each number; the smallest number of the site has no relay: it goes
    only with the bus. A feeder with a device of its own waits for a close command, the others close
    by themselves after `RESTORE_S` in band.
    """

    __slots__ = ("_stages", "_alone")

    def __init__(self, site: Site, loads: list[LoadUnit]) -> None:
        feeders = [(f, load) for load in loads for f in load.asset.feeders]
        ranks = sorted({f.priority for f, _ in feeders}, reverse=True)[:-1]
        nominal = site.site.nominal_hz
        self._stages = [
            (SHED[min(k, len(SHED) - 1)] * nominal, Delay(SHED_S), [(f.id, load) for f, load in feeders if f.priority == rank]) for k, rank in enumerate(ranks)
        ]
        self._alone = [(f.id, load, Delay(RESTORE_S)) for f, load in feeders if f.device is None and f.priority in ranks]

    def see(self, hz: float, h: float) -> list[tuple[str, LoadUnit]]:
        """Return the closed feeders whose relay trips at this frequency [Hz]."""
        found: list[tuple[str, LoadUnit]] = []
        for limit_hz, delay, feeders in self._stages:
            if delay.over(hz < limit_hz, h):
                found.extend((feeder, load) for feeder, load in feeders if load.closed[feeder])
        return found

    def restore(self, in_band: bool, seconds: float) -> list[str]:
        """Let feeders without a device close again; return their ids."""
        closed = []
        for feeder, load, delay in self._alone:
            if delay.over(in_band and load.tripped[feeder], seconds):
                load.closed[feeder], load.tripped[feeder] = True, False
                load.count()
                closed.append(feeder)
        return closed


def warm(loads: list[LoadUnit], live: bool, seconds: float) -> None:
    """Let feeders without supply cool down, and those with it warm up [s]."""
    for load in loads:
        changed = False
        for feeder, closed in load.closed.items():
            cold = (load.pickup[feeder] - 1.0) / COLD
            if closed and live:
                if cold == 0.0:
                    continue
                cold = 0.0 if cold < 0.01 else cold / (1.0 + seconds / WARM_S)
            else:
                cold = (cold + seconds / COOL_S) / (1.0 + seconds / COOL_S)
            load.pickup[feeder] = 1.0 + COLD * cold
            changed = True
        if changed:
            load.count()
