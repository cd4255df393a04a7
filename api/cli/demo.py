"""`ems demo`: a simulated island, its controller and its page, in one process tree on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import secrets
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from datetime import date, datetime, time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from api.cli.output import example
from api.duration import duration_s
from ems.errors import BadInput, Failed

if TYPE_CHECKING:
    from ems.config.load import LoadedSite

USER = "operator"
MORNING = time(6, 0)
NORTHERN_DAY, SOUTHERN_DAY = (6, 6), (12, 6)
"""Month and day that are shown: early summer, when sun, river and battery all have something to do."""
PLANT_START_S = 60.0
"""How long the plant may take until all its servers listen [s]."""


def register(app: typer.Typer) -> None:
    """Add `ems demo`."""
    app.command("demo", epilog=example("ems demo", "ems demo --site village --speed 60 --port 8081 --for 10m"))(demo)


@dataclass(frozen=True, slots=True)
class Show:
    """One demo: what is shown, where, and on which clock."""

    loaded: LoadedSite
    folder: Path
    door: socket.socket
    speed: float
    origin: float
    start: str
    password: str


def demo(
    site: str = typer.Option("river", "--site", metavar="PATH", help="A site file, or the name of one that comes with the EMS: river, ouessant, village."),
    speed: float = typer.Option(24.0, "--speed", metavar="N", help="Site seconds in a real second; at 24 a day passes in an hour."),
    port: int = typer.Option(8080, "--port", min=0, max=65535, help="Port of page and API; 0 is a free one."),
    lasts: str | None = typer.Option(None, "--for", metavar="DURATION", help="End by itself after this time, as 90s 15m 6h."),
) -> None:
    """Show a simulated island being run, from six on an early summer morning. Ctrl-C ends it; nothing is left behind."""
    from api.cli.run import listen
    from ems.clock import WallClock, epoch_s
    from ems.config.load import load_site

    if not (math.isfinite(speed) and speed > 0):
        raise BadInput(f"speed {speed:g} does not move time on", "--speed", "a number above 0")
    seconds = None if lasts is None else duration_s(lasts, "--for")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with resources.as_file(resources.files("configs") / "sites" / f"{site}.yaml") as shipped:
        if not shipped.is_file() and not Path(site).exists():
            raise BadInput(f"there is no site {site!r}", "--site", "a file, or river, ouessant, village")
        loaded = load_site(shipped if shipped.is_file() else Path(site))
    door = listen("127.0.0.1", port)
    say("starting the simulated island ...")
    month, day = NORTHERN_DAY if loaded.site.site.latitude >= 0 else SOUTHERN_DAY
    morning = datetime.combine(date(WallClock().now().year, month, day), MORNING, loaded.site.tz)
    with tempfile.TemporaryDirectory(prefix="ems-demo-", ignore_cleanup_errors=True) as name:
        show = Show(loaded, Path(name), door, speed, epoch_s(), morning.isoformat(), secrets.token_urlsafe(9))
        code = asyncio.run(run_show(show, seconds))
    say("the demo has ended; its data is gone with it")
    raise typer.Exit(code)


def say(text: str) -> None:
    """Tell how the demo stands; stdout is for address and login."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def run_show(show: Show, seconds: float | None) -> int:
    """Run plant and service until a signal or the end of the time; returns the exit code."""
    from api.processes.supervisor import end, spawn

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    given = {"site": str(show.loaded.path.resolve()), "data": str(show.folder), "speed": show.speed, "origin": show.origin, "start": show.start}
    plant = await spawn("plant", given)
    try:
        path = await plant_ready(plant, stop)
        return 0 if path is None else await serve(show, path, plant, stop)
    finally:
        await end(plant)


async def plant_ready(plant: asyncio.subprocess.Process, stop: asyncio.Event) -> Path | None:
    """Return the site file that the plant has written, or None where the end came first."""
    assert plant.stdout is not None
    said = asyncio.create_task(plant.stdout.readline())
    asked = asyncio.create_task(stop.wait())
    await asyncio.wait({said, asked}, timeout=PLANT_START_S, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if stop.is_set():
        said.cancel()
        return None
    if not said.done() or not said.result():
        said.cancel()
        raise Failed("the simulated plant did not start", "ems demo", "its cause on the lines above")
    return Path(json.loads(said.result())["ready"])


async def serve(show: Show, path: Path, plant: asyncio.subprocess.Process, stop: asyncio.Event) -> int:
    """Run the service of the simulated site; the end of the plant ends it too."""
    from api.cli.run import settings_of
    from api.processes.supervisor import Supervisor, lock_folder
    from api.web.auth import Role, Users
    from ems.config.load import load_site

    data = show.folder / "data"
    data.mkdir(mode=0o700)
    Users(data).add(USER, Role.OPERATOR, show.password)
    settings = settings_of(load_site(path), data, "control", show.door, show.speed, show.origin, show.start)
    supervisor = Supervisor(settings, show.door, lock_folder(data), lambda url: tell(show, url))
    running = asyncio.create_task(supervisor.run())
    ends = {asyncio.create_task(stop.wait()), asyncio.create_task(plant.wait())}
    await asyncio.wait({running, *ends}, return_when=asyncio.FIRST_COMPLETED)
    died = plant.returncode is not None
    supervisor.stop.set()
    code = await running
    for task in ends:
        task.cancel()
    if died:
        raise Failed("the simulated plant has ended", "ems demo", "its cause on the lines above")
    return code


def tell(show: Show, url: str) -> None:
    """Say where the page is and how to sign in."""
    name = show.loaded.site.site.name.en
    sys.stdout.write(
        f"{name} runs at {url}   ({show.speed:g} times as fast as the sun)\nTo give orders sign in as {USER} with {show.password}\nCtrl-C ends it.\n"
    )
    sys.stdout.flush()
