"""Tiers of the load: which feeders go dark first, and what a kWh that is not served is worth in each."""

from __future__ import annotations

from collections.abc import Sequence

from ems.config.site import Load, Site

UNSERVED_L_PER_KWH = (200.0, 50.0, 20.0)
"""Litre-equivalents of a kWh that is not served, the most important tier first (CONTROL 4.1): far above fuel, and in an order that cannot be crossed."""


def tier_shares(site: Site) -> tuple[float, ...]:
    """Return the share of the load in each price tier, the most important (lowest priority number) first; from the third on they are one."""
    weight: dict[int, float] = {}
    for load in site.of(Load):
        for feeder in load.feeders:
            weight[feeder.priority] = weight.get(feeder.priority, 0.0) + feeder.share * load.peak_kw
    ranked = [weight[p] for p in sorted(weight)] or [1.0]
    grouped = [*ranked[:2], sum(ranked[2:])] if len(ranked) > 3 else ranked
    total = sum(grouped)
    return tuple(w / total for w in grouped) if total > 0 else (1.0,)


def tier_l_per_kwh(tier: int) -> float:
    """Return the price of load that is not served, by its tier from 0."""
    return UNSERVED_L_PER_KWH[min(tier, len(UNSERVED_L_PER_KWH) - 1)]


def dark_l_per_h(dark_kw: float, load_kw: float, shares: Sequence[float]) -> float:
    """Return what it costs an hour that so much of a load is not served, the least important tier first [L/h]."""
    left, found = dark_kw, 0.0
    for tier in range(len(shares) - 1, 0, -1):
        here = min(left, shares[tier] * load_kw)
        left, found = left - here, found + here * tier_l_per_kwh(tier)
    return found + left * tier_l_per_kwh(0)
