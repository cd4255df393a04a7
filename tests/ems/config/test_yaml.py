"""YAML itself: what a file may do to the machine that reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ems.config.site import Site
from ems.config.yaml import MOST_BYTES, read_yaml, validated
from ems.errors import BadInput


def test_aliases_of_aliases_do_not_eat_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "bomb.yaml"
    rows = ["b0: &b0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"b{k}: &b{k} [{', '.join([f'*b{k - 1}'] * 9)}]" for k in range(1, 12)]
    file.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(BadInput, match="more than") as caught:
        read_yaml(file)
    assert caught.value.where.startswith(f"{file}:")


def test_an_alias_inside_itself_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "loop.yaml"
    file.write_text("a: 1\nb: &b\n  c: *b\n", encoding="utf-8")
    with pytest.raises(BadInput, match="contains itself") as caught:
        read_yaml(file)
    assert caught.value.where == f"{file}:2"


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, "\n".join(f"{' ' * k}a:" for k in range(700))])
def test_what_is_nested_too_deeply_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "deep.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="nested too deeply") as caught:
        read_yaml(file)
    assert caught.value.where == str(file)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("a: 1\n" + "#" * MOST_BYTES, encoding="utf-8")
    with pytest.raises(BadInput, match="larger than 1 MiB"):
        read_yaml(file)
    file.write_text("a: 1\n" + "#" * (MOST_BYTES - 5), encoding="utf-8")
    assert read_yaml(file).data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("site: {id: test, url: x}", "this key belongs under device"),
        ("site: {id: test, soc_min: 0.2}", "this key belongs to kind battery"),
        ("site: {id: test, reserve: {}}", "this key belongs at the top"),
        ("site: {id: test, rated_kw: 5}", "this key belongs elsewhere, see docs/nomenclature.md"),
        ("site: {id: test, timezon: UTC}", "timezone?"),
    ],
)
def test_an_unknown_key_is_told_where_it_belongs(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(f"{text}\nassets: []\n", encoding="utf-8")
    with pytest.raises(BadInput, match="unknown key") as caught:
        validated(Site, read_yaml(file))
    assert caught.value.expected == expected
