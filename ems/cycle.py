"""What the parts of one decision hand to each other, in the order in which they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from ems.bus import Finding
from ems.decision import Event, Write
from ems.dispatch import Situation
from ems.frozen import frozen
from ems.guards import Bound
from ems.memory import Expected, Manual, Memory
from ems.model import NOTHING, Image, Outcome
from ems.outlook import Outlook, Prospect
from ems.plan import Plan, Target
from ems.reserve import Supply
from ems.terms import Explanation, Mode


@frozen
class Met:
    """What a cycle begins with: the image, what people ordered, what bus, breakers and emergency stops show, and what is to be told of it."""

    image: Image
    memory: Memory
    bus: Finding
    accepted: frozenset[str]
    outcomes: tuple[Outcome, ...]
    events: tuple[Event, ...]


@frozen
class Look:
    """What one cycle is decided from; `planned` is what the plan in force wants, `plan` the newest one whether it is followed or not."""

    image: Image
    memory: Memory
    bounds: Mapping[str, Bound]
    supply: Supply
    formers: tuple[str, ...]
    planned: Target | None
    plan: Plan | None

    @property
    def rising(self) -> bool:
        """Whether the island is just coming up from a black start."""
        return self.memory.mode is Mode.BLACKSTART


@frozen
class Chosen:
    """Which diesels run, why, and what is to be shared among them."""

    memory: Memory
    target: Target
    why: Mapping[str, Explanation]
    writes: Sequence[Write]
    events: Sequence[Event]
    situation: Situation
    outlook: Outlook
    drawn: Mapping[str, float]
    expected: Expected | None
    source: str


@frozen
class Shared:
    """Who gives how much, who carries the residual, what operators ordered as far as it is carried out, and whose orders wait (`ems.waiting`)."""

    on: frozenset[str]
    target: Target
    final: Prospect
    situation: Situation
    drawn: Mapping[str, float]
    leader: str | None
    manual: Mapping[str, Manual]
    waiting: Mapping[str, tuple[str, float]] = field(default_factory=lambda: NOTHING)
