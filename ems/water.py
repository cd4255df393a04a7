"""What the river gives a hydro unit just now."""

from __future__ import annotations

from ems.config.site import Hydro
from ems.guards import Bound
from ems.model import AssetImage
from ems.physics import hydro_kw
from ems.plan import Target


def available_kw(hydro: Hydro, image: AssetImage, bound: Bound, target: Target | None) -> float:
    """Return the power a unit can give [kW]: what flows in, and from the pond only as planned and with its level known.

    Units that run on `level` or `flow` give what they give: their own controller decides.
    """
    measured = image.power_kw or 0.0
    if hydro.mode != "power":
        return min(measured, bound.hi_kw)
    inflow = image.get("flow_m3s")
    river = measured if inflow is None else hydro_kw(hydro, inflow - hydro.ecological_flow_m3s)
    wished = target.power_kw.get(hydro.id) if target is not None else None
    if wished is not None and hydro.pond_m3 > 0.0 and image.get("level_m") is not None:
        river = max(river, wished)
    return 0.0 if river < hydro.min_kw else min(river, bound.hi_kw)
