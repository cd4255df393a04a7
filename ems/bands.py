"""How wrong a forecast may be, by lead time: a plain value that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

Series = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ErrorBands:
    """How wrong forecasts of the net load (load less sun less river) are, as learned from what was foretold and what came.

    Attributes
    ----------
    lead_s : tuple[float, ...]
        Time from now to the end of the interval that was foretold [s], rising.
    up_kw, down_kw : tuple[float, ...]
        By how much the net load comes out higher (P98) and lower (P02) than forecast, both >= 0 [kW].
    day_p10_kwh, day_p90_kwh : float
        Error of the net energy of the next 24 h: with 10 % (90 %) probability it comes out at most this much above forecast [kWh].
    learned : bool
        False while there is too little history: then they are the site's own fractions, on the cautious side.
    """

    lead_s: Series
    up_kw: Series
    down_kw: Series
    day_p10_kwh: float
    day_p90_kwh: float
    learned: bool
