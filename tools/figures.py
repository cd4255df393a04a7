"""What every benchmark prints with: a table, and a percentile."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the sorted values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(title: str, command: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print one result."""
    print(f"\n## {title}\n\n`{command}`\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(f'{c:.4g}' if isinstance(c, float) else str(c) for c in row)} |")
    sys.stdout.flush()
