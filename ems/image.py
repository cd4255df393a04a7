"""What is true now: readings frozen into one process image, with quality and age.

Missing stays `None`. What can be inferred from the balance is, and is marked suspect.
"""

from __future__ import annotations

from collections.abc import Mapping

from ems.bus import ALIVE, cut_off
from ems.config.site import Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar
from ems.frozen import changed, frozen
from ems.memory import Memory
from ems.model import BAD, GOOD, LONG_STEP_S, NOTHING, SUSPECT, AssetImage, Image, Reading, Telemetry
from ems.residual import OFF_NOMINAL_HZ
from ems.sequencer import on_bus
from ems.terms import Mode, Stage

STALE_CYCLES = 3.0
"""A value older than this many cycles is not used (faults are found by age, never by `connected`)."""
MAIN_POINT = {"battery": "soc", "meter": "energy_export_kwh", "weather": "ghi_wm2", "tank": "level_l", "feeder": "breaker_closed"}
PLAUSIBLE = 1.5
"""A power beyond so many times a unit's rating is no power, real or reactive."""
LOADED = 2.0
"""A load's meter may show this many times its peak: what was cut off comes back cold and all at once."""
MOTORING, IDLE_DRAW = 0.15, 0.05
"""What a set or turbine may draw before its reverse-power relay opens, and anything else by itself: shares of its rating."""
DRAWING = 0.01
"""A load that draws more than this share of its peak is on a live busbar."""
OVER_HZ = 1.5
"""No busbar runs at this many times its nominal frequency."""
ASTRAY_SHARE = 0.05
ASTRAY_S = 30.0
"""A unit whose power is off its setpoint by 5 % of its rating for this long [s] does not follow."""


@frozen
class _Place:
    """One asset or feeder in the image.

    Attributes
    ----------
    main : str
        The point without which it is not seen.
    ranges : Mapping[str, tuple[float, float]]
        What its points can be, by their names.
    """

    id: str
    kind: str
    main: str
    ranges: Mapping[str, tuple[float, float]]


class ImageBuilder:
    """Builds the image of one site."""

    def __init__(self, site: Site) -> None:
        self._alive = {"frequency_hz": ALIVE * site.site.nominal_hz, "voltage_v": ALIVE * site.site.nominal_v}
        self._stale_s = STALE_CYCLES * site.control.cycle_s
        self._kinds = {a.id: str(a.kind) for a in site.assets}
        self._kinds.update({f.id: "feeder" for load in site.of(Load) for f in load.feeders if f.device is not None})
        self._rated = {a.id: a.rated_kw for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter | Deferrable)}
        self._nominal_hz = float(site.site.nominal_hz)
        self._droop = {a.id for a in site.assets if isinstance(a, Hydro | Diesel | Inverter) and (a.forming == "droop" or a.primary_response)}
        self._sources = [a.id for kind in (Solar, Hydro, Diesel, Inverter) for a in site.of(kind)]
        loads = [a.id for a in site.of(Load)]
        self._drawers = (*loads, *(a.id for a in site.of(Deferrable)))
        self._station_kw = sum(a.station_kw for a in site.of(Load))
        self._drawing_kw = [(a.id, DRAWING * a.peak_kw) for a in site.of(Load)]
        self._bus_witnesses = (*self._sources, *loads, *(f.id for load in site.of(Load) for f in load.feeders if f.device is not None))
        powers = {a.id: power_range(a) for a in site.assets if isinstance(a, Load | Solar | Hydro | Diesel | Inverter | Deferrable)}
        common = {"soc": (-0.01, 1.01), "frequency_hz": (0.0, OVER_HZ * site.site.nominal_hz)}
        kvars = {a.id: PLAUSIBLE * a.rated_kva for a in site.assets if isinstance(a, Solar | Diesel | Inverter)}
        ranges = {a: common | ({"power_kw": powers[a]} if a in powers else {}) for a in self._kinds}
        ranges = {a: span | ({"reactive_kvar": (-kvars[a], kvars[a])} if a in kvars else {}) for a, span in ranges.items()}
        self._places = [_Place(a, kind, MAIN_POINT.get(kind, "power_kw"), ranges[a]) for a, kind in self._kinds.items()]

    def build(self, telemetry: Telemetry, memory: Memory) -> Image:
        """Return the frozen image of one cycle.

        Parameters
        ----------
        telemetry : Telemetry
        memory : Memory
            For the last known load and for what does not follow its setpoint.
        """
        readings = telemetry.readings
        assets = {p.id: self._asset(p, readings.get(p.id)) for p in self._places}
        for a, stage in memory.stages.items():
            if a in assets and stage is not Stage.CONTROL:
                assets[a] = changed(assets[a], ours=False)
        for a in telemetry.unwatched if memory.mode is not Mode.START else ():
            if a in assets:  # what is ordered would not reach it: its sequence would fail for that
                assets[a] = changed(assets[a], ours=False)
        load = self._load_kw(assets)
        unseen = [s for s in self._sources if assets[s].points.get("power_kw") is None]
        if load is None and not unseen:
            load = sum(assets[s].power_kw or 0.0 for s in self._sources) - self._station_kw
        elif load is not None and len(unseen) == 1:
            assets[unseen[0]] = self._inferred(assets[unseen[0]], assets, load)
        known = load is not None
        if load is None:
            load = memory.load_kw if memory.load_kw is not None else 0.0
        for unit, since in memory.astray.items():
            if unit in assets and telemetry.now_s - since >= ASTRAY_S and telemetry.dt_s < LONG_STEP_S:
                assets[unit] = changed(assets[unit], follows=False)
        for unit in memory.unled:
            assets[unit] = changed(assets[unit], ours=False, follows=False)
        return Image(
            cycle=telemetry.cycle,
            time=telemetry.time,
            now_s=telemetry.now_s,
            dt_s=telemetry.dt_s,
            assets=assets,
            load_kw=load,
            load_known=known,
            frequency_hz=self._bus_value(assets, "frequency_hz"),
            voltage_v=self._bus_value(assets, "voltage_v"),
            rivals=telemetry.rivals,
            watched=telemetry.watched,
        )

    def astray(self, image: Image, memory: Memory, setpoints: Mapping[str, float]) -> dict[str, float]:
        """Return since when each unit has been off its last setpoint [s]; a solar unit only by giving more.

        A setpoint that moves is no reason to blame anybody, but none to forgive one that does not follow either: that takes its power.
        Nor is one blamed that gives more while the frequency is low, or less while it is high, if that is what droop is for: the leader fails.
        """
        low_hz = 0.0 if image.frequency_hz is None else self._nominal_hz - image.frequency_hz
        found = {}
        for unit, setpoint in setpoints.items():
            before = memory.setpoints.get(unit)
            power = image.assets[unit].power_kw if unit in image.assets else None
            if power is None or before is None:
                continue
            off = power - before
            if abs(low_hz) > OFF_NOMINAL_HZ and off * low_hz > 0.0 and unit in self._droop:
                continue
            if off < 0.0 and self._kinds[unit] not in ("solar", "hydro"):
                off = -off
            slack = ASTRAY_SHARE * self._rated[unit]
            marked = image.now_s - memory.astray.get(unit, image.now_s) >= ASTRAY_S
            if off > max(slack, 1.0) and (marked or abs(setpoint - before) < slack):
                found[unit] = memory.astray.get(unit, image.now_s)
        return found

    def _asset(self, place: _Place, readings: Mapping[str, Reading] | None) -> AssetImage:
        if not readings:
            return AssetImage(place.id, place.kind, NOTHING, BAD, None)
        stale_s, ranges, age, suspect = self._stale_s, place.ranges, 0.0, False
        points: dict[str, float | None] = {}
        refused: tuple[str, ...] = ()
        for name, reading in readings.items():
            value, old, quality = reading.value, reading.age_s, reading.quality
            if old > age:
                age = old
            if value is None or old > stale_s or quality is BAD:
                points[name] = None
                continue
            span = ranges.get(name)
            # What no range is known for must at least be a number.
            if not (value - value == 0.0 if span is None else span[0] <= value <= span[1]):
                points[name] = None
                refused += (name,)
                continue
            points[name] = value
            if quality is SUSPECT:
                suspect = True
        seen = points.get(place.main) is not None or (place.main not in readings and any(v is not None for v in points.values()))
        return AssetImage(place.id, place.kind, points, BAD if not seen else SUSPECT if suspect else GOOD, age, True, True, refused)

    def _load_kw(self, assets: Mapping[str, AssetImage]) -> float | None:
        total = 0.0
        for a in self._drawers:
            power = assets[a].points.get("power_kw")
            if power is None:
                return None
            total += power
        return total

    def _inferred(self, gap: AssetImage, assets: Mapping[str, AssetImage], load_kw: float) -> AssetImage:
        """Return the one unseen source with the power that closes the balance, if it is a possible one."""
        others = sum(assets[s].power_kw or 0.0 for s in self._sources if s != gap.id)
        power = load_kw + self._station_kw - others
        rated = self._rated[gap.id]
        low = -rated if gap.kind == "inverter" else 0.0
        if not low - 0.05 * rated <= power <= 1.1 * rated:
            return gap
        return changed(gap, points={**gap.points, "power_kw": power}, suspect=(*gap.suspect, "power_kw"))

    def _bus_value(self, assets: Mapping[str, AssetImage], point: str) -> float | None:
        """Return the busbar's frequency or voltage from whoever measures it, sources first.

        A dead unit shows zero, one behind its open breaker its own terminals: remanence at rest, half the frequency while it
        runs up. What is no living busbar's counts where nobody sees a living one. Zeros of sets at rest tell nothing of a
        busbar whose loads draw: that is None.
        """
        low = None
        for witness in self._bus_witnesses:
            unit = assets[witness]
            value = unit.points.get(point)
            if value is None or (unit.kind == "inverter" and cut_off(unit, self._rated[witness])):
                continue
            if value and unit.kind in ("diesel", "hydro") and on_bus(unit) is False:
                value = 0.0
            if value >= self._alive[point]:
                return value
            low = low or value
        return None if low == 0.0 and any((assets[a].points.get("power_kw") or 0.0) > drawn for a, drawn in self._drawing_kw) else low


def power_range(asset: Load | Solar | Hydro | Diesel | Inverter | Deferrable) -> tuple[float, float]:
    """Return the least and the highest power that a meter of this asset can show [kW]; a turned sign falls out of it."""
    if isinstance(asset, Load):
        return -IDLE_DRAW * asset.peak_kw - 1.0, LOADED * asset.peak_kw + 1.0
    high = PLAUSIBLE * asset.rated_kw + 1.0
    if isinstance(asset, Inverter):
        return -high, high
    return -(MOTORING if isinstance(asset, Hydro | Diesel) else IDLE_DRAW) * asset.rated_kw - 1.0, high
