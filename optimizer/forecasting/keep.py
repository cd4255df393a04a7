"""What forecasts have learned, on disk: written whole or not at all, and left alone where it is damaged."""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from optimizer.forecasting.history import Arrays, Values

FORM = 1
"""Number of the form of the file; another one is not read."""
log = logging.getLogger(__name__)


def save(path: Path, state: Arrays) -> None:
    """Write the state; an old file stays until the new one is complete."""
    fresh = path.with_suffix(".new")
    try:
        with fresh.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **{"form": np.array([float(FORM)]), **state})
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError as fault:
        log.warning("forecasts: what was learned cannot be kept in %s: %s", path, fault)


def load(path: Path) -> dict[str, Values]:
    """Return the state, empty where there is none that can be used."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as fault:
        log.warning("forecasts: %s is damaged and left out: %s", path, fault)
        return {}
    if float(found.pop("form", np.zeros(1))[0]) != FORM:
        log.warning("forecasts: %s has another form and is left out", path)
        return {}
    return found
