"""What the river gives a hydro unit just now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ems.config.site import Hydro
from ems.guards import Bound
from ems.model import AssetImage
from ems.physics import hydro_kw
from ems.plan import Target

MORE = 0.05
"""A turbine whose river nobody measures is asked for this share of its rating beyond what it gives, which alone is counted on: so it finds what there is."""


def gauged(hydro: Hydro, image: AssetImage) -> bool:
    """Return whether the plant tells by itself what its river brings: by a gauge, even if it is silent now, or by the level of a pond."""
    return "flow_m3s" in image.points or hydro.pond_m3 > 0.0


def unplanned(hydros: Sequence[Hydro], assets: Mapping[str, AssetImage], target: Target | None) -> Target | None:
    """Return a plan's target without the power of turbines whose river nobody measures.

    What is forecast of such a river is what its turbine gave, and before it ever ran nothing but the ecological flow. As
    a forecast that is honest, nothing is counted on that was not seen; as a cap it would hold the turbine where it is for good.
    """
    if target is None:
        return None
    blind = {h.id for h in hydros if not gauged(h, assets[h.id])}
    return replace(target, power_kw={a: p for a, p in target.power_kw.items() if a not in blind}) if blind & set(target.power_kw) else target


def asked_kw(hydro: Hydro, image: AssetImage) -> float | None:
    """Return what a turbine is asked for that tells of its river only by what it gives [kW]: a little more, at least what it turns at; else None."""
    if gauged(hydro, image) or not image.ready or image.power_kw is None or hydro.mode == "fixed":
        return None
    return max(image.power_kw + MORE * hydro.rated_kw, hydro.min_kw)


def available_kw(hydro: Hydro, image: AssetImage, bound: Bound, target: Target | None) -> float:
    """Return the power a unit can give [kW]: what flows in, and from the pond only as planned and with its level known.

    Units that run on `level` or `flow` may give more than flows in: their own controller decides. One that
    could not be started gives what it gives; so does one without a gauge: nothing more is counted on.
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
