"""The list of planted bugs fits the code: every text is there exactly once, and what stands in its place is other code that compiles."""

from __future__ import annotations

import ast

import pytest

from tools.bootstrap import ROOT
from tools.mutant_list import MUTANTS, Mutant
from tools.mutants import Caught, lines, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_every_bug_can_be_planted(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text("utf-8")
    assert source.count(mutant.old) == 1, f"{mutant.name}: `{mutant.old}` is {source.count(mutant.old)} times in {mutant.file}"
    changed = ast.parse(mutated(mutant, source))
    assert ast.dump(changed) != ast.dump(ast.parse(source))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_every_bug_has_tests_that_look_at_its_file(mutant: Mutant) -> None:
    assert [t for t in mutant.tests if (ROOT / t).is_file()]


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len({m.name for m in MUTANTS}) == len(MUTANTS) >= 24


def test_a_text_that_is_not_there_is_told() -> None:
    with pytest.raises(SystemExit, match="0 times"):
        mutated(MUTANTS[0], "nothing of it")


def test_the_table_tells_what_survived() -> None:
    shown = "\n".join(lines([Caught(MUTANTS[0], "campaign: I10 town (seed 3)", 4.0), Caught(MUTANTS[1], "", 600.0)]))
    assert "1 of 2 planted bugs caught" in shown
    assert f"| {MUTANTS[1].name} | {MUTANTS[1].bug} | **survived** | 600 |" in shown
