"""What a plan could not meet, in operator words: which wish, from when, for how long, how much. Found from the plan alone.

The kernel counts what is missing as control will count it, whoever made the plan; a planner's own slack variables need not be believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo

from ems.config.site import Deferrable, Diesel, Site, Tank
from ems.deferrables import inside_s, starts_per_day
from ems.model import Limits
from ems.plan import Forecast, Plan, PlantStart, Unmet
from ems.plan_case import Case, case_of
from ems.plan_stores import dry_l
from ems.plan_units import OFF, cut_short, running_kw
from ems.reserve import ReserveRule, ceiling_soc, floor_soc, storages

NOTICE_KW = 0.5
NOTICE_KWH = 0.5
NOTICE_L = 1.0
"""Less than this is the solver's tolerance, not a wish."""
LIMITED = frozenset({"unserved", "reserve", "reserve_energy", "soc"})
"""Wishes that limits of an operator may stand against."""


def unmet(site: Site, plan: Plan, start: PlantStart, forecast: Forecast, limits: Mapping[str, Limits]) -> Iterator[Unmet]:
    """Yield what was wished and cannot be had, the gravest first."""
    case = case_of(site, plan, start, forecast, limits)
    yield from _unserved(case)
    yield from _reserve(case)
    yield from _fuel(case)
    yield from _charge(case)
    yield from _loading(case)
    yield from deferred(case)
    yield from _contradictions(case)


def _unserved(case: Case) -> Iterator[Unmet]:
    kwh = sum(p * s for p, s in zip(case.plan.unserved_kw, case.plan.grid.step_s, strict=True)) / 3600.0
    if max(case.plan.unserved_kw, default=0.0) > NOTICE_KW:
        en, ja = f"{kwh:.0f} kWh of load cannot be served", f"負荷 {kwh:.0f} kWh に供給できません"
        yield _when(case, "unserved", [p > NOTICE_KW for p in case.plan.unserved_kw], kwh, "kWh", en, ja)


def _reserve(case: Case) -> Iterator[Unmet]:
    """Spinning reserve in power, the energy behind it, and room to take power back, as `ems.reserve` counts them."""
    rule, plan, n = ReserveRule(case.site), case.plan, case.plan.grid.n_steps
    pairs = storages(case.site)
    short, thin, down = [0.0] * n, [0.0] * n, [0.0] * n
    for k in range(n):
        if plan.unserved_kw[k] > 0.99 * plan.load_kw[k] > 0.0:
            continue  # on a dead bus there is nothing to hold
        supply = case.supply(k)
        found = rule.assess(supply, plan.load_kw[k])
        if found.short_kw > 0.0:
            # With all the energy there could be: what is still missing then is power.
            full = rule.assess(case.supply(k, {p.battery.id: 1.0 for p in pairs}), plan.load_kw[k])
            short[k] = min(found.short_kw, full.short_kw)
            thin[k] = (found.short_kw - short[k]) * found.hold_s / 3600.0
        able = any(p.inverter.id in supply.online for p in pairs)
        down[k] = max(0.0, found.down_required_kw - found.down_kw) if able else 0.0
    for limit, values, unit, least, en, ja in (
        ("reserve", short, "kW", NOTICE_KW, "spinning reserve is short by up to {0:.0f} kW", "運転予備力が最大 {0:.0f} kW 不足します"),
        ("reserve_energy", thin, "kWh", NOTICE_KWH, "up to {0:.0f} kWh behind the reserve are missing", "予備力のための電力量が最大 {0:.0f} kWh 不足します"),
        ("reserve_down", down, "kW", NOTICE_KW, "room to take back power is short by up to {0:.0f} kW", "下げ方向の予備力が最大 {0:.0f} kW 不足します"),
    ):
        most = max(values, default=0.0)
        if most > least:
            yield _when(case, limit, [v > least for v in values], most, unit, en.format(most), ja.format(most))


def _fuel(case: Case) -> Iterator[Unmet]:
    for tank in case.site.of(Tank):
        missing, _ = dry_l(case, tank)
        litres = sum(missing)
        if litres > NOTICE_L:
            en, ja = f"{tank.id} lacks {litres:.0f} L", f"{tank.id} の燃料が {litres:.0f} L 不足します"
            yield _when(case, "fuel", [m > 0.0 for m in missing], litres, "L", en, ja)


def _charge(case: Case) -> Iterator[Unmet]:
    """Batteries outside the band that site or operator want."""
    for pair in storages(case.site):
        if pair.battery.id not in case.plan.soc:
            continue
        battery, soc, n = pair.battery, case.plan.soc[pair.battery.id], case.plan.grid.n_steps
        under, over = [0.0] * n, [0.0] * n
        for k in range(n):
            limit = case.limit(battery.id, k)
            under[k] = (floor_soc(battery, limit) - soc[k + 1]) * battery.capacity_kwh
            over[k] = (soc[k + 1] - ceiling_soc(battery, limit)) * battery.capacity_kwh
        for name, values, en, ja in (
            ("soc", under, "is up to {0:.0f} kWh under its floor", "が下限を最大 {0:.0f} kWh 下回ります"),
            ("soc_max", over, "is up to {0:.0f} kWh above its ceiling", "が上限を最大 {0:.0f} kWh 上回ります"),
        ):
            most, least = max(values, default=0.0), max(NOTICE_KWH, 2e-3 * battery.capacity_kwh)
            if most > least:
                flags = [v > least for v in values]
                yield _when(case, name, flags, most, "kWh", f"{battery.id} {en.format(most)}", f"{battery.id} {ja.format(most)}")


def _loading(case: Case) -> Iterator[Unmet]:
    """Diesels that run below minimum loading, or below what an operator asks for, because nothing takes more."""
    for d in case.site.of(Diesel):
        missing = []
        for k, (on, power) in enumerate(zip(case.plan.on[d.id], case.plan.power_kw[d.id], strict=True)):
            limit = case.limit(d.id, k)
            asked = d.min_kw if limit is None or limit.min_kw is None else max(d.min_kw, limit.min_kw)
            missing.append(min(asked, case.top_kw(d, k)) - power if on else 0.0)
        most = max(missing, default=0.0)
        if most > case.slack_kw:
            en = f"{d.id} runs up to {most:.0f} kW under its minimum: nothing takes more"
            yield _when(case, "min_loading", [m > case.slack_kw for m in missing], most, "kW", en, f"{d.id} は最大 {most:.0f} kW の低負荷運転になります")


def deferred(case: Case) -> Iterator[Unmet]:
    """Daily energy that is not had, by local day, and runs under way that are cut short."""
    for x in case.site.of(Deferrable):
        for day, (missing, _) in _missing_kwh(case, x).items():
            if missing > max(NOTICE_KWH, 0.01 * x.daily_kwh):
                en, ja = f"{x.id} misses {missing:.0f} kWh of its daily energy on {day}", f"{x.id} の {day} の必要量が {missing:.0f} kWh 不足します"
                yield Unmet("deferrable", max(_window(x, day, case.site.tz)[0], case.plan.made_at), missing, "kWh", en, ja)
        if (cut := cut_short(case, x)) is not None:
            at, missing_s = case.starts[cut[0]], cut[1]
            en, ja = f"{x.id} is stopped {missing_s:.0f} s before its minimum run", f"{x.id} は最短運転時間より {missing_s:.0f} 秒早く停止します"
            yield Unmet("min_run", at, missing_s, "s", en, ja)


def unlisted(case: Case) -> Iterator[str]:
    """Yield whose daily energy a plan leaves undone although it could be had, and does not say so: what has a reason is among its `unmet`."""
    listed = sum(u.amount for u in case.plan.unmet if u.limit == "deferrable")
    for x in case.site.of(Deferrable):
        for day, (missing, able) in _missing_kwh(case, x).items():
            undone, least = min(missing, able), max(NOTICE_KWH, 0.01 * x.daily_kwh)
            if undone <= least:
                continue
            if undone > listed + least:
                yield f"{x.id} is left {undone:.0f} kWh short on {day}, could have them, and the plan does not say so"
                return
            listed -= undone


def _missing_kwh(case: Case, x: Deferrable) -> dict[str, tuple[float, float]]:
    """Return what a deferrable misses on each local day, and what more it could draw in that day's steps [kWh]; of a day that the horizon cuts its part."""
    plan, zone = case.plan, case.site.tz
    given, able = dict[str, float](), dict[str, float]()
    for k, (begin, step_s, kw) in enumerate(zip(case.starts, plan.grid.step_s, plan.power_kw.get(x.id, ()), strict=False)):
        days, (_, most_kw) = inside_s(x, zone, begin, step_s), running_kw(case, x, k)
        for day, seconds in days.items():
            given[day] = given.get(day, 0.0) + kw * step_s / 3600.0 * seconds / sum(days.values())
            able[day] = able.get(day, 0.0) + most_kw * seconds / 3600.0
    duty, today = case.start.deferrables.get(x.id, OFF), plan.made_at.astimezone(zone).date().isoformat()
    if not duty.on and duty.starts_today >= starts_per_day(x):
        able[today] = 0.0  # it has been begun as often as it may be
    found = {}
    for day in sorted({today, *given}):
        opens, closes = _window(x, day, zone)
        reached = min(1.0, max(0.0, (plan.grid.end - opens) / (closes - opens)))
        done = case.start.done_kwh.get(x.id, 0.0) if day == today else 0.0
        drawn = given.get(day, 0.0)
        found[day] = x.daily_kwh * reached - done - drawn, able.get(day, 0.0) - drawn
    return found


def _contradictions(case: Case) -> Iterator[Unmet]:
    """Limits of the operator that cannot both hold."""
    for asset, limit in case.limits.items():
        if case.limit(asset, 0) is not None and limit.out_of_service and limit.min_kw:
            en = f"{asset} is out of service and asked to give at least {limit.min_kw:g} kW"
            yield Unmet("limits", case.plan.made_at, limit.min_kw, "kW", en, f"{asset} は停止指定中ですが最低 {limit.min_kw:g} kW が求められています")


def _blamed(case: Case, k: int) -> tuple[str, str]:
    """Return the limits of the operator that hold in step k and take away what is missing, in both languages."""
    en, ja = [], []
    for asset in case.limits:
        limit = case.limit(asset, k)
        if limit is None:
            continue
        if limit.out_of_service:
            en.append(f"{asset} out of service")
            ja.append(f"{asset} 停止指定")
        elif limit.max_kw is not None:
            en.append(f"{asset} at most {limit.max_kw:g} kW")
            ja.append(f"{asset} 上限 {limit.max_kw:g} kW")
        elif limit.soc_min is not None:
            en.append(f"{asset} at least {100.0 * limit.soc_min:.0f} %")
            ja.append(f"{asset} 下限 {100.0 * limit.soc_min:.0f} %")
    return (f"; limits in force: {', '.join(en)}", f"。制限中: {'、'.join(ja)}") if en else ("", "")


def _when(case: Case, limit: str, flags: Sequence[bool], amount: float, unit: str, en: str, ja: str) -> Unmet:
    """Return it with its first time and how long it lasts in all."""
    first = flags.index(True)
    at = max(case.starts[first], case.plan.made_at)
    minutes = round(sum(s for s, f in zip(case.plan.grid.step_s, flags, strict=True) if f) / 60.0)
    local = at.astimezone(case.site.tz)
    hours, rest = divmod(minutes, 60)
    en_span = " ".join(p for p in (f"{hours} h" if hours else "", f"{rest} min" if rest or not hours else "") if p)
    ja_span = (f"{hours}時間" if hours else "") + (f"{rest}分" if rest or not hours else "")
    en_why, ja_why = _blamed(case, first) if limit in LIMITED else ("", "")
    return Unmet(limit, at, amount, unit, f"{en}, from {local:%d %b %H:%M} for {en_span}{en_why}", f"{ja}（{local:%m/%d %H:%M} から {ja_span}）{ja_why}")


def _window(x: Deferrable, day: str, zone: tzinfo) -> tuple[datetime, datetime]:
    midnight = datetime.fromisoformat(day).replace(tzinfo=zone)
    opens_s, closes_s = x.window_s
    return midnight + timedelta(seconds=opens_s), midnight + timedelta(seconds=closes_s)
