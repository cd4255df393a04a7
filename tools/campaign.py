"""`make campaign`: seeded faults at both levels, spoiled frames, a day at both levels, weeks and years of the bench sites, planted bugs.

Prints Markdown for `docs/benchmarks.md`. Ends with 1 where an invariant was broken or too few planted bugs were caught.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = "configs/sites/river.yaml"
EMS = [sys.executable, "-c", "from api.cli.main import main; main()"]


def part(title: str, shown: str, command: list[str], **more: str) -> int:
    """Run one part under its heading, with `more` in its environment, and return its exit code."""
    sys.stdout.write(f"\n## {title}\n\n`{shown}`\n\n")
    sys.stdout.flush()
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **more}, check=False).returncode


def seeds(title: str, *options: str) -> int:
    """Run `ems campaign` on the demo's site."""
    return part(title, " ".join(["ems campaign", SITE, *options]), [*EMS, "campaign", SITE, *options])


PARTS: dict[str, Callable[[], int]] = {
    "energy": lambda: seeds("Faults, energy level", "--seeds", "200", "--hours", "2", "--workers", "2", "--out", "data/campaign"),
    "dynamic": lambda: seeds(
        "Faults, dynamic level", "--seeds", "20", "--hours", "0.25", "--level", "dynamic", "--workers", "2", "--out", "data/campaign-dynamic"
    ),
    "frames": lambda: part(
        "Spoiled Modbus frames, all of them",
        "EMS_FRAMES=10000 make test ARGS=tests/wire/test_modbus_faults.py",
        [sys.executable, "-m", "pytest", "-q", "--timeout=900", "tests/wire/test_modbus_faults.py"],
        EMS_FRAMES="10000",
    ),
    "levels": lambda: part("A whole day at both levels", "python -m tools.levels", [sys.executable, "-m", "tools.levels"]),
    "year": lambda: part("Bench sites", "python -m tools.year --workers 2", [sys.executable, "-m", "tools.year", "--workers", "2"]),
    "mutants": lambda: part("Planted bugs", "python -m tools.mutants", [sys.executable, "-m", "tools.mutants"]),
}


def main() -> int:
    """Run all parts, or those that are named, and return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Example: make campaign ARGS=mutants")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    codes = {name: PARTS[name]() for name in parser.parse_args().parts or PARTS}
    failed = [name for name, code in codes.items() if code]
    if failed:
        sys.stderr.write(f"campaign: failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
