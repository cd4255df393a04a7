"""For machines around us: is it alive, is it ready, and its figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from api.web.desk import AtDesk, Desk
from api.web.problem import Problem, answer

router = APIRouter(tags=["service"])

LATE_CYCLES = 5.0
LINK_COUNTS = {
    "asked": "Modbus questions sent",
    "answered": "Modbus questions answered rightly",
    "silent": "Modbus questions not answered in time",
    "refused": "Modbus questions answered with an exception",
    "opened": "Modbus connections opened",
}


def late(at: Desk) -> str | None:
    """Return why control does not count as alive, or None where it does."""
    age_s = at.live.age_s()
    if age_s is None:
        return "the controller has not completed a cycle yet"
    limit_s = LATE_CYCLES * at.loaded.site.control.cycle_s
    return f"the last completed cycle is {age_s:.1f} s old" if age_s >= limit_s else None


@router.get("/healthz")
async def healthz(at: AtDesk) -> JSONResponse:
    """200 while the last completed cycle is younger than five cycles."""
    cause = late(at)
    return JSONResponse({"status": "ok", "age_s": at.live.age_s()}) if cause is None else answer(503, "no_cycle", cause)


@router.get("/readyz")
async def readyz(at: AtDesk) -> JSONResponse:
    """200 once cycles complete."""
    cause = late(at)
    return JSONResponse({"status": "ready", "cycle": at.live.state["cycle"] if at.live.state else None}) if cause is None else answer(503, "no_cycle", cause)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, at: AtDesk) -> PlainTextResponse:
    """Figures for Prometheus; beyond loopback with a token."""
    if at.public:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or at.tokens.person(token.strip()) is None:
            raise Problem(401, "sign_in", "a valid token is needed: POST auth/token", {"WWW-Authenticate": "Bearer"})
    registry = CollectorRegistry()
    registry.register(Figures(at))
    return PlainTextResponse(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")


class Figures:
    """The newest state as Prometheus figures; what is missing is left out, never zero."""

    def __init__(self, at: Desk) -> None:
        self._at = at

    def collect(self) -> Iterable[Metric]:
        """Yield all figures."""
        live, state = self._at.live, self._at.live.state
        yield gauge("ems_up", "Whether control completes its cycles", float(late(self._at) is None))
        if state is None:
            return
        yield gauge("ems_cycle_age_seconds", "Time since the last completed cycle", live.age_s())
        cycles = CounterMetricFamily("ems_cycles", "Cycles completed")
        cycles.add_metric([], state["cycle"])
        yield cycles
        for name in ("load_kw", "unserved_kw", "frequency_hz", "voltage_v", "renewable_fraction"):
            yield gauge(f"ems_{name}", f"State {name}", state.get(name))
        for name in ("required_kw", "available_kw", "down_kw", "energy_kwh"):
            yield gauge(f"ems_reserve_{name}", f"Reserve {name}", state.get("reserve", {}).get(name))
        yield gauge("ems_plan_age_seconds", "Age of the plan in use", state.get("plan", {}).get("age_s"))
        yield gauge("ems_co2_displaced_today_kg", "CO2 displaced today, physical", state.get("co2", {}).get("displaced_kg_today"))
        yield gauge("ems_alarms_active", "Active alarms", state.get("alarms", {}).get("active"))
        yield from self._assets(state.get("assets", {}))
        yield from self._links(live.links)

    def _assets(self, assets: dict[str, dict[str, object]]) -> Iterator[Metric]:
        for name in ("power_kw", "setpoint_kw", "available_kw", "soc", "age_s"):
            family = GaugeMetricFamily(f"ems_asset_{name}", f"Asset {name}", labels=["asset", "kind"])
            for asset, seen in assets.items():
                value = seen.get(name)
                if isinstance(value, int | float):
                    family.add_metric([asset, str(seen.get("kind"))], float(value))
            yield family

    def _links(self, links: dict[str, dict[str, Any]]) -> Iterator[Metric]:
        """What happened on each Modbus connection; the rejected answers by reason."""
        for name, text in LINK_COUNTS.items():
            family = CounterMetricFamily(f"ems_link_{name}", text, labels=["link"])
            for link, counts in links.items():
                family.add_metric([link], float(counts[name]))
            yield family
        rejected = CounterMetricFamily("ems_link_rejected", "Answers that did not fit their question and were not used", labels=["link", "reason"])
        for link, counts in links.items():
            for reason, number in counts["rejected"].items():
                rejected.add_metric([link, reason], float(number))
        yield rejected


def gauge(name: str, text: str, value: object) -> GaugeMetricFamily:
    """Return one figure; without a sample where it is missing."""
    family = GaugeMetricFamily(name, text)
    if isinstance(value, int | float):
        family.add_metric([], float(value))
    return family
