"""The site file as values: what stands at a site, how it may be run, and every default resolved.

The reasons for the defaults are in `docs/nomenclature.md`. A field is None only where that means
something; checks between assets are in `ems/config/checks.py`.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from ems.config.assets import (
    AnyAsset,
    Asset,
    Battery,
    Deferrable,
    Delivery,
    Device,
    Diesel,
    Equipment,
    Feeder,
    Forming,
    Fuel,
    Hydro,
    Inverter,
    Load,
    Meter,
    Security,
    Solar,
    Tank,
    Weather,
)
from ems.config.strict import COUNTRY, CURRENCY, Name, NotNegative, Positive, Ratio, Strict, Text, same_as, wrong

__all__ = [
    "AnyAsset",
    "Asset",
    "Equipment",
    "Baseline",
    "Battery",
    "Control",
    "Costs",
    "Deferrable",
    "Delivery",
    "Device",
    "Diesel",
    "Economics",
    "Feeder",
    "Forming",
    "Fuel",
    "FuelConstants",
    "Hydro",
    "Inverter",
    "Load",
    "Meter",
    "Mrv",
    "Names",
    "PlannerConfig",
    "ReserveConfig",
    "RulesConfig",
    "Security",
    "Site",
    "SiteInfo",
    "Solar",
    "Tank",
    "Weather",
]


class Names(Strict):
    """A name in both languages of the page."""

    en: Text
    ja: Text = same_as("en")


class SiteInfo(Strict):
    id: Name
    name: Names = Field(default_factory=lambda data: Names(en=data["id"]))
    timezone: str = "UTC"
    country: Annotated[str, Field(pattern=COUNTRY)] | None = None
    latitude: Annotated[float, Field(ge=-90, le=90)] = 0.0
    longitude: Annotated[float, Field(ge=-180, le=180)] = 0.0
    nominal_hz: Literal[50, 60] = 50
    nominal_v: Positive = 400.0

    @field_validator("timezone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise wrong((), f"unknown time zone {zone!r}", "an IANA name such as Asia/Tokyo, Pacific/Palau or UTC") from None
        return zone


class Control(Strict):
    cycle_s: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    stage: Literal["shadow", "advise", "control"] = "shadow"
    start_timeout_s: Positive = 30.0


class PlannerConfig(Strict):
    objective: Literal["diesel", "cost"] = "diesel"
    grid: tuple[tuple[Positive, Annotated[int, Field(gt=0)]], ...] = ((5, 12), (15, 12), (60, 32))
    replan_s: Annotated[float, Field(ge=30)] = 300.0
    deadline_s: Positive = 20.0
    forecast: Literal["persistence", "seasonal", "clearsky", "blend"] = "blend"
    wear_share: dict[Annotated[int, Field(ge=1, le=12)], NotNegative] = {}

    @field_validator("grid")
    @classmethod
    def _fine_first(cls, grid: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
        minutes = [m for m, _ in grid]
        if not grid or minutes != sorted(minutes):
            raise wrong((), "the grid must begin with its finest steps", "[[minutes, steps], ...] with rising minutes, as [[5, 12], [15, 12], [60, 32]]")
        return grid


class ReserveConfig(Strict):
    load_fraction: Ratio = 0.10
    solar_fraction: Ratio = 0.25
    largest_unit: bool = True
    combine: Literal["max", "sum"] = "max"
    hold_s: Positive = 900.0
    single_former: Literal["allow", "refuse"] = "allow"


class RulesConfig(Strict):
    """The fallback when there is no plan, and the rule policies of a replay."""

    policy: Literal["load-following", "cycle-charging"] = "load-following"
    diesel_start_soc: Ratio = 0.25
    diesel_stop_soc: Ratio = 0.45
    cycle_stop_soc: Ratio = 0.85
    cycle_loading: Annotated[float, Field(gt=0, le=1)] = 0.8

    @model_validator(mode="after")
    def _hysteresis(self) -> RulesConfig:
        expected = f"above diesel_start_soc {self.diesel_start_soc:g}"
        for stop in ("diesel_stop_soc", "cycle_stop_soc"):
            if getattr(self, stop) <= self.diesel_start_soc:
                raise wrong(stop, "a diesel would stop at or below the SoC that starts it", expected)
        return self


class Costs(Strict):
    currency: Annotated[str, Field(pattern=CURRENCY)] = "USD"
    diesel_per_l: NotNegative = 1.10
    unserved_per_kwh: NotNegative = 25.0
    storage_wear_per_kwh: NotNegative = 0.02


class Economics(Strict):
    discount_rate: Annotated[float, Field(ge=0, lt=1)]
    years: Annotated[int, Field(gt=0, le=60)]
    subsidy_share: Ratio = 0.0
    capex: dict[str, NotNegative]


class FuelConstants(Strict):
    ncv_tj_per_gg: Positive = 43.0
    co2_t_per_tj: Positive = 74.1
    density_kg_per_l: Annotated[float, Field(gt=0.5, lt=1.2)] = 0.84

    @property
    def co2_kg_per_l(self) -> float:
        """CO2 of one litre [kg]: density x net calorific value x emission factor."""
        return self.density_kg_per_l * self.ncv_tj_per_gg * self.co2_t_per_tj / 1000.0


class Mrv(Strict):
    methodology: Text
    start: date
    project_assets: tuple[str, ...]
    charge_origin: Literal["diesel_first"] = "diesel_first"
    reference_t_per_mwh: NotNegative
    fuel: FuelConstants = FuelConstants()
    source: str = ""


class Baseline(Strict):
    assets: tuple[str, ...]


A = TypeVar("A", bound=Equipment)


class Site(Strict):
    """A whole site, with every default resolved."""

    site: SiteInfo
    control: Control = Control()
    planner: PlannerConfig = PlannerConfig()
    reserve: ReserveConfig = ReserveConfig()
    rules: RulesConfig = RulesConfig()
    costs: Costs = Costs()
    economics: Economics | None = None
    mrv: Mrv | None = None
    baseline: Baseline | None = None
    assets: tuple[Asset, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _between_assets(cls, data: Any) -> Any:
        """Resolve the defaults that depend on other assets: who is isochronous, which diesels the only tank feeds."""
        assets = data.get("assets") if isinstance(data, dict) else None
        if not isinstance(assets, list | tuple):
            return data
        found = [a for a in assets if isinstance(a, dict)]
        diesels = [a.get("id") for a in found if a.get("kind") == "diesel"]
        taken = any(a.get("forming") == "isochronous" for a in found)
        tanks = sum(a.get("kind") == "tank" for a in found)
        resolved = []
        for asset in assets:
            if isinstance(asset, dict) and asset.get("kind") == "diesel" and "forming" not in asset:
                asset = {**asset, "forming": "droop" if taken or asset.get("id") != diesels[0] else "isochronous"}
            if isinstance(asset, dict) and asset.get("kind") == "tank" and "feeds" not in asset and tanks == 1:
                asset = {**asset, "feeds": tuple(diesels)}
            resolved.append(asset)
        return {**data, "assets": tuple(resolved)}

    def of(self, kind: type[A]) -> tuple[A, ...]:
        """Return the assets of one class, in the order of the file; feeders are found in their loads."""
        if kind is Feeder:
            return tuple(f for load in self.of(Load) for f in load.feeders if isinstance(f, kind))
        return tuple(a for a in self.assets if isinstance(a, kind))

    def asset(self, asset_id: str) -> AnyAsset | Feeder:
        """Return an asset or feeder by its id; KeyError if there is none."""
        for asset in (*self.assets, *self.of(Feeder)):
            if asset.id == asset_id:
                return asset
        raise KeyError(asset_id)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all assets, then of all feeders."""
        return tuple(a.id for a in (*self.assets, *self.of(Feeder)))

    @property
    def peak_kw(self) -> float:
        """Sum of the loads' peaks [kW]."""
        return sum(load.peak_kw for load in self.of(Load))

    @property
    def station_kw(self) -> float:
        """Declared auxiliary use [kW]."""
        return sum(load.station_kw for load in self.of(Load))

    def worn_l(self, diesel: Diesel, at: datetime) -> tuple[float, float]:
        """Return what a start and an engine hour are worth beside fuel in a plan made at `at` [L].

        What they wear, as far as that month counts it (`planner.wear_share`); of an hour `om_per_h` in litres under `objective: cost`.
        """
        share, per_l = self.planner.wear_share.get(at.astimezone(self.tz).month, 1.0), self.costs.diesel_per_l
        by_money = self.planner.objective == "cost" and per_l > 0.0
        return share * diesel.start_wear_l, diesel.om_per_h / per_l if by_money else share * diesel.hour_wear_l

    @property
    def fuel_constants(self) -> FuelConstants:
        """Of `mrv`, else the usual ones of diesel oil."""
        return self.mrv.fuel if self.mrv is not None else FuelConstants()

    @property
    def tz(self) -> ZoneInfo:
        """The site's time zone."""
        return ZoneInfo(self.site.timezone)

    def battery_behind(self, inverter_id: str) -> Battery | None:
        """Return the battery on the DC side of an inverter."""
        return next((b for b in self.of(Battery) if b.behind == inverter_id), None)
