"""YAML itself: what a file may do to the machine that reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ems.config.yaml import read_yaml
from ems.errors import BadInput


def test_aliases_of_aliases_do_not_eat_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "bomb.yaml"
    rows = ["b0: &b0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"b{k}: &b{k} [{', '.join([f'*b{k - 1}'] * 9)}]" for k in range(1, 12)]
    file.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(BadInput, match="more than"):
        read_yaml(file)
