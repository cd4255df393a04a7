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
