"""What several tests of the planner stand on."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_sketch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with six different diesels, which have 65 sets: a sketch would take longer than a search, so plans are made near the plan before."""
    monkeypatch.setattr("optimizer.search.MOST_SETS", 0)
    monkeypatch.setattr("optimizer.sketch.MOST_SETS", 0)
