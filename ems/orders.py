"""What people order: requests become memory, and every one of them gets an outcome.

An outcome is committed before the first write that follows from it, so that after a crash nothing is
executed twice. Refusals name their cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ems.black_start import FAILED, BlackStarts
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar
from ems.decision import Event
from ems.frozen import frozen
from ems.memory import Manual, Memory, Pending, UnitMemory
from ems.model import NOTHING, UNNUMBERED, Image, Limits, Outcome, Request, Status
from ems.pushed import pushed_names
from ems.sequencer import COMING, on_bus
from ems.terms import Mode, Phase, Stage

LIMIT_FIELDS = ("max_kw", "min_kw", "soc_min", "soc_max", "out_of_service")
STARTABLE = ("diesel", "hydro", "deferrable")
"""An inverter is not among them: it holds the bus or may have to, and is stopped at its own panel."""
STEP_S, DOUBT_S = 5.0, 900.0
"""A clock that moved this much more or less than time went by was set [s]; for so long after it no limit lapses by it [s]: it may be set back."""
LATE_S, BLACK_START_LATE_S = 900.0, 60.0
"""An order older than this is not carried out any more [s]: whoever gave it no longer expects it, least of all at a dead busbar."""
AGEING = ("mode", "stage", "accept", "command")
"""What is refused by its age. Limits hold until somebody changes them, and an emergency stop is always obeyed."""
EFFECT_TIMEOUT_S = 600.0
"""An accepted command whose effect is not seen in this time [s] is closed with that result."""


@frozen
class Taken:
    """Memory after the requests of one cycle, what is to be told, and whose advice a person lets be carried out now."""

    memory: Memory
    outcomes: tuple[Outcome, ...] = ()
    events: tuple[Event, ...] = ()
    accepted: frozenset[str] = frozenset()


class Orders:
    """Takes requests for one site."""

    def __init__(self, site: Site, black_starts: BlackStarts) -> None:
        self._black_starts = black_starts
        self._kinds: dict[str, str] = {a.id: str(a.kind) for a in site.assets}
        self._kinds.update({f.id: "feeder" for load in site.of(Load) for f in load.feeders})
        self._switchable = {f.id for load in site.of(Load) for f in load.feeders if f.device is not None}
        self._ratings = {a.id: a.rated_kw for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter | Deferrable)}
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._batteries = {b.id for b in site.of(Battery)}

    def take(self, image: Image, memory: Memory, requests: Sequence[Request]) -> Taken:
        """Return the memory with all requests worked in, in their order; the later one wins."""
        outcomes: list[Outcome] = []
        events: list[Event] = []
        accepted: set[str] = set()
        limits = memory.limits if in_doubt(image, memory) else self._lapsed(memory.limits, image.time, events)
        if limits is not memory.limits:
            memory = replace(memory, limits=limits)
        ordered = sorted(requests, key=lambda r: r.seq)
        for n, request in enumerate(ordered):
            if request.seq <= memory.taken_seq and request.seq != UNNUMBERED:
                continue
            cause = too_late(request, ordered[n + 1 :], image, memory.answered_seq) or self._refusal(request, image, memory)
            memory = replace(memory, taken_seq=max(memory.taken_seq, request.seq))
            if cause is not None:
                status = Status.EXPIRED if cause == "expired" else Status.REJECTED
                outcomes.append(Outcome(request.seq, status, cause))
                events.append(Event("refused", request.asset, f"{request.kind}: {cause}", request.by))
                continue
            memory, outcome = self._apply(request, image, memory)
            outcomes.append(outcome)
            events.append(Event(request.kind, request.asset, said(request), request.by))
            if request.kind == "accept" and request.asset is not None:
                accepted.add(request.asset)
        return Taken(memory, tuple(outcomes), tuple(events), frozenset(accepted))

    def effects(self, image: Image, memory: Memory) -> Taken:
        """Return what has come of accepted commands: done when it is seen, closed when it never is."""
        if not memory.pending:
            return Taken(memory)
        outcomes, left, manual = [], {}, dict(memory.manual)
        for seq, pending in memory.pending.items():
            seen = self._effect(pending, image)
            if pending.action == "black_start":
                start = memory.black_start
                if start is not None and start.step != FAILED:
                    left[seq] = pending
                    continue
                cause = None if start is None else "black_start_failed"
                outcomes.append(Outcome(seq, Status.DONE, cause, "the bus is up" if start is None else start.cause))
            elif seen:
                outcomes.append(Outcome(seq, Status.DONE, result=seen))
            elif image.now_s >= pending.until_s:
                outcomes.append(Outcome(seq, Status.DONE, cause="no_effect", result="the effect was not seen in time"))
            else:
                left[seq] = pending
                continue
            if pending.action == "restore" and manual.get(pending.asset, Manual()).run:
                manual.pop(pending.asset)  # closed, it is in the EMS' hands again
        return Taken(replace(memory, pending=left, manual=manual) if outcomes else memory, tuple(outcomes))

    def _refusal(self, request: Request, image: Image, memory: Memory) -> str | None:
        if request.expires_at is not None and request.kind == "command" and image.time > request.expires_at:
            return "expired"
        if request.kind == "mode" and request.asset is None and request.body.get("mode") == "black_start":
            return self._black_starts.refusal(image, memory, request.body.get("former"))
        if request.kind not in ("command", "mode", "limits", "stage") or (request.asset is None and request.kind in ("mode", "stage")):
            return None
        asset, action = request.asset or "", request.body.get("action")
        kind = self._kinds.get(asset)
        if kind is None:
            return "unknown asset"
        if kind == "feeder" and asset not in self._switchable:
            return "this feeder has no breaker that can be commanded"
        if request.kind != "command" or action == "release":
            return None
        unit = image.assets[asset]
        if not unit.seen:
            return "its device does not answer"
        if not unit.remote:
            return "it is under local control"
        if action in ("shed", "restore") and kind == "feeder":
            return None
        if action != "set" and not (action in ("start", "stop") and kind in STARTABLE):
            return f"a {kind} is not started or stopped" if action in ("start", "stop") else f"a {kind} takes no order to {action}"
        if action == "set":
            return self._refuse_power(asset, kind, request.body.get("power_kw"))
        if action == "start" and kind == "diesel":
            return self._refuse_start(asset, unit.ready, memory)
        return None

    def _refuse_power(self, asset: str, kind: str, power_kw: object) -> str | None:
        if kind not in ("solar", "hydro", "diesel", "inverter", "deferrable"):
            return f"a {kind} takes no setpoint"
        if not isinstance(power_kw, int | float):
            return "power_kw is missing"
        low = -self._ratings[asset] if kind == "inverter" else 0.0
        return None if low <= power_kw <= self._ratings[asset] else f"outside {low:g}..{self._ratings[asset]:g} kW"

    def _refuse_start(self, asset: str, ready: bool, memory: Memory) -> str | None:
        if not ready:
            return "it is not ready"
        unit = memory.units.get(asset)
        return "it is locked out; release it first" if unit is not None and unit.phase is Phase.LOCKED else None

    def _apply(self, request: Request, image: Image, memory: Memory) -> tuple[Memory, Outcome]:
        done = Outcome(request.seq, Status.DONE, result="in force")
        body = request.body
        match request.kind:
            case "limits":
                return replace(memory, limits={**memory.limits, str(request.asset): limits_of(body, request)}), done
            case "mode" if body["mode"] == "black_start":
                memory = self._black_starts.ordered(image, memory, body.get("former"), request.by)
                pending = Pending("", "black_start", image.now_s)
                return replace(memory, pending={**memory.pending, request.seq: pending}), Outcome(request.seq, Status.ACCEPTED)
            case "mode":
                if request.asset is None:
                    memory = self._black_starts.withdrawn(memory, image)
                return self._mode(str(body["mode"]), request.asset, image, memory), done
            case "stage":
                return self._stage(Stage(body["stage"]), request.asset, memory), done
            case "stop":
                start = memory.black_start
                ended = None if start is None else replace(start, step=FAILED, failed_at=start.failed_at or start.step, cause=start.cause or "stop")
                return replace(memory, stopped=True, black_start=ended), done
            case "command":
                return self._command(request, image, memory)
        return memory, done if request.kind in ("accept", "forecast") else replace(done, result="noted")

    def _stage(self, stage: Stage, asset: str | None, memory: Memory) -> Memory:
        """Return the memory with a stage for the site or for one asset.

        What was decided without being written is no place to ramp from: the next first writes move nothing.
        """
        if asset is None:
            return memory if stage is memory.stage else replace(memory, stage=stage, setpoints=NOTHING, astray=NOTHING)
        stages = {a: s for a, s in memory.stages.items() if a != asset} | ({} if stage is Stage.CONTROL else {asset: stage})
        setpoints = {a: kw for a, kw in memory.setpoints.items() if a != asset}
        return replace(memory, stages=stages, setpoints=setpoints)

    def _mode(self, mode: str, asset: str | None, image: Image, memory: Memory) -> Memory:
        if asset is not None:
            manual = dict(memory.manual)
            if mode == "manual":
                manual[asset] = manual.get(asset, Manual(run=self._runs(asset, image, memory), power_kw=memory.setpoints.get(asset)))
            else:
                manual.pop(asset, None)
            return replace(memory, manual=manual)
        restart = memory.stopped and mode == "auto"
        began = Mode.START if restart else memory.mode
        return replace(memory, all_manual=mode == "manual", stopped=False if restart else memory.stopped, mode=began)

    def _command(self, request: Request, image: Image, memory: Memory) -> tuple[Memory, Outcome]:
        asset, action = str(request.asset), str(request.body["action"])
        manual = dict(memory.manual)
        before = manual.get(asset, Manual())
        units: Mapping[str, UnitMemory] = memory.units
        feeders = dict(memory.feeders)
        if action in ("restore", "release") and asset in feeders:
            # A person's word ends a lock-out, and gives back what somebody had opened by hand.
            opener = feeders[asset].opened_by
            feeders[asset] = replace(feeders[asset], locked=False, retrips=0, stuck_s=None, opened_by="ems" if opener == "local" else opener)
        match action:
            case "start" | "restore":
                manual[asset] = replace(before, run=True)
            case "stop" | "shed":
                manual[asset] = replace(before, run=False, power_kw=None)
            case "set":
                manual[asset] = replace(before, power_kw=float(request.body["power_kw"]))
            case "release":
                manual.pop(asset, None)
                unit = units.get(asset)
                if unit is not None and unit.phase is Phase.LOCKED:
                    units = {**units, asset: UnitMemory(Phase.OFF, image.now_s)}
                elif unit is not None and unit.locked:
                    units = {**units, asset: replace(unit, locked=False)}
        memory = replace(memory, manual=manual, units=units, feeders=feeders)
        if action in ("release", "set"):
            return memory, Outcome(request.seq, Status.DONE, result="in force")
        pending = {**memory.pending, request.seq: Pending(asset, action, image.now_s + EFFECT_TIMEOUT_S)}
        return replace(memory, pending=pending), Outcome(request.seq, Status.ACCEPTED)

    def _effect(self, pending: Pending, image: Image) -> str | None:
        unit = image.assets.get(pending.asset)
        if unit is None:
            return None
        if pending.action in ("shed", "restore"):
            closed = unit.flag("breaker_closed")
            return None if closed is None or closed is (pending.action == "shed") else f"{pending.action} seen"
        running = on_bus(unit) if pending.asset in self._diesels else unit.flag("running")
        return None if running is None or running is not (pending.action == "start") else f"{pending.action} seen"

    def _runs(self, asset: str, image: Image, memory: Memory) -> bool | None:
        """Return whether an asset runs; an engine that cools down turns, but is off."""
        if asset in self._diesels:
            unit = memory.units.get(asset)
            return unit is not None and unit.phase in (*COMING, Phase.ONLINE)
        return image.assets[asset].flag("breaker_closed" if self._kinds[asset] == "feeder" else "running")

    def _lapsed(self, limits: Mapping[str, Limits], now: datetime, events: list[Event]) -> Mapping[str, Limits]:
        past = [a for a, limit in limits.items() if limit.expires_at is not None and limit.expires_at <= now]
        events.extend(Event("limit_expired", a, limits[a].reason) for a in past)
        return {a: limit for a, limit in limits.items() if a not in past} if past else limits


def stepped_s(image: Image, memory: Memory) -> float | None:
    """Return when the clock was last set [s of `now_s`]; None where it was not since this process began."""
    if memory.seen_at is None:
        return memory.stepped_s
    step_s = (image.time - memory.seen_at).total_seconds() - image.dt_s
    return image.now_s if abs(step_s) > STEP_S else memory.stepped_s


def in_doubt(image: Image, memory: Memory) -> bool:
    """Whether the clock was set a short while ago."""
    at_s = stepped_s(image, memory)
    return at_s is not None and image.now_s - at_s < DOUBT_S


def answered(requests: Sequence[Request], last: datetime | None) -> int:
    """Return the newest of these untaken requests that a process has met which lived until `last`, 0 where none.

    What it carried out was durable before its cycle was recorded: these it has refused, while it could not write that down.
    """
    return max((r.seq for r in requests if last is not None and r.at <= last), default=0)


def too_late(request: Request, later: Sequence[Request], image: Image, answered_seq: int) -> str | None:
    """Return why a request is not worked in any more, or None.

    Parameters
    ----------
    later : Sequence[Request]
        What came after it and is met in the same cycle: of old orders only the last one counts.
    answered_seq : int
        Orders up to this one the process before has refused while it could not write that down.
    """
    if request.seq <= answered_seq and request.kind != "stop":
        return "ledger_dead"
    least_s = BLACK_START_LATE_S if request.kind == "mode" and request.body.get("mode") == "black_start" else LATE_S
    # Where the site's clock runs fast a cycle alone may take a minute.
    if (image.time - request.at).total_seconds() <= max(least_s, min(2.0 * image.dt_s, LATE_S)):
        return None
    if any(overtakes(r, request) for r in later if r.seq > answered_seq):
        return "superseded"
    return "expired" if request.kind in AGEING and not hands_off(request) else None


def takes_control(requests: Sequence[Request], outcomes: Sequence[Outcome]) -> bool:
    """Whether stage control was ordered in this cycle, and not too late."""
    done = {o.seq for o in outcomes if o.status is Status.DONE}
    return any(r.kind == "stage" and r.body.get("stage") == Stage.CONTROL and r.seq in done for r in requests)


def overtakes(later: Request, request: Request) -> bool:
    """Whether a later order takes the place of a mode, a stage, or an emergency stop."""
    if request.kind == "stop":
        return later.kind == "mode" and later.asset is None and later.body.get("mode") == "auto"
    return request.kind in ("mode", "stage") and (later.kind, later.asset) == (request.kind, request.asset)


def hands_off(request: Request) -> bool:
    """Whether an order only takes something out of our hands: there may be men at work, so it holds however late it is met."""
    if request.kind == "stage":
        return request.body.get("stage") != Stage.CONTROL
    return request.kind == "mode" and request.asset is not None and request.body.get("mode") == "manual"


def limits_of(body: Mapping[str, Any], request: Request) -> Limits:
    """Return the limits that a request sets."""
    values = {name: body[name] for name in LIMIT_FIELDS if body.get(name) is not None}
    return Limits(**values, expires_at=request.expires_at, reason=str(body.get("reason", "")), by=request.by, version=request.seq)


def said(request: Request) -> str:
    """Return a request in words, for the list of events."""
    if request.kind == "forecast":
        return f"{', '.join(pushed_names(request.body))} from {request.body['start']} ({request.body['reason']})"
    what = ", ".join(f"{k} {v}" for k, v in request.body.items() if k not in ("reason", "expires_at") and v is not None)
    reason = request.body.get("reason")
    return f"{what} ({reason})" if reason else what
