"""Is the busbar steady: frequency and voltage in their bands, and since when."""

from __future__ import annotations

from ems.config.site import Site
from ems.decision import Memory
from ems.model import Image

HZ_BAND = 0.01
"""Frequency within this share of nominal is in band: what droop leaves between two trims."""
V_BAND = 0.10
"""Voltage within this share of nominal is in band (CONTROL 3.4)."""
VOLTAGE_S = 10.0
"""Voltage out of its band for this long [s] is an alarm and blocks hand-over and restoration."""


class Bus:
    """The busbar of one site, judged from what its units measure."""

    def __init__(self, site: Site) -> None:
        self._hz, self._v = float(site.site.nominal_hz), site.site.nominal_v

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
