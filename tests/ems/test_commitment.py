"""Which diesels run: the wish, what must stay, what reserve adds; and never nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ems.choice import Choice
from ems.commitment import Commitment, Committer, relieved
from ems.controller import Controller
from ems.decision import Write
from ems.dispatch import Situation
from ems.guards import Bound, keep_a_former, rating
from ems.memory import Memory, UnitMemory
from ems.outlook import Outlooks
from ems.plan import Target
from ems.reserve import Supply
from ems.rules import Rules
from ems.terms import Mode, Phase, Reason
from tests.ems.island import diesel, points, site, telemetry

SITE = site()
RULES = Rules(SITE)
COMMITTER = Committer(RULES)
OUTLOOKS = RULES.outlooks
NOBODY: frozenset[str] = frozenset()
FREE = Choice(online=NOBODY, must=NOBODY, economic=frozenset({"dg1", "dg2"}), forced=frozenset({"dg1", "dg2"}), banned=NOBODY)
BOUNDS = {u.id: rating(u) for u in SITE.assets if u.kind in ("solar", "diesel", "inverter")}  # type: ignore[arg-type]


def decide(
    on: tuple[str, ...] = (),
    choice: Choice = FREE,
    load_kw: float = 100.0,
    sun_kw: float = 0.0,
    soc: float | None = 0.8,
    forming: bool = True,
    source: str = "mpc",
) -> Commitment:
    bounds = {**BOUNDS, "inv1": Bound(-250.0, 250.0) if soc is not None and soc > 0.1 else Bound(-2.0, -2.0)}
    situation = Situation(load_kw, {"pv1": 0.0}, {}, {}, bounds, ("inv1",), {})
    supply = Supply({}, frozenset({"inv1", *choice.online}), {"bess1": soc}, not_forming=NOBODY if forming else {"inv1"})
    return COMMITTER.decide(OUTLOOKS.of(situation, supply), Target(frozenset(on), {}, source), choice)


def choice(**changes: frozenset[str] | set[str]) -> Choice:
    return replace(FREE, **{name: frozenset(value) for name, value in changes.items()})


@pytest.mark.parametrize(
    ("on", "options", "situation", "expected"),
    [
        ((), FREE, {}, set()),  # the battery carries
        (("dg2",), FREE, {}, {"dg2"}),
        (("dg2",), choice(economic=set()), {}, set()),  # its minimum down time is not over, and nobody needs it
        (("dg2",), choice(economic=set(), online={"dg2"}), {}, {"dg2"}),
        ((), choice(online={"dg1"}, must={"dg1"}), {}, {"dg1"}),  # minimum up time
        ((), FREE, {"soc": None}, {"dg2"}),  # nobody else holds the bus: the cheapest that can
        ((), choice(economic=set()), {"soc": None}, {"dg2"}),  # reserve and darkness override the minimum down time
        (("dg2",), choice(banned={"dg2"}), {"soc": None}, {"dg1"}),
        ((), FREE, {"load_kw": 280.0}, {"dg1", "dg2"}),  # more than the inverter can carry, and none may be lost
        ((), FREE, {"soc": 0.10}, {"dg1", "dg2"}),  # an inverter at its floor covers nobody's loss
        (("dg1",), choice(online={"dg1"}, economic={"dg1"}, forced={"dg1"}, banned={"dg1"}), {"soc": None}, {"dg1"}),  # banned, but the last light
        ((), choice(economic=set(), forced=set()), {"soc": None}, set()),  # nobody can be started: nothing is invented
    ],
)
def test_who_runs(on: tuple[str, ...], options: Choice, situation: dict[str, float | None], expected: set[str]) -> None:
    assert decide(on, options, **situation).wanted == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("on", "options", "situation", "unit", "reason", "by"),
    [
        (("dg2",), FREE, {}, "dg2", Reason.PLAN, ()),
        (("dg2",), FREE, {"source": "load-following"}, "dg2", Reason.RULES, ()),
        ((), choice(online={"dg1"}, must={"dg1"}), {}, "dg1", Reason.SEQUENCE, ("min_up",)),
        ((), FREE, {"soc": None}, "dg2", Reason.FORMER_NEEDED, ()),
        ((), FREE, {"load_kw": 280.0}, "dg1", Reason.FORMER_NEEDED, ("demand",)),
    ],
)
def test_why(on: tuple[str, ...], options: Choice, situation: dict[str, float | None], unit: str, reason: Reason, by: tuple[str, ...]) -> None:
    why = decide(on, options, **situation).why[unit]  # type: ignore[arg-type]
    assert (why.reason, why.limited_by) == (reason, by)


def test_reserve_says_what_is_missing_in_numbers() -> None:
    commitment = decide(("dg1",), choice(online={"dg1"}), load_kw=280.0, soc=0.12)
    assert commitment.wanted == {"dg1", "dg2"}
    why = commitment.why["dg2"]
    assert why.reason is Reason.RESERVE
    assert why.numbers["contingency"] == "loss of dg1"
    assert why.numbers["short_kw"] == pytest.approx(float(why.numbers["required_kw"]) - float(why.numbers["available_kw"]), abs=0.11)


def test_a_running_one_stays_until_those_that_are_to_come_are_there() -> None:
    """dg2 shall take over from dg1 on an empty battery: dg1 goes when dg2 is on the bus, not before."""
    before = decide(("dg2",), choice(online={"dg1"}), soc=None)
    assert before.wanted == {"dg1", "dg2"}
    after = decide(("dg2",), choice(online={"dg1", "dg2"}), soc=None)
    assert after.wanted == {"dg2"}
    inside_the_step = decide(("dg2",), choice(online={"dg1"}, prompt={"dg2"}), soc=None)
    assert inside_the_step.wanted == {"dg2"}


def test_a_stop_waits_for_the_inverter_to_form() -> None:
    assert decide((), choice(online={"dg2"}), forming=False).wanted == {"dg2"}
    assert decide((), choice(online={"dg2"}), forming=True).wanted == set()


def test_the_inverter_is_moved_before_a_diesel_is_started() -> None:
    commitment = decide(("dg1",), choice(online={"dg1"}), load_kw=160.0, soc=0.8)
    assert commitment.wanted == {"dg1"}
    charging, both = {"inv1": -130.0}, frozenset({"dg1", "dg2"})

    def moved(load_kw: float, soc: float, on: frozenset[str], target: Target, outlooks: Outlooks = OUTLOOKS) -> Target:
        situation = Situation(load_kw, {"pv1": 0.0}, {}, {}, {**BOUNDS, "inv1": Bound(-250.0, 250.0)}, ("inv1",), {})
        return relieved(outlooks.of(situation, Supply({}, frozenset({"inv1", *on}), {"bess1": soc})), on, target)

    # 140 kW of 240 by the inverter: of its loss dg1 takes 80 at once, so it gives less.
    slow = Outlooks(site({"id": "dg1", "kind": "diesel", "rated_kw": 300.0, "block_load_kw": 80.0, "forming": "isochronous"}, drop=("dg1",)))
    alone = Target(frozenset({"dg1"}), {"inv1": 140.0}, "mpc")
    assert 0.0 < moved(240.0, 0.8, frozenset({"dg1"}), alone, slow).power_kw["inv1"] <= 80.0
    # At its floor it adds nothing: with all of the charge the loss of dg1 (174 kW) leaves dg2 84 kW, without it 97 and 135.
    spared = moved(160.0, 0.12, both, Target(both, charging, "mpc"))
    assert -130.0 < spared.power_kw["inv1"] <= 0.0
    # At 20 % its energy carries 129 kW, the loss of dg1 needs 160: that is so with any charge, and nothing is moved for it.
    one = Target(frozenset({"dg1"}), charging, "mpc")
    assert moved(160.0, 0.2, frozenset({"dg1"}), one) == one
    # Cycle charging goes on: it is what brings the reserve back.
    cycling = Target(both, {}, "cycle-charging", loading=0.9)
    assert moved(160.0, 0.12, both, cycling) == cycling
    assert moved(160.0, 0.9, frozenset({"dg1"}), one) == one


RUN_1, RUN_2, FORM = Write("dg1", "running", 0.0), Write("dg2", "running", 0.0), Write("inv1", "forming", 0.0)
START = Write("dg2", "running", 1.0)


@pytest.mark.parametrize(
    ("writes", "held", "kept"),
    [
        ((RUN_1,), ("dg1", "inv1"), (RUN_1,)),
        ((RUN_1,), ("dg1",), ()),
        ((RUN_1, START), ("dg1",), (START,)),  # one that was only just called holds nothing
        ((RUN_1, FORM), ("dg1", "inv1"), ()),  # together they would leave nobody
        ((RUN_1, RUN_2), ("dg1",), (RUN_2,)),
        ((RUN_1,), (), (RUN_1,)),
        ((Write("dg1", "power_kw", 0.0),), ("dg1",), (Write("dg1", "power_kw", 0.0),)),
    ],
)
def test_the_last_look_keeps_a_former(writes: tuple[Write, ...], held: tuple[str, ...], kept: tuple[Write, ...]) -> None:
    assert keep_a_former(writes, held) == kept


def test_a_stop_is_held_back_in_the_very_cycle_in_which_the_other_one_trips() -> None:
    """dg1 is on its way off because dg2 carries; dg2 trips: the stop of dg1 would be the end of the light."""
    units = {"dg1": UnitMemory(Phase.UNLOADING, -300.0, -9000.0), "dg2": UnitMemory(Phase.ONLINE, -9000.0, -9000.0)}
    memory = Memory(mode=Mode.AUTO, units=units, setpoints={"pv1": 0.0})
    told = telemetry(dg1=diesel(20.0), dg2=diesel(), town=points(power_kw=18.0), bess1=points(soc=0.02))
    controller = Controller(SITE, policy="load-following")
    _, decision = controller.step(told, (), None, memory)
    assert ("dg1", "running", 0.0) not in [(w.asset, w.command, w.value) for w in decision.writes]
    _, after = controller.step(telemetry(1, dg1=diesel(20.0), dg2=diesel(), town=points(power_kw=18.0), bess1=points(soc=0.02)), (), None, decision.memory)
    assert after.memory.units["dg1"].phase is Phase.ONLINE
