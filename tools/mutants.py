"""The mutation check: bugs planted one by one in a copy of the tree; campaign and tests must catch them.

A campaign that never fails measures nothing. Each mutant is data: a file, a text that occurs in it exactly once, what stands
there instead, and which bug that is. The campaign looks first, then the tests that mirror the file. Prints Markdown.
A new one is one more entry in `tools/mutant_list.py`; a house test checks that every text is there exactly once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ems.clock import real_s
from tools.mutant_list import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
TAKEN = ("ems", "drivers", "optimizer", "mrv", "simulator", "api", "configs", "tests", "tools")
SITE = "configs/sites/river.yaml"
SEEDS, HOURS = 32, 0.4
LIMIT_S = 600.0
"""A mutant is given up as not caught after this time [s]."""
WANTED = 0.95
"""Share that has to be caught: 19 of 20."""
STORM = 2
"""Seeds of this remainder are storms, which are densest: they look first."""
Key = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of one mutant: by what it was caught, or empty; and how long that took [s]."""

    mutant: Mutant
    by: str
    seconds: float


def mutated(mutant: Mutant, source: str) -> str:
    """Return a file with the bug in it."""
    if source.count(mutant.old) != 1:
        raise SystemExit(f"mutants: {mutant.name}: the text is {source.count(mutant.old)} times in {mutant.file}, expected once")
    return source.replace(mutant.old, mutant.new)


def probe(seeds: Sequence[int], hours: float, known: set[Key]) -> set[Key]:
    """Run seeds of the campaign in this tree until one breaks an invariant that is not known; return what was broken by then."""
    from ems.config.load import load_site
    from simulator.campaign.case import drawn
    from simulator.campaign.run import run

    site = load_site(ROOT / SITE).site
    found: set[Key] = set()
    for seed in sorted(seeds, key=lambda s: (s % 4 != STORM, s)):
        outcome = run(site, drawn(site, seed, hours * 3600.0, "energy"))
        found |= {(seed, *v.key) for v in outcome.violations}
        if found - known and known is not EVERYTHING:
            break
    return found


EVERYTHING: set[Key] = set()
"""Passed as what is known where the run is not to stop: for the tree without a bug."""


def probed(tree: Path, seeds: int, hours: float, known: Path | None, limit_s: float) -> set[Key] | None:
    """Return what the campaign breaks in another tree; None where it did not end in time."""
    command = [sys.executable, "-m", "tools.mutants", "--probe", "--seeds", str(seeds), "--hours", str(hours)]
    command += ["--known", str(known)] if known is not None else []
    try:
        done = subprocess.run(command, cwd=tree, env=surroundings(tree), capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return {(-1, "crash", done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "")}
    return {(int(s), str(i), str(x)) for s, i, x in json.loads(done.stdout.splitlines()[-1])}


def surroundings(tree: Path) -> dict[str, str]:
    """Return the environment in which another tree is the one that is imported."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def tested(tree: Path, mutant: Mutant, limit_s: float) -> str:
    """Return the first test that fails in a mutated tree, or nothing."""
    files = [t for t in mutant.tests if (tree / t).exists()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *files]
    try:
        done = subprocess.run(command, cwd=tree, env=surroundings(tree), capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return "a test that hangs"
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR")) and len(line.split()) > 1]
    return failed[0].rsplit("/", 1)[-1] if failed else ""


def hunt(tree: Path, mutant: Mutant, seeds: int, hours: float, known: Path) -> Caught:
    """Plant one bug, look for it until it is found or the time is up, and take it out again."""
    began, file = real_s(), tree / mutant.file
    source = file.read_text("utf-8")
    file.write_text(mutated(mutant, source), "utf-8")
    try:
        before = {(int(s), str(i), str(x)) for s, i, x in json.loads(known.read_text("utf-8"))}
        found = probed(tree, seeds, hours, known, LIMIT_S)
        if found is None:
            return Caught(mutant, "campaign: it does not end", real_s() - began)
        new = sorted(found - before)
        if new:
            seed, invariant, subject = new[0]
            return Caught(mutant, f"campaign: {invariant} {subject} (seed {seed})".replace("  ", " "), real_s() - began)
        test = tested(tree, mutant, max(10.0, LIMIT_S - (real_s() - began)))
        return Caught(mutant, f"test: {test}" if test else "", real_s() - began)
    finally:
        file.write_text(source, "utf-8")


def copied(folder: Path) -> Path:
    """Return a copy of the tree in which bugs may be planted."""
    tree = folder / "tree"
    for room in TAKEN:
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree / name)
    return tree


def lines(caught: Sequence[Caught]) -> list[str]:
    """Return the result as Markdown."""
    found = sum(bool(c.by) for c in caught)
    by_campaign = sum(c.by.startswith("campaign") for c in caught)
    head = f"{found} of {len(caught)} planted bugs caught, {by_campaign} of them by the campaign itself"
    rows = [f"| {c.mutant.name} | {c.mutant.bug} | {c.by or '**survived**'} | {c.seconds:.0f} |" for c in caught]
    return [head, "", "| mutant | planted bug | caught by | s |", "|---|---|---|---|", *rows]


def main() -> int:
    """Run the check on all mutants, or on those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Example: python -m tools.mutants stale_as_zero retries_unbounded")
    parser.add_argument("names", nargs="*", help="mutants; all by default")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--hours", type=float, default=HOURS)
    parser.add_argument("--probe", action="store_true", help="run the campaign in this tree and print what it breaks")
    parser.add_argument("--known", type=Path, help="what the tree without a bug breaks")
    asked = parser.parse_args()
    if asked.probe:
        known = EVERYTHING if asked.known is None else {(int(s), str(i), str(x)) for s, i, x in json.loads(asked.known.read_text("utf-8"))}
        sys.stdout.write(json.dumps(sorted(probe(range(asked.seeds), asked.hours, known))) + "\n")
        return 0
    chosen = [m for m in MUTANTS if not asked.names or m.name in asked.names]
    if len(chosen) < len(asked.names):
        parser.error(f"no such mutant: {', '.join(set(asked.names) - {m.name for m in chosen})}")
    with tempfile.TemporaryDirectory() as folder:
        tree, known_file = copied(Path(folder)), Path(folder) / "known.json"
        known_file.write_text(json.dumps(sorted(probed(tree, asked.seeds, asked.hours, None, 10 * LIMIT_S) or set())), "utf-8")
        caught = []
        for mutant in chosen:
            caught.append(hunt(tree, mutant, asked.seeds, asked.hours, known_file))
            sys.stderr.write(f"mutants: {mutant.name}: {caught[-1].by or 'SURVIVED'} ({caught[-1].seconds:.0f} s)\n")
    sys.stdout.write("\n".join(lines(caught)) + "\n")
    return 0 if sum(bool(c.by) for c in caught) >= WANTED * len(caught) else 1


if __name__ == "__main__":
    sys.exit(main())
