"""`ems campaign`: seeded faults against the real controller in the simulated plant, every invariant checked in every step."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from api.cli.output import document, example
from ems.errors import BadInput, Failed

if TYPE_CHECKING:
    from simulator.campaign.run import Outcome

MOST_HOURS = 24.0 * 366.0


def register(app: typer.Typer) -> None:
    """Add `ems campaign`."""
    shown = example(
        "ems campaign site.yaml --seeds 200 --hours 2 --workers 2 --out found",
        "ems campaign site.yaml --schedule found/I2-bess1-17.json",
    )
    app.command("campaign", epilog=shown)(campaign)


def campaign(
    site: Path = typer.Argument(..., metavar="SITE.yaml", help="The site file."),
    seeds: int = typer.Option(20, "--seeds", metavar="N", help="So many runs, one for each seed."),
    hours: float = typer.Option(2.0, "--hours", metavar="H", help="Simulated hours of each run."),
    level: str = typer.Option("energy", "--level", help="Plant: energy or dynamic."),
    seed_from: int = typer.Option(0, "--seed-from", metavar="K", help="The first seed."),
    workers: int = typer.Option(1, "--workers", metavar="N", help="Processes that run seeds side by side."),
    schedule: Path | None = typer.Option(None, "--schedule", metavar="FILE", help="Run this schedule of faults (JSON) instead of seeds."),
    shrink: bool = typer.Option(True, "--shrink/--no-shrink", help="Shrink what breaks an invariant to a short schedule."),
    out: Path | None = typer.Option(None, "--out", metavar="DIR", help="Write report.json and a schedule for every violation."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Inject seeded faults and check every rule against the plant's truth; exit 1 if one was broken."""
    from ems.config.load import load_site
    from simulator.campaign.case import LEVELS, read_case
    from simulator.campaign.many import Campaign, cases
    from simulator.campaign.report import lines
    from simulator.campaign.shrink import TRIES

    for name, value, low in (("--seeds", seeds, 1), ("--seed-from", seed_from, 0), ("--workers", workers, 1)):
        if value < low:
            raise BadInput(f"{value} is too few" if low else f"{value} is negative", name, f"{low} or more")
    if not 0.0 < hours <= MOST_HOURS:
        raise BadInput(f"{hours:g} hours", "--hours", f"more than 0, at most {MOST_HOURS:g}")
    if level not in LEVELS:
        raise BadInput(f"unknown level {level!r}", "--level", ", ".join(LEVELS))
    loaded = load_site(site)
    if schedule is not None:
        chosen = [read_case(schedule, loaded.site)]
        hours = chosen[0].length_s / 3600.0
    else:
        chosen = cases(loaded.site, seed_from, seeds, hours, level)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise Failed(f"{fault.strerror or fault}", str(out), "a folder that can be written") from None
    with progress(len(chosen)) as done:
        report = Campaign(loaded.site, str(site), chosen, hours, out, workers, TRIES if shrink else 0, done).run()
    if out is not None:
        (out / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=2, allow_nan=False) + "\n", "utf-8")
    if as_json:
        document(report)
    else:
        sys.stdout.write("\n".join(lines(report)) + "\n")
    return 1 if report["violations"] else 0


@contextmanager
def progress(runs: int) -> Iterator[Callable[[Outcome], None]]:
    """Show a bar, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda outcome: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("runs", total=runs)
        yield lambda outcome: bars.update(task, advance=1)
