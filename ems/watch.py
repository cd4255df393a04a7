"""Is another controller on this plant? Each device's heartbeat register tells: it moves only when somebody beats.

Before our first write to a device its register is watched for three periods; if it moves, it is not ours to write.
While we run, what stands there is compared now and then with what we wrote last. A device may clear or refuse the
register by itself, so one value that is not ours proves nothing: it takes a number that we never write, or both
of our values overturned within a few looks.
"""

from __future__ import annotations

from dataclasses import field, replace

from ems.frozen import frozen

PERIODS = 3
"""So many periods a register must stand still before we write."""
LOOK_EVERY = 5
"""While we run every so many reads look at the register: an odd number, so that both of our values are met."""
WITHIN_LOOKS = 10
"""Both of our values must have been overturned within so many looks."""
OURS = (0.0, 1.0)
"""What we write in turn."""


@frozen
class BeatWatch:
    """What is known of one heartbeat register.

    Attributes
    ----------
    watch_s : float
        How long it must stand still before our first write [s, real].
    since_s : float | None
        When it was first seen [s, real].
    last : float | None
        What stood there last.
    ours : float | None
        What we wrote last and know to have arrived; None where that is not sure.
    begun : bool
        Whether we have ever written.
    overturned : tuple[tuple[float, int], ...]
        Which of our values was found replaced, and at which look.
    rival : str
        How it was found out that somebody else writes; stays until a person has seen to it.
    """

    watch_s: float
    since_s: float | None = None
    last: float | None = None
    looks: int = 0
    ours: float | None = None
    begun: bool = False
    blind: bool = False
    still: bool = False
    overturned: tuple[tuple[float, int], ...] = field(default=())
    rival: str = ""

    @property
    def free(self) -> bool:
        """Whether we may write: it stood still long enough, or cannot be read at all, and nobody else was met."""
        return not self.rival and (self.still or self.blind or self.begun)

    def seen(self, value: float | None, now_s: float) -> BeatWatch:
        """Return what follows from a look; None: the device does not show its register."""
        if value is None:
            return replace(self, blind=self.last is None)
        looked = replace(self, last=value, looks=self.looks + 1, since_s=now_s if self.since_s is None else self.since_s, blind=False)
        if not self.begun:
            if self.last is not None and value != self.last:
                return replace(looked, rival=f"its heartbeat moved from {self.last:g} to {value:g} before we wrote")
            still = looked.since_s is not None and now_s - looked.since_s >= self.watch_s and looked.looks > PERIODS
            return replace(looked, still=self.still or still)
        return looked if self.ours is None or value == self.ours else looked._replaced(self.ours, value)

    def _replaced(self, ours: float, value: float) -> BeatWatch:
        """Return what follows from a value that is not the one we wrote."""
        overturned = (*((v, at) for v, at in self.overturned if self.looks - at < WITHIN_LOOKS), (ours, self.looks))
        found = replace(self, overturned=overturned)
        if value not in OURS:
            return replace(found, rival=f"its heartbeat holds {value:g}, and we wrote {ours:g}")
        if {v for v, _ in overturned} == set(OURS):
            return replace(found, rival="its heartbeat was changed in both directions after we wrote it")
        return found

    def wrote(self, value: float | None) -> BeatWatch:
        """Return what follows from our beat; None: it is not known whether it arrived."""
        return replace(self, ours=value, begun=True)

    def lost(self) -> BeatWatch:
        """The device was away: what stands there now is not known."""
        return replace(self, ours=None) if self.begun else replace(self, since_s=None, last=None, looks=0, still=False)

    def anew(self) -> BeatWatch:
        """A person has seen to it: watch again as before the first write."""
        return BeatWatch(self.watch_s)
