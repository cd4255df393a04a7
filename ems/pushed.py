"""A forecast that was pushed in from outside, as a row in the request log: checked strictly, used while it is fresh."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ems.bands import Series
from ems.config.site import Hydro, Site, Solar
from ems.model import Request
from ems.plan import Given, Storm

FRESH = timedelta(hours=24)
"""The values of a pushed forecast that does not say until when it holds are stale after this; a warning holds until its storm has passed."""
MOST_AHEAD = timedelta(days=7)
"""It reaches, and holds, at most this far ahead."""
STEPS_S = (300, 600, 900, 1800, 3600)
MOST_LOAD, MOST_SUN, MOST_FLOW = 1.5, 1.3, 1000.0
"""Shares of the declared peaks and of a rating, and multiples of a design flow, above which a value is a wrong unit."""
LEAST_LOAD = 0.02
"""A load whose mean is under this share of the declared peaks is none, or in MW."""


def given_of(request: Request) -> Given:
    """Return the forecast that a request brings."""
    body = request.body
    return Given(
        datetime.fromisoformat(str(body["start"])).astimezone(UTC),
        float(body["step_s"]),
        tuple(body.get("load_kw") or ()),
        {a: tuple(v) for a, v in body.get("available_kw", {}).items()},
        {a: tuple(v) for a, v in body.get("inflow_m3s", {}).items()},
        request.at + FRESH if request.expires_at is None else request.expires_at,
        storm_in(body),
        request.expires_at,
    )


def warning(given: Given, at: datetime) -> Storm | None:
    """Return the storm that a forecast still warns of, None where it has passed or the warning has run out: old values say nothing against it."""
    storm = given.storm
    over = storm is None or storm.until <= at or (given.warned_until is not None and given.warned_until <= at)
    return None if over else storm


def holds(given: Given, at: datetime) -> bool:
    """Return whether anything of a forecast can still be used: its values, or its warning."""
    return given.until is None or at < given.until or warning(given, at) is not None


def storm_in(body: Mapping[str, Any]) -> Storm | None:
    """Return the warning that a pushed forecast brings, if there is one."""
    found = body.get("storm")
    if not found:
        return None
    return Storm(*(datetime.fromisoformat(str(found[end])).astimezone(UTC) for end in ("start", "until")))


def pushed_names(body: Mapping[str, Any]) -> list[str]:
    """Return the quantities that a pushed forecast has."""
    return [*(["load"] if body.get("load_kw") else []), *body.get("available_kw", {}), *body.get("inflow_m3s", {}), *(["storm"] if body.get("storm") else [])]


def refusals(site: Site, given: Given, now: datetime) -> Iterator[str]:
    """Say what is wrong with a forecast; it is refused, never repaired.

    Parameters
    ----------
    now : datetime
        The site's time [UTC].
    """
    if given.step_s not in STEPS_S:
        yield f"step_s: {given.step_s:g} is not one of {', '.join(map(str, STEPS_S))}"
        return
    if given.start.timestamp() % given.step_s:
        yield f"start: {given.start.isoformat()} is off the grid of {given.step_s:g} s"
    suns = {s.id: s.rated_kw for s in site.of(Solar)}
    rivers = {h.id: h.design_flow_m3s for h in site.of(Hydro)}
    columns = [("load_kw", given.load_kw, MOST_LOAD * site.peak_kw)] if given.load_kw else []
    for kind, values, tops, share in (("available_kw", given.available_kw, suns, MOST_SUN), ("inflow_m3s", given.inflow_m3s, rivers, MOST_FLOW)):
        for asset, series in values.items():
            if asset not in tops:
                yield f"{kind}.{asset}: there is no {'solar' if tops is suns else 'hydro'} asset {asset!r}"
            else:
                columns.append((f"{kind}.{asset}", series, share * tops[asset]))
    if given.storm is not None:
        yield from _storm_refusals(given.storm, now)
    if not columns:
        if given.storm is None:
            yield "nothing is forecast: load_kw, available_kw, inflow_m3s or storm is needed"
        return
    yield from _column_refusals(columns)
    mean_kw = sum(given.load_kw) / max(1, len(given.load_kw))
    if given.load_kw and mean_kw < LEAST_LOAD * site.peak_kw:
        yield f"load_kw: a mean of {mean_kw:g} kW is under {LEAST_LOAD:.0%} of the site's peak of {site.peak_kw:g} kW; the load is given in kW"
    steps = max(len(series) for _, series, _ in columns)
    end = given.start + timedelta(seconds=given.step_s * steps)
    if end <= now:
        yield f"start: it ends at {end.isoformat()}, which has passed"
    if end - given.start > MOST_AHEAD or end > now + MOST_AHEAD + timedelta(hours=1):
        yield f"{steps} steps of {given.step_s:g} s from {given.start.isoformat()} reach more than {MOST_AHEAD.days} days ahead"


def _storm_refusals(storm: Storm, now: datetime) -> Iterator[str]:
    """Say what is wrong with a warning."""
    if storm.until <= storm.start:
        yield f"storm.until: {storm.until.isoformat()} is not after storm.start {storm.start.isoformat()}"
    elif storm.until <= now:
        yield f"storm.until: {storm.until.isoformat()} has passed"
    elif storm.until > now + MOST_AHEAD:
        yield f"storm.until: {storm.until.isoformat()} is more than {MOST_AHEAD.days} days ahead"


def _column_refusals(columns: list[tuple[str, Series, float]]) -> Iterator[str]:
    """Say which columns have values that cannot be, or another length than the first."""
    first, series, _ = columns[0]
    for name, values, top in columns:
        if not values or len(values) != len(series):
            yield f"{name}: {len(values)} values where {first} has {len(series)}"
        for k, value in enumerate(values):
            if not (math.isfinite(value) and 0.0 <= value <= top):
                yield f"{name}[{k}]: {value:g} is outside 0 to {top:g}"
                break
