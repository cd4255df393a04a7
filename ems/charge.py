"""SoC counted from the inverter's power: what a BMS says is held against it, and what stands in for a BMS that is silent.

The count follows the meter slowly while the two agree. A meter that leaves it faster than the power explains is not
believed: the count is used, with a band around it that grows, until the meter is back inside.
"""

from __future__ import annotations

from dataclasses import replace

from ems.config.site import Battery, Inverter
from ems.doubt_memory import Charge
from ems.model import AssetImage, Flaw
from ems.physics import dc_kw, storage_step

LEAST_TOLERANCE = 0.02
"""No meter is doubted for less than this, whatever `soc_error` says: two steps of a meter with whole per cent."""
BAND_PER_S = 0.01 / 600.0
"""How fast the band around a count grows: 1 % in 10 min. It shrinks as slowly, once the meter is believed again."""
WIDEST = 0.25
"""A count with a wider band than this is worth nothing: SoC is unknown."""
FOLLOW_S = 300.0
"""The count follows a meter that agrees with this time constant [s]: slow beside a jump, quick beside a wrong capacity."""
THROUGHPUT_ERROR = 0.10
"""The count may be off by this share of what went through it since the meter last moved: capacity and losses are not known better."""
STANDBY_ERROR = 0.01
"""... and by this share of the inverter's rating all the time: standby use and the zero error of its power meter."""
FINE_S = 10.0
"""A meter is believed again when it has agreed with the count for this long [s]."""
STILL_S = 60.0
"""A meter that has shown the same bits for this long while the count went away is frozen, not jumped [s]."""


class Counter:
    """Counts one battery.

    Parameters
    ----------
    battery : Battery
    inverter : Inverter
        The one that it is behind.
    """

    def __init__(self, battery: Battery, inverter: Inverter) -> None:
        self._battery, self._inverter = battery, inverter
        self._tolerance = max(LEAST_TOLERANCE, battery.soc_error)
        self._standby_per_s = STANDBY_ERROR * inverter.rated_kw / battery.capacity_kwh / 3600.0
        self._worst_per_s = max(battery.charge_kw, battery.discharge_kw) / battery.capacity_kwh / 3600.0

    def count(
        self, charge: Charge | None, shown: float | None, power_kw: float | None, runs: bool, now_s: float, dt_s: float, refused: bool = False
    ) -> Charge | None:
        """Return the charge of this cycle; None where nothing is known of it.

        Parameters
        ----------
        charge : Charge | None
            Of the cycle before.
        shown : float | None
            What the meter says, None where it says nothing that can be used.
        power_kw : float | None
            Of the inverter at the busbar, measured or inferred; None counts the last known one on, at the worst band [kW].
        runs : bool
            Whether the inverter runs: standing, it draws nothing from the battery.
        now_s, dt_s : float
            [s].
        refused : bool
            The meter says something that cannot be.
        """
        if charge is None:
            return None if shown is None else Charge(shown, shown=shown, since_s=now_s, power_kw=power_kw or 0.0)
        known = charge.power_kw if power_kw is None else power_kw
        soc = storage_step(self._battery, charge.soc, dc_kw(self._inverter, 0.5 * (charge.power_kw + known)), dt_s / 3600.0) if runs else charge.soc
        drift = charge.drift + THROUGHPUT_ERROR * abs(soc - charge.soc) + self._standby_per_s * dt_s
        soc = min(max(soc, 0.0), 1.0)
        if shown is None:
            band = charge.band + (BAND_PER_S if power_kw is not None else self._worst_per_s) * dt_s
            if band > WIDEST:
                return None
            if refused and charge.doubted_s is None:
                return replace(charge, soc=soc, drift=drift, band=band, power_kw=known, doubted_s=now_s, flaw=Flaw.RANGE)
            return replace(charge, soc=soc, drift=drift, band=band, power_kw=known, fine_s=None)
        moved = shown != charge.shown
        since_s = now_s if moved else charge.since_s
        agrees = abs(shown - soc) <= self._tolerance + drift + charge.band
        if charge.doubted_s is None and not agrees:
            flaw = Flaw.FROZEN if now_s - since_s >= STILL_S else Flaw.JUMP
            return Charge(soc, drift, charge.band, known, shown, since_s, now_s, None, flaw)
        if charge.doubted_s is not None:
            return self._doubted(charge, soc, drift, shown, since_s, known, agrees, now_s, dt_s)
        band = max(0.0, charge.band - BAND_PER_S * dt_s)
        if moved:
            soc += (shown - soc) * min(1.0, (now_s - charge.since_s) / FOLLOW_S)
            drift = 0.0
        return Charge(soc, drift, band, known, shown, since_s)

    def _doubted(
        self, charge: Charge, soc: float, drift: float, shown: float, since_s: float, power_kw: float, agrees: bool, now_s: float, dt_s: float
    ) -> Charge:
        """Go on without the meter until it has agreed for a while; a frozen one has to move as well."""
        agrees = agrees and (charge.flaw is not Flaw.FROZEN or now_s - since_s < STILL_S)
        fine_s = (charge.fine_s if charge.fine_s is not None else now_s) if agrees else None
        band = min(WIDEST, charge.band + BAND_PER_S * dt_s)
        if fine_s is not None and now_s - fine_s >= FINE_S:
            # Both what was counted and what is shown stay inside the band, which then fades.
            return Charge(shown, 0.0, max(charge.band, abs(shown - soc)), power_kw, shown, since_s)
        return Charge(soc, drift, band, power_kw, shown, since_s, charge.doubted_s, fine_s, charge.flaw)


def surely_stored(battery: AssetImage) -> float | None:
    """Return the SoC that is there at least: of a counted one the lower end of its band; None where it is unknown."""
    soc, band = battery.points.get("soc"), battery.points.get("soc_band")
    return soc if soc is None or not band else max(0.0, soc - band)
