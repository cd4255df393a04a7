"""States that a campaign must reach at least once: without them it is blind, however green."""

from __future__ import annotations

from collections.abc import Mapping

from simulator.campaign.truth import Step, Truth

STATES: Mapping[str, str] = {
    "diesels_off": "the battery held the bus with all diesels off",
    "sole_diesel": "one diesel held the bus alone",
    "battery_empty": "a battery at the lower end of its band",
    "battery_full": "a battery at the upper end of its band",
    "pv_all_curtailed": "all of the sun's power was curtailed",
    "surplus_accepted": "a diesel under its minimum loading, with nothing left to do about it",
    "reserve_short": "reserve was short",
    "former_needed": "a diesel was kept or started because the bus would have had no holder",
    "planned": "a plan was followed",
    "fallback": "the rules took over from a plan",
    "plan_refused": "a plan failed its check",
    "plan_failed": "the planner said that it could not",
    "no_plan": "the ladder came to its last rung above SAFE",
    "silent": "a device was given up as silent",
    "load_unknown": "the load was not seen",
    "soc_unknown": "a battery answered without its charge",
    "astray": "a unit did not follow its setpoint",
    "inferred": "an unseen power was inferred from the balance",
    "tripped": "a diesel left the bus without a command",
    "start_failed": "a start failed",
    "locked": "a diesel was locked out",
    "released": "a person released a lock-out",
    "adopted": "a diesel was found running and taken over",
    "stop_cancelled": "a stop was taken back",
    "no_former": "nobody was known to hold the bus",
    "unserved": "load was not served",
    "shed": "a feeder was open",
    "blackout": "the bus was dead",
    "black_start": "the bus came back from dead",
}
"""By name, with what each means."""

FROM_ALARM = frozenset({"reserve_short", "silent", "load_unknown", "soc_unknown", "astray", "no_plan", "no_former", "locked"})
EVERY = 5
"""What lasts is looked for in every fifth cycle."""
FROM_EVENT = frozenset({"tripped", "start_failed", "adopted", "stop_cancelled", "plan_refused", "plan_failed"})


class States:
    """Collects the states of one run."""

    def __init__(self) -> None:
        self.reached: set[str] = set()
        self._dark = False
        self._planned = False
        self._count = 0

    def add(self, step: Step, truth: Truth) -> None:
        """Look at one cycle."""
        found, flows, decision = self.reached, step.flows, step.decision
        for alarm in decision.alarms:
            if alarm.code in FROM_ALARM:
                found.add(alarm.code)
        for event in decision.events:
            if event.kind in FROM_EVENT:
                found.add(event.kind)
            elif event.kind == "start" and event.reason == "former_needed":
                found.add("former_needed")
        if decision.plan_id is not None:
            self._planned = True
            found.add("planned")
        elif self._planned and decision.mode.value == "fallback":
            found.add("fallback")
        if flows.unserved_kw > 1.0:
            found.add("unserved")
        if flows.blackout:
            self._dark = True
            found.add("blackout")
            return
        if self._dark and flows.formers:
            found.add("black_start")
        self._count += 1
        if self._count % EVERY == 0:
            self._plant(step, truth)

    def _plant(self, step: Step, truth: Truth) -> None:
        found, flows = self.reached, step.flows
        on = [d for d in truth.plant.diesels if d.on]
        if not on:
            found.add("diesels_off")
        elif len(flows.formers) == 1 and flows.formers[0] == on[0].id:
            found.add("sole_diesel")
        for battery in truth.plant.batteries.values():
            if battery.soc <= battery.asset.soc_min + 0.01:
                found.add("battery_empty")
            elif battery.soc >= battery.asset.soc_max - 0.01:
                found.add("battery_full")
        sun = sum(flows.available_kw.values())
        if sun > 10.0 and sun - flows.curtailed_kw < 0.02 * sun:
            found.add("pv_all_curtailed")
        if any(d.power_kw < d.asset.min_kw - 1.0 for d in on) and truth.spent(step):
            found.add("surplus_accepted")
        if any(load.share < 1.0 for load in truth.plant.loads):
            found.add("shed")
        if step.lives and "inferred" not in found:
            blind = (x.asset for x in step.lives if x.asset in truth.rated)
            if any(not step.image.assets[a].seen and step.image.assets[a].power_kw is not None for a in blind):
                found.add("inferred")
