"""Forecasts pushed in from outside: a row in the request log like every other change, checked before it is taken."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api.web.desk import AtDesk, Who, admit
from api.web.problem import Problem
from api.web.routes.commands import Key, put, same
from api.web.routes.read import stamp
from api.web.schemas import ForecastBody, body, check_expiry, described
from ems.plan import Given, Storm
from ems.pushed import MOST_AHEAD, refusals

router = APIRouter(dependencies=[Depends(admit)], tags=["orders"])


@router.post("/forecast", status_code=202, openapi_extra=described(ForecastBody))
async def push(at: AtDesk, person: Who, said: Annotated[ForecastBody, Depends(body(ForecastBody))], key: Key = None) -> dict[str, Any]:
    """Give a forecast of load, sun or river; the planner weighs it by how well the last ones did, and drops it when it is stale."""
    start = said.start.astimezone(UTC)
    given = Given(
        start,
        float(said.step_s),
        tuple(said.load_kw),
        {a: tuple(v) for a, v in said.available_kw.items()},
        {a: tuple(v) for a, v in said.inflow_m3s.items()},
        storm=None if said.storm is None else Storm(said.storm.start.astimezone(UTC), said.storm.until.astimezone(UTC)),
    )
    row = said.model_dump(mode="json", exclude={"expires_at", "start"}) | {"start": stamp(start)}
    async with at.writing:
        first = None if key is None else await at.check(lambda: at.requests.keyed(person.name, key))
        if first is not None:
            return same(first, "forecast", None, row)
        check_expiry(said.expires_at, at.clock.now(), MOST_AHEAD + timedelta(hours=1))
        wrong = list(refusals(at.loaded.site, given, at.clock.now()))
        if wrong:
            raise Problem(422, "invalid", "; ".join(wrong[:5]))
        return await put(at, person, "forecast", None, row, key, said.expires_at)
