"""What a cycle leaves behind: the state that REST shows, the sentences, and the record that re-runs.

`state_document` and `explain_document` are for people and programs outside; `pack` and `unpack` keep the
kernel's own values exactly, as JSON bytes that the historian packs together by the minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter

from ems.config.site import Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar
from ems.decision import Decision, stage_of
from ems.explain import sentence
from ems.memory import Memory
from ems.model import AssetImage, Image, Quality, Request, Telemetry
from ems.plan import Plan
from ems.terms import Alarm, Phase

Value = TypeVar("Value")

QUALITY_CODE = {Quality.GOOD: 0, Quality.SUSPECT: 1, Quality.BAD: 2}
"""Where only numbers travel: the higher, the worse."""


@dataclass(frozen=True, slots=True)
class ClockInfo:
    """How far the site's clock can be trusted; None where it cannot be known."""

    synced: bool | None
    offset_s: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """One cycle's whole input and its decision: enough to run it again.

    Attributes
    ----------
    before : Memory | None
        What the cycle was handed; kept once a minute, since each cycle makes the next one's memory.
    decision : Decision
        Without its memory (`Memory()`): running the cycle again makes it.
    """

    telemetry: Telemetry
    requests: tuple[Request, ...]
    plan_id: str | None
    policy: str
    before: Memory | None
    decision: Decision


def record(telemetry: Telemetry, requests: tuple[Request, ...], plan_id: str | None, policy: str, before: Memory | None, decision: Decision) -> bytes:
    """Return the packed record of one cycle; give `before` on the first cycle of each minute."""
    return pack(Record(telemetry, requests, plan_id, policy, before, replace(decision, memory=Memory())))


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def pack(value: Any) -> bytes:
    """Return a kernel value as JSON bytes; `unpack` of its type gives it back unchanged.

    Only NaN and infinities do not come back: they are None.
    """
    return _adapter(type(value)).dump_json(value)


def unpack(kind: type[Value], data: bytes | str) -> Value:
    """Return the value that was packed; damaged data is a `pydantic.ValidationError`."""
    value: Value = _adapter(kind).validate_json(data)
    return value


def iso(at: datetime | None) -> str | None:
    """Return the text of a stamp as REST shows it, in UTC with `Z`."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def alarm_key(alarm: Alarm) -> str:
    """Return what identifies an alarm while it is active."""
    return f"{alarm.code}:{alarm.asset or 'site'}"


def state_document(site: Site, image: Image, decision: Decision, plan: Plan | None, totals: Mapping[str, float | None], clock: ClockInfo) -> dict[str, Any]:
    """Return the REST state of one cycle.

    Parameters
    ----------
    totals : Mapping[str, float | None]
        `displaced_kg_today` and `displaced_t_total`, from `ems.baseline`.

    Notes
    -----
    `load_kw` is what is asked for: served by the busbar plus `unserved_kw`, so that
    solar + hydro + diesel + inverter + unserved = load.
    """
    unserved = unserved_kw(site, image)
    reserve = decision.reserve
    return {
        "cycle": image.cycle,
        "time": iso(image.time),
        "mode": decision.mode.value,
        "stage": decision.stage.value,
        "load_kw": image.load_kw + (unserved or 0.0),
        "load_known": image.load_known,
        "frequency_hz": image.frequency_hz,
        "voltage_v": image.voltage_v,
        "unserved_kw": unserved,
        "renewable_fraction": renewable_fraction(image),
        "formers": list(decision.formers),
        "reserve": {
            "required_kw": reserve.required_kw,
            "available_kw": reserve.available_kw,
            "down_kw": reserve.down_kw,
            "down_required_kw": reserve.down_required_kw,
            "hold_s": reserve.hold_s,
            "energy_kwh": reserve.energy_kwh,
            "time_to_empty_s": reserve.time_to_empty_s,
            "contingency": reserve.contingency,
        },
        "plan": _plan_part(image, decision, plan),
        "co2": {"displaced_kg_today": totals.get("displaced_kg_today"), "displaced_t_total": totals.get("displaced_t_total")},
        "alarms": {"active": sum(alarm.severity != "info" for alarm in decision.alarms)},
        "clock": {"synced": clock.synced, "offset_s": clock.offset_s},
        "feeders": {feeder.id: _feeder(feeder.id, image, decision) for load in site.assets if isinstance(load, Load) for feeder in load.feeders},
        "assets": {asset.id: _asset(asset, image.assets.get(asset.id), decision) for asset in site.assets},
    }


def _plan_part(image: Image, decision: Decision, plan: Plan | None) -> dict[str, Any]:
    """The plan in force; none of it is shown for a plan that the decision did not follow."""
    followed = plan if plan is not None and plan.id == decision.plan_id else None
    return {
        "id": decision.plan_id,
        "age_s": None if followed is None else (image.time - followed.made_at).total_seconds(),
        "valid_until": None if followed is None else iso(followed.valid_until),
        "source": decision.plan_source,
    }


def _asset(asset: Any, seen: AssetImage | None, decision: Decision) -> dict[str, Any]:
    """One asset: what is measured, what was decided and why."""
    decided = decision.assets.get(asset.id)
    found: dict[str, Any] = {
        "kind": asset.kind,
        "power_kw": None if seen is None else seen.power_kw,
        "setpoint_kw": None if decided is None or asset.id == decision.leader else decided.setpoint_kw,
        "quality": (Quality.BAD if seen is None else seen.quality).value,
        "age_s": None if seen is None else seen.age_s,
        "reason": None if decided is None else decided.why.reason.value,
        "limited_by": [] if decided is None else list(decided.why.limited_by),
        "control": "local" if seen is not None and seen.local else "remote",
        "ready": seen is not None and seen.ready,
        "follows": seen is None or seen.follows,
        "stage": stage_of(decision, asset.id).value,
    }
    if decided is not None and decided.run is not None:
        found["run"] = decided.run
    if seen is not None:
        found |= {name: seen.get(name) for name in ("available_kw", "soc", "fuel_l", "level_m", "level_l", "fault") if name in seen.points}
        found |= {name: seen.flag(name) for name in ("running", "forming", "breaker_closed") if name in seen.points}
    unit = decision.memory.units.get(asset.id)
    if unit is not None:
        found["state"] = unit.phase.value
        found.setdefault("running", unit.phase in (Phase.ONLINE, Phase.UNLOADING))
    elif seen is not None and "state" in seen.points:
        found["state"] = seen.get("state")
    rating = getattr(asset, "rated_kw", None)
    if rating is not None:
        found["rated_kw"] = rating
    return found


def _feeder(feeder: str, image: Image, decision: Decision) -> dict[str, Any]:
    """One feeder: closed or not, and who opened it."""
    seen = image.assets.get(feeder)
    closed = None if seen is None else seen.flag("breaker_closed")
    power = None if seen is None else seen.power_kw
    known = decision.memory.feeders.get(feeder)
    opened_by = None if closed is not False else "local" if known is None or known.opened_by is None else known.opened_by
    return {"closed": closed, "shed_by": opened_by, "power_kw": power}


def unserved_kw(site: Site, image: Image) -> float | None:
    """Return the load behind open feeders [kW], estimated from what the closed ones draw and their shares.

    None where a load has every feeder open: nothing is left to judge it by.
    """
    total = 0.0
    for load in site.assets:
        if not isinstance(load, Load) or not load.feeders:
            continue
        open_share = sum(f.share for f in load.feeders if (seen := image.assets.get(f.id)) is not None and seen.flag("breaker_closed") is False)
        if open_share <= 0.0:
            continue
        seen = image.assets.get(load.id)
        drawn = image.load_kw if seen is None or seen.power_kw is None else seen.power_kw
        if open_share > 0.999:
            return None
        total += drawn * open_share / (1.0 - open_share)
    return total


def renewable_fraction(image: Image) -> float | None:
    """Return the share of the served load that no diesel carries now, 0..1; None without a load or a diesel's power."""
    powers = [asset.power_kw for asset in image.assets.values() if asset.kind == "diesel"]
    if image.load_kw <= 0.0 or any(power is None for power in powers):
        return None
    return min(1.0, max(0.0, 1.0 - sum(power for power in powers if power is not None) / image.load_kw))


def explain_document(site: Site, decision: Decision) -> list[dict[str, Any]]:
    """Return why each asset and feeder that takes orders does what it does, in both languages, in the order of the site file."""
    takers = [a.id for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter | Deferrable)]
    takers += [f.id for load in site.of(Load) for f in load.feeders if f.device is not None]
    return [
        {
            "asset": asset,
            "reason": decided.why.reason.value,
            "limited_by": list(decided.why.limited_by),
            "text": {lang: sentence(asset, decided, lang) for lang in ("en", "ja")},
            "numbers": dict(decided.why.numbers),
        }
        for asset in takers
        if (decided := decision.assets.get(asset)) is not None
    ]
