"""One run of a campaign as a value: which day, which charge, which faults; drawn from a seed, or read from a file."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ems.config.site import Battery, Inverter, Site
from ems.errors import BadInput
from simulator.faults.alphabet import Fault, read_fault
from simulator.faults.schedule import schedule
from simulator.plant import first_running
from simulator.scenario import synthetic

LEVELS = ("energy", "dynamic")
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
BATTERY_ALONE = 0.3
"""Share of the runs that begin with all diesels off, where the battery can carry the load at that hour."""
AT_AN_END = 0.3
"""Share of the runs that begin with batteries at the end of their band: limits are broken there, if anywhere."""
MARGIN = 1.2


@dataclass(frozen=True, slots=True)
class Case:
    """One run.

    Attributes
    ----------
    seed : int
        Of weather and of the chance inside faults.
    regime : str
        `single | pair | storm | permanent`, or `file` for a schedule that was written by hand.
    level : str
        `energy | dynamic`.
    start : datetime
        [UTC].
    length_s : float
    soc : float
        Of every battery at the start.
    running : tuple[str, ...]
        Diesels on the bus at the start.
    faults : tuple[Fault, ...]
        In the order of their onset.
    """

    seed: int
    regime: str
    level: str
    start: datetime
    length_s: float
    soc: float
    running: tuple[str, ...]
    faults: tuple[Fault, ...]

    def with_faults(self, faults: Sequence[Fault]) -> Case:
        """Return the case with other faults."""
        return replace(self, faults=tuple(faults))

    def document(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return {
            "seed": self.seed,
            "regime": self.regime,
            "level": self.level,
            "start": f"{self.start:%Y-%m-%dT%H:%M:%SZ}",
            "length_s": self.length_s,
            "soc": self.soc,
            "running": list(self.running),
            "faults": [f.document() for f in self.faults],
        }


def drawn(site: Site, seed: int, length_s: float, level: str) -> Case:
    """Return the case of a seed: a day and an hour, a charge, who runs, and a schedule of faults."""
    chance = random.Random(f"case {seed}")
    start = FIRST_DAY + timedelta(minutes=chance.randrange(365 * 24 * 60))
    batteries = site.of(Battery)
    low, high = max((b.soc_min for b in batteries), default=0.0), min((b.soc_max for b in batteries), default=1.0)
    soc = round(chance.uniform(low + 0.02, high), 3)
    if chance.random() < AT_AN_END:
        soc = round(chance.choice((low + 0.01, high - 0.01)), 3)
    load_kw = sum(synthetic(site, seed)(start, 60.0).load_kw.values())
    alone = chance.random() < BATTERY_ALONE and soc > low + 0.25 and _formers_kw(site) > MARGIN * load_kw
    made = schedule(site, seed, length_s)
    return Case(seed, made.regime, level, start, length_s, soc, () if alone else first_running(site, MARGIN * load_kw), made.faults)


def _formers_kw(site: Site) -> float:
    """Return what inverters that can hold the bus give at once [kW]."""
    pairs = [(i, site.battery_behind(i.id)) for i in site.of(Inverter) if i.forming != "never"]
    return sum(min(i.rated_kw, i.efficiency * b.discharge_kw) for i, b in pairs if b is not None)


def read_case(path: Path, site: Site) -> Case:
    """Return a case from a file, as a campaign has written it or a person has.

    Only `faults` is needed; everything else is drawn from the seed (0) for the length of two hours.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BadInput("there is no such file", str(path), "a schedule in JSON, as `ems campaign --out` writes it") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as fault:
        raise BadInput(f"it cannot be read: {fault}", str(path), "a schedule in JSON") from None
    if not isinstance(content, dict) or not isinstance(content.get("faults"), list):
        raise BadInput("it holds no schedule", str(path), "an object with `faults`, a list")
    known = {"seed", "regime", "level", "start", "length_s", "soc", "running", "faults", "site", "violation", "command"}
    if strange := sorted(set(content) - known):
        raise BadInput(f"unknown key {strange[0]!r}", str(path), ", ".join(sorted(known)))
    faults = [read_fault(f, f"{path}: faults[{k}]", site) for k, f in enumerate(content["faults"])]
    base = drawn(site, _whole(content, path), _number(content, "length_s", 7200.0, (1.0, 1e7), path), "energy")
    level = content.get("level", base.level)
    if level not in LEVELS:
        raise BadInput(f"unknown level {level!r}", f"{path}: level", ", ".join(LEVELS))
    running = content.get("running", list(base.running))
    if not isinstance(running, list) or not set(running) <= {a.id for a in site.assets if a.kind == "diesel"}:
        raise BadInput(f"running is {running!r}", f"{path}: running", "a list of diesels of the site")
    return replace(
        base,
        regime=str(content.get("regime", "file")),
        level=level,
        start=_moment(content, base.start, path),
        soc=_number(content, "soc", base.soc, (0.0, 1.0), path),
        running=tuple(running),
        faults=tuple(sorted(faults, key=lambda f: (f.onset_s, f.kind, f.target))),
    )


def _whole(content: dict[str, Any], path: Path) -> int:
    seed = content.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadInput(f"seed is {seed!r}", f"{path}: seed", "a whole number, 0 or more")
    return seed


def _number(content: dict[str, Any], name: str, default: float, span: tuple[float, float], path: Path) -> float:
    value = content.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not span[0] <= value <= span[1]:
        raise BadInput(f"{name} is {value!r}", f"{path}: {name}", f"a number from {span[0]:g} to {span[1]:g}")
    return float(value)


def _moment(content: dict[str, Any], default: datetime, path: Path) -> datetime:
    if "start" not in content:
        return default
    try:
        at = datetime.fromisoformat(str(content["start"]))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadInput(f"start is {content['start']!r}", f"{path}: start", "ISO 8601 with a zone, as 2026-06-01T06:00:00Z")
    return at.astimezone(UTC)
