"""What the page does while its own file is damaged, full, slow or gone."""

from __future__ import annotations

from tests.api.web.served import Site


def damage(at: Site) -> None:
    """Spoil site.db under the open connection, so that the next write finds it."""
    file = at.desk.requests.file
    file.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    at.desk.requests.path.write_bytes(b"\xff" * 8192)
    file.rows("PRAGMA shrink_memory")


async def test_a_damaged_file_costs_one_order_and_is_told_to_control_once(at: Site):
    await at("POST", "stop", who="olga")
    damage(at)
    assert (await at("POST", "mode", {"mode": "auto", "reason": "x"}, who="olga")).status_code == 503
    assert (await at("POST", "mode", {"mode": "auto", "reason": "x"}, who="olga")).status_code == 202
    assert (await at("POST", "stop", who="olga")).status_code == 202
    assert [list(said) for said in at.up] == [["notice"]]
    assert "site.db was damaged" in at.up[0]["notice"]
