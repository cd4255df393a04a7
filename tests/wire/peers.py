"""Foreign Modbus devices as processes: each prints its port once it listens. What is not installed skips, or fails with EMS_REQUIRE_PEERS=1."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import find_peer, without

HERE = Path(__file__).parent


def libmodbus_peer(folder: Path) -> Path:
    """Return the C device, built once for a test session."""
    built = folder / "libmodbus_peer"
    if not built.exists():
        gcc, pkg_config = find_peer("gcc"), find_peer("pkg-config")
        flags = subprocess.run([pkg_config, "--cflags", "--libs", "libmodbus"], capture_output=True, text=True, check=False)
        if flags.returncode != 0:
            without("libmodbus is not installed: apt install libmodbus-dev")
        subprocess.run([gcc, "-O2", "-Wall", "-Werror", "-o", built, HERE / "libmodbus_peer.c", *flags.stdout.split()], check=True)
    return built


def node_peer() -> list[str]:
    """Return the command of the device on modbus-serial."""
    node = find_peer("node")
    if not (HERE / "node/node_modules/modbus-serial").is_dir():
        without("modbus-serial is not installed: npm ci in tests/wire/node")
    return [str(node), str(HERE / "node/server.js")]


@contextmanager
def running(*command: str | Path) -> Iterator[int]:
    """Run a device and give the port that it prints."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.isdigit(), f"{command[0]} ended with {process.wait(5)}"
        yield int(line)
    finally:
        process.kill()
        process.communicate()
