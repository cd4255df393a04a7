"""Which diesels shall be on the bus: what plan or rules want, what must stay, and what reserve adds.

Reserve may only add units, never take one away (DESIGN: commitment floor). A stop waits until those
that remain can do without the unit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from ems.decision import Explanation, Reason
from ems.dispatch import Situation
from ems.plan import Target
from ems.reserve import Supply
from ems.rules import Rules

SAMPLES = 9
"""So many steps of less charge or discharge are tried before a diesel is started for reserve."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be done with each diesel in this cycle.

    Attributes
    ----------
    online : frozenset[str]
        On the bus now; in a long step also those that get there inside it.
    must : frozenset[str]
        May not be stopped: minimum up time, local, ordered by an operator.
    economic, forced : frozenset[str]
        May be started because it is cheaper; because reserve or an operator needs it.
    prompt : frozenset[str]
        Would be on the bus within this step if started now.
    banned : frozenset[str]
        Stopped by an operator or out of service; kept only where the island would go dark.
    """

    online: frozenset[str]
    must: frozenset[str]
    economic: frozenset[str]
    forced: frozenset[str]
    banned: frozenset[str]
    prompt: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Commitment:
    """The diesels that are wanted, why each is (or is not), and the target as reserve has shaped it."""

    wanted: frozenset[str]
    why: Mapping[str, Explanation]
    target: Target


class Committer:
    """Chooses the diesels of one site."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def decide(self, situation: Situation, supply: Supply, target: Target, choice: Choice) -> Commitment:
        """Return who shall run.

        Parameters
        ----------
        situation : Situation
        supply : Supply
            SoC, limits and who else is on line.
        target : Target
        choice : Choice
        """
        asked = frozenset(d for d in target.on if d in choice.economic or d in choice.online) - choice.banned
        wanted = asked | choice.must
        base = Explanation(Reason.PLAN if target.source == "mpc" else Reason.RULES)
        why = {d: base if d in asked else Explanation(Reason.SEQUENCE, ("min_up",)) for d in wanted}
        shaped = self.relieved(situation, supply, wanted, target)
        missing = self._missing(situation, supply, wanted, shaped)
        while missing is not None:
            addition = self._addition(situation, supply, wanted, shaped, choice)
            if addition is None:
                break
            wanted |= {addition}
            why[addition] = missing
            shaped = self.relieved(situation, supply, wanted, target)
            missing = self._missing(situation, supply, wanted, shaped)
        kept = self._kept(situation, supply, wanted, shaped, choice)
        why.update(kept)
        return Commitment(wanted | frozenset(kept), why, shaped)

    def relieved(self, situation: Situation, supply: Supply, on: Collection[str], target: Target) -> Target:
        """Return the target with so much less charge or discharge that the reserve is held, where that is possible.

        More discharge is not tried: what it takes off a diesel it takes out of the battery's own headroom, or
        out of the energy that reserve counts on. Cycle charging is not given up: it brings the reserve back.
        """
        if not on or not situation.inverters or target.loading is not None or self._short_kw(situation, supply, on, target) <= 0.0:
            return target
        given = self._rules.dispatch.share(situation, on, target).power_kw
        lows = {i: min(situation.bounds[i].lo_kw, given[i]) for i in situation.inverters}
        idle = {i: max(given[i], min(0.0, situation.bounds[i].hi_kw)) for i in situation.inverters}
        for k in range(1, SAMPLES + 1):
            for end in (idle, lows):
                powers = {i: given[i] + k / SAMPLES * (end[i] - given[i]) for i in situation.inverters}
                shifted = replace(target, power_kw={**target.power_kw, **powers})
                if self._short_kw(situation, supply, on, shifted) <= 0.0:
                    return shifted
        return target

    def _short_kw(self, situation: Situation, supply: Supply, on: Collection[str], target: Target) -> float:
        """Return reserve shortfall and unserved demand together [kW], infinite where nobody holds the bus."""
        shares = self._rules.dispatch.share(situation, on, target)
        future = self._rules.supply_of(shares, on, supply)
        if not self._rules.reserve.formers(future):
            return float("inf")
        return shares.short_kw + self._rules.reserve.assess(future, situation.demand_kw).short_kw

    def _missing(self, situation: Situation, supply: Supply, on: Collection[str], target: Target) -> Explanation | None:
        """Return why these diesels are not enough, with numbers, or None."""
        shares = self._rules.dispatch.share(situation, on, target)
        future = self._rules.supply_of(shares, on, supply)
        if not self._rules.reserve.formers(future):
            return Explanation(Reason.FORMER_NEEDED)
        if shares.short_kw > 0.1:
            return Explanation(Reason.FORMER_NEEDED, ("demand",), {"short_kw": round(shares.short_kw, 1), "demand_kw": round(situation.demand_kw, 1)})
        reserve = self._rules.reserve.assess(future, situation.demand_kw)
        if reserve.short_kw <= 0.1:
            return None
        numbers: dict[str, float | str] = {
            "short_kw": round(reserve.short_kw, 1),
            "required_kw": round(reserve.required_kw, 1),
            "available_kw": round(reserve.available_kw, 1),
            "contingency": reserve.contingency,
        }
        return Explanation(Reason.RESERVE, (reserve.contingency,), numbers)

    def _addition(self, situation: Situation, supply: Supply, wanted: frozenset[str], target: Target, choice: Choice) -> str | None:
        """Return the one more diesel that helps most for its litres: one that runs before one that must be started, a banned one last."""
        running, banned = choice.online - wanted, choice.banned
        candidates = running - banned or choice.forced - wanted - banned or running
        if not candidates:
            return None
        prices = {d: self._price_with(situation, supply, wanted | {d}, target, choice.online) for d in sorted(candidates)}
        return min(prices, key=lambda d: prices[d])

    def _price_with(self, situation: Situation, supply: Supply, on: frozenset[str], target: Target, online: Collection[str]) -> float:
        shaped = self.relieved(situation, supply, on, target)
        return self._rules.price(on, situation, supply, shaped, online)

    def _kept(self, situation: Situation, supply: Supply, wanted: frozenset[str], target: Target, choice: Choice) -> dict[str, Explanation]:
        """Return the running diesels that may not go yet, because those that wait for them to go are not there yet."""
        leaving = choice.online - wanted
        if not leaving:
            return {}
        if wanted - choice.online - choice.prompt:
            # Nobody leaves while somebody else is on the way: the battery does not carry the change between them.
            return dict.fromkeys(leaving, Explanation(Reason.SEQUENCE, ("hand_over",)))
        staying = (choice.online | choice.prompt) & wanted
        missing = self._missing(situation, supply, staying, self.relieved(situation, supply, staying, target))
        return dict.fromkeys(leaving, missing) if missing is not None else {}
