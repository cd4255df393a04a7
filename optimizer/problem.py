"""The planning problem of one site: built once for a grid, then filled and solved again and again.

`formulation.md` gives the mathematics with the same names.
"""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np

from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Site, Solar, Tank
from ems.errors import BadInput
from optimizer.assets.deferrable import DeferrableBlock
from optimizer.assets.diesel import DieselBlock
from optimizer.assets.hydro import HydroBlock
from optimizer.assets.inverter import InverterBlock
from optimizer.assets.load import LoadBlock
from optimizer.assets.solar import SolarBlock
from optimizer.assets.tank import TankBlock
from optimizer.frame import MAX_BOUND_DIESELS, MAX_DIESELS, MW, Array, Bounds, Frame, Purpose, Question, each, other_formers
from optimizer.prices import Prices
from optimizer.ranking import useful_sets
from optimizer.reserve import ReserveBlock
from optimizer.security import KNOWN_S, before_storm, bright_kw, paths_of, sun_kw
from optimizer.skies import skies_of

TINY_WEAR = 1e-5
"""Wear in the bound [L/kWh]: enough to keep charge and discharge apart, too little to move the bound."""


def prices_of(site: Site, purpose: Purpose) -> Prices:
    """Return the prices under the site's objective; the bound counts litres alone."""
    if purpose != "plan":
        return Prices(wear_l_per_kwh=TINY_WEAR, curtailed_l_per_kwh=0.0)
    if site.planner.objective == "diesel" or site.costs.diesel_per_l <= 0:
        return Prices()
    usual = Prices()
    storage = site.costs.storage_wear_per_kwh / site.costs.diesel_per_l
    wear = max(usual.least_wear_l_per_kwh, storage / 2.0)
    return replace(usual, wear_l_per_kwh=wear, storage_l_per_kwh=storage)


class PlanProblem:
    """One cvxpy problem with its parameters.

    Parameters
    ----------
    site : Site
    step_s : tuple[float, ...]
        Length of each step [s]; constant by index.
    purpose : Purpose
        A rolling plan, or SoC-corrected litres as the replay summary counts them.
    relaxed : bool
        Let what is on or off be anything between: a linear problem, whose answer has duals.
    """

    def __init__(self, site: Site, step_s: tuple[float, ...], purpose: Purpose = "plan", *, relaxed: bool = False) -> None:
        most = MAX_DIESELS if purpose == "plan" else MAX_BOUND_DIESELS
        if len(site.of(Diesel)) > most:
            raise BadInput(f"{len(site.of(Diesel))} diesels are too many to plan with", "assets", f"at most {most}")
        self.site = site
        self.frame = frame = Frame(site, step_s, prices_of(site, purpose), purpose, relaxed)
        self.load = LoadBlock(frame)
        self.solars = [SolarBlock(frame, a) for a in site.of(Solar)]
        self.hydros = [HydroBlock(frame, a) for a in site.of(Hydro)]
        self.diesels = [DieselBlock(frame, a) for a in site.of(Diesel)]
        self.inverters = [InverterBlock(frame, a, site.battery_behind(a.id)) for a in site.of(Inverter)]
        self.deferrables = [DeferrableBlock(frame, a) for a in site.of(Deferrable)]
        self.tanks = [TankBlock(frame, a) for a in site.of(Tank) if a.feeds]
        self.skies: Array = np.ones((1, frame.n))
        self._balance()
        self.reserve = ReserveBlock(frame, self.load, self.diesels, self.deferrables)
        self.cp = cp.Problem(cp.Minimize(cp.sum(cp.hstack(frame.cost))), frame.constraints)

    def _balance(self) -> None:
        """In whichever set holds: what goes in is what is drawn; low load is no more than what must run gives."""
        frame = self.frame
        frame.constraints.append(sum(frame.supply) == sum(frame.draw))
        must_run = [d.total_power for d in self.diesels] + [frame.total(p) for p in (*(h.power for h in self.hydros), *(s.must_run for s in self.solars))]
        frame.constraints.append(frame.total(self.load.surplus) <= sum(must_run, np.zeros(frame.n)))

    def fill(self, question: Question) -> None:
        """Set every parameter from one question."""
        frame = self.frame
        # Hydro holds a bus, but can take up nobody's load: beside it alone a former is still the sole one (ems.reserve).
        firm: dict[str, Array] = {i.inverter.id: i.forms(question) for i in self.inverters}
        count = np.asarray(sum(firm.values(), np.zeros(frame.n)))
        held = count + sum((h.forms(question) for h in self.hydros), np.zeros(frame.n))
        frame.formed.value = each(np.minimum(held, 1.0), frame.formed.shape[0])
        frame.fill(question)
        self.load.fill(question)
        for solar in self.solars:
            solar.fill(question)
        for hydro in self.hydros:
            hydro.fill(question)
        for diesel in self.diesels:
            diesel.fill(question, count)
        whole_kwh = sum(i.present_kwh(question) for i in self.inverters)
        for inverter in self.inverters:
            inverter.fill(question, other_formers(inverter.inverter.id, firm, frame.n), whole_kwh)
        for deferrable in self.deferrables:
            deferrable.fill(question)
        for tank in self.tanks:
            tank.fill(question)
        self._fill_paths(question)
        self.skies = skies_of(question.forecast)
        serving = [i.in_service(question) for i in self.inverters if i.store is not None]
        self.reserve.fill(question, np.any(serving, axis=0).astype(float) if serving else np.zeros(frame.n))

        if frame.purpose in ("plan", "window"):  # of a bound no set may be left out
            frame.useful = useful_sets(self.site, frame.sets, question, kept=question.keep)
        frame.narrow({})

    def narrow(self, question: Question, bounds: Bounds) -> None:
        """After `fill`: leave open only what bounds leave open that follow the plan before."""
        self.frame.useful = useful_sets(self.site, self.frame.sets, question, kept=True)
        self.frame.narrow(bounds)

    def _fill_paths(self, question: Question) -> None:
        """Say to every battery what a bad day, or a storm, asks of it."""
        if self.frame.purpose != "plan":
            return
        river = sum((h.natural_kw(question) * h.runs(question) for h in self.hydros), np.zeros(self.frame.n))
        fixed = sum((h.natural_kw(question) * h.runs(question) for h in self.hydros if h.hydro.mode == "fixed"), np.zeros(self.frame.n))
        able = sum((d.ceiling / MW * d.on_max.value for d in self.diesels), np.zeros(self.frame.n))
        load = np.asarray(question.forecast.load_kw) + self.site.station_kw
        net = load - sun_kw(question.forecast) - river
        paths = paths_of(question, net, able, fixed - load)
        full, lit = before_storm(question), (bright_kw(question.forecast) > 0.0) * (self.frame.elapsed_s >= KNOWN_S).astype(float)
        lacking = float(np.sum((np.maximum(0.0, net) * self.frame.dt_h)[self.frame.last_day]))
        for inverter in self.inverters:
            if inverter.store is not None:
                inverter.store.follow(paths, full, net, lit)
                lacking -= inverter.store.kept_kwh
        for hydro in self.hydros:
            lacking -= hydro.follow(net, max(0.0, lacking))

    def separate(self) -> bool:
        """After a solve: forbid charging and discharging at once where it happened; return whether it did."""
        return any([i.separate() for i in self.inverters])

    @property
    def batteries(self) -> list[Battery]:
        """Batteries of the problem."""
        return [i.store.battery for i in self.inverters if i.store is not None]
