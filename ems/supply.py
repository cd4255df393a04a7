"""Who feeds the busbar now, as reserve and commitment have to see it."""

from __future__ import annotations

from ems import sequencer
from ems.bus import cut_off
from ems.charge import surely_stored
from ems.config.site import Battery, Diesel, Inverter, Site
from ems.memory import Memory
from ems.model import LONG_STEP_S, AssetImage, Image
from ems.reserve import Supply, hold_s

SILENT_FORMER_S = 120.0
"""A forming inverter that cannot be seen is taken to hold the busbar for this long [s]."""
SOURCES = ("solar", "hydro", "diesel", "inverter")


class Supplies:
    """The supply of one site."""

    def __init__(self, site: Site) -> None:
        self._diesels = {d.id: d for d in site.of(Diesel)}
        self._batteries = [b.id for b in site.of(Battery)]
        self._inverters = {i.id: i.rated_kw for i in site.of(Inverter)}
        self._sources = [a.id for a in site.assets if a.kind in SOURCES]
        self._runners = [a.id for a in site.assets if a.kind in ("hydro", "inverter")]
        self._site = site
        self._holds: dict[frozenset[str], float] = {}

    def of(self, image: Image, memory: Memory, learned_kw: float = 0.0) -> Supply:
        """Return who feeds the busbar, from what is seen.

        What is not seen counts for nothing, but for an inverter that was forming: its link is lost, not the unit, as long as
        the busbar is alive. After `SILENT_FORMER_S` it is a reason for a diesel all the same (CONTROL 1.7).

        Parameters
        ----------
        learned_kw : float
            The learned error of the forecast, as the plan in force carries it [kW].
        """
        assets = image.assets
        powers = {a: p for a in self._sources if (p := assets[a].power_kw) is not None}
        running = [a for a in self._runners if self._runs(assets[a])]
        batteries = {b: assets[b] for b in self._batteries}
        instant = image.dt_s >= LONG_STEP_S
        return Supply(
            power_kw=powers,
            online=frozenset((*running, *sequencer.online(memory.units))),
            soc={b: surely_stored(i) for b, i in batteries.items()},
            discharge_limit_kw={b: v for b, i in batteries.items() if (v := i.get("discharge_limit_kw")) is not None},
            charge_limit_kw={b: v for b, i in batteries.items() if (v := i.get("charge_limit_kw")) is not None},
            limits=memory.limits,
            not_forming=frozenset([i for i in self._inverters if not instant and assets[i].flag("forming") is False]),
            hold_s=self._hold_s(image, memory),
            uncertain_kw=image.uncertain_kw,
            local=frozenset([a for a in powers if not assets[a].remote]),
            mute=frozenset([d for d in self._diesels if not assets[d].seen]),
            learned_kw=learned_kw,
            astray=frozenset([a for a in powers if not assets[a].follows]),
            soc_spread={b: 2.0 * band for b, i in batteries.items() if (band := i.get("soc_band"))},
        )

    def _runs(self, unit: AssetImage) -> bool:
        """Whether a turbine or inverter is on the bus as far as anybody knows."""
        if unit.flag("running") is False or unit.fault or (unit.id in self._inverters and cut_off(unit, self._inverters[unit.id])):
            return False
        return unit.seen or (bool(unit.flag("forming")) and unit.silent_s < SILENT_FORMER_S)

    def _hold_s(self, image: Image, memory: Memory) -> float | None:
        """Return how long reserve must last for the diesels that can be started beside those that run [s]; None leaves the site's own figure."""
        online = sequencer.online(memory.units)
        able = frozenset(
            [
                d
                for d, diesel in self._diesels.items()
                if d not in online and (u := memory.units.get(d)) is not None and sequencer.startable(diesel, u, image.assets[d], image.now_s, False)
            ]
        )
        if not able or len(able) == len(self._diesels):
            return None
        if able not in self._holds:
            self._holds[able] = hold_s(self._site, able)
        return self._holds[able]
