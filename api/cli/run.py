"""`ems run`: the edge service of a site."""

from __future__ import annotations

import errno
import ipaddress
import logging
import math
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from api.cli.output import example
from ems.errors import BadInput, Failed

if TYPE_CHECKING:
    from api.processes.supervisor import Settings
    from ems.config.load import LoadedSite


def register(app: typer.Typer) -> None:
    """Add `ems run`."""
    app.command("run", epilog=example("ems run site.yaml --stage shadow --data data --port 8080"))(run)


def run(
    site: Path = typer.Argument(..., metavar="SITE.yaml", help="The site file; every asset needs its `device`."),
    stage: Literal["shadow", "advise", "control"] | None = typer.Option(
        None,
        "--stage",
        help="Not above this: shadow writes nothing, advise shows what it would do, control writes. The lowest of this, site file and request holds.",
    ),
    data: Path = typer.Option(Path("data"), "--data", metavar="DIR", help="The site's data folder; made where it is missing."),
    host: str = typer.Option("127.0.0.1", "--host", envvar="EMS_HOST", help="Address to listen on; beyond loopback it needs users and TLS."),
    port: int = typer.Option(8080, "--port", envvar="EMS_PORT", min=0, max=65535, help="Port of page and API; 0 is a free one."),
    speed: float = typer.Option(1.0, "--speed", metavar="N", help="Site seconds in a real second, for a simulated plant."),
) -> None:
    """Run a site: control, planner, page and uplink. Prints the address once it answers; Ctrl-C or SIGTERM ends it.

    EMS_INFLUX_URL, EMS_INFLUX_TOKEN, EMS_INFLUX_ORG and EMS_INFLUX_BUCKET say where the uplink delivers to.
    """
    from ems.config.load import load_site

    if not (math.isfinite(speed) and speed > 0):
        raise BadInput(f"speed {speed:g} does not move time on", "--speed", "a number above 0")
    loaded = load_site(site)
    check_devices(loaded)
    folder(data)
    check_address(host, data)
    raise typer.Exit(serve(loaded, data, stage or "control", host, port, speed))


def serve(loaded: LoadedSite, data: Path, stage: str, host: str, port: int, speed: float) -> int:
    """Take folder and address, then run the processes; returns the exit code."""
    from api.processes.supervisor import lock_folder, supervise

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    lock = lock_folder(data)
    door = listen(host, port)
    say_who_may_sign_in(data)
    return supervise(settings_of(loaded, data, stage, door, speed), door, lock)


def say_who_may_sign_in(data: Path) -> None:
    """Say how to make the first user; without one the page can be read on this machine and nobody can give orders."""
    from api.web.auth import Users

    if not Users(data).all():
        sys.stderr.write(f"no users yet: ems user add NAME --role operator --data {data}\n")
        sys.stderr.flush()


def settings_of(
    loaded: LoadedSite, data: Path, stage: str, door: socket.socket, speed: float = 1.0, origin: float | None = None, start: str | None = None
) -> Settings:
    """Return what the processes are told. With a scaled clock all of them count from one origin, also after a restart."""
    from api.processes.supervisor import Settings
    from ems.clock import WallClock, epoch_s

    if speed != 1.0 and start is None:
        origin, start = epoch_s(), WallClock().now().isoformat()
    host, port = door.getsockname()[:2]
    public = not loopback(host)
    shown = f"[{host}]" if ":" in host else host
    return Settings(
        site=str(loaded.path.resolve()),
        site_id=loaded.site.site.id,
        data=str(data.resolve()),
        stage=stage,
        url=f"{'https' if public else 'http'}://{shown}:{port}",
        public=public,
        cycle_s=loaded.site.control.cycle_s,
        speed=speed,
        origin=origin,
        start=start,
    )


def check_devices(loaded: LoadedSite) -> None:
    """Refuse a site with an asset that can only be simulated; a feeder without a device is just never switched."""
    missing = [asset.id for asset in loaded.site.assets if asset.device is None]
    if missing:
        raise BadInput(
            f"no device: {', '.join(missing)} can only be simulated", str(loaded.path), "a `device` for each; `ems simulate` writes a site file that has them"
        )


def folder(data: Path) -> None:
    """Make the data folder."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"the data folder cannot be made: {error.strerror}", str(data), "a folder that can be written") from error


def loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(host: str, data: Path) -> None:
    """Refuse an address that others can reach while they could read along or come in without a name."""
    if loopback(host):
        return
    from api.web.auth import beyond_loopback_ok

    cause = beyond_loopback_ok(data)
    if cause is not None:
        raise BadInput(f"{host} can be reached from other machines, and {cause}", "--host", "127.0.0.1")


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; a port in use is one clear line."""
    free = "a free port, as --port 8081"
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Failed(f"port {port} is in use by another program", "--port", free) from error
        where, wanted = ("--port", free) if error.errno == errno.EACCES else ("--host", "an address of this machine, as 127.0.0.1")
        raise Failed(f"cannot listen on {host}, port {port}: {error.strerror or error}", where, wanted) from error
