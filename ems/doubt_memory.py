"""What doubt remembers from one cycle to the next: frozen and recorded like all of the memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ems.frozen import frozen
from ems.model import NOTHING, Flaw


@frozen
class Pace:
    """How lively one power is: its last bits, since when it shows them [s of `now_s`], and its longest usual pause [s].

    `pause_s` is None until it has moved once; it fades, so that a unit that idled is judged by what it does now.
    `residual_kw` is what the balance was open by when it moved last, None where that could not be told.
    """

    shown_kw: float
    since_s: float
    pause_s: float | None = None
    residual_kw: float | None = None


@frozen
class Charge:
    """SoC of one battery counted from its inverter's power.

    Attributes
    ----------
    soc : float
    drift : float
        How far the count may be off since it was last set by the meter (ratio).
    band : float
        Half-width around `soc` while the meter is silent or not believed (ratio).
    power_kw : float
        Of the inverter at the busbar in the cycle before [kW].
    shown : float | None
        What the meter said last, and since when it says so [s of `now_s`].
    doubted_s, fine_s : float | None
        Since when the meter is not believed, and since when it agrees again [s of `now_s`].
    flaw : Flaw
    """

    soc: float
    drift: float = 0.0
    band: float = 0.0
    power_kw: float = 0.0
    shown: float | None = None
    since_s: float = 0.0
    doubted_s: float | None = None
    fine_s: float | None = None
    flaw: Flaw = Flaw.JUMP


@frozen
class Onset:
    """A balance that does not close.

    Attributes
    ----------
    since_s : float
        [s of `now_s`].
    residual_kw : float
        By how much it was open in the cycle before [kW].
    step_s, step_kw : float
        When it changed most in one cycle, and by how much [s of `now_s`, kW].
    before, after : Mapping[str, float]
        The powers on both sides of that step [kW].
    accused : str | None
        Who would close it with a factor or sign taken back; since when, and what it showed then [s of `now_s`, kW].
    closed_s : float | None
        Since when it closes again [s of `now_s`].
    """

    since_s: float
    residual_kw: float
    step_s: float
    step_kw: float
    before: Mapping[str, float]
    after: Mapping[str, float]
    accused: str | None = None
    accused_s: float = 0.0
    accused_kw: float = 0.0
    closed_s: float | None = None


@frozen
class Doubted:
    """A power that is not believed.

    Attributes
    ----------
    flaw : Flaw
    since_s : float
        When it was found [s of `now_s`].
    trusted_kw : float | None
        The last power that was believed [kW].
    fine_s : float | None
        Since when what the device says is plausible again [s of `now_s`].
    """

    flaw: Flaw
    since_s: float
    trusted_kw: float | None
    fine_s: float | None = None


@frozen
class DoubtMemory:
    """What `ems.doubt` hands from one cycle to the next.

    Attributes
    ----------
    last : Mapping[str, Mapping[str, float | None]]
        Each device's points when it was last heard of.
    silent, zeroed : Mapping[str, float]
        Since when a device is not heard of, and since when it shows nothing but zeros [s of `now_s`].
    balanced : Mapping[str, float]
        The powers of the last cycle whose balance closed [kW].
    lag_kw : float
        How much of a residual may come from devices that are read one after the other while powers move [kW].
    pace : Mapping[str, Pace]
        By unit in the balance.
    onset : Onset | None
        While the balance does not close.
    powers : Mapping[str, Doubted]
        By asset whose power is not believed.
    charge : Mapping[str, Charge]
        By battery.
    """

    last: Mapping[str, Mapping[str, float | None]] = field(default_factory=lambda: NOTHING)
    silent: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    zeroed: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    balanced: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    lag_kw: float = 0.0
    pace: Mapping[str, Pace] = field(default_factory=lambda: NOTHING)
    onset: Onset | None = None
    powers: Mapping[str, Doubted] = field(default_factory=lambda: NOTHING)
    charge: Mapping[str, Charge] = field(default_factory=lambda: NOTHING)
