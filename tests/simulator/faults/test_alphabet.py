"""Faults as data: every kind has targets at a full island, a schedule goes to JSON and back, and nonsense is named."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.errors import BadInput
from simulator.faults.alphabet import CLASSES, KINDS, Fault, in_force, read_fault, targets
from simulator.faults.schedule import every_single
from tests.simulator.faults.bench import fault, island

SITE = island()


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda k: k.name)
def test_every_kind_can_befall_something(kind) -> None:
    assert kind.klass in CLASSES
    assert targets(SITE, kind)
    assert 0.0 < kind.lasts_s[0] <= kind.lasts_s[1]


def test_the_classes_of_the_contract_are_there() -> None:
    assert {k.klass for k in KINDS.values()} == set(CLASSES) == {"link", "value", "plant", "command", "solver", "time"}


@given(st.sampled_from(every_single(SITE)), st.floats(0, 1e5), st.one_of(st.floats(0, 1e5), st.just(math.inf)), st.floats(0, 1))
def test_a_fault_goes_to_json_and_back(one, onset_s: float, duration_s: float, severity: float) -> None:
    kind, target = one
    made = Fault(kind.name, kind.klass, target, onset_s, duration_s, severity)
    assert read_fault(json.loads(json.dumps(made.document(), allow_nan=False)), "faults[0]", SITE) == made


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        ({"kind": "flood"}, "faults[0].kind", "flood"),
        ({"target": "dg9"}, "faults[0].target", "dg9"),
        ({"target": "bess1"}, "faults[0].target", "trip cannot befall"),
        ({"klass": "link"}, "faults[0].klass", "trip is no fault of class"),
        ({"onset_s": -1}, "faults[0].onset_s", "-1"),
        ({"onset_s": True}, "faults[0].onset_s", "True"),
        ({"severity": 1.5}, "faults[0].severity", "1.5"),
        ({"severity": math.nan}, "faults[0].severity", "nan"),
        ({"duration_s": "long"}, "faults[0].duration_s", "long"),
    ],
)
def test_nonsense_is_refused_with_its_place(change, place: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_fault({**fault("trip", "dg1").document(), **change}, "faults[0]", SITE)
    assert caught.value.where == place
    assert says in caught.value.error


def test_a_fault_is_in_force_from_its_onset_to_its_end() -> None:
    one = fault("silent", "dg1", 10.0, 5.0)
    assert [bool(in_force([one], at)) for at in (9.9, 10.0, 14.9, 15.0)] == [False, True, True, False]
    assert in_force([fault("silent", "dg1", 10.0, math.inf)], 1e9)
