"""The plant process of the demo: the simulated island on real Modbus and OPC UA, on loopback.

    python -m api.processes.plant '{"site": PATH, "data": DIR, "speed": 24.0, "origin": S, "start": ISO}'       ends when its stdin closes

stdout carries `{"ready": PATH}`, the site file with the real addresses, once every server listens.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from api.assembly import site_clock
from api.cli.simulate import conditions_of, serve_plant
from api.processes.child import on_signals, run_child, tell
from api.processes.lines import lines_of
from ems.config.load import load_site


async def serve(given: Mapping[str, Any]) -> None:
    """Run the plant until stdin closes or SIGTERM comes."""
    stop = asyncio.Event()
    on_signals(stop.set)
    listening = asyncio.create_task(_listen(stop))
    loaded = load_site(given["site"])
    clock = site_clock(given["speed"], given["origin"], given["start"])
    await serve_plant(loaded, clock, conditions_of(loaded, None, 1), Path(given["data"]), stop, lambda path: tell({"ready": str(path)}))
    listening.cancel()


async def _listen(stop: asyncio.Event) -> None:
    async for _ in lines_of(sys.stdin):
        continue
    stop.set()


def main(argument: str) -> int:
    """Run the process; returns its exit code."""
    return run_child("plant", serve, argument, logging.WARNING)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
