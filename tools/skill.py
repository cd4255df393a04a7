"""How good the forecasts are: a walk through a series that learns only from what has passed.

It learns hour by hour. Every five hours the blend forecasts the next 24 h; what it said is compared with what came, and with two simple
forecasts: the latest value held, and the same time yesterday. The better of these two at each lead is the
persistence that has to be beaten.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from ems.clock import cpu_s
from ems.config.site import Hydro, Site, Solar
from ems.plan import Grid, Observation, PlantStart
from ems.series import SeriesTable
from optimizer.forecasting import Forecasting
from optimizer.forecasting.bands import Bands

SLOT_S = 900.0
LEADS_H = (0.25, 1.0, 3.0, 6.0, 24.0)
EVERY_H = 5
"""A forecast is judged every so many hours: all hours of the day in turn, and five times sooner."""
WARM_DAYS = 28
"""So long is learned before anything is counted [days]."""
STEPS = 96
Values = NDArray[np.float64]


@dataclass(slots=True)
class Skill:
    """What came of one series.

    Attributes
    ----------
    errors : dict[str, dict[str, NDArray]]
        By quantity and forecast (`blend`, `latest`, `yesterday`): forecast less truth, shape (n_hours, n_leads).
    beyond, below : NDArray
        Share of the hours in which the net load came out above P98 and below P02, shape (n_leads,).
    day_above, day_below : float
        Share of the hours in which the energy of the next day came out above P90 and below P10.
    forecast_s, learn_s : float
        CPU time of one forecast, and of learning one hour [s].
    """

    errors: dict[str, dict[str, Values]]
    beyond: Values
    below: Values
    day_above: float
    day_below: float
    forecast_s: float
    learn_s: float


def truths(site: Site, table: SeriesTable) -> dict[str, Values]:
    """Return what really came, by quantity, in quarter hours."""
    count = int(table.span_s // SLOT_S)
    found: dict[str, list[float]] = {name: [] for name in ("load", *(a.id for a in (*site.of(Solar), *site.of(Hydro))))}
    for interval in table.intervals(table.start, SLOT_S, count):
        found["load"].append(sum(interval.load_kw.values()))
        for name, value in {**interval.available_kw, **interval.inflow_m3s}.items():
            found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


def walk(site: Site, table: SeriesTable, method: str = "blend", hours: int | None = None) -> Skill:
    """Walk through a series, hour by hour.

    Parameters
    ----------
    hours : int | None
        How many are counted after the warm-up; None goes to the end.
    """
    truth, made = truths(site, table), Forecasting(site, method)
    net_kw = Bands(site).net_kw
    net = net_kw(truth)
    leads = np.array([round(h * 3600.0 / SLOT_S) for h in LEADS_H])
    first = WARM_DAYS * STEPS
    last = len(net) - STEPS if hours is None else min(len(net) - STEPS, first + 4 * hours)
    errors: dict[str, dict[str, list[Values]]] = {name: {"blend": [], "latest": [], "yesterday": []} for name in truth}
    above: list[Values] = []
    below: list[Values] = []
    energy: list[tuple[bool, bool]] = []
    learn_s = forecast_s = 0.0
    for now in range(4, last, 4):
        began = cpu_s()
        made.learn(observations(site, table, truth, now - 4))
        learn_s += cpu_s() - began
        if now < first or (now - first) % (4 * EVERY_H):
            continue
        at = table.start + timedelta(seconds=SLOT_S * now)
        began = cpu_s()
        said = made.forecast(Grid(at, (SLOT_S,) * STEPS), at, PlantStart({}, {}))
        forecast_s += cpu_s() - began
        columns = {"load": said.load_kw, **said.available_kw, **said.inflow_m3s}
        target = now + leads - 1
        for name, came in truth.items():
            foretold = np.array(columns[name])
            errors[name]["blend"].append(foretold[leads - 1] - came[target])
            errors[name]["latest"].append(came[now - 1] - came[target])
            errors[name]["yesterday"].append(came[target - STEPS] - came[target])
        bands = said.bands
        if bands is not None and bands.learned:
            off = net[now : now + STEPS] - net_kw({name: np.array(v) for name, v in columns.items()})
            ups = np.interp(leads * SLOT_S, bands.lead_s, bands.up_kw)
            downs = np.interp(leads * SLOT_S, bands.lead_s, bands.down_kw)
            above.append(off[leads - 1] > ups + 1e-6)
            below.append(-off[leads - 1] > downs + 1e-6)
            kwh = float(off.sum()) * SLOT_S / 3600.0
            energy.append((kwh > bands.day_p90_kwh, kwh < bands.day_p10_kwh))
    counted = max(1, len(energy))
    shares = np.array(energy, dtype=float).mean(axis=0)
    return Skill(
        {name: {kind: np.array(rows) for kind, rows in kinds.items()} for name, kinds in errors.items()},
        np.array(above).mean(axis=0),
        np.array(below).mean(axis=0),
        float(shares[0]),
        float(shares[1]),
        forecast_s / counted,
        learn_s / (last // 4),
    )


def observations(site: Site, table: SeriesTable, truth: dict[str, Values], first: int) -> list[Observation]:
    """Return the four quarter hours from a slot on, as the site would observe them."""
    return [
        Observation(
            table.start + timedelta(seconds=SLOT_S * k),
            SLOT_S,
            float(truth["load"][k]),
            {s.id: float(truth[s.id][k]) for s in site.of(Solar)},
            {h.id: float(truth[h.id][k]) for h in site.of(Hydro)},
        )
        for k in range(first, first + 4)
    ]
