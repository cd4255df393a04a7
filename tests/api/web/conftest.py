"""One site for each test, without a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.web.served import Site, site


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Site]:
    made = site(tmp_path)
    yield made
    made.close()
