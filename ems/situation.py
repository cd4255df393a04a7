"""What dispatch has to work with: demand, sun, water, who takes no command, each from one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ems import sequencer
from ems.bus import cut_off
from ems.config.site import Deferrable, Diesel, Hydro, Inverter, Load, Site, Solar
from ems.dispatch import Situation
from ems.guards import Bound
from ems.memory import Memory
from ems.model import NOTHING, Image
from ems.plan import Target
from ems.water import available_kw, unplanned

AT_LIMIT = 0.02
"""A unit stands at its limit when it is within this share of its rating from it; what gives less than that gives nothing."""

SHOWS = 0.02
"""Above this share of its rating a set gives power, and no zero error of its meter does [of rated]."""


class Situations:
    """The situations of one site."""

    def __init__(self, site: Site) -> None:
        self._diesels = [d.id for d in site.of(Diesel)]
        self._others = [a.id for a in site.assets if isinstance(a, Solar | Hydro | Inverter)]
        self._must_run = [h.id for h in site.of(Hydro) if h.mode == "fixed"]
        self._solars = site.of(Solar)
        self._hydros = site.of(Hydro)
        self._inverters = site.of(Inverter)
        self._deferrables = site.of(Deferrable)
        self._rated = {a.id: a.rated_kw for a in site.assets if isinstance(a, Solar | Hydro | Diesel | Inverter)}
        self._station_kw = sum(load.station_kw for load in site.of(Load))

    def build(self, image: Image, memory: Memory, bounds: Mapping[str, Bound], planned: Target | None, drawn: Mapping[str, float]) -> Situation:
        """Return the situation of one cycle; who is on the way off the bus is not known yet.

        Parameters
        ----------
        bounds : Mapping[str, Bound]
            Of every unit that feeds the busbar.
        planned : Target | None
            What the plan wishes: only it may take water from a pond.
        drawn : Mapping[str, float]
            What deferrables shall draw [kW].
        """
        base = image.load_kw - sum(image.assets[d.id].power_kw or 0.0 for d in self._deferrables)
        told = {a for a in self._rated if image.assets[a].seen and image.assets[a].remote}
        # What does not follow is told all the same, and nobody counts on it: it gives what it is seen to give.
        taken = {a for a in told if image.assets[a].follows}
        fixed = self._fixed(image, memory, taken)
        return Situation(
            demand_kw=base + self._station_kw + sum(drawn.values()),
            solar_kw={s.id: self._sun_kw(s, image, memory, bounds[s.id]) for s in self._solars if s.id in taken},
            hydro_kw={h.id: self._water_kw(h, image, memory, bounds[h.id], planned) for h in self._hydros if h.id in taken and h.id not in fixed},
            fixed_kw=fixed,
            bounds=bounds,
            inverters=tuple(i.id for i in self._inverters if i.id in taken and self._runs(i, image)),
            unloading=NOTHING,
            astray=frozenset([a for a in told - taken if a in fixed]),
        )

    def planned(self, image: Image, target: Target | None) -> Target | None:
        """Return what a plan wants, without what it cannot know: a river that nobody measures."""
        return unplanned(self._hydros, image.assets, target)

    def curtailed(self, image: Image, memory: Memory, bounds: Mapping[str, Bound]) -> bool:
        """Whether any solar unit could give more than it may."""
        return any(self._held_back(s, image, memory, bounds[s.id]) for s in self._solars)

    def _runs(self, inverter: Inverter, image: Image) -> bool:
        """Whether an inverter is on the bus, as far as it tells."""
        unit = image.assets[inverter.id]
        return unit.flag("running") is not False and not unit.fault and not cut_off(unit, inverter.rated_kw)

    def _fixed(self, image: Image, memory: Memory, taken: set[str]) -> dict[str, float]:
        """Return the power of units that take no command now [kW]."""
        units = [a for a in self._others if a not in taken]
        running = sequencer.online(memory.units)
        units += [d for d in self._diesels if d not in taken and d in running]
        # A set that should be off and shows power gives it, whatever its breaker's switch says.
        units += [d for d in self._diesels if d not in running and (image.assets[d].power_kw or 0.0) > SHOWS * self._rated[d]]
        units += self._must_run
        fixed = {u: image.assets[u].power_kw or 0.0 for u in units}
        blind = [u for u in fixed if image.assets[u].power_kw is None]
        return fixed | self._unmeasured(image, blind) if blind else fixed

    def _unmeasured(self, image: Image, blind: Sequence[str]) -> dict[str, float]:
        """Return the power of units that nobody sees: together what the balance leaves over, shared by rating [kW]."""
        gap = image.load_kw + self._station_kw - sum(image.assets[u].power_kw or 0.0 for u in self._rated)
        total = sum(self._rated[u] for u in blind)
        lows = {u: -self._rated[u] if image.assets[u].kind == "inverter" else 0.0 for u in blind}
        return {u: min(max(gap * self._rated[u] / total, lows[u]), self._rated[u]) for u in blind}

    def _water_kw(self, hydro: Hydro, image: Image, memory: Memory, bound: Bound, planned: Target | None) -> float:
        """Return what a river can give [kW]: nothing where an operator has stopped the unit."""
        manual = memory.manual.get(hydro.id)
        return 0.0 if manual is not None and manual.run is False else available_kw(hydro, image.assets[hydro.id], bound, planned)

    def _sun_kw(self, solar: Solar, image: Image, memory: Memory, bound: Bound) -> float:
        """Return what PV can give [kW]: measured where the device tells, else its power, or a ramp above its limit."""
        unit = image.assets[solar.id]
        free, power = unit.free_kw, unit.power_kw or 0.0
        if not unit.ready:
            free = power
        elif free is None:
            free = power + solar.ramp_up_kw_per_s * image.dt_s if self._held_back(solar, image, memory, bound) else power
        return bound.clip(free)

    def _held_back(self, solar: Solar, image: Image, memory: Memory, bound: Bound) -> bool:
        """Whether a solar unit could give more than it may: measured where the device tells, else where it stands at its limit."""
        unit, limit = image.assets[solar.id], memory.setpoints.get(solar.id)
        free, power, slack = unit.free_kw, unit.power_kw or 0.0, AT_LIMIT * solar.rated_kw
        if limit is None or limit > bound.hi_kw - slack:
            return False
        return free > limit + slack if free is not None else power > max(slack, limit - slack)
