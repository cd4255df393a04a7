"""Inverter: conversion between busbar and battery, no-load power, reserve in power and in energy."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import numpy.typing as npt

from ems.config.site import Battery, Inverter
from ems.lines import concave_lines, slope
from ems.physics import ac_kw
from ems.reserve import DOWN_HOLD_S
from optimizer.assets.battery import BatteryBlock
from optimizer.frame import MW, Array, Frame, Question, Trip, each

AT_ONCE_S = 60.0
"""What an inverter adds at once must last this long [s]: until a diesel on line has taken it over."""


class InverterBlock:
    """One inverter of the problem. Its busbar power is discharge - charge - no-load, conversion losses beyond that."""

    def __init__(self, frame: Frame, inverter: Inverter, battery: Battery | None) -> None:
        self.frame = frame
        self.inverter = inverter
        self.store: BatteryBlock | None = None
        self.lack: cp.Variable | None = None
        self.reacts = inverter.primary_response or inverter.forming != "never"
        self.idle = inverter.no_load_kw * MW * frame.live_w
        if battery is None:
            frame.draw.append(self.idle)
            return
        self.store = BatteryBlock(frame, battery, inverter)
        n = frame.n
        self.discharge_max = cp.Parameter((frame.n_sets, n), nonneg=True)
        self.charge_max = cp.Parameter((frame.n_sets, n), nonneg=True)
        self.reach = cp.Parameter((frame.n_sets, n), nonneg=True)
        self.excused = cp.Parameter((frame.n_sets, n), nonneg=True)
        self.discharge = frame.power(f"{inverter.id}.discharge")
        self.charge = frame.power(f"{inverter.id}.charge")
        self.power = self.discharge - self.charge - self.idle
        frame.supply.append(self.power)
        frame.constraints += [
            self.discharge <= cp.multiply(self.discharge_max, frame.w),
            self.charge <= cp.multiply(self.charge_max, frame.w),
        ]
        frame.trips.append(Trip(inverter.id, self.power, cp.multiply(self.excused, frame.bare_w)))
        frame.energy_price(frame.total(self.discharge + self.charge), self.store.wear.each_way_l_per_kwh)
        self._flow(self.store)
        self._reserve(self.store)

    def _flow(self, store: BatteryBlock) -> None:
        """Stored energy from step to step, and the charge limit that falls with it."""
        frame, b, eta, n = self.frame, store.battery, self.inverter.efficiency, self.frame.n
        out = cp.multiply(frame.total(self.discharge), frame.hours) / (eta * b.discharge_efficiency)
        into = cp.multiply(frame.total(self.charge), frame.hours) * (eta * b.charge_efficiency)
        store.flow = store.stored[1:] == store.stored[:n] - out + into
        frame.constraints.append(store.flow)
        frame.constraints += [frame.total(self.charge) * eta <= b.charge_kw * MW * share for share in self._charge_shares(store)]

    def _charge_shares(self, store: BatteryBlock) -> list[cp.Expression]:
        """Return the lines under which the charge limit lies, as shares of `charge_kw` by step; none where it does not fall."""
        return [at_empty + rise / store.capacity * store.stored[: self.frame.n] for at_empty, rise in charge_lines(store.battery)]

    def _reserve(self, store: BatteryBlock) -> None:
        """What it can add: inverter and battery power, and energy for as long as it must last; and what it can take back."""
        frame, n = self.frame, self.frame.n
        # Below 0 where the battery could not even go on for so long with what it gives: then others must.
        reserve = frame.power(f"{self.inverter.id}.reserve", both=True)
        left = cp.multiply(self.reach, frame.w) - self.power
        self.lack = lack = cp.Variable(n, nonneg=True, name=f"{self.inverter.id}.lack")
        asked = frame.total(cp.multiply(frame.hold_h, reserve + self.discharge - self.charge)) / store.to_bus
        # What the forecast may be off by then is kept beside it, at a price that is seldom worth a start.
        spent = cp.Variable(n, nonneg=True, name=f"{self.inverter.id}.spent")
        # A plan keeps it at both ends of a step (CONTROL 4.4). Control looks at its beginning, so a bound may ask no more: no policy is to be below it.
        firm, spare = store.firm(), store.unsure - spent
        ends = (firm[:n], firm[1:]) if frame.purpose == "plan" else (firm[:n],)
        frame.held[self.inverter.id] = reserve
        frame.constraints += [reserve <= left, spent <= store.unsure, *(asked - lack + spare <= end for end in ends)]
        frame.energy_price(lack, frame.prices.lack_l_per_kwh_h)
        frame.energy_price(spent, frame.prices.spent_l_per_kwh_h)
        if self.reacts:
            at_once = cp.Variable(n, nonneg=True, name=f"{self.inverter.id}.at_once")
            bridged = at_once * (AT_ONCE_S / 3600.0 / store.to_bus)
            frame.constraints += [at_once <= frame.total(left), *(bridged - lack <= end for end in ends)]
            frame.instant[self.inverter.id] = at_once
        if frame.purpose == "plan":
            self._take_back(store)

    def _take_back(self, store: BatteryBlock) -> None:
        """Room to charge, in power and in energy: what it may take beyond what it takes now."""
        frame, b, n, eta = self.frame, store.battery, self.frame.n, self.inverter.efficiency
        take = cp.Variable(n, nonneg=True, name=f"{self.inverter.id}.take")
        full = take * (eta * b.charge_efficiency * DOWN_HOLD_S / 3600.0)
        room = store.room()
        # At the very beginning the room is what it is: a full battery is no reason to start a diesel, it gives a little in the first step.
        frame.constraints += [take <= frame.total(cp.multiply(self.charge_max, frame.w)), full[1:] <= room[1:n], full <= room[1:]]
        frame.constraints += [take * eta <= b.charge_kw * MW * share for share in self._charge_shares(store)]
        frame.lower.append(frame.total(self.discharge - self.charge) + take)

    def forms(self, question: Question) -> Array:
        """Return where it can hold the bus: usable, with energy in its battery, shape (n_steps,)."""
        if self.store is None or self.inverter.forming == "never":
            return np.zeros(self.frame.n)
        battery = self.store.battery
        charged = question.start.soc.get(battery.id, 0.0) > battery.holding_soc
        return np.where(self.in_service(question), float(charged), 0.0)

    def in_service(self, question: Question) -> npt.NDArray[np.bool_]:
        """Return where inverter and battery may be used, shape (n_steps,)."""
        unit = self.inverter.id
        return question.in_service(unit) if self.store is None else question.stores(unit, self.store.battery.id)

    def present_kwh(self, question: Question) -> float:
        """Return the capacity of its battery where it may be used in some step, else nothing [kWh]."""
        return self.store.battery.capacity_kwh if self.store is not None and self.in_service(question).any() else 0.0

    def fill(self, question: Question, others: Array, whole_kwh: float) -> None:
        """Set the parameters.

        Parameters
        ----------
        question : Question
        others : Array
            Inverters besides it that hold the bus, shape (n_steps,).
        whole_kwh : float
            Capacity of all batteries that may be used [kWh].
        """
        if self.store is None:
            return
        present_kwh = self.present_kwh(question)
        self.store.fill(question, present_kwh / whole_kwh if present_kwh else 0.0)
        i, b = self.inverter, self.store.battery
        usable = self.in_service(question)
        top = np.clip(question.ceiling(i.id, "max_kw", i.rated_kw), 0.0, i.rated_kw)
        low = np.clip(question.ceiling(i.id, "min_kw", -i.rated_kw), -top, 0.0)
        reach = np.minimum(top, max(0.0, ac_kw(i, b.discharge_kw)))
        take = np.minimum(np.maximum(0.0, -low - i.no_load_kw), b.charge_kw / i.efficiency)
        self.reach.value = each(np.where(usable, reach, 0.0) * MW, self.frame.n_sets)
        able = i.rated_kva * (self.frame.upright if i.forming != "never" else np.ones_like(self.frame.upright))
        self.discharge_max.value = np.where(usable, np.minimum(reach, able) + i.no_load_kw, 0.0) * MW
        self.charge_max.value = np.where(usable, np.minimum(take, np.maximum(0.0, able - i.no_load_kw)), 0.0) * MW
        allow = self.frame.site.reserve.single_former == "allow"
        self.excused.value = each(np.where((others > 0) | (self.forms(question) == 0), 0.0, self.frame.loosened_kw(i.rated_kw) * MW * allow), self.frame.n_sets)

    def separate(self) -> bool:
        """Forbid the weaker direction wherever a solution charged and discharged at once; return whether it did."""
        if self.store is None:
            return False
        out, into = self.discharge.value.sum(axis=0), self.charge.value.sum(axis=0)
        both = np.minimum(out, into) > 1e-4
        if both.any():
            self.discharge_max.value = np.where(both & (out <= into), 0.0, self.discharge_max.value)
            self.charge_max.value = np.where(both & (out > into), 0.0, self.charge_max.value)
        return bool(both.any())


def charge_lines(battery: Battery) -> list[tuple[float, float]]:
    """Return the lines under which the charge limit lies: (share of `charge_kw` when empty, its rise to full); none where it does not fall."""
    curve = battery.charge_limit_curve
    if not curve:
        return []
    # Flat before the first point; behind the last the line goes on, so that the hull keeps to the curve, but not below 0.
    beyond = curve[-1][1] + (slope(curve[-2], curve[-1]) * (1.0 - curve[-1][0]) if len(curve) > 1 else 0.0)
    ends = [(0.0, curve[0][1])] * (curve[0][0] > 0) + [*curve] + [(1.0, max(0.0, beyond))] * (curve[-1][0] < 1)
    return concave_lines(ends)
