"""The same horizon in linopy and in PyPSA, both on HiGHS: what an engineer could pick instead.

Needs the extra `bench` (`pip install shima-ems[bench]`). What the others have: commitment, minimum loading, no-load and
slope litres, starts, minimum up and down times (in steps, since neither counts seconds), a battery, PV that may be
curtailed. linopy also gets reserve for a share of the load and for the loss of any diesel, written out here; PyPSA has none.
"""

from __future__ import annotations

import importlib
import logging
import statistics
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from ems.config.load import load_site
from ems.config.site import Battery, Diesel, Inverter, Site
from ems.plan import Forecast, Grid
from ems.series import read_series
from optimizer.frame import Question
from optimizer.planner import solve_question, step_lengths
from optimizer.problem import PlanProblem
from tools.bench_plan import EFFORT, SERIES, SITES, begin, timed
from tools.figures import table

SAME_GAP = 0.01
"""Of all three ways: what a rolling plan leaves is no measure here."""
OPTIONS = {"mip_rel_gap": SAME_GAP, "threads": 1, "random_seed": 1, "output_flag": False}
PRICE_OFF_L_PER_KWH = 50.0
Array = npt.NDArray[np.float64]


def steps_of(seconds: float, step_s: tuple[float, ...]) -> int:
    """Return a time in steps of the first length: both count steps, whatever their length."""
    return max(1, round(seconds / step_s[0]))


def by_linopy(site: Site, forecast: Forecast) -> tuple[float, float, float]:
    """Return build time, solve time [CPU s] and litres."""
    linopy, pd = importlib.import_module("linopy"), importlib.import_module("pandas")

    def build() -> Any:
        model = linopy.Model()
        time = pd.RangeIndex(forecast.grid.n_steps, name="t")
        hours = pd.Series(np.array(forecast.grid.step_s) / 3600.0, time)
        load = pd.Series(forecast.load_kw, time)
        sun = pd.Series(np.sum(list(forecast.available_kw.values()), axis=0), time)
        units = pd.Index([d.id for d in site.of(Diesel)], name="d")
        rated = pd.Series([d.rated_kw for d in site.of(Diesel)], units)
        least = pd.Series([d.min_kw for d in site.of(Diesel)], units)
        on = model.add_variables(binary=True, coords=[time, units], name="on")
        start = model.add_variables(0, 1, coords=[time, units], name="start")
        power = model.add_variables(0, coords=[time, units], name="power")
        pv = model.add_variables(0, sun, coords=[time], name="pv")
        off = model.add_variables(0, load, coords=[time], name="unserved")
        battery, inverter = site.of(Battery)[0], site.of(Inverter)[0]
        charge = model.add_variables(0, battery.charge_kw, coords=[time], name="charge")
        discharge = model.add_variables(0, battery.discharge_kw, coords=[time], name="discharge")
        stored = model.add_variables(battery.soc_min * battery.capacity_kwh, battery.soc_max * battery.capacity_kwh, coords=[time], name="stored")
        model.add_constraints(power - on * rated <= 0)
        model.add_constraints(power - on * least >= 0)
        model.add_constraints(start - on + on.shift(t=1) >= 0)
        up = steps_of(site.of(Diesel)[0].min_up_s, forecast.grid.step_s)
        down = steps_of(site.of(Diesel)[0].min_down_s, forecast.grid.step_s)
        model.add_constraints(start.rolling(t=up).sum() - on <= 0)
        model.add_constraints(start.rolling(t=down).sum() + on.shift(t=down) <= 1)
        model.add_constraints(power.sum("d") + pv + discharge - charge + off == load + inverter.no_load_kw)
        into, out = inverter.efficiency * battery.charge_efficiency, inverter.efficiency * battery.discharge_efficiency
        model.add_constraints(stored - stored.shift(t=1) - charge * (hours * into) + discharge * (hours / out) == 0, mask=pd.Series(time > 0, time))
        first = stored.isel(t=0) - charge.isel(t=0) * (hours.iloc[0] * into) + discharge.isel(t=0) * (hours.iloc[0] / out)
        model.add_constraints(first == 0.5 * battery.capacity_kwh)
        room = (on * rated).sum("d") - power.sum("d") - discharge + charge
        model.add_constraints(room >= site.reserve.load_fraction * load - battery.discharge_kw)
        for unit in units:  # the others' room must cover its power: what it gives and what it leaves are its rating together
            model.add_constraints(room - (on * rated).sel(d=unit) >= -battery.discharge_kw)
        no_load = pd.Series([d.fuel.no_load_l_per_h for d in site.of(Diesel)], units)
        slope = pd.Series([d.fuel.slope_l_per_kwh for d in site.of(Diesel)], units)
        each = pd.Series([d.start_l for d in site.of(Diesel)], units)
        litres = (on * no_load * hours).sum() + (power * slope * hours).sum() + (start * each).sum()
        model.add_objective(litres + (off * hours).sum() * PRICE_OFF_L_PER_KWH - stored.isel(t=-1) * (float(slope.min()) * out))
        return model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # linopy announces its next semantics at every operation
        build_s, model = timed(build)
    solve_s, _ = timed(lambda: model.solve(solver_name="highs", io_api="direct", log_to_console=False, **OPTIONS))
    return build_s, solve_s, float(model.objective.value)


def by_pypsa(site: Site, forecast: Forecast) -> tuple[float, float, float]:
    """Return build time, time of `optimize` (which writes the model by linopy and solves it) [CPU s] and litres."""
    pypsa, pd = importlib.import_module("pypsa"), importlib.import_module("pandas")

    def build() -> Any:
        network = pypsa.Network()
        network.set_snapshots(pd.RangeIndex(forecast.grid.n_steps))
        for column in ("objective", "stores", "generators"):
            network.snapshot_weightings[column] = np.array(forecast.grid.step_s) / 3600.0
        network.add("Bus", "bus")
        network.add("Load", "town", bus="bus", p_set=np.array(forecast.load_kw) + site.of(Inverter)[0].no_load_kw)
        for name, values in forecast.available_kw.items():
            network.add("Generator", name, bus="bus", p_nom=max(values) or 1.0, p_max_pu=np.array(values) / (max(values) or 1.0))
        network.add("Generator", "unserved", bus="bus", p_nom=max(forecast.load_kw), marginal_cost=PRICE_OFF_L_PER_KWH)
        for d in site.of(Diesel):
            network.add(
                "Generator",
                d.id,
                bus="bus",
                p_nom=d.rated_kw,
                committable=True,
                p_min_pu=d.min_loading,
                marginal_cost=d.fuel.slope_l_per_kwh,
                stand_by_cost=d.fuel.no_load_l_per_h,
                start_up_cost=d.start_l,
                min_up_time=steps_of(d.min_up_s, forecast.grid.step_s),
                min_down_time=steps_of(d.min_down_s, forecast.grid.step_s),
            )
        battery, inverter = site.of(Battery)[0], site.of(Inverter)[0]
        network.add(
            "StorageUnit",
            battery.id,
            bus="bus",
            p_nom=inverter.rated_kw,
            max_hours=battery.capacity_kwh * (battery.soc_max - battery.soc_min) / inverter.rated_kw,
            efficiency_store=inverter.efficiency * battery.charge_efficiency,
            efficiency_dispatch=inverter.efficiency * battery.discharge_efficiency,
            state_of_charge_initial=(0.5 - battery.soc_min) * battery.capacity_kwh,
        )
        return network

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build_s, network = timed(build)
        solve_s, _ = timed(lambda: network.optimize(solver_name="highs", solver_options=OPTIONS, log_to_console=False))
    return build_s, solve_s, float(network.objective)


def bench_peers() -> None:
    """One horizon of `ouessant`, three times each; the first time of each also loads and compiles, so it is left out."""
    logging.disable(logging.WARNING)
    site = load_site(SITES / "ouessant.yaml").site
    steps = step_lengths(site.planner.grid)
    grid = Grid(datetime(2016, 5, 1, tzinfo=UTC), steps)
    forecast = read_series(SERIES / "ouessant_2016_1h.csv", site).forecast(grid)
    question = Question(grid.start, grid, begin(site), forecast, {})

    def ours() -> tuple[float, float, float]:
        build_s, _ = timed(lambda: problem.fill(question))
        solve_s, solved = timed(lambda: solve_question(problem, question, replace(EFFORT, gap=SAME_GAP)))
        return build_s, solve_s, solved.objective_l

    problem = PlanProblem(site, steps)
    rows: list[list[object]] = []
    for name, way in (("ours, written once", ours), ("linopy + HiGHS", lambda: by_linopy(site, forecast)), ("PyPSA + HiGHS", lambda: by_pypsa(site, forecast))):
        way()
        found = [way() for _ in range(3)]
        build_s, solve_s = (statistics.median(f[k] for f in found) for k in (0, 1))
        rows.append([name, build_s, solve_s, build_s + solve_s, found[-1][2]])
    for row in rows:
        row.append(row[3] / rows[0][3])  # type: ignore[operator]  # both are floats
    head = ("way", "build or fill [CPU s]", "solve [CPU s]", "both", "objective [L]", "both / ours")
    table("One plan of ouessant, 56 steps, gap 1 %, one thread", "python -m tools.bench peers", head, rows)
