from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems.chain import Anchor, Link, canonical, link, origin, verify


def chain(bodies: list[str], name: str = "ledger") -> list[Link]:
    rows, before = [], origin(name)
    for seq, body in enumerate(bodies, 1):
        rows.append(link(before, seq, body))
        before = rows[-1].hash
    return rows


WHOLE = chain(["one", "two", "three", "four"])


@pytest.mark.parametrize(
    ("what", "rows", "breaks_at"),
    [
        ("nothing", WHOLE, None),
        ("empty", [], None),
        ("a changed text", [WHOLE[0], replace(WHOLE[1], body="2"), *WHOLE[2:]], 2),
        ("a changed hash", [*WHOLE[:3], replace(WHOLE[3], hash=WHOLE[2].hash)], 4),
        ("a dropped row", [WHOLE[0], *WHOLE[2:]], 2),
        ("a dropped row, the others renumbered", [WHOLE[0], replace(WHOLE[2], seq=2), replace(WHOLE[3], seq=3)], 2),
        ("two rows swapped", [WHOLE[0], replace(WHOLE[2], seq=2), replace(WHOLE[1], seq=3), WHOLE[3]], 2),
        ("a row of another chain", [*WHOLE[:3], chain(["one", "two", "three", "four"], "audit")[3]], 4),
    ],
)
def test_the_first_bad_row_is_named(what: str, rows: list[Link], breaks_at: int | None) -> None:
    found = verify("ledger", rows)
    assert (None if found is None else found.seq) == breaks_at, what


def test_a_cut_tail_is_found_by_what_is_remembered_outside() -> None:
    assert verify("ledger", WHOLE[:2]) is None
    found = verify("ledger", WHOLE[:2], [Anchor(4, WHOLE[3].hash)])
    assert found is not None and found.seq == 3


def test_a_chain_rewritten_as_a_whole_is_found_by_what_is_remembered_outside() -> None:
    rewritten = chain(["one", "TWO", "three", "four"])
    assert verify("ledger", rewritten) is None
    found = verify("ledger", rewritten, [Anchor(3, WHOLE[2].hash)])
    assert found is not None and found.seq == 3


@given(st.lists(st.text(max_size=5), min_size=1, max_size=6), st.data())
def test_any_flipped_bit_is_found(bodies: list[str], data: st.DataObject) -> None:
    rows = chain(bodies)
    at = data.draw(st.integers(0, len(rows) - 1))
    text = (rows[at].body + rows[at].hash).encode()
    bit = data.draw(st.integers(0, len(text) * 8 - 1))
    flipped = bytes(b ^ (1 << bit % 8) if i == bit // 8 else b for i, b in enumerate(text)).decode(errors="surrogateescape")
    rows[at] = replace(rows[at], body=flipped[:-64].encode(errors="replace").decode(), hash=flipped[-64:])
    found = verify("ledger", rows)
    assert found is not None and found.seq <= at + 2


def test_a_hash_covers_the_number_of_its_row() -> None:
    assert link("x", 1, "one").hash != link("x", 2, "one").hash


def test_a_row_has_one_text_and_no_nan() -> None:
    assert canonical({"b": 1.0, "a": "環"}) == '{"a":"環","b":1.0}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"a": float("nan")})
