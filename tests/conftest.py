"""What every test may use: foreign programs by name, and properties that try the same cases on every run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

settings.register_profile("house", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("house")

PEERS = {  # name: the programs that will do, and the Debian package that brings the first
    "chromium": (("chromium", "chromium-browser"), "chromium"),
    "gcc": (("gcc", "cc"), "gcc"),
    "mbpoll": (("mbpoll",), "mbpoll"),
    "node": (("node", "nodejs"), "nodejs"),
    "pkg-config": (("pkg-config",), "pkg-config"),
    "victoria-metrics": (("victoria-metrics",), "victoria-metrics"),
}


def find_peer(name: str) -> Path:
    """Return the program of a foreign peer; without it skip, or fail where `EMS_REQUIRE_PEERS=1` says that it must be there."""
    programs, package = PEERS[name]
    found = next(filter(None, map(shutil.which, programs)), None)
    return Path(found) if found is not None else without(f"{name} is not installed: apt install {package}")


def without(missing: str) -> NoReturn:
    """Skip a test that cannot run here, or fail it where everything has to be there."""
    if os.environ.get("EMS_REQUIRE_PEERS") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def peer() -> Callable[[str], Path]:
    """Return the function that finds a foreign peer: `peer("mbpoll")`."""
    return find_peer
