"""docs/walk.md: every file and function it names exists, and its list of marked places is what a search finds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools.bootstrap import ROOT

WALK = ROOT / "docs" / "walk.md"
ROOMS = ("ems", "drivers", "optimizer", "mrv", "simulator", "api")
MARKS = {"S": "hydro", "V": "solar", "D": "deferrable", "R": "tank"}
OTHER_MEANING = {"api/cli/init.py"}  # `--kind hydro` of a starter site is no kind of asset
LONGEST = 150
PATH = r"(?:ems|drivers|optimizer|mrv|simulator|api|configs|docs|tests|tools)/[\w./-]+\.\w+"


# ------------------------------------------------------------------ names
def named(markdown: str) -> list[tuple[str, str]]:
    """Return every (file, qualified name) of a page, with an empty name where only the file is meant."""
    return [(file, name or "") for file, name in re.findall(rf"`({PATH})(?:::([\w.]+))?`", markdown)]


def defined(source: str) -> set[str]:
    """Return the qualified names of every class, function and constant of a module."""
    found: set[str] = set()

    def walk(node: ast.AST, above: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(above + child.name)
                walk(child, f"{above}{child.name}.")
            elif isinstance(child, ast.Assign):
                found.update(above + name.id for target in child.targets for name in ast.walk(target) if isinstance(name, ast.Name))

    walk(ast.parse(source), "")
    return found


def test_the_check_of_names_sees_what_is_missing():
    assert named("see `ems/a.py` and `api/web/b.py::C.d`, not ems/x.py or `a.py`") == [("ems/a.py", ""), ("api/web/b.py", "C.d")]
    assert {"f", "C", "C.g", "X"} <= defined("X = 1\ndef f(): ...\nclass C:\n    async def g(self): ...")
    assert "g" not in defined("class C:\n    def g(self): ...")


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")) + [ROOT / "README.md"], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_file_and_function_that_a_page_names_exists(page: Path):
    missing = []
    for file, name in named(page.read_text("utf-8")):
        path = ROOT / file
        if not path.is_file() or (name and name not in defined(path.read_text("utf-8"))):
            missing.append(f"{file}::{name}".rstrip(":"))
    assert missing == []


def test_the_walk_is_short_and_names_the_road():
    text = WALK.read_text("utf-8")
    assert len(text.splitlines()) < LONGEST
    assert len({file for file, name in named(text) if name}) >= 25


# ------------------------------------------------------------------ marked places
def knows(kind: str, source: str) -> bool:
    """Whether code (not its docstrings or comments) names a kind: its class, block or unit, all of them, its name as text, or the list of all kinds."""
    tree = ast.parse(source)
    docs = {id(b[0].value) for n in ast.walk(tree) if isinstance(b := getattr(n, "body", None), list) and b and isinstance(b[0], ast.Expr)}
    for node in ast.walk(tree):
        name = getattr(node, "id", None) if isinstance(node, ast.Name) else getattr(node, "name", None)
        if name in [kind.capitalize() + end for end in ("", "Block", "Unit")] or getattr(node, "attr", None) == f"{kind}s":
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs and (node.value == kind or f"| {kind} |" in node.value):
            return True
    return False


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ems.config.site import Hydro", True),
        ("for a in site.of(Hydro): ...", True),
        ("class Hydro: ...", True),
        ("kinds = ('solar', 'hydro')", True),
        ("text = 'kind: solar | hydro | diesel'", True),
        ('"""About hydro and Hydro."""\n# Hydro\nhydro = 1', False),
        ("for h in problem.hydros: ...", True),
        ("def f():\n    'hydro'\n    return HydroBlock", True),
        ("def f():\n    'hydro'\n    return problem._hydros", False),
        ("text = 'hydro power'", False),
    ],
)
def test_the_search_for_a_kind(source: str, found: bool):
    assert knows("hydro", source) is found


def places(kind: str) -> set[str]:
    """Return every file that would have to know a new kind like this one."""
    code = [p for room in ROOMS for p in (ROOT / room).rglob("*.py") if knows(kind, p.read_text("utf-8"))]
    page = [p for p in (ROOT / "api" / "web" / "hmi").iterdir() if re.search(rf"\b{kind}\b", p.read_text("utf-8"))]
    profiles = [p for p in (ROOT / "configs" / "profiles").glob("generic-*.yaml") if f"kind: {kind}\n" in p.read_text("utf-8")]
    return {p.relative_to(ROOT).as_posix() for p in (*code, *page, *profiles)} - OTHER_MEANING


def marked(mark: str) -> set[str]:
    """Return the files of the walk's table under one mark; a row about several kinds' own files holds those of this kind."""
    found: set[str] = set()
    for row in re.findall(r"^\| (`.*?) \|(.*)$", WALK.read_text("utf-8"), re.MULTILINE):
        if mark not in [cell.strip() for cell in row[1].split("|")[: len(MARKS)]]:
            continue
        files = [file for file, _ in named(row[0])]
        strangers = [kind for other, kind in MARKS.items() if other != mark]
        found |= {f for f in files if not any(re.search(rf"\b{kind}\b", Path(f).stem) for kind in strangers)}
    return found


@pytest.mark.parametrize("mark", MARKS)
def test_the_marked_places_are_those_that_know_the_kind(mark: str):
    listed, known = marked(mark), places(MARKS[mark])
    assert len(known) > 10
    assert {"to add": sorted(known - listed), "to drop": sorted(listed - known)} == {"to add": [], "to drop": []}


def test_a_kind_has_a_file_of_its_name_where_the_walk_says_so():
    for room in ("optimizer", "simulator"):
        assert {f"{kind}.py" for kind in MARKS.values()} <= {p.name for p in (ROOT / room / "assets").iterdir()}
