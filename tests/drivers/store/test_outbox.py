from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers.store import outbox as module
from drivers.store.outbox import Cursor, Outbox, Poison

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_a_cursor_is_kept_by_stream(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "uplink.db")
    assert outbox.cursor("minutes") == Cursor()
    outbox.advance("minutes", Cursor(7, 10, 200, 1), NOON)
    outbox.advance("minutes", Cursor(7, 11, 220, 1), NOON)
    outbox.advance("ledger", Cursor(8, 3, 3, 0), NOON)
    outbox.close()
    outbox = Outbox(tmp_path / "uplink.db")
    assert outbox.cursor("minutes") == Cursor(birth=7, position=11, delivered=220, thinned=1)
    assert outbox.cursor("ledger").position == 3
    outbox.close()


def test_what_was_set_aside_is_kept_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUARANTINE_ROWS", 2)
    outbox = Outbox(tmp_path / "uplink.db")
    for n in range(3):
        outbox.advance("minutes", Cursor(1, n), NOON, [Poison(f"line {n}", "422")])
    assert outbox.quarantined() == [{"stream": "minutes", "at": "2026-03-01T12:00:00Z", "line": f"line {n}", "cause": "422"} for n in (1, 2)]
    outbox.close()
