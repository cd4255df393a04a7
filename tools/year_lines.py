"""Lines of JSON that `tools.year` keeps: one for each finished run, taken again as long as nothing it depends on has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CODE = ("ems/**/*.py", "optimizer/**/*.py", "simulator/**/*.py", "tools/year.py")
SOLVERS = ("cvxpy", "highspy", "numpy")


@dataclass(frozen=True, slots=True)
class Key:
    """What one line is about.

    Attributes
    ----------
    site, series : str
    what : str
        `weeks` or `year`.
    part : str
        A season; of a year `year` for the whole, or a month as 2016-05.
    policy, forecast : str
    """

    site: str
    series: str
    what: str
    part: str
    policy: str
    forecast: str

    def __str__(self) -> str:
        return " ".join(asdict(self).values())


def code_sha256(root: Path = ROOT) -> str:
    """Return what tells today's code and solvers from another day's."""
    digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in SOLVERS).encode())
    for path in sorted(p for pattern in CODE for p in root.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def line_of(key: Key, code: str, summary: Mapping[str, Any]) -> str:
    """Return a finished run as a line."""
    return json.dumps({"key": asdict(key), "code": code, "summary": summary}, ensure_ascii=False, allow_nan=False) + "\n"


def end_torn_line(path: Path) -> None:
    """End a line that a stop has torn, so that the next record is not written into it and lost with it."""
    held = path.read_bytes() if path.exists() else b""
    if held and not held.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def lines(path: Path, code: str, sha256: Callable[[Key], tuple[str, str]], *, keep: bool = False) -> dict[Key, dict[str, Any]]:
    """Return the summaries of earlier runs by what they are about, the last line of each.

    Parameters
    ----------
    path : Path
    code : str
        Of today's code; lines of another one are left out, unless `keep`.
    sha256 : Callable[[Key], tuple[str, str]]
        Of the site and the series as they are today; lines of other ones are always left out.
    """
    found: dict[Key, dict[str, Any]] = {}
    known: dict[tuple[str, str], tuple[str, str]] = {}
    for text in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # a stop in the middle of a line
        key, summary = Key(**line["key"]), line["summary"]
        place = (key.site, key.series)
        if place not in known:
            known[place] = sha256(key)
        if (summary["site_sha256"], summary["series_sha256"]) == known[place] and (keep or line["code"] == code):
            found[key] = summary
    return found
