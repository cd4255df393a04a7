"""Replanning every five minutes under a forecast that is wrong anew each time: engines start hardly more often than with the day known."""

from __future__ import annotations

import pytest

from tests.stories.noisy_day import lived

RATIO = 1.2


@pytest.mark.timeout(600)
def test_noise_starts_no_engines() -> None:
    known, _ = lived(2, 12.0, "foresight")
    noisy, kept = lived(2, 12.0, "promises")
    assert kept > 0  # there were plans that would have switched more
    assert sum(known.starts.values()) >= 3
    assert sum(noisy.starts.values()) <= RATIO * sum(known.starts.values())
    assert noisy.sums["unserved_kwh"] == 0.0
