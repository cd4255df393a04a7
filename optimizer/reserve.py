"""Reserve, as `ems.reserve` counts it: what the others add at once, and what they hold, must both cover the loss of any one source.

What is held is asked of every commitment set, which keeps the relaxation tight; what is added at once, and
what can be taken back, of the step (formulation.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cvxpy as cp
import numpy as np

from ems.config.site import Site
from ems.plan_form import most_error_kw
from ems.reserve import largest_feeder
from optimizer.assets.deferrable import DeferrableBlock
from optimizer.assets.diesel import DieselBlock
from optimizer.assets.load import LoadBlock
from optimizer.frame import MW, Array, Frame, Question, each

LOOSE = 4.0
"""A row that does not apply is loosened by this many times all that the sources could give."""
PEAKS_S = 900.0
"""In steps longer than this the peak inside them matters [s]."""


@dataclass(frozen=True, slots=True)
class Upward:
    """One way of counting: what all can add, and each unit's part of it, in one shape of rows [MW]."""

    room: cp.Expression
    part: dict[str, cp.Expression]


class ReserveBlock:
    """Upward and downward reserve of one problem; built last, of what the assets have left in the frame."""

    def __init__(self, frame: Frame, load: LoadBlock, diesels: Sequence[DieselBlock], deferrables: Sequence[DeferrableBlock]) -> None:
        self.frame = frame
        self.rule = frame.site.reserve
        self.load = load
        self.diesels = diesels
        n, sets = frame.n, frame.n_sets
        self.live = np.flatnonzero(frame.live)
        self.manned = np.array([k for k, members in enumerate(frame.sets) if members], dtype=np.intp)
        self.need = cp.Parameter((sets, n), nonneg=True)
        self.risen = cp.Parameter((sets, n), nonneg=True)
        self.capacity = cp.Parameter((sets, n), nonneg=True)
        self.spared = cp.Parameter((len(self.manned), n), nonneg=True)
        self.fed = cp.Parameter(n, nonneg=True)
        self.fallen = cp.Parameter(n, nonneg=True)
        self.shortfall = cp.Variable((sets, n), nonneg=True, name="shortfall")
        self.low: cp.Variable | None = None
        zero = np.zeros((sets, n))
        self.drawn = sum((x.power_by_set for x in deferrables), zero)
        self.sun = sum(frame.solar, zero)
        self.given = sum((d.power_by_set for d in diesels), zero)
        self._held()
        if self._quick:
            self._at_once()
        if frame.purpose == "plan" and frame.held:
            self._downward()
        frame.energy_price(frame.total(self.shortfall), frame.prices.shortfall_l_per_kwh)

    @property
    def _quick(self) -> bool:
        """Whether some unit can hold more than it can add at once: else what is held says it all."""
        slow = any(d.block_kw < d.diesel.rated_kw - d.diesel.min_kw or not d.reacts for d in self.diesels)
        return slow or any(unit not in self.frame.instant for unit in self.frame.held)

    def _added(self, pick: object, step: bool) -> list[cp.Expression]:
        """Return what must stay beside the loss of a source: nothing, or with `combine: sum` the shares or the learned error, whichever is more."""
        frame, rule = self.frame, self.rule
        if rule.combine != "sum":
            return []
        shares = cp.multiply(self.load.peak * rule.load_fraction, frame.live_w) + rule.load_fraction * self.drawn + rule.solar_fraction * self.sun
        both = [shares, cp.multiply(self.risen, frame.live_w)]
        return [frame.total(x) if step else pick @ x for x in both]

    def _rows(self, kind: Upward, pick: object, step: bool) -> None:
        """What is asked of one way of counting; `step` asks it of whichever set holds, else each set of `pick` for itself."""
        frame, rule = self.frame, self.rule

        def rows(by_set: cp.Expression) -> cp.Expression:
            return frame.total(by_set) if step else pick @ by_set

        frame.constraints.append(kind.room >= rows(cp.multiply(self.need, frame.live_w) + rule.load_fraction * self.drawn))
        whole = rule.largest_unit and len(frame.solar) == 1  # then the loss of all of it is asked for below
        if frame.solar and rule.solar_fraction and not whole:
            frame.constraints.append(kind.room >= rows(rule.solar_fraction * self.sun))
        added = self._added(pick, step)
        for trip in frame.trips if rule.largest_unit else ():
            lost = rows(trip.power if trip.excused is None else trip.power - trip.excused)
            others = kind.room - kind.part[trip.unit] if trip.unit in kind.part else kind.room
            frame.constraints += [others >= lost + more for more in added or [0.0]]

    def _held(self) -> None:
        """Each set for itself. Of its diesels the loss of the largest is the worst: what the others hold less what all give stays the same."""
        frame, pick = self.frame, self.frame.pick(self.live)
        held = sum(frame.held.values(), np.zeros((frame.n_sets, frame.n)))
        room = cp.multiply(self.capacity, frame.w) - self.given + held + self.shortfall
        self._rows(Upward(pick @ room, {u: pick @ part for u, part in frame.held.items()}), pick, step=False)
        if len(self.manned) and self.rule.largest_unit:
            some = frame.pick(self.manned)
            left = cp.multiply(self.spared, some @ frame.w) + some @ (held + self.shortfall - self.given)
            frame.constraints += [left >= more for more in self._added(some, False) or [0.0]]

    def _at_once(self) -> None:
        """What the step asks within seconds: diesels up to their block load, inverters that react by themselves."""
        frame, n = self.frame, self.frame.n
        part: dict[str, cp.Expression] = dict(frame.instant)
        for d in self.diesels:
            if d.reacts:
                quick = cp.Variable(n, nonneg=True, name=f"{d.diesel.id}.at_once")
                frame.constraints += [quick <= d.block_kw * MW * d.on, quick <= frame.total(d.left_by_set)]
                part[d.diesel.id] = quick
        kind = Upward(sum(part.values(), np.zeros(n)) + frame.total(self.shortfall), part)
        self._rows(kind, None, step=True)
        added = self._added(None, True)
        for d in self.diesels if self.rule.largest_unit else ():
            others = kind.room - part[d.diesel.id] if d.diesel.id in part else kind.room
            frame.constraints += [others + d.excused_power >= d.total_power + more for more in added or [0.0]]

    def _downward(self) -> None:
        """The loss of the largest feeder, taken back by diesels down to minimum loading and by charging; a fall of the net load also by less sun.

        Asked while an inverter is in service: what governors alone make of a lost feeder no plan can change.
        """
        frame, n = self.frame, self.frame.n
        self.low = low = cp.Variable(n, nonneg=True, name="low")
        # What is dumped is low load of a diesel, which takes nothing back.
        back = sum(frame.lower, np.zeros(n)) - frame.total(self.load.surplus) + low
        share = largest_feeder(frame.site)
        alive = frame.total(frame.live_w)
        if share:
            frame.constraints.append(back >= cp.multiply(self.fed, alive) + share * frame.total(self.drawn))
        frame.constraints.append(back + frame.total(self.sun) >= cp.multiply(self.fallen, alive))
        frame.energy_price(low, frame.prices.low_l_per_kwh)

    def fill(self, question: Question, taking: Array) -> None:
        """Set the parameters; after those of the assets. `taking` says where some battery can be charged, shape (n_steps,)."""
        frame, rule, n = self.frame, self.rule, self.frame.n
        risen = learned_up_kw(frame.site, question) * MW
        fallen = np.array(question.forecast.error_down_kw or (0.0,) * n) * MW
        peak = self.load.peak.value[0]
        beyond = self.load.beyond.value[0] * (np.array(frame.step_s) > PEAKS_S)
        self.need.value = each(np.maximum(rule.load_fraction * peak, risen) + beyond, frame.n_sets)
        self.risen.value = each(risen, frame.n_sets)
        self.fed.value = largest_feeder(frame.site) * self.load.load.value[0] * taking
        self.fallen.value = np.minimum(fallen, self.load.load.value[0]) * taking  # a brighter sun is cut, and no load is below nothing
        tops = {d.diesel.id: d.ceiling for d in self.diesels}
        none = np.zeros(n)
        self.capacity.value = np.array([sum((tops[d] for d in members), none) for members in frame.sets])
        loose = LOOSE * (sum(tops.values(), none) + frame.site.peak_kw * MW)
        spared = []
        for k in self.manned:
            members = frame.sets[k]
            lost = [np.where(d.excused_in(k), -np.inf, d.ceiling) for d in self.diesels if d.diesel.id in members]
            worst = np.max(lost, axis=0)
            spared.append(np.where(np.isfinite(worst), self.capacity.value[k] - np.maximum(worst, 0.0), loose))
        if len(self.manned):
            self.spared.value = np.array(spared)


def learned_up_kw(site: Site, question: Question) -> Array:
    """Return by how much the net load may rise above forecast until new capacity runs, 0 until that is learned [kW], shape (n_steps,)."""
    return np.minimum(question.forecast.error_up_kw or (0.0,) * question.grid.n_steps, most_error_kw(site))
