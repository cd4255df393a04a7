"""What a plan weighs against each other: prices of all that is not fuel, in litre-equivalents."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prices:
    """Litre-equivalents, in an order that cannot be crossed (unserved load above all: `ems.tiers`): formulation.md.

    Attributes
    ----------
    shortfall_l_per_kwh : float
        Reserve that is missing, per kWh of power times time.
    lack_l_per_kwh_h : float
        Energy that reserve would need and the battery does not hold, per hour: dear enough that a plan does not pay where control
        would start a set all the same, at the worst moment.
    spent_l_per_kwh_h : float
        Energy behind a reserve that is there if the forecast is right and else not, per hour: an hour or two of it is worth a longer run, seldom another start.
    low_l_per_kwh : float
        Reserve downwards that is missing, per kWh of power times time.
    thin_l_per_kwh_h : float
        Stored energy under the path that a bad forecast would need, per hour.
    lost_l_per_kwh_h : float
        Stored energy whose place a bright day would fill, per hour of light: over a day about half of the litres that it saves.
    unmet_l_per_kwh : float
        Daily energy of a deferrable that is not given.
    surplus_l_per_kwh : float
        Power that nothing can take: low load.
    under_l_per_kwh_h : float
        Stored energy that is missing to the floor, per hour.
    dry_l_per_l : float
        Fuel that the tank does not hold: a kWh of it (0.2 L or more) is dearer than the dearest load, so that what may wait is shed first.
    in_hand_l_per_l : float
        Fuel that is missing to the days in hand at the end: it makes litres dearer than hours, wear and late water.
    wear_l_per_kwh : float
        Charge and discharge at the busbar; it keeps the two apart.
    least_wear_l_per_kwh : float
        The least of it that does.
    storage_l_per_kwh : float | None
        What wear a discharged kWh costs there and back (objective cost); None where it is not counted.
    changed_starts_per_h : float
        An hour of an engine that is other than promised, in starts of it.
    curtailed_l_per_kwh : float
        Unused sun.
    """

    wear_l_per_kwh: float = 0.002
    least_wear_l_per_kwh: float = 0.002
    storage_l_per_kwh: float | None = None
    curtailed_l_per_kwh: float = 0.0005
    shortfall_l_per_kwh: float = 15.0
    lack_l_per_kwh_h: float = 20.0
    spent_l_per_kwh_h: float = 0.2
    low_l_per_kwh: float = 5.0
    thin_l_per_kwh_h: float = 0.5
    lost_l_per_kwh_h: float = 0.02
    unmet_l_per_kwh: float = 2.0
    surplus_l_per_kwh: float = 1.0
    under_l_per_kwh_h: float = 1.0
    dry_l_per_l: float = 1500.0
    in_hand_l_per_l: float = 0.2
    changed_starts_per_h: float = 1.0
