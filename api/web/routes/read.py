"""What can be looked at: the site, its state, the plan, why, history, events, alarms, the balance of CO2."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from api.duration import duration_s
from api.web.desk import AtDesk, Desk, Who, admit
from api.web.problem import Problem
from drivers.store.points import SITE_POINTS
from ems.config.load import LoadedSite

router = APIRouter(dependencies=[Depends(admit)], tags=["read"])

POINTS = 50
MOST = 2**63 - 1
"""The highest number that a store can hold."""
SPAN = timedelta(hours=1)
ALWAYS = ("power_kw", "setpoint_kw", "age_s", "quality_code", "running", "run")
"""Points that an asset may have whatever its profile says."""


@router.get("/site")
async def site(at: AtDesk) -> dict[str, Any]:
    """The resolved site, without the certificates of its devices."""
    found = at.loaded.site.model_dump(mode="json", by_alias=True)
    for asset in found["assets"]:
        for part in (asset, *asset.get("feeders", ())):
            if part.get("device"):
                part["device"].pop("security", None)
    return found


async def newest(at: AtDesk) -> dict[str, Any]:
    """Return the newest state: from control itself, else what it stored last."""
    found = at.live.state or await at.look(at.history.newest_state)
    if found is None:
        raise Problem(503, "no_cycle", "the controller has not completed a cycle yet")
    return found


State = Annotated[dict[str, Any], Depends(newest)]


@router.get("/state")
async def state(found: State) -> dict[str, Any]:
    """The newest cycle; a value that is missing is null, never zero."""
    return found


@router.get("/mode")
async def mode(found: State) -> dict[str, Any]:
    """The mode in force."""
    return {"mode": found["mode"], "cycle": found["cycle"], "time": found["time"]}


@router.get("/stage")
async def stage(at: AtDesk, found: State) -> dict[str, Any]:
    """The stage in force, and the most that the site file allows."""
    return {"stage": found["stage"], "configured": at.loaded.site.control.stage, "cycle": found["cycle"], "time": found["time"]}


@router.get("/plan")
async def plan(at: AtDesk) -> dict[str, Any]:
    """The newest plan on its grid; `{"id": null}` while there is none."""
    return await at.look(at.history.plan) or {"id": None}


@router.get("/forecast")
async def forecast(at: AtDesk) -> dict[str, Any]:
    """The forecast that the newest plan was made from; `{"grid": null}` while there is none."""
    return await at.look(at.history.forecast) or {"grid": None}


@router.get("/explain")
async def explain(at: AtDesk) -> list[dict[str, Any]]:
    """Why each asset does what it does, in English and Japanese."""
    return at.live.explain


@router.get("/advice")
async def advice(at: AtDesk) -> list[dict[str, Any]]:
    """What would be written, each to be accepted; empty outside the stage `advise`."""
    return at.live.advice


@router.get("/history")
async def history(
    at: AtDesk,
    points: Annotated[str, Query(max_length=4000, description="names with commas between, as pv1.power_kw,bess1.soc")],
    begin: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    end: Annotated[AwareDatetime | None, Query(alias="to")] = None,
    step: Annotated[str, Query(max_length=10)] = "60s",
) -> dict[str, Any]:
    """Means over steps of [from, to): the last hour by default; missing as null."""
    names = list(dict.fromkeys(name for name in points.split(",") if name))
    if not 0 < len(names) <= POINTS:
        raise Problem(422, "invalid", f"points: 1 to {POINTS} names with commas between")
    await refuse_unknown(at, names)
    until = end or at.clock.now()
    since = begin or until - SPAN
    seconds = duration_s(step, "step")
    return await at.chart(lambda: at.history.points(names, since.astimezone(UTC), until.astimezone(UTC), seconds))


async def refuse_unknown(at: Desk, names: Sequence[str]) -> None:
    """Refuse a point that this site cannot have: an empty column must mean that nothing was measured."""
    state = at.live.state or await at.look(at.history.newest_state) or {}
    if not state:
        return  # before the first cycle nobody knows what the state will have
    known = points_of(at.loaded, state)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            raise Problem(422, "invalid", f"points: there is no {name!r} here" + (f"; did you mean {' or '.join(near)}?" if near else ""))


def points_of(loaded: LoadedSite, state: Mapping[str, Any]) -> set[str]:
    """Return the names of all points of a site: what its profiles can read, and every number of its state, also where it is null now."""
    found = {*SITE_POINTS, *(f"{part}.{name}" for part in ("reserve", "co2", "alarms") for name in state.get(part, {}))}
    shown = {**state.get("assets", {}), **state.get("feeders", {})}
    for asset, profile in loaded.profiles.items():
        numbers = (name for name, value in shown.get(asset, {}).items() if not isinstance(value, str | list))
        found |= {f"{asset}.{name}" for name in (*ALWAYS, *profile.points, *numbers)}
    return found


@router.get("/events")
async def events(
    at: AtDesk, after: Annotated[int | None, Query(ge=0, le=MOST)] = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[dict[str, Any]]:
    """Events in order: those after a number, or the newest."""
    return await at.look(lambda: at.history.events(after, limit))


@router.get("/alarms")
async def alarms(at: AtDesk, active: bool = False, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[dict[str, Any]]:
    """Alarms, the newest first; the active ones come from control itself, also while the store is dead."""
    if active and at.live.state is not None:
        return at.live.alarms
    return await at.look(lambda: at.history.alarms(active, limit))


@router.get("/auth/me")
async def me(person: Who) -> dict[str, str]:
    """Whose token this is."""
    return {"name": person.name, "role": person.role.value}


@router.get("/mrv/summary")
async def summary(at: AtDesk) -> dict[str, Any]:
    """Fuel and CO2 of the site's day and in all. Two accounts, never added: physical, and what may be credited."""
    now = at.clock.now()
    midnight = now.astimezone(at.loaded.site.tz).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = await at.look(lambda: at.ledger.minutes(midnight.astimezone(UTC), now))
    totals = (await at.look(at.ledger.newest) or {}).get("totals", {})
    return {"time": stamp(now), "since": stamp(midnight), "today": day(rows), "physical": physical(rows, totals), "credited": None}


def day(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return sums of the day's minutes, and how much of the time they know [s]."""
    energy = [row for row in rows if row["kind"] == "energy"]
    known = [row for row in energy if row.get("fuel_l") is not None]
    return {
        "diesel_l": sum(row["fuel_l"] for row in known) if known else None,
        "load_kwh": sum(row["load_kwh"] for row in energy if row.get("load_kwh") is not None) if energy else None,
        "known_s": sum(row["seconds"] for row in known),
    }


def physical(rows: list[dict[str, Any]], totals: Mapping[str, Any]) -> dict[str, Any]:
    """Return the CO2 that was really displaced, with the band of the model and the method's name."""
    known = [row for row in rows if row.get("displaced_co2_kg") is not None]
    return {
        "displaced_kg_today": sum(row["displaced_co2_kg"] for row in known) if known else None,
        "low_kg_today": sum(row["displaced_low_kg"] for row in known) if known else None,
        "high_kg_today": sum(row["displaced_high_kg"] for row in known) if known else None,
        "displaced_t_total": totals["displaced_kg"] / 1000.0 if "displaced_kg" in totals else None,
        "method": known[-1].get("method") if known else None,
    }


def stamp(at: datetime) -> str:
    """Return a stamp as REST shows it, in UTC with `Z`."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
