"""What the river gives a hydro unit just now."""

from __future__ import annotations

from ems.config.site import Hydro
from ems.guards import Bound
from ems.model import AssetImage
from ems.physics import hydro_kw
from ems.plan import Target


def available_kw(hydro: Hydro, image: AssetImage, bound: Bound, target: Target | None) -> float:
    """Return the power a unit can give [kW]: what flows in, and from the pond only as planned and with its level known.

    Units that run on `level` or `flow` may give more than flows in: their own controller decides. One that
    could not be started gives what it gives.
    """
    measured = image.power_kw or 0.0
    inflow = image.get("flow_m3s")
    if not image.ready:
        return min(measured, bound.hi_kw)
    river = measured if inflow is None else hydro_kw(hydro, inflow - hydro.ecological_flow_m3s)
    if hydro.mode != "power":
        return min(max(measured, river), bound.hi_kw)
    wished = target.power_kw.get(hydro.id) if target is not None else None
    if wished is not None and hydro.pond_m3 > 0.0 and image.get("level_m") is not None:
        river = max(river, wished)
    return 0.0 if river < hydro.min_kw else min(river, bound.hi_kw)
