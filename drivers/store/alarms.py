"""The alarm list: which alarms are active, since when, and who has seen them. Part of history.db.

The list in memory leads and the table follows, so that it is right while the disk is full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from drivers.store.file import Writer, iso, micros
from ems.record import alarm_key
from ems.terms import Alarm

SCHEMA = """
CREATE TABLE IF NOT EXISTS alarms (id TEXT PRIMARY KEY, code TEXT NOT NULL, severity TEXT NOT NULL, asset TEXT, en TEXT NOT NULL, ja TEXT NOT NULL,
    raised_at_us INTEGER NOT NULL, cleared_at_us INTEGER, acked_by TEXT);
CREATE INDEX IF NOT EXISTS alarms_open ON alarms (cleared_at_us, raised_at_us)
"""
COLUMNS = ("id", "code", "severity", "asset", "en", "ja", "raised_at_us", "cleared_at_us", "acked_by")
SELECT = f"SELECT {', '.join(COLUMNS)} FROM alarms"
INSERT = f"INSERT OR REPLACE INTO alarms VALUES ({', '.join(f':{name}' for name in COLUMNS)})"


class AlarmList:
    """The active alarms of one site, kept in `file`."""

    def __init__(self, file: Writer) -> None:
        self.file = file
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in file.rows(f"{SELECT} WHERE cleared_at_us IS NULL")]
        self.active: dict[str, dict[str, Any]] = {f"{row['code']}:{row['asset'] or 'site'}": row for row in rows}
        self._stored = dict(self.active)
        self._stored_in = file.renewals

    def update(self, time: datetime, alarms: Sequence[Alarm]) -> None:
        """Take over which alarms are active: new ones are raised, those no longer there are cleared.

        `active` is right even where this raises `StoreError`; what was missed is stored next time.
        An alarm that has become more or less severe is to be seen again.
        """
        now = {alarm_key(alarm): alarm for alarm in alarms if alarm.severity != "info"}
        for key in [key for key in self.active if key not in now]:
            del self.active[key]
        for key, alarm in now.items():
            known = self.active.get(key)
            raised = micros(time) if known is None else known["raised_at_us"]
            self.active[key] = {
                "id": f"{key}:{raised}",
                "code": alarm.code,
                "severity": alarm.severity,
                "asset": alarm.asset,
                "en": alarm.en,
                "ja": alarm.ja,
                "raised_at_us": raised,
                "cleared_at_us": None,
                "acked_by": None if known is None or known["severity"] != alarm.severity else known["acked_by"],
            }
        self._store(micros(time))

    def ack(self, alarm_id: str, by: str) -> bool:
        """Note who has seen an active alarm; False where it is not active (any more)."""
        for key, row in self.active.items():
            if row["id"] == alarm_id:
                self.active[key] = {**row, "acked_by": by}
                self._store(None)
                return True
        return False

    def documents(self) -> list[dict[str, Any]]:
        """Return the active alarms as REST shows them."""
        return [document(row) for row in self.active.values()]

    def _store(self, at_us: int | None) -> None:
        """Write what differs between `active` and the table; a new file has nothing yet."""
        if self._stored_in != self.file.renewals:
            self._stored, self._stored_in = {}, self.file.renewals
        open_ids = {row["id"] for row in self.active.values()}
        cleared = [row["id"] for row in self._stored.values() if row["id"] not in open_ids]
        changed = [row for key, row in self.active.items() if self._stored.get(key) != row]
        if not cleared and not changed:
            return
        with self.file.transaction() as db:
            db.executemany("UPDATE alarms SET cleared_at_us = coalesce(?, raised_at_us) WHERE id = ?", [(at_us, alarm) for alarm in cleared])
            db.executemany(INSERT, changed)
        self._stored = dict(self.active)


def document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one alarm as REST shows it."""
    return {
        "id": row["id"],
        "code": row["code"],
        "severity": row["severity"],
        "asset": row["asset"],
        "text": {"en": row["en"], "ja": row["ja"]},
        "raised_at": iso(row["raised_at_us"]),
        "cleared_at": iso(row["cleared_at_us"]),
        "acked_by": row["acked_by"],
    }
