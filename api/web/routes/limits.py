"""Limits of one asset: read with their ETag, changed only by who has seen the newest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Response

from api.web.desk import AtDesk, Desk, Who, admit
from api.web.problem import Problem
from api.web.routes.read import stamp
from api.web.schemas import LIMITS_AHEAD, LimitsPatch, body, check_expiry, described
from drivers.store.requests import KeyReused
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Solar
from ems.model import Limits

router = APIRouter(dependencies=[Depends(admit)], tags=["limits"])

POWER = ("max_kw", "min_kw")
CHARGE = ("soc_min", "soc_max")
TAKES: tuple[tuple[Any, tuple[str, ...]], ...] = ((Battery, CHARGE), (Solar, ("max_kw",)), (Hydro | Diesel | Inverter | Deferrable, POWER))
"""What can be asked of each kind of unit: nobody orders the sun to shine."""
RECENT = 100
"""So many of an asset's newest requests are looked at for refusals: an older one that was refused is long overtaken."""


def asset_of(at: Desk, asset: str) -> Any:
    """Return an asset or feeder of the site, or refuse."""
    try:
        return at.loaded.site.asset(asset)
    except KeyError:
        raise Problem(404, "unknown_asset", f"there is no asset or feeder {asset!r}") from None


def in_force(at: Desk, asset: str) -> Limits:
    """Return what is set for an asset now, without what control has refused."""
    reader = at.requests
    seqs = [r.seq for r in reader.newest(RECENT, "limits", asset)]
    refused = [seq for seq, outcome in at.ledger.outcomes(seqs).items() if outcome["status"] in ("rejected", "expired")]
    return reader.limits(asset, at.clock.now(), refused)


def shown(limits: Limits) -> dict[str, Any]:
    """Return limits as REST shows them."""
    return {**asdict(limits), "expires_at": None if limits.expires_at is None else stamp(limits.expires_at)}


def etag(limits: Limits) -> str:
    """Return the tag of these limits; what has run out since is another version."""
    return f'"{limits.version}{"" if limits.by or not limits.version else "x"}"'


@router.get("/limits")
async def all_limits(at: AtDesk) -> dict[str, Any]:
    """What is set for every asset that takes limits."""
    takers = [a.id for a in at.loaded.site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter | Deferrable | Battery)]
    return await at.look(lambda: {asset: shown(in_force(at, asset)) for asset in takers})


@router.get("/limits/{asset}")
async def one(asset: str, at: AtDesk, response: Response) -> dict[str, Any]:
    """What is set for one asset; the ETag is what a change must name."""
    asset_of(at, asset)
    limits = await at.look(lambda: in_force(at, asset))
    response.headers["ETag"] = etag(limits)
    return shown(limits)


@router.patch("/limits/{asset}", openapi_extra=described(LimitsPatch))
async def change(
    asset: str,
    at: AtDesk,
    person: Who,
    response: Response,
    patch: Annotated[LimitsPatch, Depends(body(LimitsPatch))],
    if_match: Annotated[str | None, Header()] = None,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> dict[str, Any]:
    """Change what is set; what is left out stays, null goes back to the site file."""
    unit = asset_of(at, asset)
    if if_match is None:
        raise Problem(428, "if_match_missing", "If-Match must name the ETag of GET limits/{asset}")
    if patch.model_fields_set <= {"reason"}:
        raise Problem(422, "invalid", f"nothing to change: a reason alone; {', '.join((*POWER, *CHARGE))}, out_of_service or expires_at is needed")
    async with at.writing:
        before = await at.check(lambda: in_force(at, asset))
        if idempotency_key and await at.check(lambda: at.requests.keyed(person.name, idempotency_key)) is not None:
            return await repeated(at, asset, patch, person.name, idempotency_key, response)
        if if_match.strip() not in (etag(before), "*"):
            raise Problem(412, "changed_meanwhile", "the limits were changed meanwhile", {"ETag": etag(before)}, current=shown(before))
        check_expiry(patch.expires_at, at.clock.now(), LIMITS_AHEAD)
        wished = merged(before, patch)
        check(unit, wished, patch)
        row = {**wished, "reason": patch.reason}
        await at.write(
            lambda: at.requests.append(
                "limits", asset, row, person.name, at.clock.now(), patch_expiry(before, patch), idempotency_key, before=shown(before), after=row
            )
        )
        after = await at.check(lambda: in_force(at, asset))
    response.headers["ETag"] = etag(after)
    return shown(after)


async def repeated(at: Desk, asset: str, patch: LimitsPatch, by: str, key: str, response: Response) -> dict[str, Any]:
    """Answer a change that has been made already under this key; refuse another one."""
    first = await at.check(lambda: at.requests.keyed(by, key))
    said = patch.model_dump(mode="json", exclude_unset=True)
    if first is None or first.kind != "limits" or first.asset != asset or any(first.body.get(name) != value for name, value in said.items()):
        raise KeyReused("this Idempotency-Key was used for another request", "Idempotency-Key", "a new key for a new request")
    now = await at.check(lambda: in_force(at, asset))
    response.headers["ETag"] = etag(now)
    return shown(now)


def patch_expiry(before: Limits, patch: LimitsPatch) -> Any:
    """Return until when the limits hold after the change."""
    return patch.expires_at if "expires_at" in patch.model_fields_set else before.expires_at


def merged(before: Limits, patch: LimitsPatch) -> dict[str, Any]:
    """Return the whole of the limits after a change: every request says all of them, so that each stands alone."""
    said = patch.model_dump(mode="json", exclude_unset=True)
    expires = said.get("expires_at") if "expires_at" in said else shown(before)["expires_at"]
    return {
        **{name: said.get(name, getattr(before, name)) for name in (*POWER, *CHARGE)},
        "out_of_service": bool(said.get("out_of_service", before.out_of_service)),
        "expires_at": expires,
    }


def check(unit: Any, wished: dict[str, Any], patch: LimitsPatch) -> None:
    """Refuse what the unit cannot be asked: a limit it has not, or one beyond its ratings."""
    takes = next((names for kinds, names in TAKES if isinstance(unit, kinds)), ())
    for name in sorted(patch.model_fields_set & {*POWER, *CHARGE}):
        if getattr(patch, name) is not None and name not in takes:
            raise Problem(422, "invalid", f"{name}: a {unit.kind} takes {' and '.join(takes) or 'no such limit'}")
    if patch.out_of_service and not takes:
        raise Problem(422, "invalid", f"out_of_service: a {unit.kind} is not dispatched")
    if isinstance(unit, Battery):
        ordered("soc_min", wished["soc_min"], "soc_max", wished["soc_max"], unit.soc_min, unit.soc_max)
    elif takes:
        lowest = -unit.rated_kw if isinstance(unit, Inverter) else 0.0
        if isinstance(unit, Inverter) and wished["max_kw"] is not None and wished["max_kw"] < 0.0:
            raise Problem(422, "invalid", "max_kw: of an inverter it bounds both directions, so it is not negative")
        ordered("min_kw", wished["min_kw"], "max_kw", wished["max_kw"], lowest, unit.rated_kw)


def ordered(low_name: str, low: float | None, high_name: str, high: float | None, least: float, most: float) -> None:
    """Refuse values outside [least, most], and a lower limit above the upper one."""
    for name, value in ((low_name, low), (high_name, high)):
        if value is not None and not least <= value <= most:
            raise Problem(422, "invalid", f"{name}: {value:g} is outside {least:g} to {most:g} of the site file")
    floor, top = least if low is None else low, most if high is None else high
    if floor > top:
        raise Problem(422, "invalid", f"{low_name} {floor:g} is above {high_name} {top:g}")
