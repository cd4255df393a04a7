"""`ems replay`: policies against a series, with the real controller in the simulated plant."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from api.cli.output import document, example
from api.duration import duration_s
from ems.errors import BadInput, Failed

if TYPE_CHECKING:
    from rich.table import Table

    from ems.config.load import LoadedSite
    from ems.series import SeriesTable
    from simulator.closed_loop import Case, Run

DAY_S = 86400.0
BASELINE = "baseline"
FORECAST_HELP = (
    "Forecast of mpc. perfect: what will happen; persistence: load and sun as yesterday, river as now; seasonal: the learned hour of the day and "
    "how this day differs from it; clearsky: load as seasonal, sun as a share of the clear sky; blend: all of these and the river's recession, weighed "
    "by their errors of late (what a site uses); file: from --forecast-file. All but perfect learn from the past alone."
)

WORKERS_HELP = (
    "Processes that work side by side. With more than one, mpc is cut at the months: each but the first lives four days before it, and its forecasts "
    "learn from what lies before. docs/decisions/0021 says how far that is from the run in one piece."
)


def register(app: typer.Typer) -> None:
    """Add `ems replay`."""
    shown = example(
        "ems replay site.yaml --series year.csv --policy mpc,load-following --forecast perfect --days 7",
        "ems replay site.yaml --series year.csv --scale pv1.available_kw=2 --out results --json",
    )
    app.command("replay", epilog=shown)(replay)


def replay(
    site: Path | None = typer.Argument(None, metavar="SITE.yaml", help="The site file."),
    series: Path | None = typer.Option(None, "--series", metavar="CSV", help="Load, sun and river."),
    policy: str = typer.Option(
        "mpc,load-following", "--policy", metavar="P[,P...]", help="mpc, load-following, cycle-charging, diesel-only, perfect-foresight."
    ),
    forecast: str = typer.Option("perfect", "--forecast", metavar="F", help=FORECAST_HELP),
    forecast_file: Path | None = typer.Option(None, "--forecast-file", metavar="CSV", help="Forecast of --forecast file, in the form of a series."),
    start: str | None = typer.Option(None, "--start", metavar="ISO", help="First interval, UTC; by default that of the series."),
    days: float | None = typer.Option(None, "--days", help="How long; by default to the end of the series."),
    step: str = typer.Option("15m", "--step", help="Length of an interval, as 15m."),
    replan: str = typer.Option("1h", "--replan", help="How often mpc plans, as 1h."),
    soc: float = typer.Option(0.5, "--soc", help="State of charge of every battery at the start, 0 to 1."),
    scale: list[str] = typer.Option([], "--scale", metavar="COLUMN=FACTOR", help="Scale a column of the series."),
    fill: str | None = typer.Option(None, "--fill", help="Fill gaps and empty cells: hold or linear."),
    ignore_columns: str = typer.Option("", "--ignore-columns", metavar="C[,C...]", help="Columns of the series to leave out."),
    workers: int = typer.Option(1, "--workers", metavar="N", help=WORKERS_HELP),
    out: Path | None = typer.Option(None, "--out", metavar="DIR", help="Write summary.json and one CSV for each policy."),
    recorded: Path | None = typer.Option(None, "--recorded", metavar="DIR", help="Run a recorded site again. Not in this version yet."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document: a list with a summary for each policy."),
) -> None:
    """Run policies through a series and compare them with a diesel-only plant."""
    if recorded is not None:
        raise Failed("recorded cycles cannot be run again in this version", "--recorded", "a site file and --series")
    if site is None or series is None:
        raise BadInput("a site file and a series are needed", "SITE.yaml" if site is None else "--series", "ems replay SITE.yaml --series CSV")
    from ems.config.load import load_site
    from ems.series import read_series

    chosen = policies(policy)
    if workers < 1:
        raise BadInput(f"{workers} is too few", "--workers", "1 or more")
    known_forecast(forecast, forecast_file)
    step_s, replan_s = duration_s(step, "--step"), duration_s(replan, "--replan")
    loaded = load_site(site)
    ignored = [c for c in ignore_columns.split(",") if c]
    table = read_series(series, loaded.site, fill, ignored, factors(scale))
    case = case_of(loaded, table, start, days, step_s, replan_s, soc)
    given = None if forecast_file is None else read_series(forecast_file, loaded.site, fill)
    summaries, runs = compare(loaded, case, chosen, forecast, given, workers)
    if out is not None:
        save(out, summaries, runs)
    if as_json:
        document(summaries)
    else:
        show(summaries, loaded.site.costs.currency)


def policies(text: str) -> list[str]:
    """Return the policies of an option, each once and known."""
    from simulator.closed_loop import POLICIES

    found = [p.strip() for p in text.split(",")]
    for name in found:
        if name not in POLICIES:
            raise BadInput(f"unknown policy {name!r}", "--policy", ", ".join(POLICIES))
    return list(dict.fromkeys(found))


def known_forecast(name: str, file: Path | None) -> None:
    """Refuse a forecast that does not exist, and a file that is missing or would not be used."""
    from simulator.plans import FORECASTS

    if name not in FORECASTS:
        raise BadInput(f"unknown forecast {name!r}", "--forecast", ", ".join(FORECASTS))
    if name == "file" and file is None:
        raise BadInput("a forecast from a file needs the file", "--forecast-file", "a CSV in the form of a series")
    if name != "file" and file is not None:
        raise BadInput(f"--forecast {name} reads no file", "--forecast-file", "--forecast file")


def factors(scales: Sequence[str]) -> dict[str, float]:
    """Return `COLUMN=FACTOR` options by column."""
    found = {}
    for text in scales:
        column, equals, factor = text.rpartition("=")
        try:
            found[column] = float(factor)
        except ValueError:
            equals = ""
        if not equals or not column:
            raise BadInput(f"{text!r} is no scale", "--scale", "COLUMN=FACTOR, as pv1.available_kw=5")
    return found


def case_of(loaded: LoadedSite, table: SeriesTable, start: str | None, days: float | None, step_s: float, replan_s: float, soc: float) -> Case:
    """Return the case, if the series covers it."""
    from simulator.closed_loop import Case

    if not 0.0 <= soc <= 1.0:
        raise BadInput(f"{soc:g} is no state of charge", "--soc", "0 to 1")
    if days is not None and not days > 0.0:
        raise BadInput(f"{days:g} days", "--days", "more than 0")
    if abs(DAY_S / step_s - round(DAY_S / step_s)) > 1e-9:  # intervals would drift against the hours of series and plan, and end before the period
        raise BadInput(f"{step_s:g} s do not divide a day evenly", "--step", "a part of a day, as 5m 15m 1h")
    first = table.start if start is None else moment(start)
    covered = f"{table.start:%Y-%m-%dT%H:%M:%SZ} to {table.end:%Y-%m-%dT%H:%M:%SZ}"
    if not table.start <= first < table.end:
        raise BadInput(f"{first:%Y-%m-%dT%H:%M:%SZ} is outside the series", "--start", covered)
    left_s = (table.end - first).total_seconds()
    wanted_s = left_s if days is None else days * DAY_S
    if wanted_s > left_s:
        raise BadInput(f"{days:g} days from {first:%Y-%m-%dT%H:%M:%SZ} reach beyond the series", "--days", f"within {covered}")
    steps = int(wanted_s / step_s + 1e-9)
    if steps < 1:
        raise BadInput("the period is shorter than one step", "--step", f"at most {wanted_s:g}s")
    return Case(loaded.site, table, first, step_s, replan_s, steps, soc)


def moment(text: str) -> datetime:
    """Return a time option in UTC; a date or a time without zone is taken as UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no time", "--start", "ISO 8601, as 2016-03-01 or 2016-03-01T06:00:00Z") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def compare(
    loaded: LoadedSite, case: Case, chosen: Sequence[str], forecast: str, given: SeriesTable | None = None, workers: int = 1
) -> tuple[list[dict[str, Any]], list[Run]]:
    """Run every policy and, once, the baseline; return a summary and a run for each policy."""
    from ems.config.site import Diesel
    from simulator.jobs import Done, Job, all_carried_out
    from simulator.parts import joined, joints, parts_of, solves_joined
    from simulator.summary import summarise

    diesels = tuple(d.id for d in case.site.of(Diesel))
    if "diesel-only" in chosen and not diesels:
        raise BadInput("the site has no diesels", "--policy diesel-only", "a site with diesels")
    fleet = diesels if case.site.baseline is None else tuple(case.site.baseline.assets)
    jobs = [Job(BASELINE, case, "diesel-only", fleet=fleet)] if diesels else []
    for policy in chosen:
        if policy == "diesel-only" and set(fleet) == set(diesels):
            continue  # the baseline's run is its own
        parts = parts_of(case) if policy == "mpc" and workers > 1 else [case]
        jobs += [Job(policy, part, policy, forecast, given) for part in parts]
    by_name: dict[str, list[Done]] = {}
    with progress({job.name for job in jobs}, case.steps) as told:
        for done in all_carried_out(jobs, workers, told):
            by_name.setdefault(done.job.name, []).append(done)
    alone = by_name[BASELINE][0].run if diesels else None
    summaries, runs = [], []
    for policy in chosen:
        parts_done = by_name.get(policy) or by_name[BASELINE]
        made, solves = joined([d.run for d in parts_done]), solves_joined([d.solves for d in parts_done])
        used = {"mpc": forecast, "perfect-foresight": "perfect"}.get(policy, "none")
        summary = summarise(case, made, solves, alone, used, (loaded.sha256, case.table.sha256))
        summaries.append(summary | ({"parts": joints([d.run for d in parts_done])} if len(parts_done) > 1 else {}))
        runs.append(made)
        for refusal in solves.refused[:3]:
            sys.stderr.write(f"ems replay: {policy}: a plan was not used: {refusal}\n")
    return summaries, runs


@contextmanager
def progress(names: Collection[str], steps: int) -> Iterator[Callable[[str], Callable[[int], None]]]:
    """Show a bar for each run, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda name: lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks = {name: bars.add_task(name, total=steps) for name in sorted(names)}
        yield lambda name: lambda done: bars.update(tasks[name], completed=done)


def save(out: Path, summaries: Sequence[dict[str, Any]], runs: Sequence[Run]) -> None:
    """Write `summary.json` and a CSV with a row for each interval of every policy."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "summary.json").write_text(json.dumps(summaries, ensure_ascii=False, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        for run in runs:
            with (out / f"{run.policy}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(run.columns)
                writer.writerows(run.rows)
    except OSError as fault:
        raise Failed(f"the results cannot be written: {fault.strerror}", str(out), "a folder that can be written") from None


SHOWN: tuple[tuple[str, str, int], ...] = (
    ("diesel_l", "L", 0), ("diesel_l_soc_corrected", "L", 0), ("baseline_diesel_l", "L", 0), ("bound_l", "L", 0), ("renewable_fraction", "", 3),
    ("load_kwh", "kWh", 0),
    ("unserved_kwh", "kWh", 1), ("diesel_kwh", "kWh", 0), ("diesel_run_h", "h", 1), ("diesel_starts", "", 0), ("diesel_off_h", "h", 1), ("low_load_h", "h", 1),
    ("solar_kwh", "kWh", 0), ("hydro_kwh", "kWh", 0), ("curtailed_kwh", "kWh", 0), ("battery_discharge_kwh", "kWh", 0), ("soc_end", "", 3), ("min_soc", "", 3),
    ("co2_displaced_t", "t", 2), ("plans", "", 0), ("fallback_steps", "", 0), ("wall_s", "s", 1),
)  # fmt: skip
"""Rows of the table: key, unit, decimals."""


def show(summaries: Sequence[dict[str, Any]], currency: str) -> None:
    """Print the policies side by side."""
    from rich.console import Console
    from rich.table import Table

    first = summaries[0]
    table = Table(title=f"{first['site']}: {first['start']} to {first['end']}, {first['steps']} steps of {first['step_s']:g} s")
    table.add_column("")
    for summary in summaries:
        table.add_column(summary["policy"] + ("" if summary["forecast"] == "none" else f" ({summary['forecast']})"), justify="right")
    for key, unit, decimals in SHOWN:
        values = [s.get(key) for s in summaries]
        if any(v is not None for v in values):
            table.add_row(f"{key} [{unit}]".replace("[", r"\[") if unit else key, *("-" if v is None else f"{v:,.{decimals}f}" for v in values))
    table.add_row(rf"cost total \[{currency}]", *(f"{s['cost']['total']:,.0f}" for s in summaries))
    table.add_row("violations", *(", ".join(f"{k} {c['count']}" for k, c in s["violations"].items() if c["count"]) or "none" for s in summaries))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    if len(first["months"]) > 1:
        console.print(monthly(summaries))


def monthly(summaries: Sequence[dict[str, Any]]) -> Table:
    """Return the table of months: what each policy burnt, how often and how long engines ran, and what went wrong."""
    from rich.table import Table

    table = Table("month", "policy", title="by month (UTC)")
    for name in ("diesel_l_soc_corrected", "diesel_starts", "diesel_run_h", "unserved_kwh", "violations"):
        table.add_column(name, justify="right")
    for k, month in enumerate(summaries[0]["months"]):
        for summary in summaries:
            found = summary["months"][k]
            table.add_row(
                month["month"] if summary is summaries[0] else "",
                summary["policy"],
                f"{found['diesel_l_soc_corrected']:,.0f}",
                f"{found['diesel_starts']}",
                f"{found['diesel_run_h']:,.1f}",
                f"{found['unserved_kwh']:,.1f}",
                ", ".join(f"{kind} {count}" for kind, count in found["violations"].items() if count) or "none",
            )
    return table
