"""What every command says in the same way: errors, JSON documents, examples, durations."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

from ems.errors import BadInput

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def document(content: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def failure(content: Mapping[str, str], as_json: bool) -> None:
    """Tell an error: one line on stderr, and with `--json` the one document on stdout."""
    place = content["where"] if content["where"].startswith("ems") else f"ems: {content['where']}"
    hint = f" (expected {content['expected']})" if content["expected"] else ""
    sys.stderr.write(" ".join(f"{place.removesuffix(': ')}: {content['error']}{hint}".split()) + "\n")
    sys.stderr.flush()
    if as_json:
        document(dict(content))


def example(*lines: str) -> str:
    r"""Return the example at the foot of a command's help; `\b` keeps its lines apart."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def duration_s(text: str) -> float:
    """Return a duration as `90s 15m 6h 2d` in seconds [s]; a bare number is refused, for it has no unit."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip(), re.ASCII)
    if found is None or float(found[1]) == 0:
        raise BadInput(f"{text!r} is not a duration", expected="a number above 0 with its unit, as 90s 15m 6h 2d")
    return float(found[1]) * SECONDS[found[2]]
