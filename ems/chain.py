"""The hash chain of ledger and audit: each row's hash covers its number, its text and the hash before it.

    hash[n] = sha256(hash[n - 1], n, body: one line each)        hash[0] = sha256(name of the chain)

A changed, dropped, swapped or added row breaks the chain from there on. A tail that was cut off, or a
chain rewritten as a whole, is only found against an `Anchor` that was kept somewhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Link:
    """One row of a chain as it is stored."""

    seq: int
    body: str
    hash: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a chain was at some time, as somebody outside remembers it."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Break:
    """The first row that does not hold, and why."""

    seq: int
    cause: str


def canonical(row: Mapping[str, Any]) -> str:
    """Return the one text of a row: sorted keys, no spaces, and never NaN."""
    return json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def origin(name: str) -> str:
    """Return the hash that row 1 of the chain `name` builds on."""
    return hashlib.sha256(name.encode()).hexdigest()


def link(before: str, seq: int, body: str) -> Link:
    """Return row `seq` with its hash over the hash `before` it."""
    return Link(seq, body, hashlib.sha256(f"{before}\n{seq}\n{body}".encode()).hexdigest())


def verify(name: str, links: Iterable[Link], anchors: Iterable[Anchor] = ()) -> Break | None:
    """Return the first break of a whole chain, or None where it holds.

    Parameters
    ----------
    name : str
        Name of the chain, as given to `origin`.
    links : Iterable[Link]
        All rows in the order of their numbers.
    anchors : Iterable[Anchor]
        What is remembered outside: each of them must still be in the chain.
    """
    remembered = {anchor.seq: anchor.hash for anchor in anchors}
    before, seq = origin(name), 0
    for row in links:
        seq += 1
        if row.seq != seq:
            return Break(seq, f"row {seq} is missing, row {row.seq} stands in its place")
        if link(before, seq, row.body).hash != row.hash:
            return Break(seq, "its hash does not follow from its text and the row before it")
        if remembered.get(seq, row.hash) != row.hash:
            return Break(seq, "it is not the row that was remembered outside")
        before = row.hash
    cut = min((kept for kept in remembered if kept > seq), default=None)
    return None if cut is None else Break(seq + 1, f"the chain ends at row {seq}, but row {cut} was remembered outside")
