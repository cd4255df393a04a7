"""Minutes of energy, fuel and CO2 from the images of the cycles: the rows of the ledger.

Only good measurements count: what was inferred, suspect or missing leaves a shorter `known_s`, never a
zero. Powers are integrated between cycles and say so; where a meter has a register, the register counts.
A jump of the clock or a pause ends the minute early; the ledger books the hole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from ems.baseline import METHOD, DieselOnly, factor_of, fuel_factor_kg_per_l
from ems.config.site import Deferrable, Diesel, Hydro, Inverter, Load, Meter, Site, Solar
from ems.decision import Event
from ems.model import NOTHING, AssetImage, Image, Quality
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
    """

    day: str = ""
    today_kg: float = 0.0
    displaced_kg: float = 0.0
    fuel_l: float = 0.0
    baseline_l: float = 0.0
    measured_l: float = 0.0
    modelled_l: float = 0.0

    @classmethod
    def of(cls, row: Mapping[str, Any] | None) -> Totals:
        """Return the totals that a ledger row carries; zero before the first."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in (row or {}).get("totals", {}).items() if name in known})


@dataclass(slots=True)
class Account:
    """One asset in one minute: energy both ways [kWh], modelled fuel [L], and how much of it was seen [s]."""

    out_kwh: float = 0.0
    in_kwh: float = 0.0
    model_l: float = 0.0
    known_s: float = 0.0


@dataclass(slots=True)
class Minute:
    """The minute that is being filled."""

    start: datetime
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
        self._counters: dict[str, float] = {}
        self._running: dict[str, bool] = {}
        self._ends = {f"{m.id}.energy_{way}_kwh": m.register_max for m in self._meters for way in ("export", "import")} | dict(ends)
        self._news: list[Event] = []

    def state_totals(self) -> dict[str, float | None]:
        """Return what the REST state shows: CO2 displaced today [kg] and in all [t]; None without a fleet to compare with."""
        if not self._diesel_only.fleet:
            return {"displaced_kg_today": None, "displaced_t_total": None}
        return {"displaced_kg_today": self.totals.today_kg, "displaced_t_total": self.totals.displaced_kg / 1000.0}

    def news(self) -> list[Event]:
        """Return what happened to counters since the last call: each that fell otherwise than over its end."""
        news, self._news = self._news, []
        return news

    def add(self, image: Image) -> list[tuple[datetime, dict[str, Any]]]:
        """Take one cycle; return the rows of the minutes that are over, with their begin [UTC]."""
        rows: list[tuple[datetime, dict[str, Any]]] = []
        passed_s = None if self._upto is None else (image.time - self._upto).total_seconds()
        if passed_s is None or not 0.0 <= passed_s <= self._pause_s:
            rows += self.end(image)
            self._minute, self._upto = Minute(image.time), image.time
            self._counters = self._read_counters(image)
            return rows
        while self._minute is not None and self._upto is not None:
            over = floor(self._minute.start) + MINUTE
            until = min(image.time, over)
            self._integrate(self._minute, image, (until - self._upto).total_seconds())
            self._upto = until
            if image.time < over:
                break
            rows += self.end(image)
            self._minute, self._upto = Minute(over), over
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
        if image.load_known:
            minute.load_kwh += image.load_kw * hours
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

    def _read_counters(self, image: Image) -> dict[str, float]:
        """Every counter that can be read now: litres of diesels, registers of meters."""
        points = [(d, "fuel_l") for d in self._diesels] + [(m.id, p) for m in self._meters for p in ("energy_export_kwh", "energy_import_kwh")]
        found = {f"{asset}.{point}": measured(image.assets.get(asset), point) for asset, point in points}
        return {name: value for name, value in found.items() if value is not None}

    def _row(self, minute: Minute, image: Image) -> dict[str, Any]:
        before, after = self._counters, self._read_counters(image)
        self._counters = after
        self._news += [replaced(name, before[name], after[name]) for name in after if name in before and self._advance(name, before, after) is None]
        fuel = self._fuel(minute, before, after)
        row: dict[str, Any] = {
            "seconds": round(minute.covered_s, 3),
            "load_kwh": rounded(minute.load_kwh) if minute.load_s >= KNOWN_SHARE * minute.covered_s else None,
            "assets": {asset: energy(minute.accounts.get(asset)) for asset in self._powered},
            "meters": {m.id: self._register(m, before, after) for m in self._meters},
        }
        return row | self._displaced(minute, fuel)

    def _fuel(self, minute: Minute, before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        """Litres of each diesel: by its counter where it was read at both ends and is possible, else by the curve."""
        found: dict[str, dict[str, Any]] = {}
        for diesel in self._diesels.values():
            name, account = f"{diesel.id}.fuel_l", minute.accounts.get(diesel.id, Account())
            model = account.model_l if account.known_s >= KNOWN_SHARE * minute.covered_s else None
            counted = self._advance(name, before, after)
            most = 1.5 * fuel_l_per_h(diesel.fuel, diesel.rated_kw) * minute.covered_s / 3600.0 + diesel.start_l + COUNTER_STEP_L
            if counted is not None and not -1e-6 <= counted <= most:
                counted = None  # a wrap, a reset or a new meter: nothing is booked from it
            found[diesel.id] = {"counter_l": rounded(counted), "model_l": rounded(model)}
        return found

    def _advance(self, name: str, before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
        """Return how far a counter has come in a minute; None where it was not read at both ends, or fell."""
        return advance(self._ends.get(name), before[name], after[name]) if name in before and name in after else None

    def _register(self, meter: Meter, before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Any]:
        """Return a meter's registers at both ends of a minute and the energy between them [kWh]; never a negative one."""
        row: dict[str, Any] = {"measures": meter.measures, "method": "register"}
        for way in ("export", "import"):
            name = f"{meter.id}.energy_{way}_kwh"
            row |= {f"{way}_start": before.get(name), f"{way}_end": after.get(name), f"{way}_kwh": rounded(self._advance(name, before, after))}
        return row

    def _displaced(self, minute: Minute, fuel: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
        """Fuel, baseline and what lies between them, with its band; totals go on from the row before."""
        both = [(f["counter_l"], f["model_l"]) for f in fuel.values() if f["counter_l"] is not None and f["model_l"] is not None]
        totals = replace(
            self.totals,
            measured_l=self.totals.measured_l + sum(c or 0.0 for c, _ in both),
            modelled_l=self.totals.modelled_l + sum(m or 0.0 for _, m in both),
        )
        factor = factor_of(totals.measured_l, totals.modelled_l)
        litres = [f["counter_l"] if f["counter_l"] is not None else scaled(f["model_l"], factor.value) for f in fuel.values()]
        burnt = None if any(x is None for x in litres) else sum(x for x in litres if x is not None)
        baseline = None
        if minute.load_s >= KNOWN_SHARE * minute.covered_s:
            baseline = scaled(self._diesel_only.litres(minute.load_kwh / (minute.load_s / 3600.0), minute.load_s / 3600.0), factor.value)
        kg = fuel_factor_kg_per_l(self._site)
        low, middle, high = (None if baseline is None or burnt is None else (baseline * (1.0 + way * factor.band) - burnt) * kg for way in (-1.0, 0.0, 1.0))
        self.totals = grown(totals, minute.start.astimezone(self._tz).date().isoformat(), burnt, baseline, middle)
        return {
            "fuel": {asset: dict(litres) for asset, litres in fuel.items()},
            "fuel_l": rounded(burnt),
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
            "totals": {f.name: rounded(value) if isinstance(value := getattr(self.totals, f.name), float) else value for f in fields(Totals)},
        }


COUNTER_STEP_L = 10.0
"""Some counters count in steps of ten litres [L]."""


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


def advance(wraps_at: float | None, start: float, end: float) -> float | None:
    """Return how far a counter has come, over its end where it wraps; None where it fell otherwise: another meter, or one that was reset."""
    if end >= start:
        return end - start
    wrapped = wraps_at is not None and start > 0.9 * wraps_at and end < 0.1 * wraps_at
    return end + wraps_at - start if wrapped and wraps_at is not None else None


def replaced(name: str, start: float, end: float) -> Event:
    """Return the event of a counter that fell: nothing is booked from it for this minute, and it goes on from where it is."""
    asset, _, point = name.partition(".")
    return Event("counter_replaced", asset, f"{point} fell from {start:.10g} to {end:.10g}: another meter or a reset; this minute is booked without it")


def measured(asset: AssetImage | None, point: str) -> float | None:
    """Return a value that was measured and is beyond doubt, else None."""
    return None if asset is None or asset.quality is not Quality.GOOD else asset.get(point)


def fuel_method(fuel: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return where the litres come from: `counter`, `model`, or both."""
    kinds = {"counter" if f["counter_l"] is not None else "model" for f in fuel.values()}
    return " and ".join(sorted(kinds)) if kinds else "no diesel"


def floor(at: datetime) -> datetime:
    """Return the begin of the minute that contains a stamp."""
    return at.replace(second=0, microsecond=0)


def scaled(value: float | None, by: float) -> float | None:
    """Return a product, or None where there is nothing to multiply."""
    return None if value is None else value * by


def rounded(value: float | None) -> float | None:
    """Return a figure to six decimals, as the ledger keeps it; -0.0 is 0.0."""
    return None if value is None else round(value, 6) + 0.0
