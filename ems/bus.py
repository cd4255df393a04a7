"""Is the busbar alive, and is it steady: frequency and voltage in their bands, and since when.

Dead is a finding of several devices, never of one. A set whose breaker is open measures its own terminals,
not the busbar, so it says nothing. An inverter behind its open breaker, which may measure either side, bears others out that find
the bus dead, and can neither find it alive nor, with its like alone, dead. One device that shows zero may be broken or just back from a restart; two
that agree, with nobody who contradicts, are believed. Everything else is unknown, and unknown is not dead.
"""

from __future__ import annotations

from enum import StrEnum

from ems.config.site import Diesel, Hydro, Inverter, Load, Site, Solar
from ems.frozen import frozen
from ems.memory import Memory
from ems.model import AssetImage, Image
from ems.sequencer import on_bus

HZ_BAND = 0.01
"""Frequency within this share of nominal is in band: what droop leaves between two trims."""
V_BAND = 0.10
"""Voltage within this share of nominal is in band (CONTROL 3.4)."""
VOLTAGE_S = 10.0
"""Voltage out of its band for this long [s] is an alarm and blocks hand-over and restoration."""
ALIVE, DEAD = 0.5, 0.1
"""Shares of the nominal value above which a voltage or frequency is alive, and under which it is dead."""
FLOWS = 0.02
"""Power beyond this share of a rating does not flow on a dead bus."""
WITNESSES = 2
"""So many devices must find the bus dead."""


class BusState(StrEnum):
    """What the measurements together say."""

    LIVE = "live"
    DEAD = "dead"
    UNKNOWN = "unknown"


@frozen
class Finding:
    """Whether the busbar is alive, and which devices find it dead."""

    state: BusState
    dead: tuple[str, ...] = ()


class Bus:
    """The busbar of one site, judged from what its units measure."""

    def __init__(self, site: Site) -> None:
        self._hz, self._v = float(site.site.nominal_hz), site.site.nominal_v
        sources = [a for a in site.assets if isinstance(a, Inverter | Diesel | Hydro | Solar)]
        self._rated = {a.id: a.rated_kw for a in sources} | {a.id: a.peak_kw for a in site.of(Load)}
        self._sets = frozenset(a.id for a in sources if isinstance(a, Diesel | Hydro))
        self._inverters = frozenset(i.id for i in site.of(Inverter))

    def in_band(self, image: Image) -> bool | None:
        """Return whether frequency and voltage are in band; None where neither is measured."""
        hz, volts = image.frequency_hz, image.voltage_v
        if hz is None and volts is None:
            return None
        return (hz is None or abs(hz - self._hz) <= HZ_BAND * self._hz) and (volts is None or abs(volts - self._v) <= V_BAND * self._v)

    def since(self, image: Image, memory: Memory) -> tuple[float | None, float | None]:
        """Return since when the busbar has been in band, and since when its voltage has been out [s of `now_s`], each None while it is not."""
        steady = (memory.in_band_s if memory.in_band_s is not None else image.now_s) if self.in_band(image) else None
        off = image.voltage_v is not None and abs(image.voltage_v - self._v) > V_BAND * self._v
        return steady, ((memory.volts_off_s if memory.volts_off_s is not None else image.now_s) if off else None)

    def found(self, image: Image) -> Finding:
        """Return what the devices that measure the busbar say of it together."""
        dead, beside = list[str](), list[str]()
        for asset, rated_kw in self._rated.items():
            unit = image.assets[asset]
            if not unit.seen:
                continue
            if abs(unit.power_kw or 0.0) > FLOWS * rated_kw:
                return Finding(BusState.LIVE)
            if asset in self._sets and not on_bus(unit):
                continue
            highest, apart = self._highest(unit), asset in self._inverters and cut_off(unit, rated_kw)
            if highest is not None and highest >= ALIVE and not apart:
                return Finding(BusState.LIVE)
            if highest is not None and highest < DEAD:
                (beside if apart else dead).append(asset)
        agreed = (*dead, *beside)
        return Finding(BusState.DEAD if dead and len(agreed) >= WITNESSES else BusState.UNKNOWN, agreed)

    def _highest(self, unit: AssetImage) -> float | None:
        """Return the higher share of nominal of its frequency and its voltage; None where it measures neither."""
        hz, volts = unit.get("frequency_hz"), unit.get("voltage_v")
        if hz is None and volts is None:
            return None
        return max((hz or 0.0) / self._hz, (volts or 0.0) / self._v)


def cut_off(inverter: AssetImage, rated_kw: float) -> bool:
    """Whether an inverter stands behind its own open breaker; one that gives power does not, whatever the switch says."""
    return inverter.flag("breaker_closed") is False and abs(inverter.power_kw or 0.0) <= FLOWS * rated_kw
