"""What a person reads when something is wrong."""

from __future__ import annotations

import pytest

from ems.errors import BadAnswer, BadInput, ConnectionLost, EmsError, Failed, StoreError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BadInput("max_kw is not a number", "site.yaml:12", "a power in kW"), "site.yaml:12: max_kw is not a number (expected a power in kW)"),
        (BadInput("no such file", "site.yaml"), "site.yaml: no such file"),
        (Failed("the port is taken", expected="a free port"), "the port is taken (expected a free port)"),
        (ConnectionLost("no answer"), "no answer"),
    ],
)
def test_one_line_says_it_all(error: EmsError, text: str) -> None:
    assert str(error) == text
    assert error.document() == {"error": error.error, "where": error.where, "expected": error.expected}


@pytest.mark.parametrize(
    ("kind", "parent", "code"), [(BadInput, EmsError, 2), (Failed, EmsError, 1), (ConnectionLost, Failed, 1), (BadAnswer, Failed, 1), (StoreError, Failed, 1)]
)
def test_the_tree_and_its_exit_codes(kind: type[EmsError], parent: type[EmsError], code: int) -> None:
    assert issubclass(kind, parent)
    assert kind("x").exit_code == code
    assert not issubclass(BadInput, Failed)
