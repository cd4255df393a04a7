"""Battery: stored energy, its band, and what it is worth at the end."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from ems.config.site import Battery, Diesel, Inverter
from ems.physics import best_slope_l_per_kwh
from optimizer.assets.wear import WearBlock
from optimizer.frame import MW, Array, Frame, Question, end_l_per_kwh
from optimizer.security import Paths

OFF_TARGET = 1.3
"""A window that ends off the relaxation's charge pays this many times its value."""
UNSURE = 0.03
"""Of its capacity: what a forecast may be off is kept behind the reserve up to this; what is more comes with time to think again."""


class BatteryBlock:
    """One battery of the problem; its inverter adds what flows."""

    def __init__(self, frame: Frame, battery: Battery, inverter: Inverter) -> None:
        self.frame = frame
        self.battery = battery
        self.inverter = inverter
        n = frame.n
        self.capacity = battery.capacity_kwh * MW
        self.share = 0.0  # of all that is stored; of a battery that cannot be used nothing
        self.saved_share = cp.Parameter(nonneg=True)
        self.error = cp.Parameter(nonneg=True)
        self.to_bus = battery.discharge_efficiency * inverter.efficiency
        self.into = inverter.efficiency * battery.charge_efficiency
        self.stored_0 = cp.Parameter(nonneg=True)
        self.floor = cp.Parameter(n + 1, nonneg=True)
        self.top = cp.Parameter(n + 1, nonneg=True)
        self.under_0 = cp.Parameter(nonneg=True)
        self.over_0 = cp.Parameter(nonneg=True)
        self.stored = cp.Variable(n + 1, bounds=[0, self.capacity], name=f"{battery.id}.stored")
        self.flow: cp.Constraint | None = None  # its inverter's
        self.under = under = cp.Variable(n + 1, nonneg=True, name=f"{battery.id}.under")
        self.over = over = cp.Variable(n + 1, nonneg=True, name=f"{battery.id}.over")
        # Outside its band it may stay or come back, never go further: a morning that begins below the floor still has a plan.
        frame.constraints += [
            *self._begin(),
            self.stored >= self.floor - under,
            self.stored <= self.top + over,
            under[0] <= self.under_0,
            over[0] <= self.over_0,
            under[1:] <= under[:n],
            over[1:] <= over[:n],
        ]
        frame.cost.append(cp.sum(cp.multiply(under[1:], frame.hours)) * (frame.prices.under_l_per_kwh_h / MW))
        self.path = cp.Parameter(n + 1, nonneg=True, value=np.zeros(n + 1))
        self.clear = cp.Parameter(n + 1, nonneg=True, value=np.zeros(n + 1))
        self.bright = cp.Parameter(n + 1, nonneg=True, value=np.zeros(n + 1))
        self.lost_l = cp.Parameter(n, nonneg=True, value=np.zeros(n))
        if frame.purpose == "plan":
            self._paths()
        self.unsure = cp.Parameter(n, nonneg=True, value=np.zeros(n))
        self.wear = WearBlock(frame, battery, self.stored, self.to_bus)
        self._end_value(under)

    def _begin(self) -> list[cp.Constraint]:
        """What is stored at the beginning: as it is; of a part of a period only that it is as it is, or anything."""
        if self.frame.purpose != "part":
            return [self.stored[0] == self.stored_0]
        self.least_0, self.most_0 = cp.Parameter(nonneg=True), cp.Parameter(nonneg=True)
        return [self.stored[0] >= self.least_0, self.stored[0] <= self.most_0]

    def _paths(self) -> None:
        """What a bad day asks for (`optimizer.security`): so much stored, so much room, where it can be had."""
        frame, n = self.frame, self.frame.n
        thin = cp.Variable(n + 1, nonneg=True, name=f"{self.battery.id}.thin")
        # What is shed for it does not count here either: nobody is put in the dark today so that a bad night has more.
        frame.constraints += [self.stored - self._saved() + thin >= self.path, self.stored - thin <= self.capacity - self.clear]
        frame.cost.append(cp.sum(cp.multiply(thin[1:], frame.hours)) * (frame.prices.thin_l_per_kwh_h / MW))
        # A diesel that waits can be left out when the day is brighter than forecast; what it has stored is then in the way of the sun.
        lost = cp.Variable(n + 1, nonneg=True, name=f"{self.battery.id}.lost")
        frame.constraints.append(self.stored - lost <= self.bright)
        frame.cost.append(cp.sum(cp.multiply(lost[1:], self.lost_l)))

    def follow(self, paths: Paths, full: Array, net_kw: Array, lit: Array) -> None:
        """Set the paths of one question, and what the energy left at its end is worth, after `fill`. Never more than the band holds.

        Parameters
        ----------
        paths : Paths
        full : Array
            1 where a storm is near, shape (n_steps + 1,).
        net_kw : Array
            Load less sun less river [kW], shape (n_steps,).
        lit : Array
            1 where a bright day has sun that nothing is known of yet, shape (n_steps,).
        """
        floor, top = self.floor.value, self.top.value
        band = np.maximum(0.0, top - floor)
        need = paths.stored_kwh * (self.share * MW / self.to_bus)
        room = paths.room_kwh * (self.share * MW * self.into)
        self.path.value = floor + np.where(full > 0.0, band, np.minimum(need, band))
        self.unsure.value = np.minimum(paths.unsure_kwh[1:] * (self.share * MW / self.to_bus), UNSURE * self.capacity)
        sunny = paths.bright_kwh * (self.share * MW * self.into)
        self.bright.value = np.maximum(self._unburnt(net_kw), top - np.where(full > 0.0, 0.0, sunny))
        self.lost_l.value = self.frame.dt_h * lit * (self.frame.prices.lost_l_per_kwh_h / MW)
        self.clear.value = self.capacity - top + np.where(full > 0.0, 0.0, np.minimum(room, np.maximum(0.0, band - need)))
        if self.width is not None:
            self.width.value = self._widths(net_kw, float(band[-1]))

    def _unburnt(self, net_kw: Array) -> Array:
        """Return what is stored where no diesel fills it [MWh], shape (n_steps + 1,): with less a plan would throw sun away."""
        least, floor, top = [float(self.stored_0.value)], self.floor.value, self.top.value
        for t, lacks in enumerate((net_kw * self.frame.dt_h * (MW * self.share)).tolist()):
            left = least[t] - (lacks / self.to_bus if lacks > 0.0 else lacks * self.into)
            least.append(min(top[t + 1], max(min(floor[t + 1], least[t]), left)))
        return np.array(least)

    def _end_value(self, under: cp.Variable) -> None:
        """What is left in it: linear for the bound, else concave in three pieces (formulation.md)."""
        frame, diesels = self.frame, self.frame.site.of(Diesel)
        slope = best_slope_l_per_kwh(diesels)
        self.width: cp.Parameter | None = None
        self.target: cp.Parameter | None = None
        self.end_l_per_mwh: Array = np.array([slope * self.to_bus / MW])
        if frame.purpose == "window":
            self.target = cp.Parameter(nonneg=True)
            frame.cost.append(self.end_l_per_mwh[0] * OFF_TARGET * cp.abs(self.stored[frame.n] - self.target))
            return
        if frame.purpose == "part":
            self.begin_l, self.left_l = cp.Parameter(nonneg=True), cp.Parameter(nonneg=True)
            frame.cost.append(self.begin_l * self.stored[0] - self.left_l * self.stored[frame.n])
            return
        if frame.purpose != "plan":
            frame.cost.append(-self.end_l_per_mwh[0] * (self.stored[frame.n] - self.stored_0))
            return
        self.end_l_per_mwh = np.array(end_l_per_kwh(diesels)) * self.to_bus / MW
        self.width = cp.Parameter(3, nonneg=True)
        piece = cp.Variable(3, bounds=[0, self.width], name=f"{self.battery.id}.end")
        frame.constraints.append(cp.sum(piece) <= self.stored[frame.n] - self.floor[frame.n] + under[frame.n])
        frame.cost.append(-(self.end_l_per_mwh @ piece))

    def price_l(self) -> Array:
        """Return what a little more stored would save at each point in time [L/MWh], shape (n_steps + 1,): of a relaxed problem that is solved.

        The dual of the flow; where the battery is full it is less before than after, and the mean of both is taken.
        """
        if self.flow is None or self.flow.dual_value is None:
            raise ValueError("a relaxed problem must be solved first")
        after = np.append(self.flow.dual_value, self.end_l_per_mwh[0])
        before = np.append(after[0], self.flow.dual_value)
        return np.asarray(np.maximum(0.0, (before + after) / 2.0))

    @property
    def kept_kwh(self) -> float:
        """What of it is worth keeping at the end for what is lacking before the next surplus, at the busbar [kWh]; after `follow`."""
        return 0.0 if self.width is None else float(self.width.value[0]) * self.to_bus / MW

    def end_pieces(self) -> list[tuple[float, float]]:
        """Return what is left above the floor at the end by pieces of one value: (width [MWh], value [L/MWh])."""
        widths = [self.capacity] if self.width is None else self.width.value
        return [(float(w), float(p)) for w, p in zip(widths, self.end_l_per_mwh, strict=True)]

    def firm(self) -> cp.Expression:
        """Return the stored energy that reserve may count on [MWh], shape (n_steps + 1,): above floor and SoC error, and not what was shed for it."""
        return self.stored - self.floor - self.error - self._saved()

    def _saved(self) -> cp.Expression | float:
        """Return what of it is stored because load was shed [MWh], shape (n_steps + 1,)."""
        return self.saved_share * self.frame.saved if self.frame.saved is not None else 0.0

    def room(self) -> cp.Expression:
        """Return what it can still be charged with [MWh], shape (n_steps + 1,)."""
        return self.top + self.over - self.stored

    def fill(self, question: Question, share: float) -> None:
        """Set the parameters.

        Parameters
        ----------
        question : Question
        share : float
            Its part of the capacity of all batteries that may be used; 0 where it may not be used in any step, or nobody knows what is in
            it: then it is absent, with nothing stored, no band, and so no value at the end, no path and no energy behind a reserve.
        """
        b, n = self.battery, self.frame.n
        self.share = share
        self.saved_share.value, self.error.value = share / self.to_bus, b.soc_error * self.capacity * (share > 0.0)
        self.wear.fill(question.start.soc[b.id] if share else 0.0)
        if not share:
            self.stored_0.value = self.under_0.value = self.over_0.value = 0.0
            self.floor.value, self.top.value = np.zeros(n + 1), np.zeros(n + 1)
            return
        soc = min(max(question.start.soc[b.id], 0.0), 1.0)
        # A limit that ends inside the horizon may only widen the band, or the way back to the old one could be too short.
        floor = np.minimum.accumulate(np.append(question.ceiling(b.id, "soc_min", b.soc_min), b.soc_min))
        top = np.maximum.accumulate(np.append(question.ceiling(b.id, "soc_max", b.soc_max), b.soc_max))
        top[n], floor[n] = top[n - 1], floor[n - 1]
        self.stored_0.value = soc * self.capacity
        self.floor.value, self.top.value = floor * self.capacity, np.maximum(floor, top) * self.capacity
        self.under_0.value = max(0.0, floor[0] - soc) * self.capacity
        self.over_0.value = max(0.0, soc - top[0]) * self.capacity

    def _widths(self, net_kw: Array, band: float) -> Array:
        """Return the widths of the three pieces [MWh]: needed before the next surplus, useful later, no room for more."""
        net, hours, day = net_kw * self.share, self.frame.dt_h, self.frame.last_day
        surplus = float(np.sum(np.maximum(0.0, -net[day]) * hours[day])) * MW * self.into
        deficit = float(np.sum(np.maximum(0.0, net[day]) * hours[day])) * MW / self.to_bus
        no_room = min(band, surplus)
        needed = min(band - no_room, deficit)
        return np.array([needed, band - no_room - needed, no_room])
