"""`ems simulate`: the plant alone, on real Modbus TCP and OPC UA, for an EMS that does not know the difference."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from api.cli.output import example
from ems.clock import ScaledClock, WallClock, epoch_s
from ems.errors import BadInput
from ems.model import NOTHING

if TYPE_CHECKING:
    from ems.config.load import LoadedSite
    from ems.ports import Clock
    from simulator.dump import Dump
    from simulator.plant import Conditions

SERIES = {"river": "composite_2016_1h.csv", "ouessant": "ouessant_2016_1h.csv", "village": "village_1h.csv"}
"""Shipped series by site id."""
LEVELS = ("energy", "dynamic")


def register(app: typer.Typer) -> None:
    """Add `ems simulate`."""
    app.command("simulate", epilog=example("ems simulate site.yaml --listen 127.0.0.1:1502 --data data", "ems run data/as-simulated.yaml --stage control"))(
        simulate
    )


def simulate(
    site: Path = typer.Argument(..., metavar="SITE.yaml", help="The site file."),
    listen: str = typer.Option("127.0.0.1:0", "--listen", metavar="HOST:PORT", help="Address of the first Modbus server; port 0 is a free one."),
    data: Path = typer.Option(Path("data"), "--data", metavar="DIR", help="Where as-simulated.yaml is written."),
    speed: float = typer.Option(1.0, "--speed", metavar="N", help="Site seconds in a real second."),
    series: Path | None = typer.Option(
        None, "--series", metavar="CSV", help="Load, sun and river; outside its span it repeats. Without it, made up from the seed."
    ),
    seed: int = typer.Option(1, "--seed", metavar="N", help="Of the made-up day."),
    dump: list[str] = typer.Option(
        [], "--dump", metavar="ASSET=FILE", help="Serve this asset as `ems scan --record` found it at the site: it stands still. May be given again."
    ),
    level: str = typer.Option("energy", "--level", help="Depth of the model: energy, or dynamic with frequency and protection."),
    origin: float | None = typer.Option(None, "--origin", hidden=True, help="Real seconds since 1970 at which the site's clock showed --start."),
    start: str | None = typer.Option(None, "--start", hidden=True, help="Time of the site's clock at --origin."),
) -> None:
    """Serve every asset on real Modbus TCP and OPC UA, and print the path of the site file with the real addresses.

    That file is what `ems run` takes. Nothing else comes on stdout; logs go to stderr. Ctrl-C or SIGTERM ends it.
    """
    from ems.config.load import load_site

    host, port = address(listen)
    if level not in LEVELS:
        raise BadInput(f"{level!r} is no level", "--level", " or ".join(LEVELS))
    clock = clock_at(speed, origin, start)
    loaded = load_site(site)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    outside, dumps = conditions_of(loaded, series, seed), dumps_of(loaded, dump)
    asyncio.run(_until_signal(loaded, clock, outside, host, port, data, level, dumps))


def dumps_of(loaded: LoadedSite, given: Sequence[str]) -> dict[str, Dump]:
    """Return the dumps by asset."""
    from simulator.dump import check_fits, read_dump

    found: dict[str, Dump] = {}
    for text in given:
        asset, _, file = text.partition("=")
        if not file or asset in found:
            raise BadInput(f"{text!r} names no asset and file" if not file else f"{asset} has two dumps", "--dump", "ASSET=FILE, once for each asset")
        if asset not in loaded.profiles:
            raise BadInput(f"there is no asset {asset!r}", "--dump", " | ".join(loaded.profiles))
        dump = read_dump(Path(file))
        check_fits(dump, loaded.profiles[asset], asset, file)
        found[asset] = dump
    return found


async def _until_signal(
    loaded: LoadedSite,
    clock: Clock,
    outside: Callable[[datetime, float], Conditions],
    host: str,
    port: int,
    data: Path,
    level: str,
    dumps: Mapping[str, Dump],
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve_plant(loaded, clock, outside, data, stop, _tell, host, port, level, dumps)


def _tell(path: Path) -> None:
    sys.stdout.write(f"{path}\n")
    sys.stdout.flush()


async def serve_plant(
    loaded: LoadedSite,
    clock: Clock,
    outside: Callable[[datetime, float], Conditions],
    data: Path,
    stop: asyncio.Event,
    on_ready: Callable[[Path], None],
    host: str = "127.0.0.1",
    port: int = 0,
    level: str = "energy",
    dumps: Mapping[str, Dump] = NOTHING,
) -> None:
    """Run the plant of a site on the wire until `stop` is set.

    Parameters
    ----------
    outside : Callable[[datetime, float], Conditions]
        The outside world over an interval: its start [UTC] and length [s].
    data : Path
        Folder for as-simulated.yaml.
    on_ready : Callable[[Path], None]
        Called with the absolute path of that file once every server listens.
    level : str
        Of the plant: one of `LEVELS`.
    """
    from simulator.as_simulated import write_as_simulated
    from simulator.dynamics import DynamicPlant
    from simulator.plant import Plant
    from simulator.servers import PlantServers, run

    plant = DynamicPlant(loaded.site) if level == "dynamic" else Plant(loaded.site)
    servers = PlantServers(loaded, plant, host, port, dumps)
    try:
        await servers.start(outside(clock.now(), 1.0))
        path = (data / "as-simulated.yaml").resolve()
        write_as_simulated(loaded, path, servers.addresses)
        on_ready(path)
        await run(plant, clock, outside, servers, stop)
    finally:
        await servers.stop()


def address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise BadInput(f"{text!r} is no address", "--listen", "HOST:PORT, as 127.0.0.1:1502")
    return host, int(port)


def clock_at(speed: float, origin: float | None, start: str | None) -> Clock:
    """Return the site's clock: real time, or `speed` times as fast from a common origin."""
    if not (math.isfinite(speed) and speed > 0):
        raise BadInput(f"speed {speed:g} does not move time on", "--speed", "a number above 0")
    try:
        begin = datetime.fromisoformat(start) if start is not None else None
    except ValueError:
        begin = None
    if start is not None and (begin is None or begin.tzinfo is None):
        raise BadInput(f"{start!r} is no time", "--start", "ISO 8601 with its zone, as 2026-03-01T00:00:00Z")
    if speed == 1.0 and origin is None and begin is None:
        return WallClock()
    return ScaledClock(begin or WallClock().now(), epoch_s() if origin is None else origin, speed)


def conditions_of(loaded: LoadedSite, series: Path | None, seed: int) -> Callable[[datetime, float], Conditions]:
    """Return the outside world: the series given, else the one shipped for this site, else one made from the seed."""
    from ems.config.site import Solar
    from ems.series import read_series
    from simulator.scenario import from_series, synthetic

    shipped = SERIES.get(loaded.site.site.id)
    if series is None and shipped is None:
        return synthetic(loaded.site, seed)
    with resources.as_file(resources.files("configs") / "series" / (shipped or "")) as path:
        told = from_series(read_series(series or path, loaded.site))
    rated_kw = sum(s.rated_kw for s in loaded.site.of(Solar))

    def outside(at: datetime, seconds: float) -> Conditions:
        """The series; the pyranometer, where it has no column, shows the sun that the PV has: 1000 W/m2 at its rating."""
        mean = told(at, seconds)
        if mean.ghi_wm2 is None and rated_kw > 0:
            return replace(mean, ghi_wm2=1000.0 * sum(mean.available_kw.values()) / rated_kw)
        return mean

    return outside
