"""Ways to break what a good plan has of deferrable loads, and what it started from."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ems.config.site import Deferrable
from ems.model import Limits
from ems.plan import DeferrableStart
from tests.ems.broken_inputs import Break, column, power, put, some, where, with_asset
from tests.ems.plans import Good


def duty(pick: Callable[[Good, Deferrable, random.Random], Good | None]) -> Break:
    def broken(case: Good, chance: random.Random) -> Good | None:
        x = some(chance, list(case.site.of(Deferrable)))
        return None if x is None else pick(case, x, chance)

    return broken


def at_night(case: Good, x: Deferrable, chance: random.Random) -> Good | None:
    outside = [k for k, t in enumerate(case.plan.grid.starts()) if not 5 <= t.astimezone(case.site.tz).hour < 22]
    k = some(chance, outside)
    return None if k is None else column(power(case, x.id, k, x.rated_kw), "on", x.id, put(case.plan.on[x.id], k, True))


def too_little(case: Good, x: Deferrable, chance: random.Random) -> Good | None:
    k = some(chance, where(case, x.id, 30.0))
    return None if k is None else power(case, x.id, k, 0.5 * x.min_kw)


def too_short(case: Good, x: Deferrable, chance: random.Random) -> Good | None:
    on = case.plan.on[x.id]
    if not x.interruptible or True not in on[1:-4] or on[0]:
        return None
    return with_asset(case, x, min_run_s=4.0 * 3600.0)


def too_often(case: Good, x: Deferrable, chance: random.Random) -> Good | None:
    local = [t.astimezone(case.site.tz) for t in case.plan.grid.starts()]
    day = some(chance, sorted({t.date() for t in local}))
    on = tuple(t.date() == day and 9 <= t.hour < 20 and t.hour % 2 == 1 for t in local)
    if sum(a and not b for a, b in zip(on, (False, *on), strict=False)) <= (x.max_starts_per_day if x.interruptible else 1):
        return None
    return column(column(case, "on", x.id, on), "power_kw", x.id, tuple(x.rated_kw * f for f in on))


def known(case: Good, x: Deferrable, duty: DeferrableStart) -> Good:
    return replace(case, start=replace(case.start, deferrables={x.id: duty}))


def days_off(case: Good, x: Deferrable) -> list[Any]:
    """Return the local days on which it could run in the steps in which it does not, by step."""
    local = [t.astimezone(case.site.tz) for t in case.plan.grid.starts()]
    opens_s, closes_s = x.window_s
    return [t.date() for t, on in zip(local, case.plan.on[x.id], strict=True) if not on and opens_s <= t.hour * 3600 and (t.hour + 1) * 3600 <= closes_s]


def over_limit(case: Good, x: Deferrable, chance: random.Random) -> Good | None:
    return replace(case, limits={x.id: Limits(max_kw=0.5 * x.rated_kw)}) if where(case, x.id, 30.0) else None


def under_limit(case: Good, x: Deferrable, chance: random.Random) -> Good | None:
    k = some(chance, where(case, x.id, 30.0))
    if k is None or not x.modulating:
        return None
    return replace(power(case, x.id, k, x.min_kw), limits={x.id: Limits(min_kw=0.9 * x.rated_kw)})


def begun_before(case: Good, x: Deferrable, chance: random.Random) -> Good | None:
    """It has been begun so often today that the plan may not begin it once more."""
    starts, on = case.plan.grid.starts(), case.plan.on[x.id]
    first = next((t for t, runs in zip(starts, on, strict=True) if runs), None)
    if first is None or first.astimezone(case.site.tz).date() != starts[0].astimezone(case.site.tz).date():
        return None
    return known(case, x, DeferrableStart(False, 3600.0, x.max_starts_per_day if x.interruptible else 1))


def paused(case: Good, x: Deferrable, chance: random.Random) -> Good | None:
    """It runs, may not be interrupted, and the plan begins it once more later today."""
    begun = begun_before(case, x, chance)
    return None if begun is None or x.interruptible or case.plan.on[x.id][0] else known(case, x, DeferrableStart(True, 1e5, 1))


def cut_short(case: Good, x: Deferrable, chance: random.Random) -> Good | None:
    """It has just been begun, and the plan has it off."""
    today = case.plan.grid.start.astimezone(case.site.tz)
    if case.plan.on[x.id][0] or not x.window_s[0] <= today.hour * 3600 < x.window_s[1]:
        return None
    return known(case, x, DeferrableStart(True, chance.uniform(0.0, 0.9) * x.min_run_s, 1))


def undone(case: Good, x: Deferrable, chance: random.Random) -> Good | None:
    """It does not get its day, could have more of it, and nothing says so."""
    able = days_off(case, x)
    missing = [u for u in case.plan.unmet if u.limit == "deferrable" and x.rated_kw * able.count(u.at.astimezone(case.site.tz).date()) > 100.0]
    if not any(u.amount > 20.0 for u in missing):
        return None
    return replace(case, plan=replace(case.plan, unmet=tuple(u for u in case.plan.unmet if u.limit != "deferrable")))


DUTIES: dict[str, tuple[Break, str]] = {
    "deferrable outside its hours": (duty(at_night), "outside its hours"),
    "deferrable under its minimum": (duty(too_little), "(desal1|ice) at .* allowed"),
    "deferrable too briefly": (duty(too_short), "desal1 runs for"),
    "deferrable too often": (duty(too_often), "starts . times on"),
    "deferrable above an operator's limit": (duty(over_limit), "(desal1|ice) at .* allowed"),
    "deferrable below an operator's limit": (duty(under_limit), "desal1 at .* allowed"),
    "deferrable once more than it may": (duty(begun_before), "starts . times on"),
    "deferrable that may not be paused": (duty(paused), "ice starts 2 times on"),
    "deferrable cut short": (duty(cut_short), "(desal1|ice) runs for"),
    "deferrable without its day": (duty(undone), "(desal1|ice) is left .* could have them"),
}
