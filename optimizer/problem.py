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
from optimizer.frame import MAX_DIESELS, Array, Frame, Prices, Purpose, Question, each, other_formers

TINY_WEAR = 1e-5
"""Wear in the bound [L/kWh]: enough to keep charge and discharge apart, too little to move the bound."""


def prices_of(site: Site, purpose: Purpose) -> Prices:
    """Return the prices under the site's objective; the bound counts litres alone."""
    if purpose != "plan":
        return Prices(wear_l_per_kwh=TINY_WEAR, curtailed_l_per_kwh=0.0, order_l_per_h=0.0)
    if site.planner.objective == "diesel" or site.costs.diesel_per_l <= 0:
        return Prices()
    per_l = site.costs.diesel_per_l
    usual = Prices()
    wear = max(usual.wear_l_per_kwh, site.costs.storage_wear_per_kwh / per_l / 2.0)
    return replace(usual, wear_l_per_kwh=wear, om_l_per_currency=1.0 / per_l)


class PlanProblem:
    """One cvxpy problem with its parameters.

    Parameters
    ----------
    site : Site
    step_s : tuple[float, ...]
        Length of each step [s]; constant by index.
    purpose : Purpose
        A rolling plan, or SoC-corrected litres as the replay summary counts them.
    """

    def __init__(self, site: Site, step_s: tuple[float, ...], purpose: Purpose = "plan") -> None:
        if len(site.of(Diesel)) > MAX_DIESELS:
            raise BadInput(f"{len(site.of(Diesel))} diesels are too many to plan with", "assets", f"at most {MAX_DIESELS}")
        self.site = site
        self.frame = frame = Frame(site, step_s, prices_of(site, purpose), purpose)
        self.load = LoadBlock(frame)
        self.solars = [SolarBlock(frame, a) for a in site.of(Solar)]
        self.hydros = [HydroBlock(frame, a) for a in site.of(Hydro)]
        self.diesels = [DieselBlock(frame, a, k) for k, a in enumerate(site.of(Diesel))]
        self.inverters = [InverterBlock(frame, a, site.battery_behind(a.id)) for a in site.of(Inverter)]
        self.deferrables = [DeferrableBlock(frame, a) for a in site.of(Deferrable)]
        self.tanks = [TankBlock(frame, a) for a in site.of(Tank) if a.feeds]
        self.shortfall = cp.Variable((frame.n_sets, frame.n), nonneg=True, name="shortfall")
        self._balance()
        self._reserve()
        self.cp = cp.Problem(cp.Minimize(cp.sum(cp.hstack(frame.cost))), frame.constraints)

    def _balance(self) -> None:
        """In whichever set holds: what goes in is what is drawn."""
        frame = self.frame
        frame.constraints.append(sum(frame.supply) == sum(frame.draw))

    def _reserve(self) -> None:
        """Upward reserve in every set: shares of load and sun, and the loss of any one source."""
        frame, rule = self.frame, self.site.reserve
        zero = np.zeros((frame.n_sets, frame.n))
        room = sum(frame.headroom.values(), zero) + self.shortfall
        drawn = sum((d.power_by_set for d in self.deferrables), zero)
        beyond = cp.multiply(self.load.beyond, frame.live_w) if self._peaks else zero
        for_load = rule.load_fraction * (cp.multiply(self.load.peak, frame.live_w) + drawn)
        for_sun = rule.solar_fraction * sum(frame.solar, zero)
        frame.constraints.append(room >= for_load + beyond)
        lost_whole = rule.largest_unit and len(frame.solar) == 1  # then the loss of all of it is asked for below
        if frame.solar and rule.solar_fraction and not lost_whole:
            frame.constraints.append(room >= for_sun)
        for trip in frame.trips if rule.largest_unit else ():
            others = room - frame.headroom[trip.unit] if trip.unit in frame.headroom else room
            excused = 0.0 if trip.excused is None else trip.excused
            for added in (for_load, for_sun) if rule.combine == "sum" else (zero,):
                frame.constraints.append(others + excused >= trip.power + added)
        frame.energy_price(frame.total(self.shortfall), frame.prices.shortfall_l_per_kwh)

    @property
    def _peaks(self) -> bool:
        """Whether some step is long enough for peaks to matter."""
        return max(self.frame.step_s) > 900.0

    def fill(self, question: Question) -> None:
        """Set every parameter from one question."""
        frame = self.frame
        # Hydro holds a bus, but can take up nobody's load: beside it alone a former is still the sole one (ems.reserve).
        firm: dict[str, Array] = {i.inverter.id: i.forms(question) for i in self.inverters}
        count = np.asarray(sum(firm.values(), np.zeros(frame.n)))
        held = count + sum((h.forms(question) for h in self.hydros), np.zeros(frame.n))
        frame.held.value = each(np.minimum(held, 1.0), frame.held.shape[0])
        self.load.fill(question)
        for solar in self.solars:
            solar.fill(question)
        for hydro in self.hydros:
            hydro.fill(question, other_formers(hydro.hydro.id, firm, frame.n))
        for diesel in self.diesels:
            diesel.fill(question, count)
        for inverter in self.inverters:
            inverter.fill(question, other_formers(inverter.inverter.id, firm, frame.n))
        for deferrable in self.deferrables:
            deferrable.fill(question)
        for tank in self.tanks:
            tank.fill(question)

    def separate(self) -> bool:
        """After a solve: forbid charging and discharging at once where it happened; return whether it did."""
        return any([i.separate() for i in self.inverters])

    @property
    def batteries(self) -> list[Battery]:
        """Batteries of the problem."""
        return [i.store.battery for i in self.inverters if i.store is not None]
