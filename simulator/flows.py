"""What goes into a step of the plant, and what comes out of it, at either level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ems.frozen import frozen


@frozen
class Conditions:
    """One interval's outside world.

    Attributes
    ----------
    load_kw : Mapping[str, float]
        What people want, by load asset, without deferrables [kW].
    available_kw : Mapping[str, float]
        What the sun offers at the AC side, by solar asset [kW].
    inflow_m3s : Mapping[str, float]
        Water at the intake, by hydro asset [m3/s].
    """

    load_kw: Mapping[str, float]
    available_kw: Mapping[str, float]
    inflow_m3s: Mapping[str, float]
    ghi_wm2: float | None = None
    air_temp_c: float | None = None


@dataclass(slots=True)
class Flows:
    """What happened in one step; powers are means over it [kW].

    Attributes
    ----------
    power_kw : dict[str, float]
        At the busbar, of every source, and what loads and deferrables drew; of a battery on its DC side.
    load_kw, served_kw, unserved_kw : float
        Wanted with deferrables, served, and the difference; shed by choice counts as unserved.
    station_kw : float
        Auxiliary use; 0 on a dead bus.
    available_kw : dict[str, float]
        What the sun offered, by solar asset.
    curtailed_kw, spilled_kw : float
        Solar not used; hydro power of water that went over the spillway.
    pushed_kw : float
        What over-frequency took out of PV and hydro because nobody had curtailed them.
    fuel_l : dict[str, float]
        Burnt in this step by each diesel, starts included [L].
    running : dict[str, bool]
        Diesels on the bus.
    starts : dict[str, int]
        Starts completed in this step, by diesel.
    losses_kw : float
        Heat in inverters and batteries.
    soc, pond_m3 : dict[str, float]
        At the end of the step.
    formers : tuple[str, ...]
    blackout : bool
    frequency_hz, frequency_min_hz, frequency_max_hz, rocof_hz_per_s, voltage_v : float | None
        Of the busbar, where the level knows them: at the end, lowest and highest, the steepest change, and the lowest voltage.
    """

    power_kw: dict[str, float]
    load_kw: float
    served_kw: float
    unserved_kw: float
    station_kw: float
    available_kw: dict[str, float]
    curtailed_kw: float
    spilled_kw: float
    pushed_kw: float
    fuel_l: dict[str, float]
    running: dict[str, bool]
    starts: dict[str, int]
    losses_kw: float
    soc: dict[str, float]
    pond_m3: dict[str, float]
    formers: tuple[str, ...]
    blackout: bool
    frequency_hz: float | None = None
    frequency_min_hz: float | None = None
    frequency_max_hz: float | None = None
    rocof_hz_per_s: float | None = None
    voltage_v: float | None = None
