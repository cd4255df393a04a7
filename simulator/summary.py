"""The replay summary: one object per policy, with the keys of the contract. Formulas stand in `docs/nomenclature.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ems.config.site import Battery, Diesel, Inverter, Site
from ems.physics import best_slope_l_per_kwh
from simulator.account import Month
from simulator.closed_loop import Case, Run
from simulator.plans import Solves
from simulator.tallies import mean_soc

YEAR_H = 8760.0
KWH = (
    "load_kwh", "served_kwh", "unserved_kwh", "diesel_kwh", "diesel_off_h", "solar_available_kwh", "solar_kwh", "hydro_available_kwh", "hydro_kwh",
    "curtailed_kwh", "spilled_kwh", "battery_charge_kwh", "battery_discharge_kwh", "losses_kwh",
)  # fmt: skip


def summarise(case: Case, run: Run, solves: Solves, baseline: Run | None, forecast: str, sha256: tuple[str, str]) -> dict[str, Any]:
    """Return the summary of one run.

    Parameters
    ----------
    case : Case
    run : Run
    solves : Solves
        How its plans were made; empty for the rules.
    baseline : Run | None
        The diesel-only run of the baseline fleet; None where the site has no diesels.
    forecast : str
        Which forecast the policy used, `none` for the rules.
    sha256 : tuple[str, str]
        Of site file and series file.
    """
    sums, site = run.sums, case.site
    corrected = sums["diesel_l"] + stored_l(site, run)
    factor = site.fuel_constants.co2_kg_per_l
    baseline_l = None if baseline is None else displaced_fuel_l(run, baseline)
    soc = socs(case, run)
    costs = cost(site, run)
    found: dict[str, Any] = {
        "site": site.site.id,
        "policy": run.policy,
        "forecast": forecast,
        "start": f"{case.start:%Y-%m-%dT%H:%M:%SZ}",
        "end": f"{case.end:%Y-%m-%dT%H:%M:%SZ}",
        "step_s": case.step_s,
        "steps": case.steps,
        **{k: sums[k] for k in KWH},
        "diesel_l": sums["diesel_l"],
        "diesel_l_soc_corrected": corrected,
        "diesel_run_h": sum(run.run_h.values()),
        "diesel_starts": sum(run.starts.values()),
        "low_load_h": run.violations.low_load_h,
        **soc,
        "renewable_fraction": 1.0 - sums["diesel_kwh"] / sums["served_kwh"] if sums["served_kwh"] > 0.0 else None,
        "months": [month_document(site, month) for month in run.months],
        "deferrable_unmet_kwh": run.deferrable_unmet_kwh,
        "commitment_changes": run.commitment_changes,
        "co2_t": sums["diesel_l"] * factor / 1000.0,
        "co2_displaced_t": None if baseline_l is None else (baseline_l - sums["diesel_l"]) * factor / 1000.0,
        "baseline_diesel_l": baseline_l,
        "cost": costs,
        "lcoe_per_kwh": lcoe_per_kwh(case, run, costs["total"]),
        "violations": {k: c.document() for k, c in run.violations.counts.items()},
        "blackout_steps": run.blackouts,
        "pushed_kwh": sums["pushed_kwh"],
        "plans": len(solves.total_s),
        "plan_s": times(solves.total_s),
        "solver": {"gap_max": max(solves.gaps, default=None), "limit_hits": solves.limit_hits},
        "plans_refused": len(solves.refused),
        "fallback_steps": run.fallback_steps,
        "wall_s": run.wall_s,
        "seed": 0,
        "version": version("shima-ems"),
        "site_sha256": sha256[0],
        "series_sha256": sha256[1],
    }
    if run.policy == "perfect-foresight":
        bound = solves.bound_l
        found["bound_l"] = bound
        found["bound_gap"] = max(solves.gaps, default=None) if bound is not None else None  # what the solver proved; the plant may need more than its plan
    return {k: rounded(v) for k, v in found.items()}


def stored_l(site: Site, run: Run) -> float:
    """Return the litres that the change of stored energy is worth: `(E_start - E_end) x discharge x inverter efficiency x best slope`.

    Added up month by month, so that in a run of several parts what is between two of them is no gain and no loss.
    """
    return sum(month_stored_l(site, month) for month in run.months)


def month_stored_l(site: Site, month: Month) -> float:
    """Return `stored_l` of one month [L]."""
    slope = best_slope_l_per_kwh(site.of(Diesel))
    inverters = {i.id: i.efficiency for i in site.of(Inverter)}
    litres = 0.0
    for battery in site.of(Battery):
        if battery.id in month.soc_end:
            kwh = (month.soc_start[battery.id] - month.soc_end[battery.id]) * battery.capacity_kwh
            litres += kwh * battery.discharge_efficiency * inverters[battery.behind] * slope
    return litres


def month_document(site: Site, month: Month) -> dict[str, Any]:
    """Return one month as the summary shows it."""
    capacity = {b.id: b.capacity_kwh for b in site.of(Battery) if b.id in month.soc_end}
    found: dict[str, Any] = {
        "month": month.name,
        "hours": month.hours,
        **month.sums,
        "diesel_l_soc_corrected": month.sums["diesel_l"] + month_stored_l(site, month),
        "diesel_run_h": month.run_h,
        "diesel_starts": month.starts,
        "low_load_h": month.low_load_h,
        "soc_start": mean_soc(month.soc_start, capacity) if capacity else None,
        "soc_end": mean_soc(month.soc_end, capacity) if capacity else None,
        "violations": dict(month.violations),
    }
    return {k: rounded(v) for k, v in found.items()}


def displaced_fuel_l(run: Run, baseline: Run) -> float:
    """Return the litres of the baseline for the load this run served; a shed kWh earns nothing."""
    served = baseline.sums["served_kwh"]
    share = run.sums["served_kwh"] / served if served > 0.0 else 0.0
    return baseline.sums["diesel_l"] * min(1.0, share)


def socs(case: Case, run: Run) -> dict[str, float | None]:
    """Return SoC at both ends and at its lowest, all batteries together; a diesel-only run leaves them as they were."""
    capacity = {b.id: b.capacity_kwh for b in case.site.of(Battery)}
    if not capacity:
        return {"soc_start": None, "soc_end": None, "min_soc": None}
    end = sum(run.soc_end.get(b, case.soc) * c for b, c in capacity.items()) / sum(capacity.values())
    return {"soc_start": case.soc, "soc_end": end, "min_soc": case.soc if run.soc_lowest is None else run.soc_lowest}


def cost(site: Site, run: Run) -> dict[str, float]:
    """Return the running costs in the site's currency; litres of starts are counted as starts, not as fuel."""
    diesels = {d.id: d for d in site.of(Diesel)}
    start_l = sum(n * diesels[d].start_l for d, n in run.starts.items())
    parts = {
        "fuel": (run.sums["diesel_l"] - start_l) * site.costs.diesel_per_l,
        "starts": start_l * site.costs.diesel_per_l,
        "om": sum(h * diesels[d].om_per_h for d, h in run.run_h.items()),
        "wear": run.sums["battery_discharge_kwh"] * site.costs.storage_wear_per_kwh,
        "unserved": run.sums["unserved_kwh"] * site.costs.unserved_per_kwh,
    }
    return {**parts, "total": sum(parts.values())}


def lcoe_per_kwh(case: Case, run: Run, total: float) -> float | None:
    """Return the levelised cost of a served kWh: `(capital recovery x own capex + yearly running cost) / yearly kWh`.

    Capital recovery factor `r / (1 - (1 + r)^-n)`; only what the policy uses counts as capex.
    """
    economics, served = case.site.economics, run.sums["served_kwh"]
    if economics is None or served <= 0.0:
        return None
    rate, years = economics.discount_rate, economics.years
    recovery = rate / (1.0 - (1.0 + rate) ** -years) if rate > 0.0 else 1.0 / years
    used = {a.id for a in run.site.assets}
    capex = sum(c for a, c in economics.capex.items() if a in used) * (1.0 - economics.subsidy_share)
    per_year = YEAR_H / (case.step_s * case.steps / 3600.0)
    return (recovery * capex + total * per_year) / (served * per_year)


def times(seconds: Sequence[float]) -> dict[str, float | None]:
    """Return median, 95 % and longest [s], each the time of a plan that there was."""
    if not seconds:
        return {"p50": None, "p95": None, "max": None}
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return {"p50": at(0.5), "p95": at(0.95), "max": ordered[-1]}


def rounded(content: Any) -> Any:
    """Return a document with every float at a millionth: what is beyond is noise of the sums."""
    if isinstance(content, Mapping):
        return {k: rounded(v) for k, v in content.items()}
    if isinstance(content, float):
        return round(content, 6) + 0.0
    return content
