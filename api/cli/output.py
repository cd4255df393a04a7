"""What every command says in the same way: errors, JSON documents, examples."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any


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
