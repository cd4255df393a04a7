"""Minutes of energy, fuel and CO2 from the images of the cycles: the rows of the ledger.

Only good measurements count: what was inferred, suspect or missing leaves a shorter `known_s`, never a
zero. Powers are integrated between cycles and say so; where a meter has a register, the register counts.
A jump of the clock or a pause ends the minute early; the ledger books the hole. What counters and registers
advanced meanwhile is booked with the first minute after it: the total is as measured, its split estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from ems.baseline import METHOD, DieselOnly, factor_of, fuel_factor_kg_per_l
from ems.config.site import Battery, Deferrable, Diesel, Hydro, Inverter, Load, Meter, Site, Solar
from ems.counters import Counters, Pace, Sight, Span, measured, sights_of
from ems.decision import Event
from ems.model import NOTHING, Image
from ems.physics import fuel_l_per_h

MINUTE = timedelta(minutes=1)
KNOWN_SHARE = 0.9
"""A figure of a minute stands if this share of it was measured."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums since the ledger began, and of the site's day; every row carries them on.

    Attributes
    ----------
    day : str
        The site's date to which `today_kg` belongs.
    measured_l, modelled_l : float
        Litres of the minutes in which both meter and model are known [L].
    counters : Mapping[str, Sight]
        From where each counter goes on, by asset and point as `dg1.fuel_l`.
    """

    day: str = ""
    today_kg: float = 0.0
    displaced_kg: float = 0.0
    fuel_l: float = 0.0
    baseline_l: float = 0.0
    measured_l: float = 0.0
    modelled_l: float = 0.0
    counters: Mapping[str, Sight] = field(default_factory=lambda: NOTHING)

    @classmethod
    def of(cls, row: Mapping[str, Any] | None) -> Totals:
        """Return the totals that a ledger row carries, and where its counters stood; zero before the first."""
        known = {f.name for f in fields(cls)} - {"counters"}
        sums = {name: value for name, value in (row or {}).get("totals", {}).items() if name in known}
        return cls(**sums, counters=sights_of(row or {}))

    def document(self) -> dict[str, Any]:
        """Return the sums as a row carries them."""
        sums = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "counters"}
        return {name: rounded(value) if isinstance(value, float) else value for name, value in sums.items()}


@dataclass(slots=True)
class Account:
    """One asset in one minute: energy both ways [kWh], modelled fuel [L], and how much of it was seen [s]."""

    out_kwh: float = 0.0
    in_kwh: float = 0.0
    model_l: float = 0.0
    known_s: float = 0.0


@dataclass(slots=True)
class Fuel:
    """Litres of one diesel in a minute, each None where it is not known [L].

    Attributes
    ----------
    counted_l, model_l : float | None
        By its counter, where that was read at both ends of the minute, and by its curve.
    own_l : float | None
        What is booked for the minute itself.
    gap_l : float
        What is booked beside it for time that nobody saw: as measured, its split estimated.
    ahead_l : float
        How much more than its counter shows has been booked by the curve while that was not seen; less than 0: not booked yet.
    """

    span: Span
    counted_l: float | None
    model_l: float | None
    own_l: float | None = None
    gap_l: float = 0.0
    ahead_l: float = 0.0


@dataclass(slots=True)
class Minute:
    """The minute that is being filled."""

    start: datetime
    begun_s: float
    accounts: dict[str, Account] = field(default_factory=dict)
    covered_s: float = 0.0
    load_kwh: float = 0.0
    load_s: float = 0.0


class MinuteBook:
    """Turns images into minute rows.

    Parameters
    ----------
    totals : Totals
        Of the newest ledger row, so that they go on.
    pause_s : float | None
        Site time between two cycles above which nothing is integrated [s]; five cycles where not given.
    ends : Mapping[str, float]
        Where counters wrap, by asset and point as `dg1.fuel_l` [house unit]; a meter's `register_max` where not given.
    """

    def __init__(self, site: Site, totals: Totals | None = None, pause_s: float | None = None, ends: Mapping[str, float] = NOTHING) -> None:
        self.totals = totals or Totals()
        self._site = site
        self._pause_s = 5.0 * site.control.cycle_s if pause_s is None else pause_s
        self._diesel_only = DieselOnly(site)
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._powered = [a.id for kind in (Solar, Hydro, Diesel, Inverter, Load, Deferrable) for a in site.of(kind)]
        self._meters = site.of(Meter)
        self._tz = site.tz
        self._minute: Minute | None = None
        self._upto: datetime | None = None
        self._drawers = [a.id for kind in (Load, Deferrable) for a in site.of(kind)]
        self._last: Image | None = None
        self._running: dict[str, bool] = {}
        ways = [(m, f"{m.id}.energy_{way}_kwh") for m in self._meters for way in ("export", "import")]
        paces = {f"{d.id}.fuel_l": burning(d) for d in self._diesels.values()} | {name: metering(site, m) for m, name in ways}
        self._counters = Counters(paces, {name: m.register_max for m, name in ways} | dict(ends), self._pause_s)
        self._ahead_l = {d: sight.ahead_l for d in self._diesels if (sight := self.totals.counters.get(f"{d}.fuel_l")) is not None}

    def state_totals(self) -> dict[str, float | None]:
        """Return what the REST state shows: CO2 displaced today [kg] and in all [t]; None without a fleet to compare with."""
        if not self._diesel_only.fleet:
            return {"displaced_kg_today": None, "displaced_t_total": None}
        return {"displaced_kg_today": self.totals.today_kg, "displaced_t_total": self.totals.displaced_kg / 1000.0}

    def news(self) -> list[Event]:
        """Return what happened to counters since the last call: readings that cannot be, and other meters."""
        return self._counters.news()

    def add(self, image: Image) -> list[tuple[datetime, dict[str, Any]]]:
        """Take one cycle; return the rows of the minutes that are over, with their begin [UTC]."""
        rows: list[tuple[datetime, dict[str, Any]]] = []
        passed_s = None if self._upto is None else (image.time - self._upto).total_seconds()
        last, self._last = self._last, image
        if last is None:
            self._counters.restore(self.totals.counters, image)
        if last is None or passed_s is None or not 0.0 <= passed_s <= self._pause_s:
            rows += [] if last is None else self.end(last)
            self._counters.look(image)
            self._counters.begin(image.now_s)
            self._minute, self._upto = Minute(image.time, image.now_s), image.time
            return rows
        self._counters.look(image)
        while self._minute is not None and self._upto is not None:
            over = floor(self._minute.start) + MINUTE
            until = min(image.time, over)
            self._integrate(self._minute, image, (until - self._upto).total_seconds())
            self._upto = until
            if image.time < over:
                break
            rows += self.end(image)
            self._minute, self._upto = Minute(over, image.now_s), over
        return rows

    def end(self, image: Image) -> list[tuple[datetime, dict[str, Any]]]:
        """Close the minute being filled and return its row; none where nothing was covered."""
        minute, self._minute = self._minute, None
        if minute is None or minute.covered_s <= 0.0:
            return []
        return [(minute.start, self._row(minute, image))]

    def _integrate(self, minute: Minute, image: Image, seconds: float) -> None:
        """Let the powers of this image stand for the seconds since the one before."""
        hours = seconds / 3600.0
        minute.covered_s += seconds
        drawn = [measured(image.assets.get(a), "power_kw") for a in self._drawers]
        if image.load_known and None not in drawn:  # one that is inferred, or not believed, proves nothing
            minute.load_kwh += sum(p for p in drawn if p is not None) * hours
            minute.load_s += seconds
        for asset in self._powered:
            power = measured(image.assets.get(asset), "power_kw")
            if power is None:
                continue
            account = minute.accounts.setdefault(asset, Account())
            account.out_kwh += max(0.0, power) * hours
            account.in_kwh += max(0.0, -power) * hours
            account.known_s += seconds
            diesel = self._diesels.get(asset)
            if diesel is not None:
                account.model_l += self._burnt_l(diesel, image, power, hours)

    def _burnt_l(self, diesel: Diesel, image: Image, power_kw: float, hours: float) -> float:
        """Litres by the curve, with those of a start where one was seen."""
        said = image.assets[diesel.id].flag("running")
        running = power_kw > 0.01 * diesel.rated_kw if said is None else said
        started = running and self._running.get(diesel.id) is False
        self._running[diesel.id] = running
        return (fuel_l_per_h(diesel.fuel, power_kw) * hours if running else 0.0) + (diesel.start_l if started else 0.0)

    def _row(self, minute: Minute, image: Image) -> dict[str, Any]:
        fuel = {d.id: self._fuel(d, minute, image) for d in self._diesels.values()}
        row: dict[str, Any] = {
            "seconds": round(minute.covered_s, 3),
            "load_kwh": rounded(minute.load_kwh) if minute.load_s >= KNOWN_SHARE * minute.covered_s else None,
            "assets": {asset: energy(minute.accounts.get(asset)) for asset in self._powered},
            "meters": {m.id: self._register(m, minute, image) for m in self._meters},
        }
        return row | self._displaced(minute, image, fuel)

    def _fuel(self, diesel: Diesel, minute: Minute, image: Image) -> Fuel:
        """Litres of a diesel: by its counter where that was read at both ends, and by the curve."""
        span = self._counters.span(f"{diesel.id}.fuel_l", minute.begun_s, image.now_s)
        account = minute.accounts.get(diesel.id, Account())
        model = account.model_l if account.known_s >= KNOWN_SHARE * minute.covered_s else None
        return Fuel(span, None if span.carried else span.gone, model)

    def _booked(self, diesel: str, fuel: Fuel, factor: float, known: bool) -> None:
        """Decide what is booked: what the counter shows, less what the curve has booked already; without it by the curve.

        Over a gap the curve says what belongs to the minute: what is left belongs to the time that nobody saw.
        """
        span, ahead, model = fuel.span, self._ahead_l.get(diesel, 0.0), scaled(fuel.model_l, factor)
        if span.renewed:
            ahead = 0.0
        if not known:  # the row has no litres: what the counter shows of it is booked later
            fuel.ahead_l = ahead - (span.gone or 0.0)
        elif span.gone is not None:
            due = max(0.0, span.gone - ahead)
            fuel.own_l = min(due, model or 0.0) if span.carried else min(due, span.gone)
            fuel.gap_l, fuel.ahead_l = due - fuel.own_l, max(0.0, ahead - span.gone)
        else:
            fuel.own_l = model
            fuel.ahead_l = ahead + (model or 0.0) if span.start is not None and not span.renewed else 0.0
        self._ahead_l[diesel] = fuel.ahead_l

    def _ahead_of(self, name: str) -> float:
        return self._ahead_l.get(name.removesuffix(".fuel_l"), 0.0) if name.endswith(".fuel_l") else 0.0

    def _register(self, meter: Meter, minute: Minute, image: Image) -> dict[str, Any]:
        """Return a meter's registers at both ends of a minute and the energy between them [kWh]; never a negative one."""
        row: dict[str, Any] = {"measures": meter.measures}
        spans = {way: self._counters.span(f"{meter.id}.energy_{way}_kwh", minute.begun_s, image.now_s) for way in ("export", "import")}
        over = " over a gap, its split estimated" if any(s.carried and s.gone is not None for s in spans.values()) else ""
        row["method"] = f"register{over}{', an impossible reading refused' if any(s.refused for s in spans.values()) else ''}"
        for way, span in spans.items():
            row |= {f"{way}_start": span.start, f"{way}_end": span.end, f"{way}_kwh": rounded(span.gone)} | since(way, span, minute)
        return row

    def _displaced(self, minute: Minute, image: Image, fuel: Mapping[str, Fuel]) -> dict[str, Any]:
        """Fuel, baseline and what lies between them, with its band; totals go on from the row before.

        What was burnt over a gap is in `fuel_l`, and displaces nothing: what it served was not measured.
        """
        both = [(f.counted_l, f.model_l) for f in fuel.values() if f.counted_l is not None and f.model_l is not None]
        totals = replace(
            self.totals,
            measured_l=self.totals.measured_l + sum(c for c, _ in both),
            modelled_l=self.totals.modelled_l + sum(m for _, m in both),
        )
        factor = factor_of(totals.measured_l, totals.modelled_l)
        known = all(f.span.gone is not None or f.model_l is not None for f in fuel.values())
        for diesel, litres in fuel.items():
            self._booked(diesel, litres, factor.value, known)
        gap = sum(f.gap_l for f in fuel.values())
        own = sum(f.own_l or 0.0 for f in fuel.values()) if known else None
        burnt = None if own is None else own + gap
        baseline = None
        if minute.load_s >= KNOWN_SHARE * minute.covered_s:
            baseline = scaled(self._diesel_only.litres(minute.load_kwh / (minute.load_s / 3600.0), minute.load_s / 3600.0), factor.value)
        kg = fuel_factor_kg_per_l(self._site)
        low, middle, high = (None if baseline is None or own is None else (baseline * (1.0 + way * factor.band) - own) * kg for way in (-1.0, 0.0, 1.0))
        at = minute.start + timedelta(seconds=minute.covered_s)
        totals = replace(
            totals, counters={n: s for n in self._counters.names if (s := self._counters.sight(n, image.now_s, at, self._ahead_of(n))) is not None}
        )
        self.totals = grown(totals, minute.start.astimezone(self._tz).date().isoformat(), burnt, baseline, middle)
        return {
            "fuel": {diesel: written(f, minute) for diesel, f in fuel.items()},
            "fuel_l": rounded(burnt),
            "gap_l": rounded(gap),
            "fuel_method": fuel_method(fuel),
            "co2_kg_per_l": rounded(kg),
            "co2_kg": rounded(scaled(burnt, kg)),
            "baseline_l": rounded(baseline),
            "baseline_factor": rounded(factor.value),
            "baseline_band": rounded(factor.band),
            "baseline_basis": factor.basis,
            "displaced_co2_kg": rounded(middle),
            "displaced_low_kg": rounded(low),
            "displaced_high_kg": rounded(high),
            "method": METHOD,
            "totals": self.totals.document(),
        }


COUNTER_STEP_L = 10.0
"""Some counters count in steps of ten litres [L]."""
METERED = 1.2
"""A register cannot advance faster than so many times the rating of what it measures."""


def grown(totals: Totals, day: str, fuel_l: float | None, baseline_l: float | None, displaced_kg: float | None) -> Totals:
    """Return the totals after a minute of a site's day; what is not known adds nothing."""
    today = totals.today_kg if totals.day == day else 0.0
    return replace(
        totals,
        day=day,
        today_kg=today + (displaced_kg or 0.0),
        displaced_kg=totals.displaced_kg + (displaced_kg or 0.0),
        fuel_l=totals.fuel_l + (fuel_l or 0.0),
        baseline_l=totals.baseline_l + (baseline_l or 0.0),
    )


def energy(account: Account | None) -> dict[str, Any]:
    """Return an asset's energy of a minute [kWh]; of one that was not seen, None."""
    if account is None:
        return {"kwh": None, "in_kwh": None, "known_s": 0.0, "method": "integrated power"}
    return {"kwh": rounded(account.out_kwh), "in_kwh": rounded(account.in_kwh), "known_s": round(account.known_s, 3), "method": "integrated power"}


def fuel_method(fuel: Mapping[str, Fuel]) -> str:
    """Return where the litres come from: `counter`, `model`, or both."""
    kinds = {"model" if f.span.gone is None else "counter" for f in fuel.values()}
    return " and ".join(sorted(kinds)) if kinds else "no diesel"


def written(fuel: Fuel, minute: Minute) -> dict[str, Any]:
    """Return a diesel's litres as a row has them, with its counter at both ends of the minute [L]."""
    row = {"counter_l": rounded(fuel.counted_l), "model_l": rounded(fuel.model_l), "counter_start": fuel.span.start, "counter_end": fuel.span.end}
    more = {"gap_l": fuel.gap_l, "ahead_l": fuel.ahead_l}
    return row | {name: rounded(litres) for name, litres in more.items() if abs(litres) > 1e-6} | since("counter", fuel.span, minute)


def since(name: str, span: Span, minute: Minute) -> dict[str, str]:
    """Return when a counter's start was read, where that is not the begin of the minute or its end is missing."""
    if span.start is None or not (span.carried or span.end is None):
        return {}
    return {f"{name}_since": (minute.start - timedelta(seconds=span.since_s)).isoformat()}


def burning(diesel: Diesel) -> Pace:
    """Return how far a diesel's fuel counter can come."""
    return Pace(1.5 * fuel_l_per_h(diesel.fuel, diesel.rated_kw), diesel.start_l + COUNTER_STEP_L)


def metering(site: Site, meter: Meter) -> Pace:
    """Return how far a meter's register can come: 1.2 times the rating of what it measures, and a minute of that for its steps."""
    rated = [rating(a) for a in site.assets if a.id == meter.measures]
    per_h = METERED * (sum(rated) or sum(rating(a) for a in site.assets))
    return Pace(per_h, per_h / 60.0)


def rating(asset: object) -> float:
    """Return the most that an asset gives or takes, for as long as it likes [kW]; 0 where it has no power of its own."""
    if isinstance(asset, Battery):
        return max(asset.charge_kw, asset.discharge_kw)
    if isinstance(asset, Load):
        return asset.peak_kw
    return asset.rated_kw if isinstance(asset, Solar | Hydro | Diesel | Inverter | Deferrable) else 0.0


def floor(at: datetime) -> datetime:
    """Return the begin of the minute that contains a stamp."""
    return at.replace(second=0, microsecond=0)


def scaled(value: float | None, by: float) -> float | None:
    """Return a product, or None where there is nothing to multiply."""
    return None if value is None else value * by


def rounded(value: float | None) -> float | None:
    """Return a figure to six decimals, as the ledger keeps it; -0.0 is 0.0."""
    return None if value is None else round(value, 6) + 0.0
