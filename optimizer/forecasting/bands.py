"""How wrong the forecast of the net load is: quantiles by lead, learned on line from two months of trials.

Net load is load less sun less river, judged as one: errors of its parts are not added as if they came together.
By day clouds make other errors than the night, so both are learned apart; but no sun can be lost that was not expected,
so a dawn and a dark day are hardly worse than a night. Until there are two weeks of trials the site's own reserve fractions
stand in, both at once, growing with the lead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ems.bands import ErrorBands
from ems.config.site import Hydro, Site, Solar
from ems.physics import hydro_kw
from ems.reserve import hold_s
from optimizer.forecasting.fading import ISSUE, LEADS, RING, take, trials
from optimizer.forecasting.history import DAY, SLOT_S, Arrays, Slots, Values
from optimizer.forecasting.sky import place, sines

TRIALS = 60 * 24
"""Hourly trials that quantiles are taken from: 60 days."""
ENOUGH = 14 * 24
"""Trials from which on they are believed."""
FEW = 100
"""Under so many trials of the day or of the night, all trials are taken together."""
SEEN = 0.6
"""A day of which less was seen says nothing of the error of a day's energy."""
SHARES = (0.02, 0.10, 0.90, 0.98)
LIT = 0.05
"""The day begins at this sine of the sun's height."""
CLEAR = 1.25
"""No sky gives more than this many times the sine of the sun's height of the rating: modules are tilted towards a low sun."""
MOST = 0.5
"""No error above this share of peak load plus rated sun and river is believed."""
DAY_LOAD, DAY_SUN = 0.10, 0.40
"""Cautious error of a day's energy, before any was learned: of the load's, and of the sun's."""
LONG = 3.0
"""The cautious error grows with the root of the lead, at most so many times."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How wrong one forecast may be: its bands, and by slot from now on, all >= 0, shape (n,).

    Attributes
    ----------
    bands : ErrorBands
    floor_up_kw, floor_down_kw : NDArray
        P90, scaled to the energy of a bad day [kW].
    near_up_kw, near_down_kw : NDArray | None
        P98 of what may come within the time that new capacity takes [kW]; None until it is learned.
    """

    bands: ErrorBands
    floor_up_kw: Values
    floor_down_kw: Values
    near_up_kw: Values | None = None
    near_down_kw: Values | None = None


class Bands:
    """The errors of one site's forecasts of net load."""

    def __init__(self, site: Site) -> None:
        self._place = place(site)
        self._rule = site.reserve
        self._solars = [s.id for s in site.of(Solar)]
        self._rivers = [(h.id, *curve(h)) for h in site.of(Hydro)]
        self._sun_kw = sum(s.rated_kw for s in site.of(Solar))
        self._most_kw = MOST * (site.peak_kw + self._sun_kw + sum(h.rated_kw for h in site.of(Hydro)))
        self._near = max(1.0, hold_s(site) / SLOT_S)  # slots
        self._errors = np.full((2, len(LEADS), TRIALS), np.nan)  # night and day
        self._counts = np.zeros((2, len(LEADS)))
        self._days = np.full(TRIALS, np.nan)
        self._day_count = np.zeros(1)
        self._tried = np.full((RING, len(LEADS)), np.nan)
        self._tried_day = np.full((RING // ISSUE, DAY), np.nan)
        self._stamp = np.full(RING, -1.0)
        self._nets = np.full((2, RING), -1.0)  # net load, and its slot
        self._quantiles: Values | None = None

    def net_kw(self, values: dict[str, Values]) -> Values:
        """Return load less sun less what the river could give [kW]."""
        net = values["load"].copy()
        for solar in self._solars:
            net -= values[solar]
        for river, flows, powers in self._rivers:
            net -= np.interp(values[river], flows, powers)
        return net

    def tried(self, now: int, net_kw: Values, day_kw: Values) -> None:
        """Remember what was foretold at `now`: at each lead, and over the next day, shape (DAY,)."""
        self._tried[now % RING] = net_kw
        self._tried_day[now % RING // ISSUE] = day_kw
        self._stamp[now % RING] = now

    def learn(self, slot: int, net_kw: float) -> None:
        """Compare a slot's net load with the trials that foretold it."""
        self._nets[:, slot % RING] = net_kw, slot
        issued, known = trials(slot, self._stamp)
        if not len(known):
            return
        self._quantiles = None
        light = int(sines(np.array([slot]), *self._place)[0] > LIT)
        errors = net_kw - self._tried[issued % RING, known]
        known, errors = known[np.isfinite(errors)], errors[np.isfinite(errors)]
        at = self._counts[light, known].astype(np.int64) % TRIALS
        self._errors[light, known, at] = errors
        self._counts[light, known] += 1.0
        self._learn_day(slot)

    def _learn_day(self, slot: int) -> None:
        """Compare the energy of the day that ends with this slot: on the mean of what was seen, where that is most of it.

        What is not seen is mostly a noon at which the sun is held back: its share of the forecast must not count as an error.
        """
        issued = slot - DAY + 1
        if self._stamp[issued % RING] != issued:
            return
        slots = np.arange(issued, slot + 1)
        values, stamps = self._nets[:, slots % RING]
        foretold = self._tried_day[issued % RING // ISSUE]
        known = (stamps == slots) & np.isfinite(foretold)
        if known.mean() < SEEN:
            return
        self._days[int(self._day_count[0]) % TRIALS] = (values[known] - foretold[known]).mean() * 24.0
        self._day_count[0] += 1.0

    def of(self, now: int, values: dict[str, Values]) -> Errors:
        """Return the errors seen from `now` of every slot from `now` on.

        Parameters
        ----------
        values : dict[str, NDArray]
            The forecast by quantity, from `now` on, shape (n,).
        """
        n = len(values["load"])
        leads = np.arange(1, n + 1)
        if self._counts[:, 0].sum() < ENOUGH or self._day_count[0] < ENOUGH:
            return self._cautious(values, leads)
        heights = sines(now + np.arange(n), *self._place)
        light, sun = heights > LIT, self._sun(values)
        dimmed = np.maximum(0.0, self._sun_kw * np.minimum(1.0, CLEAR * heights) - sun)  # what a clear sky would add
        near = np.full(n, self._near)
        near_down, near_up = self._at(0, near, light, dimmed), self._at(3, near, light, sun)
        low, high = np.quantile(self._days[np.isfinite(self._days)], (0.10, 0.90)).tolist()
        up, down = self._at(2, leads, light, sun), self._at(1, leads, light, dimmed)
        ends = np.minimum(LEADS, n) - 1
        p98, p02 = (self._at(k, LEADS, light[ends], left[ends]) for k, left in ((3, sun), (0, dimmed)))
        bands = ErrorBands(ends_s(), tuple(p98.tolist()), tuple(p02.tolist()), low, high, True)
        return Errors(bands, scaled(up, high), scaled(down, -low), near_up, near_down)

    def _at(self, share: int, leads: Slots | Values, light: npt.NDArray[np.bool_], left_kw: Values) -> Values:
        """Return one of the `SHARES` as an error away from the forecast [kW]; by day no more than at night and `left_kw`, by which the sun can still change."""
        night, day = (np.interp(leads, LEADS, q if share > 1 else -q) for q in self._learned()[share])
        found: Values = np.where(light, np.minimum(day, np.maximum(night, 0.0) + np.maximum(left_kw, 0.0)), night)
        return np.asarray(np.clip(found, 0.0, self._most_kw))

    def _sun(self, values: dict[str, Values]) -> Values:
        total = np.zeros(len(values["load"]))
        for solar in self._solars:
            total += values[solar]
        return total

    def _learned(self) -> Values:
        """Return the quantiles, shape (4, 2, n_leads): worked out again only after something was learned."""
        if self._quantiles is None:
            both = quantiles(np.concatenate([self._errors[0], self._errors[1]], axis=1))
            self._quantiles = np.where((self._counts >= FEW)[None], quantiles(self._errors), both[:, None, :])
        return self._quantiles

    def _cautious(self, values: dict[str, Values], leads: Slots) -> Errors:
        sun = self._sun(values)
        near = self._rule.load_fraction * values["load"] + self._rule.solar_fraction * sun
        wide = near * np.minimum(np.sqrt(leads), LONG)
        day_kwh = float((DAY_LOAD * values["load"] + DAY_SUN * sun)[:DAY].mean()) * 24.0
        at = self._bounded(wide[np.minimum(LEADS, len(leads)) - 1])
        bands = ErrorBands(ends_s(), at, at, -day_kwh, day_kwh, False)
        return Errors(bands, scaled(wide, day_kwh), scaled(wide, day_kwh))

    def _bounded(self, values: Values) -> tuple[float, ...]:
        return tuple(np.clip(values, 0.0, self._most_kw).tolist())

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""
        return {
            "errors": self._errors, "counts": self._counts, "days": self._days, "day_count": self._day_count,
            "tried": self._tried, "tried_day": self._tried_day, "stamp": self._stamp, "nets": self._nets,
        }  # fmt: skip

    def resume(self, state: Arrays) -> None:
        """Take over what another one has learned."""
        take(self.state(), state)
        self._quantiles = None


def quantiles(values: Values) -> Values:
    """Return the quantiles `SHARES` of what is known along the last axis, 0 where nothing is; shape (4, ...)."""
    ordered = np.sort(values, axis=-1)  # NaN comes last
    known = np.isfinite(values).sum(axis=-1)
    place = np.array(SHARES).reshape(-1, *([1] * known.ndim)) * np.maximum(known - 1, 0)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(known - 1, 0))
    at = [np.take_along_axis(ordered[None], k[..., None], axis=-1)[..., 0] for k in (low, high)]
    return np.where(known > 0, at[0] + (place - low) * (at[1] - at[0]), 0.0)


def curve(hydro: Hydro) -> tuple[Values, Values]:
    """Return inflows [m3/s] and the power that each could give [kW]: a table, since it is looked up for every slot."""
    flows = np.linspace(0.0, 1.5 * hydro.design_flow_m3s + hydro.ecological_flow_m3s, 64)
    return flows, np.array([hydro_kw(hydro, max(0.0, flow - hydro.ecological_flow_m3s)) for flow in flows.tolist()])


def ends_s() -> tuple[float, ...]:
    """Return the leads [s]: from now to the end of what was foretold."""
    return tuple(float(lead * SLOT_S) for lead in LEADS)


def scaled(power_kw: Values, energy_kwh: float) -> Values:
    """Return a path scaled to an energy over its first day [kWh]: errors of single hours do not all come together."""
    total = float(power_kw[:DAY].sum()) * SLOT_S / 3600.0
    return power_kw * min(1.0, max(0.0, energy_kwh) / total) if total > 0.0 else power_kw
