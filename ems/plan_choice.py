"""Whether a new plan is worth a change: the old one is lived through again from today's state and priced beside it.

Every new forecast moves the optimum a little. Starting and stopping engines for that costs more than it saves,
so the old plan goes on as long as it still holds and the new one is not clearly better. Site and replay share this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ems.config.site import Deferrable, Diesel, Site
from ems.model import NOTHING, Limits
from ems.plan import Forecast, Grid, Plan, PlantStart
from ems.plan_check import PlanCheck
from ems.rules import Rules

GAIN_L = 2.0
GAIN = 0.01
"""A new plan must be better by so many litres, and by this share of the old one's fuel: less is what forecasts err by in an hour."""
NEAR_S = 7200.0
"""A commitment changed inside this time [s] has its price: one start of that engine. What lies further is decided again before it comes."""
VALID = timedelta(seconds=7200.0)
"""A kept plan is believed so long from its last check on, as a new one is."""
OVERLAP = 0.5
"""An old plan that reaches over less than this share of the new one's horizon has seen too little of tomorrow to be kept."""
DEFERRED_L_PER_KWH = 2.0
"""What the old plan gives a deferrable less than the new one [L/kWh]: the price that missing daily energy has in planning."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The plan to follow, and why.

    Attributes
    ----------
    kept : bool
        Whether it is the old one, its validity dated again.
    gain_l, needed_l : float | None
        By how much the new one is cheaper over the common horizon, and how much it would take [L]; None where it was not compared.
    why : str
    """

    plan: Plan
    kept: bool
    why: str
    gain_l: float | None = None
    needed_l: float | None = None


class PlanChoice:
    """Chooses for one site."""

    def __init__(self, site: Site, check: PlanCheck) -> None:
        self._site = site
        self._check = check
        self._rules = Rules(site)
        self._diesels = site.of(Diesel)
        self._deferrables = site.of(Deferrable)

    def between(
        self, old: Plan | None, new: Plan, start: PlantStart, forecast: Forecast, limits: Mapping[str, Limits] = NOTHING, at: datetime | None = None
    ) -> Choice:
        """Return the plan to follow from now on.

        Parameters
        ----------
        old : Plan | None
            The plan that is followed; None where there is none, or where an event has made it worthless.
        new : Plan
            One that has passed the check.
        start, forecast, limits
            What the new one was made from.
        at : datetime | None
            Now; by default when the new one was made.
        """
        now = new.made_at if at is None else at
        if old is None:
            return Choice(new, False, "there is no plan to keep")
        cut = common(old.grid, forecast)
        if cut is None:
            return Choice(new, False, "the old plan does not reach far enough")
        ours = self._rules.follow(old, start, cut, new.made_at, limits)
        faults = self._check.broken(ours, start, cut, limits)
        if faults:
            return Choice(new, False, f"the old plan does not hold any more: {faults[0]}")
        theirs = self._rules.follow(new, start, cut, new.made_at, limits)
        before, after = self._check.price(ours, start), self._check.price(theirs, start)
        gain = before.litres + self._missed_l(ours, theirs) - after.litres - self._changes_l(ours, theirs, now)
        needed = max(GAIN_L, GAIN * before.fuel_l)
        if gain >= needed:
            return Choice(new, False, f"it saves {gain:.1f} L", gain, needed)
        kept = replace(old, valid_until=min(now + VALID, old.grid.end), error_up_kw=new.error_up_kw)
        return Choice(kept, True, f"a new plan would save {gain:.1f} L, a change takes {needed:.1f} L", gain, needed)

    def _changes_l(self, old: Plan, new: Plan, now: datetime) -> float:
        """Return the price of the commitments that are other than before within `NEAR_S` [L]: each stretch of one engine counts once."""
        litres, until = 0.0, now + timedelta(seconds=NEAR_S)
        near = [begin < until for begin in new.grid.starts()]
        for d in self._diesels:
            other = [a is not b for a, b, soon in zip(old.on[d.id], new.on[d.id], near, strict=True) if soon]
            litres += d.start_l * sum(o and not (k > 0 and other[k - 1]) for k, o in enumerate(other))
        return litres

    def _missed_l(self, old: Plan, new: Plan) -> float:
        """Return the price of what the old plan gives deferrables less than the new one [L]; to give them more is no gain."""
        missed = 0.0
        for x in self._deferrables:
            kwh = sum((b - a) * s / 3600.0 for a, b, s in zip(old.power_kw[x.id], new.power_kw[x.id], old.grid.step_s, strict=True))
            missed += max(0.0, kwh)
        return DEFERRED_L_PER_KWH * missed


def common(old: Grid, forecast: Forecast) -> Forecast | None:
    """Return the forecast over the steps that an old plan covers too; None where it is not most of them or not from the first on."""
    grid, n, end = forecast.grid, 0, forecast.grid.start
    if old.start > grid.start:
        return None
    for step_s in grid.step_s:
        end += timedelta(seconds=step_s)
        if end > old.end:
            break
        n += 1
    if sum(grid.step_s[:n]) < OVERLAP * sum(grid.step_s):
        return None
    return Forecast(
        grid=Grid(grid.start, grid.step_s[:n]),
        load_kw=forecast.load_kw[:n],
        available_kw={s: v[:n] for s, v in forecast.available_kw.items()},
        inflow_m3s={h: v[:n] for h, v in forecast.inflow_m3s.items()},
        source=forecast.source,
        load_peak_kw=forecast.load_peak_kw[:n],
        bands=forecast.bands,
    )
