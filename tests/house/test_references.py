"""Comments and docstrings point only to pages that are here."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from tests.house.test_rules import name, ours, python_files

ROOMS = ("ems", "drivers", "simulator", "api")
PAGE = re.compile(r"[\w./-]*\w\.md\b")


def prose(source: str) -> Iterator[str]:
    """Return every comment and docstring of a module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        # A text that stands alone is a docstring, also under a constant.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def pages(source: str) -> set[str]:
    """Return the pages that a module's prose names."""
    return {page for text in prose(source) for page in PAGE.findall(text)}


def test_pages_are_found_in_prose_only():
    source = '"""See `docs/walk.md`."""\nX = 1\n"""RULES.md 3.1"""\ndef f():\n    """As in notes.md."""\n    return "other.md"  # and last.md\n'
    assert pages(source) == {"docs/walk.md", "RULES.md", "notes.md", "last.md"}


def test_every_page_that_code_points_to_is_here():
    here = {name(path) for path in ours() if path.suffix == ".md"}
    last_parts = {path.rsplit("/", 1)[-1] for path in here}
    found = {name(path): pages(path.read_text("utf-8")) for path in python_files(*ROOMS)}
    assert any(found.values())
    missing = {path: lost for path, named in found.items() if (lost := {p for p in named if p not in here | last_parts})}
    assert missing == {}
