"""Which diesels shall be on the bus: what plan or rules want, what must stay, and what reserve adds.

Reserve may only add units, never take one away (DESIGN: commitment floor). A stop waits until those
that remain can do without the unit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from ems.choice import Choice
from ems.frozen import frozen
from ems.outlook import Outlook
from ems.plan import Target
from ems.rules import Rules
from ems.terms import Explanation, Reason

SAMPLES = 9
"""So many steps of less charge or discharge are tried before a diesel is started for reserve."""


@frozen
class Commitment:
    """The diesels that are wanted, why each is (or is not), and the target as reserve has shaped it."""

    wanted: frozenset[str]
    why: Mapping[str, Explanation]
    target: Target


class Committer:
    """Chooses the diesels of one site."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def decide(self, outlook: Outlook, target: Target, choice: Choice) -> Commitment:
        """Return who shall run.

        Parameters
        ----------
        outlook : Outlook
            The situation of this cycle, with SoC, limits and who else is on line.
        target : Target
        choice : Choice
        """
        asked = frozenset(d for d in target.on if d in choice.economic or d in choice.online) - choice.banned
        wanted = asked | choice.must
        base = Explanation(Reason.PLAN if target.source == "mpc" else Reason.RULES)
        why = {d: base if d in asked else Explanation(Reason.SEQUENCE, ("min_up",)) for d in wanted}
        shaped = relieved(outlook, wanted, target)
        missing = lacking(outlook, wanted, shaped)
        while missing is not None:
            addition = self._addition(outlook, wanted, shaped, choice)
            if addition is None:
                break
            wanted |= {addition}
            why[addition] = missing
            shaped = relieved(outlook, wanted, target)
            missing = lacking(outlook, wanted, shaped)
        kept = _kept(wanted, choice)
        why.update(kept)
        return Commitment(wanted | frozenset(kept), why, shaped)

    def _addition(self, outlook: Outlook, wanted: frozenset[str], target: Target, choice: Choice) -> str | None:
        """Return the one more diesel that helps most for its litres: one that runs before one that must be started, a banned one last."""
        running, banned = choice.online - wanted, choice.banned
        candidates = running - banned or choice.forced - wanted - banned or running
        if not candidates:
            return None
        prices = {d: self._price_with(outlook, wanted | {d}, target, choice.online) for d in sorted(candidates)}
        return min(prices, key=lambda d: prices[d])

    def _price_with(self, outlook: Outlook, on: frozenset[str], target: Target, online: Collection[str]) -> float:
        return self._rules.price(on, outlook, relieved(outlook, on, target), online)


def relieved(outlook: Outlook, on: Collection[str], target: Target) -> Target:
    """Return the target with so much less charge or discharge that the reserve is held, where that is possible.

    More discharge is not tried: what it takes off a diesel it takes out of the battery's own headroom, or
    out of the energy that reserve counts on. Cycle charging is not given up: it brings the reserve back.
    """
    situation = outlook.situation
    if not on or not situation.inverters or target.loading is not None or outlook.prospect(on, target).short_kw <= 0.0:
        return target
    given = outlook.prospect(on, target).shares.power_kw
    lows = {i: min(situation.bounds[i].lo_kw, given[i]) for i in situation.inverters}
    idle = {i: max(given[i], min(0.0, situation.bounds[i].hi_kw)) for i in situation.inverters}
    for k in range(1, SAMPLES + 1):
        for end in (idle, lows):
            powers = {i: given[i] + k / SAMPLES * (end[i] - given[i]) for i in situation.inverters}
            shifted = replace(target, power_kw={**target.power_kw, **powers})
            if outlook.prospect(on, shifted).short_kw <= 0.0:
                return shifted
    return target


def lacking(outlook: Outlook, on: Collection[str], target: Target) -> Explanation | None:
    """Return why these diesels are not enough, with numbers, or None."""
    prospect = outlook.prospect(on, target)
    shares, reserve = prospect.shares, prospect.reserve
    if not prospect.formers:
        return Explanation(Reason.FORMER_NEEDED)
    if shares.short_kw > 0.1:
        demand = outlook.situation.demand_kw
        return Explanation(Reason.FORMER_NEEDED, ("demand",), {"short_kw": round(shares.short_kw, 1), "demand_kw": round(demand, 1)})
    if reserve.short_kw <= 0.1:
        return None
    numbers: dict[str, float | str] = {
        "short_kw": round(reserve.short_kw, 1),
        "required_kw": round(reserve.required_kw, 1),
        "available_kw": round(reserve.available_kw, 1),
        "contingency": reserve.contingency,
    }
    return Explanation(Reason.RESERVE, (reserve.contingency,), numbers)


def _kept(wanted: frozenset[str], choice: Choice) -> dict[str, Explanation]:
    """Return the running diesels that may not go yet: nobody leaves while somebody is on the way, since the battery does not carry the change between them."""
    coming = wanted - choice.online - choice.prompt
    return dict.fromkeys(choice.online - wanted, Explanation(Reason.SEQUENCE, ("hand_over",))) if coming else {}
