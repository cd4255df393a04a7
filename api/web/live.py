"""What control last told us, for every reader in this process, and the changes from one beat to the next.

Beats come up control's pipe, so that the page still has them while the store is dead. Nobody is queued
for: each reader of the stream takes the newest beat when it is ready, and gets the difference to what
it has. A slow link gets fewer and larger changes, never a backlog.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ems.clock import real_s

DIGITS = {
    "_kw": 1,
    "_kvar": 1,
    "_kwh": 0,
    "_l": 1,
    "_kg": 1,
    "_t": 3,
    "_hz": 2,
    "_v": 0,
    "_m": 2,
    "_m3": 0,
    "soc": 3,
    "fraction": 3,
    "_s": 0,
    "_today": 1,
    "_total": 3,
}
"""Decimals on the stream, by the end of the name: what moves below them is not worth a satellite's time."""
AGE_SHOWN_S = 3
"""Ages below this are sent as 0 [s]: they would differ in every cycle and say nothing."""


class LiveState:
    """The newest beat. All calls come from the event loop's thread."""

    def __init__(self) -> None:
        self.version = 0
        self.state: dict[str, Any] | None = None
        self.alarms: list[dict[str, Any]] = []
        self.explain: list[dict[str, Any]] = []
        self.advice: list[dict[str, Any]] = []
        self.links: dict[str, dict[str, Any]] = {}
        self._received_s: float | None = None
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()

    def update(self, beat: Mapping[str, Any]) -> None:
        """Take a beat: `{"cycle", "state", "alarms", "explain", "advice", "links"}`."""
        self.state = dict(beat["state"])
        self.alarms = list(beat.get("alarms", []))
        self.explain = list(beat.get("explain", []))
        self.advice = list(beat.get("advice", []))
        self.links = dict(beat.get("links", {}))
        self._received_s = real_s()
        self._tell()

    def close(self) -> None:
        """End every stream, so that the server can stop at once."""
        self._closing.set()
        self._tell()

    @property
    def closed(self) -> bool:
        """Whether the server is about to stop."""
        return self._closing.is_set()

    def _tell(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def ended(self, timeout_s: float) -> bool:
        """Wait for `timeout_s`, but not beyond the end of the server; return whether that has come."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), timeout_s)
        return self.closed

    def age_s(self) -> float | None:
        """Return how long ago the last cycle was completed [s, real], or None before the first."""
        return None if self._received_s is None else real_s() - self._received_s

    async def wait(self, version: int, timeout_s: float) -> bool:
        """Return True once there is something newer than `version`, False after `timeout_s`."""
        if self.version != version:
            return True
        changed = self._changed
        try:
            await asyncio.wait_for(changed.wait(), timeout_s)
        except TimeoutError:
            return False
        return True


def coarse(value: Any, name: str = "") -> Any:
    """Return a copy rounded for the stream, by the names of its numbers."""
    if isinstance(value, Mapping):
        return {key: coarse(inner, key) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [coarse(inner, name) for inner in value]
    if not isinstance(value, float):
        return value
    if name == "age_s":
        return 0 if value < AGE_SHOWN_S else int(value) if value < 60.0 else int(value) // 10 * 10
    digits = next((n for end, n in DIGITS.items() if name.endswith(end)), 3)
    rounded = round(value, digits) + 0.0
    return int(rounded) if rounded.is_integer() else rounded


def by_asset(explain: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return explanations keyed by asset, without the raw numbers: what the page needs of them."""
    return {str(e["asset"]): {"reason": e.get("reason"), "limited_by": e.get("limited_by", []), "text": e.get("text")} for e in explain}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be merged into `before` to get `after` (as RFC 7396: null takes a key away, lists are whole)."""
    found: dict[str, Any] = {key: None for key in before if key not in after and before[key] is not None}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            inner = changes(old, value)
            if inner:
                found[key] = inner
        elif value != old:
            found[key] = value
    return found
