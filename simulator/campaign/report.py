"""What a campaign found, as one document: faults by class, survived of injected with its interval, states, violations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from simulator.campaign.case import Case
from simulator.campaign.run import Outcome, Violation
from simulator.campaign.states import STATES
from simulator.faults.alphabet import CLASSES, KINDS

Z95 = 1.959963984540054
"""Quantile of the normal distribution for a two-sided 95 % interval."""
VERDICTS = ("survived", "degraded", "violated")


def wilson(successes: int, trials: int) -> tuple[float, float] | None:
    r"""Return the Wilson score interval at 95 % of a share; None without trials.

    .. math:: \frac{p + z^2/2n \pm z \sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}

    Wilson (1927), J. Am. Stat. Assoc. 22, 209-212.
    """
    if trials == 0:
        return None
    share, z2 = successes / trials, Z95**2
    middle = share + z2 / (2 * trials)
    width = Z95 * math.sqrt(share * (1.0 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, (middle - width) / (1.0 + z2 / trials)), min(1.0, (middle + width) / (1.0 + z2 / trials))


def classes(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Return for every class, and for all together, how many faults were injected and what came of them."""
    counts = {c: dict.fromkeys(("planned", "injected", *VERDICTS), 0) for c in (*CLASSES, "all")}
    for outcome in outcomes:
        for one in outcome.befallen:
            for name in (one.fault.klass, "all"):
                counts[name]["planned"] += 1
                if one.touched:
                    counts[name]["injected"] += 1
                    counts[name][one.verdict] += 1
    return {name: {**c, **_share(c)} for name, c in counts.items()}


def _share(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return what share of the injected faults broke no invariant, with its interval, and the bound of three in n where none did."""
    injected = counts["injected"]
    unbroken = injected - counts["violated"]
    interval = wilson(unbroken, injected)
    return {
        "survived_share": unbroken / injected if injected else None,
        "wilson95": None if interval is None else [round(x, 6) for x in interval],
        "failure_bound95": 3.0 / injected if injected and not counts["violated"] else None,
    }


def kinds(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Return for every kind of fault how often it was injected and violated something."""
    found = {k: {"injected": 0, "violated": 0} for k in KINDS}
    for outcome in outcomes:
        for one in outcome.befallen:
            found[one.fault.kind]["injected"] += bool(one.touched)
            found[one.fault.kind]["violated"] += one.verdict == "violated"
    return found


def document(site: str, level: str, seeds: Sequence[int], hours: float, outcomes: Sequence[Outcome], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the report.

    Parameters
    ----------
    found : Sequence[dict[str, Any]]
        The violations, as `violation_document` gives them.
    """
    simulated_s, used_s = sum(o.simulated_s for o in outcomes), sum(o.cpu_s for o in outcomes)
    reached = sorted(set().union(*(o.states for o in outcomes)))
    runs = len(outcomes)
    clean = sum(not o.violations for o in outcomes)
    return {
        "site": site,
        "level": level,
        "seeds": runs,
        "seed_from": min(seeds, default=0),
        "hours": hours,
        "simulated_h": round(simulated_s / 3600.0, 3),
        "speed": round(simulated_s / used_s, 1) if used_s > 0.0 else None,
        "runs_clean": clean,
        "run_failure_bound95": 3.0 / runs if runs and clean == runs else None,
        "classes": classes(outcomes),
        "kinds": kinds(outcomes),
        "states": {"reached": reached, "missed": [s for s in STATES if s not in reached]},
        "unserved_kwh": round(sum(o.unserved_kwh for o in outcomes), 3),
        "blackouts": sum(o.dark_at_s is not None for o in outcomes),
        "violations": list(found),
        "digest": "-".join(o.digest[:8] for o in outcomes) if runs <= 4 else _digest(outcomes),
    }


def _digest(outcomes: Sequence[Outcome]) -> str:
    import hashlib

    return hashlib.sha256("".join(o.digest for o in outcomes).encode()).hexdigest()[:16]


def violation_document(violation: Violation, case: Case, shrunk: bool, command: str) -> dict[str, Any]:
    """Return one violation with the case that shows it again."""
    return {
        "invariant": violation.invariant,
        "name": violation.name,
        "subject": violation.subject,
        "at_s": round(violation.at_s, 1),
        "text": violation.text,
        "shrunk": shrunk,
        "case": case.document(),
        "command": command,
    }


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return the report as Markdown, as `docs/benchmarks.md` keeps it and a terminal shows it."""
    found = [
        f"{report['seeds']} seeds from {report['seed_from']} on `{report['site']}`, {report['level']} level: {report['simulated_h']:g} simulated hours at "
        f"{report['speed'] or 0:.0f} x real time, {report['runs_clean']} runs without a violation{_bound(report['run_failure_bound95'], 'run')}",
        "",
        "| class | planned | injected | survived | degraded | violated | no invariant broken | Wilson 95 % | bound 3/n |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, c in report["classes"].items():
        share = "-" if c["survived_share"] is None else f"{100 * c['survived_share']:.2f} %"
        interval = "-" if c["wilson95"] is None else f"{100 * c['wilson95'][0]:.2f} to {100 * c['wilson95'][1]:.2f} %"
        bound = "-" if c["failure_bound95"] is None else f"{c['failure_bound95']:.2g}"
        found.append(f"| {name} | {c['planned']} | {c['injected']} | {c['survived']} | {c['degraded']} | {c['violated']} | {share} | {interval} | {bound} |")
    found += ["", f"States reached: {', '.join(report['states']['reached']) or 'none'}.", f"Not reached: {', '.join(report['states']['missed']) or 'none'}."]
    found.append(f"Load not served: {report['unserved_kwh']:g} kWh; dead buses that the plant itself forced or that are listed below: {report['blackouts']}.")
    for v in report["violations"]:
        faults = ", ".join(f"{f['kind']} {f['target']} at {f['onset_s']:g} s" for f in v["case"]["faults"]) or "no fault"
        found.append(f"- {v['invariant']} {v['name']} {v['subject']} (seed {v['case']['seed']}, {v['at_s']:g} s): {v['text']} <- {faults}; `{v['command']}`")
    return found


def _bound(bound: float | None, what: str) -> str:
    return "" if bound is None else f" (at most {bound:.2g} failures a {what} at 95 %)"
