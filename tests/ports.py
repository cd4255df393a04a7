"""Ports for servers that a test starts by number."""

from __future__ import annotations

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """Return a port nobody listens on, below those the kernel hands out.

    One that the kernel handed out may go to a connection of another test before our server has started.
    """
    above = max(20_000, int(RANGE.read_text(encoding="ascii").split()[0]))  # where the kernel's begin lower, a wide choice must do
    while True:
        port = random.randrange(10_000, above)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
