"""What a field bus makes of the truth: noise, whole kilowatts, devices that are read seconds apart, and meters that lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from ems.config.site import Site

Points = Mapping[str, Mapping[str, float | None]]
Lie = Callable[[float], float | None]
"""What a meter shows for a true value."""


def scaled_up(true: float) -> float:
    return 10.0 * true


def scaled_down(true: float) -> float:
    return 0.1 * true


def turned(true: float) -> float:
    return -true


def frozen() -> Lie:
    """Return a meter that shows its first value for ever."""
    kept: dict[str, float] = {}
    return lambda true: kept.setdefault("value", true)


@dataclass
class Meters:
    """The meters of one site.

    Attributes
    ----------
    noise : float
        Error of each reading of power (uniform, share of the rating); SoC has a tenth of it.
    step_kw : float
        Resolution [kW]; 0 shows every bit.
    apart_s : int
        Each device is read once in this many seconds, in its own turn.
    lies : dict[tuple[str, str], Lie]
        By asset and point.
    zeroed : set[str]
        Devices that show nothing but zeros.
    """

    site: Site
    noise: float = 0.0
    step_kw: float = 0.0
    apart_s: int = 1
    seed: int = 1
    lies: dict[tuple[str, str], Lie] = field(default_factory=dict)
    zeroed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._rated = {a.id: getattr(a, "rated_kw", 0.0) or getattr(a, "peak_kw", 0.0) for a in self.site.assets}
        self._turn = {a.id: self._random.randrange(self.apart_s) for a in self.site.assets}
        self._kept: dict[str, Mapping[str, float | None]] = {}

    def __call__(self, now_s: float, seen: Points) -> Points:
        return {a: self._device(a, now_s, points) for a, points in seen.items()}

    def _device(self, asset: str, now_s: float, points: Mapping[str, float | None]) -> Mapping[str, float | None]:
        if asset in self.zeroed:
            return dict.fromkeys(points, 0.0)
        if asset in self._kept and int(now_s) % self.apart_s != self._turn.get(asset, 0):
            return self._kept[asset]
        shown = {p: self._point(asset, p, v) for p, v in points.items()}
        self._kept[asset] = shown
        return shown

    def _point(self, asset: str, point: str, value: float | None) -> float | None:
        if value is None:
            return None
        if point == "power_kw" and value != 0.0:
            value += self.noise * self._rated.get(asset, 0.0) * self._random.uniform(-1.0, 1.0)
            value = round(value / self.step_kw) * self.step_kw if self.step_kw else value
        elif point == "soc":
            value += 0.1 * self.noise * self._random.uniform(-1.0, 1.0)
        lie = self.lies.get((asset, point))
        return value if lie is None else lie(value)
