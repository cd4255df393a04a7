"""How old the values of an OPC UA device are, and whether they count: pure, on times and answers that are handed in.

**Age.** A value is as old as its last confirmation: the moment its question was sent, or the last word of the
subscription, which says that nothing else has changed. Two things make it older:

- a value that came late. The server's clock and the source timestamp of a *change* tell by how much (a stamp in
  the future, or more than ten minutes off, tells of a wrong clock and is left aside); the lateness fades second by
  second, as the stamp of a value that then stays says nothing any more.
- stamps that stand still. Most servers stamp a value when it changes, some stamp every sample, and only the latter
  promise that a stamp moves. A device is taken for one of them when a point of it was seen for a minute, six times
  running, with a new stamp and no new value. Once all such points stand still the device is *frozen*, and
  every value is as old as the last stamp that moved.

A stamp older than the one before it makes a value doubtful: it may have been overtaken on the way. A later look that finds
value and stamp unchanged ends the doubt, if the server's clock has passed the stamp: the clock was set back.

**Restart.** A server that comes back holds zeros with status Good. After a restart (its StartTime is not the one
we knew) a value counts only when there is a reason to believe it:

- it is the value that counted before, or
- it has changed since the server came back, or
- its source timestamp is ten seconds younger than the restart, or
- another point of the device changed ten seconds ago or more: the program behind the server runs.

What we write ourselves is no sign of life. Until then the value is missing, never zero. The first session of
a process has nothing to compare with: there, status Good counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncua import ua

PLAUSIBLE_S = 600.0
"""A change that its stamp makes older than this came from a wrong clock, not from a slow link [s]."""
SAMPLED_S, SAMPLED_TIMES = 60.0, 6
"""How long and how often a stamp has to move without its value before stamps are known to follow each sample."""
BOOT_S = 10.0
"""What a server shows in the first seconds after its start may be what it was initialised with [s]."""


@dataclass(slots=True)
class Seen:
    """What is known of one node.

    Attributes
    ----------
    answer : ua.DataValue | None
        The newest; None until one came in this session.
    raw, stamp
        Value and source timestamp of the newest good answer.
    at_s, moved_s : float
        When the answer came (or was asked for), and when its stamp last moved [s, monotonic].
    late_s : float
        How old a change was when it came [s].
    same_times, same_since_s
        How often running, and since when, the stamp has moved without the value.
    kept : Any
        The value that counted before a restart.
    """

    answer: ua.DataValue | None = None
    raw: Any = None
    stamp: datetime | None = None
    at_s: float = 0.0
    moved_s: float = 0.0
    late_s: float = 0.0
    turned_back: bool = False
    same_times: int = 0
    same_since_s: float = 0.0
    sampled: bool = False
    kept: Any = None
    counts: bool = True


class Sightings:
    """The nodes of one device.

    Parameters
    ----------
    nodes : Iterable[ua.NodeId]
        What it gives.
    ours : Iterable[ua.NodeId]
        Those that we write to, whose change proves nothing.
    """

    def __init__(self, nodes: Iterable[ua.NodeId], ours: Iterable[ua.NodeId] = ()) -> None:
        self.seen = {node: Seen() for node in nodes}
        self._ours = frozenset(ours)
        self._restarted: datetime | None = None
        self._in_doubt = False
        self._alive_s: float | None = None
        self.looked_s = 0.0
        """When all nodes were last looked at, with their stamps [s, monotonic]."""

    def begin(self, restarted: bool, started: datetime | None) -> None:
        """Start a session; after a restart what counted is put aside, and new values are held against it. Doubt outlives a lost link.

        Parameters
        ----------
        restarted : bool
            The server is not the one of the last session.
        started : datetime | None
            When it started, by its own clock.
        """
        for seen in self.seen.values():
            seen.answer, seen.late_s, seen.same_times = None, 0.0, 0
        if not restarted:
            return
        self._in_doubt, self._restarted, self._alive_s = True, started, None
        for seen in self.seen.values():
            if seen.counts and seen.raw is not None:
                seen.kept = seen.raw
            seen.raw, seen.counts = None, False

    def take(self, node: ua.NodeId, answer: ua.DataValue, at_s: float, server_time: datetime | None) -> None:
        """Note an answer.

        Parameters
        ----------
        at_s : float
            When it was asked for or, from a subscription, when it came [s, monotonic].
        server_time : datetime | None
            The server's clock then.
        """
        seen = self.seen[node]
        seen.answer, seen.at_s = answer, at_s
        raw = _good_raw(answer)
        if raw is None:
            return
        changed, stamp = seen.raw is not None and raw != seen.raw, answer.SourceTimestamp
        if changed:
            seen.late_s, seen.same_times = lateness_s(stamp, server_time), 0
            if node not in self._ours:
                seen.counts = True
                self._alive_s = at_s if self._alive_s is None else self._alive_s
        if stamp is not None and stamp != seen.stamp:
            self._stamped(seen, stamp, at_s, changed)
        elif stamp is not None and not changed and server_time is not None and server_time > stamp:
            seen.turned_back = False  # looked at once more it is still so: it was the server's clock that was set back
        seen.raw = raw
        if not seen.counts:
            seen.counts = seen.kept is not None and raw == seen.kept or self._young(stamp, server_time)

    def _stamped(self, seen: Seen, stamp: datetime, at_s: float, changed: bool) -> None:
        if seen.stamp is not None and not changed:
            if seen.same_times == 0:
                seen.same_since_s = at_s
            seen.same_times += 1
            seen.sampled |= seen.same_times > SAMPLED_TIMES and at_s - seen.same_since_s >= SAMPLED_S
        seen.turned_back = seen.stamp is not None and stamp < seen.stamp
        seen.stamp, seen.moved_s = stamp, at_s

    def _young(self, stamp: datetime | None, server_time: datetime | None) -> bool:
        """Whether a value was stamped so long after the restart that it is not what the server was initialised with."""
        if stamp is None or self._restarted is None:
            return False
        sound = server_time is None or (stamp - server_time).total_seconds() <= 2.0
        return sound and (stamp - self._restarted).total_seconds() >= BOOT_S

    def counts(self, node: ua.NodeId, now_s: float) -> bool:
        """Whether the value of a node may be used; see the module."""
        return not self._in_doubt or self.seen[node].counts or (self._alive_s is not None and now_s - self._alive_s >= BOOT_S)

    def waiting(self, now_s: float) -> int:
        """Return how many values do not count yet."""
        return sum(seen.raw is not None and not self.counts(node, now_s) for node, seen in self.seen.items())

    def frozen_since_s(self) -> float | None:
        """Return when the last stamp moved on a device that stamps every sample, if none had moved when all were last looked at."""
        sampled = [seen.moved_s for seen in self.seen.values() if seen.sampled]
        return max(sampled) if sampled and max(sampled) < self.looked_s else None


def age_s(seen: Seen, now_s: float, confirmed_s: float, frozen_since_s: float | None) -> float:
    """Return how old the value of a node is [s].

    Parameters
    ----------
    confirmed_s : float
        When the subscription last spoke; 0 without one [s, monotonic].
    frozen_since_s : float | None
        Of its device.
    """
    age = now_s - max(seen.at_s, confirmed_s) + max(0.0, seen.late_s - (now_s - seen.at_s))
    return age if frozen_since_s is None else max(age, now_s - max(seen.moved_s, frozen_since_s))


def _good_raw(answer: ua.DataValue) -> Any:
    if answer.StatusCode is not None and answer.StatusCode.is_bad():
        return None
    raw = None if answer.Value is None else answer.Value.Value
    return None if isinstance(raw, float) and not math.isfinite(raw) else raw


def lateness_s(stamp: datetime | None, server_time: datetime | None) -> float:
    """Return how old a change was when the server told it [s]; 0 where its stamp is missing or not plausible."""
    if stamp is None or server_time is None:
        return 0.0
    late_s = (server_time - stamp).total_seconds()
    return late_s if 0.0 < late_s <= PLAUSIBLE_S else 0.0
