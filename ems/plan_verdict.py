"""What becomes of a planner's answer: checked, compared with what was promised, and then followed or refused.

Site and replay share this, so what is measured there is what a site does.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime

from ems.plan import Plan, PlanOutcome, PlanRequest
from ems.plan_check import PlanCheck
from ems.plan_choice import NEAR_S, Choice, choose, promised


@dataclass(frozen=True, slots=True)
class Verdict:
    """The plan to follow and why it is this one, or what is wrong with the answer."""

    plan: Plan | None
    faults: tuple[str, ...] = ()
    choice: Choice | None = None


def judged(check: PlanCheck, request: PlanRequest, outcome: PlanOutcome, at: datetime) -> Generator[None, None, Verdict]:
    """Judge an answer part by part, a few milliseconds each.

    Parameters
    ----------
    check : PlanCheck
    request : PlanRequest
        The question, with the true state it was asked from and the plan that was followed then.
    outcome : PlanOutcome
    at : datetime
        Now.
    """
    plan, forecast = outcome.plan, outcome.forecast
    if plan is None or forecast is None:
        return Verdict(None, (outcome.cause or outcome.status,))
    faults = yield from check.looking(plan, request.start, forecast, request.limits, at)
    if faults:
        return Verdict(None, tuple(faults))
    keeping = outcome.kept
    if keeping is not None:
        yield
        # No comparison with the rules: the best plan is the better measure.
        if check.broken(keeping, request.start, forecast, request.limits, at):
            keeping = None
    promise = {} if request.previous is None else promised(request.previous, plan.grid, request.at, request.start.diesels)
    litres = check.fuel_l(plan, request.start, NEAR_S)
    choice = choose(plan, keeping, promise, request.start.diesels, litres, hurried=outcome.hurried)
    return Verdict(choice.plan, (), choice)
