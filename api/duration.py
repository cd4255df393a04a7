"""Durations as people write them: `90s 15m 6h 2d`."""

from __future__ import annotations

import re

from ems.errors import BadInput

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(text: str, where: str = "") -> float:
    """Return a duration as `90s 15m 6h 2d` in seconds [s]; a bare number is refused, for it has no unit.

    Parameters
    ----------
    where : str
        The option or field that it was given in, for the error.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip(), re.ASCII)
    if found is None or float(found[1]) == 0:
        raise BadInput(f"{text!r} is not a duration", where, "a number above 0 with its unit, as 90s 15m 6h 2d")
    return float(found[1]) * SECONDS[found[2]]
