"""What the control process makes of the lines that come down its pipe."""

from __future__ import annotations

from api.processes.control import Told


def test_who_is_dead_and_what_web_found_are_alarms_until_something_else_is_told() -> None:
    told = Told()
    assert told.alarms() == ()
    told.take({"dead": ["web"]})
    told.take({"notice": "site.db was damaged"})
    told.take({"something": "of another version"})
    assert [(a.code, a.severity) for a in told.alarms()] == [("site_renewed", "major"), ("web_dead", "major")]
    assert told.alarms()[0].en == "site.db was damaged"
    told.take({"dead": []})
    assert [a.code for a in told.alarms()] == ["site_renewed"]
