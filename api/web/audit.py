"""Rows of the audit that belong to no order: signing in and out, refusals. Nothing waits for them, and none is lost to a full disk."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from threading import Lock
from typing import Any

from drivers.store.requests import RequestStore
from ems.errors import StoreError

LOG = logging.getLogger("web")
WAITING = 1000
"""So many rows wait in memory while site.db cannot be written; the oldest go first."""

AT_ONCE = 20
"""So many of them are written at a time: who comes first after a full disk does not wait for all."""


class Ration:
    """So many rows an hour for each source: whoever hammers at the door must not fill the disk. What is left out is counted."""

    ROWS = 30
    WINDOW_S = 3600.0
    SOURCES = 1000

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int, int]] = {}

    def take(self, source: str, now_s: float) -> int | None:
        """Return how many of this source were left out before this row, or None where this one is left out, too."""
        begin_s, rows, left_out = self._seen.pop(source, (now_s, 0, 0))
        if now_s - begin_s >= self.WINDOW_S:
            begin_s, rows = now_s, 0
        full = rows >= self.ROWS
        self._seen[source] = (begin_s, rows, left_out + 1) if full else (begin_s, rows + 1, 0)
        if len(self._seen) > self.SOURCES:
            del self._seen[next(iter(self._seen))]
        return None if full else left_out


class Audit:
    """Writes rows of the audit, those that have to wait in their order. Calls come from worker threads."""

    def __init__(self, store: RequestStore) -> None:
        self._store = store
        self._owed: deque[tuple[str, str, datetime, str, dict[str, Any]]] = deque(maxlen=WAITING)
        self._lock = Lock()

    def note(self, kind: str, by: str, at: datetime, why: str, detail: Mapping[str, Any]) -> None:
        """Write a row now, or as soon as the file can be written again; what it tells of goes on either way."""
        self.owe(kind, by, at, why, detail)
        try:
            self._settle()
        except (StoreError, OSError) as fault:
            LOG.warning("%s by %s cannot be written to the audit and waits: %s", kind, by, fault)

    def owe(self, kind: str, by: str, at: datetime, why: str, detail: Mapping[str, Any]) -> None:
        """Keep a row until the file can be written again; does not touch it."""
        self._owed.append((kind, by, at, why, dict(detail)))

    def settle(self) -> None:
        """Write what waits, if that is possible now."""
        with suppress(StoreError, OSError):
            self._settle()

    def _settle(self) -> None:
        with self._lock:
            for _ in range(min(len(self._owed), AT_ONCE)):
                self._store.note(*self._owed[0])
                self._owed.popleft()
