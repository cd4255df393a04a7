"""What can stand at a site: one class per kind, every default resolved.

The reasons for the defaults are in `docs/nomenclature.md`; the checks between assets in `ems/config/checks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ems.config.endpoint import endpoint
from ems.config.strict import TIME_OF_DAY, URL, Curve, Efficiency, Name, NotNegative, Positive, Ratio, Strict, Text, ascending, same_as, times, wrong
from ems.errors import BadInput

Forming = Literal["isochronous", "droop", "never"]
TimeOfDay = Annotated[str, Field(pattern=TIME_OF_DAY)]
Inertia = Annotated[float, Field(ge=0.1, le=20)]  # stored energy by rated power [s], on the kVA base
Droop = Annotated[float, Field(ge=0.005, le=0.1)]  # share of nominal frequency from no load to full load
GRAVITY_KW = 9.81  # power of 1 m3/s of water falling 1 m [kW]
HYDRO_EFFICIENCY = 0.80  # of small turbine, gear and generator together; for what the file leaves open


class Security(Strict):
    """Transport of OPC UA and MQTT; user and password come from the environment.

    `policy` and `mode` are of OPC UA; with `credentials: plc1` user and password are EMS_PLC1_USER and EMS_PLC1_PASSWORD.
    """

    policy: Literal["none", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"] = "Basic256Sha256"
    mode: Literal["None", "Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    certificate: str | None = None
    private_key: str | None = None
    trust: str | None = None
    credentials: Name | None = None

    @field_validator("policy", mode="before")
    @classmethod
    def _sound(cls, policy: Any) -> Any:
        if policy in ("Basic128Rsa15", "Basic256"):
            raise wrong((), f"{policy} is broken and deprecated by the OPC Foundation", "Basic256Sha256 or Aes256_Sha256_RsaPss")
        return policy


class Device(Strict):
    """Where a device is, and which profile reads it."""

    profile: Text
    url: Annotated[str, Field(pattern=URL)]
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    security: Security | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Device:
        try:
            endpoint(self.url)
        except BadInput as error:
            raise wrong("url", error.error, error.expected) from None
        return self


class Equipment(Strict):
    id: Name
    device: Device | None = None


class Feeder(Equipment):
    kind: ClassVar[str] = "feeder"
    priority: Annotated[int, Field(ge=1)] = 1
    share: Ratio


class Load(Equipment):
    kind: Literal["load"]
    peak_kw: Positive
    power_factor: Annotated[float, Field(gt=0, le=1)] = 0.9
    station_kw: NotNegative = 0.0
    feeders: tuple[Feeder, ...] = Field(default_factory=lambda data: (Feeder(id=f"{data['id']}-f1", share=1.0),), min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Load:
        total = sum(f.share for f in self.feeders)
        if abs(total - 1.0) > 1e-6:
            raise wrong("feeders", f"the shares of the feeders add up to {total:g}", "shares with a sum of 1")
        return self


class Solar(Equipment):
    kind: Literal["solar"]
    rated_kw: Positive
    rated_kva: Positive = same_as("rated_kw")
    ramp_up_kw_per_s: Positive = times("rated_kw", 1 / 30)


class Hydro(Equipment):
    kind: Literal["hydro"]
    rated_kw: Positive
    min_kw: NotNegative = times("rated_kw", 0.1)
    mode: Literal["power", "level", "flow", "fixed"] = "power"
    forming: Forming = "never"
    primary_response: bool = Field(default_factory=lambda data: data["forming"] != "never")
    head_m: Positive = 30.0
    design_flow_m3s: Positive = Field(default_factory=lambda data: data["rated_kw"] / (GRAVITY_KW * HYDRO_EFFICIENCY * data["head_m"]))
    efficiency_curve: Curve = ()
    pond_m3: NotNegative = 0.0
    ecological_flow_m3s: NotNegative = 0.0
    ramp_kw_per_s: Positive = times("rated_kw", 1 / 30)
    inertia_s: Inertia = 2.0
    droop: Droop = 0.03

    @model_validator(mode="before")
    @classmethod
    def _head(cls, data: Any) -> Any:
        """Head and flow belong together: a head that is left open follows from the flow at the usual efficiency."""
        rated, flow = _number(data, "rated_kw"), _number(data, "design_flow_m3s")
        if rated is None or flow is None or "head_m" in data:
            return data
        return {**data, "head_m": rated / (GRAVITY_KW * HYDRO_EFFICIENCY * flow)}

    @property
    def efficiency(self) -> float:
        """From water to wire at the design point; `efficiency_curve` holds shares of it."""
        return self.rated_kw / (GRAVITY_KW * self.design_flow_m3s * self.head_m)

    @property
    def plans_pond(self) -> bool:
        """Whether a plan may keep water back and draw it later: there is a pond, and the set takes setpoints."""
        return self.pond_m3 > 0.0 and self.mode == "power"

    @model_validator(mode="after")
    def _physical(self) -> Hydro:
        at_most(self, "min_kw", "rated_kw")
        if self.efficiency > 0.95:
            given = f"rated_kw {self.rated_kw:g}, head_m {self.head_m:g} and design_flow_m3s {self.design_flow_m3s:g}"
            raise wrong("design_flow_m3s", f"{given} give an efficiency of {self.efficiency:.2f}", "rated_kw <= 0.95 x 9.81 x design_flow_m3s x head_m")
        if self.efficiency_curve:
            _turbine_curve(self.efficiency_curve, self.efficiency)
        return self


class Fuel(Strict):
    """Litres per hour = no-load + slope x power, or lines between `points` of [kw, l_per_h]."""

    no_load_l_per_h: NotNegative
    slope_l_per_kwh: Positive = 0.249
    points: Curve = ()

    @field_validator("points")
    @classmethod
    def _curve(cls, points: Curve) -> Curve:
        expected = "at least two points [kw, l_per_h], both rising"
        ascending("", points, expected)
        if len(points) == 1 or any(b[1] <= a[1] for a, b in zip(points, points[1:], strict=False)):
            raise wrong((), "the fuel curve does not rise", expected)
        return points


class Diesel(Equipment):
    kind: Literal["diesel"]
    rated_kw: Positive
    rated_kva: Positive = times("rated_kw", 1 / 0.8)
    min_loading: Annotated[float, Field(ge=0, lt=1)] = 0.3
    forming: Forming = "droop"
    fuel: Fuel = Field(default_factory=lambda data: Fuel(no_load_l_per_h=0.021 * data["rated_kw"]))
    primary_response: bool = True
    start_s: NotNegative = 20.0
    warmup_s: NotNegative = 30.0
    sync_s: NotNegative = 15.0
    cooldown_s: NotNegative = 120.0
    min_up_s: NotNegative = 1800.0
    min_down_s: NotNegative = 900.0
    ramp_kw_per_s: Positive = times("rated_kw", 1 / 20)
    block_load_kw: Positive = times("rated_kw", 0.5)
    inertia_s: Inertia = 1.0
    droop: Droop = 0.03
    start_l: NotNegative = times("rated_kw", 0.003)
    start_wear_l: NotNegative = times("rated_kw", 0.03)
    hour_wear_l: NotNegative = times("rated_kw", 0.018)
    om_per_h: NotNegative = times("rated_kw", 0.02)
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    max_starts_per_h: Annotated[int, Field(ge=1)] = 4
    hours_between_service: Positive = 500.0

    @model_validator(mode="before")
    @classmethod
    def _fuel(cls, data: Any) -> Any:
        """Fill in what `fuel` leaves open, which needs the rating: from the curve's ends if there is one, else the usual figures."""
        rated = _number(data, "rated_kw")
        fuel = data.get("fuel") if isinstance(data, dict) else None
        if not isinstance(fuel, dict):
            return data
        no_load, slope = 0.021 * (rated or 1.0), 0.249  # without a rating this asset is refused anyway
        ends: Sequence[Any] = fuel.get("points") or ()
        if len(ends) > 1 and all(isinstance(p, list | tuple) and len(p) == 2 and all(isinstance(x, int | float) for x in p) for p in ends):
            (x0, y0), (x1, y1) = ends[0], ends[-1]
            if x1 > x0:
                slope = (y1 - y0) / (x1 - x0)
                no_load = max(0.0, y0 - slope * x0)
        return {**data, "fuel": {"no_load_l_per_h": no_load, "slope_l_per_kwh": slope, **fuel}}

    @property
    def min_kw(self) -> float:
        """The power under which the set is under its minimum loading [kW]."""
        return self.min_loading * self.rated_kw

    @model_validator(mode="after")
    def _rated(self) -> Diesel:
        at_most(self, "rated_kw", "rated_kva")
        at_most(self, "block_load_kw", "rated_kw")
        return self


class Inverter(Equipment):
    kind: Literal["inverter"]
    rated_kw: Positive
    rated_kva: Positive = same_as("rated_kw")
    forming: Forming = "never"
    primary_response: bool = Field(default_factory=lambda data: data["forming"] != "never")
    efficiency: Efficiency = 0.975
    no_load_kw: NotNegative = times("rated_kw", 0.0075)
    handover: Literal["seamless", "break"] = "seamless"
    droop: Droop = 0.01
    overload: Annotated[float, Field(ge=1, le=3)] = 1.2
    overload_s: NotNegative = 10.0

    @model_validator(mode="after")
    def _rated(self) -> Inverter:
        at_most(self, "rated_kw", "rated_kva")
        at_most(self, "no_load_kw", "rated_kw")
        return self


class Battery(Equipment):
    kind: Literal["battery"]
    behind: str
    capacity_kwh: Positive
    charge_kw: Positive
    discharge_kw: Positive
    soc_min: Ratio = 0.10
    soc_max: Ratio = 0.95
    soc_error: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    black_start_soc: Ratio = 0.05
    charge_efficiency: Efficiency = 0.96
    discharge_efficiency: Efficiency = 0.96
    charge_limit_curve: Curve = ()
    cycle_life: Curve = ()

    @property
    def holding_soc(self) -> float:
        """Charge down to which its inverter goes on holding a live busbar; to bring up a dead one may take more."""
        return min(self.black_start_soc, self.soc_min)

    @model_validator(mode="after")
    def _band(self) -> Battery:
        if self.soc_min >= self.soc_max:
            raise wrong("soc_max", f"soc_max {self.soc_max:g} is not above soc_min {self.soc_min:g}", f"soc_max above soc_min {self.soc_min:g}")
        ascending("charge_limit_curve", self.charge_limit_curve, "[[soc, share of charge_kw], ...] with rising soc")
        ascending("cycle_life", self.cycle_life, "[[depth, cycles], ...] with rising depth")
        for field in ("charge_limit_curve", "cycle_life"):
            curve: Curve = getattr(self, field)
            if any(point[0] > 1 for point in curve):
                raise wrong(field, "a share above 1", "SoC and depth as ratios 0..1")
        expected = "depths and cycles above 0, and no more cycles for a deeper one"
        if any(depth <= 0 or cycles <= 0 for depth, cycles in self.cycle_life):
            raise wrong("cycle_life", "a depth or a number of cycles is 0", expected)
        if any(b[1] > a[1] for a, b in zip(self.cycle_life, self.cycle_life[1:], strict=False)):
            raise wrong("cycle_life", "a deeper cycle lasts longer", expected)
        return self


class Deferrable(Equipment):
    kind: Literal["deferrable"]
    rated_kw: Positive
    modulating: bool = False
    min_kw: NotNegative = Field(default_factory=lambda data: data["rated_kw"] * (0.3 if data["modulating"] else 1.0))
    daily_kwh: NotNegative = 0.0
    window: tuple[TimeOfDay, TimeOfDay] = ("00:00", "24:00")
    min_run_s: NotNegative = 1800.0
    max_starts_per_day: Annotated[int, Field(ge=1)] = 4
    interruptible: bool = True

    @property
    def window_s(self) -> tuple[int, int]:
        """Begin and end of its hours in seconds of the site's local day [s]."""
        begin, end = self.window
        return _seconds(begin), _seconds(end)

    @model_validator(mode="after")
    def _fits(self) -> Deferrable:
        at_most(self, "min_kw", "rated_kw")
        begin, end = self.window_s
        if end <= begin:
            raise wrong("window", f"the window {self.window[0]} to {self.window[1]} ends before it begins", "begin before end within one day, at most 24:00")
        most_kwh = self.rated_kw * (end - begin) / 3600
        if self.daily_kwh > most_kwh:
            raise wrong("daily_kwh", f"{self.daily_kwh:g} kWh do not fit into the window", f"at most {most_kwh:g} kWh at {self.rated_kw:g} kW")
        return self


class Delivery(Strict):
    date: date
    litres: Positive
    delay_days: NotNegative = 0.0
    confirmed: bool = False

    @property
    def due(self) -> datetime:
        """When it is counted on [UTC]: after its delay, on its day once it is confirmed."""
        return datetime(self.date.year, self.date.month, self.date.day, tzinfo=UTC) + timedelta(days=0.0 if self.confirmed else self.delay_days)


class Tank(Equipment):
    kind: Literal["tank"]
    feeds: tuple[str, ...] = ()
    capacity_l: Positive
    unusable_l: NotNegative = 0.0
    level_l_start: NotNegative = same_as("capacity_l")
    deliveries: tuple[Delivery, ...] = ()
    days_in_hand: NotNegative = 5.0

    @model_validator(mode="after")
    def _holds(self) -> Tank:
        at_most(self, "unusable_l", "capacity_l")
        at_most(self, "level_l_start", "capacity_l")
        return self


class Meter(Equipment):
    kind: Literal["meter"]
    measures: str
    serial: str = ""
    accuracy_class: str | float | None = Field(default=None, alias="class")
    calibrated_from: date | None = None
    calibrated_until: date | None = None
    register_max: Positive = 99_999_999.9

    @model_validator(mode="after")
    def _calibrated(self) -> Meter:
        begin, end = self.calibrated_from, self.calibrated_until
        if begin is not None and end is not None and end <= begin:
            raise wrong("calibrated_until", "the calibration ends before it begins", f"a date after {begin}")
        return self


class Weather(Equipment):
    kind: Literal["weather"]


Asset = Annotated[Load | Solar | Hydro | Diesel | Battery | Inverter | Deferrable | Tank | Meter | Weather, Field(discriminator="kind")]
AnyAsset = Load | Solar | Hydro | Diesel | Battery | Inverter | Deferrable | Tank | Meter | Weather


def _seconds(time: str) -> int:
    return int(time[:2]) * 3600 + int(time[3:]) * 60


def _turbine_curve(curve: Curve, at_design: float) -> None:
    """Refuse a turbine's curve that does not lead to its design point, or from whose power no flow could be told."""
    field = "efficiency_curve"
    expected = "two or more [share of design flow, share of the efficiency at the design point], rising flow, up to [1.0, 1.0]"
    ascending(field, curve, expected)
    if len(curve) < 2 or curve[-1] != (1.0, 1.0):
        raise wrong(field, "the curve does not end at the design point", expected)
    if curve[0][0] <= 0 or any(not 0 < share <= 1.05 for _, share in curve):
        raise wrong(field, "a share of flow or efficiency is out of range", "flow above 0, efficiency above 0 and at most 1.05 of that at the design point")
    powers = [flow * share for flow, share in curve]
    for k, (before, after) in enumerate(zip(powers, powers[1:], strict=False)):
        if after <= before:
            at, to = curve[k][0], curve[k + 1][0]
            raise wrong(field, f"power falls from {before:.3g} to {after:.3g} of rated as flow rises from {at:g} to {to:g}", "more power with more flow")
    best = at_design * max(share for _, share in curve)
    if best > 0.95:
        raise wrong(field, f"the best point has an efficiency of {best:.2f} ({at_design:.2f} at the design point)", "at most 0.95 from water to wire")


def at_most(asset: Equipment, low: str, high: str) -> None:
    """Refuse an asset whose field `low` is above its field `high`."""
    lo, hi = getattr(asset, low), getattr(asset, high)
    if lo > hi:
        raise wrong(low, f"{low} {lo:g} is above {high} {hi:g}", f"at most {hi:g}")


def _number(data: Any, field: str) -> float | None:
    """Return a raw field if it can be calculated with; whatever else it is, validation will say."""
    value = data.get(field) if isinstance(data, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
