"""One quantity that is forecast: its methods, what each is worth, and what is left where none says anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ems.config.site import Hydro, Site, Solar
from ems.plan import Given
from optimizer.forecasting.blend import Record, blended
from optimizer.forecasting.deviation import LoadDeviation, SunDeviation
from optimizer.forecasting.given import Outside, series_of
from optimizer.forecasting.history import Arrays, History, Slots, Values
from optimizer.forecasting.persistence import LastWeek, Latest, Yesterday, spare_inflow_m3s, spare_load_kw, spare_sun_kw
from optimizer.forecasting.recession import Recession
from optimizer.forecasting.sky import ClearSky
from optimizer.forecasting.usual import Index, Profile

MOST_LOAD = 1.5
"""No load above this share of the declared peaks is believed."""
YOUNG_DAYS = 1.0
"""Under this much history [days] a method says what it was born with, and so the forecast says that it is a fallback."""
FALLBACK = "fallback:"
OLD_SLOTS = 10 * 96
"""The river's latest value is held for ten days: it is better than nothing for long."""


class Method(Protocol):
    """One way to forecast one quantity."""

    def learn(self, slot: int, value: float) -> None:
        """Take in a slot that is over."""

    def predict(self, slots: Slots, now: int) -> Values:
        """Return what is expected of slots seen from the start of slot `now`, NaN where it cannot say."""

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""

    def resume(self, state: Arrays) -> None:
        """Take over what another one has learned."""


Spare = Callable[[Slots], tuple[Values, str]]


class Quantity:
    """A quantity with its methods.

    Parameters
    ----------
    methods : dict[str, Method]
        By name. All of them learn and are judged, whichever is wanted, so that a change of method starts warm.
    wanted : tuple[str, ...]
        What the forecast is made of: one method, or several to be blended.
    most : float
        Highest value that can be.
    spare : Callable
        What is expected of slots where no method says anything, and what that is.
    file : bool
        Whether a forecast from outside is what is wanted, and the methods only stand in for it.
    """

    def __init__(self, name: str, history: History, methods: dict[str, Method], wanted: tuple[str, ...], most: float, spare: Spare, file: bool) -> None:
        self.name = name
        self._history = history
        self._methods = methods
        self._wanted = [list(methods).index(w) for w in wanted]
        self._label = wanted[0] if len(wanted) == 1 else "blend"
        self._most = most
        self._file = file
        self._outside_first = file or len(wanted) == 1  # without a blend what a person gave stands before the method
        self._spare = spare
        self._record = Record(len(methods) + 1)  # the last is what was given from outside
        self._outside: Outside | None = None
        self._stale = False

    def give(self, given: Given | None, stale: bool = False) -> None:
        """Take a forecast from outside, or drop it; `stale` says that it is dropped for its age, which only concerns what it had values of."""
        has = given is not None and bool(series_of(given, self.name))
        self._stale = stale and has
        self._outside = Outside(given, self.name) if given is not None and has and not stale else None

    def learn(self, slot: int, value: float) -> None:
        """Take in a slot that is over."""
        self._record.learn(slot, value)
        for method in self._methods.values():
            method.learn(slot, value)

    def tried(self, slots: Slots, now: int, n: int) -> Values:
        """Try all methods: remember what they say of the first `n` slots, and return what would be forecast for all of them."""
        values = self._said(slots, now)
        self._record.tried(now, values[:, :n])
        return self._mixed(values, slots, now)[0]

    def forecast(self, slots: Slots, now: int) -> tuple[Values, str]:
        """Return what is expected, and where it comes from."""
        return self._mixed(self._said(slots, now), slots, now)

    def _said(self, slots: Slots, now: int) -> Values:
        """Return what every method says, shape (n_methods + 1, n); what is impossible counts as nothing said."""
        outside = np.full(len(slots), np.nan) if self._outside is None else self._outside.predict(slots)
        values = np.vstack([*(m.predict(slots, now) for m in self._methods.values()), outside])
        possible = np.isfinite(values) & (values >= 0.0)
        return np.where(possible, np.minimum(values, self._most), np.nan)

    def _mixed(self, values: Values, slots: Slots, now: int) -> tuple[Values, str]:
        use = [*self._wanted, len(self._methods)]
        mixed = blended(values[use], self._record.weights()[use], slots - now + 1) if len(self._wanted) > 1 else values[self._wanted[0]]
        given = np.isfinite(values[-1])
        if self._outside_first:
            mixed = np.where(given, values[-1], mixed)
        mixed, label = self._filled(mixed, values, slots)
        if given.any():
            label = "blend with file" if not self._outside_first else "file" if given.all() else f"file, then {label}"
        missing = self._stale or (self._file and not given.any())
        fallback = label if label.startswith(FALLBACK) or not missing else FALLBACK + label
        return mixed, f"{fallback} (stale file)" if self._stale else fallback

    def _filled(self, mixed: Values, values: Values, slots: Slots) -> tuple[Values, str]:
        """Return the forecast without holes, and what it is.

        Where the wanted methods say nothing it is persistence, where that has nothing, too, the spare.
        """
        names = list(self._methods)
        holes = np.isnan(mixed)
        if not holes.any():
            main = self._wanted[0]
            if np.isnan(values[main]).any() and np.isnan(values[-1]).any():  # a blend without its learned method
                return mixed, FALLBACK + next(names[k] for k in self._wanted if np.isfinite(values[k]).any())
            young = self._history.days(self.name) < YOUNG_DAYS and self._label not in ("persistence",)
            return mixed, FALLBACK + self._label if young and not np.isfinite(values[-1]).all() else self._label
        filled, label = np.where(holes, values[names.index("persistence")], mixed), "persistence"
        if np.isnan(filled).any():
            spare, label = self._spare(slots)
            filled = np.where(np.isnan(filled), np.minimum(spare, self._most), filled)
        return filled, FALLBACK + label

    def state(self) -> dict[str, Values]:
        """Return what was learned, as arrays."""
        found = {f"record/{k}": v for k, v in self._record.state().items()}
        for name, method in self._methods.items():
            found |= {f"{name}/{k}": v for k, v in method.state().items()}
        return found

    def resume(self, state: Arrays) -> None:
        """Take over what another one has learned."""
        parts: dict[str, Record | Method] = {"record": self._record, **self._methods}
        for name, part in parts.items():
            part.resume({key.removeprefix(name + "/"): array for key, array in state.items() if key.startswith(name + "/")})


def town(site: Site, history: History, method: str) -> Quantity:
    """Return the load of a site."""
    methods: dict[str, Method] = {
        "seasonal": LoadDeviation(history, "load", Profile(site.tz, split=True), site.peak_kw),
        "persistence": Yesterday(history, "load"),
        "last week": LastWeek(history, "load"),
        "latest": Latest(history, "load"),
    }
    wanted = {"persistence": ("persistence",), "seasonal": ("seasonal",), "clearsky": ("seasonal",)}.get(method, tuple(methods))

    def spare(slots: Slots) -> tuple[Values, str]:
        value, label = spare_load_kw(site, history)
        return np.full(len(slots), value), label

    return Quantity("load", history, methods, wanted, MOST_LOAD * site.peak_kw, spare, method == "file")


def sun(site: Site, solar: Solar, history: History, method: str, sky: ClearSky | None) -> Quantity:
    """Return the available power of a solar asset."""
    methods: dict[str, Method] = {}
    if sky is not None:
        methods["clearsky"] = SunDeviation(history, solar.id, Index(sky, solar.rated_kw), solar.rated_kw)
    methods["seasonal"] = SunDeviation(history, solar.id, Profile(site.tz, split=False), solar.rated_kw)
    methods["persistence"] = Yesterday(history, solar.id)
    wanted = {m: (m,) for m in ("persistence", "seasonal", "clearsky")}.get(method, tuple(methods))

    def spare(slots: Slots) -> tuple[Values, str]:
        return spare_sun_kw(site, solar, history, slots)

    return Quantity(solar.id, history, methods, wanted, solar.rated_kw, spare, method == "file")


def river(hydro: Hydro, history: History, method: str) -> Quantity:
    """Return the inflow of a hydro asset."""
    methods: dict[str, Method] = {"recession": Recession(history, hydro.id), "persistence": Latest(history, hydro.id, OLD_SLOTS)}
    wanted = ("persistence",) if method == "persistence" else tuple(methods)

    def spare(slots: Slots) -> tuple[Values, str]:
        value, label = spare_inflow_m3s(hydro, history)
        return np.full(len(slots), value), label

    return Quantity(hydro.id, history, methods, wanted, np.inf, spare, method == "file")
