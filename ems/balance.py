"""The busbar's balance as a witness: sources less loads less station use is nothing, so that any one power follows from the others."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from ems.config.site import Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar
from ems.frozen import frozen
from ems.image import power_range
from ems.model import BAD, AssetImage

METER_ERROR = 0.005
"""Error of a panel meter, as a share of its rating."""
ROUNDING_KW = 0.5
"""Half a step of a device that shows whole kW [kW]."""
SIGMAS = 3.0
SHARE = 0.05
"""A balance that is off by less than this share of what flows is not held against anybody: losses, station use, instant of reading."""
OVER = 0.10
"""What the balance implies may be beyond the rating by this much."""


@frozen
class Flow:
    """One unit in the balance.

    Attributes
    ----------
    sign : float
        +1 into the busbar, -1 out of it.
    low_kw, high_kw : float
        What it can do [kW].
    may_form : bool
    noise_kw : float
        What two readings of the same power may differ by [kW].
    """

    id: str
    sign: float
    rated_kw: float
    low_kw: float
    high_kw: float
    may_form: bool
    noise_kw: float


class BalanceSheet:
    """The balance of one site. Powers are mappings from asset to kW; what is missing in them is not measured."""

    def __init__(self, site: Site) -> None:
        found = []
        for a in site.assets:
            if isinstance(a, Solar | Hydro | Diesel | Inverter | Load | Deferrable):
                source = not isinstance(a, Load | Deferrable)
                rated = a.peak_kw if isinstance(a, Load) else a.rated_kw
                low = -rated if isinstance(a, Inverter) else 0.0
                high = power_range(a)[1] if isinstance(a, Load) else rated
                may_form = isinstance(a, Hydro | Diesel | Inverter) and a.forming != "never"
                found.append(Flow(a.id, 1.0 if source else -1.0, rated, low, high, may_form, 2.0 * (METER_ERROR * rated + ROUNDING_KW)))
        self.flows = tuple(found)
        self._ids = tuple(f.id for f in found)
        self._by_id = {f.id: f for f in found}
        self._sources = tuple(f.id for f in found if f.sign > 0.0)
        self._sinks = tuple(f.id for f in found if f.sign < 0.0)
        self._metered = bool(site.of(Load))
        self._station_kw = site.station_kw
        self._floor_kw = SIGMAS * math.sqrt(sum((METER_ERROR * f.rated_kw) ** 2 + ROUNDING_KW**2 for f in found))

    def flow(self, asset: str) -> Flow | None:
        """Return an asset's place in the balance, None where it has none."""
        return self._by_id.get(asset)

    def shown(self, assets: Mapping[str, AssetImage], left_out: Collection[str] = ()) -> dict[str, float]:
        """Return every power that is measured [kW], without those left out."""
        found = {}
        for a in self._ids:
            unit = assets[a]
            power = unit.points.get("power_kw")
            if power is not None and unit.quality is not BAD and a not in left_out:
                found[a] = power
        return found

    def residual_kw(self, powers: Mapping[str, float]) -> float | None:
        """Return sources less loads less station use [kW]: 0 where all are right; None where one is missing."""
        if len(powers) != len(self.flows) or not self._metered:
            return None
        total = -self._station_kw
        for s in self._sources:
            total += powers[s]
        for s in self._sinks:
            total -= powers[s]
        return total

    def tolerance_kw(self, powers: Mapping[str, float]) -> float:
        """Return how far healthy meters may leave the balance open [kW]: their errors, or a share of what flows in."""
        into = 0.0
        for s in self._sources:
            power = powers.get(s, 0.0)
            if power > 0.0:
                into += power
        return max(self._floor_kw, SHARE * into)

    def implied_kw(self, powers: Mapping[str, float], asset: str) -> float | None:
        """Return the power of one asset that closes the balance over all others [kW], None where that cannot be told or is impossible."""
        flow = self._by_id[asset]
        if not self._metered:
            return None
        total = -self._station_kw
        for f in self.flows:
            if f is flow:
                continue
            power = powers.get(f.id)
            if power is None:
                return None
            total += f.sign * power
        power = -flow.sign * total
        return min(max(power, flow.low_kw), flow.high_kw) if possible(flow, power) else None

    def load_kw(self, powers: Mapping[str, float | None]) -> float | None:
        """Return what loads draw [kW]: metered, or else what the sources leave over."""
        drawn = [powers.get(s) for s in self._sinks]
        if all(p is not None for p in drawn):
            return sum(p for p in drawn if p is not None)
        given = [powers.get(s) for s in self._sources]
        return sum(p for p in given if p is not None) - self._station_kw if all(p is not None for p in given) else None


def possible(flow: Flow, power_kw: float) -> bool:
    """Whether a unit could have this power, the errors of all other meters allowed for."""
    slack = OVER * flow.rated_kw
    return flow.low_kw - slack <= power_kw <= flow.high_kw + slack
