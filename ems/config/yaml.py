"""YAML 1.2 with line numbers, and validation errors told by path and line.

A path is written from the root with zero-based indices: `assets[2].soc_max`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from ems.config.strict import PATTERNS, Strict
from ems.errors import BadInput

M = TypeVar("M", bound=BaseModel)
MOST_BYTES = 1 << 20
"""No site needs a longer file; a longer one is not even read."""
MOST_PLACES = 50_000
"""No site needs more keys and items than this; a few lines of aliases of aliases can make billions of them."""
MOST_SUGGESTED = 3
"""An error names no more places than this where a key could belong."""
Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A YAML file as plain values, with the line of every key and list item."""

    name: str
    data: Any
    lines: Mapping[Steps, int]

    def line(self, path: Steps) -> int:
        """Return the line of a path, or of the nearest place above it that exists."""
        return next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), 1)

    def bad(self, path: Steps, error: str, expected: str) -> BadInput:
        """Return the error for a place in this file."""
        return BadInput(error, f"{self.name}:{self.line(path)} {written(path)}".strip(), expected)


def read_yaml(path: Path) -> Document:
    """Return a file's values and lines; refuse what is no YAML, duplicate keys included."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise BadInput("the file is larger than 1 MiB", str(path), "a site or profile, written by hand")
        text = raw.decode("utf-8")
    except OSError as error:
        raise BadInput(f"cannot read the file: {error.strerror or error}", str(path), "a readable YAML file") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"not UTF-8 text at byte {error.start}", str(path), "a YAML file in UTF-8") from None
    yaml = YAML(typ="safe", pure=True)
    lines: dict[Steps, int] = {}
    try:
        node = yaml.compose(text)
        if node is None:
            raise BadInput("the file is empty", str(path), "a YAML mapping")
        _note_lines(node, (), lines, (), path)
        data = yaml.constructor.construct_document(node)
    except RecursionError:
        raise BadInput("nested too deeply", str(path), "a site or profile; the deepest place of one is some ten levels down") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        what = str(error.problem or error.context or "not YAML").splitlines()[0]
        raise BadInput(f"not valid YAML: {what}", f"{path}:{line}", "YAML 1.2, every key once") from None
    except (YAMLError, ValueError) as error:
        raise BadInput(f"not valid YAML: {str(error).splitlines()[0]}", str(path), "YAML 1.2") from None
    return Document(str(path), data, lines)


def _note_lines(node: Node, path: Steps, lines: dict[Steps, int], above: tuple[int, ...], file: Path) -> None:
    where = f"{file}:{node.start_mark.line + 1}"
    if len(lines) > MOST_PLACES:
        raise BadInput(f"more than {MOST_PLACES} values", where, "a site or profile; aliases may not multiply it")
    lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in above:
        raise BadInput("an alias contains itself", where, "aliases of other places only")
    if isinstance(node, MappingNode):
        for key, value in node.value:
            name = int(key.value) if key.tag.endswith(":int") and key.value.isdigit() else key.value
            lines[(*path, name)] = key.start_mark.line + 1
            _note_lines(value, (*path, name), lines, (*above, id(node)), file)
    elif isinstance(node, SequenceNode):
        for n, value in enumerate(node.value):
            _note_lines(value, (*path, n), lines, (*above, id(node)), file)


def written(path: Steps) -> str:
    """Return `assets[2].soc_max` for ("assets", 2, "soc_max")."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def validated(model: type[M], document: Document) -> M:
    """Return the document as a model; the error tells the first mistake with path, line and what was expected."""
    if not isinstance(document.data, dict):
        raise document.bad((), "the file is not a mapping", "keys and values, as `site: {id: atoll}`")
    for key in document.data:
        if not isinstance(key, str):
            raise document.bad((key,) if isinstance(key, int) else (), f"{key!r} is not a name", "keys that are text")
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        mistakes = [e for e in error.errors(include_url=False) if e["type"] != "default_factory_not_called"]
        # An unknown key is most often a misspelt one, and then also the cause of a missing one.
        mistakes.sort(key=lambda e: (e["type"] != "extra_forbidden", e["type"] == "missing"))
        first = mistakes[0]
        path, text, expected = _told(first["type"], first["loc"], first["msg"], first.get("ctx", {}), first.get("input"), document.data)
        others = f" ({len(mistakes) - 1} more to mend)" if len(mistakes) > 1 else ""
        raise document.bad(path, text + others, expected) from None


def _told(kind: str, loc: Sequence[str | int], message: str, ctx: Mapping[str, Any], given: Any, data: Any) -> tuple[Steps, str, str]:
    """Return path, error and expectation of one of pydantic's mistakes."""
    path = _real(loc, data)
    name = next((p for p in reversed(path) if isinstance(p, str)), "the file")
    shown = repr(given) if isinstance(given, str | int | float | bool) else "this value"
    if kind == "ems":
        below: Steps = tuple(ctx["below"])
        return (*path, *(p for p in below if p != "")), str(ctx["text"]), str(ctx["expected"])
    if kind == "extra_forbidden":
        return path, f"unknown key {name!r}", _meant(name)
    if kind == "missing":
        return path, f"{name} is missing", f"a value for {name}"
    if kind == "union_tag_invalid":
        return (*path, "kind"), f"unknown kind {ctx['tag']!r}", str(ctx["expected_tags"]).replace("', '", " | ").strip("'")
    if kind == "union_tag_not_found":
        return (*path, "kind"), "the asset says no kind", "kind: load | solar | hydro | diesel | battery | inverter | deferrable | tank | meter | weather"
    expected = message.removeprefix("Input should be ").replace("'", "")
    if kind == "less_than_equal" and ctx.get("le") == 1 and isinstance(given, int | float) and 2 <= given <= 100:
        expected = f"a ratio from 0 to 1; {given:g} % is {given / 100:g}"
    elif kind == "less_than" and ctx.get("lt") == 1 and isinstance(given, int | float) and 2 <= given <= 100:
        expected = f"a ratio below 1; {given:g} % is {given / 100:g}"
    elif kind == "string_pattern_mismatch":
        expected = PATTERNS.get(ctx["pattern"], f"text like {ctx['pattern']}")
    elif kind == "too_short":
        expected = f"at least {ctx['min_length']}"
    return path, f"{name} cannot be {shown}" if shown != "this value" else f"{name} has the wrong form", expected


def _meant(key: str) -> str:
    """Return what somebody may have meant by a key that is not known at its place."""
    # Files of other rooms are models of this kind, too: what stands in them is no place in a site file.
    leaves = [m for m in _models(Strict) if not m.__subclasses__() and m.__module__.startswith(__package__)]
    keys = {m: {f.alias or n for n, f in m.model_fields.items()} for m in leaves}
    places = sorted({place for m in leaves if key in keys[m] for place in _places(m, leaves)})
    if places:
        return f"this key belongs {' or '.join(places)}" if len(places) <= MOST_SUGGESTED else "this key belongs elsewhere, see docs/nomenclature.md"
    close = get_close_matches(key, set().union(*keys.values()), 1)
    return f"{close[0]}?" if close else "a key of the site file or profile, see docs/nomenclature.md"


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Return every model below one."""
    for below in model.__subclasses__():
        yield below
        yield from _models(below)


def _places(model: type[BaseModel], among: Sequence[type[BaseModel]]) -> list[str]:
    """Return where in a file a model can stand, in words."""
    kind = model.model_fields.get("kind")
    if kind is not None and get_origin(kind.annotation) is Literal and len(get_args(kind.annotation)) == 1:
        return [f"to kind {get_args(kind.annotation)[0]}"]
    return [f"under {n}" for m in among for n, f in m.model_fields.items() if model in _mentioned(f.annotation)] or ["at the top"]


def _mentioned(annotation: Any) -> set[Any]:
    """Return every type that an annotation names."""
    return {annotation}.union(*(_mentioned(part) for part in get_args(annotation) if not isinstance(part, str)))


def _real(loc: Sequence[str | int], data: Any) -> Steps:
    """Return pydantic's location as far as it is one in the file: without the names of the members of unions."""
    steps = [*loc[:2], *loc[3:]] if loc[:1] == ("assets",) else [*loc]
    path: list[str | int] = []
    here = data
    for step in steps:
        if isinstance(here, dict) and step != "[key]":
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int):
            here = here[step] if step < len(here) else None
        else:
            break
        path.append(step)
    return tuple(path)
