"""What `tools.year` found, as tables of `docs/benchmarks.md`, and the targets that were missed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.year_lines import Key

Summaries = Mapping[Key, Mapping[str, Any]]
RULES = ("load-following", "cycle-charging")
GAP = 0.005
PERFECT, OWN = 1.01, 1.02
"""Litres of the planner against the bound, with perfect and with its own forecasts."""
MEASURED_SITE = "pv60"
LITRES, STARTS, HOURS = 0.99, 0.7, 0.9
"""At 60 % PV, against the better rule: litres, starts and engine hours in a year."""
SAME_L = 1.0
"""Litres of a month that differ by no more are the same: in a month without diesel they are what is stored at its two ends, and may be below nothing."""
SUMS = (
    "diesel_l_soc_corrected", "diesel_starts", "diesel_run_h", "diesel_off_h", "curtailed_kwh", "battery_discharge_kwh", "unserved_kwh", "load_kwh",
    "plans", "plans_refused", "wall_s",
)  # fmt: skip

IN_WEEKS = (
    "site", "series", "two weeks in", "bound [L]", "its gap", "its plan in the plant", "starts / h", "mpc, perfect", "starts / h", "mpc, own forecasts",
    "starts / h", "better rule",
)  # fmt: skip
IN_YEARS = (
    "site", "series", "policy", "diesel [L]", "/ better rule", "starts / its", "hours / its", "starts", "engine h", "diesels off [h]",
    "curtailed [MWh]", "from batteries [MWh]", "unserved [kWh]", "violations", "plans refused", "one core [min]",
)  # fmt: skip


def report(found: Summaries) -> tuple[str, list[str]]:
    """Return the tables as Markdown, and the targets that were missed in words."""
    missed: list[str] = []
    parts = [weeks(found, missed), years(found, missed), months(found, missed)]
    text = "\n".join(p for p in parts if p)
    verdict = "All targets met." if not missed else "Missed:\n\n" + "\n".join(f"- {m}" for m in missed)
    return f"{text}\n{verdict}\n", missed


def weeks(found: Summaries, missed: list[str]) -> str:
    """Return the table of the two weeks in each season."""
    rows = []
    for (site, series, season), runs in grouped(found, "weeks"):
        best = runs.get(("perfect-foresight", "perfect"))
        bound = None if best is None else best["bound_l"]
        where = f"{site}, {series}, {season}"
        row = [site, series, season]
        if best is None or bound is None:
            row += [""] * 4
        else:
            row += [f"{bound:,.0f}", f"{100 * best['bound_gap']:.2f} %", against(best, bound), f"{best['diesel_starts']} / {best['diesel_run_h']:.0f}"]
            if best["bound_gap"] > GAP:
                missed.append(f"{where}: the bound is open by {100 * best['bound_gap']:.2f} %")
        for forecast, limit in (("perfect", PERFECT), ("blend", OWN)):
            row += planner_cells(runs.get(("mpc", forecast)), best, limit, f"{where}, mpc with {forecast} forecast", missed)
        rule = better([runs[r, "none"] for r in RULES if (r, "none") in runs])
        row.append("" if rule is None else f"{rule['policy']}: {against(rule, bound)}, {rule['diesel_starts']} / {rule['diesel_run_h']:.0f}")
        rows.append(row)
    return table("Two weeks in each season, for litres alone, against the bound", IN_WEEKS, rows)


def planner_cells(run: Mapping[str, Any] | None, best: Mapping[str, Any] | None, limit: float, where: str, missed: list[str]) -> list[str]:
    """Return litres against the bound, starts and hours of one planner run; where the bound is only what more is stored at the end, its plan is the measure."""
    if run is None:
        return ["", ""]
    bound = None if best is None else best["bound_l"]
    if best is not None and bound is not None:
        if bound > SAME_L and run["diesel_l_soc_corrected"] > limit * bound:
            missed.append(f"{where}: {against(run, bound)} of the bound, wanted {limit:g}")
        if bound <= SAME_L and run["diesel_l"] > limit * best["diesel_l"] + SAME_L:
            missed.append(f"{where}: {run['diesel_l']:,.0f} L burnt for {best['diesel_l']:,.0f}, wanted {limit:g}")
    missed += broken(run, where)
    return [against(run, bound), f"{run['diesel_starts']} / {run['diesel_run_h']:.0f}"]


def years(found: Summaries, missed: list[str]) -> str:
    """Return the table of whole years."""
    rows = []
    for (site, series), runs in whole_years(found):
        rule = better([runs[r] for r in RULES if r in runs])
        for policy, run in runs.items():
            row = [site, series, policy, f"{run['diesel_l_soc_corrected']:,.0f}"]
            row += [
                f"{run[key] / rule[key]:.3f}" if rule is not None and rule[key] else "" for key in ("diesel_l_soc_corrected", "diesel_starts", "diesel_run_h")
            ]
            row += [f"{run['diesel_starts']:,}", f"{run['diesel_run_h']:,.0f}", f"{run['diesel_off_h']:,.0f}", f"{run['curtailed_kwh'] / 1000:,.0f}"]
            refused = f"{run['plans_refused']:,} of {run['plans']:,}" if run["plans"] else ""
            row += [f"{run['battery_discharge_kwh'] / 1000:,.0f}", f"{run['unserved_kwh']:.1f}", words(run["violations"]), refused, f"{run['wall_s'] / 60:.0f}"]
            rows.append(row)
        planner = runs.get("mpc")
        if planner is None or rule is None:
            continue
        missed += broken(planner, f"{site}, {series}, year")
        for key, limit in (("diesel_l_soc_corrected", LITRES), ("diesel_starts", STARTS), ("diesel_run_h", HOURS)) if site == MEASURED_SITE else ():
            if planner[key] > limit * rule[key]:
                missed.append(f"{site}, {series}, year: {key} {planner[key] / rule[key]:.3f} of {rule['policy']}, wanted {limit:g}")
    return table("The whole year, own forecasts, a plan every hour", IN_YEARS, rows)


def months(found: Summaries, missed: list[str]) -> str:
    """Return the table of months: litres of each policy, and where the planner burnt more than the better rule of that month."""
    rows = []
    for (site, series), runs in whole_years(found):
        names = [m["month"] for m in next(iter(runs.values()))["months"]]
        for k, name in enumerate(names):
            each = {policy: run["months"][k] for policy, run in runs.items()}
            row = [site, series, name]
            for policy in ("mpc", *RULES):
                month = each.get(policy)
                row.append("" if month is None else f"{month['diesel_l_soc_corrected']:,.0f} ({month['diesel_starts']} / {month['diesel_run_h']:.0f})")
            rule = min((each[r]["diesel_l_soc_corrected"] for r in RULES if r in each), default=None)
            if rule is not None and "mpc" in each:
                more_l = each["mpc"]["diesel_l_soc_corrected"] - rule
                row.append(f"{1.0 + more_l / rule:.3f}" if rule > SAME_L else f"{more_l:+.0f} L")
                if more_l > SAME_L:
                    missed.append(f"{site}, {series}, {name}: mpc burns {more_l:,.0f} L more than the better rule's {rule:,.0f}")
            else:
                row.append("")
            rows.append(row)
    header = ["site", "series", "month", "mpc: L (starts / h)", *(f"{r}: L (starts / h)" for r in RULES), "mpc / better rule"]
    return table("By month", header, rows)


def grouped(found: Summaries, what: str) -> Iterator[tuple[tuple[str, str, str], dict[tuple[str, str], Mapping[str, Any]]]]:
    """Return the runs of each site, series and part, by policy and forecast."""
    groups: dict[tuple[str, str, str], dict[tuple[str, str], Mapping[str, Any]]] = {}
    for key, summary in found.items():
        if key.what == what:
            groups.setdefault((key.site, key.series, key.part), {})[key.policy, key.forecast] = summary
    yield from groups.items()


def whole_years(found: Summaries) -> Iterator[tuple[tuple[str, str], dict[str, Mapping[str, Any]]]]:
    """Return the year of each policy of each site and series, the planner's from its months once all are there, which only a rule's year can tell."""
    places = dict.fromkeys((k.site, k.series) for k in found if k.what == "year")
    for site, series in places:
        mine = {k: s for k, s in found.items() if (k.site, k.series, k.what) == (site, series, "year")}
        rules = {k.policy: s for k, s in mine.items() if k.part == "year"}
        parts = [s for _, s in sorted((k.part, s) for k, s in mine.items() if k.policy == "mpc")]
        hours = max((sum(m["hours"] for m in s["months"]) for s in rules.values()), default=None)
        runs = {"mpc": added(parts)} if parts and hours == sum(m["hours"] for s in parts for m in s["months"]) else {}
        if runs | rules:
            yield (site, series), runs | rules


def added(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the parts of a year as one summary, as far as the tables need it."""
    counts = {kind: {"count": sum(p["violations"][kind]["count"] for p in parts)} for kind in parts[0]["violations"]}
    return {
        "policy": parts[0]["policy"],
        **{k: sum(p[k] for p in parts) for k in SUMS},
        "violations": counts,
        "months": [m for p in parts for m in p["months"]],
    }


def better(rules: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the rule that burns less."""
    return min(rules, key=lambda r: float(r["diesel_l_soc_corrected"]), default=None)


def against(run: Mapping[str, Any], bound: float | None) -> str:
    """Return litres as a share of the bound, or as they are where there is none, or where it is only what more is stored at the end."""
    return f"{run['diesel_l_soc_corrected']:,.0f} L" if bound is None or bound <= SAME_L else f"{run['diesel_l_soc_corrected'] / bound:.4f}"


def broken(run: Mapping[str, Any], where: str) -> list[str]:
    """Return what a planner may never do, in words."""
    found = [f"{where}: {run['unserved_kwh']:.1f} kWh unserved"] if run["unserved_kwh"] > 0.0 else []
    text = words(run["violations"])
    return found + ([f"{where}: violations: {text}"] if text != "none" else [])


def words(violations: Mapping[str, Mapping[str, float]]) -> str:
    """Return the kinds of violation that there were, with their steps."""
    return ", ".join(f"{kind} {count['count']:.0f}" for kind, count in violations.items() if count["count"]) or "none"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table under its title, nothing without rows."""
    if not rows:
        return ""
    lines = [f"## {title}", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join(lines)
