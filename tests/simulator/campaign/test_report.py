"""The figures of the report: intervals by known values, the bound of three in n, and the Markdown."""

from __future__ import annotations

import pytest

from simulator.campaign.many import Campaign, cases
from simulator.campaign.report import lines, wilson
from tests.simulator.faults.bench import island


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # these four: Newcombe (1998), Stat. Med. 17, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_by_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5.1e-5)


def test_wilson_without_trials_is_nothing() -> None:
    assert wilson(0, 0) is None


def test_the_table_has_a_row_for_each_class_and_says_the_bound() -> None:
    report = Campaign(island(), "isle.yaml", cases(island(), 0, 1, 0.05, "energy"), 0.05, tries=0).run()
    shown = "\n".join(lines(report))
    for name in ("link", "value", "plant", "command", "solver", "time", "all"):
        assert f"\n| {name} |" in shown
    if not report["violations"]:
        assert report["run_failure_bound95"] == 3.0
        assert "at most 3 failures a run" in shown
