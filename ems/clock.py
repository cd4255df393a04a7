"""The only place that asks what time it is.

Cadence, sockets and solver deadlines use the real clock (`real_s`). Stamps, timers, `expires_at` and
plans use the site's clock (`now`, `now_s`), which a simulation may run faster (`ScaledClock`) or hold
in its hand (`SimClock`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


def real_s() -> float:
    """Return the real clock that never steps back [s]."""
    return time.monotonic()


def cpu_s() -> float:
    """Return the processor time this process has used [s]."""
    return time.process_time()


class WallClock:
    """The site's clock of a real plant."""

    speed = 1.0

    def now(self) -> datetime:
        """Return the stamp [UTC]."""
        return datetime.now(UTC)

    def now_s(self) -> float:
        """Return seconds that never step back."""
        return time.monotonic()


class ScaledClock:
    """A site clock that runs `speed` times as fast from a common origin.

    Two processes given the same `origin` (real epoch seconds) and `start` show the same time.
    """

    def __init__(self, start: datetime, origin: float, speed: float) -> None:
        self.start = start.astimezone(UTC)
        self.origin = origin
        self.speed = speed
        self._real_0 = time.monotonic()
        self._site_0 = (time.time() - origin) * speed

    def now_s(self) -> float:
        """Return site seconds since `start`; they never step back."""
        return self._site_0 + (time.monotonic() - self._real_0) * self.speed

    def now(self) -> datetime:
        """Return the site's stamp [UTC]."""
        return self.start + timedelta(seconds=self.now_s())


class SimClock:
    """A clock that stands until it is moved: replay, campaign, tests."""

    speed = 1.0

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.elapsed_s = 0.0

    def now(self) -> datetime:
        """Return the stamp [UTC]."""
        return self.start + timedelta(seconds=self.elapsed_s)

    def now_s(self) -> float:
        """Return seconds since the start."""
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`, which may not be negative."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self.elapsed_s += seconds


def epoch_s() -> float:
    """Return real seconds since 1970 [UTC], for origins shared between processes."""
    return time.time()
