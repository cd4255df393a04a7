"""Forecasts of load, sun and river: what the planner plans with.

`perfect` knows the truth (replay only); `persistence` repeats yesterday; `seasonal` has learned the day; `clearsky`
knows the sky without clouds and how much of it comes through; `recession` lets the river fall; `file` is given from
outside; `blend` weighs all of them by their own errors of late. Everything is tried each hour against what came, so
weights and error bands are always those of this site. Each quantity says in `Forecast.source` which method gave it;
`fallback:...` where the wanted one could not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from ems.bands import Series
from ems.config.site import Hydro, Site, Solar
from ems.errors import BadInput
from ems.plan import Forecast, Given, Grid, Observation, PlantStart
from optimizer.forecasting.bands import Bands
from optimizer.forecasting.fading import ISSUE, LEADS
from optimizer.forecasting.given import stale
from optimizer.forecasting.history import DAY, SLOT_S, Arrays, History, Slots, Values, shares
from optimizer.forecasting.keep import load, save
from optimizer.forecasting.nowcast import begun
from optimizer.forecasting.perfect import Truth, perfect
from optimizer.forecasting.quantity import river, sun, town
from optimizer.forecasting.sky import ClearSky, located, place, sines

Begun = Callable[[dict[str, Values]], dict[str, Values]]
METHODS = ("perfect", "persistence", "seasonal", "clearsky", "blend", "file")
KEEP_S = 3600.0
"""What was learned is written down this often [s]."""
SURPRISE = 3.0
"""A bright day is brighter than expected by at most so many times what is exceeded with 10 % probability: what comes after dark days errs twice as far."""
CLOCK_JUMP = 2 * DAY
"""An observation this far back is a clock that was set, not a late message [slots]: else one that was ahead would stop the learning until its time comes."""


class Forecasting:
    """Learns from observations and forecasts by one method.

    Parameters
    ----------
    site : Site
    method : str
        One of `METHODS`.
    truth : Callable[[Grid], Forecast] | None
        What will happen; only for `perfect`.
    kept : Path | None
        File in which what was learned outlives a restart.
    """

    def __init__(self, site: Site, method: str, truth: Truth | None = None, kept: Path | None = None) -> None:
        if method not in METHODS:
            raise BadInput(f"unknown forecast {method!r}", "forecast", " or ".join(METHODS))
        if method == "clearsky" and not located(site):
            raise BadInput("the forecast 'clearsky' needs to know where the site is", "site", "latitude and longitude")
        self._site = site
        self._method = method
        self._truth = truth
        self._kept, self._kept_at = kept, -np.inf
        self._given: Given | None = None
        self._history = History()
        self._sky = sky = ClearSky(site.site.latitude, site.site.longitude) if located(site) else None
        self._quantities = [town(site, self._history, method)]
        self._quantities += [sun(site, s, self._history, method, sky) for s in site.of(Solar)]
        self._quantities += [river(h, self._history, method) for h in site.of(Hydro)]
        self._bands = Bands(site)
        self._place = place(site)
        self._closed = np.full(1, -1.0)
        if kept is not None:
            self.resume(load(kept))

    def warm(self) -> None:
        """Load what takes seconds to load, before the first question has its deadline."""
        if self._sky is not None and self._method != "perfect":
            self._sky.ghi_wm2(np.array([max(0, int(self._closed[0]))]))

    # ------------------------------------------------------------------ learning
    def learn(self, observations: Sequence[Observation]) -> None:
        """Take in what was observed; the same interval twice counts once."""
        if self._method == "perfect":
            return
        for o in sorted(observations, key=lambda o: o.start):
            if not self._history.learn([self._with_night(o)]):
                continue
            first, end = int(o.start.timestamp() // SLOT_S), int((o.start.timestamp() + o.seconds) // SLOT_S)
            if first < self._closed[0] - CLOCK_JUMP:
                self._closed[0] = first - 1
            for slot in range(max(int(self._closed[0]) + 1, first), end):
                self._close(slot)
            self._closed[0] = max(self._closed[0], end - 1)
        if self._kept is not None and self._closed[0] * SLOT_S >= self._kept_at + KEEP_S:
            save(self._kept, self.state())
            self._kept_at = self._closed[0] * SLOT_S

    def _with_night(self, o: Observation) -> Observation:
        """Return an observation with no sun where an inverter slept and said nothing: else no night's net load would be known."""
        asleep = {s.id: 0.0 for s in self._site.of(Solar) if s.id not in o.available_kw}
        if not asleep:
            return o
        slots = np.array([slot for slot, _ in shares(o.start, o.seconds)])
        return o if sines(slots, *self._place).any() else replace(o, available_kw={**asleep, **o.available_kw})

    def _close(self, slot: int) -> None:
        """Learn from a slot that is over, and try all methods once an hour."""
        one = np.array([slot])
        values = {q.name: self._history.at(q.name, one) for q in self._quantities}
        for q in self._quantities:
            if np.isfinite(values[q.name][0]):
                q.learn(slot, float(values[q.name][0]))
        net = self._bands.net_kw(values)[0]
        if np.isfinite(net):
            self._bands.learn(slot, float(net))
        if (slot + 1) % ISSUE == 0:
            now, day = slot + 1, slot + 1 + np.arange(DAY)
            slots = np.concatenate([now + LEADS - 1, day])
            expected = {q.name: q.tried(slots, now, len(LEADS)) for q in self._quantities}
            nets = self._bands.net_kw(expected)
            self._bands.tried(now, nets[: len(LEADS)], nets[len(LEADS) :])

    # ------------------------------------------------------------------ forecasting
    def give(self, given: Given | None) -> None:
        """Take a forecast from outside; it holds until another one comes, and no longer than it says."""
        if given is not self._given:
            self._given = given
            for q in self._quantities:
                q.give(given)

    def forecast(self, grid: Grid, at: datetime, start: PlantStart, measured: Observation | None = None) -> Forecast:
        """Return what is expected on a grid, seen from `at`.

        Parameters
        ----------
        grid : Grid
        at : datetime
            Now [UTC].
        start : PlantStart
            The plant's state, for methods that use it.
        measured : Observation | None
            What is measured now (`nowcast`).
        """
        if self._method == "perfect":
            return perfect(self._truth, grid)
        if self._given is not None and stale(self._given, at):
            for q in self._quantities:
                q.give(self._given, stale=True)
        now = int(at.timestamp() // SLOT_S)
        first = min(now, int(grid.start.timestamp() // SLOT_S))
        slots = np.arange(first, int(np.ceil(grid.end.timestamp() / SLOT_S)) + 1)
        values, source = {}, {}
        for q in self._quantities:
            values[q.name], source[q.name] = q.forecast(slots, now)
        rated_kw = {s.id: s.rated_kw for s in self._site.of(Solar)}
        from_now = partial(begun, slots=slots, measured=measured, at=at, rated_kw=rated_kw)
        values = from_now(values)
        ahead = slots >= now
        errors = self._bands.of(now, {name: v[ahead] for name, v in values.items()})

        def from_first(path: Values) -> Values:
            return np.concatenate([np.full(now - first, path[0]), path])

        up, down = from_first(errors.floor_up_kw), from_first(errors.floor_down_kw)
        bright = self._bright(slots, values, from_now, down)
        near_up, near_down = (() if path is None else peaks(from_first(path), slots, grid) for path in (errors.near_up_kw, errors.near_down_kw))
        return Forecast(
            grid,
            means(values["load"], slots, grid),
            {s.id: means(values[s.id], slots, grid) for s in self._site.of(Solar)},
            {h.id: means(values[h.id], slots, grid) for h in self._site.of(Hydro)},
            source,
            peaks(values["load"], slots, grid),
            errors.bands,
            means(up, slots, grid),
            means(down, slots, grid),
            near_up,
            near_down,
            () if bright is None else means(bright, slots, grid),
        )

    def _bright(self, slots: Slots, values: dict[str, Values], from_now: Begun, down_kw: Values) -> Values | None:
        """Return the sun of a bright day [kW], from what is measured now on, as far as the errors of late allow one; None where no day was seen."""
        suns = [s.id for s in self._site.of(Solar)]
        seen = {s: self._history.brightest(s, slots) for s in suns}
        if not any(np.isfinite(x).any() for x in seen.values()):
            return None
        bright = from_now({s: np.fmax(values[s], seen[s]) for s in suns})
        expected, brightest = (np.sum([x[s] for s in suns], axis=0) for x in (values, bright))
        return np.asarray(np.clip(brightest, expected, expected + SURPRISE * down_kw))

    # ------------------------------------------------------------------ what was learned
    def state(self) -> dict[str, Values]:
        """Return all that was learned: plain arrays by name, to be kept or handed over."""
        found = {f"history/{k}": v for k, v in self._history.state().items()}
        for q in self._quantities:
            found |= {f"{q.name}/{k}": v.copy() for k, v in q.state().items()}
        found |= {f"bands/{k}": v.copy() for k, v in self._bands.state().items()}
        return found | {"closed": self._closed.copy()}

    def resume(self, state: Arrays) -> None:
        """Go on from what another one has learned; what belongs to assets that are gone is left out."""
        self._history.resume(under(state, "history"))
        for q in self._quantities:
            q.resume(under(state, q.name))
        self._bands.resume(under(state, "bands"))
        if "closed" in state:
            self._closed[:] = state["closed"]


def under(state: Arrays, name: str) -> Arrays:
    """Return the part of a state that has a name, without it."""
    return {key.removeprefix(name + "/"): array for key, array in state.items() if key.startswith(name + "/")}


def means(values: Values, slots: Slots, grid: Grid) -> Series:
    """Return exact means over the steps of a grid."""
    whole = np.concatenate([[0.0], np.cumsum(values)])
    edges = (grid.start.timestamp() + np.concatenate([[0.0], np.cumsum(grid.step_s)])) / SLOT_S - slots[0]
    integral = np.interp(edges, np.arange(len(whole)), whole)
    # one rounding takes out what the long sum left: a night of 1e-13 kW is no sun
    found: Series = tuple((np.round(np.diff(integral) * SLOT_S / np.array(grid.step_s), 9) + 0.0).tolist())
    return found


def peaks(values: Values, slots: Slots, grid: Grid) -> Series:
    """Return the highest slot that each step of a grid touches."""
    edges = (grid.start.timestamp() + np.concatenate([[0.0], np.cumsum(grid.step_s)])) / SLOT_S - slots[0]
    low, high = np.floor(edges[:-1] + 1e-9).astype(np.int64), np.ceil(edges[1:] - 1e-9).astype(np.int64)
    return tuple(float(values[a:b].max()) for a, b in zip(low.tolist(), high.tolist(), strict=True))
