"""May the bus be handed from the last diesel to an inverter or a turbine: what must hold before the diesel begins to unload.

The rest of the sequence is in `ems.sequencer`: unload beside the unit that takes over, wait for a steady bus, open
the breaker, cool down; with a time limit and the way back. A droop inverter forms all the time (decision 0002), so
that the way from inverter to diesel is a start: the diesel synchronises, closes, is read back, and takes the load.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from ems.bus import VOLTAGE_S, Bus
from ems.charge import surely_stored
from ems.config.site import Diesel, Hydro, Inverter, Load, Site
from ems.memory import Memory
from ems.model import Image
from ems.outlook import Prospect


class HandOver:
    """Hand-over of one site's bus."""

    def __init__(self, site: Site) -> None:
        self._bus = Bus(site)
        self._forming = {d.id for d in site.of(Diesel) if d.forming != "never"}
        takers: tuple[Inverter | Hydro, ...] = (*site.of(Inverter), *site.of(Hydro))
        self._takers = {u.id: u for u in takers if u.forming != "never"}
        self._batteries = {i.id: b for i in site.of(Inverter) if (b := site.battery_behind(i.id)) is not None}
        self._solars = [a.id for a in site.assets if a.kind == "solar"]
        self._metered = [a.id for a in site.assets if a.kind in ("diesel", "inverter")]
        self._peak_kw = max((load.peak_kw for load in site.of(Load)), default=0.0)

    def last(self, online: Collection[str], wanted: Collection[str]) -> bool:
        """Whether the diesels that stay leave no diesel to hold the bus."""
        return not self._forming.intersection(online).intersection(wanted)

    def refusal(self, image: Image, memory: Memory, prospect: Prospect) -> str | None:
        """Return why the bus may not be handed over now, or None; reserve upwards has been seen to before.

        Parameters
        ----------
        image : Image
        memory : Memory
        prospect : Prospect
            Of the island without the diesels that leave.

        Returns
        -------
        str | None
            `handover_nobody | handover_local | handover_band | handover_soc | handover_kva | handover_down`.
        """
        takers = [f for f in prospect.formers if f in self._takers]
        if not takers:
            return "handover_nobody"
        if not any(image.assets[t].remote and image.assets[t].seen for t in takers):
            return "handover_local"
        if self._bus.in_band(image) is False or (memory.volts_off_s is not None and image.now_s - memory.volts_off_s >= VOLTAGE_S):
            return "handover_band"
        if not any(self._charged(t, image) for t in takers):
            return "handover_soc"
        if not self._carries_kva(takers, image, prospect):
            return "handover_kva"
        # PV gives way by itself to a high frequency: it is room downwards as well.
        down_kw = prospect.reserve.down_kw + sum(prospect.shares.power_kw.get(s, 0.0) for s in self._solars)
        return "handover_down" if down_kw < prospect.reserve.down_required_kw else None

    def _charged(self, taker: str, image: Image) -> bool:
        """Whether a unit has energy above its floor, error deducted; a turbine has its river."""
        battery = self._batteries.get(taker)
        if battery is None:
            return True
        soc = surely_stored(image.assets[battery.id])
        return soc is not None and soc - battery.soc_error > battery.soc_min

    def _carries_kva(self, takers: Collection[str], image: Image, prospect: Prospect) -> bool:
        """Whether the takers' apparent power suffices once all reactive power of the leaving sets is theirs."""
        inverters = [u for t in takers if isinstance(u := self._takers[t], Inverter)]
        kvar = sum(abs(q) for a in self._metered if (q := image.assets[a].get("reactive_kvar")) is not None)
        kva = sum(i.rated_kva for i in inverters)
        power = sum(prospect.shares.power_kw.get(i.id, 0.0) for i in inverters)
        return not inverters or math.hypot(power, kvar) <= kva
