"""A fuel tank: what the diesels it feeds burn, and what is delivered."""

from __future__ import annotations

from ems.config.site import Tank


class TankUnit:
    """One tank. Litres below `unusable_l` are not fuel: there the sets it feeds starve."""

    __slots__ = ("id", "asset", "level_l", "delivered_l", "refused_l")

    def __init__(self, asset: Tank) -> None:
        self.id = asset.id
        self.asset = asset
        self.level_l = asset.level_l_start
        self.delivered_l = self.refused_l = 0.0

    @property
    def dry(self) -> bool:
        """Whether nothing usable is left."""
        return self.level_l <= self.asset.unusable_l

    def deliver(self, litres: float) -> None:
        """Take a delivery as far as it fits; the rest goes back with the ship."""
        taken = min(litres, self.asset.capacity_l - self.level_l)
        self.level_l += taken
        self.delivered_l += taken
        self.refused_l += litres - taken

    def points(self) -> dict[str, float | None]:
        """Return what its gauge shows."""
        return {"level_l": self.level_l}
