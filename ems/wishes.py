"""What shall be done in a cycle: as an operator left it, as planned, by the rules, and a clean-out burn where one is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ems.choice import Choice
from ems.config.site import Diesel, Site
from ems.engines import BURN_LOADING, Engines
from ems.frozen import frozen
from ems.memory import Memory, RuleChoice
from ems.model import Image
from ems.outlook import Outlook
from ems.plan import Plan, Target
from ems.rotation import wear
from ems.rules import Rules
from ems.sequencer import UNLOADING
from ems.terms import Mode

RULE_POLICIES = ("load-following", "cycle-charging", "diesel-only")
RECONSIDER_S = 10.0
"""The rules' choice of a set stands for this long [s], unless what they could choose from has changed; reserve is looked at every cycle."""
ROOM_KW = 10.0
"""A clean-out burn needs a battery that takes more than this [kW]."""


@frozen
class Wants:
    """What shall be done in this cycle, and who said so."""

    target: Target
    diesel_wanted: bool
    rule: RuleChoice | None = None


class Wishes:
    """What one site wants.

    Parameters
    ----------
    site : Site
    policy : str
        As the controller's.
    rules : Rules
    """

    def __init__(self, site: Site, policy: str, rules: Rules) -> None:
        self._diesels = site.of(Diesel)
        self._policy = policy
        self._fallback = site.rules.policy
        self._rules = rules
        self._engines = Engines(site)

    def of(self, image: Image, memory: Memory, outlook: Outlook, planned: Target | None, choice: Choice) -> Wants:
        """Return what is to be done; `planned` is what the plan in force wants."""
        return self._burning(memory, outlook, choice, self._wanted(image, memory, outlook, planned, choice))

    def _wanted(self, image: Image, memory: Memory, outlook: Outlook, planned: Target | None, choice: Choice) -> Wants:
        if memory.mode is Mode.MANUAL:
            return Wants(Target(choice.online, dict(memory.setpoints), "operator"), memory.diesel_wanted)
        if planned is not None and self._policy not in RULE_POLICIES:
            return Wants(planned, bool(planned.on))
        policy = self._policy if self._policy in RULE_POLICIES else self._fallback
        usable = choice.economic | choice.online
        # A diesel on its way off is no reason to call for one: else the charge that its unloading takes would call it back.
        on = frozenset([d for d in choice.online if memory.units[d].phase is not UNLOADING])
        last, must = memory.rule, choice.must & on
        if last is not None and image.now_s - last.at_s < RECONSIDER_S and (last.policy, last.usable, last.on, last.must) == (policy, usable, on, must):
            return Wants(last.target, last.wanted, last)
        worn = wear(self._diesels, image.assets)
        target, wanted = self._rules.target(policy, outlook, usable, on, memory.diesel_wanted, worn, must)
        return Wants(target, wanted, RuleChoice(target, policy, usable, on, must, wanted, image.now_s))

    def _burning(self, memory: Memory, outlook: Outlook, choice: Choice, wants: Wants) -> Wants:
        """Return the wants with a clean-out burn where one is due: the engine stays, and the battery takes what it gives too much."""
        burns = self._engines.burns(memory, choice.online) if memory.mode in (Mode.AUTO, Mode.FALLBACK) else frozenset()
        if not burns or not any(outlook.situation.bounds[i].lo_kw < -ROOM_KW for i in outlook.situation.inverters):
            return wants
        target = wants.target
        powers = {u: kw for u, kw in target.power_kw.items() if u not in outlook.situation.inverters and u not in burns}
        loading = max(target.loading or 0.0, BURN_LOADING)
        return replace(wants, target=replace(target, on=target.on | burns, power_kw=powers, loading=loading))


def learned_kw(plan: Plan | None, planned: Target | None, at: datetime) -> float:
    """Return the learned error of the forecast that a plan in force carries for this moment [kW]."""
    step = None if plan is None or planned is None or not plan.error_up_kw else plan.grid.index(at)
    return 0.0 if plan is None or step is None else plan.error_up_kw[step]
