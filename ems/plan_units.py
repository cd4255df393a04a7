"""What each unit may do in a plan: power inside rating and operator limits, on and off in time, ramps, hours of deferrables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ems.config.site import Deferrable, Diesel, Hydro, Solar
from ems.deferrables import inside_s, range_kw, starts_per_day
from ems.physics import river_kw
from ems.plan import DeferrableStart, DieselStart
from ems.plan_case import Case
from ems.reserve import storages

UNKNOWN = DieselStart(False, 0.0, usable=False)
"""A diesel of which the plant's state says nothing cannot be planned."""
OFF = DeferrableStart()
"""So is a deferrable of which the plant's state says nothing."""
SLACK_S = 1.0
"""Times may be off by this [s]."""


def unit_faults(case: Case) -> Iterator[str]:
    """Yield what units do in a plan that they cannot or may not."""
    plan, n = case.plan, case.plan.grid.n_steps
    for s in case.site.of(Solar):
        free = case.forecast.available_kw[s.id]
        yield from _outside(case, s.id, [(0.0, min(free[k], case.top_kw(s, k))) for k in range(n)])
        yield from _cut_faults(case, s)
    for pair in storages(case.site):
        yield from _outside(case, pair.inverter.id, [case.inverter_kw(pair.inverter, pair.battery, k) for k in range(n)])
    for h in case.site.of(Hydro):
        yield from _hydro_faults(case, h)
    for d in case.site.of(Diesel):
        yield from _diesel_faults(case, d)
        yield from _sequence_faults(case, d)
        yield from _ramp_faults(case, d.id, d.ramp_kw_per_s, plan.on[d.id], [(0.0, d.rated_kw)] * n)
    for x in case.site.of(Deferrable):
        yield from _deferrable_faults(case, x)


def _outside(case: Case, asset: str, bounds: Sequence[tuple[float, float]]) -> Iterator[str]:
    for k, (power, (low, high)) in enumerate(zip(case.plan.power_kw[asset], bounds, strict=True)):
        if not low - case.slack_kw <= power <= high + case.slack_kw:
            yield f"{asset} at {power:.0f} kW in step {k}, allowed {low:.0f} to {high:.0f} kW"
            return


def _cut_faults(case: Case, s: Solar) -> Iterator[str]:
    """What its own panel runs cannot be curtailed: sets go below their minimum before, as long as anybody gives anything else."""
    for k, power in enumerate(case.plan.power_kw[s.id]):
        if power >= case.taken_kw(s, k) - case.slack_kw or case.dark(k):
            continue
        if sum(case.plan.power_kw[d.id][k] for d in case.site.of(Diesel)) > case.slack_kw or case.gives_way(k):
            yield f"{s.id} at {power:.0f} kW in step {k}, where {case.taken_kw(s, k):.0f} kW come whether they are wanted or not"
            return


def _hydro_faults(case: Case, h: Hydro) -> Iterator[str]:
    powers, n = case.plan.power_kw[h.id], case.plan.grid.n_steps
    yield from _outside(case, h.id, [(0.0, case.top_kw(h, k)) for k in range(n)])
    for k, power in enumerate(powers):
        # It may stand, but not where an operator wants it to turn and the river does it.
        low = power > case.slack_kw and power < case.floor_kw(h, k) - case.slack_kw
        idle = power < case.asked_kw(h, k) - case.slack_kw and not case.dark(k)
        if (low or idle) and case.gives_way(k):
            yield f"{h.id} turns at {power:.0f} kW in step {k}, minimum {case.floor_kw(h, k):.0f} kW"
            break
    if h.mode != "fixed":  # there the river itself is what moves it
        yield from _ramp_faults(case, h.id, h.ramp_kw_per_s, [p > case.slack_kw for p in powers], _water_kw(case, h))


def _water_kw(case: Case, h: Hydro) -> list[tuple[float, float]]:
    """Return what must go through a turbine and what can in each step [kW]: no more than the river brings where no pond of known level is planned."""
    found, stored = [], h.id in case.plan.pond_m3 and h.id in case.start.pond_m3
    for k, inflow in enumerate(case.forecast.inflow_m3s[h.id]):
        river, top = river_kw(h, inflow), case.top_kw(h, k)
        found.append((min(river, case.floor_kw(h, k)), top if stored else min(river, top)))
    return found


def _diesel_faults(case: Case, d: Diesel) -> Iterator[str]:
    """Power where it runs and none where it does not; below minimum loading only where nobody else could make room."""
    first = case.start.diesels.get(d.id, UNKNOWN)
    if not first.usable and any(case.plan.on[d.id]):
        yield f"{d.id} cannot run and is planned to"
    for k, on in enumerate(case.plan.on[d.id]):
        if on and not case.in_service(d.id, k):
            yield f"{d.id} is out of service and is planned to run in step {k}"
            break
        power, top, limit = case.plan.power_kw[d.id][k], case.top_kw(d, k), case.limit(d.id, k)
        asked = 0.0 if limit is None or limit.min_kw is None else limit.min_kw
        low, high = (min(max(d.min_kw, asked), top), top) if on else (0.0, 0.0)
        too_low = power < low - case.slack_kw and (power < -case.slack_kw or case.gives_way(k))
        if too_low or power > high + case.slack_kw:
            yield f"{d.id} at {power:.0f} kW in step {k}, allowed {low:.0f} to {high:.0f} kW"
            break


def _sequence_faults(case: Case, d: Diesel) -> Iterator[str]:
    """Minimum up and down times; the first run counts what it has behind it, rounded by the grid's first step."""
    first = case.start.diesels.get(d.id)
    if first is None:
        return
    flags, steps = case.plan.on[d.id], case.plan.grid.step_s
    if first.frozen and flags[0] is not first.on:
        yield f"{d.id} is {'starting' if first.on else 'unloading'} and is planned {'off' if first.on else 'on'}"
    if (
        first.held
        and first.on
        and first.usable
        and case.in_service(d.id, 0)
        and (off := next((k for k, flag in enumerate(flags) if not flag and case.in_service(d.id, k)), None)) is not None
    ):
        yield f"{d.id} is kept running by a person or its own panel and is planned off in step {off}"
    on, since = first.on, first.since_s + steps[0]
    for k, (flag, step_s) in enumerate(zip(flags, steps, strict=True)):
        if flag is not on:
            least = d.min_up_s if on else d.min_down_s
            forced = on and (not first.usable or not case.in_service(d.id, k))  # what may not run is not held on
            if since < least - SLACK_S and not forced:
                yield f"{d.id} {'stops' if on else 'starts'} in step {k} after {since:.0f} s, minimum {least:.0f} s"
                return
            on, since = flag, 0.0
        since += step_s


def _ramp_faults(case: Case, asset: str, ramp_kw_per_s: float, on: Sequence[bool], ends: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Means of two neighbouring steps differ at most by the ramp over the time between their middles; starts and stops have their own sequences.

    Nor does a ramp hold back what has no choice: where what it must give (`ends`, lower) rises or what it can give (upper) falls, so much more may change.
    """
    powers, steps = case.plan.power_kw[asset], case.plan.grid.step_s
    for k in range(1, len(steps)):
        (must_before, top_before), (must, top), change = ends[k - 1], ends[k], powers[k] - powers[k - 1]
        most = ramp_kw_per_s * 0.5 * (steps[k - 1] + steps[k]) + max(0.0, must - must_before if change > 0.0 else top_before - top)
        if on[k - 1] and on[k] and abs(change) > most + case.slack_kw:
            yield f"{asset} changes by {change:.0f} kW into step {k}, its ramp allows {most:.0f} kW"
            return


def _deferrable_faults(case: Case, x: Deferrable) -> Iterator[str]:
    """Inside its hours, between what it and the operator allow while it is on."""
    plan, steps = case.plan, case.plan.grid.step_s
    flags = plan.on[x.id]
    for k, (on, power) in enumerate(zip(flags, plan.power_kw[x.id], strict=True)):
        by_day = inside_s(x, case.site.tz, case.starts[k], steps[k])
        share = min(1.0, sum(by_day.values()) / steps[k])
        if power > x.rated_kw * share + case.slack_kw and share < 1.0:
            yield f"{x.id} draws {power:.0f} kW in step {k}, outside its hours"
            return
        least, high = running_kw(case, x, k) if on else (0.0, 0.0)
        if not share * least - case.slack_kw <= power <= high + case.slack_kw:
            yield f"{x.id} at {power:.0f} kW in step {k}, allowed {share * least:.0f} to {high:.0f} kW"
            return
    yield from _run_faults(case, x)
    yield from _start_faults(case, x)


def running_kw(case: Case, x: Deferrable, k: int) -> tuple[float, float]:
    """Return what a deferrable may draw at least and at most in step k while it runs [kW]; (0, 0) where it cannot."""
    return range_kw(x, case.limit(x.id, k)) if case.in_service(x.id, k) else (0.0, 0.0)


def _run_faults(case: Case, x: Deferrable) -> Iterator[str]:
    """Not for moments: what the plan begins lasts its minimum run, and so does the run under way, unless the plan says that it is cut short."""
    if (cut := cut_short(case, x)) is not None and not any(u.limit == "min_run" and u.at == case.starts[cut[0]] for u in case.plan.unmet):
        yield f"{x.id} runs for {x.min_run_s - cut[1]:.0f} s up to step {cut[0] - 1}, minimum {x.min_run_s:.0f} s"
    flags, steps, run_s = case.plan.on[x.id], case.plan.grid.step_s, 0.0
    begun = not case.start.deferrables.get(x.id, OFF).on
    for k, on in enumerate(flags):
        begun = begun or not on
        run_s = run_s + steps[k] if on else 0.0
        ends = on and k + 1 < len(steps) and not flags[k + 1]
        if x.interruptible and ends and begun and case.in_service(x.id, k + 1) and run_s < x.min_run_s - SLACK_S:
            yield f"{x.id} runs for {run_s:.0f} s up to step {k}, minimum {x.min_run_s:.0f} s"
            return


def cut_short(case: Case, x: Deferrable) -> tuple[int, float] | None:
    """Return the step from which the plan has a run under way off before its minimum, and what is missing [s]; None where it ends well, or has to."""
    duty, flags = case.start.deferrables.get(x.id, OFF), case.plan.on[x.id]
    end = flags.index(False) if duty.on and False in flags else None
    if end is None or running_kw(case, x, end)[1] <= 0.0 or not inside_s(x, case.site.tz, case.starts[end], case.plan.grid.step_s[end]):
        return None
    missing_s = x.min_run_s - duty.since_s - max(0.0, (case.starts[end] - case.plan.made_at).total_seconds())
    return (end, missing_s) if missing_s > SLACK_S else None


def _start_faults(case: Case, x: Deferrable) -> Iterator[str]:
    """Not too often a day, those of today counted: where a run may not be interrupted, one that is paused would be begun a second time."""
    duty, flags, zone = case.start.deferrables.get(x.id, OFF), case.plan.on[x.id], case.site.tz
    today = case.plan.made_at.astimezone(zone).date().isoformat()
    begun: dict[str, int] = {}
    for k, (on, before) in enumerate(zip(flags, (duty.on, *flags), strict=False)):
        by_day = inside_s(x, zone, case.starts[k], case.plan.grid.step_s[k]) if on and not before else {}
        for day, seconds in by_day.items():
            begun[day] = begun.get(day, 0) + (seconds > 0.5 * sum(by_day.values()))
    for day, count in begun.items():
        made = duty.starts_today if day == today else 0
        if count > max(0, starts_per_day(x) - made):
            yield f"{x.id} starts {count + made} times on {day}, allowed {starts_per_day(x)}"
