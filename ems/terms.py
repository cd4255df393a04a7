"""The words of a decision: stages, modes, phases, and the one reason that every setpoint has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from ems.frozen import frozen
from ems.model import NOTHING


class Stage(StrEnum):
    """The commissioning ladder; nothing but the last write differs between its rungs."""

    SHADOW = "shadow"
    ADVISE = "advise"
    CONTROL = "control"


RANKS = {stage: k for k, stage in enumerate(Stage)}


def lower(one: Stage, other: Stage) -> Stage:
    """Return the lower of two rungs: it is the one in force."""
    return one if RANKS[one] <= RANKS[other] else other


class Mode(StrEnum):
    """What the controller is doing as a whole."""

    START = "start"
    AUTO = "auto"
    MANUAL = "manual"
    FALLBACK = "fallback"
    SAFE = "safe"
    BLACKSTART = "blackstart"


class Phase(StrEnum):
    """Where a diesel is in its sequence."""

    OFF = "off"
    STARTING = "starting"
    WARMING = "warming"
    SYNCHRONISING = "synchronising"
    ONLINE = "online"
    UNLOADING = "unloading"
    COOLDOWN = "cooldown"
    LOCKED = "locked"


class Reason(StrEnum):
    """Why a setpoint is what it is: one for each setpoint."""

    PLAN = "plan"
    RULES = "rules"
    FORMING = "forming"
    FORMER_NEEDED = "former_needed"
    RESERVE = "reserve"
    SURPLUS = "surplus"
    LIMIT = "limit"
    SEQUENCE = "sequence"
    OPERATOR = "operator"
    NOT_NEEDED = "not_needed"
    FOLLOWS_RIVER = "follows_river"
    FOLLOWS_SUN = "follows_sun"
    FAULT = "fault"
    LOCAL = "local"
    UNSEEN = "unseen"
    SAFE = "safe"
    SUPPLIED = "supplied"
    SHED = "shed"
    BLACK_START = "black_start"


@frozen
class Explanation:
    """Why an asset's setpoint is what it is, with the numbers the sentence needs."""

    reason: Reason
    limited_by: tuple[str, ...] = ()
    numbers: Mapping[str, float | str] = field(default_factory=lambda: NOTHING)


@frozen
class Alarm:
    """One active cause for a person's attention; `code` and `asset` together identify it."""

    code: str
    severity: str
    asset: str | None
    en: str
    ja: str
